"""Normal forms of addresses: spec vectors, real tokens of real lists, and what must be refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqar.errors import InvalidError
from cqar.model import NATIVE, Chain
from cqar.rules.addresses import display_address, normalise_address


def chain(namespace: str, network_id: int | None = None) -> Chain:
    """Make a chain of a namespace."""
    return Chain(chain_id="test", name="Test", namespace=namespace, network_id=network_id)


ETHEREUM = chain("eip155", 1)
ROOTSTOCK = chain("eip155", 30)
XDC = chain("eip155", 50)
RONIN = chain("eip155", 2020)
SOLANA = chain("solana")
TRON = chain("tron")
BITCOIN = chain("bip122")
COSMOS = chain("cosmos")
STARKNET = chain("starknet")
APTOS = chain("aptos")
SUI = chain("sui")
NEAR = chain("near")

# https://eips.ethereum.org/EIPS/eip-55 and https://eips.ethereum.org/EIPS/eip-1191, test cases
EIP_55 = [
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x3599689E6292b81B2d85451025146515070129Bb",
    "0x42712D45473476b98452f434e72461577D686318",
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0x6549f4939460DE12611948b3f82b88C3C8975323",
    "0x66f9664f97F2b50F62D13eA064982f936dE76657",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0x88021160C5C792225E4E5452585947470010289D",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xde709f2102306220921060314715629080e2fb77",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
]
EIP_1191_30 = [
    "0x27b1FdB04752BBc536007A920D24ACB045561c26",
    "0x3599689E6292B81B2D85451025146515070129Bb",
    "0x42712D45473476B98452f434E72461577d686318",
    "0x52908400098527886E0F7030069857D2E4169ee7",
    "0x5aaEB6053f3e94c9b9a09f33669435E7ef1bEAeD",
    "0x6549F4939460DE12611948B3F82B88C3C8975323",
    "0x66F9664f97f2B50F62d13EA064982F936de76657",
    "0x8617E340b3D01Fa5f11f306f4090fd50E238070D",
    "0x88021160c5C792225E4E5452585947470010289d",
    "0xD1220A0Cf47c7B9BE7a2e6ba89F429762E7B9adB",
    "0xDBF03B407c01E7CD3cBea99509D93F8Dddc8C6FB",
    "0xDe709F2102306220921060314715629080e2FB77",
    "0xFb6916095cA1Df60bb79ce92cE3EA74c37c5d359",
]
EIP_1191_31 = [
    "0x27B1FdB04752BbC536007a920D24acB045561C26",
    "0x3599689e6292b81b2D85451025146515070129Bb",
    "0x42712D45473476B98452F434E72461577D686318",
    "0x52908400098527886E0F7030069857D2e4169EE7",
    "0x5aAeb6053F3e94c9b9A09F33669435E7EF1BEaEd",
    "0x6549f4939460dE12611948b3f82b88C3c8975323",
    "0x66f9664F97F2b50f62d13eA064982F936DE76657",
    "0x8617e340b3D01fa5F11f306F4090Fd50e238070d",
    "0x88021160c5C792225E4E5452585947470010289d",
    "0xd1220a0CF47c7B9Be7A2E6Ba89f429762E7b9adB",
    "0xdbF03B407C01E7cd3cbEa99509D93f8dDDc8C6fB",
    "0xDE709F2102306220921060314715629080e2Fb77",
    "0xFb6916095CA1dF60bb79CE92ce3Ea74C37c5D359",
]

# (chain, what a source writes, normal form); real tokens, with the list that has them
REAL = [
    (ETHEREUM, "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"),  # USDC
    (ETHEREUM, "0XA0B86991C6218B36C1D19D4A2E9EB0CE3606EB48", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"),
    (ROOTSTOCK, "0x542FDA317318eBf1d3DeAF76E0B632741a7e677d", "0x542fda317318ebf1d3deaf76e0b632741a7e677d"),  # WRBTC
    (XDC, "xdc5d5f074837f5d4618b3916ba74de1bf9662a3fed", "0x5d5f074837f5d4618b3916ba74de1bf9662a3fed"),  # StorX
    (SOLANA, "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),  # USDC
    (SOLANA, "So11111111111111111111111111111111111111112", "So11111111111111111111111111111111111111112"),  # WSOL
    (TRON, "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"),  # USDT
    (TRON, "TEkxiTehnzSmSe2XqrBj4w32RUN966rdz8", "TEkxiTehnzSmSe2XqrBj4w32RUN966rdz8"),  # USDC
    (BITCOIN, "840000:3", "840000:3"),  # the rune DOG
    (
        BITCOIN,  # the inscription that deployed ORDI
        "B61b0172d95e266c18aea0c624db987e971a5d6d4ebc2aaed85da4642d635735i0",
        "b61b0172d95e266c18aea0c624db987e971a5d6d4ebc2aaed85da4642d635735i0",
    ),
    (COSMOS, "uatom", "uatom"),
    (COSMOS, "aRYT", "aRYT"),
    (
        COSMOS,  # CoinGecko writes this hash in lower case
        "ibc/27394fb092d2eccd56123c74f36e4c1f926001ceada9ca97ea622b25f41e5eb2",
        "ibc/27394FB092D2ECCD56123C74F36E4C1F926001CEADA9CA97EA622B25F41E5EB2",
    ),
    (
        COSMOS,
        "factory/osmo14klwqgkmackvx2tqa0trtg69dmy0nrg4ntq4gjgw2za4734r5seqjqm4gm/uibcx",
        "factory/osmo14klwqgkmackvx2tqa0trtg69dmy0nrg4ntq4gjgw2za4734r5seqjqm4gm/uibcx",
    ),
    (
        COSMOS,  # the chain registry writes cw20:, CoinGecko the bare contract
        "cw20:secret1k6u0cy4feepm6pehnz804zmwakuwdapm69tuc4",
        "secret1k6u0cy4feepm6pehnz804zmwakuwdapm69tuc4",
    ),
    (
        COSMOS,
        "cw20:archway1fwurjg7ah4v7hhs6xsc3wutqpvmahrfhns285s0lt34tgfdhplxq6m8xg5",
        "archway1fwurjg7ah4v7hhs6xsc3wutqpvmahrfhns285s0lt34tgfdhplxq6m8xg5",
    ),
    (
        COSMOS,  # Namada: bech32m
        "tnam1q9gr66cvu4hrzm0sd5kmlnjje82gs3xlfg3v6nu7",
        "tnam1q9gr66cvu4hrzm0sd5kmlnjje82gs3xlfg3v6nu7",
    ),
    (
        COSMOS,  # USDT on Injective: the denom is checksummed, CoinGecko writes such denoms in lower case
        "peggy0xdac17f958d2ee523a2206206994597c13d831ec7",
        "peggy0xdAC17F958D2ee523a2206206994597C13D831ec7",
    ),
    (
        STARKNET,
        "0x49d36570d4e46f48e99674bd3fcc84644ddd6b96f7c741b1562b82f9e004dc7",
        "0x049d36570d4e46f48e99674bd3fcc84644ddd6b96f7c741b1562b82f9e004dc7",
    ),
    (
        APTOS,
        "0x159df6b7689437016108a019fd5bef736bac692b6d4a1f10c941f6fbb9a74ca6::oft::CakeOFT",
        "0x159df6b7689437016108a019fd5bef736bac692b6d4a1f10c941f6fbb9a74ca6::oft::CakeOFT",
    ),
    (
        SUI,  # a leading zero is dropped by CoinGecko
        "0x6864a6f921804860930db6ddbe2e16acdf8504495ea7481637a1c8b9a8fe54b::cetus::CETUS",
        "0x06864a6f921804860930db6ddbe2e16acdf8504495ea7481637a1c8b9a8fe54b::cetus::CETUS",
    ),
    (NEAR, " usdt.tether-token.near\n", "usdt.tether-token.near"),
]

PLACEHOLDERS = [
    (ETHEREUM, "native"),
    (ETHEREUM, "0x0000000000000000000000000000000000000000"),
    (ETHEREUM, "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"),
    (ETHEREUM, "0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE"),
    (chain("eip155", 137), "0x0000000000000000000000000000000000001010"),
    (chain("eip155", 1088), "0xDeadDeAddeAddEAddeadDEaDDEAdDeaDDeAD0000"),
    (chain("eip155", 42220), "0x471EcE3750Da237f93B8E339c536989b8978a438"),
    (SOLANA, "11111111111111111111111111111111"),
    (TRON, "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"),
    (APTOS, "0x1::aptos_coin::AptosCoin"),
    (APTOS, "0xa"),
    (SUI, "0x2::sui::SUI"),
    (NEAR, "native"),
]

REFUSED = [
    (ETHEREUM, "", "ADDRESS_EMPTY"),
    (ETHEREUM, "0x" + "0" * 300, "ADDRESS_LENGTH"),
    (ETHEREUM, "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb4", "ADDRESS_FORMAT"),
    (ETHEREUM, "a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "ADDRESS_FORMAT"),
    (ETHEREUM, "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb4g", "ADDRESS_FORMAT"),
    (ETHEREUM, "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb4٨", "ADDRESS_CHARACTER"),  # an Arabic digit 8
    (ETHEREUM, "0xfab550568C688d5d8a52c7d794cb93edc26ec0ec", "ADDRESS_CHECKSUM"),  # axlUSDC in the chain registry
    (ETHEREUM, "0x542FDA317318eBf1d3DeAF76E0B632741a7e677d", "ADDRESS_CHECKSUM"),  # Rootstock's checksum
    (ROOTSTOCK, "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "ADDRESS_CHECKSUM"),  # Ethereum's checksum
    (ETHEREUM, "0xa0b86991c6218b36c1d1\u200b9d4a2e9eb0ce3606eb48", "ADDRESS_CHARACTER"),
    (ETHEREUM, "0xa0b86991c6218b36c1d1 9d4a2e9eb0ce3606eb48", "ADDRESS_CHARACTER"),
    (ETHEREUM, "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48\x00", "ADDRESS_CHARACTER"),
    (ETHEREUM, "xdc5d5f074837f5d4618b3916ba74de1bf9662a3fed", "ADDRESS_FORMAT"),
    (SOLANA, "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTD", "ADDRESS_FORMAT"),
    (SOLANA, "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt0v", "ADDRESS_FORMAT"),  # 0 is not base58
    (SOLANA, "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "ADDRESS_FORMAT"),
    (TRON, "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6T", "ADDRESS_CHECKSUM"),
    (TRON, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "ADDRESS_FORMAT"),  # Bitcoin's first address
    (TRON, "41a614f803b6fd780986a42c78ec9c7f77e6ded13c", "ADDRESS_FORMAT"),
    (BITCOIN, "sat", "ADDRESS_FORMAT"),
    (BITCOIN, "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "ADDRESS_FORMAT"),
    (COSMOS, "ibc/27394FB092D2ECCD", "ADDRESS_FORMAT"),
    (COSMOS, "0xDb0E1e86B01c4ad25241b1843E407Efc4D615248", "ADDRESS_FORMAT"),
    (COSMOS, "cw20:secret1k6u0cy4feepm6pehnz804zmwakuwdapm69tuc5", "ADDRESS_CHECKSUM"),
    (COSMOS, "factory/osmo14klwqgkmackvx2tqa0trtg69dmy0nrg4ntq4gjgw2za4734r5seqjqm4gn/uibcx", "ADDRESS_CHECKSUM"),
    (COSMOS, "peggy0xdaC17F958D2ee523a2206206994597C13D831ec7", "ADDRESS_CHECKSUM"),
    (STARKNET, "0x0", "ADDRESS_FORMAT"),
    (STARKNET, "0x" + "f" * 64, "ADDRESS_FORMAT"),
    (SUI, "0x2053d08c1e2bd02791056171aab0fd12bd7cd7efad2ab8f6b9c8902f14df2ff2::ausd::", "ADDRESS_FORMAT"),
    (APTOS, "0x1::aptos_coin", "ADDRESS_FORMAT"),
    (NEAR, "wrap\u202enear", "ADDRESS_CHARACTER"),
]

# https://github.com/bitcoin/bips/blob/master/bip-0350.mediawiki, test vectors
SEGWIT = [
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
    "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
    "BC1SW50QGDZ25J",
    "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
]
SEGWIT_WRONG = [
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",  # bech32 where bech32m is due
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",  # bech32m where bech32 is due
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",  # a character outside the set
    "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R",  # witness version 17
    "bc1pw5dgrnzv",  # a program of one byte
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq",  # mixed case
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",  # padding of more than 4 bits
    "bc1gmk9yu",  # no data
]


@pytest.mark.parametrize(("network", "vectors"), [(1, EIP_55), (30, EIP_1191_30), (31, EIP_1191_31)])
def test_checksums_follow_the_specifications(network: int, vectors: list[str]) -> None:
    """Each vector of EIP-55 and EIP-1191 is accepted, stored in lower case and shown as the standard writes it."""
    for vector in vectors:
        normal = normalise_address(chain("eip155", network), vector)
        assert normal == vector.lower()
        assert display_address(chain("eip155", network), normal) == vector


@pytest.mark.parametrize(("on", "text", "normal"), REAL)
def test_real_spellings_have_one_normal_form(on: Chain, text: str, normal: str) -> None:
    """A real token's address as its source writes it, in each namespace, gives the normal form, which is stable."""
    assert normalise_address(on, text) == normal
    assert normalise_address(on, normal) == normal
    assert normalise_address(on, display_address(on, normal)) == normal


@pytest.mark.parametrize(("on", "text"), PLACEHOLDERS)
def test_placeholders_mean_the_native_asset(on: Chain, text: str) -> None:
    """What people write in place of a contract gives NATIVE."""
    assert normalise_address(on, text) == NATIVE
    assert display_address(on, NATIVE) == NATIVE


def test_placeholders_of_one_chain_are_contracts_of_another() -> None:
    """Polygon's 0x…1010 is nothing special on Ethereum."""
    assert normalise_address(ETHEREUM, "0x0000000000000000000000000000000000001010").endswith("1010")


def test_ronin_prefix_is_another_spelling() -> None:
    """Ronin's wallets write ronin: instead of 0x."""
    assert normalise_address(RONIN, "ronin:e514d9deb7966c8be0ca922de8a064264ea6bcd4").startswith("0xe514")


@pytest.mark.parametrize(("on", "text", "reason"), REFUSED)
def test_broken_addresses_are_refused_with_the_rule(on: Chain, text: str, reason: str) -> None:
    """A wrong address names its field, the kind of fault and the rule."""
    with pytest.raises(InvalidError) as caught:
        normalise_address(on, text)
    assert caught.value.reason == reason
    assert caught.value.field == "contract_address"
    assert caught.value.metadata["rule"]
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("text", SEGWIT)
def test_segwit_vectors_of_bip_350_are_accepted(text: str) -> None:
    """Valid segwit addresses of every version are stored in lower case."""
    assert normalise_address(BITCOIN, text) == text.lower()


@pytest.mark.parametrize("text", SEGWIT_WRONG)
def test_segwit_vectors_of_bip_350_are_refused(text: str) -> None:
    """Invalid segwit addresses are refused, above all bech32 in place of bech32m."""
    with pytest.raises(InvalidError):
        normalise_address(BITCOIN, text)


def test_one_mistyped_digit_in_a_checksummed_address_is_found() -> None:
    """Changing the case of any letter of a checksummed address is refused."""
    usdc = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
    for at in range(2, 42):
        wrong = usdc[:at] + usdc[at].swapcase() + usdc[at + 1 :]
        if wrong != usdc:
            with pytest.raises(InvalidError):
                normalise_address(ETHEREUM, wrong)


CHAINS = [ETHEREUM, ROOTSTOCK, XDC, SOLANA, TRON, BITCOIN, COSMOS, STARKNET, APTOS, SUI, NEAR]
# Texts near the formats, so that the rules behind the first regex are reached too.
ALPHABETS = [
    "0123456789abcdefABCDEFxX",
    "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
    "q1pzr9xbc:/_.- i0x",
]
near_addresses = st.one_of(
    st.text(),
    *[st.text(alphabet, max_size=80) for alphabet in ALPHABETS],
    st.builds(
        "{}{}".format,
        st.sampled_from(["0x", "ibc/", "cw20:", "bc1", "factory/osmo1", "peggy0x", "T"]),
        st.text(ALPHABETS[0]),
    ),
)


@given(st.sampled_from(CHAINS), near_addresses)
def test_normal_forms_are_stable_and_nothing_but_invalid_error_is_raised(on: Chain, text: str) -> None:
    """For any text: InvalidError, or a normal form that is kept by a second pass and by showing it."""
    try:
        normal = normalise_address(on, text)
    except InvalidError:
        return
    assert normalise_address(on, normal) == normal
    assert normalise_address(on, display_address(on, normal)) == normal


@given(st.sampled_from([ETHEREUM, ROOTSTOCK]), st.binary(min_size=20, max_size=20))
def test_every_spelling_of_an_evm_address_gives_the_same(on: Chain, value: bytes) -> None:
    """Lower case, upper case and checksum of any 20 bytes are one address."""
    lower = "0x" + value.hex()
    forms = {lower, "0X" + value.hex(), "0x" + value.hex().upper(), display_address(on, lower)}
    assert len({normalise_address(on, form) for form in forms}) == 1


@given(st.binary(min_size=1, max_size=32).filter(lambda value: 0 < int.from_bytes(value) < 2**251))
def test_starknet_and_move_addresses_lose_no_value_to_padding(value: bytes) -> None:
    """Padding keeps the number: with and without leading zeros it is one address."""
    for on in (STARKNET, SUI):
        short, long = f"0x{int.from_bytes(value):x}", f"0X{int.from_bytes(value):064X}"
        assert normalise_address(on, short) == normalise_address(on, long) == f"0x{int.from_bytes(value):064x}"


def test_import_and_plain_evm_addresses_need_no_codec() -> None:
    """The client starts without Keccak, base58 and bech32, and lower-case EVM addresses never load them."""
    program = (
        "import sys\n"
        "from cqar.model import Chain\n"
        "from cqar.rules.addresses import normalise_address\n"
        "normalise_address(Chain(chain_id='e', name='E', namespace='eip155', network_id=1), '0x' + 'a' * 40)\n"
        "print(sorted({'Crypto', 'base58', 'bech32', 'cqar._confusables'} & set(sys.modules)))\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
