"""R1 to R5 and R7: what names mean. Symbols, addresses, decimals, chains and identifiers, asked of replica and server alike.

Details of single values are in tests/unit: test_text (symbols), test_addresses, test_caip, test_choose.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cqar import model, wire
from cqar.cli import app
from cqar.client import AmbiguousError, ConflictError, InvalidError, NotFoundError
from cqar.model import (
    AssetType,
    Chain,
    Deployment,
    FlagType,
    Identifier,
    Severity,
    Venue,
    VenueType,
)
from cqar.rules.addresses import checksummed, display_address
from cqar.v1 import registry_pb2 as pb
from tests.rulings.conftest import NOBODY, Realm
from tests.unit.test_looks import CYRILLIC_USDT

USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
ZERO = "0x" + "0" * 40
EEEE = "0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE"


# --- R1: symbols -----------------------------------------------------------------------------------------------------


def test_r01_case_tells_real_tokens_apart(realm: Realm) -> None:
    """Three tokens of Solana are PEPE, Pepe and pepe: each spelling gives its own, a fourth spelling is ambiguous."""
    found = {symbol: realm.resolve(symbol, "solana") for symbol in ("PEPE", "Pepe", "pepe")}
    assert {symbol: answer.asset.symbol for symbol, answer in found.items()} == {s: s for s in found}
    assert {len(answer.collisions) for answer in found.values()} == {2}
    with pytest.raises(AmbiguousError) as caught:
        realm.resolve("PePe", "solana")
    assert {candidate.symbol for candidate in caught.value.candidates} == set(found)


@pytest.mark.parametrize(("chain", "upper", "lower"), [("optimism", "OP", "op"), ("bsc", "CUSD", "cUSD")])
def test_r01_an_exact_match_outranks_a_folded_one(realm: Realm, chain: str, upper: str, lower: str) -> None:
    """OP and op, CUSD and cUSD are different tokens of one chain, even where the other one is canonical."""
    real = realm.asset(upper, name="the upper") if upper == "CUSD" else realm.resolve(upper, chain).asset
    if upper == "CUSD":
        realm.deploy(real, chain, is_canonical=True)
    other = realm.asset(lower, name="the lower")
    realm.deploy(other, chain)
    assert realm.resolve(upper, chain).asset == real
    assert realm.resolve(lower, chain).asset == other
    assert realm.resolve(f" {lower} ", chain).asset == other


def test_r01_without_an_exact_match_a_folded_one_answers(realm: Realm) -> None:
    """`usdc` finds USDC, also in a fold that is longer than what was folded."""
    assert realm.resolve("usdc", "ethereum").asset.symbol == "USDC"
    sharp = realm.asset("Straße")
    assert realm.resolve("STRASSE").asset == sharp


def test_r01_a_symbol_is_stored_as_its_source_wrote_it(realm: Realm) -> None:
    """Trimmed and otherwise untouched, non-ASCII and all; 64 characters fit."""
    for symbol in ("USD₮0", "币安人生", "x" * 64, "$WIF.e+1"):
        asset = realm.asset(f"  {symbol}\t", name=symbol)
        assert asset.symbol == symbol
        assert realm.resolve(symbol).asset == asset
        assert realm.sql("SELECT symbol FROM assets WHERE asset_id = %s", asset.asset_id) == [(symbol,)]


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("x" * 65, "TEXT_LENGTH"),
        ("", "TEXT_EMPTY"),
        (" \t", "TEXT_EMPTY"),
        ("US\u200bDC", "TEXT_CHARACTER"),
        ("\u202eCDSU", "TEXT_CHARACTER"),
        ("USDC\x07", "TEXT_CHARACTER"),
    ],
)
def test_r01_what_no_symbol_may_be_is_refused_clearly(realm: Realm, symbol: str, reason: str) -> None:
    """Too long, empty, control and format characters: refused with field and rule, when written and when asked for."""
    before = realm.position()
    with pytest.raises(InvalidError) as caught:
        realm.asset(symbol)
    assert (caught.value.reason, caught.value.field) == (reason, "symbol")
    assert caught.value.metadata["rule"]
    with pytest.raises(InvalidError) as asked:
        realm.registry.resolve(symbol)
    assert asked.value.reason == reason
    if symbol.strip():
        with pytest.raises(InvalidError):
            realm.resolve(symbol)
    assert realm.position() == before


# --- R2: resolve -----------------------------------------------------------------------------------------------------


def test_r02_none_one_and_several(realm: Realm) -> None:
    """None is not found, one is the answer; several without a preference are all told, never picked from."""
    with pytest.raises(NotFoundError):
        realm.resolve("NOSUCHTOKEN", "ethereum")
    with pytest.raises(NotFoundError):
        realm.resolve("cbETH", "bitcoin")
    one = realm.resolve("stETH", "ethereum")
    assert (one.asset.name, one.deployment.decimals, one.collisions) == ("Lido Staked Ether", 18, ())  # type: ignore[union-attr]
    with pytest.raises(AmbiguousError) as caught:
        realm.resolve("USDC", "neutron")
    assert [candidate.chain_id for candidate in caught.value.candidates] == ["neutron"] * 2
    assert len({candidate.contract_address for candidate in caught.value.candidates}) == 2


def test_r02_exactly_one_canonical_deployment_wins(realm: Realm) -> None:
    """Of Celo's two WETH one is canonical: it answers, and the other is its collision with all that tells it apart."""
    found = realm.resolve("WETH", "celo")
    assert found.deployment is not None
    assert found.deployment.is_canonical
    (other,) = found.collisions
    assert other.asset_id != found.asset.asset_id
    assert (other.symbol, other.name, other.chain_id, other.asset_type) == ("WETH", "Wrapped Ether", "celo", "TOKEN")
    assert (other.contract_address or "").startswith("0x66803fb87a")
    assert not other.is_canonical
    assert 0 < found.position <= realm.position()


def test_r02_two_canonical_deployments_are_no_preference(realm: Realm) -> None:
    """If both are canonical, neither wins."""
    for number in range(2):
        realm.deploy(realm.asset("TWIN", name=f"twin {number}"), "base", is_canonical=True)
    with pytest.raises(AmbiguousError) as caught:
        realm.resolve("TWIN", "base")
    assert [candidate.is_canonical for candidate in caught.value.candidates] == [True, True]


def test_r02_without_a_chain_the_groups_canonical_member_wins(realm: Realm) -> None:
    """Several assets are called ETH; the canonical member of the group ETH is Ether, whatever the case of the question."""
    for symbol, name in (("ETH", "Ether"), ("eth", "Ether"), ("USDC", "USD Coin"), ("LUNA", "Terra")):
        found = realm.resolve(symbol)
        assert (found.asset.name, found.deployment) == (name, None)
        assert found.collisions
        assert found.asset.asset_id not in {collision.asset_id for collision in found.collisions}
    with pytest.raises(AmbiguousError):
        realm.resolve("PEPE", "osmosis")


def test_r02_never_by_order_or_age(realm: Realm) -> None:
    """Whoever of two equals is older, or has the smaller id, they are ambiguous; deleting one decides."""
    first, second = realm.asset("EQUAL", name="first"), realm.asset("EQUAL", name="second")
    with pytest.raises(AmbiguousError) as caught:
        realm.resolve("EQUAL")
    assert [c.asset_id for c in caught.value.candidates] == sorted([first.asset_id, second.asset_id])
    realm.registry.delete_asset(first.asset_id)
    assert realm.resolve("EQUAL").asset == second


def test_r02_flags_never_move_a_name(realm: Realm) -> None:
    """Ambiguous stays ambiguous, an answer stays the answer, whichever of the two is flagged, and when it is cleared."""
    one, two = realm.asset("MOVE", name="one"), realm.asset("MOVE", name="two")
    canonical, other = realm.asset("STAY", name="canonical"), realm.asset("STAY", name="other")
    realm.deploy(canonical, is_canonical=True)
    realm.deploy(other)
    for flagged in (one, two, canonical, other):
        flag = realm.flag(flagged, Severity.CRITICAL, flag_type=FlagType.IMPOSTOR)
        with pytest.raises(AmbiguousError):
            realm.resolve("MOVE")
        found = realm.resolve("STAY", "ethereum")
        assert found.asset == canonical
        assert found.flags == ((flag,) if flagged == canonical else ())
        assert {each.asset_id for each in found.collisions} == {other.asset_id}
        realm.registry.resolve_quality_flag(flag.flag_id, reason="an error")
        assert realm.resolve("STAY", "ethereum").asset == canonical


def test_r02_if_only_flagged_candidates_exist_the_answer_shows_the_flags(realm: Realm) -> None:
    """A scam that is the only one of its name is found, with its flags on it."""
    scam = realm.asset()
    flag = realm.flag(scam)
    assert realm.resolve(scam.symbol).flags == (flag,)


# --- R3: addresses ---------------------------------------------------------------------------------------------------


def test_r03_an_evm_address_has_one_normal_form(realm: Realm) -> None:
    """Lower case, upper case, `0X` and a right checksum are one address; stored lower-case, shown checksummed."""
    usdc = realm.resolve("USDC", "ethereum")
    assert usdc.deployment is not None
    assert usdc.deployment.contract_address == USDC.lower()
    for text in (USDC, USDC.lower(), "0X" + USDC[2:], "0x" + USDC[2:].upper(), f" {USDC} "):
        assert realm.address("ethereum", text).deployment == usdc.deployment
    ethereum = next(c for c in realm.client.list_chains() if c.chain_id == "ethereum")
    assert display_address(ethereum, usdc.deployment.contract_address) == USDC


@pytest.mark.parametrize(
    ("chain", "address", "reason"),
    [
        ("ethereum", USDC.replace("A0b", "a0b"), "ADDRESS_CHECKSUM"),
        ("ethereum", USDC[:-1], "ADDRESS_FORMAT"),
        ("ethereum", USDC[2:], "ADDRESS_FORMAT"),
        ("solana", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTD", "ADDRESS_FORMAT"),
        ("tron", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6T", "ADDRESS_CHECKSUM"),
        ("bitcoin", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdr", "ADDRESS_CHECKSUM"),
        ("osmosis", "ibc/498A", "ADDRESS_FORMAT"),
        ("starknet", "0x0", "ADDRESS_FORMAT"),
        ("aptos", "0x1::aptos_coin", "ADDRESS_FORMAT"),
        ("sui", "2::sui::SUI::x", "ADDRESS_FORMAT"),
    ],
)
def test_r03_a_wrong_address_is_refused_not_unfound(realm: Realm, chain: str, address: str, reason: str) -> None:
    """A mistyped address is an error with its rule on every namespace, in look-ups and in writes."""
    with pytest.raises(InvalidError) as caught:
        realm.address(chain, address)
    assert caught.value.reason == reason
    with pytest.raises(InvalidError) as written:
        realm.deploy(realm.resolve("USDC").asset, chain, contract_address=address)
    assert (written.value.reason, written.value.field) == (reason, "contract_address")


def test_r03_rootstock_has_its_own_checksum(realm: Realm) -> None:
    """EIP-1191 there: the EIP-55 spelling of the same address is refused, and the other way round on Ethereum."""
    # The vectors of both standards for one address.
    plain = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
    ethereum, rootstock = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x5aaEB6053f3e94c9b9a09f33669435E7ef1bEAeD"
    deployment = realm.deploy(realm.asset("RIF"), "rootstock", contract_address=rootstock)
    assert deployment.contract_address == plain
    chains = {chain.chain_id: chain for chain in realm.client.list_chains()}
    assert display_address(chains["rootstock"], plain) == rootstock
    assert display_address(chains["ethereum"], plain) == ethereum
    assert realm.address("30", rootstock).deployment == deployment
    with pytest.raises(InvalidError) as caught:
        realm.address("rootstock", ethereum)
    assert caught.value.reason == "ADDRESS_CHECKSUM"
    with pytest.raises(InvalidError):
        realm.address("ethereum", rootstock)


def test_r03_other_namespaces_have_their_own_rules(realm: Realm) -> None:
    """Solana's case counts, Cosmos denoms have one spelling, Move and Starknet addresses one length."""
    mint = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
    assert realm.address("solana", mint).asset.symbol == "USDC"
    with pytest.raises((InvalidError, NotFoundError)):
        realm.address("solana", mint.swapcase())
    denom = "ibc/498A0751C798A0D9A389AA3691123DADA57DAA4FE165D5C75894505B876BA6E4"
    assert realm.address("osmosis", denom.lower()).deployment == realm.address("osmosis", denom).deployment
    assert realm.address("tron", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t").asset.symbol == "USDT"
    token = realm.asset()
    for chain, address, normal in (
        ("starknet", "0x53C91253BC96", "0x" + "53c91253bc96".zfill(64)),
        ("aptos", "0xAB", f"0x{0xAB:064x}"),
        ("bitcoin", "BC1QAR0SRRR7XFKVY5L643LYDNW9RE59GTZZWF5MDQ", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    ):
        made = realm.deploy(token, chain, contract_address=address)
        assert made.contract_address == normal
        assert realm.address(chain, address).deployment == realm.address(chain, normal).deployment == made
    short, long = "0x5::coin::COIN", f"0x{5:064x}::coin::COIN"
    assert realm.deploy(token, "sui", contract_address=short).contract_address == long
    assert realm.address("sui", short).deployment == realm.address("sui", long).deployment


def test_r03_a_namespace_without_a_rule_is_trimmed_and_exact(realm: Realm) -> None:
    """What nobody wrote a rule for keeps its case."""
    realm.registry.create_chain(Chain(chain_id="strange", name="Strange", namespace="strange"))
    made = realm.deploy(realm.asset(), "strange", contract_address="  MixedCase.Thing ")
    assert made.contract_address == "MixedCase.Thing"
    assert realm.address("strange", "MixedCase.Thing").deployment == made
    with pytest.raises(NotFoundError):
        realm.address("strange", "mixedcase.thing")


def test_r03_one_live_deployment_for_each_address_of_a_chain(realm: Realm) -> None:
    """Whatever the spelling and whatever the asset, the second is refused and named the first; deleting makes room."""
    one, two = realm.asset(), realm.asset()
    address = realm.fresh_address()
    first = realm.deploy(one, contract_address=address)
    with pytest.raises(ConflictError) as caught:
        realm.deploy(two, "eip155:1", contract_address=checksummed(address))
    assert caught.value.existing_id == first.deployment_id
    elsewhere = realm.deploy(two, "base", contract_address=address)
    assert realm.address("base", address).asset == two  # one EVM address on two chains means nothing
    assert realm.address("ethereum", address).asset == one
    realm.registry.delete_asset(one.asset_id)
    assert realm.deploy(two, contract_address=address).deployment_id not in {
        first.deployment_id,
        elsewhere.deployment_id,
    }


@pytest.mark.parametrize(
    ("chain", "symbol", "placeholders"),
    [
        ("ethereum", "ETH", (ZERO, EEEE, EEEE.lower(), "native")),
        ("polygon", "POL", (ZERO, EEEE, "0x0000000000000000000000000000000000001010")),
        ("optimism", "ETH", ("0xDeadDeAddeAddEAddeadDEaDDEAdDeaDDeAD0000".lower(),)),
        ("celo", "CELO", ("0x471EcE3750Da237f93B8E339c536989b8978a438",)),
        ("solana", "SOL", ("11111111111111111111111111111111",)),
    ],
)
def test_r03_placeholders_mean_the_native_asset(
    realm: Realm, chain: str, symbol: str, placeholders: tuple[str, ...]
) -> None:
    """They resolve to it, are refused as contracts, and a chain has one native asset."""
    natives = [realm.address(chain, placeholder) for placeholder in placeholders]
    assert {found.asset.symbol for found in natives} == {symbol}
    native = natives[0].deployment
    assert native is not None
    assert (native.is_native, native.contract_address) == (True, None)
    other = realm.asset()
    for placeholder in placeholders:
        with pytest.raises(InvalidError) as caught:
            realm.deploy(other, chain, contract_address=placeholder)
        assert caught.value.reason == "NATIVE_PLACEHOLDER"
    with pytest.raises(ConflictError) as second:
        realm.deploy(other, chain, contract_address=None, is_native=True)
    assert (second.value.reason, second.value.existing_id) == ("NATIVE_EXISTS", native.deployment_id)
    with pytest.raises(InvalidError):
        realm.deploy(other, chain, contract_address=realm.fresh_address(), is_native=True)
    with pytest.raises(InvalidError):
        realm.deploy(other, chain, contract_address=None)


# --- R4: decimals ----------------------------------------------------------------------------------------------------


def test_r04_decimals_belong_to_the_deployment(realm: Realm) -> None:
    """USDC has 6 on Ethereum and 18 on BNB Chain, one asset all the same."""
    six, eighteen = realm.resolve("USDC", "ethereum"), realm.resolve("USDC", "bsc")
    assert six.asset == eighteen.asset
    assert (six.deployment.decimals, eighteen.deployment.decimals) == (6, 18)  # type: ignore[union-attr]


@pytest.mark.parametrize("decimals", [0, 255])
def test_r04_decimals_at_their_bounds(realm: Realm, decimals: int) -> None:
    """Zero is a number of decimals like any other, and is not taken for absent."""
    made = realm.deploy(realm.asset(), decimals=decimals)
    assert realm.address("ethereum", made.contract_address or "").deployment == made
    assert made.decimals == decimals


@pytest.mark.parametrize("decimals", [-1, 256])
def test_r04_other_decimals_are_refused(realm: Realm, decimals: int) -> None:
    """Nothing below 0 or above 255 (uint8)."""
    with pytest.raises(InvalidError) as caught:
        realm.deploy(realm.asset(), decimals=decimals)
    assert (caught.value.reason, caught.value.field) == ("RANGE", "decimals")


def test_r04_decimals_are_never_made_up(realm: Realm) -> None:
    """A request without decimals is refused by every way to write one: no 0, no 18."""
    asset = realm.asset()
    record = Deployment(
        asset_id=asset.asset_id, chain_id="ethereum", contract_address=realm.fresh_address(), decimals=9
    )
    message = wire.record_to_wire(record)
    message.ClearField("decimals")
    new = wire.record_to_wire(model.Asset(symbol="NODEC", name="x", asset_type=AssetType.TOKEN))
    calls = [
        ("CreateAssetDeployment", pb.CreateAssetDeploymentRequest(deployment=message)),
        ("CreateAsset", pb.CreateAssetRequest(asset=new, deployments=[message])),
    ]
    for method, request in calls:
        with pytest.raises(InvalidError) as caught:
            realm.remote.call(method, request)
        assert (caught.value.reason, caught.value.field) == ("REQUIRED", "decimals")
    bulk = pb.UpsertRecordsRequest()
    bulk.records.add().deployment.CopyFrom(message)
    (result,) = realm.remote.call("UpsertRecords", bulk).results
    assert (result.outcome, result.reason) == (pb.OUTCOME_REFUSED, "REQUIRED")
    assert realm.client.deployments(asset.asset_id) == ()


# --- R5: chains ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["polygon", "eip155:137", "137", "ccxt:MATIC", "POLYGON", "hyperlane:polygon", "chainlist:pol", "pol", " Polygon "],
)
def test_r05_every_name_of_a_chain_is_taken_wherever_a_chain_is_asked_for(realm: Realm, name: str) -> None:
    """Slug, CAIP-2, network id, aliases with and without their source: all are the slug, on the way in and out."""
    realm.level()
    client, registry = realm.client, realm.registry
    native = realm.address(name, ZERO)
    assert native.deployment is not None
    assert native.deployment.chain_id == "polygon"
    assert realm.resolve("USDC", name).deployment == realm.resolve("USDC", "polygon").deployment
    assert registry.get_chain(name).chain_id == "polygon"
    usdc = realm.resolve("USDC", "polygon").asset
    (deployment,) = client.deployments(usdc.asset_id, chain=name)
    assert list(registry.list_asset_deployments(asset_id=usdc.asset_id, chain=name)) == [deployment]
    assert usdc in client.list_assets(chain=name)
    assert usdc in list(registry.list_assets(chain=name))
    assert usdc in client.search("USDC", chain=name)
    assert usdc in list(registry.search_assets("USDC", chain=name))
    assert registry.get_asset_deployment(chain=name, address=deployment.contract_address) == deployment
    made = realm.deploy(realm.asset(), name)
    assert made.chain_id == "polygon"
    number = realm.number()
    dex = registry.create_venue(Venue(venue_id=f"dex-{number}", name="x", venue_type=VenueType.DEX, chain_id=name))
    assert dex.record.chain_id == "polygon"
    (result,) = realm.upsert(
        Deployment(asset_id=made.asset_id, chain_id=name, contract_address=realm.fresh_address(), decimals=1)
    )
    assert registry.get_asset_deployment(result.key).chain_id == "polygon"


def test_r05_two_chains_share_no_name(realm: Realm) -> None:
    """A slug, CAIP-2 id, network id or alias of one source is one chain's; the conflict names its owner."""
    takers = [
        Chain(chain_id="ethereum", name="x", namespace="eip155"),
        Chain(chain_id="taker", name="x", namespace="eip155", caip2="eip155:137"),
        Chain(chain_id="taker", name="x", namespace="eip155", network_id=137),
        Chain(chain_id="taker", name="x", namespace="eip155", aliases=("ccxt:matic",)),
    ]
    owners = []
    for chain in takers:
        with pytest.raises(ConflictError) as caught:
            realm.registry.create_chain(chain)
        owners.append(caught.value.existing_id)
    assert owners == ["ethereum", "polygon", "polygon", "polygon"]
    for number in range(2):
        realm.registry.create_chain(
            Chain(chain_id=f"shared-{number}", name="x", namespace="eip155", aliases=(f"source{number}:same",))
        )
    with pytest.raises(AmbiguousError) as ambiguous:
        realm.resolve("USDC", "same")
    assert ambiguous.value.reason == "CHAIN_AMBIGUOUS"
    with pytest.raises(NotFoundError):
        realm.resolve("USDC", "source1:same")
    with pytest.raises(NotFoundError) as unknown:
        realm.resolve("USDC", "mars")
    assert unknown.value.reason == "CHAIN_NOT_FOUND"


def test_r05_caip19_ids_go_in_and_come_out(realm: Realm, tmp_path: Path) -> None:
    """The command line finds a token and a native asset by CAIP-19 and shows that id; another coin's is refused."""
    environment = {"CQAR_TARGET": realm.target, "CQAR_REPLICA_DIR": str(tmp_path), "COLUMNS": "200"}

    def cqar(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments, env=environment)

    for caip19, symbol in (
        (f"eip155:1/erc20:{USDC}", "USDC"),
        ("eip155:137/slip44:966", "POL"),
        ("eip155:1/slip44:60", "ETH"),
        ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp/token:EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "USDC"),
    ):
        assert json.loads(cqar("resolve", caip19, "--json").stdout)["asset"]["symbol"] == symbol
        shown = cqar("resolve", caip19).stdout
        assert caip19.lower() in shown.lower()
    for refused in ("eip155:137/slip44:60", f"eip155:1/erc721:{USDC}", f"eip155:1/erc20:{USDC}/1"):
        done = cqar("resolve", refused)
        assert done.exit_code != 0
        assert "must be" in done.stderr


def test_r05_chain_then_asset_then_deployment_then_the_native_id(realm: Realm) -> None:
    """The order to create in: a chain may be told its native asset when it has one."""
    realm.registry.create_chain(Chain(chain_id="late", name="Late", namespace="eip155", network_id=987654))
    coin = realm.asset("LATE")
    native = realm.deploy(coin, "late", contract_address=None, is_native=True)
    assert realm.client.registry.get_chain("late").native_asset_id is None
    chain = Chain(chain_id="late", name="Late", namespace="eip155", native_asset_id=coin.asset_id)
    assert [result.outcome for result in realm.upsert(chain)] == ["UPDATED"]
    assert realm.registry.get_chain("987654").native_asset_id == coin.asset_id
    assert realm.address("987654", EEEE).deployment == native
    with pytest.raises(NotFoundError) as caught:
        realm.registry.create_chain(Chain(chain_id="dead", name="x", namespace="x", native_asset_id=NOBODY))
    assert caught.value.reason == "ASSET_NOT_FOUND"


# --- R7: identifiers -------------------------------------------------------------------------------------------------


def test_r07_a_sources_id_names_one_asset(realm: Realm) -> None:
    """CoinGecko's ids are found whatever the case of the source; a second asset of one id is refused and named the first."""
    found = realm.identifier("CoinGecko", "usd-coin")
    assert (found.asset.symbol, found.asset.name, found.deployment) == ("USDC", "USD Coin", None)
    (existing,) = [i for i in realm.client.identifiers(found.asset.asset_id) if i.external_id == "usd-coin"]
    with pytest.raises(ConflictError) as caught:
        realm.registry.create_asset_identifier(
            Identifier(asset_id=realm.asset().asset_id, source="COINGECKO", external_id="usd-coin")
        )
    assert caught.value.existing_id == existing.identifier_id
    with pytest.raises(NotFoundError):
        realm.identifier("coingecko", "USD-Coin")  # an external id is exact


def test_r07_exactly_one_of_a_sources_ids_is_primary(realm: Realm) -> None:
    """The first is primary unasked; a new primary takes the place of the present one."""
    asset = realm.asset()

    def name(external_id: str, **values: Any) -> None:
        realm.registry.create_asset_identifier(
            Identifier(
                asset_id=asset.asset_id, source="My-Source", external_id=f"{asset.symbol}-{external_id}", **values
            )
        )

    def primaries() -> list[str]:
        realm.level()
        own = realm.client.identifiers(asset.asset_id)
        assert {*own} == {*realm.registry.list_asset_identifiers(asset_id=asset.asset_id, source="my-source")}
        return [i.external_id.rpartition("-")[2] for i in own if i.is_primary]

    name("a")
    assert primaries() == ["a"]
    name("b")
    assert primaries() == ["a"]
    name("c", is_primary=True)
    assert primaries() == ["c"]
    assert realm.sql("SELECT DISTINCT source FROM asset_identifiers WHERE asset_id = %s", asset.asset_id) == [
        ("my-source",)
    ]


def test_r07_an_id_moves_by_an_audited_re_point(realm: Realm) -> None:
    """As when CoinGecko split bridged tokens off: one row, another asset, and the log tells who moved it from where."""
    old, new = realm.asset(), realm.asset()
    external = f"bridged-{old.symbol}"
    made = realm.registry.create_asset_identifier(
        Identifier(asset_id=old.asset_id, source="coingecko", external_id=external)
    )
    moved = Identifier(asset_id=new.asset_id, source="coingecko", external_id=external)
    assert [result.reason for result in realm.upsert(moved)] == ["POINTS_ELSEWHERE"]
    assert [result.key for result in realm.upsert(moved, replace=True)] == [made.record.identifier_id]
    assert realm.identifier("coingecko", external).asset == new
    assert realm.sql("SELECT count(*) FROM asset_identifiers WHERE external_id = %s", external) == [(1,)]
    rows = realm.sql(
        "SELECT actor, before->>'asset_id', record->>'asset_id' FROM changes JOIN batches USING (position)"
        " WHERE kind = 'identifier' AND key = %s ORDER BY position",
        made.record.identifier_id,
    )
    assert rows == [("rulings", None, old.asset_id), ("rulings", old.asset_id, new.asset_id)]


# --- R18: look-alikes --------------------------------------------------------------------------------------------------


def test_r18_a_symbol_that_looks_like_another_is_told_and_never_answers(realm: Realm) -> None:
    """Cyrillic UЅDТ, as on Optimism: whichever of the two is asked for answers, and the other is told as a look-alike."""
    tether, fake = realm.resolve("USDT", "ethereum"), realm.asset(CYRILLIC_USDT, name="Tether USD")
    assert not any(c.asset_id == fake.asset_id for c in tether.collisions)  # it is nowhere near yet
    place = realm.deploy(fake, "ethereum")
    for chain in ("ethereum", None):
        found = realm.resolve("USDT", chain)
        assert found.asset == tether.asset
        (told,) = [c for c in found.collisions if c.asset_id == fake.asset_id]
        assert (told.symbol, told.look_alike) == (CYRILLIC_USDT, True)
        assert told.contract_address == (place.contract_address if chain else None)
        other = realm.resolve(CYRILLIC_USDT, chain)
        assert other.asset == fake
        assert [c.look_alike for c in other.collisions if c.asset_id == tether.asset.asset_id] == [True]
    flag = realm.flag(fake, flag_type=FlagType.IMPOSTOR)
    (told,) = [c for c in realm.resolve("USDT", "ethereum").collisions if c.asset_id == fake.asset_id]
    assert told.flags == ((flag.flag_type, flag.severity),)
    realm.registry.update_asset(fake.asset_id, symbol="HONEST")
    assert not any(c.look_alike for c in realm.resolve("USDT", "ethereum").collisions)
    realm.registry.update_asset(fake.asset_id, symbol=CYRILLIC_USDT)
    assert any(c.look_alike for c in realm.resolve("USDT", "ethereum").collisions)
    realm.registry.delete_asset(fake.asset_id)
    assert not any(c.look_alike for c in realm.resolve("USDT", "ethereum").collisions)


def test_r18_a_look_alike_answers_for_nothing_that_it_does_not_spell(realm: Realm) -> None:
    """D1: where the genuine one is on another chain, or nowhere, the name is not found, and what looks like it is told."""
    lone, genuine = realm.asset("L\u041eNE"), realm.asset("LONE")
    realm.deploy(lone, "optimism")
    realm.deploy(genuine, "base")
    for text, chain, alike in (
        ("LONE", "optimism", {lone.asset_id}),
        ("L\u041eNE", "base", {genuine.asset_id}),
        ("L\u039fNE", "optimism", {lone.asset_id}),  # in Greek, borne by nothing at all
        ("L\u039fNE", None, {lone.asset_id, genuine.asset_id}),
    ):
        with pytest.raises(NotFoundError) as caught:
            realm.resolve(text, chain)
        assert {each.asset_id for each in caught.value.look_alikes} == alike
        assert {each.look_alike for each in caught.value.look_alikes} == {True}
        status = realm.client.resolve_many([text], chain=chain).column("status").to_pylist()
        assert status == ["NOT_FOUND"]
    assert realm.resolve("L\u041eNE", "optimism").asset == lone


def test_r18_look_alikes_are_those_of_the_bearers_or_of_how_it_is_spelt_elsewhere(realm: Realm) -> None:
    """A small L stands for a capital I only as written: replica and server tell the same, in whichever case it is borne."""
    twin, lower, upper = realm.asset("lNCHY"), realm.asset("inchy"), realm.asset("INCHY")
    realm.deploy(twin, "base")
    realm.deploy(upper, "optimism")
    with pytest.raises(NotFoundError) as caught:
        realm.resolve("inchy", "base")
    assert [each.asset_id for each in caught.value.look_alikes] == [twin.asset_id]
    realm.deploy(lower, "base")
    assert realm.resolve("INCHY", "base").asset == lower
    assert realm.resolve("INCHY", "optimism").asset == upper
    realm.deploy(upper, "base")
    assert twin.asset_id in {each.asset_id for each in realm.resolve("INCHY", "base").collisions}


def test_r18_a_look_alike_makes_nothing_ambiguous(realm: Realm) -> None:
    """Neither a healthy look-alike nor several of them stand in the way of the one that was asked for."""
    genuine = realm.asset("GEN0")
    for twin in ("GENO", "G\u0415N0", "GEN\u041e"):
        realm.asset(twin)
    found = realm.resolve("GEN0")
    assert found.asset == genuine
    assert {c.symbol for c in found.collisions if c.look_alike} == {"GENO", "G\u0415N0", "GEN\u041e"}


def test_r18_a_name_that_looks_like_another_is_told(realm: Realm) -> None:
    """Of two with one symbol, the one whose name only reads like the other's is marked; one that differs openly is not."""
    real = realm.asset("NAMED", name="Coin")
    realm.deploy(real, "base", is_canonical=True)
    for name in ("C\u043ein", "Another thing"):
        realm.deploy(realm.asset("NAMED", name=name), "base")
    found = realm.resolve("NAMED", "base")
    assert found.asset == real
    assert {c.name: c.look_alike for c in found.collisions} == {"C\u043ein": True, "Another thing": False}


def test_r18_a_token_with_the_symbol_of_a_native_asset_is_told(realm: Realm) -> None:
    """On Ethereum and anywhere, a token that calls itself ETH is marked beside Ether; USD₮7 beside USDT7 never is."""
    token = realm.asset("ETH", name="Not Ether")
    realm.deploy(token, "ethereum")
    ether = realm.asset("ETH", name="Ether of this chain", asset_type=AssetType.NATIVE)
    chain = f"chain-{realm.number()}"
    realm.registry.create_chain(Chain(chain_id=chain, name=chain, namespace="eip155", native_symbol="ETH"))
    realm.registry.create_asset_deployment(
        Deployment(asset_id=ether.asset_id, chain_id=chain, decimals=18, is_native=True, is_canonical=True)
    )
    realm.deploy(token, chain)
    found = realm.resolve("ETH", chain)
    assert found.asset == ether
    assert [(c.asset_id, c.look_alike) for c in found.collisions] == [(token.asset_id, True)]
    assert [c.look_alike for c in realm.resolve("ETH").collisions if c.asset_id == token.asset_id] == [True]
    for one, other in (("USD\u20ae7", "USDT7"), ("cCASE", "CCASE")):
        kept, twin = realm.asset(one, name="one"), realm.asset(other, name="other")
        assert not any(c.look_alike for c in realm.resolve(one).collisions)
        realm.registry.delete_asset(kept.asset_id)
        realm.registry.delete_asset(twin.asset_id)
