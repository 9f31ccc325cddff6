"""The server as a process: it starts, drains, survives restarts, leaves nothing behind, and says in one line why it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from cqar import wire
from cqar.errors import ConflictError, InvalidError, PreconditionError
from cqar.model import Chain, FeedToken
from cqar.server.config import Config
from cqar.server.server import GRACE, running_server
from cqar.v1 import registry_pb2, replication_pb2
from cqar.v1.registry_pb2_grpc import AssetRegistryStub
from cqar.v1.replication_pb2_grpc import ReplicationStub
from tests.processes import process

PATIENCE = 20.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ("", "cqar.v1.AssetRegistry", "cqar.v1.Replication")


@contextmanager
def channel_to(target: str) -> Iterator[grpc.Channel]:
    """Yield a channel."""
    with grpc.insecure_channel(target) as channel:
        yield channel


def create(channel: grpc.Channel, name: str) -> int:
    """Create a chain; give the position of the write."""
    chain = wire.record_to_wire(Chain(chain_id=name, name=name.title(), namespace="eip155"))
    stub = AssetRegistryStub(channel)  # type: ignore[no-untyped-call]
    reply = stub.CreateChain(registry_pb2.CreateChainRequest(chain=chain), timeout=PATIENCE)
    return int(reply.position)


def head(channel: grpc.Channel) -> FeedToken:
    """Ask for the head."""
    stub = ReplicationStub(channel)  # type: ignore[no-untyped-call]
    reply = stub.GetHead(replication_pb2.GetHeadRequest(), timeout=PATIENCE)
    return wire.token_from_wire(reply.head)


def postmaster_of(folder: Path) -> int:
    """Give the process id of the embedded PostgreSQL."""
    return int((folder / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def wait_for_end_of(pid: int) -> None:
    """Return when there is no such process."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def test_sigterm_drains_and_a_restart_has_the_same_log(open_folder: Path) -> None:
    """A stop exits with 0 and leaves no PostgreSQL; the next start on the folder has every write and the same log."""
    flags = ("--data-dir", str(open_folder))
    with process(*flags) as server:
        with channel_to(server.target) as channel:
            position = create(channel, "ethereum")
            before = head(channel)
        postmaster = postmaster_of(open_folder)
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
        assert server.line_with("no database URL: using the embedded PostgreSQL in").endswith(
            str(open_folder / "postgres")
        )
        assert "stopped" in server.lines[-1]
        wait_for_end_of(postmaster)
    with process(*flags) as server, channel_to(server.target) as channel:
        assert head(channel) == before
        assert before.position == position
        assert create(channel, "bitcoin") == position + 1


def test_kill_9_leaves_no_postgres_and_no_damage(open_folder: Path) -> None:
    """The embedded PostgreSQL dies with its killed server, and every acknowledged write is there after the restart."""
    flags = ("--data-dir", str(open_folder))
    with process(*flags) as server:
        with channel_to(server.target) as channel:
            for number in range(20):
                create(channel, f"chain-{number}")
            before = head(channel)
        postmaster = postmaster_of(open_folder)
        server.signal(signal.SIGKILL)
        assert server.exit_code() == -signal.SIGKILL
        wait_for_end_of(postmaster)
    with process(*flags) as server, channel_to(server.target) as channel:
        assert head(channel) == before


def test_a_write_under_way_finishes_before_the_server_stops(migrated_url: str, open_folder: Path) -> None:
    """SIGTERM during a write lets it commit and answer."""
    with (
        process("--database", migrated_url, "--data-dir", str(open_folder)) as server,
        channel_to(server.target) as channel,
        psycopg.connect(migrated_url) as blocking,
        ThreadPoolExecutor(1) as pool,
    ):
        blocking.execute("SELECT * FROM clock FOR UPDATE")
        writing = pool.submit(create, channel, "ethereum")
        while not waits_for_a_lock(migrated_url):
            assert not writing.done()
        server.signal(signal.SIGTERM)
        server.line_with("stopping")
        blocking.rollback()
        assert writing.result(PATIENCE) == 1
        assert server.exit_code() == 0


def waits_for_a_lock(migrated_url: str) -> bool:
    """Tell whether a connection to the database waits for another."""
    with psycopg.connect(migrated_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return row is not None and row[0] > 0


def test_a_drain_tells_load_balancers_first_and_takes_calls_meanwhile(migrated_url: str, open_folder: Path) -> None:
    """Health says no at once; calls and feeds go on for `drain_seconds`; then feeds are sent away and writes finish."""
    drain = 4
    flags = ("--database", migrated_url, "--data-dir", str(open_folder), "--http-listen", "127.0.0.1:0")
    with (
        process(*flags, f"--drain-seconds={drain}", "--snapshot-interval", "0") as server,
        channel_to(server.target) as channel,
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(migrated_url) as blocking,
    ):
        http = server.line_with("metrics and health on ").partition("http://")[2]
        watching = HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert next(watching).status == SERVING
        assert get(http, "/health/ready") == 200
        feed = ReplicationStub(channel).WatchChanges(  # type: ignore[no-untyped-call]
            replication_pb2.WatchChangesRequest(after=wire.token_to_wire(head(channel))), timeout=PATIENCE
        )
        assert next(feed).heartbeat.head_position == 0
        server.signal(signal.SIGTERM)
        begun = time.monotonic()
        assert next(watching).status == NOT_SERVING
        assert get(http, "/health/ready") == 503
        assert get(http, "/health/live") == 200
        assert create(channel, "ethereum") == 1
        assert next(message for message in feed if message.batches).batches[0].position == 1
        assert time.monotonic() - begun < drain, "the drain was over before the calls were made: too slow a machine"
        blocking.execute("SELECT * FROM clock FOR UPDATE")
        writing = pool.submit(create, channel, "bitcoin")
        while not waits_for_a_lock(migrated_url):
            assert not writing.done()
        with pytest.raises(grpc.RpcError) as caught:
            list(feed)
        status: Any = caught.value
        assert time.monotonic() - begun >= drain
        error = wire.error_from_status(status.code(), status.details(), status.trailing_metadata())
        assert (status.code(), error.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTDOWN")
        blocking.rollback()
        assert writing.result(PATIENCE) == 2
        assert server.exit_code() == 0
        assert time.monotonic() - begun < drain + GRACE


def get(http: str, path: str) -> int:
    """Ask over HTTP; gives the status."""
    connection = HTTPConnection(http, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_second_signal_ends_a_drain_at_once(migrated_url: str, open_folder: Path) -> None:
    """An operator who does not want to wait for the calls under way does not have to."""
    with (
        process("--database", migrated_url, "--data-dir", str(open_folder)) as server,
        channel_to(server.target) as channel,
        psycopg.connect(migrated_url) as blocking,
        ThreadPoolExecutor(1) as pool,
    ):
        blocking.execute("SELECT * FROM clock FOR UPDATE")
        writing = pool.submit(create, channel, "ethereum")
        while not waits_for_a_lock(migrated_url):
            assert not writing.done()
        server.signal(signal.SIGTERM)
        server.line_with("stopping")
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 1
        with pytest.raises(grpc.RpcError):
            writing.result(PATIENCE)


def test_a_watcher_of_the_health_does_not_hold_up_a_stop(migrated_url: str, open_folder: Path) -> None:
    """A drain tells watchers NOT_SERVING and lets them go, instead of waiting for them as for calls."""
    config = Config(listen="127.0.0.1:0", database=migrated_url, data_dir=open_folder, snapshot_interval=0)
    with running_server(config) as server, channel_to(server.target) as channel:
        watching = HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert next(watching).status == SERVING
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < GRACE / 2
        assert [reply.status for reply in watching] == [NOT_SERVING]


def test_a_taken_port_is_one_clear_line(open_folder: Path) -> None:
    """The second server on a port names it and exits with 1, before it touches a database."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with process("--listen", address, "--data-dir", str(open_folder / "new")) as server:
            assert server.exit_code() == 1
            assert [line for line in server.lines if line.startswith("cqar serve: ")] == [server.lines[-1]]
            assert f"cannot listen on {address}" in server.lines[-1]
            assert len(server.lines) == 1
        assert not (open_folder / "new").exists()


def test_two_servers_cannot_share_a_port(migrated_url: str, open_folder: Path) -> None:
    """The kernel does not spread calls over two servers that were started by mistake."""
    config = Config(listen="127.0.0.1:0", database=migrated_url, data_dir=open_folder, snapshot_interval=0)
    with running_server(config) as first:
        second = Config(listen=first.target, database=migrated_url, data_dir=open_folder, snapshot_interval=0)
        with pytest.raises(PreconditionError, match=first.target), running_server(second):
            pass


def test_an_unreachable_database_is_one_clear_line(open_folder: Path) -> None:
    """The line names the host and what to do, not the password; the exit code is 1."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        url = f"postgresql://cqar:s3cret@{host}/registry"
        with process("--database", url, "--data-dir", str(open_folder)) as server:
            assert server.exit_code() == 1
            assert len(server.lines) == 1
            assert server.lines[0].startswith(f"cqar serve: cannot reach the database on {host} (")
            assert "CQAR_DATABASE" in server.lines[0]
            assert "s3cret" not in server.lines[0]


def test_a_data_folder_in_use_is_one_clear_line(open_folder: Path) -> None:
    """A second server on the same embedded database is refused with the process that holds it."""
    with process("--data-dir", str(open_folder)) as first:
        first.line_with("serving on")
        with process("--data-dir", str(open_folder)) as second:
            assert second.exit_code() == 1
            assert f"in use by process {first.popen.pid}" in second.lines[-1]
        with pytest.raises(ConflictError), running_server(Config(listen="127.0.0.1:0", data_dir=open_folder)):
            pass


def test_the_log_is_json_if_asked_for_and_holds_no_password(migrated_url: str, open_folder: Path) -> None:
    """Every line is one JSON object; the database's URL is told without its password."""
    url = migrated_url.replace("postgres@", "postgres:s3cret@")
    with process("--database", url, "--data-dir", str(open_folder), "--log-format", "json") as server:
        server.line_with("serving on")
        server.signal(signal.SIGINT)
        assert server.exit_code() == 0
        lines = [json.loads(line) for line in server.lines]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert any("postgres:***@" in line["message"] for line in lines)
    assert "s3cret" not in str(server.lines)


def wait_for_status(channel: grpc.Channel, service: str, status: Any) -> None:
    """Follow the health of a service until it has the status."""
    for reply in HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE):
        if reply.status == status:
            return


def test_health_names_every_service(migrated_url: str, open_folder: Path) -> None:
    """The server as a whole and each service are SERVING; another name is not known."""
    config = Config(listen="127.0.0.1:0", database=migrated_url, data_dir=open_folder, snapshot_interval=0)
    with running_server(config) as server, channel_to(server.target) as channel:
        stub = HealthStub(channel)
        for name in SERVICES:
            assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE).status == SERVING
        with pytest.raises(grpc.RpcError):
            stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=PATIENCE)


def test_a_killed_embedded_postgres_is_told_and_started_again(open_folder: Path) -> None:
    """Health says NOT_SERVING while the database is gone, then SERVING again with every write in place."""
    config = Config(listen="127.0.0.1:0", data_dir=open_folder, snapshot_interval=0, poll_interval=0.05)
    with running_server(config) as server, channel_to(server.target) as channel:
        create(channel, "ethereum")
        before = head(channel)
        killed = postmaster_of(open_folder)
        os.kill(killed, signal.SIGKILL)
        for name in SERVICES:
            wait_for_status(channel, name, SERVING)
        while (
            head_or_none(channel) is None or postmaster_of(open_folder) == killed
        ):  # its children answer a while longer
            pass
        assert head(channel) == before
        assert create(channel, "bitcoin") == before.position + 1


def head_or_none(channel: grpc.Channel) -> FeedToken | None:
    """Ask for the head; None while the database is away, which is the only permitted error."""
    try:
        return head(channel)
    except grpc.RpcError as error:
        status: Any = error
        assert status.code() is grpc.StatusCode.UNAVAILABLE
        return None


@pytest.mark.parametrize("reflection", [True, False])
def test_reflection_can_be_switched_off(migrated_url: str, open_folder: Path, reflection: bool) -> None:
    """With reflection tools learn the services from the server; without it they learn nothing."""
    config = Config(
        listen="127.0.0.1:0", database=migrated_url, data_dir=open_folder, snapshot_interval=0, reflection=reflection
    )
    with running_server(config) as server, channel_to(server.target) as channel:
        call = ServerReflectionStub(channel).ServerReflectionInfo(
            iter([ServerReflectionRequest(list_services="")]), timeout=PATIENCE
        )
        if reflection:
            listed = {service.name for service in next(call).list_services_response.service}
            assert {*SERVICES[1:], "grpc.health.v1.Health"} <= listed
        else:
            with pytest.raises(grpc.RpcError):
                next(call)


@pytest.mark.parametrize("method", ["GetHead", "WatchChanges", "ListSnapshots", "FetchSnapshot"])
def test_a_malformed_request_is_an_invalid_argument(migrated_url: str, open_folder: Path, method: str) -> None:
    """Bytes that are no message get INVALID_ARGUMENT, not the text of an exception."""
    config = Config(listen="127.0.0.1:0", database=migrated_url, data_dir=open_folder, snapshot_interval=0)
    with running_server(config) as server, channel_to(server.target) as channel:
        call: Any = channel.unary_stream(f"/cqar.v1.Replication/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(b"\xff\xff\xff", timeout=PATIENCE))
        status: Any = caught.value
        error = wire.error_from_status(status.code(), status.details(), status.trailing_metadata())
        assert isinstance(error, InvalidError)
