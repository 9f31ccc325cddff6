"""The client's lists and search, as SQL over the replica's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cqar.arrow import from_arrow
from cqar.errors import InvalidError
from cqar.model import Asset, AssetType

Query = Callable[[str, Sequence[Any] | Mapping[str, Any] | None], tuple[pa.Table, int]]

MAX_LIMIT = 1000  # of one search (R15)

_ON_CHAIN = "asset_id IN (SELECT asset_id FROM asset_deployments WHERE chain_id = $chain)"
_ON_VENUE = """asset_id IN (
    SELECT unnest([asset_id, quote_asset_id, settle_asset_id]) FROM venue_symbols WHERE venue_id = $venue)"""

# 0: a field equals the text; 1: the symbol or name begins with it; 2: one of them contains it. Letters only: no pattern signs.
_SEARCH = """
WITH hits AS (
    SELECT asset_id, min(rank) AS rank FROM (
        SELECT asset_id, CASE
            WHEN lower(symbol) = lower($text) OR asset_id = lower($text) OR lower(name) = lower($text) THEN 0
            WHEN starts_with(lower(symbol), lower($text)) OR starts_with(lower(name), lower($text)) THEN 1
            ELSE 2 END AS rank
        FROM assets
        WHERE contains(lower(symbol), lower($text)) OR contains(lower(name), lower($text)) OR asset_id = lower($text)
        UNION ALL
        SELECT asset_id, 0 FROM asset_deployments WHERE contract_address IN ($text, lower($text))
        UNION ALL
        SELECT asset_id, 0 FROM asset_identifiers WHERE external_id = $text
        UNION ALL
        SELECT asset_id, 0 FROM venue_symbols WHERE symbol = $text
    ) GROUP BY asset_id)
SELECT assets.* FROM assets JOIN hits USING (asset_id)
WHERE {conditions}
ORDER BY hits.rank, (assets.symbol = $text) DESC, length(assets.symbol), assets.symbol, assets.asset_id LIMIT $limit
"""


def _conditions(chain: str | None, venue: str | None, asset_type: AssetType | None) -> tuple[str, dict[str, Any]]:
    conditions, values = ["true"], dict[str, Any]()
    if chain is not None:
        conditions.append(_ON_CHAIN)
        values["chain"] = chain
    if venue is not None:
        conditions.append(_ON_VENUE)
        values["venue"] = venue
    if asset_type is not None:
        conditions.append("asset_type = $asset_type")
        values["asset_type"] = str(asset_type)
    return " AND ".join(conditions), values


def search(
    query: Query, text: str, *, chain: str | None, venue: str | None, asset_type: AssetType | None, limit: int
) -> tuple[Asset, ...]:
    """Find assets by a text; the ranks are those of the server's SearchAssets (R15)."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidError(f"limit: {limit} is not within 1 to {MAX_LIMIT}", reason="RANGE", field="limit")
    conditions, values = _conditions(chain, venue, asset_type)
    rows, _ = query(_SEARCH.format(conditions=conditions), {**values, "text": text.strip(), "limit": limit})
    return tuple(from_arrow(Asset, rows))


def list_assets(
    query: Query, *, chain: str | None, venue: str | None, asset_type: AssetType | None, limit: int | None
) -> tuple[Asset, ...]:
    """Give the assets that meet all conditions, sorted by symbol and id."""
    conditions, values = _conditions(chain, venue, asset_type)
    statement = f"SELECT * FROM assets WHERE {conditions} ORDER BY symbol, asset_id"
    if limit is not None:
        statement += " LIMIT $limit"
        values["limit"] = limit
    rows, _ = query(statement, values or None)
    return tuple(from_arrow(Asset, rows))
