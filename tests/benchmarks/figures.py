"""What a benchmark yields."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """A line of the table."""

    what: str
    measured: str
    peer: str
    ratio: float | None
    bar: str
    met: bool
