"""Snapshots on object storage: `<prefix>/<log_id>/<position, 20 digits>-<nonce>/`, with the same files as in a folder.

There is no rename and no lock, so nothing depends on one: a key is never written twice, and the manifest is written last, after
all else is known to be there. What has no manifest does not exist for readers; a killed exporter leaves no more than that. Of two
that publish at once both are right.

Removing goes the other way: first the manifest, and the files an hour later, for whoever was reading them. A key `removed-…`
tells since when, because the storage tells of no deletion.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import BufferedRandom
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from pyarrow import fs

from cqar import snapshot
from cqar.errors import SnapshotError, UnavailableError
from cqar.locations import Place, file_system, reaching
from cqar.model import FeedToken
from cqar.paths import inside
from cqar.snapshot import DAY, FOLDER, HOUR, MANIFEST, FileEntry, Found, Manifest, Progress, Snapshot, quiet

log = logging.getLogger(__name__)

PART: Final = 4 << 20  # bytes of a request; what a broken connection may cost
AT_ONCE: Final = 8  # manifests that are read at the same time
_REMOVED: Final = "removed-"

_Keys = dict[str, Any]  # a snapshot's objects by name: `pyarrow.fs.FileInfo`


class Objects:
    """A bucket, or a prefix in one. To be used by any thread, but not across a fork."""

    def __init__(self, place: Place, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.name = place.name
        self._place, self._root, self._now = place, Path(place.root), now
        self._read: dict[Path, Snapshot] = {}  # of those that were listed last: keys do not change

    @cached_property
    def _fs(self) -> Any:
        return file_system(self._place)

    def identity(self) -> str:
        """Give the URI without its secrets."""
        return self._place.identity

    # --- write --------------------------------------------------------------------------------------------------------

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
        """Upload a snapshot, unless one of this head verifies and counts; killed at any point, nothing is published."""
        there = self._published(head, counts)
        if there is not None:
            return there
        folder = inside(self._root, head.log_id, f"{head.position:020d}-{uuid4().hex}")
        files = []
        for kind, part in snapshot.parts_of(records):
            progress(kind, part)
            # An upload that is broken off by an exception leaves an object all the same. So the file is whole before it begins,
            # and it has no name: killed, nothing is left on the disk.
            with tempfile.TemporaryFile(prefix="cqar-") as file:
                files.append(snapshot.write_kind(file, kind, records.get(kind, ())))
                file.seek(0)
                self._upload(folder / files[-1].name, file)
        made = Snapshot(folder, snapshot.manifest_of(head, created_at, files), self._scheme)
        self._check_sizes(made)
        confirm(made.manifest)
        with reaching(self._place), self._fs.open_output_stream(str(folder / MANIFEST)) as stream:
            stream.write(snapshot.encoded(made.manifest))
        progress("published", 1.0)
        return made

    def _published(self, head: FeedToken, counts: Callable[[Manifest], bool]) -> Snapshot | None:
        for each in snapshot.newest_first(self.found(head.log_id)):
            if each.manifest.head == head and counts(each.manifest):
                try:
                    self.verify(each)
                except SnapshotError as error:
                    log.warning("publishing position %d once more: %s", head.position, error)
                else:
                    return each
        return None

    def _upload(self, key: Path, file: BufferedRandom) -> None:
        with reaching(self._place), self._fs.open_output_stream(str(key)) as stream:
            while data := file.read(PART):
                stream.write(data)

    def _check_sizes(self, made: Snapshot) -> None:
        keys = self._folders(made.path).get(made.path, {})
        try:
            for entry in made.manifest.files:
                snapshot.check_size(made, entry, keys[entry.name].size if entry.name in keys else None)
        except SnapshotError as error:
            raise UnavailableError(f"an upload did not arrive whole: {error}", reason="STORAGE") from None

    # --- read ---------------------------------------------------------------------------------------------------------

    @property
    def _scheme(self) -> str:
        return f"{self._place.scheme}://"

    def found(self, log_id: str | None = None) -> Iterator[Found]:
        """List the keys, then read the manifests; the place may itself be one snapshot."""
        folders = self._folders(inside(self._root, log_id) if log_id else self._root)
        return self._manifests([path for path, keys in folders.items() if MANIFEST in keys])

    def _manifests(self, paths: list[Path]) -> Iterator[Found]:
        read = self._read
        self._read = {path: read[path] for path in paths if path in read}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for each in pool.map(self._manifest, paths):
                if each is not None:
                    yield each

    def _manifest(self, path: Path) -> Found | None:
        """Give a snapshot, or what is wrong with it; None if it was removed since it was listed."""
        read = self._read
        try:
            found = read.get(path) or self.load(path)
            read[path] = found
            return found  # noqa: TRY300
        except SnapshotError as error:
            return None if error.reason == "NO_MANIFEST" else error

    def _folders(self, under: Path) -> dict[Path, _Keys]:
        """List all objects, by snapshot, newest position first within each log."""
        try:
            with reaching(self._place):
                listed = self._fs.get_file_info(fs.FileSelector(str(under), recursive=True))
        except FileNotFoundError:  # the bucket is there, or it is another error
            return {}
        folders: dict[Path, _Keys] = {}
        for info in listed:
            path = Path(info.path)
            if info.type == fs.FileType.File and (FOLDER.fullmatch(path.parent.name) or path.parent == self._root):
                folders.setdefault(path.parent, {})[path.name] = info
        by_log = groupby(sorted(folders, key=lambda path: path.parent), key=lambda path: path.parent)
        return {path: folders[path] for _, paths in by_log for path in sorted(paths, reverse=True)}

    def load(self, path: Path) -> Snapshot:
        """Read and check the manifest of the snapshot at `path`."""
        try:
            with reaching(self._place), self._fs.open_input_file(str(path / MANIFEST)) as file:
                data = file.read()
        except FileNotFoundError:
            raise snapshot.no_manifest(path) from None
        return snapshot.decoded(data, path, self._scheme)

    def verify(self, which: Snapshot, progress: Progress = quiet) -> None:
        """Read every file."""
        done = 0
        for entry in which.manifest.files:
            digest, size = hashlib.sha256(), 0
            try:
                for data in self.chunks(which, entry.name, PART):
                    digest.update(data)
                    size += len(data)
                    progress(entry.kind, min(1.0, (done + size) / max(1, which.size)))
            except FileNotFoundError:
                snapshot.check_size(which, entry, None)
            snapshot.check_size(which, entry, size)
            snapshot.check_hash(which, entry, digest.hexdigest())
            done += size

    def chunks(self, which: Snapshot, name: str, size: int) -> Iterator[bytes]:
        """Read a file, a request for each chunk; FileNotFoundError once it is removed."""
        return self._chunks(inside(which.path, name), size, 0)

    def _chunks(self, key: Path, size: int, start: int) -> Iterator[bytes]:
        with reaching(self._place):
            file = self._fs.open_input_file(str(key))
        with file:
            file.seek(start)
            while True:
                with reaching(self._place):
                    data = file.read(size)
                if not data:
                    return
                yield data

    # --- download -----------------------------------------------------------------------------------------------------

    def fetch(self, which: Snapshot, downloads: Path, progress: Progress = quiet) -> Snapshot:
        """Copy a snapshot to a folder under `downloads`, verified; one of which a part is there already is gone on with.

        Raises SnapshotError if it is damaged or was removed, and UnavailableError, after which it can be gone on with, if the
        storage fails. Any number of processes may do this at once: all write the same bytes to the same places.
        """
        target = snapshot.download_folder(which, downloads)
        done = 0
        for entry in which.manifest.files:

            def tell(size: int, before: int = done) -> None:
                progress("download", min(1.0, (before + size) / max(1, which.size)))

            self._fetch(which, entry, inside(target, entry.name), tell)
            done += entry.bytes
        (target / MANIFEST).write_bytes(snapshot.encoded(which.manifest))
        return Snapshot(target, which.manifest)

    def _fetch(self, which: Snapshot, entry: FileEntry, target: Path, tell: Callable[[int], None]) -> None:
        """Copy a file, or the rest of it. If what was there spoilt it, it is copied once more from the start."""
        had = target.stat().st_size if target.exists() else 0
        try:
            self._copy(which, entry, target, had, tell)
            snapshot.check_hash(which, entry, snapshot.sha256_of(target))
        except SnapshotError:
            target.unlink(missing_ok=True)
            if not had:
                raise
            log.warning("%s: what was there of it is damaged: copying it anew", target.name)
            self._fetch(which, entry, target, tell)

    def _copy(self, which: Snapshot, entry: FileEntry, target: Path, start: int, tell: Callable[[int], None]) -> None:
        size = start
        tell(size)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if start < entry.bytes:
                for data in self._chunks(inside(which.path, entry.name), PART, start):
                    if size + len(data) <= entry.bytes:  # what is longer than it should be need not fill the disk
                        os.pwrite(descriptor, data, size)
                    size += len(data)
                    tell(size)
        except FileNotFoundError:
            snapshot.check_size(which, entry, None)
        finally:
            os.close(descriptor)  # never cut: another process may be further
        snapshot.check_size(which, entry, size)

    # --- remove -------------------------------------------------------------------------------------------------------

    def prune(self, *, keep: int = 3, min_age: timedelta = DAY) -> list[str]:
        """Remove the manifests of what nobody needs, and the files that had none for an hour, or ever in a day."""
        now = self._now()
        removed = []
        folders = self._folders(self._root)
        for _, paths in groupby(folders, key=lambda path: path.parent):
            listed = [path for path in paths if MANIFEST in folders[path]]
            whole = snapshot.newest_first(self._manifests(listed))
            for each in snapshot.superfluous(whole, now, keep, min_age):
                self._retire(each)
                removed.append(each.location)
        for path, keys in folders.items():
            if MANIFEST not in keys and path != self._root:
                retired = any(name.startswith(_REMOVED) for name in keys)
                if now - max(info.mtime for info in keys.values()) >= (HOUR if retired else DAY):
                    self._delete(path)
        return removed

    def _retire(self, which: Snapshot) -> None:
        """Let no reader find a snapshot any more."""
        note = str(which.path / f"{_REMOVED}{uuid4().hex}")
        with reaching(self._place):
            with self._fs.open_output_stream(note) as stream:
                stream.write(self._now().isoformat().encode())
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                self._fs.delete_file(str(which.path / MANIFEST))

    def _delete(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError), reaching(self._place):  # another process was faster
            self._fs.delete_dir(str(path))
