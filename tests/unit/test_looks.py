"""Which texts look alike (R18)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqar import _confusables, looks

CYRILLIC_USDT = "U\u0405D\u0422"  # UЅDТ, a token on Optimism


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (CYRILLIC_USDT, "USDT"),
        (CYRILLIC_USDT, "usdt"),
        ("UsD\u0422", "USDT"),  # only the capital letter has a Latin twin
        ("d\u0430i", "DAI"),  # only the small letter has one
        ("USD0", "USDO"),
        ("USD1", "USDI"),
        ("\uff35\uff33\uff24\uff23", "USDC"),  # full width
        ("𝕏", "X"),
        ("USDC\ufe0f", "USDC"),
        ("W\u0395TH", "WETH"),  # Greek capital epsilon
        ("DAl", "DAI"),
    ],
)
def test_look_alikes_are_found(a: str, b: str) -> None:
    """Other characters, same looks: reported whichever way round, and found by a shared key."""
    assert looks.looks_like(a, b)
    assert looks.looks_like(b, a)
    assert looks.skeletons(a) & looks.skeletons(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("cUSD", "CUSD"),
        ("OP", "op"),
        ("USD₮0", "USDT0"),
        ("USD₮", "USDT"),
        ("DAI", "DAL"),
        ("MØTH", "MOTH"),
        ("SOL", "SOI"),
    ],
)
def test_genuine_symbols_are_no_look_alikes(a: str, b: str) -> None:
    """Texts that differ only in case are one symbol, and a visible stroke is a visible difference."""
    assert not looks.looks_like(a, b)


def test_skeletons_are_those_of_the_standard() -> None:
    """Examples of UTS #39 and of confusables.txt."""
    assert looks.skeleton("\u0440\u0430\u0443\u0440\u0430l") == looks.skeleton("paypal")  # Cyrillic раура
    assert looks.skeleton("scope") == looks.skeleton("\u0455\u0441\u043e\u0440\u0435")
    assert looks.skeleton("m0I|") == "rnOll"
    assert looks.skeleton(CYRILLIC_USDT) == "USDT"
    assert looks.skeleton("\u00e7") == looks.skeleton("c\u0327")


def test_the_confusables_table_is_complete() -> None:
    """The table holds what Unicode's file counts in its last line, but for two ignorable ones; no prototype has one."""
    table = {chr(source): prototype for source, prototype in looks._prototypes().items() if prototype}
    assert (_confusables.VERSION, len(table)) == ("18.0.0", 6712 - 2)
    assert all(looks.skeleton(source) == looks.skeleton(prototype) for source, prototype in table.items())


@given(st.text())
def test_skeletons_are_stable(text: str) -> None:
    """A skeleton is its own skeleton, and equal texts do not look alike: they are the same."""
    assert looks.skeleton(looks.skeleton(text)) == looks.skeleton(text)
    assert not looks.looks_like(text, text)
