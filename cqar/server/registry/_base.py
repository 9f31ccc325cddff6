"""What all topics of the registry share: answers, the frame of a write, names of chains and venues, pages."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar, cast

import msgspec

from cqar import model
from cqar.access import EVERY_ROLE, Role
from cqar.errors import (
    AmbiguousError,
    ConflictError,
    CqarError,
    InvalidError,
    NotFoundError,
    StaleError,
    UnavailableError,
)
from cqar.model import Kind, Record, fold
from cqar.rules.records import normal
from cqar.rules.text import check_text, check_uuid
from cqar.server.faults import CONTENTION
from cqar.server.logs import note_write
from cqar.server.store import Store
from cqar.server.transaction import Reader, Tx, Write

P = ParamSpec("P")
R = TypeVar("R", bound=Record)
N = TypeVar("N", bound=model.Chain | model.Venue)
A = TypeVar("A")
K = TypeVar("K")
Filters = Mapping[str, object]

PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
NOBODY: Final = "anonymous"  # the actor of a call that does not say who makes it
TRIES: Final = 4  # of a transaction that met another writer
_ARGUMENTS: Final = msgspec.msgpack.Encoder(enc_hook=str, order="deterministic")


class Call(msgspec.Struct, frozen=True):
    """Who writes, under which id to recognise a repetition (R13), and with which roles: whoever calls in this process has all."""

    actor: str = NOBODY
    request_id: str | None = None
    roles: frozenset[Role] = EVERY_ROLE


class Positioned(Protocol):
    """Any answer: it tells the position at which it was true."""

    @property
    def position(self) -> int:
        """Where the registry was, or to where a write took it."""
        ...


class Answer(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """One record."""

    record: R
    position: int = 0


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing but that it was done."""

    position: int = 0


class Page(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Some records of a list; with a token there are more."""

    records: tuple[R, ...]
    next_page_token: str = ""
    position: int = 0


class PageRequest(msgspec.Struct, frozen=True):
    """Which part of a list is wanted; size 0 means the default (R15)."""

    size: int = 0
    token: str = ""


FIRST_PAGE: Final = PageRequest()

T = TypeVar("T", bound=Positioned)


class Base:
    """Holds the store for the topics, which `Registry` puts together."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def guard(self, tx: Tx, writes: Sequence[Write]) -> None:
        """Raise PermissionDeniedError if the caller of a transaction may not make some of its writes: see `roads`."""
        raise NotImplementedError

    def _get(self, kind: Kind[R], key: str, field: str) -> Answer[R]:
        """Give the live record with this id; NotFoundError if there is none, InvalidError if it is no id."""
        (found,) = self._get_many(kind, [key], field)
        if isinstance(found, CqarError):
            raise found
        return found

    def _get_many(self, kind: Kind[R], keys: Sequence[str], field: str) -> list[Answer[R] | CqarError]:
        """Give the live record with each id, or the error in its place."""
        ids = [attempted(partial(check_uuid, field=field), key) for key in keys]
        found = self._store.get(kind, [id_ for id_ in ids if isinstance(id_, str)])
        answers: list[Answer[R] | CqarError] = []
        for id_ in ids:
            if isinstance(id_, CqarError):
                answers.append(id_)
            elif id_ in found:
                answers.append(Answer(record=found[id_][0], position=found[id_][1]))
            else:
                answers.append(not_found(kind, id_, field=field, key=id_))
        return answers

    def _page(self, method: str, kind: Kind[R], request: PageRequest, reader: Reader, filters: Filters) -> Page[R]:
        """Give a page of the live records that pass the filters, sorted by key. Filters of None are left out."""
        given = {name: value for name, value in filters.items() if value is not None}
        size = page_size(request)
        after = read_token(request.token, str, method, given)
        records = reader.page(kind, given, after=after, limit=size + 1)
        token = make_token(kind.key_of(records[size - 1]), method, given) if len(records) > size else ""
        return Page(records=tuple(records[:size]), next_page_token=token)


B = TypeVar("B", bound=Base)


def writes(
    *races: type[CqarError],
) -> Callable[[Callable[Concatenate[B, Tx, P], T]], Callable[Concatenate[B, Call, P], T]]:
    """Make a method of a function that writes in a transaction: the method takes a `Call` in place of the transaction.

    A repetition of an answered call gives the first answer and writes nothing; another call with its request id is refused
    with InvalidError. The function runs again if another writer was in the way, or if the store found one of `races` that
    the function had not.
    """

    def decorate(body: Callable[Concatenate[B, Tx, P], T]) -> Callable[Concatenate[B, Call, P], T]:
        @functools.cache
        def answer_type() -> type[T]:
            return cast("type[T]", typing.get_type_hints(body)["return"])

        def once(self: B, call: Call, *args: P.args, **kwargs: P.kwargs) -> T:
            request_id = check_text(call.request_id or "", "request_id", 128)
            digest = _digest(args, kwargs) if request_id else b""
            with self._store.transaction(
                actor=call.actor, request_id=request_id, method=body.__name__, digest=digest
            ) as tx:
                if tx.earlier is not None:
                    return _at(msgspec.json.decode(tx.earlier.reply, type=answer_type()), tx.earlier.position)
                tx.roles = call.roles
                tx.guard = self.guard
                answer = body(self, tx, *args, **kwargs)
                tx.reply = msgspec.json.encode(answer)
            note_write(tx.at)
            return _at(answer, tx.position)

        def method(self: B, call: Call, /, *args: P.args, **kwargs: P.kwargs) -> T:
            for _ in range(TRIES - 1):
                try:
                    return once(self, call, *args, **kwargs)
                except UnavailableError as error:
                    if error.reason != CONTENTION:
                        raise
                except races:
                    continue
            return once(self, call, *args, **kwargs)

        functools.update_wrapper(method, body)
        return method

    return decorate


def _digest(*arguments: object) -> bytes:
    """Tell calls apart by what they ask for. Errors among the arguments stand for records that could not be read."""
    return hashlib.sha256(_ARGUMENTS.encode(arguments)).digest()


def _at(answer: T, position: int) -> T:
    return msgspec.structs.replace(answer, position=position)  # type: ignore[type-var]


# --- records -----------------------------------------------------------------------------------------------------------


def not_found(kind: Kind[Any], what: str, **metadata: object) -> NotFoundError:
    """Give the error for a record that is not there."""
    return NotFoundError(
        f"no live {kind.name} {what}", look_alikes=(), reason=f"{kind.name.upper()}_NOT_FOUND", **metadata
    )


def attempted(function: Callable[[K], A], question: K) -> A | CqarError:
    """Give what a function gives, or the error that it raises: for one of several questions."""
    try:
        return function(question)
    except CqarError as error:
        return error


def required(reader: Reader, kind: Kind[R], key: str, field: str) -> R:
    """Give the live record with this id; NotFoundError if there is none, InvalidError if it is no id."""
    key = check_uuid(key, field)
    found = reader.get(kind, key)
    if found is None:
        raise not_found(kind, key, field=field, key=key)
    return found


def required_for_update(tx: Tx, kind: Kind[R], key: str, field: str, expected_position: int | None = None) -> R:
    """Give the live record with this id, and keep other writers from it.

    Raises NotFoundError, and StaleError if it was written after the expected position (R13).
    """
    return locked(tx, kind, check_uuid(key, field), field, expected_position)


def locked(tx: Tx, kind: Kind[R], key: str, field: str, expected_position: int | None = None) -> R:
    """Do the same for a key in its normal form, of any kind."""
    found = tx.get(kind, key, for_update=True)
    if found is None:
        raise not_found(kind, key, field=field, key=key)
    if expected_position is not None:
        require_unchanged(tx, kind, key, expected_position)
    return found


def require_unchanged(tx: Tx, kind: Kind[Any], key: str, expected_position: int) -> None:
    """Raise StaleError if the record was written after a position, InvalidError if that is still to come."""
    written_at, head = tx.written_at(kind, key)
    if written_at > expected_position:
        raise StaleError(
            f"{kind.name} {key} was written at position {written_at}, after {expected_position}",
            kind=kind.name,
            key=key,
            position=written_at,
            expected_position=expected_position,
        )
    if expected_position > head:
        raise InvalidError(
            f"expected_position: {expected_position} is ahead of the registry, which is at {head}",
            reason="POSITION_AHEAD",
            field="expected_position",
            position=head,
        )


def patched(record: R, patch: Mapping[str, Any], chain: model.Chain | None = None) -> R:
    """Give the record with the fields of a patch in place of its own, in its normal form; raises InvalidError (R13)."""
    return normal(msgspec.structs.replace(record, **patch), chain)


def written(tx: Tx, before: R, after: R) -> Answer[R]:
    """Write what an update made of a record, unless it says the same."""
    return Answer(record=before if after == before else tx.put(after))


def require_fresh_id(tx: Tx, kind: Kind[Any], record: Record) -> None:
    """Raise ConflictError if the id that the caller chose is a record's, or was one's before it was deleted (R12)."""
    key = kind.key_of(record)
    if key and tx.used(kind, [key]):
        raise taken(kind, key, f"the id {key} is used, or was by a record that is deleted", reason="ID_USED")


def taken(kind: Kind[Any], existing_id: str, message: str, *, reason: str = "ALREADY_EXISTS") -> ConflictError:
    """Give the error for a record that is there already."""
    return ConflictError(message, reason=reason, kind=kind.name, existing_id=existing_id)


def require_known_asset(reader: Reader, asset_id: str | None) -> str | None:
    """Give the id in its normal form; NotFoundError unless an asset has it or, before it was deleted, had it.

    A list of the flags of an asset that never was must not look like that of an asset without flags.
    """
    if asset_id is None:
        return None
    asset_id = check_uuid(asset_id, "asset_id")
    if not reader.used(model.ASSET, [asset_id]):
        raise not_found(model.ASSET, asset_id, field="asset_id", key=asset_id)
    return asset_id


# --- names of chains and venues ------------------------------------------------------------------------------------------


def named(reader: Reader, kind: Kind[N], name: str, field: str) -> N:
    """Give the chain or venue that a name means: its slug, CAIP-2, network id, or an alias with or without source (R5).

    Raises NotFoundError, and AmbiguousError naming the slugs if sources use the name for different ones.
    """
    word = required_name(name, field)
    return chosen_name(kind, reader.find(kind, any_name=[word]), word, field)


def required_name(name: str, field: str) -> str:
    """Give the folded name of a chain or venue; InvalidError for an empty one."""
    word = fold(check_text(name, field, 128))
    if not word:
        raise InvalidError(f"{field}: required", reason="REQUIRED", field=field)
    return word


def chosen_name(kind: Kind[N], found: list[N], word: str, field: str) -> N:
    """Choose among the chains or venues that have the folded name; a slug always means its own."""
    own = [record for record in found if kind.key_of(record) == word]
    found = own or found
    if not found:
        raise not_found(kind, word, field=field, name=word)
    if len(found) > 1:
        slugs = ", ".join(sorted([kind.key_of(record) for record in found]))
        reason = f"{kind.name.upper()}_AMBIGUOUS"
        raise AmbiguousError(f"{field}: {word} may mean {slugs}; say which", reason=reason, field=field, name=word)
    return found[0]


def own_names(record: model.Chain | model.Venue) -> set[str]:
    """Give the folded names that no other chain or venue may have: all but aliases without their source."""
    names = {*record.aliases}
    if isinstance(record, model.Chain):
        names |= {record.chain_id, record.caip2 or "", str(record.network_id or "")}
    else:
        names.add(record.venue_id)
    return {fold(name) for name in names if name}


# --- pages -------------------------------------------------------------------------------------------------------------


def page_size(request: PageRequest) -> int:
    """Give the number of records wanted; InvalidError if it is not within 1 to 1000, or 0 for the default."""
    if not 0 <= request.size <= MAX_PAGE_SIZE:
        raise InvalidError(
            f"page_size: {request.size} is not within 1 to {MAX_PAGE_SIZE}", reason="RANGE", field="page_size"
        )
    return request.size or PAGE_SIZE


def make_token(after: object, method: str, filters: Filters) -> str:
    """Give the token for the page behind `after` of this list; it is of no use for another list."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((_mark(after, method, filters), after))).decode()


def read_token(token: str, kind: type[A], method: str, filters: Filters) -> A | None:
    """Give what the token says the page begins behind; None without a token, InvalidError for one of another list."""
    if not token:
        return None
    try:
        packed = base64.b64decode(token, altchars=b"-_", validate=True)
        mark, after = msgspec.msgpack.decode(packed, type=tuple[bytes, kind])  # type: ignore[valid-type]
    except (binascii.Error, ValueError, msgspec.DecodeError):
        mark, after = b"", None
    if mark != _mark(after, method, filters):
        raise InvalidError(
            "page_token: not one that this list gave; repeat the request with the token of its last answer",
            reason="PAGE_TOKEN",
            field="page_token",
        )
    return cast("A", after)


def _mark(after: object, method: str, filters: Filters) -> bytes:
    """Tell the list and the place in it, so that a token that was damaged on its way is not taken for another's."""
    return hashlib.sha256(msgspec.msgpack.encode((method, sorted(filters.items()), after))).digest()[:8]
