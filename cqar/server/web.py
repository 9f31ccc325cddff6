"""The HTTP listener for those who watch the server: /metrics, /health/live, /health/ready. It reads, and changes nothing.

It runs in the server's event loop on purpose: if that hangs, so does /health/live. One request per connection, small, in
time, GET or HEAD; anything else is refused and the connection closed, so that nobody can hold on to more than a few of them.
A new connection takes the place of the oldest one that has not said anything yet: who only connects keeps no probe out.
"""

from __future__ import annotations

import asyncio
import logging
from importlib.metadata import version
from typing import Final, NamedTuple

import msgspec

from cqar.errors import PreconditionError
from cqar.server.metrics import Metrics
from cqar.server.status import Status

log = logging.getLogger(__name__)

_HEAD_BYTES: Final = 8 << 10  # of a request
_SECONDS: Final = 10.0  # for a request and its answer
_CONNECTIONS: Final = 64  # without a request so far, and as many with one
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_ALLOWED: Final = ("GET", "HEAD")
_TEXT: Final = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What goes back."""

    status: int
    body: bytes
    content_type: str = _TEXT


class Web:
    """The listener of one server. Used in one event loop."""

    def __init__(self, metrics: Metrics, status: Status, *, seconds: float = _SECONDS) -> None:
        """Prepare; a connection is closed after `seconds`, answered or not."""
        self._metrics = metrics
        self._status = status
        self._seconds = seconds
        self._open: set[asyncio.Task[None] | None] = set()
        self._silent: dict[asyncio.StreamWriter, None] = {}  # connections without a request so far, oldest first
        self._server: asyncio.Server | None = None

    async def start(self, listen: str) -> int:
        """Listen on HOST:PORT and give the port; PreconditionError if that is not possible."""
        host, _, port = listen.rpartition(":")
        try:
            self._server = await asyncio.start_server(self._connected, host.strip("[]"), int(port), limit=_HEAD_BYTES)
        except OSError as error:
            raise PreconditionError(
                f"cannot listen on {listen} for HTTP: {error.strerror}; choose another address with --http-listen or"
                " CQAR_HTTP_LISTEN, or leave it out",
                reason="LISTEN",
                listen=listen,
            ) from None
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening and drop the connections."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in self._open if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        self._silent[writer] = None
        if len(self._silent) > _CONNECTIONS:
            next(iter(self._silent)).transport.abort()
        try:
            async with asyncio.timeout(self._seconds):
                await self._exchange(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # it was too slow, or went away: nobody is left to tell
        except asyncio.CancelledError:
            pass  # the server stops; asyncio would log it
        finally:
            self._open.discard(task)
            self._silent.pop(writer, None)
            writer.transport.abort()  # whatever was not taken

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = "GET"
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self._silent.pop(writer, None)
            # Those that are dropped are here until their tasks have run.
            if len(self._open) - len(self._silent) > _CONNECTIONS:
                answer = Answer(503, b"too many requests at once\n")
            else:
                method, answer = await self._answer(head)
        except asyncio.LimitOverrunError:
            answer = Answer(431, b"the request is too large\n")
        lines = (
            f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            *((f"Allow: {', '.join(_ALLOWED)}",) if answer.status == 405 else ()),
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        )
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if method != "HEAD":
            writer.write(answer.body)
        await writer.drain()

    async def _answer(self, head: str) -> tuple[str, Answer]:
        """Give the method and the answer to the head of a request."""
        first, *rest = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
            return "GET", Answer(400, b"not an HTTP request\n")
        method, path = words[0], words[1].partition("?")[0]
        if path not in _PATHS:
            return method, Answer(404, b"not found\n")
        if method not in _ALLOWED:
            return method, Answer(405, b"only GET and HEAD\n")
        headers = {name.lower(): value.strip() for name, _, value in [line.partition(":") for line in rest]}
        try:
            return method, await self._page(path, headers.get("accept", ""))
        except Exception:
            log.exception("no answer to %s", path)
            return method, Answer(500, b"internal error; the server's log has the details\n")

    async def _page(self, path: str, accept: str) -> Answer:
        if path == "/metrics":
            # In a thread: some milliseconds of text, for which no call should wait.
            body, content_type = await asyncio.to_thread(self._metrics.scrape, accept)
            return Answer(200, body, content_type)
        if path == "/health/ready":
            report = self._status.report()
            body = msgspec.json.format(msgspec.json.encode(report)) + b"\n"
            return Answer(200 if report["ready"] else 503, body, "application/json")
        if path == "/health/live":
            return Answer(200, b"ok\n")
        return Answer(200, "\n".join([f"cqar {version('cqar')}", *_PATHS[1:], ""]).encode())


_PATHS: Final = ("/", "/metrics", "/health/live", "/health/ready")
