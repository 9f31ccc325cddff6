"""The bundled catalogue: what must be true of the snapshot that ships, and of the way it is built."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq
import pytest

from cqar import model, snapshot
from cqar.model import KINDS, MarketKind, RelationshipType

SNAPSHOTS = Path(__file__).parents[2] / "snapshots"
FORBIDDEN = (
    "uniswap-default",
    "@uniswap",
    "sushiswap",
    "quickswap",
    "rotki",
    "coingecko",
    "defillama",
    "dti",
    "slip-0044",
)


class Catalogue:
    """The shipped records, by kind, with the look-ups that the tests need."""

    def __init__(self) -> None:
        self.snapshot = snapshot.latest(SNAPSHOTS / "catalogue")
        self.records = {name: list(snapshot.read(self.snapshot, name)) for name in KINDS}
        self.assets = {asset.asset_id: asset for asset in cast("Sequence[model.Asset]", self.records["asset"])}
        self.keyed = {dict(asset.metadata).get("catalogue_key"): asset for asset in self.assets.values()}
        self.deployments = cast("Sequence[model.Deployment]", self.records["deployment"])
        self.tickers = cast("Sequence[model.VenueSymbol]", self.records["venue_symbol"])
        self.identifiers = cast("Sequence[model.Identifier]", self.records["identifier"])

    def on(self, key: str) -> dict[str, model.Deployment]:
        """Give the canonical deployments of a curated asset by chain."""
        asset_id = self.keyed[key].asset_id
        return {d.chain_id: d for d in self.deployments if d.asset_id == asset_id and d.is_canonical}

    def means(self, venue: str, symbol: str, kind: MarketKind) -> list[tuple[str | None, str | None]]:
        """Give the symbols of base and quote of a ticker, oldest meaning first."""
        rows = [row for row in self.tickers if (row.venue_id, row.symbol, row.market_kind) == (venue, symbol, kind)]
        rows.sort(key=lambda row: (row.valid_from is not None, row.valid_from))
        return [(self.symbol(row.asset_id), self.symbol(row.quote_asset_id)) for row in rows]

    def symbol(self, asset_id: str | None) -> str | None:
        """Give an asset's symbol."""
        return self.assets[asset_id].symbol if asset_id else None


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """Read the catalogue once."""
    return Catalogue()


def build(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the builder of `folder`."""
    command = [sys.executable, str(folder / "build.py"), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=SNAPSHOTS.parent)


def writer(made: snapshot.Snapshot) -> str:
    """Give the library that wrote a snapshot, with its version."""
    path = made.file("chain")
    assert path is not None
    return str(pq.read_metadata(path).created_by)


def test_holds_what_was_promised(catalogue: Catalogue) -> None:
    """The release promises these sizes."""
    least = {"chain": 100, "venue": 100, "asset": 1000, "deployment": 3000, "venue_symbol": 3000}
    rows = catalogue.snapshot.rows
    assert {name: rows[name] for name in least if rows[name] < least[name]} == {}
    markets = sum(row.market_kind is not MarketKind.ASSET for row in catalogue.tickers)
    assert markets >= 3000


def test_a_rebuild_gives_the_same_bytes(tmp_path: Path, catalogue: Catalogue) -> None:
    """Whoever runs `make catalogue` gets what is committed."""
    run = build(SNAPSHOTS, tmp_path / "catalogue")
    assert (run.returncode, run.stderr) == (0, "")
    made = snapshot.latest(tmp_path / "catalogue")
    assert {name: list(snapshot.read(made, name)) for name in KINDS} == catalogue.records
    assert made.manifest.head == catalogue.snapshot.manifest.head
    if writer(made) == writer(catalogue.snapshot):  # another version of Arrow writes other bytes
        assert made.manifest.sha256 == catalogue.snapshot.manifest.sha256


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("deployments.csv", "usdc,ethereum,0x1111111111111111111111111111111111111111,no,made up", "is in no source"),
        ("deployments.csv", "usdc,base,0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913,yes,again", "twice"),
        ("deployments.csv", "nothing,base,0x0578d8a44db98b23bf096a382e016e29a5ce0ffe,yes,no asset", "no asset nothing"),
        ("deployments.csv", "aave,ethereum,0x6b175474e89094c44da98b954eedeac495271d0F,yes,case", "checksum"),
        ("relationships.csv", "eth,WRAPS,weth,,no,a circle", "is derived from itself"),
        ("groups.csv", "ETH,Ether and all its forms,weth,yes,1,a second head", "two canonical members"),
        ("tickers.csv", "ETH,btc,*,1,,,,wrong", "means two assets"),
    ],
)
def test_a_wrong_line_fails_the_build(tmp_path: Path, file: str, line: str, complaint: str) -> None:
    """Each contradiction costs one line on standard error, and nothing is written."""
    copy = tmp_path / "snapshots"
    shutil.copytree(SNAPSHOTS, copy, ignore=shutil.ignore_patterns("catalogue", "__pycache__"))
    with (copy / "curated" / file).open("a", encoding="utf-8") as curated:
        curated.write(line + "\n")
    run = build(copy, tmp_path / "catalogue")
    assert run.returncode == 1
    assert complaint in run.stderr
    assert not (tmp_path / "catalogue").exists()


def test_every_reference_resolves(catalogue: Catalogue) -> None:
    """A replica never has to cope with an id that leads nowhere."""
    assets = set(catalogue.assets)
    chains = {row.chain_id for row in cast("Sequence[model.Chain]", catalogue.records["chain"])}
    venues = {row.venue_id for row in cast("Sequence[model.Venue]", catalogue.records["venue"])}
    edges = cast("Sequence[model.Relationship]", catalogue.records["relationship"])
    assert {d.chain_id for d in catalogue.deployments} <= chains
    assert {d.asset_id for d in catalogue.deployments} <= assets
    assert {row.venue_id for row in catalogue.tickers} <= venues
    sides = {side for row in catalogue.tickers for side in (row.asset_id, row.quote_asset_id, row.settle_asset_id)}
    assert sides - {None} <= assets
    assert {end for edge in edges for end in (edge.parent_asset_id, edge.child_asset_id)} <= assets


def test_a_place_holds_one_asset(catalogue: Catalogue) -> None:
    """One deployment per address and one native asset per chain, which the chain names; one canonical per symbol."""
    places = Counter((d.chain_id, d.contract_address) for d in catalogue.deployments)
    assert max(places.values()) == 1
    natives = {d.chain_id: d.asset_id for d in catalogue.deployments if d.is_native}
    chains = cast("Sequence[model.Chain]", catalogue.records["chain"])
    assert {c.chain_id: c.native_asset_id for c in chains if c.native_asset_id} == natives
    symbols = Counter(
        (d.chain_id, catalogue.assets[d.asset_id].symbol.casefold()) for d in catalogue.deployments if d.is_canonical
    )
    assert max(symbols.values()) == 1


def test_usdc_is_one_asset_with_the_decimals_of_each_chain(catalogue: Catalogue) -> None:
    """18 decimals on BNB Chain, 6 elsewhere (R4); a bridged form is another asset, derived from it."""
    usdc = catalogue.on("usdc")
    assert usdc.keys() >= {"ethereum", "arbitrum-one", "base", "optimism", "polygon", "avalanche-c", "solana", "noble"}
    assert {chain: d.decimals for chain, d in usdc.items() if d.decimals != 6} == {"bsc": 18}
    bridged = catalogue.on("usdc.e@polygon")["polygon"]
    assert bridged.contract_address == "0x2791bca1f2de4661ed88a30c99a7a9449aa84174"
    edges = cast("Sequence[model.Relationship]", catalogue.records["relationship"])
    parents = {e.parent_asset_id for e in edges if e.child_asset_id == bridged.asset_id}
    assert parents == {catalogue.keyed["usdc"].asset_id} != {bridged.asset_id}


def test_ether_is_one_asset_on_its_rollups(catalogue: Catalogue) -> None:
    """Ether pays the fees of Ethereum and of its rollups; test ether and other chains' ether are not it."""
    ether = catalogue.on("eth")
    assert ether.keys() >= {"ethereum", "arbitrum-one", "base", "optimism", "zksync-era", "scroll", "linea-mainnet"}
    assert all(d.is_native and d.decimals == 18 for d in ether.values())
    assert not ether.keys() & {"sepolia", "polygon", "bsc", "aurora"}


def test_groups_sum_up_what_belongs_together(catalogue: Catalogue) -> None:
    """The three groups that every portfolio needs, each with its head."""
    groups = {g.canonical_symbol: g.group_id for g in cast("Sequence[model.Group]", catalogue.records["group"])}
    members = defaultdict(set)
    heads = {}
    for member in cast("Sequence[model.GroupMember]", catalogue.records["group_member"]):
        key = dict(catalogue.assets[member.asset_id].metadata)["catalogue_key"]
        members[member.group_id].add(key)
        if member.is_canonical:
            heads[member.group_id] = key
    assert members[groups["ETH"]] >= {"eth", "weth", "steth", "wsteth", "cbeth", "reth", "eth@bsc"}
    assert members[groups["BTC"]] >= {"btc", "wbtc", "cbbtc", "tbtc", "btcb"}
    assert members[groups["USD"]] >= {"fiat-usd", "usdc", "usdt", "dai", "usdc.e@polygon"}
    assert {name: heads[groups[name]] for name in ("ETH", "BTC", "USD")} == {
        "ETH": "eth", "BTC": "btc", "USD": "fiat-usd"
    }  # fmt: skip
    assert not members[groups["ETH"]] & {"etc", "ethw"}


def test_only_wrapping_contracts_have_a_rate(catalogue: Catalogue) -> None:
    """Nobody may read cbETH as one ether: only one-for-one wrappers carry a rate."""
    edges = cast("Sequence[model.Relationship]", catalogue.records["relationship"])
    rated = [edge for edge in edges if edge.conversion_rate is not None]
    assert rated
    assert {edge.conversion_rate for edge in rated} == {Decimal(1)}
    assert {edge.relationship_type for edge in rated} == {RelationshipType.WRAPS}
    keys = {dict(catalogue.assets[edge.child_asset_id].metadata)["catalogue_key"] for edge in rated}
    assert not keys & {"cbeth", "wsteth", "wbtc", "susde"}


@pytest.mark.parametrize(
    ("venue", "symbol", "kind", "meanings"),
    [
        ("binance", "BTCUSDT", MarketKind.SPOT, [("BTC", "USDT")]),
        ("binance", "BTCUSDT", MarketKind.PERPETUAL, [("BTC", "USDT")]),
        ("binance", "LUNAUSDT", MarketKind.SPOT, [("LUNC", "USDT"), ("LUNA", "USDT")]),  # 2022-05
        ("binance", "SKYUSDT", MarketKind.SPOT, [("SKY", "USDT")]),
        ("binance", "SKYBTC", MarketKind.SPOT, []),  # was Skycoin's
        ("kraken", "XXBT", MarketKind.ASSET, [("BTC", None)]),
        ("kraken", "ZUSD", MarketKind.ASSET, [("USD", None)]),
        ("kraken", "XXBTZUSD", MarketKind.SPOT, [("BTC", "USD")]),
        ("bitfinex", "UST", MarketKind.ASSET, [("USDT", None)]),  # everywhere else TerraUSD
        ("bitfinex", "tBTCUST", MarketKind.SPOT, [("BTC", "USDT")]),
        ("bitfinex", "tLUNA:USD", MarketKind.SPOT, [("LUNC", "USD")]),
        ("binance", "UST", MarketKind.ASSET, [("USTC", None)]),
        ("coinbase", "CGLD-USD", MarketKind.SPOT, [("CELO", "USD")]),
        ("gate", "GTC_USDT", MarketKind.SPOT, []),  # Game.com there, Gitcoin elsewhere
        ("okx", "RON-USDT", MarketKind.SPOT, []),  # Ronin there, the Romanian leu at Binance
        ("bitmex", "XBTUSD", MarketKind.PERPETUAL, [("BTC", "USD")]),
        ("deribit", "ETH-PERPETUAL", MarketKind.PERPETUAL, [("ETH", "USD")]),
    ],
)
def test_a_ticker_means_what_its_venue_says(
    catalogue: Catalogue, venue: str, symbol: str, kind: MarketKind, meanings: list[tuple[str, str]]
) -> None:
    """The same ticker is another coin elsewhere, or was one before."""
    assert catalogue.means(venue, symbol, kind) == meanings


@pytest.mark.parametrize(
    ("venue", "ticker", "intervals"),
    [
        ("binance", "LUNA", {("LUNC", None, "2022-05-26T15:00"), ("LUNA", "2022-05-31T06:00", None)}),
        ("binance", "LUNC", {("LUNC", "2022-05-30T09:30", None)}),
        ("kucoin", "LUNA", {("LUNC", None, "2022-05-26T10:00")}),
        ("okx", "LUNA", {("LUNC", None, "2022-05-13T12:00")}),
    ],
)
def test_a_reused_ticker_changes_at_its_venues_own_instants(
    catalogue: Catalogue, venue: str, ticker: str, intervals: set[tuple[str, str | None, str | None]]
) -> None:
    """D17: a chain's birthday (2022-05-28) is nobody's listing."""
    rows = [row for row in catalogue.tickers if (row.venue_id, row.symbol) == (venue, ticker)]
    at = {time: f"{time:%Y-%m-%dT%H:%M}" for row in rows for time in (row.valid_from, row.valid_to) if time}
    assert {
        (catalogue.symbol(row.asset_id), at.get(row.valid_from), at.get(row.valid_to))  # type: ignore[arg-type]
        for row in rows
    } == intervals


@pytest.mark.parametrize(
    ("external_id", "home"),
    [
        ("fetch-ai", ("ethereum", "0xaea46a60368a7bd060eec7df8cba43b7ef41ad85")),
        ("bluzelle", ("ethereum", "0x5732046a883704404f284ce41ffadd5b007fd668")),
        ("stratos", ("ethereum", "0x08c32b0726c5684024ea6e141c50ade9690bbdcc")),
        ("crypto-com-chain", ("cronos", None)),
        ("canto", ("canto", None)),
        ("islamic-coin", ("haqq-mainnet", None)),
        *[(name, None) for name in ("ripple-usd", "ondo-us-dollar-yield", "aioz-network", "realio-network")],
    ],
)
def test_an_identifier_is_on_the_coins_home_or_nowhere(
    catalogue: Catalogue, external_id: str, home: tuple[str, str | None] | None
) -> None:
    """D12: lists put CoinGecko's ids on IBC vouchers, whose coin is held itself."""
    owners = {row.asset_id for row in catalogue.identifiers if row.external_id == external_id}
    places = {(d.chain_id, d.contract_address) for d in catalogue.deployments if d.asset_id in owners}
    assert home in places if home else not owners
    band = {catalogue.keyed["band"].asset_id}
    assert {row.asset_id for row in catalogue.identifiers if row.external_id == "band-protocol"} == band


def test_a_multiplied_ticker_says_so(catalogue: Catalogue) -> None:
    """1000SHIB is SHIB, a thousand at a time."""
    rows = [row for row in catalogue.tickers if row.symbol == "1000SHIBUSDT"]
    assert [(catalogue.symbol(row.asset_id), row.multiplier) for row in rows] == [("SHIB", Decimal(1000))]
    assert {row.multiplier for row in catalogue.tickers if not row.symbol.startswith("1000")} == {Decimal(1)}


def test_every_record_names_a_source_that_may_be_shipped(catalogue: Catalogue) -> None:
    """GPL lists and data sets without a licence are for checking only."""
    named = [record.provenance or "" for rows in catalogue.records.values() for record in rows]
    assert all(named)
    assert {text for text in named for word in FORBIDDEN if word in text.lower()} == set()
    with (SNAPSHOTS / "sources" / "sources.csv").open(encoding="utf-8", newline="") as file:
        known = {row["provenance"] for row in csv.DictReader(file)}
    assert {word for text in named for word in text.split()} - known <= {
        "curated:",
        *[
            f"snapshots/curated/{file}"
            for file in ("assets.csv", "groups.csv", "flags.csv", "relationships.csv", "tickers.csv")
        ],
    }
