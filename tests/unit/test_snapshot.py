"""The snapshot format: whole or not at all, and nothing is read that was not verified."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from cqar import arrow, snapshot
from cqar.client import open_snapshot
from cqar.errors import SnapshotError
from cqar.model import KINDS, Record
from cqar.snapshot import Manifest, Snapshot
from tests.worlds import World, catalogue, excerpt


@pytest.fixture
def world() -> World:
    """A small registry of well-known assets."""
    return World(excerpt(["USDC", "ETH", "WETH"]))


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    """Every record of every kind of the catalogue survives the trip, in its order."""
    world = World(record for records in catalogue().values() for record in records)
    published = world.publish(tmp_path)
    for kind in KINDS:
        assert list(snapshot.read(published, kind)) == world.all(kind)
    assert published.manifest.head == world.head


def test_the_same_records_give_the_same_bytes(world: World, tmp_path: Path) -> None:
    """Publishing is deterministic."""
    one, two = world.publish(tmp_path / "one"), world.publish(tmp_path / "two")
    assert one.manifest == two.manifest


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a file cut in half": lambda folder: _truncate(folder / "assets.parquet"),
    "one flipped bit": lambda folder: _flip(folder / "asset_deployments.parquet"),
    "a missing file": lambda folder: (folder / "chains.parquet").unlink(),
    "a manifest cut in half": lambda folder: _truncate(folder / snapshot.MANIFEST),
    "no manifest": lambda folder: (folder / snapshot.MANIFEST).unlink(),
    "an altered manifest": lambda folder: (folder / snapshot.MANIFEST).write_bytes(
        (folder / snapshot.MANIFEST).read_bytes().replace(b'"rows": ', b'"rows": 1')
    ),
    "a manifest of the future": lambda folder: (folder / snapshot.MANIFEST).write_bytes(
        (folder / snapshot.MANIFEST).read_bytes().replace(b'"format_version": 1', b'"format_version": 99')
    ),
    "a manifest that is no JSON": lambda folder: (folder / snapshot.MANIFEST).write_bytes(b"\x00\xff{"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_snapshot_is_refused_and_the_one_before_stays_in_use(
    damage: Callable[[Path], object], world: World, tmp_path: Path
) -> None:
    """Whatever is broken, the error names it, and the newest whole snapshot is what clients open."""
    before = world.publish(tmp_path)
    world.commit([msgspec.structs.replace(world.all("asset")[0], name="newer")])
    newer = world.publish(tmp_path)
    damage(newer.path)
    with pytest.raises(SnapshotError, match=str(newer.path)):
        snapshot.verify(newer.path)
    assert snapshot.latest(tmp_path).path == before.path
    with open_snapshot(tmp_path, replica_dir=tmp_path / "replica") as client:
        assert client.position == 1


def test_nothing_whole_is_a_clear_error(tmp_path: Path) -> None:
    """A folder without snapshots, and no folder at all, are told apart from a damaged one."""
    with pytest.raises(SnapshotError, match="no snapshot there"):
        snapshot.latest(tmp_path)
    with pytest.raises(SnapshotError, match="there is no such folder"):
        open_snapshot(tmp_path / "absent", replica_dir=tmp_path / "replica")


def test_an_export_that_fails_half_way_publishes_nothing(world: World, tmp_path: Path) -> None:
    """A fault in the middle of writing leaves the previous snapshot and no trace of the new one."""
    before = world.publish(tmp_path)
    world.commit()

    def broken() -> Iterator[Record]:
        yield world.all("asset")[0]
        raise OSError("the database went away")

    with pytest.raises(OSError, match="went away"):
        snapshot.write(tmp_path, world.head, datetime.now(UTC), {"asset": broken()})
    assert [path.name for path in before.path.parent.iterdir()] == [before.path.name]
    assert snapshot.latest(tmp_path) == before


def test_publishing_a_position_again_gives_what_is_there(world: World, tmp_path: Path) -> None:
    """The same position is the same data: it is not written twice, but a damaged one is replaced."""
    first = world.publish(tmp_path)
    stamp = (first.path / snapshot.MANIFEST).stat().st_mtime_ns
    assert world.publish(tmp_path) == first
    assert (first.path / snapshot.MANIFEST).stat().st_mtime_ns == stamp
    _flip(first.path / "assets.parquet")
    assert snapshot.verify(world.publish(tmp_path).path)


def test_prune_keeps_the_newest_and_the_young(world: World, tmp_path: Path) -> None:
    """Only snapshots that are both beyond the number to keep and old enough go, and abandoned work folders with them."""
    published = []
    for _ in range(5):
        world.commit()
        published.append(world.publish(tmp_path))
    assert snapshot.prune(tmp_path, keep=2) == [p.path for p in published[:3][::-1]]
    assert [s.path for s in snapshot.listing(tmp_path)] == [p.path for p in published[:2:-1]]
    abandoned = published[0].path.parent / ".tmp-abandoned"
    abandoned.mkdir()
    snapshot.prune(tmp_path, keep=2, min_age=timedelta(0))
    assert not abandoned.exists()


def published_at(number: int, moment: datetime) -> Snapshot:
    """Give a snapshot as `listing` would: of what is in it, only its time matters here."""
    manifest = Manifest(
        format_version=1,
        log_id="00000000-0000-4000-8000-000000000001",
        position=number,
        chain="",
        created_at=moment,
        files=(),
        sha256="",
    )
    return Snapshot(Path(f"{number}"), manifest)


@pytest.mark.parametrize("quiet", [range(0), range(100, 230)], ids=["busy", "with a quiet time"])
def test_old_snapshots_are_thinned_to_one_per_hour_and_none_is_taken_from_a_follower(quiet: range) -> None:
    """Over two days of one every five minutes: the last hour whole, one per hour of a day, the newest ones, no others."""
    keep, day, held = 3, timedelta(days=1), list[Snapshot]()
    was_newest: dict[Path, datetime] = {}
    for number in range(2 * 288):
        now = datetime(2026, 1, 1, tzinfo=UTC) + number * timedelta(minutes=5)
        if number not in quiet:
            held.insert(0, published_at(number, now))
        was_newest[held[0].path] = now
        doomed = [each.path for each in snapshot.superfluous(held, now, keep, day)]
        assert all(now - was_newest[path] > snapshot.HOUR - timedelta(minutes=5) for path in doomed)
        assert not {each.path for each in held[:keep]} & set(doomed)
        hours = {snapshot._hour(each.manifest.created_at) for each in held if now - each.manifest.created_at < day}
        held = [each for each in held if each.path not in doomed]
        left = [snapshot._hour(each.manifest.created_at) for each in held]
        assert hours <= set(left)
        assert len(held) <= 12 + 25 + keep
    assert len({*left}) in {24, 25}


def test_of_two_that_publish_a_position_at_once_the_first_wins(world: World, tmp_path: Path) -> None:
    """Both writers get the one that is there, which stays untouched for those who read it."""
    both = threading.Barrier(2)

    def together(_manifest: snapshot.Manifest) -> None:
        both.wait(10)

    with ThreadPoolExecutor(2) as pool:
        writing = [
            pool.submit(snapshot.write, tmp_path, world.head, datetime.now(UTC), {}, confirm=together) for _ in range(2)
        ]
        first, second = [each.result(20) for each in writing]
    assert first == second == snapshot.latest(tmp_path)
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]


def test_a_reader_ignores_columns_that_it_does_not_know_and_fills_those_that_it_misses(tmp_path: Path) -> None:
    """A newer writer may add columns, an older one may lack some: both are read."""
    import pyarrow as pa

    record = KINDS["asset"].record
    asset = catalogue()["asset"][0]
    batch = arrow.to_arrow(record, [asset])
    newer = pa.Table.from_batches([batch]).append_column("of_the_future", pa.array(["x"]))
    assert arrow.from_arrow(record, newer) == [asset]
    older = pa.Table.from_batches([batch]).drop_columns(["metadata", "website"])
    assert arrow.from_arrow(record, older) == [msgspec.structs.replace(asset, metadata=(), website=None)]


def test_a_generation_is_built_anew_when_it_is_damaged(world: World, tmp_path: Path) -> None:
    """A replica is never precious: what is broken in it is replaced from the snapshot, unasked."""
    world.publish(tmp_path / "snapshots")
    replica = tmp_path / "replica"
    with open_snapshot(tmp_path / "snapshots", replica_dir=replica) as client:
        generation = Path(client.status().generation)
    _truncate(generation / "index.lmdb")
    with open_snapshot(tmp_path / "snapshots", replica_dir=replica) as client:
        assert client.resolve("USDC", chain="ethereum").deployment is not None
    shutil.rmtree(generation)
    with open_snapshot(tmp_path / "snapshots", replica_dir=replica) as client:
        assert client.resolve("USDC", chain="ethereum").deployment is not None
