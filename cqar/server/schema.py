"""The tables: one per record kind, with a column per record field, four for the change log, and one for API tokens.

Columns are derived from the annotations of the records, so the two cannot drift apart; constraints and indexes are
written by hand, each with a deliberate name, because `faults` tells a violated rule by its name. What a table holds
besides its record stands in `BOOKKEEPING`. A deleted row keeps its values and has `deleted_at`; every uniqueness is among
live rows only. The migrations create the same schema; `tests/integration/test_migrations.py` compares the two.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    column,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, ExcludeConstraint
from sqlalchemy.types import TypeEngine

from cqar import model
from cqar.looks import skeletons
from cqar.model import KINDS, Kind, Record, fold
from cqar.server.grams import grams

metadata = MetaData()

# The text of a key sorts by its bytes wherever the database was made: pages and exports rely on it.
TEXT: Final = Text(collation="C")

UUIDS: Final = frozenset(
    {"asset_id", "quote_asset_id", "settle_asset_id", "native_asset_id", "parent_asset_id", "child_asset_id"}
    | {"deployment_id", "identifier_id", "relationship_id", "group_id", "flag_id", "venue_symbol_id"}
)
_TARGETS: Final[Mapping[str, Kind[Any]]] = {
    **dict.fromkeys(
        ("asset_id", "quote_asset_id", "settle_asset_id", "native_asset_id", "parent_asset_id", "child_asset_id"),
        model.ASSET,
    ),
    "chain_id": model.CHAIN,
    "group_id": model.GROUP,
    "venue_id": model.VENUE,
}


def references(kind: Kind[Any]) -> dict[str, Kind[Any]]:
    """Give the fields of a kind that hold the key of another record, with that record's kind."""
    own = kind.key[0] if len(kind.key) == 1 else None
    return {name: _TARGETS[name] for name in kind.record.__struct_fields__ if name in _TARGETS and name != own}


# Columns that no record has, with how to compute them: Python's casefold is not SQL's lower.
BOOKKEEPING: Final[Mapping[str, Mapping[str, Callable[[Any], object]]]] = {
    **{name: {} for name in KINDS},
    "chain": {"names": lambda chain: sorted([word for (word,) in model.names_of(chain)])},
    "asset": {
        "symbol_fold": lambda asset: fold(asset.symbol),
        "name_fold": lambda asset: fold(asset.name),
        "skeletons": lambda asset: sorted(skeletons(asset.symbol)),  # (R18)
        "grams": lambda asset: grams(fold(asset.symbol), fold(asset.name)),
    },
    "group": {"canonical_symbol_fold": lambda group: fold(group.canonical_symbol)},
    "venue": {"names": lambda venue: sorted([word for (word,) in model.names_of(venue)])},
    "venue_symbol": {"symbol_fold": lambda row: fold(row.symbol)},
}
DELETED: Final = "deleted_at"


class Unique(NamedTuple):
    """A uniqueness among live rows: which columns collide, and the reason to tell."""

    kind: Kind[Any]
    columns: tuple[str, ...]
    reason: str = "ALREADY_EXISTS"
    among: Mapping[str, object] = {}  # only among rows with these values


class Rule(NamedTuple):
    """A rule about one field."""

    field: str
    rule: str


class Reference(NamedTuple):
    """A field that must hold the key of a record that exists."""

    field: str
    target: Kind[Any]


# What the name of a violated constraint means. `faults` reads it, the functions below fill it.
UNIQUES: Final[dict[str, Unique]] = {}
RULES: Final[dict[str, Rule]] = {}
REFERENCES: Final[dict[str, Reference]] = {}


def _type_of(name: str, annotation: Any) -> TypeEngine[Any]:
    """Give the column type for a field's annotation, None stripped."""
    if typing.get_origin(annotation) is tuple:
        return ARRAY(TEXT) if typing.get_args(annotation)[0] is str else JSONB()
    if name in UUIDS:
        return Uuid(as_uuid=False)
    if issubclass(annotation, enum.IntEnum):
        return SmallInteger()
    if issubclass(annotation, str):
        return TEXT
    types: dict[type, TypeEngine[Any]] = {
        bool: Boolean(),
        int: BigInteger(),
        datetime: DateTime(timezone=True),
        Decimal: Numeric(38, 18),
    }
    return types[annotation]


def _check(table: str, field: str, label: str, condition: str, rule: str) -> CheckConstraint:
    name = f"ck_{table}_{field}_{label}"
    RULES[name] = Rule(field, rule)
    return CheckConstraint(condition, name=name)


def _field(kind: Kind[Any], name: str, annotation: Any) -> list[Any]:
    """Give the column for a record's field, and the rules that its type brings along."""
    members = [member for member in typing.get_args(annotation) if member is not type(None)]
    optional = type(None) in typing.get_args(annotation) and typing.get_origin(annotation) is not tuple
    plain = members[0] if optional else annotation
    items: list[Any] = []
    target = references(kind).get(name)
    if target is not None:
        constraint = f"fk_{kind.table}_{name}"
        REFERENCES[constraint] = Reference(name, target)
        items.append(ForeignKey(f"{target.table}.{target.key[0]}", name=constraint))
    nullable = optional and name not in {"created_at", "updated_at"}
    found: list[Any] = [Column(name, _type_of(name, plain), *items, nullable=nullable)]
    if plain is datetime:
        span = f"{name} >= '0001-01-01 00:00:00+00' AND {name} < '10000-01-01 00:00:00+00'"  # refuses infinity, too
        found.append(_check(kind.table, name, "range", span, "a time in the years 1 to 9999"))
    elif plain is Decimal:
        found.append(_check(kind.table, name, "positive", f"{name} > 0 AND {name} <> 'NaN'", "a number above 0"))
    elif isinstance(plain, type) and issubclass(plain, enum.IntEnum):
        known = f"{name} BETWEEN {min(plain)} AND {max(plain)}"
        found.append(_check(kind.table, name, "known", known, "a known value"))
    elif isinstance(plain, type) and issubclass(plain, enum.StrEnum):
        values = ", ".join([f"'{member}'" for member in plain])
        found.append(_check(kind.table, name, "known", f"{name} IN ({values})", "a known value"))
    return found


def _table(kind: Kind[Any], *items: Any) -> Table:
    """Make the table of a kind: its record's fields, its bookkeeping, and the items written by hand."""
    hints = typing.get_type_hints(kind.record)
    fields = [item for name in kind.record.__struct_fields__ for item in _field(kind, name, hints[name])]
    lists: dict[str, TypeEngine[Any]] = {"names": ARRAY(TEXT), "skeletons": ARRAY(TEXT), "grams": ARRAY(Integer())}
    folds = [Column(name, lists.get(name, TEXT), nullable=False) for name in BOOKKEEPING[kind.name]]
    primary = f"pk_{kind.table}"
    UNIQUES[primary] = Unique(kind, kind.key, "ID_USED" if kind.key[0] in UUIDS else "ALREADY_EXISTS")
    return Table(
        kind.table,
        metadata,
        *fields,
        *folds,
        Column(DELETED, DateTime(timezone=True)),
        PrimaryKeyConstraint(*kind.key, name=primary),
        *items,
    )


def _unique(
    kind: Kind[Any],
    label: str,
    *columns: str,
    among: Mapping[str, object] | None = None,
    reason: str = "ALREADY_EXISTS",
) -> Index:
    """Make a unique index over live rows; `among` narrows it further: a value of None means IS NULL, True the flag itself."""
    name = f"uq_{kind.table}_{label}"
    UNIQUES[name] = Unique(kind, columns, reason, among or {})
    conditions = [f"{DELETED} IS NULL"]
    conditions += [f"{field} IS NULL" if value is None else field for field, value in (among or {}).items()]
    return Index(name, *columns, unique=True, postgresql_where=text(" AND ".join(conditions)))


def _live_index(kind: Kind[Any], *columns: str, holds: tuple[str, ...] = ()) -> Index:
    """Make an index over live rows. What it `holds` besides need not be fetched from the table."""
    return Index(
        f"ix_{kind.table}_{'_'.join(columns)}",
        *columns,
        postgresql_where=text(f"{DELETED} IS NULL"),
        postgresql_include=list(holds),
    )


def _symbol_length(kind: Kind[Any], field: str) -> CheckConstraint:
    return _check(kind.table, field, "length", f"char_length({field}) BETWEEN 1 AND 64", "1 to 64 characters")


def _words_index(kind: Kind[Any], name: str) -> Index:
    """Make an index over the words in a list."""
    return Index(f"ix_{kind.table}_{name}", name, postgresql_using="gin")


def _skeletons_index() -> Index:
    """Make the index of look-alikes. Without a list of pending entries, which every look-up would have to walk through."""
    return Index("ix_assets_skeletons", "skeletons", postgresql_using="gin", postgresql_with={"fastupdate": "off"})


def _grams_index() -> Index:
    """Make the index of pieces. Its list of pending entries makes writes six times as fast; look-ups want it short."""
    return Index("ix_assets_grams", "grams", postgresql_using="gin", postgresql_with={"gin_pending_list_limit": "256"})


ASSETS = _table(
    model.ASSET,
    _symbol_length(model.ASSET, "symbol"),
    _live_index(model.ASSET, "symbol_fold", "asset_id", holds=("name_fold", "asset_type", "category")),
    _live_index(model.ASSET, "name_fold", "asset_id", holds=("symbol_fold", "asset_type", "category")),
    _live_index(model.ASSET, "asset_type", "asset_id"),
    _live_index(model.ASSET, "category", "asset_id"),
    _grams_index(),
    _skeletons_index(),
)

CHAINS = _table(
    model.CHAIN,
    _check("chains", "network_id", "positive", "network_id > 0", "above 0"),
    _check("chains", "native_decimals", "range", "native_decimals BETWEEN 0 AND 255", "0 to 255"),
    _unique(model.CHAIN, "caip2", "caip2"),
    _unique(model.CHAIN, "network_id", "network_id", "namespace"),
    _words_index(model.CHAIN, "names"),
)


def _deleted_index(kind: Kind[Any], *columns: str) -> Index:
    """Make an index over deleted rows, by what they were found by."""
    return Index(f"ix_{kind.table}_deleted", *columns, postgresql_where=text(f"{DELETED} IS NOT NULL"))


DEPLOYMENTS = _table(
    model.DEPLOYMENT,
    _check("asset_deployments", "decimals", "range", "decimals BETWEEN 0 AND 255", "0 to 255"),
    _check(
        "asset_deployments",
        "contract_address",
        "native",
        "is_native = (contract_address IS NULL)",
        "given unless is_native, and only then",
    ),
    _unique(model.DEPLOYMENT, "address", "chain_id", "contract_address"),
    _unique(model.DEPLOYMENT, "native", "chain_id", among={"is_native": True}, reason="NATIVE_EXISTS"),
    _live_index(model.DEPLOYMENT, "asset_id"),
    _live_index(model.DEPLOYMENT, "chain_id", "asset_id"),
    _live_index(model.DEPLOYMENT, "contract_address"),
    _deleted_index(model.DEPLOYMENT, "chain_id", "contract_address"),
)

IDENTIFIERS = _table(
    model.IDENTIFIER,
    _check("asset_identifiers", "external_id", "length", "char_length(external_id) >= 1", "not empty"),
    _unique(model.IDENTIFIER, "external", "source", "external_id"),
    _unique(model.IDENTIFIER, "primary", "asset_id", "source", among={"is_primary": True}, reason="PRIMARY_EXISTS"),
    _live_index(model.IDENTIFIER, "asset_id"),
    _live_index(model.IDENTIFIER, "external_id"),
    _deleted_index(model.IDENTIFIER, "source", "external_id"),
)

RELATIONSHIPS = _table(
    model.RELATIONSHIP,
    _check(
        "asset_relationships",
        "child_asset_id",
        "differs",
        "parent_asset_id <> child_asset_id",
        "another asset than the parent",
    ),
    _unique(model.RELATIONSHIP, "edge", "parent_asset_id", "child_asset_id", "relationship_type"),
    _live_index(model.RELATIONSHIP, "child_asset_id"),
)

GROUPS = _table(
    model.GROUP,
    _symbol_length(model.GROUP, "canonical_symbol"),
    _unique(model.GROUP, "symbol", "canonical_symbol_fold"),
)

GROUP_MEMBERS = _table(
    model.GROUP_MEMBER,
    _unique(model.GROUP_MEMBER, "canonical", "group_id", among={"is_canonical": True}, reason="CANONICAL_EXISTS"),
    _live_index(model.GROUP_MEMBER, "asset_id"),
)

QUALITY_FLAGS = _table(
    model.QUALITY_FLAG,
    _check(
        "asset_quality_flags",
        "cleared_by",
        "with_cleared_at",
        "(cleared_at IS NULL) = (cleared_by IS NULL)",
        "given with cleared_at, and only then",
    ),
    _unique(model.QUALITY_FLAG, "active", "asset_id", "flag_type", "source", among={"cleared_at": None}),
    _live_index(model.QUALITY_FLAG, "asset_id"),
    Index(
        "ix_asset_quality_flags_severity_asset_id",
        "severity",
        "asset_id",
        postgresql_where=text(f"{DELETED} IS NULL AND cleared_at IS NULL"),
    ),
)

VENUES = _table(model.VENUE, _words_index(model.VENUE, "names"))

VENUE_SYMBOLS = _table(
    model.VENUE_SYMBOL,
    _symbol_length(model.VENUE_SYMBOL, "symbol"),
    _check("venue_symbols", "valid_to", "after_start", "valid_from < valid_to", "after valid_from"),
    ExcludeConstraint(
        (column("venue_id"), "="),
        (column("symbol"), "="),
        (column("market_kind"), "="),
        (func.tstzrange(column("valid_from"), column("valid_to")), "&&"),
        name="ex_venue_symbols_interval",
        using="gist",
        where=text(f"{DELETED} IS NULL"),
    ),
    _live_index(model.VENUE_SYMBOL, "venue_id", "symbol"),
    _live_index(model.VENUE_SYMBOL, "asset_id"),
    _live_index(model.VENUE_SYMBOL, "quote_asset_id"),
    _live_index(model.VENUE_SYMBOL, "settle_asset_id"),
    _live_index(model.VENUE_SYMBOL, "symbol_fold"),
    _deleted_index(model.VENUE_SYMBOL, "venue_id", "symbol"),
)
UNIQUES["ex_venue_symbols_interval"] = Unique(
    model.VENUE_SYMBOL, ("venue_id", "symbol", "market_kind"), "INTERVAL_OVERLAP"
)

TABLES: Final[Mapping[str, Table]] = {kind.name: metadata.tables[kind.table] for kind in KINDS.values()}

# One row. Its update is the last statement of every write, so commits happen in the order of positions; the fill factor
# leaves room for the many versions that busy writers make of it.
CLOCK = Table(
    "clock",
    metadata,
    Column("singleton", Boolean, nullable=False, server_default=text("true")),
    Column("log_id", Uuid(as_uuid=False), nullable=False, server_default=text("gen_random_uuid()")),
    Column("position", BigInteger, nullable=False, server_default=text("0")),
    Column("chain", LargeBinary, nullable=False, server_default=text("'\\x00000000000000000000000000000000'::bytea")),
    # What servers seal remembered answers with; told to nobody else.
    Column(
        "secret",
        LargeBinary,
        nullable=False,
        server_default=text("(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))"),
    ),
    PrimaryKeyConstraint("singleton", name="pk_clock"),
    CheckConstraint("singleton", name="ck_clock_singleton"),
    postgresql_with={"fillfactor": "10"},
)

BATCHES = Table(
    "batches",
    metadata,
    Column("position", BigInteger, nullable=False, autoincrement=False),
    Column("chain", LargeBinary, nullable=False),
    Column("committed_at", DateTime(timezone=True), nullable=False),
    Column("actor", TEXT, nullable=False),
    Column("request_id", TEXT),
    Column("change_count", Integer, nullable=False),
    PrimaryKeyConstraint("position", name="pk_batches"),
    # For the audit. A block range index costs a commit next to nothing: batches come in the order of their times.
    Index("ix_batches_actor", "actor", "position"),
    Index("ix_batches_request_id", "request_id", postgresql_where=text("request_id IS NOT NULL")),
    Index("ix_batches_committed_at", "committed_at", postgresql_using="brin"),
)

# `record` and `before` are json, not jsonb: the text is kept as it was written, and decoded straight into records.
CHANGES = Table(
    "changes",
    metadata,
    Column("position", BigInteger, nullable=False, autoincrement=False),
    Column("ordinal", Integer, nullable=False, autoincrement=False),
    Column("kind", TEXT, nullable=False),
    Column("key", TEXT, nullable=False),
    Column("op", TEXT, nullable=False),
    Column("record", JSON),
    Column("before", JSON),
    PrimaryKeyConstraint("position", "ordinal", name="pk_changes"),
    Index("ix_changes_key", "kind", "key", "position"),
)

# First replies of writes that carried a request id (R13); the digest is that of what the call asked for.
REQUESTS = Table(
    "requests",
    metadata,
    Column("request_id", TEXT, nullable=False),
    Column("method", TEXT, nullable=False),
    Column("reply", LargeBinary, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("digest", LargeBinary),
    PrimaryKeyConstraint("request_id", "method", name="pk_requests"),
    Index("ix_requests_created_at", "created_at"),
)

# Who may call. A row is never deleted: a server without a token that ever was is open to this machine. The hash is of the secret.
API_TOKENS = Table(
    "api_tokens",
    metadata,
    Column("token_id", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("roles", ARRAY(TEXT), nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("created_by", TEXT, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("revoked_by", TEXT),
    Column("last_used_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("token_id", name="pk_api_tokens"),
    CheckConstraint(
        "cardinality(roles) > 0 AND roles <@ ARRAY['reader', 'writer', 'flagger', 'approver', 'admin']",
        name="ck_api_tokens_roles_known",
    ),
    CheckConstraint("octet_length(hash) = 32", name="ck_api_tokens_hash_length"),
)

# How far what is committed has been published: everything up to the position, for good.
RELAYS = Table(
    "relays",
    metadata,
    Column("name", TEXT, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("noted_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("name", name="pk_relays"),
)

# The manifests of the snapshots that were published, wherever: what else lies in those places is somebody else's.
PUBLISHED_SNAPSHOTS = Table(
    "published_snapshots",
    metadata,
    Column("sha256", TEXT, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("noted_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("sha256", name="pk_published_snapshots"),
)


def row_of(record: Record) -> dict[str, object]:
    """Give a record as column values, bookkeeping included, in a form that msgspec can write as JSON."""
    kind = model.KIND_OF[type(record)]
    row: dict[str, object] = msgspec.structs.asdict(record)
    if kind is model.ASSET:
        row["metadata"] = dict(typing.cast("model.Asset", record).metadata)
    for name, compute in BOOKKEEPING[kind.name].items():
        row[name] = compute(record)
    return row
