"""The replica: a generation with changes over it answers as a generation built from the result would."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from cqar import model
from cqar.client._entries import symbol_key
from cqar.client._generation import Generation
from cqar.client._recent import Recent
from cqar.client._replica import Replica, about
from cqar.errors import InternalError, SnapshotError
from cqar.model import KINDS, Batch, Change, Op
from tests.worlds import NOW, Story, World, chain_hash, excerpt

SYMBOLS = ("USDC", "USDT", "DAI", "WETH", "ETH", "stETH", "cbETH", "BTC", "WBTC", "USD", "EUR", "SOL", "OP")


@pytest.fixture
def world() -> World:
    """A small registry of well-known assets."""
    return World(excerpt(SYMBOLS))


def opened(world: World, folder: Path) -> Replica:
    """Build the world's generation and open it."""
    return Replica(world.generation(folder), Recent())


def everything(replica: Replica, world: World) -> dict[Any, Any]:
    """Every answer that the replica can be asked for by a key that occurs in the world."""
    answers: dict[Any, Any] = {}
    for kind_name, kind in KINDS.items():
        answers[kind_name] = list(replica.all(kind_name))
        for record in world.all(kind_name):
            answers[kind_name, kind.key_of(record)] = replica.get(kind_name, kind.key_of(record))
            for posting in kind.postings:
                for words in posting.words(record):
                    answers[posting.name, words] = replica.find(posting.name, *words)
    chains = {"", "ethereum", *(d.chain_id for d in world.all("deployment"))}  # type: ignore[attr-defined]
    symbols = {model.fold(a.symbol) for a in world.all("asset")}  # type: ignore[attr-defined]
    for chain, symbol in itertools.product(chains, symbols):
        answers["candidates", chain, symbol] = replica.candidates(symbol_key(chain, symbol), chain, symbol)
    for deployment in world.all("deployment"):
        assert isinstance(deployment, model.Deployment)
        address = deployment.contract_address or model.NATIVE
        answers["address", deployment.chain_id, address] = replica.at_address(deployment.chain_id, address)
    return answers


@pytest.mark.parametrize("seed", range(12))
def test_changes_over_a_generation_equal_a_generation_built_from_the_result(
    seed: int, world: World, tmp_path: Path
) -> None:
    """After any history, every look-up gives what a fresh build gives: the overlay can never differ from a rebuild."""
    replica = opened(world, tmp_path / "before")
    story = Story(seed, world)
    for _ in range(40):
        replica.apply(story.step())
    rebuilt = opened(world, tmp_path / "after")
    assert everything(replica, world) == everything(rebuilt, world)
    assert replica.position == rebuilt.position == world.position


@pytest.mark.parametrize("seed", range(6))
def test_remembered_answers_are_dropped_by_the_batches_that_touch_them(seed: int, world: World, tmp_path: Path) -> None:
    """An answer from the recent map always equals the one computed anew, after any history."""
    from cqar.client._client import Client
    from cqar.client._view import View
    from cqar.errors import CqarError

    replica = opened(world, tmp_path / "gen")
    client = Client(View(None, replica))
    story = Story(seed, world)

    def ask(asset: model.Asset) -> Iterator[Any]:
        calls: list[Callable[[], Any]] = [
            lambda: client.resolve(asset.symbol),
            lambda: client.resolve(asset.symbol, chain="ethereum"),
            lambda: client.asset(asset.asset_id),
            lambda: client.deployments(asset.asset_id),
            lambda: client.identifiers(asset.asset_id),
            lambda: client.relationships(asset.asset_id),
            lambda: client.variants(asset.asset_id),
            lambda: client.flags(asset.asset_id, include_resolved=True),
            lambda: client.check_tradable(asset.asset_id, max_age=1e12).decision,
            lambda: client.group("ETH"),
            lambda: client.resolve_venue_symbol("binance", "ETHUSDT"),
        ]
        for call in calls:
            try:
                answer = call()
            except CqarError as error:
                answer = str(error)
            if hasattr(answer, "position"):
                answer = msgspec.structs.replace(answer, position=0)  # of the moment when it was computed
            yield answer

    for _ in range(25):
        assets = [asset for asset in world.all("asset") if isinstance(asset, model.Asset)]
        for asset in [*assets, *assets]:  # asked for twice: kept
            list(ask(asset))
        replica.apply(story.step())
        remembered = [list(ask(asset)) for asset in assets]
        client._recent.clear()
        assert remembered == [list(ask(asset)) for asset in assets]


def test_an_untouched_answer_is_kept(world: World, tmp_path: Path) -> None:
    """A batch about one asset leaves the remembered answers about others in place: the very same object comes back."""
    from cqar.client._client import Client
    from cqar.client._view import View

    replica = opened(world, tmp_path / "gen")
    client = Client(View(None, replica))
    client.resolve("USDC", chain="ethereum")
    before = client.resolve("USDC", chain="ethereum")  # asked for twice: kept
    dai = client.resolve("DAI").asset
    replica.apply(world.commit([msgspec.structs.replace(dai, name="changed")]))
    assert client.resolve("USDC", chain="ethereum") is before
    assert client.resolve("DAI").asset.name == "changed"


def test_a_gap_in_the_feed_is_refused(world: World, tmp_path: Path) -> None:
    """A batch that is not the next one raises and changes nothing: what lies between would be lost."""
    replica = opened(world, tmp_path / "gen")
    world.commit()
    later = world.commit([msgspec.structs.replace(world.all("asset")[0], name="later")])
    position, version = replica.position, replica.version
    with pytest.raises(InternalError, match="feed went from 1 to 3"):
        replica.apply(later)
    assert (replica.position, replica.version) == (position, version)


def test_a_batch_that_is_applied_already_is_ignored(world: World, tmp_path: Path) -> None:
    """Receiving a batch twice is harmless."""
    replica = opened(world, tmp_path / "gen")
    asset = world.all("asset")[0]
    first = world.commit([msgspec.structs.replace(asset, name="first")])
    replica.apply(first)
    replica.apply(world.commit([msgspec.structs.replace(asset, name="second")]))
    assert replica.apply(first) == set()
    assert replica.get("asset", asset.asset_id).name == "second"  # type: ignore[attr-defined]


def test_a_batch_that_fails_half_way_leaves_nothing(world: World, tmp_path: Path) -> None:
    """If a batch cannot be applied to its end, none of it is seen."""
    replica = opened(world, tmp_path / "gen")
    asset = world.all("asset")[0]
    assert isinstance(asset, model.Asset)
    good = Change(op=Op.PUT, kind="asset", key=asset.asset_id, record=msgspec.structs.replace(asset, name="half"))
    bad = Change(op=Op.PUT, kind="no such kind", key="x", record=asset)
    batch = Batch(position=2, chain=chain_hash(2), committed_at=NOW, changes=(good, bad))
    with pytest.raises(KeyError):
        replica.apply(batch)
    assert replica.get("asset", asset.asset_id) == asset
    assert replica.position == 1


def test_readers_never_see_half_a_batch(world: World, tmp_path: Path) -> None:
    """While batches rewrite two records together, no reader ever sees them differ, and no position goes back."""
    replica = opened(world, tmp_path / "gen")
    left, right = [a for a in world.all("asset") if isinstance(a, model.Asset)][:2]
    replica.apply(world.commit([msgspec.structs.replace(a, name="0") for a in (left, right)]))
    stop = threading.Event()
    torn: list[tuple[str, str]] = []
    seen: list[int] = []

    def read() -> None:
        last = 0
        while not stop.is_set():
            (names, position), _ = replica.consistently(
                lambda seen: (
                    (seen.get("asset", left.asset_id).name, seen.get("asset", right.asset_id).name),
                    seen.position,
                )
            )
            if names[0] != names[1] or position < last:
                torn.append(names)
            last = position
            seen.append(position)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 1500):
        replica.apply(world.commit([msgspec.structs.replace(a, name=str(number)) for a in (left, right)]))
    stop.set()
    for reader in readers:
        reader.join()
    assert not torn
    assert len(set(seen)) > 10  # they did read in between


def test_an_answer_computed_before_a_batch_is_not_remembered_after_it(world: World, tmp_path: Path) -> None:
    """The slow reader's stale answer must not come back once the batch has dropped it."""
    replica = opened(world, tmp_path / "gen")
    asset = world.all("asset")[0]
    assert isinstance(asset, model.Asset)
    answer, version = replica.consistently(lambda seen: seen.get("asset", asset.asset_id))
    replica.apply(world.commit([msgspec.structs.replace(asset, name="new")]))
    for _ in range(2):
        replica.recent.put(("key",), answer, (about(asset.asset_id),), version, replica)
    assert ("key",) not in replica.recent.answers


def test_the_recent_map_is_bounded() -> None:
    """However many answers come, no more than the capacity stay, nor more than that of what they depend on."""
    recent = Recent(capacity=100)
    owner = SimpleNamespace(version=0)
    for number in range(5_000):
        for _ in range(2):
            recent.put((number,), number, ((str(number),), ("all",)), 0, owner)
        assert recent.answers[number,] == number
        assert len(recent.answers) <= 100
        assert len(recent._by_topic) <= 101
    recent.drop([("all",)])
    assert not recent.answers


def test_a_scan_does_not_push_out_what_is_asked_for_often() -> None:
    """Questions that come once are not kept, however many they are."""
    recent = Recent(capacity=100)
    owner = SimpleNamespace(version=0)
    for _ in range(2):
        recent.put(("hot",), "answer", (), 0, owner)
    for number in range(50):
        recent.put((number,), number, (), 0, owner)
    assert recent.answers[("hot",)] == "answer"
    assert len(recent.answers) < 25  # some are taken for others that came before


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_an_index_that_was_cut_off_is_refused(size: int, world: World, tmp_path: Path) -> None:
    """A cut index raises at open: reading it would kill the process with SIGBUS."""
    world.generation(tmp_path / "gen")
    with (tmp_path / "gen" / "index.lmdb").open("r+b") as file:
        file.truncate(size)
    with pytest.raises(SnapshotError):
        Generation(tmp_path / "gen")


def test_two_clients_of_a_process_share_a_generation(world: World, tmp_path: Path) -> None:
    """LMDB refuses to open a file twice: a second client must share it, and must not take it for damaged."""
    folder = tmp_path / "gen"
    one = opened(world, folder)
    two = Replica(Generation(folder), Recent())
    asset = world.all("asset")[0]
    assert isinstance(asset, model.Asset)
    assert one.get("asset", asset.asset_id) == two.get("asset", asset.asset_id) == asset
    del one
    assert two.get("asset", asset.asset_id) == asset
    del two
    assert Generation(folder).index.record("asset", asset.asset_id) == asset
