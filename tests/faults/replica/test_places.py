"""Where replicas are and who may do what there: containers, other users, and file systems that cannot be trusted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cqar.client import _place, _trust
from cqar.client._folder import Folder
from cqar.errors import InvalidError
from tests.conftest import temporary_folder
from tests.faults.replica.host import Truth, host, until
from tests.faults.replica.writer import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]
NOBODY = 65534
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

MOUNTS = """\
21 1 0:20 / / rw,relatime - overlay overlay rw
30 21 0:40 / /proc rw - proc proc rw
31 21 0:41 / /mnt/share rw - {kind} server:/share rw
32 31 0:42 / /mnt/share/local\\040disk rw - ext4 /dev/sda1 rw
"""


def can_unshare() -> bool:
    """Tell whether this process may make PID namespaces."""
    return subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="making a PID namespace needs root")
def test_two_containers_share_a_replica(target: str, truth: Truth, writer: Writer, folder: Path) -> None:
    """F22: processes with the same id in two PID namespaces, and one outside, are one host: one leads, all read, each may go."""
    with host(target, folder) as several:
        members = [several.start(wrapped=CONTAINER).ready() for _ in range(2)]
        members.append(several.start().ready())
        pids = [member.ask("status")["pid"] for member in members]
        assert pids[0] == pids[1], pids
        with writer.at_work():
            assert [member.ask("status")["is_syncer"] for member in members] == [True, False, False]
            members[0].kill()
            position = writer.write_pair()
            members[1].ask("wait", position=position, timeout=4)
            until(lambda: any(each.ask("status")["is_syncer"] for each in members[1:]), "another one leads", 4)
        several.check(truth)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "ceph"])
def test_a_network_file_system_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F22: the type of the mount that holds the folder decides, and the message says what to do."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(kind=kind))
    assert _place.file_system(Path("/mnt/share/replica"), mounts=mounts) == kind
    assert _place.file_system(Path("/mnt/share/local disk/replica"), mounts=mounts) == "ext4"
    assert _place.file_system(Path("/mnt/shared"), mounts=mounts) == "overlay"
    monkeypatch.setattr(_place, "file_system", lambda _folder: kind)
    with pytest.raises(InvalidError, match="local disk") as caught:
        _place.usable(tmp_path, _trust.owners())
    assert caught.value.reason == "NETWORK_FILE_SYSTEM"


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """Yield an overlay, as containers have them, whose lower layer has what is put into `lower` before."""
    place = tmp_path / "overlay"
    disk = tmp_path / "disk"
    for path in (place, disk):
        path.mkdir()
    tmpfs = ["mount", "-t", "tmpfs", "-o", "size=200m", "none", str(disk)]  # an overlay cannot lie on another one
    if os.geteuid() != 0 or subprocess.run(tmpfs, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        for name in ("lower", "upper", "work"):
            (disk / name).mkdir()
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_replica_in_a_lower_layer_is_gone_on_with(
    target: str, truth: Truth, writer: Writer, overlay: Path, tmp_path: Path
) -> None:
    """F22: a replica that an image brings along is read from the lower layer, and written to in the upper one only."""
    place = tmp_path / "overlay"
    with host(target, overlay / "lower") as image:
        member = image.start(watch=False).ready()
        member.ask("wait", position=writer.write_pair())
        assert member.end() == 0
    layers = f"lowerdir={overlay}/lower,upperdir={overlay}/upper,workdir={overlay}/work"
    command = ["mount", "-t", "overlay", "-o", layers, "none", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this kernel mounts no overlay here")
    with host(target, place) as several:
        members = [several.start().ready(), several.start(sync="off").ready(), several.start().ready()]
        with writer.at_work():
            for member in members:
                member.ask("wait", position=writer.position)
            members[0].kill()
            members[1].ask("wait", position=writer.write_pair(), timeout=4)
        several.check(truth)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_who_may_not_write_reads_and_never_leads(target: str, truth: Truth, writer: Writer) -> None:
    """F22: another user, without the right to write, follows a replica with sync="off", and says so if there is none."""
    with temporary_folder() as folder, host(target, folder / "host") as several:
        (folder / "host").chmod(0o755)
        leader = several.start().ready()
        reader = several.start(sync="off", uid=NOBODY).ready()
        with writer.at_work():
            reader.ask("wait", position=writer.write_pair())
            until(lambda: reader.ask("gate", asset_id=writer.pair[0])["decision"] == "ALLOW", "it is level")
        several.check(truth)
        refused = several.start(uid=NOBODY)
        assert refused._line(20)["reason"] == "REPLICA_DIR"
        leader.kill()
        assert not reader.ask("status")["is_syncer"]
        another = several.start().ready()
        reader.ask("wait", position=writer.write_pair())
        assert another.ask("status")["is_syncer"]
        none = several.start(sync="off", uid=NOBODY, replica_dir=str(folder / "none"), timeout=0.5)
        assert none._line(20)["failed"] in {"NotReadyError", "InvalidError"}


def test_a_lock_that_another_user_holds_is_no_error(tmp_path: Path) -> None:
    """F22: where the lock's file cannot be opened for writing, nobody of this process leads."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    folder = Folder(tmp_path / "replica")
    lock = folder.try_lock()
    assert lock is not None
    pid = os.fork()
    if not pid:
        os.setuid(NOBODY)
        os._exit(0 if folder.try_lock() is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    lock.release()
