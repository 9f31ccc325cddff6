"""The gRPC face of the registry: messages to records, one registry method, records to messages; errors to statuses.

Handlers are plain functions, so `grpc.aio` runs them in its thread pool, where they may block; a client that gives up does
not stop a write in the middle. `ErrorInterceptor` must be the outermost interceptor: it reads requests and writes replies
itself, so that no malformed byte and no exception's text gets past it.
"""

from __future__ import annotations

import inspect
import logging
import typing
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message

from cqar import model, wire
from cqar.answers import Resolution
from cqar.errors import AmbiguousError, CqarError, InternalError, InvalidError
from cqar.model import Record
from cqar.rules.text import check_text
from cqar.server.registry import (
    AddressKey,
    AssetPatch,
    Call,
    Direction,
    Merge,
    PageRequest,
    Registry,
    ResolveKey,
    SourceKey,
    SymbolKey,
)
from cqar.v1 import registry_pb2 as pb
from cqar.v1 import types_pb2
from cqar.wire import enum_from_wire, record_from_wire, record_to_wire

log = logging.getLogger(__name__)

ACTOR: Final = "cqar-actor"  # metadata: who calls, until tokens tell
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["AssetRegistry"]

Handler = Callable[[Registry, Call, Any], Message]

# Enums of the contract to those of the records, for the fields of requests that hold one.
_ENUMS: Final = {
    types_pb2.DESCRIPTOR.enum_types_by_name[kind.__name__].full_name: kind
    for kind in (
        model.AssetType,
        model.RelationshipType,
        model.FlagType,
        model.Severity,
        model.VenueType,
        model.MarketKind,
    )
}
_FRAME: Final = frozenset({"request_id", "page_size", "page_token"})


def _arguments(request: Message) -> dict[str, Any]:
    """Give the fields of a request that are set as arguments: names are the same on both sides."""
    arguments: dict[str, Any] = {}
    for descriptor in request.DESCRIPTOR.fields:
        name = descriptor.name
        if name in _FRAME or (descriptor.has_presence and not request.HasField(name)):
            continue
        value = getattr(request, name)
        if descriptor.enum_type is not None:
            value = enum_from_wire(_ENUMS[descriptor.enum_type.full_name], value, name)
        arguments[name] = value
    return arguments


def _given(request: Any, field: str) -> Any:
    """Give the message in a field; InvalidError if it is not set."""
    if not request.HasField(field):
        raise InvalidError(f"{field}: required", reason="REQUIRED", field=field)
    return getattr(request, field)


def _key(request: Any) -> str:
    """Tell which way of naming a record the caller chose; InvalidError for none."""
    name: str | None = request.WhichOneof("key")
    if name is None:
        ways = ", ".join([field.name for field in request.DESCRIPTOR.oneofs_by_name["key"].fields])
        raise InvalidError(f"key: give one of {ways}", reason="REQUIRED", field="key")
    return name


# --- the kinds of methods that there are several of ----------------------------------------------------------------------


def _reply(response: type[Any], field: str, answer: Any) -> Message:
    """Give the response that holds one record."""
    reply: Message = response(position=answer.position)
    record_to_wire(answer.record, getattr(reply, field))
    return reply


def _create(method: str, field: str, kind: type[Record], response: type[Any]) -> Handler:
    """Make the handler of a write of one record that gives it back."""

    def handle(registry: Registry, call: Call, request: Any) -> Message:
        record = record_from_wire(kind, _given(request, field))
        return _reply(response, field, getattr(registry, method)(call, record))

    return handle


def _get(field: str, response: type[Any], **ways: Callable[[Registry, Any], Any]) -> Handler:
    """Make the handler of a read of one record; each way to name it has its reader."""

    def handle(registry: Registry, _call: Call, request: Any) -> Message:
        way = _key(request)
        return _reply(response, field, ways[way](registry, getattr(request, way)))

    return handle


def _get_by(method: str, field: str, response: type[Any]) -> Handler:
    """Make the handler of a read of one record that can be named in one way only."""

    def handle(registry: Registry, _call: Call, request: Any) -> Message:
        return _reply(response, field, getattr(registry, method)(**_arguments(request)))

    return handle


def _list(method: str, field: str, response: type[Any]) -> Handler:
    """Make the handler of a list with filters and pages."""

    def handle(registry: Registry, _call: Call, request: Any) -> Message:
        asked = PageRequest(size=request.page_size, token=request.page_token)
        page = getattr(registry, method)(**_arguments(request), page=asked)
        reply: Message = response(next_page_token=page.next_page_token, position=page.position)
        getattr(reply, field).extend([record_to_wire(record) for record in page.records])
        return reply

    return handle


# --- the others ----------------------------------------------------------------------------------------------------------


def _create_asset(registry: Registry, call: Call, request: pb.CreateAssetRequest) -> Message:
    answer = registry.create_asset(
        call,
        record_from_wire(model.Asset, _given(request, "asset")),
        [record_from_wire(model.Deployment, message) for message in request.deployments],
        [record_from_wire(model.Identifier, message) for message in request.identifiers],
    )
    return pb.CreateAssetResponse(
        asset=record_to_wire(answer.asset),
        deployments=[record_to_wire(deployment) for deployment in answer.deployments],
        identifiers=[record_to_wire(identifier) for identifier in answer.identifiers],
        position=answer.position,
    )


def _update_asset(registry: Registry, call: Call, request: pb.UpdateAssetRequest) -> Message:
    arguments = _arguments(request)
    asset_id, expected = arguments.pop("asset_id"), arguments.pop("expected_position", None)
    if "metadata" in arguments:
        arguments["metadata"] = tuple(arguments["metadata"].entries.items())
    answer = registry.update_asset(call, asset_id, AssetPatch(**arguments), expected)
    return _reply(pb.UpdateAssetResponse, "asset", answer)


def _delete_asset(registry: Registry, call: Call, request: pb.DeleteAssetRequest) -> Message:
    return pb.DeleteAssetResponse(position=registry.delete_asset(call, **_arguments(request)).position)


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


def _remove_from_group(registry: Registry, call: Call, request: pb.RemoveAssetFromGroupRequest) -> Message:
    done = registry.remove_asset_from_group(call, request.group_id, request.asset_id)
    return pb.RemoveAssetFromGroupResponse(position=done.position)


def _resolve_flag(registry: Registry, call: Call, request: pb.ResolveQualityFlagRequest) -> Message:
    return _reply(pb.ResolveQualityFlagResponse, "flag", registry.resolve_quality_flag(call, **_arguments(request)))


def _ticker(registry: Registry, ticker: pb.Ticker) -> Any:
    return registry.get_venue_symbol_now(**_arguments(ticker))


def _resolve_key(request: pb.ResolveRequest) -> ResolveKey:
    match _key(request):
        case "symbol":
            return SymbolKey(**_arguments(request.symbol))
        case "address":
            return AddressKey(**_arguments(request.address))
        case _:
            return SourceKey(**_arguments(request.identifier))


def _resolve(registry: Registry, _call: Call, request: pb.ResolveRequest) -> Message:
    return pb.ResolveResponse(resolution=wire.resolution_to_wire(registry.resolve(_resolve_key(request))))


def _resolve_many(registry: Registry, _call: Call, request: pb.ResolveManyRequest) -> Message:
    keys: list[ResolveKey | InvalidError] = []
    for key in request.keys:
        try:
            keys.append(_resolve_key(key))
        except InvalidError as error:
            keys.append(error)
    answer = registry.resolve_many(keys)
    return pb.ResolveManyResponse(outcomes=map(_outcome, answer.outcomes), position=answer.position)


def _outcome(outcome: Resolution | CqarError) -> pb.ResolveOutcome:
    if isinstance(outcome, Resolution):
        return pb.ResolveOutcome(resolution=wire.resolution_to_wire(outcome))
    candidates = outcome.candidates if isinstance(outcome, AmbiguousError) else ()
    return pb.ResolveOutcome(
        reason=outcome.reason,
        message=outcome.message,
        candidates=[wire.collision_to_wire(candidate) for candidate in candidates[: wire.MAX_CANDIDATES]],
    )


def _check_tradable(registry: Registry, _call: Call, request: pb.CheckTradableRequest) -> Message:
    verdict = registry.check_tradable(**_arguments(request))
    return pb.CheckTradableResponse(
        decision=f"DECISION_{verdict.decision.name}",
        reasons=verdict.reasons,
        flags=[record_to_wire(flag) for flag in verdict.flags],
        position=verdict.position,
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
    "GetAsset": _get_by("get_asset", "asset", pb.GetAssetResponse),
    "UpdateAsset": _update_asset,
    "DeleteAsset": _delete_asset,
    "ListAssets": _list("list_assets", "assets", pb.ListAssetsResponse),
    "SearchAssets": _list("search_assets", "assets", pb.SearchAssetsResponse),
    "CreateAssetDeployment": _create(
        "create_asset_deployment", "deployment", model.Deployment, pb.CreateAssetDeploymentResponse
    ),
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
    "ListAssetRelationships": _list_relationships,
    "CreateAssetGroup": _create("create_asset_group", "group", model.Group, pb.CreateAssetGroupResponse),
    "GetAssetGroup": _get(
        "group",
        pb.GetAssetGroupResponse,
        group_id=Registry.get_asset_group,
        canonical_symbol=Registry.get_asset_group_of,
    ),
    "ListAssetGroups": _list("list_asset_groups", "groups", pb.ListAssetGroupsResponse),
    "AddAssetToGroup": _create("add_asset_to_group", "member", model.GroupMember, pb.AddAssetToGroupResponse),
    "RemoveAssetFromGroup": _remove_from_group,
    "ListAssetGroupMembers": _list("list_asset_group_members", "members", pb.ListAssetGroupMembersResponse),
    "RaiseQualityFlag": _create("raise_quality_flag", "flag", model.QualityFlag, pb.RaiseQualityFlagResponse),
    "ResolveQualityFlag": _resolve_flag,
    "ListQualityFlags": _list("list_quality_flags", "flags", pb.ListQualityFlagsResponse),
    "CreateChain": _create("create_chain", "chain", model.Chain, pb.CreateChainResponse),
    "GetChain": _get_by("get_chain", "chain", pb.GetChainResponse),
    "ListChains": _list("list_chains", "chains", pb.ListChainsResponse),
    "CreateVenue": _create("create_venue", "venue", model.Venue, pb.CreateVenueResponse),
    "GetVenue": _get_by("get_venue", "venue", pb.GetVenueResponse),
    "ListVenues": _list("list_venues", "venues", pb.ListVenuesResponse),
    "CreateVenueSymbol": _create(
        "create_venue_symbol", "venue_symbol", model.VenueSymbol, pb.CreateVenueSymbolResponse
    ),
    "GetVenueSymbol": _get(
        "venue_symbol", pb.GetVenueSymbolResponse, venue_symbol_id=Registry.get_venue_symbol, ticker=_ticker
    ),
    "ListVenueSymbols": _list("list_venue_symbols", "venue_symbols", pb.ListVenueSymbolsResponse),
    "Resolve": _resolve,
    "ResolveMany": _resolve_many,
    "CheckTradable": _check_tradable,
    "UpsertRecords": _upsert,
}


def add_registry(server: grpc.aio.Server, registry: Registry) -> None:
    """Register the service with a server, which must have an `ErrorInterceptor` and a thread pool."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            _bound(handler, registry),
            request_deserializer=_message_class(_SERVICE.methods_by_name[name].input_type).FromString,
            response_serializer=_message_class(_SERVICE.methods_by_name[name].output_type).SerializeToString,
        )
        for name, handler in HANDLERS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),))


def _message_class(descriptor: Any) -> type[Any]:
    return typing.cast("type[Any]", getattr(pb, descriptor.name))


def _bound(handler: Handler, registry: Registry) -> Callable[[Any, Any], Message]:
    def handle(request: Any, context: grpc.ServicerContext) -> Message:
        actor = next((str(value) for name, value in context.invocation_metadata() if name == ACTOR), "")
        call = Call(
            actor=check_text(actor, ACTOR, 128) or Call().actor, request_id=getattr(request, "request_id", None) or None
        )
        return handler(registry, call, request)

    return handle


# --- errors --------------------------------------------------------------------------------------------------------------


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns every exception of a handler into a status: a CqarError into its own, all else into INTERNAL with a number.

    The details of the latter are in the server's log under that number, and nowhere else. Must be the outermost one.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler that the server found for the call; it then takes and gives bytes."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(_guarded_streams(method, handler))
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(_guarded_stream(method, handler))
        return grpc.unary_unary_rpc_method_handler(_guarded_unary(method, handler))


def _guarded_unary(method: str, handler: Any) -> Callable[[bytes, Any], Any]:
    """Guard a handler of one reply; one that blocks stays a plain function, for the thread pool."""
    serve = handler.unary_unary

    def guarded(data: bytes, context: Any) -> bytes:
        try:
            return _written(handler, serve(_read(handler, data), context))
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            return _fail(context, method, error)

    async def guarded_coroutine(data: bytes, context: Any) -> bytes:
        try:
            return _written(handler, await serve(_read(handler, data), context))
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            return _fail(context, method, error)

    return guarded_coroutine if inspect.iscoroutinefunction(serve) else guarded


def _guarded_stream(method: str, handler: Any) -> Callable[[bytes, Any], Any]:
    """Guard a handler of many replies, which yields them, or writes them to its context."""
    serve = handler.unary_stream

    async def guarded(data: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            async for reply in serve(_read(handler, data), context):
                yield _written(handler, reply)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            _fail(context, method, error)

    async def guarded_coroutine(data: bytes, context: Any) -> None:
        try:
            await serve(_read(handler, data), context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            _fail(context, method, error)

    return guarded_coroutine if inspect.iscoroutinefunction(serve) else guarded


def _guarded_streams(method: str, handler: Any) -> Callable[[AsyncIterator[bytes], Any], Any]:
    """Guard a coroutine that answers a stream with a stream."""

    async def guarded(data: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for reply in handler.stream_stream((_read(handler, each) async for each in data), context):
                yield _written(handler, reply)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            _fail(context, method, error)

    return guarded


def _read(handler: Any, data: bytes) -> Any:
    try:
        return handler.request_deserializer(data) if handler.request_deserializer else data
    except DecodeError:
        raise InvalidError("the request is not a message of this method", reason="MALFORMED") from None


def _written(handler: Any, reply: Any) -> bytes:
    data: bytes = handler.response_serializer(reply) if handler.response_serializer else reply
    return data


def _fail(context: Any, method: str, error: Exception) -> bytes:
    """End the call with the status of an error; gives the reply that goes with it, which nobody reads."""
    if not isinstance(error, CqarError):
        number = uuid.uuid4().hex[:8]
        log.error("internal error %s in %s", number, method, exc_info=error)
        error = InternalError(f"internal error {number}; the server's log has the details", number=number)
    code, message, trailing = wire.error_to_status(error)
    context.set_code(code)
    context.set_details(message)
    context.set_trailing_metadata(trailing)
    return b""
