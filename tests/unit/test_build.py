"""Building a generation: what a newer server has written does not make a snapshot unreadable."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from cqar import model, snapshot
from cqar.client import Client
from cqar.client._build import ahead, build
from cqar.client._compact import compact
from cqar.client._generation import Generation, newest, obtain
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._view import View
from cqar.errors import SnapshotError
from tests.formats.newer import changed, rewritten
from tests.generations import entries, tables
from tests.worlds import LOG_ID, NOW, World, excerpt

SYMBOLS = ("USDC", "DAI", "ETH")


@pytest.fixture
def world() -> World:
    """A small registry with a flag."""
    world = World(excerpt(SYMBOLS))
    asset = world.all("asset")[0]
    assert isinstance(asset, model.Asset)
    world.commit(
        [
            model.QualityFlag(
                flag_id="flag",
                asset_id=asset.asset_id,
                flag_type=model.FlagType.SCAM,
                severity=model.Severity.LOW,
                source="test",
                reason="of the test",
            )
        ]
    )
    return world


def test_a_record_that_cannot_be_read_whole_is_told_as_far_as_it_can_and_named(world: World, tmp_path: Path) -> None:
    """An asset of an unknown type is in index and tables, and its type UNKNOWN; it is what the feed would make of it."""
    made = world.publish(tmp_path / "snapshots")
    asset = next(a for a in world.all("asset") if isinstance(a, model.Asset) and a.symbol == "DAI")
    rows = snapshot.columns(made, "asset")
    newer = rewritten(made, {"asset": changed(rows, "asset_type", "HOLOGRAM", key="asset_id", of=asset.asset_id)})
    build(tmp_path / "gen-newer", newer, lambda *_: None)
    generation = Generation(tmp_path / "gen-newer")
    assert generation.unread == {("asset", asset.asset_id)}
    unknown = msgspec.structs.replace(asset, asset_type=model.AssetType.UNKNOWN)
    assert generation.index.record("asset", asset.asset_id) == unknown
    world.commit([unknown])
    build(tmp_path / "gen-fed", world.publish(tmp_path / "others"), lambda *_: None)
    fed = Generation(tmp_path / "gen-fed")
    assert entries(generation) == entries(fed)
    assert tables(generation) == tables(fed)
    assert generation.meta.rows == fed.meta.rows


def test_a_record_of_which_nothing_can_be_read_is_left_out_and_named(world: World, tmp_path: Path) -> None:
    """An asset without a name is in neither index nor tables; everything else is, as if it had never existed."""
    made = world.publish(tmp_path / "snapshots")
    asset = next(a for a in world.all("asset") if isinstance(a, model.Asset) and a.symbol == "DAI")
    rows = changed(snapshot.columns(made, "asset"), "name", None, key="asset_id", of=asset.asset_id)
    build(tmp_path / "gen-newer", rewritten(made, {"asset": rows}), lambda *_: None)
    generation = Generation(tmp_path / "gen-newer")
    assert generation.unread == {("asset", asset.asset_id)}
    assert generation.index.record("asset", asset.asset_id) is None
    world.commit(removes=[asset])
    world.removed.clear()
    build(tmp_path / "gen-without", world.publish(tmp_path / "others"), lambda *_: None)
    without = Generation(tmp_path / "gen-without")
    assert entries(generation) == entries(without)
    assert tables(generation) == tables(without)
    assert generation.meta.rows == without.meta.rows


@pytest.mark.parametrize(
    ("column", "value"), [("flag_type", "CURSED"), ("severity", 9), ("asset_id", None), ("reason", None)]
)
def test_a_warning_that_cannot_be_read_closes_the_gate(
    column: str, value: object, world: World, tmp_path: Path
) -> None:
    """An unreadable flag is told as far as it can be read, and the gate is UNKNOWN until it is readable."""
    made = world.publish(tmp_path / "snapshots")
    raised = world.all("quality_flag")[0]
    assert isinstance(raised, model.QualityFlag)
    rows = changed(snapshot.columns(made, "quality_flag"), column, value, key="flag_id", of=raised.flag_id)
    build(tmp_path / "gen", rewritten(made, {"quality_flag": rows}), lambda *_: None)
    replica = Replica(Generation(tmp_path / "gen"), Recent())
    assert replica.unread == {("quality_flag", raised.flag_id)}
    instead = {"flag_type": model.FlagType.UNKNOWN, "severity": model.Severity.UNKNOWN}.get(column, "")
    told = msgspec.structs.replace(raised, **{column: instead})
    assert replica.gate(told.asset_id) == (bool(told.asset_id), (told,))
    client = Client(View(None, replica))
    for asset in world.all("asset"):
        assert isinstance(asset, model.Asset)
        assert client.check_tradable(asset.asset_id, max_age=math.inf).decision == "UNKNOWN"
    replica.apply(world.commit([raised]))
    assert replica.gate(raised.asset_id) == (True, (raised,))
    assert not replica.unread


def test_tombstones_of_a_snapshot_are_known_until_the_record_is_back(world: World, tmp_path: Path) -> None:
    """Of every kind; kinds of the future are passed over, and a snapshot without tombstones opens as before."""
    for kind in ("quality_flag", "venue_symbol", "deployment", "asset"):
        for record in world.all(kind)[:2]:
            world.commit(removes=[record])
    gone = dict(world.removed)
    made = world.publish(tmp_path / "snapshots")
    rows = snapshot.columns(made, snapshot.TOMBSTONES)
    future = pa.table({"kind": ["instrument"], "key": ["x"], "position": [1]}, schema=rows.schema)
    build(tmp_path / "gen", rewritten(made, {snapshot.TOMBSTONES: pa.concat_tables([rows, future])}), lambda *_: None)
    replica = Replica(Generation(tmp_path / "gen"), Recent())
    assert gone
    assert all(replica.removed(kind, key) for kind, key in gone)
    assert not any(replica.removed("asset", asset.asset_id) for asset in world.all("asset"))  # type: ignore[attr-defined]
    client = Client(View(None, replica))
    ids = [key for kind, key in gone if kind == "asset"]
    assert {client.check_tradable(key, max_age=math.inf).decision.value for key in ids} == {"BLOCK"}
    back = msgspec.structs.replace(world.all("asset")[0], asset_id=ids[0])
    replica.apply(world.commit([back]))
    assert not replica.removed("asset", ids[0])
    compact(tmp_path / "gen-next", replica, lambda *_: None)
    following = Replica(Generation(tmp_path / "gen-next"), Recent())
    assert not following.removed("asset", ids[0])
    assert following.removed("asset", ids[1])
    build(tmp_path / "gen-old", rewritten(made, {snapshot.TOMBSTONES: None}), lambda *_: None)
    assert not Replica(Generation(tmp_path / "gen-old"), Recent()).removed("asset", ids[1])


def test_columns_of_a_newer_server_are_ignored(world: World, tmp_path: Path) -> None:
    """A column that this version does not know makes no difference, and one that an older writer did not know is null."""
    made = world.publish(tmp_path / "snapshots")
    build(tmp_path / "gen-known", made, lambda *_: None)
    rows = snapshot.columns(made, "venue")
    rows = rows.append_column("mascot", pa.array(["owl"] * len(rows))).drop_columns(["website"])
    build(tmp_path / "gen-newer", rewritten(made, {"venue": rows}), lambda *_: None)
    known, newer = Generation(tmp_path / "gen-known"), Generation(tmp_path / "gen-newer")
    assert [c for c, _ in tables(known)["venue"][0]] == [c for c, _ in tables(newer)["venue"][0]]
    venue = newer.index.record("venue", "binance")
    assert isinstance(venue, model.Venue)
    assert venue.website is None


def test_rows_in_any_order_give_the_same_generation(world: World, tmp_path: Path) -> None:
    """The index does not depend on the order in which the server wrote the rows."""
    made = world.publish(tmp_path / "snapshots")
    build(tmp_path / "gen-sorted", made, lambda *_: None)
    for kind in ("asset", "deployment", "quality_flag"):
        rows = snapshot.columns(made, kind)
        made = rewritten(made, {kind: rows.take(list(reversed(range(len(rows)))))})
    build(tmp_path / "gen-reversed", made, lambda *_: None)
    assert entries(Generation(tmp_path / "gen-sorted")) == entries(Generation(tmp_path / "gen-reversed"))


def test_generations_of_another_format_are_passed_over(world: World, tmp_path: Path) -> None:
    """The newest generation is that of this format, whatever stands beside it; names may go on after the format."""
    made = obtain(tmp_path, world.publish(tmp_path / "snapshots").path)
    assert newest(tmp_path, LOG_ID).path == made.path  # type: ignore[union-attr]
    made.path.rename(made.path.with_name(made.path.name + "-abc"))
    made.path.with_name("gen-99999999999999999999-1").mkdir()
    assert newest(tmp_path, LOG_ID).path.name.endswith("-abc")  # type: ignore[union-attr]


def test_a_build_that_fails_leaves_nothing(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fills up, the error comes through, no generation appears and no thread stays."""
    made = world.publish(tmp_path / "snapshots")
    threads = threading.active_count()
    monkeypatch.setattr("cqar.client._writer.Writer.append", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        build(tmp_path / "log" / "gen", made, lambda *_: None)
    assert not list((tmp_path / "log").iterdir())
    assert threading.active_count() <= threads


def test_what_is_made_ahead_comes_in_order_with_its_error() -> None:
    """The thread ahead gives everything up to the error, then the error; it stops when nobody wants more."""

    def parts() -> Iterator[int]:
        yield from range(5)
        raise SnapshotError("broken", reason="TEST")

    threads = threading.active_count()
    taken: list[int] = []
    with pytest.raises(SnapshotError, match="broken"):
        taken.extend(ahead(parts()))
    assert taken == [0, 1, 2, 3, 4]
    endless = ahead(iter(lambda: NOW, None))
    next(endless)
    endless.close()
    assert threading.active_count() <= threads
