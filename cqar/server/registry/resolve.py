"""Which asset is this? By symbol, address or identifier; one key or many at one position (R2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from cqar import model
from cqar.answers import Candidate, Resolution
from cqar.errors import AmbiguousError, CqarError, InvalidError, LimitError, NotFoundError
from cqar.looks import looks_like, skeletons
from cqar.model import (
    ASSET,
    CHAIN,
    DEPLOYMENT,
    GROUP,
    GROUP_MEMBER,
    IDENTIFIER,
    QUALITY_FLAG,
    VENUE,
    VENUE_SYMBOL,
    Asset,
    Chain,
    Deployment,
    Identifier,
    MarketKind,
    Venue,
    VenueSymbol,
    fold,
)
from cqar.rules.addresses import normalise_address
from cqar.rules.choose import choose, worst_first
from cqar.rules.text import SYMBOL_LIMIT, check_symbol
from cqar.rules.tickers import current
from cqar.server.registry._base import Base, chosen_name
from cqar.server.touched import CHAINS, address_topic, look_topic
from cqar.server.transaction import Tx, View

MAX_KEYS = 1000


class SymbolKey(msgspec.Struct, frozen=True):
    """A symbol, on a chain or wherever."""

    symbol: str
    chain: str | None = None


class AddressKey(msgspec.Struct, frozen=True):
    """An address on a chain."""

    chain: str
    address: str


class SourceKey(msgspec.Struct, frozen=True):
    """The name that a data source has for an asset."""

    source: str
    external_id: str


class TickerKey(msgspec.Struct, frozen=True):
    """A venue's ticker, which stands for its base asset."""

    venue: str
    symbol: str
    market_kind: MarketKind | None = None


ResolveKey = SymbolKey | AddressKey | SourceKey | TickerKey


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """One resolution, or the error in its place, for each key; all at the same position."""

    outcomes: tuple[Resolution | InvalidError | NotFoundError | AmbiguousError, ...]
    topics: tuple[frozenset[str], ...] = ()  # of `touched`: what each outcome depends on; none for an error
    position: int


class Resolver(Base):
    """The look-ups by name."""

    def resolve(self, key: ResolveKey) -> Resolution:
        """Give the asset that a key means. Raises InvalidError, NotFoundError and AmbiguousError."""
        with self._store.view() as view:
            return Lookup(view, [key], self._store.now()).resolve(key)

    def resolve_many(self, keys: Sequence[ResolveKey | InvalidError]) -> Outcomes:
        """Resolve up to 1000 keys; raises LimitError for more."""
        if len(keys) > MAX_KEYS:
            raise LimitError(f"keys: {len(keys)} are more than {MAX_KEYS}", field="keys")
        with self._store.view() as view:
            lookup = Lookup(view, [key for key in keys if not isinstance(key, CqarError)], self._store.now())
            found = [_outcome(lookup, key) for key in keys]
        topics = [
            lookup.topics(key)
            if isinstance(outcome, Resolution) and not isinstance(key, CqarError)
            else frozenset[str]()
            for key, outcome in zip(keys, found, strict=True)
        ]
        return Outcomes(outcomes=tuple(found), topics=tuple(topics), position=view.position)


def _outcome(
    lookup: Lookup, key: ResolveKey | InvalidError
) -> Resolution | InvalidError | NotFoundError | AmbiguousError:
    try:
        if isinstance(key, InvalidError):
            return key
        return lookup.resolve(key)
    except (InvalidError, NotFoundError, AmbiguousError) as error:
        return error


class Lookup:
    """All that some keys need, read with a fixed number of selects however many they are."""

    def __init__(self, view: View | Tx, keys: Sequence[ResolveKey], now: datetime) -> None:
        self._view = view
        self._now = now
        self._chains: dict[str, list[Chain]] = defaultdict(list)
        self._assets: dict[str, Asset] = {}
        self._by_symbol: dict[str, list[Asset]] = defaultdict(list)
        self._by_skeleton: dict[str, list[Asset]] = defaultdict(list)
        self._by_address: dict[tuple[str, str], Deployment] = {}
        self._on_chain: dict[tuple[str, str], list[Deployment]] = defaultdict(list)  # by chain and asset
        self._by_external: dict[tuple[str, str], Identifier] = {}
        self._groups: dict[str, list[str]] = defaultdict(list)  # ids, by folded symbol
        self._canonical: dict[str, set[str]] = defaultdict(set)  # canonical members, likewise
        self._venues: dict[str, list[Venue]] = defaultdict(list)
        self._by_ticker: dict[tuple[str, str], list[VenueSymbol]] = defaultdict(list)
        self._read_chains(
            {key.chain for key in keys if isinstance(key, SymbolKey | AddressKey) and key.chain is not None}
        )
        self._read_symbols([key for key in keys if isinstance(key, SymbolKey)])
        self._read_addresses([key for key in keys if isinstance(key, AddressKey)])
        self._read_identifiers([key for key in keys if isinstance(key, SourceKey)])
        self._read_tickers([key for key in keys if isinstance(key, TickerKey)])
        flags = view.find(QUALITY_FLAG, asset_id=list(self._assets), is_active=True) if self._assets else []
        by_asset: dict[str, list[model.QualityFlag]] = defaultdict(list)
        for flag in flags:
            by_asset[flag.asset_id].append(flag)
        self._flags = {asset_id: worst_first(found) for asset_id, found in by_asset.items()}

    def resolve(self, key: ResolveKey) -> Resolution:
        """Give the asset that one of the keys means."""
        symbol = None
        if isinstance(key, SymbolKey):
            symbol = check_symbol(key.symbol)
            candidates = self._symbol_candidates(symbol, key.chain)
            asked = f"{symbol} on {self._chain(key.chain).chain_id}" if key.chain is not None else symbol
        elif isinstance(key, AddressKey):
            chain = self._chain(key.chain)
            found = self._by_address.get((chain.chain_id, normalise_address(chain, key.address)))
            candidates = [] if found is None else self._candidates(self._assets[found.asset_id], [found])
            asked = f"{key.address.strip()} on {chain.chain_id}"
        elif isinstance(key, SourceKey):
            source, external_id = _external(key)
            identifier = self._by_external.get((source, external_id))
            candidates = [] if identifier is None else [self._plain(self._assets[identifier.asset_id])]
            asked = f"{source}:{external_id}"
        else:
            ticker, word = check_symbol(key.symbol), _word(key.venue)
            venue = chosen_name(VENUE, self._venues[word], word, "venue").venue_id
            meant = current(self._by_ticker[venue, ticker], venue, ticker, key.market_kind, self._now)
            candidates = [] if meant is None else [self._plain(self._assets[meant[0].asset_id])]
            asked = f"{ticker} on {venue}"
        return choose(candidates, symbol, self._view.position, "server", asked)

    def topics(self, key: ResolveKey) -> frozenset[str]:
        """Give what the answer to one of the keys depends on: see `touched`."""
        topics: set[str] = set()
        assets: list[Asset] = []
        deployments: list[Deployment] = []
        if isinstance(key, SymbolKey):
            folded = fold(check_symbol(key.symbol))
            named = self._by_symbol[folded]
            spellings = {check_symbol(key.symbol), *[asset.symbol for asset in named]}
            assets = [*named, *[twin for spelling in spellings for twin in self._look_alikes(spelling)]]
            topics |= {
                f"symbol:{folded}",
                *[look_topic(look) for spelling in spellings for look in skeletons(spelling)],
            }
            topics |= {f"symbol:{fold(asset.symbol)}" for asset in assets}
            if key.chain is None:
                topics |= {f"group:{group_id}" for asset in assets for group_id in self._groups[fold(asset.symbol)]}
            else:
                topics.add(CHAINS)
                chain_id = self._chain(key.chain).chain_id
                deployments = [each for asset in assets for each in self._on_chain[chain_id, asset.asset_id]]
        elif isinstance(key, AddressKey):
            chain = self._chain(key.chain)
            deployments = [self._by_address[chain.chain_id, normalise_address(chain, key.address)]]
            assets = [self._assets[each.asset_id] for each in deployments]
            topics |= {CHAINS, *[address_topic(each.chain_id, each.contract_address) for each in deployments]}
        elif isinstance(key, SourceKey):
            identifier = self._by_external[_external(key)]
            assets = [self._assets[identifier.asset_id]]
            topics |= {
                f"identifier:{identifier.identifier_id}",
                f"external:{identifier.source}:{identifier.external_id}",
            }
        topics |= {f"asset:{asset.asset_id}" for asset in assets}
        return frozenset(topics | {f"deployment:{each.deployment_id}" for each in deployments})

    def _chain(self, name: str) -> Chain:
        word = _word(name)
        return chosen_name(CHAIN, self._chains[word], word, "chain")

    def _symbol_candidates(self, symbol: str, chain: str | None) -> list[Candidate]:
        chain_id = None if chain is None else self._chain(chain).chain_id
        named = self._by_symbol[fold(symbol)]
        found = self._of_assets(named, chain_id)
        # Where nothing bears the symbol there may be nothing but look-alikes, of it and of how it is spelt elsewhere.
        spellings = {one.asset.symbol for one in found} or {symbol, *[asset.symbol for asset in named]}
        twins = {twin.asset_id: twin for spelling in spellings for twin in self._look_alikes(spelling)}
        return [
            *found,
            *[msgspec.structs.replace(each, look_alike=True) for each in self._of_assets(twins.values(), chain_id)],
        ]

    def _of_assets(self, assets: Iterable[Asset], chain_id: str | None) -> list[Candidate]:
        if chain_id is not None:
            return [
                candidate
                for asset in assets
                for candidate in self._candidates(asset, self._on_chain[chain_id, asset.asset_id])
            ]
        return [
            self._plain(asset, is_canonical=asset.asset_id in self._canonical[fold(asset.symbol)]) for asset in assets
        ]

    def _look_alikes(self, symbol: str) -> list[Asset]:
        """Return the assets whose symbols look like a symbol without being it (rule R18, look-alikes)."""
        return [
            other for key in skeletons(symbol) for other in self._by_skeleton[key] if looks_like(other.symbol, symbol)
        ]

    def _candidates(self, asset: Asset, deployments: Iterable[Deployment]) -> list[Candidate]:
        flags = self._flags.get(asset.asset_id, ())
        return [
            Candidate(asset=asset, deployment=deployment, flags=flags, is_canonical=deployment.is_canonical)
            for deployment in deployments
        ]

    def _plain(self, asset: Asset, *, is_canonical: bool = False) -> Candidate:
        return Candidate(asset=asset, flags=self._flags.get(asset.asset_id, ()), is_canonical=is_canonical)

    def _read_chains(self, names: set[str]) -> None:
        words = {word for word in map(_word, names) if word}
        for chain in self._view.find(CHAIN, any_name=sorted(words)) if words else ():
            for (name,) in model.names_of(chain):
                self._chains[name].append(chain)

    def _read_symbols(self, keys: list[SymbolKey]) -> None:
        folds = {fold(key.symbol.strip()) for key in keys}
        if not folds:
            return
        for asset in self._view.find(ASSET, symbol_fold=sorted(folds)):
            self._assets[asset.asset_id] = asset
            self._by_symbol[fold(asset.symbol)].append(asset)
        looks = {key for asset in self._assets.values() for key in skeletons(asset.symbol)}
        # Of no text longer than a symbol: the skeletons are remembered.
        typed = {text for key in keys if len(text := key.symbol.strip()) <= SYMBOL_LIMIT}
        looks |= {look for text in typed for look in skeletons(text)}
        for asset in self._view.find(ASSET, any_skeleton=sorted(looks)):
            self._assets[asset.asset_id] = asset
            for key in skeletons(asset.symbol):
                self._by_skeleton[key].append(asset)
        if self._assets and self._chains:
            # Not by chain as well: before it has statistics PostgreSQL would rather walk through the whole chain.
            for deployment in self._view.find(DEPLOYMENT, asset_id=list(self._assets)):
                self._on_chain[deployment.chain_id, deployment.asset_id].append(deployment)
        if any(key.chain is None for key in keys):
            self._read_canonical(sorted({fold(asset.symbol) for asset in self._assets.values()}))

    def _read_canonical(self, folds: list[str]) -> None:
        groups = {
            group.group_id: fold(group.canonical_symbol)
            for group in self._view.find(GROUP, canonical_symbol_fold=folds)
        }
        for group_id, folded in groups.items():
            self._groups[folded].append(group_id)
        if groups:
            for member in self._view.find(GROUP_MEMBER, group_id=list(groups), is_canonical=True):
                self._canonical[groups[member.group_id]].add(member.asset_id)

    def _read_addresses(self, keys: list[AddressKey]) -> None:
        places: dict[str, set[str]] = defaultdict(set)
        for key in keys:
            try:
                chain = self._chain(key.chain)
                places[chain.chain_id].add(normalise_address(chain, key.address))
            except CqarError:
                continue  # `resolve` tells
        contracts = {address for found in places.values() for address in found if address != model.NATIVE}
        natives = [chain_id for chain_id, found in places.items() if model.NATIVE in found]
        found = []
        if contracts:
            found += self._view.find(DEPLOYMENT, chain_id=list(places), contract_address=sorted(contracts))
        if natives:
            found += self._view.find(DEPLOYMENT, chain_id=natives, is_native=True)
        for deployment in found:
            self._by_address[deployment.chain_id, deployment.contract_address or model.NATIVE] = deployment
        self._read_assets({deployment.asset_id for deployment in found})

    def _read_identifiers(self, keys: list[SourceKey]) -> None:
        names = [_external(key) for key in keys]
        if names:
            sources, external_ids = sorted({source for source, _ in names}), sorted({name for _, name in names})
            for identifier in self._view.find(IDENTIFIER, source=sources, external_id=external_ids):
                self._by_external[identifier.source, identifier.external_id] = identifier
            self._read_assets({identifier.asset_id for identifier in self._by_external.values()})

    def _read_tickers(self, keys: list[TickerKey]) -> None:
        words = sorted({word for key in keys if (word := _word(key.venue))})
        for venue in self._view.find(VENUE, any_name=words) if words else ():
            for (name,) in model.names_of(venue):
                self._venues[name].append(venue)
        venues = sorted({venue.venue_id for found in self._venues.values() for venue in found})
        if venues:
            symbols = sorted({key.symbol.strip() for key in keys})
            rows = self._view.find(VENUE_SYMBOL, venue_id=venues, symbol=symbols)
            for row in rows:
                self._by_ticker[row.venue_id, row.symbol].append(row)
            self._read_assets({row.asset_id for row in rows})

    def _read_assets(self, asset_ids: set[str]) -> None:
        missing = asset_ids - self._assets.keys()
        if missing:
            self._assets.update((asset.asset_id, asset) for asset in self._view.find(ASSET, asset_id=sorted(missing)))


def _word(name: str) -> str:
    return fold(name.strip())


def _external(key: SourceKey) -> tuple[str, str]:
    return key.source.strip().lower(), key.external_id.strip()
