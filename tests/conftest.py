"""What every kind of test may use: a real PostgreSQL, one for the session, and a fresh database on it for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cqar.server.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from tests.brokers import Broker, NatsServer
    from tests.caching import RedisServer


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that every account can reach: pytest's own are closed to the one that PostgreSQL runs under.

    It is in memory if there is enough of it: a database has 300 files, and a disk takes ten times as long to make them.
    """
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**31
    folder = Path(tempfile.mkdtemp(prefix="cqar-test-", dir=memory if roomy else "/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a temporary folder that every account can reach."""
    with temporary_folder() as folder:
        yield folder


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Run a Redis, empty and of its own."""
    from tests.caching import RedisServer

    with temporary_folder() as folder:
        server = RedisServer(folder)
        server.start()
        yield server
        server.kill()


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """Run a NATS with JetStream, empty and of its own."""
    from tests.brokers import NatsServer

    with temporary_folder() as folder:
        server = NatsServer(folder)
        server.start()
        yield server
        server.kill()


@pytest.fixture(params=["nats", "redis"])
def broker_server(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """Run a broker of each kind."""
    from tests.brokers import NatsServer, RedisBroker

    with temporary_folder() as folder:
        server: Broker = NatsServer(folder) if request.param == "nats" else RedisBroker(folder)
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Run one PostgreSQL for the whole session."""
    with temporary_folder() as folder, EmbeddedPostgres(folder, fsync=False) as server:
        yield server


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Yield the address of a new, empty database, which is dropped afterwards, connections or not."""
    import psycopg  # not needed by the tests of a client-only installation
    from psycopg.sql import SQL, Identifier

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} STRATEGY file_copy").format(Identifier(name)))
    yield postgres.url_for(name)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
