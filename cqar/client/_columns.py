"""Records as columns, turned into msgpack a column at a time: what msgspec gives for each record, without making the records.

A generation of a million deployments is written from a few million entries; making each record, and encoding it, takes most of a
minute. Here every field becomes a column of fragments (name, header, value), and Arrow joins the fragments of each row. The bytes
are those of `msgspec.msgpack.encode(record)`; `tests/unit/test_columns.py` holds both against each other.
"""

from __future__ import annotations

import array
import enum
import functools
import sys
import types
import typing
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from cqar.arrow import from_arrow, schema_of
from cqar.client._entries import array_head, sized
from cqar.model import KINDS, QUALITY_FLAG, Record, exact

BYTES = pa.large_binary()  # 64-bit offsets: a column of encoded records may outgrow 2 GB
TEXT = pa.large_string()
_JOIN: Any = {"null_handling": "replace", "null_replacement": ""}
_YEAR_1, _YEAR_9999 = -62_135_596_800_000_000, 253_402_300_799_999_999  # microseconds: what `datetime` can tell

_encode = msgspec.msgpack.Encoder().encode


class Field(NamedTuple):
    """What a column's values may be, and how the record's encoder treats them."""

    name: str
    type: type  # without its None
    required: bool
    default: Any


@functools.cache
def _fields(kind: str) -> tuple[Field, ...]:
    record = KINDS[kind].record
    hints = typing.get_type_hints(record)
    return tuple(
        [
            Field(info.name, _bare(hints[info.name]), info.required, info.default)
            for info in msgspec.structs.fields(record)
        ]
    )


def _bare(annotation: Any) -> type:
    if isinstance(annotation, types.UnionType):
        (annotation,) = [member for member in typing.get_args(annotation) if member is not types.NoneType]
    bare: type = typing.get_origin(annotation) or annotation
    return bare


# --- reading ---------------------------------------------------------------------------------------------------------


def columns(kind: str, rows: pa.Table | pa.RecordBatch) -> pa.Table:
    """Give the columns of a kind, each in one piece, sorted by key.

    A column that the writer did not know is null, one that we do not is left out.
    """
    schema = schema_of(KINDS[kind].record)
    held = [
        _whole(rows.column(field.name), field.type)
        if field.name in rows.schema.names
        else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    made = pa.table(held, names=schema.names)
    order = order_of(keys_of(kind, made))
    return made if order is None else made.take(order)


def _whole(column: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.Array:
    target = TEXT if pa.types.is_string(kind) else kind
    return whole(column.cast(target))


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Give a column as one array."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def readable(kind: str, rows: pa.Table, *, as_mended: bool = False) -> pa.Array | None:
    """Tell which rows this version can read as records; None if it can read all, which is the rule.

    A newer server may know kinds of assets, flags or markets that we do not; what `mended` makes of those can be read.
    """
    doubtful = []
    for field in _fields(kind):
        column = whole(rows.column(field.name))
        if column.null_count and (field.required or field.name in KINDS[kind].key):
            doubtful.append(pc.is_valid(column))
        if issubclass(field.type, enum.Enum):
            known = _known(field, column, as_mended=as_mended)
            doubtful.append(pc.or_(pc.is_null(column), pc.is_in(column, value_set=known)))
        elif field.type is datetime:
            doubtful.append(_is_told(column))
    verdict = functools.reduce(pc.and_, doubtful) if doubtful else None
    return None if verdict is None or pc.all(verdict, min_count=0).as_py() else verdict


def _known(field: Field, column: pa.Array, *, as_mended: bool = False) -> pa.Array:
    """Return the values that an enum's column may have."""
    members: Any = [*field.type, field.type.UNKNOWN] if as_mended else field.type  # type: ignore[misc, attr-defined]
    return pa.array([member.value for member in members], column.type)


def _is_told(column: pa.Array) -> pa.Array:
    """Report which times are null, or of the years that `datetime` can tell."""
    moment = column.cast(pa.int64())
    return pc.and_(pc.greater_equal(moment, _YEAR_1), pc.less_equal(moment, _YEAR_9999)).fill_null(True)


def mended(kind: str, rows: pa.Table) -> pa.Table:
    """Return rows with what this version can tell of them, as `wire.readable_from_wire` does: UNKNOWN for what an enum has not.

    Of quality flags nothing but a missing key keeps them from being told.
    """
    for number, field in enumerate(_fields(kind)):
        column = whole(rows.column(field.name))
        if issubclass(field.type, enum.Enum):
            unknown = pa.scalar(field.type.UNKNOWN.value, column.type)  # type: ignore[attr-defined]
            column = pc.if_else(pc.is_in(column, value_set=_known(field, column)), column, unknown)
        elif kind != QUALITY_FLAG.name:
            continue
        elif field.type is datetime:
            column = pc.if_else(_is_told(column), column, pa.scalar(None, column.type))
        elif field.required:
            column = column.fill_null("")
        rows = rows.set_column(number, field.name, column)
    return rows


def keys_of(kind: str, rows: pa.Table) -> pa.Array:
    """Give the keys of the records."""
    parts = [whole(rows.column(name)).fill_null("") for name in KINDS[kind].key]
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, pa.scalar("/", TEXT))


def order_of(keys: pa.Array) -> pa.Array | None:
    """Give the order that sorts the keys by their bytes, keeping equal ones as they are; None if they are sorted already."""
    if len(keys) < 2 or pc.all(pc.less_equal(keys[:-1], keys[1:])).as_py():
        return None
    return pc.sort_indices(keys)


# --- encoding --------------------------------------------------------------------------------------------------------


def encode(kind: str, rows: pa.Table) -> pa.Array:
    """Encode readable rows as msgspec would encode the records."""
    fields = _fields(kind)
    always = 0  # fields that no row leaves out
    present = []  # for each other field, which rows have it
    fragments: list[pa.Array | pa.Scalar] = []
    for field in fields:
        made = _fragments(field, whole(rows.column(field.name)))
        if made[0].null_count == len(rows):
            continue
        fragments += made
        if made[0].null_count:
            present.append(made[0].is_valid().cast(pa.int8()))
        else:
            always += 1
    counts = functools.reduce(pc.add, present, pa.scalar(always, pa.int8()))
    heads = pa.array([_map_head(number, len(fields)) for number in range(len(fields) + 1)], BYTES)
    head = heads[always] if isinstance(counts, pa.Scalar) else heads.take(counts)
    return join(head, *fragments) if len(rows) else pa.array([], BYTES)


def join(*fragments: pa.Array | pa.Scalar | bytes) -> pa.Array:
    """Join the fragments of each row; null is nothing."""
    parts = [pa.scalar(part, BYTES) if isinstance(part, bytes) else part.cast(BYTES) for part in fragments]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", BYTES), **_JOIN)


def joined(rows: pa.Array, offsets: pa.Array) -> pa.Array:
    """Join the fragments from each offset up to the next, as a msgpack array."""
    counts = pc.subtract(offsets[1:], offsets[:-1])
    lists = pa.LargeListArray.from_arrays(offsets, rows)
    return join(_looked_up(counts, array_head), pc.binary_join(lists, pa.scalar(b"", BYTES)))


def text(column: pa.Array, prefix: bytes = b"") -> list[pa.Array]:
    """Give header and bytes of each text, as two columns of fragments; the prefix goes before the header."""
    return [
        _looked_up(pc.binary_length(column), lambda length: prefix + _text_head(length)),
        column.cast(BYTES),
    ]


def _fragments(field: Field, column: pa.Array) -> list[pa.Array]:
    """Give the columns that make up a field, name included; null where the record's encoder leaves the field out."""
    name = _encode(field.name)
    if field.type is datetime:
        return _times(column, name)
    if field.type is bool or issubclass(field.type, int | Decimal):
        convert: Callable[[Any], Any] = exact if field.type is Decimal else (lambda value: value)
        omitted = field.default if field.type is bool else None
        return [_looked_up(column, lambda value: None if value is omitted else name + _encode(convert(value)))]
    if field.type is tuple:
        return [pa.array([name + _encode(value) if value else None for value in column.to_pylist()], BYTES)]
    if field.default == "":
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, TEXT), column)
    return text(column, name)


def _looked_up(column: pa.Array, make: Callable[[Any], bytes | None]) -> pa.Array:
    """Give `make(value)` for each value, made once for each distinct one; null for null."""
    found = column.dictionary_encode()
    return pa.array([make(value) for value in found.dictionary.to_pylist()], BYTES).take(found.indices)


def _times(column: pa.Array, name: bytes) -> list[pa.Array]:
    """Encode times as msgpack timestamps of 32 bits (whole seconds) or 64 bits."""
    micros = column.cast(pa.int64())
    seconds = pc.divide(micros, 1_000_000)
    extremes = pc.min_max(micros).as_py()
    if extremes["min"] is None or extremes["min"] < 0 or extremes["max"] >= 2**32 * 1_000_000:
        return [_looked_up(column, lambda moment: name + _encode(moment))]
    fraction = pc.multiply(pc.subtract(micros, pc.multiply(seconds, 1_000_000)), 1000)
    packed = pc.bit_wise_or(
        pc.shift_left(fraction.cast(pa.uint64()), pa.scalar(34, pa.uint64())), seconds.cast(pa.uint64())
    )
    wide = _big_endian(packed.fill_null(0))
    is_whole = pc.equal(fraction, 0)
    head = pc.if_else(is_whole, pa.scalar(name + b"\xd6\xff", BYTES), pa.scalar(name + b"\xd7\xff", BYTES))
    body = pc.if_else(is_whole, pc.binary_slice(wide, 4, 8), wide)
    return [head, body]


def _big_endian(numbers: pa.Array) -> pa.Array:
    """Give 64-bit numbers as 8 bytes each, the high one first."""
    swapped = array.array("Q")
    swapped.frombytes(memoryview(numbers.buffers()[1])[8 * numbers.offset : 8 * (numbers.offset + len(numbers))])
    if sys.byteorder == "little":
        swapped.byteswap()
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(8), len(numbers), [None, pa.py_buffer(swapped.tobytes())])
    return fixed.cast(BYTES)


# --- msgpack headers -------------------------------------------------------------------------------------------------


def _text_head(length: int) -> bytes:
    return sized(length, 32, 0xA0, (0xD9, 1), (0xDA, 2), (0xDB, 4))


def _map_head(length: int, most: int) -> bytes:
    """Give the header of a map; the encoder chooses its width by how many fields there may be."""
    return bytes([0x80 | length]) if most < 16 else b"\xde" + length.to_bytes(2, "big")


# --- texts -----------------------------------------------------------------------------------------------------------


def mapped(texts: Sequence[str], function: Callable[[str], str]) -> list[str]:
    """Apply a function to many texts at once, as lines of one. It must treat each character by itself, or only with marks.

    One call over a million symbols takes a tenth of a million calls.
    """
    whole_text = function("\n".join(texts))
    found = whole_text.split("\n") if texts else []
    return found if len(found) == len(texts) else [function(each) for each in texts]


def records_of(rows: pa.Table, kind: str) -> list[Record]:
    """Give rows as records; for few of them."""
    return from_arrow(KINDS[kind].record, rows)
