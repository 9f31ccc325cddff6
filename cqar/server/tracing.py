"""Spans of calls and of the database's use within them, sent by OTLP: the optional extra `tracing`.

Nothing of OpenTelemetry is imported unless an endpoint is set. Where to send is a setting of ours; all else (sampler, headers,
resource, certificate, batches) is configured by the standard OTEL_* variables. A server has a tracer provider of its own, and
sets none for the process.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import grpc

from cqar.errors import PreconditionError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

_FLUSH_SECONDS: Final = 2.0  # that a stop waits for the collector to take the last spans
# Statuses that are the server's fault, by the semantic conventions of gRPC.
_FAULTS: Final = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


def otlp(endpoint: str) -> SpanExporter:
    """Give the exporter to a collector; PreconditionError if the extra is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    except ImportError:
        raise PreconditionError(
            "otlp_endpoint: traces need OpenTelemetry: pip install 'cqar[tracing]', or leave out --otlp-endpoint"
            " (CQAR_OTLP_ENDPOINT)",
            reason="TRACING_EXTRA",
        ) from None
    return OTLPSpanExporter(endpoint)


class Tracing:
    """Makes the spans of one server and sends them in batches. Thread-safe."""

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - the extra may be missing
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "cqar"}
        self._exporter = exporter
        # No hook at the end of the process: `stop` is the end, and a server may be one of several here.
        self._provider = TracerProvider(
            resource=Resource.create({**name, "service.version": version("cqar")}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("cqar", version("cqar"))
        self._context, self._trace = context, trace
        self._extract = TraceContextTextMapPropagator().extract

    def begin(self, service: str, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> CallSpan:
        """Begin the span of a call, below the caller's if its metadata tells one, and make it current here."""
        carrier = {name: value for name, value in metadata if name in {"traceparent", "tracestate"}}
        span = self._tracer.start_span(
            f"{service}/{method}",
            context=self._extract(carrier, self._context.Context()),
            kind=self._trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        self._context.attach(self._trace.set_span_in_context(span, self._context.Context()))
        return CallSpan(self, span)

    def end(self, span: Any, code: grpc.StatusCode) -> None:
        """End the span of a call with its status."""
        span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code.name in _FAULTS:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()
        # Not a detachment by token: a stream may be ended by another task than the one that began it.
        self._context.attach(self._context.Context())

    def database(self) -> Callable[[], None]:
        """Begin a span for the use of a database connection, below the current call; gives what ends it."""
        if not self._trace.get_current_span().get_span_context().is_valid:
            return _nothing  # the feed's reads four times a second, and other work of the server's own
        span = self._tracer.start_span(
            "postgresql", kind=self._trace.SpanKind.CLIENT, attributes={"db.system.name": "postgresql"}
        )
        return span.end

    def stop(self) -> None:
        """Send what is left. Blocks two seconds at most if the collector does not take it."""
        ending = threading.Thread(target=self._provider.shutdown, name="cqar-spans", daemon=True)
        ending.start()
        ending.join(_FLUSH_SECONDS)
        if ending.is_alive():
            log.warning("the last spans could not be sent: the collector does not take them")
            self._exporter.shutdown()  # it would go on trying


class CallSpan:
    """The span of one call."""

    __slots__ = ("_span", "_tracing", "trace_id")

    def __init__(self, tracing: Tracing, span: Any) -> None:
        self._tracing, self._span = tracing, span
        self.trace_id = format(span.get_span_context().trace_id, "032x")

    def end(self, code: grpc.StatusCode) -> None:
        """End it with the status of the call."""
        self._tracing.end(self._span, code)


def _nothing() -> None:
    pass
