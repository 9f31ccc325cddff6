"""How assets belong together: relationships between them, and groups of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from cqar.errors import PreconditionError
from cqar.model import GROUP, GROUP_MEMBER, RELATIONSHIP, Group, GroupMember, Relationship, RelationshipType, fold
from cqar.rules.records import normal
from cqar.rules.text import check_text, check_uuid
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    Done,
    Page,
    PageRequest,
    not_found,
    require_fresh_id,
    require_known_asset,
    required,
    taken,
    writes,
)
from cqar.server.transaction import Tx

Direction = Literal["both", "parents", "children"]

# What derives from what must not go round in a circle, and neither may what took over from what (R8).
_SUCCESSION: Final = frozenset({RelationshipType.MIGRATION, RelationshipType.FORK})
FAMILIES: Final = (frozenset(RelationshipType) - _SUCCESSION, _SUCCESSION)


class Groups(Base):
    """The operations on relationships, groups and their members."""

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

    @writes()
    def create_asset_group(self, tx: Tx, group: Group) -> Answer[Group]:
        """Create a group. Raises InvalidError, and ConflictError if another has its symbol, in any case (R9)."""
        group = normal(group)
        require_fresh_id(tx, GROUP, group)
        existing = tx.find(GROUP, canonical_symbol_fold=fold(group.canonical_symbol))
        if existing:
            raise taken(GROUP, existing[0].group_id, f"there is a group for {existing[0].canonical_symbol} already")
        return Answer(record=tx.put(group))

    def get_asset_group(self, group_id: str) -> Answer[Group]:
        """Give a group by its id; raises NotFoundError."""
        return self._get(GROUP, group_id, "group_id")

    def get_asset_group_of(self, canonical_symbol: str) -> Answer[Group]:
        """Give the group for a symbol, in any case; raises NotFoundError."""
        symbol = check_text(canonical_symbol, "canonical_symbol", 64)
        with self._store.view() as view:
            found = view.find(GROUP, canonical_symbol_fold=fold(symbol))
            if not found:
                raise not_found(GROUP, f"for {symbol}", field="canonical_symbol", canonical_symbol=symbol)
            return Answer(record=found[0], position=view.position)

    def list_asset_groups(self, *, asset_id: str | None = None, page: PageRequest = FIRST_PAGE) -> Page[Group]:
        """List groups, all or those with an asset."""
        with self._store.view() as view:
            filters = {"member_asset_id": require_known_asset(view, asset_id)}
            found = self._page("list_asset_groups", GROUP, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    @writes()
    def add_asset_to_group(self, tx: Tx, member: GroupMember) -> Answer[GroupMember]:
        """Add an asset to a group. Raises InvalidError, NotFoundError, and ConflictError (R9)."""
        member = normal(member)
        required(tx, GROUP, member.group_id, "group_id")
        if tx.get(GROUP_MEMBER, GROUP_MEMBER.key_of(member), for_update=True) is not None:
            key = GROUP_MEMBER.key_of(member)
            raise taken(GROUP_MEMBER, key, f"asset {member.asset_id} is in group {member.group_id} already")
        if member.is_canonical:
            require_no_canonical(tx, member)
        return Answer(record=tx.put(member))

    @writes()
    def remove_asset_from_group(self, tx: Tx, group_id: str, asset_id: str) -> Done:
        """Take an asset out of a group; raises NotFoundError."""
        key = f"{check_uuid(group_id, 'group_id')}/{check_uuid(asset_id, 'asset_id')}"
        member = tx.get(GROUP_MEMBER, key, for_update=True)
        if member is None:
            raise not_found(GROUP_MEMBER, f"{asset_id} of group {group_id}", group_id=group_id, asset_id=asset_id)
        tx.remove(member)
        return Done()

    def list_asset_group_members(self, group_id: str, *, page: PageRequest = FIRST_PAGE) -> Page[GroupMember]:
        """List the members of a group; raises NotFoundError."""
        with self._store.view() as view:
            filters = {"group_id": required(view, GROUP, group_id, "group_id").group_id}
            found = self._page("list_asset_group_members", GROUP_MEMBER, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)


def require_no_canonical(tx: Tx, member: GroupMember) -> None:
    """Raise ConflictError if the group has a canonical member already."""
    present = tx.find(GROUP_MEMBER, group_id=member.group_id, is_canonical=True)
    if present:
        raise taken(
            GROUP_MEMBER,
            GROUP_MEMBER.key_of(present[0]),
            f"is_canonical: asset {present[0].asset_id} is the canonical member",
            reason="CANONICAL_EXISTS",
        )


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
