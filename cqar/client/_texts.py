"""The columns that bulk look-ups take: whatever holds texts, as an Arrow column, without pandas or polars being needed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cqar.errors import InvalidError
from cqar.rules.text import shown

BLOCK = 1 << 20  # rows worked on at once
_SAMPLE = 1 << 16  # rows that tell whether a column repeats itself
_MOST = (1 << 31) - 1  # bytes that an Arrow string array can hold


class Parts(NamedTuple):
    """A column as its values and where they stand. `places` is None if every value has its own place: then it is the column."""

    values: pa.Array | pa.ChunkedArray
    places: pa.ChunkedArray | None


def column_of(symbols: Any) -> pa.ChunkedArray:
    """Give the texts as `string`, `large_string`, or a dictionary of these; what is no text becomes null.

    Takes Arrow arrays, whatever offers them (a Series of pandas or polars, by the Arrow PyCapsule interface), and any iterable.
    InvalidError for a single text, for a table and for a column that does not hold texts.
    """
    column = _offered(symbols)
    if column is None:
        if isinstance(symbols, str | bytes) or not isinstance(symbols, Iterable):
            raise _refused(shown(symbols))
        column = _gathered(symbols)
    kind = column.type
    encoded = pa.types.is_dictionary(kind)
    values = kind.value_type if encoded else kind
    if pa.types.is_null(values):
        return column.cast(pa.string())
    if pa.types.is_string(values) or pa.types.is_large_string(values):
        return column
    if not _is_view(values):
        raise _refused(f"a column of {kind}")
    plain = pa.string() if column.nbytes < _MOST else pa.large_string()
    # Few of Arrow's functions know views yet: a caller could not even filter the rows of the result.
    if not encoded:
        return column.cast(plain)
    chunks = [pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(plain)) for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.dictionary(kind.index_type, plain))


def parts_of(column: pa.ChunkedArray) -> Parts:
    """Tell the values that a column repeats from where they stand, unless hardly any come twice."""
    if pa.types.is_dictionary(column.type):
        return _used(column.unify_dictionaries())
    head = column.slice(0, _SAMPLE)
    if len(column) >= _SAMPLE and pc.count_distinct(head).as_py() > _SAMPLE // 2:
        return Parts(column, None)
    return _split(pc.dictionary_encode(column))


def blocks_of(values: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array]:
    """Give a column in arrays of at most BLOCK values, however it is chunked."""
    for start in range(0, len(values), BLOCK):
        block = values.slice(start, BLOCK)
        if isinstance(block, pa.ChunkedArray):
            block = block.combine_chunks() if block.nbytes < _MOST else block.cast(pa.large_string()).combine_chunks()
        yield block


def _split(encoded: pa.ChunkedArray) -> Parts:
    places = pa.chunked_array([chunk.indices for chunk in encoded.chunks], encoded.type.index_type)
    return Parts(encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], encoded.type.value_type), places)


def _used(encoded: pa.ChunkedArray) -> Parts:
    """Leave out what is in a dictionary and in no row: the server would be asked for it in vain."""
    values, places = _split(encoded)
    assert places is not None
    used = pc.unique(places).drop_null()
    if len(used) == len(values):
        return Parts(values, places)
    return Parts(values.take(used), pc.index_in(places, value_set=used))


def _offered(symbols: Any) -> pa.ChunkedArray | None:
    """Give the column of what speaks Arrow, None if it does not, or cannot say what it holds in Arrow's types."""
    if isinstance(symbols, pa.ChunkedArray):
        return symbols
    if isinstance(symbols, pa.Array):
        return pa.chunked_array([symbols])
    try:
        if hasattr(symbols, "__arrow_c_stream__"):
            return pa.chunked_array(symbols)
        if hasattr(symbols, "__arrow_c_array__") or hasattr(symbols, "__arrow_array__"):
            offered = pa.array(symbols)
            return offered if isinstance(offered, pa.ChunkedArray) else pa.chunked_array([offered])
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):  # a Series of objects, of several types
        pass
    return None


def _gathered(symbols: Iterable[Any]) -> pa.ChunkedArray:
    values = list(symbols)
    if not set(map(type, values)) <= {str, type(None)}:
        values = [value if isinstance(value, str) else None for value in values]  # Arrow would take bytes for text
    try:
        column = pa.array(values, pa.string())
    except UnicodeEncodeError:  # a lone surrogate, which is in no symbol
        column = pa.array([value if value is None or _is_sound(value) else None for value in values], pa.string())
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def _is_sound(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_view(kind: pa.DataType) -> bool:
    return bool(kind == pa.string_view())


def _refused(what: str) -> InvalidError:
    return InvalidError(
        f"symbols: give a column or an iterable of texts (an Arrow array of strings, a Series, a list), not {what}",
        reason="TEXT",
        field="symbols",
    )
