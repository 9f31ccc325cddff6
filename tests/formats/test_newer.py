"""F23: what the next release might write. What this one does not know is ignored or set aside, and never opens the gate."""

from __future__ import annotations

import enum
import math
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from google.rpc import status_pb2
from typer.testing import CliRunner

from cqar import snapshot, wire
from cqar.answers import Collision
from cqar.cli import app
from cqar.client import Client, connect, open_snapshot
from cqar.client._registry import Registry
from cqar.client._remote import Remote
from cqar.errors import AmbiguousError, SnapshotError, UnavailableError
from cqar.model import KINDS, Asset, AssetType, FlagType, QualityFlag, Severity
from cqar.v1 import registry_pb2 as pb
from cqar.v1 import types_pb2
from cqar.v1.registry_pb2_grpc import AssetRegistryServicer, add_AssetRegistryServicer_to_server
from tests.faults.replica.host import until
from tests.faults.replica.liar import Liar
from tests.formats.newer import changed, copied, rewritten, whole
from tests.formats.releases import FORMATS
from tests.generations import entries, tables
from tests.worlds import World

FIXTURE = snapshot.latest(FORMATS / str(snapshot.FORMAT_VERSION)).path
ENUMS = [
    (name, field)
    for name, kind in KINDS.items()
    for field, annotation in typing.get_type_hints(kind.record).items()
    if isinstance(annotation, enum.EnumMeta)
]
UNKNOWN = 4711
FIELD_1001 = b"\xca\x3e\x01x"  # of any message: no release has it


def asset(number: int) -> Asset:
    """Give an asset."""
    key = f"00000000-0000-4000-8000-{number:012}"
    return Asset(asset_id=key, symbol=f"S{number}", name="name", asset_type=AssetType.TOKEN)


def flag(number: int, of: Asset) -> QualityFlag:
    """Give a warning that blocks nothing."""
    return QualityFlag(
        flag_id=f"00000000-0000-4000-9000-{number:012}",
        asset_id=of.asset_id,
        flag_type=FlagType.MINTABLE,
        severity=Severity.INFO,
        source="desk",
        reason="of the test",
    )


def opened(made: snapshot.Snapshot, folder: Path) -> Client:
    """Open a snapshot."""
    return open_snapshot(made.path, replica_dir=folder)


def decisions(client: Client, max_age: float = math.inf) -> dict[str, str]:
    """Give the gate's decision on every asset of the fixture."""
    ids = whole(snapshot.load_manifest(FIXTURE), "asset").column("asset_id").to_pylist()
    return {each: client.check_tradable(each, max_age=max_age).decision.value for each in ids}


# --- snapshots -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The fixture as it is."""
    with opened(snapshot.load_manifest(FIXTURE), tmp_path_factory.mktemp("known")) as client:
        yield client


@pytest.mark.parametrize(("kind", "field"), ENUMS, ids=lambda part: part)
def test_a_record_with_an_unknown_value_is_set_aside(kind: str, field: str, known: Client, tmp_path: Path) -> None:
    """It is counted, and told as far as it can be read; queries run, and what the gate does not know it does not allow."""
    made = copied(FIXTURE, tmp_path / "published")
    (key, *_) = KINDS[kind].key
    rows = whole(made, kind)
    of = rows.column(key)[0].as_py()
    value = 99 if field == "severity" else "OF_THE_FUTURE"
    newer = rewritten(made, {kind: changed(rows, field, value, key=key, of=of)})
    assert CliRunner().invoke(app, ["snapshot", "verify", str(newer.path)]).exit_code == 0
    with opened(newer, tmp_path / "new") as client:
        assert client.status().quarantined == 1
        for name, each in KINDS.items():
            (rows_held,) = client.sql(f"SELECT count(*) FROM {each.table}").fetchall()
            assert rows_held == (made.rows[name],)
        told = client._replica.get(kind, of)
        assert getattr(told, field) is type(getattr(told, field)).UNKNOWN
        assert client.sql("SELECT kind, key FROM unread").fetchall() == [(kind, of)]
        before, now = decisions(known), decisions(client)
        assert "ALLOW" in before.values()
        if kind == "quality_flag":
            assert "ALLOW" not in now.values()
        elif kind == "asset":
            assert now.pop(of) == "UNKNOWN"
            assert "upgrade cqar" in client.check_tradable(of).reasons[0]
            assert now.items() <= before.items()
        else:
            assert now == before
    with pytest.raises(SnapshotError, match="upgrade cqar"):  # an import is whole or not at all
        list(snapshot.read(newer, kind))


def test_columns_and_kinds_of_the_future_are_ignored(known: Client, tmp_path: Path) -> None:
    """Columns of any type, in any order, and a file of an unknown kind make no difference to index and tables."""
    made = copied(FIXTURE, tmp_path / "published")
    rows: dict[str, pa.Table | None] = {"instrument": pa.table({"instrument_id": ["x"]})}
    for kind in KINDS:
        table = whole(made, kind)
        table = table.append_column("nested", pa.array([{"a": 1, "b": [2]}] * len(table)))
        table = table.append_column("nothing", pa.nulls(len(table)))
        table = table.append_column("wide", pa.array([None] * len(table), pa.decimal256(60, 20)))
        rows[kind] = table.select([*reversed(table.column_names)])
    newer = rewritten(made, rows)
    with opened(newer, tmp_path / "new") as client:
        assert client.status().quarantined == 0
        assert entries(client._replica.generation) == entries(known._replica.generation)
        assert tables(client._replica.generation) == tables(known._replica.generation)


def test_a_snapshot_older_than_a_kind_or_column_has_none_of_it(tmp_path: Path) -> None:
    """No file is no record, no column no value; but a snapshot without quality flags would open the gate, and is refused."""
    made = copied(FIXTURE, tmp_path / "published")
    older = rewritten(made, {"venue_symbol": None, "asset": whole(made, "asset").drop_columns(["website", "metadata"])})
    with opened(older, tmp_path / "old") as client:
        assert client.status().quarantined == 0
        assert client.sql("SELECT count(*) FROM venue_symbols").fetchall() == [(0,)]
        assert {(each.website, each.metadata) for each in client.list_assets()} == {(None, ())}
    with pytest.raises(SnapshotError) as caught:
        opened(rewritten(older, {"quality_flag": None}), tmp_path / "unsafe")
    assert caught.value.reason == "NO_FLAGS"


def test_a_column_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    """A newer writer that changes a type without a new format is not read half."""
    made = copied(FIXTURE, tmp_path / "published")
    rows = whole(made, "deployment")
    number = rows.schema.get_field_index("decimals")
    newer = rewritten(made, {"deployment": rows.set_column(number, "decimals", pa.array(["many"] * len(rows)))})
    with pytest.raises(SnapshotError, match=r"asset_deployments\.parquet") as caught:
        opened(newer, tmp_path / "replica")
    assert caught.value.reason == "BAD_COLUMNS"


def test_a_newer_format_is_refused_and_an_older_snapshot_opened(tmp_path: Path) -> None:
    """The error says what to do; beside an older snapshot in the same folder that one is used."""
    root = tmp_path / "published"
    newer = rewritten(copied(FIXTURE, root), {}, format_version=2)
    for location in (root, newer.path):
        with pytest.raises(SnapshotError, match=r"format 2, this version reads 1: upgrade cqar"):
            open_snapshot(location, replica_dir=tmp_path / "replica")
    checked = CliRunner().invoke(app, ["snapshot", "verify", str(root)])
    assert (checked.exit_code, "upgrade cqar" in checked.stdout) == (1, True)
    World([asset(1)], position=3).publish(root)
    with open_snapshot(root, replica_dir=tmp_path / "replica") as client:
        assert client.position == 3


# --- the feed --------------------------------------------------------------------------------------------------------


@pytest.fixture
def newer_server() -> Iterator[NewerServer]:
    """Yield a server of the next release with a log of three assets."""
    with NewerServer(World(position=0)) as made:
        for number in range(1, 4):
            made.commit(asset(number))
        yield made


class NewerServer(Liar, AssetRegistryServicer):
    """Follows the contract of the next release, which has a type of assets more."""

    def serve(self, server: grpc.Server) -> None:
        """Answer for single assets too."""
        super().serve(server)
        add_AssetRegistryServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    def _asset(self, key: str) -> Any:
        message = wire.record_to_wire(self.world.records["asset"][key])
        if key == asset(1).asset_id:
            message.asset_type = UNKNOWN
        message.MergeFromString(FIELD_1001)
        return message

    def GetAsset(self, request: pb.GetAssetRequest, _context: object) -> pb.GetAssetResponse:  # noqa: N802
        """Give an asset."""
        return pb.GetAssetResponse(asset=self._asset(request.asset_id), position=self.head.position)

    def ResolveMany(self, request: pb.ResolveManyRequest, _context: object) -> pb.ResolveManyResponse:  # noqa: N802
        """Resolve S<n> to the asset of this number."""
        outcomes = [
            pb.ResolveOutcome(
                resolution=types_pb2.Resolution(asset=self._asset(asset(int(key.symbol.symbol[1:])).asset_id))
            )
            for key in request.keys
        ]
        return pb.ResolveManyResponse(outcomes=outcomes, position=self.head.position)

    def CheckTradable(self, _request: pb.CheckTradableRequest, _context: object) -> pb.CheckTradableResponse:  # noqa: N802
        """Allow, with a flag of a type of the next release."""
        warning = wire.record_to_wire(flag(1, asset(1)))
        warning.flag_type = UNKNOWN
        return pb.CheckTradableResponse(decision=pb.DECISION_ALLOW, flags=[warning], position=self.head.position)


def test_the_feed_of_a_newer_server_is_followed(newer_server: NewerServer, tmp_path: Path) -> None:
    """Unknown fields and kinds are ignored, unknown values and operations quarantined; after a restart it is the same."""
    batch = wire.batch_to_wire(newer_server.world.commit([asset(1), asset(2), asset(4)]))
    batch.changes[0].record.asset.asset_type = UNKNOWN  # type: ignore[assignment]
    batch.changes[1].op = 99  # type: ignore[assignment]
    batch.changes[2].record.asset.MergeFromString(FIELD_1001)
    future = batch.changes.add(op=types_pb2.OP_PUT, kind="instrument", key="x")
    future.record.MergeFromString(FIELD_1001)
    batch.changes.add(op=types_pb2.OP_REMOVE, kind="instrument", key="y")
    batch.MergeFromString(FIELD_1001)
    newer_server.enter(batch)
    for _ in range(2):
        with connect(newer_server.target, replica_dir=tmp_path, timeout=30) as client:
            until(lambda c=client: c.position == 4 and c.age < 1, "it is level", 30)  # type: ignore[misc]
            assert client.status().quarantined == 2
            assert client.asset(asset(4).asset_id) == asset(4)
            assert client.check_tradable(asset(4).asset_id).decision == "ALLOW"
            for number in (1, 2):
                verdict = client.check_tradable(asset(number).asset_id)
                assert (verdict.decision, "upgrade cqar" in verdict.reasons[0]) == ("UNKNOWN", True)
            assert client.asset(asset(2).asset_id) == asset(2)  # asked of the server, who knows
            assert client.asset(asset(1).asset_id).asset_type is AssetType.UNKNOWN
            assert client.sql("SELECT count(*) FROM assets").fetchall() == [(3,)]
            assert client.sql("SELECT key FROM unread ORDER BY key").fetchall() == [
                (asset(n).asset_id,) for n in (1, 2)
            ]
            statuses = client.resolve_many(["S4", "S2", "S1"]).column("status").to_pylist()
            assert statuses == ["OK", "OK", "OK"]


def test_a_warning_of_an_unknown_sort_closes_the_gate_until_it_is_readable(
    newer_server: NewerServer, tmp_path: Path
) -> None:
    """Whatever it is that a flag's change cannot be read by, no asset is allowed; a readable state of it opens the gate again."""
    with connect(newer_server.target, replica_dir=tmp_path, timeout=30) as client:
        until(lambda: client.check_tradable(asset(3).asset_id).decision == "ALLOW", "the gate is open", 30)
        for number, (field, value) in enumerate((("flag_type", UNKNOWN), ("severity", UNKNOWN), ("op", 99)), start=1):
            warning = flag(number, asset(1))
            batch = wire.batch_to_wire(newer_server.world.commit([warning]))
            target = batch.changes[0] if field == "op" else batch.changes[0].record.quality_flag
            setattr(target, field, value)
            newer_server.enter(batch)
            until(lambda b=batch: client.position == b.position, "it has come", 30)  # type: ignore[misc]
            assert {client.check_tradable(asset(n).asset_id).decision.value for n in (1, 2, 3)} == {"UNKNOWN"}
            newer_server.commit(warning)
            until(lambda: not client.status().quarantined, "it can be read", 30)
            until(lambda: client.check_tradable(asset(1).asset_id).decision == "ALLOW", "the gate is open again", 30)


def test_snapshots_of_a_newer_format_are_passed_over(newer_server: NewerServer, tmp_path: Path) -> None:
    """A new replica begins with an older one; one that needs a newer one serves on, says why, and goes on when it can."""
    newer_server.snapshots.append(newer_server.world.publish(tmp_path / "one"))
    newer_server.commit(asset(4))
    newer_server.snapshots.append(rewritten(newer_server.world.publish(tmp_path / "two"), {}, format_version=2))
    del newer_server.log[1], newer_server.log[2]  # without a snapshot there is no beginning
    with connect(newer_server.target, replica_dir=tmp_path / "replica", timeout=30) as client:
        until(lambda: client.position == 4, "it is level", 30)
        newer_server.commit(asset(5), silently=True)
        newer_server.commit(asset(6))
        del newer_server.log[5]  # a gap that stays: only a snapshot helps
        newer_server.snapshots.append(rewritten(newer_server.world.publish(tmp_path / "three"), {}, format_version=2))
        until(lambda: "format 2" in (client.status().last_error or ""), "it says why", 30)
        assert client.asset(asset(4).asset_id) == asset(4)
        assert client.position == 4
        newer_server.snapshots[-1] = newer_server.world.publish(tmp_path / "four")
        until(lambda: client.position == 6, "it goes on", 30)


# --- replies ---------------------------------------------------------------------------------------------------------


def test_a_reply_that_cannot_be_read_is_the_servers_matter(newer_server: NewerServer) -> None:
    """It is no InvalidError, as if the caller had given something wrong, and a verdict in it is not given."""
    remote = Remote(newer_server.target, token=None, actor=None, timeout=5.0)
    registry = Registry(remote)
    assert registry.get_asset(asset(2).asset_id) == asset(2)
    for ask in (registry.get_asset, registry.check_tradable):
        with pytest.raises(UnavailableError) as caught:
            ask(asset(1).asset_id)
        assert caught.value.reason == "NEWER_SERVER"
    remote.close()


def test_an_ambiguity_is_told_without_the_candidates_that_cannot_be_read() -> None:
    """The error stays what it is; it still says how many candidates there are."""
    candidates = tuple(
        [Collision(asset_id=asset(n).asset_id, symbol="S", name="n", asset_type=AssetType.TOKEN) for n in (1, 2)]
    )
    code, message, trailing = wire.error_to_status(AmbiguousError("2 candidates", candidates=candidates))
    ((name, data),) = trailing
    status = status_pb2.Status.FromString(data)
    ambiguity = types_pb2.Ambiguity()
    for detail in status.details:
        if detail.Unpack(ambiguity):
            ambiguity.candidates[0].asset_type = UNKNOWN  # type: ignore[assignment]
            detail.Pack(ambiguity)
    told = wire.error_from_status(code, message, [(name, status.SerializeToString())])
    assert isinstance(told, AmbiguousError)
    assert [each.asset_id for each in told.candidates] == [candidates[1].asset_id]
