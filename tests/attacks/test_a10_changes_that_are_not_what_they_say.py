"""A server, a proxy or a broker sends changes that are not what they say: a `chain` with an asset in it, a key of another record.

Before, one such change ended the feed with an error each time it came, and it came for ever. Now the kind decides which record is
read; what does not fit is set aside and counted, the rest of the batch and the feed go on, and if it may be a quality flag the gate
says UNKNOWN. The loop mutates real batches of the catalogue in every way that the wire allows.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from cqar import model, wire
from cqar.client import Client, _compact, _tail
from cqar.client._build import build
from cqar.client._feed import frame_from_wire
from cqar.client._generation import Generation
from cqar.client._recent import Recent
from cqar.client._remote import Remote
from cqar.client._replica import Replica
from cqar.client._view import View
from cqar.errors import CqarError, InvalidError, PositionExpiredError
from cqar.model import KINDS, Batch, Change, FeedToken, Op, Record
from cqar.v1 import types_pb2
from cqar.v1.replication_pb2 import WatchChangesResponse
from tests.attacks.marks import attack
from tests.worlds import NOW, World, excerpt

pytestmark = attack(
    "A10", by="a malformed feed", promise="one bad record never stops the feed, and never opens the gate"
)

SYMBOLS = ("USDC", "WETH", "ETH", "DAI", "stETH")
TEXTS = (
    "",
    "\0",
    "a\0b",
    "x" * 600,
    "x" * (2 << 20),
    "\ufffe",
    "é" * 300,
    "a/b",
    "None",
    "\U0001f4a9\u202e",
    "1e999999",
    "NaN",
)
NUMBERS = (
    "NaN",
    "-Infinity",
    "1e999999",
    "1e-999999",
    "9" * 10_000,
    "0.1" + "0" * 40,
    "",
    "zero",
    "-0",
    "1e19",
    "1e20",
    "sNaN",
)
INTEGERS = (0, -1, 4711, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**64 - 1)


def world() -> World:
    """Return an excerpt of the catalogue with a flag on each fifth asset."""
    made = World(excerpt(SYMBOLS))
    for number, asset in enumerate(made.all("asset")[::5]):
        assert isinstance(asset, model.Asset)
        made.commit([flag(number, asset.asset_id)])
    made.position = 1
    return made


def flag(number: int, asset_id: str) -> model.QualityFlag:
    """Return a warning that blocks."""
    return model.QualityFlag(
        flag_id=f"00000000-0000-4000-9000-{number:012}",
        asset_id=asset_id,
        flag_type=model.FlagType.SCAM,
        severity=model.Severity.CRITICAL,
        source="desk",
        reason="of the test",
    )


def put(record: Record) -> Change:
    """Return the change that writes a record."""
    kind = model.KIND_OF[type(record)]
    return Change(op=Op.PUT, kind=kind.name, key=kind.key_of(record), record=record)


class Host:
    """A replica with a client, fed with raw batches as they come over the wire."""

    def __init__(self, folder: Path, made: World) -> None:
        self.folder, self.world = folder, made
        build(folder / "gen", made.publish(folder / "snapshots"), lambda *_: None)
        self.replica = Replica(Generation(folder / "gen"), Recent())
        self.client = Client(View(None, self.replica))

    def batch(self, *records: Record) -> types_pb2.Batch:
        """Return the next batch, which writes records."""
        changes = tuple([put(record) for record in records])
        return wire.batch_to_wire(
            Batch(position=self.replica.position + 1, chain=bytes(16), committed_at=NOW, changes=changes)
        )

    def receive(self, batch: types_pb2.Batch) -> None:
        """Take a batch as the syncer and then a reader take it: off the wire, into a tail, and out of it."""
        frame = frame_from_wire(types_pb2.Batch.FromString(batch.SerializeToString()))
        ((read, _),) = _tail.frames(_tail.packed(frame), self.replica.position)
        self.replica.apply(*read)

    def look_at_everything(self) -> None:
        """Raise unless every sort of answer can be given, whatever it is."""
        client = self.client
        for table in (kind.table for kind in KINDS.values()):
            client.sql(f"SELECT * FROM {table}").fetchall()
        client.search("USD")
        client.list_assets()
        client.list_chains(include_inactive=True)
        client.list_venues(include_inactive=True)
        asked: list[Callable[[], Any]] = [lambda: client.group("ETH"), lambda: client.resolve("USDC", chain="ethereum")]
        for asset in self.world.all("asset"):
            assert isinstance(asset, model.Asset)
            asked += [
                lambda a=asset.asset_id, f=each: f(a)  # type: ignore[misc]
                for each in (client.flags, client.deployments, client.relationships, client.variants, client.asset)
            ]
        for ask in asked:
            try:
                ask()
            except CqarError as error:
                assert error.reason in {"UNREAD", "NOT_FOUND", "AMBIGUOUS", "CHAIN_NOT_FOUND"}, error  # noqa: PT017

    def compacted(self) -> None:
        """Go over to the next generation, which must hold what the replica holds."""
        path = self.folder / f"gen-{self.replica.position}"
        _compact.compact(path, self.replica.still(), lambda *_: None)
        self.replica.switch(Replica(Generation(path), Recent()), same_history=True)


def _anything(chance: random.Random, field: Any) -> Any:
    if field.type == field.TYPE_STRING:
        return chance.choice((*TEXTS, *NUMBERS))
    if field.type == field.TYPE_BOOL:
        return chance.random() < 0.5
    low, high = (0, 2**32) if "U" in str(field.type) else (-(2**31), 2**31)
    return chance.choice([number for number in INTEGERS if low <= number < high])


def mutate(chance: random.Random, batch: types_pb2.Batch, others: list[types_pb2.Change]) -> None:
    """Spoil one change of a batch."""
    change, other = chance.choice(batch.changes), chance.choice(others)
    ways: list[Callable[[], Any]] = [
        lambda: setattr(change, "kind", chance.choice([*KINDS, "", "instrument", "\0"])),
        lambda: setattr(change, "key", chance.choice([*TEXTS, other.key])),
        lambda: setattr(change, "op", chance.choice([0, 2, 99, 2**31 - 1])),
        lambda: change.record.CopyFrom(other.record),
        lambda: change.ClearField("record"),
        lambda: batch.changes.add().CopyFrom(other),
        lambda: setattr(batch.committed_at, "seconds", chance.choice((2**62, -(2**62), 0))),
        *[lambda: spoil(chance, change)] * 5,
    ]
    chance.choice(ways)()


def spoil(chance: random.Random, change: types_pb2.Change) -> None:
    """Put something else into a field of a change's record."""
    held = change.record.WhichOneof("record")
    if held is None:
        return
    message = getattr(change.record, held)
    field = chance.choice(message.DESCRIPTOR.fields)
    value = getattr(message, field.name)
    if hasattr(value, "update"):
        value[chance.choice(TEXTS[:3])] = chance.choice(TEXTS)
    elif hasattr(value, "append"):
        value.append(chance.choice(TEXTS))
    elif field.message_type is not None:
        value.seconds = chance.choice((2**62, -(2**62), 253_402_300_800, -62_135_596_801))
    else:
        with contextlib.suppress(ValueError):  # the wire cannot carry it
            setattr(message, field.name, _anything(chance, field))


def may_warn(batch: types_pb2.Batch) -> bool:
    """Report whether a batch holds a change that cannot be read and may be of a quality flag."""
    last = {(change.kind, change.key): change for change in batch.changes}
    for change in last.values():
        held = change.record.WhichOneof("record")
        of_a_flag = "quality_flag" in {change.kind, held} or (change.kind not in KINDS and (held or not change.kind))
        try:
            wire.change_from_wire(change)
        except InvalidError:
            if of_a_flag:
                return True
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_of_another_kind_is_set_aside(kind: str, tmp_path: Path) -> None:
    """A change of each kind with an asset in it: the asset is not taken, what follows is, and the change is counted."""
    host = Host(tmp_path, world())
    other = "chain" if kind == "asset" else "asset"
    record = host.world.all(other)[0]
    batch = host.batch(msgspec.structs.replace(record, name="before"), msgspec.structs.replace(record, name="after"))
    batch.changes[0].kind = kind
    host.receive(batch)
    assert host.replica.get(other, KINDS[other].key_of(record)).name == "after"
    assert host.client.status().quarantined == 1 if kind != "quality_flag" else host.replica.unread
    host.look_at_everything()


def test_a_message_that_is_none_asks_for_a_snapshot() -> None:
    """A text that is not UTF-8 spoils the whole message; asking for it again would not help."""
    sent = WatchChangesResponse(batches=[types_pb2.Batch(position=2)])
    sent.batches[0].changes.add(op=types_pb2.OP_PUT, kind="asset", key="spoilt")
    spoilt = sent.SerializeToString().replace(b"spoilt", b"\xff\xfe\xfd\xfc\xfb\xfa")
    feed: Any = grpc.unary_stream_rpc_method_handler(lambda _request, _context: iter([spoilt]))
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("cqar.v1.Replication", {"WatchChanges": feed})]
    )
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    remote = Remote(target, token=None, actor=None, timeout=5)
    place = FeedToken(log_id="00000000-0000-4000-8000-000000000001", position=1, chain=bytes(16))
    with pytest.raises(PositionExpiredError, match="a snapshot beyond it is needed"):
        list(remote.watch(place, 5))
    assert remote.leads_through(place), "it is what follows that is none"
    remote.close()
    server.stop(0)


def test_mutated_batches_stop_nothing(tmp_path: Path, scale: int) -> None:
    """Whatever comes, all answers are given, the next generation is built, and what may be a flag closes the gate."""
    chance = random.Random(10)
    made = world()
    host = Host(tmp_path, made)
    records = [record for kind in KINDS for record in made.all(kind)]
    assets = [asset.asset_id for asset in made.all("asset") if isinstance(asset, model.Asset)]
    closed = 0
    others = list(host.batch(*records).changes)
    for number in range(150 * scale):
        batch = host.batch(*chance.sample(records, 4), *chance.sample(made.all("quality_flag"), 1))
        for _ in range(chance.randint(1, 3)):
            mutate(chance, batch, others)
        position = host.replica.position
        host.receive(batch)
        assert host.replica.position == position + 1, "the feed goes on"
        assert host.client.status().quarantined == len(host.replica.unread)
        if may_warn(batch):
            closed += 1
            for asset_id in assets:
                assert host.client.check_tradable(asset_id, max_age=math.inf).decision != "ALLOW"
        if number % 30 == 29:
            host.look_at_everything()
            before = host.replica.unread
            host.compacted()
            assert host.replica.unread == before
            host.look_at_everything()
    host.receive(host.batch(*records))
    still = {(kind, key) for kind, key in host.replica.unread if host.replica.get(kind, key) in set(records)}
    assert not still, "records that can be read again are whole again"
    assert closed, "the loop has met what may be a flag"
    assert host.client.resolve("USDC", chain="ethereum").asset in records
