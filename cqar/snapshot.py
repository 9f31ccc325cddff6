"""The snapshot format: `<root>/<log_id>/<position, 20 digits>/` with one Parquet file per kind and a manifest.

A snapshot is the whole registry at one position. It appears by one rename, so it is there whole or not at all; and nothing
in it is read before its size and sha256 agree with the manifest: one flipped bit in a Parquet file is silently wrong with
every reader. "Newest" means the highest position whose files verify; there is no pointer to keep right.

A newer writer may add nullable columns: readers select by name and ignore the rest. Anything else is a new format version.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import logging
import os
import shutil
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from cqar.errors import SnapshotError
from cqar.model import KINDS, FeedToken, Record, exact

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
HOUR = timedelta(hours=1)
ROWS_AT_ONCE = 50_000  # bounds the memory of writing and reading; also the row group


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

    def digest(self) -> str:
        """Hash the manifest without its own hash."""
        plain = msgspec.structs.replace(self, sha256="")
        return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


class Snapshot(msgspec.Struct, frozen=True):
    """A snapshot whose manifest has been read. `verify` before trusting its files."""

    path: Path
    manifest: Manifest

    def file(self, kind: str) -> Path | None:
        """Path of a kind's file; None if the snapshot is older than the kind."""
        entry = next((entry for entry in self.manifest.files if entry.kind == kind), None)
        return self.path / entry.name if entry else None

    @property
    def rows(self) -> dict[str, int]:
        """Number of records of each kind."""
        return {entry.kind: entry.rows for entry in self.manifest.files}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.bytes for entry in self.manifest.files)


# --- schemas ---------------------------------------------------------------------------------------------------------


_ARROW_TYPES: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    datetime: pa.timestamp("us", tz="UTC"),
    Decimal: pa.decimal128(38, 18),
}


def _arrow_type(annotation: Any) -> pa.DataType:
    kind = annotation
    if isinstance(annotation, types.UnionType):
        (kind,) = [member for member in typing.get_args(annotation) if member is not types.NoneType]
    if typing.get_origin(kind) is tuple:
        return pa.list_(pa.string()) if typing.get_args(kind)[0] is str else pa.map_(pa.string(), pa.string())
    if issubclass(kind, enum.IntEnum):
        return pa.int8()
    if issubclass(kind, str):
        return pa.string()
    return _ARROW_TYPES[kind]


def schema_of(record: type[Record]) -> pa.Schema:
    """Give the Parquet columns of a kind of record, from its annotations."""
    hints = typing.get_type_hints(record)
    return pa.schema([pa.field(name, _arrow_type(hints[name])) for name in record.__struct_fields__])


def to_arrow(record: type[Record], rows: Iterable[Record]) -> pa.RecordBatch:
    """Give records of one kind as columns."""
    schema = schema_of(record)
    held = list(rows)
    columns = [pa.array([getattr(row, field.name) for row in held], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def from_arrow(record: type[R], batch: pa.RecordBatch | pa.Table) -> list[R]:
    """Give columns as records; a column that is not there takes the record's default."""
    names = [name for name in record.__struct_fields__ if name in batch.schema.names]
    columns = [_values(batch.column(name)) for name in names]
    rows = (
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*columns, strict=True)
    )
    return msgspec.convert(list(rows), list[record])  # type: ignore[valid-type]


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if pa.types.is_decimal(column.type):
        return [None if value is None else exact(value) for value in values]
    return values


# --- write -----------------------------------------------------------------------------------------------------------


def write(
    root: Path,
    head: FeedToken,
    created_at: datetime,
    records: Mapping[str, Iterable[Record]],
    *,
    confirm: Callable[[], None] = lambda: None,
) -> Snapshot:
    """Publish a snapshot under `root` and return it.

    `records` gives the records of each kind by the kind's name, sorted as they shall stand in the file; a kind that is
    missing gets an empty file. Killed at any point, or if an iterable raises, nothing is published. Publishing a position
    that is there already gives the one that is there, if it verifies, and replaces it if not. `confirm` is called when only
    the last step is left, and prevents it by raising. Any number of writers may publish in one folder at once.
    """
    final = root / head.log_id / f"{head.position:020d}"
    if final.exists():
        try:
            return verify(final)
        except SnapshotError:
            log.warning("replacing the damaged snapshot %s", final)
    work = final.parent / f".tmp-{head.position}-{uuid4().hex}"
    work.mkdir(parents=True)
    try:
        files = tuple([_write_kind(work, name, records.get(name, ())) for name in KINDS])
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            log_id=head.log_id,
            position=head.position,
            chain=head.chain.hex(),
            created_at=created_at.astimezone(UTC),
            files=files,
        )
        manifest = msgspec.structs.replace(manifest, sha256=manifest.digest())
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        (work / MANIFEST).write_bytes(text + b"\n")
        sync(work / MANIFEST)
        sync(work)
        confirm()
        published = _publish(work, Snapshot(final, manifest))
        sync(final.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return published


def _publish(work: Path, made: Snapshot) -> Snapshot:
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
            return verify(made.path)  # readers may have it open: it stays
        except SnapshotError:
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


def _write_kind(work: Path, name: str, records: Iterable[Record]) -> FileEntry:
    record = KINDS[name].record
    path = work / f"{KINDS[name].table}.parquet"
    rows = 0
    remaining = iter(records)
    with pq.ParquetWriter(path, schema_of(record), compression="zstd", write_page_checksum=True) as writer:
        while chunk := list(islice(remaining, ROWS_AT_ONCE)):
            writer.write_batch(to_arrow(record, chunk))
            rows += len(chunk)
    sync(path)
    return FileEntry(name=path.name, kind=name, rows=rows, bytes=path.stat().st_size, sha256=_sha256(path))


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- read ------------------------------------------------------------------------------------------------------------


def load_manifest(path: Path) -> Snapshot:
    """Read and check the manifest of the snapshot at `path`; SnapshotError names what is wrong."""
    file = path / MANIFEST
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise SnapshotError(f"{path}: no {MANIFEST}: not a snapshot", reason="NO_MANIFEST", path=path) from None
    except (msgspec.DecodeError, OSError) as error:
        raise SnapshotError(f"{file}: cannot be read: {error}", reason="BAD_MANIFEST", path=path) from error
    if manifest.format_version != FORMAT_VERSION:
        raise SnapshotError(
            f"{file}: format {manifest.format_version}, this version reads {FORMAT_VERSION}: upgrade cqar",
            reason="FORMAT_VERSION",
            path=path,
        )
    if manifest.digest() != manifest.sha256:
        raise SnapshotError(f"{file}: altered: its hash does not match", reason="BAD_MANIFEST", path=path)
    return Snapshot(path, manifest)


def verify(path: Path) -> Snapshot:
    """Check every byte of the snapshot at `path` against its manifest and return it; SnapshotError names the bad file."""
    snapshot = load_manifest(path)
    for entry in snapshot.manifest.files:
        file = path / entry.name
        if Path(entry.name).name != entry.name:
            raise SnapshotError(f"{file}: a file name with a folder in it", reason="BAD_MANIFEST", path=path)
        if not file.is_file():
            raise SnapshotError(f"{file}: missing", reason="MISSING_FILE", path=path, file=entry.name)
        size = file.stat().st_size
        if size != entry.bytes:
            raise SnapshotError(
                f"{file}: {size} bytes, the manifest says {entry.bytes}",
                reason="WRONG_SIZE",
                path=path,
                file=entry.name,
            )
        if _sha256(file) != entry.sha256:
            raise SnapshotError(
                f"{file}: altered: its sha256 does not match the manifest",
                reason="WRONG_HASH",
                path=path,
                file=entry.name,
            )
    return snapshot


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
    schema = schema_of(KINDS[name].record)
    if path is None:
        return schema.empty_table()
    with pq.ParquetFile(path) as file:
        return file.read(columns=[column for column in schema.names if column in file.schema_arrow.names])


def paths(root: Path, log_id: str | None = None) -> list[Path]:
    """List the snapshot folders under `root`, newest position first within each log; nothing is verified."""
    logs = [root / log_id] if log_id else sorted(path for path in root.glob("*") if path.is_dir())
    found = []
    for folder in logs:
        found += sorted((path for path in folder.glob("[0-9]" * 20) if path.is_dir()), reverse=True)
    return found


def listing(root: Path, log_id: str | None = None) -> list[Snapshot]:
    """List the snapshots under `root` whose manifest can be read, latest creation first; damaged ones are logged."""
    found = []
    for path in paths(root, log_id):
        try:
            found.append(load_manifest(path))
        except SnapshotError as error:
            log.warning("ignoring a snapshot: %s", error)
    found.sort(key=lambda snapshot: (snapshot.manifest.created_at, snapshot.manifest.position), reverse=True)
    return found


def latest(root: Path, log_id: str | None = None) -> Snapshot:
    """Give the newest snapshot under `root` that verifies; SnapshotError if there is none.

    `root` may itself be one snapshot. Without a `log_id` the most recently created snapshot of any log wins.
    """
    if (root / MANIFEST).exists():
        return verify(root)
    problems = []
    for snapshot in listing(root, log_id):
        try:
            return verify(snapshot.path)
        except SnapshotError as error:
            log.warning("falling back to an older snapshot: %s", error)
            problems.append(str(error))
    found = "; ".join(problems or _refused(root, log_id)) or "no snapshot there"
    raise SnapshotError(f"{root}: {found}", reason="NO_SNAPSHOT", path=root)


def _refused(root: Path, log_id: str | None) -> Iterator[str]:
    """Tell why manifests cannot be read."""
    for path in paths(root, log_id):
        try:
            load_manifest(path)
        except SnapshotError as error:
            yield str(error)


def prune(root: Path, *, keep: int = 3, min_age: timedelta = timedelta(hours=24)) -> list[Path]:
    """Remove the snapshots of each log that nobody needs, and abandoned work folders; give what was removed.

    The newest `keep`, at least one, stay, and every one that was the newest of all within the last hour: a follower may be
    loading it. Of the others that are younger than `min_age`, the last of each hour stays. A shorter `min_age` shortens that
    hour, too.
    """
    now = datetime.now(UTC)
    removed = []
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        snapshots = listing(root, folder.name)
        removed += [path for path in _superfluous(snapshots, now, keep, min_age) if _remove(path)]
        for work in folder.glob(".tmp-*"):
            with contextlib.suppress(FileNotFoundError):  # it has just been published, or removed by another process
                if now.timestamp() - work.stat().st_mtime >= min_age.total_seconds():
                    shutil.rmtree(work, ignore_errors=True)
    return removed


def _superfluous(snapshots: Sequence[Snapshot], now: datetime, keep: int, min_age: timedelta) -> list[Path]:
    """Choose what goes among the snapshots of one log, newest first."""
    doomed = []
    stays = snapshots[0].manifest.created_at if snapshots else now  # creation of the one that was spared last
    for number, (newer, each) in enumerate(pairwise(snapshots), start=1):
        made = each.manifest.created_at
        in_use = number < keep or now - newer.manifest.created_at < min(HOUR, min_age)
        if in_use or (now - made < min_age and _hour(made) != _hour(stays)):
            stays = made
        else:
            doomed.append(each.path)
    return doomed


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
