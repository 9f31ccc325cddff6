"""Replicas that follow a server over a real NATS, which is killed, frozen, emptied and restarted: level again, and never wrong."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
import pytest
from typer.testing import CliRunner

from cqar.broker import FEED_STREAM
from cqar.cli import app
from cqar.client import (
    Asset,
    AssetType,
    AsyncClient,
    Chain,
    Client,
    InvalidError,
    State,
    UnavailableError,
    _broker,
    connect,
)
from cqar.server.config import Config
from cqar.server.export import export_snapshot
from cqar.server.server import ServerThread
from cqar.server.store import Store
from tests.brokers import NatsServer
from tests.faults.replica.proxy import Proxy
from tests.integration.test_client import eventually
from tests.integration.test_freshness import coin, scam


@pytest.fixture
def config(config: Config, nats_server: NatsServer) -> Config:
    """A server that publishes its feed."""
    return msgspec.structs.replace(config, feed=nats_server.url)


@contextmanager
def following(server: ServerThread, nats: NatsServer, folder: Path) -> Iterator[Client]:
    """Give a client that follows NATS and is level."""
    with connect(server.target, feed=nats.url, replica_dir=folder / "replica") as client:
        assert client.status().state == State.FRESH
        yield client


def test_it_says_where_its_feed_comes_from(
    server: ServerThread, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status in this process and in one that only reads, `cqar replica status` and `run`, `cqar doctor`; never a password."""
    monkeypatch.setenv("CQAR_REPLICA_DIR", str(tmp_path / "replica"))
    monkeypatch.setenv("CQAR_TARGET", server.target)
    monkeypatch.setenv("CQAR_FEED", nats_server.url.replace("//", "//me:secret@"))

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert "secret" not in result.output
        return result.stdout

    assert json.loads(said("replica", "run", "--once", "--json"))["feed"] == nats_server.url
    with following(server, nats_server, tmp_path) as client:
        assert client.status().feed == nats_server.url
        with connect(server.target, replica_dir=tmp_path / "replica", sync="off") as reader:
            assert reader.status().feed == nats_server.url
        assert json.loads(said("replica", "status", "--json"))["replicas"][0]["feed"] == nats_server.url
        assert nats_server.url in said("replica", "status")
        assert f"feed {nats_server.url}" in said("doctor")
    monkeypatch.delenv("CQAR_FEED")
    assert json.loads(said("replica", "run", "--once", "--json"))["feed"] == server.target


def test_a_bad_address_is_refused_at_once(tmp_path: Path) -> None:
    """What is no address of a NATS is said without its password, before anything else is tried."""
    with pytest.raises(InvalidError, match=r"feed: .*host:4222") as raised:
        connect("localhost:1", feed="redis://me:secret@host", replica_dir=tmp_path)
    assert "secret" not in str(raised.value)


def test_an_async_client_follows_it_too(server: ServerThread, nats_server: NatsServer, tmp_path: Path) -> None:
    """The same argument, the same feed."""

    async def run() -> None:
        client = await AsyncClient.connect(server.target, feed=nats_server.url, replica_dir=tmp_path)
        async with client:
            assert client.status().feed == nats_server.url
            asset = Asset(symbol="DAI", name="Dai", asset_type=AssetType.TOKEN)
            written = await client.registry.create_asset(asset)
            await client.wait_for(written.position)
            assert (await client.resolve("DAI")).source == "replica"

    asyncio.run(run())


def test_it_goes_on_while_the_server_cannot_be_reached(
    server: ServerThread, nats_server: NatsServer, tmp_path: Path
) -> None:
    """With a replica and NATS a client opens level and follows; only misses fail."""
    with Proxy(server.target) as proxy, connect(server.target, replica_dir=tmp_path / "other") as writer:
        with connect(proxy.target, feed=nats_server.url, replica_dir=tmp_path / "replica"):
            pass
        proxy.cut()
        with connect(proxy.target, feed=nats_server.url, replica_dir=tmp_path / "replica", timeout=20) as client:
            eventually(lambda: client.status().state == State.FRESH)
            asset = coin(writer)
            client.wait_for(writer.position)
            assert client.check_tradable(asset.asset_id).decision == "ALLOW"
            writer.registry.raise_quality_flag(scam(asset))
            eventually(lambda: client.check_tradable(asset.asset_id).decision == "BLOCK")
            with pytest.raises(UnavailableError):
                client.resolve("NOBODY")


def test_a_nats_that_comes_back_is_followed_from_where_it_was(
    server: ServerThread, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Killed and restarted with its store: told at once, tried again, nothing missed, and no gRPC feed in its place."""
    with following(server, nats_server, tmp_path) as client:
        coin(client, "ONE")
        generation = client.status().generation
        nats_server.kill()
        eventually(lambda: client.status().state == State.DISCONNECTED)
        assert "NATS" in (client.status().last_error or "")
        second = client.registry.create_asset(Asset(symbol="TWO", name="Two", asset_type=AssetType.TOKEN))
        assert server.server.metrics.registry.get_sample_value("cqar_feed_streams") == 0
        assert client.position < second.position
        nats_server.start()
        client.wait_for(second.position, timeout=20)
        eventually(lambda: client.status().state == State.FRESH, within=10)
        assert client.status().generation == generation


@pytest.mark.parametrize("harm", ["a store that is wiped", "a stream that is purged", "a stream that is deleted"])
def test_a_stream_that_was_lost_is_made_anew_and_followed(
    harm: str, server: ServerThread, config: Config, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Whatever becomes of the stream, the replica is level again with all that was written meanwhile."""
    with following(server, nats_server, tmp_path) as client:
        coin(client, "ONE")
        if harm == "a store that is wiped":
            nats_server.kill()
            nats_server.wipe()
            nats_server.start()
        elif harm == "a stream that is purged":
            nats_server.do(lambda nats: nats.jetstream().purge_stream(FEED_STREAM))
        else:
            nats_server.do(lambda nats: nats.jetstream().delete_stream(FEED_STREAM))
        written = client.registry.create_asset(Asset(symbol="TWO", name="Two", asset_type=AssetType.TOKEN))
        client.wait_for(written.position, timeout=25)
        eventually(lambda: client.status().state == State.FRESH, within=10)
        assert client.resolve("TWO").source == "replica"


def test_messages_that_grew_too_old_lead_to_a_snapshot(
    server: ServerThread, config: Config, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Whoever was away for longer than the stream goes back loads a snapshot, and goes on from there by the stream."""
    with following(server, nats_server, tmp_path) as client:
        coin(client, "ONE")
    with connect(server.target, replica_dir=tmp_path / "other") as writer:
        for number in range(20):
            coin(writer, f"COIN{number}")
        store = Store(config.database)
        export_snapshot(store, config.snapshot_root)
        store.close()
        coin(writer, "LAST")
        nats_server.do(lambda nats: nats.jetstream().purge_stream(FEED_STREAM, keep=1))
        with following(server, nats_server, tmp_path) as client:
            client.wait_for(writer.position)
            assert client.resolve("LAST").source == "replica"
            assert "gen-00000000000000000021" in client.status().generation


def test_a_frozen_nats_ages_the_data_and_the_gate_closes(
    server: ServerThread, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes, nothing is claimed: the age grows from the last word on, until what was written meanwhile is seen."""
    monkeypatch.setattr(_broker, "TICK", 0.2)
    monkeypatch.setattr(_broker, "IDLE", 0.3)
    with following(server, nats_server, tmp_path) as client:
        asset = coin(client)
        eventually(lambda: client.age < 0.5)
        nats_server.signal(signal.SIGSTOP)
        frozen = time.monotonic()
        client.registry.raise_quality_flag(scam(asset))
        eventually(lambda: client.status().state == State.DISCONNECTED)
        assert client.age > time.monotonic() - frozen - 0.2
        assert client.check_tradable(asset.asset_id, max_age=0.5).decision == "UNKNOWN"
        nats_server.signal(signal.SIGCONT)
        while (verdict := client.check_tradable(asset.asset_id, max_age=0.5)).decision != "BLOCK":
            assert verdict.decision == "UNKNOWN"
            assert time.monotonic() < frozen + 30


FORKING = """
import os, sys
from cqar.client import Asset, AssetType, connect
target, feed, folder = sys.argv[1:]
client = connect(target, feed=feed, replica_dir=folder)

def follow(name):
    written = client.registry.create_asset(Asset(symbol=name, name=name, asset_type=AssetType.TOKEN))
    client.wait_for(written.position, timeout=10)
    assert client.resolve(name).source == "replica"

follow("FIRST")
pids = []
for number in range(3):
    pid = os.fork()
    if not pid:
        follow(f"CHILD{number}")
        client.close()
        sys.exit(0)
    pids.append(pid)
follow("PARENT")
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
follow("AFTER")
syncer = client._thread.syncer
assert syncer.leads
assert syncer.failures == 0, syncer.failures
client.close()
print("well")
"""


def test_an_application_that_forks_follows_without_a_break(
    server: ServerThread, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Children read, write and end; the parent's feed goes on on the same connection."""
    command = [sys.executable, "-c", FORKING, server.target, nats_server.url, str(tmp_path / "replica")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert done.stdout == "well\n", done.stderr
    assert done.returncode == 0


def test_a_database_that_was_restored_takes_the_replica_along(
    server: ServerThread, config: Config, nats_server: NatsServer, tmp_path: Path
) -> None:
    """What was undone is nowhere: the relay begins its stream anew, and the replica loads what the server has now."""
    with following(server, nats_server, tmp_path) as client:
        coin(client, "KEPT")
        undone = coin(client, "UNDONE")
        assert client.asset(undone.asset_id) == undone
        position = client.position
        with psycopg.connect(config.database) as database:  # as a backup of the moment before leaves it
            database.execute("DELETE FROM assets WHERE asset_id = %s", [undone.asset_id])
            database.execute("DELETE FROM changes WHERE position = %s", [position])
            database.execute("DELETE FROM batches WHERE position = %s", [position])
            database.execute(
                "UPDATE clock SET position = b.position, chain = b.chain FROM batches AS b WHERE b.position = %s",
                [position - 1],
            )
        eventually(lambda: client.position == position - 1 and client.status().state == State.FRESH, within=25)
        assert client.resolve("KEPT").source == "replica"
        assert client.check_tradable(undone.asset_id).decision == "UNKNOWN"
        client.registry.create_chain(Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1))
        eventually(client.list_chains)
