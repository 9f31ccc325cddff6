"""Relays in a process of their own, so that what they do takes no time of the interpreter from calls.

A server that is a process (`cqar serve`) starts one child for its relays and reads their figures from it. The child has
connections of its own, follows the change log by itself, and ends when its standard input does: with the server, however that
ends. One that dies is started again; the stream at the broker tells where to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from typing import Final

import msgspec

from cqar.server import logs
from cqar.server.changes import CATCH_UP_THREADS, Feed
from cqar.server.config import Config
from cqar.server.relays import relays_of
from cqar.server.status import Component, Level
from cqar.server.store import Store
from cqar.server.wakeups import Wakeups

log = logging.getLogger(__name__)

# Of the child to the database, besides those of its relays: of its feed and its wake-ups.
CONNECTIONS: Final = 1 + CATCH_UP_THREADS + 2
_TELL: Final = 0.2  # seconds between two looks at the figures
_RESTART: Final = 1.0  # seconds until a child that died is started again
_PATIENCE: Final = 5.0  # seconds for the child to note its place and end
_NEEDED: Final = (
    *("events", "feed", "stream_replicas", "stream_days", "poll_interval", "heartbeat_interval", "wakeups"),
    *("log_level", "log_format"),
)


class Figures(msgspec.Struct):
    """What a relay tells of itself; has what `relays.measure_relays` reads of a `Relay`."""

    name: str
    leading: bool = False
    position: int = 0
    lag: int = 0
    published: int = 0
    failures: int = 0
    trouble: str = ""

    def component(self) -> Component:
        """Tell how it is."""
        return Component(Level.DEGRADED, self.trouble) if self.trouble else Component()


class _Setup(msgspec.Struct):
    """What the child gets, on its standard input: the URL may hold a password."""

    url: str
    settings: dict[str, object]


class Apart:
    """The parent's side. To be used in one event loop."""

    def __init__(self, config: Config, url: str) -> None:
        settings = {name: getattr(config, name) for name in _NEEDED}
        self._setup = msgspec.json.encode(_Setup(url, settings)) + b"\n"
        self.relays = [Figures(name) for name in ("events", "feed") if getattr(config, name)]
        self._child: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.create_task(self._keep(), name="cqar-relays")

    async def stop(self) -> None:
        """End the child, which notes its place first."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        while True:
            try:
                await self._run()
            except OSError as error:
                log.warning("the process of the relays cannot be started: %s", error)
            for relay in self.relays:
                relay.leading, relay.failures = False, relay.failures + 1
                relay.trouble = (
                    f"the {relay.name} cannot be published (PROCESS_ENDED); the server's log has the details"
                )
            log.warning("the process of the relays ended; starting it again in %g s", _RESTART)
            await asyncio.sleep(_RESTART)

    async def _run(self) -> None:
        """Run one child until it ends; told to stop, end it."""
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-P", "-m", __name__]
        child = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, start_new_session=True)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(self._setup)
            before = [(relay.published, relay.failures) for relay in self.relays]
            while line := await child.stdout.readline():
                for relay, told, (published, failures) in zip(
                    self.relays, msgspec.json.decode(line, type=list[Figures]), before, strict=True
                ):
                    relay.leading, relay.position, relay.lag = told.leading, told.position, told.lag
                    relay.trouble = told.trouble
                    relay.published, relay.failures = published + told.published, failures + told.failures
        finally:
            child.stdin.close()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()


def main() -> None:
    """Be the child."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server says when to end
    setup = msgspec.json.decode(sys.stdin.buffer.readline(), type=_Setup)
    config = Config(**setup.settings)  # type: ignore[arg-type]
    logs.set_up(config.log_level, config.log_format)
    asyncio.run(_publish(config, setup.url))


async def _publish(config: Config, url: str) -> None:
    """Run the relays until standard input ends, and tell their figures."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with contextlib.AsyncExitStack() as stack:
        store = Store(url, pool_size=CONNECTIONS + 4)
        stack.push_async_callback(asyncio.to_thread, store.close)
        feed = Feed(store, poll_interval=config.poll_interval, heartbeat_interval=config.heartbeat_interval)
        await feed.start()
        stack.push_async_callback(feed.stop)
        if config.wakeups:
            wakeups = Wakeups(url, feed.announce)
            wakeups.start()
            stack.push_async_callback(wakeups.stop)
        relays = relays_of(config, store, feed)
        for relay in relays:
            relay.start()
            stack.push_async_callback(relay.stop)
        ended = asyncio.create_task(reader.read())
        told = b""
        while not ended.done():
            figures = [
                Figures(
                    each.name,
                    each.leading,
                    each.position,
                    each.lag,
                    each.published,
                    each.failures,
                    each.component().reason,
                )
                for each in relays
            ]
            if (line := msgspec.json.encode(figures)) != told:
                told = line
                sys.stdout.buffer.write(line + b"\n")
                sys.stdout.buffer.flush()
            await asyncio.wait({ended}, timeout=_TELL)


if __name__ == "__main__":
    main()
