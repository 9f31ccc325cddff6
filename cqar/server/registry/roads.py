"""Roads from names to assets, and the guard on those that lead to an asset of which a CRITICAL flag warns (R10, R11).

A trader asks by name and trades what the answer says. A warning counts only as long as the name leads to the asset that it is
about: to take the name off the asset, or to give it to another one, is as good as clearing the flag, and needs the same right.
The rule:

    While an asset has an active CRITICAL flag, only an approver takes a road to it away, gives a name that it had when it was
    deleted to another asset, or makes its symbol mean another asset.

What a road is follows from `KINDS`: every field of a record that refers to an asset leads to it from what the record is found
by (`NAMING`); the symbol leads to its asset; the names of chains, venues and groups lead to all that are there. A kind that
`NAMING` does not know is guarded whole. The guard looks at every write of a transaction, wherever it comes from, as it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from cqar import model
from cqar.access import Role
from cqar.errors import CqarError, PermissionDeniedError
from cqar.model import (
    ASSET,
    CHAIN,
    DEPLOYMENT,
    GROUP,
    GROUP_MEMBER,
    KIND_OF,
    KINDS,
    QUALITY_FLAG,
    VENUE,
    Kind,
    Record,
    fold,
)
from cqar.server import statements
from cqar.server.registry._base import Base, chosen_name
from cqar.server.registry.resolve import Lookup, SymbolKey
from cqar.server.schema import references, row_of
from cqar.server.transaction import Tx, Write


class Naming(NamedTuple):
    """What the records of a kind are found by."""

    by: tuple[str, ...]  # fields
    marks: tuple[str, ...] = ()  # fields that, if true, make the record the preferred one
    has_interval: bool = False  # the name leads there from `valid_from` until `valid_to`


NAMING: Final[Mapping[str, Naming]] = {
    "chain": Naming(("chain_id",)),
    "deployment": Naming(("chain_id", "contract_address"), marks=("is_canonical",)),
    "identifier": Naming(("source", "external_id")),
    "relationship": Naming(("parent_asset_id", "child_asset_id", "relationship_type")),
    "group_member": Naming(("group_id",), marks=("is_canonical",)),
    "venue_symbol": Naming(("venue_id", "symbol", "market_kind"), has_interval=True),
}
LEADING: Final[Mapping[str, tuple[str, ...]]] = {
    kind.name: tuple([field for field, target in references(kind).items() if target is ASSET])
    for kind in KINDS.values()
    if kind is not QUALITY_FLAG  # the warning itself, which has rules of its own
}
PLACES: Final = (CHAIN, VENUE, GROUP)


class Road(NamedTuple):
    """A way from a name to an asset."""

    kind: str
    field: str
    name: tuple[object, ...]
    asset_id: str
    since: datetime | None = None
    until: datetime | None = None

    def covers(self, other: Road) -> bool:
        """Report whether it leads wherever another one leads, whenever that does."""
        starts = self.since is None or (other.since is not None and self.since <= other.since)
        ends = self.until is None or (other.until is not None and other.until <= self.until)
        return self[:4] == other[:4] and starts and ends

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return f"{self.kind} {' '.join([str(part) for part in self.name if part is not None])}"


def roads(record: Record | None) -> Iterator[Road]:
    """Yield the roads that a record is; none for no record."""
    if record is None:
        return
    kind = KIND_OF[type(record)]
    if isinstance(record, model.Asset):
        yield Road(kind.name, "asset_id", (record.symbol,), record.asset_id)
    fields = LEADING.get(kind.name, ())
    naming = NAMING.get(kind.name) or _whole(kind)
    name = tuple([getattr(record, field) for field in naming.by])
    interval = (getattr(record, "valid_from", None), getattr(record, "valid_to", None)) if naming.has_interval else ()
    for field in fields:
        asset_id = getattr(record, field)
        if asset_id is not None:
            marks = [(mark,) for mark in naming.marks if getattr(record, mark)]
            for mark in ((), *marks):
                yield Road(kind.name, field, (*name, *mark), asset_id, *interval)


def _whole(kind: Kind[Any]) -> Naming:
    """Return all that a record of a kind says, for a kind whose names are not known here."""
    kept = {*LEADING.get(kind.name, ()), "provenance", "created_at", "updated_at"}
    return Naming(tuple([field for field in kind.record.__struct_fields__ if field not in kept]))


class Guarded(Base):
    """The guard, for all operations that write."""

    def guard(self, tx: Tx, writes: Sequence[Write]) -> None:
        """Raise PermissionDeniedError if a write of one who is no approver leads a name away from a warned asset.

        The writes have been sent. `tx.refused` says then which of their causes are to blame. Keeps others from raising a flag
        meanwhile on an asset that loses a road.
        """
        if Role.APPROVER in tx.roles:
            return
        for find in (_taken_away, _reused, _taken_over, _renamed_places):
            for write, asset_id, what in find(tx, writes):
                tx.refused.setdefault(write.cause, _denied(asset_id, what))
        if tx.refused:
            raise next(iter(tx.refused.values()))


Finding = tuple[Write, str, str]  # the write, the warned asset, and what the write would do


def _denied(asset_id: str, what: str) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"{what} needs the role {Role.APPROVER}: a CRITICAL flag warns of asset {asset_id}",
        reason="ROLE_NEEDED",
        role=Role.APPROVER,
        asset_id=asset_id,
    )


def _warned(tx: Tx, asset_ids: Iterable[str]) -> set[str]:
    """Return those of the assets that have an active CRITICAL flag."""
    ids = sorted(set(asset_ids))
    return set(tx.ask(statements.WARNED, {"ids": ids}).scalars()) if ids else set()


def _taken_away(tx: Tx, writes: Sequence[Write]) -> Iterator[Finding]:
    lost = [
        (write, road)
        for write in writes
        if write.before is not None
        for road in roads(write.before)
        if not any(new.covers(road) for new in roads(write.after))
    ]
    ids = sorted({road.asset_id for _, road in lost})
    if not ids:
        return
    tx.ask(statements.HOLD_ASSETS, {"ids": ids})
    warned = _warned(tx, ids)
    yield from [
        (write, road.asset_id, f"taking {road} off an asset") for write, road in lost if road.asset_id in warned
    ]


def _reused(tx: Tx, writes: Sequence[Write]) -> Iterator[Finding]:
    """Find names that a warned asset had when they were deleted, given to another one."""
    for name, statement in statements.WERE_WARNED.items():
        news = [
            write
            for write in writes
            if write.after is not None
            and KIND_OF[type(write.after)].name == name
            and set(roads(write.after)) - set(roads(write.before))
        ]
        if news:
            rows = msgspec.json.encode([row_of(write.after) for write in news if write.after is not None]).decode()
            for number, asset_id in tx.ask(statement, {"rows": rows}):
                write = news[number - 1]
                road = next(roads(write.after))
                yield write, asset_id, f"giving {road}, which a warned asset had, to another asset"


class _Touch(NamedTuple):
    """A write after which a symbol may mean the asset, on a chain or everywhere."""

    write: Write
    asset_id: str
    chain_id: str | None = None


def _touches(tx: Tx, writes: Sequence[Write]) -> Iterator[_Touch]:
    for write in writes:
        match write.after, write.before:
            case model.Asset() as after, before if before is None or before.symbol != after.symbol:  # type: ignore[attr-defined]
                yield _Touch(write, after.asset_id)
                if before is not None:
                    for deployment in tx.find(DEPLOYMENT, asset_id=after.asset_id):
                        yield _Touch(write, after.asset_id, deployment.chain_id)
            case model.Deployment() as after, before if set(roads(after)) - set(roads(before)):
                yield _Touch(write, after.asset_id, after.chain_id)
            case model.GroupMember() as after, before if set(roads(after)) - set(roads(before)):
                yield _Touch(write, after.asset_id)
            case model.Group() as after, before if before is not None and _words(before) != _words(after):
                for member in tx.find(GROUP_MEMBER, group_id=after.group_id, is_canonical=True):
                    yield _Touch(write, member.asset_id)
            case _:
                pass


def _taken_over(tx: Tx, writes: Sequence[Write]) -> Iterator[Finding]:
    """Find symbols of warned assets that mean another asset now, by one of the writes."""
    touches = list(_touches(tx, writes))
    if not touches:
        return
    rivals: dict[str, list[tuple[str, tuple[str, str]]]] = {}
    for asset_id, symbol, rival, theirs in tx.ask(
        statements.WARNED_NAMESAKES, {"ids": sorted({touch.asset_id for touch in touches})}
    ):
        rivals.setdefault(asset_id, []).append((rival, (symbol, theirs)))
    if not rivals:
        return
    ids = sorted({rival for found in rivals.values() for rival, _ in found})
    on = {(each.asset_id, each.chain_id) for each in tx.find(DEPLOYMENT, asset_id=ids)}
    asked = [
        (touch, rival, SymbolKey(symbol, touch.chain_id))
        for touch in touches
        for rival, symbols in rivals.get(touch.asset_id, ())
        if touch.chain_id is None or (rival, touch.chain_id) in on
        for symbol in symbols
    ]
    lookup = Lookup(tx, [key for _, _, key in asked], tx.now)
    for touch, rival, key in asked:
        try:
            means = lookup.resolve(key).asset.asset_id
        except CqarError:  # none, or several: nothing is traded
            continue
        if means == touch.asset_id:
            where = "" if key.chain is None else f" on {key.chain}"
            yield touch.write, rival, f"making {key.symbol}{where}, the symbol of a warned asset, mean another asset"


def _words(record: Record | None) -> set[str]:
    """Return the folded names of a chain, a venue or a group."""
    if isinstance(record, model.Group):
        return {fold(record.canonical_symbol)}
    return {word for (word,) in model.names_of(record)} if isinstance(record, model.Chain | model.Venue) else set()


def _renamed_places(tx: Tx, writes: Sequence[Write]) -> Iterator[Finding]:
    """Find names of chains, venues and groups with warned assets that no longer lead there."""
    for kind in PLACES:
        left: list[tuple[Write, str, str]] = []  # with the place and its name
        for write in writes:
            if KIND_OF[type(write.after or write.before)] is not kind:  # type: ignore[index]
                continue
            before, after = _words(write.before), _words(write.after)
            left += [(write, kind.key_of(write.before), word) for word in before - after if write.before is not None]
            if kind is not GROUP and write.after is not None and after - before:
                left += _outranked(tx, kind, write, sorted(after - before))
        if left:
            places = sorted({place for _, place, _ in left})
            warned: dict[str, str] = dict(tx.ask(statements.WARNED_AT[kind.name], {"places": places}).all())
            for write, place, word in left:
                if place in warned:
                    yield (
                        write,
                        warned[place],
                        f"taking the name {word} off {kind.name} {place}, which has a warned asset,",
                    )


def _outranked(tx: Tx, kind: Kind[Any], write: Write, words: Sequence[str]) -> Iterator[tuple[Write, str, str]]:
    """Yield the places whose names mean the place of a write now, because its slug outranks them."""
    found = tx.find(kind, any_name=list(words))
    own = kind.key_of(write.after)  # type: ignore[arg-type]
    for word in words:
        bearers = [place for place in found if word in _words(place)]
        if len(bearers) > 1 and own == word and kind.key_of(chosen_name(kind, bearers, word, "name")) == own:
            yield from [(write, kind.key_of(place), word) for place in bearers if kind.key_of(place) != own]
