"""`cqar doctor` on real servers, databases and folders: what is well is told, and what is not, with what to do."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from typer.testing import CliRunner

from cqar import snapshot, wire
from cqar.cli import app
from cqar.errors import CqarError, PermissionDeniedError, UnauthenticatedError
from cqar.model import FeedToken
from cqar.server.config import Config
from cqar.server.export import export_snapshot
from cqar.server.server import running_server
from cqar.server.store import Store
from cqar.v1 import replication_pb2, replication_pb2_grpc

Doctor = Callable[..., tuple[int, dict[str, dict[str, str]]]]


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Give a function that runs `cqar doctor --json`; it gives the exit code and the findings by their check."""
    for name in [name for name in os.environ if name.startswith("CQAR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CQAR_REPLICA_DIR", str(tmp_path / "replica"))
    monkeypatch.setenv("CQAR_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
        result = CliRunner().invoke(app, ["doctor", "--json", *arguments])
        document = json.loads(result.stdout)
        assert document["ok"] is (result.exit_code == 0)
        return result.exit_code, {finding["check"]: finding for finding in document["findings"]}

    return run


def test_all_is_well_with_a_server_and_all_that_it_has(doctor: Doctor, migrated_url: str, open_folder: Path) -> None:
    """Server, version, clock, replica, health, database and snapshots are each an ok line; the exit code is 0."""
    store = Store(migrated_url)
    export_snapshot(store, open_folder / "snapshots")
    store.close()
    config = Config(
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        database=migrated_url,
        data_dir=open_folder,
        snapshot_interval=0,
    )
    with running_server(config) as server:
        flags = ("--target", server.target, "--http", server.server.http_target)
        code, found = doctor(*flags, "--database", migrated_url, "--snapshots", str(open_folder / "snapshots"))
    assert code == 0, found
    named = {"server", "server version", "server clock", "replica", "health", "health: database", "health: feed"}
    named |= {"health: exporter", "health: cache", "database", "snapshots", "newest snapshot"}
    assert {found[check]["level"] for check in named} == {"ok"}
    assert version("cqar") in found["server version"]["found"]
    assert "schema" in found["database"]["found"]


@contextmanager
def head_of(answer: Callable[[], Any]) -> Iterator[str]:
    """Run a server that has GetHead alone; yields its address."""

    class Service(replication_pb2_grpc.ReplicationServicer):
        def GetHead(self, _request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the contract's
            try:
                return answer()
            except CqarError as error:
                code, message, trailing = wire.error_to_status(error)
                context.set_trailing_metadata(trailing)
                context.abort(code, message)

    server = grpc.server(ThreadPoolExecutor(2))
    replication_pb2_grpc.add_ReplicationServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def told(ahead: float = 0.0, its_version: str = version("cqar")) -> Any:
    """Give what a server says of its head, by a clock that is ahead."""
    head = wire.token_to_wire(FeedToken(log_id="00000000-0000-4000-8000-000000000001", position=7, chain=bytes(16)))
    now = wire.time_to_wire(datetime.now(UTC) + timedelta(seconds=ahead))
    return replication_pb2.GetHeadResponse(head=head, server_version=its_version, server_time=now)


@pytest.mark.parametrize(
    ("ahead", "level", "text"),
    [(-7.0, "warn", "behind the one here"), (7.0, "warn", "ahead of the one here"), (3600.0, "FAIL", "ahead of")],
)
def test_a_clock_that_is_off_is_told_with_its_direction(doctor: Doctor, ahead: float, level: str, text: str) -> None:
    """Seconds are a warning, an hour a failure; both name NTP."""
    with head_of(lambda: told(ahead)) as target:
        _, found = doctor("--target", target, "--timeout", "1")
    assert found["server clock"]["level"].lower() == level.lower()
    assert text in found["server clock"]["found"]
    assert "NTP" in found["server clock"]["advice"]


@pytest.mark.parametrize("its_version", ["0.0.1", ""])
def test_another_version_is_a_warning(doctor: Doctor, its_version: str) -> None:
    """A server of another version, or so old that it does not tell, is worth a line."""
    with head_of(lambda: told(its_version=its_version)) as target:
        _, found = doctor("--target", target, "--timeout", "1")
    assert found["server version"]["level"] == "warn"


def raising(error: CqarError) -> Callable[[], Any]:
    """Give an answer that is an error."""

    def answer() -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "advice"),
    [(UnauthenticatedError("the token has expired"), "CQAR_TOKEN"), (PermissionDeniedError("no reader"), "READER")],
)
def test_a_refused_token_is_no_outage(doctor: Doctor, error: CqarError, advice: str) -> None:
    """The line says that the server answers, what it said of the token, and how to give another."""
    with head_of(raising(error)) as target:
        code, found = doctor("--target", target)
    assert code == 1
    assert "answers" in found["server"]["found"]
    assert error.message in found["server"]["found"]
    assert advice in found["server"]["advice"]


def test_a_server_that_is_not_ready_fails_by_its_component(doctor: Doctor, open_folder: Path) -> None:
    """Health over HTTP is told part by part; nothing there, or something else, is a failure with advice."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    code, found = doctor("--http", address)
    assert (code, found["health"]["level"]) == (1, "FAIL")
    assert "--http-listen" in found["health"]["advice"]
    with running_server(Config(listen="127.0.0.1:0", data_dir=open_folder, snapshot_interval=0)) as server:
        code, found = doctor("--http", server.target)
    assert (code, found["health"]["level"]) == (1, "FAIL")
    assert "is not the HTTP address" in found["health"]["found"]


def test_a_database_is_checked_for_its_schema(doctor: Doctor, database_url: str, migrated_url: str) -> None:
    """An empty database fails with `cqar migrate`, a newer one with an upgrade, an absent one with its host; no password."""
    code, found = doctor("--database", database_url.replace("postgres@", "postgres:s3cret@"))
    assert (code, found["database"]["level"], found["database"]["advice"][:12]) == (1, "FAIL", "cqar migrate")
    assert "s3cret" not in str(found)
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    code, found = doctor("--database", migrated_url)
    assert code == 1
    assert "9999" in found["database"]["found"]
    code, found = doctor("--database", "postgresql://cqar:s3cret@127.0.0.1:1/registry")
    assert code == 1
    assert "127.0.0.1:1" in found["database"]["found"]
    assert "s3cret" not in str(found)


def test_a_folder_of_snapshots_is_checked_for_its_age(doctor: Doctor, tmp_path: Path) -> None:
    """No folder is a failure, an empty one and an old snapshot are warnings."""
    code, found = doctor("--snapshots", str(tmp_path / "none"))
    assert (code, found["snapshots"]["level"]) == (1, "FAIL")
    empty = tmp_path / "empty"
    empty.mkdir()
    code, found = doctor("--snapshots", str(empty))
    assert (code, found["newest snapshot"]["level"]) == (0, "warn")
    head = FeedToken(log_id="00000000-0000-4000-8000-000000000001", position=3, chain=bytes(16))
    snapshot.write(empty, head, datetime.now(UTC) - timedelta(hours=5), {})
    code, found = doctor("--snapshots", str(empty))
    assert (code, found["newest snapshot"]["level"]) == (0, "warn")
    assert "position 3, 5.0 h old" in found["newest snapshot"]["found"]
