"""What Prometheus scrapes: what calls count as they end, and what is read from the parts of the server at each scrape.

Each server has a registry of its own, so that two in one process do not mix. What a call counts is resolved to its series
once for each method (`Metrics.method`): the look-up of labels costs more than the counting.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# From the fastest read to the time-out of a statement.
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UNKNOWN: Final = "unknown"  # service and method of a call for which there is none: its name is the caller's invention

Value = float | None


class MethodSeries:
    """The series of one method; how long a stream lasts says nothing, so only calls of one reply have a duration."""

    def __init__(self, metrics: Metrics, path: str, *, stream: bool) -> None:
        self.service, _, self.method = path.removeprefix("/").rpartition("/")
        self._calls = metrics.calls
        self._by_code: dict[str, Counter] = {}
        self.in_progress = metrics.in_progress.labels(self.service, self.method)
        self.duration = None if stream else metrics.duration.labels(self.service, self.method)

    def ended(self, code: grpc.StatusCode) -> None:
        """Count a call with its final status."""
        series = self._by_code.get(code.name)
        if series is None:
            series = self._by_code[code.name] = self._calls.labels(self.service, self.method, code.name)
        series.inc()


class Metrics:
    """The metrics of one server. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        of_method = ("service", "method")
        self.calls = Counter("cqar_calls_total", "Calls that have ended.", (*of_method, "code"), registry=self.registry)
        self.duration = Histogram(
            "cqar_call_duration_seconds",
            "From the arrival of a call of one reply to its end, the wait for a thread included.",
            of_method,
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "cqar_calls_in_progress", "Calls being answered, streams included.", of_method, registry=self.registry
        )
        self.cache_requests = Counter(
            "cqar_cache_requests_total",
            "Look-ups in the cache: hit, miss or error.",
            ("outcome",),
            registry=self.registry,
        )
        Info("cqar_build", "What runs here.", registry=self.registry).info(
            {"version": version("cqar"), "python": platform.python_version(), "grpc": grpc.__version__}
        )
        ProcessCollector(registry=self.registry)
        self.received = 0  # counted in the event loop alone
        self.counter(
            "cqar_calls_received_total",
            "Calls that have arrived. One in neither total nor progress waits, or was refused or given up before its turn.",
            lambda: self.received,
        )

    def method(self, path: str, *, stream: bool) -> MethodSeries:
        """Give the series of a method that the server has, by its path `/service/method`."""
        return MethodSeries(self, path, stream=stream)

    def no_such_method(self) -> None:
        """Count a call of a method that the server does not have."""
        self.calls.labels(UNKNOWN, UNKNOWN, grpc.StatusCode.UNIMPLEMENTED.name).inc()

    def gauge(self, name: str, text: str, read: Callable[[], Value]) -> None:
        """Add a value that is read at each scrape; None leaves it out. `read` is called in any thread."""
        self.registry.register(_Read(lambda value: GaugeMetricFamily(name, text, value=value), read))

    def counter(self, name: str, text: str, read: Callable[[], Value]) -> None:
        """Add a count that is kept elsewhere and read at each scrape."""
        self.registry.register(_Read(lambda value: CounterMetricFamily(name, text, value=value), read))

    def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """Give everything as it is now, and the content type, for what a scraper says it accepts."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _Read(Collector):
    """One value, read when it is asked for."""

    def __init__(self, family: Callable[[float], Metric], read: Callable[[], Value]) -> None:
        self._family, self._read = family, read

    def collect(self) -> Iterator[Metric]:
        value = self._read()
        if value is not None:
            yield self._family(value)
