"""The index of a generation: an LMDB file that is built once and then only read.

What is in it, and how, is in `_entries`. What is damaged raises SnapshotError (BAD_INDEX) and never gives an answer: neither a
wrong one nor, as every absence is proved, a wrong "there is none".

A length that is damaged must not lead past the end of the file either, which would kill the process (SIGBUS). So the file ends in
zeros, more of them than its longest value has bytes; and a value that claims to be longer is damaged.

Beside `_writer` the only module that imports lmdb. Because nobody writes, readers need neither locks nor reader slots
(`lock=False`), and one read transaction per thread serves for the life of the file.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import lmdb
import msgspec

from cqar.answers import Candidate
from cqar.client._damage import refused
from cqar.client._entries import (
    CHECKSUM,
    END,
    FLAGGED,
    NOTHING,
    SEAL,
    UNFLAGGED,
    Gate,
    checksum,
    decode_candidates,
    decode_flagged,
    decode_keys,
    decoders,
    deleted_key,
    kind_prefix,
    link,
    posting_key,
    record_key,
)
from cqar.errors import SnapshotError
from cqar.model import Record, Words

PADDING = 256 << 10  # bytes of zeros at the end of a file, at least: what a damaged page can lead to, but for values


def bytes_in_use(env: lmdb.Environment) -> int:
    """Return how long the file must be for all of its pages to be there."""
    return int((env.info()["last_pgno"] + 1) * env.stat()["psize"])


class _Mapping:
    """An open file. LMDB must not open one twice in a process, so all indexes over it share this.

    It is closed when the last of them is gone, and never while a thread reads: the reader holds a reference.
    """

    def __init__(self, path: Path) -> None:
        try:
            size = path.stat().st_size
            # Not a byte more than the file has: a process may have little room for addresses.
            self.env = lmdb.open(
                str(path), subdir=False, readonly=True, lock=False, map_size=max(size, 1), max_spare_txns=0
            )
        except (lmdb.Error, OSError) as error:
            raise refused(path, error, "BAD_INDEX") from error
        self.longest = size - bytes_in_use(self.env)  # bytes of a value
        if self.longest < PADDING:
            self.env.close()
            raise SnapshotError(f"{path}: cut off at {size} bytes", reason="BAD_INDEX", path=path)


_mappings: weakref.WeakValueDictionary[tuple[int, int], _Mapping] = weakref.WeakValueDictionary()
_mappings_lock = threading.Lock()


def _after_fork_in_child() -> None:
    global _mappings_lock  # noqa: PLW0603  (another thread of the parent may have held it)
    _mappings_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _mapping(path: Path) -> _Mapping:
    try:
        found = path.stat()
    except OSError as error:
        raise refused(path, error, "BAD_INDEX") from error
    with _mappings_lock:
        mapping = _mappings.get((found.st_dev, found.st_ino))
        if mapping is None:
            mapping = _mappings[found.st_dev, found.st_ino] = _Mapping(path)
        return mapping


class Index:
    """A built index. Thread-safe; a forked child may go on using it. Closed by being forgotten.

    Every method raises SnapshotError (BAD_INDEX) for what is damaged.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; SnapshotError if it is missing, cut off or not an index.

        UnavailableError (OWN_LIMIT) if it is this process that cannot.
        """
        self.path = path
        self._mapping = _mapping(path)
        self._longest = self._mapping.longest
        self._local = threading.local()

    def _get(self, key: bytes) -> bytes | None:
        try:
            view = self._local.get(key)
        except AttributeError:
            self._begin()
            return self._get(key)
        except lmdb.Error as error:
            raise self._damaged(key, error) from error
        if view is None:
            self._must_be_absent(key)
            return None
        value = self._value(key, view)
        payload = value[:-SEAL]
        if not value.endswith(checksum(key + payload), 0, -CHECKSUM):
            raise self._damaged(key, "its checksum does not match")
        return payload

    def _value(self, key: bytes, view: memoryview) -> bytes:
        if len(view) > self._longest:
            raise self._damaged(key, f"{len(view)} bytes long")
        return bytes(view)

    def _begin(self) -> None:
        """Begin what a thread reads in."""
        try:
            txn = self._mapping.env.begin(buffers=True)
            self._local.cursor = txn.cursor()
        except lmdb.Error as error:
            raise self._damaged(b"", error) from error
        self._local.get = txn.get

    def _must_be_absent(self, key: bytes) -> None:
        """Raise SnapshotError unless two neighbours prove that there is nothing between them, where the key would be."""
        cursor = self._local.cursor
        try:
            following = bytes(cursor.key()) if cursor.set_range(key) else END
            before, joined = self._before(cursor, following)
        except lmdb.Error as error:
            raise self._damaged(key, error) from error
        if not (before < key and (key < following or not following) and joined == link(before, following)):
            raise self._damaged(key, f"not found, but its neighbours {before!r} and {following!r} do not prove that")

    def _before(self, cursor: lmdb.Cursor, following: bytes) -> tuple[bytes, bytes]:
        """Move a cursor to the entry before the key that it is at, or before the end; return its key and its link."""
        if not (cursor.prev() if following else cursor.last()):
            raise self._damaged(following, "the first entry is lost")
        return self._entry(cursor)

    def _entry(self, cursor: lmdb.Cursor) -> tuple[bytes, bytes]:
        """Return the key that a cursor is at, and its link."""
        key, view = bytes(cursor.key()), cursor.value()
        if len(view) > self._longest:
            raise self._damaged(key, f"{len(view)} bytes long")
        return key, bytes(view[-CHECKSUM:])

    def _damaged(self, key: bytes, why: object) -> SnapshotError:
        return SnapshotError(f"{self.path}: damaged at {key!r}: {why}", reason="BAD_INDEX", path=self.path)

    def record(self, kind: str, key: str) -> Record | None:
        """Give the record of a kind with this key."""
        at = record_key(kind, key)
        payload = self._get(at)
        if payload is None:
            return None
        try:
            if payload[0] == FLAGGED:
                return decode_flagged(payload)[0]
            return decoders[kind](payload)
        except (msgspec.DecodeError, IndexError) as error:
            raise self._damaged(at, error) from error

    def gate(self, asset_id: str) -> Gate:
        """Tell whether an asset exists, with its active flags: one read, which finds both or neither."""
        at = record_key("asset", asset_id)
        payload = self._get(at)
        if payload is None:
            return NOTHING
        if not payload or payload[0] != FLAGGED:
            return UNFLAGGED
        try:
            _, flags = decode_flagged(payload)
        except msgspec.DecodeError as error:
            raise self._damaged(at, error) from error
        return Gate(exists=True, flags=flags)

    def deleted(self, kind: str, key: str) -> bool:
        """Report whether a record was deleted and is not there again, as far as the snapshot told."""
        return self._get(deleted_key(kind, key)) is not None

    def posting(self, name: str, words: Words) -> tuple[str, ...]:
        """Give the keys of the records that are found under these words."""
        at = posting_key(name, words)
        payload = self._get(at)
        try:
            return () if payload is None else decode_keys(payload)
        except msgspec.DecodeError as error:
            raise self._damaged(at, error) from error

    def candidates(self, key: bytes) -> tuple[Candidate, ...]:
        """Give the candidates of a folded symbol on a chain, or with "" on none in particular."""
        try:  # as in `_get`, but without a call more: this is the read that counts
            view = self._local.get(key)
            if view is None:
                self._must_be_absent(key)
                return ()
            if len(view) <= self._longest:
                value = bytes(view)
                payload = value[:-SEAL]
                if value.endswith(checksum(key + payload), 0, -CHECKSUM):
                    return decode_candidates(payload)
        except AttributeError:
            self._begin()
            return self.candidates(key)
        except (lmdb.Error, msgspec.DecodeError) as error:
            raise self._damaged(key, error) from error
        raise self._damaged(key, "its checksum does not match")

    def keys(self, kind: str) -> Iterator[str]:
        """Give the keys of a kind, in order. Reads all of them: for the small kinds only."""
        prefix = kind_prefix[kind]
        try:
            for key in self._scan(prefix):
                yield key[2:].decode()
        except (lmdb.Error, UnicodeDecodeError) as error:
            raise self._damaged(prefix, error) from error

    def _scan(self, prefix: bytes) -> Iterator[bytes]:
        """Yield the keys that begin with a prefix, which none equals; each is proved to be the next one."""
        with self._mapping.env.begin(buffers=True) as txn, txn.cursor() as cursor:
            before, joined = self._before(cursor, bytes(cursor.key()) if cursor.set_range(prefix) else END)
            if before > prefix:
                raise self._damaged(prefix, f"found {before!r} before it")
            while True:
                key, joins = self._entry(cursor) if cursor.next() else (END, b"")
                if joined != link(before, key):
                    raise self._damaged(before, "what follows it is lost")
                if not key.startswith(prefix):
                    return
                yield key
                before, joined = key, joins
