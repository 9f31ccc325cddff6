"""Writing an index that nobody reads yet. Beside `_index` the only module that imports lmdb.

It keeps what `_entries` says of links, and what `_index` says of the zeros at the end, true.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import lmdb

from cqar.client._entries import CHECKSUM, END, FIRST, SEAL, link, sealed
from cqar.client._index import PADDING, bytes_in_use

T = TypeVar("T")

ROOM = 1 << 30  # bytes of addresses for a file at first; doubled when it is full
LIB_VERSION = 0  # the 0.9 engine: 1.0 is too young to trust, and its files are unreadable to 0.9


class Writer:
    """Writes an index that nobody reads yet: a new one from its sorted entries, or changes to a copy of an older one."""

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self._path = path
        settings: dict[str, Any] = (
            {"lib_version": LIB_VERSION} if new else {}
        )  # LMDB refuses it for a file that is there already
        self._room = ROOM if new else max(ROOM, 2 * path.stat().st_size)
        # Nothing is synced on the way: the file is not published before `close` has done it.
        self._env = lmdb.open(
            str(path), subdir=False, lock=False, map_size=self._room, sync=False, metasync=False, **settings
        )
        self._longest = 0 if new else path.stat().st_size - bytes_in_use(self._env) - PADDING  # bytes of a value
        self._last: tuple[bytes, bytes] | None = (
            (FIRST, b"") if new else None
        )  # to be written when its next key is known
        self._finished = threading.Event()
        self._flusher = threading.Thread(target=self._flush, daemon=True)
        self._flusher.start()

    def _flush(self) -> None:
        """Let the disk write while the entries are made: `close` finds little left to wait for."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while not self._finished.wait(0.2):
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def append(self, keys: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        """Write entries that come after all that are there, in order: several times faster than `put`."""
        if not keys:
            return
        assert self._last is not None  # nothing was put yet
        before, held = self._last
        self._last = keys[-1], payloads[-1]
        self._add([before, *keys[:-1]], [held, *payloads[:-1]], keys)

    def _finish_appending(self) -> None:
        if self._last is not None:
            key, payload = self._last
            self._last = None
            self._add([key], [payload], [END])

    def _add(self, keys: Sequence[bytes], payloads: Sequence[bytes], following: Sequence[bytes]) -> None:
        values = [sealed(*each) for each in zip(keys, payloads, following, strict=True)]
        self._longest = max(self._longest, *map(len, values))

        def write(txn: lmdb.Transaction) -> tuple[int, int]:
            with txn.cursor() as cursor:
                done: tuple[int, int] = cursor.putmulti(zip(keys, values, strict=True), append=True)
                return done

        consumed, added = self._write(write)
        if not consumed == added == len(keys):
            raise AssertionError("entries out of order")  # LMDB leaves them out without a word

    def put(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write entries wherever they belong; None removes one."""
        self._finish_appending()
        held = list(changes)

        def write(txn: lmdb.Transaction) -> None:
            for key, payload in held:
                if payload is None:
                    txn.delete(key)
                else:
                    txn.put(key, sealed(key, payload, END))
            with txn.cursor() as cursor:
                for key, _ in held:
                    _join(cursor, key)

        self._longest = max([self._longest, *[len(payload or b"") + SEAL for _, payload in held]])
        self._write(write)

    def _write(self, write: Callable[[lmdb.Transaction], T]) -> T:
        """Write in a transaction of its own, with as much room as it needs."""
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    return write(txn)
            except lmdb.MapFullError:
                self._room *= 2
                self._env.set_mapsize(self._room)

    def close(self) -> None:
        """Finish the file, durably."""
        self._finish_appending()
        self._env.sync(True)
        length = bytes_in_use(self._env) + self._longest + PADDING
        self.abandon()
        os.truncate(self._path, length)

    def abandon(self) -> None:
        """Leave the file as it is, unfinished."""
        self._finished.set()
        self._flusher.join()
        self._env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()


def _join(cursor: lmdb.Cursor, key: bytes) -> None:
    """Renew the links at a key that was written or removed: its own, and that of the key before it."""
    if cursor.set_key(key):
        _link_here(cursor)
    if cursor.set_range(key):
        cursor.prev()
    else:
        cursor.last()
    _link_here(cursor)


def _link_here(cursor: lmdb.Cursor) -> None:
    key, value = map(bytes, cursor.item())
    joined = link(key, bytes(cursor.key()) if cursor.next() else END)
    if not value.endswith(joined):
        cursor.put(key, value[:-CHECKSUM] + joined)
