"""The registry over gRPC, on a real server: every method, every error's status, and nothing else that gets out."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import grpc
import psycopg
import pytest

from cqar import model, wire
from cqar.errors import (
    AmbiguousError,
    ConflictError,
    CqarError,
    InvalidError,
    NotFoundError,
    StaleError,
    UnavailableError,
)
from cqar.model import Asset, AssetType, Chain, Deployment, Record
from cqar.server.edge import ErrorInterceptor
from cqar.server.gathered import GATHERED
from cqar.server.registry import Registry
from cqar.server.rpc import HANDLERS, add_registry
from cqar.server.store import Store
from cqar.v1 import registry_pb2 as pb
from cqar.v1 import types_pb2

SERVICE = "/cqar.v1.AssetRegistry/"
USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
NOBODY = "00000000-0000-4000-8000-000000000000"


@contextmanager
def serving(*, registry: Registry | None = None, handlers: dict[str, Any] | None = None) -> Iterator[grpc.Channel]:
    """Run a server as the real one is run, and yield a channel to it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    pool = ThreadPoolExecutor(8)

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(migration_thread_pool=pool, interceptors=[ErrorInterceptor()])
        port = server.add_insecure_port("127.0.0.1:0")
        if registry is not None:
            add_registry(server, registry, pool)
        if handlers is not None:
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        pool.shutdown()


class Client:
    """Calls methods by name, and raises what their statuses stand for."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.called: set[str] = set()

    def raw(self, method: str, data: bytes, **options: Any) -> bytes:
        """Send bytes, receive bytes."""
        reply: bytes = self._channel.unary_unary(SERVICE + method)(data, timeout=10, **options)
        return reply

    def stream(self, method: str, requests: list[Any], **options: Any) -> Any:
        """Send requests one after the other; give an iterator over the replies."""
        return self._channel.stream_stream(
            SERVICE + method,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=getattr(pb, f"{method}Response".replace("Stream", "Records")).FromString,
        )(iter(requests), timeout=10, **options)

    def __call__(self, method: str, request: Any = None, **fields: Any) -> Any:
        """Send a request, given as a message or by its fields."""
        self.called.add(method)
        message = getattr(pb, f"{method}Request")(**fields) if request is None else request
        try:
            return getattr(pb, f"{method}Response").FromString(self.raw(method, message.SerializeToString()))
        except grpc.RpcError as error:
            raise wire.error_from_status(
                error.code(), error.details() or "", [(e.key, e.value) for e in error.trailing_metadata()]
            ) from None


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    """Yield a client of a server over an empty registry."""
    with serving(registry=Registry(store)) as channel:
        yield Client(channel)


def message(record: Record) -> Any:
    """Give a record as a message."""
    return wire.record_to_wire(record)


def token(symbol: str = "USDC") -> Any:
    """Give an asset to create."""
    return message(Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN, metadata=(("k", "v"),)))


ETHEREUM = Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1)


def test_every_method_answers(client: Client) -> None:  # noqa: PLR0915
    """Each method of the contract does its plain work over the wire, and each write tells a new position."""
    chain = client("CreateChain", chain=message(ETHEREUM))
    assert chain.position == 1
    assert client("GetChain", chain="1").chain == chain.chain
    assert list(client("ListChains").chains) == [chain.chain]

    made = client(
        "CreateAsset",
        asset=token(),
        deployments=[message(Deployment(asset_id="", chain_id="1", contract_address=USDC, decimals=6))],
        identifiers=[message(model.Identifier(asset_id="", source="coingecko", external_id="usd-coin"))],
    )
    coin = made.asset.asset_id
    assert made.position == 2
    assert (made.deployments[0].chain_id, made.deployments[0].asset_id) == ("ethereum", coin)
    assert made.identifiers[0].is_primary
    assert client("GetAsset", asset_id=coin) == pb.GetAssetResponse(asset=made.asset, position=2)
    placed_at = made.deployments[0].deployment_id
    changed = client("UpdateAssetDeployment", deployment_id=placed_at, decimals=0, is_canonical=True).deployment
    assert (changed.decimals, changed.is_canonical, changed.contract_address) == (0, True, USDC.lower())
    client("UpdateAssetDeployment", deployment_id=placed_at, decimals=6, is_canonical=False)
    chain = client("UpdateChain", chain="1", aliases=pb.Names(values=["x:eth"]), slip44=pb.OptionalNumber(value=60))
    assert (list(chain.chain.aliases), chain.chain.slip44) == (["x:eth"], 60)
    cleared = client("UpdateChain", chain="x:eth", aliases=pb.Names(), slip44=pb.OptionalNumber())
    assert (list(cleared.chain.aliases), cleared.chain.HasField("slip44")) == ([], False)
    updated = client("UpdateAsset", asset_id=coin, category="stable", expected_position=2)
    assert updated.asset.category == "stable"
    assert dict(updated.asset.metadata) == {"k": "v"}
    cleared = client("UpdateAsset", asset_id=coin, category="", metadata=pb.Metadata())
    assert not cleared.asset.HasField("category")
    assert not cleared.asset.metadata
    assert [asset.asset_id for asset in client("ListAssets", symbol="usdc", chain="1").assets] == [coin]
    assert [asset.asset_id for asset in client("SearchAssets", query="usd").assets] == [coin]

    wrapped = client("CreateAsset", asset=token("WUSDC")).asset.asset_id
    placed = Deployment(asset_id=wrapped, chain_id="ethereum", decimals=18, is_native=True)
    deployment = client("CreateAssetDeployment", deployment=message(placed)).deployment
    by_id = client("GetAssetDeployment", deployment_id=deployment.deployment_id)
    assert by_id.deployment == deployment
    by_address = client("GetAssetDeployment", address=pb.ChainAddress(chain="1", address=USDC))
    assert by_address.deployment.deployment_id == made.deployments[0].deployment_id
    assert len(client("ListAssetDeployments", chain="1").deployments) == 2

    named = model.Identifier(asset_id=wrapped, source="s", external_id="w")
    identifier = client("CreateAssetIdentifier", identifier=message(named)).identifier
    assert client("GetAssetIdentifier", identifier_id=identifier.identifier_id).identifier == identifier
    external = pb.SourceKey(source="s", external_id="w")
    assert client("GetAssetIdentifier", external=external).identifier == identifier
    assert list(client("ListAssetIdentifiers", asset_id=wrapped).identifiers) == [identifier]

    edge = model.Relationship(
        parent_asset_id=coin,
        child_asset_id=wrapped,
        relationship_type=model.RelationshipType.WRAPS,
        conversion_rate=Decimal("1.000000000000000001"),
        rate_as_of=datetime(2026, 1, 1, tzinfo=UTC),
        rate_source="test",
    )
    relationship = client("CreateAssetRelationship", relationship=message(edge)).relationship
    assert relationship.conversion_rate == "1.000000000000000001"
    assert client("GetAssetRelationship", relationship_id=relationship.relationship_id).relationship == relationship
    by_key = {"relationship_id": relationship.relationship_id}
    moment = pb.OptionalTime(value=wire.time_to_wire(datetime(2026, 2, 1, tzinfo=UTC)))
    rated = client("UpdateAssetRelationship", **by_key, conversion_rate="1.5", rate_as_of=moment).relationship
    assert (rated.conversion_rate, rated.rate_as_of, rated.rate_source) == ("1.5", moment.value, "test")
    unrated = client("UpdateAssetRelationship", **by_key, conversion_rate="", protocol="lido").relationship
    assert (unrated.HasField("conversion_rate"), unrated.HasField("rate_as_of"), unrated.protocol) == (
        False,
        False,
        "lido",
    )
    relationship = unrated
    (variant,) = client("ListAssetVariants", asset_id=coin, types=[types_pb2.RELATIONSHIP_TYPE_WRAPS]).variants
    assert (variant.asset.asset_id, variant.depth, list(variant.path)) == (wrapped, 1, [relationship])
    assert not client("ListAssetVariants", asset_id=coin, types=[types_pb2.RELATIONSHIP_TYPE_FORK]).variants
    children = client("ListAssetRelationships", asset_id=coin, direction=pb.DIRECTION_CHILDREN)
    assert list(children.relationships) == [relationship]
    assert not client("ListAssetRelationships", asset_id=coin, direction=pb.DIRECTION_PARENTS).relationships

    group = client("CreateAssetGroup", group=message(model.Group(canonical_symbol="USD", name="Dollars"))).group
    assert client("GetAssetGroup", group_id=group.group_id).group == group
    assert client("GetAssetGroup", canonical_symbol="usd").group == group
    group = client("UpdateAssetGroup", group_id=group.group_id, name="All dollars").group
    assert (group.name, group.canonical_symbol) == ("All dollars", "USD")
    joined = model.GroupMember(group_id=group.group_id, asset_id=coin, is_canonical=True)
    member = client("AddAssetToGroup", member=message(joined)).member
    assert member.weight == "1"
    assert list(client("ListAssetGroups", asset_id=coin).groups) == [group]
    assert list(client("ListAssetGroupMembers", group_id=group.group_id).members) == [member]
    weighed = client("UpdateGroupMember", group_id=group.group_id, asset_id=coin, weight="0.5").member
    assert (weighed.weight, weighed.is_canonical) == ("0.5", True)
    assert client("UpdateGroupMember", group_id=group.group_id, asset_id=coin, weight="").member.weight == "1"
    client("RemoveAssetFromGroup", group_id=group.group_id, asset_id=coin)
    place = message(model.GroupMember(group_id=group.group_id, asset_id="", is_canonical=True))
    born = client("CreateAsset", asset=token("BORN"), memberships=[place])
    assert [member.asset_id for member in born.memberships] == [born.asset.asset_id]
    client("DeleteAssetGroup", group_id=group.group_id)
    assert not client("ListAssetGroups").groups

    warning = model.QualityFlag(
        asset_id=coin,
        flag_type=model.FlagType.DEPEGGED,
        severity=model.Severity.CRITICAL,
        source="auditor",
        reason="because",
    )
    flag = client("RaiseQualityFlag", flag=message(warning)).flag
    assert flag.raised_by == "anonymous"
    assert client("GetQualityFlag", flag_id=flag.flag_id).flag == flag
    assert client("CheckTradable", asset_id=coin).decision == pb.DECISION_BLOCK
    assert list(client("ListQualityFlags", min_severity=types_pb2.SEVERITY_HIGH).flags) == [flag]
    resolved = client("ResolveQualityFlag", flag_id=flag.flag_id, cleared_by="me", clear_reason="fine").flag
    assert resolved.cleared_by == "me"
    assert client("CheckTradable", asset_id=coin).decision == pb.DECISION_ALLOW
    assert list(client("ListQualityFlags", include_resolved=True).flags) == [resolved]

    venue = client(
        "CreateVenue", venue=message(model.Venue(venue_id="binance", name="B", venue_type=model.VenueType.CEX))
    ).venue
    assert client("GetVenue", venue="Binance").venue == venue
    venue = client("UpdateVenue", venue="binance", countries=pb.Names(values=["MT"]), chain_id="1").venue
    assert (list(venue.countries), venue.chain_id, venue.name) == (["MT"], "ethereum", "B")
    assert list(client("ListVenues", venue_type=types_pb2.VENUE_TYPE_CEX).venues) == [venue]
    mapped = model.VenueSymbol(
        venue_id="binance", symbol="USDCWUSDC", market_kind=model.MarketKind.SPOT, asset_id=coin, quote_asset_id=wrapped
    )
    symbol = client("CreateVenueSymbol", venue_symbol=message(mapped)).venue_symbol
    assert client("GetVenueSymbol", venue_symbol_id=symbol.venue_symbol_id).venue_symbol == symbol
    ticker = pb.Ticker(venue="binance", symbol="USDCWUSDC", market_kind=types_pb2.MARKET_KIND_SPOT)
    assert client("GetVenueSymbol", ticker=ticker).venue_symbol == symbol
    assert list(client("ListVenueSymbols", asset_id=wrapped).venue_symbols) == [symbol]
    by_key = {"venue_symbol_id": symbol.venue_symbol_id}
    assert client("UpdateVenueSymbol", **by_key, valid_to=moment).venue_symbol.valid_to == moment.value
    assert not client("ListVenueAssets", venue="binance").assets
    symbol = client("UpdateVenueSymbol", **by_key, valid_to=pb.OptionalTime(), multiplier="1000").venue_symbol
    assert (symbol.HasField("valid_to"), symbol.multiplier) == (False, "1000")
    assert {asset.asset_id for asset in client("ListVenueAssets", venue="binance").assets} == {coin, wrapped}
    (listing,) = client("ListAssetVenues", asset_id=wrapped).listings
    assert (listing.venue, list(listing.venue_symbols), listing.symbol_count) == (venue, [symbol], 1)

    found = client("Resolve", symbol=pb.SymbolKey(symbol="usdc", chain="eip155:1")).resolution
    assert (found.asset.asset_id, found.deployment.contract_address) == (coin, USDC.lower())
    keys = [
        pb.ResolveRequest(address=pb.ChainAddress(chain="1", address=USDC)),
        pb.ResolveRequest(identifier=pb.SourceKey(source="coingecko", external_id="usd-coin")),
        pb.ResolveRequest(ticker=ticker),
        pb.ResolveRequest(symbol=pb.SymbolKey(symbol="NOPE")),
        pb.ResolveRequest(),
    ]
    many = client("ResolveMany", keys=keys)
    answered = [coin, coin, coin, "NOT_FOUND", "REQUIRED"]
    assert [o.resolution.asset.asset_id or o.reason for o in many.outcomes] == answered
    assert many.position == symbol_position(client)

    wrong = wire.any_to_wire(ETHEREUM)
    wrong.chain.ClearField("name")
    news = Asset(asset_id=str(uuid.uuid4()), symbol="NEW", name="New", asset_type=AssetType.TOKEN)
    bulk = client("UpsertRecords", records=[wire.any_to_wire(news), types_pb2.Record(), wire.any_to_wire(ETHEREUM)])
    assert [result.outcome for result in bulk.results] == [
        pb.OUTCOME_CREATED,
        pb.OUTCOME_REFUSED,
        pb.OUTCOME_UNCHANGED,
    ]
    assert (bulk.results[0].key, bulk.results[1].reason) == (news.asset_id, "KIND")

    moved = client("MoveAssetIdentifier", external=external, asset_id=coin).identifier
    assert (moved.identifier_id, moved.asset_id, moved.is_primary) == (identifier.identifier_id, coin, True)
    by_key = {"identifier_id": identifier.identifier_id}
    assert client("UpdateAssetIdentifier", **by_key, provenance="x").identifier.provenance == "x"
    client("DeleteAssetIdentifier", **by_key)
    client("DeleteVenueSymbol", venue_symbol_id=symbol.venue_symbol_id)
    client("DeleteAssetRelationship", relationship_id=relationship.relationship_id)
    last = client("DeleteAssetDeployment", deployment_id=placed_at)
    deleted = client("DeleteAsset", asset_id=wrapped)
    assert deleted.position == last.position + 1
    assert not client("ListVenueSymbols", venue="binance").venue_symbols
    assert client.called == {*HANDLERS, *GATHERED}


def symbol_position(client: Client) -> int:
    """Give where the registry is."""
    position: int = client("ListVenues").position
    return position


def test_errors_are_what_they_were(client: Client) -> None:
    """Class, reason and metadata of an error cross the wire (R16)."""
    client("CreateChain", chain=message(ETHEREUM))
    made = client("CreateAsset", asset=token(), deployments=[])
    again = client("CreateAsset", asset=token())
    coin = made.asset.asset_id
    client("UpdateAsset", asset_id=coin, name="x")
    cases: list[tuple[type[CqarError], str, dict[str, str], Any]] = [
        (NotFoundError, "ASSET_NOT_FOUND", {"field": "asset_id"}, lambda: client("GetAsset", asset_id=NOBODY)),
        (InvalidError, "UUID_FORMAT", {"field": "asset_id"}, lambda: client("GetAsset", asset_id="x")),
        (InvalidError, "REQUIRED", {"field": "asset"}, lambda: client("CreateAsset")),
        (InvalidError, "REQUIRED", {"field": "key"}, lambda: client("GetAssetDeployment")),
        (InvalidError, "ENUM", {"field": "asset_type"}, lambda: client("ListAssets", asset_type=99)),
        (InvalidError, "ENUM", {"field": "direction"}, lambda: client("ListAssetRelationships", direction=9)),
        (InvalidError, "ENUM", {"field": "merge"}, lambda: client("UpsertRecords", merge=9)),
        (InvalidError, "RANGE", {"field": "page_size"}, lambda: client("ListAssets", page_size=-1)),
        (InvalidError, "PAGE_TOKEN", {"field": "page_token"}, lambda: client("ListAssets", page_token="x")),
        (NotFoundError, "CHAIN_NOT_FOUND", {"field": "chain"}, lambda: client("GetChain", chain="mars")),
        (
            ConflictError,
            "ALREADY_EXISTS",
            {"existing_id": "ethereum"},
            lambda: client("CreateChain", chain=message(ETHEREUM)),
        ),
        (
            StaleError,
            "STALE",
            {"expected_position": "1"},
            lambda: client("UpdateAsset", asset_id=coin, name="y", expected_position=1),
        ),
        (AmbiguousError, "AMBIGUOUS", {"total": "2"}, lambda: client("Resolve", symbol=pb.SymbolKey(symbol="usdc"))),
    ]
    for kind, reason, metadata, call in cases:
        with pytest.raises(CqarError) as caught:
            call()
        assert (type(caught.value), caught.value.reason) == (kind, reason)
        assert metadata.items() <= caught.value.metadata.items()
    assert isinstance(caught.value, AmbiguousError)
    assert {candidate.asset_id for candidate in caught.value.candidates} == {coin, again.asset.asset_id}


def test_the_caller_is_recorded_and_repetitions_are_recognised(client: Client, migrated_url: str) -> None:
    """The actor in the metadata and the request id reach the change log; a repeated id writes nothing (R13)."""
    request = pb.CreateAssetRequest(asset=token(), request_id="r-1").SerializeToString()
    replies = [client.raw("CreateAsset", request, metadata=[("cqar-actor", "alice")]) for _ in range(2)]
    assert replies[0] == replies[1]
    with psycopg.connect(migrated_url) as connection:
        rows = connection.execute("SELECT position, actor, request_id FROM batches").fetchall()
    assert rows == [(1, "alice", "r-1")]
    with pytest.raises(grpc.RpcError) as caught:
        client.raw("GetAsset", b"", metadata=[("cqar-actor", "x" * 200)])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", sorted({*HANDLERS, *GATHERED}))
def test_malformed_bytes_are_the_callers_fault(client: Client, method: str) -> None:
    """No method says UNKNOWN or INTERNAL to bytes that are no message, or to an empty one."""
    for data in (b"\xff\xff\xff", b"\x0a\x05ab", b"\x80", bytes(range(256))):
        with pytest.raises(grpc.RpcError) as caught:
            client.raw(method, data)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "the request is not a message of this method"
    try:
        client.raw(method, b"")
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017


def test_a_nul_is_refused_wherever_a_text_is_asked_for(client: Client) -> None:
    """What PostgreSQL cannot store is INVALID_ARGUMENT, in filters and look-ups as well (R17)."""
    client("CreateChain", chain=message(ETHEREUM))
    calls: list[Callable[[], Any]] = [
        lambda: client("ListAssets", category="a\0b"),
        lambda: client("ListAssets", symbol="a\0b"),
        lambda: client("SearchAssets", query="a\0b"),
        lambda: client("GetChain", chain="a\0b"),
        lambda: client("ListAssetIdentifiers", source="a\0b"),
        lambda: client("ListAssetRelationships", protocol="a\0b"),
        lambda: client("GetAssetIdentifier", external=pb.SourceKey(source="a", external_id="\0")),
        lambda: client("ListVenueSymbols", symbol="a\0b"),
        lambda: client("Resolve", symbol=pb.SymbolKey(symbol="a\0b")),
        lambda: client("Resolve", symbol=pb.SymbolKey(symbol="a", chain="\0")),
        lambda: client("Resolve", identifier=pb.SourceKey(source="a", external_id="\0")),
        lambda: client("CreateAsset", asset=token("a\0b")),
        lambda: client("CreateAsset", asset=token(), request_id="a\0b"),
    ]
    for call in calls:
        with pytest.raises(InvalidError):
            call()


SECRET = "postgresql://admin:hunter2@db.internal/prod"


def leak(_request: Any, _context: Any) -> Any:
    """Fail as a defect does."""
    raise RuntimeError(f"cannot reach {SECRET}")


async def leak_later(_request: Any, _context: Any) -> Any:
    """Fail in a coroutine."""
    raise RuntimeError(f"cannot reach {SECRET}")


async def leak_in_stream(_request: Any, _context: Any) -> AsyncIterator[Any]:
    """Fail after a message."""
    yield pb.GetAssetResponse(position=1)
    raise RuntimeError(f"cannot reach {SECRET}")


async def leak_in_writer(_request: Any, context: Any) -> None:
    """Fail after a message that was written."""
    await context.write(pb.GetAssetResponse(position=1).SerializeToString())
    raise RuntimeError(f"cannot reach {SECRET}")


async def refuse_in_stream(_request: Any, _context: Any) -> AsyncIterator[Any]:
    """End with an error of CQAR after a message."""
    yield pb.GetAssetResponse(position=1)
    raise NotFoundError("no such thing", reason="THING_NOT_FOUND", thing=7)


async def leak_in_requests(requests: AsyncIterator[Any], _context: Any) -> Any:
    """Fail after the first of many requests."""
    async for _ in requests:
        raise RuntimeError(f"cannot reach {SECRET}")


async def leak_between(requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
    """Answer the first of many requests, and fail at the second."""
    yield pb.GetAssetResponse(position=len((await anext(requests)).asset_id))
    async for _ in requests:
        raise RuntimeError(f"cannot reach {SECRET}")


def leak_blocking(requests: Any, _context: Any) -> Any:
    """Read many requests as only a blocking server can."""
    return list(requests)


async def abort_in_stream(_request: Any, context: Any) -> None:
    """End as servicers of other libraries do."""
    await context.abort(grpc.StatusCode.OUT_OF_RANGE, "no further")


DATA = pb.GetAssetRequest().SerializeToString()
CODECS = (pb.GetAssetRequest.FromString, pb.GetAssetResponse.SerializeToString)
DEFECTS = {
    "Unary": grpc.unary_unary_rpc_method_handler(leak, *CODECS),
    "Coroutine": grpc.unary_unary_rpc_method_handler(leak_later, *CODECS),
    "BadReply": grpc.unary_unary_rpc_method_handler(lambda _request, _context: object(), *CODECS),
    "Stream": grpc.unary_stream_rpc_method_handler(leak_in_stream, *CODECS),
    "Writer": grpc.unary_stream_rpc_method_handler(leak_in_writer, CODECS[0]),
    "Refusal": grpc.unary_stream_rpc_method_handler(refuse_in_stream, *CODECS),
    "Requests": grpc.stream_unary_rpc_method_handler(leak_in_requests, *CODECS),
    "Both": grpc.stream_stream_rpc_method_handler(leak_between, *CODECS),
    "Blocking": grpc.stream_unary_rpc_method_handler(leak_blocking, *CODECS),
    "Abort": grpc.unary_stream_rpc_method_handler(abort_in_stream, CODECS[0]),
}


@pytest.fixture(scope="module")
def defective() -> Iterator[grpc.Channel]:
    """Yield a channel to a server whose handlers fail."""
    with serving(handlers=DEFECTS) as channel:
        yield channel


def failure(channel: Any, name: str, data: bytes = DATA) -> tuple[Any, int]:
    """Call a defective method; give its error and how many replies came before."""
    replies = 0
    with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012  (a stream is iterated)
        handler = DEFECTS[name]
        many, sent = ("stream", iter([DATA, data])) if handler.request_streaming else ("unary", data)
        if handler.response_streaming:
            for _ in getattr(channel, f"{many}_stream")(f"/test/{name}")(sent, timeout=10):
                replies += 1
        else:
            getattr(channel, f"{many}_unary")(f"/test/{name}")(sent, timeout=10)
    return caught.value, replies


@pytest.mark.parametrize("name", ["Unary", "Coroutine", "BadReply", "Stream", "Writer", "Requests", "Both", "Blocking"])
def test_a_defect_tells_the_caller_a_number_and_the_log_the_rest(
    defective: grpc.Channel, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No text of an exception reaches a caller: no SQL, path, address, password or traceback (R16)."""
    with caplog.at_level(logging.ERROR):
        error, replies = failure(defective, name)
    assert error.code() is grpc.StatusCode.INTERNAL
    shown = repr(error) + error.details() + str(error.trailing_metadata())
    assert "hunter2" not in shown
    assert "Traceback" not in shown
    assert ".py" not in shown
    number = error.details().split()[2].strip(";")
    assert number in caplog.text
    assert name in {"BadReply", "Blocking"} or "hunter2" in caplog.text
    assert replies == (1 if name in {"Stream", "Writer", "Both"} else 0)


def test_a_stream_ends_with_the_status_of_its_error(defective: grpc.Channel) -> None:
    """What a stream's handler raises is told like what any other raises; an abort stays what it was."""
    error, replies = failure(defective, "Refusal")
    assert replies == 1
    told = wire.error_from_status(
        error.code(),
        error.details(),
        [(e.key, e.value) for e in error.trailing_metadata()],
    )
    assert (type(told), told.reason, told.metadata) == (NotFoundError, "THING_NOT_FOUND", {"thing": "7"})
    error, _ = failure(defective, "Abort")
    assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "no further")
    for name, before in (("Stream", 0), ("Both", 1)):
        error, replies = failure(defective, name, b"\xff\xff")
        assert (error.code(), replies) == (grpc.StatusCode.INVALID_ARGUMENT, before)


def test_a_stream_of_upserts_is_answered_batch_by_batch(client: Client, store: Store) -> None:
    """Each message is a transaction with its own reply, in order; an error ends the stream and unwrites nothing."""
    news = [Asset(asset_id=str(uuid.uuid4()), symbol="S", name="S", asset_type=AssetType.TOKEN) for _ in range(4)]
    batches = [pb.UpsertRecordsRequest(records=[wire.any_to_wire(asset)]) for asset in news]
    call = client.stream(
        "UpsertStream", [*batches[:2], batches[0], pb.UpsertRecordsRequest.FromString(b"\x10\x09"), batches[3]]
    )
    replies = [next(call) for _ in range(3)]
    assert [(reply.results[0].outcome, reply.position) for reply in replies] == [
        (pb.OUTCOME_CREATED, 1),
        (pb.OUTCOME_CREATED, 2),
        (pb.OUTCOME_UNCHANGED, 2),
    ]
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert store.head().position == 2


def test_a_stream_of_upserts_knows_its_caller(client: Client, migrated_url: str) -> None:
    """Actor and request id count for each message of a stream as for a call (R13)."""
    record = wire.any_to_wire(Asset(asset_id=NOBODY, symbol="S", name="S", asset_type=AssetType.TOKEN))
    request = pb.UpsertRecordsRequest(records=[record], request_id="r-1")
    replies = list(client.stream("UpsertStream", [request, request], metadata=[("cqar-actor", "alice")]))
    assert replies[0] == replies[1]
    with psycopg.connect(migrated_url) as connection:
        rows = connection.execute("SELECT position, actor, request_id FROM batches").fetchall()
    assert rows == [(1, "alice", "r-1")]


def test_an_unknown_method_is_unimplemented(client: Client) -> None:
    """The interceptor lets pass what the server answers by itself."""
    with pytest.raises(grpc.RpcError) as caught:
        client.raw("Nonsense", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_database_that_is_away_is_unavailable() -> None:
    """An outage is never NOT_FOUND, and tells no address (R16)."""
    store = Store("postgresql://someone:hunter2@127.0.0.1:9/nowhere")
    with serving(registry=Registry(store)) as channel:
        client = Client(channel)
        calls: list[Callable[[], Any]] = [
            lambda: client("GetAsset", asset_id=NOBODY),
            lambda: client("CheckTradable", asset_id=NOBODY),
            lambda: client("CreateAsset", asset=token()),
        ]
        for call in calls:
            with pytest.raises(UnavailableError) as caught:
                call()
            assert "hunter2" not in str(caught.value)
            assert "127.0.0.1" not in str(caught.value)
    store.close()
