"""Snapshots as a newer release might write them, and older ones: made by altering those of this one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cqar import snapshot
from cqar.snapshot import FileEntry, Snapshot


def rewritten(made: Snapshot, rows: Mapping[str, pa.Table | None], **manifest: Any) -> Snapshot:
    """Put other rows of some kinds, of which some may be new, in the place of a snapshot's; None leaves a kind out.

    `manifest` are other values for the manifest.
    """
    files = {entry.kind: entry for entry in made.manifest.files}
    for kind, table in rows.items():
        if table is None:
            (made.path / files.pop(kind).name).unlink()
            continue
        path = made.path / (files[kind].name if kind in files else f"{kind}s.parquet")
        pq.write_table(table, path)
        size, digest = path.stat().st_size, snapshot.sha256_of(path)
        files[kind] = FileEntry(name=path.name, kind=kind, rows=len(table), bytes=size, sha256=digest)
    changed = msgspec.structs.replace(made.manifest, files=tuple(files.values()), **manifest)
    changed = msgspec.structs.replace(changed, sha256=changed.digest())
    (made.path / snapshot.MANIFEST).write_bytes(msgspec.json.encode(changed))
    return (
        snapshot.verify(made.path)
        if changed.format_version == snapshot.FORMAT_VERSION
        else Snapshot(made.path, changed)
    )


def copied(path: Path, root: Path) -> Snapshot:
    """Copy a snapshot, folder and log, to a root of its own."""
    return snapshot.load_manifest(Path(shutil.copytree(path, root / path.parent.name / path.name)))


def whole(made: Snapshot, kind: str) -> pa.Table:
    """Give all columns of a kind."""
    path = made.file(kind)
    assert path is not None
    return pq.read_table(path)


def changed(rows: pa.Table, column: str, value: object, *, key: str, of: str) -> pa.Table:
    """Give rows with another value in the cell of one record."""
    number = rows.schema.get_field_index(column)
    cells = pc.if_else(pc.equal(rows.column(key), of), pa.scalar(value, rows.schema.types[number]), rows.column(column))
    return rows.set_column(number, rows.schema.field(number), cells)
