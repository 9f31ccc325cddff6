import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AssetType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ASSET_TYPE_UNSPECIFIED: _ClassVar[AssetType]
    ASSET_TYPE_NATIVE: _ClassVar[AssetType]
    ASSET_TYPE_TOKEN: _ClassVar[AssetType]
    ASSET_TYPE_STABLECOIN: _ClassVar[AssetType]
    ASSET_TYPE_WRAPPED: _ClassVar[AssetType]
    ASSET_TYPE_BRIDGED: _ClassVar[AssetType]
    ASSET_TYPE_STAKED: _ClassVar[AssetType]
    ASSET_TYPE_SYNTHETIC: _ClassVar[AssetType]
    ASSET_TYPE_LP_TOKEN: _ClassVar[AssetType]
    ASSET_TYPE_FIAT: _ClassVar[AssetType]
    ASSET_TYPE_OTHER: _ClassVar[AssetType]

class RelationshipType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELATIONSHIP_TYPE_UNSPECIFIED: _ClassVar[RelationshipType]
    RELATIONSHIP_TYPE_WRAPS: _ClassVar[RelationshipType]
    RELATIONSHIP_TYPE_BRIDGES: _ClassVar[RelationshipType]
    RELATIONSHIP_TYPE_STAKES: _ClassVar[RelationshipType]
    RELATIONSHIP_TYPE_SYNTHETIC: _ClassVar[RelationshipType]
    RELATIONSHIP_TYPE_LP_PAIR: _ClassVar[RelationshipType]
    RELATIONSHIP_TYPE_MIGRATION: _ClassVar[RelationshipType]
    RELATIONSHIP_TYPE_FORK: _ClassVar[RelationshipType]
    RELATIONSHIP_TYPE_REBASES: _ClassVar[RelationshipType]

class FlagType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FLAG_TYPE_UNSPECIFIED: _ClassVar[FlagType]
    FLAG_TYPE_SCAM: _ClassVar[FlagType]
    FLAG_TYPE_RUGPULL: _ClassVar[FlagType]
    FLAG_TYPE_EXPLOITED: _ClassVar[FlagType]
    FLAG_TYPE_DEPRECATED: _ClassVar[FlagType]
    FLAG_TYPE_PAUSED: _ClassVar[FlagType]
    FLAG_TYPE_UNVERIFIED: _ClassVar[FlagType]
    FLAG_TYPE_LOW_LIQUIDITY: _ClassVar[FlagType]
    FLAG_TYPE_HONEYPOT: _ClassVar[FlagType]
    FLAG_TYPE_TAX_TOKEN: _ClassVar[FlagType]
    FLAG_TYPE_IMPOSTOR: _ClassVar[FlagType]
    FLAG_TYPE_SANCTIONED: _ClassVar[FlagType]
    FLAG_TYPE_DEPEGGED: _ClassVar[FlagType]
    FLAG_TYPE_UPGRADEABLE: _ClassVar[FlagType]
    FLAG_TYPE_MINTABLE: _ClassVar[FlagType]

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    SEVERITY_INFO: _ClassVar[Severity]
    SEVERITY_LOW: _ClassVar[Severity]
    SEVERITY_MEDIUM: _ClassVar[Severity]
    SEVERITY_HIGH: _ClassVar[Severity]
    SEVERITY_CRITICAL: _ClassVar[Severity]

class VenueType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VENUE_TYPE_UNSPECIFIED: _ClassVar[VenueType]
    VENUE_TYPE_CEX: _ClassVar[VenueType]
    VENUE_TYPE_DEX: _ClassVar[VenueType]
    VENUE_TYPE_OTHER: _ClassVar[VenueType]

class MarketKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MARKET_KIND_UNSPECIFIED: _ClassVar[MarketKind]
    MARKET_KIND_ASSET: _ClassVar[MarketKind]
    MARKET_KIND_SPOT: _ClassVar[MarketKind]
    MARKET_KIND_PERPETUAL: _ClassVar[MarketKind]
    MARKET_KIND_FUTURE: _ClassVar[MarketKind]
    MARKET_KIND_OPTION: _ClassVar[MarketKind]

class Op(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OP_UNSPECIFIED: _ClassVar[Op]
    OP_PUT: _ClassVar[Op]
    OP_REMOVE: _ClassVar[Op]
ASSET_TYPE_UNSPECIFIED: AssetType
ASSET_TYPE_NATIVE: AssetType
ASSET_TYPE_TOKEN: AssetType
ASSET_TYPE_STABLECOIN: AssetType
ASSET_TYPE_WRAPPED: AssetType
ASSET_TYPE_BRIDGED: AssetType
ASSET_TYPE_STAKED: AssetType
ASSET_TYPE_SYNTHETIC: AssetType
ASSET_TYPE_LP_TOKEN: AssetType
ASSET_TYPE_FIAT: AssetType
ASSET_TYPE_OTHER: AssetType
RELATIONSHIP_TYPE_UNSPECIFIED: RelationshipType
RELATIONSHIP_TYPE_WRAPS: RelationshipType
RELATIONSHIP_TYPE_BRIDGES: RelationshipType
RELATIONSHIP_TYPE_STAKES: RelationshipType
RELATIONSHIP_TYPE_SYNTHETIC: RelationshipType
RELATIONSHIP_TYPE_LP_PAIR: RelationshipType
RELATIONSHIP_TYPE_MIGRATION: RelationshipType
RELATIONSHIP_TYPE_FORK: RelationshipType
RELATIONSHIP_TYPE_REBASES: RelationshipType
FLAG_TYPE_UNSPECIFIED: FlagType
FLAG_TYPE_SCAM: FlagType
FLAG_TYPE_RUGPULL: FlagType
FLAG_TYPE_EXPLOITED: FlagType
FLAG_TYPE_DEPRECATED: FlagType
FLAG_TYPE_PAUSED: FlagType
FLAG_TYPE_UNVERIFIED: FlagType
FLAG_TYPE_LOW_LIQUIDITY: FlagType
FLAG_TYPE_HONEYPOT: FlagType
FLAG_TYPE_TAX_TOKEN: FlagType
FLAG_TYPE_IMPOSTOR: FlagType
FLAG_TYPE_SANCTIONED: FlagType
FLAG_TYPE_DEPEGGED: FlagType
FLAG_TYPE_UPGRADEABLE: FlagType
FLAG_TYPE_MINTABLE: FlagType
SEVERITY_UNSPECIFIED: Severity
SEVERITY_INFO: Severity
SEVERITY_LOW: Severity
SEVERITY_MEDIUM: Severity
SEVERITY_HIGH: Severity
SEVERITY_CRITICAL: Severity
VENUE_TYPE_UNSPECIFIED: VenueType
VENUE_TYPE_CEX: VenueType
VENUE_TYPE_DEX: VenueType
VENUE_TYPE_OTHER: VenueType
MARKET_KIND_UNSPECIFIED: MarketKind
MARKET_KIND_ASSET: MarketKind
MARKET_KIND_SPOT: MarketKind
MARKET_KIND_PERPETUAL: MarketKind
MARKET_KIND_FUTURE: MarketKind
MARKET_KIND_OPTION: MarketKind
OP_UNSPECIFIED: Op
OP_PUT: Op
OP_REMOVE: Op

class Chain(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "chain_id", "name", "namespace", "caip2", "network_id", "aliases", "native_symbol", "native_decimals", "native_asset_id", "explorer_url", "slip44", "is_testnet", "is_active")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
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
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    chain_id: str
    name: str
    namespace: str
    caip2: str
    network_id: int
    aliases: _containers.RepeatedScalarFieldContainer[str]
    native_symbol: str
    native_decimals: int
    native_asset_id: str
    explorer_url: str
    slip44: int
    is_testnet: bool
    is_active: bool
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., chain_id: _Optional[str] = ..., name: _Optional[str] = ..., namespace: _Optional[str] = ..., caip2: _Optional[str] = ..., network_id: _Optional[int] = ..., aliases: _Optional[_Iterable[str]] = ..., native_symbol: _Optional[str] = ..., native_decimals: _Optional[int] = ..., native_asset_id: _Optional[str] = ..., explorer_url: _Optional[str] = ..., slip44: _Optional[int] = ..., is_testnet: bool = ..., is_active: bool = ...) -> None: ...

class Asset(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "asset_id", "symbol", "name", "asset_type", "category", "logo_url", "website", "description", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ASSET_TYPE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    LOGO_URL_FIELD_NUMBER: _ClassVar[int]
    WEBSITE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    asset_id: str
    symbol: str
    name: str
    asset_type: AssetType
    category: str
    logo_url: str
    website: str
    description: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., asset_id: _Optional[str] = ..., symbol: _Optional[str] = ..., name: _Optional[str] = ..., asset_type: _Optional[_Union[AssetType, str]] = ..., category: _Optional[str] = ..., logo_url: _Optional[str] = ..., website: _Optional[str] = ..., description: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "deployment_id", "asset_id", "chain_id", "contract_address", "decimals", "is_native", "is_canonical")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DECIMALS_FIELD_NUMBER: _ClassVar[int]
    IS_NATIVE_FIELD_NUMBER: _ClassVar[int]
    IS_CANONICAL_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    deployment_id: str
    asset_id: str
    chain_id: str
    contract_address: str
    decimals: int
    is_native: bool
    is_canonical: bool
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deployment_id: _Optional[str] = ..., asset_id: _Optional[str] = ..., chain_id: _Optional[str] = ..., contract_address: _Optional[str] = ..., decimals: _Optional[int] = ..., is_native: bool = ..., is_canonical: bool = ...) -> None: ...

class Identifier(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "identifier_id", "asset_id", "source", "external_id", "is_primary")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    IS_PRIMARY_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    identifier_id: str
    asset_id: str
    source: str
    external_id: str
    is_primary: bool
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., identifier_id: _Optional[str] = ..., asset_id: _Optional[str] = ..., source: _Optional[str] = ..., external_id: _Optional[str] = ..., is_primary: bool = ...) -> None: ...

class Relationship(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "relationship_id", "parent_asset_id", "child_asset_id", "relationship_type", "protocol", "conversion_rate", "rate_as_of", "rate_source")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    RELATIONSHIP_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    CHILD_ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    RELATIONSHIP_TYPE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONVERSION_RATE_FIELD_NUMBER: _ClassVar[int]
    RATE_AS_OF_FIELD_NUMBER: _ClassVar[int]
    RATE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    relationship_id: str
    parent_asset_id: str
    child_asset_id: str
    relationship_type: RelationshipType
    protocol: str
    conversion_rate: str
    rate_as_of: _timestamp_pb2.Timestamp
    rate_source: str
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., relationship_id: _Optional[str] = ..., parent_asset_id: _Optional[str] = ..., child_asset_id: _Optional[str] = ..., relationship_type: _Optional[_Union[RelationshipType, str]] = ..., protocol: _Optional[str] = ..., conversion_rate: _Optional[str] = ..., rate_as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., rate_source: _Optional[str] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "group_id", "canonical_symbol", "name", "description")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    group_id: str
    canonical_symbol: str
    name: str
    description: str
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_id: _Optional[str] = ..., canonical_symbol: _Optional[str] = ..., name: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class GroupMember(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "group_id", "asset_id", "is_canonical", "weight")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    IS_CANONICAL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    group_id: str
    asset_id: str
    is_canonical: bool
    weight: str
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_id: _Optional[str] = ..., asset_id: _Optional[str] = ..., is_canonical: bool = ..., weight: _Optional[str] = ...) -> None: ...

class QualityFlag(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "flag_id", "asset_id", "flag_type", "severity", "source", "reason", "evidence_url", "raised_by", "raised_at", "cleared_by", "cleared_at", "clear_reason")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    FLAG_ID_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    FLAG_TYPE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_URL_FIELD_NUMBER: _ClassVar[int]
    RAISED_BY_FIELD_NUMBER: _ClassVar[int]
    RAISED_AT_FIELD_NUMBER: _ClassVar[int]
    CLEARED_BY_FIELD_NUMBER: _ClassVar[int]
    CLEARED_AT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_REASON_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    flag_id: str
    asset_id: str
    flag_type: FlagType
    severity: Severity
    source: str
    reason: str
    evidence_url: str
    raised_by: str
    raised_at: _timestamp_pb2.Timestamp
    cleared_by: str
    cleared_at: _timestamp_pb2.Timestamp
    clear_reason: str
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., flag_id: _Optional[str] = ..., asset_id: _Optional[str] = ..., flag_type: _Optional[_Union[FlagType, str]] = ..., severity: _Optional[_Union[Severity, str]] = ..., source: _Optional[str] = ..., reason: _Optional[str] = ..., evidence_url: _Optional[str] = ..., raised_by: _Optional[str] = ..., raised_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cleared_by: _Optional[str] = ..., cleared_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., clear_reason: _Optional[str] = ...) -> None: ...

class Venue(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "venue_id", "name", "venue_type", "aliases", "website", "countries", "chain_id", "is_active")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    VENUE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VENUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    WEBSITE_FIELD_NUMBER: _ClassVar[int]
    COUNTRIES_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    IS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    venue_id: str
    name: str
    venue_type: VenueType
    aliases: _containers.RepeatedScalarFieldContainer[str]
    website: str
    countries: _containers.RepeatedScalarFieldContainer[str]
    chain_id: str
    is_active: bool
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., venue_id: _Optional[str] = ..., name: _Optional[str] = ..., venue_type: _Optional[_Union[VenueType, str]] = ..., aliases: _Optional[_Iterable[str]] = ..., website: _Optional[str] = ..., countries: _Optional[_Iterable[str]] = ..., chain_id: _Optional[str] = ..., is_active: bool = ...) -> None: ...

class VenueSymbol(_message.Message):
    __slots__ = ("provenance", "created_at", "updated_at", "venue_symbol_id", "venue_id", "symbol", "market_kind", "asset_id", "quote_asset_id", "settle_asset_id", "multiplier", "valid_from", "valid_to")
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    VENUE_SYMBOL_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    MARKET_KIND_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    QUOTE_ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SETTLE_ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    VALID_FROM_FIELD_NUMBER: _ClassVar[int]
    VALID_TO_FIELD_NUMBER: _ClassVar[int]
    provenance: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    venue_symbol_id: str
    venue_id: str
    symbol: str
    market_kind: MarketKind
    asset_id: str
    quote_asset_id: str
    settle_asset_id: str
    multiplier: str
    valid_from: _timestamp_pb2.Timestamp
    valid_to: _timestamp_pb2.Timestamp
    def __init__(self, provenance: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., venue_symbol_id: _Optional[str] = ..., venue_id: _Optional[str] = ..., symbol: _Optional[str] = ..., market_kind: _Optional[_Union[MarketKind, str]] = ..., asset_id: _Optional[str] = ..., quote_asset_id: _Optional[str] = ..., settle_asset_id: _Optional[str] = ..., multiplier: _Optional[str] = ..., valid_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., valid_to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("chain", "asset", "deployment", "identifier", "relationship", "group", "group_member", "quality_flag", "venue", "venue_symbol")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    ASSET_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    RELATIONSHIP_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    GROUP_MEMBER_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FLAG_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    VENUE_SYMBOL_FIELD_NUMBER: _ClassVar[int]
    chain: Chain
    asset: Asset
    deployment: Deployment
    identifier: Identifier
    relationship: Relationship
    group: Group
    group_member: GroupMember
    quality_flag: QualityFlag
    venue: Venue
    venue_symbol: VenueSymbol
    def __init__(self, chain: _Optional[_Union[Chain, _Mapping]] = ..., asset: _Optional[_Union[Asset, _Mapping]] = ..., deployment: _Optional[_Union[Deployment, _Mapping]] = ..., identifier: _Optional[_Union[Identifier, _Mapping]] = ..., relationship: _Optional[_Union[Relationship, _Mapping]] = ..., group: _Optional[_Union[Group, _Mapping]] = ..., group_member: _Optional[_Union[GroupMember, _Mapping]] = ..., quality_flag: _Optional[_Union[QualityFlag, _Mapping]] = ..., venue: _Optional[_Union[Venue, _Mapping]] = ..., venue_symbol: _Optional[_Union[VenueSymbol, _Mapping]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("op", "kind", "key", "record")
    OP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    op: Op
    kind: str
    key: str
    record: Record
    def __init__(self, op: _Optional[_Union[Op, str]] = ..., kind: _Optional[str] = ..., key: _Optional[str] = ..., record: _Optional[_Union[Record, _Mapping]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("position", "chain", "committed_at", "changes")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_AT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    position: int
    chain: bytes
    committed_at: _timestamp_pb2.Timestamp
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, position: _Optional[int] = ..., chain: _Optional[bytes] = ..., committed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class FeedToken(_message.Message):
    __slots__ = ("log_id", "position", "chain")
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    log_id: str
    position: int
    chain: bytes
    def __init__(self, log_id: _Optional[str] = ..., position: _Optional[int] = ..., chain: _Optional[bytes] = ...) -> None: ...

class ActiveFlag(_message.Message):
    __slots__ = ("flag_type", "severity")
    FLAG_TYPE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    flag_type: FlagType
    severity: Severity
    def __init__(self, flag_type: _Optional[_Union[FlagType, str]] = ..., severity: _Optional[_Union[Severity, str]] = ...) -> None: ...

class Collision(_message.Message):
    __slots__ = ("asset_id", "symbol", "name", "asset_type", "chain_id", "contract_address", "deployment_id", "is_canonical", "flags", "look_alike")
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ASSET_TYPE_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    IS_CANONICAL_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    LOOK_ALIKE_FIELD_NUMBER: _ClassVar[int]
    asset_id: str
    symbol: str
    name: str
    asset_type: AssetType
    chain_id: str
    contract_address: str
    deployment_id: str
    is_canonical: bool
    flags: _containers.RepeatedCompositeFieldContainer[ActiveFlag]
    look_alike: bool
    def __init__(self, asset_id: _Optional[str] = ..., symbol: _Optional[str] = ..., name: _Optional[str] = ..., asset_type: _Optional[_Union[AssetType, str]] = ..., chain_id: _Optional[str] = ..., contract_address: _Optional[str] = ..., deployment_id: _Optional[str] = ..., is_canonical: bool = ..., flags: _Optional[_Iterable[_Union[ActiveFlag, _Mapping]]] = ..., look_alike: bool = ...) -> None: ...

class Resolution(_message.Message):
    __slots__ = ("asset", "deployment", "flags", "collisions", "position")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    COLLISIONS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    asset: Asset
    deployment: Deployment
    flags: _containers.RepeatedCompositeFieldContainer[QualityFlag]
    collisions: _containers.RepeatedCompositeFieldContainer[Collision]
    position: int
    def __init__(self, asset: _Optional[_Union[Asset, _Mapping]] = ..., deployment: _Optional[_Union[Deployment, _Mapping]] = ..., flags: _Optional[_Iterable[_Union[QualityFlag, _Mapping]]] = ..., collisions: _Optional[_Iterable[_Union[Collision, _Mapping]]] = ..., position: _Optional[int] = ...) -> None: ...

class Ambiguity(_message.Message):
    __slots__ = ("candidates", "total")
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.RepeatedCompositeFieldContainer[Collision]
    total: int
    def __init__(self, candidates: _Optional[_Iterable[_Union[Collision, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class LookAlikes(_message.Message):
    __slots__ = ("look_alikes", "total")
    LOOK_ALIKES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    look_alikes: _containers.RepeatedCompositeFieldContainer[Collision]
    total: int
    def __init__(self, look_alikes: _Optional[_Iterable[_Union[Collision, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...
