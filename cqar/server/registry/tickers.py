"""What is traded where: what a ticker means on a venue and when, and which assets and venues that brings together (R6)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from cqar.answers import Listing
from cqar.errors import ConflictError, CqarError
from cqar.model import ASSET, VENUE, VENUE_SYMBOL, Asset, MarketKind, Venue, VenueSymbol, fold, names_of
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
    attempted,
    chosen_name,
    named,
    not_found,
    page_size,
    patched,
    require_fresh_id,
    require_known_asset,
    required,
    required_for_update,
    required_name,
    taken,
    writes,
    written,
)
from cqar.server.registry.resolve import TickerKey
from cqar.server.transaction import Tx

TICKERS = 10_000  # that a page of listings holds at most, or ten for each venue: USDT has thousands on some


class ListingPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the venues that list an asset; with a token there are more."""

    listings: tuple[Listing, ...]
    next_page_token: str = ""
    position: int = 0


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticker means."""

    record: VenueSymbol
    other_kinds: tuple[MarketKind, ...]  # that bear the ticker now too
    rows: tuple[VenueSymbol, ...]  # all of the ticker, of any time
    seconds: float  # until it may mean something else
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

    def get_venue_symbols(self, venue_symbol_ids: Sequence[str]) -> list[Answer[VenueSymbol] | CqarError]:
        """Give the venue symbol with each id, or the error in its place."""
        return self._get_many(VENUE_SYMBOL, venue_symbol_ids, "venue_symbol_id")

    def get_venue_symbol_now(
        self, venue: str, symbol: str, market_kind: MarketKind | None = None
    ) -> Answer[VenueSymbol]:
        """Give what a ticker means now.

        Raises NotFoundError, and AmbiguousError if it means different things in markets of different kinds (R6).
        """
        (meaning,) = self.get_venue_symbols_now([TickerKey(venue, symbol, market_kind)])
        if isinstance(meaning, CqarError):
            raise meaning
        return Answer(record=meaning.record, position=meaning.position)

    def get_venue_symbols_now(self, keys: Sequence[TickerKey]) -> list[Meaning | CqarError]:
        """Give what each ticker means now, or the error in its place; all at one position."""
        now = self._store.now()
        words = {fold(key.venue.strip()) for key in keys}
        with self._store.view() as view:
            venues: dict[str, list[Venue]] = defaultdict(list)
            for venue in view.find(VENUE, any_name=sorted(words)):
                for (name,) in names_of(venue):
                    venues[name].append(venue)
            places = sorted({venue.venue_id for found in venues.values() for venue in found})
            symbols = sorted({key.symbol.strip() for key in keys})
            rows: dict[tuple[str, str], list[VenueSymbol]] = defaultdict(list)
            for row in view.find(VENUE_SYMBOL, venue_id=places, symbol=symbols):
                rows[row.venue_id, row.symbol].append(row)
            position = view.position

        def meaning(key: TickerKey) -> Meaning:
            symbol = check_text(key.symbol, "symbol", 64)
            word = required_name(key.venue, "venue")
            place = chosen_name(VENUE, venues[word], word, "venue").venue_id
            known = rows[place, symbol]
            found = current(known, place, symbol, key.market_kind, now)
            if found is None:
                raise not_found(VENUE_SYMBOL, f"{symbol} on {place} now", field="symbol", venue=place, symbol=symbol)
            bounds = [bound for row in known for bound in (row.valid_from, row.valid_to) if bound and bound > now]
            left = (min(bounds) - now).total_seconds() if bounds else math.inf
            row, others = found
            return Meaning(record=row, other_kinds=others, rows=tuple(known), seconds=left, position=position)

        return [attempted(meaning, key) for key in keys]

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
