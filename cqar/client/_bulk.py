"""Resolving many symbols to an Arrow table, by the rules that `Client.resolve` follows for one.

Few distinct symbols are looked up one by one and spread over the rows. Many are joined, a block at a time, with the table of
all answers of the generation (`_answers`); looked up one by one is then only what that table cannot tell: symbols that changed
since the generation, whose case matters, or that are out of the ordinary. All rows are true at one position, but for those
that the server was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cqar.client._answers import (
    AMBIGUOUS,
    INVALID,
    NOT_FOUND,
    STATUSES,
    Answers,
    Row,
    answers_of,
    blank_rows,
    chosen_row,
    table_of,
)
from cqar.client._bulk_misses import Misses
from cqar.client._entries import symbol_key
from cqar.client._replica import Replica
from cqar.client._tables import positions
from cqar.client._texts import blocks_of, column_of, parts_of
from cqar.errors import InvalidError
from cqar.model import fold
from cqar.rules.choose import genuine
from cqar.rules.text import SYMBOL_LIMIT, check_symbol

ONE_BY_ONE = 20_000  # distinct symbols up to which making the table of all answers does not pay
_UNDER_LOCK = 1_000  # look-ups in a row that may be repeated with the feed held up
_PIECE = 1 << 17  # rows of the result that are put together at once
_PLAIN = "^[!-~]+( [!-~]+)*$"  # what `check_symbol` has nothing against, if it is not too long
POSITION, SERVER_POSITION = b"cqar.position", b"cqar.server_position"


def resolve_many(symbols: Iterable[str | None], replica: Replica, slug: str, misses: Misses) -> pa.Table:
    """Resolve a column of symbols on a chain, or with "" on none in particular; one row per input, in its order."""
    column = column_of(symbols)
    values, places = parts_of(column)
    if len(values) <= ONE_BY_ONE:
        numbers, answers, position = _one_by_one(values, replica, slug, misses)
    else:
        numbers, answers, position = _joined(values, replica.still(), slug, misses)
    if places is not None:
        numbers = pc.fill_null(numbers.take(places.combine_chunks()), INVALID)
    metadata = {POSITION: str(position)}
    if misses.position is not None:
        metadata[SERVER_POSITION] = str(misses.position)
    return _spread(column, numbers, answers).replace_schema_metadata(metadata)


def _one_by_one(values: Any, replica: Replica, slug: str, misses: Misses) -> tuple[pa.Array, pa.Table, int]:
    symbols = values.to_pylist()

    def read(held: Replica) -> tuple[list[Row | int], int]:
        return [_look(held, slug, symbol) for symbol in symbols], held.position

    if len(symbols) <= _UNDER_LOCK:
        (found, position), _ = replica.consistently(read)
    else:
        found, position = read(replica.still())
    book = _Book(blank_rows(), misses)
    numbers = book.enter(symbols, found)
    return numbers, book.answers(), position


def _joined(values: Any, replica: Replica, slug: str, misses: Misses) -> tuple[pa.Array, pa.Table, int]:
    known = answers_of(replica.generation, slug)
    changed = replica.changed_symbols(slug)
    join = _Join(
        replica,
        slug,
        known,
        changed=positions(pa.array(changed, pa.string()), known.keys).drop_null(),
        careful=pa.array([*known.careful.union(changed)], pa.string()),
    )
    book = _Book(known.rows, misses)
    numbers = pa.concat_arrays([join.numbers(block, book) for block in blocks_of(values)])
    return numbers, book.answers(), replica.position


def _look(replica: Replica, slug: str, symbol: str | None) -> Row | int:
    """Give the row for a symbol, or the number of a blank one; as `_lookup.resolve` and what `Client` makes of it."""
    if symbol is None:
        return INVALID
    text = symbol.strip()
    folded = fold(text)
    candidates = replica.candidates(symbol_key(slug, folded), slug, folded)
    if genuine(candidates):
        return chosen_row(candidates, text) or AMBIGUOUS
    try:
        check_symbol(text)
    except InvalidError:
        return INVALID
    return NOT_FOUND


class _Book:
    """Rows of answers: those that it starts with, and those entered since. A row is told by its number."""

    def __init__(self, first: pa.Table, misses: Misses) -> None:
        self._first, self._entered = first, list[Row]()
        self.misses = misses

    def enter(self, symbols: list[Any], found: list[Row | int]) -> pa.Array:
        """Enter what was found for distinct symbols, once the server was asked for what was not; give their numbers."""
        lacking = [place for place, row in enumerate(found) if row == NOT_FOUND]
        answers = self.misses.ask([symbols[place] for place in lacking])
        for place, row in zip(lacking, answers, strict=True):
            found[place] = row
        return pa.array([row if isinstance(row, int) else self._add(row) for row in found], pa.int32())

    def _add(self, row: Row) -> int:
        self._entered.append(row)
        return len(self._first) + len(self._entered) - 1

    def answers(self) -> pa.Table:
        """Give all rows."""
        if not self._entered:
            return self._first
        return pa.concat_tables([self._first, table_of(self._entered)]).combine_chunks()


class _Join:
    """Looks up blocks of symbols in the table of all answers."""

    def __init__(self, replica: Replica, slug: str, known: Answers, *, changed: pa.Array, careful: pa.Array) -> None:
        self._replica, self._slug, self._keys = replica, slug, known.keys
        self._changed, self._careful = changed, careful

    def numbers(self, block: pa.Array, book: _Book) -> pa.Array:
        """Give the number of each symbol's row."""
        # Lower case in ASCII is enough: a key that a text in another script equals is its folded form, as folding what is
        # folded changes nothing; and what equals no key is looked up one by one if it is not plain.
        lower = pc.ascii_lower(block)
        found = positions(lower, self._keys)
        open_ = pc.is_null(found)
        if len(self._changed):
            open_ = pc.or_(open_, pc.is_in(found, value_set=self._changed))
        numbers = pc.add(found, pa.scalar(len(STATUSES), pa.int32()))  # the blank rows come first
        if not pc.any(open_).as_py():
            return numbers
        rest, rest_lower = block.filter(open_), lower.filter(open_)
        plain = pc.and_(pc.match_substring_regex(rest, _PLAIN), pc.less_equal(pc.binary_length(rest), SYMBOL_LIMIT))
        absent = pc.fill_null(pc.and_not(plain, pc.is_in(rest_lower, value_set=self._careful)), fill_value=False)
        settled = self._settled(rest, absent, book)
        return pc.replace_with_mask(numbers, open_, settled)

    def _settled(self, rest: pa.Array, absent: pa.Array, book: _Book) -> pa.Array:
        settled = pa.repeat(pa.scalar(NOT_FOUND, pa.int32()), len(rest))
        if book.misses.possible:
            settled = _entered(settled, rest, absent, book, lambda _symbol: NOT_FOUND)
        return _entered(settled, rest, pc.invert(absent), book, lambda symbol: _look(self._replica, self._slug, symbol))


def _entered(
    numbers: pa.Array, symbols: pa.Array, mask: pa.Array, book: _Book, look: Callable[[str | None], Row | int]
) -> pa.Array:
    """Put the numbers of what is found for the masked symbols in their places."""
    encoded = symbols.filter(mask).dictionary_encode(null_encoding="encode")
    distinct = encoded.dictionary.to_pylist()
    entered = book.enter(distinct, [look(symbol) for symbol in distinct])
    return pc.replace_with_mask(numbers, mask, entered.take(encoded.indices))


def _spread(column: pa.ChunkedArray, numbers: pa.Array, answers: pa.Table) -> pa.Table:
    """Put the answers beside the symbols, by piece: no array of texts may hold more than 2 GB, and two threads are faster."""
    pieces = [numbers.slice(start, _PIECE) for start in range(0, len(numbers), _PIECE)]
    if len(pieces) > 1:
        with ThreadPoolExecutor(min(4, pa.cpu_count())) as pool:
            tables = list(pool.map(answers.take, pieces))
    else:
        tables = [answers.take(numbers)]
    return pa.concat_tables(tables).add_column(0, "symbol", column)
