"""A client and its server: what is written is seen, what cannot be known is said, and nothing is guessed."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cqar.client import (
    AmbiguousError,
    Asset,
    AssetBlockedError,
    AssetType,
    Chain,
    Client,
    ConflictError,
    Decision,
    Deployment,
    FlagType,
    Group,
    GroupMember,
    Identifier,
    InvalidError,
    LimitError,
    MarketKind,
    NotFoundError,
    QualityFlag,
    Relationship,
    RelationshipType,
    Severity,
    State,
    UnavailableError,
    Venue,
    VenueSymbol,
    VenueType,
    VerdictUnknownError,
    connect,
)
from cqar.server.config import Config
from cqar.server.server import ServerThread, running_server

# Facts of the Aave address book (MIT): USDC and what bridges it, on two chains.
USDC_ETHEREUM = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
USDC_POLYGON = "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359"
USDCE_POLYGON = "0x2791Bca1f2de4661ED88A30C99A7a9449Aa84174"


@pytest.fixture
def client(server: ServerThread, tmp_path: Path) -> Iterator[Client]:
    """A client that follows the server, with the chains of these tests."""
    with connect(server.target, replica_dir=tmp_path / "replica", actor="tests") as connected:
        for slug, network_id in (("ethereum", 1), ("polygon", 137)):
            written = connected.registry.create_chain(
                Chain(
                    chain_id=slug,
                    name=slug.title(),
                    namespace="eip155",
                    caip2=f"eip155:{network_id}",
                    network_id=network_id,
                    aliases=(f"viem:{slug}-mainnet",),
                )
            )
        connected.wait_for(written.position)
        yield connected


def usdc(client: Client) -> Asset:
    """Create USDC on two chains and wait until the client sees it."""
    created = client.registry.create_asset(
        Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.STABLECOIN),
        deployments=[
            Deployment(asset_id="", chain_id="ethereum", contract_address=USDC_ETHEREUM, decimals=6, is_canonical=True),
            Deployment(asset_id="", chain_id="polygon", contract_address=USDC_POLYGON, decimals=6, is_canonical=True),
        ],
        identifiers=[Identifier(asset_id="", source="coingecko", external_id="usd-coin", is_primary=True)],
    )
    client.wait_for(created.position)
    return created.asset


def eventually(condition: Callable[[], Any], within: float = 5.0) -> Any:
    """Wait for what another thread will bring about."""
    deadline = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
    return result


def test_everything_that_is_written_can_be_looked_up(client: Client) -> None:
    """Each kind of record travels from a write over the feed into every look-up that it has a part in."""
    asset = usdc(client)
    registry = client.registry
    bridged = registry.create_asset(
        Asset(symbol="USDC.e", name="USD Coin (bridged)", asset_type=AssetType.BRIDGED),
        deployments=[Deployment(asset_id="", chain_id="polygon", contract_address=USDCE_POLYGON, decimals=6)],
    ).asset
    edge = registry.create_asset_relationship(
        Relationship(
            parent_asset_id=asset.asset_id,
            child_asset_id=bridged.asset_id,
            relationship_type=RelationshipType.BRIDGES,
            protocol="polygon-pos",
        )
    ).record
    group = registry.create_asset_group(Group(canonical_symbol="USDC", name="All USDC")).record
    registry.add_asset_to_group(GroupMember(group_id=group.group_id, asset_id=asset.asset_id, is_canonical=True))
    registry.add_asset_to_group(GroupMember(group_id=group.group_id, asset_id=bridged.asset_id))
    registry.create_venue(
        Venue(venue_id="binance", name="Binance", venue_type=VenueType.CEX, aliases=("ccxt:binance",))
    )
    row = registry.create_venue_symbol(
        VenueSymbol(venue_id="binance", symbol="USDC", market_kind=MarketKind.ASSET, asset_id=asset.asset_id)
    ).record
    last = registry.raise_quality_flag(
        QualityFlag(
            asset_id=bridged.asset_id,
            flag_type=FlagType.DEPRECATED,
            severity=Severity.MEDIUM,
            source="circle",
            reason="native USDC replaces it",
        )
    )
    client.wait_for(last.position)

    assert client.position == last.position
    assert client.resolve("usdc", chain="eip155:1").deployment == client.resolve_address("1", USDC_ETHEREUM).deployment
    assert client.resolve("USDC", chain="polygon-mainnet").asset == asset
    assert client.resolve("USDC").asset == client.resolve_identifier("CoinGecko", "usd-coin").asset == asset
    assert client.resolve_venue_symbol("ccxt:binance", "USDC").record == row
    assert client.asset(asset.asset_id) == asset
    assert {d.chain_id for d in client.deployments(asset.asset_id)} == {"ethereum", "polygon"}
    assert [d.contract_address for d in client.deployments(asset.asset_id, chain="137")] == [USDC_POLYGON.lower()]
    assert client.identifiers(asset.asset_id)[0].external_id == "usd-coin"
    assert client.relationships(bridged.asset_id, direction="parents") == (edge,)
    assert client.relationships(bridged.asset_id, direction="children") == ()
    assert [v.asset for v in client.variants(asset.asset_id)] == [bridged]
    assert [a.symbol for _, a in client.group("usdc").members] == ["USDC", "USDC.e"]
    assert client.flags(bridged.asset_id)[0].source == "circle"
    assert client.flags(bridged.asset_id, min_severity=Severity.HIGH) == ()
    assert [a.symbol for a in client.search("usdc")] == ["USDC", "USDC.e"]
    assert [a.symbol for a in client.search(USDCE_POLYGON)] == ["USDC.e"]
    assert [a.symbol for a in client.list_assets(chain="polygon")] == ["USDC", "USDC.e"]
    assert [a.symbol for a in client.list_assets(venue="binance")] == ["USDC"]
    assert [c.chain_id for c in client.list_chains()] == ["ethereum", "polygon"]
    assert [v.venue_id for v in client.list_venues()] == ["binance"]
    relation = client.sql("SELECT count(*) FROM asset_deployments WHERE chain_id = ?", ["polygon"])
    assert relation.fetchall() == [(2,)]
    assert relation.alias == f"position_{last.position}"
    asset = client.list_assets(venue="binance")[0]
    times = client.sql("SELECT created_at FROM assets WHERE asset_id = ?", [asset.asset_id]).fetchall()
    assert times == [(asset.created_at,)]


def test_what_is_deleted_is_gone_and_stays_gone(client: Client, server: ServerThread, tmp_path: Path) -> None:
    """A delete takes the asset out of every look-up, in this client and in one that comes later."""
    asset = usdc(client)
    assert client.resolve("USDC", chain="ethereum").asset == asset
    client.wait_for(client.registry.delete_asset(asset.asset_id))
    with connect(server.target, replica_dir=tmp_path / "other") as later:
        for one in (client, later):
            with pytest.raises(NotFoundError):
                one.resolve("USDC", chain="ethereum")
            with pytest.raises(NotFoundError):
                one.resolve_address("ethereum", USDC_ETHEREUM)
            with pytest.raises(NotFoundError):
                one.resolve_identifier("coingecko", "usd-coin")
            with pytest.raises(NotFoundError):
                one.asset(asset.asset_id)
            assert one.check_tradable(asset.asset_id).decision == "BLOCK"
            assert one.search("USDC") == ()


def test_the_gate_turns_with_a_flag(client: Client) -> None:
    """ALLOW until a CRITICAL flag is raised, BLOCK until it is cleared; `require_tradable` raises in between."""
    asset = usdc(client)
    assert client.check_tradable(asset.asset_id).decision == "ALLOW"
    client.require_tradable(asset.asset_id)
    flag = QualityFlag(
        asset_id=asset.asset_id,
        flag_type=FlagType.DEPEGGED,
        severity=Severity.CRITICAL,
        source="desk",
        reason="trades at 0.88",
    )
    raised = client.registry.raise_quality_flag(flag)
    client.wait_for(raised.position)
    verdict = client.check_tradable(asset.asset_id)
    assert (verdict.decision, verdict.position) == ("BLOCK", raised.position)
    assert "trades at 0.88" in verdict.reasons[0]
    with pytest.raises(AssetBlockedError, match=r"trades at 0\.88"):
        client.require_tradable(asset.asset_id)
    assert client.resolve("USDC", chain="ethereum").flags[0].reason == "trades at 0.88"
    cleared = client.registry.resolve_quality_flag(raised.record.flag_id, reason="back at par")
    client.wait_for(cleared.position)
    assert client.check_tradable(asset.asset_id).decision == "ALLOW"
    assert client.flags(asset.asset_id) == ()
    assert client.flags(asset.asset_id, include_resolved=True)[0].clear_reason == "back at par"


def test_without_its_server_a_client_goes_on_and_says_so(config: Config, tmp_path: Path) -> None:
    """Reads go on from the replica, the gate fails closed once the data are too old, a miss is UNAVAILABLE, never not found."""
    with running_server(config) as server:
        client = connect(server.target, replica_dir=tmp_path / "replica")
        client.registry.create_chain(Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1))
        created = client.registry.create_asset(
            Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.STABLECOIN),
            deployments=[Deployment(asset_id="", chain_id="ethereum", contract_address=USDC_ETHEREUM, decimals=6)],
        )
        client.wait_for(created.position)
        asset_id = created.asset.asset_id
    with client:
        eventually(lambda: client.status().state == State.DISCONNECTED)
        assert client.resolve("USDC", chain="ethereum").asset.asset_id == asset_id
        assert client.check_tradable(asset_id, max_age=3600).decision == "ALLOW"
        eventually(lambda: client.age > 0.2)
        verdict = client.check_tradable(asset_id, max_age=0.1)
        assert (verdict.decision, verdict.age > 0.1) == ("UNKNOWN", True)
        with pytest.raises(VerdictUnknownError):
            client.require_tradable(asset_id, max_age=0.1)
        with pytest.raises(UnavailableError, match="cannot be reached"):
            client.resolve("DAI", chain="ethereum")
        with pytest.raises(UnavailableError):
            client.registry.get_asset(asset_id)
        assert client.status().last_error


def test_a_client_follows_on_when_its_server_comes_back(config: Config, migrated_url: str, tmp_path: Path) -> None:
    """After an outage the feed goes on where it was, and what was written meanwhile arrives."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = Config(
        listen=f"127.0.0.1:{port}",
        database=migrated_url,
        data_dir=tmp_path,
        snapshot_interval=0,
        heartbeat_interval=0.1,
    )
    with running_server(config):
        client = connect(f"127.0.0.1:{port}", replica_dir=tmp_path / "replica")
        client.registry.create_chain(Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1))
    with client:
        eventually(lambda: client.status().state == State.DISCONNECTED)
        with running_server(config), connect(f"127.0.0.1:{port}", replica_dir=tmp_path / "other") as other:
            written = other.registry.create_chain(
                Chain(chain_id="polygon", name="Polygon", namespace="eip155", network_id=137)
            )
            client.wait_for(written.position, timeout=15)
            assert [c.chain_id for c in client.list_chains()] == ["ethereum", "polygon"]
            eventually(lambda: client.status().state == State.FRESH)
            assert client.age < 5


def test_no_server_is_a_clear_error(tmp_path: Path) -> None:
    """Connecting to where nobody listens names the target; a target that is none is refused before anything is tried."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        target = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UnavailableError, match=re.escape(f"{target} cannot be reached")):
        connect(target, replica_dir=tmp_path, timeout=2)
    with pytest.raises(InvalidError, match="host:port"):
        connect("localhost", replica_dir=tmp_path)


def test_a_miss_is_asked_once_and_forgotten_by_the_batch_that_touches_it(client: Client) -> None:
    """An absence is remembered briefly, shared by concurrent callers, and dropped as soon as the thing exists."""
    usdc(client)
    calls = []
    remote = client._remote
    assert remote is not None
    original = remote.resolve

    def counted(request: Any) -> Any:
        calls.append(request)
        time.sleep(0.1)
        return original(request)

    remote.resolve = counted  # type: ignore[method-assign]

    def miss(_: int) -> str:
        with pytest.raises(NotFoundError) as caught:
            client.resolve("DAI", chain="ethereum")
        return str(caught.value)

    with ThreadPoolExecutor(8) as pool:
        messages = set(pool.map(miss, range(8)))
    miss(0)
    assert len(calls) == 1
    assert len(messages) == 1
    created = client.registry.create_asset(
        Asset(symbol="DAI", name="Dai", asset_type=AssetType.STABLECOIN),
        deployments=[
            Deployment(
                asset_id="",
                chain_id="ethereum",
                contract_address="0x6B175474E89094C44Da98b954EedeAC495271d0F",
                decimals=18,
            )
        ],
    )
    client.wait_for(created.position)
    assert client.resolve("DAI", chain="ethereum").asset == created.asset
    assert len(calls) == 1


def test_bad_input_is_refused_with_field_and_rule(client: Client) -> None:
    """A wrong address, a duplicate, an unknown chain: typed errors, here and on the server alike, and nothing is written."""
    asset = usdc(client)
    position = client.position
    wrong = USDC_ETHEREUM.replace("A0b8", "a0B8")
    with pytest.raises(InvalidError) as checksum:
        client.resolve_address("ethereum", wrong)
    assert (checksum.value.field, checksum.value.reason) == ("contract_address", "ADDRESS_CHECKSUM")
    with pytest.raises(InvalidError) as remote_checksum:
        client.registry.create_asset_deployment(
            Deployment(asset_id=asset.asset_id, chain_id="ethereum", contract_address=wrong, decimals=6)
        )
    assert (remote_checksum.value.field, remote_checksum.value.reason) == ("contract_address", "ADDRESS_CHECKSUM")
    with pytest.raises(ConflictError) as taken:
        client.registry.create_asset(
            Asset(symbol="FAKE", name="Fake", asset_type=AssetType.TOKEN),
            deployments=[Deployment(asset_id="", chain_id="ethereum", contract_address=USDC_ETHEREUM, decimals=6)],
        )
    assert taken.value.existing_id == client.resolve("USDC", chain="ethereum").deployment.deployment_id  # type: ignore[union-attr]
    for ask in (
        lambda: client.resolve("USDC", chain="etherium"),
        lambda: client.registry.list_assets(chain="etherium").__next__(),
    ):
        with pytest.raises(NotFoundError) as unknown:
            ask()
        assert "etherium" in str(unknown.value)
    for bad in ("", "  ", "A" * 65, "US\x00DC", "\ud800", None, ["USDC"], 7):
        with pytest.raises(InvalidError):
            client.resolve(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="asset_id"):
        client.asset("not-a-uuid")
    assert client.check_tradable("not-a-uuid").decision is Decision.UNKNOWN
    for query in ("DELETE FROM assets", "SELECT 1; SELECT 2", "SELEKT", "SELECT * FROM read_text('/etc/hostname')"):
        with pytest.raises(InvalidError):
            client.sql(query)
    assert client.position == position == client.registry.resolve("USDC").position


def test_an_ambiguity_carries_every_candidate_from_the_server_too(client: Client) -> None:
    """The replica and the server refuse the same question with the same candidates."""
    asset = usdc(client)
    other = client.registry.create_asset(
        Asset(symbol="USDC", name="Another USDC", asset_type=AssetType.TOKEN),
        deployments=[
            Deployment(asset_id="", chain_id="polygon", contract_address=USDCE_POLYGON, decimals=6, is_canonical=True)
        ],
    )
    client.wait_for(other.position)
    with pytest.raises(AmbiguousError) as local:
        client.resolve("USDC", chain="polygon")
    with pytest.raises(AmbiguousError) as remote:
        client.registry.resolve("USDC", chain="polygon")
    assert local.value.candidates == remote.value.candidates
    assert {c.asset_id for c in local.value.candidates} == {asset.asset_id, other.asset.asset_id}


def test_resolve_many_keeps_order_and_never_raises_for_a_row(client: Client) -> None:
    """One row per input, duplicates, nulls and unknown symbols included."""
    asset = usdc(client)
    table = client.resolve_many(["USDC", "NOPE", None, "USDC", "A" * 99, "usdc"], chain="polygon")
    assert table.column("symbol").to_pylist() == ["USDC", "NOPE", None, "USDC", "A" * 99, "usdc"]
    assert table.column("status").to_pylist() == ["OK", "NOT_FOUND", "INVALID", "OK", "INVALID", "OK"]
    assert table.column("asset_id").to_pylist() == [asset.asset_id, None, None, asset.asset_id, None, asset.asset_id]
    assert client.resolve_many([]).num_rows == 0


@pytest.mark.parametrize("one_by_one", [20_000, 0])
def test_resolve_many_asks_the_server_for_what_the_replica_does_not_know(
    client: Client, server: ServerThread, monkeypatch: pytest.MonkeyPatch, one_by_one: int
) -> None:
    """A replica that lags has its misses filled in by a few calls; once the server is gone they are UNAVAILABLE."""
    from cqar.client import _bulk

    monkeypatch.setattr(_bulk, "ONE_BY_ONE", one_by_one)
    monkeypatch.setattr("cqar.client._bulk._UNDER_LOCK", one_by_one // 20_000)
    asset = usdc(client)
    position = client.position
    assert client._thread is not None
    assert client._remote is not None
    client._thread.stop()
    pair = [Asset(symbol="TWIN", name=name, asset_type=AssetType.TOKEN) for name in ("first", "second")]
    late = client.registry.create_asset(Asset(symbol="LATE", name="late", asset_type=AssetType.TOKEN)).asset
    last = [client.registry.create_asset(twin) for twin in pair][-1]
    calls: list[int] = []
    original = client._remote.call

    def counted(method: str, request: Any, timeout: float | None = None) -> Any:
        calls.append(len(request.keys))
        return original(method, request, timeout)

    monkeypatch.setattr(client._remote, "call", counted)
    unknown = [f"NONE{number}" for number in range(1997)]
    table = client.resolve_many(["usdc", "late", " TWIN", None, "LATE", *unknown, "a\u200bb"])
    expected = ["OK", "OK", "AMBIGUOUS", "INVALID", "OK", *["NOT_FOUND"] * len(unknown), "INVALID"]
    assert table.column("status").to_pylist() == expected
    assert table.column("asset_id").to_pylist()[:5] == [asset.asset_id, late.asset_id, None, None, late.asset_id]
    assert (sum(calls), max(calls)) == (2000, 1000)  # each distinct symbol once
    assert table.schema.metadata == {
        b"cqar.position": str(position).encode(),
        b"cqar.server_position": str(last.position).encode(),
    }
    server.stop()
    calls.clear()
    table = client.resolve_many(["usdc", "LATE", "", *unknown])
    assert table.column("status").to_pylist() == ["OK", "UNAVAILABLE", "INVALID", *["UNAVAILABLE"] * len(unknown)]
    assert calls == [1000]


def test_a_snapshot_over_grpc_is_the_replica_of_a_client_without_shared_storage(
    config: Config, migrated_url: str, tmp_path: Path
) -> None:
    """A new client downloads the newest snapshot, verifies it, and follows from there; so does one that shares the folder."""
    with running_server(msgspec.structs.replace(config, snapshot_interval=0.1)) as server:
        with connect(server.target, replica_dir=tmp_path / "first") as first:
            first.registry.create_chain(Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1))
            first.registry.create_chain(Chain(chain_id="polygon", name="Polygon", namespace="eip155", network_id=137))
            remote = first._remote
            assert remote is not None
            eventually(lambda: remote.snapshots() and remote.snapshots()[0][0].position == 2)
        with connect(server.target, replica_dir=tmp_path / "second") as downloaded:
            assert downloaded._replica.generation.meta.position == 2
            assert len(downloaded.list_chains()) == 2
        with connect(server.target, replica_dir=tmp_path / "third", snapshots=tmp_path / "snapshots") as shared:
            assert shared._replica.generation.meta.position == 2
        assert not list((tmp_path / "second").glob(".download-*"))


def test_clients_of_many_threads_see_each_write_once_it_is_waited_for(client: Client) -> None:
    """Read your writes: after `wait_for`, whatever thread asks gets the new state, however hot the old answer was."""
    asset = usdc(client)
    stop = threading.Event()
    failures: list[str] = []

    def hammer() -> None:
        while not stop.is_set():
            client.resolve("USDC", chain="ethereum")
            client.asset(asset.asset_id)
            time.sleep(0.0005)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(50):
        written = client.registry.update_asset(asset.asset_id, name=f"USD Coin {number}")
        client.wait_for(written.position)
        seen = (client.resolve("USDC", chain="ethereum").asset.name, client.asset(asset.asset_id).name)
        if seen != (f"USD Coin {number}",) * 2:
            failures.append(f"{number}: {seen}")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


FORKING = """
import multiprocessing, sys
from cqar.client import connect

def child(client, asset_id, position, answers):
    answers.put(client.resolve("USDC", chain="ethereum").asset.asset_id)
    client.wait_for(position + 1, timeout=15)
    answers.put(client.asset(asset_id).name)
    answers.put(client.registry.get_asset(asset_id).name)

target, folder, asset_id = sys.argv[1:]
with connect(target, replica_dir=folder) as client:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=child, args=(client, asset_id, client.position, answers))
    process.start()
    assert answers.get(timeout=20) == asset_id
    written = client.registry.update_asset(asset_id, name="after the fork")
    assert answers.get(timeout=20) == "after the fork"
    assert answers.get(timeout=20) == "after the fork"
    process.join(timeout=20)
    assert process.exitcode == 0, process.exitcode
    client.wait_for(written.position)
    assert client.asset(asset_id).name == "after the fork"
print("well")
"""


def test_a_forked_child_goes_on_reading_and_following(client: Client, server: ServerThread, tmp_path: Path) -> None:
    """After fork the child answers at once, follows the feed by itself, and may call the server; the parent is unharmed."""
    asset = usdc(client)
    arguments = [sys.executable, "-c", FORKING, server.target, str(tmp_path / "forking"), asset.asset_id]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


# --- the write surface -----------------------------------------------------------------------------------------------


def test_an_update_says_what_to_change_and_what_to_clear(client: Client) -> None:
    """What is left out stays, None and empty clear, for texts, numbers, times, lists and mappings alike (R13)."""
    registry = client.registry
    asset = registry.create_asset(
        Asset(
            symbol="T",
            name="T",
            asset_type=AssetType.TOKEN,
            category="c",
            metadata=(("k", "v"),),
            website="https://x.io",
        )
    ).asset
    changed = registry.update_asset(
        asset.asset_id, category=None, metadata={"a": "1"}, asset_type=AssetType.OTHER
    ).record
    assert (changed.category, changed.metadata, changed.asset_type) == (None, (("a", "1"),), AssetType.OTHER)
    assert (changed.website, changed.name) == ("https://x.io", "T")
    assert registry.update_asset(asset.asset_id, metadata={}, website="").record.metadata == ()
    chain = registry.update_chain(
        "1", native_asset_id=asset.asset_id, slip44=60, native_decimals=0, aliases=("x:eth",)
    ).record
    assert (chain.slip44, chain.native_decimals, chain.aliases) == (60, 0, ("x:eth",))
    chain = registry.update_chain("x:eth", native_asset_id=None, slip44=None, aliases=(), is_active=False).record
    assert (chain.native_asset_id, chain.slip44, chain.native_decimals, chain.aliases) == (None, None, 0, ())
    assert chain.network_id == 1
    registry.create_venue(Venue(venue_id="binance", name="Binance", venue_type=VenueType.CEX))
    row = VenueSymbol(venue_id="binance", symbol="T", market_kind=MarketKind.SPOT, asset_id=asset.asset_id)
    key = registry.create_venue_symbol(row).record.venue_symbol_id
    end = datetime(2020, 1, 1, tzinfo=UTC)
    closed = registry.update_venue_symbol(key, valid_to=end, multiplier=Decimal(1000)).record
    assert (closed.valid_to, closed.multiplier) == (end, Decimal(1000))
    again = registry.update_venue_symbol(key, valid_to=None, multiplier=None).record
    assert (again.valid_to, again.multiplier) == (None, Decimal(1))
    with pytest.raises(InvalidError, match="cannot be cleared"):
        registry.update_chain("1", is_active=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="namespace is not a field"):
        registry.update_chain("1", namespace="cosmos")  # type: ignore[call-arg]


def test_bulk_writes_stream_batch_by_batch(client: Client) -> None:
    """Batches are answered in order, each with its position; the replica sees them like any other write (R14)."""
    made = [Asset(asset_id=str(uuid.uuid4()), symbol=f"S{n}", name="S", asset_type=AssetType.TOKEN) for n in range(30)]
    batches = [made[start : start + 10] for start in (0, 10, 20, 0)]
    answers = list(client.registry.upsert_stream(iter(batches)))
    assert [{result.outcome.value for result in results} for results, _ in answers] == [{"CREATED"}] * 3 + [
        {"UNCHANGED"}
    ]
    assert [result.key for result in answers[1][0]] == [asset.asset_id for asset in made[10:20]]
    positions = [position for _, position in answers]
    assert positions == [positions[0], positions[0] + 1, positions[0] + 2, positions[0] + 2]
    client.wait_for(positions[-1])
    assert client.asset(made[29].asset_id).symbol == "S29"


def test_a_stream_tells_why_it_ended(client: Client) -> None:
    """The server's error and the caller's own both arrive as what they are; what was answered before is written."""

    def failing() -> Iterator[list[Asset]]:
        yield [Asset(asset_id=str(uuid.uuid4()), symbol="S", name="S", asset_type=AssetType.TOKEN)]
        raise ZeroDivisionError("of the caller")

    with pytest.raises(ZeroDivisionError, match="of the caller"):
        list(client.registry.upsert_stream(failing()))
    too_many = [Asset(asset_id="", symbol="S", name="S", asset_type=AssetType.TOKEN)] * 1001
    answers = client.registry.upsert_stream([too_many[:1], too_many])
    assert [result.reason for result in next(answers)[0]] == ["REQUIRED"]
    with pytest.raises(LimitError):
        next(answers)


def test_the_lists_across_records_are_those_of_the_server(client: Client) -> None:
    """Variants, a venue's assets and an asset's venues arrive as records; moves and deletes tell their position."""
    registry = client.registry
    usd, coin = (
        usdc(client).asset_id,
        registry.create_asset(Asset(symbol="c", name="c", asset_type=AssetType.OTHER)).asset,
    )
    edge = registry.create_asset_relationship(
        Relationship(parent_asset_id=usd, child_asset_id=coin.asset_id, relationship_type=RelationshipType.WRAPS)
    ).record
    (variant,) = registry.list_asset_variants(usd, types=[RelationshipType.WRAPS])
    assert (variant.asset, variant.path, variant.depth) == (coin, (edge,), 1)
    assert registry.get_asset_relationship(edge.relationship_id) == edge
    registry.create_venue(Venue(venue_id="binance", name="Binance", venue_type=VenueType.CEX))
    row = registry.create_venue_symbol(
        VenueSymbol(venue_id="binance", symbol="C", market_kind=MarketKind.SPOT, asset_id=coin.asset_id)
    ).record
    assert list(registry.list_venue_assets("binance")) == [coin]
    (listing,) = registry.list_asset_venues(coin.asset_id)
    assert (listing.venue.venue_id, listing.venue_symbols, listing.symbol_count) == ("binance", (row,), 1)
    assert registry.resolve("C", venue="binance", kind=MarketKind.SPOT).asset == coin
    moved = registry.move_asset_identifier(source="coingecko", external_id="usd-coin", to=coin.asset_id)
    assert (moved.record.asset_id, moved.record.is_primary) == (coin.asset_id, True)
    position = registry.delete_asset_identifier(moved.record.identifier_id, expected_position=moved.position)
    assert position == moved.position + 1
    client.wait_for(position)
    with pytest.raises(NotFoundError):
        client.resolve_identifier("coingecko", "usd-coin")


def test_a_process_that_asks_for_groups_only_sees_what_is_new(client: Client) -> None:
    """Every look-up looks for what is new first, that for a group too, and is remembered as the others are."""
    group = client.registry.create_asset_group(Group(canonical_symbol="GRP", name="Group"))
    client.wait_for(group.position)
    assert client.group("GRP").members == client.group("grp").members == client.group("GRP").members == ()
    asset = client.registry.create_asset(
        Asset(symbol="GRP", name="Group", asset_type=AssetType.TOKEN),
        memberships=[GroupMember(group_id=group.record.group_id, asset_id="")],
    )
    deadline = time.monotonic() + 5
    while not client.group("GRP").members and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [member.asset_id for member, _ in client.group("GRP").members] == [asset.asset.asset_id]
