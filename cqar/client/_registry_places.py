"""The write surface for where assets live and trade: chains, venues, and what tickers mean on venues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

from cqar.answers import Listing, Position, ticker_of
from cqar.client._checked import checked
from cqar.client._registry_base import Base, Written, optional_enum
from cqar.client._replies import reading, record_of
from cqar.model import Asset, Chain, MarketKind, Venue, VenueSymbol, VenueType
from cqar.patches import ChainPatch, VenuePatch, VenueSymbolPatch
from cqar.v1 import registry_pb2 as pb
from cqar.wire import enum_from_wire, record_to_wire


@checked
class Places(Base):
    """Chains, venues, venue symbols."""

    # --- chains and venues ----------------------------------------------------------------------------------------

    def create_chain(self, chain: Chain, *, request_id: str = "") -> Written[Chain]:
        """Register a chain."""
        request = pb.CreateChainRequest(chain=record_to_wire(chain), request_id=request_id)
        return self._write(Chain, "CreateChain", "chain", request)

    def update_chain(
        self, chain: str, *, expected_position: int | None = None, request_id: str = "", **changes: Unpack[ChainPatch]
    ) -> Written[Chain]:
        """Change the given fields of a chain, given by any of its names; `is_active=False` takes it out of lists."""
        return self._update(
            Chain,
            "UpdateChain",
            "chain",
            changes,
            chain=chain,
            expected_position=expected_position,
            request_id=request_id,
        )

    def get_chain(self, chain: str) -> Chain:
        """Give a chain by any of its names."""
        return self._get(Chain, "GetChain", "chain", pb.GetChainRequest(chain=chain))

    def list_chains(self, *, include_inactive: bool = False) -> Iterator[Chain]:
        """Yield the chains."""
        return self._list(Chain, "ListChains", "chains", pb.ListChainsRequest(include_inactive=include_inactive))

    def create_venue(self, venue: Venue, *, request_id: str = "") -> Written[Venue]:
        """Register a venue."""
        request = pb.CreateVenueRequest(venue=record_to_wire(venue), request_id=request_id)
        return self._write(Venue, "CreateVenue", "venue", request)

    def update_venue(
        self, venue: str, *, expected_position: int | None = None, request_id: str = "", **changes: Unpack[VenuePatch]
    ) -> Written[Venue]:
        """Change the given fields of a venue, given by any of its names; `is_active=False` takes it out of lists."""
        return self._update(
            Venue,
            "UpdateVenue",
            "venue",
            changes,
            venue=venue,
            expected_position=expected_position,
            request_id=request_id,
        )

    def get_venue(self, venue: str) -> Venue:
        """Give a venue by any of its names."""
        return self._get(Venue, "GetVenue", "venue", pb.GetVenueRequest(venue=venue))

    def list_venues(self, *, venue_type: VenueType | None = None, include_inactive: bool = False) -> Iterator[Venue]:
        """Yield the venues."""
        request = pb.ListVenuesRequest(venue_type=optional_enum(venue_type), include_inactive=include_inactive)
        return self._list(Venue, "ListVenues", "venues", request)

    def list_venue_assets(self, venue: str) -> Iterator[Asset]:
        """Yield the assets that a venue's tickers have now as base, quote or settle asset."""
        return self._list(Asset, "ListVenueAssets", "assets", pb.ListVenueAssetsRequest(venue=venue))

    def list_asset_venues(self, asset_id: str, *, include_inactive: bool = False) -> Iterator[Listing]:
        """Yield the venues that list an asset now, each with the first of the tickers that have it on any side."""
        request = pb.ListAssetVenuesRequest(asset_id=asset_id, include_inactive=include_inactive)
        for message in self._messages("ListAssetVenues", "listings", request):
            rows = tuple([record_of(VenueSymbol, row) for row in message.venue_symbols])
            venue = record_of(Venue, message.venue)
            yield Listing(venue=venue, venue_symbols=rows, symbol_count=message.symbol_count)

    def create_venue_symbol(self, venue_symbol: VenueSymbol, *, request_id: str = "") -> Written[VenueSymbol]:
        """Record what a ticker means on a venue during an interval."""
        request = pb.CreateVenueSymbolRequest(venue_symbol=record_to_wire(venue_symbol), request_id=request_id)
        return self._write(VenueSymbol, "CreateVenueSymbol", "venue_symbol", request)

    def update_venue_symbol(
        self,
        venue_symbol_id: str,
        *,
        expected_position: int | None = None,
        request_id: str = "",
        **changes: Unpack[VenueSymbolPatch],
    ) -> Written[VenueSymbol]:
        """Change the given fields of a row; `valid_to` closes its interval."""
        return self._update(
            VenueSymbol,
            "UpdateVenueSymbol",
            "venue_symbol",
            changes,
            venue_symbol_id=venue_symbol_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def delete_venue_symbol(
        self, venue_symbol_id: str, *, expected_position: int | None = None, request_id: str = ""
    ) -> Position:
        """Take back that a ticker ever meant this; give the position of the write."""
        return self._delete(
            "DeleteVenueSymbol",
            venue_symbol_id=venue_symbol_id,
            expected_position=expected_position,
            request_id=request_id,
        )

    def get_venue_symbol(
        self,
        venue_symbol_id: str | None = None,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        kind: MarketKind | None = None,
    ) -> VenueSymbol:
        """Give a row by its id, or what a venue's ticker means now: then it is a `Ticker`, which also has `other_kinds`."""
        request = pb.GetVenueSymbolRequest(venue_symbol_id=venue_symbol_id)
        if venue_symbol_id is None:
            ticker = pb.Ticker(venue=venue or "", symbol=symbol or "", market_kind=optional_enum(kind))
            request.ticker.CopyFrom(ticker)
        reply = self._remote.call("GetVenueSymbol", request)
        row = record_of(VenueSymbol, reply.venue_symbol)
        return row if venue_symbol_id is not None else ticker_of(row, _other_kinds(reply))

    def list_venue_symbols(
        self,
        *,
        venue: str | None = None,
        symbol: str | None = None,
        asset_id: str | None = None,
        kind: MarketKind | None = None,
    ) -> Iterator[VenueSymbol]:
        """Yield rows by venue, ticker, asset (as base, quote or settle) and kind, whatever their interval."""
        request = pb.ListVenueSymbolsRequest(
            venue=venue, symbol=symbol, asset_id=asset_id, market_kind=optional_enum(kind)
        )
        return self._list(VenueSymbol, "ListVenueSymbols", "venue_symbols", request)


def _other_kinds(reply: pb.GetVenueSymbolResponse) -> tuple[MarketKind, ...] | None:
    if not reply.HasField("other_kinds"):
        return None
    with reading():
        return tuple([enum_from_wire(MarketKind, number, "other_kinds") for number in reply.other_kinds.kinds])
