"""How many calls there may be at once, of one token and of all, by what they are for.

A call counts from its headers on, before anything of its message is read, until its task ends. What is too much is refused at once,
with RESOURCE_EXHAUSTED and a hint when to try again; who stays within the limits does not notice the others.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter
from typing import Final

from cqar.access import Role
from cqar.errors import LimitError
from cqar.server.lanes import LANE, Lane
from cqar.server.rights import NEEDED

RETRY_SECONDS: Final = 1.0  # after which a refused call may be tried again


class Sort(enum.Enum):
    """What a call is for, with the share of all calls that its sort may have."""

    READ = 1 / 2
    FEED = 5 / 8  # a stream that stays open
    WRITE = 1.0  # and what followers need to begin
    # Reads and feeds together leave this much to writes.


_READS_AND_FEEDS: Final = 7 / 8
_REPLICATION: Final = "/cqar.v1.Replication/"


def sort_of(method: str) -> Sort:
    """Return what a method is for, by its path."""
    if method == f"{_REPLICATION}WatchChanges":
        return Sort.FEED
    if method.startswith(_REPLICATION) or NEEDED.get(method) is not Role.READER:
        return Sort.WRITE
    return Sort.READ


_SORT: Final = {method: sort_of(method) for method in NEEDED}


class Admission:
    """Counts the calls of one server. To be used in its event loop."""

    def __init__(self, *, most: int, calls_per_token: int, feeds_per_token: int) -> None:
        self._most = most
        self._each = {Sort.READ: calls_per_token, Sort.WRITE: calls_per_token, Sort.FEED: feeds_per_token}
        self._by_token: Counter[tuple[str, Sort]] = Counter()
        self._by_sort: Counter[Sort] = Counter()
        self.refused: Counter[str] = Counter()  # by reason

    def enter(self, method: str, token_id: str | None) -> None:
        """Count a call, of whose task this is, until the task ends; raise LimitError if there are too many.

        Without a token, on an open server, only the limits of all count.
        """
        sort = _SORT.get(method, Sort.READ)
        if token_id is not None and self._by_token[token_id, sort] >= self._each[sort]:
            what = "feeds" if sort is Sort.FEED else "writes" if sort is Sort.WRITE else "reads"
            raise self._refusal(
                "TOO_MANY_OF_TOKEN", f"this token has {self._each[sort]} {what} under way", self._each[sort]
            )
        others = self._by_sort[Sort.READ] + self._by_sort[Sort.FEED]
        most = int(self._most * sort.value)
        if self._by_sort[sort] >= most or (sort is not Sort.WRITE and others >= self._most * _READS_AND_FEEDS):
            raise self._refusal(
                "TOO_MANY_CALLS", f"this server has {self._by_sort[sort]} calls of this sort under way", most
            )
        self._count(token_id, sort, 1)
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self._count(token_id, sort, -1))
        LANE.set(Lane(token_id, is_reserved=sort is not Sort.READ))

    def _refusal(self, reason: str, what: str, limit: int) -> LimitError:
        self.refused[reason] += 1
        return LimitError(
            f"{what}, the most there may be: wait for some to end, or try again in {RETRY_SECONDS:g} s",
            reason=reason,
            limit=limit,
            retry_after_ms=int(RETRY_SECONDS * 1000),
        )

    def _count(self, token_id: str | None, sort: Sort, step: int) -> None:
        self._by_sort[sort] += step
        if token_id is not None:
            self._by_token[token_id, sort] += step
            if not self._by_token[token_id, sort]:
                del self._by_token[token_id, sort]
