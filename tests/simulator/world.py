"""What is known of every state that the simulated server ever had, and generations in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import msgspec

from cqar import model
from cqar.answers import Candidate
from cqar.client._entries import NOTHING, Gate, symbol_key
from cqar.client._generation import Generation
from cqar.client._index import Index
from cqar.looks import looks_like
from cqar.model import (
    KINDS,
    Asset,
    Batch,
    Deployment,
    FeedToken,
    Group,
    GroupMember,
    Op,
    QualityFlag,
    Record,
    Words,
    fold,
)
from cqar.rules.choose import identity, worst_first

Records = dict[str, dict[str, Record]]  # kind -> key -> record
Keys = frozenset[tuple[str, str]]  # kind and key

_KIND_OF_POSTING = {posting.name: kind for kind in KINDS.values() for posting in kind.postings}


def _id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


@cache
def first_records() -> tuple[Record, ...]:
    """A registry as small as can be that has something of everything, two symbols that look alike among it."""
    token, native = model.AssetType.TOKEN, model.AssetType.NATIVE
    eth, weth, usdc, fake = _id(1), _id(2), _id(3), _id(4)
    return (
        model.Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1),
        model.Chain(chain_id="solana", name="Solana", namespace="solana", aliases=("coingecko:sol",)),
        model.Asset(asset_id=eth, symbol="ETH", name="Ether", asset_type=native),
        model.Asset(asset_id=weth, symbol="WETH", name="Wrapped Ether", asset_type=token),
        model.Asset(asset_id=usdc, symbol="USDC", name="USD Coin", asset_type=token),
        model.Asset(asset_id=fake, symbol="U\u0405DC", name="USD Coin", asset_type=token),
        model.Deployment(
            deployment_id=_id(11), asset_id=eth, chain_id="ethereum", decimals=18, is_native=True, is_canonical=True
        ),
        *[
            model.Deployment(
                deployment_id=_id(10 + n),
                asset_id=_id(n),
                chain_id="ethereum",
                contract_address=f"0x{n:040x}",
                decimals=6,
            )
            for n in (2, 3, 4)
        ],
        model.Identifier(identifier_id=_id(21), asset_id=usdc, source="coingecko", external_id="usd-coin"),
        model.Relationship(
            relationship_id=_id(31),
            parent_asset_id=eth,
            child_asset_id=weth,
            relationship_type=model.RelationshipType.WRAPS,
        ),
        model.Group(group_id=_id(41), canonical_symbol="ETH", name="Ether and its kin"),
        model.GroupMember(group_id=_id(41), asset_id=eth, is_canonical=True),
        model.GroupMember(group_id=_id(41), asset_id=weth),
        model.QualityFlag(
            flag_id=_id(51),
            asset_id=fake,
            flag_type=model.FlagType.IMPOSTOR,
            severity=model.Severity.HIGH,
            source="desk",
            reason="not the coin",
        ),
        model.Venue(venue_id="binance", name="Binance", venue_type=model.VenueType.CEX),
        model.VenueSymbol(
            venue_symbol_id=_id(61),
            venue_id="binance",
            symbol="ETHUSDC",
            market_kind=model.MarketKind.SPOT,
            asset_id=eth,
            quote_asset_id=usdc,
        ),
    )


class State:
    """The server at one position of one history: what a replica there must show, and until when that was all there is."""

    def __init__(self, token: FeedToken, records: Records, unread: Keys, history: int) -> None:
        self.token, self.records, self.unread = token, records, unread
        self.newest = history  # the newest history that this is a part of
        self.left_at = math.inf  # when the server last went on from here

    @property
    def position(self) -> int:
        """Where it is."""
        return self.token.position

    @cached_property
    def index(self) -> MemoryIndex:
        """What a generation built here holds."""
        return MemoryIndex(self.records)

    def after(self, batch: Batch, unread: Keys, token: FeedToken, history: int) -> State:
        """Give the state that a batch leads to, as a reader sees it."""
        records = dict(self.records)
        for change in batch.changes:
            held = records[change.kind] = dict(records[change.kind])
            if change.op is Op.REMOVE:
                before = held.pop(change.key, None)
                if (change.kind, change.key) in unread and isinstance(before, model.QualityFlag):
                    held[change.key] = doubtful(before)
            else:
                assert change.record is not None
                held[change.key] = change.record
        changed = {(change.kind, change.key) for change in batch.changes}
        return State(token, records, (self.unread - changed) | unread, history)


def doubtful(flag: model.QualityFlag) -> model.QualityFlag:
    """Give what is told of a flag whose change could not be read."""
    return msgspec.structs.replace(
        flag,
        flag_type=model.FlagType.UNKNOWN,
        severity=model.Severity.UNKNOWN,
        cleared_at=None,
        cleared_by=None,
        clear_reason=None,
    )


class MemoryIndex(Index):
    """An index in memory. Immutable."""

    def __init__(self, records: Records) -> None:
        self.records = records

    @cached_property
    def _postings(self) -> dict[tuple[str, Words], list[str]]:
        found: dict[tuple[str, Words], list[str]] = {}
        for name, kind in KINDS.items():
            for key in sorted(self.records[name]):
                for posting in kind.postings:
                    for words in posting.words(self.records[name][key]):
                        found.setdefault((posting.name, words), []).append(key)
        return found

    @cached_property
    def _candidates(self) -> dict[bytes, tuple[Candidate, ...]]:
        return dict(_all_candidates(self.records))

    def record(self, kind: str, key: str) -> Record | None:
        """Give the record of a kind with this key."""
        return self.records[kind].get(key)

    def deleted(self, _kind: str, _key: str) -> bool:
        """Know of none: the snapshots of the simulated server have no tombstones."""
        return False

    def posting(self, name: str, words: Words) -> tuple[str, ...]:
        """Give the keys of the records that are found under these words."""
        return tuple(self._postings.get((name, words), ()))

    def found(self, name: str, words: Words) -> list[Record]:
        """Give these records."""
        return [self.records[_KIND_OF_POSTING[name].name][key] for key in self.posting(name, words)]

    def candidates(self, key: bytes) -> tuple[Candidate, ...]:
        """Give the candidates of a folded symbol on a chain, or with "" on none in particular."""
        return self._candidates.get(key, ())

    def gate(self, asset_id: str) -> Gate:
        """Tell whether an asset exists, with its active flags."""
        if asset_id not in self.records["asset"]:
            return NOTHING
        return Gate(exists=True, flags=_flags_of(self.records, asset_id))

    def keys(self, kind: str) -> Iterator[str]:
        """Give the keys of a kind, in order."""
        return iter(sorted(self.records[kind]))


def _flags_of(records: Records, asset_id: str) -> tuple[QualityFlag, ...]:
    flags = [flag for flag in records["quality_flag"].values() if isinstance(flag, QualityFlag)]
    return worst_first([flag for flag in flags if flag.asset_id == asset_id])


def _all_candidates(records: Records) -> Iterator[tuple[bytes, tuple[Candidate, ...]]]:
    """Yield the candidates of every symbol on every chain and on none: by the book, and by nothing that a replica uses."""
    assets = [asset for asset in records["asset"].values() if isinstance(asset, Asset)]
    deployments = [each for each in records["deployment"].values() if isinstance(each, Deployment)]
    symbols = {
        group.group_id: fold(group.canonical_symbol) for group in records["group"].values() if isinstance(group, Group)
    }
    leading = {
        (symbols.get(member.group_id), member.asset_id)
        for member in records["group_member"].values()
        if isinstance(member, GroupMember) and member.is_canonical
    }
    flags = {asset.asset_id: _flags_of(records, asset.asset_id) for asset in assets}

    def on(asset: Asset, chain: str) -> list[Candidate]:
        held = flags[asset.asset_id]
        if not chain:
            return [Candidate(asset, None, held, is_canonical=(fold(asset.symbol), asset.asset_id) in leading)]
        return [
            Candidate(asset, each, held, is_canonical=each.is_canonical)
            for each in deployments
            if each.asset_id == asset.asset_id and each.chain_id == chain
        ]

    for folded in {fold(asset.symbol) for asset in assets}:
        own = [asset for asset in assets if fold(asset.symbol) == folded]
        for chain in ("", *records["chain"]):
            found = [(asset, candidate) for asset in own for candidate in on(asset, chain)]
            alike = [
                msgspec.structs.replace(candidate, look_alike=True)
                for twin in assets
                if any(looks_like(twin.symbol, asset.symbol) for asset, _ in found)
                for candidate in on(twin, chain)
            ]
            if found:
                both = [*[candidate for _, candidate in found], *alike]
                yield symbol_key(chain, folded), tuple(sorted(both, key=identity))


@dataclass(frozen=True)
class Made:
    """A generation as it lies on the disk."""

    token: FeedToken
    index: MemoryIndex
    unread: Keys


class MemoryGeneration(Generation):
    """An open generation of the simulated disk."""

    def __init__(self, name: str, made: Made) -> None:
        self.path = Path(name)
        self.index = made.index
        self.unread = made.unread
        self._made = made

    @property
    def head(self) -> FeedToken:
        """Where to go on from by the feed."""
        return self._made.token
