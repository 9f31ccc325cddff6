"""What a bulk look-up does about symbols that the replica does not know: it asks the server, many with one call.

The memory of misses (`_brief`) is passed by: it is small, and a scan would push out what it is for, the keys that a
service asks for again and again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cqar.client._answers import AMBIGUOUS, INVALID, NOT_FOUND, UNAVAILABLE, Row, row_of
from cqar.errors import CqarError, PermissionDeniedError, UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from cqar.client._registry import Registry
    from cqar.v1 import registry_pb2 as pb

log = logging.getLogger(__name__)

AT_ONCE = 1000  # the server's limit


class Misses:
    """Asks the server on behalf of one bulk look-up, about each symbol once."""

    def __init__(self, registry: Registry | None, slug: str) -> None:
        """Without a server what the replica does not know is not found."""
        self._registry, self._slug = registry, slug
        self._asked: dict[str, Row | int] = {}
        self._silent = False
        self.position: int | None = None  # the least that a reply was true at

    @property
    def possible(self) -> bool:
        """Tell whether there is a server."""
        return self._registry is not None

    def ask(self, symbols: list[str]) -> list[Row | int]:
        """Give the row for each symbol, or the number of a blank one.

        A server that fails once is not asked again: each call might last until its deadline, and there may be thousands. What
        it did not answer is UNAVAILABLE, never NOT_FOUND. A caller without the right to ask is told so by the error.
        """
        if self._registry is None:
            return [NOT_FOUND] * len(symbols)
        new = [symbol for symbol in symbols if symbol not in self._asked]
        for start in range(0, len(new), AT_ONCE):
            if self._silent:
                break
            self._call(self._registry, new[start : start + AT_ONCE])
        return [self._asked.get(symbol, UNAVAILABLE) for symbol in symbols]

    def _call(self, registry: Registry, symbols: list[str]) -> None:
        from cqar.v1 import registry_pb2 as pb  # noqa: PLC0415

        keys = [
            pb.ResolveRequest(symbol=pb.SymbolKey(symbol=symbol.strip(), chain=self._slug or None))
            for symbol in symbols
        ]
        try:
            reply = registry.resolve_many(keys)
        except (PermissionDeniedError, UnauthenticatedError):
            raise
        except CqarError as error:
            log.warning("the server did not answer for symbols that the replica does not know: %s", error)
            self._silent = True
            return
        self.position = reply.position if self.position is None else min(self.position, reply.position)
        self._asked.update(zip(symbols, map(_outcome, reply.outcomes), strict=True))


def _outcome(outcome: pb.ResolveOutcome) -> Row | int:
    if outcome.HasField("resolution"):
        from cqar.client._replies import resolution_of  # noqa: PLC0415

        try:
            found = resolution_of(outcome.resolution)
        except UnavailableError as error:
            log.warning("%s", error)
            return UNAVAILABLE
        return row_of(found.asset, found.deployment, len(found.collisions))
    if outcome.reason.endswith("NOT_FOUND"):
        return NOT_FOUND
    return AMBIGUOUS if outcome.reason.endswith("AMBIGUOUS") else INVALID
