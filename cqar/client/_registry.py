"""The write and admin surface: one method for each RPC of `AssetRegistry`, records in, records out.

Every call goes to the server. A write returns `Written`: the record as the server keeps it, and the position to `wait_for` if the
replica shall show it. A list is an iterator over all pages. All methods raise the errors of `cqar.errors`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from cqar.answers import Decision, Resolution, Verdict
from cqar.client._remote import Remote
from cqar.model import (
    Asset,
    AssetType,
    Chain,
    Deployment,
    FlagType,
    Group,
    GroupMember,
    Identifier,
    MarketKind,
    QualityFlag,
    Record,
    Relationship,
    RelationshipType,
    Severity,
    Venue,
    VenueSymbol,
    VenueType,
)
from cqar.v1 import registry_pb2 as pb
from cqar.wire import any_to_wire, enum_to_wire, record_from_wire, record_to_wire

R = TypeVar("R", bound=Record)
PAGE = 1000  # records a call when listing everything


class Written(msgspec.Struct, Generic[R], frozen=True):
    """A record as it was written, and the position of the write."""

    record: R
    position: int


class CreatedAsset(msgspec.Struct, frozen=True):
    """A new asset with what was created beside it, in one transaction."""

    asset: Asset
    deployments: tuple[Deployment, ...]
    identifiers: tuple[Identifier, ...]
    position: int


class Outcome(enum.StrEnum):
    """What became of one record of a bulk write."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"


class UpsertResult(msgspec.Struct, frozen=True):
    """The outcome of one record; `reason` and `message` tell why it was refused."""

    outcome: Outcome
    key: str
    reason: str = ""
    message: str = ""


def _optional_enum(member: enum.Enum | None) -> Any:
    return None if member is None else enum_to_wire(member)


class Registry:
    """Everything that the server can do. Thread-safe."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def _write(self, kind: type[R], method: str, field: str, request: Any) -> Written[R]:
        reply = self._remote.call(method, request)
        return Written(record_from_wire(kind, getattr(reply, field)), reply.position)

    def _get(self, kind: type[R], method: str, field: str, request: Any) -> R:
        return record_from_wire(kind, getattr(self._remote.call(method, request), field))

    def _list(self, kind: type[R], method: str, field: str, request: Any, limit: int | None = None) -> Iterator[R]:
        request.page_size = PAGE if limit is None else min(PAGE, max(1, limit))
        given = 0
        while True:
            reply = self._remote.call(method, request)
            for message in getattr(reply, field):
                yield record_from_wire(kind, message)
                given += 1
                if given == limit:
                    return
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    # --- assets ---------------------------------------------------------------------------------------------------

    def create_asset(
        self,
        asset: Asset,
        *,
        deployments: Iterable[Deployment] = (),
        identifiers: Iterable[Identifier] = (),
        request_id: str = "",
    ) -> CreatedAsset:
        """Create an asset, with its first deployments and identifiers, all or nothing.

        Leave `asset_id` empty and the server assigns it; the deployments' and identifiers' may be empty in any case.
        """
        request = pb.CreateAssetRequest(
            asset=record_to_wire(asset),
            deployments=[record_to_wire(deployment) for deployment in deployments],
            identifiers=[record_to_wire(identifier) for identifier in identifiers],
            request_id=request_id,
        )
        reply = self._remote.call("CreateAsset", request)
        return CreatedAsset(
            record_from_wire(Asset, reply.asset),
            tuple([record_from_wire(Deployment, message) for message in reply.deployments]),
            tuple([record_from_wire(Identifier, message) for message in reply.identifiers]),
            reply.position,
        )

    def get_asset(self, asset_id: str) -> Asset:
        """Give a live asset."""
        return self._get(Asset, "GetAsset", "asset", pb.GetAssetRequest(asset_id=asset_id))

    def update_asset(
        self,
        asset_id: str,
        *,
        symbol: str | None = None,
        name: str | None = None,
        asset_type: AssetType | None = None,
        category: str | None = None,
        logo_url: str | None = None,
        website: str | None = None,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        expected_position: int | None = None,
        request_id: str = "",
    ) -> Written[Asset]:
        """Change the given fields of an asset; None leaves a field as it is, an empty text clears it.

        With `expected_position`, raises StaleError if the asset was written after that position.
        """
        request = pb.UpdateAssetRequest(
            asset_id=asset_id,
            symbol=symbol,
            name=name,
            asset_type=_optional_enum(asset_type),
            category=category,
            logo_url=logo_url,
            website=website,
            description=description,
            metadata=None if metadata is None else pb.Metadata(entries=metadata),
            expected_position=expected_position,
            request_id=request_id,
        )
        return self._write(Asset, "UpdateAsset", "asset", request)

    def delete_asset(self, asset_id: str, *, expected_position: int | None = None, request_id: str = "") -> int:
        """Take an asset, with all that hangs on it, out of the registry; give the position of the write."""
        request = pb.DeleteAssetRequest(asset_id=asset_id, expected_position=expected_position, request_id=request_id)
        position: int = self._remote.call("DeleteAsset", request).position
        return position

    def list_assets(
        self,
        *,
        asset_type: AssetType | None = None,
        category: str | None = None,
        symbol: str | None = None,
        chain: str | None = None,
        venue: str | None = None,
    ) -> Iterator[Asset]:
        """Yield the live assets that meet all conditions, by id."""
        request = pb.ListAssetsRequest(
            asset_type=_optional_enum(asset_type), category=category, symbol=symbol, chain=chain, venue=venue
        )
        return self._list(Asset, "ListAssets", "assets", request)

    def search_assets(
        self,
        query: str,
        *,
        chain: str | None = None,
        venue: str | None = None,
        asset_type: AssetType | None = None,
        category: str | None = None,
        min_severity: Severity | None = None,
        limit: int | None = 100,
    ) -> Iterator[Asset]:
        """Yield live assets by symbol, name, address, identifier, ticker or id: exact first, then prefix, then substring."""
        request = pb.SearchAssetsRequest(
            query=query,
            chain=chain,
            venue=venue,
            asset_type=_optional_enum(asset_type),
            category=category,
            min_severity=_optional_enum(min_severity),
        )
        return self._list(Asset, "SearchAssets", "assets", request, limit)

    # --- deployments ----------------------------------------------------------------------------------------------

    def create_asset_deployment(self, deployment: Deployment, *, request_id: str = "") -> Written[Deployment]:
        """Put an asset on a chain."""
        request = pb.CreateAssetDeploymentRequest(deployment=record_to_wire(deployment), request_id=request_id)
        return self._write(Deployment, "CreateAssetDeployment", "deployment", request)

    def get_asset_deployment(
        self, deployment_id: str | None = None, *, chain: str | None = None, address: str | None = None
    ) -> Deployment:
        """Give a deployment by its id, or by chain and address."""
        request = pb.GetAssetDeploymentRequest(deployment_id=deployment_id)
        if deployment_id is None:
            request.address.chain, request.address.address = chain or "", address or ""
        return self._get(Deployment, "GetAssetDeployment", "deployment", request)

    def list_asset_deployments(self, *, asset_id: str | None = None, chain: str | None = None) -> Iterator[Deployment]:
        """Yield the live deployments of an asset, of a chain, or of both."""
        request = pb.ListAssetDeploymentsRequest(asset_id=asset_id, chain=chain)
        return self._list(Deployment, "ListAssetDeployments", "deployments", request)

    # --- identifiers ----------------------------------------------------------------------------------------------

    def create_asset_identifier(self, identifier: Identifier, *, request_id: str = "") -> Written[Identifier]:
        """Record the name that a data source has for an asset."""
        request = pb.CreateAssetIdentifierRequest(identifier=record_to_wire(identifier), request_id=request_id)
        return self._write(Identifier, "CreateAssetIdentifier", "identifier", request)

    def get_asset_identifier(
        self, identifier_id: str | None = None, *, source: str | None = None, external_id: str | None = None
    ) -> Identifier:
        """Give an identifier by its id, or by source and external id."""
        request = pb.GetAssetIdentifierRequest(identifier_id=identifier_id)
        if identifier_id is None:
            request.external.source, request.external.external_id = source or "", external_id or ""
        return self._get(Identifier, "GetAssetIdentifier", "identifier", request)

    def list_asset_identifiers(self, *, asset_id: str | None = None, source: str | None = None) -> Iterator[Identifier]:
        """Yield the identifiers of an asset, of a source, or of both."""
        request = pb.ListAssetIdentifiersRequest(asset_id=asset_id, source=source)
        return self._list(Identifier, "ListAssetIdentifiers", "identifiers", request)

    # --- relationships --------------------------------------------------------------------------------------------

    def create_asset_relationship(self, relationship: Relationship, *, request_id: str = "") -> Written[Relationship]:
        """Record that the child is derived from the parent."""
        request = pb.CreateAssetRelationshipRequest(relationship=record_to_wire(relationship), request_id=request_id)
        return self._write(Relationship, "CreateAssetRelationship", "relationship", request)

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
            relationship_type=_optional_enum(type),
            protocol=protocol,
        )
        return self._list(Relationship, "ListAssetRelationships", "relationships", request)

    # --- groups ---------------------------------------------------------------------------------------------------

    def create_asset_group(self, group: Group, *, request_id: str = "") -> Written[Group]:
        """Create an empty group."""
        request = pb.CreateAssetGroupRequest(group=record_to_wire(group), request_id=request_id)
        return self._write(Group, "CreateAssetGroup", "group", request)

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

    def remove_asset_from_group(self, group_id: str, asset_id: str, *, request_id: str = "") -> int:
        """Take an asset out of a group; give the position of the write."""
        request = pb.RemoveAssetFromGroupRequest(group_id=group_id, asset_id=asset_id, request_id=request_id)
        position: int = self._remote.call("RemoveAssetFromGroup", request).position
        return position

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
            flag_type=_optional_enum(flag_type),
            source=source,
            min_severity=_optional_enum(min_severity),
            include_resolved=include_resolved,
        )
        return self._list(QualityFlag, "ListQualityFlags", "flags", request)

    # --- chains and venues ----------------------------------------------------------------------------------------

    def create_chain(self, chain: Chain, *, request_id: str = "") -> Written[Chain]:
        """Register a chain."""
        request = pb.CreateChainRequest(chain=record_to_wire(chain), request_id=request_id)
        return self._write(Chain, "CreateChain", "chain", request)

    def get_chain(self, chain: str) -> Chain:
        """Give a chain by any of its names."""
        return self._get(Chain, "GetChain", "chain", pb.GetChainRequest(chain=chain))

    def list_chains(self, *, include_inactive: bool = False) -> Iterator[Chain]:
        """Yield the chains."""
        return self._list(Chain, "ListChains", "chains", pb.ListChainsRequest(include_inactive=include_inactive))

    def create_venue(self, venue: Venue, *, request_id: str = "") -> Written[Venue]:
        """Register a venue."""
        request = pb.CreateVenueRequest(venue=record_to_wire(venue), request_id=request_id)
        return self._write(Venue, "CreateVenue", "venue", request)

    def get_venue(self, venue: str) -> Venue:
        """Give a venue by any of its names."""
        return self._get(Venue, "GetVenue", "venue", pb.GetVenueRequest(venue=venue))

    def list_venues(self, *, venue_type: VenueType | None = None, include_inactive: bool = False) -> Iterator[Venue]:
        """Yield the venues."""
        request = pb.ListVenuesRequest(venue_type=_optional_enum(venue_type), include_inactive=include_inactive)
        return self._list(Venue, "ListVenues", "venues", request)

    def create_venue_symbol(self, venue_symbol: VenueSymbol, *, request_id: str = "") -> Written[VenueSymbol]:
        """Record what a ticker means on a venue during an interval."""
        request = pb.CreateVenueSymbolRequest(venue_symbol=record_to_wire(venue_symbol), request_id=request_id)
        return self._write(VenueSymbol, "CreateVenueSymbol", "venue_symbol", request)

    def get_venue_symbol(
        self,
        venue_symbol_id: str | None = None,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        kind: MarketKind | None = None,
    ) -> VenueSymbol:
        """Give a row by its id, or what a venue's ticker means now."""
        request = pb.GetVenueSymbolRequest(venue_symbol_id=venue_symbol_id)
        if venue_symbol_id is None:
            ticker = pb.Ticker(venue=venue or "", symbol=symbol or "", market_kind=_optional_enum(kind))
            request.ticker.CopyFrom(ticker)
        return self._get(VenueSymbol, "GetVenueSymbol", "venue_symbol", request)

    def list_venue_symbols(
        self,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        asset_id: str | None = None,
        kind: MarketKind | None = None,
    ) -> Iterator[VenueSymbol]:
        """Yield rows by venue, ticker, asset (as base, quote or settle) and kind, whatever their interval."""
        request = pb.ListVenueSymbolsRequest(
            venue=venue, symbol=symbol, asset_id=asset_id, market_kind=_optional_enum(kind)
        )
        return self._list(VenueSymbol, "ListVenueSymbols", "venue_symbols", request)

    # --- answers --------------------------------------------------------------------------------------------------

    def resolve(self, symbol: str, *, chain: str | None = None) -> Resolution:
        """Ask the server, not the replica, which asset a symbol means."""
        return self._remote.resolve(pb.ResolveRequest(symbol=pb.SymbolKey(symbol=symbol, chain=chain)))

    def resolve_many(self, requests: Sequence[pb.ResolveRequest]) -> pb.ResolveManyResponse:
        """Ask the server for up to 1000 resolutions, all at one position; requests and outcomes as in the contract."""
        reply: pb.ResolveManyResponse = self._remote.call("ResolveMany", pb.ResolveManyRequest(keys=requests))
        return reply

    def check_tradable(self, asset_id: str, *, block_at: Severity = Severity.CRITICAL) -> Verdict:
        """Ask the server, not the replica, whether an asset may be traded; the answer's age is 0."""
        reply = self._remote.call(
            "CheckTradable", pb.CheckTradableRequest(asset_id=asset_id, block_at=_optional_enum(block_at))
        )
        return Verdict(
            decision=Decision(pb.Decision.Name(reply.decision).removeprefix("DECISION_")),
            reasons=tuple(reply.reasons),
            flags=tuple([record_from_wire(QualityFlag, message) for message in reply.flags]),
            position=reply.position,
            age=0.0,
        )

    def upsert_records(
        self,
        records: Sequence[Record],
        *,
        replace: bool = False,
        dry_run: bool = False,
        request_id: str = "",
        timeout: float = 60.0,
    ) -> tuple[list[UpsertResult], int]:
        """Create or update up to 1000 records in one transaction; give one result for each, and the position.

        Records are matched by their natural keys (see the contract). Without `replace` only fields that the registry has
        no value for are filled. A refused record does not keep the others from being written.
        """
        request = pb.UpsertRecordsRequest(
            records=[any_to_wire(record) for record in records],
            merge=pb.MERGE_REPLACE if replace else pb.MERGE_FILL,
            dry_run=dry_run,
            request_id=request_id,
        )
        reply = self._remote.call("UpsertRecords", request, timeout)
        results = [
            UpsertResult(
                Outcome(pb.Outcome.Name(result.outcome).removeprefix("OUTCOME_")),
                result.key,
                result.reason,
                result.message,
            )
            for result in reply.results
        ]
        return results, reply.position
