"""Relational queries over the replica, in DuckDB: the generation's file, read-only, plus the changes since.

The only module that imports duckdb. A query sees one position: it runs to its end under a lock against views that were made
for that position, and what it gives is a finished result. Users' queries can read the registry's tables and nothing else: no
files, no network, no settings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from cqar.arrow import to_arrow
from cqar.client._generation import Generation
from cqar.client._overlay import Overlay
from cqar.errors import InvalidError, SnapshotError
from cqar.model import KINDS, Record

_DAMAGED = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
_PATIENCE = 2.0  # seconds that a fork waits for the end of a query
STORAGE = "v1.5.0"  # readable by every duckdb that pyproject.toml admits


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def build_tables(path: Path, rows: Mapping[str, pa.Table]) -> None:
    """Write a database file with one table per kind."""
    with duckdb.connect(":memory:", config={"threads": "2"}) as connection:
        connection.execute(f"ATTACH {_quoted(path)} AS gen (STORAGE_VERSION '{STORAGE}')")
        for name, kind in KINDS.items():
            connection.register("new_rows", rows[name])
            connection.execute(f"CREATE TABLE gen.{kind.table} AS SELECT * FROM new_rows")
            connection.unregister("new_rows")
        connection.execute("DETACH gen")


def positions(values: pa.Array, keys: pa.Array) -> pa.Array:
    """Give, for each value in order, its position among the keys, of which no two are equal; null if it is none of them.

    What `pyarrow.compute.index_in` does, in a third of the time.
    """
    with duckdb.connect(":memory:", config={"threads": "2"}) as connection:
        connection.register("asked", pa.table({"key": values, "row": _numbers(len(values))}))
        connection.register("known", pa.table({"key": keys, "position": _numbers(len(keys))}))
        found = connection.sql("SELECT position FROM asked LEFT JOIN known USING (key) ORDER BY row")
        return found.to_arrow_table().column(0).combine_chunks()


def _numbers(count: int) -> pa.Array:
    """Give 0, 1, 2, …"""
    one = pa.scalar(1, pa.int32())
    return pc.subtract(pc.cumulative_sum(pa.repeat(one, count)), one)


def change_tables(path: Path, changes: Mapping[str, Mapping[str, Record | None]]) -> None:
    """Write changed records, by kind and key, into a database file that nobody reads yet; None stands for a removed one."""
    with duckdb.connect(":memory:", config={"threads": "2"}) as connection:
        connection.execute(f"ATTACH {_quoted(path)} AS gen")
        for name, changed in changes.items():
            kind = KINDS[name]
            connection.register("gone", pa.table({"key": list(changed)}))
            connection.execute(f"DELETE FROM gen.{kind.table} WHERE ({_key(name)}) IN (SELECT key FROM gone)")
            live = [record for record in changed.values() if record is not None]
            connection.register("come", pa.Table.from_batches([to_arrow(kind.record, live)]))
            connection.execute(f"INSERT INTO gen.{kind.table} BY NAME SELECT * FROM come")
        connection.execute("CHECKPOINT gen")
        connection.execute("DETACH gen")


def _key(kind: str) -> str:
    """Give the SQL for a record's key."""
    return " || '/' || ".join(KINDS[kind].key)


class Tables:
    """The tables of one generation. Thread-safe: queries of several threads take turns."""

    def __init__(self, path: Path, scratch: Path) -> None:
        """Open the file at its first query; `scratch` is for results that outgrow the memory limit."""
        self.path = path
        self._scratch = scratch
        self._lock = threading.Lock()
        self._held = False  # by a fork
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._position = -1

    def _open(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(
            ":memory:",
            config={
                "threads": "2",
                "memory_limit": "1GB",
                "temp_directory": str(self._scratch),
                "max_temp_directory_size": "1GB",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        try:
            connection.execute(f"ATTACH {_quoted(self.path)} AS gen (READ_ONLY)")
        except duckdb.Error as error:
            raise SnapshotError(f"{self.path}: {error}", reason="BAD_TABLES", path=self.path) from error
        connection.execute("SET TimeZone='UTC'")
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        return connection

    def _refresh(self, connection: duckdb.DuckDBPyConnection, overlay: Overlay, position: int) -> None:
        """Make the views show the generation plus the overlay."""
        for name, kind in KINDS.items():
            changed = overlay.records.get(name)
            source = f"SELECT * FROM gen.{kind.table}"
            if changed:
                connection.register(f"gone_{kind.table}", pa.table({"key": list(changed)}))
                live = [record for record in changed.values() if record is not None]
                connection.register(f"new_{kind.table}", pa.Table.from_batches([to_arrow(kind.record, live)]))
                source += f" WHERE ({_key(name)}) NOT IN (SELECT key FROM gone_{kind.table})"
                source += f" UNION ALL BY NAME SELECT * FROM new_{kind.table}"
            if changed or self._position < 0:
                connection.execute(f"CREATE OR REPLACE VIEW {kind.table} AS {source}")
        unread = sorted(overlay.unread)
        texts = pa.array([kind for kind, _ in unread], pa.string()), pa.array([key for _, key in unread], pa.string())
        connection.register("unread_records", pa.table(texts, names=["kind", "key"]))
        connection.execute("CREATE OR REPLACE VIEW unread AS SELECT * FROM unread_records")
        self._position = position

    def query(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None,
        frozen: Callable[[], tuple[Generation, Overlay, int]],
    ) -> tuple[pa.Table, int] | None:
        """Run one SELECT and give its rows with the position that they are true at.

        `frozen` gives what the replica is now; if that is over another generation than these tables', the answer is None. Raises
        InvalidError, with DuckDB's words, for what is no valid single SELECT, and SnapshotError for a damaged file.
        """
        with self._lock:
            generation, changes, position = frozen()
            if generation.tables != self.path:
                return None
            connection = self._connection = self._connection or self._open()
            if position != self._position:
                self._refresh(connection, changes, position)
            try:
                statements = connection.extract_statements(query)
                if len(statements) != 1 or statements[0].type not in {
                    duckdb.StatementType.SELECT,
                    duckdb.StatementType.EXPLAIN,
                }:
                    raise InvalidError("query: give one SELECT statement", reason="SQL", field="query")
                rows: pa.Table = connection.sql(query, params=parameters).to_arrow_table()
            except _DAMAGED as error:
                raise SnapshotError(f"{self.path}: {error}", reason="BAD_TABLES", path=self.path) from error
            except duckdb.Error as error:
                raise InvalidError(f"query: {error}", reason="SQL", field="query") from error
            return rows, position

    def relation(self, rows: pa.Table, position: int) -> duckdb.DuckDBPyRelation:
        """Wrap finished rows as a DuckDB relation whose alias tells the position."""
        with self._lock:
            connection = self._connection = self._connection or self._open()
            return connection.from_arrow(rows).set_alias(f"position_{position}")

    def close(self) -> None:
        """Close the file, once the running query has ended."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                self._position = -1

    # --- fork -----------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let go of the connection: in a child, where DuckDB's threads do not exist, freeing it would be a crash."""
        self._held = self._lock.acquire(timeout=_PATIENCE)
        if self._held:
            self._connection, self._position = None, -1

    def after_fork_in_parent(self) -> None:
        """Go on; the next query opens the file."""
        if self._held:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with a lock of the child's own. The connection of a query that runs on in the parent is never freed here."""
        if self._connection is not None:
            import ctypes  # noqa: PLC0415  (not needed otherwise)

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
        self._lock = threading.Lock()
        self._connection, self._position = None, -1
