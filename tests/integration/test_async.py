"""The client for asyncio: the same answers, and a loop that nothing holds up."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import cqar.client
from cqar.client import (
    AmbiguousError,
    Asset,
    AssetType,
    AsyncClient,
    Chain,
    Client,
    InvalidError,
    MarketKind,
    NotFoundError,
    NotReadyError,
    UnavailableError,
    Venue,
    VenueType,
    VerdictUnknownError,
    connect,
    open_snapshot,
)
from cqar.client._admin import Admin
from cqar.client._async_registry import AsyncAdmin, AsyncRegistry
from cqar.client._registry import Registry
from cqar.server.server import ServerThread

PLAIN = {
    "require_tradable",
    "status",
    "on_state",
    "position",
    "age",
    "registry",
    "admin",
}  # no coroutines: they never wait, and check when called


def surface(of: type) -> dict[str, Any]:
    """The public methods and properties of a class, but for those that make one."""
    return {
        name: member
        for name, member in inspect.getmembers(of)
        if not name.startswith("_") and name not in {"connect", "open_snapshot"}
    }


def test_the_surfaces_are_the_same() -> None:
    """Every method has its twin with the same parameters and defaults, and those that may wait are coroutines."""
    plain, awaited = surface(Client), surface(AsyncClient)
    assert plain.keys() == awaited.keys()
    for name, member in plain.items():
        if isinstance(member, property):
            assert isinstance(awaited[name], property)
            continue
        assert inspect.signature(member).parameters == inspect.signature(awaited[name]).parameters, name
        assert inspect.iscoroutinefunction(awaited[name]) == (name not in PLAIN), name
    for name, maker in (("connect", connect), ("open_snapshot", open_snapshot)):
        parameters = inspect.signature(getattr(AsyncClient, name)).parameters
        assert parameters == inspect.signature(maker).parameters


@pytest.mark.parametrize(("plain", "awaited"), [(Registry, AsyncRegistry), (Admin, AsyncAdmin)])
def test_the_write_surfaces_are_the_same(plain: type, awaited: type) -> None:
    """Every method of the registry and of the administration can be awaited, and lists iterated over."""
    assert surface(plain).keys() == surface(awaited).keys()
    for name, method in surface(plain).items():
        assert inspect.signature(method) == inspect.signature(getattr(awaited, name))
        is_list = inspect.signature(method).return_annotation.startswith("Iterator")
        assert inspect.iscoroutinefunction(getattr(awaited, name)) == (not is_list), name


def test_it_is_there_and_not_loaded_before_it_is_used() -> None:
    """`from cqar.client import AsyncClient` works, and tab completion knows it; asyncio is not imported for others."""
    assert "AsyncClient" in dir(cqar.client)
    program = "import sys, cqar.client; print('asyncio' in sys.modules); from cqar.client import AsyncClient"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
    with pytest.raises(AttributeError, match="NoSuchClient"):
        cqar.client.NoSuchClient  # noqa: B018


async def suspended(asking: Awaitable[Any]) -> bool:
    """Tell whether something lets the loop go before it has its answer."""
    passed: list[None] = []
    asyncio.get_running_loop().call_soon(passed.append, None)
    with contextlib.suppress(NotFoundError, AmbiguousError, InvalidError):
        await asking
    return bool(passed)


async def hits(folder: Path) -> None:
    """Ask for what the catalogue has."""
    async with await AsyncClient.open_snapshot(replica_dir=folder) as client:
        with open_snapshot(replica_dir=folder) as plain:
            usdc = plain.resolve("USDC", chain="ethereum")
            asset_id = usdc.asset.asset_id
            asks: list[Callable[[Any], Any]] = [
                lambda c: c.resolve("USDC", chain="ethereum"),
                lambda c: c.resolve_address("ethereum", usdc.deployment.contract_address),  # type: ignore[union-attr]
                lambda c: c.resolve_identifier("coingecko", "usd-coin"),
                lambda c: c.resolve_venue_symbol("binance", "BTCUSDT"),
                lambda c: c.asset(asset_id),
                lambda c: c.deployments(asset_id, chain="base"),
                lambda c: c.identifiers(asset_id),
                lambda c: c.relationships(asset_id, direction="children"),
                lambda c: c.variants(asset_id, types=iter(list(cqar.client.RelationshipType))),
                lambda c: c.flags(asset_id, include_resolved=True),
                lambda c: c.group("ETH"),
                lambda c: c.list_chains(),
                lambda c: c.list_venues(),
                lambda c: c.resolve("NO SUCH THING"),
                lambda c: c.resolve(b"USDC"),
            ]
            for ask in asks:
                try:
                    expected = ask(plain)
                except (NotFoundError, InvalidError) as error:
                    with pytest.raises(type(error)):
                        await ask(client)
                else:
                    assert await ask(client) == expected
                assert not await suspended(ask(client))
            verdict = await client.check_tradable(asset_id, max_age=1e12)
            assert verdict.decision == "ALLOW"
            await client.require_tradable(asset_id, max_age=1e12)
            with pytest.raises(VerdictUnknownError):
                _ = client.require_tradable(asset_id)  # without an await
            assert (await client.search("usd coin", limit=3)) == plain.search("usd coin", limit=3)
            assert (await client.list_assets(chain="base", limit=3)) == plain.list_assets(chain="base", limit=3)
            assert (await client.resolve_many(["USDC"])).equals(plain.resolve_many(["USDC"]))
            assert (await client.sql("SELECT count(*) FROM chains")).fetchall()[0][0] > 100
            assert (client.position, client.status().state) == (plain.position, "offline")
            with pytest.raises(UnavailableError):
                _ = client.registry


def test_hits_do_not_suspend(tmp_path: Path) -> None:
    """All that the replica knows is answered as by the plain client, in one go: no other task runs in between."""
    asyncio.run(hits(tmp_path))


def test_a_miss_awaits_and_is_asked_once(server: ServerThread, tmp_path: Path) -> None:
    """A thousand tasks that miss the same thing cause one call; one that is cancelled takes the answer from nobody."""

    async def body() -> None:
        async with await AsyncClient.connect(server.target, replica_dir=tmp_path / "replica") as client:
            written = await client.registry.create_chain(
                Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1)
            )
            await client.wait_for(written.position)
            assert [chain.chain_id for chain in await client.list_chains()] == ["ethereum"]
            assert [chain.chain_id async for chain in client.registry.list_chains()] == ["ethereum"]
            remote = client._client._remote
            assert remote is not None
            calls = []
            original = remote.resolve

            def slow(request: Any) -> Any:
                calls.append(request)
                time.sleep(0.2)
                return original(request)

            remote.resolve = slow  # type: ignore[method-assign]
            tasks = [asyncio.ensure_future(client.resolve("NOPE", chain="ethereum")) for _ in range(1000)]
            await asyncio.sleep(0.05)
            tasks[0].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(found[0], asyncio.CancelledError)
            assert {type(each) for each in found[1:]} == {NotFoundError}
            assert len(calls) == 1
            with pytest.raises(NotFoundError):
                await client.resolve("NOPE", chain="ethereum")
            assert len(calls) == 1  # remembered for a moment
            assert not await suspended(client.resolve("NOPE", chain="ethereum"))
            asset = Asset(symbol="NOPE", name="after all", asset_type=AssetType.TOKEN)
            created = await client.registry.create_asset(asset)
            await client.wait_for(created.position)
            assert (await client.resolve("NOPE")).asset == created.asset
            with pytest.raises(UnavailableError, match="not yet"):
                await client.wait_for(10_000, timeout=0.05)

    asyncio.run(body())


def test_a_server_that_does_not_answer_holds_up_no_loop(server: ServerThread, tmp_path: Path) -> None:
    """While misses wait for a frozen server the loop goes on; they end with UNAVAILABLE at their deadline."""

    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as frozen:
            target = f"127.0.0.1:{frozen.getsockname()[1]}"
            client = await AsyncClient.connect(
                target, replica_dir=tmp_path / "replica", start="server", timeout=0.5, call_timeout=1
            )
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticking = asyncio.ensure_future(tick())
            began = time.monotonic()
            tasks = [client.resolve(f"X{number}") for number in range(16)]
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in found} == {UnavailableError}
            assert time.monotonic() - began < 5
            assert ticks > 30 * (time.monotonic() - began)
            ticking.cancel()
            with pytest.raises(NotReadyError):
                await client.list_chains()
            await client.close()
            with pytest.raises(UnavailableError, match="closed"):
                await client.search("USDC")
            with pytest.raises(NotReadyError):
                await AsyncClient.connect(target, replica_dir=tmp_path / "other", timeout=0.5)

    asyncio.run(body())


def test_the_interpreter_ends_with_a_miss_under_way(tmp_path: Path) -> None:
    """A program that does not wait for its answers, nor close its client, ends by itself and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as frozen:
        target = f"127.0.0.1:{frozen.getsockname()[1]}"
        program = (
            "import asyncio\n"
            "from cqar.client import AsyncClient\n"
            "async def main():\n"
            f"    client = await AsyncClient.connect({target!r}, replica_dir={str(tmp_path)!r}, start='server',"
            " timeout=0.2, call_timeout=1)\n"
            "    asyncio.ensure_future(client.resolve('USDC'))\n"
            "    await asyncio.sleep(0.1)\n"
            "asyncio.run(main())\n"
        )
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=20)
    assert (ran.returncode, "Traceback" in ran.stderr, "never" in ran.stderr) == (0, False, False)


def test_a_view_of_a_venue_answers_at_once_or_awaits(tmp_path: Path, server: ServerThread) -> None:
    """Its kind is fixed; a ticker that the replica knows does not suspend, and one that it does not is awaited."""

    async def run() -> None:
        async with await AsyncClient.open_snapshot(replica_dir=tmp_path / "catalogue") as client:
            perpetuals = await client.venue("binance", kind=MarketKind.PERPETUAL)
            assert (perpetuals.venue, perpetuals.kind) == ("binance", MarketKind.PERPETUAL)
            assert not await suspended(perpetuals.resolve("BTCUSDT"))
            found = await perpetuals.resolve("BTCUSDT")
            assert (found.market_kind, found.other_kinds) == (MarketKind.PERPETUAL, (MarketKind.SPOT,))
            with pytest.raises(InvalidError):
                await client.venue("binance", kind="PERPETUEL")  # type: ignore[arg-type]
        async with await AsyncClient.connect(server.target, replica_dir=tmp_path / "r", start="server") as client:
            with pytest.raises(NotFoundError):
                await client.venue("binance")
            await client.registry.create_venue(Venue(venue_id="v", name="V", venue_type=VenueType.CEX))
            view = await client.venue("v", kind=MarketKind.SPOT)
            assert await suspended(view.resolve("NOTHING"))

    asyncio.run(run())
