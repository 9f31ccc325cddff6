"""The sums of the metrics: exact under many threads, bounded when nobody reads, and right in their buckets."""

from __future__ import annotations

import threading

import grpc
from prometheus_client.parser import text_string_to_metric_families

from cqar.server.metrics import _QUEUE, BUCKETS, Metrics

OK = grpc.StatusCode.OK


def values(metrics: Metrics, name: str) -> dict[str, float]:
    """Scrape the series of a name, by their bucket or code."""
    families = text_string_to_metric_families(metrics.scrape()[0].decode())
    samples = [each for family in families for each in family.samples if each.name == name]
    return {each.labels.get("le") or each.labels.get("code") or "": each.value for each in samples}


def test_no_call_is_lost_or_counted_twice_by_threads_and_scrapes() -> None:
    """Eight threads count while others scrape: the sums are what was counted, and nobody is left under way."""
    metrics = Metrics()
    series = metrics.method("/some.Service/Method", stream=False)
    counting = True

    def count() -> None:
        for _ in range(5_000):
            call = object()
            series.under_way.add(call)
            series.under_way.discard(call)
            series.ended(OK, 0.003)

    def scrape() -> None:
        while counting:
            metrics.scrape()

    counters = [threading.Thread(target=count) for _ in range(8)]
    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in (*counters, *scrapers):
        thread.start()
    for thread in counters:
        thread.join()
    counting = False
    for thread in scrapers:
        thread.join()
    assert values(metrics, "cqar_calls_total") == {"OK": 40_000}
    assert values(metrics, "cqar_call_duration_seconds_count") == {"": 40_000}
    assert round(values(metrics, "cqar_call_duration_seconds_sum")[""]) == 120


def test_the_queue_of_ended_calls_does_not_grow_unread() -> None:
    """A server that nobody scrapes keeps no more than the queue."""
    series = Metrics().method("/some.Service/Method", stream=False)
    for _ in range(10 * _QUEUE):
        series.ended(OK, 0.003)
    assert len(series._ended) < _QUEUE
    assert series.read()[0] == {"OK": 10 * _QUEUE}


def test_a_duration_counts_in_every_bucket_from_its_own_on() -> None:
    """Buckets are cumulative and include their bound, as Prometheus has it."""
    metrics = Metrics()
    series = metrics.method("/some.Service/Method", stream=False)
    for seconds in (0.0001, 0.0005, 0.0006, 10.0, 11.0):
        series.ended(OK, seconds)
    found = values(metrics, "cqar_call_duration_seconds_bucket")
    assert list(found) == [*map(str, BUCKETS), "+Inf"]
    assert (found["0.0005"], found["0.001"], found["5.0"], found["10.0"], found["+Inf"]) == (2, 3, 3, 4, 5)


def test_a_stream_has_no_duration() -> None:
    """A feed of days would only fill the last bucket."""
    metrics = Metrics()
    metrics.method("/some.Service/Stream", stream=True).ended(OK, 86_400.0)
    assert values(metrics, "cqar_calls_total") == {"OK": 1}
    assert values(metrics, "cqar_call_duration_seconds_count") == {}
