"""Figures of the immutable generation: building, compaction, memory of further processes."""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import duckdb
import lmdb
import msgspec

from cqar import model, snapshot
from cqar.client._build import build
from cqar.client._compact import compact
from cqar.client._generation import INDEX, obtain
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.model import Batch, Change, Op
from tests.benchmarks import synthetic
from tests.benchmarks.figures import Figure
from tests.worlds import NOW, chain_hash

BUILDS = 3
CHANGES = 20_000
LOOKUPS = 10_000
AT_ONCE = 50_000


def building(folder: Path, size: int) -> Iterator[Figure]:
    """Building from Parquet beside the bare work: loading the very same sorted entries into LMDB, and one CTAS per file."""
    published = synthetic.publish(folder / "snapshots", size)
    target = folder / "building" / "gen"
    ours, bare = [], []
    for _ in range(BUILDS):
        shutil.rmtree(target.parent, ignore_errors=True)
        start = time.perf_counter()
        build(target, published, lambda _what, _part: None)
        ours.append(time.perf_counter() - start)
        bare.append(_bare_load(target / INDEX, folder / "bare.lmdb") + _bare_tables(published, folder / "bare.duckdb"))
    shutil.rmtree(target.parent, ignore_errors=True)
    ratio = statistics.median([mine / theirs for mine, theirs in zip(ours, bare, strict=True)])
    yield Figure(
        f"build a generation, {size:,}",
        f"{statistics.median(ours):.1f} s",
        f"bare LMDB load and CTAS: {statistics.median(bare):.1f} s",
        ratio,
        "<= 2",
        ratio <= 2,
    )


def _bare_load(source: Path, target: Path) -> float:
    target.unlink(missing_ok=True)
    took = 0.0
    with (
        lmdb.open(str(source), subdir=False, readonly=True, lock=False) as old,
        old.begin() as reading,
        lmdb.open(
            str(target), subdir=False, lock=False, map_size=64 << 30, lib_version=0, sync=False, metasync=False
        ) as new,
    ):
        entries = iter(reading.cursor())
        while part := list(islice(entries, AT_ONCE)):
            start = time.perf_counter()
            with new.begin(write=True) as txn, txn.cursor() as cursor:
                cursor.putmulti(part, append=True)
            took += time.perf_counter() - start
        start = time.perf_counter()
        new.sync(True)
        took += time.perf_counter() - start
    target.unlink()
    return took


def _bare_tables(published: snapshot.Snapshot, target: Path) -> float:
    target.unlink(missing_ok=True)
    start = time.perf_counter()
    with duckdb.connect(":memory:", config={"threads": "2"}) as connection:
        connection.execute(f"ATTACH '{target}' AS gen (STORAGE_VERSION 'v1.5.0')")
        for file in sorted(published.path.glob("*.parquet")):
            connection.execute(f"CREATE TABLE gen.{file.stem} AS SELECT * FROM read_parquet('{file}')")
        connection.execute("DETACH gen")
    took = time.perf_counter() - start
    target.unlink()
    return took


def compacting(folder: Path, size: int) -> Iterator[Figure]:
    """Compaction after many changes, beside the bare copy of the files, made durable."""
    generation = obtain(folder, synthetic.publish(folder / "snapshots", size).path)
    replica = Replica(generation, Recent())
    changes = min(CHANGES, size // 4)
    for number in range(changes // 100):
        replica.apply(_batch(replica, [n * 17 % size for n in range(number * 100, number * 100 + 100)]))
    target = folder / "compacting" / "gen"
    ours, bare = [], []
    for _ in range(BUILDS):
        shutil.rmtree(target.parent, ignore_errors=True)
        start = time.perf_counter()
        compact(target, replica, lambda _what, _part: None)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        for file in generation.path.iterdir():
            shutil.copyfile(file, target.parent / file.name)
            with (target.parent / file.name).open("rb") as copied:
                os.fsync(copied.fileno())
        bare.append(time.perf_counter() - start)
    shutil.rmtree(target.parent, ignore_errors=True)
    mine, theirs = statistics.median(ours), statistics.median(bare)
    yield Figure(
        f"compact {changes:,} changes, {size:,}",
        f"{mine:.1f} s",
        f"durable copy of the files: {theirs:.1f} s",
        mine / theirs,
        "(copy + changes)",
        True,
    )


def _batch(replica: Replica, numbers: list[int]) -> Batch:
    """Rename an asset, move a deployment or raise a flag, in turn."""
    changes = []
    for number in numbers:
        asset_id = synthetic._uuid(number // synthetic.PER_ASSET, 1)
        record: model.Record
        if number % 3 == 0:
            record = msgspec.structs.replace(replica.get("asset", asset_id), symbol=f"NEW{number}")
        elif number % 3 == 1:
            key = synthetic._uuid(number, 2)
            record = msgspec.structs.replace(replica.get("deployment", key), chain_id="chain-00")
        else:
            record = model.QualityFlag(
                flag_id=f"flag-{number}",
                asset_id=asset_id,
                flag_type=model.FlagType.PAUSED,
                severity=model.Severity.HIGH,
                source="bench",
                reason="of the benchmark",
            )
        kind = model.KIND_OF[type(record)]
        changes.append(Change(op=Op.PUT, kind=kind.name, key=kind.key_of(record), record=record))
    position = replica.position + 1
    return Batch(position=position, chain=chain_hash(position), committed_at=NOW, changes=tuple(changes))


_PROGRAM = """
import json, sys
from pathlib import Path
from typing import Any
from cqar.client._client import Client
from cqar.client._generation import Generation
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._view import View

client = Client(View(None, Replica(Generation(Path(sys.argv[1])), Recent())))
for line in sys.stdin:
    if line == "measure\\n":
        held = dict(line.split()[:2] for line in open("/proc/self/smaps_rollup") if "kB" in line)
        print(json.dumps({name.strip(":"): int(size) // 1024 for name, size in held.items()}), flush=True)
        continue
    symbol, chain = line.split()
    client.resolve(symbol, chain=chain)
"""


def memory(folder: Path, size: int) -> Iterator[Figure]:
    """What a further process adds to the memory of a host, in PSS, after it has looked up as much as those before it."""
    generation = obtain(folder, synthetic.publish(folder / "snapshots", size).path)
    asked = "".join([f"{symbol} {chain}\n" for symbol, chain in synthetic.questions(size, min(LOOKUPS, size // 4))])
    processes: list[subprocess.Popen[str]] = []
    sums = []
    private = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(generation.path)], stdin=-1, stdout=-1, text=True
        )
        processes.append(process)
        assert process.stdin is not None
        process.stdin.write(asked)
        held = [_measured(each) for each in reversed(processes)]
        sums.append(sum(each["Pss"] for each in held))
        private = held[0]["Pss_Anon"]
    for process in processes:
        process.communicate()
    added = statistics.median([after - before for before, after in pairwise(sums)])
    yield Figure(
        f"a further process after {LOOKUPS:,} look-ups",
        f"{added:.0f} MB PSS",
        f"{private} MB of it private; the first one, with the file's pages: {sums[0]} MB",
        None,
        "<= 30 MB",
        added <= 30,
    )


def _measured(process: subprocess.Popen[str]) -> dict[str, int]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("measure\n")
    process.stdin.flush()
    answer: dict[str, int] = json.loads(process.stdout.readline())
    gc.collect()
    return answer
