"""The relays of a server, by its configuration, and what they tell of themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from cqar import broker
from cqar.server.changes import Feed
from cqar.server.config import Config, redacted
from cqar.server.metrics import Metrics
from cqar.server.relay import Relay, Stream
from cqar.server.status import Component, Status
from cqar.server.store import Store

if TYPE_CHECKING:
    from cqar.server.nats_stream import NatsStream


class Telling(Protocol):
    """What a relay tells of itself, in this process or from another one: see `Relay`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def leading(self) -> bool: ...  # noqa: D102
    @property
    def position(self) -> int: ...  # noqa: D102
    @property
    def lag(self) -> int: ...  # noqa: D102
    @property
    def published(self) -> int: ...  # noqa: D102
    @property
    def failures(self) -> int: ...  # noqa: D102

    def component(self) -> Component: ...  # noqa: D102


def relays_of(config: Config, store: Store, feed: Feed) -> list[Relay]:
    """Make the relays that a server is to have. The libraries of brokers are imported only for who has one."""
    relays: list[Relay] = []
    if config.events:
        from cqar.server.relay_events import EventRelay  # noqa: PLC0415

        opened: Callable[[], AbstractAsyncContextManager[Stream]]
        if config.events.startswith(broker.REDIS):
            from cqar.server import redis_stream  # noqa: PLC0415

            opened = partial(redis_stream.opened, config.events, redacted(config.events), days=config.stream_days)
        else:
            opened = _in_nats(config, config.events, broker.EVENTS_STREAM, f"{broker.EVENTS}.>")
        relays.append(EventRelay(store, feed, opened))
    if config.feed:
        from cqar.server.relay_feed import FeedRelay  # noqa: PLC0415

        relays.append(FeedRelay(store, feed, _in_nats(config, config.feed, broker.FEED_STREAM, broker.BATCHES)))
    return relays


def _in_nats(
    config: Config, url: str, stream: str, subject: str
) -> Callable[[], AbstractAsyncContextManager[NatsStream]]:
    from cqar.server import nats_stream  # noqa: PLC0415

    return partial(
        nats_stream.opened,
        broker.address(url, "broker"),
        stream,
        [subject],
        replicas=config.stream_replicas,
        days=config.stream_days,
    )


def measure_relays(metrics: Metrics, status: Status, relays: Sequence[Telling]) -> None:
    """Add their components, and let each scrape read their figures."""
    for relay in relays:
        status.components[f"relay_{relay.name}"] = relay.component
    if not relays:
        return

    def each(
        read: Callable[[Telling], float], of: Callable[[Telling], bool] = lambda _: True
    ) -> Callable[[], dict[str, float]]:
        return lambda: {relay.name: read(relay) for relay in relays if of(relay)}

    def leads(relay: Telling) -> bool:
        return relay.leading

    metrics.gauges("cqar_relay_leading", "1 while this server publishes.", "relay", each(leads))
    metrics.gauges(
        "cqar_relay_position",
        "Position up to which everything is published; of the server that leads.",
        "relay",
        each(lambda relay: relay.position, leads),
    )
    metrics.gauges(
        "cqar_relay_lag_batches",
        "Transactions that are committed and not published; of the server that leads.",
        "relay",
        each(lambda relay: relay.lag, leads),
    )
    metrics.counters(
        "cqar_relay_published_total", "Messages published by this server.", "relay", each(lambda relay: relay.published)
    )
    metrics.counters(
        "cqar_relay_failures_total",
        "Times that publishing had to begin anew.",
        "relay",
        each(lambda relay: relay.failures),
    )
