"""The index of a generation: an LMDB file that is built once and then only read.

What is in it, and how, is in `_entries`. What is damaged raises SnapshotError (BAD_INDEX) and never gives an answer.

Beside `_writer` the only module that imports lmdb. Because nobody writes, readers need neither locks nor reader slots
(`lock=False`), and one read transaction per thread serves for the life of the file.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import msgspec

from cqar.answers import Candidate
from cqar.client._entries import (
    CHECKSUM,
    FLAGGED,
    NOTHING,
    UNFLAGGED,
    Gate,
    checksum,
    decode_candidates,
    decode_flagged,
    decode_keys,
    decoders,
    kind_prefix,
    posting_key,
    record_key,
)
from cqar.errors import SnapshotError
from cqar.model import Record, Words

MAP_SIZE = 64 << 30  # virtual; an upper bound of the file


class _Mapping:
    """An open file. LMDB must not open one twice in a process, so all indexes over it share this.

    It is closed when the last of them is gone, and never while a thread reads: the reader holds a reference.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.env = lmdb.open(
                str(path), subdir=False, readonly=True, lock=False, map_size=MAP_SIZE, max_spare_txns=0
            )
        except (lmdb.Error, OSError) as error:
            raise SnapshotError(f"{path}: cannot be opened: {error}", reason="BAD_INDEX", path=path) from error
        # Reading past the end of a file that was cut off kills the process (SIGBUS): find out now.
        needed = (self.env.info()["last_pgno"] + 1) * self.env.stat()["psize"]
        if path.stat().st_size < needed:
            self.env.close()
            raise SnapshotError(f"{path}: cut off: {needed} bytes needed", reason="BAD_INDEX", path=path)


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
        raise SnapshotError(f"{path}: cannot be opened: {error}", reason="BAD_INDEX", path=path) from error
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
        """Open the file; SnapshotError if it is missing, cut off or not an index."""
        self.path = path
        self._mapping = _mapping(path)
        self._local = threading.local()

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._local.get(key)
        except AttributeError:
            self._local.get = self._begin()
            return self._get(key)
        except lmdb.Error as error:
            raise self._damaged(key, error) from error
        if value is None:
            return None
        payload = value[:-CHECKSUM]
        if not value.endswith(checksum(key + payload)):
            raise self._damaged(key, "its checksum does not match")
        return payload

    def _begin(self) -> Callable[[bytes], bytes | None]:
        try:
            get: Callable[[bytes], bytes | None] = self._mapping.env.begin().get
        except lmdb.Error as error:
            raise self._damaged(b"", error) from error
        return get

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
            _, flags, unread = decode_flagged(payload)
        except msgspec.DecodeError as error:
            raise self._damaged(at, error) from error
        return Gate(exists=True, flags=flags, unread=unread)

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
            value = self._local.get(key)
            if value is None:
                return ()
            payload = value[:-CHECKSUM]
            if value.endswith(checksum(key + payload)):
                return decode_candidates(payload)
        except AttributeError:
            self._local.get = self._begin()
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
        with self._mapping.env.begin() as txn, txn.cursor() as cursor:
            if cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if not key.startswith(prefix):
                        return
                    yield key

    def check(self) -> int:
        """Check every entry, 0.5 µs each; give how many there are."""
        number = 0
        try:
            with self._mapping.env.begin() as txn, txn.cursor() as cursor:
                for number, (key, value) in enumerate(cursor, start=1):  # noqa: B007  (the last one is their number)
                    if not value.endswith(checksum(key + value[:-CHECKSUM])):
                        raise self._damaged(key, "its checksum does not match")
        except lmdb.Error as error:
            raise self._damaged(b"", error) from error
        if number != self._mapping.env.stat()["entries"]:
            raise self._damaged(b"", "entries are missing")
        return number
