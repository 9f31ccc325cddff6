"""A process of the host complains of a replica that is whole, once or without end.

Before, a complaint was believed: the syncer dropped the feed and loaded a snapshot, and the whole host said UNKNOWN for 86 s at
60,000 records over a slow link. Now a complaint makes the syncer look at every byte, at most once a second and for 2 % of its time;
only what it finds damaged is made again, and the feed goes on meanwhile, also when a client asks for a rebuild.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from cqar.answers import Decision
from cqar.client import Asset, AssetType, Client, connect
from cqar.client._head import COMPLAINTS
from cqar.server.config import Config
from cqar.server.server import ServerThread
from tests.attacks.marks import attack
from tests.integration.test_client import eventually

pytestmark = attack(
    "A28", by="any process of the host", promise="complaints cost little, and nobody's data grow old of them"
)


@pytest.fixture
def config(config: Config) -> Config:
    """A server that makes snapshots."""
    return msgspec.structs.replace(config, snapshot_interval=0.5)


@pytest.fixture
def client(server: ServerThread, tmp_path: Path) -> Iterator[Client]:
    """Yield the client of a process that syncs."""
    with connect(server.target, replica_dir=tmp_path / "replica") as client:
        yield client


def written(client: Client, symbol: str) -> Asset:
    """Create an asset, and wait until the replica shows it."""
    done = client.registry.create_asset(Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN))
    client.wait_for(done.position)
    return done.asset


class Watch:
    """What a trading process sees."""

    def __init__(self) -> None:
        self.decisions: set[Decision] = set()
        self.worst_age = 0.0
        self.reads = 0


@contextmanager
def trading(client: Client, asset: Asset) -> Iterator[Watch]:
    """Ask the gate all the while."""
    watch, stop = Watch(), threading.Event()

    def run() -> None:
        while not stop.wait(0.005):
            verdict = client.check_tradable(asset.asset_id)
            watch.decisions.add(verdict.decision)
            watch.worst_age = max(watch.worst_age, verdict.age)
            watch.reads += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()


def test_a_flood_of_complaints_costs_little(client: Client, scale: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is made again, no answer gets older, writes arrive as fast as ever, and the syncer looks once a second at most."""
    asset = written(client, "FIRST")
    before, head, syncer = client.status().generation, client._view.head, client._thread.syncer  # type: ignore[union-attr]
    assert head is not None
    looks = 0
    verify = syncer._source.verify

    def counted(generation: str, tail: str, length: int) -> object:
        nonlocal looks
        looks += 1
        return verify(generation, tail, length)

    syncer._source.verify = counted  # type: ignore[method-assign]
    seconds = 4.0 * scale
    with trading(client, asset) as watch:
        began = time.monotonic()
        number = 0
        while time.monotonic() < began + seconds:
            head.words[COMPLAINTS] = 1 << 63
            number += 1
            if number % 100 == 0:
                written(client, f"COIN{number}")
            time.sleep(0.005)
    assert watch.decisions == {Decision.ALLOW}
    assert watch.worst_age < 3
    assert 1 <= looks <= seconds + 2
    assert client.status().generation == before
    assert not [record for record in caplog.records if "again" in record.getMessage()]


def test_a_rebuild_that_is_asked_for_leaves_no_gap(client: Client, server: ServerThread, tmp_path: Path) -> None:
    """All processes go over to the new generation, at the same position or a later one, and the gate says ALLOW all the while."""
    asset = written(client, "FIRST")
    time.sleep(1.2)  # a snapshot is made, which the tail leads on from
    written(client, "SECOND")
    with (
        connect(server.target, replica_dir=tmp_path / "replica", sync="off") as reader,
        trading(reader, asset) as watch,
    ):
        eventually(lambda: watch.reads > 10)
        before, position = reader.status().generation, reader.position
        started = time.monotonic()
        client.rebuild(timeout=20)
        eventually(lambda: reader.status().generation != before)
        assert time.monotonic() - started < 20
        assert reader.position >= position
        assert reader.resolve("SECOND").source == "replica"
    assert watch.decisions == {Decision.ALLOW}
    assert watch.worst_age < 3


def test_wishes_for_a_rebuild_are_granted_seldom(client: Client) -> None:
    """Who asks for rebuilds without end has the replica made again once in 10 s, then less often."""
    written(client, "FIRST")
    client.rebuild(timeout=20)
    before = client.status().generation
    head = client._view.head
    assert head is not None
    for _ in range(100):
        head.ask_for_rebuild()
        time.sleep(0.02)
    assert client.status().generation == before
