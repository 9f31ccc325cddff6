# ruff: noqa: INP001
"""Venues and what their tickers mean: `curated/tickers.csv` applied to the markets of `sources/markets.csv`.

A market is in the catalogue only if every side of it is known. A ticker is never mapped because an asset has that symbol:
`tickers.csv` says so, for all venues or for those it names; ccxt's renames (`sources/renames.csv`) come first, so
Bitfinex's LUNA is LUNC before anybody looks up "LUNA".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from assets import Assets
from tables import CREATED, CURATED, Report, Row, read, uid

from cqar import model
from cqar.errors import InvalidError
from cqar.model import MarketKind, VenueType
from cqar.rules.records import normal
from cqar.rules.tickers import multiple_in


class Markets:
    """Builds the venues and the venue symbols."""

    def __init__(self, assets: Assets, report: Report) -> None:
        self.assets, self.report = assets, report
        self.venues: dict[str, model.Venue] = {}
        self.symbols: dict[str, model.VenueSymbol] = {}
        self.tickers: dict[tuple[str, str], list[Row]] = defaultdict(list)  # (venue or "*", ticker)
        for row in read("curated/tickers.csv"):
            if row["asset"] not in assets.assets:
                report.problem(f"curated/tickers.csv: {row['ticker']}: no asset {row['asset']}")
            for venue in row["venues"].split():
                self.tickers[venue, row["ticker"]].append(row)
        self.renames = {(row["venue"], row["ticker"]): row["unified"] for row in read("sources/renames.csv")}
        self._venues()
        self._markets()
        self._renamed()

    def _venues(self) -> None:
        decided = {row["venue"]: row for row in read("curated/venues.csv")}
        aliases = defaultdict(list)
        for row in decided.values():
            if row["decision"] == "alias":
                aliases[row["of"]].append("ccxt:" + row["venue"])
        for row in read("sources/venues.csv"):
            decision = decided.get(row["venue_id"], {}).get("decision", "keep" if row["source"] == "ccxt" else "")
            if decision not in {"keep", "closed"}:
                self.report.skip("venue: gone from ccxt, not decided" if not decision else "venue: another name of one")
                continue
            venue = model.Venue(
                venue_id=row["venue_id"],
                name=row["name"],
                venue_type=VenueType[row["type"].upper()],
                aliases=tuple(aliases.pop(row["venue_id"], [])),
                website=row["website"] or None,
                countries=tuple(row["countries"].split()),
                is_active=decision == "keep",
                provenance=self.assets.source[row["source"]],
                created_at=CREATED,
                updated_at=CREATED,
            )
            self.venues[venue.venue_id] = normal(venue)
        for name in aliases:
            self.report.problem(f"curated/venues.csv: alias of {name}, which is no venue")

    def meanings(self, venue: str, code: str, unified: str, source: str) -> Iterator[Row]:
        """Give the rows of tickers.csv that apply to a venue's code, most specific first."""
        renamed = self.renames.get((venue, code), unified)
        rows = self.tickers.get((venue, renamed)) or self.tickers.get(("*", renamed)) or ()
        return (row for row in rows if row["source"] in {"", source})

    def _markets(self) -> None:
        wrong = {r["address"] for r in read("curated/corrections.csv") if r["what"] == "market"}
        for row in read("sources/markets.csv"):
            venue, source = row["venue"], row["source"]
            if row["symbol"] in wrong and source == "lean":
                self.report.skip("market: wrong in its source, see curated/corrections.csv")
                continue
            codes = {side: row[f"{side}_code"] or row[side] for side in ("base", "quote")}
            bases = list(self.meanings(venue, codes["base"], row["base"], source))
            quotes = list(self.meanings(venue, codes["quote"], row["quote"], source))
            settles = list(self.meanings(venue, row["settle"], row["settle"], source)) if row["settle"] else [None]
            if row["settle"] in {row["base"], row["quote"]}:
                settles = bases if row["settle"] == row["base"] else quotes
            if not (bases and quotes and settles):
                side = "base" if not bases else "quote" if not quotes else "settlement"
                self.report.skip(f"market: {side} ticker is not curated for the venue")
                continue
            for base in bases:
                quote, settle = quotes[0], base if settles is bases else settles[0]
                sides = (base, quote, settle) if settle else (base, quote)
                self._symbol(venue, row["symbol"], row["kind"], sides, source)
            for side, rows in (("base", bases), ("quote", quotes)):
                for ticker in rows:
                    self._symbol(venue, codes[side], "ASSET", (ticker,), source)

    def _renamed(self) -> None:
        wrong = {(r["chain"], r["address"]) for r in read("curated/corrections.csv") if r["what"] == "rename"}
        for (venue, code), unified in sorted(self.renames.items()):
            if venue not in self.venues or (venue, code) in wrong:
                self.report.skip("rename: the venue is not in the catalogue, or the code is corrected")
                continue
            rows = list(self.meanings(venue, code, unified, "ccxt"))
            if not rows:
                self.report.skip("rename: the unified code is not curated for the venue")
            for row in rows:
                self._symbol(venue, code, "ASSET", (row,), "ccxt")

    def _symbol(self, venue: str, symbol: str, kind: str, sides: tuple[Row, ...], source: str) -> None:
        """Note what a ticker means: base, quote, settlement. It means it while all of them have their meaning."""
        start = max((side["valid_from"] for side in sides if side["valid_from"]), default="")
        end = min((side["valid_to"] for side in sides if side["valid_to"]), default="")
        ids = [self.assets.id(side["asset"]) for side in sides] + [None, None]
        row = model.VenueSymbol(
            venue_symbol_id=uid("ticker", venue, kind, symbol, start),
            venue_id=venue,
            symbol=symbol,
            market_kind=MarketKind[kind],
            asset_id=self.assets.id(sides[0]["asset"]),
            quote_asset_id=ids[1],
            settle_asset_id=ids[2],
            multiplier=Decimal(sides[0]["multiplier"]),
            valid_from=datetime.fromisoformat(start) if start else None,
            valid_to=datetime.fromisoformat(end) if end else None,
            provenance=f"{self.assets.source[source]} {CURATED}tickers.csv",
            created_at=CREATED,
            updated_at=CREATED,
        )
        self._check(row, sides[0])
        try:
            row = normal(row)
        except InvalidError as error:
            self.report.problem(f"{venue} {symbol} ({kind}): {error}")
            return
        known = self.symbols.setdefault(row.venue_symbol_id, row)
        if known.asset_id != row.asset_id:
            self.report.problem(f"{venue} {symbol} ({kind}) means two assets")

    def _check(self, row: model.VenueSymbol, base: Row) -> None:
        """Report a multiplier that is not the one which the ticker itself writes beside the coin's symbol."""
        coin = self.assets.assets[base["asset"]].symbol
        try:
            written = multiple_in(row.symbol, coin, ())
        except InvalidError:  # LUNA2: a name, which tickers.csv has mapped
            return
        if written not in {None, row.multiplier}:
            self.report.problem(
                f"{row.venue_id} {row.symbol}: writes {written} {coin}, curated/tickers.csv says {row.multiplier}"
            )
