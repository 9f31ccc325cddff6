"""A feed with gaps, repetitions and nonsense, and a server whose past is another one: resumed, reloaded, never mixed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cqar import model, snapshot, wire
from cqar.client import Client, connect
from cqar.errors import NotReadyError, UnavailableError
from cqar.model import Batch
from cqar.v1 import types_pb2
from tests.faults.replica.digest import of_record, of_replica
from tests.faults.replica.host import some, until
from tests.faults.replica.liar import Broadcaster, Liar
from tests.worlds import NOW, World

pytestmark = pytest.mark.timeout(60)


def asset(number: int, name: str = "name") -> model.Asset:
    """Give an asset."""
    key = str(UUID(int=number, version=4))
    return model.Asset(asset_id=key, symbol=f"S{number}", name=name, asset_type=model.AssetType.TOKEN)


def digest(world: World) -> str:
    """Give the digest of a world."""
    parts = [of_record(kind, key, each) for kind, held in world.records.items() for key, each in held.items()]
    return f"{sum(parts) % (1 << 128):032x}"


def level(client: Client, liar: Liar) -> bool:
    """Tell whether a client shows the world, and is where it is."""
    client._refresh()
    still = client._replica.still()
    here = (still.head.log_id, still.position) == (liar.log_id, liar.head.position)
    return here and of_replica(still) == digest(liar.world)


@pytest.fixture
def liar(request: pytest.FixtureRequest) -> Iterator[Liar]:
    """Yield a server with a log of three transactions, whose feed comes over gRPC unless the test asks for NATS."""
    over_nats = getattr(request, "param", "gRPC") == "NATS"
    world = World(position=0)
    with Broadcaster(world, request.getfixturevalue("nats_server")) if over_nats else Liar(world) as made:
        for number in range(3):
            made.commit(asset(number))
        yield made


both = pytest.mark.parametrize("liar", ["gRPC", "NATS"], indirect=True)


@contextmanager
def following(liar: Liar, folder: Path, **options: Any) -> Iterator[Client]:
    """Give a client that is level with the server."""
    with connect(liar.target, replica_dir=folder, feed=liar.feed, **options) as client:
        until(lambda: level(client, liar), "it is level", 10)
        yield client


def test_what_comes_twice_is_ignored_and_what_is_missing_is_asked_for(liar: Liar, tmp_path: Path) -> None:
    """F12: repeated, old and swapped batches change nothing; after a gap the feed is asked for anew from where it was whole."""
    with following(liar, tmp_path) as client:
        liar.say(liar.log[3], liar.log[1], liar.log[3], liar.log[2])
        again = liar.commit(asset(1, "renamed"))
        liar.say(again, again)
        until(lambda: level(client, liar), "it is level")
        assert liar.begun == [0]
        first, second = liar.commit(asset(4), silently=True), liar.commit(asset(1, "once more"), silently=True)
        liar.say(second, first)  # swapped
        until(lambda: level(client, liar), "it is level after a gap")
        assert liar.begun == [0, 4]
        until(lambda: client.status().last_error is None, "the trouble is over")


@both
def test_a_gap_that_stays_leads_to_a_snapshot(liar: Liar, tmp_path: Path) -> None:
    """F12: a server that cannot close a gap is asked for a snapshot; the data before it are shown until that is there."""
    with following(liar, tmp_path / "replica") as client:
        liar.commit(asset(4), silently=True)
        liar.commit(asset(5), silently=True)
        del liar.log[4]
        liar.snapshots.append(liar.world.publish(tmp_path / "published"))
        liar.say(liar.log[5])
        until(lambda: level(client, liar), "it is level")
        assert client.status().generation.count("gen-00000000000000000005")


@both
def test_a_log_that_was_trimmed_leads_to_a_snapshot(liar: Liar, tmp_path: Path) -> None:
    """F13: whoever was away for longer than the log goes back loads a snapshot, without going back."""
    with following(liar, tmp_path / "replica"):
        pass
    for number in range(4, 9):
        liar.commit(asset(number))
    liar.snapshots.append(liar.world.publish(tmp_path / "published"))
    liar.trim(6)
    liar.commit(asset(20))
    with following(liar, tmp_path / "replica") as client:
        assert client.asset(asset(20).asset_id) == asset(20)


@both
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("other_log", [True, False])
def test_a_server_with_another_past_is_never_mixed_with_the_old(
    published: bool, other_log: bool, liar: Liar, tmp_path: Path
) -> None:
    """F13: restored from a backup, or another database: everything is loaded anew, and what was undone is nowhere."""
    root = tmp_path / "published"
    options = {"snapshots": root} if published else {}
    if published:
        old = World(liar.world.all("asset"), position=3)
        old.publish(root)
    with following(liar, tmp_path / "replica", **options) as client:
        undone = asset(66, "undone")
        liar.commit(undone)
        liar.commit(asset(1, "undone"))
        until(lambda: level(client, liar), "it is level")
        if published:
            liar.world.publish(root)  # of a past that will not have been
        shown = client._view._at
        assert shown is not None
        before = World([asset(number) for number in range(3)], position=3)
        log = {number: liar.log[number] for number in (1, 2, 3)}
        liar.world, liar.log = before, log
        if other_log:
            liar.log_id = "00000000-0000-4000-8000-000000000002"
        for number in (30, 31, 32):
            batch = liar.world.commit([asset(number, "of the other past")])
            chain = b"another" + batch.position.to_bytes(9)
            liar.enter(
                Batch(position=batch.position, chain=chain, committed_at=NOW, changes=batch.changes), silently=True
            )
        liar.say(UnavailableError("the database was restored"))
        until(lambda: level(client, liar), f"it is level: {client.status()}", 15)
        now_shown = client._view._at
        assert now_shown is not None
        assert now_shown.history != shown.history
        with pytest.raises(UnavailableError):  # this server has no registry to ask
            client.asset(undone.asset_id)


def poison() -> dict[str, Callable[[types_pb2.Batch], object]]:
    """Give what can be wrong with a change, by what it is: each is done to the first change of a batch."""

    def unknown_value(batch: types_pb2.Batch) -> None:
        batch.changes[0].record.asset.asset_type = 4711  # type: ignore[assignment]

    def unknown_kind(batch: types_pb2.Batch) -> None:
        batch.changes[0].kind, batch.changes[0].key = "instrument", "x"

    def zero(batch: types_pb2.Batch) -> None:
        batch.changes[0].record.asset.name = "a\0b"

    def large(batch: types_pb2.Batch) -> None:
        batch.changes[0].record.asset.description = "x" * (5 << 20)

    def empty(batch: types_pb2.Batch) -> None:
        batch.changes[0].ClearField("record")

    def no_op(batch: types_pb2.Batch) -> None:
        batch.changes[0].op = 99  # type: ignore[assignment]

    def other_key(batch: types_pb2.Batch) -> None:
        batch.changes[0].record.asset.asset_id = "no uuid"

    def bad_time(batch: types_pb2.Batch) -> None:
        batch.changes[0].record.asset.created_at.seconds = 1 << 60

    def bad_commit_time(batch: types_pb2.Batch) -> None:
        batch.committed_at.seconds = 1 << 60

    return {
        each.__name__: each
        for each in (unknown_value, unknown_kind, zero, large, empty, no_op, other_key, bad_time, bad_commit_time)
    }


@pytest.mark.parametrize("what", some(poison(), 2))
def test_a_record_that_cannot_be_read_does_not_stop_the_feed(what: str, liar: Liar, tmp_path: Path) -> None:
    """F15: it is set aside and counted, at most, what comes with it and after it is there, and a restart changes nothing."""
    with following(liar, tmp_path) as client:
        good, bad = asset(50), asset(51)
        message = wire.batch_to_wire(liar.world.commit([bad, good]))
        poison()[what](message)
        liar.enter(message)
        liar.commit(asset(52))
        until(lambda: client.position == 5, f"the feed goes on: {client.status()}", 10)
        assert client.asset(good.asset_id) == good
        assert client.asset(asset(52).asset_id) == asset(52)
        assert client.status().quarantined == (what != "bad_commit_time")
    with connect(liar.target, replica_dir=tmp_path) as client:
        until(lambda: client.position == 5, "it is there after a restart")
        assert client.asset(good.asset_id) == good


def test_nothing_to_begin_with_is_told_in_time(tmp_path: Path) -> None:
    """F11: without a server and a replica NotReadyError comes within the timeout, or what was asked for instead."""
    began = time.monotonic()
    with pytest.raises(NotReadyError):
        connect("127.0.0.1:1", replica_dir=tmp_path / "a", timeout=1.0)
    assert time.monotonic() - began < 3
    with connect("127.0.0.1:1", replica_dir=tmp_path / "b", timeout=20.0, start="catalogue") as client:
        assert client.status().catalogue
        assert client.check_tradable(client.resolve("BTC").asset.asset_id).decision.value == "UNKNOWN"
    with connect("127.0.0.1:1", replica_dir=tmp_path / "c", timeout=1.0, start="server") as client:
        with pytest.raises(UnavailableError):
            client.resolve("BTC")
        assert client.check_tradable(asset(1).asset_id).decision.value == "UNKNOWN"


def test_a_replica_outlives_its_server(liar: Liar, tmp_path: Path) -> None:
    """F11: six hours without a server, by the clock of ages: all that was known is answered, the gate says UNKNOWN, and why."""
    with following(liar, tmp_path) as client:
        pass
    liar._server.stop(0).wait()
    began = time.monotonic()
    with connect(liar.target, replica_dir=tmp_path, timeout=2.0) as client:
        assert time.monotonic() - began < 3
        ahead = client._view._clock() + 6 * 3600
        client._view._clock = lambda: ahead
        assert client.age > 6 * 3600 - 60
        for number in range(3):
            assert client.asset(asset(number).asset_id) == asset(number)
        assert of_replica(client._replica.still()) == digest(liar.world)
        verdict = client.check_tradable(asset(1).asset_id)
        assert verdict.decision.value == "UNKNOWN"
        assert "old" in verdict.reasons[0]
        assert client.status().state == "disconnected"
        assert client.sql("SELECT count(*) FROM assets").fetchall() == [(3,)]


def parquet(path: Path) -> Path:
    """Give the file of the assets."""
    return max(path.glob("*.parquet"), key=lambda each: each.stat().st_size)


def flip(path: Path) -> None:
    """Turn a bit of a file of records."""
    data = bytearray(parquet(path).read_bytes())
    data[len(data) // 2] ^= 1
    parquet(path).write_bytes(data)


SNAPSHOTS: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "a file cut off": lambda path: parquet(path).write_bytes(parquet(path).read_bytes()[:100]),
    "a file missing": lambda path: parquet(path).unlink(),
    "a manifest cut off": lambda path: (path / snapshot.MANIFEST).write_bytes(
        (path / snapshot.MANIFEST).read_bytes()[:50]
    ),
    "a manifest of garbage": lambda path: (path / snapshot.MANIFEST).write_bytes(b"\xff\x00garbage"),
    "a manifest missing": lambda path: (path / snapshot.MANIFEST).unlink(),
    "an empty folder": lambda path: [each.rename(path.parent / each.name) for each in path.iterdir()],
}


@pytest.mark.parametrize("what", some(SNAPSHOTS, 2))
def test_a_damaged_snapshot_is_left_for_the_one_before_it(what: str, liar: Liar, tmp_path: Path) -> None:
    """F9, F10: whatever is wrong with the newest snapshot, the one before is loaded, and the feed goes on from there."""
    root = tmp_path / "published"
    liar.world.publish(root)
    liar.commit(asset(7))
    newest = liar.world.publish(root)
    SNAPSHOTS[what](newest.path)
    with following(liar, tmp_path / "replica", snapshots=root) as client:
        assert "gen-00000000000000000003" in client.status().generation
        assert liar.begun[-1] == 3


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0, -1e9])
def test_the_wall_clock_has_no_say(jump: float, liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F16: a day forward, a day back, thirty years back: no age, no order and no answer depends on that clock."""
    with following(liar, tmp_path) as client:
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        monkeypatch.setattr(time, "time_ns", lambda: int((real() + jump) * 1e9))
        liar.commit(asset(9))
        until(lambda: level(client, liar), "it is level")
        until(lambda: client.age < 1, "its age is told")
        assert client.check_tradable(asset(9).asset_id).decision.value == "ALLOW"
        assert client.status().state == "fresh"
