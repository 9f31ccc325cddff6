"""Which topics changed when: what tells a remembered answer that is still true from one that is not.

A topic is a text such as "asset:<id>" or "symbol:usdc". An answer depends on some topics and was true at a position; it is
true still if none of them changed since. Commits of this process are noted before their callers hear of them, those of
other servers when the feed brings them; so truth never rests on an invalidation that somebody had to receive. While the
feed brings nothing because it has failed, nothing counts as true.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from cqar.looks import skeletons
from cqar.model import Asset, Change, Deployment, FeedToken, Group, Identifier, VenueSymbol, fold

TOPICS: Final = 200_000  # remembered; about 40 MB
# Names of these are resolved on the way to other answers; they change so seldom that all answers may go.
CHAINS: Final = "chains"
VENUES: Final = "venues"
_OWNERS: Final = ("asset_id", "quote_asset_id", "settle_asset_id", "parent_asset_id", "child_asset_id")


def topics_of(kind: str, key: str, *states: Any) -> set[str]:
    """Give the topics that a change touches: of its key, and of the record's states as far as they are known."""
    topics = {f"{kind}:{key}"}
    if kind in {"chain", "venue"}:
        topics.add(CHAINS if kind == "chain" else VENUES)
    if kind == "group_member":
        group_id, asset_id = key.split("/")
        topics |= {f"group:{group_id}", f"asset:{asset_id}"}
    for record in states:
        topics |= {f"asset:{owner}" for name in _OWNERS if (owner := getattr(record, name, None))}
        topics.update(_TOPICS.get(type(record), _none)(record))
    return topics


def _none(_record: Any) -> Iterable[str]:
    return ()


_TOPICS: Final[dict[type, Callable[[Any], Iterable[str]]]] = {
    Asset: lambda asset: [f"symbol:{fold(asset.symbol)}", *map(look_topic, skeletons(asset.symbol))],
    Group: lambda group: [f"symbol:{fold(group.canonical_symbol)}"],
    Deployment: lambda deployment: [address_topic(deployment.chain_id, deployment.contract_address)],
    Identifier: lambda identifier: [f"external:{identifier.source}:{identifier.external_id}"],
    VenueSymbol: lambda row: [f"ticker:{row.venue_id}:{row.symbol}"],
}


def look_topic(skeleton: str) -> str:
    """Name the topic of the assets whose symbols have this skeleton."""
    return f"look:{skeleton}"


def address_topic(chain_id: str, contract_address: str | None) -> str:
    """Name the topic of what is deployed at an address; None is the chain's native asset."""
    return f"address:{chain_id}:{contract_address or ''}"


class Touched:
    """When each topic changed last, as far back as is remembered. Thread-safe."""

    def __init__(self, size: int = TOPICS) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._changed: OrderedDict[str, int] = OrderedDict()
        self._since = 0  # before this position nothing is known
        self._begun = math.inf  # Unix time; what was read before is not believed
        self.log_id = ""
        self.position = 0  # every change up to here has been noted

    def begin(self, head: FeedToken) -> None:
        """Begin where the log is: what happened before is not known.

        Nothing that was read before this moment counts any more: it may be of a history that a restored database, or a
        standby that took over, never had.
        """
        with self._lock:
            # A commit after the head was read is noted already, and must not be forgotten.
            self._changed = OrderedDict([item for item in self._changed.items() if item[1] > head.position])
            self._since = self.position = head.position
            self._begun = time.time()
            self.log_id = head.log_id

    def end(self) -> None:
        """Note that changes of other servers go unnoticed from now on, until `begin`."""
        with self._lock:
            self._begun = math.inf

    def note(self, position: int, topics: Iterable[str], *, complete: bool) -> None:
        """Note what a commit touched; `complete` if every commit before it has been noted as well."""
        with self._lock:
            for topic in topics:
                self._changed[topic] = max(position, self._changed.pop(topic, 0))
            while len(self._changed) > self._size:
                _, forgotten = self._changed.popitem(last=False)
                self._since = max(self._since, forgotten)
            if complete:
                self.position = position

    def still(self, position: int, topics: Iterable[str], *, read_at: float) -> bool:
        """Tell whether what was read at this Unix time, and true at a position, is true still, as far as has been noted."""
        with self._lock:
            if read_at < self._begun or position < self._since:
                return False
            return all(self._changed.get(topic, 0) <= position for topic in topics)


def of_changes(changes: Iterable[Change]) -> Iterator[str]:
    """Give the topics that the changes of the feed touch; what a record was before, they do not say."""
    for change in changes:
        yield from topics_of(change.kind, change.key, change.record)
