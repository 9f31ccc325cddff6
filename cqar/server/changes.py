"""The feed: every committed batch, in order and once, to every follower.

One `Feed` per server process. A single task reads new batches from the change log, after a wake-up or at the latest every
`poll_interval`, and appends them, serialised once for all followers, to the ring. A stream takes its next message from
the ring; one that is behind it gets pages of the change log (`history`). Nothing is queued per stream but the message
being sent. When the database fails or its history changes, the ring ends with the error that every stream then raises:
followers reconnect with their token, and no state is ever invented.

The heartbeats of an idle stream follow a read of the change log, so their position was the head a moment ago; a read that
hangs sends none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from cqar.errors import CqarError, InternalError, PositionExpiredError, UnavailableError
from cqar.model import Batch, FeedToken
from cqar.server.history import History
from cqar.server.ring import Frame, Limits, Ring, framed
from cqar.server.store import Store
from cqar.server.touched import Touched, of_changes

log = logging.getLogger(__name__)

T = TypeVar("T")

CATCH_UP_THREADS: Final = 2  # for streams behind the ring: one reads the log, one looks whether it goes on from a token
_PAUSE: Final = 0.003  # between two reads: under load one read carries many commits, and writers keep the processor


class Feed:
    """Follows the store's change log for all streams of this process. To be used in one event loop."""

    def __init__(
        self,
        store: Store,
        *,
        poll_interval: float,
        heartbeat_interval: float,
        patience: float = 5.0,
        limits: Limits | None = None,
        touched: Touched | None = None,
    ) -> None:
        """Prepare; nothing is read yet. The database counts as gone when one read takes longer than `patience` seconds."""
        self._store = store
        self._poll = min(poll_interval, heartbeat_interval)
        self._heartbeat = heartbeat_interval
        self._patience = patience
        self._limits = limits or Limits()
        self._touched = touched
        self._ring = Ring(FeedToken(log_id="", position=0, chain=b""), self._limits)
        self._ring.ended = UnavailableError("the feed has not been started")
        self._wake = asyncio.Event()
        self._announced = 0  # the highest position that is known to be there
        self._read_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._reader = ThreadPoolExecutor(1, "cqar-feed")
        self._history = History(self._read, self._limits)
        self._catch_up = ThreadPoolExecutor(1, "cqar-catch-up")

    async def start(self) -> None:
        """Read where the log is and follow it from there; raises what the store raises."""
        await self._begin()
        self._store.on_commit(partial(_in_loop, asyncio.get_running_loop(), self.announce))
        self._task = asyncio.create_task(self._follow(), name="cqar-feed")

    async def stop(self) -> None:
        """End every stream with UNAVAILABLE, so that its follower goes to another server or waits for this one."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._ring.end(UnavailableError("the server is shutting down; reconnect", reason="SHUTDOWN"))
        for pool in (self._reader, self._catch_up):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        await self._history.stop()

    @property
    def head(self) -> FeedToken:
        """The last position read; raises UnavailableError while the database is down."""
        self._ring.raise_if_ended()
        return self._ring.head

    @property
    def log_id(self) -> str:
        """The log that was read last, also while the database is down; empty before the first."""
        return self._ring.head.log_id

    @property
    def trouble(self) -> CqarError | None:
        """Why the feed does not follow the log at present, if it does not."""
        return self._ring.ended

    @property
    def position(self) -> int:
        """The last position read, also while the database is down."""
        return self._ring.head.position

    @property
    def lag(self) -> int:
        """How many batches are known to be in the log and not read yet."""
        return max(0, self._announced - self._ring.head.position)

    @property
    def read_age(self) -> float:
        """Seconds since the log was last read with success."""
        return time.monotonic() - self._read_at

    def announce(self, position: int) -> None:
        """Look at the log at once: this position is there, as far as the caller knows. In the event loop only."""
        self._announced = max(self._announced, position)
        self._wake.set()

    async def beyond(self, position: int) -> None:
        """Wait until more than this position was read; raises what ends the feed meanwhile."""
        ring = self._ring
        ring.raise_if_ended()
        while ring.head.position <= position:
            await ring.moved()
            ring.raise_if_ended()

    # --- streams -----------------------------------------------------------------------------------------------------

    async def watch(self, after: FeedToken) -> AsyncGenerator[bytes, None]:
        """Yield serialised `WatchChangesResponse`s: a heartbeat at once, then every batch after the token, for ever.

        Every message tells the head. Raises PositionExpiredError if the feed cannot go on from the token, UnavailableError
        when the database or the server goes away, and InternalError if the log has a gap.
        """
        taken = time.monotonic()
        ring = self._ring
        ring.raise_if_ended()
        await self._check(ring, after)
        at, beats = after, ring.beats
        yield ring.heartbeat(taken)
        while True:
            ring.raise_if_ended()
            source = ring.after(at.position)
            if not ring.holds(at.position):
                reading = asyncio.ensure_future(self._log_after(at))
                try:
                    while not (await asyncio.wait({reading}, timeout=self._heartbeat))[0]:
                        yield ring.heartbeat(taken)  # others have their turn first: it is not forgotten
                finally:
                    reading.cancel()
                source = reading.result()
            current = True
            while frames := self._message(source):
                current = False
                last = frames[-1]
                at = FeedToken(log_id=at.log_id, position=last.position, chain=last.chain)
                yield b"".join([frame.data for frame in frames]) + ring.heartbeat(taken)
                ring.raise_if_ended()
            if ring.beats != beats:
                beats = ring.beats
                yield ring.heartbeat(taken)
            elif current:
                await ring.moved()

    async def _check(self, ring: Ring, token: FeedToken) -> None:
        """Raise PositionExpiredError unless the token names a position of the very history that is followed."""
        if token.log_id != ring.head.log_id:
            raise _mismatch("the log is another one: the database was replaced", token)
        while token.position > ring.head.position:  # another server of this database has led the follower further
            if await self._chain_at(token.position) is None:
                raise _mismatch("the position is ahead of the log: the database was restored", token)
            self._wake.set()
            await ring.moved()
            ring.raise_if_ended()
        chain = ring.chain_at(token.position) or await self._chain_at(token.position)
        if chain is None:
            raise _expired(token)
        if chain != token.chain:
            raise _mismatch("the history up to this position is another one", token)

    async def _chain_at(self, position: int) -> bytes | None:
        return await self._reading(partial(self._store.chain_at, position), self._catch_up)

    async def _log_after(self, at: FeedToken) -> Iterator[Frame]:
        """Read what follows a token that is behind the ring."""
        frames = await self._history.after(at)
        if not frames:
            raise _expired(at)  # all of it was trimmed
        return iter(frames)

    def _message(self, source: Iterator[Frame]) -> list[Frame]:
        """Take what goes into one message; nothing if nothing is left."""
        taken: list[Frame] = []
        changes = size = 0
        for frame in source:
            taken.append(frame)
            changes += frame.changes
            size += len(frame.data)
            if changes >= self._limits.message_changes or size >= self._limits.message_bytes:
                break
        return taken

    # --- the change log ----------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Move the ring for ever; end it on any failure and begin a new one when the log can be read again."""
        loop = asyncio.get_running_loop()
        beaten = loop.time()
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    await self._advance()
            except TimeoutError:
                self._fail(UnavailableError("the database does not answer in time"))
            except CqarError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - the feed must outlive it
                self._fail(InternalError(), cause=error)
            else:
                self._read_at = time.monotonic()
                if loop.time() - beaten >= self._heartbeat:
                    beaten = loop.time()
                    self._ring.beat()
            await asyncio.sleep(_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._wake.wait()

    async def _advance(self) -> None:
        self._wake.clear()  # before the read: a commit during it must not be missed
        began = time.monotonic()
        if self._ring.ended is not None:
            await self._begin()
            log.info("the feed goes on at position %d of the log %s", self._ring.head.position, self._ring.head.log_id)
            return
        try:
            # A position announced during the read is forgotten here, not its wake-up: the next read asks for the head.
            frames, self._announced, whole = await self._reading(
                partial(self._read_on, self._ring.head, self._announced)
            )
        except PositionExpiredError as error:
            log.error("the feed begins anew: %s", error.message)  # noqa: TRY400 - the place of the error says nothing
            past = self._ring
            await self._begin()  # first: a follower that has reloaded must not meet the old ring
            past.end(error)
            return
        if frames:
            self._ring.append(frames)
        if self._ring.head.position < self._announced:
            self._wake.set()  # there is more than one read gives
        if whole:
            self._ring.as_of = began

    async def _begin(self) -> None:
        began = time.monotonic()
        self._ring = Ring(await self._reading(self._store.head), self._limits, began)
        self._announced = self._ring.head.position
        if self._touched is not None:
            self._touched.begin(self._ring.head)

    def _fail(self, error: CqarError, cause: Exception | None = None) -> None:
        if self._ring.ended is None:  # else it is the same outage still
            log.error("the feed stops: %s", error.message, exc_info=cause)
            if self._touched is not None:
                self._touched.end()
            self._ring.end(error)

    async def _reading(self, read: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool or self._reader, read)

    def _read_on(self, head: FeedToken, announced: int) -> tuple[list[Frame], int, bool]:
        """Read what follows the head, the highest position that is known to be there, and whether nothing is left to read.

        Raises PositionExpiredError if the log is no longer the one that led to the head.
        """
        if announced <= head.position:
            now = self._store.head()
            if now == head:
                return [], now.position, True
            if now.log_id != head.log_id or now.position <= head.position:
                raise _mismatch("the database was replaced or restored", head)
            announced = now.position
        batches = self._read(head)
        if self._touched is not None:
            for batch in batches:
                self._touched.note(batch.position, of_changes(batch.changes), complete=True)
        whole = 0 < sum(len(batch.changes) for batch in batches) < self._limits.message_changes
        return [framed(batch) for batch in batches], announced if batches else head.position, whole

    def _read(self, after: FeedToken) -> list[Batch]:
        """Read the next batches after a token, proved to follow it; nothing at the head."""
        chain = self._store.chain_at(after.position)
        if chain is None:
            raise _expired(after)
        if chain != after.chain:
            raise _mismatch("the history up to this position is another one", after)
        try:
            return self._store.batches(after.position, self._limits.message_changes)
        except PositionExpiredError:
            if after.position == 0:
                raise  # the start has no row: it may well be trimmed
            if self._store.chain_at(after.position) is None:
                raise _expired(after) from None  # trimmed between the two reads
            missing = after.position + 1
            log.exception("the change log has a gap: position %d is missing", missing)
            raise InternalError("the change log has a gap", reason="LOG_GAP", position=missing) from None


def _expired(token: FeedToken) -> PositionExpiredError:
    return PositionExpiredError(
        f"the log no longer holds what follows position {token.position}; load a snapshot", position=token.position
    )


def _mismatch(why: str, token: FeedToken) -> PositionExpiredError:
    return PositionExpiredError(
        f"{why}; load a snapshot", reason="LOG_MISMATCH", log_id=token.log_id, position=token.position
    )


def _in_loop(loop: asyncio.AbstractEventLoop, announce: Callable[[int], None], position: int) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed already: nobody is left to tell
        loop.call_soon_threadsafe(announce, position)
