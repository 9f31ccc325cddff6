"""The feed from NATS: batches from a stream of JetStream, times from heartbeats, believed by the rules of the server's feed.

A follower connects, finds the place of its token by bisection, and pulls from there by an ephemeral consumer: what was not asked
for is not sent, so a slow follower loses nothing. What is no message of ours, or does not lead on from where the follower is, is
set aside and counted: anybody who may write there can add it, and only the server itself can say that its history is another. If
something was lost that way, a snapshot is loaded. Any other trouble ends it with UnavailableError, and who follows begins anew with
a new connection; nothing here goes over to another feed. Times count from the start of a publisher's session, which is asked for it
once.

One event loop in the thread of the feed runs everything, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import NamedTuple
from uuid import uuid4

import msgspec
import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from cqar import broker
from cqar.client._feed import frames
from cqar.client._proof import Marks, Proof, expired, mismatch
from cqar.client._sync import LOOSE, Told
from cqar.client._tail import Frame
from cqar.client._view import now
from cqar.errors import CqarError, InvalidError, PositionExpiredError, UnavailableError
from cqar.model import FeedToken
from cqar.v1.replication_pb2 import Heartbeat, WatchChangesResponse

log = logging.getLogger(__name__)

PULL = 256  # messages that are asked for at once, and bytes
PULL_BYTES = 8 << 20
PULL_SECONDS = 30.0
IDLE = 2.0  # seconds between two signs of life of a consumer
TICK = 1.0  # seconds between two looks around, by which these are counted:
QUIET = 7  # without a sign of life after which NATS is gone
SILENT = 15  # without anything to tell: three heartbeats of a publisher
STUCK = 10  # behind a publisher's head without a message
CALL_SECONDS = 5.0
ASK_AGAIN = 10.0  # seconds between two questions to the server
RECALIBRATE = 600.0  # seconds; two clocks may drift apart by a tenth of a second meanwhile

MOST_LOST = 1_000  # messages of others that the search for the token's place passes over, one by one

_PUBLISHES = "does a server run with --feed on it?"
_NO_MESSAGE = 10037  # JetStream's code for a sequence that is not there (any more)


class _Beat(NamedTuple):
    """A heartbeat: where the head was, how many seconds after its publisher's session began."""

    session: str
    head: int
    seconds: float
    stored: bool  # told with batches, who knows when


class _Session(NamedTuple):
    """When a publisher's session began, at the earliest, on this host's clock."""

    began: float
    asked: float


class _Known(NamedTuple):
    """Where the head was, and a time at which it was no further."""

    head: int
    as_of: float


class Follower:
    """Reads the feed after a token. To be read once."""

    def __init__(
        self,
        where: broker.Address,
        after: FeedToken,
        *,
        ask: Callable[[FeedToken], None],
        head: Callable[[], FeedToken] | None = None,
    ) -> None:
        """`ask` asks the server itself whether its feed goes on from a token; `head` where it is, to know a time at once."""
        self._where, self._ask, self._head = where, ask, head
        self._proof = Proof(after)
        self._reached = now()  # when the history was surely as far as `at`
        self._ask_at, self._why = 0.0, ""
        self._strange = self._seen = False  # whether the stream was found to have messages of another log, or of ours
        self.set_aside = 0  # messages and heartbeats that were none, or did not fit
        self._doubt = False  # whether the server is still to be asked if its history is another
        self._known: _Known | None = None
        self._beat: _Beat | None = None  # until its session is calibrated
        self._sessions: dict[str, _Session] = {}
        self._calling: set[str] = set()
        self._quiet = self._silent = self._stuck = (
            0  # ticks, so that a process that was stopped does not blame the others
        )
        self._pulls = self._pulled = self._delivered = 0
        self._due: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()  # bounded by what was pulled
        self._beside: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._failure: CqarError | None = None
        # Not epoll, which a forked child shares: forgetting this loop it would take the parent's sockets out of it.
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())

    # --- life ---------------------------------------------------------------------------------------------------------

    def read(self, put: Callable[[Told], None]) -> None:
        """Put what comes; raises PositionExpiredError if it cannot go on from the token, UnavailableError for any trouble."""
        self._put = put
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._follow())
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure from None
        except PositionExpiredError as error:
            if error.reason == "LOG_MISMATCH":
                self._confirm(error)
            raise
        except nats.js.errors.NotFoundError as error:
            raise self._trouble("NO_STREAM", f"it has no stream {broker.FEED_STREAM}; {_PUBLISHES}") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise self._trouble("BROKER", f"NATS does not answer as it should: {said}") from error
        except (InvalidError, DecodeError) as error:
            what = f"its stream {broker.FEED_STREAM} holds what no server of ours has written: {error}"
            raise self._trouble("FEED_FORMAT", what) from error

    def cancel(self) -> None:
        """End it."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self, failure: CqarError | None = None) -> None:
        if not self._stopped:
            self._stopped, self._failure = True, failure
            if self._task is not None:
                self._task.cancel()

    def _trouble(self, reason: str, what: str) -> UnavailableError:
        return UnavailableError(f"the feed at {self._where.shown}: {what}", reason=reason)

    def _confirm(self, error: PositionExpiredError) -> None:
        """Raise UnavailableError if the server itself goes on from there: then it is the stream that is not the server's.

        Without it a stream that is out of date, or another registry's, would have snapshots loaded for ever.
        """
        try:
            self._ask(self._proof.at)
        except PositionExpiredError:
            return
        except CqarError as trouble:
            log.warning("the server cannot be asked whether that is so: %s", trouble)
            return
        why = error.message.removesuffix("; load a snapshot")
        raise self._trouble(
            "ANOTHER_FEED", f"{why}; the server itself has it as it is here: is this its NATS?"
        ) from error

    async def _follow(self) -> None:
        self._task = asyncio.current_task()
        if self._stopped:
            return
        self._nats = await broker.connected(self._where, "cqar-feed", on_lost=self._lost, on_error=self._refused)
        try:
            await self._nats.subscribe(broker.HEARTBEATS, cb=partial(self._later, self._hear), pending_msgs_limit=0)
            await self._begin(self._nats.jetstream())
            self._do_beside(self._tick())
            if self._head is not None:
                self._do_beside(self._look_at_the_server(self._head))
            while True:
                await (await self._due.get())()
        finally:
            self._stopped = True
            with contextlib.suppress(Exception):  # of a connection that is given up
                await asyncio.wait_for(self._nats.close(), 1)

    async def _lost(self) -> None:
        self._stop(self._trouble("BROKER_LOST", "the connection to NATS was lost"))

    async def _refused(self, error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            self._stop(self._trouble("BROKER_RIGHTS", f"this account may not do what a follower does: {error}"))

    async def _later(self, handle: Callable[[Msg], Awaitable[None]], message: Msg) -> None:
        """Have a message handled in its turn."""
        self._due.put_nowait(partial(handle, message))

    def _do_beside(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    # --- where it begins ----------------------------------------------------------------------------------------------

    async def _begin(self, stream: JetStreamContext) -> None:
        """Have a consumer begin with the message that shows whether the token is of the stream's history."""
        state = (await stream.stream_info(broker.FEED_STREAM)).state
        first = state.last_seq + 1
        if state.messages:
            first = await self._place(stream, state.first_seq, state.last_seq)
        self._consumer = f"cqar-{uuid4().hex}"
        config = ConsumerConfig(
            name=self._consumer,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            num_replicas=1,
            inactive_threshold=2 * PULL_SECONDS,
        )
        await stream.add_consumer(broker.FEED_STREAM, config)
        self._inbox = self._nats.new_inbox()
        arrive = partial(self._later, self._arrive)
        # No limits: nats-py would drop what is beyond them, and no more comes than was pulled.
        await self._nats.subscribe(f"{self._inbox}.*", cb=arrive, pending_msgs_limit=0, pending_bytes_limit=0)
        await self._pull()

    async def _place(self, stream: JetStreamContext, first: int, last: int) -> int:
        """Give the sequence of the last message that follows a position not beyond the token's; of its first part.

        From the end backwards in growing steps, for as a rule it is near, then by bisection.
        """
        low, high, step = first, last + 1, 1
        found = None
        while low < high:
            sequence = max(low, high - step) if found is None else (low + high) // 2
            step *= 2
            at, marks = await self._ours(stream, sequence, low)
            if marks is None:  # it has grown too old meanwhile, or nothing of ours is there
                low = sequence + 1
            elif marks.after.position > self._proof.at.position:
                high = at
            else:
                found, low = at - marks.number + 1, sequence + 1
        if found is None:
            if self._strange and not self._seen:
                raise mismatch("the stream is of another log: the database was replaced", self._proof.at)
            raise expired(self._proof.at)
        return found

    async def _ours(self, stream: JetStreamContext, sequence: int, low: int) -> tuple[int, Marks | None]:
        """Return the sequence and the marks of the nearest message of our log from one on backwards; no marks if there is none."""
        while sequence >= low:
            try:
                marks = await self._marks_at(stream, sequence)
            except InvalidError as error:
                self._lay_aside(f"message {sequence}: {error}")
            else:
                if marks is None or marks.log_id == self._proof.at.log_id:
                    self._seen = self._seen or marks is not None
                    return sequence, marks
                self._strange = True
                self._lay_aside(f"message {sequence}: of another log")
            if self.set_aside > MOST_LOST:
                break
            sequence -= 1
        return sequence, None

    async def _marks_at(self, stream: JetStreamContext, sequence: int) -> Marks | None:
        try:
            return Marks((await stream.get_msg(broker.FEED_STREAM, sequence)).headers)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise

    # --- what comes ---------------------------------------------------------------------------------------------------

    async def _pull(self) -> None:
        self._pulls, self._pulled = self._pulls + 1, 0
        request = {
            "batch": PULL,
            "max_bytes": max(PULL_BYTES, 2 * self._nats.max_payload),
            "expires": int(PULL_SECONDS * 1e9),
            "idle_heartbeat": int(IDLE * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{broker.FEED_STREAM}.{self._consumer}"
        await self._nats.publish(subject, msgspec.json.encode(request), reply=f"{self._inbox}.{self._pulls}")

    async def _arrive(self, message: Msg) -> None:
        self._quiet = 0
        if message.subject.startswith(self._inbox):
            await self._look_at_status(message)
            return
        self._delivered = message.metadata.sequence.consumer
        self._pulled += 1
        if self._pulled == PULL:
            await self._pull()
        await self._take(message)

    async def _look_at_status(self, message: Msg) -> None:
        """Look at what NATS says of a pull: alive, over, or failed."""
        if message.subject != f"{self._inbox}.{self._pulls}":  # of one that has ended
            return
        told = message.headers or {}
        status, description = told.get("Status"), told.get("Description", "")
        if status == "100":
            if int(told.get("Nats-Last-Consumer", 0)) > self._delivered:
                raise self._trouble("FEED_GAP", "a message was lost on the way: asking again")
        elif status == "408" or description in {"Batch Completed", "Message Size Exceeds MaxBytes"}:
            await self._pull()
        else:
            raise self._trouble("BROKER_CONSUMER", f"NATS has ended the consumer: {status} {description}".strip())

    async def _take(self, message: Msg) -> None:
        """Take a message of the stream."""
        metadata = message.metadata
        held = self._proof.holds
        try:
            marks = Marks(message.headers)
            whole = self._proof.whole(marks, metadata.sequence.stream, message.data)
            if whole is None:
                return
            told = WatchChangesResponse.FromString(whole)
            fresh = self._proof.take(marks, told.batches)
        except (InvalidError, DecodeError) as error:
            self._lay_aside(f"message {metadata.sequence.stream}: {error}")
            return
        except PositionExpiredError as error:
            if error.reason != "LOG_MISMATCH":
                raise
            await self._doubted(
                f"message {metadata.sequence.stream}: {error.message.removesuffix('; load a snapshot')}"
            )
            return
        self._stuck = 0
        if fresh:
            self._reached = now()
        if fresh or self._proof.holds != held:
            self._tell(frames(fresh))
        if metadata.num_pending == 0:
            await self._consider(marks.session, told.heartbeat, stored=True)

    def _tell(self, came: list[Frame]) -> None:
        """Tell the syncer what came, with the head as far as it is known.

        Not with an old time, unless that is all there is to tell: the syncer would have the whole feed begin anew for a better one.
        """
        known, position = self._known, self._proof.at.position
        if known is not None and (not came or known.head > position or now() - known.as_of < LOOSE):
            self._put(Told(came, max(known.head, position), known.as_of))
        elif came:
            self._put(Told(came))
        self._silent = 0

    # --- times --------------------------------------------------------------------------------------------------------

    async def _hear(self, message: Msg) -> None:
        """Hear a heartbeat."""
        headers, at = message.headers or {}, self._proof.at
        if headers.get(broker.LOG) != at.log_id:
            await self._doubted("a heartbeat of another log")
            return
        try:
            told = WatchChangesResponse.FromString(message.data).heartbeat
            upto = broker.marked(at.log_id, headers[broker.UPTO]) if broker.UPTO in headers else None
        except (InvalidError, DecodeError) as error:
            self._lay_aside(f"a heartbeat: {error}")
            return
        if upto is not None and upto.position == at.position:
            if upto != at:
                await self._doubted("a heartbeat of another history")
                return
            self._proof.holds = True  # the log is where the follower is: nothing more has to come to show it
        await self._consider(headers.get(broker.SESSION, ""), told, stored=False)

    def _lay_aside(self, what: str) -> None:
        """Count what is no message of ours; the log has the first one, and then ever fewer."""
        self.set_aside += 1
        if self.set_aside & (self.set_aside - 1) == 0:
            log.warning("the feed at %s: set aside, %d by now: %s", self._where.shown, self.set_aside, what)

    async def _doubted(self, what: str) -> None:
        """Set aside what contradicts the follower, unless the server says so too: then PositionExpiredError ends the feed."""
        self._lay_aside(what)
        self._doubt = not await self._server_agrees()

    async def _consider(self, session: str, told: Heartbeat, *, stored: bool) -> None:
        if told.HasField("as_of_ms"):
            self._beat = _Beat(session, told.head_position, told.as_of_ms / 1000, stored)
            await self._look_at_the_beat()

    async def _look_at_the_beat(self) -> None:
        """Believe the last heartbeat once it is known when its session began."""
        beat = self._beat
        if beat is None:
            return
        session = self._sessions.get(beat.session)
        if (session is None or now() - session.asked > RECALIBRATE) and beat.session not in self._calling:
            self._calling.add(beat.session)
            self._do_beside(self._calibrate(beat.session))
        if session is None:
            return
        self._beat = None
        as_of = min(session.began + beat.seconds, now())  # a publisher's clock may run faster than this one
        if not beat.stored or now() - as_of < LOOSE:
            await self._believe(_Known(beat.head, as_of))

    async def _calibrate(self, session: str) -> None:
        """Ask a publisher how long ago its session began: on this clock, no earlier than before the question less that long."""
        asked = now()
        try:
            answer = await self._nats.request(f"{broker.CALL}.{session}", timeout=CALL_SECONDS)
            ago = float(answer.data) / 1000
            if not 0 <= ago < 1e10:
                raise ValueError(f"{ago} s is no time")
            self._sessions[session] = _Session(asked - ago, asked)
        except (nats.errors.Error, ValueError) as error:  # asked again at its next heartbeat
            log.debug("the session %s does not answer: %r", session, error)
        else:
            self._due.put_nowait(self._look_at_the_beat)
        finally:
            self._calling.discard(session)

    async def _look_at_the_server(self, head: Callable[[], FeedToken]) -> None:
        """Ask the server where it is: the first heartbeat may be seconds away."""
        asked = now()
        try:
            token = await asyncio.to_thread(head)
        except CqarError:  # it may be away
            return
        self._due.put_nowait(partial(self._heard_of, token, asked))

    async def _heard_of(self, token: FeedToken, asked: float) -> None:
        at = self._proof.at
        if token.log_id == at.log_id and token.position >= at.position:
            self._proof.holds = self._proof.holds or token == at
            await self._believe(_Known(token.position, asked))

    async def _believe(self, known: _Known) -> None:
        at = self._proof.at
        if known.as_of > self._reached and known.head < at.position:
            await self._doubted(f"the server is said to be at position {known.head} only, and was at {at.position}")
            return
        if self._known is not None and known.as_of < self._known.as_of:
            return  # the late word of a publisher that was replaced
        self._known = known
        if self._proof.holds or await self._server_agrees():
            self._tell([])

    async def _server_agrees(self) -> bool:
        """Ask the server about a token that the stream does not reach yet, or reaches no longer."""
        if now() < self._ask_at:
            return False
        self._ask_at = now() + ASK_AGAIN
        try:
            await asyncio.to_thread(self._ask, self._proof.at)
        except PositionExpiredError:
            raise
        except CqarError as error:
            self._why = f", and the server cannot be asked: {error}"
            return False
        self._proof.holds = True
        return True

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._due.put_nowait(self._look_around)

    async def _look_around(self) -> None:
        """Give up what says nothing any more."""
        self._quiet += 1
        self._silent += 1
        self._stuck += 1
        if self._quiet > QUIET:
            raise self._trouble("BROKER_SILENT", "NATS gives no sign of life")
        known, at = self._known, self._proof.at
        if self._doubt and await self._server_agrees():
            self._doubt = False
        if known is not None and self._stuck > STUCK:
            if self.set_aside and (known.head > at.position or not self._proof.holds):
                if self._proof.end is None:
                    what = f"nothing of its stream leads on from position {at.position}; is this its NATS?"
                    raise self._trouble("ANOTHER_FEED", what)
                raise expired(at)
            if not self._proof.holds:
                raise self._trouble("FEED_BEHIND", f"its stream does not tell of position {at.position}{self._why}")
            if known.head > at.position:
                if self._proof.end is None:
                    raise expired(at)
                what = f"its stream ends at position {at.position}, and the server is at {known.head}; {_PUBLISHES}"
                raise self._trouble("FEED_BEHIND", what)
        if self._silent > SILENT:
            what = "no heartbeat" if self._beat is None else "no answer of the server whose heartbeats come"
            raise self._trouble("FEED_SILENT", f"{what} for {SILENT * TICK:g} s; {_PUBLISHES}")
