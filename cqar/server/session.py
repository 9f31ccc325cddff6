"""Sessions with PostgreSQL: connections from SQLAlchemy's pool, used bare.

SQLAlchemy writes the statements and keeps the pool; executing through it costs four times what psycopg costs (250 µs beside
60 µs of processor time for a read of one row), which the server feels in every call. A session is one loan of a connection:
a statement of its own, a view, or a write transaction.

A connection may have died since it was last used, with a restarted PostgreSQL or at the hands of a firewall. No ping finds
out: the first statement does, and as nothing has happened yet it is sent once more, over a new connection.
"""

from __future__ import annotations

import functools
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec
import psycopg
from psycopg.adapt import Dumper, Loader
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_loads
from sqlalchemy import URL, Connection, Engine, Executable, QueuePool, create_engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import queue as sqlalchemy_queue

T = TypeVar("T")

BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
# Two statements, one round trip.
BEGIN_VIEW: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT position FROM clock"

_SETTINGS: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "jit": "off",  # takes longer than what it would speed up
    "max_parallel_workers_per_gather": "0",  # so does starting them; and the other calls want the processors, too
    "random_page_cost": "1.1",  # a registry fits in memory
    "timezone": "UTC",
}
_DIALECT: Final = PGDialect_psycopg()  # type: ignore[no-untyped-call]
_numbers = itertools.count()  # names of streams
_CROWDED: Final = 0.5  # seconds until another try to get one more connection from a database that has none left
# What PostgreSQL says then; libpq tells no code of a connection that was refused.
_TOO_MANY: Final = re.compile("too many (clients|connections)|connection slots")
_MADE: Final = "cqar_made"  # when a connection was made, in its record's `info`


class _UuidText(Loader):
    """Loads a uuid as the text that it is on the wire."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


class _Array(Dumper):
    """Writes a list as PostgreSQL reads an array; psycopg asks every element for its type, and our statements say it."""

    def dump(self, obj: Any) -> bytes:
        texts = [str(each).replace("\\", "\\\\").replace('"', '\\"') for each in obj]
        array = ('{"' + '","'.join(texts) + '"}').encode() if texts else b"{}"
        if b"\0" in array:  # libpq would read no further
            raise psycopg.DataError("PostgreSQL cannot hold a NUL")
        return array


class Rows(psycopg.Cursor[tuple[Any, ...]]):
    """The rows of a statement. To be used while the session lasts."""

    def all(self) -> list[tuple[Any, ...]]:
        """Give all of them."""
        return self.fetchall()

    def one_or_none(self) -> tuple[Any, ...] | None:
        """Give the only one, or None."""
        return self.fetchone()

    def one(self) -> tuple[Any, ...]:
        """Give the only one."""
        row = self.fetchone()
        assert row is not None
        return row

    def scalars(self) -> Iterator[Any]:
        """Give the first value of each."""
        return (row[0] for row in self)

    def scalar_one_or_none(self) -> Any:
        """Give the first value of the only row, or None."""
        row = self.fetchone()
        return None if row is None else row[0]

    def scalar_one(self) -> Any:
        """Give the first value of the only row."""
        return self.one()[0]


@functools.lru_cache(maxsize=1024)
def compiled(statement: Executable) -> str:
    """Give the text of a statement as psycopg takes it. Statements are made once and used for ever, so they are the key."""
    return str(statement.compile(dialect=_DIALECT))  # type: ignore[attr-defined]


class Session:
    """One loan of a connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.position = 0  # of a view: where the registry is in it

    def execute(self, statement: Executable | str, parameters: Mapping[str, Any] | None = None) -> Rows:
        """Run a statement, of SQLAlchemy's or in psycopg's own form."""
        text = statement if isinstance(statement, str) else compiled(statement)
        return self._connection.execute(text, parameters)  # type: ignore[return-value]

    def stream(self, statement: Executable) -> Iterator[tuple[Any, ...]]:
        """Run a statement and give its rows a few thousand at a time, which the database holds meanwhile. In a view only."""
        with self._connection.cursor(f"cqar_{next(_numbers)}") as rows:
            rows.itersize = 5000
            yield from rows.execute(compiled(statement))

    def commit(self, last: Executable | None = None, parameters: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
        """End the transaction, after one more statement if there is one; what it wrote is durable then.

        Both travel together, so that a lock of the last statement is held while the database commits and no longer, however
        busy this process is. Gives the only row of the last statement.
        """
        with self._connection.pipeline():
            rows = None if last is None else self.execute(last, parameters)
            # Never prepared: if the last statement fails, the preparation is not done, and psycopg would take it for done.
            self._connection.execute("COMMIT", prepare=False)
        return () if rows is None else rows.one()

    def rollback(self) -> None:
        """End the transaction as if it had not been."""
        self._connection.execute("ROLLBACK")


class Connections(NamedTuple):
    """The connections of a store: how many there may be, how many are in use, and waits for one that were in vain."""

    size: int
    in_use: int
    timeouts: int


class _Pool(QueuePool):
    """Counts the waits that were in vain."""

    __module__ = QueuePool.__module__  # the name of its logger: with one of ours, every connection would be told
    timeouts = 0

    _crowded_until = 0.0  # the database has no connection more to give, as far as is known

    def _do_get(self) -> Any:
        """Take a connection, or wait for one that goes back: also if the database does not allow as many as there may be."""
        ends = time.monotonic() + self._timeout
        try:
            while True:
                left = ends - time.monotonic()
                if time.monotonic() >= self._crowded_until:
                    try:
                        return super()._do_get()
                    except psycopg.OperationalError as error:
                        if left <= 0 or not _TOO_MANY.search(str(error)):
                            raise
                        self._crowded_until = time.monotonic() + _CROWDED
                try:
                    return self._pool.get(True, max(0.0, min(left, _CROWDED)))
                except sqlalchemy_queue.Empty:
                    if left <= 0:
                        raise NoConnection("no connection to the database became free in time") from None
        except NoConnection:
            self.timeouts += 1
            raise


class Sessions:
    """Lends connections. Thread-safe. Errors are psycopg's and SQLAlchemy's: `faults.translated` tells what they mean."""

    def __init__(self, url: URL, size: int) -> None:
        self.engine: Engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",  # a session begins its transaction itself
            poolclass=_Pool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=5,
            pool_reset_on_return=None,  # `_returned` sees to it
            connect_args={
                "options": " ".join([f"-c {name}={value}" for name, value in _SETTINGS.items()]),
                "application_name": "cqar",
                "connect_timeout": 5,
                "tcp_user_timeout": 15_000,
                "cursor_factory": Rows,
            },
        )
        event.listen(self.engine, "connect", _prepare)
        self._suspect = 0.0  # connections made before this moment may be dead

    def ask(self, statement: Executable | str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one reading statement and give its rows."""
        text = statement if isinstance(statement, str) else compiled(statement)
        with self._lent(lambda connection: connection.execute(text, parameters).fetchall()) as (_, rows):
            return rows

    @contextmanager
    def view(self) -> Iterator[Session]:
        """Lend a connection within a read-only transaction that sees one position."""

        def begin(connection: psycopg.Connection[Any]) -> int:
            answers = cast("Rows", connection.execute(BEGIN_VIEW))
            answers.nextset()
            return int(answers.scalar_one())

        with self._lent(begin) as (session, position):
            session.position = position
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Lend a connection within a transaction, which is rolled back at the end unless it was committed."""
        with self._lent(lambda connection: connection.execute(BEGIN)) as (session, _):
            yield session

    @contextmanager
    def sqlalchemy(self) -> Iterator[Connection]:
        """Lend a connection of SQLAlchemy's within a transaction, for what is seldom asked and easier to write so."""
        with self.engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            yield connection

    @property
    def connections(self) -> Connections:
        """The state of the pool now."""
        pool = self.engine.pool
        assert isinstance(pool, _Pool)
        return Connections(pool.size(), pool.checkedout(), pool.timeouts)

    def on_use(self, begin: Callable[[], Callable[[], None]]) -> None:
        """Call `begin` in the thread that takes a connection, and what it gives when the connection goes back."""
        ends = "cqar_end"
        event.listen(self.engine, "checkout", lambda _c, record, _proxy: record.info.__setitem__(ends, begin()))
        event.listen(self.engine, "checkin", lambda _c, record: record.info.pop(ends, lambda: None)())

    def close(self) -> None:
        """Close the connections that are not lent."""
        self.engine.dispose()

    @contextmanager
    def _lent(self, begin: Callable[[psycopg.Connection[Any]], T]) -> Iterator[tuple[Session, T]]:
        proxy, begun = self._begun(begin)
        try:
            yield Session(_bare(proxy)), begun
        finally:
            _returned(proxy)

    def _begun(self, begin: Callable[[psycopg.Connection[Any]], T]) -> tuple[PoolProxiedConnection, T]:
        """Take a connection and begin on it; if it turns out to be dead, on a new one."""
        lost = False
        while True:
            proxy = self.engine.raw_connection()
            if proxy.info[_MADE] < self._suspect:
                proxy.invalidate()  # its place in the pool gets a new one
                continue
            try:
                return proxy, begin(_bare(proxy))
            except BaseException as error:
                dead = _bare(proxy).closed
                _returned(proxy)
                if lost or not (dead and isinstance(error, psycopg.OperationalError)):
                    raise
            lost = True
            self._suspect = time.monotonic()  # so may be all the others


def _prepare(connection: psycopg.Connection[Any], record: ConnectionPoolEntry) -> None:
    connection.adapters.register_loader("uuid", _UuidText)
    connection.adapters.register_dumper(list, _Array)
    set_json_loads(msgspec.json.decode, connection)
    record.info[_MADE] = time.monotonic()


def _bare(proxy: PoolProxiedConnection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", proxy.dbapi_connection)


def _returned(proxy: PoolProxiedConnection) -> None:
    """Give a connection back, outside any transaction; a dead one is forgotten."""
    connection = _bare(proxy)
    if not connection.closed and connection.pgconn.transaction_status != TransactionStatus.IDLE:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()
    if connection.closed:
        proxy.invalidate()
    else:
        proxy.close()
