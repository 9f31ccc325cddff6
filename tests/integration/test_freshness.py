"""How current a replica is, and who is told: ages that never flatter, states, starting with and without a server."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import msgspec
import pytest

from cqar.client import (
    Asset,
    AssetType,
    Chain,
    Client,
    FlagType,
    InvalidError,
    NotReadyError,
    QualityFlag,
    Severity,
    State,
    Status,
    UnavailableError,
    connect,
)
from cqar.client._view import now
from cqar.server.config import Config
from cqar.server.server import ServerThread, running_server
from cqar.v1 import replication_pb2
from cqar.v1.replication_pb2_grpc import ReplicationStub
from tests.integration.test_client import eventually


@pytest.fixture(params=["gRPC", "NATS"])
def feed(request: pytest.FixtureRequest) -> str | None:
    """Have the test follow the server itself, and follow NATS."""
    return str(request.getfixturevalue("nats_server").url) if request.param == "NATS" else None


@pytest.fixture
def config(config: Config, request: pytest.FixtureRequest) -> Config:
    """A server that publishes its feed where the test follows it."""
    followed = request.getfixturevalue("feed") if "feed" in request.fixturenames else None
    return config if followed is None else msgspec.structs.replace(config, feed=followed)


def coin(client: Client, symbol: str = "DAI") -> Asset:
    """Create an asset and wait until the client sees it."""
    written = client.registry.create_asset(Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN))
    client.wait_for(written.position)
    return written.asset


def scam(asset: Asset) -> QualityFlag:
    """The worst of flags."""
    return QualityFlag(
        asset_id=asset.asset_id, flag_type=FlagType.SCAM, severity=Severity.CRITICAL, source="tests", reason="a test"
    )


def test_a_heartbeat_says_as_of_when_it_is_true(server: ServerThread) -> None:
    """The time counts from when the server took the call, and a message that lies around does not grow younger."""
    with grpc.insecure_channel(server.target) as channel:
        stub = ReplicationStub(channel)  # type: ignore[no-untyped-call]
        head = stub.GetHead(replication_pb2.GetHeadRequest(), timeout=5).head
        began = now()
        stream = stub.WatchChanges(replication_pb2.WatchChangesRequest(after=head))
        told = [next(stream).heartbeat.as_of_ms / 1000 for _ in range(5)]
        assert told == sorted(told)
        assert told[0] <= 0.05  # what was known before the call
        assert all(began + each <= now() for each in told)
        time.sleep(1)  # the messages of this second wait in between
        late = next(stream).heartbeat.as_of_ms / 1000
        assert now() - (began + late) > 0.7
        stream.cancel()


def test_a_client_that_was_busy_does_not_take_old_news_for_new(
    server: ServerThread, feed: str | None, tmp_path: Path
) -> None:
    """Age counts from when the server said it: with the syncer's process stopped for a while, what waited for it is old."""
    program = (
        "import sys, time\n"
        "from cqar.client import connect\n"
        f"client = connect({server.target!r}, feed={feed!r}, replica_dir={str(tmp_path / 'replica')!r})\n"
        "print('level', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    with (
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as leader,
        connect(server.target, replica_dir=tmp_path / "other") as writer,
    ):
        try:
            assert leader.stdout is not None
            assert leader.stdout.readline() == "level\n"
            with connect(server.target, replica_dir=tmp_path / "replica", sync="off") as reader:
                asset = coin(writer)
                reader.wait_for(writer.position)
                leader.send_signal(signal.SIGSTOP)
                flagged_at = now()
                writer.registry.raise_quality_flag(scam(asset))
                time.sleep(1.5)
                assert reader.check_tradable(asset.asset_id, max_age=60).decision == "ALLOW"  # and says how old it is
                assert reader.age > 1
                leader.send_signal(signal.SIGCONT)
                while (verdict := reader.check_tradable(asset.asset_id, max_age=0.5)).decision != "BLOCK":
                    assert verdict.decision == "UNKNOWN" or now() - flagged_at < 0.5
        finally:
            leader.kill()


def test_every_change_of_state_is_told(config: Config, tmp_path: Path) -> None:
    """A callback gets the status at once and on each change; one that raises is no trouble for the others."""
    seen: list[Status] = []
    told = threading.Event()

    def listen(status: Status) -> None:
        seen.append(status)
        told.set()
        raise RuntimeError("a callback's own trouble")

    with running_server(config) as server:
        client = connect(server.target, replica_dir=tmp_path / "replica", on_state=listen)
        assert told.wait(5)
        assert seen[0].state == State.FRESH
        assert seen[0].is_syncer
        assert seen[0].syncer == os.getpid()
    eventually(lambda: seen[-1].state == State.DISCONNECTED)
    client.close()
    eventually(lambda: seen[-1].state == State.CLOSED)


def test_data_that_nobody_confirms_are_stale(
    server: ServerThread, feed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the syncer last said is not repeated for ever: after the gate's bound the state is stale."""
    with connect(server.target, feed=feed, replica_dir=tmp_path / "replica") as leader:
        asset = coin(leader)
        with connect(server.target, replica_dir=tmp_path / "replica", sync="off") as reader:
            assert reader.status().state == State.FRESH
            assert not reader.status().is_syncer
            assert leader._thread is not None
            leader._thread._stopping.set()  # without its farewell
            leader._thread.syncer.stop = lambda: None  # type: ignore[method-assign]
            monkeypatch.setattr("cqar.client._status.MAX_AGE", 0.5)
            eventually(lambda: reader.status().state == State.STALE)
            assert reader.check_tradable(asset.asset_id, max_age=0.4).decision == "UNKNOWN"


def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def test_without_anything_it_is_not_ready_within_the_time(tmp_path: Path) -> None:
    """No replica and no server: a typed error in time, which says what was tried."""
    target = f"127.0.0.1:{free_port()}"
    for sync in ("auto", "off"):
        began = time.monotonic()
        with pytest.raises(NotReadyError, match=target):
            connect(target, replica_dir=tmp_path, timeout=1, sync=sync)
        assert time.monotonic() - began < 3


def test_it_can_start_with_the_catalogue_and_go_over_to_the_server(migrated_url: str, tmp_path: Path) -> None:
    """`start="catalogue"` answers from what is bundled and says so; when the server is there, only the server's is told."""
    port = free_port()
    target = f"127.0.0.1:{port}"
    with connect(target, replica_dir=tmp_path / "replica", start="catalogue", timeout=20) as client:
        assert client.status().catalogue
        assert client.resolve("USDC", chain="ethereum").deployment is not None
        catalogued = client.resolve("USDC", chain="ethereum").asset.asset_id
        assert client.check_tradable(catalogued).decision == "UNKNOWN"
        config = Config(
            listen=target, database=migrated_url, data_dir=tmp_path, snapshot_interval=0, heartbeat_interval=0.1
        )
        with running_server(config):
            eventually(lambda: client.status().state == State.FRESH, within=20)
            assert not client.status().catalogue
            assert client.check_tradable(catalogued).decision == "UNKNOWN"
            assert client.list_chains() == ()


def test_it_can_start_on_the_server_alone(config: Config, tmp_path: Path) -> None:
    """`start="server"` has no data at first: each answer is asked from the server, and lists say that they cannot be told."""
    with (
        running_server(config) as server,
        connect(server.target, replica_dir=tmp_path / "writer") as writer,
        connect(server.target, replica_dir=tmp_path / "none", start="server", sync="off") as client,
    ):
        asset = coin(writer)
        assert client.status().state == State.NOT_READY
        assert client.resolve("DAI").asset == asset
        assert client.resolve("DAI").source == "server"
        assert client.check_tradable(asset.asset_id).decision == "UNKNOWN"
        for ask in (client.list_chains, lambda: client.sql("SELECT 1"), lambda: client.search("DAI")):
            with pytest.raises(NotReadyError):
                ask()
        assert "closed" not in repr(client)


def test_a_replica_from_before_answers_without_a_server(config: Config, tmp_path: Path) -> None:
    """A restart without the server waits for nobody: the answers are those of before, and their age is told."""
    with running_server(config) as server, connect(server.target, replica_dir=tmp_path / "replica") as client:
        asset = coin(client)
        target = server.target
    began = time.monotonic()
    with connect(target, replica_dir=tmp_path / "replica", timeout=10) as client:
        assert time.monotonic() - began < 5
        assert client.resolve("DAI").asset == asset
        assert client.status().state == State.DISCONNECTED
        assert client.check_tradable(asset.asset_id, max_age=0.01).decision == "UNKNOWN"
        with pytest.raises(UnavailableError):
            client.resolve("USDC")


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    """A mistyped choice is refused with the choices."""
    with pytest.raises(InvalidError, match="auto, off"):
        connect("localhost:1", replica_dir=tmp_path, sync="on")  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="replica, catalogue, server"):
        connect("localhost:1", replica_dir=tmp_path, start="bundle")  # type: ignore[arg-type]


def _reads(target: str, folder: str, asset_id: str, pipe: multiprocessing.connection.Connection) -> None:
    with connect(target, replica_dir=folder, sync="off") as client:
        pipe.send(client.check_tradable(asset_id).decision)
        pipe.recv()
        while client.check_tradable(asset_id).decision != "BLOCK":
            pass
        pipe.send(time.monotonic())


def test_a_write_is_seen_by_another_process(server: ServerThread, feed: str | None, tmp_path: Path) -> None:
    """A flag that is raised blocks in a process that only reads, a moment after it was acknowledged."""
    with connect(server.target, feed=feed, replica_dir=tmp_path / "replica") as client:
        asset = coin(client)
        here, there = multiprocessing.get_context("spawn").Pipe()
        reader = multiprocessing.get_context("spawn").Process(
            target=_reads, args=(server.target, str(tmp_path / "replica"), asset.asset_id, there)
        )
        reader.start()
        assert here.recv() == "ALLOW"
        here.send("go")
        client.registry.raise_quality_flag(scam(asset))
        acknowledged = time.monotonic()
        assert here.recv() - acknowledged < 1
        reader.join()


def test_a_rebuild_replaces_the_generation_under_everybody(
    server: ServerThread, feed: str | None, tmp_path: Path
) -> None:
    """All processes go over to the generation that is built anew, and none goes back."""
    with (
        connect(server.target, feed=feed, replica_dir=tmp_path / "replica") as leader,
        connect(server.target, replica_dir=tmp_path / "replica", sync="off") as reader,
    ):
        leader.registry.create_chain(Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1))
        asset = coin(leader)
        reader.wait_for(leader.position)
        before, position = reader.status().generation, reader.position
        reader.rebuild(timeout=20)
        assert reader.status().generation != before
        assert reader.position == position
        assert reader.resolve("DAI").asset == asset
        eventually(lambda: not Path(before).exists() or leader.status().generation != before)


def test_a_long_tail_becomes_a_generation(
    server: ServerThread, feed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the tail is long the next generation is built beside it; readers go over to it and remember what they knew."""
    monkeypatch.setattr("cqar.client._sync.TAIL_CHANGES", 20)
    with (
        connect(server.target, feed=feed, replica_dir=tmp_path / "replica") as leader,
        connect(server.target, replica_dir=tmp_path / "replica", sync="off") as reader,
    ):
        dai = coin(leader)
        reader.wait_for(leader.position)
        reader.resolve("DAI")
        known = reader.resolve("DAI")
        for number in range(30):
            coin(leader, f"COIN{number}")
        before = reader.status().generation
        eventually(lambda: reader.status().generation != before, within=20)
        reader.wait_for(leader.position)
        assert reader.status().changes_since_generation < 20
        assert reader.resolve("DAI") is known
        assert {reader.resolve(f"COIN{number}").source for number in range(30)} == {"replica"}
        assert reader.sql("SELECT count(*) FROM assets").fetchall() == [(31,)]
        assert leader.asset(dai.asset_id) == dai
        with connect(server.target, replica_dir=tmp_path / "replica", sync="off") as late:
            assert late.position == reader.position
            assert [asset.symbol for asset in late.list_assets(limit=2)] == ["COIN0", "COIN1"]
