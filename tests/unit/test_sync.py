"""What the follower makes of what the feed brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from cqar import model, wire
from cqar.client._build import build
from cqar.client._client import Client
from cqar.client._feed import frame_from_wire
from cqar.client._folder import Folder
from cqar.client._generation import Nothing
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._sync import Syncer, Told
from cqar.client._tail import Frame
from cqar.client._view import View
from cqar.model import Batch, Change, FeedToken, Op
from cqar.snapshot import Snapshot
from cqar.v1 import types_pb2
from tests.worlds import NOW, World, excerpt


@pytest.fixture
def world() -> World:
    """A small registry of well-known assets."""
    return World(excerpt(["USDC", "ETH"]))


@pytest.fixture
def replica(world: World, tmp_path: Path) -> Replica:
    """Its replica."""
    return Replica(world.generation(tmp_path / "gen"), Recent())


def received(world: World, *changes: Change) -> types_pb2.Batch:
    """The next batch as it comes over the wire."""
    world.position += 1
    return wire.batch_to_wire(Batch(position=world.position, chain=bytes(16), committed_at=NOW, changes=changes))


def put(record: model.Record) -> Change:
    """The change that writes a record."""
    kind = model.KIND_OF[type(record)]
    return Change(op=Op.PUT, kind=kind.name, key=kind.key_of(record), record=record)


def test_a_record_of_a_newer_kind_or_value_does_not_stop_the_feed(world: World, replica: Replica) -> None:
    """A kind is ignored, a record with an unknown value set aside and counted; the rest of the batch, and the feed, go on."""
    usdc = next(a for a in world.all("asset") if isinstance(a, model.Asset) and a.symbol == "USDC")
    eth = next(a for a in world.all("asset") if isinstance(a, model.Asset) and a.symbol == "ETH")
    batch = received(world, put(msgspec.structs.replace(eth, name="renamed")), put(usdc))
    batch.changes.add(op=types_pb2.OP_PUT, kind="instrument", key="x")
    batch.changes[1].record.asset.asset_type = 4711  # type: ignore[assignment]
    replica.apply(*frame_from_wire(batch))
    assert replica.position == world.position
    assert replica.get("asset", eth.asset_id).name == "renamed"
    assert replica.get("asset", usdc.asset_id) == msgspec.structs.replace(usdc, asset_type=model.AssetType.UNKNOWN)
    assert replica.unread == {("asset", usdc.asset_id)}
    replica.apply(*frame_from_wire(received(world, put(usdc))))
    assert replica.get("asset", usdc.asset_id) == usdc
    assert not replica.unread


def test_a_flag_that_cannot_be_read_leaves_no_asset_safe(world: World, replica: Replica, tmp_path: Path) -> None:
    """The gate fails closed: a warning that is not understood may be about any asset."""
    usdc = next(a for a in world.all("asset") if isinstance(a, model.Asset) and a.symbol == "USDC")
    flag = model.QualityFlag(
        flag_id="0d0f4c8e-7a0c-4a58-8f4b-6f2b5f0f6a11",
        asset_id=usdc.asset_id,
        flag_type=model.FlagType.SCAM,
        severity=model.Severity.LOW,
        source="desk",
        reason="of a newer version",
    )
    client = Client(View(None, replica))
    assert client.check_tradable(usdc.asset_id, max_age=float("inf")).decision == "ALLOW"
    batch = received(world, put(flag))
    batch.changes[0].record.quality_flag.flag_type = 4711  # type: ignore[assignment]
    replica.apply(*frame_from_wire(batch))
    told = msgspec.structs.replace(flag, flag_type=model.FlagType.UNKNOWN)
    assert client.flags(usdc.asset_id) == (told,)
    verdict = client.check_tradable(usdc.asset_id, max_age=float("inf"))
    assert (verdict.decision, "could not be read" in verdict.reasons[0]) == ("UNKNOWN", True)


def test_tables_of_a_generation_that_was_left_do_not_answer(world: World, tmp_path: Path) -> None:
    """A query never mixes one generation's tables with the changes since another."""
    from cqar.client import open_snapshot

    world.publish(tmp_path / "snapshots")
    with open_snapshot(tmp_path / "snapshots", replica_dir=tmp_path / "replica") as client:
        assert client.sql("SELECT count(*) FROM assets WHERE symbol = 'USDC'").fetchall()[0][0] >= 1
        left = client._open_tables()
        for asset in world.all("asset"):
            world.commit([msgspec.structs.replace(asset, symbol="RENAMED")])
        world.publish(tmp_path / "snapshots")
        with open_snapshot(tmp_path / "snapshots", replica_dir=tmp_path / "replica") as newer:
            client._replica.switch(newer._replica, same_history=False)
        assert left.query("SELECT 1", None, client._replica.frozen) is None
        assert client.sql("SELECT count(*) FROM assets WHERE symbol = 'USDC'").fetchall() == [(0,)]


class Quiet:
    """A feed that brings some batches, and then only says where the server is."""

    def __init__(self, frames: list[Frame], head_position: int) -> None:
        self._frames, self._head_position = frames, head_position

    def poll(self, _timeout: float) -> Told:
        """Give what there is."""
        frames, self._frames = self._frames, []
        return Told(frames, self._head_position, as_of=1.0)

    def cancel(self) -> None:
        """Nothing to end."""


class Made:
    """A generation that is built already."""

    took = 0.0

    def __init__(self, name: str) -> None:
        self._name = name

    def poll(self) -> str:
        """Give its name."""
        return self._name

    def cancel(self) -> None:
        """Nothing to end."""


class Looked:
    """A look at every byte, taken at once."""

    took = 0.0

    def __init__(self, folder: Folder, *where: Any) -> None:
        self._folder, self._where = folder, where

    def poll(self) -> str:
        """Raise what is wrong."""
        self._folder.verify(*self._where)
        return "whole"

    def cancel(self) -> None:
        """Nothing to end."""


class Behind:
    """A server that brings the batches after its only snapshot once, and never again."""

    def __init__(self, folder: Folder, snapshot: Snapshot, frames: list[Frame]) -> None:
        self._folder, self._snapshot, self._frames = folder, snapshot, frames
        self.made: list[str] = []

    def watch(self, after: FeedToken) -> Quiet:
        """Follow."""
        frames, self._frames = self._frames, []
        return Quiet(frames, after.position + 1)

    def load(self, after: FeedToken | None, *, bare: bool) -> Made:  # noqa: ARG002  (it has but one)
        """Build its snapshot."""
        path = self._folder.new_generation(self._snapshot.manifest.position)
        build(path, self._snapshot, lambda _what, _part: None)
        self.made.append(path.name)
        return Made(path.name)

    def verify(self, generation: str, tail: str, length: int) -> Looked:
        """Look at every byte."""
        return Looked(self._folder, generation, tail, length)

    def compact(self, generation: str, tail: str, length: int) -> Made:  # noqa: ARG002
        """Not asked for here."""
        raise AssertionError


def test_what_a_repair_is_building_on_is_not_cleaned_away(world: World, tmp_path: Path) -> None:
    """A repair that takes long to catch up keeps its generation, which nobody has open yet; what readers see stays too.

    It has to catch up by the feed because the tail is lost too.
    """
    moment = [10.0]
    folder = Folder(tmp_path / "replica")
    source = Behind(folder, world.publish(tmp_path / "snapshots"), [Frame(world.commit())])
    syncer = Syncer(folder, source, lambda: moment[0])
    view = View(folder, Replica(Nothing(), Recent()), lambda: moment[0])

    def steps(number: int) -> None:
        for _ in range(number):
            syncer.step()
            moment[0] += 1.0

    steps(6)
    view.refresh()
    assert view.head is not None
    assert view.replica.position == world.position
    next(folder.path.glob("gen-*/tail-*")).write_bytes(b"")
    view.head.complain()
    steps(100)
    assert len(source.made) == 2
    assert all((folder.path / name).is_dir() for name in source.made)
    syncer.stop()
