"""Resolving many symbols to an Arrow table."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from cqar.answers import Resolution
from cqar.errors import AmbiguousError, CqarError, InvalidError, NotFoundError, UnavailableError

_SCHEMA = pa.schema(
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
_STATUS: dict[type[CqarError], str] = {
    NotFoundError: "NOT_FOUND",
    AmbiguousError: "AMBIGUOUS",
    InvalidError: "INVALID",
    UnavailableError: "UNAVAILABLE",
}


def resolve_many(symbols: Iterable[str], resolve: Callable[[str], Resolution]) -> pa.Table:
    """Resolve each distinct symbol once and spread the answers over the input's rows, in its order."""
    column = symbols if isinstance(symbols, pa.Array | pa.ChunkedArray) else pa.array(symbols, pa.string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = pc.dictionary_encode(column.cast(pa.string()))
    rows = [_row(symbol, resolve) for symbol in encoded.dictionary.to_pylist()]
    rows.append({"status": "INVALID"})  # for nulls
    answers = pa.Table.from_pylist(rows, schema=_SCHEMA)
    indices = pc.fill_null(encoded.indices, len(rows) - 1)
    return answers.take(indices).add_column(0, "symbol", column)


def _row(symbol: str, resolve: Callable[[str], Resolution]) -> dict[str, object]:
    try:
        found = resolve(symbol)
    except tuple(_STATUS) as error:
        return {"status": next(status for kind, status in _STATUS.items() if isinstance(error, kind))}
    deployment = found.deployment
    return {
        "status": "OK",
        "asset_id": found.asset.asset_id,
        "name": found.asset.name,
        "asset_type": found.asset.asset_type,
        "chain_id": deployment.chain_id if deployment else None,
        "contract_address": deployment.contract_address if deployment else None,
        "decimals": deployment.decimals if deployment else None,
        "collisions": len(found.collisions),
    }
