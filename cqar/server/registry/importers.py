"""How a record of each kind is matched with what is there, checked against it, and merged with it, in a bulk write.

An `Importer` reads once what the records of its kind may meet, and from then on works in memory; what it writes it notes,
so that two records of one call meet each other as well.
"""

from __future__ import annotations

import enum
import operator
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import msgspec

from cqar import model
from cqar.access import Role
from cqar.errors import InvalidError, UnavailableError
from cqar.model import (
    ASSET,
    CHAIN,
    DEPLOYMENT,
    GROUP,
    GROUP_MEMBER,
    IDENTIFIER,
    KIND_OF,
    QUALITY_FLAG,
    RELATIONSHIP,
    VENUE,
    VENUE_SYMBOL,
    Chain,
    Deployment,
    Group,
    GroupMember,
    Identifier,
    Kind,
    QualityFlag,
    Record,
    Relationship,
    Venue,
    VenueSymbol,
    fold,
)
from cqar.rules.records import normal
from cqar.server.faults import CONTENTION
from cqar.server.registry._base import N, chosen_name, not_found, own_names, taken
from cqar.server.registry.flags import first_raised, raised_again, require_role
from cqar.server.registry.groups import demote_canonical
from cqar.server.registry.parts import demote, promote_heir
from cqar.server.registry.relationships import Ancestry
from cqar.server.registry.tickers import interval_taken, overlaps
from cqar.server.schema import references
from cqar.server.transaction import Tx

R = TypeVar("R", bound=Record)
Natural = object  # the value of the field by which records are matched, or a tuple of several
Written = tuple[Literal["CREATED", "UPDATED", "UNCHANGED"], str]  # the outcome, and the record's key

UNCOMPARED: Final = frozenset({"provenance", "created_at", "updated_at"})


class Merge(enum.StrEnum):
    """Whose values count where both the registry and the record have one."""

    FILL = "FILL"  # the registry's; of aliases, countries and metadata both are kept
    REPLACE = "REPLACE"  # the record's; one that is absent or empty is no value


class Shared:
    """What the importers of one call share."""

    def __init__(self, tx: Tx, merge: Merge) -> None:
        self.tx = tx
        self.merge = merge
        self._live: dict[str, set[str]] = defaultdict(set)  # keys of live records by kind, as far as read

    def read_live(self, kind: Kind[Any], keys: Iterable[str]) -> None:
        """Find out which of the records are live."""
        missing = sorted(set(keys) - self._live[kind.name])
        if missing:
            self._live[kind.name] |= self.tx.live(kind, missing)

    def add_live(self, kind: Kind[Any], key: str) -> None:
        """Note a record that this call creates."""
        self._live[kind.name].add(key)

    def is_live(self, kind: Kind[Any], key: str) -> bool:
        """Tell whether a record that was asked for before is live."""
        return key in self._live[kind.name]


class Importer(Generic[R]):
    """The bulk write of one kind: `read_names`, `normal` for each record, `read`, then `write` for each."""

    kind: ClassVar[Kind[Any]]
    natural_fields: ClassVar[tuple[str, ...]]
    pointer: ClassVar[str | None] = (
        None  # the field that says of which asset the record speaks, if it is not in the key
    )

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.tx = shared.tx
        self._existing: dict[Natural, R] = {}
        self._natural = operator.attrgetter(*self.natural_fields)
        self._used: set[str] = set()  # ids that records have or had
        self._references = [  # chains and venues were found by name already
            (field, target) for field, target in references(self.kind).items() if target not in (CHAIN, VENUE)
        ]

    # --- to be refined

    def read_names(self, records: Sequence[R]) -> None:
        """Read the chains or venues that the records name."""

    def normal(self, record: R) -> R:
        """Give the record in its normal form, names of chains and venues resolved."""
        return normal(record)

    def natural(self, record: R) -> Natural:
        """Give the key by which a record is matched."""
        return self._natural(record)

    def fetch(self, records: Sequence[R]) -> Iterable[R]:
        """Give the live records that these may match or collide with; more do no harm."""
        return self.tx.find(self.kind, **{name: sorted({*values}) for name, values in self._columns(records)})

    def note(self, record: R) -> None:
        """Remember a record as it stands now."""
        self._existing[self.natural(record)] = record

    def check(self, record: R, existing: R | None) -> R:  # noqa: ARG002 - for those who refine it
        """Give the record as it may be written; raises what refuses it."""
        return record

    def merged(self, existing: R, record: R) -> R:
        """Give the existing record with what the new one has to say."""
        return merged(existing, record, self.shared.merge)

    # --- the same for all kinds

    def _columns(self, records: Sequence[R]) -> Iterable[tuple[str, set[Any]]]:
        return [(name, {getattr(record, name) for record in records} - {None}) for name in self.natural_fields]

    def read(self, records: Sequence[R]) -> None:
        """Read what the records may meet: records of their keys, their ids, and what they refer to."""
        if not records:
            return
        for record in self.fetch(records):
            self.note(record)
        if len(self.kind.key) == 1 and self.kind.key != self.natural_fields:
            news = [record for record in records if self.natural(record) not in self._existing]
            ids = {self.kind.key_of(record) for record in news} - {""}
            self._used = self.tx.used(self.kind, sorted(ids)) if ids else set()
        for field, target in self._references:
            values = {value for record in records if (value := getattr(record, field)) is not None}
            if values:
                self.shared.read_live(target, values)

    def write(self, record: R) -> Written:
        """Write the record if it says anything new; give the outcome and the key. Raises what refuses it."""
        existing = self._existing.get(self.natural(record))
        if existing is None:
            self._require_references(record, None)
            self._require_fresh_id(record)
            record = self.tx.put(self.check(record, None))
            key = self.kind.key_of(record)
            self.shared.add_live(self.kind, key)
            self.note(record)
            return "CREATED", key
        key = self.kind.key_of(existing)
        if _with_key_and_times(record, existing) == existing:  # what most repeated imports bring
            return "UNCHANGED", key
        self._require_same_asset(existing, record)
        after = self.merged(existing, record)
        if after is existing or same(existing, after):
            return "UNCHANGED", key
        self._require_references(after, existing)
        after = self.check(after, existing)
        if same(existing, after):
            return "UNCHANGED", key
        self.note(self.tx.put(after))
        return "UPDATED", key

    def _require_references(self, record: R, existing: R | None) -> None:
        for field, target in self._references:
            value = getattr(record, field)
            if value is None or (existing and getattr(existing, field) == value):
                continue
            if not self.shared.is_live(target, value):
                raise not_found(target, value, field=field, key=value)

    def _require_fresh_id(self, record: R) -> None:
        key = self.kind.key_of(record)
        if key in self._used:
            raise taken(self.kind, key, f"the id {key} is used, or was by a record that is deleted", reason="ID_USED")

    def _require_same_asset(self, existing: R, record: R) -> None:
        """Refuse to fill a record that speaks of another asset; replacing it is a re-point (R7)."""
        if self.pointer is None or self.shared.merge is Merge.REPLACE:
            return
        there, here = getattr(existing, self.pointer), getattr(record, self.pointer)
        if there != here:
            key = self.kind.key_of(existing)
            raise taken(
                self.kind, key, f"{self.pointer}: it is of asset {there}, not {here}", reason="POINTS_ELSEWHERE"
            )


def _with_key_and_times(record: R, existing: R) -> R:
    """Give the record with what the server assigns as it is in the existing one."""
    kept = {name: getattr(existing, name) for name in KIND_OF[type(existing)].key}
    return msgspec.structs.replace(record, created_at=existing.created_at, updated_at=existing.updated_at, **kept)


def same(one: Record, other: Record) -> bool:
    """Tell whether two records say the same."""
    return all(getattr(one, name) == getattr(other, name) for name in one.__struct_fields__ if name not in UNCOMPARED)


def merged(existing: R, record: R, merge: Merge) -> R:
    """Give the existing record with what the new one has to say; its key and times stay."""
    kept = {"created_at", "updated_at", *KIND_OF[type(existing)].key}
    news: dict[str, object] = {}
    for name in existing.__struct_fields__:
        old, new = getattr(existing, name), getattr(record, name)
        if name in kept or new == old or new is None or new in ("", ()):
            continue
        if merge is Merge.REPLACE or old is None or old in ("", ()):
            news[name] = new
        elif isinstance(old, tuple):
            united = ({**dict(new), **dict(old)}).items() if name == "metadata" else {*old, *new}
            news[name] = tuple(sorted(united))
    return msgspec.structs.replace(existing, **news) if news else existing


class Assets(Importer[model.Asset]):
    """Assets, by the id that the caller chose."""

    kind = ASSET
    natural_fields = ("asset_id",)

    def normal(self, record: model.Asset) -> model.Asset:
        """Give the normal form; InvalidError without an id."""
        if not record.asset_id:
            raise InvalidError("asset_id: required here, to know the asset again", reason="REQUIRED", field="asset_id")
        return normal(record)

    def fetch(self, records: Sequence[model.Asset]) -> Iterable[model.Asset]:
        """Give the live assets, and find out which ids were used by others."""
        ids = sorted({record.asset_id for record in records})
        found = self.tx.find(ASSET, asset_id=ids)
        live = {asset.asset_id for asset in found}
        self._used = self.tx.used(ASSET, [key for key in ids if key not in live])
        return found

    def note(self, record: model.Asset) -> None:
        """Remember an asset, which others may refer to."""
        super().note(record)
        self.shared.add_live(ASSET, record.asset_id)


class _Named(Importer[N]):
    """Chains and venues, by their slug; no two have a name in common."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._owners: dict[str, str] = {}  # folded name -> slug

    def fetch(self, records: Sequence[N]) -> Iterable[N]:
        """Give all that have one of the names, and keep others from taking them meanwhile."""
        self.tx.lock(self.kind.table)
        names = {name for record in records for name in own_names(record)}
        found = {self.kind.key_of(other): other for other in self.tx.find(self.kind, any_name=sorted(names))}
        self.tx.known_absent(self.kind, {self.kind.key_of(record) for record in records} - found.keys())
        return found.values()

    def note(self, record: N) -> None:
        """Remember a chain or venue with its names."""
        super().note(record)
        self._owners.update(dict.fromkeys(own_names(record), self.kind.key_of(record)))

    def check(self, record: N, existing: N | None) -> N:  # noqa: ARG002 - the slug says enough
        """Refuse a name that another has."""
        slug = self.kind.key_of(record)
        for name in sorted(own_names(record)):
            owner = self._owners.get(name, slug)
            if owner != slug:
                raise taken(self.kind, owner, f"{name} is a name of {self.kind.name} {owner}", reason="NAME_TAKEN")
        return record


class _Places(Generic[N]):
    """The chains or venues that some records name, by every name."""

    def __init__(self, tx: Tx, kind: Kind[N], names: Iterable[str]) -> None:
        self._kind = kind
        self._found: dict[str, list[N]] = defaultdict(list)
        words = sorted({fold(name.strip()) for name in names if name})
        for record in tx.find(kind, any_name=words) if words else ():
            for (word,) in model.names_of(record):
                self._found[word].append(record)

    def named(self, name: str, field: str) -> N:
        """Give the one that a name means; raises NotFoundError and AmbiguousError."""
        word = fold(name.strip())
        return chosen_name(self._kind, self._found[word], word, field)


class Chains(_Named[Chain]):
    """Chains."""

    kind = CHAIN
    natural_fields = ("chain_id",)


class Venues(_Named[Venue]):
    """Venues; the chain of a DEX may be given by any name."""

    kind = VENUE
    natural_fields = ("venue_id",)

    def read_names(self, records: Sequence[Venue]) -> None:
        """Read the chains that the venues name."""
        self._chains = _Places(self.tx, CHAIN, [record.chain_id for record in records if record.chain_id])

    def normal(self, record: Venue) -> Venue:
        """Give the normal form."""
        if record.chain_id:
            chain = self._chains.named(record.chain_id, "chain_id")
            record = msgspec.structs.replace(record, chain_id=chain.chain_id)
        return normal(record)


class Deployments(Importer[Deployment]):
    """Deployments, by chain and address."""

    kind = DEPLOYMENT
    natural_fields = ("chain_id", "contract_address")
    pointer = "asset_id"

    def read_names(self, records: Sequence[Deployment]) -> None:
        """Read the chains that the deployments name."""
        self._chains = _Places(self.tx, CHAIN, [record.chain_id for record in records])

    def normal(self, record: Deployment) -> Deployment:
        """Give the normal form."""
        return normal(record, self._chains.named(record.chain_id, "chain_id"))

    def fetch(self, records: Sequence[Deployment]) -> Iterable[Deployment]:
        """Give what is at the addresses, and the native ones."""
        natives = sorted({record.chain_id for record in records if record.is_native})
        found = self.tx.find(DEPLOYMENT, chain_id=natives, is_native=True) if natives else []
        return [*found, *super().fetch(records)]


class Identifiers(Importer[Identifier]):
    """Identifiers, by source and external id; an asset has one primary for each source that has any."""

    kind = IDENTIFIER
    natural_fields = ("source", "external_id")
    pointer = "asset_id"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._primaries: dict[tuple[str, str], Identifier] = {}

    def normal(self, record: Identifier) -> Identifier:
        """Give the normal form; InvalidError without an external id."""
        record = normal(record)
        if not record.external_id:
            raise InvalidError("external_id: required", reason="REQUIRED", field="external_id")
        return record

    def fetch(self, records: Sequence[Identifier]) -> Iterable[Identifier]:
        """Give what the sources' names stand for, and the assets' primary identifiers."""
        assets, sources = sorted({r.asset_id for r in records}), sorted({r.source for r in records})
        primaries = self.tx.find(IDENTIFIER, asset_id=assets, source=sources, is_primary=True)
        return [*primaries, *super().fetch(records)]

    def read(self, records: Sequence[Identifier]) -> None:
        """Read what there is, and keep the primaries beside which others become secondary."""
        super().read(records)
        relied = set()
        for record in records:
            existing, primary = self._existing.get(self.natural(record)), self._primary(record)
            if primary is not None and (existing is None or existing.asset_id != record.asset_id):
                relied.add(primary.identifier_id)
        if relied:
            held = self.tx.find_for_update(IDENTIFIER, identifier_id=sorted(relied), is_primary=True)
            if len(held) < len(relied):
                raise UnavailableError("another writer was in the way; try again", reason=CONTENTION)

    def _primary(self, record: Identifier) -> Identifier | None:
        return self._primaries.get((record.asset_id, record.source))

    def note(self, record: Identifier) -> None:
        """Remember an identifier, and whether it is primary."""
        super().note(record)
        if record.is_primary:
            self._primaries[record.asset_id, record.source] = record

    def write(self, record: Identifier) -> Written:
        """Write the identifier; if it was another asset's primary, that asset gets another one."""
        before = self._existing.get(self.natural(record))
        written = super().write(record)
        if (
            before is not None
            and before.is_primary
            and before.asset_id != self._existing[self.natural(record)].asset_id
        ):
            del self._primaries[before.asset_id, before.source]
            heir = promote_heir(self.tx, before)
            if heir is not None:
                self.note(heir)
        return written

    def check(self, record: Identifier, existing: Identifier | None) -> Identifier:
        """Make the first one primary; another takes its place only by replacing it."""
        primary = self._primary(record)
        if primary is None or (existing and primary.identifier_id == existing.identifier_id):
            return msgspec.structs.replace(record, is_primary=True)
        if not record.is_primary or self.shared.merge is Merge.FILL:
            return msgspec.structs.replace(record, is_primary=False)
        self.note(demote(self.tx, primary))
        return record


class Relationships(Importer[Relationship]):
    """Relationships, by parent, child and type."""

    kind = RELATIONSHIP
    natural_fields = ("parent_asset_id", "child_asset_id", "relationship_type")

    def read(self, records: Sequence[Relationship]) -> None:
        """Read what there is, and what is above new edges."""
        super().read(records)
        self._ancestry = Ancestry(self.tx, [edge for edge in records if self.natural(edge) not in self._existing])

    def check(self, record: Relationship, existing: Relationship | None) -> Relationship:
        """Refuse an edge that closes a cycle."""
        if existing is None:
            self._ancestry.add(record)
        return record


class Groups(Importer[Group]):
    """Groups, by canonical symbol in any case."""

    kind = GROUP
    natural_fields = ("canonical_symbol",)

    def natural(self, record: Group) -> Natural:
        """Give the folded symbol."""
        return fold(record.canonical_symbol)

    def fetch(self, records: Sequence[Group]) -> Iterable[Group]:
        """Give the groups for the symbols."""
        return self.tx.find(GROUP, canonical_symbol_fold=sorted({fold(record.canonical_symbol) for record in records}))


class GroupMembers(Importer[GroupMember]):
    """Members, by group and asset; a group has at most one that is canonical."""

    kind = GROUP_MEMBER
    natural_fields = ("group_id", "asset_id")

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._canonical: dict[str, GroupMember] = {}

    def fetch(self, records: Sequence[GroupMember]) -> Iterable[GroupMember]:
        """Give the members, and the groups' canonical ones."""
        groups = sorted({record.group_id for record in records})
        canonical = self.tx.find(GROUP_MEMBER, group_id=groups, is_canonical=True)
        found = [*canonical, *super().fetch(records)]
        absent = {GROUP_MEMBER.key_of(record) for record in records} - set(map(GROUP_MEMBER.key_of, found))
        self.tx.known_absent(GROUP_MEMBER, absent)
        return found

    def note(self, record: GroupMember) -> None:
        """Remember a member, and whether it is canonical."""
        super().note(record)
        if record.is_canonical:
            self._canonical[record.group_id] = record

    def check(self, record: GroupMember, existing: GroupMember | None) -> GroupMember:  # noqa: ARG002 - see above
        """Refuse a second canonical member, or let it take the first one's place."""
        canonical = self._canonical.get(record.group_id)
        if not record.is_canonical or canonical is None or canonical.asset_id == record.asset_id:
            return record
        if self.shared.merge is Merge.FILL:
            key = GROUP_MEMBER.key_of(canonical)
            message = f"is_canonical: asset {canonical.asset_id} is the canonical member"
            raise taken(GROUP_MEMBER, key, message, reason="CANONICAL_EXISTS")
        self.note(demote_canonical(self.tx, canonical))
        return record


class QualityFlags(Importer[QualityFlag]):
    """Active flags, by asset, type and source."""

    kind = QUALITY_FLAG
    natural_fields = ("asset_id", "flag_type", "source")

    def normal(self, record: QualityFlag) -> QualityFlag:
        """Give the normal form; InvalidError for a cleared flag, PermissionDeniedError if the caller may not raise any."""
        require_role(self.tx, Role.FLAGGER, "raising a flag")
        if record.cleared_by or record.cleared_at or record.clear_reason:
            raise InvalidError("cleared_at: a flag is cleared by resolving it", reason="CLEARED", field="cleared_at")
        record = normal(record)
        if not record.reason:
            raise InvalidError("reason: required", reason="REQUIRED", field="reason")
        return record

    def fetch(self, records: Sequence[QualityFlag]) -> Iterable[QualityFlag]:
        """Give the active flags of the assets."""
        return self.tx.find(QUALITY_FLAG, asset_id=sorted({record.asset_id for record in records}), is_active=True)

    def merged(self, existing: QualityFlag, record: QualityFlag) -> QualityFlag:
        """Raise it again, or only add evidence."""
        if self.shared.merge is Merge.REPLACE:
            return raised_again(self.tx, existing, record)
        return merged(existing, record, Merge.FILL)

    def check(self, record: QualityFlag, existing: QualityFlag | None) -> QualityFlag:
        """Fill in who raised a new one."""
        return first_raised(self.tx, record) if existing is None else record


class VenueSymbols(Importer[VenueSymbol]):
    """Venue symbols, by venue, ticker, kind and start; a ticker means one thing at a time."""

    kind = VENUE_SYMBOL
    natural_fields = ("venue_id", "symbol", "market_kind", "valid_from")
    pointer = "asset_id"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._rows: dict[Natural, dict[str, VenueSymbol]] = defaultdict(dict)  # of one ticker and kind, by key
        self._ticker = operator.attrgetter("venue_id", "symbol", "market_kind")

    def read_names(self, records: Sequence[VenueSymbol]) -> None:
        """Read the venues that the records name."""
        self._venues = _Places(self.tx, VENUE, [record.venue_id for record in records])

    def normal(self, record: VenueSymbol) -> VenueSymbol:
        """Give the normal form."""
        venue = self._venues.named(record.venue_id, "venue_id")
        return normal(
            record if venue.venue_id == record.venue_id else msgspec.structs.replace(record, venue_id=venue.venue_id)
        )

    def fetch(self, records: Sequence[VenueSymbol]) -> Iterable[VenueSymbol]:
        """Give all that the tickers ever meant or will mean."""
        return self.tx.find(
            VENUE_SYMBOL,
            venue_id=sorted({record.venue_id for record in records}),
            symbol=sorted({record.symbol for record in records}),
        )

    def note(self, record: VenueSymbol) -> None:
        """Remember what a ticker means."""
        super().note(record)
        self._rows[self._ticker(record)][record.venue_symbol_id] = record

    def check(self, record: VenueSymbol, existing: VenueSymbol | None) -> VenueSymbol:
        """Refuse a second meaning at one instant."""
        own = existing.venue_symbol_id if existing else ""
        for key, other in self._rows[self._ticker(record)].items():
            if key != own and overlaps(other, record):
                raise interval_taken(other)
        return record


# Each kind refers only to kinds before it.
IMPORTERS: Final[tuple[type[Importer[Any]], ...]] = (
    Assets,
    Chains,
    Venues,
    Deployments,
    Identifiers,
    Relationships,
    Groups,
    GroupMembers,
    QualityFlags,
    VenueSymbols,
)
