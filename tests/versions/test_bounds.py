"""The bounds of pyproject.toml say what was tried: the newest by `make test`, the lowest by `make lowest`."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOWEST = ROOT / "tests" / "versions" / "lowest.txt"
CALENDAR = frozenset({"pytz"})  # its versions are dates: there is no next one that could break


def requirements() -> list[Requirement]:
    """Return what an installation of the client, the server, the broker and tracing needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = [
        *project["dependencies"],
        *(each for extra in ("client", "server", "nats", "tracing") for each in extras[extra]),
    ]
    return [each for each in map(Requirement, named) if each.name != "cqar"]


def lowest(requirement: Requirement) -> str | None:
    """Return the lower bound of a requirement."""
    return next((each.version for each in requirement.specifier if each.operator in {">=", "=="}), None)


@pytest.mark.parametrize("requirement", requirements(), ids=lambda each: each.name)
def test_every_dependency_has_bounds_that_were_tried(requirement: Requirement) -> None:
    """A35: an open bound admits what nobody has tried, as lmdb 1.7.5 to 2.3.0, none of which works."""
    operators = {each.operator for each in requirement.specifier}
    assert "==" in operators or ">=" in operators
    assert "==" in operators or "<" in operators or requirement.name in CALENDAR
    assert requirement.specifier.contains(version(requirement.name)), "this environment has another version"


def test_the_lowest_versions_are_those_of_the_bounds() -> None:
    """What `make lowest` installs is what pyproject.toml admits."""
    pinned = dict(
        line.split("==")
        for line in LOWEST.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    assert pinned == {each.name: lowest(each) for each in requirements()}
