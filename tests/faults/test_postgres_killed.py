"""PostgreSQL killed, cut off and held up in the middle of writes: nothing acknowledged is lost, nothing is done twice.

`FAULT_ROUNDS` says how often it is killed (default 5); `make faults` does it 50 times.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psycopg
import pytest

from cqar.server.postgres import EmbeddedPostgres
from cqar.v1 import replication_pb2
from cqar.v1.replication_pb2_grpc import ReplicationStub
from tests.caching import until
from tests.faults.load import WRITERS, Failure, check, load_on
from tests.faults.process import PATIENCE, ServerProcess, server_process

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "5"))
RECOVERY = 10.0  # seconds until a server has found its database again; it takes less than one where nothing else runs
WORK = 40  # acknowledged writes between two faults
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cqar' AND state LIKE %s"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + 20 * ROUNDS)]


@pytest.fixture
def postgres_of_its_own(open_folder: Path) -> Iterator[EmbeddedPostgres]:
    """Yield a PostgreSQL that may be killed, with its data safe on disk."""
    with EmbeddedPostgres(open_folder / "pg", fsync=True) as server:
        yield server


@pytest.fixture
def server(postgres_of_its_own: EmbeddedPostgres, open_folder: Path) -> Iterator[ServerProcess]:
    """Yield a server that has the database by its URL."""
    flags = ("--database", postgres_of_its_own.url, "--data-dir", str(open_folder / "server"))
    with server_process(open_folder / "server.log", *flags, "--snapshot-interval", "1") as process:
        yield process
        assert process.runs
        assert "internal error" not in process.log


def kill(folder: Path) -> None:
    """Kill every process of a PostgreSQL at once, the way a machine that fails does."""
    postmaster = int((folder / "cluster" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (postmaster, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_postgres_loses_no_acknowledged_write(
    postgres_of_its_own: EmbeddedPostgres, server: ServerProcess, open_folder: Path
) -> None:
    """Killed in the middle of writes, again and again: callers get UNAVAILABLE, and then everything is as they were told."""
    with load_on(server.wait_for_target()) as load:
        for round_ in range(ROUNDS):
            load.wait_for_writes(WORK + round_ % 7)
            kill(open_folder / "pg")
            load.wait_for_outage()
            postgres_of_its_own.stop()  # forgets the dead one
            postgres_of_its_own.start()
            begun = time.monotonic()
            load.wait_for_writes(1)
            assert time.monotonic() - begun < RECOVERY
        load.wait_for_writes(WORK)
        load.stop()
        check(load, postgres_of_its_own.url)
        assert {failure.code for failure in load.failures} == {grpc.StatusCode.UNAVAILABLE}


def cut(connection: psycopg.Connection, states: str = "%") -> int:
    """Cut the server's connections to the database that are in such a state; give how many there were."""
    found = connection.execute(CUT, (states,))
    return len(found.fetchall())


def test_storms_of_cut_connections_lose_no_acknowledged_write(
    postgres_of_its_own: EmbeddedPostgres, server: ServerProcess
) -> None:
    """Whatever a connection was doing when it was cut, the callers are told the truth."""
    with (
        load_on(server.wait_for_target()) as load,
        psycopg.connect(postgres_of_its_own.url, autocommit=True) as connection,
    ):
        for _ in range(4 * ROUNDS):
            load.wait_for_writes(5)
            assert cut(connection)
        load.wait_for_writes(WORK)
        load.stop()
        check(load, postgres_of_its_own.url)
        assert {failure.code for failure in load.failures} == {grpc.StatusCode.UNAVAILABLE}


def test_a_clock_that_is_held_up_loses_no_write(postgres_of_its_own: EmbeddedPostgres, server: ServerProcess) -> None:
    """Writers that cannot have the clock's row wait, and are told TIMEOUT in the end; reads and the server go on."""
    with load_on(server.wait_for_target()) as load, psycopg.connect(postgres_of_its_own.url) as blocking:
        load.wait_for_writes(WORK)
        blocking.execute("SELECT * FROM clock FOR UPDATE")
        begun = time.monotonic()
        load.wait_until(lambda: load.failures.total() >= WRITERS, "every writer is told")
        assert time.monotonic() - begun > 4  # they were patient
        blocking.rollback()
        load.wait_for_writes(WORK)
        load.stop()
        check(load, postgres_of_its_own.url)
        assert set(load.failures) == {Failure(grpc.StatusCode.UNAVAILABLE, "TIMEOUT")}
        assert load.unread == 0


def test_idle_connections_that_were_cut_are_not_noticed(
    postgres_of_its_own: EmbeddedPostgres, server: ServerProcess
) -> None:
    """A firewall or an administrator cuts connections at rest: the next call gets a new one and no error."""
    with (
        grpc.insecure_channel(server.wait_for_target()) as channel,
        psycopg.connect(postgres_of_its_own.url, autocommit=True) as connection,
    ):
        replication = ReplicationStub(channel)  # type: ignore[no-untyped-call]
        for _ in range(4 * ROUNDS):
            replication.GetHead(replication_pb2.GetHeadRequest(), timeout=PATIENCE)
            # a connection may still be on its way back to rest when its reply is here
            until(lambda: cut(connection, "idle"), "there is a connection at rest")
        replication.GetHead(replication_pb2.GetHeadRequest(), timeout=PATIENCE)
