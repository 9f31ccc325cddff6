"""What happens inside a transaction or a view: finding records, and writing them so that every write is noted.

`Tx.put` and `Tx.remove` are the only ways to write a record. They hold writes back to send many rows at a time, and note
each change with the state before it; `Store` ends the transaction.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Executable

from cqar import model
from cqar.access import EVERY_ROLE
from cqar.errors import InvalidError, NotFoundError, PermissionDeniedError, UnavailableError
from cqar.model import KIND_OF, KINDS, Kind, Op, Record
from cqar.server import queries, search, statements
from cqar.server.faults import CONTENTION, Violation, translated
from cqar.server.schema import references, row_of
from cqar.server.session import Rows, Session
from cqar.server.statements import Step
from cqar.server.touched import topics_of

R = TypeVar("R", bound=Record)
Key = tuple[str, str]  # kind's name, record's key

REPLIES_KEPT: Final = timedelta(hours=24)  # (R13)
_DELETABLE: Final = (model.ASSET, model.GROUP)  # of what others refer to


class Reader:
    """Finds live records in one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, kind: Kind[R], key: str) -> R | None:
        """Give the live record with this key."""
        return next(iter(self.find(kind, **queries.by_key(kind, key))), None)

    def find(self, kind: Kind[R], **filters: object) -> list[R]:
        """Give the live records that pass the filters of `queries`, in no particular order."""
        return self._records(kind, *queries.records(kind, filters))

    def page(self, kind: Kind[R], filters: queries.Filters, *, after: str | None, limit: int) -> list[R]:
        """Give up to `limit` live records that pass the filters, sorted by key, from the one behind `after` on."""
        return self._records(kind, *queries.records(kind, filters, after=after, limit=limit))

    def used(self, kind: Kind[Any], keys: Iterable[str]) -> set[str]:
        """Give those of the keys that a record has or, before it was deleted, had. For kinds with a key of one field."""
        return set(self._execute(*queries.live_keys(kind, keys, deleted=True)).scalars())

    def live(self, kind: Kind[Any], keys: Iterable[str]) -> set[str]:
        """Give those of the keys that a live record has. For kinds with a key of one field."""
        return set(self._execute(*queries.live_keys(kind, keys)).scalars())

    def descent(
        self, asset_id: str, types: Iterable[model.RelationshipType]
    ) -> list[tuple[model.Relationship, model.Asset]]:
        """Give all edges of these types below an asset, over any number of steps, each with the live asset it leads to."""
        parameters: dict[str, object] = {"asset": asset_id, "types": [kind.value for kind in types]}
        width = len(model.Relationship.__struct_fields__)
        return [
            (queries.record_of(model.RELATIONSHIP, row[:width]), queries.record_of(model.ASSET, row[width:]))
            for row in self._execute(statements.DESCENT, parameters)
        ]

    def listings(self, asset_id: str, venues: Iterable[str], each: int) -> list[tuple[model.VenueSymbol, int]]:
        """Give the first tickers on each venue that have an asset on any side now, with how many there are on the venue."""
        parameters: dict[str, object] = {"asset": asset_id, "venues": list(venues), "each": each}
        rows = self._execute(statements.LISTINGS, parameters)
        return [(queries.record_of(model.VENUE_SYMBOL, row), row[-1]) for row in rows]

    def _records(self, kind: Kind[R], statement: Any, parameters: dict[str, object]) -> list[R]:
        return [queries.record_of(kind, row) for row in self._execute(statement, parameters).all()]

    def _execute(self, statement: Executable | str, parameters: dict[str, object]) -> Rows:
        return self._session.execute(statement, parameters)


class View(Reader):
    """A consistent view of the registry at one position."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.position = session.position

    def search(self, question: search.Search) -> list[tuple[search.Place, model.Asset]]:
        """Give matching assets with their places in the list of all, best first."""
        found = search.Finder(self._session, question).matches()
        assets = [(stage, row[-1], queries.record_of(model.ASSET, row)) for stage, row in found]
        return [(search.Place(stage, text, asset.asset_id), asset) for stage, text, asset in assets]


class Earlier(NamedTuple):
    """The first reply to a call that is repeated."""

    reply: bytes
    position: int


class Race(Exception):  # noqa: N818 - never leaves the store
    """Another writer got to a uniqueness first; the records are those of which one collided."""

    def __init__(self, violation: Violation, records: tuple[Record, ...]) -> None:
        super().__init__(violation)
        self.violation = violation
        self.records = records


class Claim(NamedTuple):
    """The request id of a call, which counts for its method, and the digest of what the call asks for."""

    request_id: str
    method: str
    digest: bytes


class _Noted(NamedTuple):
    """A change of this transaction: `record` is the last state, `before` the one that others see until the commit."""

    gone: bool
    record: Record
    before: Record | None

    def entry(self, kind: str, key: str) -> dict[str, object]:
        """Give what goes into the change log."""
        return {
            "kind": kind,
            "key": key,
            "op": Op.REMOVE if self.gone else Op.PUT,
            "record": None if self.gone else self.record,
            "before": self.before,
        }


class Write(NamedTuple):
    """One write of a transaction: what the record is then, None if it was removed, and what it was."""

    step: Step
    record: Record
    before: Record | None
    cause: object  # what the caller said that it writes for: `Tx.cause`

    @property
    def after(self) -> Record | None:
        """The record as it is then."""
        return None if self.step == "remove" else self.record


class Tx(Reader):
    """One write transaction. Writes are held back and sent many at a time, at the latest when something is read.

    All records written get the same time, `now`. What a record was before is known from reading it in this transaction;
    a record that was read without a lock and changed by another writer since is refused (UnavailableError, CONTENTION).
    """

    def __init__(self, session: Session, now: datetime, actor: str) -> None:
        super().__init__(session)
        self.now = now
        self.actor = actor
        self.roles = EVERY_ROLE  # of the actor; the registry sets them
        self.position = 0  # of the commit; set when the transaction has ended
        self.at: model.FeedToken | None = None  # likewise, with the history that it is a position of
        self.rollback_only = False  # set it to check everything and write nothing
        self.earlier: Earlier | None = None  # reply to an earlier call with the same request id: write nothing then
        self.reply = b""  # to remember under the request id, if there is one
        self._known: dict[Key, Record | None] = {}  # as this transaction sees it now
        self._locked: set[Key] = set()  # nobody else can change them
        self._kept: set[Key] = set()  # nobody else can delete them
        self._pending: list[Write] = []
        self.guard: Callable[[Tx, Sequence[Write]], None] | None = None  # looks at the writes that were sent; may raise
        self.cause: object = None  # of the next writes; the registry sets it, to tell what the guard refuses
        self.refused: dict[object, PermissionDeniedError] = {}  # by cause: what the guard refused
        self._changes: dict[Key, _Noted] = {}

    @property
    def has_written(self) -> bool:
        """Whether the registry is changed by this transaction."""
        return bool(self._changes)

    def topics(self) -> set[str]:
        """What the changes of this transaction touch, by what the records were and by what they are: see `touched`."""
        return {
            topic
            for (kind, key), noted in self._changes.items()
            for topic in topics_of(kind, key, noted.record, noted.before)
        }

    # --- reading

    def get(self, kind: Kind[R], key: str, *, for_update: bool = False) -> R | None:
        """Give the live record with this key; `for_update` keeps other writers from it until the end."""
        return next(iter(self._find(kind, queries.by_key(kind, key), "update" if for_update else None, key)), None)

    def find(self, kind: Kind[R], **filters: object) -> list[R]:
        """Give the live records that pass the filters of `queries`, in no particular order."""
        return self._find(kind, filters)

    def find_for_update(self, kind: Kind[R], **filters: object) -> list[R]:
        """Give the live records that pass the filters, and keep other writers from them until the end."""
        return self._find(kind, filters, "update")

    def _find(
        self, kind: Kind[R], filters: queries.Filters, lock: queries.Lock | None = None, key: str | None = None
    ) -> list[R]:
        found = self._records(kind, *queries.records(kind, filters, lock=lock))
        if key is not None:
            self._known[kind.name, key] = None
        for record in found:
            place = kind.name, kind.key_of(record)
            self._known[place] = record
            if lock == "update":
                self._locked.add(place)
        return found

    def _execute(self, statement: Executable | str, parameters: dict[str, object]) -> Rows:
        self.flush()
        return super()._execute(statement, parameters)

    def used(self, kind: Kind[Any], keys: Iterable[str]) -> set[str]:
        """Give those of the keys that a record has or, before it was deleted, had. For kinds with a key of one field."""
        keys = list(keys)
        found = super().used(kind, keys)
        self.known_absent(kind, set(keys) - found)
        return found

    def known_absent(self, kind: Kind[Any], keys: Iterable[str]) -> None:
        """Note that the caller has looked for live records with these keys and there are none; saves looking again."""
        for key in keys:
            self._known.setdefault((kind.name, key), None)

    def ancestry(self, parents: Iterable[str], types: Iterable[model.RelationshipType]) -> list[tuple[str, str]]:
        """Give the (parent, child) pairs of all edges of these types above the given assets, over any number of steps."""
        parameters: dict[str, object] = {"assets": list(parents), "types": [kind.value for kind in types]}
        return [(parent, child) for parent, child in self._execute(statements.ANCESTRY, parameters)]

    def written_at(self, kind: Kind[Any], key: str) -> tuple[int, int]:
        """Give the position of the last commit that wrote this record, 0 if none did, and that of the last commit of all.

        If the former was trimmed from the log, it is the last trimmed one: the caller may have to look again, and loses nothing.
        """
        found, head = self._execute(statements.WRITTEN_AT, {"kind": kind.name, "key": key}).one()
        return int(found or 0), head

    def ask(self, statement: Executable | str, parameters: dict[str, object]) -> Rows:
        """Run a reading statement of `statements`, which sees the writes of this transaction."""
        return self._execute(statement, parameters)

    def lock(self, topic: str) -> None:
        """Wait until no other transaction holds the lock of this name, and hold it until the end."""
        self._session.execute(statements.LOCK, {"topic": topic})

    # --- writing

    def put(self, record: R) -> R:
        """Create or replace a record; give it with its id and times."""
        kind = KIND_OF[type(record)]
        given: dict[str, Any] = {"updated_at": self.now}
        key = kind.key_of(record)
        if not key:
            given[kind.key[0]] = key = str(uuid.uuid4())
            self._known[kind.name, key] = None
        place = kind.name, key
        before = self._before(kind, place)
        given["created_at"] = before.created_at if before is not None else self.now
        record = msgspec.structs.replace(record, **given)
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
        self._pending.append(Write(step, record, before, self.cause))

    def flush(self) -> None:
        """Send what is held back, in order, neighbours of one kind and step together, and let the guard see it."""
        pending, self._pending = self._pending, []
        run: list[Record] = []
        for index, (step, record, *_) in enumerate(pending):
            run.append(record)
            following = pending[index + 1] if index + 1 < len(pending) else None
            if following is None or following.step != step or type(following.record) is not type(record):
                self._send(step, KIND_OF[type(record)], run)
                run = []
        if pending and self.guard is not None:
            self.guard(self, pending)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run the first writes of the transaction in the block; what the guard refuses there leaves it as if nothing was written.

        The block ends with what was held back sent.
        """
        self.flush()
        assert not self._changes
        self.refused = {}
        self._session.execute("SAVEPOINT attempt")
        try:
            yield
            self.flush()
        except PermissionDeniedError:
            for memory in (self._known, self._locked, self._kept, self._pending, self._changes):
                memory.clear()
            self._session.execute("ROLLBACK TO SAVEPOINT attempt")
            raise

    def _send(self, step: Step, kind: Kind[Any], run: list[Record]) -> None:
        """Send the writes of one step to one table; a key that occurs twice counts as last written."""
        records = {kind.key_of(record): record for record in run}
        if step != "insert":
            self._lock_rows(kind, records)
        if step != "remove":
            self._check_references(kind, records)
        rows = msgspec.json.encode([row_of(record) for record in records.values()]).decode()
        statement = statements.WRITES[kind.name][step]
        parameters = {"rows": rows, "now": self.now} if step == "remove" else {"rows": rows}
        try:
            with translated():
                done = self._session.execute(statement, parameters).rowcount
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

    def _check_references(self, kind: Kind[Any], records: Mapping[str, Record]) -> None:
        """Raise NotFoundError for a new reference to an asset or group that is not live, and keep the others from being deleted.

        A foreign key cannot do this: the row of what was deleted is still there.
        """
        wanted: dict[str, dict[str, str]] = {}  # field by key, by kind
        targets = [(field, target) for field, target in references(kind).items() if target in _DELETABLE]
        for key, record in records.items():
            before = self._changes[kind.name, key].before
            for field, target in targets:
                value = getattr(record, field)
                if value is None or (before and getattr(before, field) == value):
                    continue
                place = target.name, value
                if place not in self._locked and place not in self._kept:
                    wanted.setdefault(target.name, {}).setdefault(value, field)
        for name, fields in wanted.items():
            target = KINDS[name]
            found = set(self._execute(*queries.live_keys(target, fields, lock="share")).scalars())
            self._kept.update([(name, key) for key in found])
            for value in fields.keys() - found:
                raise NotFoundError(
                    f"{fields[value]}: no live {name} {value}",
                    reason=f"{name.upper()}_NOT_FOUND",
                    field=fields[value],
                    look_alikes=(),
                    **{target.key[0]: value},
                )

    # --- the end

    def commit(self, claim: Claim | None) -> None:
        """Write changes, reply and clock in one statement, and commit. Everything held back must have been sent."""
        reply = {
            "request_id": claim and claim.request_id,
            "method": claim and claim.method,
            "request_digest": claim and claim.digest,
            "reply": self.reply,
            "now": self.now,
        }
        if self._changes:
            changes = msgspec.json.encode([change.entry(*place) for place, change in self._changes.items()])
            parameters = {
                "digest": hashlib.sha256(changes).digest(),
                "changes": changes.decode(),
                "change_count": len(self._changes),
                "actor": self.actor,
                **reply,
            }
            self._ended(self._session.commit(statements.COMMIT, parameters))
            return
        if claim is not None and self.earlier is None:
            self._session.execute(statements.REPLY, reply)
        self._ended(self._session.commit(statements.HEAD))

    def _ended(self, row: tuple[Any, ...]) -> None:
        log_id, self.position, chain = row
        self.at = model.FeedToken(log_id=log_id, position=self.position, chain=bytes(chain))

    def look_up(self, claim: Claim) -> None:
        """Find the reply to an earlier call with this request id, and make others with it wait for this one's end.

        Raises InvalidError if that call asked for something else: the id was not made for this one.
        """
        self.lock(f"request {claim.method} {claim.request_id}")
        parameters = {"request_id": claim.request_id, "method": claim.method, "expired": self.now - REPLIES_KEPT}
        row = self._session.execute(statements.EARLIER, parameters).one_or_none()
        if row is not None:
            reply, position, digest = row
            if digest is not None and bytes(digest) != claim.digest:
                raise InvalidError(
                    f"request_id: {claim.request_id} was used for another request within the last day; make a new id for each"
                    " write, and repeat it only with the same write",
                    reason="REQUEST_ID_REUSED",
                    field="request_id",
                )
            self.earlier = Earlier(bytes(reply), position)
        else:
            self._session.execute(statements.FORGET, {"expired": self.now - REPLIES_KEPT})
