"""Markets of venues, from CSV: a ticker with its base, quote and settlement.

An inactive market is refused: the file does not say since when, and a row without an end would say "now". The meaning of a
future or an option ends at its expiry; a market whose codes have changed their meaning gets the interval in which they have
had the present one. The contract size is no multiplier: it tells the size of a contract, not what the code means. The multiplier is
read from the raw symbol as well as from the code: files write 1000BONKUSDT with the base BONK.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cqar.errors import InvalidError
from cqar.importers._codes import Codes, Meaning, fitted
from cqar.importers._files import convert, read_csv
from cqar.importers._lookups import Lookups
from cqar.importers._plan import REFUSALS, Importer, Options, Parsed, Plan, Refusal, Row, once
from cqar.model import MarketKind, VenueSymbol
from cqar.rules.records import normal
from cqar.rules.tickers import multiple_in

KINDS = {
    "spot": MarketKind.SPOT,
    "swap": MarketKind.PERPETUAL,
    "future": MarketKind.FUTURE,
    "option": MarketKind.OPTION,
}
EXPIRING = frozenset({MarketKind.FUTURE, MarketKind.OPTION})
_MULTIPLE = re.compile(r"(?<!\d)1000+(?=[A-Za-z])|(?<=[A-Za-z])1000+(?!\d)")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A market: `base` and `quote` are codes of a library, `base_id` and `quote_id` the venue's own."""

    venue: str
    raw_symbol: str
    base: str
    quote: str
    type: str
    settle: str | None = None
    active: bool = True
    expiry: Annotated[datetime, Meta(tz=True)] | None = None
    base_id: str | None = None
    quote_id: str | None = None

    @property
    def codes(self) -> set[str]:
        """All codes of the row."""
        return {code for code in (self.base, self.quote, self.settle, self.base_id, self.quote_id) if code}


def parse(path: Path) -> Parsed[Entry]:
    """Read a CSV of markets."""
    table = read_csv(path, required=[("venue", "raw_symbol", "base", "quote", "type")])
    parsed = Parsed[Entry](path, table.provenance, refused=table.refused)
    for number, values in table.rows:
        try:
            parsed.rows.append(Row(number, convert(values, Entry)))
        except REFUSALS as error:
            key = f"{values['venue']}/{values['raw_symbol']}"
            parsed.refused.append(Refusal(row=number, key=key, reason=error.reason, message=error.message))
    return parsed


def plan(parsed: Parsed[Entry], lookups: Lookups, options: Options) -> Plan:
    """Plan a venue symbol for each row."""
    made = Plan()
    codes = Codes(lookups, options, sorted({code for _, entry in parsed.rows for code in entry.codes}))
    seen: set[tuple[str, str, MarketKind]] = set()
    for number, entry in parsed.rows:
        key = f"{entry.venue}/{entry.raw_symbol}"
        with made.row(number, key):
            venue = lookups.venues[entry.venue].venue_id
            kind = _kind(entry)
            once((venue, entry.raw_symbol, kind), seen, f"{entry.raw_symbol} on {venue} ({kind})")
            moment = options.as_of
            if entry.expiry is not None:
                moment = min(moment, entry.expiry - timedelta(seconds=1))
            row = _symbol(venue, kind, entry, codes, moment)
            known = lookups.tickers(venue).get(entry.raw_symbol, ())
            row = fitted(row, known, moment, replace=options.replace)
            made.add(number, key, normal(msgspec.structs.replace(row, provenance=parsed.provenance)))
    return made


def _kind(entry: Entry) -> MarketKind:
    """Give the kind of a market that can be registered."""
    if not entry.active:
        raise InvalidError(f"{entry.raw_symbol} is not active, and the file does not say since when", reason="INACTIVE")
    kind = KINDS.get(entry.type)
    if kind is None:
        raise InvalidError(f"type: {entry.type} is none of {', '.join(KINDS)}", reason="MARKET_TYPE", field="type")
    if kind in EXPIRING and entry.expiry is None:
        raise InvalidError(f"expiry: required for a {entry.type}", reason="EXPIRY", field="expiry")
    return kind


def _symbol(venue: str, kind: MarketKind, entry: Entry, codes: Codes, moment: datetime) -> VenueSymbol:
    base = codes.meaning(venue, entry.base_id or entry.base, entry.base, moment)
    quote = codes.meaning(venue, entry.quote_id or entry.quote, entry.quote, moment)
    match entry.settle:
        case None:
            settle = None
        case entry.base:
            settle = base
        case entry.quote:
            settle = quote
        case code:
            settle = codes.meaning(venue, code, code, moment)
    if quote.multiplier != 1 or (settle is not None and settle.multiplier != 1):
        raise InvalidError(
            f"{entry.raw_symbol}: priced or settled in a multiple of a currency, which a row cannot say",
            reason="QUOTE_MULTIPLE",
        )
    sides = [side for side in (base, quote, settle) if side is not None]
    return VenueSymbol(
        venue_id=venue,
        symbol=entry.raw_symbol,
        market_kind=kind,
        asset_id=base.asset_id,
        quote_asset_id=quote.asset_id,
        settle_asset_id=settle.asset_id if settle is not None else None,
        multiplier=base.multiplier * _written(entry),
        valid_from=_latest_start(sides),
        valid_to=_earliest_end(sides, entry.expiry),
    )


def _written(entry: Entry) -> Decimal:
    """Return the factor that the raw symbol writes beside the code of the base, whose own factor is in its meaning."""
    others = [code for code in (entry.quote_id, entry.quote, entry.settle) if code]
    for code in (entry.base_id, entry.base):
        value = None if code is None else multiple_in(entry.raw_symbol, code, others)
        if value is not None:
            return value
    if _MULTIPLE.search(entry.raw_symbol):
        raise InvalidError(
            f"{entry.raw_symbol}: writes a multiple, and not of {entry.base}, so that its multiplier cannot be known",
            reason="MULTIPLE",
        )
    return Decimal(1)


def _latest_start(sides: Iterable[Meaning]) -> datetime | None:
    return max((side.valid_from for side in sides if side.valid_from is not None), default=None)


def _earliest_end(sides: Iterable[Meaning], expiry: datetime | None) -> datetime | None:
    ends = [side.valid_to for side in sides if side.valid_to is not None]
    return min([*ends, *([expiry] if expiry is not None else [])], default=None)


MARKETS = Importer(name="markets", help="markets of venues: CSV with base, quote and type", parse=parse, plan=plan)
