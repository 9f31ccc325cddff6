"""What the commands print: tables for people, one JSON document for programs, remarks and errors on stderr.

On a terminal tables are drawn by rich; into a pipe they are plain aligned text, nothing cut, so that `grep` and `awk` work. A
JSON document has the field names of the records as keys, all of them always; decimals are strings, times are ISO 8601.
"""

from __future__ import annotations

import contextlib
import enum
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cqar.answers import Position

Cell = object  # anything: `shown` gives its text


def plain(value: Any) -> Any:  # noqa: C901, PLR0911 - one case a line
    """Give records and answers as what JSON knows; every field is there, None where it has no value."""
    match value:
        case msgspec.Struct():
            return {name: _field(name, getattr(value, name)) for name in value.__struct_fields__}
        case enum.IntEnum():
            return value.name
        case enum.Enum():
            return value.value
        case Position():
            return int(value)
        case Decimal():
            return decimal(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case Path():
            return str(value)
        case bytes():
            return value.hex()
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    return value


def _field(name: str, value: Any) -> Any:
    return dict(value) if name == "metadata" else plain(value)


def decimal(value: Decimal) -> str:
    """Give a number in plain notation without trailing zeros, exactly."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def document(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(plain(value)), indent=2).decode() + "\n")


def json_line(value: Any) -> None:
    """Print one of a series of JSON objects, in a line that a reader gets at once."""
    line(msgspec.json.encode(plain(value)).decode())


def shown(value: Cell) -> str:  # noqa: PLR0911 - one case a line
    """Give a value as people read it; nothing for None and False."""
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case enum.IntEnum():
            return value.name
        case Decimal():
            return decimal(value)
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        case list() | tuple():
            return ", ".join(map(shown, value))
    return str(value)


def difference(before: msgspec.Struct, after: msgspec.Struct) -> str:
    """Tell in which fields two states of a record differ, and how; times of its bookkeeping are none."""
    names = [name for name in after.__struct_fields__ if name not in {"created_at", "updated_at"}]
    pairs = [(name, shown(getattr(before, name)) or "-", shown(getattr(after, name)) or "-") for name in names]
    return ", ".join([f"{name}: {old} -> {new}" for name, old, new in pairs if old != new])


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str = "") -> None:
    """Print rows under headings."""
    texts = [[shown(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        drawn = Table(title=Text(title) if title else None, title_justify="left", box=None, pad_edge=False)
        for column in columns:
            is_code = column.endswith(" id") or column == "contract"  # to be copied: the last to be broken
            drawn.add_column(column, overflow="fold", header_style="bold", no_wrap=is_code)
        for row in texts:
            drawn.add_row(*map(Text, row))
        Console().print(drawn)
        return
    if title:
        sys.stdout.write(f"{title}\n")
    _aligned([list(columns), *texts])


def facts(pairs: Iterable[tuple[str, Cell]]) -> None:
    """Print names with their values, without those that have none."""
    rows = [[name, text] for name, value in pairs if (text := shown(value))]
    if sys.stdout.isatty():
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in rows:
            grid.add_row(name, Text(text))
        Console().print(grid)
    else:
        _aligned(rows)


def _aligned(rows: list[list[str]]) -> None:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def line(text: str = "") -> None:
    """Print a line of the answer, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a remark, not part of the answer, in one line."""
    _to_stderr(text, "dim")


def error(text: str) -> None:
    """Print what went wrong, in one line."""
    _to_stderr(f"error: {text}", "bold red")


def _to_stderr(text: str, style: str) -> None:
    text = " ".join(text.split())
    if sys.stderr.isatty():
        Console(stderr=True).print(Text(text, style), soft_wrap=True)
    else:
        sys.stderr.write(f"{text}\n")


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[str, float], None]]:
    """Yield a callback that draws a bar on stderr, if that is a terminal: what is being done, and which part of all is."""
    if not sys.stderr.isatty():
        yield lambda _what, _part: None
        return
    from rich.progress import Progress  # noqa: PLC0415

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=1.0)

    def tell(what: str, part: float) -> None:
        bar.start()  # not before: most commands find all built
        bar.update(task, description=f"{title}: {what}", completed=part)

    try:
        yield tell
    finally:
        bar.stop()


def duration(seconds: float) -> str:
    """Give an age as people say it: "12 s", "3.5 h"."""
    if not math.isfinite(seconds):
        return "never"
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: int) -> str:
    """Give a number of bytes as people say it: "1.2 MB"."""
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"
