"""Snapshots on object storage, over HTTP as S3 speaks it: whole or not at all, verified, gone on with, and kept while needed."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import msgspec
import pytest
from typer.testing import CliRunner

from cqar import objects, snapshot, storage
from cqar.cli import app
from cqar.client import (
    Asset,
    AssetType,
    Chain,
    Deployment,
    FlagType,
    QualityFlag,
    Severity,
    connect,
    open_snapshot,
)
from cqar.errors import SnapshotError, UnavailableError
from cqar.locations import place_of
from cqar.model import KINDS
from cqar.objects import Objects
from cqar.server.config import Config
from cqar.server.export import export_snapshot
from cqar.server.server import running_server
from cqar.server.store import Store
from cqar.snapshot import Snapshot
from cqar.storage import Storage
from cqar.v1 import replication_pb2 as pb
from tests.integration import test_client
from tests.integration.test_export import PATIENCE, contents, error_of, everything, fetch, fill, replication
from tests.objects import BUCKET, SECRET, ObjectServer, Proxy
from tests.worlds import World, catalogue, excerpt

PROGRAM = (
    "import sys; from cqar.client import open_snapshot; print(open_snapshot({uri!r}, replica_dir={folder!r}).position)"
)


def eventually(condition: Callable[[], Any]) -> None:
    """Wait for what may take processes of their own."""
    test_client.eventually(condition, within=PATIENCE)


@pytest.fixture(scope="module")
def object_server() -> Iterator[ObjectServer]:
    """Run an object storage."""
    server = ObjectServer()
    yield server
    server.stop()


@pytest.fixture
def uri(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URI of an empty place on it."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return object_server.uri(f"test-{uuid4().hex}/snapshots")


@pytest.fixture
def proxy(object_server: ObjectServer) -> Iterator[Proxy]:
    """Run a proxy before it."""
    proxy = Proxy(object_server.address)
    yield proxy
    proxy.close()


@pytest.fixture
def world() -> World:
    """A small registry of well-known assets."""
    return World(excerpt(["USDC", "ETH", "WETH"]))


def publish(place: Storage, world: World, created_at: datetime | None = None) -> Snapshot:
    """Publish a world as it is now."""
    moment = created_at or datetime.now(UTC)
    return place.publish(world.head, moment, {kind: world.all(kind) for kind in KINDS})


def published(uri: str) -> list[Snapshot]:
    """List what is there, with a storage that has read nothing yet."""
    return storage.listing(storage.at(uri))


def prefix_of(made: Snapshot) -> str:
    """Give the beginning of a snapshot's keys in its bucket."""
    return str(made.path.relative_to(BUCKET))


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_what_is_published_is_found_verified_read_and_pruned(kind: str, uri: str, world: World, tmp_path: Path) -> None:
    """The same is true of a folder by its URI and of object storage."""
    location = uri if kind == "s3" else f"file://{tmp_path}/snapshots"
    place = storage.at(location)
    assert storage.listing(place) == []
    whole = World(record for records in catalogue().values() for record in records)
    old = datetime.now(UTC) - timedelta(days=3)
    made = publish(place, whole, old)
    assert published(location) == [made]
    place.verify(made)
    local = place.fetch(made, tmp_path / "downloads")
    for name in KINDS:
        assert list(snapshot.read(local, name)) == whole.all(name)
    assert b"".join(place.chunks(made, "assets.parquet", 1000)) == (local.path / "assets.parquet").read_bytes()
    assert publish(place, whole) == made  # it is there
    whole.commit()
    newer = publish(place, whole, old + timedelta(hours=2))
    assert published(location) == [newer, made]
    with open_snapshot(location, replica_dir=tmp_path / "replica") as client:
        assert client.position == 2
    assert place.prune(keep=1) == [made.location]
    assert published(location) == [newer]
    assert not list((tmp_path / "replica").glob("*/download/*"))


def test_one_snapshot_can_be_named_by_its_own_uri(uri: str, world: World, tmp_path: Path) -> None:
    """Not only the place but each snapshot in it can be listed and read."""
    place = storage.at(uri)
    first = publish(place, world)
    world.commit()
    publish(place, world)
    own = uri.replace(place.name, first.location)
    assert published(own) == [first]
    assert storage.at(own).fetch(first, tmp_path).manifest == first.manifest


def test_a_folder_that_was_copied_to_a_bucket_is_read_there(
    object_server: ObjectServer, uri: str, world: World, tmp_path: Path
) -> None:
    """The layout of a folder is one of object storage, too: `aws s3 sync` is a way to publish."""
    made = world.publish(tmp_path)
    root = place_of(uri).root.removeprefix(f"{BUCKET}/")
    for file in made.path.iterdir():
        object_server.put(f"{root}/{file.relative_to(tmp_path)}", file.read_bytes())
    (found,) = published(uri)
    assert found.manifest == made.manifest
    storage.at(uri).verify(found)


def test_the_record_of_a_database_survives_the_trip(store: Store, uri: str, tmp_path: Path) -> None:
    """Every record of every kind, at the position and chain of the database."""
    fill(store, 100)
    made = export_snapshot(store, uri)
    assert made.manifest.head == store.head()
    assert contents(storage.at(uri).fetch(made, tmp_path)) == everything(store)


def test_two_that_publish_at_once_are_both_right(uri: str, world: World) -> None:
    """Neither overwrites a key of the other; readers may take either."""
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: publish(storage.at(uri), world), range(2)))
    for each in published(uri):
        storage.at(uri).verify(each)
    assert {each.path for each in published(uri)} == {each.path for each in made}
    assert {each.manifest.head for each in made} == {world.head}


def test_many_readers_beside_an_exporter_always_find_one_that_is_whole(uri: str, world: World, tmp_path: Path) -> None:
    """While snapshots come and go, each reader loads one that verifies, from what it listed however long ago."""
    publish(storage.at(uri), world)
    done = threading.Event()

    def read(number: int) -> int:
        place, times = storage.at(uri), 0
        while not done.is_set():
            newest = storage.listing(place)[0]
            local = place.fetch(newest, tmp_path / str(number))
            assert sum(1 for _ in snapshot.read(local, "asset")) == newest.rows["asset"]
            times += 1
        return times

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, number) for number in range(3)]
        writer = storage.at(uri)
        try:
            for _ in range(3):
                world.commit()
                publish(writer, world)
                writer.prune(keep=1, min_age=timedelta(0))
        finally:
            done.set()
        assert all(reader.result(PATIENCE) > 0 for reader in readers)
    assert len(published(uri)) == 1


def test_processes_that_open_at_once_share_one_copy(uri: str, world: World, proxy: Proxy, tmp_path: Path) -> None:
    """One of them copies and builds, the others take what it built."""
    made = publish(storage.at(uri), world)
    program = PROGRAM.format(uri=proxy.before(uri), folder=str(tmp_path / "replica"))
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [each.communicate(timeout=PATIENCE)[0] for each in running] == ["1\n"] * 3
    assert proxy.asked == made.size


# --- killed --------------------------------------------------------------------------------------------------------------

EXPORT = """
import sys, time
from cqar.server.export import export_snapshot
from cqar.server.store import Store

def reached():
    print("reached", flush=True)
    time.sleep(600)

def half_way():
    global left
    left -= 1
    if left == 0:
        reached()
    return False

left = int(sys.argv[3])
export_snapshot(Store(sys.argv[1]), sys.argv[2], stopped=half_way, confirm=reached)
"""


@pytest.mark.parametrize(("rows", "files"), [(1, 0), (70, 2), (-1, len(KINDS) + 1)], ids=["first", "between", "last"])
def test_a_killed_exporter_leaves_nothing_that_a_reader_takes(
    object_server: ObjectServer, store: Store, uri: str, rows: int, files: int
) -> None:
    """After kill -9 before, between and after its files the newest snapshot is the one before; a day later all is gone."""
    fill(store, 30)
    previous = export_snapshot(store, uri)
    fill(store, 30, "b")
    with subprocess.Popen(
        [sys.executable, "-c", EXPORT, store.url, uri, str(rows)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reached\n"
        process.kill()
    root = place_of(uri).root.removeprefix(f"{BUCKET}/")
    left = object_server.keys(root).keys() - object_server.keys(prefix_of(previous)).keys()
    assert len(left) == files
    assert published(uri) == [previous]
    made = export_snapshot(store, uri)
    assert published(uri) == [made, previous]
    for hours, gone in ((23, False), (25, True)):
        later = Objects(place_of(uri), lambda hours=hours: datetime.now(UTC) + timedelta(hours=hours))  # type: ignore[misc]
        later.prune()
        assert (not left & object_server.keys(root).keys()) is (gone or not files)
    assert published(uri) == [made, previous]
    storage.at(uri).verify(made)


def test_an_exporter_that_fails_half_way_publishes_nothing(uri: str, world: World, proxy: Proxy) -> None:
    """A connection that breaks while files are uploaded is an error, and the next attempt succeeds."""
    through_it = proxy.before(uri)
    proxy.left = 3_000  # bytes of answers: a few uploads
    with pytest.raises(UnavailableError) as caught:
        publish(storage.at(through_it), world)
    assert caught.value.reason == "STORAGE"
    assert published(uri) == []
    proxy.left = None
    made = publish(storage.at(through_it), world)
    assert published(uri) == [made]


def test_a_download_that_is_cut_goes_on_where_it_was(
    uri: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time only the bytes that are not there yet are asked for, from the middle of a file on."""
    monkeypatch.setattr(objects, "PART", 32 << 10)
    made = publish(storage.at(uri), World(record for records in catalogue().values() for record in records))
    through_it = proxy.before(uri)
    proxy.left = made.size // 2
    with pytest.raises(UnavailableError) as caught:
        storage.at(through_it).fetch(made, tmp_path)
    assert caught.value.reason == "STORAGE"
    there = {path.name: path.stat().st_size for path in (tmp_path / made.manifest.sha256).iterdir()}
    assert sum(there.values()) > made.size // 4
    assert any(0 < there.get(entry.name, 0) < entry.bytes for entry in made.manifest.files)
    proxy.ranges, proxy.left = [], None
    local = storage.at(through_it).fetch(made, tmp_path)
    assert snapshot.verify(local.path).manifest == made.manifest
    assert proxy.asked == made.size - sum(there.values())
    for name in {name for name, _, _ in proxy.ranges}:
        assert min(first for named, first, _ in proxy.ranges if named == name) == there.get(name, 0)
    proxy.ranges = []
    assert storage.at(through_it).fetch(made, tmp_path) == local
    assert proxy.asked == 0


def test_a_part_that_was_damaged_on_the_disk_is_copied_anew(uri: str, world: World, tmp_path: Path) -> None:
    """Zeros after a power failure, or a file that is too long, cost a copy of that file, not the snapshot."""
    place = storage.at(uri)
    made = publish(place, world)
    folder = tmp_path / made.manifest.sha256
    folder.mkdir()
    (folder / "assets.parquet").write_bytes(bytes(100))
    (folder / "chains.parquet").write_bytes(bytes(1_000_000))
    assert snapshot.verify(place.fetch(made, tmp_path).path).manifest == made.manifest


def test_a_process_that_is_killed_while_it_downloads_is_succeeded(uri: str, proxy: Proxy, tmp_path: Path) -> None:
    """What a killed client has copied is not asked for again by the next one, and nothing is left of it at the end."""
    made = publish(storage.at(uri), World(record for records in catalogue().values() for record in records))
    program = PROGRAM.format(uri=proxy.before(uri), folder=str(tmp_path))
    proxy.left, proxy.silent = made.size // 2, True
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        assert proxy.enough.wait(PATIENCE)
        process.send_signal(signal.SIGKILL)
    (folder,) = tmp_path.glob(f"*/download/{made.manifest.sha256}")
    whole = {
        e.name
        for e in made.manifest.files
        if (folder / e.name).exists() and (folder / e.name).stat().st_size == e.bytes
    }
    assert whole
    proxy.ranges, proxy.left = [], None
    with open_snapshot(proxy.before(uri), replica_dir=tmp_path) as client:
        assert client.position == 1
    assert not whole & {name for name, _, _ in proxy.ranges}
    assert 0 < proxy.asked <= made.size - sum(e.bytes for e in made.manifest.files if e.name in whole)
    assert not list(tmp_path.glob("*/download/*"))


# --- damaged, removed ------------------------------------------------------------------------------------------------------


def _flip(server: ObjectServer, made: Snapshot, name: str) -> None:
    data = bytearray(server.get(f"{prefix_of(made)}/{name}"))
    data[len(data) // 2] ^= 1
    server.put(f"{prefix_of(made)}/{name}", bytes(data))


DAMAGE: dict[str, Callable[[ObjectServer, Snapshot], object]] = {
    "a flipped bit": lambda server, made: _flip(server, made, "assets.parquet"),
    "a file that is cut": lambda server, made: server.put(f"{prefix_of(made)}/assets.parquet", b"PAR1"),
    "a file that is gone": lambda server, made: server.client.delete_object(
        Bucket=BUCKET, Key=f"{prefix_of(made)}/assets.parquet"
    ),
    "a manifest of garbage": lambda server, made: server.put(f"{prefix_of(made)}/{snapshot.MANIFEST}", b"\xff{"),
}


def test_damaged_snapshots_are_refused_and_the_one_before_them_is_used(
    object_server: ObjectServer, uri: str, world: World, tmp_path: Path
) -> None:
    """Whatever is broken, clients open the newest that is whole, nothing of the broken ones stays with them, and it is mended."""
    place = storage.at(uri)
    before = publish(place, world)
    for damage in DAMAGE.values():
        world.commit()
        made = publish(place, world)
        damage(object_server, made)
        with pytest.raises(SnapshotError, match=made.path.name):
            place.verify(storage.at(uri).load(made.path))
    with open_snapshot(uri, replica_dir=tmp_path) as client:
        assert client.position == before.manifest.position
    assert not list(tmp_path.glob("*/download/*"))
    again = publish(storage.at(uri), world)
    assert again.path != made.path
    assert published(uri)[0] == again


def test_retention_takes_nothing_from_a_reader(
    object_server: ObjectServer, uri: str, world: World, tmp_path: Path
) -> None:
    """A manifest goes first, its files an hour later: who listed it before still loads it; what is listed is always whole."""
    start = datetime.now(UTC)
    clock = [start]
    place = Objects(place_of(uri), lambda: clock[0])
    made = []
    for number in range(3):
        made.append(publish(place, world, start - timedelta(days=3) + number * timedelta(hours=2)))
        world.commit()
    assert place.prune(keep=1) == [made[1].location, made[0].location]
    assert published(uri) == made[2:]
    for minutes, files in ((0, True), (58, True), (62, False)):
        clock[0] = start + timedelta(minutes=minutes)
        assert place.prune(keep=1) == []
        for each in made[:2]:
            assert any(key.endswith(".parquet") for key in object_server.keys(prefix_of(each))) is files
        if files:  # a reader listed it before it was pruned
            local = place.fetch(made[1], tmp_path / str(minutes))
            assert snapshot.verify(local.path).manifest == made[1].manifest
        place.verify(made[2])
    with pytest.raises(SnapshotError, match="missing"):
        place.fetch(made[0], tmp_path / "late")
    assert published(uri) == made[2:]


def test_a_prune_that_was_killed_between_note_and_manifest_is_done_again(
    object_server: ObjectServer, uri: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot whose manifest is still there is listed and whole, whatever an earlier attempt has noted, and gets its hour."""
    start = datetime.now(UTC)
    clock = [start]
    place = Objects(place_of(uri), lambda: clock[0])
    old, new = publish(place, world, start - timedelta(days=3)), None
    world.commit()
    new = publish(place, world, start - timedelta(days=2))
    object_server.put(f"{prefix_of(old)}/removed-before", b"")
    clock[0] = start + timedelta(hours=5)
    assert published(uri) == [new, old]
    place.verify(old)
    assert place.prune(keep=1) == [old.location]
    place.verify(new)
    assert published(uri) == [new]


# --- what is not there -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Give a function that runs a command line; no secret may be in anything that it prints."""
    monkeypatch.setenv("CQAR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CQAR_REPLICA_DIR", str(tmp_path / "replica"))

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, list(arguments))
        assert SECRET not in result.output
        assert "defect" not in result.stderr
        return result

    return run


def silent_address() -> tuple[socket.socket, str]:
    """Give an address that takes connections and never answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    return listening, f"127.0.0.1:{listening.getsockname()[1]}"


def test_what_cannot_be_reached_is_said_in_one_line_and_soon(
    object_server: ObjectServer, uri: str, command: Callable[..., Any], tmp_path: Path
) -> None:
    """An end point that is down, one that is silent, and a bucket that is not there: each with what to do, within seconds."""
    listening, silent = silent_address()
    cases = {
        object_server.uri(address="127.0.0.1:1"): ("STORAGE", "is the network up, and endpoint_override"),
        object_server.uri(address=silent, more="&request_timeout=1&connect_timeout=1"): (
            "STORAGE",
            "cannot be reached",
        ),
        object_server.uri(bucket="mistyped"): ("NO_BUCKET", "no such bucket: is its name right?"),
    }
    for location, (reason, advice) in cases.items():
        start = time.monotonic()
        result = command("snapshot", "list", location, "--json")
        assert result.exit_code == 1
        assert advice in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert json.loads(result.stdout)["error"]["reason"] == reason
        assert time.monotonic() - start < 10
    listening.close()
    with pytest.raises(UnavailableError) as caught:  # by way of another process
        open_snapshot(next(iter(cases)), replica_dir=tmp_path)
    assert caught.value.reason == "STORAGE"
    assert SECRET not in str(caught.value)


def test_an_account_that_may_not_is_told_what_to_set(
    object_server: ObjectServer, uri: str, command: Callable[..., Any]
) -> None:
    """Keys that the storage does not know are an error that names the variables, not the keys."""
    object_server.post("reset-auth", b"0")  # from the first request on
    try:
        result = command("snapshot", "list", uri)
    finally:
        object_server.post("reset-auth", b"inf")
    assert result.exit_code == 1
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_google_storage_that_is_down_is_said_alike(command: Callable[..., Any]) -> None:
    """The other provider's library has other words for it; what to do is the same."""
    result = command(
        "snapshot", "list", "gs://anonymous@bucket/x?scheme=http&endpoint_override=127.0.0.1:1&retry_limit_seconds=1"
    )
    assert result.exit_code == 1
    assert "cannot be reached" in result.stderr


def test_the_commands_work_on_a_uri(
    object_server: ObjectServer, store: Store, migrated_url: str, uri: str, command: Callable[..., Any]
) -> None:
    """Export, list, verify, prune and doctor: what a folder can, a bucket can."""
    fill(store, 10)
    exported = json.loads(command("snapshot", "export", uri, "--database", migrated_url, "--json").stdout)
    assert exported["path"].startswith(storage.at(uri).name)
    assert [each["path"] for each in json.loads(command("snapshot", "list", uri, "--json").stdout)] == [
        exported["path"]
    ]
    verified = command("snapshot", "verify", uri)
    assert verified.exit_code == 0
    assert f"ok    {exported['path']}" in verified.stdout
    assert "0 snapshots removed" in command("snapshot", "prune", uri).stderr
    assert "1 snapshots" in command("doctor", "--snapshots", uri).stdout
    (made,) = published(uri)
    _flip(object_server, made, "assets.parquet")
    damaged = command("snapshot", "verify", uri)
    assert damaged.exit_code == 1
    assert "FAIL" in damaged.stdout


def test_followers_are_not_told_where_the_storage_is(config: Config, object_server: ObjectServer) -> None:
    """When the server cannot reach it, they learn that, and the log has the rest."""
    location = object_server.uri(address="127.0.0.1:1")
    with (
        running_server(msgspec.structs.replace(config, snapshots=location)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = replication(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListSnapshots(pb.ListSnapshotsRequest(), timeout=PATIENCE)
        for told in (str(caught.value), str(error_of(stub))):
            assert "cannot reach its snapshots" in told
            assert "s3://" not in told


# --- end to end ------------------------------------------------------------------------------------------------------------


def test_a_server_and_its_clients_meet_on_object_storage(
    config: Config, object_server: ObjectServer, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Written, exported, loaded from the bucket, resolved, and blocked by the feed; gRPC has the same files."""
    caplog.set_level(logging.DEBUG, "cqar")
    place = storage.at(uri)

    def newest() -> int:
        return next((each.manifest.position for each in storage.listing(place)), 0)

    with running_server(msgspec.structs.replace(config, snapshots=uri, snapshot_interval=0.1)) as server:
        with connect(server.target, replica_dir=tmp_path / "writer") as writer:
            registry = writer.registry
            registry.create_chain(Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1))
            asset = registry.create_asset(Asset(symbol="DAI", name="Dai", asset_type=AssetType.TOKEN)).asset
            deployment = Deployment(
                asset_id=asset.asset_id, chain_id="ethereum", contract_address="0x" + "6b" * 20, decimals=18
            )
            position = registry.create_asset_deployment(deployment).position
            eventually(lambda: newest() == position)
            with connect(server.target, replica_dir=tmp_path / "reader", snapshots=uri, timeout=PATIENCE) as reader:
                assert reader._replica.generation.meta.position == position
                assert reader.resolve("DAI", chain="ethereum").asset.asset_id == asset.asset_id
                assert reader.check_tradable(asset.asset_id).decision == "ALLOW"
                registry.raise_quality_flag(
                    QualityFlag(
                        asset_id=asset.asset_id,
                        flag_type=FlagType.SCAM,
                        severity=Severity.CRITICAL,
                        source="tests",
                        reason="a test",
                    )
                )
                eventually(lambda: reader.check_tradable(asset.asset_id).decision == "BLOCK")
                assert not list((tmp_path / "reader").glob("*/download/*"))
            flagged = writer.position
            eventually(lambda: newest() == flagged)
            _flip(object_server, published(uri)[0], "assets.parquet")
            with connect(server.target, replica_dir=tmp_path / "other", snapshots=uri, timeout=PATIENCE) as other:
                assert other._replica.generation.meta.position < flagged  # of the one before
                assert other.check_tradable(asset.asset_id).decision == "BLOCK"
        with grpc.insecure_channel(server.target) as channel:
            files = fetch(replication(channel), published(uri)[-1].manifest.log_id, position)
    made = next(each for each in published(uri) if each.manifest.position == position)
    for name in (snapshot.MANIFEST, *(entry.name for entry in made.manifest.files)):
        assert files[name] == b"".join(storage.at(uri).chunks(made, name, 1 << 20))
    assert f"published snapshot {made.location}" in caplog.text
    assert SECRET not in caplog.text


def test_a_follower_of_a_storage_that_is_away_waits_for_it(
    config: Config,
    uri: str,
    proxy: Proxy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its state says why, and when the storage is back the replica comes up, from what had been copied."""
    proxy.left = 0
    with (
        running_server(msgspec.structs.replace(config, snapshots=uri, snapshot_interval=0.1)) as server,
        connect(
            server.target,
            replica_dir=tmp_path / "replica",
            snapshots=proxy.before(uri),
            start="server",
            timeout=0.5,
        ) as client,
    ):
        client.registry.create_chain(Chain(chain_id="c", name="C", namespace="test"))
        eventually(lambda: "cannot be reached" in (client.status().last_error or ""))
        eventually(lambda: published(uri) and published(uri)[0].manifest.position == 1)
        proxy.left = None
        eventually(lambda: client.position == 1 and client.age < 1)
    assert SECRET not in caplog.text
