"""docs/security.md names every attack that succeeded once, and the program that carries it out again."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

ATTACKS = ROOT / "tests" / "attacks"
PAGE = ROOT / "docs" / "security.md"
ROW = re.compile(r"^\| (A\d+) \|.*\[(?:\w+\.py)\]\(\.\./(tests/[\w/]+\.py)\)", re.MULTILINE)
MARK = re.compile(r"attack\(\s*\"(A\d+)\"")
SUCCEEDED = [f"A{number}" for number in range(1, 37)]


def rows() -> dict[str, str]:
    """Return the file that the page names for each attack."""
    return dict(ROW.findall(PAGE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("number", SUCCEEDED)
def test_every_attack_that_succeeded_is_carried_out_again(number: str) -> None:
    """A row of the page leads to a file that exists, and that says that it is this attack."""
    path = ROOT / rows()[number]
    assert number in MARK.findall(path.read_text(encoding="utf-8"))


def test_every_attack_has_a_row() -> None:
    """A new attack is one file; the page tells of it."""
    carried_out = {
        number for path in ATTACKS.glob("test_*.py") for number in MARK.findall(path.read_text(encoding="utf-8"))
    }
    assert carried_out <= rows().keys()
