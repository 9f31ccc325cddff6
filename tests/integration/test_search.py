"""Search beside a reference that looks at everything: names of all sorts, filters, pages of any size, walks and gathering."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from cqar.errors import InvalidError
from cqar.model import (
    Asset,
    AssetType,
    Chain,
    Deployment,
    FlagType,
    Identifier,
    MarketKind,
    QualityFlag,
    Record,
    Severity,
    Venue,
    VenueSymbol,
    VenueType,
    fold,
)
from cqar.server import search
from cqar.server.registry import Call, PageRequest, Registry
from cqar.server.registry._base import make_token
from cqar.server.store import Store

ME = Call(actor="me")
ASSETS = 300
NOBODY = "00000000-0000-4000-8000-000000000000"
CHAINS = ("ethereum", "bsc")
VENUES = ("binance", "kraken")
LETTERS = "aaAbB%_\\$.ßé₮🙂0x"
QUERIES = (
    *("a", "A", "b", "ab", "aa", "aab", "x", "0x", "zz", "q", "B a", "a b", " a"),
    *("%", "_", "\\", "%%", "a%", "_a", "$", "$$", ".", "ß", "ss", "s", "é", "₮", "🙂", "a🙂", "%_\\"),
    *("coin", "coin a", "Coin", "oin", "in a", "n", "coin coin", "coin coin coin", "a" * 200),
    *(
        "0xab",
        "0xabc",
        "0xabcd",
        "0xABCD",
        "0xabcd1",
        "abcd",
        "id-",
        "Id-",
        "id-1",
        "Id-1",
        "id",
        "TICK",
        "tick1",
        "ti",
    ),
)


class Placed(msgspec.Struct):
    """An asset with all that it may be found by."""

    asset: Asset
    chains: set[str] = msgspec.field(default_factory=set)
    addresses: set[str] = msgspec.field(default_factory=set)
    identifiers: set[str] = msgspec.field(default_factory=set)
    tickers: dict[str, str] = msgspec.field(default_factory=dict)  # each with the asset it is quoted in
    venues: set[str] = msgspec.field(default_factory=set)
    severity: int = 0

    def place(self, query: str) -> tuple[int, str] | None:
        """Give the stage in which a query finds this asset, and the text by which it is sorted there."""
        folded, symbol, name = fold(query), fold(self.asset.symbol), fold(self.asset.name)
        foreign = self.addresses | self.identifiers
        starts = (self.identifiers if len(query) >= 3 else set()) | (self.addresses if len(query) >= 6 else set())
        tickers = self.tickers if len(query) >= 3 else ()
        stages = (
            (symbol == folded, symbol),
            (name == folded, name),
            (bool({query, folded} & foreign) or folded in self.tickers or folded == self.asset.asset_id, symbol),
            (symbol.startswith(folded), symbol),
            (name.startswith(folded), name),
            (
                any(word.startswith((query, folded)) for word in starts)
                or any(ticker.startswith(folded) for ticker in tickers),
                symbol,
            ),
            (folded in symbol or folded in name, symbol),
        )
        return next(((number, text) for number, (found, text) in enumerate(stages) if found), None)

    def passes(self, filters: dict[str, Any]) -> bool:
        """Whether the asset passes all the filters."""
        return (
            filters.get("chain") in {None, *self.chains}
            and filters.get("venue") in {None, *self.venues}
            and filters.get("asset_type") in {None, self.asset.asset_type}
            and filters.get("category") in {None, self.asset.category}
            and filters.get("min_severity", 0) <= self.severity
        )


def made(chance: random.Random, number: int) -> Asset:
    """Make up an asset; many have one symbol, or one that begins another's."""
    symbol = "".join(chance.choices(LETTERS, k=chance.choice((1, 1, 2, 2, 3, 4))))
    words = ["".join(chance.choices(LETTERS, k=chance.randrange(1, 4))) for _ in range(chance.randrange(3))]
    return Asset(
        asset_id=f"{chance.getrandbits(32):08x}-0000-4000-8000-{number:012x}",
        symbol=symbol,
        name=" ".join(chance.sample([*words, "Coin"], len(words) + 1)) if chance.random() < 0.8 else symbol,
        asset_type=chance.choice((AssetType.TOKEN, AssetType.TOKEN, AssetType.WRAPPED)),
        category=chance.choice((None, "meme", "defi")),
    )


def filled(registry: Registry, chance: random.Random) -> list[Placed]:
    """Fill a registry, delete some of it, and give what is left."""
    placed = [Placed(made(chance, number)) for number in range(ASSETS)]

    def records() -> Iterator[Record]:
        for chain in CHAINS:
            yield Chain(chain_id=chain, name=chain, namespace="eip155")
        for venue in VENUES:
            yield Venue(venue_id=venue, name=venue, venue_type=VenueType.CEX)
        yield from [one.asset for one in placed]
        for number, one in enumerate(placed):
            id_ = one.asset.asset_id
            for chain in chance.sample(CHAINS, chance.randrange(3)):
                address = f"0x{chance.choice(('abcd', 'abc0', '0abc'))}{number:036x}"
                one.chains.add(chain)
                one.addresses.add(address)
                yield Deployment(asset_id=id_, chain_id=chain, contract_address=address, decimals=6)
            if chance.random() < 0.2:
                one.identifiers.add(f"{chance.choice(('id', 'Id', 'ab'))}-{number}")
                yield from [Identifier(asset_id=id_, source="s", external_id=text) for text in one.identifiers]
            for _ in range(chance.choice((0, 0, 1, 3))):
                venue, ticker = (
                    chance.choice(VENUES),
                    f"{chance.choice(('TICK', 'aab', 'coin'))}{chance.randrange(10**6)}",
                )
                quote = placed[(number + chance.randrange(1, ASSETS)) % ASSETS]  # no market is priced in itself
                one.tickers[fold(ticker)] = quote.asset.asset_id
                one.venues.add(venue)
                quote.venues.add(venue)
                yield VenueSymbol(
                    venue_id=venue,
                    symbol=ticker,
                    market_kind=MarketKind.SPOT,
                    asset_id=id_,
                    quote_asset_id=quote.asset.asset_id,
                )
            for severity in chance.sample((Severity.LOW, Severity.HIGH), chance.choice((0, 0, 1, 2))):
                one.severity = max(one.severity, severity)
                yield QualityFlag(
                    asset_id=id_,
                    flag_type=FlagType.SCAM,
                    severity=severity,
                    source=f"auditor-{severity}",
                    reason="because",
                )

    everything = list(records())
    results = [
        result
        for start in range(0, len(everything), 1000)
        for result in registry.upsert_records(ME, everything[start : start + 1000]).results
    ]
    assert {result.outcome for result in results} == {"CREATED"}, [r for r in results if r.outcome != "CREATED"][:3]
    found = {asset.asset_id: asset for asset in registry.list_assets(page=PageRequest(1000)).records}
    for one in placed:
        one.asset = found[one.asset.asset_id]
    return placed


def every_page(registry: Registry, query: str, size: int, filters: dict[str, Any]) -> list[Asset]:
    """Give the assets of all pages of a search; none but the last is short."""
    found: list[Asset] = []
    token = ""
    while True:
        page = registry.search_assets(query, page=PageRequest(size, token), **filters)
        found += page.records
        token = page.next_page_token
        if not token:
            return found
        assert len(page.records) == size


def some_filters(chance: random.Random) -> dict[str, Any]:
    """Give some filters."""
    filters = {
        "chain": CHAINS[0],
        "venue": VENUES[0],
        "asset_type": AssetType.WRAPPED,
        "category": "meme",
        "min_severity": chance.choice((Severity.LOW, Severity.HIGH)),
    }
    return dict(chance.sample(sorted(filters.items()), chance.choice((0, 0, 0, 1, 1, 2, 5))))


@pytest.mark.parametrize(
    ("steps", "few", "many"),
    [(0, 1000, 1000), (0, 1, 1000), (0, 1, 1), (25, 40, 60), (2000, 1000, 20_000)],
    ids=["gathers-from-filters", "looks-up-among-filters", "gathers-from-pieces", "some-of-each", "walks"],
)
def test_pages_of_any_size_are_the_list_of_all_matches(
    store: Store, monkeypatch: pytest.MonkeyPatch, steps: int, few: int, many: int
) -> None:
    """For every query and filter the pages are together what looking at each asset gives, in that order, each once."""
    monkeypatch.setattr(search, "_STEPS", steps)
    monkeypatch.setattr(search, "_FEW", few)
    monkeypatch.setattr(search, "_MANY", many)
    chance = random.Random(steps + few + many)
    registry = Registry(store)
    placed = filled(registry, chance)
    some = chance.sample(placed, 20)
    queries = [
        *QUERIES,
        *[one.asset.symbol for one in some],
        *[one.asset.name for one in some],
        *[one.asset.asset_id.upper() for one in some[:2]],
        *[word[:length] for one in some for word in (*one.addresses, *one.tickers) for length in (5, 6, 64)],
    ]
    stages = set()
    for query in chance.sample(queries, 80):
        filters = some_filters(chance)
        matches = [(*place, one.asset) for one in placed if one.passes(filters) and (place := one.place(query.strip()))]
        matches.sort(key=lambda match: (match[0], match[1], match[2].asset_id))
        stages |= {stage for stage, _, _ in matches}
        expected = [asset for _, _, asset in matches]
        size = chance.choice((1, 2, 3, 7, 50, 1000))
        size = max(size, len(expected) // 20)
        assert every_page(registry, query, size, filters) == expected, (query, filters, size)
    assert stages == set(range(7))


def test_deleted_assets_and_cleared_flags_are_not_found(store: Store) -> None:
    """A deleted asset is in no stage, and a flag that was cleared lets nothing pass."""
    registry = Registry(store)
    placed = filled(registry, random.Random(1))
    gone = {one.asset.asset_id for one in placed[::3]}
    for asset_id in sorted(gone):
        registry.delete_asset(ME, asset_id)
    for one in placed:
        one.tickers = {ticker: quote for ticker, quote in one.tickers.items() if quote not in gone}
    for query in ("a", "coin", "tick", "0xabcd", "id-", *gone):
        expected = {one.asset.asset_id for one in placed if one.place(query)} - gone
        assert {asset.asset_id for asset in every_page(registry, query, 100, {})} == expected
    high = {"min_severity": Severity.HIGH}
    assert every_page(registry, "coin", 100, high)
    for raised in registry.list_quality_flags(page=PageRequest(1000)).records:
        registry.resolve_quality_flag(ME, raised.flag_id, clear_reason="mended")
    assert every_page(registry, "coin", 100, high) == []


def test_pages_are_stable_under_writes(store: Store) -> None:
    """Assets that come, go or are renamed between two pages change nothing about the others."""
    registry = Registry(store)
    kept = [
        registry.create_asset(ME, Asset(symbol=f"C{number}", name=f"coin {number}", asset_type=AssetType.TOKEN)).asset
        for number in range(6)
    ]
    first = registry.search_assets("c", page=PageRequest(3))
    assert first.records == tuple(kept[:3])
    registry.delete_asset(ME, kept[2].asset_id)  # the one behind which the next page begins
    registry.delete_asset(ME, kept[4].asset_id)
    for symbol in ("C0A", "C", "C3A"):
        registry.create_asset(ME, Asset(symbol=symbol, name="new", asset_type=AssetType.TOKEN))
    second = registry.search_assets("c", page=PageRequest(3, first.next_page_token))
    assert [asset.symbol for asset in second.records] == ["C3", "C3A", "C5"]
    assert second.next_page_token == ""


@pytest.mark.parametrize(
    "after", [(-1, "a", "0" * 8), (-1, "a", NOBODY), (0, "a", "nobody"), (0, "a\0", NOBODY), ("0", "a", NOBODY), "a"]
)
def test_a_forged_place_is_refused(store: Store, after: object) -> None:
    """A token for the right list with a place that no search gave is an invalid argument, whatever is wrong with it."""
    filters = dict.fromkeys(("chain_id", "venue_id", "asset_type", "category", "min_severity")) | {"query": "a"}
    token = make_token(after, "search_assets", filters)
    with pytest.raises(InvalidError) as caught:
        Registry(store).search_assets("a", page=PageRequest(1, token))
    assert caught.value.reason == "PAGE_TOKEN"
    assert (
        Registry(store)
        .search_assets("a", page=PageRequest(1, make_token((9, "a", NOBODY), "search_assets", filters)))
        .records
        == ()
    )
