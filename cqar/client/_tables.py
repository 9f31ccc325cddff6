"""Relational queries over the replica, in DuckDB: the generation's file, read-only, plus the changes since.

The only module that imports duckdb. Every query has a connection of its own, thrown away after it, with views of its own that show
one position; what it returns is a finished result. So threads do not wait for each other, and no query sees what another one did.
A caller's query reads the registry's tables and nothing else (`_statement`): no files, no network, no settings. Its rows, its time
and the memory of all queries are bounded.

No thread waits for DuckDB while it holds the interpreter, and no query of DuckDB's waits for the interpreter while it runs: changed
records are copied into tables of DuckDB's before it begins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from cqar.arrow import to_arrow
from cqar.client._generation import Generation
from cqar.client._overlay import Overlay
from cqar.client._statement import TABLES, UNREAD, check_nesting, tables_of, without_end
from cqar.errors import ClosedError, InvalidError, LimitError, SnapshotError
from cqar.model import KINDS, Record

_DAMAGED = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
_BROKEN = (duckdb.FatalException, duckdb.InternalException)  # after one of these a database refuses all that follows
MEMORY: Final = "1GB"  # of all queries of a client that run at once
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


class Bounds(NamedTuple):
    """How much a caller's query may take."""

    rows: int
    seconds: float


class _Database:
    """A DuckDB database in memory, shared by the threads of this process: each call has a connection of its own. Thread-safe."""

    def __init__(self, threads: int, begin: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        """Prepare; the database is made at its first use, and `begin` is run in it."""
        self._threads, self._begin = threads, begin
        self._lock = threading.Lock()  # held while a connection is made, and not while one is used
        self._root: duckdb.DuckDBPyConnection | None = None
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a new connection, closed afterwards."""
        connection = self.cursor()
        try:
            yield connection
        finally:
            connection.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a new connection; ClosedError once the database is closed."""
        with self._lock:
            if self._closed:
                raise ClosedError
            self._root = self._root or self._made()
            return self._root.cursor()

    def _made(self) -> duckdb.DuckDBPyConnection:
        root = duckdb.connect(
            ":memory:",
            config={
                "threads": str(self._threads),
                "memory_limit": MEMORY,
                "temp_directory": "",  # nothing is spilled: what does not fit into the memory is refused
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",  # no variable of the caller's is a table
            },
        )
        self._begin(root)
        root.execute("SET GLOBAL TimeZone='UTC'")
        root.execute("SET enable_external_access=false")
        root.execute("SET lock_configuration=true")
        return root

    def forget(self) -> None:
        """Make a new database at the next use. Queries under way go on in the old one."""
        with self._lock:
            self._root = None

    def close(self) -> None:
        """Let no query begin any more. Those under way end with their answer."""
        with self._lock:
            self._closed = True
            self._root = None  # not closed: DuckDB would close the connections made from it, too

    def after_fork_in_child(self) -> None:
        """Leave the parent's database alone, and make one of the child's own: freeing it here, without its threads, would crash."""
        self._lock = threading.Lock()
        if self._root is not None:
            import ctypes  # noqa: PLC0415  (not needed otherwise)

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._root))
        self._root = None


class Tables:
    """The tables of one generation. Thread-safe: queries of several threads run beside each other."""

    def __init__(self, path: Path) -> None:
        """Open the file at its first query."""
        self.path = path
        self._database = _Database(2, self._attach)
        self._results = _Database(1, lambda _root: None)  # what callers do with their results is not seen by queries
        self._active: frozenset[str] = frozenset()  # functions with side effects; looked up at the first caller's query
        self._changed: tuple[int, dict[str, tuple[pa.Table, pa.Table]]] = (-1, {})  # at which position; by table

    def _attach(self, root: duckdb.DuckDBPyConnection) -> None:
        try:
            root.execute(f"ATTACH {_quoted(self.path)} AS gen (READ_ONLY)")
        except duckdb.Error as error:
            raise SnapshotError(f"{self.path}: {error}", reason="BAD_TABLES", path=self.path) from error

    def query(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None,
        frozen: Callable[[], tuple[Generation, Overlay, int]],
        bounds: Bounds | None = None,
    ) -> tuple[pa.Table, int] | None:
        """Run one SELECT and return its rows with the position that they are true at.

        `frozen` returns what the replica is now; if that is over another generation than these tables', the answer is None. With
        `bounds` the query is a caller's, and is checked; without, one of CQAR's own. Raises InvalidError, with DuckDB's words, for
        what is no valid single SELECT, LimitError for what takes too much, and SnapshotError for a damaged file.
        """
        generation, changes, position = frozen()
        if generation.tables != self.path:
            return None
        with self._translated(), self._database.connection() as connection:
            if bounds is None:
                used = frozenset(table for table in TABLES if table in query)
            else:
                query, used = self._asked(connection, query)
            for name, kind in KINDS.items():
                if kind.table in used:
                    self._show(connection, name, changes, position)
            if UNREAD in used:
                _copy(connection, UNREAD, _pairs(changes.unread))
            # All that it reads is there. From here on, nothing may be written.
            connection.execute("BEGIN TRANSACTION READ ONLY")
            if bounds is None:
                return connection.sql(query, params=parameters).to_arrow_table(), position
            return _bounded(connection, query, parameters, bounds), position

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise LimitError(
                f"query: it needs more than the {MEMORY} that a client's queries may take together: select fewer rows or columns,"
                " or run fewer at once",
                reason="QUERY_MEMORY",
                field="query",
            ) from error
        except _DAMAGED as error:
            if isinstance(error, _BROKEN):
                self._database.forget()
            raise SnapshotError(f"{self.path}: {error}", reason="BAD_TABLES", path=self.path) from error
        except duckdb.Error as error:
            words = str(error).partition("\n\nLINE ")[0]  # of the text that was run, which is not quite the caller's
            raise InvalidError(f"query: {words}", reason="SQL", field="query") from error

    def _asked(self, connection: duckdb.DuckDBPyConnection, query: str) -> tuple[str, frozenset[str]]:
        """Return a caller's query without a semicolon, and the tables that it reads; InvalidError if it may not be run."""
        if not self._active:
            found = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE has_side_effects")
            self._active = frozenset(name for (name,) in found.fetchall())
        words = [offset for offset, _ in duckdb.tokenize(query)]
        check_nesting(query, words)
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise InvalidError("query: give one SELECT statement", reason="SQL", field="query")
        text = without_end(query, words)
        tree = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [text]).fetchall()[0][0]
        return text, tables_of(tree, self._active)

    def _show(self, connection: duckdb.DuckDBPyConnection, name: str, changes: Overlay, position: int) -> None:
        """Make a view of a kind's records at a position: those of the generation, with the changes laid over them."""
        table = KINDS[name].table
        source = f"SELECT * FROM gen.{table}"
        if changes.changed(name):
            gone, come = self._changes(name, changes, position)
            _copy(connection, f"gone_{table}", gone)
            _copy(connection, f"new_{table}", come)
            source += f" WHERE ({_key(name)}) NOT IN (SELECT key FROM gone_{table})"
            source += f" UNION ALL BY NAME SELECT * FROM new_{table}"
        connection.execute(f"CREATE TEMP VIEW {table} AS {source}")

    def _changes(self, name: str, changes: Overlay, position: int) -> tuple[pa.Table, pa.Table]:
        """Return the keys that changed, and the records that they have now; remembered for the newest position."""
        at, known = self._changed
        if at != position:
            known = {}
            self._changed = position, known
        found = known.get(name)
        if found is None:
            changed = changes.changed(name)
            live = [record for record in changed.values() if record is not None]
            come = pa.Table.from_batches([to_arrow(KINDS[name].record, live)])
            found = known[name] = pa.table({"key": list(changed)}), come
        return found

    def relation(self, rows: pa.Table, position: int) -> duckdb.DuckDBPyRelation:
        """Wrap finished rows as a DuckDB relation of its own connection, whose alias tells the position."""
        return self._results.cursor().from_arrow(rows).set_alias(f"position_{position}")

    def close(self) -> None:
        """Let no query begin any more; those under way end with their answer. Results stay of use."""
        self._database.close()
        self._results.close()

    def after_fork_in_child(self) -> None:
        """Go on with databases of the child's own."""
        self._database.after_fork_in_child()
        self._results.after_fork_in_child()


def _pairs(unread: Iterable[tuple[str, str]]) -> pa.Table:
    """Return the kinds and keys of records that could not be read whole."""
    pairs = sorted(unread)
    columns = pa.array([kind for kind, _ in pairs], pa.string()), pa.array([key for _, key in pairs], pa.string())
    return pa.table(columns, names=["kind", "key"])


def _copy(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Copy rows into a table of a connection's own, so that no query reads through the interpreter."""
    connection.register("come", rows)
    connection.execute(f"CREATE TEMP TABLE {table} AS SELECT * FROM come")
    connection.unregister("come")


def _bounded(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None,
    bounds: Bounds,
) -> pa.Table:
    """Run a caller's query within its bounds.

    Its rows go into a table of the connection's own, whose memory DuckDB counts, and leave it as Arrow when all of them are known
    to fit: neither an Arrow reader nor a relation would stop before it has used up the memory of the process.
    """
    done = threading.Event()
    watch = threading.Thread(target=_watch, name="cqar-query", args=(connection, bounds.seconds, done), daemon=True)
    watch.start()
    try:
        connection.execute(f"CREATE TEMP TABLE result AS FROM (\n{query}\n) LIMIT {bounds.rows + 1}", parameters)
        rows = connection.table("result")
        if len(rows) > bounds.rows:
            raise LimitError(
                f"query: more than {bounds.rows:,} rows: select fewer, aggregate them, or raise max_rows",
                reason="QUERY_ROWS",
                field="max_rows",
            )
        return rows.to_arrow_table()
    except duckdb.InterruptException as error:
        raise LimitError(
            f"query: not done within {bounds.seconds:g} s: narrow it, or raise timeout",
            reason="QUERY_TIME",
            field="timeout",
        ) from error
    finally:
        done.set()
        watch.join()  # before the connection is closed


def _watch(connection: duckdb.DuckDBPyConnection, seconds: float, done: threading.Event) -> None:
    """Interrupt a query that is not done in time; again and again, for DuckDB forgets what comes while nothing runs."""
    late = not done.wait(min(seconds, threading.TIMEOUT_MAX))
    while late and not done.wait(0.05):
        connection.interrupt()
