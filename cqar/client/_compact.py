"""The next generation from a generation and the changes since: a copy of its files in which only what changed is written.

It takes the time of copying the files, and of the changes; nothing else is read or decoded. What comes out is what `_build` would
make of the registry at that position.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cqar.client._build import publishing
from cqar.client._entries import (
    DELETED,
    candidates_payload,
    deleted_key,
    posting_key,
    posting_payload,
    record_key,
    record_payload,
)
from cqar.client._generation import INDEX, TABLES, Generation, Meta, Progress, digest
from cqar.client._replica import Replica
from cqar.client._tables import change_tables
from cqar.client._writer import Writer
from cqar.errors import SnapshotError
from cqar.model import KINDS, QualityFlag, Record, Words

Changes = Iterator[tuple[bytes, bytes | None]]


def compact(
    path: Path,
    replica: Replica,
    progress: Progress,
    *,
    created_at: datetime | None = None,
) -> None:
    """Write the generation for where a replica is, and publish it at `path`. Nobody may apply to the replica meanwhile.

    `created_at` is when the state was true; if it is not given, the old generation's stays, so that a replica without a server
    never looks fresher than it is.
    """
    old = replica.generation
    before = _before(replica)
    head = replica.head
    rows = dict(old.meta.rows)
    for kind, changed in replica.overlay.records.items():
        grown = sum((changed[key] is not None) - (held is not None) for key, held in before[kind].items())
        rows[kind] = rows.get(kind, 0) + grown
    meta = Meta(
        log_id=head.log_id,
        position=head.position,
        chain=head.chain.hex(),
        created_at=old.meta.created_at if created_at is None else created_at.astimezone(UTC).isoformat(),
        rows=rows,
        sizes={},
        digests={},
        unread=tuple(sorted(replica.unread)),
    )
    with publishing(path, meta, progress) as work:
        _copy(old, TABLES, work)
        change_tables(work / TABLES, replica.overlay.records)
        progress("tables", 0.3)
        _copy(old, INDEX, work)
        progress("copied", 0.6)
        with Writer(work / INDEX, new=False) as writer:
            writer.put(_deleted(replica))
            writer.put(_records(replica, before))
            writer.put(_postings(replica, before))
            writer.put(_symbols(replica))
        progress("index", 0.9)


def _copy(old: Generation, name: str, work: Path) -> None:
    """Copy a file; SnapshotError for one that is damaged: its copy would have a digest that says that all is well."""
    if digest(old.path / name, work / name) != old.meta.digests[name]:
        raise SnapshotError(
            f"{old.path / name}: damaged: its digest is another", reason="BAD_GENERATION", path=old.path
        )


Before = dict[str, dict[str, Record | None]]  # what the old generation has under each changed key


def _before(replica: Replica) -> Before:
    index = replica.generation.index
    return {
        kind: {key: index.record(kind, key) for key in changed} for kind, changed in replica.overlay.records.items()
    }


def _deleted(replica: Replica) -> Changes:
    """Give the new entries of what was deleted; a record that only could not be read was not."""
    for kind, changed in replica.overlay.records.items():
        for key, record in changed.items():
            gone = record is None and (kind, key) not in replica.unread
            yield deleted_key(kind, key), DELETED if gone else None


def _records(replica: Replica, before: Before) -> Changes:
    """Give the new entries of records; an asset's also holds its flags."""
    for kind, changed in replica.overlay.records.items():
        if kind != "asset":
            for key, record in changed.items():
                yield record_key(kind, key), None if record is None else record_payload(kind, record)
    assets = set(replica.overlay.changed("asset"))
    for flag in (*replica.overlay.changed("quality_flag").values(), *before.get("quality_flag", {}).values()):
        if isinstance(flag, QualityFlag):
            assets.add(flag.asset_id)
    for asset_id in assets:
        asset = replica.get("asset", asset_id)
        payload = None if asset is None else record_payload("asset", asset, replica.gate(asset_id))
        yield record_key("asset", asset_id), payload


def _postings(replica: Replica, before: Before) -> Changes:
    """Give the new entries of the postings that a changed record left or came under."""
    index = replica.generation.index
    for kind, changed in replica.overlay.records.items():
        for posting in KINDS[kind].postings:
            moved: dict[Words, tuple[set[str], set[str]]] = {}  # under which words: keys that left, keys that came
            for key, record in changed.items():
                held = before[kind][key]
                old = set() if held is None else set(posting.words(held))
                new = set() if record is None else set(posting.words(record))
                for words in old - new:
                    moved.setdefault(words, (set(), set()))[0].add(key)
                for words in new - old:
                    moved.setdefault(words, (set(), set()))[1].add(key)
            for words, (gone, come) in moved.items():
                keys = set(index.posting(posting.name, words)) - gone | come
                yield posting_key(posting.name, words), posting_payload(keys)


def _symbols(replica: Replica) -> Changes:
    """Give the new entries of the symbols whose candidates changed."""
    for key, (chain, folded) in replica.overlay.dirty.items():
        yield key, candidates_payload(replica.compute(chain, folded))
