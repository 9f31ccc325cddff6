"""Building a generation from a snapshot, and publishing it."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cqar import snapshot as snapshots
from cqar.client import _columns, _sections, _trust
from cqar.client._candidates import Candidates, Flags
from cqar.client._generation import INDEX, META, TABLES, USERS, Meta, Progress, digest, packed, remove
from cqar.client._tables import build_tables
from cqar.client._writer import Writer
from cqar.errors import SnapshotError
from cqar.model import KINDS, QUALITY_FLAG

if TYPE_CHECKING:
    from cqar.snapshot import Snapshot

T = TypeVar("T")
Rows = Mapping[str, pa.Table]  # by kind, as `_columns.columns` gives them


def build(path: Path, snapshot: Snapshot, progress: Progress) -> None:
    """Build a generation from a verified snapshot and publish it at `path`.

    A record that this version cannot read whole, because a newer server has written it, is named in the generation's `meta.unread`;
    what can be read of it stands for it.
    """
    if (
        snapshot.file(QUALITY_FLAG.name) is None
    ):  # not even format 1 goes without: the gate would take all assets for clean
        raise SnapshotError(f"{snapshot.path}: holds no quality flags", reason="NO_FLAGS", path=snapshot.path)
    rows: dict[str, pa.Table] = {}
    unreadable: dict[str, pa.Table] = {}
    for name in KINDS:
        try:
            rows[name], unreadable[name] = sorted_out(name, snapshots.columns(snapshot, name))
        except pa.ArrowInvalid as error:
            raise SnapshotError(f"{snapshot.file(name)}: {error}", reason="BAD_COLUMNS", path=snapshot.path) from error
    try:
        gone = snapshots.columns(snapshot, snapshots.TOMBSTONES)
    except pa.ArrowInvalid as error:
        raise SnapshotError(
            f"{snapshot.path}: tombstones: {error}", reason="BAD_COLUMNS", path=snapshot.path
        ) from error
    progress("records", 0.1)
    manifest = snapshot.manifest
    meta = Meta(
        log_id=manifest.log_id,
        position=manifest.position,
        chain=manifest.chain,
        created_at=manifest.created_at.isoformat(),
        rows={name: len(held) for name, held in rows.items()},
        sizes={},
        digests={},
        unread=tuple(
            [(name, key) for name, held in unreadable.items() for key in _columns.keys_of(name, held).to_pylist()]
        ),
    )
    # DuckDB and LMDB both let go of the interpreter while they work.
    with publishing(path, meta, progress) as work, ThreadPoolExecutor(1) as beside:
        tables = beside.submit(build_tables, work / TABLES, rows)
        build_index(work / INDEX, rows, gone, progress)
        tables.result()
        progress("tables", 0.95)


def sorted_out(kind: str, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the records as far as this version can read them, and the columns of those that it cannot read whole."""
    whole = _columns.columns(kind, rows)
    verdict = _columns.readable(kind, whole)
    if verdict is None:
        return whole, whole.slice(0, 0)
    held = _columns.mended(kind, whole)
    told = _columns.readable(kind, held, as_mended=True)
    return held if told is None else _columns.columns(kind, held.filter(told)), whole.filter(pc.invert(verdict))


def build_index(path: Path, rows: Rows, gone: pa.Table, progress: Progress = lambda _what, _part: None) -> None:
    """Write the index of these records, and of what the tombstones say is gone."""
    with Writer(path) as writer, contextlib.closing(ahead(_writes(writer, rows, gone, progress))) as writes:
        for write in writes:
            write()
        progress("index", 0.9)


def _writes(writer: Writer, rows: Rows, gone: pa.Table, progress: Progress) -> Iterator[Callable[[], None]]:
    """Give what is to be called to write the index, each with a part of the entries."""
    flags = Flags(rows["quality_flag"])
    for part in _sections.tombstones(gone):
        yield partial(_append, writer, *part)
    for number, name in enumerate(KINDS):
        for part in _sections.postings(name, rows[name]):
            yield partial(_append, writer, *part)
        progress("postings", 0.1 + 0.3 * (number + 1) / len(KINDS))
    encoded: dict[str, pa.Array] = {}
    for number, name in enumerate(KINDS):
        encoded[name] = _sections.encoded(name, rows[name])
        extras = flags.active(_columns.keys_of(name, rows[name])) if name == "asset" else None
        for part in _sections.records(name, rows[name], encoded[name], extras):
            yield partial(_append, writer, *part)
        if name not in {"asset", "deployment"}:  # those are in the candidates once more
            del encoded[name]
        progress("records", 0.4 + 0.2 * (number + 1) / len(KINDS))
    candidates = Candidates(rows, encoded["asset"], encoded["deployment"], flags)
    for part in candidates.entries():
        yield partial(_append, writer, *part)
    yield partial(writer.put, list(candidates.look_alikes()))


def _append(writer: Writer, keys: pa.Array, payloads: pa.Array) -> None:
    writer.append(keys.to_pylist(), payloads.to_pylist())


def ahead(parts: Iterator[T]) -> Generator[T, None, None]:
    """Give what an iterator gives, while a thread is two items ahead of whoever takes them."""
    end = object()
    ready: queue.Queue[Any] = queue.Queue(maxsize=2)
    stopped = threading.Event()

    def run() -> None:
        try:
            for part in parts:
                if stopped.is_set():
                    return
                ready.put(part)
        finally:
            ready.put(end)

    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(run)
        try:
            while (part := ready.get()) is not end:
                yield part
            done.result()
        finally:
            stopped.set()
            while not done.done():  # it may wait for room
                with contextlib.suppress(queue.Empty):
                    ready.get(timeout=0.01)


@contextlib.contextmanager
def publishing(path: Path, meta: Meta, progress: Progress) -> Iterator[Path]:
    """Give a folder to write the files of a generation to; at the end complete it and publish it at `path`.

    If another process has published there meanwhile, its files stay: they are as good.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.parent / f".tmp-{path.name}-{os.urandom(8).hex()}"
    work.mkdir(mode=_trust.FOLDER_MODE)
    try:
        yield work
        sizes = {name: (work / name).stat().st_size for name in (INDEX, TABLES)}
        digests = {name: digest(work / name) for name in sizes}
        (work / META).write_bytes(packed(msgspec.structs.replace(meta, sizes=sizes, digests=digests)))
        (work / USERS).touch(_trust.PRIVATE_MODE)
        for name in (META, INDEX, TABLES):
            (work / name).chmod((work / name).stat().st_mode & _trust.FILE_MODE)  # the libraries go by the umask
        for name in (META, INDEX, TABLES, USERS, "."):
            snapshots.sync(work / name)
        try:
            work.rename(path)
        except OSError:
            if not path.exists():
                raise
        snapshots.sync(path.parent)
        progress("published", 1.0)
    finally:
        remove(work)
