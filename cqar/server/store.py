"""The one door to PostgreSQL: transactions that number and record what they write, consistent views, the change log.

`Tx.put` and `Tx.remove` are the only ways to write a record, and both note the change; leaving `Store.transaction` writes
the changes and moves the clock in one last statement, then commits. So every commit has the next position, commits become
visible in the order of positions, and nobody can write a row and forget the feed. Rules are the registry's, not the store's.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import URL, Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from cqar.errors import InvalidError, PositionExpiredError, UnavailableError
from cqar.events import Event, type_of
from cqar.model import KINDS, Batch, Change, FeedToken, Kind, Op, Record, Tombstone
from cqar.server import queries, statements
from cqar.server.faults import conflict, translated
from cqar.server.migrations import Schema, look, upgrade
from cqar.server.schema import row_of
from cqar.server.session import Connections, Session, Sessions
from cqar.server.transaction import Claim, Race, Tx, View

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)
START: Final = bytes(16)  # the chain at position 0
TRIMMED_AT_ONCE: Final = 5_000  # changes
SHA256: Final = re.compile(r"[0-9a-f]{64}")
SNAPSHOTS_KNOWN: Final = timedelta(days=400)  # counted when another one is published
_DECODERS: Final[dict[str, msgspec.json.Decoder[Record]]] = {
    name: msgspec.json.Decoder(kind.record) for name, kind in KINDS.items()
}


class Store:
    """The registry's database. Thread-safe; every call takes a connection from the pool for itself.

    All methods raise UnavailableError if the database cannot be reached or does not answer in time.
    """

    def __init__(
        self, url: str, *, pool_size: int = 16, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Prepare the connections; none is made yet. InvalidError for a URL that is not one."""
        self.url = url
        self.now = now
        self._callbacks: list[Callable[[int], None]] = []
        self._touch_callbacks: list[Callable[[int, set[str]], None]] = []
        self._sessions = Sessions(database_url(url), pool_size)

    @contextmanager
    def transaction(
        self, *, actor: str, request_id: str | None = None, method: str = "", digest: bytes = b""
    ) -> Iterator[Tx]:
        """Open a write transaction; leaving the block commits it and sets `tx.position`, an exception rolls it back.

        With a `request_id`, `tx.earlier` is the reply to an earlier call of the method with it, and `tx.reply` is to be set;
        InvalidError if that call asked for something else, of which the `digest` tells. Besides what the block raises:
        ConflictError, NotFoundError and InvalidError when another writer was faster than the block's own checks;
        UnavailableError with the reason CONTENTION if the block should be tried again, and with OUTCOME_UNKNOWN if the
        connection was lost during the commit.
        """
        claim = Claim(request_id, method, digest) if request_id else None
        try:
            with translated(), self._sessions.transaction() as session:
                tx = Tx(session, self.now(), actor)
                if claim is not None:
                    tx.look_up(claim)
                yield tx
                if tx.rollback_only:
                    tx.flush()
                    session.rollback()
                    tx.position = session.execute(statements.POSITION).scalar_one()
                    return
                tx.flush()
                _commit(tx, claim)
        except Race as race:
            raise conflict(race.violation, self._in_the_way(race)) from race
        if tx.has_written:
            self._tell(tx)

    def get(self, kind: Kind[R], keys: Sequence[str]) -> dict[str, tuple[R, int]]:
        """Give the live records that have one of these keys, each with a position at which it was so: one statement.

        For kinds with a key of one field.
        """
        (name,) = kind.key
        with translated():
            rows = self._sessions.ask(queries.positioned(kind.name), {name: list(keys)})
        records = [(queries.record_of(kind, row), row[-1]) for row in rows]
        return {kind.key_of(record): (record, position) for record, position in records}

    @contextmanager
    def view(self) -> Iterator[View]:
        """Open a consistent view of one position, for reading."""
        with translated(), self._sessions.view() as session:
            yield View(session)

    def _in_the_way(self, race: Race) -> str | None:
        """Give the key of the record that another writer put where one of this transaction's should go."""
        kind, columns, _, among = race.violation.unique
        with self.view() as view:
            for record in race.records:
                row = row_of(record)
                found = view.find(kind, **{name: row[name] for name in columns}, **among)
                for other in found:
                    if columns == kind.key or kind.key_of(other) != kind.key_of(record):
                        return kind.key_of(other)
        return None

    # --- the feed

    def on_commit(self, callback: Callable[[int], None]) -> None:
        """Call this with the position after every commit of this process that wrote something, in the writer's thread."""
        self._callbacks.append(callback)

    def on_touch(self, callback: Callable[[int, set[str]], None]) -> None:
        """Call this likewise, with the topics of `touched` as well, before the writer hears of its success."""
        self._touch_callbacks.append(callback)

    def _tell(self, tx: Tx) -> None:
        topics = tx.topics() if self._touch_callbacks else set()
        calls = [partial(touch, tx.position, topics) for touch in self._touch_callbacks]
        for call in [*calls, *[partial(callback, tx.position) for callback in self._callbacks]]:
            try:
                call()
            except Exception:  # the write is done: its caller must hear of that and not of this
                log.exception("a callback failed after the commit of position %d", tx.position)

    def head(self) -> FeedToken:
        """Give where the registry is now."""
        with translated():
            return _token(self._sessions.ask(statements.HEAD)[0])

    def secret(self) -> tuple[str, bytes]:
        """Return the log's id, and the secret that servers seal remembered answers with. To be logged nowhere."""
        with translated():
            log_id, secret = self._sessions.ask(statements.SECRET)[0]
        return log_id, bytes(secret)

    def chain_at(self, position: int) -> bytes | None:
        """Give the running hash at a position; None if that was trimmed or never was."""
        if position == 0:
            return START
        with translated():
            found = self._sessions.ask(statements.CHAIN_AT, {"position": position})
        return bytes(found[0][0]) if found else None

    def batches(self, after: int, limit_changes: int) -> list[Batch]:
        """Give whole batches in order, from the one after a position on; at least one, if there is one.

        Raises PositionExpiredError if the batch after `after` was trimmed.
        """
        with translated():
            rows = self._sessions.ask(statements.BATCHES, {"after": after, "limit": limit_changes})
        found: list[Batch] = []
        for (position, chain, committed_at), changes in itertools.groupby(rows, key=lambda row: row[:3]):
            if position != after + 1 + len(found):
                raise PositionExpiredError(f"the change log no longer has position {after + 1}", position=after + 1)
            noted = tuple([_change(*row[3:]) for row in changes])
            found.append(Batch(position=position, chain=bytes(chain), committed_at=committed_at, changes=noted))
        return found

    def events(self, after: int, limit_changes: int) -> tuple[FeedToken | None, list[tuple[FeedToken, list[Event]]]]:
        """Give what happened in the transactions that `batches` would give, with where each of them led.

        First comes the token of `after` itself, if it is known: not of what was trimmed, nor if nothing follows. Raises
        PositionExpiredError if what follows was trimmed.
        """
        with translated():
            rows = self._sessions.ask(statements.HISTORY, {"after": after, "limit": limit_changes})
        at: FeedToken | None = None
        found: list[tuple[FeedToken, list[Event]]] = []
        for (position, chain, log_id, before), changes in itertools.groupby(rows, key=lambda row: row[:4]):
            if position != after + 1 + len(found):
                raise PositionExpiredError(f"the change log no longer has position {after + 1}", position=after + 1)
            if before is not None or after == 0:
                at = FeedToken(log_id=log_id, position=after, chain=START if after == 0 else bytes(before))
            told = [_event(log_id, position, index, row[4:]) for index, row in enumerate(changes)]
            found.append((FeedToken(log_id=log_id, position=position, chain=bytes(chain)), told))
        return at, found

    def oldest(self) -> int:
        """Give the first position that the change log still has; one beyond the head if it has none."""
        with translated():
            return int(self._sessions.ask(statements.OLDEST)[0][0])

    def relayed(self, name: str) -> int | None:
        """Give up to which position a relay has published, None if it never did."""
        with translated():
            found = self._sessions.ask(statements.RELAY_PLACE, {"name": name})
        return int(found[0][0]) if found else None

    def note_relayed(self, name: str, position: int) -> None:
        """Note that a relay has published everything up to a position."""
        with translated():
            self._sessions.ask(statements.RELAY_NOTE, {"name": name, "position": position, "now": self.now()})

    def forget_relay(self, name: str) -> None:
        """Forget where a relay is."""
        with translated():
            self._sessions.ask(statements.RELAY_FORGET, {"name": name})

    def relay_floor(self) -> tuple[str, int] | None:
        """Give the relay that is furthest behind and where it is, if there is one: the log must keep what follows."""
        with translated():
            found = self._sessions.ask(statements.RELAY_FLOOR)
        return (found[0][0], int(found[0][1])) if found else None

    def note_snapshot(self, sha256: str, position: int) -> None:
        """Note that a snapshot with this hash of its manifest is published, before anybody can find it."""
        now = self.now()
        note = {"sha256": sha256, "position": position, "now": now, "forget_before": now - SNAPSHOTS_KNOWN}
        with translated():
            self._sessions.ask(statements.SNAPSHOT_NOTE, note)

    def published(self, sha256s: Iterable[str]) -> frozenset[str]:
        """Return which of these hashes are of manifests that the registry has published; all others are somebody else's."""
        asked = [each for each in sha256s if SHA256.fullmatch(each)]
        if not asked:
            return frozenset()
        with translated():
            return frozenset([row[0] for row in self._sessions.ask(statements.SNAPSHOTS_PUBLISHED, {"asked": asked})])

    def trim(self, before: int, written_before: datetime) -> int:
        """Forget the batches below a position that were written before a time; give how many.

        The log keeps its newest part whole: nothing goes behind a batch that stays. In small transactions, for the sake of
        others; one that is interrupted has only done less.
        """
        bounds = {"before": before, "written_before": written_before}
        gone = 0
        with translated():
            ((until,),) = self._sessions.ask(statements.TRIM_UNTIL, bounds)
            while step := self._trim({"until": until, "limit": TRIMMED_AT_ONCE}):
                gone += step
        return gone

    def _trim(self, bounds: dict[str, object]) -> int:
        with self._sessions.transaction() as session:
            step = session.execute(statements.TRIM, bounds).rowcount
            session.commit()
        return step

    @contextmanager
    def export(self) -> Iterator[tuple[FeedToken, Mapping[str, Iterator[Record]], Iterator[Tombstone]]]:
        """Open one consistent view of everything: where the registry is, the records by kind, sorted by key, and what was removed.

        All is streamed while it is iterated over, inside the block.
        """
        with translated(), self._sessions.view() as session:
            session.execute(statements.PATIENCE)
            head = _token(session.execute(statements.HEAD).one())
            yield head, {name: _stream(session, kind) for name, kind in KINDS.items()}, _tombstones(session)

    # --- the database itself

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Open a transaction for what is not in the registry: API tokens, and reading the log for the audit."""
        with translated(), self._sessions.sqlalchemy() as connection:
            yield connection

    def migrate(self) -> Schema:
        """Bring the schema up to this version; give what was found. Safe with any number of callers at once.

        Raises PreconditionError if the database is of a newer version than this code.
        """
        with translated():
            return upgrade(database_url(self.url))

    def schema(self) -> Schema:
        """Look which schema the database has; raises PreconditionError if it is newer than this code."""
        with translated():
            return look(database_url(self.url))

    def new_log(self) -> tuple[FeedToken, FeedToken]:
        """Give the history another name, and what it was called before and is now; position and chain stay.

        For a database that was restored or promoted: all that is known of it elsewhere, in replicas, caches and brokers, is known
        by the name of its log and a position, and must not be taken for what it holds now. Every follower loads it anew.
        """
        with translated(), self._sessions.transaction() as session:
            before, log_id, position, chain = session.execute(statements.NEW_LOG).one()
            session.commit()
        after = _token((log_id, position, chain))
        return msgspec.structs.replace(after, log_id=before), after

    def sessions(self) -> list[tuple[str, str]]:
        """List the other sessions of CQAR's programs with this database: what for, and from which address."""
        with translated():
            return [(name, address) for name, address in self._sessions.ask(statements.SESSIONS)]

    def connections_allowed(self) -> int:
        """Give how many connections the database would let this user have, if nobody else had any."""
        with translated():
            return int(self._sessions.ask(statements.CONNECTIONS)[0][0])

    def ping(self) -> None:
        """Return if the database answers."""
        with translated():
            self._sessions.ask(statements.POSITION)

    @property
    def connections(self) -> Connections:
        """The state of the connection pool now."""
        return self._sessions.connections

    def on_use(self, begin: Callable[[], Callable[[], None]]) -> None:
        """Call `begin` in the thread that takes a connection, and what it gives when the connection goes back."""
        self._sessions.on_use(begin)

    def close(self) -> None:
        """Close the connections."""
        self._sessions.close()


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


def _token(row: tuple[Any, ...]) -> FeedToken:
    log_id, position, chain = row
    return FeedToken(log_id=log_id, position=position, chain=bytes(chain))


def _commit(tx: Tx, claim: Claim | None) -> None:
    try:
        with translated():
            tx.commit(claim)
    except UnavailableError as error:
        if error.reason != error.default_reason:
            raise  # the database said no, and is there
        raise UnavailableError(
            "the database was lost during the commit: whether it was written is not known; repeat the call with the same"
            " request_id, or look",
            reason="OUTCOME_UNKNOWN",
        ) from error


def _change(op: str, kind: str, key: str, record: str | None) -> Change:
    return Change(op=Op(op), kind=kind, key=key, record=_record(kind, record))


def _record(kind: str, text: str | None) -> Record | None:
    return None if text is None else _DECODERS[kind].decode(text)


def _event(log_id: str, position: int, index: int, row: tuple[Any, ...]) -> Event:
    committed_at, actor, request_id, op, kind, key, written, replaced = row
    record, before = _record(kind, written), _record(kind, replaced)
    return Event(
        log_id=log_id,
        position=position,
        index=index,
        time=committed_at,
        actor=actor,
        request_id=request_id,
        type=type_of(Op(op), kind, record, before),
        key=key,
        record=before if record is None else record,
        before=None if record is None else before,
    )


def _stream(session: Session, kind: Kind[R]) -> Iterator[R]:
    with translated():
        for row in session.stream(queries.everything(kind)):
            yield queries.record_of(kind, row)


def _tombstones(session: Session) -> Iterator[Tombstone]:
    with translated():
        for name, kind in KINDS.items():
            key = " || '/' || ".join([f"CAST({field} AS text)" for field in kind.key])
            for found, position in session.stream(
                text(statements.REMOVED.format(key=key, kind=name, table=kind.table))
            ):
                yield Tombstone(kind=name, key=found, position=position)
