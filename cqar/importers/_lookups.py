"""What importers ask of the registry. Always the server: a replica may be behind, and an import must see its own writes.

Everything is asked in bulk and only once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from cqar.answers import Resolution
from cqar.errors import AmbiguousError, NotFoundError
from cqar.model import Chain, Deployment, Venue, VenueSymbol, fold, names_of
from cqar.v1 import registry_pb2 as pb
from cqar.wire import resolution_from_wire

if TYPE_CHECKING:
    from cqar.client._registry import Registry

N = TypeVar("N", Chain, Venue)
K = TypeVar("K")

BATCH = 1000  # keys in one call of ResolveMany

Place = tuple[str, str]  # chain and normalised address
Progress = Callable[[str, float], None]  # what is being done, and which part of it is done


def quiet(_step: str, _part: float) -> None:
    """Show no progress."""


class Answer(NamedTuple):
    """What ResolveMany says of one key: `resolution`, or the reason why there is none."""

    resolution: Resolution | None
    reason: str
    message: str


class Names(Generic[N]):
    """Chains or venues by all their names, chosen as the server does: a slug means its own, a shared name nothing."""

    def __init__(self, what: str, records: Iterable[N]) -> None:
        self._what = what
        self.by_id: dict[str, N] = {}
        self._by_name: dict[str, list[N]] = defaultdict(list)
        for record in records:
            self.by_id[record.chain_id if isinstance(record, Chain) else record.venue_id] = record
            for (name,) in names_of(record):
                self._by_name[name].append(record)

    def __getitem__(self, name: str) -> N:
        """Give the one that has the name. Raises NotFoundError and AmbiguousError."""
        word = fold(name.strip())
        if word in self.by_id:
            return self.by_id[word]
        found = self._by_name.get(word, ())
        if len(found) == 1:
            return found[0]
        what = self._what
        if found:
            raise AmbiguousError(f"{what}: {name} may mean several", reason=f"{what.upper()}_AMBIGUOUS", field=what)
        raise NotFoundError(f"{what}: {name} is not registered", reason=f"{what.upper()}_NOT_FOUND", field=what)


class Lookups:
    """Asks a registry, and remembers for as long as an import takes."""

    def __init__(self, registry: Registry, progress: Progress = quiet) -> None:
        self._registry, self._progress = registry, progress
        self._tickers: dict[str, dict[str, list[VenueSymbol]]] = {}
        self._members: dict[str, str | None] = {}
        self.position: int | None = None  # of the registry at the last resolution

    @cached_property
    def chains(self) -> Names[Chain]:
        """All chains, inactive ones too."""
        return Names("chain", self._registry.list_chains(include_inactive=True))

    @cached_property
    def venues(self) -> Names[Venue]:
        """All venues, inactive ones too."""
        return Names("venue", self._registry.list_venues(include_inactive=True))

    def tickers(self, venue_id: str) -> dict[str, list[VenueSymbol]]:
        """Give all rows of a venue by ticker, whatever their kind and interval."""
        if venue_id not in self._tickers:
            found: dict[str, list[VenueSymbol]] = defaultdict(list)
            for row in self._registry.list_venue_symbols(venue=venue_id):
                found[row.symbol].append(row)
            self._tickers[venue_id] = found
        return self._tickers[venue_id]

    def deployments(self, asset_id: str) -> list[Deployment]:
        """Give all deployments of an asset."""
        return list(self._registry.list_asset_deployments(asset_id=asset_id))

    @cached_property
    def _groups(self) -> dict[str, str]:
        return {fold(group.canonical_symbol): group.group_id for group in self._registry.list_asset_groups()}

    def canonical(self, symbol: str) -> str | None:
        """Give the asset that is the canonical member of the group with this symbol."""
        word = fold(symbol)
        group_id = self._groups.get(word)
        if group_id is None:
            return None
        if word not in self._members:
            members = self._registry.list_asset_group_members(group_id)
            self._members[word] = next((member.asset_id for member in members if member.is_canonical), None)
        return self._members[word]

    def at(self, places: Iterable[Place]) -> dict[Place, Answer]:
        """Resolve addresses."""
        return self._resolve(
            places, lambda place: pb.ResolveRequest(address=pb.ChainAddress(chain=place[0], address=place[1]))
        )

    def identified(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Answer]:
        """Resolve identifiers, each (source, external id)."""
        return self._resolve(
            names, lambda name: pb.ResolveRequest(identifier=pb.SourceKey(source=name[0], external_id=name[1]))
        )

    def named(self, symbols: Iterable[str]) -> dict[str, Answer]:
        """Resolve symbols, on no chain in particular."""
        return self._resolve(symbols, lambda symbol: pb.ResolveRequest(symbol=pb.SymbolKey(symbol=symbol)))

    def _resolve(self, keys: Iterable[K], request: Callable[[K], pb.ResolveRequest]) -> dict[K, Answer]:
        wanted = list(dict.fromkeys(keys))
        rest = iter(wanted)
        answers: dict[K, Answer] = {}
        while batch := list(islice(rest, BATCH)):
            reply = self._registry.resolve_many([request(key) for key in batch])
            self.position = reply.position
            for key, outcome in zip(batch, reply.outcomes, strict=True):
                found = resolution_from_wire(outcome.resolution) if outcome.HasField("resolution") else None
                answers[key] = Answer(found, outcome.reason, outcome.message)
            self._progress("looking up", len(answers) / len(wanted))
        return answers
