"""The frame of the attack suite: marks, the scale of a run, and a table of verdicts at its end.

An attack is one file, `test_aNN_<what>.py`. Its docstring says what the attacker does and what happened before the fix. It names
itself once:

    pytestmark = attack("A9", by="a large import", promise="no call waits for a batch")

Each of its tests carries out the attack against real processes and files, and passes if CQAR withstands. Nothing else has to be
edited to add one.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

import pytest

# The servers that attacks are carried out against.
from tests.integration.conftest import config, migrated_template, migrated_url, server, store

__all__ = ["config", "migrated_template", "migrated_url", "scale", "server", "store"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark that says which attack a test carries out."""
    config.addinivalue_line("markers", "attack(number, by, promise): which attack this is, by whom, on which promise")


@pytest.fixture
def scale() -> int:
    """Return how many times longer than in CI an attack lasts: 1, or what `make attacks` says (ATTACK_SCALE)."""
    return int(os.environ.get("ATTACK_SCALE", "1"))


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Refuse a test in this folder that does not say which attack it carries out; note what does for the table."""
    for item in items:
        if not item.nodeid.startswith("tests/attacks/"):
            continue
        mark = item.get_closest_marker("attack")
        if mark is None:
            raise pytest.UsageError(f"{item.nodeid}: set pytestmark = attack(…); see tests/attacks/conftest.py")
        item.user_properties.append(("attack", (mark.args[0], mark.kwargs["by"], mark.kwargs["promise"])))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the verdict on each attack."""
    outcomes: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            for name, value in getattr(report, "user_properties", ()):
                if name == "attack":
                    outcomes[value].append(outcome)
    if not outcomes:
        return
    terminalreporter.section("attacks")
    for (number, by, promise), found in sorted(outcomes.items(), key=lambda each: (len(each[0][0]), each[0])):
        verdict = (
            "BROKEN" if {"failed", "error"} & set(found) else "withstood" if "passed" in found else "not carried out"
        )
        terminalreporter.write_line(f"{number:>4}  {verdict:<15} {promise}  (by {by})")
