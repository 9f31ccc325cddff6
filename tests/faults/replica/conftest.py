"""A server for all of these tests, in a process of its own, with its whole history followed by `Truth`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from cqar.server.postgres import EmbeddedPostgres
from tests.conftest import temporary_folder
from tests.faults.process import ServerProcess, server_process
from tests.faults.replica.host import Truth
from tests.faults.replica.writer import Writer


@pytest.fixture(scope="package")
def server(postgres: EmbeddedPostgres) -> Iterator[ServerProcess]:
    """Yield a server that makes a snapshot every second."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier("replica_faults")))
    with temporary_folder() as folder:
        flags = ("--database", postgres.url_for("replica_faults"), "--data-dir", str(folder))
        fast = ("--snapshot-interval", "1", "--heartbeat-interval", "0.5")
        with server_process(folder / "server.log", *flags, *fast) as process:
            process.wait_for_target()
            yield process
            assert "internal error" not in process.log


@pytest.fixture(scope="package")
def target(server: ServerProcess) -> str:
    """Give where it serves."""
    return server.wait_for_target()


@pytest.fixture(scope="package")
def truth(target: str) -> Iterator[Truth]:
    """Yield its whole history."""
    followed = Truth(target)
    yield followed
    followed.close()


@pytest.fixture(scope="package")
def writer(target: str) -> Iterator[Writer]:
    """Yield who writes to it, at rest."""
    made = Writer(target)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder of a host."""
    return tmp_path / "host"
