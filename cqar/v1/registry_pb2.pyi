import datetime

from cqar.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_PARENTS: _ClassVar[Direction]
    DIRECTION_CHILDREN: _ClassVar[Direction]

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_ALLOW: _ClassVar[Decision]
    DECISION_BLOCK: _ClassVar[Decision]
    DECISION_UNKNOWN: _ClassVar[Decision]

class Merge(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MERGE_UNSPECIFIED: _ClassVar[Merge]
    MERGE_FILL: _ClassVar[Merge]
    MERGE_REPLACE: _ClassVar[Merge]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_CREATED: _ClassVar[Outcome]
    OUTCOME_UPDATED: _ClassVar[Outcome]
    OUTCOME_UNCHANGED: _ClassVar[Outcome]
    OUTCOME_REFUSED: _ClassVar[Outcome]
DIRECTION_UNSPECIFIED: Direction
DIRECTION_PARENTS: Direction
DIRECTION_CHILDREN: Direction
DECISION_UNSPECIFIED: Decision
DECISION_ALLOW: Decision
DECISION_BLOCK: Decision
DECISION_UNKNOWN: Decision
MERGE_UNSPECIFIED: Merge
MERGE_FILL: Merge
MERGE_REPLACE: Merge
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_CREATED: Outcome
OUTCOME_UPDATED: Outcome
OUTCOME_UNCHANGED: Outcome
OUTCOME_REFUSED: Outcome

class CreateAssetRequest(_message.Message):
    __slots__ = ("asset", "deployments", "identifiers", "memberships", "request_id")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIPS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    asset: _types_pb2.Asset
    deployments: _containers.RepeatedCompositeFieldContainer[_types_pb2.Deployment]
    identifiers: _containers.RepeatedCompositeFieldContainer[_types_pb2.Identifier]
    memberships: _containers.RepeatedCompositeFieldContainer[_types_pb2.GroupMember]
    request_id: str
    def __init__(self, asset: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ..., deployments: _Optional[_Iterable[_Union[_types_pb2.Deployment, _Mapping]]] = ..., identifiers: _Optional[_Iterable[_Union[_types_pb2.Identifier, _Mapping]]] = ..., memberships: _Optional[_Iterable[_Union[_types_pb2.GroupMember, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateAssetResponse(_message.Message):
    __slots__ = ("asset", "deployments", "identifiers", "memberships", "position")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIPS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    asset: _types_pb2.Asset
    deployments: _containers.RepeatedCompositeFieldContainer[_types_pb2.Deployment]
    identifiers: _containers.RepeatedCompositeFieldContainer[_types_pb2.Identifier]
    memberships: _containers.RepeatedCompositeFieldContainer[_types_pb2.GroupMember]
    position: int
    def __init__(self, asset: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ..., deployments: _Optional[_Iterable[_Union[_types_pb2.Deployment, _Mapping]]] = ..., identifiers: _Optional[_Iterable[_Union[_types_pb2.Identifier, _Mapping]]] = ..., memberships: _Optional[_Iterable[_Union[_types_pb2.GroupMember, _Mapping]]] = ..., position: _Optional[int] = ...) -> None: ...

class GetAssetRequest(_message.Message):
    __slots__ = ("asset_id",)
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    def __init__(self, asset_id: _Optional[str] = ...) -> None: ...

class GetAssetResponse(_message.Message):
    __slots__ = ("asset", "position")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    asset: _types_pb2.Asset
    position: int
    def __init__(self, asset: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ("entries",)
    class EntriesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.ScalarMap[str, str]
    def __init__(self, entries: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Names(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class OptionalTime(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _timestamp_pb2.Timestamp
    def __init__(self, value: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class OptionalNumber(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: int
    def __init__(self, value: _Optional[int] = ...) -> None: ...

class UpdateAssetRequest(_message.Message):
    __slots__ = ("asset_id", "symbol", "name", "asset_type", "category", "logo_url", "website", "description", "metadata", "provenance", "expected_position", "request_id")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ASSET_TYPE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    LOGO_URL_FIELD_NUMBER: _ClassVar[int]
    WEBSITE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    symbol: str
    name: str
    asset_type: _types_pb2.AssetType
    category: str
    logo_url: str
    website: str
    description: str
    metadata: Metadata
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, asset_id: _Optional[str] = ..., symbol: _Optional[str] = ..., name: _Optional[str] = ..., asset_type: _Optional[_Union[_types_pb2.AssetType, str]] = ..., category: _Optional[str] = ..., logo_url: _Optional[str] = ..., website: _Optional[str] = ..., description: _Optional[str] = ..., metadata: _Optional[_Union[Metadata, _Mapping]] = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateAssetResponse(_message.Message):
    __slots__ = ("asset", "position")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    asset: _types_pb2.Asset
    position: int
    def __init__(self, asset: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class DeleteAssetRequest(_message.Message):
    __slots__ = ("asset_id", "expected_position", "request_id")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    expected_position: int
    request_id: str
    def __init__(self, asset_id: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteAssetResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class ListAssetsRequest(_message.Message):
    __slots__ = ("asset_type", "category", "symbol", "chain", "venue", "page_size", "page_token")
    ASSET_TYPE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    asset_type: _types_pb2.AssetType
    category: str
    symbol: str
    chain: str
    venue: str
    page_size: int
    page_token: str
    def __init__(self, asset_type: _Optional[_Union[_types_pb2.AssetType, str]] = ..., category: _Optional[str] = ..., symbol: _Optional[str] = ..., chain: _Optional[str] = ..., venue: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetsResponse(_message.Message):
    __slots__ = ("assets", "next_page_token", "position")
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    assets: _containers.RepeatedCompositeFieldContainer[_types_pb2.Asset]
    next_page_token: str
    position: int
    def __init__(self, assets: _Optional[_Iterable[_Union[_types_pb2.Asset, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class SearchAssetsRequest(_message.Message):
    __slots__ = ("query", "chain", "venue", "asset_type", "category", "min_severity", "page_size", "page_token")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    ASSET_TYPE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    MIN_SEVERITY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    query: str
    chain: str
    venue: str
    asset_type: _types_pb2.AssetType
    category: str
    min_severity: _types_pb2.Severity
    page_size: int
    page_token: str
    def __init__(self, query: _Optional[str] = ..., chain: _Optional[str] = ..., venue: _Optional[str] = ..., asset_type: _Optional[_Union[_types_pb2.AssetType, str]] = ..., category: _Optional[str] = ..., min_severity: _Optional[_Union[_types_pb2.Severity, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class SearchAssetsResponse(_message.Message):
    __slots__ = ("assets", "next_page_token", "position")
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    assets: _containers.RepeatedCompositeFieldContainer[_types_pb2.Asset]
    next_page_token: str
    position: int
    def __init__(self, assets: _Optional[_Iterable[_Union[_types_pb2.Asset, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class CreateAssetDeploymentRequest(_message.Message):
    __slots__ = ("deployment", "request_id")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    deployment: _types_pb2.Deployment
    request_id: str
    def __init__(self, deployment: _Optional[_Union[_types_pb2.Deployment, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateAssetDeploymentResponse(_message.Message):
    __slots__ = ("deployment", "position")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    deployment: _types_pb2.Deployment
    position: int
    def __init__(self, deployment: _Optional[_Union[_types_pb2.Deployment, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class UpdateAssetDeploymentRequest(_message.Message):
    __slots__ = ("deployment_id", "decimals", "is_canonical", "provenance", "expected_position", "request_id")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    DECIMALS_FIELD_NUMBER: _ClassVar[int]
    IS_CANONICAL_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    decimals: int
    is_canonical: bool
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, deployment_id: _Optional[str] = ..., decimals: _Optional[int] = ..., is_canonical: bool = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateAssetDeploymentResponse(_message.Message):
    __slots__ = ("deployment", "position")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    deployment: _types_pb2.Deployment
    position: int
    def __init__(self, deployment: _Optional[_Union[_types_pb2.Deployment, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class DeleteAssetDeploymentRequest(_message.Message):
    __slots__ = ("deployment_id", "expected_position", "request_id")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    expected_position: int
    request_id: str
    def __init__(self, deployment_id: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteAssetDeploymentResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class ChainAddress(_message.Message):
    __slots__ = ("chain", "address")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    chain: str
    address: str
    def __init__(self, chain: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class GetAssetDeploymentRequest(_message.Message):
    __slots__ = ("deployment_id", "address")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    address: ChainAddress
    def __init__(self, deployment_id: _Optional[str] = ..., address: _Optional[_Union[ChainAddress, _Mapping]] = ...) -> None: ...

class GetAssetDeploymentResponse(_message.Message):
    __slots__ = ("deployment", "position")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    deployment: _types_pb2.Deployment
    position: int
    def __init__(self, deployment: _Optional[_Union[_types_pb2.Deployment, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ListAssetDeploymentsRequest(_message.Message):
    __slots__ = ("asset_id", "chain", "page_size", "page_token")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    chain: str
    page_size: int
    page_token: str
    def __init__(self, asset_id: _Optional[str] = ..., chain: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetDeploymentsResponse(_message.Message):
    __slots__ = ("deployments", "next_page_token", "position")
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[_types_pb2.Deployment]
    next_page_token: str
    position: int
    def __init__(self, deployments: _Optional[_Iterable[_Union[_types_pb2.Deployment, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class CreateAssetIdentifierRequest(_message.Message):
    __slots__ = ("identifier", "request_id")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    identifier: _types_pb2.Identifier
    request_id: str
    def __init__(self, identifier: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateAssetIdentifierResponse(_message.Message):
    __slots__ = ("identifier", "position")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    identifier: _types_pb2.Identifier
    position: int
    def __init__(self, identifier: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class SourceKey(_message.Message):
    __slots__ = ("source", "external_id")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    source: str
    external_id: str
    def __init__(self, source: _Optional[str] = ..., external_id: _Optional[str] = ...) -> None: ...

class UpdateAssetIdentifierRequest(_message.Message):
    __slots__ = ("identifier_id", "is_primary", "provenance", "expected_position", "request_id")
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    IS_PRIMARY_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    identifier_id: str
    is_primary: bool
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, identifier_id: _Optional[str] = ..., is_primary: bool = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateAssetIdentifierResponse(_message.Message):
    __slots__ = ("identifier", "position")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    identifier: _types_pb2.Identifier
    position: int
    def __init__(self, identifier: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class MoveAssetIdentifierRequest(_message.Message):
    __slots__ = ("identifier_id", "external", "asset_id", "expected_position", "request_id")
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    identifier_id: str
    external: SourceKey
    asset_id: str
    expected_position: int
    request_id: str
    def __init__(self, identifier_id: _Optional[str] = ..., external: _Optional[_Union[SourceKey, _Mapping]] = ..., asset_id: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class MoveAssetIdentifierResponse(_message.Message):
    __slots__ = ("identifier", "position")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    identifier: _types_pb2.Identifier
    position: int
    def __init__(self, identifier: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class DeleteAssetIdentifierRequest(_message.Message):
    __slots__ = ("identifier_id", "expected_position", "request_id")
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    identifier_id: str
    expected_position: int
    request_id: str
    def __init__(self, identifier_id: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteAssetIdentifierResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class GetAssetIdentifierRequest(_message.Message):
    __slots__ = ("identifier_id", "external")
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_FIELD_NUMBER: _ClassVar[int]
    identifier_id: str
    external: SourceKey
    def __init__(self, identifier_id: _Optional[str] = ..., external: _Optional[_Union[SourceKey, _Mapping]] = ...) -> None: ...

class GetAssetIdentifierResponse(_message.Message):
    __slots__ = ("identifier", "position")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    identifier: _types_pb2.Identifier
    position: int
    def __init__(self, identifier: _Optional[_Union[_types_pb2.Identifier, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ListAssetIdentifiersRequest(_message.Message):
    __slots__ = ("asset_id", "source", "page_size", "page_token")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    source: str
    page_size: int
    page_token: str
    def __init__(self, asset_id: _Optional[str] = ..., source: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetIdentifiersResponse(_message.Message):
    __slots__ = ("identifiers", "next_page_token", "position")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[_types_pb2.Identifier]
    next_page_token: str
    position: int
    def __init__(self, identifiers: _Optional[_Iterable[_Union[_types_pb2.Identifier, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class CreateAssetRelationshipRequest(_message.Message):
    __slots__ = ("relationship", "request_id")
    RELATIONSHIP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    relationship: _types_pb2.Relationship
    request_id: str
    def __init__(self, relationship: _Optional[_Union[_types_pb2.Relationship, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateAssetRelationshipResponse(_message.Message):
    __slots__ = ("relationship", "position")
    RELATIONSHIP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    relationship: _types_pb2.Relationship
    position: int
    def __init__(self, relationship: _Optional[_Union[_types_pb2.Relationship, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class GetAssetRelationshipRequest(_message.Message):
    __slots__ = ("relationship_id",)
    RELATIONSHIP_ID_FIELD_NUMBER: _ClassVar[int]
    relationship_id: str
    def __init__(self, relationship_id: _Optional[str] = ...) -> None: ...

class GetAssetRelationshipResponse(_message.Message):
    __slots__ = ("relationship", "position")
    RELATIONSHIP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    relationship: _types_pb2.Relationship
    position: int
    def __init__(self, relationship: _Optional[_Union[_types_pb2.Relationship, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class UpdateAssetRelationshipRequest(_message.Message):
    __slots__ = ("relationship_id", "protocol", "conversion_rate", "rate_as_of", "rate_source", "provenance", "expected_position", "request_id")
    RELATIONSHIP_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONVERSION_RATE_FIELD_NUMBER: _ClassVar[int]
    RATE_AS_OF_FIELD_NUMBER: _ClassVar[int]
    RATE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    relationship_id: str
    protocol: str
    conversion_rate: str
    rate_as_of: OptionalTime
    rate_source: str
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, relationship_id: _Optional[str] = ..., protocol: _Optional[str] = ..., conversion_rate: _Optional[str] = ..., rate_as_of: _Optional[_Union[OptionalTime, _Mapping]] = ..., rate_source: _Optional[str] = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateAssetRelationshipResponse(_message.Message):
    __slots__ = ("relationship", "position")
    RELATIONSHIP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    relationship: _types_pb2.Relationship
    position: int
    def __init__(self, relationship: _Optional[_Union[_types_pb2.Relationship, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class DeleteAssetRelationshipRequest(_message.Message):
    __slots__ = ("relationship_id", "expected_position", "request_id")
    RELATIONSHIP_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    relationship_id: str
    expected_position: int
    request_id: str
    def __init__(self, relationship_id: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteAssetRelationshipResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class ListAssetRelationshipsRequest(_message.Message):
    __slots__ = ("asset_id", "direction", "relationship_type", "protocol", "page_size", "page_token")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    RELATIONSHIP_TYPE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    direction: Direction
    relationship_type: _types_pb2.RelationshipType
    protocol: str
    page_size: int
    page_token: str
    def __init__(self, asset_id: _Optional[str] = ..., direction: _Optional[_Union[Direction, str]] = ..., relationship_type: _Optional[_Union[_types_pb2.RelationshipType, str]] = ..., protocol: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetRelationshipsResponse(_message.Message):
    __slots__ = ("relationships", "next_page_token", "position")
    RELATIONSHIPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    relationships: _containers.RepeatedCompositeFieldContainer[_types_pb2.Relationship]
    next_page_token: str
    position: int
    def __init__(self, relationships: _Optional[_Iterable[_Union[_types_pb2.Relationship, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class Variant(_message.Message):
    __slots__ = ("asset", "path", "depth")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    asset: _types_pb2.Asset
    path: _containers.RepeatedCompositeFieldContainer[_types_pb2.Relationship]
    depth: int
    def __init__(self, asset: _Optional[_Union[_types_pb2.Asset, _Mapping]] = ..., path: _Optional[_Iterable[_Union[_types_pb2.Relationship, _Mapping]]] = ..., depth: _Optional[int] = ...) -> None: ...

class ListAssetVariantsRequest(_message.Message):
    __slots__ = ("asset_id", "types", "page_size", "page_token")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    types: _containers.RepeatedScalarFieldContainer[_types_pb2.RelationshipType]
    page_size: int
    page_token: str
    def __init__(self, asset_id: _Optional[str] = ..., types: _Optional[_Iterable[_Union[_types_pb2.RelationshipType, str]]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetVariantsResponse(_message.Message):
    __slots__ = ("variants", "next_page_token", "position")
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    variants: _containers.RepeatedCompositeFieldContainer[Variant]
    next_page_token: str
    position: int
    def __init__(self, variants: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class CreateAssetGroupRequest(_message.Message):
    __slots__ = ("group", "request_id")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    group: _types_pb2.Group
    request_id: str
    def __init__(self, group: _Optional[_Union[_types_pb2.Group, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateAssetGroupResponse(_message.Message):
    __slots__ = ("group", "position")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    group: _types_pb2.Group
    position: int
    def __init__(self, group: _Optional[_Union[_types_pb2.Group, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class UpdateAssetGroupRequest(_message.Message):
    __slots__ = ("group_id", "canonical_symbol", "name", "description", "provenance", "expected_position", "request_id")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    canonical_symbol: str
    name: str
    description: str
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, group_id: _Optional[str] = ..., canonical_symbol: _Optional[str] = ..., name: _Optional[str] = ..., description: _Optional[str] = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateAssetGroupResponse(_message.Message):
    __slots__ = ("group", "position")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    group: _types_pb2.Group
    position: int
    def __init__(self, group: _Optional[_Union[_types_pb2.Group, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class DeleteAssetGroupRequest(_message.Message):
    __slots__ = ("group_id", "expected_position", "request_id")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    expected_position: int
    request_id: str
    def __init__(self, group_id: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteAssetGroupResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class GetAssetGroupRequest(_message.Message):
    __slots__ = ("group_id", "canonical_symbol")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    canonical_symbol: str
    def __init__(self, group_id: _Optional[str] = ..., canonical_symbol: _Optional[str] = ...) -> None: ...

class GetAssetGroupResponse(_message.Message):
    __slots__ = ("group", "position")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    group: _types_pb2.Group
    position: int
    def __init__(self, group: _Optional[_Union[_types_pb2.Group, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ListAssetGroupsRequest(_message.Message):
    __slots__ = ("asset_id", "page_size", "page_token")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    page_size: int
    page_token: str
    def __init__(self, asset_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetGroupsResponse(_message.Message):
    __slots__ = ("groups", "next_page_token", "position")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[_types_pb2.Group]
    next_page_token: str
    position: int
    def __init__(self, groups: _Optional[_Iterable[_Union[_types_pb2.Group, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class AddAssetToGroupRequest(_message.Message):
    __slots__ = ("member", "request_id")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    member: _types_pb2.GroupMember
    request_id: str
    def __init__(self, member: _Optional[_Union[_types_pb2.GroupMember, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class AddAssetToGroupResponse(_message.Message):
    __slots__ = ("member", "position")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    member: _types_pb2.GroupMember
    position: int
    def __init__(self, member: _Optional[_Union[_types_pb2.GroupMember, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class UpdateGroupMemberRequest(_message.Message):
    __slots__ = ("group_id", "asset_id", "is_canonical", "weight", "provenance", "expected_position", "request_id")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    IS_CANONICAL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    asset_id: str
    is_canonical: bool
    weight: str
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, group_id: _Optional[str] = ..., asset_id: _Optional[str] = ..., is_canonical: bool = ..., weight: _Optional[str] = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateGroupMemberResponse(_message.Message):
    __slots__ = ("member", "position")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    member: _types_pb2.GroupMember
    position: int
    def __init__(self, member: _Optional[_Union[_types_pb2.GroupMember, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class RemoveAssetFromGroupRequest(_message.Message):
    __slots__ = ("group_id", "asset_id", "request_id")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    asset_id: str
    request_id: str
    def __init__(self, group_id: _Optional[str] = ..., asset_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RemoveAssetFromGroupResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class ListAssetGroupMembersRequest(_message.Message):
    __slots__ = ("group_id", "page_size", "page_token")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    page_size: int
    page_token: str
    def __init__(self, group_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetGroupMembersResponse(_message.Message):
    __slots__ = ("members", "next_page_token", "position")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[_types_pb2.GroupMember]
    next_page_token: str
    position: int
    def __init__(self, members: _Optional[_Iterable[_Union[_types_pb2.GroupMember, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class RaiseQualityFlagRequest(_message.Message):
    __slots__ = ("flag", "request_id")
    FLAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    flag: _types_pb2.QualityFlag
    request_id: str
    def __init__(self, flag: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RaiseQualityFlagResponse(_message.Message):
    __slots__ = ("flag", "position")
    FLAG_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    flag: _types_pb2.QualityFlag
    position: int
    def __init__(self, flag: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ResolveQualityFlagRequest(_message.Message):
    __slots__ = ("flag_id", "cleared_by", "clear_reason", "request_id")
    FLAG_ID_FIELD_NUMBER: _ClassVar[int]
    CLEARED_BY_FIELD_NUMBER: _ClassVar[int]
    CLEAR_REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    flag_id: str
    cleared_by: str
    clear_reason: str
    request_id: str
    def __init__(self, flag_id: _Optional[str] = ..., cleared_by: _Optional[str] = ..., clear_reason: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ResolveQualityFlagResponse(_message.Message):
    __slots__ = ("flag", "position")
    FLAG_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    flag: _types_pb2.QualityFlag
    position: int
    def __init__(self, flag: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class GetQualityFlagRequest(_message.Message):
    __slots__ = ("flag_id",)
    FLAG_ID_FIELD_NUMBER: _ClassVar[int]
    flag_id: str
    def __init__(self, flag_id: _Optional[str] = ...) -> None: ...

class GetQualityFlagResponse(_message.Message):
    __slots__ = ("flag", "position")
    FLAG_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    flag: _types_pb2.QualityFlag
    position: int
    def __init__(self, flag: _Optional[_Union[_types_pb2.QualityFlag, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ListQualityFlagsRequest(_message.Message):
    __slots__ = ("asset_id", "flag_type", "source", "min_severity", "include_resolved", "page_size", "page_token")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    FLAG_TYPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MIN_SEVERITY_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_RESOLVED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    flag_type: _types_pb2.FlagType
    source: str
    min_severity: _types_pb2.Severity
    include_resolved: bool
    page_size: int
    page_token: str
    def __init__(self, asset_id: _Optional[str] = ..., flag_type: _Optional[_Union[_types_pb2.FlagType, str]] = ..., source: _Optional[str] = ..., min_severity: _Optional[_Union[_types_pb2.Severity, str]] = ..., include_resolved: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListQualityFlagsResponse(_message.Message):
    __slots__ = ("flags", "next_page_token", "position")
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    flags: _containers.RepeatedCompositeFieldContainer[_types_pb2.QualityFlag]
    next_page_token: str
    position: int
    def __init__(self, flags: _Optional[_Iterable[_Union[_types_pb2.QualityFlag, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class CreateChainRequest(_message.Message):
    __slots__ = ("chain", "request_id")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    chain: _types_pb2.Chain
    request_id: str
    def __init__(self, chain: _Optional[_Union[_types_pb2.Chain, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateChainResponse(_message.Message):
    __slots__ = ("chain", "position")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    chain: _types_pb2.Chain
    position: int
    def __init__(self, chain: _Optional[_Union[_types_pb2.Chain, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class UpdateChainRequest(_message.Message):
    __slots__ = ("chain", "name", "caip2", "network_id", "aliases", "native_symbol", "native_decimals", "native_asset_id", "explorer_url", "slip44", "is_testnet", "is_active", "provenance", "expected_position", "request_id")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CAIP2_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    NATIVE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    NATIVE_DECIMALS_FIELD_NUMBER: _ClassVar[int]
    NATIVE_ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    EXPLORER_URL_FIELD_NUMBER: _ClassVar[int]
    SLIP44_FIELD_NUMBER: _ClassVar[int]
    IS_TESTNET_FIELD_NUMBER: _ClassVar[int]
    IS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    chain: str
    name: str
    caip2: str
    network_id: OptionalNumber
    aliases: Names
    native_symbol: str
    native_decimals: OptionalNumber
    native_asset_id: str
    explorer_url: str
    slip44: OptionalNumber
    is_testnet: bool
    is_active: bool
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, chain: _Optional[str] = ..., name: _Optional[str] = ..., caip2: _Optional[str] = ..., network_id: _Optional[_Union[OptionalNumber, _Mapping]] = ..., aliases: _Optional[_Union[Names, _Mapping]] = ..., native_symbol: _Optional[str] = ..., native_decimals: _Optional[_Union[OptionalNumber, _Mapping]] = ..., native_asset_id: _Optional[str] = ..., explorer_url: _Optional[str] = ..., slip44: _Optional[_Union[OptionalNumber, _Mapping]] = ..., is_testnet: bool = ..., is_active: bool = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateChainResponse(_message.Message):
    __slots__ = ("chain", "position")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    chain: _types_pb2.Chain
    position: int
    def __init__(self, chain: _Optional[_Union[_types_pb2.Chain, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class GetChainRequest(_message.Message):
    __slots__ = ("chain",)
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    chain: str
    def __init__(self, chain: _Optional[str] = ...) -> None: ...

class GetChainResponse(_message.Message):
    __slots__ = ("chain", "position")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    chain: _types_pb2.Chain
    position: int
    def __init__(self, chain: _Optional[_Union[_types_pb2.Chain, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ListChainsRequest(_message.Message):
    __slots__ = ("include_inactive", "page_size", "page_token")
    INCLUDE_INACTIVE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    include_inactive: bool
    page_size: int
    page_token: str
    def __init__(self, include_inactive: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListChainsResponse(_message.Message):
    __slots__ = ("chains", "next_page_token", "position")
    CHAINS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    chains: _containers.RepeatedCompositeFieldContainer[_types_pb2.Chain]
    next_page_token: str
    position: int
    def __init__(self, chains: _Optional[_Iterable[_Union[_types_pb2.Chain, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class CreateVenueRequest(_message.Message):
    __slots__ = ("venue", "request_id")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    venue: _types_pb2.Venue
    request_id: str
    def __init__(self, venue: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateVenueResponse(_message.Message):
    __slots__ = ("venue", "position")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    venue: _types_pb2.Venue
    position: int
    def __init__(self, venue: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class UpdateVenueRequest(_message.Message):
    __slots__ = ("venue", "name", "venue_type", "aliases", "website", "countries", "chain_id", "is_active", "provenance", "expected_position", "request_id")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VENUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    WEBSITE_FIELD_NUMBER: _ClassVar[int]
    COUNTRIES_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    IS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    venue: str
    name: str
    venue_type: _types_pb2.VenueType
    aliases: Names
    website: str
    countries: Names
    chain_id: str
    is_active: bool
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, venue: _Optional[str] = ..., name: _Optional[str] = ..., venue_type: _Optional[_Union[_types_pb2.VenueType, str]] = ..., aliases: _Optional[_Union[Names, _Mapping]] = ..., website: _Optional[str] = ..., countries: _Optional[_Union[Names, _Mapping]] = ..., chain_id: _Optional[str] = ..., is_active: bool = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateVenueResponse(_message.Message):
    __slots__ = ("venue", "position")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    venue: _types_pb2.Venue
    position: int
    def __init__(self, venue: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class GetVenueRequest(_message.Message):
    __slots__ = ("venue",)
    VENUE_FIELD_NUMBER: _ClassVar[int]
    venue: str
    def __init__(self, venue: _Optional[str] = ...) -> None: ...

class GetVenueResponse(_message.Message):
    __slots__ = ("venue", "position")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    venue: _types_pb2.Venue
    position: int
    def __init__(self, venue: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ListVenuesRequest(_message.Message):
    __slots__ = ("venue_type", "include_inactive", "page_size", "page_token")
    VENUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_INACTIVE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    venue_type: _types_pb2.VenueType
    include_inactive: bool
    page_size: int
    page_token: str
    def __init__(self, venue_type: _Optional[_Union[_types_pb2.VenueType, str]] = ..., include_inactive: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVenuesResponse(_message.Message):
    __slots__ = ("venues", "next_page_token", "position")
    VENUES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    venues: _containers.RepeatedCompositeFieldContainer[_types_pb2.Venue]
    next_page_token: str
    position: int
    def __init__(self, venues: _Optional[_Iterable[_Union[_types_pb2.Venue, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class ListVenueAssetsRequest(_message.Message):
    __slots__ = ("venue", "page_size", "page_token")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    venue: str
    page_size: int
    page_token: str
    def __init__(self, venue: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVenueAssetsResponse(_message.Message):
    __slots__ = ("assets", "next_page_token", "position")
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    assets: _containers.RepeatedCompositeFieldContainer[_types_pb2.Asset]
    next_page_token: str
    position: int
    def __init__(self, assets: _Optional[_Iterable[_Union[_types_pb2.Asset, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class Listing(_message.Message):
    __slots__ = ("venue", "venue_symbols", "symbol_count")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    VENUE_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_COUNT_FIELD_NUMBER: _ClassVar[int]
    venue: _types_pb2.Venue
    venue_symbols: _containers.RepeatedCompositeFieldContainer[_types_pb2.VenueSymbol]
    symbol_count: int
    def __init__(self, venue: _Optional[_Union[_types_pb2.Venue, _Mapping]] = ..., venue_symbols: _Optional[_Iterable[_Union[_types_pb2.VenueSymbol, _Mapping]]] = ..., symbol_count: _Optional[int] = ...) -> None: ...

class ListAssetVenuesRequest(_message.Message):
    __slots__ = ("asset_id", "include_inactive", "page_size", "page_token")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_INACTIVE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    include_inactive: bool
    page_size: int
    page_token: str
    def __init__(self, asset_id: _Optional[str] = ..., include_inactive: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAssetVenuesResponse(_message.Message):
    __slots__ = ("listings", "next_page_token", "position")
    LISTINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    listings: _containers.RepeatedCompositeFieldContainer[Listing]
    next_page_token: str
    position: int
    def __init__(self, listings: _Optional[_Iterable[_Union[Listing, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class CreateVenueSymbolRequest(_message.Message):
    __slots__ = ("venue_symbol", "request_id")
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    venue_symbol: _types_pb2.VenueSymbol
    request_id: str
    def __init__(self, venue_symbol: _Optional[_Union[_types_pb2.VenueSymbol, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateVenueSymbolResponse(_message.Message):
    __slots__ = ("venue_symbol", "position")
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    venue_symbol: _types_pb2.VenueSymbol
    position: int
    def __init__(self, venue_symbol: _Optional[_Union[_types_pb2.VenueSymbol, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class UpdateVenueSymbolRequest(_message.Message):
    __slots__ = ("venue_symbol_id", "quote_asset_id", "settle_asset_id", "multiplier", "valid_from", "valid_to", "provenance", "expected_position", "request_id")
    VENUE_SYMBOL_ID_FIELD_NUMBER: _ClassVar[int]
    QUOTE_ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SETTLE_ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_FIELD_NUMBER: _ClassVar[int]
    VALID_TO_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    venue_symbol_id: str
    quote_asset_id: str
    settle_asset_id: str
    multiplier: str
    valid_from: OptionalTime
    valid_to: OptionalTime
    provenance: str
    expected_position: int
    request_id: str
    def __init__(self, venue_symbol_id: _Optional[str] = ..., quote_asset_id: _Optional[str] = ..., settle_asset_id: _Optional[str] = ..., multiplier: _Optional[str] = ..., valid_from: _Optional[_Union[OptionalTime, _Mapping]] = ..., valid_to: _Optional[_Union[OptionalTime, _Mapping]] = ..., provenance: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateVenueSymbolResponse(_message.Message):
    __slots__ = ("venue_symbol", "position")
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    venue_symbol: _types_pb2.VenueSymbol
    position: int
    def __init__(self, venue_symbol: _Optional[_Union[_types_pb2.VenueSymbol, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class DeleteVenueSymbolRequest(_message.Message):
    __slots__ = ("venue_symbol_id", "expected_position", "request_id")
    VENUE_SYMBOL_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    venue_symbol_id: str
    expected_position: int
    request_id: str
    def __init__(self, venue_symbol_id: _Optional[str] = ..., expected_position: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteVenueSymbolResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class Ticker(_message.Message):
    __slots__ = ("venue", "symbol", "market_kind")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    MARKET_KIND_FIELD_NUMBER: _ClassVar[int]
    venue: str
    symbol: str
    market_kind: _types_pb2.MarketKind
    def __init__(self, venue: _Optional[str] = ..., symbol: _Optional[str] = ..., market_kind: _Optional[_Union[_types_pb2.MarketKind, str]] = ...) -> None: ...

class GetVenueSymbolRequest(_message.Message):
    __slots__ = ("venue_symbol_id", "ticker")
    VENUE_SYMBOL_ID_FIELD_NUMBER: _ClassVar[int]
    TICKER_FIELD_NUMBER: _ClassVar[int]
    venue_symbol_id: str
    ticker: Ticker
    def __init__(self, venue_symbol_id: _Optional[str] = ..., ticker: _Optional[_Union[Ticker, _Mapping]] = ...) -> None: ...

class MarketKinds(_message.Message):
    __slots__ = ("kinds",)
    KINDS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[_types_pb2.MarketKind]
    def __init__(self, kinds: _Optional[_Iterable[_Union[_types_pb2.MarketKind, str]]] = ...) -> None: ...

class GetVenueSymbolResponse(_message.Message):
    __slots__ = ("venue_symbol", "other_kinds", "position")
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    OTHER_KINDS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    venue_symbol: _types_pb2.VenueSymbol
    other_kinds: MarketKinds
    position: int
    def __init__(self, venue_symbol: _Optional[_Union[_types_pb2.VenueSymbol, _Mapping]] = ..., other_kinds: _Optional[_Union[MarketKinds, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ListVenueSymbolsRequest(_message.Message):
    __slots__ = ("venue", "symbol", "asset_id", "market_kind", "page_size", "page_token")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    MARKET_KIND_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    venue: str
    symbol: str
    asset_id: str
    market_kind: _types_pb2.MarketKind
    page_size: int
    page_token: str
    def __init__(self, venue: _Optional[str] = ..., symbol: _Optional[str] = ..., asset_id: _Optional[str] = ..., market_kind: _Optional[_Union[_types_pb2.MarketKind, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVenueSymbolsResponse(_message.Message):
    __slots__ = ("venue_symbols", "next_page_token", "position")
    VENUE_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    venue_symbols: _containers.RepeatedCompositeFieldContainer[_types_pb2.VenueSymbol]
    next_page_token: str
    position: int
    def __init__(self, venue_symbols: _Optional[_Iterable[_Union[_types_pb2.VenueSymbol, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class SymbolKey(_message.Message):
    __slots__ = ("symbol", "chain")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    chain: str
    def __init__(self, symbol: _Optional[str] = ..., chain: _Optional[str] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("symbol", "address", "identifier", "ticker")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    TICKER_FIELD_NUMBER: _ClassVar[int]
    symbol: SymbolKey
    address: ChainAddress
    identifier: SourceKey
    ticker: Ticker
    def __init__(self, symbol: _Optional[_Union[SymbolKey, _Mapping]] = ..., address: _Optional[_Union[ChainAddress, _Mapping]] = ..., identifier: _Optional[_Union[SourceKey, _Mapping]] = ..., ticker: _Optional[_Union[Ticker, _Mapping]] = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("resolution",)
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    resolution: _types_pb2.Resolution
    def __init__(self, resolution: _Optional[_Union[_types_pb2.Resolution, _Mapping]] = ...) -> None: ...

class ResolveManyRequest(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[ResolveRequest]
    def __init__(self, keys: _Optional[_Iterable[_Union[ResolveRequest, _Mapping]]] = ...) -> None: ...

class ResolveOutcome(_message.Message):
    __slots__ = ("resolution", "reason", "message", "candidates")
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    resolution: _types_pb2.Resolution
    reason: str
    message: str
    candidates: _containers.RepeatedCompositeFieldContainer[_types_pb2.Collision]
    def __init__(self, resolution: _Optional[_Union[_types_pb2.Resolution, _Mapping]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[_types_pb2.Collision, _Mapping]]] = ...) -> None: ...

class ResolveManyResponse(_message.Message):
    __slots__ = ("outcomes", "position")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[ResolveOutcome]
    position: int
    def __init__(self, outcomes: _Optional[_Iterable[_Union[ResolveOutcome, _Mapping]]] = ..., position: _Optional[int] = ...) -> None: ...

class CheckTradableRequest(_message.Message):
    __slots__ = ("asset_id", "block_at")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_AT_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    block_at: _types_pb2.Severity
    def __init__(self, asset_id: _Optional[str] = ..., block_at: _Optional[_Union[_types_pb2.Severity, str]] = ...) -> None: ...

class CheckTradableResponse(_message.Message):
    __slots__ = ("decision", "reasons", "flags", "position")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    reasons: _containers.RepeatedScalarFieldContainer[str]
    flags: _containers.RepeatedCompositeFieldContainer[_types_pb2.QualityFlag]
    position: int
    def __init__(self, decision: _Optional[_Union[Decision, str]] = ..., reasons: _Optional[_Iterable[str]] = ..., flags: _Optional[_Iterable[_Union[_types_pb2.QualityFlag, _Mapping]]] = ..., position: _Optional[int] = ...) -> None: ...

class UpsertRecordsRequest(_message.Message):
    __slots__ = ("records", "merge", "dry_run", "request_id")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    MERGE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[_types_pb2.Record]
    merge: Merge
    dry_run: bool
    request_id: str
    def __init__(self, records: _Optional[_Iterable[_Union[_types_pb2.Record, _Mapping]]] = ..., merge: _Optional[_Union[Merge, str]] = ..., dry_run: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class UpsertResult(_message.Message):
    __slots__ = ("outcome", "key", "reason", "message")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    key: str
    reason: str
    message: str
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., key: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class UpsertRecordsResponse(_message.Message):
    __slots__ = ("results", "position")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[UpsertResult]
    position: int
    def __init__(self, results: _Optional[_Iterable[_Union[UpsertResult, _Mapping]]] = ..., position: _Optional[int] = ...) -> None: ...
