"""What the server's replies hold, as records.

A newer server may send what this version cannot read, such as a value of an enum: that is no fault of the caller's arguments.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from cqar import wire
from cqar.answers import Resolution
from cqar.errors import InvalidError, UnavailableError
from cqar.model import Record
from cqar.v1 import types_pb2

R = TypeVar("R", bound=Record)


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Raise UnavailableError (NEWER_SERVER) where a reply cannot be read."""
    try:
        yield
    except InvalidError as error:
        raise UnavailableError(
            f"the server's reply holds what this version cannot read ({error.field}): upgrade cqar",
            reason="NEWER_SERVER",
            field=error.field,
        ) from error


def record_of(kind: type[R], message: Any) -> R:
    """Give the record of a message."""
    with reading():
        return wire.record_from_wire(kind, message)


def resolution_of(message: types_pb2.Resolution) -> Resolution:
    """Give the resolution of a message."""
    with reading():
        return wire.resolution_from_wire(message)
