"""The one door to PostgreSQL: transactions that number and record what they write, consistent views, the change log.

`Tx.put` and `Tx.remove` are the only ways to write a record, and both note the change; leaving `Store.transaction` writes
the changes and moves the clock in one last statement, then commits. So every commit has the next position, commits become
visible in the order of positions, and nobody can write a row and forget the feed. Rules are the registry's, not the store's.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from psycopg.adapt import Loader
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from cqar.errors import InvalidError, PositionExpiredError, UnavailableError
from cqar.model import KINDS, Batch, Change, FeedToken, Kind, Op, Record
from cqar.server import queries, statements
from cqar.server.faults import conflict, translated
from cqar.server.migrations import upgrade
from cqar.server.schema import row_of
from cqar.server.transaction import Claim, Race, Tx, View

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)
START: Final = bytes(16)  # the chain at position 0

_SETTINGS: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
}


class _UuidText(Loader):
    """Loads a uuid as the text that it is on the wire."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


class Store:
    """The registry's database. Thread-safe; every call takes a connection from the pool for itself.

    All methods raise UnavailableError if the database cannot be reached or does not answer in time.
    """

    def __init__(
        self, url: str, *, pool_size: int = 16, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Prepare the connections; none is made yet. InvalidError for a URL that is not one."""
        self._url = url
        self.now = now
        self._callbacks: list[Callable[[int], None]] = []
        self._engine = create_engine(
            database_url(url),
            isolation_level="READ COMMITTED",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=5,
            pool_pre_ping=True,
            connect_args={
                "options": " ".join([f"-c {name}={value}" for name, value in _SETTINGS.items()]),
                "application_name": "cqar",
                "connect_timeout": 5,
                "tcp_user_timeout": 15_000,
            },
        )
        event.listen(self._engine, "connect", _prepare)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def transaction(self, *, actor: str, request_id: str | None = None, method: str = "") -> Iterator[Tx]:
        """Open a write transaction; leaving the block commits it and sets `tx.position`, an exception rolls it back.

        With a `request_id`, `tx.earlier` is the reply to an earlier call of the method with it, and `tx.reply` is to be set.
        Besides what the block raises: ConflictError, NotFoundError and InvalidError when another writer was faster than the
        block's own checks; UnavailableError with the reason CONTENTION if the block should be tried again, and with
        OUTCOME_UNKNOWN if the connection was lost during the commit.
        """
        claim = Claim(request_id, method) if request_id else None
        try:
            with translated(), self._engine.connect() as connection:
                tx = Tx(connection, self.now(), actor)
                if claim is not None:
                    tx.look_up(claim)
                yield tx
                if tx.rollback_only:
                    tx.flush()
                    connection.rollback()
                    tx.position = connection.execute(statements.POSITION).scalar_one()
                    return
                tx.finish(claim)
                _commit(connection)
        except Race as race:
            raise conflict(race.violation, self._in_the_way(race)) from race
        if tx.has_written:
            self._tell(tx.position)

    def get(self, kind: Kind[R], key: str) -> tuple[R, int] | None:
        """Give the live record with this key, and a position at which it was so: a view of one statement."""
        with translated(), self._reading.connect() as connection:
            row = connection.execute(queries.positioned(kind.name), queries.by_key(kind, key)).one_or_none()
        return None if row is None else (queries.record_of(kind, row), row[-1])

    @contextmanager
    def view(self) -> Iterator[View]:
        """Open a consistent view of one position, for reading."""
        options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with translated(), self._engine.connect().execution_options(**options) as connection:
            yield View(connection)

    def _in_the_way(self, race: Race) -> str | None:
        """Give the key of the record that another writer put where one of this transaction's should go."""
        kind, columns, _, among = race.violation.unique
        with self.view() as view:
            for record in race.records:
                row = row_of(record)
                found = view.find(kind, **{name: row[name] for name in columns}, **among)
                for other in found:
                    if kind.key_of(other) != kind.key_of(record):
                        return kind.key_of(other)
        return None

    # --- the feed

    def on_commit(self, callback: Callable[[int], None]) -> None:
        """Call this with the position after every commit of this process that wrote something, in the writer's thread."""
        self._callbacks.append(callback)

    def _tell(self, position: int) -> None:
        for callback in self._callbacks:
            try:
                callback(position)
            except Exception:  # the write is done: its caller must hear of that and not of this
                log.exception("a callback failed after the commit of position %d", position)

    def head(self) -> FeedToken:
        """Give where the registry is now."""
        with translated(), self._reading.connect() as connection:
            return _token(connection)

    def chain_at(self, position: int) -> bytes | None:
        """Give the running hash at a position; None if that was trimmed or never was."""
        if position == 0:
            return START
        with translated(), self._reading.connect() as connection:
            found = connection.execute(statements.CHAIN_AT, {"position": position}).scalar_one_or_none()
        return None if found is None else bytes(found)

    def batches(self, after: int, limit_changes: int) -> list[Batch]:
        """Give whole batches in order, from the one after a position on; at least one, if there is one.

        Raises PositionExpiredError if the batch after `after` was trimmed.
        """
        with translated(), self._reading.connect() as connection:
            rows = connection.execute(statements.BATCHES, {"after": after, "limit": limit_changes}).all()
        found: list[Batch] = []
        for (position, chain, committed_at), changes in itertools.groupby(rows, key=lambda row: row[:3]):
            if position != after + 1 + len(found):
                raise PositionExpiredError(f"the change log no longer has position {after + 1}", position=after + 1)
            noted = tuple([_change(*row[3:]) for row in changes])
            found.append(Batch(position=position, chain=bytes(chain), committed_at=committed_at, changes=noted))
        return found

    @contextmanager
    def export(self) -> Iterator[tuple[FeedToken, Mapping[str, Iterator[Record]]]]:
        """Open one consistent view of everything: where the registry is, and the records by kind, sorted by key.

        The records are streamed while they are iterated over, inside the block.
        """
        options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with translated(), self._engine.connect().execution_options(**options) as connection:
            connection.execute(statements.PATIENCE)
            head = _token(connection)
            yield head, {name: _stream(connection, kind) for name, kind in KINDS.items()}

    # --- the database itself

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Open a transaction for what is not in the registry: API tokens, and reading the log for the audit."""
        with translated(), self._engine.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the schema up to this version. Safe with any number of callers at once.

        Raises PreconditionError if the database is of a newer version than this code.
        """
        with translated():
            upgrade(database_url(self._url))

    def ping(self) -> None:
        """Return if the database answers."""
        with translated(), self._reading.connect() as connection:
            connection.execute(statements.POSITION)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def database_url(url: str) -> URL:
    """Give the address for SQLAlchemy with psycopg; InvalidError for a URL that is not PostgreSQL's."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise InvalidError(
            "database: must be a URL like postgresql://user:password@host/name", reason="DATABASE_URL", field="database"
        )
    return parsed.set(drivername="postgresql+psycopg")


def _prepare(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.adapters.register_loader("uuid", _UuidText)


def _token(connection: Connection) -> FeedToken:
    log_id, position, chain = connection.execute(statements.HEAD).one()
    return FeedToken(log_id=log_id, position=position, chain=bytes(chain))


def _commit(connection: Connection) -> None:
    try:
        with translated():
            connection.commit()
    except UnavailableError as error:
        raise UnavailableError(
            "the database was lost during the commit: whether it was written is not known; repeat the call with the same"
            " request_id, or look",
            reason="OUTCOME_UNKNOWN",
        ) from error


def _change(op: str, kind: str, key: str, record: str | None) -> Change:
    decoded = None if record is None else msgspec.json.decode(record, type=KINDS[kind].record)
    return Change(op=Op(op), kind=kind, key=key, record=decoded)


def _stream(connection: Connection, kind: Kind[R]) -> Iterator[R]:
    with translated(), connection.execute(queries.everything(kind), execution_options={"yield_per": 5000}) as rows:
        for row in rows:
            yield queries.record_of(kind, row)
