"""The look-ups as plain functions of a replica: no network, no memory of answers.

Each gives `(answer, topics)`, the answer None for "not here"; the topics are what the answer, or its absence, depends on.
A shell (`Client`, `AsyncClient`) runs them consistently, remembers what they give, and asks the server where it is None.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from cqar import model
from cqar.answers import GroupView, Resolution, Variant
from cqar.client._recent import Topic
from cqar.client._replica import Replica, about
from cqar.errors import AmbiguousError, InvalidError, NotFoundError
from cqar.model import MarketKind, RelationshipType, Severity, fold
from cqar.rules.addresses import normalise_address
from cqar.rules.choose import choose
from cqar.rules.tickers import current

T = TypeVar("T")
Found = tuple[T | None, tuple[Topic, ...]]
Direction = Literal["both", "parents", "children"]

MAX_DEPTH = 16  # steps of `variants`; the longest real chain of derivations seen has 5


def chain_of(replica: Replica, name: object) -> model.Chain:
    """Give the chain that a name stands for: slug, CAIP-2, network id or alias, in any case (R5).

    Raises NotFoundError (reason CHAIN_NOT_FOUND), and AmbiguousError if sources use the name for different chains.
    """
    found: model.Chain = _named(replica.find("chain_by_name", fold(str(name).strip())), "chain", str(name))
    return found


def venue_of(replica: Replica, name: object) -> model.Venue:
    """Give the venue that a name stands for; raises as `chain_of` does."""
    found: model.Venue = _named(replica.find("venue_by_name", fold(str(name).strip())), "venue", str(name))
    return found


def _named(found: list[Any], what: str, name: str) -> Any:
    slugs = [getattr(record, f"{what}_id") for record in found]
    if name in slugs:
        return found[slugs.index(name)]
    if len(found) > 1:
        raise AmbiguousError(
            f"{what}: {name!r} may mean {', '.join(slugs)}; use one of these", reason=f"{what.upper()}_AMBIGUOUS"
        )
    if not found:
        raise NotFoundError(f"{what}: {name!r} is not known", reason=f"{what.upper()}_NOT_FOUND", field=what, name=name)
    return found[0]


def resolve(replica: Replica, symbol: str, slug: str) -> Found[Resolution]:
    """Resolve a symbol on a chain, or with "" on none in particular (R2)."""
    symbol = symbol.strip()
    folded = fold(symbol)
    candidates = replica.candidates(slug, folded)
    topics = (("symbol", slug, folded),)
    if not candidates:
        return None, topics
    asked = f"{symbol} on {slug}" if slug else symbol
    return choose(candidates, asked=asked, symbol=symbol, position=replica.position, source="replica"), topics


def resolve_address(replica: Replica, chain: model.Chain, address: str) -> Found[Resolution]:
    """Resolve a contract address, or a placeholder for the chain's native asset (R3)."""
    normal = normalise_address(chain, address)
    candidates = replica.at_address(chain.chain_id, normal)
    topics: tuple[Topic, ...] = (("deployment_by_address", chain.chain_id, normal),)
    if not candidates:
        return None, topics
    asked = f"{address} on {chain.chain_id}"
    found = choose(candidates, asked=asked, symbol=None, position=replica.position, source="replica")
    return found, (*topics, about(found.asset.asset_id))


def resolve_identifier(replica: Replica, source: str, external_id: str) -> Found[Resolution]:
    """Resolve the name that a data source has for an asset (R7)."""
    source = source.strip().lower()
    topics: tuple[Topic, ...] = (("identifier_by_external", source, external_id),)
    for identifier in replica.find("identifier_by_external", source, external_id):
        asset = replica.get("asset", identifier.asset_id)
        if asset is not None:
            answer = Resolution(
                asset=asset,
                deployment=None,
                flags=replica.active_flags(asset.asset_id),
                collisions=(),
                position=replica.position,
            )
            return answer, (*topics, about(asset.asset_id))
    return None, topics


def resolve_venue_symbol(
    replica: Replica, venue: str, symbol: str, kind: MarketKind | None
) -> tuple[model.VenueSymbol | None, tuple[Topic, ...], bool]:
    """Tell what a venue's ticker means now (R6), and whether that will never change by mere passing of time."""
    rows = replica.find("venue_symbol_by_symbol", venue, symbol)
    moment = datetime.now(UTC)
    lasting = not any(bound is not None and bound > moment for row in rows for bound in (row.valid_from, row.valid_to))
    return current(rows, venue, symbol, kind, moment), (("venue_symbol_by_symbol", venue, symbol),), lasting


def asset(replica: Replica, asset_id: str) -> Found[model.Asset]:
    """Give a live asset."""
    return replica.get("asset", asset_id), (about(asset_id),)


def of_asset(replica: Replica, posting: str, asset_id: str) -> Found[tuple[Any, ...]]:
    """Give the records under an asset; None if there is no such asset, () if it has none."""
    if replica.get("asset", asset_id) is None:
        return None, (about(asset_id),)
    return tuple(replica.find(posting, asset_id)), (about(asset_id),)


def relationships(replica: Replica, asset_id: str, direction: Direction) -> Found[tuple[model.Relationship, ...]]:
    """Give the edges of an asset."""
    topics = (about(asset_id),)
    if replica.get("asset", asset_id) is None:
        return None, topics
    edges: dict[str, model.Relationship] = {}
    for posting, wanted in (("relationship_by_parent", "children"), ("relationship_by_child", "parents")):
        if direction in {"both", wanted}:
            edges.update((edge.relationship_id, edge) for edge in replica.find(posting, asset_id))
    return tuple([edges[key] for key in sorted(edges)]), topics


def variants(replica: Replica, asset_id: str, types: frozenset[RelationshipType] | None) -> Found[tuple[Variant, ...]]:
    """Give all that is derived from an asset over one or more steps, nearest first; each asset once, cycles are harmless."""
    if replica.get("asset", asset_id) is None:
        return None, (about(asset_id),)
    seen, found = {asset_id}, []
    frontier: list[tuple[str, tuple[model.Relationship, ...]]] = [(asset_id, ())]
    for depth in range(1, MAX_DEPTH + 1):
        following = []
        for parent, path in frontier:
            for edge in replica.find("relationship_by_parent", parent):
                child = edge.child_asset_id
                if child in seen or (types is not None and edge.relationship_type not in types):
                    continue
                seen.add(child)
                record = replica.get("asset", child)
                if record is not None:
                    found.append(Variant(asset=record, path=(*path, edge), depth=depth))
                    following.append((child, (*path, edge)))
        frontier = following
    return tuple(found), tuple([about(touched) for touched in sorted(seen)])


def flags(replica: Replica, asset_id: str) -> Found[tuple[model.QualityFlag, ...]]:
    """Give all flags of an asset, active ones first, the worst of them first. A deleted asset's stay readable (R12)."""
    found = replica.find("flag_by_asset", asset_id)
    topics = (about(asset_id),)
    if not found and replica.get("asset", asset_id) is None:
        return None, topics
    found.sort(key=lambda flag: (not flag.is_active, -flag.severity, flag.flag_type, flag.source, flag.flag_id))
    return tuple(found), topics


def filtered(
    found: tuple[model.QualityFlag, ...], min_severity: Severity, *, include_resolved: bool
) -> tuple[model.QualityFlag, ...]:
    """Keep the flags of at least a severity."""
    return tuple([f for f in found if f.severity >= min_severity and (include_resolved or f.is_active)])


def group(replica: Replica, canonical_symbol: str) -> Found[GroupView]:
    """Give a group with its members by its symbol, in any case (R9)."""
    folded = fold(canonical_symbol.strip())
    topics: list[Topic] = [("group_by_symbol", folded)]
    for record in replica.find("group_by_symbol", folded):
        members = []
        topics.append(("group", record.group_id))
        for member in replica.find("member_by_group", record.group_id):
            owner = replica.get("asset", member.asset_id)
            if owner is not None:
                topics.append(about(owner.asset_id))
                members.append((member, owner))
        members.sort(key=lambda pair: (not pair[0].is_canonical, pair[1].symbol, pair[1].asset_id))
        return GroupView(group=record, members=tuple(members)), tuple(topics)
    return None, tuple(topics)


def required_text(value: object, field: str) -> str:
    """Refuse what is not text where a text is needed."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidError(f"{field}: a text is needed, not {value!r}", reason="TEXT", field=field)
    return value
