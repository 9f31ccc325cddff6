"""A migrated database for each test, copied from one that is migrated once for the session; and a server on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from cqar.server.config import Config
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.server import ServerThread, running_server
from cqar.server.store import Store


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """Give the name of a migrated database to copy."""
    name = f"cqar_template_{uuid.uuid4().hex[:8]}"  # folders of tests that share these fixtures have one each
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None:
            return name  # the attacks have this fixture, too, for the same session
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    store = Store(postgres.url_for(name))
    store.migrate()
    store.close()
    return name


@pytest.fixture
def migrated_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """Yield the address of a fresh migrated database, with a log of its own."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        copy = SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(copy.format(Identifier(name), Identifier(migrated_template)))
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute("UPDATE clock SET log_id = gen_random_uuid()")
    yield postgres.url_for(name)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    """Yield a store on a fresh migrated database."""
    store = Store(migrated_url)
    yield store
    store.close()


@pytest.fixture
def config(migrated_url: str, tmp_path: Path) -> Config:
    """A server on a fresh database, which tells its followers often that they are level with it."""
    return Config(
        listen="127.0.0.1:0", database=migrated_url, data_dir=tmp_path, snapshot_interval=0, heartbeat_interval=0.1
    )


@pytest.fixture
def server(config: Config) -> Iterator[ServerThread]:
    """A running server."""
    with running_server(config) as running:
        yield running
