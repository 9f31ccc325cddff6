"""Every value of every kind is the same wherever it can be read: written once through UpsertRecords, compared on all paths.

The records are those of `tests.records`; `cqar.rules.records.normal` tells what a record becomes, and nothing on the way may change
it further. Names and types of the fields are proven by test_kinds.
"""

from __future__ import annotations

import enum
import itertools
import types
import typing
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg.rows import dict_row
from psycopg.sql import SQL
from psycopg.sql import Identifier as Name

from cqar import model, snapshot, wire
from cqar.client import Client, connect
from cqar.client._registry import Outcome
from cqar.client._remote import Remote
from cqar.model import KIND_OF, KINDS, FeedToken, Record
from cqar.server.config import Config
from cqar.server.export import export_snapshot
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.server import running_server
from cqar.server.store import Store
from tests.conftest import temporary_folder
from tests.records import LIMITS, TIMES, normalised, registry_of

EACH = 60  # records of a kind
Plain = dict[str, dict[str, Any]]  # key -> field -> value, in types that every path has

# --- paths -----------------------------------------------------------------------------------------------------------


def plain(record: Record) -> dict[str, Any]:
    """Give a record's values without types that only Python has."""
    return {name: _plain(getattr(record, name)) for name in record.__struct_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        assert value.tzinfo is not None
        return value.astimezone(UTC).replace(tzinfo=UTC)
    if isinstance(value, Decimal):
        return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(tuple(v) if isinstance(v, list | tuple) else v for v in value)
    return value


def by_key(kind: model.Kind[Any], rows: Iterable[dict[str, Any]]) -> Plain:
    """Give rows by the key of their record; each must come once."""
    found: Plain = {}
    for row in rows:
        values = {name: _plain(row[name]) for name in kind.record.__struct_fields__}
        key = "/".join(str(values[name]) for name in kind.key)
        assert key not in found
        found[key] = values
    return found


def of(kind: model.Kind[Any], records: Iterable[Record]) -> Plain:
    """Give records by key."""
    return by_key(kind, map(plain, records))


def from_lists(client: Client, kind: model.Kind[Any]) -> Plain:
    """Read all records of a kind with the List methods."""
    registry = client.registry
    groups = {
        "group_member": lambda: itertools.chain(
            *[registry.list_asset_group_members(g.group_id) for g in registry.list_asset_groups()]
        )
    }
    lists: dict[str, Any] = {
        "chain": lambda: registry.list_chains(include_inactive=True),
        "asset": registry.list_assets,
        "deployment": registry.list_asset_deployments,
        "identifier": registry.list_asset_identifiers,
        "relationship": registry.list_asset_relationships,
        "group": registry.list_asset_groups,
        "quality_flag": lambda: registry.list_quality_flags(include_resolved=True),
        "venue": lambda: registry.list_venues(include_inactive=True),
        "venue_symbol": registry.list_venue_symbols,
        **groups,
    }
    return of(kind, lists[kind.name]())


def from_gets(client: Client, kind: model.Kind[Any], keys: Iterable[str]) -> Plain | None:
    """Read records one by one with the Get method of their kind; None for a kind without one."""
    registry = client.registry
    gets: dict[str, Any] = {
        "chain": registry.get_chain,
        "asset": registry.get_asset,
        "deployment": registry.get_asset_deployment,
        "identifier": registry.get_asset_identifier,
        "group": registry.get_asset_group,
        "venue": registry.get_venue,
        "venue_symbol": registry.get_venue_symbol,
    }
    get = gets.get(kind.name)
    return None if get is None else of(kind, map(get, keys))


def from_table(url: str, kind: model.Kind[Any]) -> Plain:
    """Read the rows of the PostgreSQL table."""
    with psycopg.connect(url, row_factory=dict_row, options="-c timezone=UTC") as connection:
        rows = connection.execute(SQL("SELECT * FROM {} WHERE deleted_at IS NULL").format(Name(kind.table))).fetchall()
    for row in rows:
        if "metadata" in row:
            row["metadata"] = sorted(row["metadata"].items())
    return by_key(kind, rows)


def from_feed(target: str) -> dict[str, Plain]:
    """Read the feed from its start: the last state of each record that it tells."""
    remote = Remote(target, token=None, actor=None, timeout=20)
    head, seen = remote.head(), dict[str, dict[str, Record]]()
    watch = remote.watch(FeedToken(log_id=head.log_id, position=0, chain=bytes(16)))
    for message in watch:
        for batch in message.batches:
            for change in map(wire.change_from_wire, batch.changes):
                assert change.record is not None
                assert KIND_OF[type(change.record)].key_of(change.record) == change.key
                seen.setdefault(change.kind, {})[change.key] = change.record
        if message.batches and message.batches[-1].position == head.position:
            watch.cancel()
            remote.close()
            return {name: of(KINDS[name], records.values()) for name, records in seen.items()}
    raise AssertionError("the feed ended")


def from_parquet(path: Path, kind: model.Kind[Any]) -> Plain:
    """Read the Parquet file as any other program would."""
    return by_key(kind, pq.read_table(path / f"{kind.table}.parquet").to_pylist())


def from_sql(client: Client, kind: model.Kind[Any]) -> Plain:
    """Read the client's DuckDB table."""
    return by_key(kind, client.sql(f"SELECT * FROM {kind.table}").to_arrow_table().to_pylist())


class World:
    """What was written, and what each path gives."""

    def __init__(self, expected: dict[str, Plain], paths: dict[str, dict[str, Plain]]) -> None:
        self.expected, self.paths = expected, paths


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Write the registry, clear some flags, publish a snapshot, and read everything on every path."""
    name = f"values_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} STRATEGY file_copy").format(Name(name)))
    url, replicas = postgres.url_for(name), tmp_path_factory.mktemp("values")
    sent = registry_of(EACH)
    records = normalised(sent)
    with temporary_folder() as folder:
        config = Config(
            listen="127.0.0.1:0", database=url, data_dir=folder, snapshot_interval=0, heartbeat_interval=0.1
        )
        with (
            running_server(config) as server,
            connect(server.target, replica_dir=replicas / "a", call_timeout=20) as client,
        ):
            results, _ = client.registry.upsert_records(sent)
            assert [(r.outcome, r.reason, r.message) for r in results] == [(Outcome.CREATED, "", "")] * len(records)
            expected = {
                kind: {
                    r.key: record
                    for r, record in zip(results, records, strict=True)
                    if KIND_OF[type(record)].name == kind
                }
                for kind in KINDS
            }
            for flag in [*expected["quality_flag"].values()][::3]:
                assert isinstance(flag, model.QualityFlag)
                cleared = client.registry.resolve_quality_flag(
                    flag.flag_id, reason="“über” ✓\nline", cleared_by="₮" * 128
                )
                expected["quality_flag"][flag.flag_id] = cleared.record
            store = Store(url)
            published = export_snapshot(store, config.snapshot_root)
            store.close()
            client.wait_for(published.manifest.position)
            with connect(server.target, replica_dir=replicas / "b", call_timeout=20) as other:
                feed = from_feed(server.target)
                paths: dict[str, dict[str, Plain]] = {}
                for kind in KINDS.values():
                    keys = expected[kind.name]
                    gets = from_gets(client, kind, keys)
                    paths[kind.name] = {
                        "list": from_lists(client, kind),
                        "table": from_table(url, kind),
                        "feed": feed[kind.name],
                        "parquet": from_parquet(published.path, kind),
                        "snapshot": of(kind, snapshot.read(snapshot.verify(published.path), kind.name)),
                        "replica of the feed": of(kind, [client._replica.get(kind.name, key) for key in keys]),
                        "replica of the snapshot": of(kind, [other._replica.get(kind.name, key) for key in keys]),
                        "sql over the feed": from_sql(client, kind),
                        "sql over the snapshot": from_sql(other, kind),
                    } | ({} if gets is None else {"get": gets})
                assert other._replica.generation.meta.position == published.manifest.position
        yield World({kind: of(KINDS[kind], rows.values()) for kind, rows in expected.items()}, paths)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Name(name)))


# --- tests -----------------------------------------------------------------------------------------------------------

# What the server adds to a record that is written; all paths must agree on these as well.
ADDED = {
    *("created_at", "updated_at"),
    *("raised_at", "raised_by", "is_primary"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_value_is_the_same_on_every_path(world: World, kind: model.Kind[Any]) -> None:
    """What was written, field by field, is what list, get, table, feed, Parquet, replica and SQL give: equal, and nothing else."""
    paths, written = world.paths[kind.name], world.expected[kind.name]
    first = paths["list"]
    assert len(written) == EACH
    for path, found in paths.items():
        assert found.keys() == written.keys(), path
        for key, expected in written.items():
            for field, value in expected.items():
                seen = found[key][field]
                assert seen == first[key][field], (path, key, field)
                if field not in ADDED or (field in {"raised_at", "raised_by"} and value is not None):
                    assert seen == value, (path, key, field)


def test_the_registry_has_values_at_their_bounds(world: World) -> None:
    """The comparison is not of easy values only: bounds, absences and every member of every enum are among them."""
    seen: dict[str, set[Any]] = {}
    for records in world.expected.values():
        for record in records.values():
            for field, value in record.items():
                seen.setdefault(field, set()).add(value)
    limited = {field: {v for v in seen[field] if v is not None} for field in LIMITS if field != "metadata"}
    longest = {field: max(map(len, values)) for field, values in limited.items()}
    assert longest == {field: LIMITS[field] for field in limited}
    assert {"0.000000000000000001", "99999999999999999999.999999999999999999"} <= seen["weight"] | seen["multiplier"]
    assert {TIMES[0], TIMES[-1]} <= seen["valid_from"] | seen["valid_to"] | seen["raised_at"] | seen["rate_as_of"]
    assert {0, 255} <= seen["decimals"]
    assert 2**63 - 2 in seen["network_id"]
    assert max(map(len, seen["metadata"])) == 64
    enums: dict[str, type[enum.Enum]] = {
        "asset_type": model.AssetType,
        "relationship_type": model.RelationshipType,
        "flag_type": model.FlagType,
        "severity": model.Severity,
        "venue_type": model.VenueType,
        "market_kind": model.MarketKind,
    }
    for field, members in enums.items():
        assert seen[field] == {member.value for member in members}, field
    for kind in KINDS.values():
        hints = typing.get_type_hints(kind.record)
        optional = [n for n in kind.record.__struct_fields__ if types.NoneType in typing.get_args(hints[n])]
        for field in set(optional) - {"created_at", "updated_at", "raised_at", "raised_by"}:
            values = {record[field] for record in world.expected[kind.name].values()}
            assert None in values, (kind.name, field)
            assert "" not in values, (kind.name, field)
            assert len(values) > 1, (kind.name, field)
