"""What callers may give: one check for each kind of argument, and InvalidError for everything else.

The error says what was given and what is accepted. An enum takes its members and their names or values in any case: `"high"`,
`"HIGH"` and `Severity.HIGH` are one argument. Numbers are no truth values, and truth values no numbers. `_checked` derives the
checks of a whole method from its annotations.
"""

from __future__ import annotations

import enum
import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from cqar.errors import InvalidError
from cqar.rules.text import shown

E = TypeVar("E", bound=enum.Enum)


def refused(value: object, field: str, accepted: str, reason: str) -> InvalidError:
    """Return the error for an argument: what it is, and what would be accepted."""
    return InvalidError(f"{field}: {shown(value)} is not {accepted}", reason=reason, field=field)


def member(kind: type[E], value: object, field: str) -> E:
    """Return the member of an enum that is meant: itself, or its name or value as a text in any case."""
    if (
        isinstance(value, kind) and value.name in kind.__members__
    ):  # UNKNOWN is none: it is what a newer value is read as
        return value
    names, hint = _names(kind), ""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        word = value.strip().upper()
        if word in names:
            return cast("E", names[word])
        import difflib  # noqa: PLC0415  (seldom needed)

        near = difflib.get_close_matches(word, names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
    accepted = f"a {kind.__name__}, one of {', '.join([each.name for each in kind])}{hint}"
    raise refused(value, field, accepted, "ENUM")


def optional_member(kind: type[E], value: object, field: str) -> E | None:
    """Return the member that is meant, None for None."""
    return None if value is None else member(kind, value, field)


def members(kind: type[E], values: object, field: str) -> frozenset[E]:
    """Return the members that a collection, or a single one, stands for."""
    if isinstance(values, str | kind):
        raise refused(values, field, f"several of {kind.__name__}: put it into a list", "ENUM")
    return frozenset([member(kind, value, field) for value in items(values, field)])


@functools.cache
def _names(kind: type[enum.Enum]) -> dict[str, enum.Enum]:
    names = {each.value.upper(): each for each in kind if isinstance(each.value, str)}
    return names | {each.name.upper(): each for each in kind}


def text(value: object, field: str) -> str:
    """Return a text, maybe empty, that UTF-8 can carry."""
    if not isinstance(value, str):
        raise refused(value, field, "a text", "TEXT")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise refused(value, field, "a text: it holds half a character", "TEXT") from None
    return value


def optional_text(value: object, field: str) -> str | None:
    """Return a text, None for None."""
    return None if value is None else text(value, field)


def ascii_line(value: object, field: str) -> str | None:
    """Return a text that a header can carry, None for None."""
    line = optional_text(value, field)
    if line is not None and not (line.isascii() and line.isprintable()):
        raise InvalidError(
            f"{field}: only printable ASCII can be sent", reason="TEXT", field=field
        )  # a token is not shown
    return line


def path(value: object, field: str) -> str | os.PathLike[str] | None:
    """Return a path or a URI, None for None."""
    if value is None or isinstance(value, os.PathLike):
        return value
    return required_text(value, field)


def required_text(value: object, field: str) -> str:
    """Return a text that holds more than spaces."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidError(f"{field}: a text is needed, not {shown(value)}", reason="TEXT", field=field)
    return text(value, field)


def truth(value: object, field: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise refused(value, field, "True or False", "BOOL")
    return value


def whole(value: object, field: str, least: int | None = None, most: int | None = None) -> int:
    """Return a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused(value, field, "a whole number", "NUMBER")
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"within {least} to {most}"
        raise refused(value, field, bounds, "RANGE")
    return value


def seconds(value: object, field: str) -> float:
    """Return a number of seconds, which may be infinite, and neither negative nor NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(value, field, "a number of seconds", "NUMBER")
    if not value >= 0:  # NaN is not
        raise refused(value, field, "0 seconds or more", "RANGE")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def optional_function(value: object, field: str) -> Callable[..., Any] | None:
    """Return what can be called, None for None."""
    return None if value is None else function(value, field)


def function(value: object, field: str) -> Callable[..., Any]:
    """Return what can be called."""
    if not callable(value):
        raise refused(value, field, "a function", "CALLABLE")
    return value


def choice(value: object, field: str, choices: Iterable[Any]) -> Any:
    """Return a text that is one of a few."""
    accepted = tuple(choices)
    if not isinstance(value, str) or value not in accepted:
        raise refused(value, field, f"one of {', '.join(accepted)}", "ENUM")
    return value


def items(values: object, field: str) -> Iterable[Any]:
    """Return what a collection holds: pairs if it is a mapping. A text is none."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise refused(values, field, "a list", "LIST")
    return values.items() if isinstance(values, Mapping) else values
