"""The relay of the events: everything that was ever committed, each record's change a message of its own.

It begins where the stream ends; a stream that has forgotten its messages is continued from the place that is noted in the
database, and one that never had any from the start of the log. The log is not trimmed of what this relay has yet to publish.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, NamedTuple

from cqar import wire
from cqar.broker import EVENTS, UPTO, mark, marked
from cqar.errors import CqarError, InvalidError, PositionExpiredError
from cqar.events import Event
from cqar.model import FeedToken
from cqar.server.changes import Feed
from cqar.server.relay import Last, Message, Relay, Stream
from cqar.server.store import Store

log = logging.getLogger(__name__)

NAME: Final = "events"
_AT_ONCE: Final = 500  # changes that are read and published at once; a larger transaction is published whole
# Seconds from one read to the next: under load one carries many transactions, and writers keep the processor.
_GATHER: Final = 0.2
_NOTE: Final = 1.0  # seconds between two notes of the place: it is only looked at if the stream does not tell
_CHECK: Final = 5.0  # seconds between two looks at a stream that has nothing to be told


class _Place(NamedTuple):
    """Where to go on: after a position, with so many events of the next one left out; `proof` is where what was published led."""

    after: int
    skip: int = 0
    proof: FeedToken | None = None


class EventRelay(Relay):
    """Publishes the events."""

    def __init__(self, store: Store, feed: Feed, opened: Callable[[], AbstractAsyncContextManager[Stream]]) -> None:
        """Prepare; `opened` opens the stream for as long as this server leads."""
        super().__init__(NAME, store, feed)
        self._opened = opened

    async def _publish(self) -> None:
        async with self._opened() as stream:
            place = await self._reading(partial(self._start, await stream.last(), stream.empty))
            self.position = place.after
            noted_at = 0.0
            try:
                while True:
                    began = time.monotonic()
                    messages, place = await self._reading(partial(self._read, place))
                    if messages:
                        await stream.publish(messages)
                    self._has_published(len(messages), place.after)
                    if time.monotonic() - noted_at >= _NOTE and messages:
                        noted_at = time.monotonic()
                        await self._reading(partial(self._store.note_relayed, NAME, place.after))
                    if self._feed.position <= place.after:
                        await self._idle(stream, place.after)
                    if len(messages) < _AT_ONCE:
                        await asyncio.sleep(began + _GATHER - time.monotonic())  # not at all after a time without news
            finally:
                with contextlib.suppress(CqarError):  # the stream tells more
                    await asyncio.shield(self._reading(partial(self._store.note_relayed, NAME, self.position)))

    async def _idle(self, stream: Stream, position: int) -> None:
        """Wait for more than this position, and see meanwhile that the stream is as it was left."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK):
                    await self._feed.beyond(position)
                    return
            await stream.check()

    def _start(self, last: Last | None, never: bool) -> _Place:
        """Find the place in the log that a stream ends at."""
        if last is not None:
            token, index = _told(last)
            if self._has_led_through(token):
                return _Place(token.position - 1, index + 1, token)
            log.warning("the stream of events ends in another history: going on from the place that was noted")
        oldest, head = self._store.oldest(), self._store.head()
        place = oldest - 1 if never else min(self._store.relayed(NAME) or 0, head.position)
        if place < oldest - 1:
            log.error(
                "the log no longer has the events of positions %d to %d: they were trimmed", place + 1, oldest - 1
            )
            place = oldest - 1
        return _Place(place)

    def _read(self, place: _Place) -> tuple[list[Message], _Place]:
        """Read what follows, ready to be published."""
        at, found = self._store.events(place.after, _AT_ONCE)
        if not found:
            return [], place
        passed = {token.position: token for token in (at, found[0][0]) if token is not None}
        if place.proof is not None and passed.get(place.proof.position, place.proof) != place.proof:
            raise PositionExpiredError("the database was replaced or restored", reason="LOG_MISMATCH")
        messages = [_message(event, token) for token, events in found for event in events]
        token = found[-1][0]
        return messages[place.skip :], _Place(token.position, 0, token)


def _message(event: Event, token: FeedToken) -> Message:
    data = wire.event_to_wire(event).SerializeToString()
    return Message(f"{EVENTS}.{event.type}", event.event_id, {UPTO: mark(token)}, data)


def _told(last: Last) -> tuple[FeedToken, int]:
    """Read which transaction a message belongs to, and its number in it."""
    log_id, _, rest = last.id.partition(":")
    _, _, index = rest.partition(":")
    token = marked(log_id, last.headers.get(UPTO, ""))
    if not index.isdecimal():
        raise InvalidError(
            f"the stream of events ends with {last.id[:80]!r}, which is none: remove what else publishes there",
            reason="STREAM",
            field="events",
        )
    return token, int(index)
