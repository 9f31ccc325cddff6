"""The syncer: the one of a host's processes that follows the server and writes the replica's tail and head.

`Syncer.step` is one step of a state machine that decides everything: who leads, what a fault means, when to load, compact and give
up the lead. It blocks only where its server does. A thread runs it (`Thread`); a simulator may as well, with another folder, server
and clock.

    no lock      try for it; take it by force from a holder that shows no sign of life
    lock         continue what the last syncer left, then:
      no data, or the feed cannot go on      load a snapshot into a generation, then follow from there
      following                              append what comes; build the next generation when the tail is long; look at every byte
                                           now and then, and make the replica again, beside the feed, if one is damaged
      server away                            try again, backing off
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol
from uuid import uuid4

from cqar.client import _head, _tail
from cqar.client._clock import clock_id
from cqar.client._damage import is_own
from cqar.client._folder import Folder, Lock, Tail, history_of
from cqar.client._generation import Generation
from cqar.client._head import About, Head
from cqar.client._status import TOLD, State
from cqar.client._tail import Frame, Step
from cqar.client._view import now
from cqar.errors import CqarError, PositionExpiredError, SnapshotError, UnavailableError
from cqar.model import FeedToken

log = logging.getLogger(__name__)

LOOK = 0.25  # seconds between two tries for the lock; a step takes no longer
FROZEN = 15.0  # seconds without a sign of life after which a holder of the lock is replaced
SILENT = 16.0  # seconds without a word after which a feed is dead: three heartbeats, and one for the road
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts; doubled each time, jittered
TAIL_BYTES = 16 << 20  # a longer tail becomes a generation
TAIL_MOST = 2 * TAIL_BYTES  # with a tail this long the feed waits for that
TAIL_CHANGES = 5_000  # which each process of the host reads, and holds in its memory
PACE = 0.02  # seconds in which readers are shown no more than `_tail.PORTION` changes
MOMENTS = 1_000  # of what the server said of its head, until readers see as much
FAR = 200_000  # positions behind the server: a snapshot is quicker than the feed
LOOSE = 5.0  # seconds by which a time that the server tells may be too old before it is asked anew
CLEAN = 30.0  # seconds between two looks for generations that nobody has open any more
VERIFY = 10.0  # seconds between two looks at every byte of what readers see: what is damaged is whole again within 30 s
SPARE = 50  # times as long as a look took is the pause after it: 2 % of a core, whatever the size
SOON = 1.0  # seconds from the end of a look to the next one when readers complain: complaints carry no trust, and cost no more
REPAIR = 10.0  # seconds between two repairs; doubled each time, until all was found whole

wall_clock = time.time  # for terms and numbers of histories: later ones are higher


class Told(NamedTuple):
    """What the feed brings. `as_of` is a time on this host's clock at which the server's head was no further."""

    frames: list[Frame]
    head_position: int | None = None
    as_of: float = 0.0
    size: int = 0  # bytes of the message that brought it


class Stream(Protocol):
    """An open feed."""

    def poll(self, timeout: float) -> Told | None:
        """Give what came, or None after `timeout` seconds; raises the CqarError that ended it."""

    def cancel(self) -> None:
        """End it."""


class Job(Protocol):
    """Something that takes long, elsewhere."""

    took: float  # seconds, once it is done

    def poll(self) -> str | None:
        """Give the name of the generation that is built, None while it is not; raises the CqarError of its failure."""

    def cancel(self) -> None:
        """End it; what it has built is removed, if not at once then by who comes next."""


class Source(Protocol):
    """Where the registry comes from."""

    def watch(self, after: FeedToken) -> Stream:
        """Follow the feed from a token on."""

    def load(self, after: FeedToken | None, *, bare: bool) -> Job:
        """Build the generation of the newest snapshot; after a token only of one beyond it. `bare`: there are no data at all."""

    def compact(self, generation: str, tail: str, length: int) -> Job:
        """Build the generation that a generation and a part of its tail amount to."""

    def verify(self, generation: str, tail: str, length: int) -> Job:
        """Look at every byte of a generation and of a part of its tail; the job raises SnapshotError for damage."""


class _Place(NamedTuple):
    """Where the replica that is being written is: which generation, and the tail after it."""

    generation: str
    start: FeedToken  # where that is, and the tail begins
    tail: Tail
    history: int


_NOTHING = Step(0, b"", 0, 0)


class Syncer:
    """The state machine. To be used by one thread, but for `stop` and the attributes, which any thread may read."""

    def __init__(self, folder: Folder, source: Source, clock: Callable[[], float] = now, *, feed: str = "") -> None:
        """`feed` says where the source has the feed from, for those who look at the replica."""
        self._folder, self._source, self._clock, self._feed = folder, source, clock, feed
        self._random = random.Random()  # noqa: S311  (jitter, no secret)
        self._lock: Lock | None = None
        self._term, self._succession = 0, ""
        self._taken_over = False  # what the last one left was looked at
        self._head: Head | None = None  # published by this syncer
        self._heard = 0  # what its words say, or should: a page that every process may write to is not read back
        self._place: _Place | None = None  # beyond the head's while a reload catches up with it
        self._token: FeedToken | None = None  # where the tail ends
        self._changes = 0  # in the tail
        self._shown = _NOTHING  # where that of the tail ends which readers see, or will when they are led there
        self._waiting: deque[Step] = deque()  # batches of the tail that they do not see yet
        self._room, self._room_at = (
            _tail.PORTION,
            0.0,
        )  # changes that they may be shown now, and when that is a portion again
        self._moments: list[
            tuple[int, int]
        ] = []  # at the second, in ns of the clock, the server was no further than the first
        self._unread: set[tuple[str, str]] = set()
        self._stream: Stream | None = None
        self._load: Job | None = None
        self._beside = False  # whether the load under way repairs what readers see, while the feed goes on
        self._another_history = False  # whether the load under way leads to one
        self._compaction: tuple[Job, int] | None = None  # and the length of the tail that it covers
        self._compact_at = 0.0  # not earlier, unless it has to be
        self._cannot_compact = False
        self._look: tuple[Job, _Place] | None = None  # at every byte of a place
        self._look_at = self._soon_at = 0.0
        self._wrong: Exception | None = None  # with what readers see
        self._said: set[str] = set()  # of it, in the log
        self._told_at = 0.0  # when the stream last said something
        self._pause, self._try_at = FIRST_PAUSE, 0.0
        self._repair, self._repair_at = REPAIR, 0.0
        self._clean_at = self._tighten_at = 0.0
        self._end: FeedToken | None = None  # what readers see ends there
        self._question: Stream | None = None  # whether that was undone
        self._ask_at = 0.0
        self._full = False  # so that the feed has to wait
        self._gap: int | None = None  # position at which the feed had a gap
        self._patient = False  # far behind, and going by the feed all the same
        # The holder's sign of life, and how often it was the same.
        self._looks: tuple[tuple[int, int], int] = ((0, 0), 0)
        self.state = State.DISCONNECTED
        self.error: Exception | None = None  # what keeps it from being level
        self._interrupted = False
        self.failures = 0  # how often the server could not be followed

    @property
    def leads(self) -> bool:
        """Whether this is the host's syncer."""
        return self._lock is not None

    # --- one step ---------------------------------------------------------------------------------------------------

    def step(self) -> float:
        """Do what is due; give how many seconds may pass until the next step."""
        try:
            if self._lock is None:
                return self._stand_by()
            if not self._lock.held() or not (self._head is None or self._folder.is_present(self._head)):
                return self._step_down()
            self._lock.beat()
            self._mend()
            return self._lead()
        except PositionExpiredError as error:
            self._failed(error, State.RESYNCING)
            self._reload(another_history=error.reason == "LOG_MISMATCH")
        except (CqarError, OSError) as error:
            self._failed(error, State.DISCONNECTED if isinstance(error, CqarError) else State.CATCHING_UP)
        return 0.0 if self.leads else LOOK

    def interrupt(self) -> None:
        """Let the step that is under way end soon; the next thing is `stop`. From any thread."""
        self._interrupted = True
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def stop(self) -> None:
        """Let another process lead. Only when no step is under way."""
        self._drop_jobs()
        if self._head is not None and self._lock is not None and self._lock.held():
            self._tell(State.DISCONNECTED, "the syncer of this host has ended")
        self._let_go()

    def _lead(self) -> float:
        self._look_at_compaction()
        if self._waiting:
            self._show()
        self._look_at_the_question()
        self._look_at_every_byte()
        self._repair_what_is_wrong()
        if self._clock() >= self._clean_at:
            self._clean_at = self._clock() + CLEAN
            self._clean()
        if self._load is not None:
            self._look_at_load()
            if not self._beside:
                return LOOK / 5
        if self._stream is not None:
            if self._is_full():
                return LOOK / 5
            self._listen(self._stream)
            return 0.0
        wait = self._try_at - self._clock()
        if wait > 0:
            return min(wait, LOOK)
        if not self._taken_over:
            self._take_over()
            self._taken_over = True
        elif self._token is None:
            self._reload(another_history=False)
        else:
            self._moments = [each for each in self._moments if each[0] <= self._token.position]
            self._stream, self._told_at = self._source.watch(self._token), self._clock()
        return 0.0

    def _failed(self, error: Exception, state: State) -> None:
        """Try again later."""
        if self._stream is not None:
            self._stream.cancel()
        self._stream = None
        if self._head is None and self._place is not None:
            with contextlib.suppress(OSError, CqarError):  # tried again after the next attempt
                self._publish(None, 0)  # it is all that there will be for now
        self.failures += 1
        if type(self.error) is not type(error) and not self._interrupted:
            log.warning("%s: %s", state, error)
        self.error = error
        self._tell(state, str(error))
        self._try_at = self._clock() + self._pause * self._random.uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _mend(self) -> None:
        """Write anew what somebody else has overwritten in the head: any process of the host may write there."""
        head, place = self._head, self._place
        if head is None or place is None or not self._shows_the_place():
            return
        if not head.is_sound():
            log.warning("the head was overwritten: publishing it again")
            head.words[_head.SERVER] = 0  # it said whatever
            self._publish(head, self._heard)
            return
        words = ((_head.STATE, TOLD.index(self.state)), (_head.HEARD, self._heard), (_head.LENGTH, self._shown.end))
        for index, value in words:
            if head.words[index] != value:
                log.warning("a word of the head was overwritten: writing it anew")
                head.words[index] = value

    def _tell(self, state: State, trouble: str | None = None) -> None:
        self.state = state
        head = self._head
        if head is not None:
            head.words[_head.STATE] = TOLD.index(state)
            head.trouble = trouble

    # --- who leads --------------------------------------------------------------------------------------------------

    def _stand_by(self) -> float:
        lock = self._folder.try_lock()
        if lock is None and not self._folder.may_lead():
            return LOOK
        if lock is None:
            sign = self._folder.beat()
            seen, times = self._looks
            self._looks = (sign, times + 1 if sign == seen else 0)
            if times * LOOK < FROZEN:
                return LOOK * self._random.uniform(0.8, 1.2)
            log.warning("the syncer of this host, process %d, shows no sign of life: taking over", sign[0])
            lock = self._folder.seize()
        try:
            head = self._folder.head()
        except BaseException:
            lock.release()
            raise
        self._lock, self._looks = lock, ((0, 0), 0)
        self._pause, self._try_at, self._taken_over = FIRST_PAUSE, 0.0, False
        self._look_at = 0.0  # what another one has left, perhaps before the host was started, is looked at first of all
        if head is None:
            self._term, self._succession = int(wall_clock() * 1e6), uuid4().hex
        else:
            self._term, self._succession = head.about.term + 1, head.about.succession
        return 0.0

    def _step_down(self) -> float:
        log.warning("another process took over the replica, or somebody removed its files: beginning again")
        self._drop_jobs()
        if self._head is not None:
            self._head.words[_head.LENGTH] = _head.MOVED  # its readers shall look for the other one's
        self._let_go()
        return LOOK

    def _let_go(self) -> None:
        if self._place is not None:
            self._place.tail.close()
        if self._lock is not None:
            self._lock.release()
        self._lock = self._head = self._place = self._token = self._end = None
        self._waiting.clear()
        self._moments = []
        self.state = State.DISCONNECTED

    def _drop_jobs(self) -> None:
        for each in (
            self._stream,
            self._question,
            self._load,
            *[held[0] for held in (self._compaction, self._look) if held],
        ):
            if each is not None:
                each.cancel()
        self._stream = self._question = self._load = self._compaction = self._look = self._wrong = None

    def forget(self) -> None:
        """Let go of everything in a forked child: lock, feed and jobs are the parent's and go on there."""
        self._stream = self._question = self._load = self._compaction = self._look = self._wrong = None
        self._let_go()

    def _take_over(self) -> None:
        """Go on where the last syncer of this host stopped: all that is whole of its tail becomes a tail of our own."""
        self._folder.sweep()
        head = self._folder.head()
        if head is not None and head.about.term > self._term:
            raise UnavailableError("another process has taken over", reason="DEPOSED")
        left = self._left(head)
        if left is None:
            return
        generation, position, token, frames, history = left
        data = _tail.joined(frames)
        place = _Place(generation, token, self._folder.new_tail(generation, data, history), history)
        if frames:
            token = FeedToken(log_id=token.log_id, position=frames[-1].batch.position, chain=frames[-1].batch.chain)
        self._settle(place, token, data, frames)
        heard = 0
        if head is not None and head.is_timely() and token.position >= head.words[_head.POSITION]:
            heard = head.words[_head.HEARD]
            if heard > self._clock() * 1e9:  # overwritten by whatever
                heard = 0
        log.info("taking over the replica at position %d (generation %d)", token.position, position)
        if head is not None:  # else it is shown when it is level: readers of a head that was lost may be further
            # What the last one kept back waits on. Its words may have been overwritten: then more is shown, or the age is unknown.
            self._next_portion(head.words[_head.POSITION])
            self._publish(head, 0 if self._waiting else heard)  # that word may say anything

    def _left(self, head: Head | None) -> tuple[str, int, FeedToken, list[Frame], int] | None:
        """Give what the last syncer left: by its head, or if that is lost the newest generation with its longest tail.

        Of the last history only: what was undone on the server must not come back.
        """
        tails_of = {name: self._folder.tails(name) for name in self._folder.generations()}
        every = [history_of(tail) for tails in tails_of.values() for tail in tails]
        history = head.about.history if head is not None else max(every, default=0)
        places = [] if head is None else [(head.about.generation, [head.about.tail])]
        for name, tails in tails_of.items():
            if of_it := [tail for tail in tails if history_of(tail) == history]:
                places.append((name, of_it))
        for name, tails in places:
            try:
                generation = self._folder.generation(name)
                contents = [self._folder.tail(name, each).all() for each in tails]
            except (SnapshotError, OSError) as error:
                if is_own(error):
                    raise
                log.warning("left aside: %s", error)
                continue
            token = generation.head
            found = max([_tail.whole(data, token.position)[0] for data in contents], key=len, default=[])
            self._unread = set(generation.unread)
            if head is None:  # readers of the head that was lost may have seen more, or what was undone since
                history = max(history + 1, int(wall_clock() * 1000))
            return name, token.position, token, found, history
        return None

    # --- what is written --------------------------------------------------------------------------------------------

    def _settle(self, place: _Place, token: FeedToken, data: bytes, frames: list[Frame]) -> None:
        """Write there from now on; `frames` are in its tail already, as `data`."""
        if self._place is not None:
            self._place.tail.close()
        self._place, self._token, self._changes = place, token, 0
        self._shown = Step(place.start.position, place.start.chain, 0, 0)
        self._waiting = deque(_tail.steps(data, place.start.position))
        self._wrong = None
        self._said.clear()
        for frame in frames:
            self._count(frame)

    def _count(self, frame: Frame) -> None:
        self._changes += len(frame.batch.changes)
        if self._unread or frame.unread:
            self._unread -= {(change.kind, change.key) for change in frame.batch.changes}
            self._unread.update(frame.unread)

    def _publish(self, previous: Head | None, heard: int, *, least: int = 0) -> None:
        """Show the readers what is being written, to a position at the least. If there are none yet they see all of it.

        `heard` counts if they see all that was there then.
        """
        assert self._place is not None
        assert self._token is not None
        if self._lock is None or not self._lock.held():
            raise UnavailableError("another process has taken over", reason="DEPOSED")
        self._next_portion(self._token.position if previous is None else least)
        end = FeedToken(log_id=self._token.log_id, position=self._shown.position, chain=self._shown.chain)
        about = About(
            log_id=self._token.log_id,
            term=self._term,
            succession=self._succession,
            history=self._place.history,
            generation=self._place.generation,
            tail=self._place.tail.name,
            clock=clock_id(),
            pid=os.getpid(),
            feed=self._feed,
        )
        words = {
            _head.LENGTH: self._shown.end,
            _head.HEARD: heard,
            _head.STATE: TOLD.index(self.state),
            _head.SERVER: self._token.position if previous is None else previous.words[_head.SERVER],
            _head.POSITION: end.position,
            _head.QUARANTINED: len(self._unread),
        }
        self._head = self._folder.publish(about, words, previous)
        self._heard, self._end = heard, end
        self._clean()

    def _clean(self) -> None:
        """Remove what nobody needs any more, unless something is being made that nobody has open yet."""
        if self._head is not None and self._load is None and self._compaction is None and self._shows_the_place():
            self._folder.clean(self._head)

    def _shows_the_place(self) -> bool:
        """Tell whether readers see what is being written, rather than what it has yet to catch up with."""
        place, head = self._place, self._head
        return place is not None and head is not None and head.about.tail == place.tail.name

    def _listen(self, stream: Stream) -> None:
        told = stream.poll(PACE if self._waiting and self._waiting[0].changes <= _tail.PORTION else LOOK)
        if told is None:
            if self._clock() - self._told_at > SILENT:
                raise UnavailableError(f"the server said nothing for {SILENT:g} s", reason="SILENT")
            return
        self._told_at = self._clock()
        self._append(told.frames)
        assert self._token is not None
        if told.head_position is None:
            return
        # The server counts with a clock of its own, which may run faster than this one.
        # A time before this boot is none that a word can hold: it stays unknown until the next message.
        del self._moments[MOMENTS:]
        self._moments.append((told.head_position, max(0, int(min(told.as_of, self._clock()) * 1e9))))
        if not self._shows_the_place() and not self._goes_back(told.head_position):
            return
        head = self._head
        assert head is not None
        head.words[_head.SERVER] = told.head_position
        self._tell_since_when()
        if self._token.position < told.head_position:
            self._tell(State.CATCHING_UP)
            if told.head_position - self._token.position > FAR and not self._patient:
                self._patient = True  # once: there may be no such snapshot
                stream.cancel()
                self._stream = None
                self._reload(another_history=False)
            return
        self._pause, self.error, self._gap, self._patient = FIRST_PAUSE, None, None, False
        if self._clock() - told.as_of > LOOSE and self._clock() >= self._tighten_at:
            # The server took the call, or the message came, long after it was sent: another call tells more.
            self._tighten_at = self._clock() + LOOSE
            stream.cancel()
            self._stream = None
        state = State.CATCHING_UP if self._waiting else State.FRESH  # what is large is made ready for readers first
        if self.state is not state:
            self._tell(state)

    def _tell_since_when(self) -> None:
        """Tell when that which readers see was all that there was: what they do not see yet must not make it look young."""
        head, end = self._head, self._end
        if head is None or end is None or not self._shows_the_place():
            return
        heard = max((moment for position, moment in self._moments if position <= end.position), default=0)
        self._moments = [each for each in self._moments if each[0] > end.position]
        if heard > self._heard:
            self._heard = head.words[_head.HEARD] = heard

    def _is_full(self) -> bool:
        """Report whether the feed has to wait, because the server sends faster than this host makes generations of it."""
        place, full = self._place, self._full
        self._full = place is not None and place.tail.length >= TAIL_MOST
        if self._full:
            self._told_at = self._clock()  # it is not the server that is silent
            if not full:
                what = f"the server sends faster than this host takes it in: the feed waits, at {TAIL_MOST >> 20} MiB"
                log.warning("%s", what)
                self._tell(State.CATCHING_UP, what)
        return self._full

    def _goes_back(self, head_position: int) -> bool:
        """Decide what becomes of a reload that has caught up with the server while what readers see is further.

        If that was undone on the server they go back with it: not before, for it may be undone in part only. If it is not known
        whether it was, the server is asked.
        """
        head, place, token = self._head, self._place, self._token
        assert place is not None
        assert token is not None
        if token.position < head_position:
            return False
        if head is None or place.history != head.about.history:
            self._publish(head, 0)
            return True
        if self._end is not None and self._question is None and self._clock() >= self._ask_at:
            self._ask_at = self._clock() + REPAIR
            self._question = self._source.watch(self._end)
        return False

    def _look_at_the_question(self) -> None:
        question, head, place = self._question, self._head, self._place
        if question is None:
            return
        try:
            if question.poll(0) is None:
                return
        except PositionExpiredError as error:
            if (
                error.reason == "LOG_MISMATCH"
                and head is not None
                and place is not None
                and not self._shows_the_place()
            ):
                log.warning("what readers see was undone on the server")
                self._place = place._replace(history=head.about.history + 1)
        except CqarError:
            pass  # asked again later
        question.cancel()
        self._question = None

    def _append(self, frames: list[Frame]) -> None:
        """Write the batches that follow; what is there already is ignored, and a gap ends the stream."""
        place, token = self._place, self._token
        assert place is not None
        assert token is not None
        fresh: list[Frame] = []
        position = token.position
        gap = False
        for frame in frames:
            if frame.batch.position == position + 1:
                fresh.append(frame)
                position += 1
            elif frame.batch.position > position:
                gap = True
                break
        if fresh:
            data, start = _tail.joined(fresh), place.tail.length
            place.tail.append(data)
            self._waiting += [each._replace(end=start + each.end) for each in _tail.steps(data, token.position)]
            last = fresh[-1].batch
            self._token = FeedToken(log_id=token.log_id, position=last.position, chain=last.chain)
            for frame in fresh:
                self._count(frame)
                if self._contradicts(frame):
                    self._place = place._replace(history=self._head.about.history + 1)  # type: ignore[union-attr]
            self._show()
        if gap:
            again, self._gap = self._gap == position, position
            if again:
                raise PositionExpiredError(f"the feed has a gap after position {position}", reason="FEED_GAP")
            raise UnavailableError(f"the feed has a gap after position {position}: asking again", reason="FEED_GAP")

    def _contradicts(self, frame: Frame) -> bool:
        """Tell whether a batch that a repair comes by shows that what readers see was undone on the server."""
        end = self._end
        if self._head is None or end is None or self._shows_the_place():
            return False
        return frame.batch.position == end.position and frame.batch.chain != end.chain

    def _show(self) -> None:
        """Let the readers see more of the tail, or go over to it once a reload has caught up with what they see."""
        head, place, token, end = self._head, self._place, self._token, self._end
        assert place is not None
        assert token is not None
        if head is None or end is None:
            return
        if self._shows_the_place():
            self._next_portion()
            shown = self._shown
            if shown.position != end.position:
                head.words[_head.POSITION] = shown.position
                self._end = FeedToken(log_id=token.log_id, position=shown.position, chain=shown.chain)
                head.words[_head.QUARANTINED] = len(self._unread)
                head.words[_head.LENGTH] = shown.end
        elif token.position >= end.position:
            same = place.history == head.about.history
            self._publish(head, self._heard if same else 0, least=end.position if same else 0)
        self._tell_since_when()
        if self.state is State.CATCHING_UP and self.error is None and not self._waiting and not self._moments:
            self._tell(State.FRESH)

    def _next_portion(self, least: int = 0) -> None:
        """Move on what readers may see of the tail, to a position at the least.

        They are shown no more at once than a call has time for. A batch that is larger waits for the next generation, and so does
        all after it, unless none can be built.
        """
        moment = self._clock()
        if moment >= self._room_at:
            self._room, self._room_at = _tail.PORTION, moment + PACE
        while self._waiting:
            step = self._waiting[0]
            alone = self._cannot_compact and self._room == _tail.PORTION
            if step.position > least and step.changes > self._room and not alone:
                return
            self._room = max(0, self._room - step.changes)
            self._shown = self._waiting.popleft()

    # --- generations ------------------------------------------------------------------------------------------------

    def _reload(self, *, another_history: bool, beside: bool = False) -> None:
        """Begin to load a snapshot; `beside`: any will do, for one in the place of what is damaged, and the feed goes on."""
        for job in (self._load, self._compaction[0] if self._compaction else None):
            if job is not None:
                job.cancel()
        self._compaction = None
        self._another_history, self._beside = another_history, beside
        if not beside:
            self._moments = []
        if not beside:
            self._tell(State.RESYNCING, None if self.error is None else str(self.error))
        after = None if another_history or beside else self._token
        self._load = self._source.load(after, bare=self._head is None)

    def _look_at_load(self) -> None:
        assert self._load is not None
        try:
            name = self._load.poll()
        except BaseException as error:
            self._load = None
            if not self._beside or not isinstance(error, (CqarError, OSError)):
                raise
            self._say(f"the replica could not be made again, and goes on as it is: {error}")
            self._repair_at = self._clock() + LONGEST_PAUSE
            return
        if name is None:
            return
        self._load = None
        generation = self._folder.generation(name)
        if self._beside and self._goes_on_from(name, generation):
            return
        if self._stream is not None:  # beside which this was loaded; readers wait until the new one has caught up
            self._stream.cancel()
            self._stream = None
            self._tell(State.CATCHING_UP)
        if self._head is None:  # readers of a replica that was removed may still be there
            history = int(wall_clock() * 1000)
        else:
            history = self._head.about.history
            if self._another_history or generation.head.log_id != self._head.about.log_id:
                history += 1
        start = generation.head
        self._settle(_Place(name, start, self._folder.new_tail(name, b"", history), history), start, b"", [])
        self._unread = set(generation.unread)
        self._show()
        self._try_at = 0.0

    def _goes_on_from(self, name: str, generation: Generation) -> bool:
        """Go over to a generation, with what the present tail has after it; return whether the tail leads through there."""
        place, token, start = self._place, self._token, generation.head
        assert place is not None
        assert token is not None
        skipped = start.position - place.start.position
        if (
            not self._shows_the_place()
            or start.log_id != token.log_id
            or skipped < 0
            or start.position > token.position
        ):
            return False
        try:
            data = self._folder.tail(place.generation, place.tail.name).read(0, place.tail.length)
        except FileNotFoundError:
            return False
        frames, _ = _tail.whole(data, place.start.position)
        chain = place.start.chain if not skipped else frames[skipped - 1].batch.chain if skipped <= len(frames) else b""
        if place.start.position + len(frames) != token.position or chain != start.chain:
            return False
        rest = frames[skipped:]
        joined = _tail.joined(rest)
        tail = self._folder.new_tail(name, joined, place.history)
        self._unread = set(generation.unread)
        self._settle(_Place(name, start, tail, place.history), token, joined, rest)
        self._show()
        log.info("the replica was made again at position %d", token.position)
        return True

    def _look_at_compaction(self) -> None:
        if self._compaction is None:
            if self._is_to_compact():
                place = self._place
                assert place is not None
                length = place.tail.length
                self._changes = 0  # until the tail has grown as much again, should this fail
                self._compaction = self._source.compact(place.generation, place.tail.name, length), length
            return
        job, length = self._compaction
        try:
            name = job.poll()
        except (CqarError, OSError) as error:
            self._compaction, self._look_at = None, 0.0  # it may be damaged
            self._cannot_compact, self._compact_at = True, self._clock() + LONGEST_PAUSE
            log.warning("the next generation could not be built, the tail grows on: %s", error)
            return
        if name is None:
            return
        self._compaction, self._cannot_compact = None, False
        self._compact_at = self._clock() + SPARE * job.took
        self._go_over(name, length)

    def _is_to_compact(self) -> bool:
        """Report whether the next generation is due.

        It is at once for a batch that readers cannot be shown otherwise, or for many; for a tail that a call cannot read, so that
        who was away is level at once, only for a small part of the time.
        """
        place = self._place
        if place is None or self._load is not None or (self._cannot_compact and self._clock() < self._compact_at):
            return False
        if place.tail.length >= TAIL_BYTES:
            return True
        if self._head is None:
            return False
        large = sum(step.changes for step in self._waiting) > _tail.PORTION
        if large:
            return True
        due = self._changes >= TAIL_CHANGES or (self._changes > _tail.PORTION and self._clock() >= self._compact_at)
        return due and self._shows_the_place()

    def _go_over(self, name: str, length: int) -> None:
        """Go over to the generation that covers the tail up to a length."""
        place, token = self._place, self._token
        assert place is not None
        assert token is not None
        rest = self._folder.tail(place.generation, place.tail.name).read(length, place.tail.length)
        generation = self._folder.generation(name)
        frames, _ = _tail.whole(rest, generation.head.position)
        if generation.head.position + len(frames) != token.position:
            raise SnapshotError(
                f"{name} and the tail after it do not reach position {token.position}", reason="BAD_TAIL"
            )
        tail = self._folder.new_tail(name, rest, place.history)
        self._settle(_Place(name, generation.head, tail, place.history), token, rest, frames)
        self._show()

    # --- damage -----------------------------------------------------------------------------------------------------

    def _look_at_every_byte(self) -> None:
        """Have all that readers see compared with what was written: now and then, and soon if one of them complains."""
        head, place, moment = self._head, self._place, self._clock()
        if self._look is None:
            if head is None or place is None or self._load is not None or not self._shows_the_place():
                return
            if moment >= (self._soon_at if head.words[_head.COMPLAINTS] else self._look_at):
                head.words[_head.COMPLAINTS] = 0
                self._look = self._source.verify(place.generation, place.tail.name, place.tail.length), place
            return
        job, at = self._look
        wrong: Exception | None = None
        try:
            if job.poll() is None:
                return
        except (CqarError, OSError) as error:
            wrong = error
        self._look = None
        pause = SPARE * job.took
        self._look_at, self._soon_at = moment + max(VERIFY, pause), moment + max(SOON, pause)
        if at != place or (wrong is not None and is_own(wrong)):
            return
        if head is not None and wrong is None:
            if head.words[_head.REBUILDS] != 1:
                self._repair, self._repair_at = REPAIR, min(self._repair_at, moment + REPAIR)
            if self._wrong is not None:
                head.trouble = None
        self._wrong = wrong

    def _say(self, text: str) -> None:
        """Log a warning, once for what readers see."""
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)

    def _repair_what_is_wrong(self) -> None:
        """Begin to make what readers see again if it is damaged, or if a client asks for that; they read on meanwhile."""
        head, wrong = self._head, self._wrong
        if head is None or self._load is not None or self._clock() < self._repair_at or not self._shows_the_place():
            return
        if wrong is None and head.words[_head.REBUILDS] != 1:  # what else there is was written by whatever
            return
        self._say(f"making the replica again: {'a client asks for it' if wrong is None else wrong}")
        self._repair_at = self._clock() + self._repair
        self._repair = min(2 * self._repair, 600.0)
        if wrong is not None:
            head.trouble = f"the replica is damaged, and is being made again: {wrong}"
        self._reload(another_history=False, beside=True)


class Thread:
    """Runs a syncer's steps in a daemon thread until it is stopped."""

    def __init__(self, syncer: Syncer) -> None:
        self.syncer = syncer
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin. Whether this process leads, if nobody else does, is decided when it returns."""
        self.syncer.step()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cqar-sync", args=(self._stopping,), daemon=True)
        self._thread.start()

    def _run(self, stopping: threading.Event) -> None:
        pid = os.getpid()
        while not stopping.is_set() and os.getpid() == pid:
            try:
                wait = self.syncer.step()
            except Exception:  # the thread must not die: it would freeze the replica
                log.exception("the syncer failed; going on")
                wait = LONGEST_PAUSE
            if wait > 0:
                stopping.wait(wait)
        if os.getpid() == pid:
            with contextlib.suppress(OSError):
                self.syncer.stop()

    def stop(self) -> None:
        """End, and give up the lead."""
        self._stopping.set()
        self.syncer.interrupt()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def after_fork(self) -> None:
        """Stand by anew in a child, where the parent's thread does not exist."""
        self.syncer.forget()
        self.start()
