"""The life of a registry over gRPC, from its first chain to its last snapshot, in which no method of any service is left out.

A step is a function of a `Life`, listed in `STEPS`; what it calls, and whether that succeeded, is noted by an interceptor, so a new
method needs a call in some step and nothing else. Each step compares what comes back with what it wrote.
"""

from __future__ import annotations

import pkgutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

import cqar.v1
from cqar import model, snapshot, wire
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
from cqar.server.config import Config
from cqar.server.export import export_snapshot
from cqar.server.server import running_server
from cqar.server.store import Store
from cqar.v1 import registry_pb2 as pb
from cqar.v1 import replication_pb2, types_pb2

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
MODULES = [
    import_module(f"cqar.v1.{m.name}") for m in pkgutil.iter_modules(cqar.v1.__path__) if m.name.endswith("_pb2")
]
SERVICES = [service for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()]
METHODS = {method.name: method for service in SERVICES for method in service.methods}
MADE_BY_THE_SERVER = ("created_at", "updated_at", "raised_at", "raised_by")


class Recorder(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Notes the methods that answered: a call with the status OK, a stream with a first message."""

    def __init__(self) -> None:
        self.answered: set[str] = set()

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Note a call that ended well."""
        call = continuation(details, request)
        if call.code() is grpc.StatusCode.OK:
            self.answered.add(details.method)
        return call

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Note a stream that brought something, and end it with the iteration."""
        call = continuation(details, request)
        try:
            for message in call:
                self.answered.add(details.method)
                yield message
        finally:
            call.cancel()


class Life:
    """A registry over gRPC, and what the steps before have made of it."""

    def __init__(self, channel: grpc.Channel, publish: Callable[[], snapshot.Snapshot]) -> None:
        self._channel, self.publish = channel, publish
        self.records: dict[str, Any] = {}
        self.position = 0

    def __call__(self, method: str, **fields: Any) -> Any:
        """Call a method by its name; records among the fields are put on the wire."""
        descriptor = METHODS[method]
        path = f"/{descriptor.containing_service.full_name}/{method}"
        kind = "unary_stream" if descriptor.server_streaming else "unary_unary"
        request_class, reply_class = _class_of(descriptor.input_type), _class_of(descriptor.output_type)
        call = getattr(self._channel, kind)(path, request_class.SerializeToString, reply_class.FromString)
        return call(request_class(**{name: _sent(value) for name, value in fields.items()}), timeout=20)

    def write(self, method: str, **fields: Any) -> Any:
        """Call a method that writes one position."""
        reply = self(method, **fields)
        self.position += 1
        assert reply.position == self.position, method
        return reply

    def create(self, name: str, method: str, field: str, record: Record) -> Any:
        """Create a record, compare it with what came back, and keep it under a name."""
        reply = self.write(method, **{field: record})
        kept = wire.record_from_wire(type(record), getattr(reply, field))
        assert _essence(kept, record) == _essence(record, record)
        assert kept.created_at is not None
        self.records[name] = kept
        return kept

    def gives(self, method: str, field: str, expected: Record | list[Record], **fields: Any) -> None:
        """Call a method that reads; the field of its answer must be the record, or in any order the records."""
        found = getattr(self(method, **fields), field)
        if isinstance(expected, Record):
            assert wire.record_from_wire(type(expected), found) == expected, method
            return
        kind = type(expected[0])
        assert {wire.record_from_wire(kind, message) for message in found} == {*expected}, method


def _class_of(descriptor: Any) -> Any:
    (module,) = [m for m in MODULES if m.DESCRIPTOR.name == descriptor.file.name]
    return getattr(module, descriptor.name)


def _sent(value: Any) -> Any:
    if isinstance(value, Record):
        return wire.record_to_wire(value)
    return [_sent(item) for item in value] if isinstance(value, list) else value


def _essence(record: Record, sent: Record) -> Record:
    """Give a record without what the server adds to one that leaves it open."""
    key = model.KIND_OF[type(record)].key[0]
    open_ = [name for name in (*MADE_BY_THE_SERVER, key) if hasattr(sent, name) and not getattr(sent, name)]
    return msgspec.structs.replace(record, **dict.fromkeys(open_))


# --- the steps -------------------------------------------------------------------------------------------------------


def places(life: Life) -> None:
    """Chains and venues."""
    ethereum = life.create(
        "ethereum",
        "CreateChain",
        "chain",
        Chain(
            chain_id="ethereum",
            name="Ethereum",
            namespace="eip155",
            caip2="eip155:1",
            network_id=1,
            aliases=("ccxt:ERC20", "coingecko:ethereum"),
            native_symbol="ETH",
            native_decimals=18,
            slip44=60,
            explorer_url="https://etherscan.io",
        ),
    )
    quiet = life.create(
        "quiet", "CreateChain", "chain", Chain(chain_id="quiet", name="Q", namespace="q", is_active=False)
    )
    for name in ("ethereum", "eip155:1", "1", "ERC20"):
        life.gives("GetChain", "chain", ethereum, chain=name)
    life.gives("ListChains", "chains", [ethereum])
    life.gives("ListChains", "chains", [ethereum, quiet], include_inactive=True)
    binance = life.create(
        "binance",
        "CreateVenue",
        "venue",
        Venue(
            venue_id="binance",
            name="Binance",
            venue_type=VenueType.CEX,
            aliases=("ccxt:binance",),
            website="https://binance.com",
            countries=("KY",),
        ),
    )
    uniswap = life.create(
        "uniswap",
        "CreateVenue",
        "venue",
        Venue(venue_id="uniswap", name="Uniswap", venue_type=VenueType.DEX, chain_id="ethereum"),
    )
    life.gives("GetVenue", "venue", binance, venue="ccxt:binance")
    life.gives("ListVenues", "venues", [binance, uniswap])
    life.gives("ListVenues", "venues", [uniswap], venue_type=types_pb2.VENUE_TYPE_DEX)


def assets(life: Life) -> None:
    """Assets, one of them with its parts, and what is found of them."""
    asset = Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.STABLECOIN, metadata=(("issuer", "Circle"),))
    parts = [Deployment(asset_id="", chain_id="1", contract_address=USDC.upper().replace("X", "x"), decimals=6)]
    names = [Identifier(asset_id="", source="coingecko", external_id="usd-coin")]
    reply = life.write("CreateAsset", asset=asset, deployments=parts, identifiers=names)
    usdc = wire.record_from_wire(Asset, reply.asset)
    assert _essence(usdc, asset) == msgspec.structs.replace(asset, asset_id=None)
    (deployment,) = [wire.record_from_wire(Deployment, message) for message in reply.deployments]
    (identifier,) = [wire.record_from_wire(Identifier, message) for message in reply.identifiers]
    assert (deployment.asset_id, deployment.chain_id, deployment.contract_address) == (usdc.asset_id, "ethereum", USDC)
    assert (identifier.asset_id, identifier.is_primary) == (usdc.asset_id, True)
    life.records |= {"usdc": usdc, "usdc on ethereum": deployment, "usdc at coingecko": identifier}
    ether = life.create("ether", "CreateAsset", "asset", Asset(symbol="ETH", name="Ether", asset_type=AssetType.NATIVE))
    weth = life.create(
        "weth", "CreateAsset", "asset", Asset(symbol="WETH", name="Wrapped Ether", asset_type=AssetType.WRAPPED)
    )
    life.gives("GetAsset", "asset", usdc, asset_id=usdc.asset_id)
    life.gives("ListAssets", "assets", [usdc, ether, weth])
    life.gives("ListAssets", "assets", [usdc], chain="1")
    life.gives("SearchAssets", "assets", [ether, weth], query="eth")
    reply = life.write("UpdateAsset", asset_id=usdc.asset_id, category="stablecoin", website="https://circle.com")
    updated = wire.record_from_wire(Asset, reply.asset)
    assert updated == msgspec.structs.replace(
        usdc, category="stablecoin", website="https://circle.com", updated_at=updated.updated_at
    )
    life.gives("GetAsset", "asset", updated, asset_id=usdc.asset_id)
    life.records["usdc"] = updated


def parts(life: Life) -> None:
    """Deployments and identifiers."""
    ether, usdc = life.records["ether"], life.records["usdc"]
    native = life.create(
        "ether on ethereum",
        "CreateAssetDeployment",
        "deployment",
        Deployment(asset_id=ether.asset_id, chain_id="ethereum", decimals=18, is_native=True, is_canonical=True),
    )
    life.gives("GetAssetDeployment", "deployment", native, deployment_id=native.deployment_id)
    at = pb.ChainAddress(chain="1", address=USDC)
    life.gives("GetAssetDeployment", "deployment", life.records["usdc on ethereum"], address=at)
    life.gives("ListAssetDeployments", "deployments", [native, life.records["usdc on ethereum"]], chain="ethereum")
    life.gives("ListAssetDeployments", "deployments", [native], asset_id=ether.asset_id)
    identifier = life.create(
        "ether at coingecko",
        "CreateAssetIdentifier",
        "identifier",
        Identifier(asset_id=ether.asset_id, source="coingecko", external_id="ethereum", is_primary=True),
    )
    life.gives("GetAssetIdentifier", "identifier", identifier, identifier_id=identifier.identifier_id)
    external = pb.SourceKey(source="coingecko", external_id="usd-coin")
    life.gives("GetAssetIdentifier", "identifier", life.records["usdc at coingecko"], external=external)
    life.gives("ListAssetIdentifiers", "identifiers", [life.records["usdc at coingecko"]], asset_id=usdc.asset_id)
    life.gives(
        "ListAssetIdentifiers", "identifiers", [identifier, life.records["usdc at coingecko"]], source="coingecko"
    )


def relations(life: Life) -> None:
    """Relationships and groups."""
    ether, weth = life.records["ether"], life.records["weth"]
    edge = life.create(
        "wraps",
        "CreateAssetRelationship",
        "relationship",
        Relationship(
            parent_asset_id=ether.asset_id,
            child_asset_id=weth.asset_id,
            relationship_type=RelationshipType.WRAPS,
            protocol="WETH9",
            conversion_rate=Decimal(1),
            rate_as_of=datetime(2017, 12, 12, 11, 17, 35, 5, tzinfo=UTC),
            rate_source="contract",
        ),
    )
    life.gives(
        "ListAssetRelationships", "relationships", [edge], asset_id=weth.asset_id, direction=pb.DIRECTION_PARENTS
    )
    group = life.create(
        "group", "CreateAssetGroup", "group", Group(canonical_symbol="ETH", name="All ether", description="x")
    )
    life.gives("GetAssetGroup", "group", group, group_id=group.group_id)
    life.gives("GetAssetGroup", "group", group, canonical_symbol="eth")
    members = [
        GroupMember(
            group_id=group.group_id, asset_id=asset.asset_id, is_canonical=asset is ether, weight=Decimal("0.5")
        )
        for asset in (ether, weth)
    ]
    kept = [life.create(f"member {n}", "AddAssetToGroup", "member", member) for n, member in enumerate(members)]
    life.gives("ListAssetGroupMembers", "members", kept, group_id=group.group_id)
    life.gives("ListAssetGroups", "groups", [group], asset_id=weth.asset_id)
    life.write("RemoveAssetFromGroup", group_id=group.group_id, asset_id=weth.asset_id)
    life.gives("ListAssetGroupMembers", "members", [kept[0]], group_id=group.group_id)


def flags(life: Life) -> None:
    """A flag's life."""
    weth = life.records["weth"]
    flag = QualityFlag(
        asset_id=weth.asset_id,
        flag_type=FlagType.EXPLOITED,
        severity=Severity.CRITICAL,
        source="auditor",
        reason="r",
        evidence_url="https://x.example",
    )
    raised = life.create("flag", "RaiseQualityFlag", "flag", flag)
    life.gives("ListQualityFlags", "flags", [raised], min_severity=types_pb2.SEVERITY_HIGH)
    verdict = life("CheckTradable", asset_id=weth.asset_id)
    assert verdict.decision == pb.DECISION_BLOCK
    assert wire.record_from_wire(QualityFlag, verdict.flags[0]) == raised
    reply = life.write("ResolveQualityFlag", flag_id=raised.flag_id, cleared_by="bob", clear_reason="mended")
    cleared = wire.record_from_wire(QualityFlag, reply.flag)
    assert (cleared.cleared_by, cleared.clear_reason, cleared.is_active) == ("bob", "mended", False)
    life.gives("ListQualityFlags", "flags", [cleared], asset_id=weth.asset_id, include_resolved=True)
    assert life("CheckTradable", asset_id=weth.asset_id).decision == pb.DECISION_ALLOW


def tickers(life: Life) -> None:
    """Venue symbols."""
    row = VenueSymbol(
        venue_id="binance",
        symbol="ETHUSDC",
        market_kind=MarketKind.SPOT,
        asset_id=life.records["ether"].asset_id,
        quote_asset_id=life.records["usdc"].asset_id,
        multiplier=Decimal("0.001"),
        valid_from=datetime(2018, 12, 15, tzinfo=UTC),
    )
    kept = life.create("ticker", "CreateVenueSymbol", "venue_symbol", row)
    life.gives("GetVenueSymbol", "venue_symbol", kept, venue_symbol_id=kept.venue_symbol_id)
    life.gives("GetVenueSymbol", "venue_symbol", kept, ticker=pb.Ticker(venue="binance", symbol="ETHUSDC"))
    life.gives("ListVenueSymbols", "venue_symbols", [kept], venue="ccxt:binance")
    life.gives("ListAssets", "assets", [life.records["ether"], life.records["usdc"]], venue="binance")


def answers(life: Life) -> None:
    """Resolve by every key, one and many."""
    keys = [
        pb.ResolveRequest(symbol=pb.SymbolKey(symbol="usdc", chain="1")),
        pb.ResolveRequest(address=pb.ChainAddress(chain="ethereum", address=USDC)),
        pb.ResolveRequest(identifier=pb.SourceKey(source="coingecko", external_id="usd-coin")),
    ]
    for key in keys:
        (field,) = [descriptor for descriptor, _ in key.ListFields()]
        reply = life("Resolve", **{field.name: getattr(key, field.name)})
        assert wire.resolution_from_wire(reply.resolution).asset == life.records["usdc"]
        assert reply.resolution.position == life.position
    many = life("ResolveMany", keys=[*keys, pb.ResolveRequest(symbol=pb.SymbolKey(symbol="NOPE"))])
    assert [outcome.resolution.asset.symbol or outcome.reason for outcome in many.outcomes] == ["USDC"] * 3 + [
        "NOT_FOUND"
    ]


def bulk(life: Life) -> None:
    """Records of several kinds at once."""
    key = str(uuid.uuid4())
    records: list[Record] = [
        Asset(asset_id=key, symbol="BULK", name="Bulk", asset_type=AssetType.TOKEN),
        Deployment(asset_id=key, chain_id="ethereum", contract_address="0x" + "ab" * 20, decimals=0),
    ]
    reply = life.write("UpsertRecords", records=[wire.any_to_wire(record) for record in records])
    assert [result.outcome for result in reply.results] == [pb.OUTCOME_CREATED] * 2
    found = wire.record_from_wire(Asset, life("GetAsset", asset_id=key).asset)
    assert _essence(found, records[0]) == records[0]
    life.records["bulk"] = found


def end(life: Life) -> None:
    """An asset is deleted, with what hangs on it."""
    life.write("DeleteAsset", asset_id=life.records["bulk"].asset_id)
    life.gives(
        "ListAssetDeployments", "deployments", [life.records["usdc on ethereum"], life.records["ether on ethereum"]]
    )


def replication(life: Life) -> None:
    """The feed from its start, and a snapshot, tell the same registry."""
    head = life("GetHead").head
    assert head.position == life.position
    start = types_pb2.FeedToken(log_id=head.log_id, position=0, chain=bytes(16))
    live: dict[str, Record] = {}
    positions: list[int] = []
    for message in life("WatchChanges", after=start):
        for batch in message.batches:
            positions.append(batch.position)
            for change in map(wire.change_from_wire, batch.changes):
                live.pop(f"{change.kind} {change.key}", None)
                if change.record is not None:
                    live[f"{change.kind} {change.key}"] = change.record
        if positions and positions[-1] == head.position:
            break
    assert positions == list(range(1, head.position + 1))
    published = life.publish()
    (info,) = life("ListSnapshots").snapshots
    assert (info.head, info.bytes) == (head, published.size)
    files: dict[str, bytes] = {}
    manifest = b""
    for part in life("FetchSnapshot", log_id=head.log_id, position=head.position):
        manifest += part.manifest
        if part.HasField("chunk"):
            files[part.chunk.file] = files.get(part.chunk.file, b"") + part.chunk.data
    assert manifest == (published.path / snapshot.MANIFEST).read_bytes()
    for entry in published.manifest.files:
        assert files[entry.name] == (published.path / entry.name).read_bytes()
    stored = {
        f"{name} {kind.key_of(record)}": record
        for name, kind in model.KINDS.items()
        for record in snapshot.read(published, name)
    }
    assert stored == live
    for name in ("usdc", "ether", "ticker", "wraps", "group", "member 0", "ethereum", "binance"):
        record = life.records[name]
        kind = model.KIND_OF[type(record)]
        assert live[f"{kind.name} {kind.key_of(record)}"] == record


STEPS = (places, assets, parts, relations, flags, tickers, answers, bulk, end, replication)


@pytest.fixture
def life(database_url: str, open_folder: Path) -> Iterator[tuple[Life, Recorder, grpc.Channel]]:
    """Yield the life of a registry that has not begun, and who notes what it does."""
    config = Config(
        listen="127.0.0.1:0", database=database_url, data_dir=open_folder, snapshot_interval=0, heartbeat_interval=0.2
    )

    def publish() -> snapshot.Snapshot:
        store = Store(database_url)
        try:
            return export_snapshot(store, config.snapshot_root)
        finally:
            store.close()

    recorder = Recorder()
    with running_server(config) as server, grpc.insecure_channel(server.target) as channel:
        yield Life(grpc.intercept_channel(channel, recorder), publish), recorder, channel


def test_no_method_is_left_out(life: tuple[Life, Recorder, grpc.Channel]) -> None:
    """Every method of every service of the contract is called with success, and gives what was written.

    A new method: call it in the step that it belongs to.
    """
    registry, recorder, _ = life
    for step in STEPS:
        step(registry)
    every = {f"/{method.containing_service.full_name}/{name}" for name, method in METHODS.items()}
    assert every - recorder.answered == set()
    assert len(every) == sum(len(service.methods) for service in SERVICES)  # no two services share a method's name


def test_what_is_served_is_what_the_contract_has(life: tuple[Life, Recorder, grpc.Channel]) -> None:
    """The server describes the contract's services and the standard ones, and no other."""
    _, _, channel = life
    stub = ServerReflectionStub(channel)
    (reply,) = stub.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
    served = {service.name for service in reply.list_services_response.service}
    standard = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert served == standard | {service.full_name for service in SERVICES}
    assert replication_pb2.DESCRIPTOR.services_by_name["Replication"] in SERVICES
