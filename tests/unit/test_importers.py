"""Imports against a registry in memory: what is read from files, what is planned, what is refused."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cqar.answers import Candidate
from cqar.cli.imports import ImportKind
from cqar.client._registry import Outcome, Registry, UpsertResult
from cqar.errors import AmbiguousError, InvalidError, NotFoundError, UnavailableError
from cqar.importers import KINDS, Options, Refusal, Report, run
from cqar.importers._plan import NAMESPACE, uid
from cqar.model import (
    KIND_OF,
    NATIVE,
    Asset,
    AssetType,
    Chain,
    Deployment,
    Group,
    GroupMember,
    Identifier,
    MarketKind,
    Record,
    Venue,
    VenueSymbol,
    VenueType,
    fold,
)
from cqar.rules.choose import choose
from cqar.rules.records import normal
from cqar.v1 import registry_pb2 as pb
from cqar.wire import resolution_to_wire

DATA = Path(__file__).parents[1] / "data" / "imports"
TODAY = datetime(2026, 11, 24, tzinfo=UTC)
LUNA_2 = datetime(2022, 5, 28, 6, tzinfo=UTC)  # when the ticker LUNA got its present meaning

USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
USDC_POLYGON = "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359"
USDC_BSC = "0x8ac76a51cc950d9822d68b83fe1ad97b32cd580d"
USDC_ARBITRUM = "0xaf88d065e77c8cc2239327c5edb3a432268e5831"
DAI = "0x6b175474e89094c44da98b954eedeac495271d0f"
DAI_E = "0xd586e7f844cea2f87f50152665bcbc2c279d8d70"
LINK = "0x514910771af9ca656af840dff83e8264ecf986ca"
GHO = "0x40d16fc0246ad3160ccc09b8d0d3a2cd28ae6c2f"


class World(Registry):
    """A registry in memory that knows as much of the real one as imports ask for."""

    def __init__(self, *records: Record) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        self.position = 0
        self.calls = 0
        for record in records:
            self._put(record)

    def _put(self, record: Record) -> str:
        kind = KIND_OF[type(record)]
        key = kind.key_of(record)
        if isinstance(record, VenueSymbol):
            key = f"{record.venue_id}/{record.symbol}/{record.market_kind}/{record.valid_from}"
        before = self.records.get((kind.name, key))
        self.records[kind.name, key] = record
        return "CREATED" if before is None else "UNCHANGED" if before == record else "UPDATED"

    def of(self, kind: type[Any]) -> list[Any]:
        """All records of a kind."""
        return [record for record in self.records.values() if isinstance(record, kind)]

    def deployment(self, chain: str, address: str) -> Deployment:
        """The deployment at an address."""
        (found,) = [d for d in self.of(Deployment) if (d.chain_id, d.contract_address) == (chain, address)]
        return found  # type: ignore[no-any-return]

    def asset_at(self, chain: str, address: str) -> str:
        """The id of the asset at an address."""
        return self.deployment(chain, address).asset_id

    def list_chains(self, **_: Any) -> Iterator[Chain]:
        """Yield the chains."""
        return iter(self.of(Chain))

    def list_venues(self, **_: Any) -> Iterator[Venue]:
        """Yield the venues."""
        return iter(self.of(Venue))

    def list_venue_symbols(self, *, venue: str | None = None, **_: Any) -> Iterator[VenueSymbol]:
        """Yield the rows of a venue."""
        return iter([row for row in self.of(VenueSymbol) if row.venue_id == venue])

    def list_asset_deployments(self, *, asset_id: str | None = None, **_: Any) -> Iterator[Deployment]:
        """Yield the deployments of an asset."""
        return iter([row for row in self.of(Deployment) if row.asset_id == asset_id])

    def list_asset_groups(self, **_: Any) -> Iterator[Group]:
        """Yield the groups."""
        return iter(self.of(Group))

    def list_asset_group_members(self, group_id: str) -> Iterator[GroupMember]:
        """Yield the members of a group."""
        return iter([row for row in self.of(GroupMember) if row.group_id == group_id])

    def resolve_many(self, requests: Sequence[pb.ResolveRequest]) -> pb.ResolveManyResponse:
        """Resolve keys as the server does."""
        self.calls += 1
        return pb.ResolveManyResponse(outcomes=map(self._resolve, requests), position=self.position)

    def _resolve(self, request: pb.ResolveRequest) -> pb.ResolveOutcome:
        try:
            found = choose(
                list(self._candidates(request)),
                request.symbol.symbol or None,
                self.position,
                "server",
                str(request).strip(),
            )
        except NotFoundError as error:
            return pb.ResolveOutcome(reason="NOT_FOUND", message=error.message)
        except AmbiguousError as error:
            return pb.ResolveOutcome(reason="AMBIGUOUS", message=error.message)
        return pb.ResolveOutcome(resolution=resolution_to_wire(found))

    def _candidates(self, request: pb.ResolveRequest) -> Iterable[Candidate]:
        assets = {asset.asset_id: asset for asset in self.of(Asset)}
        match request.WhichOneof("key"):
            case "address":
                place = request.address.chain, request.address.address
                for row in self.of(Deployment):
                    if (row.chain_id, row.contract_address or NATIVE) == place:
                        yield Candidate(assets[row.asset_id], row)
            case "identifier":
                name = request.identifier.source, request.identifier.external_id
                for row in self.of(Identifier):
                    if (row.source, row.external_id) == name:
                        yield Candidate(assets[row.asset_id])
            case _:
                canonical = {row.asset_id for row in self.of(GroupMember) if row.is_canonical}
                for asset in assets.values():
                    if fold(asset.symbol) == fold(request.symbol.symbol):
                        yield Candidate(asset, is_canonical=asset.asset_id in canonical)

    def upsert_records(
        self, records: Sequence[Record], *, dry_run: bool = False, **_: Any
    ) -> tuple[list[UpsertResult], int]:
        """Write records that are in their normal form, all or, in a dry run, none."""
        chains = {chain.chain_id: chain for chain in self.of(Chain)}
        before = dict(self.records)
        results = []
        for record in records:
            chain = chains[record.chain_id] if isinstance(record, Deployment) else None
            assert normal(record, chain) == record, "an import plans normal forms"
            results.append(UpsertResult(Outcome(self._put(record)), ""))
        if dry_run:
            self.records = before
        elif self.records != before:
            self.position += 1
        return results, self.position


def chain(slug: str, network: int) -> Chain:
    """Make an EVM chain."""
    return Chain(chain_id=slug, name=slug, namespace="eip155", caip2=f"eip155:{network}", network_id=network)


CHAINS = (
    chain("ethereum", 1),
    chain("bsc", 56),
    chain("polygon", 137),
    chain("arbitrum-one", 42161),
    chain("avalanche-c", 43114),
)


def venue(slug: str, *aliases: str) -> Venue:
    """Make a venue."""
    return Venue(venue_id=slug, name=slug, venue_type=VenueType.CEX, aliases=aliases)


def asset(symbol: str, kind: AssetType = AssetType.TOKEN, *, name: str = "") -> Asset:
    """Make an asset whose id hangs on its symbol and name."""
    return Asset(asset_id=uid("test", symbol, name), symbol=symbol, name=name or symbol, asset_type=kind)


def deployed(of: Asset, slug: str, address: str, decimals: int = 18) -> Deployment:
    """Put an asset on a chain."""
    return Deployment(
        deployment_id=uid("test", slug, address),
        asset_id=of.asset_id,
        chain_id=slug,
        contract_address=address,
        decimals=decimals,
    )


def ticker(place: str, symbol: str, of: Asset, **values: Any) -> VenueSymbol:
    """Make a row of kind ASSET."""
    return VenueSymbol(
        venue_id=place, symbol=symbol, asset_id=of.asset_id, **{"market_kind": MarketKind.ASSET, **values}
    )


BTC, ETH, USD = asset("BTC", AssetType.NATIVE), asset("ETH", AssetType.NATIVE), asset("USD", AssetType.FIAT)
USDT, SHIB = asset("USDT", AssetType.STABLECOIN), asset("SHIB")
LUNA, LUNC = asset("LUNA", AssetType.NATIVE), asset("LUNC", AssetType.NATIVE)
COINS = (BTC, ETH, USD, USDT, SHIB, LUNA, LUNC)
VENUES = (venue("binance"), venue("kraken"), venue("okx", "coingecko:okex"), venue("bitmex"), venue("deribit"))


def text(path: Path, content: str) -> Path:
    """Write a file."""
    path.write_text(content, encoding="utf-8")
    return path


def token_list(path: Path, *tokens: object) -> Path:
    """Write a token list."""
    whole = {"name": "Test", "version": {"major": 1, "minor": 0, "patch": 0}, "tokens": tokens}
    return text(path, json.dumps(whole))


def token(network: int, address: str, symbol: str, decimals: int = 18, **links: str) -> dict[str, object]:
    """Make a token; `_137="0x…"` links it."""
    bridges = {name.removeprefix("_"): {"tokenAddress": target} for name, target in links.items()}
    extensions = {"bridgeInfo": bridges}
    return {
        "chainId": network, "address": address, "name": symbol, "symbol": symbol, "decimals": decimals,
        "extensions": extensions,
    }  # fmt: skip


def counts(report: Report) -> tuple[int, int, int, int, int]:
    """Give rows created, updated, unchanged, refused, and parts left out."""
    return report.created, report.updated, report.unchanged, report.refused, report.left_out


def reasons(report: Report) -> dict[tuple[int, str], str]:
    """Give the reason for each row and key."""
    return {(refusal.row, refusal.key): refusal.reason for refusal in report.refusals}


# --- token lists -----------------------------------------------------------------------------------------------------


def test_tokens_that_the_list_links_become_one_asset() -> None:
    """USDC on three linked chains is one asset, with the decimals of each chain; the unlinked namesake is another."""
    world = World(*CHAINS)
    report = run("tokenlist", DATA / "good.tokenlist.json", world)
    assert counts(report) == (8, 0, 0, 0, 2)
    places = [("ethereum", USDC), ("polygon", USDC_POLYGON), ("bsc", USDC_BSC)]
    assert {world.asset_at(*place) for place in places} == {uid("deployment:ethereum/" + USDC)}
    assert [world.deployment(*place).decimals for place in places] == [6, 6, 18]
    assert world.asset_at("arbitrum-one", USDC_ARBITRUM) == uid("deployment:arbitrum-one/" + USDC_ARBITRUM)
    assert {record.provenance for record in world.of(Asset)} == {"tokenlist:CQAR samples@1.2.3"}


def test_a_link_between_different_symbols_keeps_the_tokens_apart() -> None:
    """DAI.e is a bridged form of DAI, not DAI: reported once, both written."""
    world = World(*CHAINS)
    report = run("tokenlist", DATA / "good.tokenlist.json", world)
    assert world.asset_at("ethereum", DAI) != world.asset_at("avalanche-c", DAI_E)
    assert [refusal.reason for refusal in report.refusals] == ["SYMBOLS_DIFFER", "URL_FORMAT"]
    assert all(refusal.part for refusal in report.refusals)


def test_a_second_import_changes_nothing() -> None:
    """The same list again: every row unchanged, the position as it was."""
    world = World(*CHAINS)
    first = run("tokenlist", DATA / "good.tokenlist.json", world)
    second = run("tokenlist", DATA / "good.tokenlist.json", world)
    assert counts(second)[:4] == (0, 0, 8, 0)
    assert second.position == first.position
    assert not second.changed


def test_a_dry_run_writes_nothing_and_counts_the_same() -> None:
    """A dry run tells what the import then does, even in transactions of one record."""
    world = World(*CHAINS)
    dry = run("tokenlist", DATA / "good.tokenlist.json", world, dry_run=True, chunk=1)
    assert world.of(Asset) == []
    assert counts(dry) == counts(run("tokenlist", DATA / "good.tokenlist.json", world))


def test_every_bad_row_is_refused_and_the_others_are_written() -> None:
    """Each kind of fault in a token has its reason, and does no harm to its neighbours."""
    world = World(*CHAINS)
    report = run("tokenlist", DATA / "bad_rows.tokenlist.json", world)
    found = {refusal.row: refusal.reason for refusal in report.refusals}
    assert found == {
        2: "SCHEMA",
        3: "SCHEMA",
        4: "CHAIN_NOT_FOUND",
        5: "ADDRESS_CHECKSUM",
        6: "NATIVE_PLACEHOLDER",
        7: "TEXT_CHARACTER",
        8: "DUPLICATE",
        9: "SCHEMA",
        10: "SCHEMA",
    }
    assert counts(report) == (2, 0, 0, 9, 0)
    assert report.rows == 11
    assert {row.contract_address for row in world.of(Deployment)} == {DAI, GHO}


def test_a_schema_refusal_names_field_and_rule() -> None:
    """The message for a malformed token says where and what was expected."""
    report = run("tokenlist", DATA / "bad_rows.tokenlist.json", World(*CHAINS))
    message = next(refusal.message for refusal in report.refusals if refusal.row == 2)
    assert message == "Expected `int`, got `str` - at `$.decimals`"


def test_a_new_token_joins_the_registered_asset_it_is_linked_with(tmp_path: Path) -> None:
    """The target of a link need not be in the list; the asset keeps its own name and type."""
    usdc = msgspec.structs.replace(asset("USDC", AssetType.STABLECOIN), name="USD Coin")
    world = World(*CHAINS, usdc, deployed(usdc, "ethereum", USDC, 6))
    path = token_list(tmp_path / "list.json", token(137, USDC_POLYGON, "USDC", 6, _1=USDC))
    assert counts(run("tokenlist", path, world, options=Options(replace=True))) == (1, 0, 0, 0, 0)
    assert world.asset_at("polygon", USDC_POLYGON) == usdc.asset_id
    assert world.of(Asset) == [usdc]


def test_what_is_registered_apart_stays_apart(tmp_path: Path) -> None:
    """A link between tokens of two registered assets is reported, and so is one that a third token would make."""
    one, two = asset("BUSD", name="issued"), asset("BUSD", name="pegged")
    world = World(*CHAINS, one, two, deployed(one, "ethereum", USDC), deployed(two, "bsc", USDC_BSC))
    path = token_list(
        tmp_path / "list.json",
        token(1, USDC, "BUSD", _56=USDC_BSC, _137=USDC_POLYGON),
        token(56, USDC_BSC, "BUSD", _1=USDC, _137=USDC_POLYGON),
        token(137, USDC_POLYGON, "BUSD"),
    )
    report = run("tokenlist", path, world)
    assert [(refusal.row, refusal.reason) for refusal in report.refusals] == [
        (1, "ALREADY_SEPARATE"),
        (3, "ALREADY_SEPARATE"),
    ]
    assert world.asset_at("ethereum", USDC) == one.asset_id
    assert world.asset_at("bsc", USDC_BSC) == two.asset_id
    assert world.asset_at("polygon", USDC_POLYGON) == uid("deployment:polygon/" + USDC_POLYGON)


@pytest.mark.parametrize("registered", [False, True])
def test_links_never_put_two_tokens_of_a_chain_into_one_asset(tmp_path: Path, registered: bool) -> None:
    """If they would, none of the new tokens is joined, whatever the order of the list."""
    other = "0x2791bca1f2de4661ed88a30c99a7a9449aa84174"
    usdc = asset("USDC")
    there = (usdc, deployed(usdc, "ethereum", USDC), deployed(usdc, "polygon", other)) if registered else ()
    tokens = [
        token(1, USDC, "USDC", _137=USDC_POLYGON),
        token(137, USDC_POLYGON, "USDC"),
        token(137, other, "USDC", _1=USDC),
    ]
    results = []
    for number, order in enumerate([tokens, tokens[::-1]]):
        world = World(*CHAINS, *there)
        report = run("tokenlist", token_list(tmp_path / f"{number}.json", *order), world)
        assert {refusal.reason for refusal in report.refusals} == {"TWO_ON_ONE_CHAIN"}
        results.append({(row.chain_id, row.contract_address): row.asset_id for row in world.of(Deployment)})
    assert results[0] == results[1]
    assert results[0]["polygon", USDC_POLYGON] != results[0]["polygon", other]


def test_other_decimals_than_registered_are_refused_unless_they_replace(tmp_path: Path) -> None:
    """Decimals are never changed on the way: a list that contradicts the registry is told so."""
    usdc = asset("USDC")
    world = World(*CHAINS, usdc, deployed(usdc, "ethereum", USDC, 6))
    path = token_list(tmp_path / "list.json", token(1, USDC, "USDC", 18))
    assert [refusal.reason for refusal in run("tokenlist", path, world).refusals] == ["DECIMALS_DIFFER"]
    assert world.deployment("ethereum", USDC).decimals == 6
    run("tokenlist", path, world, options=Options(replace=True))
    assert world.deployment("ethereum", USDC).decimals == 18


def test_a_broken_link_spoils_neither_the_token_nor_the_import(tmp_path: Path) -> None:
    """A link with a bad address is left out; one to a chain that is not registered is passed over."""
    world = World(*CHAINS)
    path = token_list(tmp_path / "list.json", token(1, USDC, "USDC", _137="0x12", _999=USDC, _zz=USDC))
    report = run("tokenlist", path, world)
    assert counts(report) == (1, 0, 0, 0, 2)
    assert [refusal.reason for refusal in report.refusals] == ["LINK", "LINK"]


def test_solana_has_its_own_number_in_uniswaps_lists(tmp_path: Path) -> None:
    """Network 501000101 is Solana, and its addresses keep their case."""
    solana = Chain(
        chain_id="solana", name="Solana", namespace="solana", caip2="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
    )
    world = World(solana)
    mint = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
    assert run("tokenlist", token_list(tmp_path / "list.json", token(501000101, mint, "USDC", 6)), world).created == 1
    assert world.deployment("solana", mint).decimals == 6


# --- chains and venues -----------------------------------------------------------------------------------------------


def test_chains_come_with_their_aliases_and_disputes_are_left_out() -> None:
    """Every source's name is an alias; what sources dispute, and what two chains claim, is not written."""
    world = World()
    report = run("chains", DATA / "chains.json", world)
    assert counts(report) == (10, 0, 0, 0, 4)
    made = {each.chain_id: each for each in world.of(Chain)}
    assert made["ethereum"].aliases == (
        "ccxt:ERC20", "chainlist:eth", "hyperlane:ethereum", "ledger:ethereum", "viem:mainnet", "wormhole:Ethereum",
    )  # fmt: skip
    assert made["ethereum"].network_id == 1
    assert made["cosmoshub"].network_id is None
    assert made["hyperevm"].native_symbol is None
    assert not any("chainlist" in alias for alias in made["hyperevm"].aliases)
    assert reasons(report) == {
        (4, "hyperevm"): "DISPUTED",
        (5, "sei-network"): "ALIAS_TAKEN",
        (10, "sei"): "ALIAS_TAKEN",
    }
    assert run("chains", DATA / "chains.json", world).unchanged == 10


def test_the_registry_decides_whose_an_alias_is() -> None:
    """An alias that two rows claim stays with the chain that has it already, and so does its namespace."""
    world = World(
        Chain(chain_id="sei", name="Sei", namespace="cosmos", caip2="cosmos:pacific-1", aliases=("ledger:sei",))
    )
    report = run("chains", DATA / "chains.json", world)
    assert reasons(report)[5, "sei-network"] == "ALIAS_TAKEN"
    assert (10, "sei") not in reasons(report)
    (sei,) = [each for each in world.of(Chain) if each.chain_id == "sei"]
    assert "ledger:sei" in sei.aliases


def test_chains_can_be_a_flat_csv(tmp_path: Path) -> None:
    """Several names in a cell are split; a row that has not its form is refused with its line."""
    content = (
        "slug,name,kind,caip2,network_id,native_decimals,testnet,ccxt_networks\n"
        "optimism,OP Mainnet,evm,eip155:10,10,18,false,OPTIMISM|OP\n"
        "cosmoshub,Cosmos Hub,cosmos,cosmos:cosmoshub-4,cosmoshub-4,6,false,ATOM\n"
        "waves,Waves,other,,,many,false,\n"
        "tron,TRON,tron,,,6,false,TRC20,extra\n"
    )
    world = World()
    report = run("chains", text(tmp_path / "chains.csv", content), world)
    assert [(each.chain_id, each.aliases, each.network_id) for each in world.of(Chain)] == [
        ("optimism", ("ccxt:OP", "ccxt:OPTIMISM"), 10),
        ("cosmoshub", ("ccxt:ATOM",), None),
    ]
    assert {(refusal.row, refusal.reason) for refusal in report.refusals} == {(4, "SCHEMA"), (5, "SCHEMA")}


def test_venues_that_may_be_another_by_an_old_name_are_refused() -> None:
    """Gone or renamed ones are refused, a bad country is left out, the rest is written."""
    world = World()
    report = run("venues", DATA / "venues.json", world)
    assert counts(report) == (7, 0, 0, 2, 1)
    assert reasons(report) == {
        (4, "foxbit"): "COUNTRY",
        (8, "bitmex"): "GONE_OR_RENAMED",
        (9, "okex"): "GONE_OR_RENAMED",
    }
    okx = next(each for each in world.of(Venue) if each.venue_id == "okx")
    assert (okx.venue_type, okx.aliases, okx.countries) == (VenueType.CEX, ("ccxt:okx",), ("CN", "US"))


def test_a_venue_that_is_registered_under_another_name_is_refused(tmp_path: Path) -> None:
    """The alias of a registered venue does not become a second one."""
    path = text(tmp_path / "venues.json", json.dumps([{"venue_id": "cg:okex", "name": "OKEx", "type": "cex"}]))
    report = run("venues", path, World(venue("okx", "coingecko:okex")))
    assert reasons(report) == {(1, "okex"): "OTHER_NAME"}


# --- tickers and markets -----------------------------------------------------------------------------------------------


def test_tickers_are_resolved_by_what_the_file_says_of_them(tmp_path: Path) -> None:
    """By contract, by CoinGecko id, or by ccxt's code; the venue by any of its names."""
    atom = Identifier(identifier_id=uid("atom"), asset_id=ETH.asset_id, source="coingecko", external_id="cosmos")
    world = World(*CHAINS, *VENUES, *COINS, atom, deployed(SHIB, "ethereum", LINK))
    contract = (
        f"venue,venue_symbol,chain,address\nkraken,SHIB,eip155:1,{LINK}\nkraken,NOPE,1,{DAI}\nkraken,BAD,1,0x12\n"
    )
    report = run("venue-symbols", text(tmp_path / "contract.csv", contract), world)
    assert reasons(report) == {(3, "kraken/NOPE"): "UNMAPPED", (4, "kraken/BAD"): "ADDRESS_FORMAT"}
    gecko = "coingecko_market_id,venue_symbol,coingecko_id\nokex,ATOM,cosmos\nokex,X,\nnowhere,ATOM,cosmos\n"
    report = run("venue-symbols", text(tmp_path / "gecko.csv", gecko), world)
    assert reasons(report) == {(3, "okex/X"): "UNMAPPED", (4, "nowhere/ATOM"): "VENUE_NOT_FOUND"}
    codes = "venue,venue_symbol,unified_symbol,kind\nkraken,XBT,BTC,rename\nbinance,XBT,BTC,default\nkraken,SHIB2,SHIB,rename\n"
    report = run("venue-symbols", text(tmp_path / "codes.csv", codes), world)
    assert reasons(report) == {(3, "binance/XBT"): "NO_VENUE", (4, "kraken/SHIB2"): "UNMAPPED"}
    assert {(row.venue_id, row.symbol, row.asset_id) for row in world.of(VenueSymbol)} == {
        ("kraken", "SHIB", SHIB.asset_id),
        ("okx", "ATOM", ETH.asset_id),
        ("kraken", "XBT", BTC.asset_id),
    }


def test_a_ticker_that_means_another_asset_is_not_redefined(tmp_path: Path) -> None:
    """Without --replace the registry's meaning stays and the row is refused, naming both."""
    world = World(*VENUES, *COINS, ticker("kraken", "XBT", ETH))
    path = text(tmp_path / "codes.csv", "venue,venue_symbol,unified_symbol\nkraken,XBT,BTC\n")
    assert reasons(run("venue-symbols", path, world)) == {(2, "kraken/XBT"): "MEANS_ANOTHER"}
    assert run("venue-symbols", path, world, options=Options(replace=True)).updated == 1
    assert [row.asset_id for row in world.of(VenueSymbol)] == [BTC.asset_id]


def markets_world(*records: Record) -> World:
    """Give a world in which the sample of markets can be resolved."""
    old, new = ticker("binance", "LUNA", LUNC, valid_to=LUNA_2), ticker("binance", "LUNA", LUNA, valid_from=LUNA_2)
    return World(*VENUES, *COINS, old, new, ticker("binance", "SHIB", SHIB), ticker("bitmex", "XBT", BTC), *records)


def market(world: World, place: str, symbol: str, kind: MarketKind) -> VenueSymbol:
    """Give the only row of a market."""
    key = place, symbol, kind
    (found,) = [row for row in world.of(VenueSymbol) if (row.venue_id, row.symbol, row.market_kind) == key]
    return found  # type: ignore[no-any-return]


def test_markets_get_their_kind_sides_and_end() -> None:
    """A swap is a perpetual, a future ends at its expiry, an option too; spot and perpetual may share a ticker."""
    world = markets_world()
    report = run("markets", DATA / "markets.csv", world, options=Options(as_of=TODAY))
    assert reasons(report) == {(4, "binance/VENBTC"): "INACTIVE"}
    assert report.created == 14
    spot, swap = [market(world, "binance", "BTCUSDT", kind) for kind in (MarketKind.SPOT, MarketKind.PERPETUAL)]
    assert (spot.asset_id, spot.quote_asset_id, spot.settle_asset_id) == (BTC.asset_id, USDT.asset_id, None)
    assert swap.settle_asset_id == USDT.asset_id
    future = market(world, "binance", "BTCUSDT_210924", MarketKind.FUTURE)
    assert future.valid_to == datetime(2021, 9, 24, 8, tzinfo=UTC)
    inverse = market(world, "bitmex", "XBTUSD", MarketKind.PERPETUAL)
    assert (inverse.asset_id, inverse.quote_asset_id, inverse.settle_asset_id) == (
        BTC.asset_id,
        USD.asset_id,
        BTC.asset_id,
    )
    assert market(world, "deribit", "BTC-24SEP21-40000-P", MarketKind.OPTION).valid_to is not None
    assert {row.provenance for row in world.of(VenueSymbol) if row.quote_asset_id} == {"file:markets.csv"}
    again = run("markets", DATA / "markets.csv", world, options=Options(as_of=TODAY))
    assert (again.unchanged, again.changed) == (14, False)


def test_a_market_means_what_its_codes_meant_at_the_time_of_the_file() -> None:
    """LUNAUSDT is Terra's new coin today and was the old one in 2021, each in its interval."""
    world = markets_world()
    run("markets", DATA / "markets.csv", world, options=Options(as_of=TODAY))
    run("markets", DATA / "markets.csv", world, options=Options(as_of=datetime(2021, 7, 22, tzinfo=UTC)))
    rows = [row for row in world.of(VenueSymbol) if row.symbol == "LUNAUSDT" and row.market_kind is MarketKind.SPOT]
    assert {(row.asset_id, row.valid_from, row.valid_to) for row in rows} == {
        (LUNA.asset_id, LUNA_2, None),
        (LUNC.asset_id, None, LUNA_2),
    }


def test_a_code_whose_meaning_has_ended_is_not_guessed_anew() -> None:
    """A venue that once had a ticker of its own for a code is not asked about by symbol."""
    world = World(*VENUES, *COINS, ticker("okx", "LUNA", LUNC, valid_to=LUNA_2))
    report = run("markets", DATA / "markets.csv", world, options=Options(as_of=TODAY))
    assert reasons(report)[14, "okx/LUNA-USDT"] == "UNMAPPED"


def test_a_multiple_is_read_only_beside_the_coin_itself() -> None:
    """1000SHIB is a thousand SHIB if the venue lists SHIB; an asset with this very symbol wins; else it is refused."""
    key = (8, "binance/1000SHIBUSDT")
    world = markets_world()
    run("markets", DATA / "markets.csv", world)
    row = market(world, "binance", "1000SHIBUSDT", MarketKind.PERPETUAL)
    assert (row.asset_id, row.multiplier) == (SHIB.asset_id, Decimal(1000))
    itself = asset("1000SHIB", AssetType.NATIVE)
    world = markets_world(itself)
    run("markets", DATA / "markets.csv", world)
    row = market(world, "binance", "1000SHIBUSDT", MarketKind.PERPETUAL)
    assert (row.asset_id, row.multiplier) == (itself.asset_id, Decimal(1))
    assert reasons(run("markets", DATA / "markets.csv", World(*VENUES, *COINS)))[key] == "UNMAPPED"


REAL_MULTIPLES = [  # raw symbol, base, base_id, the factor that Bybit's, Binance's and Hyperliquid's contracts have
    ("1000BONKUSDT", "BONK", "", 1000),
    ("10000WHYUSDT", "WHY", "", 10_000),
    ("10000000AIDOGEUSDT", "AIDOGE", "", 10_000_000),
    ("SHIB1000USDT", "SHIB", "", 1000),
    ("SHIB1000-PERP", "SHIB", "SHIB", 1000),
    ("1MBABYDOGEUSDT", "BABYDOGE", "", 1_000_000),
    ("1000BONKUSDT", "BONK", "1000BONK", 1000),
    ("1000BONKUSDT", "1000BONK", "1000BONK", 1000),
    ("kPEPE", "PEPE", "", 1000),
    ("t1INCH:USDT", "1INCH", "", 1),
    ("C98USDT", "C98", "", 1),
    ("KRW-BONK", "BONK", "", 1),
    ("bonkusdt", "BONK", "", 1),
]


@pytest.mark.parametrize(("raw", "base", "base_id", "factor"), REAL_MULTIPLES)
def test_a_multiple_is_read_from_the_raw_symbol_too(
    tmp_path: Path, raw: str, base: str, base_id: str, factor: int
) -> None:
    """D4: Bybit's 1000BONKUSDT has the base BONK in real files; one contract of it is a thousand BONK all the same."""
    coin = base.removeprefix("1000")
    held = asset(coin)
    world = World(*VENUES, *COINS, held, ticker("binance", coin, held))
    content = f"venue,raw_symbol,base,quote,type,settle,base_id\nbinance,{raw},{base},USDT,swap,USDT,{base_id}\n"
    report = run("markets", text(tmp_path / "markets.csv", content), world)
    assert reasons(report) == {}
    row = market(world, "binance", raw, MarketKind.PERPETUAL)
    assert (row.asset_id, row.multiplier) == (held.asset_id, Decimal(factor))


@pytest.mark.parametrize(("raw", "base_id"), [("500BONKUSDT", ""), ("BONK2USDT", ""), ("1000XUSDT", "XYZ")])
def test_a_multiple_that_cannot_be_read_is_refused(tmp_path: Path, raw: str, base_id: str) -> None:
    """A number that is no power of ten, or one beside another code, tells no multiplier: 1 would be a guess."""
    held = asset("BONK")
    world = World(*VENUES, *COINS, held, ticker("binance", "BONK", held), ticker("binance", "XYZ", held))
    content = f"venue,raw_symbol,base,quote,type,base_id\nbinance,{raw},BONK,USDT,spot,{base_id}\n"
    assert reasons(run("markets", text(tmp_path / "markets.csv", content), world)) == {
        (2, f"binance/{raw}"): "MULTIPLE"
    }


def test_a_market_priced_in_itself_is_refused(tmp_path: Path) -> None:
    """D6: Phemex' BTCUSD came with base USD and quote USD. The registry refuses such a row from anybody."""
    content = "venue,raw_symbol,base,quote,type\nbinance,BTCUSD,USD,USD,spot\n"
    report = run("markets", text(tmp_path / "markets.csv", content), World(*VENUES, *COINS))
    assert reasons(report) == {(2, "binance/BTCUSD"): "BASE_IS_QUOTE"}


def test_a_ticker_that_reads_as_a_multiple_of_something_else_is_refused(tmp_path: Path) -> None:
    """1000CAT is a thousand CAT of the asset CAT; of an asset that is called otherwise it is nobody knows how many."""
    cat, other = asset("CAT"), asset("SIMON")
    at = f"venue,venue_symbol,chain,address\nkraken,1000CAT,ethereum,{LINK}\nkraken,CAT1000,ethereum,{LINK}\n"
    world = World(*CHAINS, *VENUES, *COINS, cat, deployed(cat, "ethereum", LINK))
    run("venue-symbols", text(tmp_path / "tickers.csv", at), world)
    assert {(row.symbol, row.multiplier) for row in world.of(VenueSymbol)} == {
        ("1000CAT", Decimal(1000)),
        ("CAT1000", Decimal(1000)),
    }
    world = World(*CHAINS, *VENUES, *COINS, other, deployed(other, "ethereum", LINK))
    report = run("venue-symbols", text(tmp_path / "tickers.csv", at), world)
    assert set(reasons(report).values()) == {"MULTIPLE"}


def spot(path: Path, code: str) -> Path:
    """Write a file with one market of a code against USDT."""
    return text(path, f"venue,raw_symbol,base,quote,type\nbinance,{code}USDT,{code},USDT,spot\n")


def test_a_symbol_alone_does_not_tell_which_token_a_code_means(tmp_path: Path) -> None:
    """EWT is on Kraken a utility token, in the registry a tokenised fund: refused, unless symbols are trusted."""
    fund = asset("EWT", name="iShares MSCI Taiwan ETF")
    world = World(*VENUES, *COINS, fund)
    path = spot(tmp_path / "markets.csv", "EWT")
    report = run("markets", path, world)
    assert reasons(report) == {(2, "binance/EWTUSDT"): "UNMAPPED"}
    assert "only its symbol speaks for iShares" in report.refusals[0].message
    assert run("markets", path, world, options=Options(trust_symbols=True)).created == 1


def test_the_canonical_member_of_a_group_is_what_its_symbol_means(tmp_path: Path) -> None:
    """With namesakes the group decides; without a group they are ambiguous, and trust does not change that."""
    real, fake = asset("PEPE"), asset("PEPE", name="fake")
    group = Group(group_id=uid("group", "pepe"), canonical_symbol="PEPE", name="Pepe")
    member = GroupMember(group_id=group.group_id, asset_id=real.asset_id, is_canonical=True)
    path = spot(tmp_path / "markets.csv", "PEPE")
    world = World(*VENUES, *COINS, real, fake)
    report = run("markets", path, world, options=Options(trust_symbols=True))
    assert reasons(report) == {(2, "binance/PEPEUSDT"): "AMBIGUOUS"}
    world = World(*VENUES, *COINS, real, fake, group, member)
    assert run("markets", path, world).created == 1
    assert market(world, "binance", "PEPEUSDT", MarketKind.SPOT).asset_id == real.asset_id


def test_markets_of_an_unknown_type_or_without_expiry_are_refused(tmp_path: Path) -> None:
    """What the file does not say is not made up."""
    content = (
        "venue,raw_symbol,base,quote,type,expiry\n"
        "binance,A,BTC,USDT,swap_or_future,\n"
        "binance,B,BTC,USDT,future,\n"
        "binance,C,BTC,USDT,future,tomorrow\n"
        "binance,D,BTC,USDT,spot,\n"
        "binance,D,BTC,USDT,spot,\n"
    )
    report = run("markets", text(tmp_path / "markets.csv", content), World(*VENUES, *COINS))
    assert {refusal.row: refusal.reason for refusal in report.refusals} == {
        2: "MARKET_TYPE",
        3: "EXPIRY",
        4: "SCHEMA",
        6: "DUPLICATE",
    }
    assert report.created == 1


# --- files -------------------------------------------------------------------------------------------------------------

_GOOD = '{"name": "x", "version": {"major": 1, "minor": 0, "patch": 0}, "tokens": []}'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "FILE_EMPTY"),
        (b"  \n", "FILE_EMPTY"),
        (b"{", "FILE_JSON"),
        (b'{"tokens": [}', "FILE_JSON"),
        (b"\xff\xfe{}", "FILE_ENCODING"),
        (b"[]", "FILE_SCHEMA"),
        (_GOOD.replace('"name": "x", ', "").encode(), "FILE_SCHEMA"),
        (_GOOD.replace('"minor": 0', '"minor": "0"').encode(), "FILE_SCHEMA"),
        (_GOOD.replace("[]", "{}").encode(), "FILE_SCHEMA"),
        (_GOOD.replace('"tokens": []', '"rows": []').encode(), "FILE_SCHEMA"),
    ],
)
def test_a_file_that_is_no_token_list_is_one_typed_error(tmp_path: Path, content: bytes, reason: str) -> None:
    """The error names file and rule in one line, and nothing is asked of the registry."""
    path = tmp_path / "list.json"
    path.write_bytes(content)
    world = World(*CHAINS)
    with pytest.raises(InvalidError) as caught:
        run("tokenlist", path, world)
    assert caught.value.reason == reason
    assert caught.value.metadata["file"] == str(path)
    assert caught.value.metadata["rule"]
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    assert world.calls == 0


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"snapshot"}))
def test_a_folder_or_a_missing_file_is_one_typed_error(tmp_path: Path, kind: str) -> None:
    """Every kind says what it was given instead of a file."""
    with pytest.raises(InvalidError, match="is a folder") as caught:
        run(kind, tmp_path, World())
    assert caught.value.reason == "FILE_KIND"
    with pytest.raises(InvalidError, match="no such file"):
        run(kind, tmp_path / "nothing.csv", World())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("venue,raw_symbol\nbinance,BTCUSDT\n", "FILE_HEADER"),
        ("venue,venue,raw_symbol,base,quote,type\n", "FILE_HEADER"),
        ('venue,raw_symbol,base,quote,type\n"binance\n', "FILE_CSV"),
    ],
)
def test_a_file_with_another_header_is_one_typed_error(tmp_path: Path, content: str, reason: str) -> None:
    """The columns that are needed are named."""
    with pytest.raises(InvalidError) as caught:
        run("markets", text(tmp_path / "markets.csv", content), World())
    assert caught.value.reason == reason
    assert caught.value.metadata["row"]


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    """Spreadsheets write one."""
    path = spot(tmp_path / "markets.csv", "BTC")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert run("markets", path, World(*VENUES, *COINS)).created == 1


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    """The error lists what can be imported."""
    with pytest.raises(InvalidError, match="chains, venues, venue-symbols, markets, tokenlist, snapshot"):
        run("tokens", DATA / "good.tokenlist.json", World())


# --- reports and failures ----------------------------------------------------------------------------------------------


class Failing(World):
    """A registry that goes away after some writes."""

    writes = 0

    def upsert_records(self, records: Sequence[Record], **options: Any) -> tuple[list[UpsertResult], int]:
        """Write twice, then fail."""
        self.writes += 1
        if self.writes > 2:
            raise UnavailableError("localhost:7433 cannot be reached")
        return super().upsert_records(records, **options)


def test_an_import_that_is_cut_off_tells_how_far_it_got_and_goes_on() -> None:
    """The error says what was done; the same import again does the rest."""
    world = Failing(*CHAINS)
    with pytest.raises(UnavailableError) as caught:
        run("tokenlist", DATA / "good.tokenlist.json", world, chunk=2)
    assert (caught.value.metadata["done"], caught.value.metadata["total"]) == ("4", "14")
    assert "stopped after 4 of 14 records, up to position 2" in caught.value.message
    world.writes = -100
    report = run("tokenlist", DATA / "good.tokenlist.json", world, chunk=2)
    assert report.created + report.unchanged == 8
    assert len(world.of(Deployment)) == 8


def test_progress_is_told_and_ends_at_one() -> None:
    """Every step tells its name and how much of it is done."""
    told: list[tuple[str, float]] = []
    run("tokenlist", DATA / "good.tokenlist.json", World(*CHAINS), progress=lambda *each: told.append(each))
    assert list(dict.fromkeys([step for step, _ in told])) == ["reading", "looking up", "writing"]
    assert told[-1] == ("writing", 1.0)


@pytest.mark.parametrize("name", ["refused.csv", "refused.jsonl"])
def test_a_report_can_be_written_to_a_file(tmp_path: Path, name: str) -> None:
    """All refusals are in it, with file, row, key, reason and message."""
    report = run("tokenlist", DATA / "bad_rows.tokenlist.json", World(*CHAINS))
    report.write(tmp_path / name)
    lines = (tmp_path / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(report.refusals) + (1 if name.endswith(".csv") else 0)
    if name.endswith(".csv"):
        assert lines[0] == "file,row,key,reason,message,part"
    else:
        first = json.loads(lines[0])
        assert Refusal(**{field: first[field] for field in Refusal.__struct_fields__}) == report.refusals[0]


def test_ids_are_those_of_the_bundled_catalogue() -> None:
    """Two hosts, and the catalogue, give one id to a token."""
    tables = runpy.run_path(str(Path(__file__).parents[2] / "snapshots" / "tables.py"))
    assert tables["NAMESPACE"] == NAMESPACE
    assert tables["uid"]("at", "ethereum", USDC) == uid("at", "ethereum", USDC)


def test_the_command_line_offers_every_kind() -> None:
    """The names that it completes are those that can be imported."""
    assert [kind.value for kind in ImportKind] == list(KINDS)
