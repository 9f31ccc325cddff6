"""What the parts of a server tell of themselves: whether each works, for /health/ready, and its figures, for the scrape.

A server is ready while no component is down. One that is degraded is worth a look, but calls are answered: a load balancer
that took such a server out would turn a small trouble into an outage. Nothing here asks the database: the feed does so four
times a second, and knows.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cqar.errors import UnavailableError
from cqar.server.changes import Feed
from cqar.server.export import Exporter
from cqar.server.lanes import Lanes
from cqar.server.metrics import Metrics
from cqar.server.replication import Replication
from cqar.server.store import Store


class Level(enum.StrEnum):
    """How a component is."""

    OK = "ok"
    OFF = "off"
    DEGRADED = "degraded"
    DOWN = "down"


class Component(NamedTuple):
    """How a component is, and why it is not well. The reason is for anyone to read: no address, no password."""

    level: Level = Level.OK
    reason: str = ""


class State(enum.StrEnum):
    """Where a server is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class Status:
    """The components of one server. Add one with `status.components[name] = function`; it is called at each question."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self.components: dict[str, Callable[[], Component]] = {"cache": lambda: Component(Level.OFF)}

    def report(self) -> dict[str, Any]:
        """Give `ready`, `state` and every component, as /health/ready tells them."""
        found = {name: component() for name, component in self.components.items()}
        ready = self.state is State.SERVING and not any(each.level is Level.DOWN for each in found.values())
        told = {
            name: {"status": each.level, "reason": each.reason} if each.reason else {"status": each.level}
            for name, each in found.items()
        }
        return {"ready": ready, "state": self.state, "components": told}

    def watch(self, feed: Feed, exporter: Exporter) -> None:
        """Add the database, the feed and the exporter."""

        def database() -> Component:
            trouble = feed.trouble
            return Component(Level.DOWN, trouble.message) if isinstance(trouble, UnavailableError) else Component()

        def following() -> Component:
            return Component(Level.DOWN, feed.trouble.message) if feed.trouble else Component()

        def exporting() -> Component:
            if not exporter.running:
                return Component(Level.OFF)
            return Component(Level.DEGRADED, exporter.trouble) if exporter.trouble else Component()

        self.components |= {"database": database, "feed": following, "exporter": exporting}


def measure(
    metrics: Metrics,
    status: Status,
    *,
    calls: Lanes,
    feed: Feed,
    replication: Replication,
    store: Store,
    exporter: Exporter,
) -> None:
    """Let each scrape read the figures of the parts of a server."""

    def snapshot_age() -> float | None:
        return None if exporter.newest is None else max(0.0, time.time() - exporter.newest.created_at.timestamp())

    gauge, counter = metrics.gauge, metrics.counter
    gauge("cqar_ready", "1 while /health/ready says so.", lambda: float(status.report()["ready"]))
    gauge("cqar_calls_waiting", "Calls that wait for a thread.", lambda: calls.waiting)
    gauge("cqar_feed_streams", "Open feeds.", lambda: replication.streams)
    gauge("cqar_feed_position", "Position up to which the feed has read the log.", lambda: feed.position)
    gauge("cqar_feed_lag_batches", "Batches in the log that the feed has not read yet.", lambda: feed.lag)
    gauge("cqar_feed_read_age_seconds", "Time since the log was last read with success.", lambda: feed.read_age)
    gauge("cqar_database_connections_max", "Size of the connection pool.", lambda: store.connections.size)
    gauge("cqar_database_connections_in_use", "Connections in use.", lambda: store.connections.in_use)
    counter(
        "cqar_database_connection_timeouts_total",
        "Waits for a free connection that were given up.",
        lambda: store.connections.timeouts,
    )
    counter("cqar_snapshot_exports_total", "Snapshots published by this server.", lambda: exporter.exports)
    counter("cqar_snapshot_failures_total", "Snapshots that could not be published.", lambda: exporter.failures)
    gauge("cqar_snapshot_age_seconds", "Age of the newest snapshot.", snapshot_age)
    gauge(
        "cqar_snapshot_position",
        "Position of the newest snapshot.",
        lambda: None if exporter.newest is None else exporter.newest.position,
    )
