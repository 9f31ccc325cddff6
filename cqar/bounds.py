"""What a record's values must be to fit wherever records are kept: in columns of Arrow, DuckDB and Parquet, and in the index.

The checks are derived from the types of the record's fields, so that no kind and no field is without. A server never commits what
does not fit; who reads from elsewhere (a feed, a broker) asks first, because one value that a column cannot hold would spoil every
query from then on.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from cqar.model import KINDS, Record
from cqar.rules.text import shown

MAX_TEXT = 1 << 20  # characters: more than any message of a server may have
DIGITS, SCALE = 38, 18  # of every decimal column

_Check = Callable[[Any], bool]


def is_text(value: str) -> bool:
    """Report whether a text can be kept: no NUL, which divides the words of index keys, and no half characters."""
    if len(value) > MAX_TEXT or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_decimal(value: Decimal) -> bool:
    """Report whether a number fits into decimal(38, 18): not NaN, not infinite, 20 digits before the point and 18 after."""
    if not value.is_finite() or value.adjusted() >= DIGITS - SCALE:
        return False
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -SCALE


def _check_of(kind: Any) -> _Check | None:
    """Return the check of a field's values; None for types that have no value that does not fit."""
    if typing.get_origin(kind) is tuple:
        if typing.get_args(kind)[0] is str:
            return lambda values: all(map(is_text, values))
        return lambda pairs: all(is_text(part) for pair in pairs for part in pair)
    if kind is bool or issubclass(kind, enum.Enum | datetime):  # a datetime is of the years 1 to 9999
        return None
    checks: dict[Any, _Check] = {str: is_text, int: lambda value: -(1 << 63) <= value < 1 << 63, Decimal: is_decimal}
    return checks[kind]


@functools.cache
def _checks(record: type[Record]) -> tuple[tuple[str, _Check], ...]:
    found = []
    for name, hint in typing.get_type_hints(record).items():
        kind = hint
        if isinstance(hint, types.UnionType):
            (kind,) = [arm for arm in typing.get_args(hint) if arm is not types.NoneType]
        if name in record.__struct_fields__ and (check := _check_of(kind)) is not None:
            found.append((name, check))
    return tuple(found)


def fault_of_record(record: Record) -> tuple[str, str] | None:
    """Return the first field whose value fits into no column, and what is wrong; None if all fit. Thread-safe."""
    for name, check in _checks(type(record)):
        value = getattr(record, name)
        if value is not None and not check(value):
            return name, f"{name}: {shown(value)} is more than its column can hold"
    return None


def fault_of_key(kind: str, key: str) -> str | None:
    """Return what is wrong with the key of a record of a known kind; None if nothing is."""
    parts = key.split("/") if len(KINDS[kind].key) > 1 else [key]
    if len(parts) != len(KINDS[kind].key) or not all(parts) or not is_text(key):
        return f"key: {shown(key)} is no key of a {kind}"
    return None
