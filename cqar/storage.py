"""Where snapshots are published and read: one shape for a folder and for object storage.

`at` gives the right one. Everything that a snapshot is, is in `cqar.snapshot`; what object storage does differently, in
`cqar.objects`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

from cqar import snapshot
from cqar.locations import Location, folder_of, place_of
from cqar.model import FeedToken
from cqar.paths import inside
from cqar.snapshot import DAY, MANIFEST, Manifest, Progress, Snapshot, quiet

_FOLDER_ID: Final = "folder-id"


class Storage(Protocol):
    """A place with snapshots. To be used by any thread, but not across a fork."""

    name: str  # for people, without secrets

    def identity(self) -> str:
        """Give what all who publish there call it, whatever its path is on their hosts."""

    def publish(
        self,
        head: FeedToken,
        created_at: datetime,
        records: snapshot.Rows,
        *,
        confirm: Callable[[Manifest], None] = lambda _manifest: None,
        counts: Callable[[Manifest], bool] = lambda _manifest: True,
        progress: Progress = quiet,
    ) -> Snapshot:
        """Publish a snapshot, whole or not at all; see `cqar.snapshot.write`."""

    def found(self, log_id: str | None = None) -> Iterator[snapshot.Found]:
        """Yield each snapshot, or what is wrong with its manifest, newest position first within each log."""

    def load(self, path: Path) -> Snapshot:
        """Read and check the manifest of a snapshot that was found."""

    def verify(self, which: Snapshot, progress: Progress = quiet) -> None:
        """Check every byte against the manifest; SnapshotError names the bad file."""

    def chunks(self, which: Snapshot, name: str, size: int) -> Iterator[bytes]:
        """Yield a file's bytes, `size` at a time; FileNotFoundError once the snapshot is removed."""

    def fetch(self, which: Snapshot, downloads: Path, progress: Progress = quiet) -> Snapshot:
        """Give a copy of a snapshot under `downloads`, every byte of it verified: nobody who may write to the place can change it.

        On object storage a copy that broke off is gone on with.
        """

    def prune(self, *, keep: int = 3, min_age: timedelta = DAY) -> list[str]:
        """Remove the snapshots of each log that nobody needs; give where they were. See `cqar.snapshot.prune`."""


def at(location: Location) -> Storage:
    """Give the storage at a folder or URI. InvalidError if it is none; nothing is asked of it yet."""
    folder = folder_of(location)
    if folder is not None:
        return Local(folder)
    from cqar.objects import Objects  # noqa: PLC0415  (pyarrow.fs is slow to import, seldom needed)

    return Objects(place_of(os.fspath(location)))


def listing(storage: Storage, log_id: str | None = None) -> list[Snapshot]:
    """List the snapshots whose manifest can be read, latest creation first; damaged ones are logged."""
    return snapshot.newest_first(storage.found(log_id))


class Local:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.name, self._root = str(root), root

    def identity(self) -> str:
        """Give the name that the folder was given at its first use: whatever its path is on a host, it is the same folder."""
        file = self._root / _FOLDER_ID
        if not file.exists():
            self._root.mkdir(parents=True, exist_ok=True)
            whole = self._root / f".{_FOLDER_ID}-{uuid4().hex}"
            whole.write_text(uuid4().hex)
            with contextlib.suppress(FileExistsError):  # another server was faster
                os.link(whole, file)
            whole.unlink()
        return file.read_text()

    def publish(
        self,
        head: FeedToken,
        created_at: datetime,
        records: snapshot.Rows,
        *,
        confirm: Callable[[Manifest], None] = lambda _manifest: None,
        counts: Callable[[Manifest], bool] = lambda _manifest: True,
        progress: Progress = quiet,
    ) -> Snapshot:
        """Write it under another name and rename it."""
        return snapshot.write(self._root, head, created_at, records, confirm=confirm, counts=counts, progress=progress)

    def found(self, log_id: str | None = None) -> Iterator[snapshot.Found]:
        """Look at the folder, which may itself be one snapshot."""
        return snapshot.found(self._root, log_id)

    def load(self, path: Path) -> Snapshot:
        """Read the manifest's file."""
        return snapshot.load_manifest(path)

    def verify(self, which: Snapshot, progress: Progress = quiet) -> None:
        """Read every file."""
        snapshot.verify(which.path, progress)

    def chunks(self, which: Snapshot, name: str, size: int) -> Iterator[bytes]:
        """Read a file."""
        with inside(which.path, name).open("rb") as file:
            while data := file.read(size):
                yield data

    def fetch(self, which: Snapshot, downloads: Path, progress: Progress = quiet) -> Snapshot:
        """Copy every file, then verify the copy."""
        target, done = snapshot.download_folder(which, downloads), 0
        for entry in which.manifest.files:
            try:
                shutil.copyfile(inside(which.path, entry.name), inside(target, entry.name))
                inside(target, entry.name).chmod(0o644)  # whatever the umask is
            except FileNotFoundError:
                snapshot.check_size(which, entry, None)
            done += entry.bytes
            progress("download", min(1.0, done / max(1, which.size)))
        (target / MANIFEST).write_bytes(snapshot.encoded(which.manifest))
        return snapshot.verify(target)

    def prune(self, *, keep: int = 3, min_age: timedelta = DAY) -> list[str]:
        """Remove folders."""
        return [str(path) for path in snapshot.prune(self._root, keep=keep, min_age=min_age)]
