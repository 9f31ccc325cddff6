"""Snapshots of a real database: complete, at one position, published whole or not at all, and offered only while usable."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from cqar import snapshot, wire
from cqar.errors import NotFoundError, SnapshotError
from cqar.model import KINDS, Asset, AssetType, Chain, Deployment, Record
from cqar.server.config import Config
from cqar.server.export import Exporter, StoppedError, export_snapshot
from cqar.server.server import running_server
from cqar.server.store import Store
from cqar.snapshot import Snapshot
from cqar.v1 import replication_pb2 as pb
from cqar.v1.replication_pb2_grpc import ReplicationStub

PATIENCE = 20.0


def replication(channel: grpc.Channel) -> Any:
    """Give a plain client of the service."""
    return ReplicationStub(channel)  # type: ignore[no-untyped-call]


@contextmanager
def client_of(migrated_url: str, folder: Path) -> Iterator[Any]:
    """Yield a gRPC client of a server that publishes nothing by itself, with its snapshots in a folder."""
    config = Config(
        listen="127.0.0.1:0", database=migrated_url, data_dir=folder, snapshots=str(folder), snapshot_interval=0
    )
    with running_server(config) as server, grpc.insecure_channel(server.target) as channel:
        yield replication(channel)


def fill(store: Store, count: int, name: str = "a") -> None:
    """Commit a chain and assets with a deployment each."""
    with store.transaction(actor="test") as tx:
        tx.put(Chain(chain_id=name, name=name, namespace="test", aliases=(f"test:{name}",)))
        for number in range(count):
            asset = tx.put(
                Asset(symbol=f"S{number}", name="Some", asset_type=AssetType.TOKEN, metadata=(("n", str(number)),))
            )
            tx.put(
                Deployment(
                    asset_id=asset.asset_id, chain_id=name, contract_address=f"0x{number:040x}", decimals=number % 19
                )
            )


def everything(store: Store) -> dict[str, list[Record]]:
    """Read the whole database."""
    with store.export() as (_, records, _):
        return {name: list(rows) for name, rows in records.items()}


def contents(made: Snapshot) -> dict[str, list[Record]]:
    """Read a whole snapshot."""
    return {name: list(snapshot.read(made, name)) for name in KINDS}


def files_of(made: Snapshot) -> dict[str, bytes]:
    """Read the files of a snapshot as they are."""
    return {path.name: path.read_bytes() for path in made.path.iterdir()}


def fetch(stub: Any, log_id: str = "", position: int = 0) -> dict[str, bytes]:
    """Download a snapshot; the manifest must come first."""
    files: dict[str, bytes] = {}
    for reply in stub.FetchSnapshot(pb.FetchSnapshotRequest(log_id=log_id, position=position), timeout=PATIENCE):
        if reply.WhichOneof("part") == "manifest":
            assert not files
            files[snapshot.MANIFEST] = reply.manifest
        else:
            assert len(reply.chunk.data) <= 1 << 20
            files[reply.chunk.file] = files.get(reply.chunk.file, b"") + reply.chunk.data
    return files


def error_of(stub: Any, log_id: str = "", position: int = 0) -> Exception:
    """Give the error that a download ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        fetch(stub, log_id, position)
    status: Any = caught.value
    return wire.error_from_status(status.code(), status.details(), status.trailing_metadata())


def spoil(made: Snapshot) -> None:
    """Flip one bit in a file of a snapshot."""
    path = made.path / "assets.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_snapshot_equals_the_database(store: Store, tmp_path: Path) -> None:
    """Every record of every kind, at the position and chain of the database, in files that verify."""
    fill(store, 500)
    made = export_snapshot(store, tmp_path)
    assert made.manifest.head == store.head()
    assert contents(snapshot.verify(made.path)) == everything(store)


def test_an_empty_registry_has_a_snapshot(store: Store, tmp_path: Path) -> None:
    """A follower of a new server can start from a snapshot like any other."""
    made = export_snapshot(store, tmp_path)
    assert made.manifest.position == 0
    assert set(made.rows.values()) == {0}


def test_an_unchanged_registry_is_not_exported_again(store: Store, tmp_path: Path) -> None:
    """A second export at the same position gives the first one, untouched."""
    fill(store, 5)
    first = export_snapshot(store, tmp_path)
    before = files_of(first)
    second = export_snapshot(store, tmp_path)
    assert second == first
    assert files_of(second) == before


def test_a_damaged_snapshot_is_replaced(store: Store, tmp_path: Path) -> None:
    """An export at the position of a damaged snapshot publishes an intact one in its place."""
    fill(store, 5)
    spoil(export_snapshot(store, tmp_path))
    assert contents(snapshot.verify(export_snapshot(store, tmp_path).path)) == everything(store)


def test_another_history_at_the_same_position_is_refused(store: Store, tmp_path: Path, migrated_url: str) -> None:
    """A snapshot made before a restore is never taken for the present registry."""
    fill(store, 5)
    export_snapshot(store, tmp_path)
    with psycopg.connect(migrated_url) as connection:
        connection.execute("UPDATE clock SET chain = decode(repeat('ab', 16), 'hex')")
    with pytest.raises(SnapshotError) as caught:
        export_snapshot(store, tmp_path)
    assert caught.value.reason == "LOG_MISMATCH"


def test_an_export_beside_writers_is_the_state_at_its_position(store: Store, tmp_path: Path) -> None:
    """Every commit up to the position is in the snapshot and none after it: each wrote one chain."""

    def write(worker: int) -> None:
        for number in range(20):
            fill(store, 1, f"w{worker}x{number}")

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, worker) for worker in range(4)]
        made = [export_snapshot(store, tmp_path) for _ in range(10)]
        for future in writing:
            future.result()
    for each in made:
        assert each.rows["chain"] == each.manifest.position
        assert each.rows["deployment"] == each.manifest.position


def test_an_export_that_fails_publishes_nothing(store: Store, tmp_path: Path) -> None:
    """An export that breaks off half-way leaves the previous snapshot as the newest, and no work folder."""
    fill(store, 5)
    previous = export_snapshot(store, tmp_path)
    fill(store, 5, "b")
    remaining = iter([False] * 4 + [True])
    with pytest.raises(StoppedError):
        export_snapshot(store, tmp_path, stopped=lambda: next(remaining))
    assert snapshot.latest(tmp_path) == previous
    assert [path.name for path in previous.path.parent.iterdir()] == [previous.path.name]


KILLED = """
import sys, time
from pathlib import Path
from cqar.server.export import export_snapshot
from cqar.server.store import Store

def half_way():
    global left
    left -= 1
    if left == 0:
        print("half-way", flush=True)
        time.sleep(600)
    return False

left = 20
export_snapshot(Store(sys.argv[1]), Path(sys.argv[2]), stopped=half_way)
"""


def test_a_killed_export_leaves_the_previous_snapshot_in_use(store: Store, tmp_path: Path, migrated_url: str) -> None:
    """After kill -9 in the middle, only a work folder is left; readers do not see it and a later prune removes it."""
    fill(store, 30)
    previous = export_snapshot(store, tmp_path)
    fill(store, 30, "b")
    command = [sys.executable, "-c", KILLED, migrated_url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half-way\n"
        process.kill()
    assert snapshot.latest(tmp_path) == previous
    (left,) = previous.path.parent.glob(".tmp-*")
    yesterday = time.time() - timedelta(days=2).total_seconds()
    os.utime(left, (yesterday, yesterday))
    made = export_snapshot(store, tmp_path)
    snapshot.prune(tmp_path)
    assert not left.exists()
    assert contents(made) == everything(store)


def run_exporter(store: Store, folder: Path, use: Any, *, interval: float = 0.05) -> Exporter:
    """Run the timer while it is used."""

    async def run() -> Exporter:
        exporter = Exporter(store, folder, interval=interval, keep=1)
        exporter.start()
        try:
            async with asyncio.timeout(PATIENCE):
                await use(exporter)
        finally:
            await exporter.stop()
        return exporter

    return asyncio.run(run())


async def until(condition: Any) -> None:
    """Wait until something is true; the caller bounds the time."""
    while not condition():  # noqa: ASYNC110 - the exporter has no event for each of its numbers
        await asyncio.sleep(0.01)


def test_the_timer_exports_only_when_the_position_moved(store: Store, tmp_path: Path) -> None:
    """One export at the start, none while nothing is written, one after a write."""

    async def use(exporter: Exporter) -> None:
        await until(lambda: exporter.exports == 1)
        await asyncio.sleep(0.3)  # six intervals
        assert exporter.exports == 1
        await asyncio.to_thread(fill, store, 3)
        await until(lambda: exporter.exports == 2)

    run_exporter(store, tmp_path, use)
    assert snapshot.latest(tmp_path).manifest.head == store.head()


def test_a_failed_export_is_counted_and_tried_again(store: Store, tmp_path: Path) -> None:
    """A folder that cannot be written stops nothing: when it can be again, the next interval publishes."""
    folder = tmp_path / "snapshots"
    folder.write_text("in the way")

    async def use(exporter: Exporter) -> None:
        await until(lambda: exporter.failures >= 2)
        folder.unlink()
        await until(lambda: exporter.exports == 1)

    run_exporter(store, folder, use)
    assert snapshot.latest(folder).manifest.head == store.head()


def test_snapshots_are_listed_and_fetched_over_grpc(store: Store, migrated_url: str, tmp_path: Path) -> None:
    """A follower without shared storage gets the manifest and every file, byte for byte, of the newest or of one it names."""
    fill(store, 100)
    old = export_snapshot(store, tmp_path)
    fill(store, 100, "b")
    new = export_snapshot(store, tmp_path)
    with client_of(migrated_url, tmp_path) as stub:
        listed = stub.ListSnapshots(pb.ListSnapshotsRequest(), timeout=PATIENCE).snapshots
        assert [wire.token_from_wire(info.head) for info in listed] == [new.manifest.head, old.manifest.head]
        assert [info.bytes for info in listed] == [new.size, old.size]
        assert fetch(stub) == files_of(new)
        assert fetch(stub, old.manifest.log_id, old.manifest.position) == files_of(old)


def test_a_damaged_snapshot_is_not_sent(store: Store, migrated_url: str, tmp_path: Path) -> None:
    """The newest intact one goes out instead; if the damaged one is asked for, DATA_LOSS, and no path is told."""
    fill(store, 100)
    old = export_snapshot(store, tmp_path)
    fill(store, 100, "b")
    new = export_snapshot(store, tmp_path)
    spoil(new)
    with client_of(migrated_url, tmp_path) as stub:
        assert fetch(stub) == files_of(old)
        error = error_of(stub, new.manifest.log_id, new.manifest.position)
    assert isinstance(error, SnapshotError)
    assert str(tmp_path) not in f"{error} {error.metadata}"


@pytest.mark.parametrize(("log_id", "position"), [("", 0), ("..", 0), ("../..", 1), ("", 77), ("", -1)])
def test_what_is_not_there_is_not_found(
    store: Store, migrated_url: str, tmp_path: Path, log_id: str, position: int
) -> None:
    """No snapshot, another log or a position without one: NOT_FOUND; a path is no log id."""
    if position:
        export_snapshot(store, tmp_path)
    with client_of(migrated_url, tmp_path) as stub:
        assert isinstance(error_of(stub, log_id, position), NotFoundError)


def test_a_snapshot_that_the_feed_cannot_continue_is_not_offered(
    store: Store, migrated_url: str, tmp_path: Path
) -> None:
    """After a restore, snapshots of the lost future are not offered: a follower would come back for ever."""
    fill(store, 5)
    kept = export_snapshot(store, tmp_path)
    fill(store, 5, "b")
    lost = export_snapshot(store, tmp_path)
    with psycopg.connect(migrated_url) as connection:
        connection.execute("UPDATE clock SET position = 1, chain = (SELECT chain FROM batches WHERE position = 1)")
        connection.execute("DELETE FROM batches WHERE position = 2")
    assert lost.path.exists()
    with client_of(migrated_url, tmp_path) as stub:
        listed = stub.ListSnapshots(pb.ListSnapshotsRequest(), timeout=PATIENCE).snapshots
        assert [info.head.position for info in listed] == [kept.manifest.position]


def test_the_server_publishes_by_itself(store: Store, migrated_url: str, tmp_path: Path) -> None:
    """A running server has a snapshot of its database, under its data folder, soon after its start."""
    fill(store, 5)
    config = Config(listen="127.0.0.1:0", database=migrated_url, data_dir=tmp_path)
    with running_server(config) as server, grpc.insecure_channel(server.target) as channel:
        stub = replication(channel)
        deadline = time.monotonic() + PATIENCE
        while not stub.ListSnapshots(pb.ListSnapshotsRequest(), timeout=PATIENCE).snapshots:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        made = snapshot.latest(Path(config.snapshot_root))
        assert fetch(stub) == files_of(made)
        shutil.rmtree(made.path)
        assert isinstance(error_of(stub), NotFoundError)
