"""A network between a client and its server, which can be cut, slow, silent, or break after a number of bytes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Proxy:
    """Passes bytes between whoever connects to `target` and a server, and what goes wrong on the way is told to it."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: set[socket.socket] = set()
        self._closing = False
        self._refusing = self._swallowing = False
        self.delay = 0.0  # seconds that each piece is held up
        self.break_after: int | None = None  # bytes from the server, after which its connections are cut
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """Take everything and pass nothing on, as a network does whose other side is gone."""
        self._swallowing = True

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        self._refusing = True
        self.drop()

    def drop(self) -> None:
        """End every connection."""
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Pass everything on; connections that missed something are ended."""
        swallowed, self._swallowing, self._refusing = self._swallowing, False, False
        self.delay, self.break_after = 0.0, None
        if swallowed:
            self.drop()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server, timeout=5)
        except OSError:
            client.close()
            return
        pair = {client: server, server: client}
        self._sockets.update(pair)
        try:
            with selectors.DefaultSelector() as selector:
                for each in pair:
                    selector.register(each, selectors.EVENT_READ)
                while True:
                    for key, _ in selector.select():
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        data = source.recv(1 << 16)
                        if not data:
                            return
                        if not self._pass(data, pair[source], counts=source is server):
                            return
        except OSError:
            return
        finally:
            self._sockets.difference_update(pair)
            for each in pair:
                each.close()

    def _pass(self, data: bytes, to: socket.socket, *, counts: bool) -> bool:
        """Pass a piece on; False if the connection breaks in it."""
        breaks = counts and self.break_after is not None and len(data) >= self.break_after
        if counts and self.break_after is not None:
            data, self.break_after = data[: self.break_after], None if breaks else self.break_after - len(data)
        if not self._swallowing:
            time.sleep(self.delay)
            to.sendall(data)
        self.cuts += breaks
        return not breaks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        self._listener.close()
        self.drop()
