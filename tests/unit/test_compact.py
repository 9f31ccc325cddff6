"""Compaction: a generation with changes written into a copy of it is the generation built from the result."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cqar import model
from cqar.client._compact import compact
from cqar.client._generation import Generation, packed, verify
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from tests.generations import built, entries, links, tables
from tests.worlds import NOW, Story, World, excerpt

SYMBOLS = ("USDC", "USDT", "DAI", "WETH", "ETH", "stETH", "BTC", "WBTC", "SOL")


def compacted(replica: Replica, path: Path) -> Generation:
    """Compact a replica and open what came out."""
    compact(path, replica, lambda _what, _part: None)
    return Generation(path)


@pytest.mark.parametrize("seed", range(16))
def test_a_compacted_generation_equals_one_built_from_the_result(seed: int, tmp_path: Path) -> None:
    """After any history, compaction and compaction of a compaction hold the very entries and rows of a fresh build."""
    world = World(excerpt(SYMBOLS))
    replica = Replica(built(world, tmp_path / "gen-0"), Recent())
    story = Story(seed, world)
    for number in (1, 2, 3):
        for _ in range(25):
            replica.apply(story.step())
        generation = compacted(replica, tmp_path / f"gen-{number}")
        fresh = built(world, tmp_path / f"fresh-{number}")
        assert entries(generation) == entries(fresh)
        assert tables(generation) == tables(fresh)
        assert generation.head == fresh.head == world.head
        assert generation.meta.rows == fresh.meta.rows
        verify(generation.path)
        assert links(generation) == links(fresh)
        replica = Replica(generation, Recent())


def test_compaction_leaves_the_old_generation_alone(tmp_path: Path) -> None:
    """Who still reads the old generation notices nothing: not a byte of its files changes."""
    world = World(excerpt(SYMBOLS))
    old = built(world, tmp_path / "gen-0")
    before = {file.name: file.read_bytes() for file in old.path.iterdir()}
    replica = Replica(old, Recent())
    story = Story(1, world)
    for _ in range(20):
        replica.apply(story.step())
    compacted(replica, tmp_path / "gen-1")
    assert {file.name: file.read_bytes() for file in old.path.iterdir()} == before


def test_a_compaction_that_fails_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing fails half way, there is neither a generation nor a leftover."""
    world = World(excerpt(SYMBOLS))
    replica = Replica(built(world, tmp_path / "logs" / "gen-0"), Recent())
    replica.apply(Story(1, world).step())
    monkeypatch.setattr("cqar.client._compact.change_tables", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        compacted(replica, tmp_path / "logs" / "gen-1")
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["gen-0", "snapshots"]


def test_what_could_not_be_read_is_carried_on_until_it_changes(tmp_path: Path) -> None:
    """The list of unreadable records survives compaction; a record that a later batch rewrites leaves it."""
    world = World(excerpt(SYMBOLS))
    old = built(world, tmp_path / "gen-0")
    asset = world.all("asset")[0]
    assert isinstance(asset, model.Asset)
    marked = msgspec.structs.replace(old.meta, unread=(("asset", "gone"), ("asset", asset.asset_id)))
    (old.path / "meta.json").write_bytes(packed(marked))
    replica = Replica(Generation(old.path), Recent())
    readable = world.commit([msgspec.structs.replace(asset, name="readable now")])
    replica.apply(readable, [("venue", "new")])
    compact(tmp_path / "gen-1", replica, lambda *_: None, created_at=NOW)
    made = Generation(tmp_path / "gen-1")
    assert made.unread == {("asset", "gone"), ("venue", "new")}
    assert made.created == NOW.timestamp()
