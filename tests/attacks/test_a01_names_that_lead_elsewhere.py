"""Whoever supplies a log id, a file's name or a head's names wants files written or removed outside the replica.

Before: `open_snapshot` of a manifest whose log id was `../../home`, or an absolute path, made folders there, and removed a folder
`download` there with its contents; a server's log id went the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from cqar import snapshot, storage, wire
from cqar.client import SnapshotError, State, _head, connect, open_snapshot
from cqar.client._folder import Folder
from cqar.errors import CqarError, InvalidError
from cqar.model import FeedToken
from cqar.paths import fault_of, inside
from cqar.v1 import replication_pb2 as pb
from cqar.v1 import types_pb2
from tests.attacks.marks import attack
from tests.faults.replica.liar import Liar
from tests.objects import BUCKET, ObjectServer
from tests.worlds import LOG_ID, World, catalogue

pytestmark = attack(
    "A1", by="a snapshot's author, or a server", promise="nothing is written or removed outside the replica"
)

LEADS = (
    "../../home",
    "{victim}",
    "..",
    ".",
    "",
    "a/b",
    "nul\0",
    LOG_ID.upper().replace("0", "A"),
    f"{LOG_ID}/..",
    f" {LOG_ID}",
)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of somebody who has nothing to do with this."""
    folder = tmp_path / "home"
    (folder / "download").mkdir(parents=True)
    (folder / "download" / "thesis").write_text("ten years of work")
    return folder


def is_untouched(victim: Path) -> bool:
    """Report whether all is as it was."""
    return [path.relative_to(victim).as_posix() for path in sorted(victim.rglob("*"))] == [
        "download",
        "download/thesis",
    ]


def forged(path: Path, change: Callable[[snapshot.Manifest], snapshot.Manifest]) -> None:
    """Rewrite a manifest, hash and all, as its author may."""
    manifest = change(snapshot.load_manifest(path).manifest)
    manifest = msgspec.structs.replace(manifest, sha256="")
    (path / snapshot.MANIFEST).write_bytes(
        snapshot.encoded(msgspec.structs.replace(manifest, sha256=manifest.digest()))
    )


def with_name(manifest: snapshot.Manifest, lead: str) -> snapshot.Manifest:
    """Give the first file another name."""
    first, *others = manifest.files
    return msgspec.structs.replace(manifest, files=(msgspec.structs.replace(first, name=lead), *others))


FORGERIES: dict[str, Callable[..., snapshot.Manifest]] = {
    "log id": lambda manifest, lead: msgspec.structs.replace(manifest, log_id=lead),
    "file name": with_name,
}


@pytest.mark.parametrize("where", ["snapshot", "root"])
@pytest.mark.parametrize("what", FORGERIES)
def test_a_manifest_that_leads_elsewhere_is_refused(what: str, where: str, victim: Path, tmp_path: Path) -> None:
    """By all who read it: as one snapshot and as the newest of a folder; nothing is made, nothing goes."""
    for number, lead in enumerate(LEADS):
        if what == "file name" and LOG_ID in lead.strip() and "/" not in lead:
            continue  # is one
        published = World(catalogue()["chain"][:3]).publish(tmp_path / f"snapshots-{number}")
        forged(published.path, partial(FORGERIES[what], lead=lead.format(victim=victim)))
        replica = tmp_path / "replica"
        with pytest.raises(SnapshotError):
            open_snapshot(
                published.path if where == "snapshot" else tmp_path / f"snapshots-{number}", replica_dir=replica
            )
        assert is_untouched(victim)
        assert list(replica.rglob("*")) == []


def test_a_bucket_that_leads_elsewhere_is_refused(victim: Path, tmp_path: Path) -> None:
    """Also by the road on which a folder `download` beside it was removed."""
    published = World(catalogue()["chain"][:3]).publish(tmp_path / "snapshots")
    forged(published.path, lambda manifest: msgspec.structs.replace(manifest, log_id=str(victim)))
    objects = ObjectServer()
    try:
        for path in published.path.iterdir():
            key = f"snapshots/{LOG_ID}/{1:020d}-abc/{path.name}"
            objects.client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        uri = objects.uri()
        with pytest.raises(SnapshotError, match="log id"):
            open_snapshot(uri, replica_dir=tmp_path / "replica")
        assert [type(each) for each in storage.at(uri).found()] == [SnapshotError]
    finally:
        objects.stop()
    assert is_untouched(victim)


class Leader(Liar):
    """A server whose log id, and whose snapshots' files, lead elsewhere."""

    file = ""

    def GetHead(self, _request: pb.GetHeadRequest, _context: object) -> pb.GetHeadResponse:  # noqa: N802
        """Give the log id as it is, whatever `wire` thinks of it."""
        head = self.world.head
        return pb.GetHeadResponse(
            head=types_pb2.FeedToken(log_id=self.log_id, position=head.position, chain=head.chain)
        )

    def FetchSnapshot(self, request: pb.FetchSnapshotRequest, context: object) -> object:  # noqa: N802
        """Send one, one more chunk among it."""
        for number, part in enumerate(super().FetchSnapshot(request, context)):
            if number == 1:
                yield pb.FetchSnapshotResponse(chunk=pb.SnapshotChunk(file=self.file, data=b"evil"))
            yield part


def test_a_server_that_leads_elsewhere_is_refused(victim: Path, tmp_path: Path) -> None:
    """Its log id is not believed: not by `connect`, and not by a syncer that lives."""
    with Leader(World(catalogue()["chain"][:3])) as liar:
        for lead in LEADS:
            if "\0" not in lead:
                liar.log_id = lead.format(victim=victim)
                with pytest.raises(CqarError, match="log id"):
                    connect(liar.target, replica_dir=tmp_path / "replica", snapshots=tmp_path / "home", timeout=1)
                assert is_untouched(victim)


def test_a_server_whose_files_lead_elsewhere_is_refused(victim: Path, tmp_path: Path) -> None:
    """A chunk of a file that the manifest does not name ends the download."""
    world = World(catalogue()["chain"][:3])
    with Leader(world) as liar:
        liar.snapshots.append(world.publish(tmp_path / "snapshots"))
        for file in (f"../../{victim.name}/evil", f"{victim}/evil", "..", "", "manifest.json"):
            liar.file = file
            with connect(liar.target, replica_dir=tmp_path / f"replica-{len(file)}", timeout=0.7) as client:
                assert client.position == 0  # nothing of that snapshot, and what is before it the server has no more
                assert client.status().state is not State.FRESH
            assert is_untouched(victim)


def test_a_head_that_leads_elsewhere_is_none(victim: Path, tmp_path: Path) -> None:
    """Names of a generation and a tail are names, at decoding and at joining."""
    folder = Folder(tmp_path / "replica")
    for generation, tail in (
        (f"../{victim.name}", "tail-000001-a"),
        (str(victim), "tail-000001-a"),
        ("gen-1", "../thesis"),
        ("..", "x"),
    ):
        about = {
            "log_id": LOG_ID,
            "term": 1,
            "history": 1,
            "generation": generation,
            "tail": tail,
            "clock": "b",
            "pid": 1,
        }
        (folder.path / "head").write_bytes(_head.page_of(msgspec.convert(about, _head.About), {}))
        assert folder.head() is None
        with pytest.raises(SnapshotError):
            folder.tail(generation, tail)


@pytest.mark.parametrize("name", ["..", ".", "", "/", "a/b", "/etc", "a\\b", "a\0b", "a\nb", "x" * 300, "\ud800"])
def test_only_plain_names_are_joined(name: str, tmp_path: Path) -> None:
    """The one function that makes paths of others' text."""
    with pytest.raises(SnapshotError):
        inside(tmp_path, "fine", name)
    assert inside(tmp_path, "a b", "gen-1.x") == tmp_path / "a b" / "gen-1.x"


def test_a_token_is_checked_where_it_is_read() -> None:
    """On the wire both ways: a server takes none from a client either."""
    assert fault_of(FeedToken(log_id=LOG_ID, position=0, chain=b"")) is None
    for log_id, position in ((LOG_ID, -1), ("../x", 1), ("", 1), (LOG_ID.replace("0", "A"), 1)):
        with pytest.raises(InvalidError):
            wire.token_from_wire(types_pb2.FeedToken(log_id=log_id, position=position))
