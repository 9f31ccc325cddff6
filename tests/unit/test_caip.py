"""CAIP-2 and CAIP-19: the examples of the specifications, and the ids of real deployments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqar.errors import InvalidError
from cqar.model import NATIVE, Chain
from cqar.rules.caip import AssetId, ChainId, address_of, asset_id_of, is_asset_id, parse_asset_id, parse_chain_id

ETHEREUM = Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1, slip44=60)
POLYGON = Chain(chain_id="polygon", name="Polygon", namespace="eip155", caip2="eip155:137", network_id=137, slip44=966)
SOLANA_ID = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
SOLANA = Chain(chain_id="solana", name="Solana", namespace="solana", caip2=SOLANA_ID, slip44=501)
SUI = Chain(chain_id="sui", name="Sui", namespace="sui", caip2="sui:mainnet", slip44=784)
TRON = Chain(chain_id="tron", name="Tron", namespace="tron", slip44=195)
DAI = "0x6b175474e89094c44da98b954eedeac495271d0f"

CHAIN_IDS = [
    "eip155:1",
    "bip122:000000000019d6689c085ae165831e93",
    "bip122:fdbe99b90c90bae7505796461471d89a",
    "cosmos:cosmoshub-3",
    "cosmos:Binance-Chain-Tigris",
    "starknet:SN_GOERLI",
    "lip9:9ee11e9df416b18b",
    "chainstd:8c3444cf8970a9e41a706fab93e7a6c4",
    "tvm:-239",
]
ASSET_IDS = [
    "eip155:1/slip44:60",
    "bip122:000000000019d6689c085ae165831e93/slip44:0",
    "cosmos:cosmoshub-3/slip44:118",
    "lip9:9ee11e9df416b18b/slip44:134",
    "eip155:1/erc20:0x6b175474e89094c44da98b954eedeac495271d0f",
    "eip155:1/erc721:0x06012c8cf97BEaD5deAe237070F9587f8E7A266d",
    "solana:4sGjMW1sUnHzSxGspuhpqLDx6wiyjNtZ/token:EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
    "stellar:pubnet/asset:USDC-GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN",
]


@pytest.mark.parametrize("text", CHAIN_IDS)
def test_chain_ids_of_the_specification_are_read_and_written(text: str) -> None:
    """Each example of CAIP-2 comes back as it was."""
    parsed = parse_chain_id(text)
    assert (parsed.namespace, parsed.reference) == tuple(text.split(":"))
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eip155",
        "eip155:",
        ":1",
        "EIP155:1",
        "ab:1",
        "ninechars:1",
        "eip155:1:2",
        "eip155:" + "1" * 33,
        "eip155:1\n",
        "eip155:١",
        "cosmos:kava 2",
    ],
)
def test_broken_chain_ids_are_refused(text: str) -> None:
    """What CAIP-2 does not allow is refused and names its field."""
    with pytest.raises(InvalidError) as caught:
        parse_chain_id(text, "caip2")
    assert caught.value.field == "caip2"
    assert caught.value.reason == "CHAIN_ID_FORMAT"


@pytest.mark.parametrize("text", ASSET_IDS)
def test_asset_ids_of_the_specifications_are_read_and_written(text: str) -> None:
    """Each example of CAIP-19 and of the namespaces' profiles comes back as it was."""
    assert is_asset_id(text)
    parsed = parse_asset_id(text)
    assert str(parsed) == text
    assert parsed.is_native == ("/slip44:" in text)


def test_an_nft_is_refused() -> None:
    """An id with a token id names one NFT; the registry holds fungible assets."""
    with pytest.raises(InvalidError) as caught:
        parse_asset_id("eip155:1/erc721:0x06012c8cf97BEaD5deAe237070F9587f8E7A266d/771769")
    assert caught.value.reason == "ASSET_ID_NFT"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eip155:1",
        "eip155:1/",
        "eip155:1/erc20",
        "eip155:1/erc20:",
        "eip155:1/erc20:0x_1",
        "eip155:1/ERC20:0x1",
        "eip155:1/erc20:0x1/",
        "eip155:1/erc20:0x1/2/3",
        "eip155:1/slip44:0x3c",
        "eip155:1/slip44:060",
        "eip155:1/erc20:%",
        "eip155:1/erc20:%zz",
        "eip155:1/erc20:%ff",
        "eip155:1/erc20:" + "a" * 129,
        "solana/token:EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",  # how rotki writes it
        "0x6b175474e89094c44da98b954eedeac495271d0f",
    ],
)
def test_broken_asset_ids_are_refused(text: str) -> None:
    """What CAIP-19 does not allow is refused, bad percent-encoding too."""
    with pytest.raises(InvalidError) as caught:
        parse_asset_id(text)
    assert caught.value.reason == "ASSET_ID_FORMAT"


def test_references_are_percent_decoded() -> None:
    """A Sui coin type holds colons, which CAIP-19 wants encoded; an underscore too."""
    parsed = parse_asset_id("sui:mainnet/coin:0x2%3A%3Asui_coin%3a%3ASUI".replace("_", "%5F"))
    assert parsed.reference == "0x2::sui_coin::SUI"
    assert str(parsed) == "sui:mainnet/coin:0x2%3A%3Asui%5Fcoin%3A%3ASUI"


def test_an_asset_id_gives_the_address_on_its_chain() -> None:
    """Tokens give their address as written, the chain's own coin type gives NATIVE."""
    assert address_of(parse_asset_id(f"eip155:1/erc20:{DAI}"), ETHEREUM) == DAI
    assert address_of(parse_asset_id("eip155:1/slip44:60"), ETHEREUM) == NATIVE
    assert address_of(parse_asset_id("sui:mainnet/coin:0x2%3A%3Asui%3A%3ASUI"), SUI) == "0x2::sui::SUI"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("eip155:137/slip44:60", "ASSET_ID_COIN_TYPE"), (f"eip155:137/erc721:{DAI}", "ASSET_ID_NAMESPACE")],
)
def test_an_asset_id_that_means_something_else_is_refused(text: str, reason: str) -> None:
    """Ether's coin type on Polygon is not POL, and an NFT collection is no token."""
    with pytest.raises(InvalidError) as caught:
        address_of(parse_asset_id(text), POLYGON)
    assert caught.value.reason == reason


def test_deployments_have_asset_ids_where_a_profile_is_published() -> None:
    """EVM and Solana tokens and native coins have an id; where namespace or coin type is missing there is none."""
    mint = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
    assert asset_id_of(ETHEREUM, DAI) == f"eip155:1/erc20:{DAI}"
    assert asset_id_of(SOLANA, mint) == f"{SOLANA_ID}/token:{mint}"
    assert asset_id_of(POLYGON, None) == asset_id_of(POLYGON, NATIVE) == "eip155:137/slip44:966"
    assert asset_id_of(SUI, "0x2::sui::SUI") is None
    assert asset_id_of(TRON, None) is None


@given(st.text())
def test_any_text_is_an_id_or_refused(text: str) -> None:
    """Nothing but InvalidError is raised, and what is read is written back the same but for the case of escapes."""
    for parse in (parse_chain_id, parse_asset_id):
        try:
            assert str(parse(text)) == text
        except InvalidError:
            continue


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=10))
def test_any_reference_survives_writing_and_reading(reference: str) -> None:
    """Percent-encoding loses nothing."""
    asset = AssetId(ChainId("sui", "mainnet"), "coin", reference)
    assert parse_asset_id(str(asset)) == asset
