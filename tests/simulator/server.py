"""The simulated server: a log that is trimmed, snapshots, a database that is restored, and a network that loses and repeats.

It tells its head and since when as the real one does: by what it read from the log last, which may be a while ago, in milliseconds
since it took the stream. So what a follower may conclude from that is checked together with the follower.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from cqar import model
from cqar.client import _tail
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._sync import Told
from cqar.client._tail import Frame
from cqar.errors import CqarError, PositionExpiredError, SnapshotError, UnavailableError
from cqar.model import KINDS, Batch, Change, FeedToken, Op
from tests.simulator.folder import Disk, Folder, Steps
from tests.simulator.world import Keys, Made, MemoryGeneration, MemoryIndex, State, doubtful, first_records
from tests.worlds import LOG_ID, Story, World

HEARTBEAT = 1.0
LARGE = 0.08  # part of the writes that are imports
CRITICAL = model.Severity.CRITICAL


class Weather(NamedTuple):
    """How often, in parts of one, something goes wrong at each occasion."""

    killed: float  # at a step of a process
    frozen: float
    overtaken: float  # put aside for a moment
    lost: float  # a message
    repeated: float
    reordered: float
    late: float  # by seconds
    cut: float
    unreadable: float  # a batch
    failed: float  # a job
    events: float  # of the larger sort, in each turn


CALM = Weather(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class Host(Protocol):
    """What the server needs of the simulation."""

    now: float
    random: random.Random
    weather: Weather

    def note(self, text: str) -> None:
        """Write into the trace."""


class Caller(Steps, Protocol):
    """A process that calls the server."""

    @property
    def dead(self) -> bool:
        """Whether it was killed."""

    def clock(self) -> float:
        """Give the time of its host."""

    def pause(self, seconds: float) -> None:
        """Have the next step wait, unless something comes."""

    def wake(self, moment: float) -> None:
        """Have the next step wait no longer than that."""


class Server:
    """A registry with its log."""

    def __init__(self, host: Host) -> None:
        self._host, self._random = host, host.random
        self.log_id, self.history = LOG_ID, 0
        world = World(first_records())
        records: Any = {kind: dict(held) for kind, held in world.records.items()}
        self.states: dict[bytes, State] = {}
        self.lines: list[dict[int, State]] = []  # of each history, by position
        self.log: dict[int, Frame] = {}
        self.head = self._root(State(self._token(1), records, frozenset(), 0))
        self._story = Story(self._random.getrandbits(32), world)
        self.snapshots: list[tuple[FeedToken, Made]] = []
        self.warned: dict[str, float] = {}  # since when an asset has had a critical flag without a break
        self.truth: dict[bytes, Any] = {self.head.token.chain: records}
        self.up = True
        self.prunes = False  # whether undone snapshots are not shown to anybody
        self._ring, self._ring_at = self.head, host.now
        self._read_at, self._beaten_at = host.now, host.now
        self.streams: list[Stream] = []
        self.export()

    def _token(self, position: int) -> FeedToken:
        chain = self.history.to_bytes(8, "big") + position.to_bytes(8, "big")
        return FeedToken(log_id=self.log_id, position=position, chain=chain)

    def _root(self, state: State) -> State:
        self.states[state.token.chain] = state
        self.lines.append({state.position: state})
        return state

    # --- what happens to it -------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write something, sometimes more at once than a reader applies in one call."""
        batch = self._warn() if self._random.random() < 0.15 else self._story.step()
        if self._random.random() < LARGE:
            several = [batch, *[self._story.step() for _ in range(self._random.randrange(3, 8))]]
            changes = tuple([change for each in several for change in each.changes])
            batch = msgspec.structs.replace(batch, changes=changes)
        token = self._token(self.head.position + 1)
        batch = msgspec.structs.replace(batch, position=token.position, chain=token.chain)
        frame = self._frame(batch)
        self.truth[token.chain] = {kind: dict(held) for kind, held in self._story.world.records.items()}
        self.head.left_at = self._host.now
        state = self.head.after(frame.batch, frozenset(frame.unread), token, self.history)
        self.states[token.chain] = self.lines[-1][token.position] = self.head = state
        self.log[token.position] = frame
        self._note_warnings()
        self._host.note(
            f"commit {token.position} {[(c.op.value, c.kind, c.key[-4:]) for c in batch.changes]} {frame.unread}"
        )

    def _warn(self) -> Batch:
        assets = self._story.world.all("asset")
        if not assets:
            return self._story.step()
        asset = self._random.choice(assets)
        assert isinstance(asset, model.Asset)
        flag = model.QualityFlag(
            flag_id=self._story._id(),
            asset_id=asset.asset_id,
            flag_type=model.FlagType.SCAM,
            severity=CRITICAL,
            source="simulator",
            reason="of the simulator",
        )
        return self._story.world.commit([flag])

    def _frame(self, batch: Batch) -> Frame:
        """Give a batch as `frame_from_wire` would: what cannot be read is removed and named."""
        if self._random.random() >= self._host.weather.unreadable:
            return Frame(batch)
        keys = [(change.kind, change.key) for change in batch.changes]
        puts = [c for c in batch.changes if c.op is Op.PUT and keys.count((c.kind, c.key)) == 1]
        if not puts:
            return Frame(batch, (("instrument", "x"),))
        bad = self._random.choice(puts)
        instead = Change(op=Op.REMOVE, kind=bad.kind, key=bad.key)
        if isinstance(bad.record, model.QualityFlag) and self._random.random() < 0.5:  # it can be read in part
            instead = msgspec.structs.replace(bad, record=doubtful(bad.record))
        changes = tuple([instead if c is bad else c for c in batch.changes])
        return Frame(msgspec.structs.replace(batch, changes=changes), ((bad.kind, bad.key),))

    def _note_warnings(self) -> None:
        flags = self._story.world.records["quality_flag"].values()
        warned = {
            f.asset_id for f in flags if isinstance(f, model.QualityFlag) and f.is_active and f.severity >= CRITICAL
        }
        self.warned = {asset: self.warned.get(asset, self._host.now) for asset in sorted(warned)}

    def export(self) -> None:
        """Publish a snapshot of the present state and remove those that the log no longer leads to."""
        if self.prunes:
            self.snapshots = [each for each in self.snapshots if self._is_past(each[0])]
        made = Made(self.head.token, MemoryIndex(self.head.records), self.head.unread)
        self.snapshots = [*self.snapshots, (self.head.token, made)][-3:]
        self._host.note(f"snapshot {self.head.position}")

    def trim(self) -> None:
        """Remove the log before the oldest snapshot that can go on from it."""
        past = [token.position for token, _ in self.snapshots if self._is_past(token)]
        if past:
            kept = self._random.choice(past[-2:])
            self.log = {position: frame for position, frame in self.log.items() if position > kept}
            self._host.note(f"trim to {kept}")

    def _is_past(self, token: FeedToken) -> bool:
        state = self.lines[-1].get(token.position)
        return state is not None and state.token == token

    def restore(self) -> None:
        """Go back to an earlier state, as from a backup: the same log, or as a database of its own."""
        line = self.lines[-1]
        state = line[self._random.choice(list(line))]
        self.head.left_at = min(self.head.left_at, self._host.now)
        self.history += 1
        another = self._random.random() < 0.4
        truth = self.truth[state.token.chain]
        if another:
            self.log_id = f"00000000-0000-4000-8000-{self.history + 1:012d}"
            state = self._root(State(self._token(state.position), state.records, state.unread, self.history))
            self.log = {}
        else:
            past = {position: each for position, each in line.items() if position <= state.position}
            for each in past.values():
                each.newest = self.history
            self.lines.append(past)
            self.log = {position: frame for position, frame in self.log.items() if position <= state.position}
        state.left_at = math.inf
        self.head = state
        self.truth[state.token.chain] = truth
        world = World(position=state.position)
        world.records = {kind: dict(held) for kind, held in truth.items()}
        self._story = Story(self._random.getrandbits(32), world)
        self._note_warnings()
        self._host.note(f"restored to {state.position}, {'another log' if another else 'the same log'}")
        self._end("LOG_MISMATCH")
        if self.prunes or another:
            self.export()

    def stop(self) -> None:
        """Go away."""
        self.up = False
        self._host.note("server down")
        self._end(None)

    def start(self) -> None:
        """Come back."""
        self.up = True
        self._host.note("server up")
        self._ring, self._ring_at = self.head, self._host.now

    def _end(self, reason: str | None) -> None:
        for stream in self.streams:
            error: CqarError = UnavailableError("the server ended the feed")
            if reason is not None and stream.taken is not None:
                error = PositionExpiredError("the database was restored", reason=reason)
            stream.end(error)
        self.streams = []
        self._ring, self._ring_at = self.head, self._host.now

    # --- the feed -----------------------------------------------------------------------------------------------------

    def tick(self, *, read: bool) -> None:
        """Look at the log, or not, and tell the streams."""
        if not self.up:
            return
        now = self._host.now
        if read:
            self._ring, self._ring_at = self.head, now
        beat = read and now - self._beaten_at >= HEARTBEAT
        if beat:
            self._beaten_at = now
        self.streams = [stream for stream in self.streams if not stream.closed and not stream.caller.dead]
        for stream in self.streams:
            self._serve(stream, beat=beat)
        self.streams = [stream for stream in self.streams if not stream.closed]

    def _serve(self, stream: Stream, *, beat: bool) -> None:
        if stream.taken is None:
            error = self._refusal(stream.after)
            if error is not None:
                stream.end(error)
                return
            if stream.after.position > self._ring.position:
                return  # wait until this has been read too
            stream.taken = self._host.now
            beat = True
        if beat:
            self._send(stream, [])
        while stream.sent < self._ring.position:
            some = [
                self.log[position]
                for position in range(stream.sent + 1, min(self._ring.position, stream.sent + 3) + 1)
                if position in self.log
            ]
            if not some or some[0].batch.position != stream.sent + 1:
                stream.end(PositionExpiredError("trimmed", reason="POSITION_EXPIRED"))
                return
            stream.sent = some[-1].batch.position
            self._send(stream, some)

    def _refusal(self, after: FeedToken) -> CqarError | None:
        if after.log_id != self.log_id or after.position > self.head.position:
            return PositionExpiredError("another log", reason="LOG_MISMATCH")
        if after.position < self.head.position and after.position + 1 not in self.log:
            return PositionExpiredError("trimmed", reason="POSITION_EXPIRED")
        return None if self._is_past(after) else PositionExpiredError("another history", reason="LOG_MISMATCH")

    def _send(self, stream: Stream, frames: list[Frame]) -> None:
        assert stream.taken is not None
        as_of = math.floor((self._ring_at - stream.taken) * 1000) / 1000
        stream.send(Told(frames, self._ring.position, stream.began + as_of))


class Stream:
    """An open feed, and the network on the way."""

    def __init__(self, host: Host, caller: Caller, after: FeedToken) -> None:
        self._host, self.caller, self.after, self.sent = host, caller, after, after.position
        self.began = caller.clock()  # before the call
        self.taken: float | None = None
        self.closed = False
        self._pending: list[tuple[float, Told]] = []
        self._error: CqarError | None = None

    def send(self, told: Told) -> None:
        """Put a message on its way."""
        host = self._host
        weather, chance = host.weather, host.random.random
        if self.closed or (weather.lost and chance() < weather.lost):
            host.note(f"lost {_brief(told)}")
            return
        if weather.cut and chance() < weather.cut:
            self.end(UnavailableError("the connection was cut"))
            return
        delay = chance() * 0.02
        if weather.late and chance() < weather.late:
            delay = chance() * 12.0
        arrives = max(host.now + delay, self._pending[-1][0] if self._pending else 0.0)
        self._pending.append((arrives, told))
        if weather.repeated and chance() < weather.repeated:
            self._pending.append((arrives, told))
        if len(self._pending) > 1 and weather.reordered and chance() < weather.reordered:
            (first, one), (second, other) = self._pending[-2:]
            self._pending[-2:] = [(first, other), (second, one)]
        self.caller.wake(self._pending[0][0])

    def end(self, error: CqarError) -> None:
        """End it from the server's side: what is on its way still arrives."""
        self._error, self.closed = error, True
        self.caller.wake(0.0)

    def poll(self, timeout: float) -> Told | None:
        """Give what came, or None; then the next step waits."""
        self.caller.point("poll")
        moment = self._host.now
        if self._pending and self._pending[0][0] <= moment:
            return self._pending.pop(0)[1]
        if self._error is not None and not self._pending:
            raise self._error
        self.caller.pause(min(timeout, self._pending[0][0] - moment if self._pending else timeout))
        return None

    def cancel(self) -> None:
        """End it."""
        self.closed = True


def _brief(told: Told) -> str:
    return f"{[frame.batch.position for frame in told.frames]} head {told.head_position}"


class Source:
    """The server and what publishes it, as one process sees them."""

    def __init__(self, host: Host, server: Server, disk: Disk, caller: Caller, *, directly: bool) -> None:
        """`directly`: snapshots are read from where they are published, without asking which of them were undone."""
        self._host, self._server, self._disk, self._caller, self._directly = host, server, disk, caller, directly

    def watch(self, after: FeedToken) -> Stream:
        """Follow the feed from a token on."""
        self._caller.point("watch")
        stream = Stream(self._host, self._caller, after)
        if self._server.up:
            self._server.streams.append(stream)
        else:
            stream.end(UnavailableError("the server is away"))
        self._host.note(f"{self._caller.number} watches after {after.position}")
        return stream

    def load(self, after: FeedToken | None, *, bare: bool) -> Job:  # noqa: ARG002  (without a server there is nothing here)
        """Build the generation of the newest snapshot; after a token only of one beyond it."""

        def build() -> Made:
            server = self._server
            if not server.up:
                raise UnavailableError("the server is away")
            beyond = after.position if after is not None and after.log_id == server.log_id else -1
            for token, made in reversed(server.snapshots):
                if token.log_id != server.log_id or not (self._directly or server._is_past(token)):
                    continue
                if token.position > beyond:
                    return made
                break
            raise UnavailableError(f"no snapshot beyond position {beyond} yet", reason="NO_NEWER_SNAPSHOT")

        return Job(self._host, self._disk, self._caller, build, "load")

    def verify(self, generation: str, tail: str, length: int) -> Job:
        """Look at every byte of a generation and of a part of its tail."""

        def look() -> None:
            place = self._disk.generations.get(generation)
            file = None if place is None else place.tails.get(tail)
            if place is None or place.damaged or file is None or _tail.sound(bytes(file.data[:length])) != length:
                raise SnapshotError(f"{generation}: damaged or gone", reason="BAD_GENERATION")
            if self._disk.ill:
                raise OSError(5, "Input/output error")

        return Job(self._host, self._disk, self._caller, look, "verify")

    def compact(self, generation: str, tail: str, length: int) -> Job:
        """Build the generation that a generation and a part of its tail amount to."""
        folder: Any = Folder(self._disk, self._caller)

        def build() -> Made:
            data = folder.tail(generation, tail).all()[:length]
            base: MemoryGeneration = folder.generation(generation)
            frames, end = _tail.whole(data, base.head.position)
            if not frames or end != length:
                raise SnapshotError("cannot be read to its end", reason="BAD_TAIL")
            replica = Replica(base, Recent(1))
            for frame in frames:
                replica.apply(frame.batch, frame.unread)
            records: Any = {
                kind: {
                    key: record
                    for key in sorted({*base.index.keys(kind), *replica.overlay.changed(kind)})
                    if (record := replica.get(kind, key)) is not None
                }
                for kind in KINDS
            }
            return Made(replica.head, MemoryIndex(records), Keys(replica.unread))

        return Job(self._host, self._disk, self._caller, build, "compact")


class Job:
    """Something that takes a few looks."""

    took = 0.0

    def __init__(self, host: Host, disk: Disk, caller: Caller, build: Callable[[], Made | None], what: str) -> None:
        self._host, self._disk, self._caller, self._build, self._what = host, disk, caller, build, what
        self._looks = host.random.randrange(4)
        self._cancelled = False
        self._error: Exception | None = None
        self._name: str | None = None

    def poll(self) -> str | None:
        """Give the name of the generation that is built, None while it is not; raises the failure."""
        self._caller.point(f"look at {self._what}")
        if self._looks > 0:
            self._looks -= 1
            return None
        if self._error is None and self._name is None:
            try:
                if self._host.random.random() < self._host.weather.failed:
                    raise self._host.random.choice([OSError(12, "Cannot allocate memory"), SnapshotError("damaged")])
                made = self._build()
                if made is None:
                    self._name = "whole"
                else:
                    self._disk.has_room()
                    self._name = self._disk.publish(made)
            except (CqarError, OSError) as error:
                self._error = error
            self._host.note(f"{self._caller.number} {self._what}: {self._name or self._error}")
            self._caller.point(f"{self._what} done")
        if self._error is not None:
            raise self._error
        return self._name

    def cancel(self) -> None:
        """End it."""
        self._cancelled = True
