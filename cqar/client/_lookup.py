"""The look-ups as plain functions of a replica: no network, no memory of answers.

Each gives `(answer, topics)`, the answer None for "not here", or not all of it: a list that may lack a record, because nothing of
that could be read, is the server's to give. The topics are what the answer, or its absence, depends on.
A shell (`Client`, `AsyncClient`) runs them consistently, remembers what they give, and asks the server where it is None.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from cqar import model
from cqar.answers import Collision, GroupView, Resolution, Ticker, Variant, ticker_of
from cqar.client._entries import symbol_key
from cqar.client._recent import Topic
from cqar.client._replica import KIND_OF_POSTING, Replica, about
from cqar.errors import AmbiguousError
from cqar.model import MarketKind, RelationshipType, Severity, fold
from cqar.rules.choose import choose, not_found
from cqar.rules.descent import descend
from cqar.rules.tickers import current

T = TypeVar("T")
Found = tuple[T | None, tuple[Topic, ...]]
Direction = Literal["both", "parents", "children"]


def slug_of(replica: Replica, what: Literal["chain", "venue"], name: object) -> Found[str]:
    """Give the slug of the chain or venue that a name stands for: slug, CAIP-2, network id or alias, in any case (R5).

    Raises AmbiguousError if sources use the name for different ones.
    """
    text = str(name).strip()
    folded = fold(text)
    topics = ((f"{what}_by_name", folded),)
    slugs: list[str] = [getattr(record, f"{what}_id") for record in replica.find(f"{what}_by_name", folded)]
    if text in slugs:
        return text, topics
    if len(slugs) > 1:
        raise AmbiguousError(
            f"{what}: {text!r} may mean {', '.join(slugs)}; use one of these", reason=f"{what.upper()}_AMBIGUOUS"
        )
    return slugs[0] if slugs else None, topics


def resolve(replica: Replica, symbol: str, slug: str) -> Found[Resolution]:
    """Resolve a symbol on a chain, or with "" on none in particular (R2)."""
    symbol = symbol.strip()
    folded = fold(symbol)
    key = symbol_key(slug, folded)
    candidates = replica.candidates(key, slug, folded)
    if not candidates:
        return None, (key,)
    if len(candidates) == 1 and not candidates[0].look_alike:
        # As in `choose`, without the call: the common case of the look-up that is asked most.
        (one,) = candidates
        return Resolution(one.asset, one.deployment, one.flags, (), replica.position), (key,)
    return choose(candidates, symbol, replica.position, "replica", symbol, slug), (key,)


def look_alikes(replica: Replica, symbol: str, slug: str) -> tuple[Collision, ...]:
    """Return the assets whose symbols merely look like one that nothing bears there (rule R18, look-alikes)."""
    return not_found(symbol, replica.look_alikes(symbol, slug)).look_alikes


def resolve_address(replica: Replica, slug: str, address: str) -> Found[Resolution]:
    """Resolve a contract address, or a placeholder for the chain's native asset (R3)."""
    from cqar.rules.addresses import normalise_address  # noqa: PLC0415  (its patterns take 5 ms to compile)

    chain = replica.get("chain", slug)
    if chain is None:
        return None, (("chain_by_name", fold(slug)),)
    normal = normalise_address(chain, address)
    candidates = replica.at_address(slug, normal)
    topics: tuple[Topic, ...] = (("deployment_by_address", slug, normal),)
    if not candidates:
        return None, topics
    found = choose(candidates, None, replica.position, "replica", address, slug)
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


def resolve_venue_symbol(replica: Replica, venue: str, symbol: str, kind: MarketKind | None) -> Found[Ticker]:
    """Tell what a venue's ticker means now (R6). No topics: an answer that mere passing of time will change."""
    rows = replica.find("venue_symbol_by_symbol", venue, symbol)
    moment = datetime.now(UTC)
    found = current(rows, venue, symbol, kind, moment)
    answer = None if found is None else ticker_of(*found)
    if answer is not None and any(b is not None and b > moment for row in rows for b in (row.valid_from, row.valid_to)):
        return answer, ()
    return answer, (("venue_symbol_by_symbol", venue, symbol),)


def gate(replica: Replica, asset_id: str) -> Found[tuple[bool, bool, tuple[model.QualityFlag, ...]]]:
    """Tell what the trade gate must know: whether the asset exists, or was deleted, and its active flags, worst first."""
    exists, active = replica.gate(asset_id)
    deleted = not exists and replica.removed("asset", asset_id) and ("asset", asset_id) not in replica.unread
    return (exists, deleted, active), (about(asset_id),)


def everything(replica: Replica, kind: str) -> tuple[Any, ...]:
    """Give all records of a small kind, sorted by key."""
    return tuple(replica.all(kind))


def asset(replica: Replica, asset_id: str) -> Found[model.Asset]:
    """Give a live asset."""
    return replica.get("asset", asset_id), (about(asset_id),)


def of_asset(replica: Replica, asset_id: str, posting: str) -> Found[tuple[Any, ...]]:
    """Give the records under an asset; None if there is no such asset, () if it has none."""
    if replica.get("asset", asset_id) is None or replica.lacks(KIND_OF_POSTING[posting]):
        return None, (about(asset_id),)
    return tuple(replica.find(posting, asset_id)), (about(asset_id),)


def relationships(replica: Replica, asset_id: str, direction: Direction) -> Found[tuple[model.Relationship, ...]]:
    """Give the edges of an asset. A deleted asset's stay readable (R12)."""
    topics = (about(asset_id),)
    edges: dict[str, model.Relationship] = {}
    for posting, wanted in (("relationship_by_parent", "children"), ("relationship_by_child", "parents")):
        if direction in {"both", wanted}:
            edges.update((edge.relationship_id, edge) for edge in replica.find(posting, asset_id))
    if (not edges and replica.get("asset", asset_id) is None) or replica.lacks("relationship"):
        return None, topics
    return tuple([edges[key] for key in sorted(edges)]), topics


def variants(replica: Replica, asset_id: str, types: frozenset[RelationshipType]) -> Found[tuple[Variant, ...]]:
    """Give all that is derived from an asset over one or more steps, nearest first; each asset once, cycles are harmless."""
    if replica.get("asset", asset_id) is None or replica.lacks("asset", "relationship"):
        return None, (about(asset_id),)
    touched = {asset_id}

    def live_asset(key: str) -> model.Asset | None:
        touched.add(key)
        record: model.Asset | None = replica.get("asset", key)
        return record

    found = descend(asset_id, lambda parent: replica.find("relationship_by_parent", parent), live_asset, types)
    return tuple(found), tuple([about(key) for key in sorted(touched)])


def flags(replica: Replica, asset_id: str) -> Found[tuple[model.QualityFlag, ...]]:
    """Give all flags of an asset, active ones first, the worst of them first. A deleted asset's stay readable (R12)."""
    found = replica.find("flag_by_asset", asset_id)
    topics = (about(asset_id),)
    if (not found and replica.get("asset", asset_id) is None) or replica.lacks("quality_flag"):
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
    if replica.lacks("asset", "group_member"):
        return None, tuple(topics)
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
