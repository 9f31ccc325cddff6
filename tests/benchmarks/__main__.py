"""`make bench`: the figures that matter, each as a ratio to a bare peer in the same run.

The machine is shared and noisy: read the ratios, not the microseconds. Options: `--size N` deployments for the large registry
(default 1,000,000), `--only NAME …`.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cqar.client import _generation as generations
from cqar.client import open_snapshot
from cqar.client._entries import SEAL, decode_candidates, symbol_key
from cqar.model import fold
from tests.benchmarks import beside, generation, synthetic
from tests.benchmarks.bulk import bulk
from tests.benchmarks.figures import ROUNDS, SMALL, Figure
from tests.benchmarks.large_import import large_import
from tests.benchmarks.live import hot, takeover, visible
from tests.benchmarks.peers import peers


def cold(folder: Path, size: int) -> Iterator[Figure]:
    """A `resolve` of a key that was not asked for lately, beside a bare LMDB key-encode + get + decode of the same record."""
    console = Console(stderr=True)
    with console.status(f"publishing and building {size:,} synthetic deployments …"):
        published = synthetic.publish(folder / "snapshots", size)
        start = time.perf_counter()
        client = open_snapshot(published.path, replica_dir=folder)
        built = time.perf_counter() - start
    console.print(f"built in {built:.0f} s")
    asked = synthetic.questions(size, min(200_000, size // 4))
    index = client._replica.generation.index
    for symbol, chain in asked:  # warm the page cache
        index.candidates(symbol_key(chain, fold(symbol)))
    get = index._mapping.env.begin().get
    bare, ours = [], []
    part = len(asked) // ROUNDS
    for number in range(ROUNDS):
        keys = asked[number * part : (number + 1) * part]
        start = time.perf_counter_ns()
        for symbol, chain in keys:
            decode_candidates((get(symbol_key(chain, fold(symbol))) or b"")[:-SEAL])
        bare.append((time.perf_counter_ns() - start) / len(keys))
        start = time.perf_counter_ns()
        for symbol, chain in keys:
            client.resolve(symbol, chain=chain)
        ours.append((time.perf_counter_ns() - start) / len(keys))
    ratio = statistics.median([mine / theirs for mine, theirs in zip(ours, bare, strict=True)])
    yield Figure(
        f"cold resolve, {size:,} deployments",
        f"{statistics.median(ours) / 1000:.2f} µs",
        f"bare LMDB encode + get + decode: {statistics.median(bare) / 1000:.2f} µs",
        ratio,
        "<= 2",
        ratio <= 2,
    )
    client.close()


def opening(folder: Path, size: int) -> Iterator[Figure]:
    """Opening a built generation, first answer included: must not grow with its size."""
    times = {}
    for deployments in (SMALL, size):
        published = synthetic.publish(folder / "snapshots", deployments)
        generations.obtain(folder, published.path)
        symbol, chain = synthetic.questions(deployments, 1)[0]
        rounds = []
        for _ in range(3 * ROUNDS):
            start = time.perf_counter()
            client = open_snapshot(published.path, replica_dir=folder)
            client.resolve(symbol, chain=chain)
            rounds.append(time.perf_counter() - start)
            client.close()
            del client  # unmaps the file, or the next round would find it open
            gc.collect()
        times[deployments] = statistics.median(rounds)
    ratio = times[size] / times[SMALL]
    met = times[size] <= 0.05 and ratio <= 1.5
    yield Figure(
        f"open a generation, {size:,}",
        f"{times[size] * 1000:.1f} ms",
        f"{SMALL:,} deployments: {times[SMALL] * 1000:.1f} ms",
        ratio,
        "<= 50 ms, <= 1.5",
        met,
    )


def importing(folder: Path, _size: int) -> Iterator[Figure]:
    """`import cqar.client` in a fresh interpreter, with the bytecode that an installation has."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    program = (
        "import time; start = time.perf_counter(); import cqar.client; "
        "took = time.perf_counter() - start; import sys; "
        "print(took, *[m for m in ('grpc', 'pyarrow', 'duckdb') if m in sys.modules])"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment
        ).stdout.split()
        for _ in range(3 * ROUNDS)
    ]
    heavy = answers[0][1:]
    took = statistics.median(float(answer[0]) for answer in answers) * 1000
    least = min(float(answer[0]) for answer in answers) * 1000
    yield Figure(
        "import cqar.client",
        f"{took:.0f} ms (least {least:.0f})",
        f"loads {', '.join(heavy) or 'no grpc, pyarrow, duckdb'}",
        None,
        "<= 80 ms",
        took <= 80 and not heavy,
    )


BENCHMARKS: dict[str, Callable[[Path, int], Iterator[Figure]]] = {
    "hot": hot,
    "cold": cold,
    "bulk": bulk,
    "opening": opening,
    "importing": importing,
    "visible": visible,
    "takeover": takeover,
    "import": large_import,
    "peers": peers,
    "building": generation.building,
    "compacting": generation.compacting,
    "beside": beside.beside,
    "memory": generation.memory,
}


def main() -> None:
    """Run the benchmarks and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000, help="deployments of the large registry")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS))
    parser.add_argument("--keep", type=Path, help="build here and keep it for the next run")
    arguments = parser.parse_args()
    table = Table("figure", "measured", "beside it", "ratio", "bar", "met", title="CQAR benchmarks")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.only:
            for figure in BENCHMARKS[name](folder, arguments.size):
                ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
                table.add_row(
                    figure.what, figure.measured, figure.peer, ratio, figure.bar, "yes" if figure.met else "NO"
                )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
