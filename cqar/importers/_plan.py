"""What importers have in common: rows read from a file, the records planned for them, and what is refused.

An importer reads (`parse`), then plans (`plan`) with look-ups at the server; `_run` writes. A row that breaks a rule is
refused with a reason and the others go on; of a row that is written, a part (an alias, a link) may be left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid5

import msgspec

from cqar.errors import ConflictError, CqarError, InvalidError, NotFoundError, PreconditionError
from cqar.model import Record

if TYPE_CHECKING:
    from cqar.importers._lookups import Lookups

T = TypeVar("T")

# Ids made of names, the same as in the bundled catalogue (snapshots/tables.py): two hosts that import a list agree.
NAMESPACE = UUID("6f1d2a34-5b7c-5e8f-9a01-c9a7c0de0001")
REFUSALS = (InvalidError, NotFoundError, ConflictError, PreconditionError)  # a row's fault; other errors end the import


def uid(*words: str) -> str:
    """Give the UUID that a name has everywhere."""
    return str(uuid5(NAMESPACE, ":".join(words)))


def once(key: T, seen: set[T], what: str) -> None:
    """Refuse the second row for one thing: the file contradicts or repeats itself."""
    if key in seen:
        raise InvalidError(f"{what} is in the file twice; the first row counts", reason="DUPLICATE")
    seen.add(key)


class Row(NamedTuple, Generic[T]):
    """A row as the file has it."""

    number: int
    value: T


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not written or, with `part`, a part of one that is left out."""

    row: int
    key: str
    reason: str
    message: str
    part: bool = False


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller decides."""

    replace: bool = False  # values of the file replace what is there; without, they only fill what is not
    as_of: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))  # the time that the file describes
    trust_symbols: bool = False  # a currency code may mean any asset that alone has this symbol


@dataclass
class Parsed(Generic[T]):
    """A file that could be read."""

    path: Path
    provenance: str  # of rows that do not tell their own
    rows: list[Row[T]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of rows, refused ones included."""
        return len(self.rows) + len(self.refused)


@dataclass
class Plan:
    """The records to write, in order, each with the row that it belongs to."""

    records: list[tuple[int, str, Record]] = field(default_factory=list)  # row, the row's key, record
    refused: list[Refusal] = field(default_factory=list)

    def add(self, row: int, key: str, *records: Record) -> None:
        """Plan records for a row."""
        self.records += [(row, key, record) for record in records]

    def leave_out(self, row: int, key: str, reason: str, message: str) -> None:
        """Note that a part of a row is not written."""
        self.refused.append(Refusal(row=row, key=key, reason=reason, message=message, part=True))

    @contextlib.contextmanager
    def row(self, row: int, key: str) -> Iterator[None]:
        """Refuse the row if the block raises an error that is the row's fault."""
        try:
            yield
        except REFUSALS as error:
            self.refused.append(Refusal(row=row, key=key, reason=error.reason, message=error.message))

    def optional(
        self, row: int, key: str, check: Callable[[str, str], str], value: str | None, name: str
    ) -> str | None:
        """Give a value in normal form; one that breaks its rule is left out."""
        try:
            return check(value, name) if value else None
        except CqarError as error:
            self.leave_out(row, key, error.reason, error.message)
            return None


class Importer(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of file that can be imported."""

    name: str
    help: str  # one line for people
    parse: Callable[[Path], Parsed[Any]]  # raises InvalidError for a file that is not of this kind
    plan: Callable[[Parsed[Any], Lookups, Options], Plan]
    chunk: int = 500  # records written in one transaction
