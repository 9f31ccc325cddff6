"""What users would take instead, for the same look-up by a text key, warm: the table's lower half."""

from __future__ import annotations

import functools
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cachebox
import duckdb
import grpc
import msgspec
import redis
from cachetools import LRUCache

from cqar.client import Resolution, open_snapshot
from tests.benchmarks.figures import Figure
from tests.benchmarks.server import redis_server

ROUNDS = 7


def peers(folder: Path, _size: int) -> Iterator[Figure]:
    """A repeated `resolve`, beside the same answer from each of the peers."""
    with open_snapshot(replica_dir=folder) as client:
        found = client.resolve("USDC", chain="ethereum")
        ours = per_call(lambda: client.resolve("USDC", chain="ethereum"), 50_000)
    yield Figure("cqar: repeated resolve", told(ours), "", None, "", True)
    for name, call, number in every(folder, found):
        took = per_call(call, number)
        yield Figure(f"peer: {name}", told(took), f"repeated resolve: {told(ours)}", took / ours, "", True)


def per_call(call: Callable[[], object], number: int) -> float:
    """Median time of a call, in ns."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        for _ in range(number):
            call()
        rounds.append((time.perf_counter_ns() - start) / number)
    return statistics.median(rounds)


def told(took: float) -> str:
    """Write a time."""
    return f"{took:.0f} ns" if took < 1_000 else f"{took / 1_000:.1f} µs"


def every(folder: Path, found: Resolution) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Yield each peer's look-up of an answer by its key, and how often to call it in a round."""
    key = ("USDC", "ethereum")
    text = "USDC\0ethereum"
    value = msgspec.msgpack.encode(found)
    decode = msgspec.msgpack.Decoder(Resolution).decode

    known = {key: found}

    def plain(symbol: str, chain: str) -> Resolution:
        return known[symbol, chain]

    yield "plain function, dict", lambda: plain("USDC", "ethereum"), 50_000

    remembered = functools.lru_cache(100_000)(plain)
    yield "functools.lru_cache", lambda: remembered("USDC", "ethereum"), 50_000

    lru: LRUCache[tuple[str, str], Resolution] = LRUCache(100_000)
    lru.update(known)
    lock = threading.Lock()

    def locked(symbol: str, chain: str) -> Resolution:
        with lock:
            return lru[symbol, chain]

    yield "cachetools LRUCache with its lock", lambda: locked("USDC", "ethereum"), 50_000

    box: Any = cachebox.LRUCache(100_000)
    box[key] = found
    yield "cachebox LRUCache", lambda: box["USDC", "ethereum"], 50_000

    with sqlite3.connect(":memory:") as lite:
        lite.execute(
            "CREATE TABLE answers (symbol TEXT, chain TEXT, value BLOB, PRIMARY KEY (symbol, chain)) WITHOUT ROWID"
        )
        lite.execute("INSERT INTO answers VALUES (?, ?, ?)", (*key, value))
        query = "SELECT value FROM answers WHERE symbol = ? AND chain = ?"
        yield "SQLite, prepared", lambda: decode(lite.execute(query, key).fetchone()[0]), 20_000
    lite.close()

    with redis_server() as url, redis.Redis.from_url(url) as server:
        server.set(text, value)
        yield "Redis GET, unix socket", lambda: decode(server.get(text)), 1_000

    with duckdb.connect() as duck:
        duck.execute("CREATE TABLE answers (symbol TEXT, chain TEXT, value BLOB, PRIMARY KEY (symbol, chain))")
        duck.execute("INSERT INTO answers VALUES (?, ?, ?)", (*key, value))
        yield "DuckDB point query", lambda: decode(duck.execute(query, key).fetchall()[0][0]), 200

    yield from echo(value)


def echo(value: bytes) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Yield a bare gRPC method that gives back what it got, in this process."""
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(4))
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary("/bench.Echo/Echo")
        yield "gRPC echo", lambda: call(value), 200
    server.stop(None)
