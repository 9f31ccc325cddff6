"""Whoever may write to the place of the snapshots plants one: with the real history's head, and without its flags.

Before: a host that was new loaded it, followed the feed from there, and said ALLOW where the server says BLOCK; over gRPC, too, for
the server sends what it finds there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import msgspec
import pytest

from cqar import model, snapshot, storage
from cqar.client import Decision, NotReadyError, SnapshotError, _published, connect
from cqar.model import KINDS
from cqar.server.config import Config
from cqar.server.export import export_snapshot, offered
from cqar.server.server import ServerThread, running_server
from cqar.server.store import Store
from cqar.snapshot import Snapshot
from cqar.v1 import replication_pb2 as pb
from cqar.v1.replication_pb2_grpc import ReplicationStub
from tests.attacks.marks import attack
from tests.objects import BUCKET, ObjectServer
from tests.worlds import catalogue

pytestmark = attack(
    "A8", by="whoever may write to the bucket", promise="only what the registry has published is loaded"
)

ASSET = msgspec.convert(catalogue()["asset"][0], model.Asset)
FLAG = model.QualityFlag(
    asset_id=ASSET.asset_id,
    flag_type=model.FlagType.IMPOSTOR,
    severity=model.Severity.CRITICAL,
    source="desk",
    reason="hacked",
)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the snapshots are: a folder, or object storage."""
    if request.param == "folder":
        yield str(tmp_path / "published")
        return
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    objects = ObjectServer()
    yield objects.uri()
    objects.stop()


PLACES = pytest.mark.parametrize("place", ["folder", "bucket"], indirect=True)


@pytest.fixture
def registry(store: Store) -> Store:
    """A registry whose feed does not go back to its beginning: a new host needs a snapshot."""
    with store.transaction(actor="desk") as tx:
        tx.put(ASSET)
        tx.put(FLAG)
    with store.transaction(actor="desk") as tx:
        tx.put(msgspec.structs.replace(ASSET, name="another"))
    return store


def served(migrated_url: str, tmp_path: Path, place: str) -> Config:
    """Configure a server that publishes nothing by itself."""
    return Config(
        listen="127.0.0.1:0",
        database=migrated_url,
        data_dir=tmp_path / "data",
        snapshots=place,
        snapshot_interval=0,
        heartbeat_interval=0.1,
    )


def plant(place: str, real: Snapshot, scratch: Path) -> None:
    """Put a snapshot without flags beside the real one, or in its place: same head, newer date, all hashes right."""
    local = storage.at(place).fetch(real, scratch / "copy")
    records = {kind: list(snapshot.read(local, kind)) for kind in KINDS}
    records["quality_flag"] = []
    moment = datetime.now(UTC)
    made = snapshot.write(scratch / "forged", real.manifest.head, moment, records)
    if "://" not in place:
        shutil.rmtree(real.path)
        shutil.copytree(made.path, real.path)
        return
    objects = storage.at(place)
    forged = objects.publish(real.manifest.head, moment, records, counts=lambda _manifest: False)
    assert forged.manifest.sha256 != real.manifest.sha256
    assert storage.listing(objects)[0] == forged
    assert forged.path.is_relative_to(BUCKET)


def verdict_of_a_new_host(
    server: ServerThread, replica: Path, snapshots: str | None, *, timeout: float = 20
) -> Decision:
    """Connect with nothing there yet, and ask the gate; who has no data at all knows nothing."""
    try:
        client = connect(server.target, replica_dir=replica, snapshots=snapshots, timeout=timeout)
    except NotReadyError:
        return Decision.UNKNOWN
    with client:
        return client.check_tradable(ASSET.asset_id).decision


@PLACES
@pytest.mark.parametrize("road", ["the place", "gRPC"])
def test_a_planted_snapshot_is_not_loaded(
    road: str, place: str, registry: Store, migrated_url: str, tmp_path: Path
) -> None:
    """By those who read the place themselves, and by those whom the server sends its snapshots."""
    real = export_snapshot(registry, place)
    assert registry.trim(2, datetime.now(UTC) + timedelta(days=1)) == 1
    with running_server(served(migrated_url, tmp_path, place)) as server:
        where = place if road == "the place" else None
        assert verdict_of_a_new_host(server, tmp_path / "before", where) is Decision.BLOCK
        plant(place, real, tmp_path)
        if "://" not in place:
            # The real one is gone: there is none to begin with.
            assert verdict_of_a_new_host(server, tmp_path / "gone", where, timeout=2) is Decision.UNKNOWN
            assert (
                export_snapshot(registry, place).manifest.sha256 != real.manifest.sha256
            )  # puts another into its place
        assert verdict_of_a_new_host(server, tmp_path / "after", where) is Decision.BLOCK


@PLACES
def test_a_planted_snapshot_is_neither_offered_nor_taken_for_a_published_one(
    place: str, registry: Store, tmp_path: Path
) -> None:
    """An export at the same position does not sign what it finds there."""
    real = export_snapshot(registry, place)
    assert export_snapshot(registry, place) == real
    plant(place, real, tmp_path)
    ours = [each.manifest.sha256 for each in offered(registry, storage.at(place))]
    assert ours == ([] if "://" not in place else [real.manifest.sha256])
    again = export_snapshot(registry, place)
    assert [each.manifest.sha256 for each in offered(registry, storage.at(place))] == [again.manifest.sha256]
    assert list(snapshot.read(storage.at(place).fetch(again, tmp_path / "again"), "quality_flag"))


def test_a_snapshot_that_is_exchanged_after_the_look_is_refused(registry: Store, tmp_path: Path) -> None:
    """Between the list that the server vouched for and the copy another one came into its place."""
    place = str(tmp_path / "published")
    real = export_snapshot(registry, place)
    (offer,) = _published.offers_here(place, None)
    plant(place, real, tmp_path)
    with pytest.raises(SnapshotError, match="replaced"):
        _published.fetched_here(place, offer.path, offer.sha256, tmp_path / "downloads", None)


def test_a_copy_is_what_is_built_from(registry: Store, tmp_path: Path) -> None:
    """Files of a folder that others may write to are copied before they are verified."""
    place = str(tmp_path / "published")
    real = export_snapshot(registry, place)
    (offer,) = _published.offers_here(place, None)
    copy = _published.fetched_here(place, offer.path, offer.sha256, tmp_path / "downloads", None)
    assert copy.is_relative_to(tmp_path / "downloads")
    for path in real.path.iterdir():
        path.write_bytes(b"something else")
    assert snapshot.verify(copy).manifest == real.manifest


def test_a_server_vouches_for_what_was_published_anywhere(registry: Store, migrated_url: str, tmp_path: Path) -> None:
    """By an exporter of another host, in another place; whatever it is asked, it says yes to nothing else."""
    real = export_snapshot(registry, str(tmp_path / "elsewhere"))
    with (
        running_server(served(migrated_url, tmp_path, str(tmp_path / "own"))) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        ask: Callable[[pb.ListSnapshotsRequest], pb.ListSnapshotsResponse] = ReplicationStub(channel).ListSnapshots  # type: ignore[no-untyped-call]
        sha256 = real.manifest.sha256
        asked = [sha256, sha256.upper(), "0" * 64, "", "x" * 1000, "'; --", "nul\0"]
        assert list(ask(pb.ListSnapshotsRequest(sha256=asked)).vouched) == [sha256]
        assert list(ask(pb.ListSnapshotsRequest(sha256=["0" * 64])).snapshots) == []
        assert list(ask(pb.ListSnapshotsRequest()).snapshots) == []
        with pytest.raises(grpc.RpcError, match="at most 1000"):
            ask(pb.ListSnapshotsRequest(sha256=["0" * 64] * 1001))
