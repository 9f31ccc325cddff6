"""What a venue's ticker means at a moment (R6)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cqar.errors import AmbiguousError
from cqar.model import MarketKind, VenueSymbol


def holds(row: VenueSymbol, moment: datetime) -> bool:
    """Tell whether a row's interval contains a moment."""
    return (row.valid_from is None or row.valid_from <= moment) and (row.valid_to is None or moment < row.valid_to)


def current(
    rows: Iterable[VenueSymbol], venue: str, symbol: str, kind: MarketKind | None, moment: datetime
) -> VenueSymbol | None:
    """Give the row that holds at a moment; None if no row does.

    Without a kind, markets that agree on base, quote and multiplier are one answer: the SPOT row if there is one. Raises
    AmbiguousError if they do not agree.
    """
    live = [row for row in rows if (kind is None or row.market_kind is kind) and holds(row, moment)]
    live.sort(key=lambda row: (row.market_kind is not MarketKind.SPOT, row.market_kind, row.venue_symbol_id))
    if len({(row.asset_id, row.quote_asset_id, row.multiplier) for row in live}) > 1:
        kinds = ", ".join([row.market_kind for row in live])
        raise AmbiguousError(
            f"{symbol} on {venue}: means different things as {kinds}; say which kind",
            reason="KIND_AMBIGUOUS",
            venue=venue,
            symbol=symbol,
        )
    return live[0] if live else None
