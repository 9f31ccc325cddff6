"""Whole generations in tests: built, and read back entry by entry and row by row."""

from __future__ import annotations

from itertools import starmap
from pathlib import Path
from typing import Any

import duckdb

from cqar.client._build import build
from cqar.client._entries import END, FIRST, SEAL, decoders, kind_prefix, link
from cqar.client._generation import Generation
from cqar.model import KINDS, Record
from tests.worlds import World


def built(world: World, path: Path) -> Generation:
    """Build the world's generation from a snapshot, with its tables."""
    build(path, world.publish(path.parent / "snapshots"), lambda _what, _part: None)
    return Generation(path)


def entries(generation: Generation) -> dict[bytes, bytes | Record]:
    """Every entry of a generation's index: key and payload.

    Records with numbers are decoded: msgspec leaves a default out only if it is the very object.
    """
    numeric = {kind_prefix[kind]: decoders[kind] for kind in ("relationship", "group_member", "venue_symbol")}
    with generation.index._mapping.env.begin() as txn:
        return {key: numeric.get(key[:2], bytes)(value[:-SEAL]) for key, value in txn.cursor() if key != FIRST}


def links(generation: Generation) -> int:
    """Return how many entries an index has, every one of which is joined with the next by its link."""
    with generation.index._mapping.env.begin() as txn:
        keys, values = zip(*txn.cursor(), strict=True)
    assert keys[0] == FIRST
    assert all(starmap(bytes.endswith, zip(values, map(link, keys, [*keys[1:], END]), strict=True)))
    return len(keys)


def tables(generation: Generation) -> dict[str, list[Any]]:
    """Every row of a generation's tables, sorted by key, and the columns with their types."""
    found: dict[str, list[Any]] = {}
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{generation.tables}' AS gen (READ_ONLY)")
        for kind in KINDS.values():
            rows = connection.execute(f"SELECT * FROM gen.{kind.table} ORDER BY {', '.join(kind.key)}")
            found[kind.name] = [[column[:2] for column in rows.description or ()], *rows.fetchall()]
    return found
