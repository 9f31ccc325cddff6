"""A closed client: the gate says UNKNOWN, everything else says that it is closed, whoever closed it and whenever."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cqar.client import (
    Asset,
    AssetType,
    AsyncClient,
    Client,
    ClosedError,
    CqarError,
    Decision,
    MarketKind,
    NotFoundError,
    State,
    UnavailableError,
    VerdictUnknownError,
    connect,
    open_snapshot,
)
from cqar.server.server import ServerThread

FOREVER = float("inf")

# All that asks for something; hot where it was asked before.
ASKS: list[Callable[[Any], Any]] = [
    lambda c: c.resolve("USDC", chain="ethereum"),
    lambda c: c.resolve("NO SUCH THING"),
    lambda c: c.resolve_address("ethereum", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"),
    lambda c: c.resolve_identifier("coingecko", "usd-coin"),
    lambda c: c.resolve_venue_symbol("binance", "BTCUSDT"),
    lambda c: c.venue("binance", kind="PERPETUAL"),
    lambda c: c.resolve_many(["USDC"]),
    lambda c: c.group("ETH"),
    lambda c: c.asset("00000000-0000-4000-8000-00000000000a"),
    lambda c: c.flags("00000000-0000-4000-8000-00000000000a"),
    lambda c: c.variants("00000000-0000-4000-8000-00000000000a"),
    lambda c: c.search("USDC"),
    lambda c: c.list_assets(chain="ethereum"),
    lambda c: c.list_chains(),
    lambda c: c.list_venues(),
    lambda c: c.sql("SELECT 1"),
    lambda c: c.wait_for(0),
    lambda c: c.rebuild(),
    lambda c: c.position,
    lambda c: c.registry,
    lambda c: c.admin,
]


async def answered(ask: Callable[[Any], Any], client: AsyncClient) -> Any:
    """Ask, and await the answer if it is to be awaited."""
    answer = ask(client)
    return await answer if inspect.isawaitable(answer) else answer


def is_closed(client: Client, asset_id: str) -> None:
    """Check every face of a closed client."""
    for number, ask in enumerate(ASKS):
        with pytest.raises(ClosedError) as closed:
            pytest.fail(f"ask {number} is answered: {ask(client)!r:.200}")
        assert closed.value.reason == "CLOSED"
    for max_age in (15.0, FOREVER):
        verdict = client.check_tradable(asset_id, max_age=max_age)
        assert verdict.decision is Decision.UNKNOWN
        assert verdict.reasons == (ClosedError().message,)
    with pytest.raises(VerdictUnknownError):
        client.require_tradable(asset_id, max_age=FOREVER)
    assert client.status().state is State.CLOSED
    assert "closed" in repr(client)
    client.close()


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Client]:
    """A client on the bundled catalogue, that was asked for everything several times."""
    client = open_snapshot(replica_dir=tmp_path)
    for _ in range(3):
        for ask in ASKS:
            with contextlib.suppress(NotFoundError, UnavailableError):
                ask(client)
    yield client
    client.close()


def test_nothing_is_answered_any_more(catalogue: Client) -> None:
    """Neither what is remembered nor what is not."""
    asset_id = catalogue.resolve("ETH").asset.asset_id
    assert catalogue.check_tradable(asset_id, max_age=FOREVER).decision is Decision.ALLOW
    perpetuals = catalogue.venue("binance", kind=MarketKind.PERPETUAL)
    assert [perpetuals.resolve("BTCUSDT") for _ in range(3)]
    catalogue.close()
    is_closed(catalogue, asset_id)
    with pytest.raises(ClosedError):
        perpetuals.resolve("BTCUSDT")


def test_nothing_is_answered_any_more_with_a_server(server: ServerThread, tmp_path: Path) -> None:
    """A verdict that would hold for another moment neither, nor a write by a handle that was got before."""
    client = connect(server.target, replica_dir=tmp_path)
    registry = client.registry
    made = registry.create_asset(Asset(symbol="TST", name="Test", asset_type=AssetType.TOKEN))
    client.wait_for(made.position)
    for _ in range(3):
        assert client.check_tradable(made.asset.asset_id).decision is Decision.ALLOW
    client.close()
    is_closed(client, made.asset.asset_id)
    with pytest.raises(ClosedError):
        registry.get_asset(made.asset.asset_id)
    with pytest.raises(ClosedError):
        list(registry.list_assets())


def test_close_from_another_thread_ends_calls_with_an_answer_or_with_the_error(
    server: ServerThread, tmp_path: Path
) -> None:
    """No thread sees another error, and none hangs; the gate never raises."""
    client = connect(server.target, replica_dir=tmp_path)
    seen: list[BaseException] = []
    verdicts: set[Decision] = set()

    def work(ask: Callable[[Client], Any]) -> None:
        while True:
            try:
                ask(client)
                if client.status().state is State.CLOSED:
                    return
            except NotFoundError:
                continue
            except ClosedError:
                return
            except BaseException as error:  # noqa: BLE001
                seen.append(error)
                return

    def judge(one: Client) -> None:
        verdicts.add(one.check_tradable("00000000-0000-4000-8000-00000000000a").decision)

    asks = [ASKS[0], ASKS[1], ASKS[6], ASKS[11], ASKS[15], judge, lambda c: c.registry.get_chain("nowhere")]
    threads = [threading.Thread(target=work, args=(ask,)) for ask in asks * 2]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    client.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert not seen, seen
    assert verdicts == {Decision.UNKNOWN}


def test_a_forked_child_of_a_closed_client_finds_it_closed(catalogue: Client) -> None:
    """As its parent does."""
    asset_id = catalogue.resolve("ETH").asset.asset_id
    catalogue.close()
    child = multiprocessing.get_context("fork").Process(target=is_closed, args=(catalogue, asset_id))
    child.start()
    child.join(20)
    assert child.exitcode == 0


def test_a_closed_client_for_event_loops(server: ServerThread, tmp_path: Path) -> None:
    """The same, and calls that wait in its threads end with the error."""

    async def run() -> None:
        client = await AsyncClient.connect(server.target, replica_dir=tmp_path)
        waiting = [asyncio.create_task(client.sql("SELECT count(*) FROM assets")) for _ in range(40)]
        await asyncio.sleep(0)
        await client.close()
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert not isinstance(ended, BaseException) or isinstance(ended, ClosedError), repr(ended)
        for ask in ASKS:
            with pytest.raises(ClosedError):
                await answered(ask, client)
        verdict = await client.check_tradable("00000000-0000-4000-8000-00000000000a", max_age=FOREVER)
        assert verdict.decision is Decision.UNKNOWN
        with pytest.raises(VerdictUnknownError):
            client.require_tradable("00000000-0000-4000-8000-00000000000a")
        assert client.status().state is State.CLOSED
        await client.close()

    asyncio.run(run())


def test_a_closed_error_is_one_of_those_that_callers_catch() -> None:
    """Who handles what cannot be reached handles it too."""
    assert issubclass(ClosedError, UnavailableError)
    assert issubclass(ClosedError, CqarError)
