"""A venue's own names for assets, from CSV: the ticker, and who says what it means.

Three forms, told apart by their header: the ticker's code in ccxt, its CoinGecko id, or its contract.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from cqar.errors import AmbiguousError, CqarError, InvalidError, NotFoundError
from cqar.importers._codes import Codes, fitted
from cqar.importers._files import read_csv
from cqar.importers._lookups import Answer, Lookups, Place
from cqar.importers._plan import REFUSALS, Importer, Options, Parsed, Plan, Row, once
from cqar.model import Asset, MarketKind, VenueSymbol
from cqar.rules.addresses import normalise_address
from cqar.rules.records import normal
from cqar.rules.tickers import multiple_of

CCXT = ("venue", "venue_symbol", "unified_symbol")
COINGECKO = ("coingecko_market_id", "venue_symbol", "coingecko_id")
CONTRACT = ("venue", "venue_symbol", "chain", "address")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A ticker with the words that tell what it means; the empty ones are not given."""

    venue: str
    ticker: str
    unified: str = ""
    is_default: bool = False  # said of every venue, whether it has the ticker or not
    coingecko: str = ""
    chain: str = ""
    address: str = ""

    @property
    def key(self) -> str:
        """Venue and ticker."""
        return f"{self.venue}/{self.ticker}"


def parse(path: Path) -> Parsed[Entry]:
    """Read one of the three forms."""
    table = read_csv(path, required=[CCXT, COINGECKO, CONTRACT])
    rows = [
        Row(
            number,
            Entry(
                venue=values.get("venue") or values.get("coingecko_market_id") or "",
                ticker=values["venue_symbol"],
                unified=values.get("unified_symbol", ""),
                is_default=values.get("kind") == "default",
                coingecko=values.get("coingecko_id") or values.get("coingecko") or "",
                chain=values.get("chain", ""),
                address=values.get("address", ""),
            ),
        )
        for number, values in table.rows
    ]
    return Parsed(path, table.provenance, rows, table.refused)


def plan(parsed: Parsed[Entry], lookups: Lookups, options: Options) -> Plan:
    """Plan a ticker of kind ASSET for each row."""
    made = Plan()
    entries = [entry for _, entry in parsed.rows]
    codes = Codes(lookups, options, {entry.unified for entry in entries if entry.unified})
    places = {entry.key: place for entry in entries if (place := _place(entry, lookups)) is not None}
    at = lookups.at(places.values())
    identified = lookups.identified([("coingecko", entry.coingecko) for entry in entries if entry.coingecko])
    seen: set[tuple[str, str]] = set()
    for number, entry in parsed.rows:
        with made.row(number, entry.key):
            if not entry.venue or entry.is_default:
                raise InvalidError(f"{entry.ticker} is said of every venue, not of one", reason="NO_VENUE")
            venue = lookups.venues[entry.venue].venue_id
            once((venue, entry.ticker), seen, f"{entry.ticker} on {venue}")
            if entry.unified:
                asset = codes.by_symbol(venue, entry.ticker, entry.unified)
            elif entry.chain:
                place = places.get(entry.key) or (entry.chain, _address(entry, lookups))
                asset = _found(entry, at[place])
            elif entry.coingecko:
                asset = _found(entry, identified["coingecko", entry.coingecko])
            else:
                raise NotFoundError(f"{entry.ticker} on {venue}: the file does not say what it is", reason="UNMAPPED")
            row = VenueSymbol(
                venue_id=venue,
                symbol=entry.ticker,
                market_kind=MarketKind.ASSET,
                asset_id=asset.asset_id,
                multiplier=multiple_of(entry.ticker, asset.symbol),
                provenance=parsed.provenance,
            )
            known = lookups.tickers(venue).get(entry.ticker, ())
            made.add(number, entry.key, normal(fitted(row, known, options.as_of, replace=options.replace)))
    return made


def _address(entry: Entry, lookups: Lookups) -> str:
    return normalise_address(lookups.chains[entry.chain], entry.address)


def _place(entry: Entry, lookups: Lookups) -> Place | None:
    """Give chain and address in normal form; None if a row has none, or none that can be read."""
    if not entry.chain:
        return None
    try:
        return lookups.chains[entry.chain].chain_id, _address(entry, lookups)
    except REFUSALS:
        return None


def _found(entry: Entry, answer: Answer) -> Asset:
    if answer.resolution is not None:
        return answer.resolution.asset
    kind: type[CqarError] = AmbiguousError if answer.reason == "AMBIGUOUS" else NotFoundError
    what = entry.address or entry.coingecko
    reason = "UNMAPPED" if answer.reason == "NOT_FOUND" else answer.reason
    raise kind(f"{entry.ticker} on {entry.venue}: {what}: {answer.message}", reason=reason)


VENUE_SYMBOLS = Importer(
    name="venue-symbols",
    help="what venues call assets: CSV of ccxt codes, CoinGecko ids or contracts",
    parse=parse,
    plan=plan,
)
