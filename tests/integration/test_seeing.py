"""What a running server shows: metrics, health over HTTP, request ids and log lines; and what it never shows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cqar import wire
from cqar.errors import PreconditionError
from cqar.model import Chain
from cqar.server import export, logs
from cqar.server.config import Config
from cqar.server.metrics import Metrics
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.registry import Registry
from cqar.server.server import ServerThread, running_server
from cqar.server.status import Status
from cqar.server.web import Web
from cqar.v1 import registry_pb2, replication_pb2
from cqar.v1.registry_pb2_grpc import AssetRegistryStub
from cqar.v1.replication_pb2_grpc import ReplicationStub
from cqar.wire import REQUEST_ID

PATIENCE = 20.0
REGISTRY = "cqar.v1.AssetRegistry"
NOBODY = "00000000-0000-4000-8000-000000000000"


class Seen:
    """A running server, a channel to it, and what it shows."""

    def __init__(self, server: ServerThread, channel: grpc.Channel) -> None:
        self.server = server
        self.channel = channel
        self.stub: Any = AssetRegistryStub(channel)  # type: ignore[no-untyped-call]
        self.replication: Any = ReplicationStub(channel)  # type: ignore[no-untyped-call]

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        """Ask over HTTP."""
        connection = HTTPConnection(self.server.server.http_target, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return reply, reply.read()
        finally:
            connection.close()

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Scrape and parse; gives values by name and labels."""
        reply, body = self.get("/metrics")
        assert reply.status == 200
        families = text_string_to_metric_families(body.decode())
        return {(each.name, frozenset(each.labels.items())): each.value for one in families for each in one.samples}

    def value(self, name: str, **labels: str) -> float:
        """Scrape one value; 0 if it is not there."""
        return self.metrics().get((name, frozenset(labels.items())), 0.0)

    def calls(self, method: str, code: str, service: str = REGISTRY) -> float:
        """Give how often a method ended with a code."""
        return self.value("cqar_calls_total", service=service, method=method, code=code)

    def ready(self) -> tuple[int, Any]:
        """Ask whether it is ready."""
        reply, body = self.get("/health/ready")
        return reply.status, json.loads(body)

    def wait_until_ready_is(self, status: int) -> Any:
        """Ask until the answer has the status; gives the report."""
        deadline = time.monotonic() + PATIENCE
        while (answer := self.ready())[0] != status:
            assert time.monotonic() < deadline, answer
        return answer[1]


@contextmanager
def seen(url: str, folder: Path, **settings: Any) -> Iterator[Seen]:
    """Run a server that shows itself."""
    config = Config(
        **{
            "listen": "127.0.0.1:0",
            "http_listen": "127.0.0.1:0",
            "database": url,
            "data_dir": folder,
            "snapshot_interval": 0,
            "poll_interval": 0.05,
            "workers": 4,
            **settings,
        }
    )
    with running_server(config) as server, grpc.insecure_channel(server.target) as channel:
        yield Seen(server, channel)


@pytest.fixture
def server(migrated_url: str, open_folder: Path) -> Iterator[Seen]:
    """Yield a server on a fresh database."""
    with seen(migrated_url, open_folder) as running:
        yield running


def create_chain(server: Seen, name: str, **options: Any) -> Any:
    """Create a chain; gives the call."""
    chain = wire.record_to_wire(Chain(chain_id=name, name=name.title(), namespace="eip155"))
    return server.stub.CreateChain.with_call(registry_pb2.CreateChainRequest(chain=chain), timeout=PATIENCE, **options)


def refused(call: Any, *arguments: Any, **options: Any) -> Any:
    """Make a call that fails; gives its error."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=PATIENCE, **options)
    return caught.value


# --- metrics -------------------------------------------------------------------------------------------------------------


def test_counts_equal_the_calls_made_by_method_and_code(server: Seen) -> None:
    """Each call is counted once, with the status that its caller got, whoever decided on it; durations count as many."""
    create_chain(server, "ethereum")
    create_chain(server, "base")
    missing = registry_pb2.GetAssetRequest(asset_id=NOBODY)
    for _ in range(3):
        assert refused(server.stub.GetAsset, missing).code() is grpc.StatusCode.NOT_FOUND
    assert (
        refused(server.stub.CreateChain, registry_pb2.CreateChainRequest()).code() is grpc.StatusCode.INVALID_ARGUMENT
    )
    raw: Any = server.channel.unary_unary(f"/{REGISTRY}/GetAsset")
    assert refused(raw, b"\xff\xff").code() is grpc.StatusCode.INVALID_ARGUMENT
    with mock.patch.object(Registry, "get_assets", side_effect=ZeroDivisionError):
        assert refused(server.stub.GetAsset, missing).code() is grpc.StatusCode.INTERNAL
    counted = {
        (dict(labels)["method"], dict(labels)["code"]): value
        for (name, labels), value in server.metrics().items()
        if name == "cqar_calls_total"
    }
    assert counted == {
        ("CreateChain", "OK"): 2,
        ("CreateChain", "INVALID_ARGUMENT"): 1,
        ("GetAsset", "NOT_FOUND"): 3,
        ("GetAsset", "INVALID_ARGUMENT"): 1,
        ("GetAsset", "INTERNAL"): 1,
    }
    assert server.value("cqar_call_duration_seconds_count", service=REGISTRY, method="GetAsset") == 5
    assert server.value("cqar_calls_received_total") == 8
    assert server.value("cqar_calls_in_progress", service=REGISTRY, method="GetAsset") == 0


def test_names_of_methods_that_there_are_not_make_no_series(server: Seen) -> None:
    """Whatever a caller invents is counted under one label: memory and the scrape do not grow."""
    create_chain(server, "ethereum")
    before = len(server.metrics())
    for number in range(50):
        call: Any = server.channel.unary_unary(f"/invented{number}/Method{number}")
        assert refused(call, b"").code() is grpc.StatusCode.UNIMPLEMENTED
        call = server.channel.unary_unary(f"/{REGISTRY}/Invented{number}")
        assert refused(call, b"").code() is grpc.StatusCode.UNIMPLEMENTED
    assert server.calls("unknown", "UNIMPLEMENTED", service="unknown") == 100
    assert len(server.metrics()) <= before + 2  # the series and when it was made


def test_a_call_that_its_caller_gave_up_is_counted_as_such(server: Seen, migrated_url: str) -> None:
    """A call past its deadline is not a success of the server, although its handler ended well."""
    with psycopg.connect(migrated_url) as blocking:
        blocking.execute("SELECT * FROM clock FOR UPDATE")
        with pytest.raises(grpc.RpcError) as caught:
            create_chain_within(server, "ethereum", 0.3)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert server.value("cqar_calls_in_progress", service=REGISTRY, method="CreateChain") == 1
    wait_for(lambda: server.calls("CreateChain", "DEADLINE_EXCEEDED") == 1)
    assert server.calls("CreateChain", "OK") == 0


def create_chain_within(server: Seen, name: str, seconds: float) -> None:
    """Create a chain with a deadline."""
    chain = wire.record_to_wire(Chain(chain_id=name, name=name.title(), namespace="eip155"))
    server.stub.CreateChain(registry_pb2.CreateChainRequest(chain=chain), timeout=seconds)


def wait_for(truth: Any) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not truth():
        assert time.monotonic() < deadline


def test_feeds_are_counted_while_they_are_open(server: Seen) -> None:
    """An open feed is in progress; when its caller leaves it is CANCELLED, and has no duration."""
    head = server.replication.GetHead(replication_pb2.GetHeadRequest(), timeout=PATIENCE).head
    watching = server.replication.WatchChanges(replication_pb2.WatchChangesRequest(after=head), timeout=PATIENCE)
    next(watching)
    assert server.value("cqar_feed_streams") == 1
    assert server.value("cqar_calls_in_progress", service="cqar.v1.Replication", method="WatchChanges") == 1
    watching.cancel()
    wait_for(lambda: server.calls("WatchChanges", "CANCELLED", service="cqar.v1.Replication") == 1)
    shown = server.metrics()
    assert shown["cqar_feed_streams", frozenset()] == 0
    assert not [
        key for key in shown if key[0].startswith("cqar_call_duration") and ("method", "WatchChanges") in key[1]
    ]


def test_the_parts_of_the_server_show_their_figures(migrated_url: str, open_folder: Path) -> None:
    """Position, lag, pool, snapshots, build and process are there, with what they are known to be."""
    with seen(migrated_url, open_folder, snapshot_interval=0.05) as server:
        position = create_chain(server, "ethereum")[0].position
        wait_for(lambda: server.value("cqar_snapshot_position") == position)
        wait_for(lambda: server.value("cqar_feed_position") == position)
        shown = {name: value for (name, labels), value in server.metrics().items() if not labels}
        build = [dict(labels) for name, labels in server.metrics() if name == "cqar_build_info"]
    assert shown["cqar_feed_lag_batches"] == 0
    assert 0 <= shown["cqar_feed_read_age_seconds"] < PATIENCE
    assert shown["cqar_database_connections_max"] > 4
    assert shown["cqar_database_connection_timeouts_total"] == 0
    assert shown["cqar_snapshot_exports_total"] >= 1
    assert shown["cqar_snapshot_failures_total"] == 0
    assert 0 <= shown["cqar_snapshot_age_seconds"] < PATIENCE
    assert shown["cqar_ready"] == 1
    assert shown["cqar_calls_waiting"] == 0
    assert shown["process_resident_memory_bytes"] > 1e6
    assert build[0].keys() == {"version", "python", "grpc"}


def test_calls_that_wait_for_a_thread_are_seen(migrated_url: str, open_folder: Path) -> None:
    """With one thread and two blocked writes, one is in progress and one waits; its wait counts into its duration."""
    with seen(migrated_url, open_folder, workers=1) as server, psycopg.connect(migrated_url) as blocking:
        blocking.execute("SELECT * FROM clock FOR UPDATE")
        requests = [Chain(chain_id=name, name=name, namespace="eip155") for name in ("one", "two")]
        calls = [
            server.stub.CreateChain.future(
                registry_pb2.CreateChainRequest(chain=wire.record_to_wire(chain)), timeout=PATIENCE
            )
            for chain in requests
        ]
        wait_for(lambda: server.value("cqar_calls_waiting") == 1)
        assert server.value("cqar_calls_in_progress", service=REGISTRY, method="CreateChain") == 1
        blocking.rollback()
        assert sorted(call.result().position for call in calls) == [1, 2]


def test_two_servers_in_a_process_count_for_themselves(migrated_url: str, open_folder: Path) -> None:
    """Nothing is global: what one server answers is not among the figures of the other."""
    with seen(migrated_url, open_folder) as one, seen(migrated_url, open_folder) as other:
        create_chain(one, "ethereum")
        assert (one.calls("CreateChain", "OK"), other.calls("CreateChain", "OK")) == (1, 0)


def test_a_redis_that_is_away_is_told_and_the_server_is_ready(migrated_url: str, open_folder: Path) -> None:
    """Look-ups are counted by what became of them; health names the cache, and sends nobody away for it."""
    with seen(migrated_url, open_folder, redis="redis://127.0.0.1:1/0") as server:
        refused(server.stub.GetAsset, registry_pb2.GetAssetRequest(asset_id=NOBODY))
        assert server.value("cqar_cache_requests_total", outcome="skipped") == 1
        status, report = server.ready()
    assert status == 200
    assert report["components"]["cache"] == {"status": "degraded", "reason": "Redis does not answer"}


# --- health over HTTP ----------------------------------------------------------------------------------------------------


def test_every_page_answers_and_nothing_else(server: Seen) -> None:
    """The pages answer GET and HEAD; another path is 404, another method 405 with what is allowed."""
    for path in ("/", "/metrics", "/health/live", "/health/ready", "/health/live?verbose"):
        reply, body = server.get(path)
        assert (reply.status, bool(body)) == (200, True)
        reply, body = server.get(path, "HEAD")
        assert (reply.status, body) == (200, b"")
        assert int(reply.headers["Content-Length"]) > 0
    assert server.get("/metrics/x")[0].status == 404
    assert server.get("/%2e%2e/etc/passwd")[0].status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        reply, _ = server.get("/metrics", method)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
    open_metrics, body = server.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET http://elsewhere/metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"\xff\xfe /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"y" * 20_000, b"431"),
    ],
)
def test_what_is_no_small_request_is_refused(server: Seen, sent: bytes, status: bytes) -> None:
    """Nonsense and floods get a status, and the listener goes on."""
    host, _, port = server.server.server.http_target.partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        assert connection.recv(100).split()[1] == status
    assert server.get("/health/live")[0].status == 200


def test_a_client_that_says_nothing_is_hung_up_on() -> None:
    """A connection without a request ends in time, and so does one that does not read its answer to the end."""

    async def converse() -> bytes:
        web = Web(Metrics(), Status(), seconds=0.05)
        port = await web.start("127.0.0.1:0")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health/live HTTP/1.1\r\n")  # and no end
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()
            await web.stop()

    assert asyncio.run(converse()) == b""


def test_a_crowd_of_silent_clients_does_not_take_all_there_is(server: Seen) -> None:
    """Connections are bounded: a new one takes the place of the oldest silent one, and the calls are not touched."""
    host, _, port = server.server.server.http_target.partition(":")
    crowd = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(80)]
    try:
        with contextlib.suppress(ConnectionResetError):
            assert crowd[0].recv(100) == b""
        assert server.get("/health/live")[0].status == 200
        assert create_chain(server, "ethereum")[0].position == 1
    finally:
        for one in crowd:
            one.close()
    wait_for(lambda: server.get("/health/live")[0].status == 200)


def test_a_taken_http_port_is_one_clear_error(server: Seen, migrated_url: str, open_folder: Path) -> None:
    """The error names the address and the setting, and nothing of the half-started server stays."""
    address = server.server.server.http_target
    with (
        pytest.raises(PreconditionError, match=f"{address} for HTTP.*--http-listen"),
        seen(migrated_url, open_folder, http_listen=address),
    ):
        pass


def test_ready_follows_the_database(open_folder: Path) -> None:
    """With PostgreSQL stopped the answer is 503 with the component and the reason; 200 again when it is back."""
    with (
        EmbeddedPostgres(open_folder / "database", fsync=False) as database,
        seen(database.url, open_folder / "data", heartbeat_interval=0.2) as server,
    ):
        status, report = server.ready()
        assert (status, report["ready"], report["state"]) == (200, True, "serving")
        assert {name: part["status"] for name, part in report["components"].items()} == {
            "database": "ok",
            "feed": "ok",
            "exporter": "off",
            "cache": "off",
            "files": "ok",
        }
        os.kill(int((open_folder / "database/cluster/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        report = server.wait_until_ready_is(503)
        assert report["components"]["database"] == {"status": "down", "reason": "the database cannot be reached"}
        assert server.value("cqar_ready") == 0
        assert server.get("/health/live")[0].status == 200

        def back() -> bool:
            database.start()  # the first may come before the end is noticed, and do nothing
            return server.ready()[0] == 200

        wait_for(back)
        assert server.ready()[1]["components"]["database"] == {"status": "ok"}


def test_an_exporter_in_trouble_is_told_and_takes_no_server_out(migrated_url: str, open_folder: Path) -> None:
    """A snapshot that cannot be published is degraded, counted and 200: calls are answered all the same."""
    with (
        mock.patch.object(export, "_export", side_effect=OSError("disk full")),
        seen(migrated_url, open_folder, snapshot_interval=0.05) as server,
    ):
        wait_for(lambda: server.value("cqar_snapshot_failures_total") > 0)
        status, report = server.ready()
        assert (status, report["components"]["exporter"]["status"]) == (200, "degraded")
        assert "OSError" in report["components"]["exporter"]["reason"]


# --- request ids and the log -----------------------------------------------------------------------------------------------


def request_id(metadata: Any) -> str:
    """Give the request id that came back, exactly one."""
    (found,) = [value for name, value in metadata if name == REQUEST_ID]
    return str(found)


def test_the_request_id_comes_back_with_replies_and_errors(server: Seen) -> None:
    """The caller's id is kept, a made one is told, one that could do harm is replaced; errors carry it beside their details."""
    _, call = create_chain(server, "ethereum", metadata=((REQUEST_ID, "order-7"),))
    assert request_id(call.trailing_metadata()) == "order-7"
    made = [request_id(create_chain(server, name)[1].trailing_metadata()) for name in ("base", "optimism")]
    assert len({*made, ""}) == 3
    for harmful in ("two words", "x" * 129, 'a"b', ""):
        assert (
            request_id(
                create_chain(server, f"c{len(harmful)}", metadata=((REQUEST_ID, harmful),))[1].trailing_metadata()
            )
            != harmful
        )
    error = refused(
        server.stub.GetAsset, registry_pb2.GetAssetRequest(asset_id=NOBODY), metadata=((REQUEST_ID, "a/b:1"),)
    )
    assert request_id(error.trailing_metadata()) == "a/b:1"
    assert wire.DETAILS in dict(error.trailing_metadata())


@pytest.fixture(params=["text", "json"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield each form of the log, which pytest's own set-up is put back after."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield str(request.param)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_lines_within_a_call_tell_which_and_no_secret(
    migrated_url: str, open_folder: Path, capsys: pytest.CaptureFixture[str], form: Any
) -> None:
    """At DEBUG, a failing call with a token, on a database with a password: lines name the call, and hold no secret."""
    logs.set_up("DEBUG", form)
    url = migrated_url.replace("postgres@", "postgres:s3cret-password@")
    metadata = ((REQUEST_ID, "order-8"), ("authorization", "Bearer s3cret-token"), ("cqar-actor", "alice"))
    with seen(url, open_folder, snapshot_interval=0.05) as server:
        assert "s3cret-password" in server.server.server._config.database
        with mock.patch.object(Registry, "get_assets", side_effect=ZeroDivisionError("s3cret-less")):
            refused(server.stub.GetAsset, registry_pb2.GetAssetRequest(asset_id=NOBODY), metadata=metadata)
        create_chain(server, "ethereum", metadata=metadata)
        server.get("/metrics", Authorization="Bearer s3cret-http")
    lines = capsys.readouterr().err.splitlines()
    assert not [line for line in lines if "s3cret-" in line and "s3cret-less" not in line]
    ours = [line for line in lines if "order-8" in line]
    assert len(ours) == 3
    failed, *ended = ours
    assert "internal error" in failed
    if form == "json":
        assert json.loads(failed)["error"].endswith("ZeroDivisionError: s3cret-less")
        told = [json.loads(line) for line in ended]
        assert [(each["method"], each["code"]) for each in told] == [("GetAsset", "INTERNAL"), ("CreateChain", "OK")]
        assert {(each["level"], each["actor"], each["request_id"]) for each in told} == {("DEBUG", "alice", "order-8")}
        assert all(0 < each["seconds"] < PATIENCE for each in told)
    else:
        assert "method=GetAsset actor=alice code=INTERNAL seconds=" in ended[0]
    outside = [line for line in lines if "serving on" in line]
    assert len(outside) == 1
    assert "request_id" not in outside[0]


def test_a_slow_call_is_worth_a_warning(migrated_url: str, open_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A call of more than a second is in the log of production; a fast one is not."""
    with seen(migrated_url, open_folder) as server, psycopg.connect(migrated_url) as blocking:
        create_chain(server, "base")
        blocking.execute("SELECT * FROM clock FOR UPDATE")
        writing = server.stub.CreateChain.future(
            registry_pb2.CreateChainRequest(
                chain=wire.record_to_wire(Chain(chain_id="slow", name="Slow", namespace="eip155"))
            ),
            timeout=PATIENCE,
        )
        wait_for(lambda: server.value("cqar_calls_in_progress", service=REGISTRY, method="CreateChain") == 1)
        with pytest.raises(grpc.FutureTimeoutError):
            writing.result(timeout=1.1)
        blocking.rollback()
        writing.result(timeout=PATIENCE)
    slow = [record for record in caplog.records if record.name == "cqar.server.observe"]
    assert [(record.levelname, record.getMessage()) for record in slow] == [("WARNING", "slow call")]


@pytest.mark.parametrize("value", ["plain", "two words", "a=b", 'quo"te', "line\nbreak", ""])
def test_a_value_in_a_text_line_can_be_told_from_the_next(value: str) -> None:
    """No value can end its field, or the line."""
    record = logging.LogRecord("x", logging.INFO, "", 0, "said", None, None)
    record.fields = {"first": value, "second": "2"}
    line = logs._Text().format(record)
    assert line.endswith(" second=2")
    assert "\n" not in line
    told = line.partition(" first=")[2].removesuffix(" second=2")
    assert (json.loads(told) if told.startswith('"') else told) == value


def test_a_thread_that_is_used_again_has_forgotten_the_call_before(migrated_url: str, open_folder: Path) -> None:
    """With one thread for all calls, each sees its own note, and a call that names no actor has none of the one before."""
    found: list[tuple[str, str]] = []

    def note(*_: object, **_named: object) -> None:
        call = logs.CALL.get()
        assert call is not None
        found.append((call.request_id, call.actor))
        raise ZeroDivisionError

    with (
        seen(migrated_url, open_folder, workers=1) as server,
        mock.patch.object(Registry, "get_assets", side_effect=note),
    ):
        request = registry_pb2.GetAssetRequest(asset_id=NOBODY)
        refused(server.stub.GetAsset, request, metadata=((REQUEST_ID, "one"), ("cqar-actor", "alice")))
        refused(server.stub.GetAsset, request, metadata=((REQUEST_ID, "two"),))
    assert found[0] == ("one", "alice")
    assert found[1][0] == "two"
    assert found[1][1] != "alice"
