"""The index: what is damaged is noticed when it is read, and never gives an answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cqar import model
from cqar.client import _lookup
from cqar.client._entries import posting_key, record_key
from cqar.client._generation import INDEX, Generation, verify
from cqar.client._index import Index
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._writer import Writer
from cqar.errors import SnapshotError
from cqar.model import KINDS
from tests.generations import built
from tests.worlds import NOW, World, excerpt

SYMBOLS = ("USDC", "USDT", "DAI", "WETH", "ETH", "stETH", "BTC", "WBTC", "SOL")


def flag(asset_id: str, **fields: Any) -> model.QualityFlag:
    """A critical warning of an asset."""
    given = {"flag_id": f"flag-{asset_id}", "severity": model.Severity.CRITICAL, **fields}
    return model.QualityFlag(
        asset_id=asset_id, flag_type=model.FlagType.SCAM, source="test", reason="of the test", **given
    )


@pytest.fixture
def world() -> World:
    """A small registry in which every third asset is flagged."""
    world = World(excerpt(SYMBOLS))
    assets = [asset for asset in world.all("asset") if isinstance(asset, model.Asset)]
    world.commit([flag(asset.asset_id) for asset in assets[::3]])
    return world


def reads(index: Index, world: World) -> Iterator[Callable[[], Any]]:
    """Every read of an index by a key that occurs in the world."""
    for name, kind in KINDS.items():
        for record in world.all(name):
            yield partial(index.record, name, kind.key_of(record))
            for posting in kind.postings:
                for words in posting.words(record):
                    yield partial(index.posting, posting.name, words)
    for asset in world.all("asset"):
        assert isinstance(asset, model.Asset)
        yield partial(index.gate, asset.asset_id)


def outcome(read: Callable[[], Any]) -> Any:
    """What a read gives, or that it found damage."""
    try:
        return read()
    except SnapshotError as error:
        return error.reason


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bits_never_give_a_wrong_answer(seed: int, world: World, tmp_path: Path) -> None:
    """With bits flipped anywhere but in the head of the file, a read gives the truth or SnapshotError, never nothing."""
    generation = world.generation(tmp_path / "gen")
    truth = [read() for read in reads(generation.index, world)]
    bytes_of = bytearray((generation.path / INDEX).read_bytes())
    chance = random.Random(seed)
    for _ in range(400):
        bytes_of[chance.randrange(8192, len(bytes_of))] ^= 1 << chance.randrange(8)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / INDEX).write_bytes(bytes_of)
    for name in ("meta.json", "tables.duckdb", "in-use"):
        (damaged / name).write_bytes((generation.path / name).read_bytes())
    index = Generation(damaged).index
    answers = [outcome(read) for read in reads(index, world)]
    assert "BAD_INDEX" in answers
    assert all(answer in (right, "BAD_INDEX") for right, answer in zip(truth, answers, strict=True))
    with pytest.raises(SnapshotError, match="digest"):
        verify(damaged)


def test_a_value_under_another_key_is_noticed(world: World, tmp_path: Path) -> None:
    """A whole and valid value in the wrong place does not pass: the checksum covers the key."""
    generation = world.generation(tmp_path / "gen")
    one, two = [asset for asset in world.all("asset") if isinstance(asset, model.Asset)][1:3]
    with generation.index._mapping.env.begin() as txn:
        foreign = bytes(txn.get(record_key("asset", two.asset_id)) or b"")
    path = generation.path
    del generation, txn  # or the file would count as open
    with Writer(path / INDEX, new=False) as writer, writer._env.begin(write=True) as txn:
        txn.put(record_key("asset", one.asset_id), foreign)
    index = Generation(path).index
    with pytest.raises(SnapshotError, match="checksum"):
        index.record("asset", one.asset_id)
    with pytest.raises(SnapshotError, match="checksum"):
        index.gate(one.asset_id)
    assert index.record("asset", two.asset_id) == two


@pytest.mark.parametrize("lost", ["posting", "flag", "asset"])
def test_the_gate_fails_closed_when_an_entry_is_lost(lost: str, world: World, tmp_path: Path) -> None:
    """Whichever entry about a flagged asset vanishes, it is blocked or unknown: never free to trade."""
    generation = world.generation(tmp_path / "gen")
    flagged = world.all("quality_flag")[0]
    assert isinstance(flagged, model.QualityFlag)
    key = {
        "posting": posting_key("flag_by_asset", (flagged.asset_id,)),
        "flag": record_key("quality_flag", flagged.flag_id),
        "asset": record_key("asset", flagged.asset_id),
    }[lost]
    path = generation.path
    del generation
    with Writer(path / INDEX, new=False) as writer:
        writer.put([(key, None)])
    replica = Replica(Generation(path), Recent())
    (exists, _, flags), _ = _lookup.gate(replica, flagged.asset_id)  # type: ignore[misc]
    assert not exists or flags == (flagged,)
    other = next(a for a in world.all("asset") if isinstance(a, model.Asset) and a.asset_id != flagged.asset_id)
    replica.apply(world.commit([flag(other.asset_id, flag_id="another")]))
    (exists, _, flags), _ = _lookup.gate(replica, flagged.asset_id)  # type: ignore[misc]
    assert not exists or flags == (flagged,)


def test_the_gate_follows_the_changes(world: World, tmp_path: Path) -> None:
    """Flags raised, cleared and moved since the generation show, and so do deletion and creation."""
    replica = Replica(built(world, tmp_path / "gen"), Recent())
    raised = world.all("quality_flag")[0]
    assert isinstance(raised, model.QualityFlag)
    one = raised.asset_id
    two = next(a for a in world.all("asset") if isinstance(a, model.Asset) and not replica.active_flags(a.asset_id))
    assert replica.gate(one) == (True, (raised,))
    replica.apply(world.commit([msgspec.structs.replace(raised, asset_id=two.asset_id)]))
    assert (replica.gate(one).flags, len(replica.gate(two.asset_id).flags)) == ((), 1)
    replica.apply(world.commit([msgspec.structs.replace(raised, cleared_at=NOW)]))
    assert (replica.gate(one).flags, replica.gate(two.asset_id).flags) == ((), ())
    replica.apply(world.commit([msgspec.structs.replace(two, asset_id="new"), flag("new")], removes=[two]))
    assert not replica.gate(two.asset_id).exists
    assert replica.gate("new") == (True, (flag("new"),))


def test_entries_out_of_order_are_refused(tmp_path: Path) -> None:
    """LMDB would leave them out without a word; a generation that lacks entries must never be published."""
    with pytest.raises(AssertionError, match="out of order"), Writer(tmp_path / "index") as writer:
        writer.append([b"b", b"a"], [b"1", b"2"])
