"""Methods that check what they are given, by their annotations: the write surface, where a call costs a trip to the server.

A new method is checked by being there. Records are checked with all of their fields, in which enums may be texts too.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import types
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Literal, TypeVar, Union, Unpack, get_args, get_origin, get_type_hints

from cqar.client._arguments import choice, items, member, refused, seconds, text, truth, whole
from cqar.errors import InvalidError
from cqar.model import KIND_OF, Record

R = TypeVar("R", bound=Record)
T = TypeVar("T")
_MOST = 2**63 - 1  # that a message holds
Check = Callable[[Any, str], Any]  # of a value, for the argument of a name; returns the value to go on with


def checked(cls: type[T]) -> type[T]:
    """Have a class's public methods take what their annotations say, as this module reads them, and nothing else."""
    for name, method in list(vars(cls).items()):
        if callable(method) and not name.startswith("_"):
            setattr(cls, name, _checked(method))
    return cls


def _checked(method: Callable[..., T]) -> Callable[..., T]:
    """Return a method that raises InvalidError for an argument which is not of its annotation's kind."""
    signature = inspect.signature(method)

    @functools.cache
    def checks() -> dict[str, Check]:
        return {name: check_of(hint) for name, hint in get_type_hints(method).items() if name != "return"}

    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> T:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return method(*args, **kwargs)  # raises as any function does that is called with other parameters
        for name, check in checks().items():
            if name in bound.arguments:
                bound.arguments[name] = check(bound.arguments[name], name)
        return method(*bound.args, **bound.kwargs)

    return run


@functools.cache
def check_of(annotation: Any) -> Check:  # noqa: PLR0911  (one case a line)
    """Return the check for an annotation."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    arguments, origin = get_args(annotation), get_origin(annotation)
    if origin is None:
        return _check_of_class(annotation)
    if origin in {Union, types.UnionType}:
        checks = [check_of(arm) for arm in arguments if arm is not types.NoneType]
        return _either(checks, optional=types.NoneType in arguments)
    if origin is Unpack:
        return _changes(get_type_hints(arguments[0]))
    if origin is Literal:
        return lambda value, field: choice(value, field, arguments)
    if origin is tuple and arguments[-1] is not ...:
        return _parts([check_of(each) for each in arguments])
    if origin is dict:
        return check_of(tuple[tuple[arguments], ...])  # type: ignore[valid-type]
    return _list(check_of(arguments[0]), lazy=origin is Iterable)


def _check_of_class(kind: type[Any]) -> Check:
    if issubclass(kind, enum.Enum):
        return lambda value, field: member(kind, value, field)
    if kind is Record:
        return _any_record
    if issubclass(kind, Record):
        return lambda value, field: record(kind, value, field)
    return lambda value, field: _instance(kind, value, field)


def record(kind: type[R], value: object, field: str) -> R:
    """Return a record whose values are all of their fields' kinds."""
    given = _instance(kind, value, field)
    return kind(**{name: check(getattr(given, name), name) for name, check in _fields(kind).items()})


def _any_record(value: object, field: str) -> Record:
    given = _instance(Record, value, field)
    kind = next(
        (each for each in type(given).__mro__ if each in KIND_OF), Record
    )  # an answer may be more than its record
    return record(kind, given, field)


@functools.cache
def _fields(kind: type[Record]) -> dict[str, Check]:
    hints = get_type_hints(kind)
    return {name: check_of(hints[name]) for name in kind.__struct_fields__}


def _changes(hints: dict[str, Any]) -> Check:
    """Return the check of what an update changes. None clears a field; of unknown ones `wire` tells."""

    def check(changes: Any, _field: str) -> dict[str, Any]:
        return {
            name: value if value is None or name not in hints else check_of(hints[name])(value, name)
            for name, value in changes.items()
        }

    return check


def _either(checks: list[Check], *, optional: bool) -> Check:
    """Return the check of what may be None, or of the one kind or the other."""

    def check(value: Any, field: str) -> Any:
        if value is None and optional:
            return None
        for attempt in checks[:-1]:
            with contextlib.suppress(InvalidError):
                return attempt(value, field)
        return checks[-1](value, field)

    return check


def _parts(checks: list[Check]) -> Check:
    """Return the check of a tuple of so many."""

    def check(value: Any, field: str) -> Any:
        if not isinstance(value, tuple | list) or len(value) != len(checks):
            raise refused(value, field, f"a tuple of {len(checks)}", "TUPLE")
        return tuple([each(part, field) for each, part in zip(checks, value, strict=True)])

    return check


def _list(inner: Check, *, lazy: bool) -> Check:
    """Return the check of a collection; of one that may be endless each item is checked as it comes."""

    def check(values: Any, field: str) -> Any:
        each = (inner(value, field) for value in items(values, field))
        return each if lazy else tuple(each)

    return check


def _instance(kind: type[T], value: object, field: str) -> T:
    if not isinstance(value, kind):
        raise refused(value, field, f"of the type {kind.__name__}", "TYPE")
    return value


def _count(value: object, field: str) -> int:
    return whole(value, field, 0, _MOST)


def _number(value: object, field: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise refused(value, field, "a Decimal such as Decimal('0.1'), which is exact", "NUMBER")
    return Decimal(value)


_PLAIN: dict[Any, Check] = {
    str: text,
    bool: truth,
    int: _count,
    float: seconds,
    Decimal: _number,
}
