"""Where a replica may live, and the files that run one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cqar.client import InvalidError
from cqar.client import _place as place
from cqar.client._trust import owners

ROOT = Path(__file__).resolve().parents[2]
MOUNTS = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:27 / {tmp} rw shared:2 - tmpfs tmpfs rw
31 22 0:28 / {tmp}/on\\040nfs rw - nfs4 server:/export rw,vers=4.2
32 31 0:29 / {tmp}/on\\040nfs/local rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"), [("", "tmpfs"), ("on nfs/deep/below", "nfs4"), ("on nfs/local/x", "xfs"), ("on nfsx", "tmpfs")]
)
def test_the_innermost_mount_tells_the_file_system(folder: str, kind: str, tmp_path: Path) -> None:
    """Mount points nest, have spaces in their names, and are compared by whole names."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(tmp=tmp_path))
    assert place.file_system(tmp_path / folder, mounts) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file system and says what to do."""
    monkeypatch.setattr(place, "file_system", lambda _folder: "nfs4")
    for to_write in (True, False):
        with pytest.raises(InvalidError, match=r"nfs4.*local disk"):
            place.usable(tmp_path, owners(), to_write=to_write)


def test_a_target_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """Whatever a target looks like, its folder is one below the replica dir."""
    targets = ["localhost:7433", "[::1]:7433", "unix:/run/cqar.sock", "../../etc:1", "dns:///a.b:1"]
    folders = [place.folder_of(tmp_path, target) for target in targets]
    assert {folder.parent for folder in folders} == {tmp_path}
    assert len(set(folders)) == len(targets)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_the_unit_is_one(tmp_path: Path) -> None:
    """Systemd finds nothing wrong with the unit for a replica of its own."""
    text = (ROOT / "deploy/systemd/cqar-replica.service").read_text()
    unit = tmp_path / "cqar-replica.service"
    unit.write_text(text.replace("/opt/cqar/bin/cqar", f"{sys.executable} -m cqar"))
    ran = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (ran.returncode, [line for line in ran.stderr.splitlines() if unit.name in line]) == (0, [])
