"""Token lists of Uniswap's schema. Tokens of several chains become one asset only where the list links them.

The link is `extensions.bridgeInfo`: "this token is that one on the other chain". It is believed if both tokens have the same
symbol, to the letter. With another symbol it is a bridged form with a life of its own (DAI.e on Avalanche), and stays apart;
with other decimals it is still the same (USDC has 18 on BNB Chain, R4). Of 148 of Uniswap's links whose ends CoinGecko
knows, it has one coin for 135; the rest are forms of a chain's own bridge, or pegged by Binance, which it lists apart
(measured): whoever wants these apart registers them before, and what is registered apart stays apart.

Nothing is decided by order: if the tokens that hang together belong to two registered assets, or two of them are on one chain,
none of the new ones is joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cqar.answers import Resolution
from cqar.errors import ConflictError, NotFoundError
from cqar.importers._files import read_json, rows_of
from cqar.importers._lookups import Lookups, Place
from cqar.importers._plan import REFUSALS, Importer, Options, Parsed, Plan, Row, once, uid
from cqar.model import NATIVE, Asset, AssetType, Chain, Deployment
from cqar.rules.addresses import normalise_address
from cqar.rules.records import normal
from cqar.rules.text import check_url

# Numbers that Uniswap's lists use for networks without an EIP-155 chain id.
NETWORKS = {501000101: "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"}
RULE = "an object with name, version and tokens (https://uniswap.org/tokenlist.schema.json)"

Whole = Annotated[int, Meta(ge=0)]


class Version(msgspec.Struct, frozen=True):
    """The version of a list."""

    major: Whole
    minor: Whole
    patch: Whole

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


class TokenList(msgspec.Struct, frozen=True):
    """A list, its tokens not yet read: one that is wrong does not spoil the others."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    version: Version
    tokens: list[msgspec.Raw]


class Link(msgspec.Struct, frozen=True, rename="camel"):
    """The same token on another chain."""

    token_address: str


class Extensions(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of a token's extensions."""

    bridge_info: dict[str, Link] = {}


class Entry(msgspec.Struct, frozen=True, rename={"chain_id": "chainId", "logo_uri": "logoURI"}):
    """A token of a list."""

    chain_id: Annotated[int, Meta(ge=1)]
    address: str
    name: str
    symbol: str
    decimals: Annotated[int, Meta(ge=0, le=255)]
    logo_uri: str | None = None
    extensions: Extensions | None = None


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token at its place, in normal form but for the asset that it belongs to."""

    row: int
    entry: Entry
    chain: Chain
    place: Place

    @property
    def key(self) -> str:
        """Chain and address."""
        return "/".join(self.place)

    @property
    def order(self) -> tuple[int, Place]:
        """Sorts the tokens of an asset: the oldest networks have the lowest numbers, so Ethereum comes first."""
        return self.chain.network_id or 2**63, self.place


def parse(path: Path) -> Parsed[Entry]:
    """Read a token list."""
    tokens = read_json(path, TokenList, RULE)
    return rows_of(path, tokens.tokens, Entry, "address", f"tokenlist:{tokens.name.strip()}@{tokens.version}")


def plan(parsed: Parsed[Entry], lookups: Lookups, options: Options) -> Plan:
    """Plan a deployment for each token, and the assets that they belong to."""
    made = Plan()
    tokens = _tokens(made, parsed.rows, lookups)
    links = list(_links(made, tokens, lookups))
    answers = lookups.at([*tokens, *(target for _, target in links)])
    registered = {place: answer.resolution for place, answer in answers.items() if answer.resolution is not None}
    assets = Grouping(made, tokens, registered, lookups).assets(links)
    old = {found.asset.asset_id for found in registered.values()}
    written: set[str] = set()
    for token in sorted(tokens.values(), key=lambda token: token.order):
        with made.row(token.row, token.key):
            asset_id, there = assets[token.place], registered.get(token.place)
            deployment = _deployment(token, asset_id, there, options, parsed.provenance)
            if asset_id not in written and (there is not None or asset_id not in old):
                made.add(token.row, token.key, _asset(made, token, asset_id, there, parsed.provenance))
                written.add(asset_id)
            made.add(token.row, token.key, deployment)
    return made


def _tokens(made: Plan, rows: list[Row[Entry]], lookups: Lookups) -> dict[Place, Token]:
    """Give the tokens by their place, without those that no chain is registered for or whose values break a rule."""
    tokens: dict[Place, Token] = {}
    seen: set[Place] = set()
    for number, entry in rows:
        with made.row(number, f"{entry.chain_id}/{entry.address}"):
            chain = _chain(lookups, entry.chain_id)
            probe = Deployment(
                asset_id="", chain_id=chain.chain_id, contract_address=entry.address, decimals=entry.decimals
            )
            address = normal(probe, chain).contract_address
            assert address is not None, "it was given"
            normal(Asset(symbol=entry.symbol, name=entry.name, asset_type=AssetType.TOKEN))
            place = (chain.chain_id, address)
            once(place, seen, f"{address} on {chain.chain_id}")
            tokens[place] = Token(row=number, entry=entry, chain=chain, place=place)
    return tokens


def _chain(lookups: Lookups, network: int) -> Chain:
    try:
        return lookups.chains[NETWORKS.get(network, f"eip155:{network}")]
    except NotFoundError:
        raise NotFoundError(f"chainId: no chain has the number {network}", reason="CHAIN_NOT_FOUND") from None


def _links(made: Plan, tokens: dict[Place, Token], lookups: Lookups) -> Iterator[tuple[Token, Place]]:
    """Yield each token with the place of another that the list says it is; chains that are not registered are passed over."""
    for token in tokens.values():
        extensions = token.entry.extensions
        for network, link in (extensions.bridge_info if extensions is not None else {}).items():
            try:
                chain = _chain(lookups, int(network))
                address = normalise_address(chain, link.token_address)
            except NotFoundError:
                continue
            except (*REFUSALS, ValueError) as error:
                made.leave_out(token.row, token.key, "LINK", f"bridgeInfo {network}: {error}")
                continue
            if address != NATIVE:
                yield token, (chain.chain_id, address)


class Grouping:
    """Decides which asset each token of a list belongs to."""

    def __init__(
        self, made: Plan, tokens: dict[Place, Token], registered: dict[Place, Resolution], lookups: Lookups
    ) -> None:
        self._made, self._tokens, self._lookups = made, tokens, lookups
        self._registered = {place: found.asset for place, found in registered.items()}

    def assets(self, links: list[tuple[Token, Place]]) -> dict[Place, str]:
        """Give the asset's id for each place of the list."""
        chosen = {place: asset.asset_id for place, asset in self._registered.items()}
        for linked in self._components([link for link in links if self._believed(*link)]):
            chosen |= self._joined(linked)
        return {place: chosen.get(place) or _own_id(place) for place in self._tokens}

    def _believed(self, token: Token, other: Place) -> bool:
        """Whether a link joins two tokens that are known and may be one; reports the others, once a pair."""
        if other == token.place or (other not in self._tokens and other not in self._registered):
            return False
        symbol = self._tokens[other].entry.symbol if other in self._tokens else self._registered[other].symbol
        mine, theirs = self._registered.get(token.place), self._registered.get(other)
        apart = mine is not None and theirs is not None and mine.asset_id != theirs.asset_id
        if symbol == token.entry.symbol and not apart:
            return True
        if other not in self._tokens or token.order < self._tokens[other].order:
            reason = "ALREADY_SEPARATE" if apart else "SYMBOLS_DIFFER"
            self._leave_out(token, reason, f"{symbol} at {'/'.join(other)}")
        return False

    def _leave_out(self, token: Token, reason: str, what: str) -> None:
        why = {
            "ALREADY_SEPARATE": "they are different assets in the registry",
            "SYMBOLS_DIFFER": "the symbols differ, as those of a token and its bridged form do",
            "TWO_ON_ONE_CHAIN": "two tokens of one chain would be one asset",
        }
        message = f"{token.entry.symbol} is not joined with {what}: {why[reason]}"
        self._made.leave_out(token.row, token.key, reason, message)

    @staticmethod
    def _components(links: list[tuple[Token, Place]]) -> Iterator[list[Place]]:
        """Yield the places that hang together, each group sorted."""
        leader: dict[Place, Place] = {}

        def find(place: Place) -> Place:
            while leader.setdefault(place, place) != place:
                leader[place] = place = leader[leader[place]]
            return place

        for token, other in links:
            leader[find(token.place)] = find(other)
        for _, group in groupby(sorted(leader, key=lambda place: (find(place), place)), key=find):
            yield list(group)

    def _joined(self, places: list[Place]) -> dict[Place, str]:
        """Give the common asset of the new tokens among places that hang together; nothing if they must stay apart."""
        new = sorted([self._tokens[p] for p in places if p not in self._registered], key=lambda token: token.order)
        if not new:
            return {}
        known = {self._registered[place].asset_id for place in places if place in self._registered}
        taken: dict[str, Place] = {token.place[0]: token.place for token in new}
        reason = "ALREADY_SEPARATE" if len(known) > 1 else "TWO_ON_ONE_CHAIN" if len(taken) < len(new) else None
        if reason is None and known:
            (asset_id,) = known
            chains = {deployment.chain_id for deployment in self._lookups.deployments(asset_id)}
            reason = "TWO_ON_ONE_CHAIN" if chains & taken.keys() else None
            if reason is None:
                return {token.place: asset_id for token in new}
        if reason is None:
            return {token.place: _own_id(new[0].place) for token in new}
        others = ", ".join(["/".join(place) for place in places])
        for token in new:
            self._leave_out(token, reason, f"those that the list links it with ({others})")
        return {}


def _own_id(place: Place) -> str:
    """Give the id of an asset whose first known deployment is at a place, the same on every host."""
    return uid(f"deployment:{place[0]}/{place[1]}")


def _asset(made: Plan, token: Token, asset_id: str, there: Resolution | None, provenance: str) -> Asset:
    entry = token.entry
    return normal(
        Asset(
            asset_id=asset_id,
            symbol=entry.symbol,
            name=entry.name,
            asset_type=AssetType.TOKEN if there is None else there.asset.asset_type,
            logo_url=made.optional(token.row, token.key, check_url, entry.logo_uri, "logo_url"),
            provenance=provenance,
        )
    )


def _deployment(token: Token, asset_id: str, there: Resolution | None, options: Options, provenance: str) -> Deployment:
    chain_id, address = token.place
    deployment_id, decimals = uid("at", chain_id, address), token.entry.decimals
    if there is not None:
        assert there.deployment is not None, "it was found by its address"
        deployment_id = there.deployment.deployment_id
        if there.deployment.decimals != decimals and not options.replace:
            raise ConflictError(
                f"decimals: {there.deployment.decimals} in the registry, {decimals} in the list",
                reason="DECIMALS_DIFFER",
            )
    return Deployment(
        deployment_id=deployment_id,
        asset_id=asset_id,
        chain_id=chain_id,
        contract_address=address,
        decimals=decimals,
        provenance=provenance,
    )


TOKENLIST = Importer(
    name="tokenlist", help="tokens of a list in Uniswap's schema: *.tokenlist.json", parse=parse, plan=plan
)
