"""The snapshot format: `<root>/<log_id>/<position, 20 digits>/` with one Parquet file per kind and a manifest.

A snapshot is the whole registry at one position. It appears by one rename, so it is there whole or not at all; and nothing
in it is read before its size and sha256 agree with the manifest: one flipped bit in a Parquet file is silently wrong with
every reader. "Newest" means the highest position whose files verify; there is no pointer to keep right.

A file more holds the tombstones: which records were removed, and are not there again, so that whoever loads a snapshot knows a
deleted asset from one that never was. It may be missing; older readers pass over it, as over the file of any kind that they do not
know.

A newer writer may add nullable columns: readers select by name and ignore the rest. Anything else is a new format version.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import BufferedRandom
from itertools import islice, pairwise
from pathlib import Path
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from cqar.arrow import from_arrow, schema_of, to_arrow
from cqar.errors import SnapshotError
from cqar.model import KINDS, FeedToken, Record, Tombstone
from cqar.paths import fault_of, inside

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOMBSTONES = "tombstone"  # the kind of their file
NOTHING = "no snapshot there"
FOLDER = re.compile(r"[0-9]{20}(-[0-9a-f]+)?")  # on object storage a position may be published more than once
HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
ROWS_AT_ONCE = 50_000  # bounds the memory of writing and reading; also the row group

Progress = Callable[[str, float], None]  # what is being done, and which part of all is done


def quiet(_what: str, _part: float) -> None:
    """Tell nobody how far it is."""


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a snapshot."""

    name: str
    kind: str
    rows: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds. `sha256` covers all that stands before it."""

    format_version: int
    log_id: str
    position: int
    chain: str  # hexadecimal
    created_at: datetime
    files: tuple[FileEntry, ...]
    sha256: str = ""

    @property
    def head(self) -> FeedToken:
        """Where to go on from by the feed."""
        return FeedToken(log_id=self.log_id, position=self.position, chain=bytes.fromhex(self.chain))

    def fault(self) -> str | None:
        """Return what is wrong with what it names, of which paths are made; None if nothing is."""
        try:
            if fault := fault_of(self.head):
                return fault
        except ValueError:
            return f"chain: {self.chain[:100]!r} is not hexadecimal"
        names = [entry.name for entry in self.files]
        try:
            inside(Path(), *names)
        except SnapshotError as error:
            return error.message
        if MANIFEST in names or len(set(names)) != len(names):
            return "a file is named twice, or as the manifest"
        return None

    def digest(self) -> str:
        """Hash the manifest without its own hash."""
        plain = msgspec.structs.replace(self, sha256="")
        return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot whose manifest has been read. `verify` before trusting its files.

    `path` is its folder on this host; on object storage it begins with the bucket, and only `cqar.storage` can read it.
    """

    path: Path
    manifest: Manifest
    scheme: str = ""  # of object storage, such as "s3://"

    @property
    def location(self) -> str:
        """Where it is, for people."""
        return f"{self.scheme}{self.path}"

    def file(self, kind: str) -> Path | None:
        """Path of a kind's file; None if the snapshot is older than the kind."""
        entry = next((entry for entry in self.manifest.files if entry.kind == kind), None)
        return inside(self.path, entry.name) if entry else None

    @property
    def rows(self) -> dict[str, int]:
        """Number of records of each kind."""
        return {entry.kind: entry.rows for entry in self.manifest.files if entry.kind != TOMBSTONES}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.bytes for entry in self.manifest.files)


Rows = Mapping[str, Iterable[Record | Tombstone]]  # by kind, and TOMBSTONES
Found = Snapshot | SnapshotError  # a snapshot, or what is wrong with its manifest


# --- write -----------------------------------------------------------------------------------------------------------


def write(
    root: Path,
    head: FeedToken,
    created_at: datetime,
    records: Rows,
    *,
    confirm: Callable[[Manifest], None] = lambda _manifest: None,
    counts: Callable[[Manifest], bool] = lambda _manifest: True,
    progress: Progress = quiet,
) -> Snapshot:
    """Publish a snapshot under `root` and return it.

    `records` gives the records of each kind by the kind's name, sorted as they shall stand in the file, and the tombstones as
    TOMBSTONES; a kind that is missing gets an empty file, without tombstones there is none. Killed at any point, or if an iterable
    raises, nothing is published. Publishing a position that is there already gives the one that is there, if it verifies and
    `counts` (it may be somebody else's), and replaces it if not. `confirm` is called with the manifest when only the last step is
    left, and prevents it by raising. Any number of writers may publish in one folder at once.
    """
    final = inside(root, head.log_id, f"{head.position:020d}")
    if final.exists():
        try:
            there = verify(final)
            if counts(there.manifest):
                return there
            log.warning("replacing the snapshot %s, which the registry has not published", final)
        except SnapshotError:
            log.warning("replacing the damaged snapshot %s", final)
    work = final.parent / f".tmp-{head.position}-{uuid4().hex}"
    work.mkdir(parents=True)
    try:
        files = []
        for name, part in parts_of(records):
            progress(name, part)
            with (work / file_name(name)).open("w+b") as file:
                files.append(write_kind(file, name, records.get(name, ())))
                os.fsync(file.fileno())
        manifest = manifest_of(head, created_at, files)
        (work / MANIFEST).write_bytes(encoded(manifest))
        sync(work / MANIFEST)
        sync(work)
        confirm(manifest)
        published = _publish(work, Snapshot(final, manifest), counts)
        sync(final.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return published


def _publish(work: Path, made: Snapshot, counts: Callable[[Manifest], bool]) -> Snapshot:
    """Give a finished folder its name, or give the snapshot that another writer has put there meanwhile."""
    while True:
        try:
            work.rename(made.path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            return made
        try:
            there = verify(made.path)
        except SnapshotError:
            _remove(made.path)
            continue
        if counts(there.manifest):  # readers may have it open: it stays
            return there
        _remove(made.path)


def _remove(path: Path) -> bool:
    """Remove a snapshot, by one rename first: no reader finds half of one. False if another process was faster."""
    grave = path.parent / f".tmp-removed-{uuid4().hex}"
    try:
        path.rename(grave)
    except FileNotFoundError:
        return False
    shutil.rmtree(grave, ignore_errors=True)
    return True


def parts_of(records: Rows) -> list[tuple[str, float]]:
    """Return the kinds of files that a snapshot of these records has, each with which part of all comes before it."""
    kinds = [*KINDS, *([TOMBSTONES] if TOMBSTONES in records else [])]
    return [(kind, number / len(kinds)) for number, kind in enumerate(kinds)]


def file_name(kind: str) -> str:
    """Give the name of a kind's file."""
    return "tombstones.parquet" if kind == TOMBSTONES else f"{KINDS[kind].table}.parquet"


def _row_of(kind: str) -> type[msgspec.Struct]:
    """Return what the rows of a kind's file stand for."""
    return Tombstone if kind == TOMBSTONES else KINDS[kind].record


def write_kind(file: BufferedRandom, kind: str, records: Iterable[Record | Tombstone]) -> FileEntry:
    """Write the records of a kind to an empty file, which is open for reading, too; nothing is made durable."""
    record = _row_of(kind)
    rows = 0
    remaining = iter(records)
    with pq.ParquetWriter(file, schema_of(record), compression="zstd", write_page_checksum=True) as writer:
        while chunk := list(islice(remaining, ROWS_AT_ONCE)):
            writer.write_batch(to_arrow(record, chunk))
            rows += len(chunk)
    file.flush()
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(name=file_name(kind), kind=kind, rows=rows, bytes=file.tell(), sha256=sha256)


def manifest_of(head: FeedToken, created_at: datetime, files: Iterable[FileEntry]) -> Manifest:
    """Give the manifest of these files."""
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        log_id=head.log_id,
        position=head.position,
        chain=head.chain.hex(),
        created_at=created_at.astimezone(UTC),
        files=tuple(files),
    )
    return msgspec.structs.replace(manifest, sha256=manifest.digest())


def encoded(manifest: Manifest) -> bytes:
    """Give the contents of a manifest's file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- read ------------------------------------------------------------------------------------------------------------


def load_manifest(path: Path) -> Snapshot:
    """Read and check the manifest of the snapshot at `path`; SnapshotError names what is wrong."""
    try:
        data = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise no_manifest(path) from None
    except OSError as error:
        raise _bad_manifest(path, f"cannot be read: {error}") from error
    return decoded(data, path)


def no_manifest(path: Path) -> SnapshotError:
    """Say that there is no snapshot at `path`, not any more perhaps."""
    return SnapshotError(f"{path}: no {MANIFEST}: not a snapshot", reason="NO_MANIFEST", path=path)


def _bad_manifest(path: Path, what: str) -> SnapshotError:
    return SnapshotError(f"{path / MANIFEST}: {what}", reason="BAD_MANIFEST", path=path)


def decoded(data: bytes, path: Path, scheme: str = "") -> Snapshot:
    """Check the contents of the manifest of the snapshot at `path`; SnapshotError names what is wrong."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad_manifest(path, f"cannot be read: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise SnapshotError(
            f"{path / MANIFEST}: format {manifest.format_version}, this version reads {FORMAT_VERSION}: upgrade cqar",
            reason="FORMAT_VERSION",
            path=path,
        )
    if manifest.digest() != manifest.sha256:
        raise _bad_manifest(path, "altered: its hash does not match")
    if fault := manifest.fault():
        raise _bad_manifest(path, fault)
    return Snapshot(path, manifest, scheme)


def verify(path: Path, progress: Progress = quiet) -> Snapshot:
    """Check every byte of the snapshot at `path` against its manifest and return it; SnapshotError names the bad file."""
    snapshot = load_manifest(path)
    for number, entry in enumerate(snapshot.manifest.files):
        progress(entry.kind, number / len(snapshot.manifest.files))
        file = inside(path, entry.name)
        check_size(snapshot, entry, file.stat().st_size if file.is_file() else None)
        check_hash(snapshot, entry, sha256_of(file))
    return snapshot


def check_size(snapshot: Snapshot, entry: FileEntry, size: int | None) -> None:
    """Raise SnapshotError unless a file has the size that the manifest says; None for one that is not there."""
    file = f"{snapshot.location}/{entry.name}"
    if size is None:
        raise SnapshotError(f"{file}: missing", reason="MISSING_FILE", path=snapshot.path, file=entry.name)
    if size != entry.bytes:
        message = f"{file}: {size} bytes, the manifest says {entry.bytes}"
        raise SnapshotError(message, reason="WRONG_SIZE", path=snapshot.path, file=entry.name)


def check_hash(snapshot: Snapshot, entry: FileEntry, sha256: str) -> None:
    """Raise SnapshotError unless a file has the hash that the manifest says."""
    if sha256 != entry.sha256:
        message = f"{snapshot.location}/{entry.name}: altered: its sha256 does not match the manifest"
        raise SnapshotError(message, reason="WRONG_HASH", path=snapshot.path, file=entry.name)


def download_folder(which: Snapshot, downloads: Path) -> Path:
    """Return the folder for a copy of a snapshot, made so that no other account can change what is verified there."""
    folder = inside(downloads, which.manifest.sha256)
    downloads.parent.mkdir(parents=True, exist_ok=True)
    for each in (downloads, folder):
        each.mkdir(mode=0o755, exist_ok=True)
    return folder


def read(snapshot: Snapshot, name: str) -> Iterator[Record]:
    """Yield the records of one kind, in the file's order, a row group at a time; SnapshotError for one of a newer version."""
    path = snapshot.file(name)
    if path is None:
        return
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            try:
                records = from_arrow(KINDS[name].record, batch)
            except msgspec.ValidationError as error:
                raise SnapshotError(
                    f"{path}: holds what this version cannot read: {error}: upgrade cqar",
                    reason="NEWER_RECORDS",
                    path=path,
                ) from error
            yield from records


def columns(snapshot: Snapshot, name: str) -> pa.Table:
    """Give the columns of one kind that this version knows, as they are in the file: they may hold what it does not know."""
    path = snapshot.file(name)
    schema = schema_of(_row_of(name))
    if path is None:
        return schema.empty_table()
    with pq.ParquetFile(path) as file:
        return file.read(columns=[column for column in schema.names if column in file.schema_arrow.names])


def paths(root: Path, log_id: str | None = None) -> list[Path]:
    """List the snapshot folders under `root`, newest position first within each log; nothing is verified."""
    logs = [inside(root, log_id)] if log_id else sorted(path for path in root.glob("*") if path.is_dir())
    found = []
    for folder in logs:
        named = [path for path in folder.glob("[0-9]*") if FOLDER.fullmatch(path.name) and path.is_dir()]
        found += sorted(named, reverse=True)
    return found


def found(root: Path, log_id: str | None = None) -> Iterator[Found]:
    """Yield each snapshot under `root`, or what is wrong with its manifest, newest position first within each log.

    `root` may itself be one snapshot.
    """
    for path in [root] if (root / MANIFEST).exists() else paths(root, log_id):
        try:
            yield load_manifest(path)
        except SnapshotError as error:
            yield error


def newest_first(snapshots: Iterable[Found]) -> list[Snapshot]:
    """Sort the snapshots whose manifest could be read, latest creation first; damaged ones are logged."""
    whole = []
    for each in snapshots:
        if isinstance(each, SnapshotError):
            log.warning("ignoring a snapshot: %s", each)
        else:
            whole.append(each)
    whole.sort(key=lambda snapshot: (snapshot.manifest.created_at, snapshot.manifest.position), reverse=True)
    return whole


def listing(root: Path, log_id: str | None = None) -> list[Snapshot]:
    """List the snapshots under `root` whose manifest can be read, latest creation first; damaged ones are logged."""
    return newest_first(found(root, log_id))


def latest(root: Path, log_id: str | None = None) -> Snapshot:
    """Give the newest snapshot under `root` that verifies; SnapshotError if there is none.

    `root` may itself be one snapshot. Without a `log_id` the most recently created snapshot of any log wins.
    """
    if (root / MANIFEST).exists():
        return verify(root)  # and say what is wrong with this one
    problems = []
    for snapshot in listing(root, log_id):
        try:
            return verify(snapshot.path)
        except SnapshotError as error:
            log.warning("falling back to an older snapshot: %s", error)
            problems.append(str(error))
    refused = [str(each) for each in found(root, log_id) if isinstance(each, SnapshotError)]
    raise SnapshotError(f"{root}: {'; '.join(problems or refused) or NOTHING}", reason="NO_SNAPSHOT", path=root)


def prune(root: Path, *, keep: int = 3, min_age: timedelta = DAY) -> list[Path]:
    """Remove the snapshots of each log that nobody needs, and abandoned work folders; give what was removed.

    The newest `keep`, at least one, stay, and every one that was the newest of all within the last hour: a follower may be
    loading it. Of the others that are younger than `min_age`, the last of each hour stays. A shorter `min_age` shortens that
    hour, too.
    """
    now = datetime.now(UTC)
    removed = []
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        snapshots = listing(root, folder.name)
        removed += [each.path for each in superfluous(snapshots, now, keep, min_age) if _remove(each.path)]
        for work in folder.glob(".tmp-*"):
            with contextlib.suppress(FileNotFoundError):  # it has just been published, or removed by another process
                if now.timestamp() - work.stat().st_mtime >= min_age.total_seconds():
                    shutil.rmtree(work, ignore_errors=True)
    return removed


def superfluous(snapshots: Sequence[Snapshot], now: datetime, keep: int, min_age: timedelta) -> list[Snapshot]:
    """Choose what goes among the snapshots of one log, newest first."""
    doomed = []
    stays = snapshots[0].manifest.created_at if snapshots else now  # creation of the one that was spared last
    for number, (newer, each) in enumerate(pairwise(snapshots), start=1):
        made = each.manifest.created_at
        in_use = number < keep or now - newer.manifest.created_at < min(HOUR, min_age)
        if in_use or (now - made < min_age and _hour(made) != _hour(stays)):
            stays = made
        else:
            doomed.append(each)
    return doomed


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
