"""A newer server raises a CRITICAL flag of a type that this client does not know.

Before, the gate said UNKNOWN, which is right, but `flags()` was empty, so were `resolve().flags`, and SQL counted 0: a service that
decides by those took the asset for clean. Now what could not be read is told where it would have stood: the flag is there, its
type (or severity) UNKNOWN, above every threshold; records of other kinds likewise; and a list that lacks a record, because nothing
of it could be read, is not given by the replica.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from cqar import model, wire
from cqar.client import Client
from cqar.client._build import build
from cqar.client._feed import frame_from_wire
from cqar.client._generation import Generation
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._view import View
from cqar.errors import UnavailableError
from cqar.model import KINDS, Batch, Change, Op, Record
from cqar.v1 import types_pb2
from tests.attacks.marks import attack
from tests.formats.test_newer import ENUMS
from tests.worlds import NOW, World, excerpt

pytestmark = attack(
    "A5",
    by="a newer server",
    promise="what a client cannot read it tells where that would have stood; no list is short",
)

SYMBOLS = ("USDC", "WETH", "ETH")


class Follower:
    """A client of a small registry, fed by hand."""

    def __init__(self, folder: Path) -> None:
        self.world = World(excerpt(SYMBOLS))
        made = self.world.publish(folder / "snapshots")

        build(folder / "gen", made, lambda *_: None)
        self.replica = Replica(Generation(folder / "gen"), Recent())
        self.client = Client(View(None, self.replica))
        self.usdc = self.client.resolve("USDC", chain="ethereum").asset.asset_id
        self.flag = model.QualityFlag(
            flag_id="0d0f4c8e-7a0c-4a58-8f4b-6f2b5f0f6a11",
            asset_id=self.usdc,
            flag_type=model.FlagType.SCAM,
            severity=model.Severity.CRITICAL,
            source="auditor",
            reason="of a newer version",
        )

    def receive(self, record: Record, **raw: int) -> None:
        """Receive a record with other numbers in some of its fields."""
        kind = model.KIND_OF[type(record)]
        self.world.position += 1
        change = Change(op=Op.PUT, kind=kind.name, key=kind.key_of(record), record=record)
        batch = wire.batch_to_wire(
            Batch(position=self.world.position, chain=bytes(16), committed_at=NOW, changes=(change,))
        )
        for field, number in raw.items():
            setattr(getattr(batch.changes[0].record, kind.name), field, number)
        self.replica.apply(*frame_from_wire(types_pb2.Batch.FromString(batch.SerializeToString())))


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    """A client at a registry without flags."""
    return Follower(tmp_path)


@pytest.mark.parametrize("field", ["flag_type", "severity"])
def test_a_warning_that_cannot_be_read_is_told_everywhere(follower: Follower, field: str) -> None:
    """The lists, the resolution, SQL at the threshold of CRITICAL, and the gate all tell of it."""
    client, flag = follower.client, follower.flag
    assert client.check_tradable(flag.asset_id, max_age=math.inf).decision == "ALLOW"
    follower.receive(flag, **{field: 4711})
    unknown = {"flag_type": model.FlagType.UNKNOWN, "severity": model.Severity.UNKNOWN}
    told = msgspec.structs.replace(flag, **{field: unknown[field]})
    assert client.flags(flag.asset_id, min_severity=model.Severity.CRITICAL) == (told,)
    assert client.resolve("USDC", chain="ethereum").flags == (told,)
    at_worst = "SELECT flag_id FROM asset_quality_flags WHERE severity >= 5 AND cleared_at IS NULL"
    assert client.sql(at_worst).fetchall() == [(flag.flag_id,)]
    assert client.sql("SELECT kind, key FROM unread").fetchall() == [("quality_flag", flag.flag_id)]
    verdict = client.check_tradable(flag.asset_id, max_age=math.inf)
    assert (verdict.decision, verdict.flags) == ("UNKNOWN", (told,))


def test_a_known_warning_is_not_lost_by_a_change_that_cannot_be_read(follower: Follower) -> None:
    """A change of it without its record, which might be anything: that there is a warning stays."""
    follower.receive(follower.flag)
    assert follower.client.check_tradable(follower.usdc, max_age=math.inf).decision == "BLOCK"
    follower.world.position += 1
    batch = types_pb2.Batch(position=follower.world.position, chain=bytes(16))
    batch.changes.add(op=types_pb2.OP_PUT, kind="quality_flag", key=follower.flag.flag_id)
    follower.replica.apply(*frame_from_wire(batch))
    (told,) = follower.client.flags(follower.usdc, min_severity=model.Severity.CRITICAL)
    assert (told.flag_id, told.flag_type) == (follower.flag.flag_id, model.FlagType.UNKNOWN)
    assert follower.client.check_tradable(follower.usdc, max_age=math.inf).decision == "UNKNOWN"


@pytest.mark.parametrize(("kind", "field"), ENUMS, ids=lambda part: part)
def test_records_of_every_kind_are_told_as_far_as_they_can_be_read(follower: Follower, kind: str, field: str) -> None:
    """Their number stays, what they are is UNKNOWN, and they are named as not whole."""
    before = follower.world.all(kind)
    record = before[0] if before else follower.flag
    follower.receive(record, **{field: 4711})
    told = follower.replica.get(kind, KINDS[kind].key_of(record))
    unknown = type(getattr(record, field)).UNKNOWN
    assert told == msgspec.structs.replace(record, **{field: unknown})
    (count,) = follower.client.sql(f"SELECT count(*) FROM {KINDS[kind].table}").fetchall()
    assert count == (max(1, len(before)),)
    assert follower.client.status().quarantined == 1


def test_a_list_that_lacks_a_record_is_not_given(follower: Follower) -> None:
    """Of a deployment that says nothing readable it is not known which asset it is of; no list of them is given without it."""
    client = follower.client
    assert client.deployments(follower.usdc)
    follower.world.position += 1
    batch = types_pb2.Batch(position=follower.world.position, chain=bytes(16))
    batch.changes.add(op=types_pb2.OP_PUT, kind="deployment", key="x").record.asset.name = "no deployment"
    follower.replica.apply(*frame_from_wire(batch))
    with pytest.raises(UnavailableError, match="upgrade cqar") as caught:  # this client has no server to ask
        client.deployments(follower.usdc)
    assert caught.value.reason == "UNREAD"
