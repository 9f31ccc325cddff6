"""The changes since the generation, in this process's memory, laid over the generation's index.

It keeps what changed, by key, and which keys came under which words; everything else is still the index's. Values are
immutable and replaced whole, so that a reader in another thread finds either the old or the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType

from cqar.model import KINDS, Record, Words


class Overlay:
    """Records changed since the generation. Written by one thread, the one that applies batches."""

    __slots__ = ("_added", "dirty", "records", "unread")

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Record | None]] = {}  # kind -> key -> new state; None: removed
        self._added: dict[str, dict[Words, tuple[str, ...]]] = {}  # posting -> words -> keys that came under them
        # Index keys of the symbols whose stored candidates no longer hold, with chain and folded symbol.
        self.dirty: dict[bytes, tuple[str, str]] = {}
        self.unread: frozenset[tuple[str, str]] = (
            frozenset()
        )  # of all that there is; kept in copies that are read at leisure

    def __len__(self) -> int:
        return sum(len(changed) for changed in self.records.values())

    def changed(self, kind: str) -> Mapping[str, Record | None]:
        """Give the changed records of a kind by key; None stands for a removed one."""
        return self.records.get(kind, {})

    def added(self, posting: str, words: Words) -> tuple[str, ...]:
        """Give the keys that came under these words since the generation; some may have left again."""
        return self._added.get(posting, {}).get(words, ())

    def put(self, kind: str, key: str, record: Record | None) -> None:
        """Lay a record, or with None its absence, over the index."""
        self.records.setdefault(kind, {})[key] = record
        if record is None:
            return
        for posting in KINDS[kind].postings:
            held = self._added.setdefault(posting.name, {})
            for words in posting.words(record):
                if key not in held.get(words, ()):
                    held[words] = (*held.get(words, ()), key)

    def restore(self, kind: str, key: str, before: Record | EllipsisType | None) -> None:
        """Undo a `put`: lay back what was there before, or with ... nothing. Posted words may stay: readers check them."""
        if isinstance(before, EllipsisType):
            self.records.get(kind, {}).pop(key, None)
        else:
            self.records[kind][key] = before

    def copy(self) -> Overlay:
        """Give an overlay that later changes do not touch."""
        twin = Overlay()
        twin.records = {kind: dict(changed) for kind, changed in self.records.items()}
        twin._added = {posting: dict(held) for posting, held in self._added.items()}
        twin.dirty = dict(self.dirty)
        return twin
