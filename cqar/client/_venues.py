"""A venue with the kind of market fixed, so that nobody forgets to say it: a ticker may be a spot market and a perpetual.

A view has no data of its own: it asks its client, under the same keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqar.answers import Ticker
from cqar.client._head import LENGTH
from cqar.model import MarketKind

if TYPE_CHECKING:
    from cqar.client._client import Client


class VenueView:
    """What tickers mean on one venue in markets of one kind; `Client.venue` makes it. Thread-safe."""

    __slots__ = ("_client", "kind", "venue")

    def __init__(self, client: Client, venue: str, kind: MarketKind | None) -> None:
        self._client = client
        self.venue, self.kind = venue, kind

    def resolve(self, ticker: str) -> Ticker:
        """Tell what a ticker means now; see `Client.resolve_venue_symbol`."""
        client = self._client
        view = client._view  # noqa: SLF001  (the hot path of the client's own look-ups)
        if view.words[LENGTH] != view.seen:
            view.refresh()
        try:
            answer: Ticker | None = client._recent.answers.get(("ticker", self.venue, ticker, self.kind))  # noqa: SLF001
        except TypeError:  # not hashable, so no text
            answer = None
        return answer if answer is not None else client.resolve_venue_symbol(self.venue, ticker, kind=self.kind)

    def __repr__(self) -> str:
        return f"<VenueView {self.venue} {self.kind or 'of any kind'}>"
