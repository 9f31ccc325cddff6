"""Writing an index that nobody reads yet. Beside `_index` the only module that imports lmdb."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import lmdb

from cqar.client._entries import checksum
from cqar.client._index import MAP_SIZE

LIB_VERSION = 0  # the 0.9 engine: 1.0 is too young to trust, and its files are unreadable to 0.9


class Writer:
    """Writes an index that nobody reads yet: a new one from its sorted entries, or changes to a copy of an older one."""

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self._path = path
        settings: dict[str, Any] = (
            {"lib_version": LIB_VERSION} if new else {}
        )  # LMDB refuses it for a file that is there already
        # Nothing is synced on the way: the file is not published before `close` has done it.
        self._env = lmdb.open(
            str(path), subdir=False, lock=False, map_size=MAP_SIZE, sync=False, metasync=False, **settings
        )
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
        sealed = [payload + checksum(key + payload) for key, payload in zip(keys, payloads, strict=True)]
        with self._env.begin(write=True) as txn, txn.cursor() as cursor:
            consumed, added = cursor.putmulti(zip(keys, sealed, strict=True), append=True)
        if not consumed == added == len(keys):
            raise AssertionError("entries out of order")  # LMDB leaves them out without a word

    def put(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write entries wherever they belong; None removes one."""
        with self._env.begin(write=True) as txn:
            for key, payload in changes:
                if payload is None:
                    txn.delete(key)
                else:
                    txn.put(key, payload + checksum(key + payload))

    def close(self) -> None:
        """Finish the file, durably."""
        self._env.sync(True)
        self.abandon()

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
