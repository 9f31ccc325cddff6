"""What an error of the database means to a caller: one table, keyed on SQLSTATE and constraint name, never on text.

A violated uniqueness is met here only when two writers raced: the registry looks before it writes. Errors that are not
listed propagate as they are: they are defects, and the outermost interceptor hides them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc

from cqar.errors import ConflictError, CqarError, InvalidError, NotFoundError, UnavailableError
from cqar.server.schema import REFERENCES, RULES, UNIQUES

CONTENTION = "CONTENTION"  # reason of an UnavailableError that a second try of the whole transaction may well cure

_CONTENDED = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_TIMED_OUT = frozenset({"57014", "55P03", "25P03", "25P04"})  # statement, lock, idle in transaction, transaction
# Connection, resources, shutdown and start-up, system errors, and a server that became a read-only standby.
_GONE = ("08", "53", "57P", "58", "25006")


class Violation(Exception):  # noqa: N818 - never leaves the store
    """A uniqueness that another writer got to first; the store finds the record in the way."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.unique = UNIQUES[constraint]


def conflict(violation: Violation, existing_id: str | None) -> ConflictError:
    """Give the error for a violated uniqueness."""
    kind, columns, reason, _ = violation.unique
    fields = [column.removesuffix("_fold") for column in columns]
    return ConflictError(
        f"{kind.name}: there is one already with this {', '.join(fields)}",
        reason=reason,
        kind=kind.name,
        field=fields[-1],
        existing_id=existing_id,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the database's errors mean: Violation, NotFoundError, InvalidError, UnavailableError."""
    try:
        yield
    except exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            meaning = _meaning(error.orig)
            if meaning is not None:
                raise meaning from error
        raise
    except psycopg.Error as error:  # while rows are streamed
        meaning = _meaning(error)
        if meaning is not None:
            raise meaning from error
        raise
    except exc.TimeoutError as error:
        raise UnavailableError("all connections to the database are in use", reason="BUSY") from error


def _meaning(error: psycopg.Error) -> CqarError | Violation | None:
    constraint = error.diag.constraint_name or ""
    if constraint in UNIQUES:
        return Violation(constraint)
    if constraint in REFERENCES:
        field, target = REFERENCES[constraint]
        return NotFoundError(f"{field}: no such {target.name}", reason=f"{target.name.upper()}_NOT_FOUND", field=field)
    if constraint in RULES:
        field, rule = RULES[constraint]
        return InvalidError(f"{field}: must be {rule}", reason="RULE", field=field, rule=rule)
    if isinstance(error, psycopg.DataError):  # a number too large for its column, a NUL in a text
        return InvalidError("a value does not fit its field", reason="VALUE")
    return _outage(error)


def _outage(error: psycopg.Error) -> UnavailableError | None:
    state = error.sqlstate
    if state in _CONTENDED:
        return UnavailableError("another writer was in the way; try again", reason=CONTENTION)
    if state in _TIMED_OUT:
        return UnavailableError("the database did not answer in time", reason="TIMEOUT")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and (state or "08").startswith(_GONE):
        return UnavailableError("the database cannot be reached")
    return None
