"""What Prometheus scrapes: what calls add up to, and what is read from the parts of the server at each scrape.

Each server has a registry of its own, so that two in one process do not mix. Names and units are Prometheus': base units,
`_total` for what only grows, and no label whose values a caller could invent.
"""

from __future__ import annotations

import platform
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from itertools import accumulate
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# From the fastest read to the time-out of a statement.
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UNKNOWN: Final = "unknown"  # service and method of a call for which there is none: its name is the caller's invention
_QUEUE: Final = 1024  # ended calls that wait to be added up, if nobody scrapes

Value = float | None


class MethodSeries:
    """What the calls of one method add up to. Thread-safe, and without a lock for the calls.

    A counter with a lock costs a call of many threads ten times what it costs alone. So a call only enters the set of those
    under way and, at its end, a queue, which are safe by themselves; sums are made when they are read, or the queue is long.
    """

    def __init__(self, path: str, *, stream: bool) -> None:
        """How long a stream lasts says nothing: only calls of one reply have durations."""
        self.service, _, self.method = path.removeprefix("/").rpartition("/")
        self.stream = stream
        self.under_way: set[object] = set()
        self._ended: deque[tuple[grpc.StatusCode, float]] = deque()
        self._lock = threading.Lock()
        self._codes: dict[str, int] = {}
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """Count a call with its final status and its duration."""
        self._ended.append((code, seconds))
        if len(self._ended) >= _QUEUE and self._lock.acquire(blocking=False):
            try:
                self._add_up()
            finally:
                self._lock.release()

    def _add_up(self) -> None:
        for _ in range(len(self._ended)):
            code, seconds = self._ended.popleft()
            self._codes[code.name] = self._codes.get(code.name, 0) + 1
            self._buckets[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

    def read(self) -> tuple[dict[str, int], list[int], float]:
        """Give the number of calls by code, by bucket of duration, and the sum of the durations."""
        with self._lock:
            self._add_up()
            return dict(self._codes), list(self._buckets), self._seconds


class _Calls(Collector):
    """The calls of all methods."""

    def __init__(self) -> None:
        self.methods: list[MethodSeries] = []

    def collect(self) -> Iterator[Metric]:
        of_method = ("service", "method")
        total = CounterMetricFamily("cqar_calls_total", "Calls that have ended.", labels=(*of_method, "code"))
        progress = GaugeMetricFamily(
            "cqar_calls_in_progress", "Calls being answered, streams included.", labels=of_method
        )
        duration = HistogramMetricFamily(
            "cqar_call_duration_seconds",
            "From the arrival of a call of one reply to its end, the wait for a thread included.",
            labels=of_method,
        )
        for each in list(self.methods):
            labels = (each.service, each.method)
            codes, buckets, seconds = each.read()
            progress.add_metric(labels, len(each.under_way))
            for code, count in codes.items():
                total.add_metric((*labels, code), count)
            if not each.stream:
                bounds = [str(bound) for bound in (*BUCKETS, "+Inf")]
                duration.add_metric(labels, list(zip(bounds, accumulate(buckets), strict=True)), seconds)
        yield from (total, progress, duration)


class Metrics:
    """The metrics of one server. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = _Calls()
        self.registry.register(self._calls)
        self.received = 0  # counted in the event loop alone
        self.counter(
            "cqar_calls_received_total",
            "Calls that have arrived. One in neither total nor progress waits, or was refused or given up before its turn.",
            lambda: self.received,
        )
        Info("cqar_build", "What runs here.", registry=self.registry).info(
            {"version": version("cqar"), "python": platform.python_version(), "grpc": grpc.__version__}
        )
        ProcessCollector(registry=self.registry)
        self._none = self.method(f"{UNKNOWN}/{UNKNOWN}", stream=True)

    def method(self, path: str, *, stream: bool) -> MethodSeries:
        """Add the series of a method that the server has, by its path `/service/method`; to be done once for each."""
        series = MethodSeries(path, stream=stream)
        self._calls.methods.append(series)
        return series

    def no_such_method(self) -> None:
        """Count a call of a method that the server does not have."""
        self._none.ended(grpc.StatusCode.UNIMPLEMENTED, 0.0)

    def gauge(self, name: str, text: str, read: Callable[[], Value]) -> None:
        """Add a value that is read at each scrape; None leaves it out. `read` is called in any thread."""
        self.registry.register(_Read(lambda value: GaugeMetricFamily(name, text, value=value), read))

    def counter(self, name: str, text: str, read: Callable[[], Value]) -> None:
        """Add a count that is kept elsewhere and read at each scrape."""
        self.registry.register(_Read(lambda value: CounterMetricFamily(name, text, value=value), read))

    def gauges(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Add values by the values of a label, that are read at each scrape."""
        self.registry.register(_ReadEach(lambda: GaugeMetricFamily(name, text, labels=[label]), read))

    def counters(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Add counts that are kept elsewhere by the values of a label, and read at each scrape."""
        self.registry.register(_ReadEach(lambda: CounterMetricFamily(name, text, labels=[label]), read))

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


class _ReadEach(Collector):
    """Values by a label, read when they are asked for."""

    def __init__(
        self, empty: Callable[[], CounterMetricFamily | GaugeMetricFamily], read: Callable[[], Mapping[str, float]]
    ) -> None:
        self._empty, self._read = empty, read

    def collect(self) -> Iterator[Metric]:
        family = self._empty()
        for value, count in sorted(self._read().items()):
            family.add_metric([value], count)
        yield family
