"""What is traded where: what a ticker means on a venue and when, and which assets and venues that brings together (R6)."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from cqar.answers import Listing
from cqar.errors import ConflictError
from cqar.model import ASSET, VENUE, VENUE_SYMBOL, Asset, MarketKind, VenueSymbol
from cqar.patches import VenueSymbolPatch
from cqar.rules.records import normal
from cqar.rules.text import check_text
from cqar.rules.tickers import current
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    Done,
    Page,
    PageRequest,
    named,
    not_found,
    page_size,
    patched,
    require_fresh_id,
    require_known_asset,
    required,
    required_for_update,
    taken,
    writes,
    written,
)
from cqar.server.transaction import Tx

TICKERS = 10_000  # that a page of listings holds at most, or ten for each venue: USDT has thousands on some


class ListingPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the venues that list an asset; with a token there are more."""

    listings: tuple[Listing, ...]
    next_page_token: str = ""
    position: int = 0


class Tickers(Base):
    """The operations on venue symbols."""

    @writes()
    def create_venue_symbol(self, tx: Tx, venue_symbol: VenueSymbol) -> Answer[VenueSymbol]:
        """Record what a ticker means during an interval.

        Raises InvalidError, NotFoundError, and ConflictError if the ticker has a meaning at some instant of it (R6).
        """
        venue = named(tx, VENUE, venue_symbol.venue_id, "venue_id")
        row = normal(msgspec.structs.replace(venue_symbol, venue_id=venue.venue_id))
        require_fresh_id(tx, VENUE_SYMBOL, row)
        require_free_interval(tx, row)
        return Answer(record=tx.put(row))

    @writes()
    def update_venue_symbol(
        self, tx: Tx, venue_symbol_id: str, patch: VenueSymbolPatch, expected_position: int | None = None
    ) -> Answer[VenueSymbol]:
        """Change some fields of a venue symbol; `valid_to` closes its interval.

        Raises NotFoundError, InvalidError, ConflictError if the ticker has another meaning at some instant, and StaleError.
        """
        before = required_for_update(tx, VENUE_SYMBOL, venue_symbol_id, "venue_symbol_id", expected_position)
        after = patched(before, patch)
        require_free_interval(tx, after)
        return written(tx, before, after)

    @writes()
    def delete_venue_symbol(self, tx: Tx, venue_symbol_id: str, expected_position: int | None = None) -> Done:
        """Take back that a ticker ever meant this; what has ended is closed by an update, not deleted.

        Nothing refers to a venue symbol. Raises NotFoundError and StaleError.
        """
        tx.remove(required_for_update(tx, VENUE_SYMBOL, venue_symbol_id, "venue_symbol_id", expected_position))
        return Done()

    def get_venue_symbol(self, venue_symbol_id: str) -> Answer[VenueSymbol]:
        """Give a venue symbol by its id; raises NotFoundError."""
        return self._get(VENUE_SYMBOL, venue_symbol_id, "venue_symbol_id")

    def get_venue_symbol_now(
        self, venue: str, symbol: str, market_kind: MarketKind | None = None
    ) -> Answer[VenueSymbol]:
        """Give what a ticker means now.

        Raises NotFoundError, and AmbiguousError if it means different things in markets of different kinds (R6).
        """
        symbol = check_text(symbol, "symbol", 64)
        with self._store.view() as view:
            place = named(view, VENUE, venue, "venue").venue_id
            rows = view.find(VENUE_SYMBOL, venue_id=place, symbol=symbol)
            found = current(rows, place, symbol, market_kind, self._store.now())
            if found is None:
                raise not_found(VENUE_SYMBOL, f"{symbol} on {place} now", field="symbol", venue=place, symbol=symbol)
            return Answer(record=found, position=view.position)

    def list_venue_symbols(
        self,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        asset_id: str | None = None,
        market_kind: MarketKind | None = None,
        page: PageRequest = FIRST_PAGE,
    ) -> Page[VenueSymbol]:
        """List venue symbols of any time, by venue, ticker, asset (as base, quote or settle) and market kind."""
        with self._store.view() as view:
            filters = {
                "venue_id": None if venue is None else named(view, VENUE, venue, "venue").venue_id,
                "symbol": None if symbol is None else symbol.strip(),
                "any_asset_id": require_known_asset(view, asset_id),
                "market_kind": market_kind,
            }
            found = self._page("list_venue_symbols", VENUE_SYMBOL, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    def list_venue_assets(self, venue: str, *, page: PageRequest = FIRST_PAGE) -> Page[Asset]:
        """List the assets that a ticker of a venue has now as base, quote or settle asset; raises NotFoundError."""
        with self._store.view() as view:
            filters = {"on_venue_now": named(view, VENUE, venue, "venue").venue_id}
            found = self._page("list_venue_assets", ASSET, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    def list_asset_venues(
        self, asset_id: str, *, include_inactive: bool = False, page: PageRequest = FIRST_PAGE
    ) -> ListingPage:
        """List the venues where a ticker has an asset now as base, quote or settle asset, each with the first such tickers.

        Raises NotFoundError if there is no such asset.
        """
        with self._store.view() as view:
            asset_id = required(view, ASSET, asset_id, "asset_id").asset_id
            filters = {"lists_now": asset_id, "is_active": None if include_inactive else True}
            found = self._page("list_asset_venues", VENUE, page, view, filters)
            each = max(10, TICKERS // page_size(page))
            symbols: defaultdict[str, list[VenueSymbol]] = defaultdict(list)
            counts: dict[str, int] = {}
            for row, count in view.listings(asset_id, [venue.venue_id for venue in found.records], each):
                symbols[row.venue_id].append(row)
                counts[row.venue_id] = count
            listings = [
                Listing(venue=venue, venue_symbols=tuple(symbols[venue.venue_id]), symbol_count=counts[venue.venue_id])
                for venue in found.records
            ]
            return ListingPage(listings=tuple(listings), next_page_token=found.next_page_token, position=view.position)


def require_free_interval(tx: Tx, row: VenueSymbol) -> None:
    """Raise ConflictError if the ticker means something else at some instant; keeps others from giving it a meaning."""
    # Without the lock two writers meet in the exclusion constraint, as a deadlock that takes a second to be noticed.
    tx.lock(f"ticker {row.venue_id} {row.symbol}")
    for other in tx.find(VENUE_SYMBOL, venue_id=row.venue_id, symbol=row.symbol, market_kind=row.market_kind):
        if other.venue_symbol_id != row.venue_symbol_id and overlaps(other, row):
            raise interval_taken(other)


def overlaps(one: VenueSymbol, other: VenueSymbol) -> bool:
    """Tell whether two intervals have an instant in common: starts are inclusive, ends exclusive."""
    starts_in_time = one.valid_from is None or other.valid_to is None or one.valid_from < other.valid_to
    ends_late = other.valid_from is None or one.valid_to is None or other.valid_from < one.valid_to
    return starts_in_time and ends_late


def interval_taken(other: VenueSymbol) -> ConflictError:
    """Give the error for an interval in which the ticker has a meaning already."""
    since, until = other.valid_from or "ever", other.valid_to or "for ever"
    return taken(
        VENUE_SYMBOL,
        other.venue_symbol_id,
        f"{other.symbol} on {other.venue_id} ({other.market_kind}) is asset {other.asset_id} since {since}, until {until}",
        reason="INTERVAL_OVERLAP",
    )
