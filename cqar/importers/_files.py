"""Reads the files that people import. A file that cannot be read is one InvalidError; a row that cannot is a refused row.

Row numbers are what an editor shows: the line in a CSV file, the element in a JSON list, both counted from 1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from cqar.errors import InvalidError
from cqar.importers._plan import Parsed, Refusal, Row
from cqar.rules.text import quote

T = TypeVar("T")

MAX_BYTES = 256 << 20  # the largest real list has 0.5 MB; a file of another kind should not fill the memory
SCHEMA = "SCHEMA"  # reason of a row that has not the form which its file's format asks for


def fail(path: Path, what: str, reason: str, rule: str, row: int | None = None) -> NoReturn:
    """Raise the error for a file that cannot be imported at all."""
    where = f"{path}: row {row}" if row is not None else str(path)
    raise InvalidError(f"{where}: {what}", reason=f"FILE_{reason}", field="file", file=path, row=row, rule=rule)


def read_text(path: Path) -> str:
    """Give the text of a UTF-8 file, without a byte order mark."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            fail(path, "is a folder, expected a file", "KIND", "a file")
        if size > MAX_BYTES:
            fail(path, f"has {size:,} bytes, allowed are {MAX_BYTES:,}", "SIZE", f"at most {MAX_BYTES:,} bytes")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        fail(path, "there is no such file", "MISSING", "an existing file")
    except OSError as error:
        fail(path, f"cannot be read: {error.strerror}", "UNREADABLE", "a readable file")
    except UnicodeDecodeError as error:
        fail(path, f"is not UTF-8 text (byte {error.start:,})", "ENCODING", "UTF-8")
    if not text.strip():
        fail(path, "is empty", "EMPTY", "at least one row")
    return text


def read_json(path: Path, form: type[T], rule: str) -> T:
    """Give what a JSON file holds; `rule` says in words what `form` asks for."""
    text = read_text(path)
    try:
        return msgspec.json.decode(text, type=form)
    except msgspec.ValidationError as error:
        fail(path, f"{error}; expected {rule}", SCHEMA, rule)
    except (msgspec.DecodeError, RecursionError) as error:
        fail(path, f"is not JSON: {error}", "JSON", "JSON (RFC 8259)")


def rows_of(path: Path, elements: Sequence[msgspec.Raw], form: type[T], key: str, provenance: str) -> Parsed[T]:
    """Give the elements of a JSON list as rows; one that has not the form is refused. `key` names the field to call it by."""
    parsed = Parsed[T](path, provenance)
    for number, element in enumerate(elements, start=1):
        try:
            parsed.rows.append(Row(number, msgspec.json.decode(element, type=form)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            parsed.refused.append(Refusal(row=number, key=_name_of(element, key), reason=SCHEMA, message=str(error)))
    return parsed


def _name_of(element: msgspec.Raw, key: str) -> str:
    """Give the name of an element that has not its form, as far as it has one."""
    value = msgspec.json.decode(element)
    return str(value.get(key, "")) if isinstance(value, dict) else ""


def read_csv(path: Path, *, required: Sequence[Sequence[str]]) -> Parsed[dict[str, str]]:
    """Give the rows of a CSV file by column; its header must have all columns of one of the lists in `required`."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    lines = _lines(path, reader)
    _, header = next(lines)
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        fail(path, "two columns have one name", "HEADER", "each column once", 1)
    if not any(set(names) <= set(header) for names in required):
        rule = " or ".join([", ".join(names) for names in required])
        fail(path, f"its first line is {quote(','.join(header))}; needed are {rule}", "HEADER", rule, 1)
    parsed = Parsed[dict[str, str]](path, f"file:{path.name}")
    for number, cells in lines:
        if len(cells) == len(header):
            parsed.rows.append(Row(number, dict(zip(header, [cell.strip() for cell in cells], strict=True))))
        else:
            message = f"has {len(cells)} columns, the header {len(header)}"
            parsed.refused.append(Refusal(row=number, key=cells[0], reason=SCHEMA, message=message))
    return parsed


def _lines(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not empty, each with the number of its first line."""
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fail(path, f"is not CSV: {error}", "CSV", "RFC 4180", number)
        if cells:
            yield number, cells


def convert(values: dict[str, str], form: type[T]) -> T:
    """Give the cells of a CSV row as a struct: an empty cell is one that is not there. Raises InvalidError."""
    given = {name: value for name, value in values.items() if value}
    try:
        return msgspec.convert(given, form, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidError(str(error), reason=SCHEMA) from None
