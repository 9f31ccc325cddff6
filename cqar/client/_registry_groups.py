"""The write surface for what is said of assets: relationships, groups with their members, quality flags."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal, Unpack

from cqar.answers import Position, Variant
from cqar.client._checked import checked
from cqar.client._registry_base import PAGE, Base, Written, optional_enum
from cqar.client._replies import record_of
from cqar.model import Asset, FlagType, Group, GroupMember, QualityFlag, Relationship, RelationshipType, Severity
from cqar.patches import GroupMemberPatch, GroupPatch, RelationshipPatch
from cqar.rules.descent import FORMS
from cqar.v1 import registry_pb2 as pb
from cqar.wire import enum_to_wire, record_to_wire


@checked
class Groups(Base):
    """Relationships, groups, quality flags."""

    # --- relationships --------------------------------------------------------------------------------------------

    def create_asset_relationship(self, relationship: Relationship, *, request_id: str = "") -> Written[Relationship]:
        """Record that the child is derived from the parent."""
        request = pb.CreateAssetRelationshipRequest(relationship=record_to_wire(relationship), request_id=request_id)
        return self._write(Relationship, "CreateAssetRelationship", "relationship", request)

    def get_asset_relationship(self, relationship_id: str) -> Relationship:
        """Give a relationship by its id."""
        request = pb.GetAssetRelationshipRequest(relationship_id=relationship_id)
        return self._get(Relationship, "GetAssetRelationship", "relationship", request)

    def update_asset_relationship(
        self,
        relationship_id: str,
        *,
        expected_position: int | None = None,
        request_id: str = "",
        **changes: Unpack[RelationshipPatch],
    ) -> Written[Relationship]:
        """Change the given fields of a relationship; a new `conversion_rate` needs its `rate_as_of`."""
        return self._update(
            Relationship,
            "UpdateAssetRelationship",
            "relationship",
            changes,
            relationship_id=relationship_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def delete_asset_relationship(
        self, relationship_id: str, *, expected_position: int | None = None, request_id: str = ""
    ) -> Position:
        """Take back that one asset derives from another; give the position of the write."""
        return self._delete(
            "DeleteAssetRelationship",
            relationship_id=relationship_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def list_asset_relationships(
        self,
        *,
        asset_id: str | None = None,
        direction: Literal["both", "parents", "children"] = "both",
        type: RelationshipType | None = None,
        protocol: str | None = None,
    ) -> Iterator[Relationship]:
        """Yield edges: those to an asset's parents, to its children, or both; without an asset all of them."""
        request = pb.ListAssetRelationshipsRequest(
            asset_id=asset_id,
            direction={
                "both": pb.DIRECTION_UNSPECIFIED,
                "parents": pb.DIRECTION_PARENTS,
                "children": pb.DIRECTION_CHILDREN,
            }[direction],
            relationship_type=optional_enum(type),
            protocol=protocol,
        )
        return self._list(Relationship, "ListAssetRelationships", "relationships", request)

    def list_asset_variants(self, asset_id: str, *, types: Collection[RelationshipType] = ()) -> Iterator[Variant]:
        """Yield all that derives from an asset over edges of some types, nearest first, each asset once.

        Without `types` forks and migrations are left out: what they lead to is another asset.
        """
        numbers: list[Any] = [
            enum_to_wire(kind) for kind in types or sorted(FORMS)
        ]  # said, as old servers would take all
        request = pb.ListAssetVariantsRequest(asset_id=asset_id, types=numbers, page_size=PAGE)
        for message in self._messages("ListAssetVariants", "variants", request):
            path = tuple([record_of(Relationship, edge) for edge in message.path])
            yield Variant(asset=record_of(Asset, message.asset), path=path, depth=message.depth)

    # --- groups ---------------------------------------------------------------------------------------------------

    def create_asset_group(self, group: Group, *, request_id: str = "") -> Written[Group]:
        """Create an empty group."""
        request = pb.CreateAssetGroupRequest(group=record_to_wire(group), request_id=request_id)
        return self._write(Group, "CreateAssetGroup", "group", request)

    def update_asset_group(
        self,
        group_id: str,
        *,
        expected_position: int | None = None,
        request_id: str = "",
        **changes: Unpack[GroupPatch],
    ) -> Written[Group]:
        """Change the given fields of a group."""
        return self._update(
            Group,
            "UpdateAssetGroup",
            "group",
            changes,
            group_id=group_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def delete_asset_group(
        self, group_id: str, *, expected_position: int | None = None, request_id: str = ""
    ) -> Position:
        """Delete a group with its memberships; give the position of the write."""
        return self._delete(
            "DeleteAssetGroup", group_id=group_id, expected_position=expected_position, request_id=request_id
        )

    def get_asset_group(self, group_id: str | None = None, *, canonical_symbol: str | None = None) -> Group:
        """Give a group by its id, or by its symbol."""
        request = pb.GetAssetGroupRequest(group_id=group_id)
        if group_id is None:
            request.canonical_symbol = canonical_symbol or ""
        return self._get(Group, "GetAssetGroup", "group", request)

    def list_asset_groups(self, *, asset_id: str | None = None) -> Iterator[Group]:
        """Yield all groups, or those that an asset belongs to."""
        return self._list(Group, "ListAssetGroups", "groups", pb.ListAssetGroupsRequest(asset_id=asset_id))

    def add_asset_to_group(self, member: GroupMember, *, request_id: str = "") -> Written[GroupMember]:
        """Add an asset to a group."""
        request = pb.AddAssetToGroupRequest(member=record_to_wire(member), request_id=request_id)
        return self._write(GroupMember, "AddAssetToGroup", "member", request)

    def update_group_member(
        self,
        group_id: str,
        asset_id: str,
        *,
        expected_position: int | None = None,
        request_id: str = "",
        **changes: Unpack[GroupMemberPatch],
    ) -> Written[GroupMember]:
        """Change an asset's place in a group; one that becomes canonical takes the place of the present one."""
        return self._update(
            GroupMember,
            "UpdateGroupMember",
            "member",
            changes,
            group_id=group_id,
            asset_id=asset_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def remove_asset_from_group(self, group_id: str, asset_id: str, *, request_id: str = "") -> Position:
        """Take an asset out of a group; give the position of the write."""
        return self._delete("RemoveAssetFromGroup", group_id=group_id, asset_id=asset_id, request_id=request_id)

    def list_asset_group_members(self, group_id: str) -> Iterator[GroupMember]:
        """Yield a group's members."""
        request = pb.ListAssetGroupMembersRequest(group_id=group_id)
        return self._list(GroupMember, "ListAssetGroupMembers", "members", request)

    # --- quality flags --------------------------------------------------------------------------------------------

    def raise_quality_flag(self, flag: QualityFlag, *, request_id: str = "") -> Written[QualityFlag]:
        """Warn of an asset. One active flag per asset, type and source: raising it again updates it."""
        request = pb.RaiseQualityFlagRequest(flag=record_to_wire(flag), request_id=request_id)
        return self._write(QualityFlag, "RaiseQualityFlag", "flag", request)

    def resolve_quality_flag(
        self, flag_id: str, *, reason: str, cleared_by: str = "", request_id: str = ""
    ) -> Written[QualityFlag]:
        """Clear a flag, saying why; it is kept, but no longer active."""
        request = pb.ResolveQualityFlagRequest(
            flag_id=flag_id, cleared_by=cleared_by, clear_reason=reason, request_id=request_id
        )
        return self._write(QualityFlag, "ResolveQualityFlag", "flag", request)

    def get_quality_flag(self, flag_id: str) -> QualityFlag:
        """Give a flag by its id, active or cleared."""
        return self._get(QualityFlag, "GetQualityFlag", "flag", pb.GetQualityFlagRequest(flag_id=flag_id))

    def list_quality_flags(
        self,
        *,
        asset_id: str | None = None,
        flag_type: FlagType | None = None,
        source: str | None = None,
        min_severity: Severity | None = None,
        include_resolved: bool = False,
    ) -> Iterator[QualityFlag]:
        """Yield the flags that meet all conditions; `min_severity` means at least."""
        request = pb.ListQualityFlagsRequest(
            asset_id=asset_id,
            flag_type=optional_enum(flag_type),
            source=source,
            min_severity=optional_enum(min_severity),
            include_resolved=include_resolved,
        )
        return self._list(QualityFlag, "ListQualityFlags", "flags", request)
