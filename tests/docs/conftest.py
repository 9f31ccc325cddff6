"""The server that the pages talk to: one for the session, with the catalogue in it, and the environment of a reader."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from cqar import importers
from cqar.client._place import bundled_catalogue
from cqar.client._registry import Registry
from cqar.client._remote import Remote
from cqar.model import Asset, AssetType
from cqar.server.config import Config
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.server import running_server
from tests.brokers import NatsServer, RedisBroker
from tests.caching import until
from tests.conftest import temporary_folder
from tests.objects import KEY, SECRET, ObjectServer


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """Run the NATS that the server publishes to."""
    with temporary_folder() as folder:
        server = NatsServer(folder)
        server.start()
        yield server.url
        server.kill()


@pytest.fixture(scope="session")
def redis_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Run a Redis with an event of another registry."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier("docs_redis")))
    url = postgres.url_for("docs_redis")
    with temporary_folder() as folder:
        server = RedisBroker(folder)
        server.start()
        with running_server(Config(listen="127.0.0.1:0", database=url, data_dir=folder, events=server.url)) as running:
            remote = Remote(running.target, token=None, actor="docs", timeout=20.0)
            Registry(remote).create_asset(Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.STABLECOIN))
            remote.close()
            until(server.events, "the event is published")
        yield server.url
        server.kill()


@pytest.fixture(scope="session")
def database(postgres: EmbeddedPostgres) -> str:
    """Give the address of the server's database."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier("docs")))
    return postgres.url_for("docs")


@pytest.fixture(scope="session")
def target(database: str, nats_url: str) -> Iterator[str]:
    """Run a server with the bundled catalogue, imported as a reader is told to, and give its address."""
    with temporary_folder() as folder:
        config = Config(
            listen="127.0.0.1:0",
            database=database,
            data_dir=folder,
            events=nats_url,
            feed=nats_url,
            heartbeat_interval=0.2,
            workers=8,
        )
        with running_server(config) as server:
            remote = Remote(server.target, token=None, actor="docs", timeout=20.0)
            report = importers.run("snapshot", bundled_catalogue(), Registry(remote))
            remote.close()
            assert report.created
            assert not report.refused
        with running_server(config) as server:  # it publishes a snapshot at its start
            yield server.target


@pytest.fixture(scope="session")
def object_storage() -> Iterator[dict[str, str]]:
    """Run an object storage with the bucket `registry`, and give the variables by which AWS' libraries find it."""
    server = ObjectServer()
    server.client.create_bucket(Bucket="registry")
    yield {
        "AWS_ENDPOINT_URL": f"http://{server.address}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server.stop()


@pytest.fixture
def environment(
    *,
    target: str,
    database: str,
    object_storage: dict[str, str],
    brokers: dict[str, str],
    replica_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """Set what a reader has set, in an empty folder of his own; give the variables."""
    for name in [name for name in os.environ if name.startswith(("CQAR_", "AWS_"))]:
        monkeypatch.delenv(name)
    variables = {
        "CQAR_TARGET": target,
        "CQAR_DATABASE": database,
        "CQAR_REPLICA_DIR": str(replica_dir),
        **object_storage,
        **brokers,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return variables


@pytest.fixture(scope="session")
def brokers(nats_url: str, redis_url: str) -> dict[str, str]:
    """Give the variables that say where events are."""
    return {"CQAR_EVENTS": nats_url, "NATS_URL": nats_url, "REDIS_URL": redis_url}


@pytest.fixture(scope="session")
def replica_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of replicas of all pages: they are readers on one host."""
    return tmp_path_factory.mktemp("docs-replica")
