"""Where replicas live on this host, and where they must not."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from cqar.client import _generation, _trust
from cqar.client._trust import Owners
from cqar.errors import InvalidError

# Mapped files and locks are not coherent there, between hosts or even on one (pitfalls of LMDB, which says so itself).
REMOTE = frozenset(
    {
        *("9p", "afs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"),
        *("orangefs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs"),
        *("fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)
MOUNTS = Path("/proc/self/mountinfo")


def default_replica_dir() -> Path:
    """Where this user's replicas are: `$CQAR_REPLICA_DIR`, else `$XDG_CACHE_HOME/cqar/replica`, else `~/.cache/cqar/replica`."""
    named = os.environ.get("CQAR_REPLICA_DIR")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cqar" / "replica"


def bundled_catalogue() -> Path:
    """The snapshot folder that ships with CQAR: inside the wheel, or beside the package in a clone."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_catalogue"
    return inside if inside.is_dir() else package.parent / "snapshots" / "catalogue"


@cache
def catalogue_logs() -> frozenset[str]:
    """Give the ids of the logs in the bundled catalogue."""
    root = bundled_catalogue()
    return frozenset(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else frozenset()


def usable(replica_dir: str | os.PathLike[str] | None, trusted: Owners, *, to_write: bool = True) -> Path:
    """Give a folder that can be written: the one asked for, or if none was and the default cannot be, a private one.

    Who only reads (`to_write=False`) takes it as it is. Raises InvalidError for one that cannot be written, is on a network file
    system, or belongs to an account that is not `trusted`.
    """
    folder = Path(replica_dir) if replica_dir is not None else default_replica_dir()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=_trust.FOLDER_MODE, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written")
    except OSError as error:
        if to_write and replica_dir is not None:
            raise InvalidError(f"replica_dir: {error}", reason="REPLICA_DIR", field="replica_dir") from error
        if to_write:
            folder = private()
    if folder.exists():
        _trust.check_base(folder, trusted)
    kind = file_system(folder)
    if kind in REMOTE:
        raise InvalidError(
            f"replica_dir: {folder} is on a network file system ({kind}), where mapped files and locks cannot be trusted;"
            " give a folder on a local disk or tmpfs (replica_dir=, CQAR_REPLICA_DIR)",
            reason="NETWORK_FILE_SYSTEM",
            field="replica_dir",
        )
    return folder


def private() -> Path:
    """Give a folder of this account's alone under the one for temporary files; InvalidError if another account took its name."""
    from tempfile import gettempdir  # noqa: PLC0415  (slow to import, seldom needed)

    folder = Path(gettempdir()) / f"cqar-replica-{os.getuid()}"
    _trust.make_folder(folder, frozenset({os.getuid()}), 0o700)
    return folder


def file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Tell the type of the file system that holds a folder; None if the host does not say."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    path, best, kind = folder.resolve(), "", None
    for line in lines:
        fields, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields.split()[4])
        if len(point) >= len(best) and path.is_relative_to(point):  # of mounts on one point the last is seen
            best, kind = point, after.split()[0]
    return kind


def folder_of(replica_dir: Path, target: str) -> Path:
    """Give the folder of the replica of a server, by the name that it is asked under."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", target)
    return replica_dir / f"{name}-{_generation.FORMAT}"
