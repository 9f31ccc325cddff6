"""The recent batches of the feed, ready to be sent: bounded, in memory, for the streams that keep up.

A ring is one unbroken history. It moves forward by batches that follow its head, and it ends, once and for all, with the
error that every stream on it then raises. It is filled by `changes`, and used in the event loop only.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Iterable, Iterator

import msgspec

from cqar import wire
from cqar.errors import CqarError
from cqar.model import Batch, FeedToken
from cqar.v1.replication_pb2 import Heartbeat, WatchChangesResponse


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much the feed holds and sends at once.

    A message is full with the batch that reaches one of its limits, so a larger batch still travels, whole: no batch
    outgrows the request that made it by much, and followers accept 64 MiB.
    """

    ring_batches: int = 10_000
    ring_bytes: int = 16 << 20
    message_changes: int = 500
    message_bytes: int = 1 << 20


class Frame(msgspec.Struct, frozen=True):
    """One batch as it travels: serialised messages can be joined, so `data` is shared by all streams."""

    position: int
    chain: bytes
    changes: int
    data: bytes


def framed(batch: Batch) -> Frame:
    """Serialise a batch, once for all streams."""
    data = WatchChangesResponse(batches=[wire.batch_to_wire(batch)]).SerializeToString()
    return Frame(batch.position, batch.chain, len(batch.changes), data)


class Ring:
    """The recent batches of one history up to its head, until an error ends it."""

    def __init__(self, head: FeedToken, limits: Limits, as_of: float = -math.inf) -> None:
        """`as_of` is a time, on the clock of `time.monotonic`, at which this was the head of the log."""
        self.head, self.as_of = head, as_of
        self.ended: CqarError | None = None
        self.beats = 0
        self._limits = limits
        self._frames: dict[int, Frame] = {}
        self._first = head.position + 1
        self._bytes = 0
        self._moved = asyncio.Event()

    def append(self, frames: Iterable[Frame]) -> None:
        """Add the batches after the head, drop the oldest ones beyond the limits and wake the streams."""
        for frame in frames:
            self._frames[frame.position] = frame
            self._bytes += len(frame.data)
            self.head = FeedToken(log_id=self.head.log_id, position=frame.position, chain=frame.chain)
        while len(self._frames) > self._limits.ring_batches or self._bytes > self._limits.ring_bytes:
            self._bytes -= len(self._frames.pop(self._first).data)
            self._first += 1
        self._notify()

    def beat(self) -> None:
        """Make every stream send a heartbeat."""
        self.beats += 1
        self._notify()

    def end(self, error: CqarError) -> None:
        """Make every stream raise the error."""
        self.ended = error
        self._notify()

    def _notify(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def moved(self) -> None:
        """Wait until there is news; does not wait on a ring that has ended."""
        if self.ended is None:
            await self._moved.wait()

    def chain_at(self, position: int) -> bytes | None:
        """Give the chain at a position, if the ring holds it."""
        if position == self.head.position:
            return self.head.chain
        frame = self._frames.get(position)
        return frame.chain if frame else None

    def heartbeat(self, taken: float) -> bytes:
        """Give a message that tells the head, for a stream that was taken at that time. It can be joined to the data of frames."""
        told = Heartbeat(head_position=self.head.position)
        if self.as_of > -math.inf:
            told.as_of_ms = math.floor((self.as_of - taken) * 1000)
        return WatchChangesResponse(heartbeat=told).SerializeToString()

    def holds(self, position: int) -> bool:
        """Tell whether everything after the position is here."""
        return position >= self._first - 1

    def after(self, position: int) -> Iterator[Frame]:
        """Yield the batches that follow a position."""
        while frame := self._frames.get(position + 1):
            yield frame
            position += 1

    def raise_if_ended(self) -> None:
        """Raise what ended the ring: a copy, because streams raise it side by side."""
        if self.ended is not None:
            raise copy.copy(self.ended)
