"""Records as Arrow columns, and back: one column per field, its type from the field's annotation.

A column that a reader does not know is ignored, one that it misses takes the record's default: that is what lets old and new
versions read each other's files.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import pyarrow as pa

from cqar.model import exact

R = TypeVar("R", bound=msgspec.Struct)

_ARROW_TYPES: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    datetime: pa.timestamp("us", tz="UTC"),
    Decimal: pa.decimal128(38, 18),
}


def _arrow_type(annotation: Any) -> pa.DataType:
    kind = annotation
    if isinstance(annotation, types.UnionType):
        (kind,) = [member for member in typing.get_args(annotation) if member is not types.NoneType]
    if typing.get_origin(kind) is tuple:
        return pa.list_(pa.string()) if typing.get_args(kind)[0] is str else pa.map_(pa.string(), pa.string())
    if issubclass(kind, enum.IntEnum):
        return pa.int8()
    if issubclass(kind, str):
        return pa.string()
    return _ARROW_TYPES[kind]


def schema_of(record: type[msgspec.Struct]) -> pa.Schema:
    """Give the Parquet columns of a kind of record, from its annotations."""
    hints = typing.get_type_hints(record)
    return pa.schema([pa.field(name, _arrow_type(hints[name])) for name in record.__struct_fields__])


def to_arrow(record: type[msgspec.Struct], rows: Iterable[msgspec.Struct]) -> pa.RecordBatch:
    """Give records of one kind as columns."""
    schema = schema_of(record)
    held = list(rows)
    columns = [pa.array([getattr(row, field.name) for row in held], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def from_arrow(record: type[R], batch: pa.RecordBatch | pa.Table) -> list[R]:
    """Give columns as records; a column that is not there takes the record's default."""
    names = [name for name in record.__struct_fields__ if name in batch.schema.names]
    columns = [_values(batch.column(name)) for name in names]
    rows = (
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*columns, strict=True)
    )
    return msgspec.convert(list(rows), list[record])  # type: ignore[valid-type]


def _values(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if pa.types.is_decimal(column.type):
        return [None if value is None else exact(value) for value in values]
    return values
