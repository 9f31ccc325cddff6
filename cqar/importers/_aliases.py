"""Whose an alias is, among the chains or venues of a file and those that are registered.

The registry's word counts; an alias that several rows claim goes to none of them, because the file does not say to which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from cqar.importers._plan import Plan
from cqar.model import Chain, Venue, fold


class Aliases:
    """The claims of a file: for each slug the aliases that it asks for."""

    def __init__(
        self, registered: Mapping[str, Chain] | Mapping[str, Venue], claims: Iterable[tuple[str, list[str]]]
    ) -> None:
        self._registered = registered
        self._claimants: dict[str, set[str]] = defaultdict(set)
        for slug, aliases in claims:
            for alias in aliases:
                self._claimants[fold(alias)].add(slug)
        for slug, record in registered.items():
            for alias in record.aliases:
                self._claimants[fold(alias)] = {slug}

    def granted(self, made: Plan, row: int, slug: str, aliases: Iterable[str]) -> tuple[str, ...]:
        """Give the aliases that a slug gets or has; the plan notes the others."""
        mine = set(self._registered[slug].aliases) if slug in self._registered else set()
        for alias in aliases:
            others = self._claimants[fold(alias)] - {slug}
            if others:
                whose = ", ".join(sorted(others))
                made.leave_out(row, slug, "ALIAS_TAKEN", f"alias {alias} is also said of {whose}")
            else:
                mine.add(alias)
        return tuple(sorted(mine))
