"""The index of a generation: an LMDB file that is built once and then only read.

Three sorts of entries, told apart by the first byte of the key:

- `R` kind, record key       -> the record
- `P` posting, words         -> the keys of the records found under these words (see `model.Posting`)
- `S` chain, folded symbol   -> the candidates, whole: the look-up that trading services repeat costs one read.
  The chain is empty for "on no particular chain"

The only module that imports lmdb. Because nobody writes, readers need neither locks nor reader slots (`lock=False`), and one
read transaction per thread serves for the life of the file.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from cqar.answers import Candidate
from cqar.errors import SnapshotError
from cqar.model import KINDS, Record, Words

MAP_SIZE = 64 << 30  # virtual; an upper bound of the file
MAX_KEY = 511  # of the LMDB 0.9 format
LIB_VERSION = 0  # the 0.9 engine: 1.0 is too young to trust, and its files are unreadable to 0.9

_encode = msgspec.msgpack.Encoder().encode
_decode_keys = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_decode_candidates = msgspec.msgpack.Decoder(tuple[Candidate, ...]).decode


class _Decoders(dict[str, Callable[[bytes], Record]]):
    """The decoder of each kind, made when it is first needed: all of them take 3 ms of every import."""

    def __missing__(self, kind: str) -> Callable[[bytes], Record]:
        decode = self[kind] = msgspec.msgpack.Decoder(KINDS[kind].record).decode
        return decode


_decoders = _Decoders()
_kind_prefix = {name: b"R" + bytes([number]) for number, name in enumerate(KINDS)}
_posting_prefix = {
    posting.name: b"P" + bytes([number])
    for number, posting in enumerate(posting for kind in KINDS.values() for posting in kind.postings)
}


def _short(key: bytes) -> bytes:
    """Keep a key within LMDB's limit; longer ones (rare: IBC denoms, foreign ids) are stored under their hash."""
    if len(key) <= MAX_KEY:
        return key
    from hashlib import blake2b  # noqa: PLC0415  (loads OpenSSL)

    return key[:2] + b"#" + blake2b(key, digest_size=32).digest()


def record_key(kind: str, key: str) -> bytes:
    """Give the index key of a record."""
    return _short(_kind_prefix[kind] + key.encode("utf-8", "surrogatepass"))


def posting_key(posting: str, words: Words) -> bytes:
    """Give the index key of a posting."""
    return _short(_posting_prefix[posting] + "\0".join(words).encode("utf-8", "surrogatepass"))


def symbol_key(chain: str, folded: str) -> bytes:
    """Give the index key of a symbol's candidates; also the topic of the answers made of them."""
    return _short(f"S{chain}\0{folded}".encode("utf-8", "surrogatepass"))


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
    """A built index. Thread-safe; a forked child may go on using it. Closed by being forgotten."""

    def __init__(self, path: Path) -> None:
        """Open the file; SnapshotError if it is missing, cut off or not an index."""
        self._mapping = _mapping(path)
        self._local = threading.local()

    def _get(self, key: bytes) -> bytes | None:
        try:
            get = self._local.get
        except AttributeError:
            get = self._local.get = self._mapping.env.begin().get
        value: bytes | None = get(key)
        return value

    def record(self, kind: str, key: str) -> Record | None:
        """Give the record of a kind with this key."""
        value = self._get(record_key(kind, key))
        return None if value is None else _decoders[kind](value)

    def posting(self, name: str, words: Words) -> tuple[str, ...]:
        """Give the keys of the records that are found under these words."""
        value = self._get(posting_key(name, words))
        return () if value is None else _decode_keys(value)

    def candidates(self, key: bytes) -> tuple[Candidate, ...]:
        """Give the candidates of a folded symbol on a chain, or with "" on none in particular."""
        value = self._get(key)
        return () if value is None else _decode_candidates(value)

    def keys(self, kind: str) -> Iterator[str]:
        """Give the keys of a kind, in order. Reads all of them: for the small kinds only."""
        prefix = _kind_prefix[kind]
        with self._mapping.env.begin() as txn, txn.cursor() as cursor:
            if cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if key[:2] != prefix:
                        return
                    yield key[2:].decode()


# --- build -----------------------------------------------------------------------------------------------------------

Entry = tuple[bytes, bytes]


class Builder:
    """Writes an index. Entries come in sections; LMDB loads sorted keys several times faster than others."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._env = lmdb.open(
            str(path),
            subdir=False,
            lock=False,
            map_size=MAP_SIZE,
            lib_version=LIB_VERSION,
            sync=False,  # the file is not published before `close` has synced it
            metasync=False,
        )

    def put(self, entries: Iterable[Entry]) -> None:
        """Write one section. Sections must come in the order P, R, S of their keys and hold all of their prefix."""
        ordered = sorted(entries)
        with self._env.begin(write=True) as txn, txn.cursor() as cursor:
            cursor.putmulti(ordered, append=True)

    def close(self) -> None:
        """Finish the file, durably."""
        self._env.sync(True)
        self._env.close()
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def record_entries(kind: str, records: Iterable[Record]) -> Iterator[Entry]:
    """Give the entries for the records of a kind."""
    key_of = KINDS[kind].key_of
    for record in records:
        yield record_key(kind, key_of(record)), _encode(record)


def posting_entries(kind: str, number: int, records: Iterable[Record]) -> Iterator[Entry]:
    """Give the entries of a kind's posting with this number."""
    description = KINDS[kind]
    posting = description.postings[number]
    found: dict[Words, Any] = {}
    for record in records:
        key = description.key_of(record)
        for words in posting.words(record):
            found.setdefault(words, []).append(key)
    for words, keys in found.items():
        yield posting_key(posting.name, words), _encode(sorted(keys))


def symbol_entry(chain: str, folded: str, candidates: Sequence[Candidate]) -> Entry:
    """Give the entry for the candidates of a symbol."""
    return symbol_key(chain, folded), _encode(candidates)
