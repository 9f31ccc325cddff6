"""Relays: what is committed goes on to a broker, in order, for as long as this server leads in that.

A relay follows the change log like any follower and publishes to a stream that is its own. Where it goes on, whatever has
happened, the stream itself tells by its last message, so nothing is published twice; a place that is noted in the database is for
a stream that has forgotten. Of the servers of a database one leads. A leader that was cut off and does not know it is refused by
the stream, whose end it no longer knows.

Nothing here can fail or delay a write: a broker that is away makes the relay fall behind, which its figures tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol, TypeVar

from cqar.errors import CqarError, InternalError
from cqar.model import FeedToken
from cqar.server.changes import Feed
from cqar.server.leader import Leader
from cqar.server.status import Component, Level
from cqar.server.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK: Final = 1.0  # seconds between two looks at who leads
_PAUSE: Final = (0.1, 5.0)  # seconds: the first after a failure, and the longest


class Message(NamedTuple):
    """What goes into a stream."""

    subject: str
    id: str  # unique in the stream
    headers: dict[str, str]
    data: bytes


class Last(NamedTuple):
    """The last message of a stream, as far as it tells where to go on."""

    id: str
    headers: dict[str, str]


class Stream(Protocol):
    """A stream at a broker, open. All methods raise UnavailableError if the broker does not do it."""

    empty: bool  # nothing was ever in it

    async def last(self) -> Last | None:
        """Give the last message; None if there is none, or none any more."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Add messages in their order. Refused if others than these were added since `last`, or what was there has gone."""

    async def check(self) -> None:
        """See that the stream ends where this publisher left it."""


class Relay(ABC):
    """One relay of one server: stands by, leads, publishes, begins anew. To be used in one event loop."""

    def __init__(self, name: str, store: Store, feed: Feed) -> None:
        self.name = name
        self.leading = False
        self.published = self.failures = 0
        self.position = 0  # up to which everything is published; of the leader's only
        self.trouble = ""  # why it does not publish, if it does not; names the broker
        self._reason = ""  # the same in a word
        self._store, self._feed = store, feed
        self._leader = Leader(store.url, f"relay {name}")
        self._thread = ThreadPoolExecutor(1, f"cqar-relay-{name}")
        self._lead_thread = ThreadPoolExecutor(1, f"cqar-lead-{name}")  # a look must not wait for a long read
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.create_task(self._run(), name=f"cqar-relay-{self.name}")

    async def stop(self) -> None:
        """End, and let another server lead."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for thread in (self._thread, self._lead_thread):
            await asyncio.to_thread(thread.shutdown)
        await asyncio.to_thread(self._leader.close)

    @property
    def lag(self) -> int:
        """How many transactions are committed and not published, as far as the feed knows; 0 if another server leads."""
        return max(0, self._feed.position - self.position) if self.leading else 0

    def component(self) -> Component:
        """Tell how it is: a server whose broker is away still does all else."""
        if not self.trouble:
            return Component()
        return Component(
            Level.DEGRADED, f"the {self.name} cannot be published ({self._reason}); the server's log has the details"
        )

    async def _run(self) -> None:
        first, longest = _PAUSE
        pause = first
        while True:
            began = time.monotonic()
            try:
                self.leading = await self._reading(self._leader.leads, self._lead_thread)
                if self.leading:
                    await self._lead()
                self.trouble = ""
                await asyncio.sleep(_LOOK)
                continue
            except CqarError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - the relay must outlive it
                self._failed(InternalError(), cause=error)
            finally:
                self.leading = False
            if time.monotonic() - began > longest:
                pause = first
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(2 * pause, longest)

    def _failed(self, error: CqarError, cause: Exception | None = None) -> None:
        self.failures += 1
        if self.trouble != error.message:
            log.warning("the relay of the %s stops: %s", self.name, error.message, exc_info=cause)
        self.trouble, self._reason = error.message, error.reason

    async def _lead(self) -> None:
        """Publish until another server leads; raises what ends it otherwise."""
        work = asyncio.create_task(self._publish(), name=f"cqar-publish-{self.name}")
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=_LOOK)
                if not work.done() and not await self._reading(self._leader.leads, self._lead_thread):
                    return
            await work
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, CqarError):
                await work

    @abstractmethod
    async def _publish(self) -> None:
        """Open the stream, find the place in it, and go on from there for ever."""

    def _has_published(self, count: int, position: int) -> None:
        if self.trouble:
            log.info("the relay of the %s goes on at position %d", self.name, self.position)
            self.trouble = ""
        self.published += count
        self.position = position

    async def _reading(self, read: Callable[[], T], thread: ThreadPoolExecutor | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread or self._thread, read)

    def _has_led_through(self, token: FeedToken) -> bool:
        """Tell whether the history of the log goes through a token. Blocks."""
        return self._store.head().log_id == token.log_id and self._store.chain_at(token.position) == token.chain
