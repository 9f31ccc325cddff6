"""Answers of bulk look-ups as rows, and all answers of a generation for one chain as a table.

Which candidate a symbol means is left to `cqar.rules`. The table spares the asking where there is nothing to choose: most
symbols have one candidate that nothing else looks like, and for these a row of the generation's tables is the answer.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.compute as pc

from cqar.answers import Candidate
from cqar.client._entries import symbol_key
from cqar.client._generation import Generation
from cqar.client._overlay import Overlay
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._tables import Tables
from cqar.looks import skeleton
from cqar.model import Asset, Deployment, fold
from cqar.rules.choose import winner

SCHEMA = pa.schema(
    [
        pa.field("status", pa.string()),
        pa.field("asset_id", pa.string()),
        pa.field("name", pa.string()),
        pa.field("asset_type", pa.string()),
        pa.field("chain_id", pa.string()),
        pa.field("contract_address", pa.string()),
        pa.field("decimals", pa.int32()),
        pa.field("collisions", pa.int32()),
    ]
)
Row = tuple[str | None, str | None, str | None, str | None, str | None, str | None, int | None, int | None]

STATUSES = ("NOT_FOUND", "INVALID", "AMBIGUOUS", "UNAVAILABLE")
NOT_FOUND, INVALID, AMBIGUOUS, UNAVAILABLE = range(4)  # rows that every table of answers starts with
_KEPT = 4  # chains of a generation whose tables are kept

_ON_CHAIN = """
    SELECT a.symbol, a.asset_id, a.name, a.asset_type, d.chain_id, d.contract_address, d.decimals
    FROM asset_deployments AS d JOIN assets AS a USING (asset_id) WHERE d.chain_id = ?"""
_ON_NONE = """
    SELECT symbol, asset_id, name, asset_type, NULL AS chain_id, NULL AS contract_address, NULL AS decimals FROM assets"""


def row_of(asset: Asset, deployment: Deployment | None, collisions: int) -> Row:
    """Give the row of an answer."""
    if deployment is None:
        return ("OK", asset.asset_id, asset.name, asset.asset_type, None, None, None, collisions)
    place = (deployment.chain_id, deployment.contract_address, deployment.decimals)
    return ("OK", asset.asset_id, asset.name, asset.asset_type, *place, collisions)


def chosen_row(candidates: tuple[Candidate, ...], symbol: str | None) -> Row | None:
    """Return the row for a symbol as it was typed; None if it is ambiguous, for candidates of which one at least bears it."""
    best = winner(candidates, symbol)
    return None if best is None else row_of(best.asset, best.deployment, len(candidates) - 1)


def table_of(rows: Iterable[Row]) -> pa.Table:
    """Give a table of rows."""
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA)


def blank_rows() -> pa.Table:
    """Give the rows that tell nothing but a status."""
    return table_of([(status, *[None] * 7) for status in STATUSES])  # type: ignore[misc]


class Answers(NamedTuple):
    """All answers for one chain, or for none in particular, by folded symbol."""

    keys: pa.Array  # folded symbols whose answers do not depend on how they are typed
    rows: pa.Table  # the blank rows, then those of the keys, in their order
    careful: frozenset[str]  # folded symbols whose answers do


_made: WeakKeyDictionary[Generation, dict[str, Answers]] = WeakKeyDictionary()


def answers_of(generation: Generation, slug: str) -> Answers:
    """Give all answers of a generation for a chain, or with "" for none in particular. Made once and kept.

    No lock: two threads may both make it, and a forked child must not find it locked.
    """
    kept = _made.setdefault(generation, {})
    found = kept.get(slug)
    if found is None:
        found = kept[slug] = _make(generation, slug)
        while len(kept) > _KEPT:
            kept.pop(next(iter(kept)), None)
    return found


def _make(generation: Generation, slug: str) -> Answers:
    tables = Tables(generation.tables)
    try:
        query, parameters = (_ON_CHAIN, [slug]) if slug else (_ON_NONE, None)
        answer = tables.query(query, parameters, lambda: (generation, Overlay(), generation.head.position))
    finally:
        tables.close()
    assert answer is not None
    read = answer[0].combine_chunks()
    symbols = _whole(read.column("symbol"))
    folded = _mapped(symbols, pc.ascii_lower, fold)
    hard = _hard(symbols, folded)
    easy = read.filter(pc.invert(hard)).drop_columns("symbol")
    count = len(easy)
    easy = easy.add_column(0, "status", pa.repeat(pa.scalar("OK"), count))
    easy = easy.append_column("collisions", pa.repeat(pa.scalar(0, pa.int32()), count)).cast(SCHEMA)
    keys, rows, careful = _weighed(Replica(generation, Recent(1)), slug, pc.unique(folded.filter(hard)).to_pylist())
    return Answers(
        keys=pa.concat_arrays([folded.filter(pc.invert(hard)), pa.array(keys, pa.string())]),
        rows=pa.concat_tables([blank_rows(), easy, table_of(rows)]).combine_chunks(),
        careful=careful,
    )


def _weighed(replica: Replica, slug: str, names: list[str]) -> tuple[list[str], list[Row], frozenset[str]]:
    """Ask the rules about folded symbols that may have several candidates."""
    keys: list[str] = []
    rows: list[Row] = []
    careful: set[str] = set()
    blank: Row = (STATUSES[AMBIGUOUS], *[None] * 7)  # type: ignore[assignment]
    for name in names:
        candidates = replica.candidates(symbol_key(slug, name), slug, name)
        spellings = {None, *[candidate.asset.symbol for candidate in candidates]}
        answers = {chosen_row(candidates, spelling) or blank for spelling in spellings}
        if len(answers) == 1:
            keys.append(name)
            rows.extend(answers)
        else:
            careful.add(name)
    return keys, rows, frozenset(careful)


# --- what may have more than one candidate ---------------------------------------------------------------------------


def _hard(symbols: pa.Array, folded: pa.Array) -> pa.Array:
    """Tell which rows share their folded symbol, or a look of it (R18), with another."""
    upper, lower = _mapped(symbols, pc.ascii_upper, str.upper), folded
    hard = _repeated(folded)
    for looks in (symbols, upper, lower):
        hard = pc.or_(hard, _repeated(_mapped(looks, _ascii_skeleton, skeleton)))
    return hard


def _ascii_skeleton(texts: pa.Array) -> pa.Array:
    """Do for ASCII what `looks.skeleton` does for one text; a prototype is its own, so the order is of no account."""
    for character in string.printable:
        prototype = skeleton(character)
        if prototype != character:
            texts = pc.replace_substring(texts, character, prototype)
    return texts


def _mapped(texts: pa.Array, of_ascii: Any, of_one: Any) -> pa.Array:
    """Apply a function to all texts: as a whole to those in ASCII, to the others one by one."""
    ascii_only = pc.string_is_ascii(texts)
    mapped = of_ascii(texts)
    if pc.all(ascii_only).as_py():
        return mapped
    foreign = pc.invert(ascii_only)
    others = [of_one(text) for text in texts.filter(foreign).to_pylist()]
    return pc.replace_with_mask(mapped, foreign, pa.array(others, pa.string()))


def _repeated(values: pa.Array) -> pa.Array:
    """Tell of each value whether it comes more than once."""
    codes = pc.dictionary_encode(values).indices
    counts = pc.value_counts(codes)  # in the order of the codes, which is that of their first coming
    return pc.greater(counts.field("counts").take(codes), 1)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
