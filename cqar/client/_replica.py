"""The replica: a generation with the changes since laid over it, at exactly one position.

`apply` and `switch` are called by one thread at a time; any thread may read. Readers take no lock: they note the version, read,
and look whether the version still stands; only if a batch came in between (or is just being applied) do they queue for the lock and
read again. So an answer never mixes two positions, and a batch is seen whole or not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from cqar.answers import Candidate
from cqar.client._entries import Gate, symbol_key
from cqar.client._generation import Generation
from cqar.client._overlay import Overlay
from cqar.client._recent import Recent, Topic
from cqar.errors import InternalError
from cqar.looks import looks_like, skeletons
from cqar.model import (
    KINDS,
    Asset,
    Batch,
    Chain,
    Change,
    Deployment,
    FeedToken,
    FlagType,
    Group,
    GroupMember,
    Op,
    QualityFlag,
    Record,
    Severity,
    Venue,
    fold,
)
from cqar.rules.choose import identity, worst_first

T = TypeVar("T")

_OWNERS = ("asset_id", "parent_asset_id", "child_asset_id", "quote_asset_id", "settle_asset_id")


def about(asset_id: str) -> Topic:
    """The topic of all answers that tell something about an asset."""
    return ("about", asset_id)


class Replica:
    """Records, postings and candidates at one position. Thread-safe."""

    def __init__(self, generation: Generation, recent: Recent) -> None:
        self.generation: Generation = generation
        self.overlay = Overlay()
        self.recent = recent
        self.head = generation.head
        self.position = self.head.position
        self.version = 0  # changes with every batch; odd while one is being applied
        self.unread: frozenset[tuple[str, str]] = (
            generation.unread
        )  # records that could not be read whole: kind and key
        self._lock = threading.Lock()

    # --- reading: records ---------------------------------------------------------------------------------------

    def get(self, kind: str, key: str) -> Any:
        """Give a record of a kind, or None."""
        changed = self.overlay.records.get(kind)
        if changed is not None and key in changed:
            return changed[key]
        return self.generation.index.record(kind, key)

    def removed(self, kind: str, key: str) -> bool:
        """Report whether a record was removed, since the generation was made or, if the snapshot told of it, before."""
        changed = self.overlay.changed(kind)
        return changed[key] is None if key in changed else self.generation.index.deleted(kind, key)

    def lacks(self, *kinds: str) -> bool:
        """Report whether a record of these kinds, or of any, is not here because nothing of it could be read."""
        return any(
            (not kinds or kind in kinds) and self.get(kind, key) is None for kind, key in self.unread if kind in KINDS
        )

    def find(self, posting: str, *words: str) -> list[Any]:
        """Give the records under these words, sorted by key."""
        kind = KIND_OF_POSTING[posting]
        keys: Iterable[str] = self.generation.index.posting(posting, words)
        added = self.overlay.added(posting, words)
        if added:
            keys = sorted({*keys, *added})
        changed = self.overlay.records.get(kind)
        if not changed:
            index = self.generation.index
            return [record for key in keys if (record := index.record(kind, key)) is not None]
        return [
            record
            for key in keys
            if (record := self.get(kind, key)) is not None
            and (key not in changed or words in _POSTINGS[posting](record))
        ]

    def all(self, kind: str) -> Iterator[Any]:
        """Give every record of a small kind (chains, venues, groups), sorted by key."""
        keys = sorted({*self.generation.index.keys(kind), *self.overlay.changed(kind)})
        return (record for key in keys if (record := self.get(kind, key)) is not None)

    # --- reading: candidates --------------------------------------------------------------------------------------

    def candidates(self, key: bytes, chain: str, folded: str) -> tuple[Candidate, ...]:
        """Give the candidates of a folded symbol on a chain, or with "" on none in particular."""
        dirty = self.overlay.dirty
        if dirty and key in dirty:
            return self.compute(chain, folded)
        return self.generation.index.candidates(key)

    def changed_symbols(self, chain: str) -> list[str]:
        """Give the folded symbols whose candidates on a chain, or on none, may no longer be those of the generation."""
        prefix = symbol_key(chain, "")  # of all keys of the chain: none is so long that it would be hashed
        return [key[len(prefix) :].decode() for key in self.overlay.dirty if key.startswith(prefix)]

    def compute(self, chain: str, folded: str) -> tuple[Candidate, ...]:
        """Gather the candidates of a folded symbol from the records, as `_candidates` does for a whole generation."""
        found = [one for asset in self.find("asset_by_symbol", folded) for one in self._candidates_of(asset, chain)]
        found += self._alike({candidate.asset.symbol for candidate in found}, chain)
        return tuple(sorted(found, key=identity))

    def _candidates_of(self, asset: Asset, chain: str) -> list[Candidate]:
        """Give an asset's deployments on a chain, or with "" the asset itself."""
        flags = self.active_flags(asset.asset_id)
        if not chain:
            return [Candidate(asset, None, flags, is_canonical=self._leads(asset.asset_id, fold(asset.symbol)))]
        return [
            Candidate(asset, deployment, flags, is_canonical=deployment.is_canonical)
            for deployment in self.find("deployment_by_asset", asset.asset_id)
            if deployment.chain_id == chain
        ]

    def look_alikes(self, symbol: str, chain: str) -> list[Candidate]:
        """Return what looks like a symbol that nothing bears on a chain, or with "" on none in particular.

        Like the text that was asked, or like the symbol as it is spelt elsewhere.
        """
        named = self.find("asset_by_symbol", fold(symbol))
        return self._alike({symbol, *[asset.symbol for asset in named]}, chain)

    def _alike(self, symbols: set[str], chain: str) -> list[Candidate]:
        twins = {twin.asset_id: twin for symbol in symbols for twin in self._look_alikes(symbol)}
        return [
            msgspec.structs.replace(candidate, look_alike=True)
            for twin in twins.values()
            for candidate in self._candidates_of(twin, chain)
        ]

    def _look_alikes(self, symbol: str) -> list[Asset]:
        """Return the assets whose symbols look like a symbol without being it (rule R18, look-alikes)."""
        found = {
            other.asset_id: other
            for key in skeletons(symbol)
            for other in self.find("asset_by_skeleton", key)
            if looks_like(other.symbol, symbol)
        }
        return list(found.values())

    def _leads(self, asset_id: str, folded: str) -> bool:
        """Tell whether an asset is the canonical member of the group with this symbol."""
        return any(
            member.is_canonical
            for group in self.find("group_by_symbol", folded)
            if (member := self.get("group_member", f"{group.group_id}/{asset_id}")) is not None
        )

    def gate(self, asset_id: str) -> Gate:
        """Tell what the trade gate must know of an asset.

        Its flags come with the asset's own entry: damage that loses one loses both, and an asset that does not exist is not
        traded.
        """
        held = self.generation.index.gate(asset_id)
        assets = self.overlay.records.get("asset")
        changed: Mapping[str, Any] = self.overlay.changed("quality_flag")
        exists = held.exists if not assets or asset_id not in assets else assets[asset_id] is not None
        if not held.exists:
            return Gate(exists, worst_first(self.find("flag_by_asset", asset_id)))
        if not changed:
            return held if exists else held._replace(exists=False)
        came = self.overlay.added("flag_by_asset", (asset_id,))
        flags: list[Any] = [flag for flag in held.flags if flag.flag_id not in changed]
        flags += [flag for key in came if (flag := changed[key]) is not None and flag.asset_id == asset_id]
        return Gate(exists, worst_first(flags))

    def active_flags(self, asset_id: str) -> tuple[QualityFlag, ...]:
        """Give an asset's active flags, worst first."""
        return self.gate(asset_id).flags

    def at_address(self, chain: str, address: str) -> tuple[Candidate, ...]:
        """Give the candidate at a normalised address (or `model.NATIVE`), as a tuple of at most one."""
        return tuple(
            [
                Candidate(asset, deployment, self.active_flags(asset.asset_id), is_canonical=deployment.is_canonical)
                for deployment in self.find("deployment_by_address", chain, address)
                if (asset := self.get("asset", deployment.asset_id)) is not None
            ]
        )

    # --- consistency ----------------------------------------------------------------------------------------------

    def consistently(self, read: Callable[..., T], arguments: tuple[Any, ...] = ()) -> tuple[T, int]:
        """Run `read(replica, *arguments)` against one position; give its result and the version that it is true of."""
        version = self.version
        if not version & 1:
            try:
                result = read(self, *arguments)
            except Exception:
                if version == self.version:
                    raise
            else:
                if version == self.version:
                    return result, version
        with self._lock:
            return read(self, *arguments), self.version

    # --- writing --------------------------------------------------------------------------------------------------

    def apply(self, batch: Batch, unread: Iterable[tuple[str, str]] = ()) -> set[Topic]:
        """Apply the next batch and give the topics that it touched; one that is applied already is ignored.

        `unread` are the records of the batch that the syncer could not read. Raises InternalError for a gap.
        """
        if batch.position <= self.position:
            return set()
        self._must_follow(batch)
        topics: set[Topic] = set()
        done: list[tuple[str, str, Any]] = []
        with self._lock:
            self.version += 1
            try:
                self._follow(batch, unread, topics, done)
                self.recent.drop(topics)
                self._arrive(batch)
            except BaseException:
                for kind, key, before in reversed(done):  # a batch is seen whole or not at all
                    self.overlay.restore(kind, key, before)
                raise
            finally:
                self.version += 1
        return topics

    def _follow(
        self, batch: Batch, unread: Iterable[tuple[str, str]], topics: set[Topic], done: list[tuple[str, str, Any]]
    ) -> None:
        """Lay a batch over what there is, noting what it touched and what was there before."""
        self._must_follow(batch)
        for each in batch.changes:
            change = self._in_doubt(each) if (each.kind, each.key) in unread else each
            done.append((change.kind, change.key, self.overlay.changed(change.kind).get(change.key, ...)))
            topics |= self._apply(change)
        if self.unread or unread:
            self.unread = (self.unread - {(c.kind, c.key) for c in batch.changes}).union(unread)

    def _in_doubt(self, change: Change) -> Change:
        """Return what becomes of a record whose change could not be read: of a flag that was there is known that it was."""
        before = self.get(change.kind, change.key)
        if change.op is Op.PUT or not isinstance(before, QualityFlag):
            return change
        unknown = msgspec.structs.replace(
            before,
            flag_type=FlagType.UNKNOWN,
            severity=Severity.UNKNOWN,
            cleared_at=None,
            cleared_by=None,
            clear_reason=None,
        )
        return msgspec.structs.replace(change, op=Op.PUT, record=unknown)

    def _must_follow(self, batch: Batch) -> None:
        if batch.position != self.position + 1:
            raise InternalError(
                f"the feed went from {self.position} to {batch.position}", reason="FEED_GAP", position=self.position
            )

    def _arrive(self, batch: Batch) -> None:
        self.head = FeedToken(log_id=self.head.log_id, position=batch.position, chain=batch.chain)
        self.position = batch.position

    def _apply(self, change: Change) -> set[Topic]:
        before = self.get(change.kind, change.key)
        views = self._views(before)
        topics = _topics(change.kind, before)
        self.overlay.put(change.kind, change.key, change.record if change.op is Op.PUT else None)
        views |= self._views(change.record)
        topics |= _topics(change.kind, change.record)
        dirty = {symbol_key(*view): view for view in views}
        self.overlay.dirty |= dirty
        if isinstance(before or change.record, Chain | Venue):
            self.recent.clear()  # their names are resolved on the way to every other answer
        return topics | dirty.keys()

    def _views(self, record: Record | None) -> set[tuple[str, str]]:
        """Give the (chain, folded symbol) pairs whose candidates a record has a part in."""
        match record:
            case Asset():
                return self._views_of(record)
            case Deployment():
                owner = self.get("asset", record.asset_id)
                return set() if owner is None else self._views_of(owner, record.chain_id)
            case QualityFlag():
                owner = self.get("asset", record.asset_id)
                return set() if owner is None else self._views_of(owner)
            case Group():
                return self._views_of_symbol(record)
            case GroupMember():
                group = self.get("group", record.group_id)
                return set() if group is None else self._views_of_symbol(group)
            case _:
                return set()

    def _views_of(self, asset: Asset, *chains: str) -> set[tuple[str, str]]:
        """Give the views of an asset, on these chains too: those of its own symbol, and of the symbols that look like it."""
        symbols = {fold(one.symbol) for one in (asset, *self._look_alikes(asset.symbol))}
        deployments = self.find("deployment_by_asset", asset.asset_id)
        places = {"", *chains, *[deployment.chain_id for deployment in deployments]}
        return {(chain, symbol) for chain in places for symbol in symbols}

    def _views_of_symbol(self, group: Group) -> set[tuple[str, str]]:
        """Give the views, on no chain, in which the members of a group may be canonical."""
        folded = fold(group.canonical_symbol)
        views = {("", folded)}
        for asset in self.find("asset_by_symbol", folded):
            views.update(("", fold(twin.symbol)) for twin in self._look_alikes(asset.symbol))
        return views

    def frozen(self) -> tuple[Generation, Overlay, int]:
        """Give generation and overlay as they are at one position, for reading at leisure."""
        with self._lock:
            overlay = self.overlay.copy()
            overlay.unread = self.unread
            return self.generation, overlay, self.position

    def still(self) -> Replica:
        """Give the replica of this position, which no batch will move: for long reads, which would hold up the feed."""
        twin = Replica(self.generation, Recent(1))
        with self._lock:
            twin.generation, twin.overlay, twin.head = self.generation, self.overlay.copy(), self.head
            twin.position, twin.unread = self.position, self.unread
        return twin

    def switch(self, other: Replica, *, same_history: bool) -> set[Topic] | None:
        """Go over to what another replica shows, at once; that one is not to be used any more.

        Returns the topics that this touched: none if it shows the same position of the same history, and None for "everything may
        be another", with all remembered answers forgotten. The caller sees to it that the position never goes back within a
        history.
        """
        with self._lock:
            self.version += 1
            same = same_history and other.position == self.position
            self.generation, self.overlay, self.unread = other.generation, other.overlay, other.unread
            self.head, self.position = other.head, other.position
            if not same:
                self.recent.clear()
            self.version += 1
        return set() if same else None

    # --- fork -----------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let no fork happen in the middle of a batch: the child would keep half of it."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Replace the locks, which other threads of the parent may have held."""
        self._lock = threading.Lock()
        self.recent.after_fork()


KIND_OF_POSTING = {posting.name: name for name, kind in KINDS.items() for posting in kind.postings}
_POSTINGS: dict[str, Callable[[Record], Any]] = {
    posting.name: posting.words for kind in KINDS.values() for posting in kind.postings
}


def _topics(kind: str, record: Record | None) -> set[Topic]:
    """Give the topics of the answers that a record has a part in, but for candidates of symbols."""
    if record is None:
        return set()
    topics: set[Topic] = {about(owner) for name in _OWNERS if (owner := getattr(record, name, None))}
    for posting in KINDS[kind].postings:
        topics.update((posting.name, *words) for words in posting.words(record))
    if isinstance(record, GroupMember):
        topics.add(("group", record.group_id))
    return topics
