"""A cold look-up beside its peers: bare LMDB, and SQLite."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from cqar import model, snapshot
from cqar.client import _lookup
from cqar.client._entries import SEAL, decode_candidates, symbol_key
from cqar.client._generation import Generation, obtain
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.model import fold
from tests.benchmarks import synthetic
from tests.benchmarks.figures import ROUNDS, Figure


def beside(folder: Path, size: int) -> Iterator[Figure]:
    """A cold resolve below the client's shell, beside a bare LMDB read and a prepared SQLite query of the same record."""
    published = synthetic.publish(folder / "snapshots", size)
    generation = obtain(folder, published.path)
    replica = Replica(generation, Recent())
    asked = synthetic.questions(size, min(100_000, size // 4))
    get = generation.index._mapping.env.begin().get
    database = _sqlite(published, generation, folder / "beside.sqlite")
    blob = "SELECT candidates FROM symbols WHERE chain = ? AND symbol = ?"
    joined = (
        "SELECT d.*, a.* FROM asset_deployments d JOIN assets a ON a.asset_id = d.asset_id "
        "WHERE a.symbol_fold = ? AND d.chain_id = ?"
    )

    def ours(symbol: str, chain: str) -> None:
        replica.consistently(_lookup.resolve, (symbol, chain))

    def bare(symbol: str, chain: str) -> None:
        decode_candidates((get(symbol_key(chain, fold(symbol))) or b"")[:-SEAL])

    def same_bytes(symbol: str, chain: str) -> None:
        decode_candidates(database.execute(blob, (chain, fold(symbol))).fetchone()[0])

    def as_rows(symbol: str, chain: str) -> None:
        database.execute(joined, (fold(symbol), chain)).fetchall()

    calls: tuple[Callable[[str, str], None], ...] = (ours, bare, same_bytes, as_rows)
    for call in calls:  # warm the page cache
        _timed(call, asked)
    part = len(asked) // ROUNDS
    rounds = [[_timed(call, asked[number * part : (number + 1) * part]) for call in calls] for number in range(ROUNDS)]
    database.close()
    p50 = [[statistics.median(times) / 1000 for times in each] for each in rounds]
    p99 = statistics.median([statistics.quantiles(each[0], n=100)[98] for each in rounds]) / 1000
    mine, plain, in_bytes, in_rows = [statistics.median(column) for column in zip(*p50, strict=True)]
    ratio = statistics.median([each[0] / each[1] for each in p50])
    name = "cold resolve without the shell"
    yield Figure(name, f"p50 {mine:.2f} µs", f"bare LMDB: {plain:.2f} µs", ratio, "<= 1.5", ratio <= 1.5)
    yield Figure(name, f"p99 {p99:.1f} µs", "", None, "<= 30 µs", p99 <= 30)
    yield Figure(
        name,
        f"p50 {mine:.2f} µs",
        f"SQLite, prepared, rows of two tables: {in_rows:.2f} µs",
        mine / in_rows,
        "<= 0.5",
        mine <= in_rows / 2,
    )
    yield Figure(
        name, f"p50 {mine:.2f} µs", f"SQLite, prepared, our very bytes: {in_bytes:.2f} µs", mine / in_bytes, "", True
    )


def _timed(call: Callable[[str, str], None], asked: list[tuple[str, str]]) -> list[int]:
    times = []
    clock = time.perf_counter_ns
    for symbol, chain in asked:
        start = clock()
        call(symbol, chain)
        times.append(clock() - start)
    return times


def _sqlite(published: snapshot.Snapshot, generation: Generation, path: Path) -> sqlite3.Connection:
    """The same registry in SQLite: assets and deployments as indexed tables, and our candidates clustered by their key."""
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    for kind in (model.ASSET, model.DEPLOYMENT):
        names = kind.record.__struct_fields__
        extra = ["symbol_fold"] if kind is model.ASSET else []
        columns = ", ".join([*names, *extra])
        database.execute(f"CREATE TABLE {kind.table} ({columns}, PRIMARY KEY ({kind.key[0]})) WITHOUT ROWID")
        places = ", ".join("?" * (len(names) + len(extra)))
        database.executemany(f"INSERT INTO {kind.table} VALUES ({places})", _plain(published, kind))
    database.execute("CREATE INDEX by_symbol ON assets (symbol_fold)")
    database.execute("CREATE INDEX by_asset ON asset_deployments (asset_id, chain_id)")
    database.execute("CREATE TABLE symbols (chain, symbol, candidates, PRIMARY KEY (chain, symbol)) WITHOUT ROWID")
    with generation.index._mapping.env.begin() as txn, txn.cursor() as cursor:
        cursor.set_range(b"S\1")
        entries = ((*key[1:].decode().split("\0"), value[:-SEAL]) for key, value in cursor)
        database.executemany("INSERT INTO symbols VALUES (?, ?, ?)", entries)
    database.commit()
    database.execute("ANALYZE")
    database.close()
    database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    database.execute("PRAGMA mmap_size=8000000000")
    return database


def _plain(published: snapshot.Snapshot, kind: model.Kind[Any]) -> Iterator[tuple[object, ...]]:
    """Records as rows of what SQLite can hold."""
    for record in snapshot.read(published, kind.name):
        values = [
            value if isinstance(value, str | int | None) else str(value) for value in msgspec.structs.astuple(record)
        ]
        yield (*values, fold(record.symbol)) if isinstance(record, model.Asset) else tuple(values)
