"""The record kinds of the registry, described once: record class, table, key, postings.

Storage, export, replica and index loop over `KINDS`; only the verbs (`raise_quality_flag`, …) are written by hand. A record
holds what is true of a *live* thing: deletion is a `Change`, never a field. Field names are those of the tables, of the
messages in `protos/cqar/v1/types.proto` and of the Parquet columns; `tests/contract` proves it.

Rules about the values (normal forms, limits) are in `cqar.rules`, not here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from decimal import Context, Decimal
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from cqar.looks import skeletons

E = TypeVar("E", bound=enum.Enum)


def _open(value: str | int = "UNKNOWN") -> Callable[[type[E]], type[E]]:
    """Return a decorator that gives an enum an UNKNOWN: what a client reads for a value that only a newer version has.

    It is no member: neither iteration nor a lookup by name finds it, so nobody can write it. It is what `value` is read as.
    """

    def opened(kind: type[E]) -> type[E]:
        made: Any = (str if isinstance(value, str) else int).__new__(cast("Any", kind), value)
        made._name_, made._value_ = "UNKNOWN", value
        cast("Any", kind).UNKNOWN = made
        cast("Any", kind)._missing_ = classmethod(lambda _, given: made if given == value else None)
        return kind

    return opened


@_open()
class AssetType(enum.StrEnum):
    """What an asset is, at the coarsest."""

    UNKNOWN: ClassVar[AssetType]  # no member: a value that only a newer server knows

    NATIVE = "NATIVE"  # pays the fees of a chain: ETH, BTC, SOL
    TOKEN = "TOKEN"
    STABLECOIN = "STABLECOIN"
    WRAPPED = "WRAPPED"
    BRIDGED = "BRIDGED"
    STAKED = "STAKED"
    SYNTHETIC = "SYNTHETIC"
    LP_TOKEN = "LP_TOKEN"
    FIAT = "FIAT"  # a government currency, as the quote side of a market
    OTHER = "OTHER"


@_open()
class RelationshipType(enum.StrEnum):
    """How a child is derived from its parent (R8)."""

    UNKNOWN: ClassVar[RelationshipType]  # no member: a value that only a newer server knows

    WRAPS = "WRAPS"
    BRIDGES = "BRIDGES"
    STAKES = "STAKES"
    SYNTHETIC = "SYNTHETIC"
    LP_PAIR = "LP_PAIR"
    MIGRATION = "MIGRATION"
    FORK = "FORK"
    REBASES = "REBASES"


@_open()
class FlagType(enum.StrEnum):
    """What a quality flag warns of (R10)."""

    UNKNOWN: ClassVar[FlagType]  # no member: a value that only a newer server knows

    SCAM = "SCAM"
    RUGPULL = "RUGPULL"
    EXPLOITED = "EXPLOITED"
    DEPRECATED = "DEPRECATED"
    PAUSED = "PAUSED"
    UNVERIFIED = "UNVERIFIED"
    LOW_LIQUIDITY = "LOW_LIQUIDITY"
    HONEYPOT = "HONEYPOT"
    TAX_TOKEN = "TAX_TOKEN"
    IMPOSTOR = "IMPOSTOR"
    SANCTIONED = "SANCTIONED"
    DEPEGGED = "DEPEGGED"
    UPGRADEABLE = "UPGRADEABLE"
    MINTABLE = "MINTABLE"


@_open(127)
class Severity(enum.IntEnum):
    """How bad a flag is; a threshold means `>=` (R10)."""

    UNKNOWN: ClassVar[
        Severity
    ]  # no member: a value that only a newer server knows; above all others, so that no filter drops it

    INFO = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


@_open()
class VenueType(enum.StrEnum):
    """Who holds the order book."""

    UNKNOWN: ClassVar[VenueType]  # no member: a value that only a newer server knows

    CEX = "CEX"
    DEX = "DEX"
    OTHER = "OTHER"


@_open()
class MarketKind(enum.StrEnum):
    """What a venue's ticker names: a market of one of these kinds, or (ASSET) a single asset (R6)."""

    UNKNOWN: ClassVar[MarketKind]  # no member: a value that only a newer server knows

    ASSET = "ASSET"
    SPOT = "SPOT"
    PERPETUAL = "PERPETUAL"
    FUTURE = "FUTURE"
    OPTION = "OPTION"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What all records share. An empty id or time means "the server assigns it"."""

    provenance: str | None = None  # where the fact comes from: "npm:@aave-dao/aave-address-book@4.68.1"
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Chain(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A blockchain. Named by its slug; every other name of it is an alias (R5)."""

    chain_id: str  # the slug: "ethereum"
    name: str
    namespace: str  # CAIP-2 namespace, or the slug of the family where none is registered: decides the address rules
    caip2: str | None = None  # "eip155:1"
    network_id: int | None = None  # EIP-155 chain id, for EVM chains
    aliases: tuple[str, ...] = ()  # "<source>:<name>", e.g. "coingecko:polygon-pos"; sorted, unique over all chains
    native_symbol: str | None = None
    native_decimals: int | None = None
    native_asset_id: str | None = None
    explorer_url: str | None = None
    slip44: int | None = None
    is_testnet: bool = False
    is_active: bool = True


class Asset(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One economic thing, whatever chains it lives on."""

    asset_id: str = ""  # UUID, lower case
    symbol: str
    name: str
    asset_type: AssetType
    category: str | None = None
    logo_url: str | None = None
    website: str | None = None
    description: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()  # sorted by key; `dict(asset.metadata)` for a mapping


class Deployment(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An asset on a chain: a contract, or the chain's native asset."""

    deployment_id: str = ""
    asset_id: str
    chain_id: str
    contract_address: str | None = None  # normal form (R3); None: native
    decimals: int  # of this deployment, not of the asset (R4)
    is_native: bool = False
    is_canonical: bool = False


class Identifier(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The name that a data source has for an asset (R7)."""

    identifier_id: str = ""
    asset_id: str
    source: str  # lower case: "coingecko", "slip44", …
    external_id: str
    is_primary: bool = False


class Relationship(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The child is derived from the parent: parent ETH, child WETH, WRAPS (R8)."""

    relationship_id: str = ""
    parent_asset_id: str
    child_asset_id: str
    relationship_type: RelationshipType
    protocol: str | None = None
    conversion_rate: Decimal | None = None  # units of parent per one child; None: not convertible at a fixed rate
    rate_as_of: datetime | None = None
    rate_source: str | None = None


class Group(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Assets to sum up together: "all ETH variants" (R9)."""

    group_id: str = ""
    canonical_symbol: str
    name: str
    description: str | None = None


class GroupMember(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An asset's place in a group."""

    group_id: str
    asset_id: str
    is_canonical: bool = False
    weight: Decimal = Decimal(1)


class QualityFlag(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A warning about an asset, from one source. Active until it is cleared; kept afterwards (R10)."""

    flag_id: str = ""
    asset_id: str
    flag_type: FlagType
    severity: Severity
    source: str
    reason: str
    evidence_url: str | None = None
    raised_by: str | None = None
    raised_at: datetime | None = None
    cleared_by: str | None = None
    cleared_at: datetime | None = None
    clear_reason: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether nobody has cleared it."""
        return self.cleared_at is None

    @property
    def is_whole(self) -> bool:
        """Whether this version could read what it warns of; if not, its type or its severity is UNKNOWN."""
        return self.flag_type is not FlagType.UNKNOWN and self.severity is not Severity.UNKNOWN


class Venue(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A place to trade."""

    venue_id: str  # the slug: "binance"
    name: str
    venue_type: VenueType
    aliases: tuple[str, ...] = ()  # "<source>:<name>", e.g. "coingecko:gdax"
    website: str | None = None
    countries: tuple[str, ...] = ()  # ISO 3166-1 alpha-2
    chain_id: str | None = None  # of a DEX
    is_active: bool = True


class VenueSymbol(Record, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a ticker means on a venue during an interval (R6)."""

    venue_symbol_id: str = ""
    venue_id: str
    symbol: str
    market_kind: MarketKind
    asset_id: str  # the base asset
    quote_asset_id: str | None = None
    settle_asset_id: str | None = None
    multiplier: Decimal = Decimal(1)  # units of the base asset per one unit of the ticker: 1000 for 1000SHIB
    valid_from: datetime | None = None  # inclusive; None: since ever
    valid_to: datetime | None = None  # exclusive; None: for ever


R = TypeVar("R", bound=Record)
Words = tuple[str, ...]


class Posting(msgspec.Struct, frozen=True):
    """A secondary key: under which word tuples a record is found together with others of its kind."""

    name: str  # unique over all kinds
    words: Callable[[Record], Iterable[Words]]


class Kind(msgspec.Struct, Generic[R], frozen=True):
    """All that the machinery must know of a kind of record."""

    name: str
    table: str
    record: type[R]
    key: Words  # names of the key fields
    postings: tuple[Posting, ...] = ()

    def key_of(self, record: Record) -> str:
        """Give the record's key as one string; the parts (slugs and UUIDs) hold no slash."""
        if len(self.key) == 1:
            only: str = getattr(record, self.key[0])
            return only
        return "/".join([getattr(record, name) for name in self.key])


_WIDE = Context(prec=64)  # the default's 28 digits would round what numeric(38,18) holds


def exact(number: Decimal) -> Decimal:
    """Give a number without trailing zeros: storage pads to a fixed scale, records do not."""
    if number.as_tuple().exponent == 0:
        return number
    whole = number.to_integral_value()
    return whole.quantize(Decimal(1), context=_WIDE) if number == whole else number.normalize(_WIDE)


def fold(text: str) -> str:
    """Give the form in which symbols and names are compared without case (R1)."""
    return text.casefold()


def bare_alias(alias: str) -> str:
    """Strip the source: "coingecko:polygon-pos" -> "polygon-pos"."""
    return alias.partition(":")[2]


def names_of(record: Chain | Venue) -> Iterator[Words]:
    """Give every folded name of a chain or a venue: slug, CAIP-2, network id, aliases with and without their source."""
    match record:
        case Chain():
            names = {record.chain_id, record.caip2, None if record.network_id is None else str(record.network_id)}
        case Venue():
            names = {record.venue_id}
    names.update(record.aliases, map(bare_alias, record.aliases))
    return iter({(fold(name),) for name in names if name})


NATIVE = "native"  # stands for the contract address of a chain's native asset in look-up keys; no normal form equals it


def _by(*fields: str) -> Callable[[Record], Iterable[Words]]:
    def words(record: Record) -> Iterable[Words]:
        return (tuple([getattr(record, field) for field in fields]),)

    return words


def _address_words(record: Record) -> Iterable[Words]:
    assert isinstance(record, Deployment)
    return ((record.chain_id, record.contract_address or NATIVE),)


def _symbol_words(record: Record) -> Iterable[Words]:
    assert isinstance(record, Asset)
    return ((fold(record.symbol),),)


def _skeleton_words(record: Record) -> Iterable[Words]:
    assert isinstance(record, Asset)
    return [(key,) for key in skeletons(record.symbol)]


def _group_words(record: Record) -> Iterable[Words]:
    assert isinstance(record, Group)
    return ((fold(record.canonical_symbol),),)


def _name_words(record: Record) -> Iterable[Words]:
    assert isinstance(record, Chain | Venue)
    return names_of(record)


def _venue_symbol_asset_words(record: Record) -> Iterable[Words]:
    assert isinstance(record, VenueSymbol)
    sides = (record.asset_id, record.quote_asset_id, record.settle_asset_id)
    return {(side,) for side in sides if side}


CHAIN = Kind("chain", "chains", Chain, ("chain_id",), (Posting("chain_by_name", _name_words),))
ASSET = Kind(
    "asset",
    "assets",
    Asset,
    ("asset_id",),
    (Posting("asset_by_symbol", _symbol_words), Posting("asset_by_skeleton", _skeleton_words)),
)
DEPLOYMENT = Kind(
    "deployment",
    "asset_deployments",
    Deployment,
    ("deployment_id",),
    (Posting("deployment_by_asset", _by("asset_id")), Posting("deployment_by_address", _address_words)),
)
IDENTIFIER = Kind(
    "identifier",
    "asset_identifiers",
    Identifier,
    ("identifier_id",),
    (Posting("identifier_by_asset", _by("asset_id")), Posting("identifier_by_external", _by("source", "external_id"))),
)
RELATIONSHIP = Kind(
    "relationship",
    "asset_relationships",
    Relationship,
    ("relationship_id",),
    (
        Posting("relationship_by_parent", _by("parent_asset_id")),
        Posting("relationship_by_child", _by("child_asset_id")),
    ),
)
GROUP = Kind("group", "asset_groups", Group, ("group_id",), (Posting("group_by_symbol", _group_words),))
GROUP_MEMBER = Kind(
    "group_member",
    "asset_group_members",
    GroupMember,
    ("group_id", "asset_id"),
    (Posting("member_by_group", _by("group_id")), Posting("member_by_asset", _by("asset_id"))),
)
QUALITY_FLAG = Kind(
    "quality_flag", "asset_quality_flags", QualityFlag, ("flag_id",), (Posting("flag_by_asset", _by("asset_id")),)
)
VENUE = Kind("venue", "venues", Venue, ("venue_id",), (Posting("venue_by_name", _name_words),))
VENUE_SYMBOL = Kind(
    "venue_symbol",
    "venue_symbols",
    VenueSymbol,
    ("venue_symbol_id",),
    (
        Posting("venue_symbol_by_symbol", _by("venue_id", "symbol")),
        Posting("venue_symbol_by_asset", _venue_symbol_asset_words),
    ),
)

# In an order in which each kind only refers to kinds before it (but for Chain.native_asset_id, which may be set later).
KINDS: dict[str, Kind[Any]] = {
    kind.name: kind
    for kind in (
        CHAIN,
        ASSET,
        DEPLOYMENT,
        IDENTIFIER,
        RELATIONSHIP,
        GROUP,
        GROUP_MEMBER,
        QUALITY_FLAG,
        VENUE,
        VENUE_SYMBOL,
    )
}
KIND_OF: dict[type[Record], Kind[Any]] = {kind.record: kind for kind in KINDS.values()}


class Op(enum.StrEnum):
    """What a change does to its record."""

    PUT = "PUT"
    REMOVE = "REMOVE"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One record written or removed."""

    op: Op
    kind: str  # a key of KINDS
    key: str
    record: Record | None = None  # the new state; None when removed


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """All changes of one committed transaction. `position` counts transactions without a gap."""

    position: int
    chain: bytes  # running hash of all batches up to this one, 16 bytes
    committed_at: datetime
    changes: tuple[Change, ...]


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a snapshot says of a record that was removed and is not there again."""

    kind: str  # a key of KINDS
    key: str
    position: int  # at which it was removed, or the last one that the change log no longer tells of


class FeedToken(msgspec.Struct, frozen=True, kw_only=True):
    """Where a follower is: in which log, how far, and the hash that proves that it is the same history."""

    log_id: str
    position: int
    chain: bytes
