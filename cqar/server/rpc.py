"""The gRPC face of the registry: messages to records, one registry method, records to messages.

Handlers are plain functions, so `grpc.aio` runs them in its thread pool, where they may block; a client that gives up does
not stop a write in the middle. The reads that are asked for most (`GATHERED`) wait in the event loop and are answered many
with one read. What goes wrong is turned into a status by `edge`.
"""

from __future__ import annotations

import asyncio
import logging
import typing
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from cqar import model, wire
from cqar.answers import Collision, Resolution
from cqar.errors import AmbiguousError, CqarError, InvalidError, NotFoundError
from cqar.model import Record
from cqar.patches import PATCHES
from cqar.server.auth import noted_caller
from cqar.server.cache import Cache
from cqar.server.gathered import GATHERED, resolve_key
from cqar.server.registry import (
    Call,
    Direction,
    Merge,
    PageRequest,
    Registry,
    ResolveKey,
    SourceKey,
)
from cqar.server.requests import arguments_of, given, way_of
from cqar.v1 import registry_pb2 as pb
from cqar.wire import enum_from_wire, record_from_wire, record_to_wire

log = logging.getLogger(__name__)

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["AssetRegistry"]

Handler = Callable[[Registry, Call, Any], Message]

# --- the kinds of methods that there are several of ----------------------------------------------------------------------


def _reply(response: type[Any], field: str, answer: Any) -> Message:
    """Give the response that holds one record."""
    reply: Message = response(position=answer.position)
    record_to_wire(answer.record, getattr(reply, field))
    return reply


def _create(method: str, field: str, kind: type[Record], response: type[Any]) -> Handler:
    """Make the handler of a write of one record that gives it back."""

    def handle(registry: Registry, call: Call, request: Any) -> Message:
        record = record_from_wire(kind, given(request, field))
        return _reply(response, field, getattr(registry, method)(call, record))

    return handle


def _update(method: str, field: str, kind: type[Record], response: type[Any]) -> Handler:
    """Make the handler of an update: the fields of the kind's patch, and those that say which record."""

    def handle(registry: Registry, call: Call, request: Any) -> Message:
        arguments = arguments_of(request, PATCHES[kind].__annotations__)
        patch = wire.patch_from_wire(kind, request)
        return _reply(response, field, getattr(registry, method)(call, patch=patch, **arguments))

    return handle


def _delete(method: str, response: type[Any]) -> Handler:
    """Make the handler of a write that leaves nothing to give back."""

    def handle(registry: Registry, call: Call, request: Any) -> Message:
        reply: Message = response(position=getattr(registry, method)(call, **arguments_of(request)).position)
        return reply

    return handle


def _get(field: str, response: type[Any], **ways: Callable[[Registry, Any], Any]) -> Handler:
    """Make the handler of a read of one record; each way to name it has its reader."""

    def handle(registry: Registry, _call: Call, request: Any) -> Message:
        way = way_of(request)
        return _reply(response, field, ways[way](registry, getattr(request, way)))

    return handle


def _get_by(method: str, field: str, response: type[Any]) -> Handler:
    """Make the handler of a read of one record that can be named in one way only."""

    def handle(registry: Registry, _call: Call, request: Any) -> Message:
        return _reply(response, field, getattr(registry, method)(**arguments_of(request)))

    return handle


def _list(method: str, field: str, response: type[Any]) -> Handler:
    """Make the handler of a list with filters and pages."""

    def handle(registry: Registry, _call: Call, request: Any) -> Message:
        asked = PageRequest(size=request.page_size, token=request.page_token)
        page = getattr(registry, method)(**arguments_of(request), page=asked)
        reply: Message = response(next_page_token=page.next_page_token, position=page.position)
        getattr(reply, field).extend([record_to_wire(record) for record in page.records])
        return reply

    return handle


# --- the others ----------------------------------------------------------------------------------------------------------


def _create_asset(registry: Registry, call: Call, request: pb.CreateAssetRequest) -> Message:
    answer = registry.create_asset(
        call,
        record_from_wire(model.Asset, given(request, "asset")),
        [record_from_wire(model.Deployment, message) for message in request.deployments],
        [record_from_wire(model.Identifier, message) for message in request.identifiers],
        [record_from_wire(model.GroupMember, message) for message in request.memberships],
    )
    return pb.CreateAssetResponse(
        asset=record_to_wire(answer.asset),
        deployments=[record_to_wire(deployment) for deployment in answer.deployments],
        identifiers=[record_to_wire(identifier) for identifier in answer.identifiers],
        memberships=[record_to_wire(member) for member in answer.memberships],
        position=answer.position,
    )


def _move_identifier(registry: Registry, call: Call, request: pb.MoveAssetIdentifierRequest) -> Message:
    arguments = arguments_of(request, ("identifier_id", "external"))
    key = request.identifier_id if way_of(request) == "identifier_id" else SourceKey(**arguments_of(request.external))
    answer = registry.move_asset_identifier(call, key, **arguments)
    return _reply(pb.MoveAssetIdentifierResponse, "identifier", answer)


def _list_relationships(registry: Registry, _call: Call, request: pb.ListAssetRelationshipsRequest) -> Message:
    page = registry.list_asset_relationships(
        asset_id=request.asset_id if request.HasField("asset_id") else None,
        direction=_direction(request.direction),
        relationship_type=(
            enum_from_wire(model.RelationshipType, request.relationship_type, "relationship_type")
            if request.HasField("relationship_type")
            else None
        ),
        protocol=request.protocol if request.HasField("protocol") else None,
        page=PageRequest(size=request.page_size, token=request.page_token),
    )
    return pb.ListAssetRelationshipsResponse(
        relationships=[record_to_wire(record) for record in page.records],
        next_page_token=page.next_page_token,
        position=page.position,
    )


def _direction(number: int) -> Direction:
    directions: dict[int, Direction] = {
        pb.DIRECTION_UNSPECIFIED: "both",
        pb.DIRECTION_PARENTS: "parents",
        pb.DIRECTION_CHILDREN: "children",
    }
    if number not in directions:
        raise InvalidError(f"direction: not a known value ({number})", reason="ENUM", field="direction")
    return directions[number]


def _list_variants(registry: Registry, _call: Call, request: pb.ListAssetVariantsRequest) -> Message:
    page = registry.list_asset_variants(
        request.asset_id,
        types={enum_from_wire(model.RelationshipType, number, "types") for number in request.types},
        page=PageRequest(size=request.page_size, token=request.page_token),
    )
    return pb.ListAssetVariantsResponse(
        variants=[
            pb.Variant(
                asset=record_to_wire(variant.asset),
                path=[record_to_wire(edge) for edge in variant.path],
                depth=variant.depth,
            )
            for variant in page.variants
        ],
        next_page_token=page.next_page_token,
        position=page.position,
    )


def _list_asset_venues(registry: Registry, _call: Call, request: pb.ListAssetVenuesRequest) -> Message:
    asked = PageRequest(size=request.page_size, token=request.page_token)
    page = registry.list_asset_venues(**arguments_of(request), page=asked)
    return pb.ListAssetVenuesResponse(
        listings=[
            pb.Listing(
                venue=record_to_wire(listing.venue),
                venue_symbols=[record_to_wire(row) for row in listing.venue_symbols],
                symbol_count=listing.symbol_count,
            )
            for listing in page.listings
        ],
        next_page_token=page.next_page_token,
        position=page.position,
    )


def _resolve_flag(registry: Registry, call: Call, request: pb.ResolveQualityFlagRequest) -> Message:
    return _reply(pb.ResolveQualityFlagResponse, "flag", registry.resolve_quality_flag(call, **arguments_of(request)))


def _resolve_many(registry: Registry, _call: Call, request: pb.ResolveManyRequest) -> Message:
    keys: list[ResolveKey | InvalidError] = []
    for key in request.keys:
        try:
            keys.append(resolve_key(key))
        except InvalidError as error:
            keys.append(error)
    answer = registry.resolve_many(keys)
    return pb.ResolveManyResponse(outcomes=map(_outcome, answer.outcomes), position=answer.position)


def _outcome(outcome: Resolution | CqarError) -> pb.ResolveOutcome:
    if isinstance(outcome, Resolution):
        return pb.ResolveOutcome(resolution=wire.resolution_to_wire(outcome))
    candidates: tuple[Collision, ...] = ()
    if isinstance(outcome, AmbiguousError):
        candidates = outcome.candidates
    elif isinstance(outcome, NotFoundError):
        candidates = outcome.look_alikes
    return pb.ResolveOutcome(
        reason=outcome.reason,
        message=outcome.message,
        candidates=[wire.collision_to_wire(candidate) for candidate in candidates[: wire.MAX_CANDIDATES]],
    )


def _upsert(registry: Registry, call: Call, request: pb.UpsertRecordsRequest) -> Message:
    records: list[Record | InvalidError] = []
    for message in request.records:
        try:
            records.append(wire.any_from_wire(message))
        except InvalidError as error:
            records.append(error)
    merges = {pb.MERGE_UNSPECIFIED: Merge.FILL, pb.MERGE_FILL: Merge.FILL, pb.MERGE_REPLACE: Merge.REPLACE}
    if request.merge not in merges:
        raise InvalidError(f"merge: not a known value ({request.merge})", reason="ENUM", field="merge")
    answer = registry.upsert_records(call, records, merge=merges[request.merge], dry_run=request.dry_run)
    results = [
        pb.UpsertResult(
            outcome=f"OUTCOME_{result.outcome.name}",
            key=result.key,
            reason=result.reason,
            message=result.message,
        )
        for result in answer.results
    ]
    return pb.UpsertRecordsResponse(results=results, position=answer.position)


HANDLERS: Final[dict[str, Handler]] = {
    "CreateAsset": _create_asset,
    "UpdateAsset": _update("update_asset", "asset", model.Asset, pb.UpdateAssetResponse),
    "DeleteAsset": _delete("delete_asset", pb.DeleteAssetResponse),
    "ListAssets": _list("list_assets", "assets", pb.ListAssetsResponse),
    "SearchAssets": _list("search_assets", "assets", pb.SearchAssetsResponse),
    "CreateAssetDeployment": _create(
        "create_asset_deployment", "deployment", model.Deployment, pb.CreateAssetDeploymentResponse
    ),
    "UpdateAssetDeployment": _update(
        "update_asset_deployment", "deployment", model.Deployment, pb.UpdateAssetDeploymentResponse
    ),
    "DeleteAssetDeployment": _delete("delete_asset_deployment", pb.DeleteAssetDeploymentResponse),
    "GetAssetDeployment": _get(
        "deployment",
        pb.GetAssetDeploymentResponse,
        deployment_id=Registry.get_asset_deployment,
        address=lambda registry, key: registry.get_asset_deployment_at(key.chain, key.address),
    ),
    "ListAssetDeployments": _list("list_asset_deployments", "deployments", pb.ListAssetDeploymentsResponse),
    "CreateAssetIdentifier": _create(
        "create_asset_identifier", "identifier", model.Identifier, pb.CreateAssetIdentifierResponse
    ),
    "UpdateAssetIdentifier": _update(
        "update_asset_identifier", "identifier", model.Identifier, pb.UpdateAssetIdentifierResponse
    ),
    "MoveAssetIdentifier": _move_identifier,
    "DeleteAssetIdentifier": _delete("delete_asset_identifier", pb.DeleteAssetIdentifierResponse),
    "GetAssetIdentifier": _get(
        "identifier",
        pb.GetAssetIdentifierResponse,
        identifier_id=Registry.get_asset_identifier,
        external=lambda registry, key: registry.get_asset_identifier_of(key.source, key.external_id),
    ),
    "ListAssetIdentifiers": _list("list_asset_identifiers", "identifiers", pb.ListAssetIdentifiersResponse),
    "CreateAssetRelationship": _create(
        "create_asset_relationship", "relationship", model.Relationship, pb.CreateAssetRelationshipResponse
    ),
    "GetAssetRelationship": _get_by("get_asset_relationship", "relationship", pb.GetAssetRelationshipResponse),
    "UpdateAssetRelationship": _update(
        "update_asset_relationship", "relationship", model.Relationship, pb.UpdateAssetRelationshipResponse
    ),
    "DeleteAssetRelationship": _delete("delete_asset_relationship", pb.DeleteAssetRelationshipResponse),
    "ListAssetRelationships": _list_relationships,
    "ListAssetVariants": _list_variants,
    "CreateAssetGroup": _create("create_asset_group", "group", model.Group, pb.CreateAssetGroupResponse),
    "UpdateAssetGroup": _update("update_asset_group", "group", model.Group, pb.UpdateAssetGroupResponse),
    "DeleteAssetGroup": _delete("delete_asset_group", pb.DeleteAssetGroupResponse),
    "GetAssetGroup": _get(
        "group",
        pb.GetAssetGroupResponse,
        group_id=Registry.get_asset_group,
        canonical_symbol=Registry.get_asset_group_of,
    ),
    "ListAssetGroups": _list("list_asset_groups", "groups", pb.ListAssetGroupsResponse),
    "AddAssetToGroup": _create("add_asset_to_group", "member", model.GroupMember, pb.AddAssetToGroupResponse),
    "UpdateGroupMember": _update("update_group_member", "member", model.GroupMember, pb.UpdateGroupMemberResponse),
    "RemoveAssetFromGroup": _delete("remove_asset_from_group", pb.RemoveAssetFromGroupResponse),
    "RaiseQualityFlag": _create("raise_quality_flag", "flag", model.QualityFlag, pb.RaiseQualityFlagResponse),
    "ResolveQualityFlag": _resolve_flag,
    "GetQualityFlag": _get_by("get_quality_flag", "flag", pb.GetQualityFlagResponse),
    "ListQualityFlags": _list("list_quality_flags", "flags", pb.ListQualityFlagsResponse),
    "CreateChain": _create("create_chain", "chain", model.Chain, pb.CreateChainResponse),
    "UpdateChain": _update("update_chain", "chain", model.Chain, pb.UpdateChainResponse),
    "GetChain": _get_by("get_chain", "chain", pb.GetChainResponse),
    "ListChains": _list("list_chains", "chains", pb.ListChainsResponse),
    "CreateVenue": _create("create_venue", "venue", model.Venue, pb.CreateVenueResponse),
    "UpdateVenue": _update("update_venue", "venue", model.Venue, pb.UpdateVenueResponse),
    "GetVenue": _get_by("get_venue", "venue", pb.GetVenueResponse),
    "ListVenues": _list("list_venues", "venues", pb.ListVenuesResponse),
    "ListVenueAssets": _list("list_venue_assets", "assets", pb.ListVenueAssetsResponse),
    "ListAssetVenues": _list_asset_venues,
    "CreateVenueSymbol": _create(
        "create_venue_symbol", "venue_symbol", model.VenueSymbol, pb.CreateVenueSymbolResponse
    ),
    "UpdateVenueSymbol": _update(
        "update_venue_symbol", "venue_symbol", model.VenueSymbol, pb.UpdateVenueSymbolResponse
    ),
    "DeleteVenueSymbol": _delete("delete_venue_symbol", pb.DeleteVenueSymbolResponse),
    "ListVenueSymbols": _list("list_venue_symbols", "venue_symbols", pb.ListVenueSymbolsResponse),
    "ResolveMany": _resolve_many,
    "UpsertRecords": _upsert,
}

# Methods that answer each request of a stream with one reply, in order, as their unary fellow would.
STREAMS: Final[dict[str, Handler]] = {"UpsertStream": _upsert}


def add_registry(server: grpc.aio.Server, registry: Registry, pool: Executor, cache: Cache | None = None) -> None:
    """Register the service with a server, which must have an `ErrorInterceptor` and this thread pool."""
    behaviours: dict[str, Any] = {name: _bound(handler, registry) for name, handler in HANDLERS.items()}
    behaviours |= {name: gathered.handler(registry, pool, cache) for name, gathered in GATHERED.items()}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            behaviour,
            request_deserializer=_message_class(_SERVICE.methods_by_name[name].input_type).FromString,
            response_serializer=_message_class(_SERVICE.methods_by_name[name].output_type).SerializeToString,
        )
        for name, behaviour in behaviours.items()
    }
    handlers |= {
        name: grpc.stream_stream_rpc_method_handler(
            _one_by_one(_bound(handler, registry), pool),
            request_deserializer=_message_class(_SERVICE.methods_by_name[name].input_type).FromString,
            response_serializer=_message_class(_SERVICE.methods_by_name[name].output_type).SerializeToString,
        )
        for name, handler in STREAMS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),))


def _message_class(descriptor: Any) -> type[Any]:
    return typing.cast("type[Any]", getattr(pb, descriptor.name))


def _bound(handler: Handler, registry: Registry) -> Callable[[Any, Any], Message]:
    def handle(request: Any, context: grpc.ServicerContext) -> Message:
        caller = noted_caller(context)
        call = Call(actor=caller.actor, request_id=getattr(request, "request_id", None) or None, roles=caller.roles)
        return handler(registry, call, request)

    return handle


def _one_by_one(serve: Callable[[Any, Any], Message], pool: Executor) -> Callable[[Any, Any], AsyncIterator[Message]]:
    """Make a handler of streams that answers one request after the other; it holds a thread of the pool for none in between."""

    async def handle(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Message]:
        async for request in requests:
            yield await asyncio.get_running_loop().run_in_executor(pool, serve, request, context)

    return handle
