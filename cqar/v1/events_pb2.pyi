import datetime

from cqar.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("event_id", "log_id", "position", "index", "time", "actor", "request_id", "key", "chain_registered", "chain_updated", "chain_removed", "asset_created", "asset_updated", "asset_deleted", "asset_deployment_created", "asset_deployment_updated", "asset_deployment_deleted", "identifier_mapped", "identifier_updated", "identifier_unmapped", "relationship_established", "relationship_updated", "relationship_ended", "group_created", "group_changed", "group_deleted", "group_member_added", "group_member_changed", "group_member_removed", "quality_flag_set", "quality_flag_changed", "quality_flag_resolved", "quality_flag_removed", "venue_registered", "venue_updated", "venue_removed", "venue_symbol_mapped", "venue_symbol_changed", "venue_symbol_unmapped")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CHAIN_REGISTERED_FIELD_NUMBER: _ClassVar[int]
    CHAIN_UPDATED_FIELD_NUMBER: _ClassVar[int]
    CHAIN_REMOVED_FIELD_NUMBER: _ClassVar[int]
    ASSET_CREATED_FIELD_NUMBER: _ClassVar[int]
    ASSET_UPDATED_FIELD_NUMBER: _ClassVar[int]
    ASSET_DELETED_FIELD_NUMBER: _ClassVar[int]
    ASSET_DEPLOYMENT_CREATED_FIELD_NUMBER: _ClassVar[int]
    ASSET_DEPLOYMENT_UPDATED_FIELD_NUMBER: _ClassVar[int]
    ASSET_DEPLOYMENT_DELETED_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_MAPPED_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_UPDATED_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_UNMAPPED_FIELD_NUMBER: _ClassVar[int]
    RELATIONSHIP_ESTABLISHED_FIELD_NUMBER: _ClassVar[int]
    RELATIONSHIP_UPDATED_FIELD_NUMBER: _ClassVar[int]
    RELATIONSHIP_ENDED_FIELD_NUMBER: _ClassVar[int]
    GROUP_CREATED_FIELD_NUMBER: _ClassVar[int]
    GROUP_CHANGED_FIELD_NUMBER: _ClassVar[int]
    GROUP_DELETED_FIELD_NUMBER: _ClassVar[int]
    GROUP_MEMBER_ADDED_FIELD_NUMBER: _ClassVar[int]
    GROUP_MEMBER_CHANGED_FIELD_NUMBER: _ClassVar[int]
    GROUP_MEMBER_REMOVED_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FLAG_SET_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FLAG_CHANGED_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FLAG_RESOLVED_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FLAG_REMOVED_FIELD_NUMBER: _ClassVar[int]
    VENUE_REGISTERED_FIELD_NUMBER: _ClassVar[int]
    VENUE_UPDATED_FIELD_NUMBER: _ClassVar[int]
    VENUE_REMOVED_FIELD_NUMBER: _ClassVar[int]
    VENUE_SYMBOL_MAPPED_FIELD_NUMBER: _ClassVar[int]
    VENUE_SYMBOL_CHANGED_FIELD_NUMBER: _ClassVar[int]
    VENUE_SYMBOL_UNMAPPED_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    log_id: str
    position: int
    index: int
    time: _timestamp_pb2.Timestamp
    actor: str
    request_id: str
    key: str
    chain_registered: ChainRegistered
    chain_updated: ChainUpdated
    chain_removed: ChainRemoved
    asset_created: AssetCreated
    asset_updated: AssetUpdated
    asset_deleted: AssetDeleted
    asset_deployment_created: AssetDeploymentCreated
    asset_deployment_updated: AssetDeploymentUpdated
    asset_deployment_deleted: AssetDeploymentDeleted
    identifier_mapped: IdentifierMapped
    identifier_updated: IdentifierUpdated
    identifier_unmapped: IdentifierUnmapped
    relationship_established: RelationshipEstablished
    relationship_updated: RelationshipUpdated
    relationship_ended: RelationshipEnded
    group_created: GroupCreated
    group_changed: GroupChanged
    group_deleted: GroupDeleted
    group_member_added: GroupMemberAdded
    group_member_changed: GroupMemberChanged
    group_member_removed: GroupMemberRemoved
    quality_flag_set: QualityFlagSet
    quality_flag_changed: QualityFlagChanged
    quality_flag_resolved: QualityFlagResolved
    quality_flag_removed: QualityFlagRemoved
    venue_registered: VenueRegistered
    venue_updated: VenueUpdated
    venue_removed: VenueRemoved
    venue_symbol_mapped: VenueSymbolMapped
    venue_symbol_changed: VenueSymbolChanged
    venue_symbol_unmapped: VenueSymbolUnmapped
    def __init__(self, event_id: _Optional[str] = ..., log_id: _Optional[str] = ..., position: _Optional[int] = ..., index: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., request_id: _Optional[str] = ..., key: _Optional[str] = ..., chain_registered: _Optional[_Union[ChainRegistered, _Mapping]] = ..., chain_updated: _Optional[_Union[ChainUpdated, _Mapping]] = ..., chain_removed: _Optional[_Union[ChainRemoved, _Mapping]] = ..., asset_created: _Optional[_Union[AssetCreated, _Mapping]] = ..., asset_updated: _Optional[_Union[AssetUpdated, _Mapping]] = ..., asset_deleted: _Optional[_Union[AssetDeleted, _Mapping]] = ..., asset_deployment_created: _Optional[_Union[AssetDeploymentCreated, _Mapping]] = ..., asset_deployment_updated: _Optional[_Union[AssetDeploymentUpdated, _Mapping]] = ..., asset_deployment_deleted: _Optional[_Union[AssetDeploymentDeleted, _Mapping]] = ..., identifier_mapped: _Optional[_Union[IdentifierMapped, _Mapping]] = ..., identifier_updated: _Optional[_Union[IdentifierUpdated, _Mapping]] = ..., identifier_unmapped: _Optional[_Union[IdentifierUnmapped, _Mapping]] = ..., relationship_established: _Optional[_Union[RelationshipEstablished, _Mapping]] = ..., relationship_updated: _Optional[_Union[RelationshipUpdated, _Mapping]] = ..., relationship_ended: _Optional[_Union[RelationshipEnded, _Mapping]] = ..., group_created: _Optional[_Union[GroupCreated, _Mapping]] = ..., group_changed: _Optional[_Union[GroupChanged, _Mapping]] = ..., group_deleted: _Optional[_Union[GroupDeleted, _Mapping]] = ..., group_member_added: _Optional[_Union[GroupMemberAdded, _Mapping]] = ..., group_member_changed: _Optional[_Union[GroupMemberChanged, _Mapping]] = ..., group_member_removed: _Optional[_Union[GroupMemberRemoved, _Mapping]] = ..., quality_flag_set: _Optional[_Union[QualityFlagSet, _Mapping]] = ..., quality_flag_changed: _Optional[_Union[QualityFlagChanged, _Mapping]] = ..., quality_flag_resolved: _Optional[_Union[QualityFlagResolved, _Mapping]] = ..., quality_flag_removed: _Optional[_Union[QualityFlagRemoved, _Mapping]] = ..., venue_registered: _Optional[_Union[VenueRegistered, _Mapping]] = ..., venue_updated: _Optional[_Union[VenueUpdated, _Mapping]] = ..., venue_removed: _Optional[_Union[VenueRemoved, _Mapping]] = ..., venue_symbol_mapped: _Optional[_Union[VenueSymbolMapped, _Mapping]] = ..., venue_symbol_changed: _Optional[_Union[VenueSymbolChanged, _Mapping]] = ..., venue_symbol_unmapped: _Optional[_Union[VenueSymbolUnmapped, _Mapping]] = ...) -> None: ...

class ChainRegistered(_message.Message):
    __slots__ = ("chain",)
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chain: _types_pb2.Chain
    def __init__(self, chain: _Optional[_Union[_types_pb2.Chain, _Mapping]] = ...) -> None: ...

class ChainUpdated(_message.Message):
    __slots__ = ("chain", "before")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    chain: _types_pb2.Chain
    before: _types_pb2.Chain
    def __init__(self, chain: _Optional[_Union[_types_pb2.Chain, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.Chain, _Mapping]] = ...) -> None: ...

class ChainRemoved(_message.Message):
    __slots__ = ("chain",)
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chain: _types_pb2.Chain
    def __init__(self, chain: _Optional[_Union[_types_pb2.Chain, _Mapping]] = ...) -> None: ...

class AssetCreated(_message.Message):
    __slots__ = ("asset",)
    ASSET_FIELD_NUMBER: _ClassVar[int]
    asset: _types_pb2.Asset
    def __init__(self, asset: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ...) -> None: ...

class AssetUpdated(_message.Message):
    __slots__ = ("asset", "before")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    asset: _types_pb2.Asset
    before: _types_pb2.Asset
    def __init__(self, asset: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ...) -> None: ...

class AssetDeleted(_message.Message):
    __slots__ = ("asset",)
    ASSET_FIELD_NUMBER: _ClassVar[int]
    asset: _types_pb2.Asset
    def __init__(self, asset: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ...) -> None: ...

class AssetDeploymentCreated(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: _types_pb2.Deployment
    def __init__(self, deployment: _Optional[_Union[_types_pb2.Deployment, _Mapping]] = ...) -> None: ...

class AssetDeploymentUpdated(_message.Message):
    __slots__ = ("deployment", "before")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    deployment: _types_pb2.Deployment
    before: _types_pb2.Deployment
    def __init__(self, deployment: _Optional[_Union[_types_pb2.Deployment, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.Deployment, _Mapping]] = ...) -> None: ...

class AssetDeploymentDeleted(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: _types_pb2.Deployment
    def __init__(self, deployment: _Optional[_Union[_types_pb2.Deployment, _Mapping]] = ...) -> None: ...

class IdentifierMapped(_message.Message):
    __slots__ = ("identifier",)
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    identifier: _types_pb2.Identifier
    def __init__(self, identifier: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ...) -> None: ...

class IdentifierUpdated(_message.Message):
    __slots__ = ("identifier", "before")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    identifier: _types_pb2.Identifier
    before: _types_pb2.Identifier
    def __init__(self, identifier: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ...) -> None: ...

class IdentifierUnmapped(_message.Message):
    __slots__ = ("identifier",)
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    identifier: _types_pb2.Identifier
    def __init__(self, identifier: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ...) -> None: ...

class RelationshipEstablished(_message.Message):
    __slots__ = ("relationship",)
    RELATIONSHIP_FIELD_NUMBER: _ClassVar[int]
    relationship: _types_pb2.Relationship
    def __init__(self, relationship: _Optional[_Union[_types_pb2.Relationship, _Mapping]] = ...) -> None: ...

class RelationshipUpdated(_message.Message):
    __slots__ = ("relationship", "before")
    RELATIONSHIP_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    relationship: _types_pb2.Relationship
    before: _types_pb2.Relationship
    def __init__(self, relationship: _Optional[_Union[_types_pb2.Relationship, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.Relationship, _Mapping]] = ...) -> None: ...

class RelationshipEnded(_message.Message):
    __slots__ = ("relationship",)
    RELATIONSHIP_FIELD_NUMBER: _ClassVar[int]
    relationship: _types_pb2.Relationship
    def __init__(self, relationship: _Optional[_Union[_types_pb2.Relationship, _Mapping]] = ...) -> None: ...

class GroupCreated(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: _types_pb2.Group
    def __init__(self, group: _Optional[_Union[_types_pb2.Group, _Mapping]] = ...) -> None: ...

class GroupChanged(_message.Message):
    __slots__ = ("group", "before")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    group: _types_pb2.Group
    before: _types_pb2.Group
    def __init__(self, group: _Optional[_Union[_types_pb2.Group, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.Group, _Mapping]] = ...) -> None: ...

class GroupDeleted(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: _types_pb2.Group
    def __init__(self, group: _Optional[_Union[_types_pb2.Group, _Mapping]] = ...) -> None: ...

class GroupMemberAdded(_message.Message):
    __slots__ = ("group_member",)
    GROUP_MEMBER_FIELD_NUMBER: _ClassVar[int]
    group_member: _types_pb2.GroupMember
    def __init__(self, group_member: _Optional[_Union[_types_pb2.GroupMember, _Mapping]] = ...) -> None: ...

class GroupMemberChanged(_message.Message):
    __slots__ = ("group_member", "before")
    GROUP_MEMBER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    group_member: _types_pb2.GroupMember
    before: _types_pb2.GroupMember
    def __init__(self, group_member: _Optional[_Union[_types_pb2.GroupMember, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.GroupMember, _Mapping]] = ...) -> None: ...

class GroupMemberRemoved(_message.Message):
    __slots__ = ("group_member",)
    GROUP_MEMBER_FIELD_NUMBER: _ClassVar[int]
    group_member: _types_pb2.GroupMember
    def __init__(self, group_member: _Optional[_Union[_types_pb2.GroupMember, _Mapping]] = ...) -> None: ...

class QualityFlagSet(_message.Message):
    __slots__ = ("quality_flag",)
    QUALITY_FLAG_FIELD_NUMBER: _ClassVar[int]
    quality_flag: _types_pb2.QualityFlag
    def __init__(self, quality_flag: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ...) -> None: ...

class QualityFlagChanged(_message.Message):
    __slots__ = ("quality_flag", "before")
    QUALITY_FLAG_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    quality_flag: _types_pb2.QualityFlag
    before: _types_pb2.QualityFlag
    def __init__(self, quality_flag: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ...) -> None: ...

class QualityFlagResolved(_message.Message):
    __slots__ = ("quality_flag", "before")
    QUALITY_FLAG_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    quality_flag: _types_pb2.QualityFlag
    before: _types_pb2.QualityFlag
    def __init__(self, quality_flag: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ...) -> None: ...

class QualityFlagRemoved(_message.Message):
    __slots__ = ("quality_flag",)
    QUALITY_FLAG_FIELD_NUMBER: _ClassVar[int]
    quality_flag: _types_pb2.QualityFlag
    def __init__(self, quality_flag: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ...) -> None: ...

class VenueRegistered(_message.Message):
    __slots__ = ("venue",)
    VENUE_FIELD_NUMBER: _ClassVar[int]
    venue: _types_pb2.Venue
    def __init__(self, venue: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ...) -> None: ...

class VenueUpdated(_message.Message):
    __slots__ = ("venue", "before")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    venue: _types_pb2.Venue
    before: _types_pb2.Venue
    def __init__(self, venue: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ...) -> None: ...

class VenueRemoved(_message.Message):
    __slots__ = ("venue",)
    VENUE_FIELD_NUMBER: _ClassVar[int]
    venue: _types_pb2.Venue
    def __init__(self, venue: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ...) -> None: ...

class VenueSymbolMapped(_message.Message):
    __slots__ = ("venue_symbol",)
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    venue_symbol: _types_pb2.VenueSymbol
    def __init__(self, venue_symbol: _Optional[_Union[_types_pb2.VenueSymbol, _Mapping]] = ...) -> None: ...

class VenueSymbolChanged(_message.Message):
    __slots__ = ("venue_symbol", "before")
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    venue_symbol: _types_pb2.VenueSymbol
    before: _types_pb2.VenueSymbol
    def __init__(self, venue_symbol: _Optional[_Union[_types_pb2.VenueSymbol, _Mapping]] = ..., before: _Optional[_Union[_types_pb2.VenueSymbol, _Mapping]] = ...) -> None: ...

class VenueSymbolUnmapped(_message.Message):
    __slots__ = ("venue_symbol",)
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    venue_symbol: _types_pb2.VenueSymbol
    def __init__(self, venue_symbol: _Optional[_Union[_types_pb2.VenueSymbol, _Mapping]] = ...) -> None: ...
