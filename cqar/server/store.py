"""The one door to PostgreSQL: transactions that number and record what they write, consistent views, the change log.

`Tx.put` and `Tx.remove` are the only ways to write a record, and both note the change; leaving `Store.transaction` writes
the changes and moves the clock in one last statement, then commits. So every commit has the next position, commits become
visible in the order of positions, and nobody can write a row and forget the feed. Rules are the registry's, not the store's.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import msgspec
from psycopg.adapt import Loader
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from cqar import model
from cqar.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from cqar.model import KIND_OF, KINDS, Batch, Change, FeedToken, Kind, Op, Record
from cqar.server import queries, statements
from cqar.server.faults import CONTENTION, Violation, conflict, translated
from cqar.server.schema import references, row_of

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)
Key = tuple[str, str]  # kind's name, record's key
START = bytes(16)  # the chain at position 0

_TIMEOUTS = {"statement_timeout": 30_000, "lock_timeout": 5_000, "idle_in_transaction_session_timeout": 10_000}  # ms


class _UuidText(Loader):
    """Loads a uuid as the text that it is on the wire."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


class Reader:
    """Finds live records on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, kind: Kind[R], key: str) -> R | None:
        """Give the live record with this key."""
        return next(iter(self.find(kind, **queries.by_key(kind, key))), None)

    def find(self, kind: Kind[R], **filters: object) -> list[R]:
        """Give the live records that pass the filters of `queries`, in no particular order."""
        return self._records(kind, *queries.records(kind, filters))

    def page(self, kind: Kind[R], filters: queries.Filters, *, after: str | None, limit: int) -> list[R]:
        """Give up to `limit` live records that pass the filters, sorted by key, from the one behind `after` on."""
        return self._records(kind, *queries.records(kind, filters, after=after, limit=limit))

    def deleted(self, kind: Kind[Any], keys: Iterable[str]) -> set[str]:
        """Give those of the keys that a record had which was deleted. For kinds with a key of one field."""
        (name,) = kind.key
        statement, parameters = queries.records(kind, {name: list(keys)}, deleted=True)
        rows = self._connection.execute(statement, parameters)
        return {kind.key_of(queries.record_of(kind, row)) for row in rows if row[-1] is not None}

    def search(self, question: statements.Search) -> list[tuple[int, model.Asset]]:
        """Give assets with their rank: 0 for an exact match, 1 for a prefix, 2 for a substring; best first."""
        rows = self._connection.execute(text(statements.search(question)), question.parameters())
        return [(row[-1], queries.record_of(model.ASSET, row)) for row in rows]

    def _records(self, kind: Kind[R], statement: Any, parameters: dict[str, object]) -> list[R]:
        return [queries.record_of(kind, row) for row in self._connection.execute(statement, parameters)]


class View(Reader):
    """A consistent view of the registry at one position."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.position: int = connection.execute(statements.POSITION).scalar_one()


class Tx(Reader):
    """One write transaction. Writes are held back and sent many at a time, at the latest when something is read.

    All records written get the same time, `now`. What a record was before is known from reading it in this transaction;
    a record that was read without a lock and changed by another writer since is refused (UnavailableError, CONTENTION).
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        super().__init__(connection)
        self.now = now
        self.position = 0  # of the commit; set when the transaction has ended
        self.rollback_only = False  # set it to check everything and write nothing
        self._known: dict[Key, Record | None] = {}  # as this transaction sees it now
        self._locked: set[Key] = set()
        self._pending: list[tuple[Step, Record]] = []
        self._changes: dict[Key, _Noted] = {}

    # --- reading

    def get(self, kind: Kind[R], key: str, *, for_update: bool = False) -> R | None:
        """Give the live record with this key; `for_update` keeps other writers from it until the end."""
        return next(iter(self._find(kind, queries.by_key(kind, key), "update" if for_update else None, key)), None)

    def find(self, kind: Kind[R], *, for_update: bool = False, **filters: object) -> list[R]:
        """Give the live records that pass the filters; `for_update` keeps other writers from them until the end."""
        return self._find(kind, filters, "update" if for_update else None)

    def _find(
        self, kind: Kind[R], filters: queries.Filters, lock: queries.Lock | None, key: str | None = None
    ) -> list[R]:
        self.flush()
        found = self._records(kind, *queries.records(kind, filters, lock=lock))
        if key is not None:
            self._known[kind.name, key] = None
        for record in found:
            place = kind.name, kind.key_of(record)
            self._known[place] = record
            if lock == "update":
                self._locked.add(place)
        return found

    def ancestry(self, parents: Iterable[str], types: Iterable[model.RelationshipType]) -> list[tuple[str, str]]:
        """Give the (parent, child) pairs of all edges of these types above the given assets, over any number of steps."""
        self.flush()
        parameters = {"assets": list(parents), "types": [kind.value for kind in types]}
        return [(row[0], row[1]) for row in self._connection.execute(statements.ANCESTRY, parameters)]

    def written_at(self, kind: Kind[Any], key: str) -> int:
        """Give the position of the last commit that wrote this record; 0 if none did."""
        found = self._connection.execute(statements.WRITTEN_AT, {"kind": kind.name, "key": key}).scalar_one()
        return int(found or 0)

    def lock(self, topic: str) -> None:
        """Wait until no other transaction holds the lock of this name, and hold it until the end."""
        self._connection.execute(statements.LOCK, {"topic": topic})

    # --- writing

    def put(self, record: R) -> R:
        """Create or replace a record; give it with its id and times."""
        kind = KIND_OF[type(record)]
        if len(kind.key) == 1 and not getattr(record, kind.key[0]):
            record = msgspec.structs.replace(record, **{kind.key[0]: str(uuid.uuid4())})
            self._known[kind.name, kind.key_of(record)] = None
        place = kind.name, kind.key_of(record)
        before = self._before(kind, place)
        created_at = before.created_at if before is not None else self.now
        record = msgspec.structs.replace(record, created_at=created_at, updated_at=self.now)
        self._note("insert" if before is None else "update", place, record, before)
        return record

    def remove(self, record: Record) -> None:
        """Delete a record: it stays in its table and is never found again."""
        kind = KIND_OF[type(record)]
        place = kind.name, kind.key_of(record)
        before = self._before(kind, place)
        if before is not None:
            self._note("remove", place, before, before)

    def _before(self, kind: Kind[Any], place: Key) -> Record | None:
        if place not in self._known:
            self.get(kind, place[1], for_update=True)
        return self._known[place]

    def _note(self, step: Step, place: Key, record: Record, before: Record | None) -> None:
        first = self._changes.pop(place, None)
        gone = step == "remove"
        self._changes[place] = _Noted(gone, record, before if first is None else first.before)
        self._known[place] = None if gone else record
        self._pending.append((step, record))

    def flush(self) -> None:
        """Send what is held back, in order, neighbours of one kind and step together."""
        pending, self._pending = self._pending, []
        run: list[Record] = []
        for index, (step, record) in enumerate(pending):
            run.append(record)
            following = pending[index + 1] if index + 1 < len(pending) else None
            if following is None or following[0] != step or type(following[1]) is not type(record):
                self._send(step, KIND_OF[type(record)], run)
                run = []

    def _send(self, step: Step, kind: Kind[Any], run: list[Record]) -> None:
        """Send the writes of one step to one table; a key that occurs twice counts as last written."""
        records = {kind.key_of(record): record for record in run}
        if step != "insert":
            self._lock_rows(kind, records)
        if step != "remove":
            self._check_references(kind, records.values())
        rows = msgspec.json.encode([row_of(record) for record in records.values()]).decode()
        statement = statements.WRITES[step][kind.name]
        parameters = {"rows": rows, "now": self.now} if step == "remove" else {"rows": rows}
        try:
            with translated():
                done = self._connection.execute(statement, parameters).rowcount
        except Violation as violation:
            raise Race(violation, tuple(records.values())) from violation
        if done != len(records):  # the row of a deleted record is in the way, or one went between lock and write
            raise UnavailableError("another writer was in the way; try again", reason=CONTENTION)
        self._locked.update([(kind.name, key) for key in records])

    def _lock_rows(self, kind: Kind[Any], records: Mapping[str, Record]) -> None:
        """Lock the rows that were read without a lock; they must still be what was read."""
        unlocked = [key for key in records if (kind.name, key) not in self._locked]
        if not unlocked:
            return
        columns = zip(*[key.split("/") for key in unlocked], strict=True)
        filters = {name: list(values) for name, values in zip(kind.key, columns, strict=True)}
        found = self._records(kind, *queries.records(kind, filters, lock="update"))
        seen = {kind.key_of(record): record for record in found}
        if any(seen.get(key) != self._changes[kind.name, key].before for key in unlocked):
            raise UnavailableError("another writer was in the way; try again", reason=CONTENTION)

    def _check_references(self, kind: Kind[Any], records: Iterable[Record]) -> None:
        """Raise NotFoundError for a new reference to an asset that is not live, and keep the others from being deleted.

        A foreign key cannot do this: the row of a deleted asset is still there.
        """
        wanted: dict[str, str] = {}
        for record in records:
            before = self._changes[kind.name, kind.key_of(record)].before
            for field, target in references(kind).items():
                value = getattr(record, field)
                if target is not model.ASSET or value is None or (before and getattr(before, field) == value):
                    continue
                if ("asset", value) not in self._locked:
                    wanted.setdefault(value, field)
        if wanted:
            found = self._records(model.ASSET, *queries.records(model.ASSET, {"asset_id": list(wanted)}, lock="share"))
            for value in wanted.keys() - {asset.asset_id for asset in found}:
                raise NotFoundError(
                    f"{wanted[value]}: no live asset {value}",
                    reason="ASSET_NOT_FOUND",
                    field=wanted[value],
                    asset_id=value,
                )

    # --- the end

    def _commit(self, actor: str, request_id: str | None, reply: Reply | None) -> None:
        """Send everything, and write changes, reply and clock in one statement."""
        self.flush()
        if not self._changes:
            ...


Step = Literal["insert", "update", "remove"]
