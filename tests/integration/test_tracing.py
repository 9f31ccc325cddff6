"""Traces, received by a real collector's service: a span for each call, below the caller's, with the database's use below it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from cqar import wire
from cqar.errors import InvalidError
from cqar.model import Chain
from cqar.server.config import Config
from cqar.server.server import running_server
from cqar.v1 import registry_pb2, replication_pb2
from cqar.v1.registry_pb2_grpc import AssetRegistryStub
from cqar.v1.replication_pb2_grpc import ReplicationStub
from tests.processes import process

PATIENCE = 20.0
NOBODY = "00000000-0000-4000-8000-000000000000"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = (("traceparent", f"00-{TRACE}-{CALLER}-01"),)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.target = ""
        self.resources: list[dict[str, str]] = []
        self.metadata: dict[str, Any] = {}
        self._spans: list[Span] = []
        self._news = threading.Condition()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's
        """Receive spans."""
        with self._news:
            self.metadata = dict(context.invocation_metadata())
            for one in request.resource_spans:
                self.resources.append({each.key: each.value.string_value for each in one.resource.attributes})
                self._spans += [span for scope in one.scope_spans for span in scope.spans]
            self._news.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, count: int) -> list[Span]:
        """Wait for so many spans; gives all, oldest first."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._spans) >= count, PATIENCE), self._spans
            return sorted(self._spans, key=lambda span: span.start_time_unix_nano)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Yield a running collector; batches are sent to it ten times a second."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=quant")
    receiving = grpc.server(ThreadPoolExecutor(2))
    service = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, receiving)  # type: ignore[no-untyped-call]
    service.target = f"http://127.0.0.1:{receiving.add_insecure_port('127.0.0.1:0')}"
    receiving.start()
    yield service
    receiving.stop(None).wait()


def settings(url: str, folder: Path, **more: Any) -> Config:
    """Give the settings of a server without an exporter."""
    return Config(listen="127.0.0.1:0", database=url, data_dir=folder, snapshot_interval=0, workers=2, **more)


def attributes(span: Span) -> dict[str, Any]:
    """Give the attributes of a span."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def create_chain(channel: grpc.Channel, **options: Any) -> None:
    """Create a chain."""
    chain = wire.record_to_wire(Chain(chain_id="ethereum", name="Ethereum", namespace="eip155"))
    stub = AssetRegistryStub(channel)  # type: ignore[no-untyped-call]
    stub.CreateChain(registry_pb2.CreateChainRequest(chain=chain), timeout=PATIENCE, **options)


def test_a_call_is_a_span_below_its_callers_with_the_database_below_it(
    collector: Collector, migrated_url: str, open_folder: Path
) -> None:
    """The trace goes on from the caller's `traceparent`; the span is named, attributed and has the call's status."""
    with (
        running_server(settings(migrated_url, open_folder, otlp_endpoint=collector.target)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        create_chain(channel, metadata=TRACEPARENT)
        call, database = collector.spans(2)
    assert call.name == "cqar.v1.AssetRegistry/CreateChain"
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, CALLER)
    assert call.kind == Span.SPAN_KIND_SERVER
    assert attributes(call) == {
        "rpc.system": "grpc",
        "rpc.service": "cqar.v1.AssetRegistry",
        "rpc.method": "CreateChain",
        "rpc.grpc.status_code": 0,
    }
    assert (database.trace_id, database.parent_span_id) == (call.trace_id, call.span_id)
    assert attributes(database) == {"db.system.name": "postgresql"}
    assert call.start_time_unix_nano <= database.start_time_unix_nano
    assert database.end_time_unix_nano <= call.end_time_unix_nano
    assert collector.resources[0]["service.name"] == "cqar"
    assert collector.resources[0]["deployment.environment"] == "test"
    assert collector.metadata["x-tenant"] == "quant"


def test_only_the_servers_faults_are_errors_and_each_call_has_its_own_trace(
    collector: Collector, migrated_url: str, open_folder: Path
) -> None:
    """NOT_FOUND is an answer; a call without a caller's trace begins one; a feed is a span that ends with it."""
    with (
        running_server(settings(migrated_url, open_folder, otlp_endpoint=collector.target)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub: Any = AssetRegistryStub(channel)  # type: ignore[no-untyped-call]
        for _ in range(2):
            with pytest.raises(grpc.RpcError):
                stub.GetAsset(registry_pb2.GetAssetRequest(asset_id=NOBODY), timeout=PATIENCE)
        replication: Any = ReplicationStub(channel)  # type: ignore[no-untyped-call]
        head = replication.GetHead(replication_pb2.GetHeadRequest(), timeout=PATIENCE).head
        watching = replication.WatchChanges(replication_pb2.WatchChangesRequest(after=head), timeout=PATIENCE)
        next(watching)
        server.stop()
    calls = [span for span in collector.spans(7) if span.kind == Span.SPAN_KIND_SERVER]
    assert [(span.name.rpartition("/")[2], attributes(span)["rpc.grpc.status_code"]) for span in calls] == [
        ("GetAsset", 5),
        ("GetAsset", 5),
        ("GetHead", 0),
        ("WatchChanges", 14),  # UNAVAILABLE: the server went
    ]
    assert [span.status.code for span in calls] == [0, 0, 0, 2]
    assert len({span.trace_id for span in calls}) == 4
    assert not any(span.parent_span_id for span in calls)


def test_log_lines_carry_the_trace(collector: Collector, migrated_url: str, open_folder: Path) -> None:
    """A line of a call can be found from its trace, and the other way round."""
    flags = ("--database", migrated_url, "--data-dir", str(open_folder), "--snapshot-interval", "0")
    with process(*flags, "--log-level", "DEBUG", "--otlp-endpoint", collector.target) as server:
        with grpc.insecure_channel(server.target) as channel:
            create_chain(channel, metadata=TRACEPARENT)
        assert f"trace_id={TRACE}" in server.line_with("method=CreateChain")
        collector.spans(2)


def test_a_collector_that_is_away_costs_no_call_and_no_long_stop(migrated_url: str, open_folder: Path) -> None:
    """Calls are answered, and a stop gives up the last spans after two seconds."""
    with running_server(settings(migrated_url, open_folder, otlp_endpoint="http://127.0.0.1:1")) as server:
        with grpc.insecure_channel(server.target) as channel:
            create_chain(channel)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 6


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    """A server without traces pays nothing for them."""
    code = (
        "import sys, cqar.server.server as s; s.Server(s.Config());"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_an_endpoint_is_one_clear_line(open_folder: Path, tmp_path: Path) -> None:
    """The line says what to install, and the server does not start without the traces that were asked for."""
    hidden = tmp_path / "opentelemetry"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError('hidden')")
    code = "from cqar.server.__main__ import main; import sys; sys.exit(main(sys.argv[1:]))"
    flags = ["--listen", "127.0.0.1:0", "--data-dir", str(open_folder), "--otlp-endpoint", "http://127.0.0.1:1"]
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}", *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("cqar serve: otlp_endpoint: traces need OpenTelemetry: pip install 'cqar[tracing]'")
    assert len(ran.stderr.splitlines()) == 1


def test_an_endpoint_that_is_none_is_refused(migrated_url: str, open_folder: Path) -> None:
    """A setting without a scheme would be taken for TLS and fail later, in the background."""
    with pytest.raises(InvalidError, match="otlp_endpoint: must be a URL"):
        settings(migrated_url, open_folder, otlp_endpoint="localhost:4317")
