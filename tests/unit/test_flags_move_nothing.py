"""Raising or clearing flags never leads a name to another asset, and what looks alike never answers: over the whole catalogue."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cqar import model
from cqar.client import AmbiguousError, Client, NotFoundError
from cqar.client._client import Client as Library
from cqar.client._generation import Generation
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._view import View
from cqar.errors import CqarError
from cqar.looks import looks_like
from cqar.model import Asset, Deployment, QualityFlag, Severity, fold
from tests.worlds import DISGUISE, NOW, Story, World, catalogue, excerpt

Name = tuple[str, str | None]  # a symbol, and the chain on which it is asked for

# The (symbol, chain) pairs that one CRITICAL flag led to another asset, before flags lost their part in the choice (U1).
MOVED = (
    *[(symbol, "ethereum") for symbol in ("ETHx", "USDS", "USDe", "mUSD")],
    *[("LBTC", "babylon"), ("WETH", "celo"), ("USDT", "cosmoshub"), ("USDT", "injective")],
    *[("DYDX", "osmosis"), ("DYM", "osmosis")],
    *[(symbol, None) for symbol in ("AAVE", "MKR", "LDO", "SUSHI", "CAKE", "EURC", "AXS", "rETH", "cbETH", "mSOL")],
)


def flagged(asset_id: str, severity: Severity = Severity.CRITICAL, *, cleared: bool = False) -> QualityFlag:
    """Make the flag of a watchdog, of which an asset has one at most."""
    return QualityFlag(
        flag_id=f"f{asset_id[1:]}",
        asset_id=asset_id,
        flag_type=model.FlagType.DEPEGGED,
        severity=severity,
        source="watchdog",
        reason="a test",
        cleared_at=NOW if cleared else None,
    )


def names(world: World) -> list[Name]:
    """Return every symbol of a world, without a chain and on each where it is."""
    found: set[Name] = set()
    assets = {asset.asset_id: asset for asset in world.all("asset") if isinstance(asset, Asset)}
    found |= {(asset.symbol, None) for asset in assets.values()}
    for deployment in world.all("deployment"):
        assert isinstance(deployment, Deployment)
        if deployment.asset_id in assets:
            found.add((assets[deployment.asset_id].symbol, deployment.chain_id))
    return sorted(found, key=lambda name: (name[0], name[1] or ""))


def outcome(client: Client, name: Name) -> Any:
    """Return what a name means: an asset's id and where it is, or why it has none, and who else bears it."""
    try:
        found = client.resolve(name[0], chain=name[1])
    except AmbiguousError as error:
        return error.reason, sorted(f"{each.asset_id} {each.contract_address}" for each in error.candidates)
    except CqarError as error:
        return error.reason
    place = found.deployment and found.deployment.deployment_id
    return found.asset.asset_id, place, sorted(each.asset_id for each in found.collisions)


def in_bulk(client: Client, asked: list[Name]) -> dict[Name, tuple[str, str | None]]:
    """Return the status and the asset's id of each name, by the column."""
    told = {}
    for chain in {chain for _, chain in asked}:
        symbols = [symbol for symbol, where in asked if where == chain]
        rows = client.resolve_many(symbols, chain=chain).to_pylist()
        told.update({(row["symbol"], chain): (row["status"], row["asset_id"]) for row in rows})
    return told


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """Yield the whole bundled catalogue, and where its generation is."""
    world = World(record for records in catalogue().values() for record in records)
    folder = tmp_path_factory.mktemp("whole") / "generation"
    world.generation(folder)
    return world, folder


@pytest.fixture
def client(whole: tuple[World, Path], tmp_path: Path) -> Iterator[Client]:
    """Yield a client of the whole catalogue that can be written to by batches."""
    replica = Replica(Generation(whole[1]), Recent())
    with Library(View(None, replica)) as client:
        yield client


def test_a_critical_flag_on_the_answer_moves_no_name_of_the_catalogue(
    client: Client, whole: tuple[World, Path]
) -> None:
    """For each name that several bear: its answer flagged, every other bearer flagged, all of them, none of them."""
    world = World((record for kind in whole[0].records.values() for record in kind.values()), whole[0].position)
    shared: dict[Name, Any] = {}
    for name in names(world):
        found = outcome(client, name)
        if isinstance(found[-1], list) and found[-1]:
            shared[name] = found
    assert {*MOVED} <= {*shared}
    assert len(shared) > 400
    for name, before in shared.items():
        try:
            answer = client.resolve(name[0], chain=name[1])
            answers, others = {answer.asset.asset_id}, {each.asset_id for each in answer.collisions}
        except AmbiguousError as error:
            answers, others = {error.candidates[0].asset_id}, {each.asset_id for each in error.candidates[1:]}
        raised: set[str] = set()
        for wanted in (answers, answers | others, others, set[str]()):
            puts = [flagged(each) for each in wanted - raised] + [
                flagged(each, cleared=True) for each in raised - wanted
            ]
            if puts:
                client._replica.apply(world.commit(puts))
            raised = wanted
            assert outcome(client, name) == before
            if before[0] in wanted:
                assert any(each.severity is Severity.CRITICAL for each in client.resolve(name[0], chain=name[1]).flags)


@pytest.mark.parametrize("seed", range(3))
def test_no_sequence_of_flags_moves_a_name_of_any_registry(seed: int, tmp_path: Path) -> None:
    """After a history of everything come flags alone, raised and cleared: each name means what it meant, one by one and in bulk."""
    world = World(excerpt(("USDC", "USDe", "USDT", "WETH", "ETH", "OP", "AAVE", "SUSHI", "DYDX")))
    story = Story(seed, world)
    for _ in range(60):
        story.step()
    replica = Replica(world.generation(tmp_path / "generation"), Recent())
    chance = random.Random(seed)
    with Library(View(None, replica)) as client:
        asked = names(world)
        before = {name: outcome(client, name) for name in asked}
        assert len({type(found) for found in before.values()}) == 1  # found or ambiguous: each of these names is borne
        rows = in_bulk(client, asked)
        for _ in range(15):
            assets = chance.sample(world.all("asset"), 5)
            severities = [chance.choice(list(Severity)) for _ in assets]
            replica.apply(
                world.commit(
                    flagged(asset.asset_id, severity, cleared=chance.random() < 0.4)  # type: ignore[attr-defined]
                    for asset, severity in zip(assets, severities, strict=True)
                )
            )
            assert {name: outcome(client, name) for name in asked} == before
            assert in_bulk(client, asked) == rows


def test_no_look_alike_answers_for_a_symbol_of_the_catalogue(client: Client, whole: tuple[World, Path]) -> None:
    """Each symbol in Cyrillic letters, on a chain where the genuine one is not: only its own spelling finds it (D1)."""
    world = World((record for kind in whole[0].records.values() for record in kind.values()), whole[0].position)
    chain = "zora"
    there = {fold(symbol) for symbol, where in names(world) if where == chain}
    disguised: dict[str, str] = {}
    for symbol, where in names(world):
        fake = symbol.translate(DISGUISE)
        if where is None and fake != symbol and fold(symbol) not in there and looks_like(fake, symbol):
            disguised.setdefault(fold(fake), symbol)
    planted = {symbol: symbol.translate(DISGUISE) for symbol in disguised.values()}
    assert len(planted) > 2000
    records: list[model.Record] = []
    for number, fake in enumerate(planted.values()):
        asset = Asset(asset_id=str(UUID(int=number)), symbol=fake, name=fake, asset_type=model.AssetType.TOKEN)
        records += [
            asset,
            Deployment(
                deployment_id=str(UUID(int=number)),
                asset_id=asset.asset_id,
                chain_id=chain,
                contract_address=f"0x{number:040x}",
                decimals=18,
            ),
        ]
    client._replica.apply(world.commit(records))
    asked: list[Name] = [(symbol, chain) for symbol in planted]
    assert {status for status, _ in in_bulk(client, asked).values()} == {"NOT_FOUND"}
    own: list[Name] = [(fake, chain) for fake in planted.values()]
    assert {status for status, _ in in_bulk(client, own).values()} == {"OK"}
    for symbol, fake in planted.items():
        with pytest.raises(NotFoundError) as caught:
            client.resolve(symbol, chain=chain)
        assert fake in {told.symbol for told in caught.value.look_alikes}
        assert all(told.look_alike and told.chain_id == chain for told in caught.value.look_alikes)
        assert client.resolve(fake, chain=chain).asset.symbol == fake
