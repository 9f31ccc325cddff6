"""Calls while somebody imports, of a process that only reads and of the one that syncs, beside a dict look-up in the same loop."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from cqar.client import Asset, AssetType, connect
from tests.attacks.latency import ETHEREUM, Reader, assets
from tests.benchmarks.figures import Figure
from tests.processes import process


def large_import(_folder: Path, size: int) -> Iterator[Figure]:
    """The gate and `resolve`, asked each millisecond while up to 20,000 assets come in, 1,000 records a transaction."""
    number = max(2_000, min(20_000, size // 10))
    with (
        tempfile.TemporaryDirectory() as data,
        process("--data-dir", data, "--snapshot-interval", "0") as server,
        ExitStack() as stack,
    ):
        Path(data).chmod(0o755)
        target, folder = server.target, Path(data, "replica")
        with connect(target, replica_dir=Path(data, "writer"), sync="off", start="server") as writer:
            coin = writer.registry.create_asset(Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.TOKEN)).asset
            writer.registry.upsert_records([ETHEREUM])
            readers = {}
            for name, sync in (("that syncs", "auto"), ("that only reads", "off")):
                readers[name] = Reader(target, folder, coin.asset_id, "USDC", sync=sync)
                stack.callback(readers[name].kill)
                readers[name].ready()
            position = 0
            for records in assets(number):
                _, position = writer.registry.upsert_records(records)
            with connect(target, replica_dir=folder, sync="off") as client:
                client.wait_for(position, timeout=120)
        for name, reader in readers.items():
            told = reader.stop()
            late = told["late"]
            yield Figure(
                f"a thread of a process {name} goes on too late by",
                f"worst {late.worst / 1000:.1f} ms, p99.9 {late.p999 / 1000:.1f} ms",
                "the machine's own share is in it",
                None,
                "(told)",
                True,
            )
            for what in ("gate", "resolve"):
                took, control = told[what], told["control"]
                yield Figure(
                    f"{what} of a process {name}, importing {number:,} assets",
                    f"worst {took.worst / 1000:.1f} ms (cpu {took.worst_cpu / 1000:.1f}), p99.9 {took.p999:.0f} µs",
                    f"dict: worst {control.worst / 1000:.1f} ms, p99.9 {control.p999:.0f} µs; age <= {took.worst_age:.1f} s",
                    took.p999 / max(1.0, control.p999),
                    "<= 5 ms of cpu",
                    took.worst_cpu <= 5_000,
                )
