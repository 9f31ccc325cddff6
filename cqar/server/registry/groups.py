"""Groups of assets to sum up together, and their members (R9)."""

from __future__ import annotations

import msgspec

from cqar.errors import ConflictError
from cqar.model import GROUP, GROUP_MEMBER, Group, GroupMember, fold
from cqar.patches import GroupMemberPatch, GroupPatch
from cqar.rules.records import normal
from cqar.rules.text import check_text, check_uuid
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    Done,
    Page,
    PageRequest,
    locked,
    not_found,
    patched,
    require_fresh_id,
    require_known_asset,
    required,
    required_for_update,
    taken,
    writes,
    written,
)
from cqar.server.transaction import Tx


class Groups(Base):
    """The operations on groups and their members."""

    @writes()
    def create_asset_group(self, tx: Tx, group: Group) -> Answer[Group]:
        """Create a group. Raises InvalidError, and ConflictError if another has its symbol, in any case (R9)."""
        group = normal(group)
        require_fresh_id(tx, GROUP, group)
        require_free_symbol(tx, group)
        return Answer(record=tx.put(group))

    @writes()
    def update_asset_group(
        self, tx: Tx, group_id: str, patch: GroupPatch, expected_position: int | None = None
    ) -> Answer[Group]:
        """Change some fields of a group. Raises NotFoundError, InvalidError, ConflictError and StaleError."""
        before = required_for_update(tx, GROUP, group_id, "group_id", expected_position)
        after = patched(before, patch)
        require_free_symbol(tx, after)
        return written(tx, before, after)

    @writes()
    def delete_asset_group(self, tx: Tx, group_id: str, expected_position: int | None = None) -> Done:
        """Delete a group with its memberships; the assets stay. Raises NotFoundError and StaleError."""
        group = required_for_update(tx, GROUP, group_id, "group_id", expected_position)
        for member in tx.find_for_update(GROUP_MEMBER, group_id=group.group_id):
            tx.remove(member)
        tx.remove(group)
        return Done()

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
        return Answer(record=add_member(tx, member))

    @writes(ConflictError)
    def update_group_member(
        self, tx: Tx, group_id: str, asset_id: str, patch: GroupMemberPatch, expected_position: int | None = None
    ) -> Answer[GroupMember]:
        """Change an asset's place in a group; one that becomes canonical takes the place of the present one.

        Raises NotFoundError, InvalidError and StaleError.
        """
        key = member_key(group_id, asset_id)
        before = locked(tx, GROUP_MEMBER, key, "asset_id", expected_position)
        after = patched(before, patch)
        if after.is_canonical and not before.is_canonical:
            for other in tx.find_for_update(GROUP_MEMBER, group_id=after.group_id, is_canonical=True):
                demote_canonical(tx, other)
        return written(tx, before, after)

    @writes()
    def remove_asset_from_group(self, tx: Tx, group_id: str, asset_id: str) -> Done:
        """Take an asset out of a group; raises NotFoundError."""
        tx.remove(locked(tx, GROUP_MEMBER, member_key(group_id, asset_id), "asset_id"))
        return Done()

    def list_asset_group_members(self, group_id: str, *, page: PageRequest = FIRST_PAGE) -> Page[GroupMember]:
        """List the members of a group; raises NotFoundError."""
        with self._store.view() as view:
            filters = {"group_id": required(view, GROUP, group_id, "group_id").group_id}
            found = self._page("list_asset_group_members", GROUP_MEMBER, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)


def require_free_symbol(tx: Tx, group: Group) -> None:
    """Raise ConflictError if another group has the symbol, in any case."""
    for other in tx.find(GROUP, canonical_symbol_fold=fold(group.canonical_symbol)):
        if other.group_id != group.group_id:
            raise taken(GROUP, other.group_id, f"there is a group for {other.canonical_symbol} already")


def member_key(group_id: str, asset_id: str) -> str:
    """Give the key of a membership; InvalidError for what is no id."""
    return f"{check_uuid(group_id, 'group_id')}/{check_uuid(asset_id, 'asset_id')}"


def add_member(tx: Tx, member: GroupMember) -> GroupMember:
    """Add an asset to a group, which has at most one canonical member (R9)."""
    member = normal(member)
    required(tx, GROUP, member.group_id, "group_id")
    key = GROUP_MEMBER.key_of(member)
    if tx.get(GROUP_MEMBER, key, for_update=True) is not None:
        raise taken(GROUP_MEMBER, key, f"asset {member.asset_id} is in group {member.group_id} already")
    if member.is_canonical:
        require_no_canonical(tx, member)
    return tx.put(member)


def demote_canonical(tx: Tx, member: GroupMember) -> GroupMember:
    """Make a member canonical no more, before another one becomes it: within one statement the order is not ours."""
    demoted = tx.put(msgspec.structs.replace(member, is_canonical=False))
    tx.flush()
    return demoted


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
