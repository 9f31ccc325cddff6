"""`make bench-relay`: what it costs to publish what is committed, and how quickly it goes.

Throughput of the relay in a server process that has nothing else to do, from a log that is there already; and the latency of
writes over gRPC with and without it, in turns, each server on a database of its own. Options: `--events N` (default 20,000).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from cqar.model import Asset, AssetType
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.store import Store
from cqar.v1 import registry_pb2 as pb
from cqar.wire import record_to_wire
from tests.benchmarks.server import SERVICE, load, serving
from tests.brokers import Broker, NatsServer, RedisBroker

ROUNDS = 15
TRANSACTIONS = {
    1: 0.25,
    100: 0.75,
}  # how many events a transaction has, and the share of all events that come in such ones


def fill(url: str, events: int) -> int:
    """Write assets in small and in large transactions; give how many."""
    store = Store(url)
    store.migrate()
    numbers = itertools.count()
    for size, share in TRANSACTIONS.items():
        for _ in range(int(events * share / size)):
            with store.transaction(actor="bench") as tx:
                for _ in range(size):
                    tx.put(_asset(next(numbers)))
    store.close()
    return next(numbers)


def _asset(number: int) -> Asset:
    return Asset(symbol=f"A{number}", name=f"Asset {number}", asset_type=AssetType.TOKEN, website="https://a.example")


def count(broker: Broker) -> int:
    """Give how many events a broker holds."""
    if isinstance(broker, RedisBroker):
        return int(broker.client.xlen("cqar.events.v1"))

    async def messages(connection: object) -> int:
        with contextlib.suppress(Exception):
            return int((await connection.jetstream().stream_info("CQAR_EVENTS")).state.messages)  # type: ignore[attr-defined]
        return 0

    return broker.do(messages)


def throughput(folder: Path, url: str, broker: Broker, events: int) -> float:
    """Give how many events a second are published of a log that is there."""
    with serving(folder, url, "--events", broker.url):
        while (first := count(broker)) == 0:
            time.sleep(0.01)
        began = time.perf_counter()
        while (last := count(broker)) < events:
            time.sleep(0.02)
        return (last - first) / (time.perf_counter() - began)


def latencies(plain: str, publishing: str, threads: int) -> tuple[list[float], list[float]]:
    """Give medians of the latency of a write, without and with a relay, round by round, in milliseconds."""
    numbers = itertools.count(10_000_000)

    def request(_number: int) -> bytes:
        return pb.CreateAssetRequest(asset=record_to_wire(_asset(next(numbers)))).SerializeToString()

    found: dict[str, list[float]] = {plain: [], publishing: []}
    for number in range(ROUNDS):
        for target in (plain, publishing) if number % 2 else (publishing, plain):  # the machine's speed drifts
            took = load(target, f"{SERVICE}CreateAsset", request, threads=threads, seconds=1.0)
            found[target].append(took.milliseconds(0.5))
    return found[plain], found[publishing]


@contextlib.contextmanager
def brokers(folder: Path) -> Iterator[dict[str, Broker]]:
    """Run one of each kind."""
    running: dict[str, Broker] = {
        "NATS JetStream": NatsServer(folder / "nats"),
        "Redis Streams": RedisBroker(folder, "no"),
    }
    for each in running.values():
        each.start()
    try:
        yield running
    finally:
        for each in running.values():
            each.kill()


def main() -> None:
    """Run and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.relay", description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    arguments = parser.parse_args()
    table = Table("figure", "measured", "beside it", "ratio", "bar", "met", title="CQAR relay benchmarks")
    folder = Path(tempfile.mkdtemp(prefix="cqar-bench-", dir="/tmp"))
    folder.chmod(0o755)
    with EmbeddedPostgres(folder / "postgres") as postgres, brokers(folder) as running:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            for name in ("plain", "publishing"):
                connection.execute(f"CREATE DATABASE {name}".encode())
        url, plain = postgres.url_for("publishing"), postgres.url_for("plain")
        events = fill(url, arguments.events)
        fill(plain, arguments.events)  # as large: a write may take longer the more there is
        for name, broker in running.items():
            rate = throughput(folder, url, broker, events)
            table.add_row(
                f"events a second, {name}", f"{rate:,.0f}", "", "", ">= 5,000", "yes" if rate >= 5000 else "NO"
            )
        for name, broker in running.items():
            with serving(folder, plain) as first, serving(folder, url, "--events", broker.url) as second:
                for threads in (1, 8):
                    without, with_it = latencies(first, second, threads)
                    ratio = statistics.median([mine / bare for mine, bare in zip(with_it, without, strict=True)])
                    table.add_row(
                        f"CreateAsset by gRPC, p50, {threads} at once, with {name}",
                        f"{statistics.median(with_it):.2f} ms",
                        f"without: {statistics.median(without):.2f} ms",
                        f"{ratio:.3f}",
                        "<= 1.03",
                        "yes" if ratio <= 1.03 else "NO",
                    )
    shutil.rmtree(folder)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
