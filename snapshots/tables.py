# ruff: noqa: INP001
"""Reads the CSV files of the catalogue, and names each fact's source. No rule of the domain is here.

`sources/` holds facts copied from permissively licensed lists, `curated/` what people decided about them; lines that start
with # are comments. Every row names its source by a short code that `sources/sources.csv` explains.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

HERE = Path(__file__).parent
NAMESPACE = UUID("6f1d2a34-5b7c-5e8f-9a01-c9a7c0de0001")  # never change: every id of the catalogue hangs on it
CREATED = datetime(
    2026, 11, 24, tzinfo=UTC
)  # when the sources were read: a constant, so that equal sources give equal bytes
CURATED = "curated: snapshots/curated/"

Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Give the rows of a file such as `curated/assets.csv`, without its comments."""
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def uid(*words: str) -> str:
    """Give the UUID that a name has in every build."""
    return str(uuid5(NAMESPACE, ":".join(words)))


@dataclass
class Report:
    """What a build has to say: `problems` make it fail, `left_out` is counted by reason."""

    problems: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def problem(self, text: str) -> None:
        """Note something that must be mended in the files."""
        self.problems.append(text)

    def skip(self, reason: str) -> None:
        """Count a row that is not in the catalogue, and why."""
        self.left_out[reason] += 1


def provenance() -> dict[str, str]:
    """Give what each source code stands for."""
    return {row["source"]: row["provenance"] for row in read("sources/sources.csv")}
