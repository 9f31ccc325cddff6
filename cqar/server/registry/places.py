"""Where assets live and trade: chains, venues, and what tickers mean on venues."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from cqar.errors import ConflictError, CqarError
from cqar.model import (
    CHAIN,
    VENUE,
    VENUE_SYMBOL,
    Chain,
    Kind,
    MarketKind,
    Venue,
    VenueSymbol,
    VenueType,
    fold,
    names_of,
)
from cqar.rules.records import normal
from cqar.rules.text import check_text
from cqar.rules.tickers import current
from cqar.server.registry._base import (
    FIRST_PAGE,
    Answer,
    Base,
    N,
    Page,
    PageRequest,
    attempted,
    chosen_name,
    named,
    not_found,
    own_names,
    require_fresh_id,
    require_known_asset,
    required_name,
    taken,
    writes,
)
from cqar.server.transaction import Tx


class TickerKey(msgspec.Struct, frozen=True):
    """A question for the meaning of a ticker."""

    venue: str
    symbol: str
    market_kind: MarketKind | None = None


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What a ticker means."""

    record: VenueSymbol
    rows: tuple[VenueSymbol, ...]  # all of the ticker, of any time
    seconds: float  # until it may mean something else
    position: int = 0


class Places(Base):
    """The operations on chains, venues and venue symbols."""

    @writes()
    def create_chain(self, tx: Tx, chain: Chain) -> Answer[Chain]:
        """Register a chain. Raises InvalidError, NotFoundError, and ConflictError if another has one of its names (R5)."""
        chain = normal(chain)
        require_free_names(tx, CHAIN, chain)
        return Answer(record=tx.put(chain))

    def get_chain(self, chain: str) -> Answer[Chain]:
        """Give a chain by any of its names; raises NotFoundError and AmbiguousError."""
        with self._store.view() as view:
            return Answer(record=named(view, CHAIN, chain, "chain"), position=view.position)

    def list_chains(self, *, include_inactive: bool = False, page: PageRequest = FIRST_PAGE) -> Page[Chain]:
        """List chains."""
        with self._store.view() as view:
            filters = {"is_active": None if include_inactive else True}
            found = self._page("list_chains", CHAIN, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    @writes()
    def create_venue(self, tx: Tx, venue: Venue) -> Answer[Venue]:
        """Register a venue. Raises InvalidError, NotFoundError, and ConflictError if another has one of its names."""
        if venue.chain_id:
            venue = msgspec.structs.replace(venue, chain_id=named(tx, CHAIN, venue.chain_id, "chain_id").chain_id)
        venue = normal(venue)
        require_free_names(tx, VENUE, venue)
        return Answer(record=tx.put(venue))

    def get_venue(self, venue: str) -> Answer[Venue]:
        """Give a venue by any of its names; raises NotFoundError and AmbiguousError."""
        with self._store.view() as view:
            return Answer(record=named(view, VENUE, venue, "venue"), position=view.position)

    def list_venues(
        self, *, venue_type: VenueType | None = None, include_inactive: bool = False, page: PageRequest = FIRST_PAGE
    ) -> Page[Venue]:
        """List venues by type."""
        with self._store.view() as view:
            filters = {"venue_type": venue_type, "is_active": None if include_inactive else True}
            found = self._page("list_venues", VENUE, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    @writes()
    def create_venue_symbol(self, tx: Tx, venue_symbol: VenueSymbol) -> Answer[VenueSymbol]:
        """Record what a ticker means during an interval.

        Raises InvalidError, NotFoundError, and ConflictError if the ticker has a meaning at some instant of it (R6).
        """
        venue = named(tx, VENUE, venue_symbol.venue_id, "venue_id")
        row = normal(msgspec.structs.replace(venue_symbol, venue_id=venue.venue_id))
        require_fresh_id(tx, VENUE_SYMBOL, row)
        # Without the lock two writers meet in the exclusion constraint, as a deadlock that takes a second to be noticed.
        tx.lock(f"ticker {row.venue_id} {row.symbol}")
        same = tx.find(VENUE_SYMBOL, venue_id=row.venue_id, symbol=row.symbol, market_kind=row.market_kind)
        for other in same:
            if overlaps(other, row):
                raise interval_taken(other)
        return Answer(record=tx.put(row))

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
            return Meaning(record=found, rows=tuple(known), seconds=left, position=position)

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


def require_free_names(tx: Tx, kind: Kind[N], record: N) -> None:
    """Raise ConflictError if another chain or venue has one of the names; keeps others from taking them meanwhile."""
    tx.lock(kind.table)
    names = own_names(record)
    for other in tx.find(kind, any_name=sorted(names)):
        if kind.key_of(other) == kind.key_of(record):
            raise taken(kind, kind.key_of(other), f"{kind.name} {kind.key_of(other)} is there already")
        raise_if_shared(kind, names, other)


def raise_if_shared(kind: Kind[N], names: set[str], other: N) -> None:
    """Raise ConflictError if the other chain or venue has one of the names for its own."""
    shared = names & own_names(other)
    if shared:
        key = kind.key_of(other)
        raise taken(kind, key, f"{min(shared)} is a name of {kind.name} {key}", reason="NAME_TAKEN")


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
