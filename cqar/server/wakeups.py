"""Wake-ups between the servers of one database: after a commit here, the feeds of the others look at once.

Only a hint travels, the position, by PostgreSQL's NOTIFY; the truth is read from the change log. It is sent after the commit,
from a session of its own: inside the transaction it would take a lock that all writers share. While one is on its way, later
positions merge into the highest. Whatever is lost (the connection is cut; a pooler in transaction mode, behind which
LISTEN hears nothing) delays a change by one poll of the feed at most, so nothing here can fail a write or a start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import psycopg

from cqar.server import dedicated

log = logging.getLogger(__name__)

_CHANNEL: Final = "cqar"
_POSITION: Final = re.compile(r"[0-9]{1,18}")  # anybody may send anything
_PAUSE: Final = 0.02  # seconds between two that are sent: under load one stands for many commits
_RETRY: Final = (0.1, 5.0)  # seconds: the first pause after a lost connection, and the longest


class Wakeups:
    """Tells the other servers of commits, and `announce`s theirs. To be used in one event loop, but for `committed`."""

    def __init__(self, url: str, announce: Callable[[int], None]) -> None:
        self._url = url
        self._announce = announce
        self._position = 0  # the highest to tell
        self._news = asyncio.Event()
        self._sender = 0  # PostgreSQL's process id of the session that sends
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; the connections are made, and made again, in the background."""
        self._loop = asyncio.get_running_loop()
        for name, work in (("listen", self._listen), ("notify", self._notify)):
            self._tasks.append(asyncio.create_task(self._keep(name, work), name=f"cqar-{name}"))

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def committed(self, position: int) -> None:
        """Tell the others of a commit, soon: does not wait. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already: nobody is left to tell
                self._loop.call_soon_threadsafe(self._note, position)

    def _note(self, position: int) -> None:
        self._position = max(self._position, position)
        self._news.set()

    async def _keep(self, name: str, work: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """Do the work for ever, on a new connection when one is lost."""
        first, longest = _RETRY
        pause, down = first, False

        def up() -> None:
            nonlocal pause, down
            if down:
                log.info("wake-ups: `%s` is connected again", name)
            pause, down = first, False

        while True:
            try:
                await work(up)
            except (psycopg.Error, OSError) as error:
                if not down:
                    why = " ".join(str(error).split())
                    log.warning("wake-ups: `%s` has no connection, changes are found by polling: %s", name, why)
                down = True
            except Exception:
                log.exception("wake-ups: `%s` failed, and is tried again", name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    async def _listen(self, up: Callable[[], None]) -> None:
        async with await dedicated.connect_async(self._url, "listen") as connection:
            await connection.execute(f"LISTEN {_CHANNEL}".encode())
            up()
            self._announce(0)  # look once: what was sent before is lost
            async for note in connection.notifies():
                if note.pid != self._sender and _POSITION.fullmatch(note.payload):
                    self._announce(int(note.payload))

    async def _notify(self, up: Callable[[], None]) -> None:
        async with await dedicated.connect_async(self._url, "notify") as connection:
            self._sender = connection.info.backend_pid
            send = partial(connection.execute, f"SELECT pg_notify('{_CHANNEL}', %s)".encode())
            up()
            while True:
                await self._news.wait()
                position = self._position
                await send([str(position)])
                if position == self._position:
                    self._news.clear()  # not before: what could not be sent is sent by the next connection
                await asyncio.sleep(_PAUSE)
