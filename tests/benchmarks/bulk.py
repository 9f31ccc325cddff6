"""Bulk look-ups beside what a bare library takes for the same rows."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from cqar.client import Client, open_snapshot
from tests.benchmarks import synthetic
from tests.benchmarks.figures import Figure

ROWS = 1_000_000
FEW = 5_000
ROUNDS = 7


def seconds(call: Callable[[], object]) -> float:
    """Time a call, without the collector coming in between."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def beside(peer: Callable[[], object], ours: Callable[[], object]) -> tuple[float, float]:
    """Time both in turn; give the medians."""
    rounds = [(seconds(peer), seconds(ours)) for _ in range(ROUNDS)]
    theirs, mine = (statistics.median(column) for column in zip(*rounds, strict=True))
    return theirs, mine


def bulk(folder: Path, size: int) -> Iterator[Figure]:
    """`resolve_many` over a million rows: few distinct symbols, then none twice."""
    published = synthetic.publish(folder / "snapshots", size)
    with open_snapshot(published.path, replica_dir=folder) as client:
        yield few(client, size)
        yield from distinct(client, size)


def few(client: Client, size: int) -> Figure:
    """A million rows of five thousand symbols, beside encoding them, a look-up in a dict, and taking the same columns."""
    dice = random.Random(2)
    symbols = sorted({synthetic.symbol_of(dice.randrange(size // synthetic.PER_ASSET)) for _ in range(FEW)})
    column = pa.array(dice.choices(symbols, k=ROWS))
    answers = client.resolve_many(symbols).drop_columns("symbol").combine_chunks()
    rows = {symbol: row for row, symbol in enumerate(symbols)}

    def peer() -> Any:
        encoded = pc.dictionary_encode(column)
        numbers = pa.array([rows[symbol] for symbol in encoded.dictionary.to_pylist()], pa.int32())
        return answers.take(numbers.take(encoded.indices)).add_column(0, "symbol", column)

    bare, mine = beside(peer, lambda: client.resolve_many(column))
    assert client.resolve_many(column).drop_columns("symbol").equals(peer().drop_columns("symbol"))
    rate = ROWS / mine / 1e6
    return Figure(
        f"resolve_many, 1M rows, {len(symbols):,} distinct",
        f"{mine * 1000:.0f} ms, {rate:.1f} M rows/s",
        f"bare encode + dict + take: {bare * 1000:.0f} ms",
        mine / bare,
        "<= 3.3, or >= 10 M/s",
        rate >= 10 or mine <= bare / 0.3,
    )


def distinct(client: Client, size: int) -> Iterator[Figure]:
    """A million symbols, none twice, most of them known, beside an order-keeping join in polars with a table of them all."""
    known = [synthetic.symbol_of(number) for number in range(size // synthetic.PER_ASSET)]
    asked = [*dict.fromkeys([*known, *map(str.lower, known)])][:ROWS]
    asked += [f"ABSENT{number}" for number in range(ROWS - len(asked))]
    random.Random(3).shuffle(asked)
    column = pa.array(asked)
    start = time.perf_counter()
    answers = client.resolve_many(column)
    first = time.perf_counter() - start
    found = pc.sum(pc.equal(answers.column("status"), "OK")).as_py()
    right = pl.DataFrame(answers).sample(fraction=1, shuffle=True, seed=4)
    left = pl.DataFrame({"symbol": pl.Series(asked)})

    def peer() -> pl.DataFrame:
        return left.join(right, on="symbol", how="left", maintain_order="left")

    assert peer().equals(pl.DataFrame(answers))
    bare, mine = beside(peer, lambda: client.resolve_many(column))
    yield Figure(
        f"resolve_many, 1M distinct, {found:,} found",
        f"{mine * 1000:.0f} ms",
        f"polars join, order kept: {bare * 1000:.0f} ms",
        mine / bare,
        "<= 2",
        mine <= 2 * bare,
    )
    yield Figure(
        "its first call for a chain", f"{first:.1f} s", f"the next: {mine * 1000:.0f} ms", first / mine, "(told)", True
    )
