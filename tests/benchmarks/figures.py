"""What a benchmark yields, and how often it measures."""

from __future__ import annotations

import msgspec

SMALL = 20_000  # deployments of the small registry
ROUNDS = 7


class Figure(msgspec.Struct, frozen=True):
    """A line of the table."""

    what: str
    measured: str
    peer: str
    ratio: float | None
    bar: str
    met: bool
