# ruff: noqa: INP001
"""What must hold over the whole catalogue, and no record can say by itself: references, uniqueness, cycles, intervals.

In a registry the database sees to these; here a build fails on them with one line each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from cqar import model
from cqar.model import KINDS, RelationshipType, fold, names_of

Records = Mapping[str, Sequence[model.Record]]
ALWAYS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def problems(records: Records) -> list[str]:
    """Give every broken rule, one line each."""
    found = []
    for name, rows in records.items():
        keys = [KINDS[name].key_of(row) for row in rows]
        found += [f"{name}: key {key} twice" for key in _twice(keys)]
    for check in (_references, _names, _canonical, _groups, _cycles, _identifiers, _intervals):
        found += check(records)
    return found


def _twice(words: Iterable[object]) -> list[object]:
    seen: set[object] = set()
    return [word for word in words if word in seen or seen.add(word)]  # type: ignore[func-returns-value]


def _references(records: Records) -> list[str]:
    assets = {row.asset_id for row in cast("Sequence[model.Asset]", records["asset"])}
    targets = {
        "chain_id": {row.chain_id for row in cast("Sequence[model.Chain]", records["chain"])},
        "venue_id": {row.venue_id for row in cast("Sequence[model.Venue]", records["venue"])},
        "group_id": {row.group_id for row in cast("Sequence[model.Group]", records["group"])},
        **dict.fromkeys(
            ("asset_id", "parent_asset_id", "child_asset_id", "quote_asset_id", "settle_asset_id", "native_asset_id"),
            assets,
        ),
    }
    return [
        f"{name} {KINDS[name].key_of(row)}: {field} {value} does not exist"
        for name, rows in records.items()
        for row in rows
        for field in targets.keys() & set(row.__struct_fields__)
        if (value := getattr(row, field)) and value not in targets[field]
    ]


def _names(records: Records) -> list[str]:
    found = []
    for name in ("chain", "venue"):
        owner: dict[str, str] = {}
        for row in cast("Sequence[model.Chain | model.Venue]", records[name]):
            key = KINDS[name].key_of(row)
            found += [
                f"{name}: {key} and {owner[word]} share the name {word}"
                for (word,) in names_of(row)
                if owner.setdefault(word, key) != key
            ]
    return found


def _canonical(records: Records) -> list[str]:
    symbol = {row.asset_id: fold(row.symbol) for row in cast("Sequence[model.Asset]", records["asset"])}
    rows = cast("Sequence[model.Deployment]", records["deployment"])
    places = [(row.chain_id, row.contract_address) for row in rows]
    names = [(row.chain_id, symbol[row.asset_id]) for row in rows if row.is_canonical]
    return [f"deployment: {place} twice" for place in _twice(places)] + [
        f"deployment: two canonical ones of {name} on {chain}"
        for chain, name in cast("list[tuple[str, str]]", _twice(names))
    ]


def _groups(records: Records) -> list[str]:
    members = cast("Sequence[model.GroupMember]", records["group_member"])
    heads = [row.group_id for row in members if row.is_canonical]
    found = [f"group {group}: two canonical members" for group in _twice(heads)]
    groups = cast("Sequence[model.Group]", records["group"])
    return found + [f"group {row.canonical_symbol}: no canonical member" for row in groups if row.group_id not in heads]


def _cycles(records: Records) -> list[str]:
    found = []
    rows = cast("Sequence[model.Relationship]", records["relationship"])
    tree = frozenset({"WRAPS", "BRIDGES", "STAKES", "SYNTHETIC", "LP_PAIR", "REBASES"})
    for kinds in (tree, frozenset({RelationshipType.MIGRATION}), frozenset({RelationshipType.FORK})):
        parents: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            if row.relationship_type in kinds:
                parents[row.child_asset_id].add(row.parent_asset_id)
        for start in list(parents):
            above: set[str] = set()
            todo = [start]
            while todo:
                news = parents.get(todo.pop(), set()) - above
                above |= news
                todo += news
            if start in above:
                found.append(f"relationship: {start} is derived from itself")
    return found


def _identifiers(records: Records) -> list[str]:
    rows = cast("Sequence[model.Identifier]", records["identifier"])
    found = [f"identifier: {name} twice" for name in _twice((row.source, row.external_id) for row in rows)]
    primary = [(row.asset_id, row.source) for row in rows if row.is_primary]
    found += [f"identifier: two primary ones of {name}" for name in _twice(primary)]
    missing = {(row.asset_id, row.source) for row in rows} - set(primary)
    found += _on_vouchers(records, rows)
    return found + [f"identifier: no primary one of {name}" for name in sorted(missing)]


def _on_vouchers(records: Records, rows: Sequence[model.Identifier]) -> list[str]:
    """Find identifiers on a mere IBC voucher of a coin that is held itself: they belong to the coin."""
    assets = {row.asset_id: row for row in cast("Sequence[model.Asset]", records["asset"])}
    vouchers: dict[str, bool] = {}
    for row in cast("Sequence[model.Deployment]", records["deployment"]):
        is_voucher = (row.contract_address or "").startswith("ibc/")
        vouchers[row.asset_id] = is_voucher and vouchers.get(row.asset_id, True)
    held = {fold(asset.symbol) for key, asset in assets.items() if not vouchers.get(key, False)}
    return [
        f"identifier: {row.source} {row.external_id} is on a voucher of {assets[row.asset_id].symbol}, which is held itself"
        for row in rows
        if vouchers.get(row.asset_id, False) and fold(assets[row.asset_id].symbol) in held
    ]


def _intervals(records: Records) -> list[str]:
    spans = defaultdict(list)
    for row in cast("Sequence[model.VenueSymbol]", records["venue_symbol"]):
        spans[row.venue_id, row.symbol, row.market_kind].append(
            (row.valid_from or ALWAYS[0], row.valid_to or ALWAYS[1])
        )
    return [
        f"venue symbol: {name} means two things at once"
        for name, times in spans.items()
        for earlier, later in zip(sorted(times), sorted(times)[1:], strict=False)
        if earlier[1] > later[0]
    ]
