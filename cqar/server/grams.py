"""What a substring is found by: the pieces of one, two and three letters of an asset's folded symbol and name, hashed.

An index of them (GIN) finds any text, be it of one letter or of signs only. `pg_trgm` would need three letters or digits in
a row, and walk through everything for "$$". Two pieces may have one hash: whoever asks compares the texts as well.
"""

from __future__ import annotations

import zlib

LONGEST = 3


def grams(*texts: str) -> list[int]:
    """Give the hashes of all pieces of the texts, as PostgreSQL's integers."""
    sizes = range(1, LONGEST + 1)
    pieces = {text[start : start + size] for text in texts for size in sizes for start in range(len(text) - size + 1)}
    return sorted({_hash(piece) for piece in pieces})


def grams_within(text: str) -> list[int]:
    """Give hashes that every text has in which this one stands: of pieces side by side. Each more would cost a look-up."""
    size = min(len(text), LONGEST)
    starts = {*range(0, len(text) - size, size), len(text) - size}
    return sorted({_hash(text[start : start + size]) for start in starts})


def _hash(piece: str) -> int:
    return zlib.crc32(piece.encode()) - 2**31
