"""How assets derive from each other: edges between two of them, and all that is below one (R8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from cqar.answers import Variant
from cqar.errors import InvalidError, PreconditionError
from cqar.model import ASSET, RELATIONSHIP, Asset, Relationship, RelationshipType
from cqar.patches import RelationshipPatch
from cqar.rules.descent import FORMS, descend
from cqar.rules.records import normal
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    Done,
    Page,
    PageRequest,
    make_token,
    page_size,
    patched,
    read_token,
    require_fresh_id,
    require_known_asset,
    required,
    required_for_update,
    taken,
    writes,
    written,
)
from cqar.server.transaction import Tx

Direction = Literal["both", "parents", "children"]

# What derives from what must not go round in a circle, and neither may what took over from what (R8).
_SUCCESSION: Final = frozenset({RelationshipType.MIGRATION, RelationshipType.FORK})
FAMILIES: Final = (frozenset(RelationshipType) - _SUCCESSION, _SUCCESSION)


class VariantPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of what derives from an asset, nearest first; with a token there are more."""

    variants: tuple[Variant, ...]
    next_page_token: str = ""
    position: int = 0


class Relationships(Base):
    """The operations on relationships."""

    @writes()
    def create_asset_relationship(self, tx: Tx, relationship: Relationship) -> Answer[Relationship]:
        """Record that the child is derived from the parent.

        Raises InvalidError, NotFoundError, ConflictError, and PreconditionError if it would close a cycle (R8).
        """
        edge = normal(relationship)
        require_fresh_id(tx, RELATIONSHIP, edge)
        existing = tx.find(
            RELATIONSHIP,
            parent_asset_id=edge.parent_asset_id,
            child_asset_id=edge.child_asset_id,
            relationship_type=edge.relationship_type,
        )
        if existing:
            what = f"{edge.parent_asset_id} {edge.relationship_type} {edge.child_asset_id}"
            raise taken(RELATIONSHIP, existing[0].relationship_id, f"{what} is there already")
        Ancestry(tx, [edge]).add(edge)
        return Answer(record=tx.put(edge))

    def get_asset_relationship(self, relationship_id: str) -> Answer[Relationship]:
        """Give a relationship by its id; raises NotFoundError."""
        return self._get(RELATIONSHIP, relationship_id, "relationship_id")

    @writes()
    def update_asset_relationship(
        self, tx: Tx, relationship_id: str, patch: RelationshipPatch, expected_position: int | None = None
    ) -> Answer[Relationship]:
        """Change some fields of a relationship. Raises NotFoundError, InvalidError and StaleError.

        A new rate comes with its time; where the rate is cleared, its time and source go with it.
        """
        before = required_for_update(tx, RELATIONSHIP, relationship_id, "relationship_id", expected_position)
        return written(tx, before, patched(before, with_rate(patch)))

    @writes()
    def delete_asset_relationship(self, tx: Tx, relationship_id: str, expected_position: int | None = None) -> Done:
        """Take back that one asset derives from another; nothing refers to it. Raises NotFoundError and StaleError."""
        tx.remove(required_for_update(tx, RELATIONSHIP, relationship_id, "relationship_id", expected_position))
        return Done()

    def list_asset_relationships(
        self,
        *,
        asset_id: str | None = None,
        direction: Direction = "both",
        relationship_type: RelationshipType | None = None,
        protocol: str | None = None,
        page: PageRequest = FIRST_PAGE,
    ) -> Page[Relationship]:
        """List relationships by asset, as either end or as one of them, by type and by protocol."""
        end = {"both": "touching", "parents": "child_asset_id", "children": "parent_asset_id"}[direction]
        with self._store.view() as view:
            filters = {
                end: require_known_asset(view, asset_id),
                "relationship_type": relationship_type,
                "protocol": protocol,
            }
            found = self._page("list_asset_relationships", RELATIONSHIP, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    def list_asset_variants(
        self, asset_id: str, *, types: Collection[RelationshipType] = (), page: PageRequest = FIRST_PAGE
    ) -> VariantPage:
        """List all that derives from an asset over edges of some types, nearest first, each asset once.

        Without types forks and migrations are left out: what they lead to is another asset. Raises NotFoundError if there is no
        such asset.
        """
        size = page_size(page)
        types = types or FORMS
        with self._store.view() as view:
            asset_id = required(view, ASSET, asset_id, "asset_id").asset_id
            filters = {"asset_id": asset_id, "types": sorted(types)}
            after = read_token(page.token, list[str], "list_asset_variants", filters)
            below: defaultdict[str, list[Relationship]] = defaultdict(list)
            assets: dict[str, Asset] = {}
            for edge, child in view.descent(asset_id, types):
                below[edge.parent_asset_id].append(edge)
                assets[child.asset_id] = child
            found = [
                each
                for each in descend(asset_id, below.__getitem__, assets.get, types)
                if after is None or _place(each) > after
            ]
            token = make_token(_place(found[size - 1]), "list_asset_variants", filters) if len(found) > size else ""
            return VariantPage(variants=tuple(found[:size]), next_page_token=token, position=view.position)


def with_rate(patch: RelationshipPatch) -> Mapping[str, Any]:
    """Give the patch such that time and source are always those of the rate; InvalidError for a new rate without its time."""
    if "conversion_rate" not in patch:
        return patch
    if patch["conversion_rate"] is None:
        return {**patch, "rate_as_of": None, "rate_source": None}
    if patch.get("rate_as_of") is None:
        raise InvalidError(
            "rate_as_of: required with a new conversion_rate, which has a new time",
            reason="RATE_SOURCE",
            field="rate_as_of",
        )
    return patch


def _place(variant: Variant) -> list[str]:
    """Give what variants are sorted by: the depth, then the way down."""
    return [f"{variant.depth:02d}", *[edge.relationship_id for edge in variant.path]]


class Ancestry:
    """The edges above some assets, to tell whether a new edge would close a cycle, also beside other writers.

    Making it takes a lock for each family of types until the transaction ends: two edges that only together close a cycle
    cannot be written at once.
    """

    def __init__(self, tx: Tx, edges: Iterable[Relationship]) -> None:
        self._parents: list[defaultdict[str, set[str]]] = []
        edges = list(edges)
        for number, family in enumerate(FAMILIES):
            starts = {edge.parent_asset_id for edge in edges if edge.relationship_type in family}
            parents: defaultdict[str, set[str]] = defaultdict(set)
            if starts:
                tx.lock(f"relationships {number}")
                for parent, child in tx.ancestry(starts, family):
                    parents[child].add(parent)
            self._parents.append(parents)

    def add(self, edge: Relationship) -> None:
        """Note an edge; PreconditionError if its child is above its parent already."""
        parents = self._parents[1 if edge.relationship_type in _SUCCESSION else 0]
        seen, waiting = {edge.parent_asset_id}, [edge.parent_asset_id]
        while waiting:
            above = parents.get(waiting.pop(), set()) - seen
            seen |= above
            waiting += above
        if edge.child_asset_id in seen:
            raise PreconditionError(
                f"child_asset_id: {edge.child_asset_id} is above {edge.parent_asset_id} already; the edge would close a cycle",
                reason="CYCLE",
                field="child_asset_id",
                parent_asset_id=edge.parent_asset_id,
                child_asset_id=edge.child_asset_id,
            )
        parents[edge.child_asset_id].add(edge.parent_asset_id)
