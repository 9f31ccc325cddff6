"""What one process sees of its host's replica: the head's word compared at every call, and new frames read when it differs.

There is no reader thread and no lock that a reader and the syncer share. A process that is asked nothing for an hour catches up in
its next call. Whatever goes wrong with the files, the view stays where it is, at one position, and its age grows.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from cqar.client import _tail
from cqar.client._damage import is_own
from cqar.client._folder import TailFile
from cqar.client._generation import Generation
from cqar.client._head import LENGTH, MOVED, STATE, About, Head
from cqar.client._recent import Recent, Topic
from cqar.client._replica import Replica
from cqar.client._status import TOLD, State
from cqar.errors import ClosedError, CqarError, SnapshotError, UnavailableError
from cqar.model import FeedToken

log = logging.getLogger(__name__)

CHAINS = 4096  # positions whose chains are remembered, to tell whether the replica's history is that of a write
PIECE = 1 << 16  # bytes of a tail that are read at once
LOOK_AGAIN = 0.05  # seconds between two looks for a head that is not there
ORPHANED = 1.0  # seconds without news from a head after which it may be one that nobody writes any more
_CLOSED = memoryview(MOVED.to_bytes(8, sys.byteorder)).cast("Q")  # words that no view has seen
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # deaf to clock changes; counts while the host sleeps


def now() -> float:
    """Seconds on the clock by which ages are told; the same for all processes of the host."""
    return time.clock_gettime(CLOCK)


class Readable(Protocol):
    """What a view needs of a folder."""

    def head(self) -> Head | None: ...
    def is_present(self, head: Head) -> bool: ...
    def generation(self, name: str) -> Generation: ...
    def tail(self, generation: str, name: str) -> TailFile: ...


class _Coming(NamedTuple):
    """A head that the view is going over to: what it describes is made ready beside what is shown, a portion in each call."""

    head: Head
    about: About
    tail: TailFile
    length: int  # of the tail, as far as it counted
    twin: Replica
    target: int  # position from which on it is shown: not behind what was shown before
    same_history: bool
    chains: dict[int, bytes]
    read: list[int]  # how far the tail is read


class View:
    """Keeps a replica level with the host's. Thread-safe.

    The hot path of every call is `view.words[LENGTH] != view.seen`, and then `refresh`.
    """

    __slots__ = (
        "_at",
        "_chains",
        "_clock",
        "_coming",
        "_folder",
        "_head",
        "_heard",
        "_lock",
        "_look_again",
        "_moved",
        "_offset",
        "_tail",
        "closed",
        "damaged",
        "on_batch",
        "replica",
        "seen",
        "trouble",
        "words",
    )

    def __init__(
        self,
        folder: Readable | None,
        replica: Replica,
        clock: Callable[[], float] = now,
    ) -> None:
        """Without a folder the replica is what it is, for ever."""
        self.replica = replica
        self.on_batch: Callable[[set[Topic] | None], None] = _nobody  # told what each batch touched; None: everything
        self.words = memoryview(bytearray(8 * 16)).cast("Q")
        self.words[LENGTH] = 0 if folder is None else MOVED
        self.seen = 0  # the head's word that `replica` shows; it differs as long as there is no head
        self.damaged = False  # a frame that counts cannot be read: the replica is behind what the head says
        self.trouble: str | None = None  # why it cannot go over to the present head
        self.closed = False
        self._chains: dict[int, bytes] = {}  # of the last positions that were read here
        self._folder, self._clock = folder, clock
        self._head: Head | None = None
        self._at: About | None = None  # which head the replica's contents are from
        self._coming: _Coming | None = None
        self._tail: TailFile | None = None
        self._offset = 0  # in the tail, of the first byte not read
        self._heard = 0  # when the replica, as it is, was level; ns of the clock
        self._moved = 0  # when the replica came to where it is; ns of the clock
        self._look_again = -math.inf
        self._lock = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether there are no data yet."""
        return self._folder is not None and self._head is None

    @property
    def head(self) -> Head | None:
        """The head that is watched; None before there is one."""
        return self._head

    @property
    def state(self) -> State:
        """What the syncer says of itself."""
        told = len(TOLD) if self._head is None else self._head.words[STATE]
        return TOLD[told] if told < len(TOLD) else State.DISCONNECTED

    def refresh(self) -> None:
        """Read what is new, no more than a call has time for: the next one goes on.

        What cannot be read leaves the replica where it is. While another thread reads, this one answers from what is there.
        Raises nothing but ClosedError, after `close`.
        """
        if self.closed:
            raise ClosedError
        if self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()

    def catch_up(self, seconds: float) -> None:
        """Read all that is new, as long as it leads on and `seconds` have not passed: for who has time."""
        until, last = self._clock() + seconds, None
        while self.words[LENGTH] != self.seen and self._clock() < until:
            coming = self._coming
            reached = self.replica.version, self._offset, coming is None or coming.read[0]
            if reached == last:
                return
            last = reached
            self.refresh()

    def close(self) -> None:
        """Let no look-up be answered any more: every look at the words from now on ends in `refresh`, which raises ClosedError."""
        self.closed = True
        with self._lock:
            self.words, self.seen = _CLOSED, 0

    def _refresh(self) -> None:
        if self.closed:
            raise ClosedError
        length = self.words[LENGTH]
        if length == self.seen or self._folder is None:
            return
        head = self._head
        if head is not None and length != MOVED and self._folder.is_present(head):
            self._read_on(head, length)
            return
        moment = self._clock()
        if moment >= self._look_again or self._coming is not None:
            self._look_again = moment + LOOK_AGAIN
            if self._reopen():
                self._look_again = -math.inf

    def heard(self) -> int:
        """When the replica, as it is, was level with its server, in ns of the clock; 0: not known."""
        if self.closed:
            return self._heard
        for _ in range(2):
            head = self._head
            if head is None:
                self.refresh()
                continue
            heard = self._heard_by(
                head
            )  # before the word: what counted then is in the replica if the word is the one seen
            if self.words is head.words and head.words[LENGTH] == self.seen:
                if not self.damaged:
                    self._heard = max(self._heard, heard)
                if self._clock() - heard / 1e9 > ORPHANED:
                    self._look_for_another(head)
                break
            self.refresh()
        return self._heard

    def _heard_by(self, head: Head) -> int:
        """Return when a head's syncer heard that it was level; 0 for a time to come, which somebody has written over it."""
        heard = head.heard
        return heard if heard <= self._clock() * 1e9 else 0

    def _look_for_another(self, head: Head) -> None:
        """Leave a head that another one replaced without a mark: its syncer was killed, or did not know."""
        moment = self._clock()
        if self._folder is not None and moment >= self._look_again and not self._folder.is_present(head):
            self.seen = -1
            self.refresh()

    def age(self) -> float:
        """Seconds since the replica was known to be level with its server; infinite if it never was."""
        return self.since(self.heard())

    def since(self, heard: int) -> float:
        """Seconds since a moment that `heard` gave."""
        return max(0.0, self._clock() - heard / 1e9) if heard else math.inf

    # --- reading --------------------------------------------------------------------------------------------------

    def _read_on(self, head: Head, length: int) -> None:
        """Apply the frames up to a length of the tail, or as many as a call has time for."""
        assert self._tail is not None
        start, own, left = self._offset, False, _tail.PORTION
        self.damaged = False
        try:
            data, is_all = _piece(self._tail, start, length)
            for frame, end in _tail.frames(data, self.replica.position):
                self._apply(frame)
                self._offset = start + end
                left -= 1 + len(frame.batch.changes)
                if left <= 0:
                    break
            else:
                self.damaged = is_all and self._offset != length
        except (CqarError, OSError) as error:
            if isinstance(error, OSError) or is_all or self._offset == start:
                self.damaged, own = True, is_own(error)
                log.warning("%s", error)
        if self.damaged:
            log.warning("the replica stays at position %d: its tail cannot be read on", self.replica.position)
            if not own:
                head.complain()
        self.seen = length if self.damaged else self._offset

    def _apply(self, frame: _tail.Frame) -> None:
        touched = self.replica.apply(frame.batch, frame.unread)
        _note_chain(self._chains, frame)
        self._moved = int(self._clock() * 1e9)
        self.on_batch(touched)

    def _reopen(self) -> bool:
        """Go over to the present head, or some way there; False if that is not possible now, or would lead back."""
        assert self._folder is not None
        coming = self._coming
        if coming is None or coming.head.words[LENGTH] == MOVED or not self._folder.is_present(coming.head):
            coming = self._coming = None
            head = self._present(self._folder)
            if head is None or (self._head is not None and head.identity == self._head.identity):
                return False
            coming = self._coming = self._looked_at(head)
        if coming is None or not self._made_ready(coming):
            return False
        if coming.twin.position >= coming.target:
            self._coming = None
            self._go_over(coming)
        return True

    def _looked_at(self, head: Head) -> _Coming | None:
        """Return how to go over to a head; None if that is not possible now, or would lead back."""
        assert self._folder is not None
        heard = self._heard_by(head)  # before the length: so it is not about more than what is read
        length = head.words[LENGTH]
        about, at = head.about, self._at
        # An earlier term is that of a syncer which was frozen in the middle of taking over. But not if the head was lost meanwhile:
        # terms begin anew then, by a wall clock that may stand before the one of the syncer that has gone.
        if length == MOVED or (at is not None and about.succession == at.succession and about.term < at.term):
            return None
        replica = self.replica
        try:
            tail = self._folder.tail(about.generation, about.tail)
            data = tail.read(0, length)
            same_history = at is not None and (at.log_id, at.history) == (about.log_id, about.history)
            same_generation = same_history and at is not None and at.generation == about.generation
            generation = replica.generation if same_generation else self._folder.generation(about.generation)
        except (OSError, SnapshotError, UnavailableError) as error:
            self._cannot("opened", error, head)
            return None
        start = generation.head
        steps = _tail.steps(data, start.position)
        reached = steps[-1].position if steps else start.position
        behind = reached < replica.position and at is not None and at.log_id == about.log_id
        damaged = (steps[-1].end if steps else 0) != length
        # The new syncer is not as far yet; or the server has undone some of what was read: then it was level with less later on.
        if behind and (damaged or heard <= self._moved):
            if damaged:
                head.complain()
            return None
        same_history = same_history and not behind and _leads_on(replica, start, steps)
        target = start.position if at is None or at.log_id != about.log_id else min(reached, replica.position)
        if same_generation and same_history:  # the tail alone is another: what was read of it is there already
            read = steps[replica.position - start.position - 1].end if replica.position > start.position else 0
            return _Coming(head, about, tail, length, replica, target, same_history, self._chains, [read])
        twin = Replica(generation, Recent(1))
        return _Coming(head, about, tail, length, twin, target, same_history, {start.position: start.chain}, [0])

    def _made_ready(self, coming: _Coming) -> bool:
        """Bring what is coming nearer to where it can be shown; False if that cannot be."""
        twin, start, left = coming.twin, coming.read[0], _tail.PORTION
        try:
            if twin.position < coming.target:
                for frame, end in _tail.frames(_piece(coming.tail, start, coming.length)[0], twin.position):
                    twin.apply(frame.batch, frame.unread)
                    _note_chain(coming.chains, frame)
                    coming.read[0] = start + end
                    left -= 1 + len(frame.batch.changes)
                    if left <= 0 or twin.position >= coming.target:
                        break
        except (CqarError, OSError) as error:
            if coming.read[0] == start:
                self._cannot("read", error, coming.head)
                self._coming = None
                return False
        return True

    def _go_over(self, coming: _Coming) -> None:
        """Show what was coming, and read on there."""
        if coming.twin is not self.replica:
            self.on_batch(self.replica.switch(coming.twin, same_history=coming.same_history))
            self._chains = {**self._chains, **coming.chains} if coming.same_history else coming.chains
        self.trouble = None
        # The order matters to other threads: the words of one head must never be compared with what was seen of another.
        self.seen = -1
        self._moved = int(self._clock() * 1e9)
        self._heard = self._heard if coming.same_history else 0
        self._head, self._at, self._tail = coming.head, coming.about, coming.tail
        self._offset, self.damaged = coming.read[0], False
        self.words = coming.head.words
        self.seen = self._offset
        length = self.words[LENGTH]
        if length not in (MOVED, self.seen):
            self._read_on(coming.head, length)

    def _present(self, folder: Readable) -> Head | None:
        try:
            return folder.head()
        except UnavailableError as error:
            self._cannot("opened", error, None)
            return None

    def _cannot(self, what: str, error: Exception, head: Head | None) -> None:
        """Note why the present head is of no use yet: a limit of this process is its own, damage is everybody's."""
        trouble = f"the replica cannot be {what}: {error}"
        if trouble != self.trouble:  # it is tried many times a second
            self.trouble = trouble
            log.warning("%s", trouble)
        if head is not None and not is_own(error):
            head.complain()

    def chain_at(self, position: int) -> bytes | None:
        """Return the chain at a position that the replica came through; None if it does not remember that far."""
        head = self.replica.head
        return head.chain if position == head.position else self._chains.get(position)

    # --- fork -----------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let no fork happen in the middle of a batch: the child would keep half of it."""
        self._lock.acquire()
        self.replica.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.replica.after_fork_in_parent()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with locks of the child's own."""
        self._lock = threading.Lock()
        self.replica.after_fork_in_child()


def _piece(tail: TailFile, start: int, length: int) -> tuple[bytes, bool]:
    """Return a piece of a tail that begins with a whole frame if there is one, and whether that is all up to a length."""
    data = tail.read(start, min(length, start + PIECE))
    if start + PIECE >= length:
        return data, True
    return (data, False) if _tail.begins_whole(data) else (tail.read(start, length), True)


def _note_chain(chains: dict[int, bytes], frame: _tail.Frame) -> None:
    chains[frame.batch.position] = frame.batch.chain
    chains.pop(frame.batch.position - CHAINS, None)


def _leads_on(replica: Replica, start: FeedToken, steps: list[_tail.Step]) -> bool:
    """Report whether a tail leads through where a replica is: a syncer that found less than was shown cannot know that."""
    position, chain = replica.position, replica.head.chain
    if position < start.position:
        return True  # as far as can be told; nothing of what was read is kept then
    return chain == (start.chain if position == start.position else steps[position - start.position - 1].chain)


def _nobody(_touched: set[Topic] | None) -> None:
    pass
