"""The recent map: answers computed lately, bounded, read without a lock.

A hit is one dict look-up. An answer is kept when its question comes the second time, so that a scan over a million symbols neither
pays for remembering them nor pushes out what is asked for on every tick. When the map is full it starts over: what is asked for
often is back at once. Each answer names the *topics* that it depends on; a batch drops the answers to the topics that it touches
and no others.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import Any, Protocol

FREED = 16  # forgotten answers that each new one frees: many at once would hold up the call that forgets them

Key = tuple[Hashable, ...] | str
Topic = tuple[str, ...] | bytes


class Versioned(Protocol):
    """What answers are computed from."""

    version: int


class Recent:
    """A bounded map of answers. `answers` may be read by any thread without a lock; all else goes through the methods."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = max(1, capacity)
        self._lock = threading.Lock()
        self._asked_slots = 1 << (4 * self._capacity).bit_length()  # few enough questions fall on one slot by chance
        self._asked, self._asked_count = bytearray(self._asked_slots), 0
        self.answers: dict[Key, Any] = {}
        self._forgotten: list[dict[Any, Any]] = []  # maps that were started over, not yet freed
        self._by_topic: dict[
            Topic, Key | list[Key]
        ] = {}  # mostly one key: a list for each would be work for the collector

    def put(self, key: Key, answer: Any, topics: tuple[Topic, ...], version: int, owner: Versioned) -> None:
        """Remember an answer if its question came before, unless its owner has moved on from the version that it is true of.

        The version is compared under the lock that `drop` takes too: an answer that was computed before a batch can then never
        be put back after that batch has dropped it.
        """
        slot = hash(key) & (self._asked_slots - 1)
        if not self._asked[slot]:  # no lock: a note that is lost costs one more computation
            self._asked_count += 1
            if self._asked_count > self._capacity:
                self._asked, self._asked_count = bytearray(self._asked_slots), 0
            self._asked[slot] = 1
            return
        with self._lock:
            if owner.version != version:
                return
            if len(self.answers) >= self._capacity:
                self._start_over()
            for topic in topics:
                held = self._by_topic.setdefault(topic, key)
                if held is not key:
                    if isinstance(held, list):
                        held.append(key)
                    else:
                        self._by_topic[topic] = [held, key]
            self.answers[key] = answer
            self._free()

    def drop(self, topics: Iterable[Topic]) -> None:
        """Forget the answers that depend on any of the topics."""
        with self._lock:
            for topic in topics:
                held = self._by_topic.pop(topic, ())
                for key in held if isinstance(held, list) else (held,):
                    self.answers.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._start_over()

    def _start_over(self) -> None:
        self._forgotten += [held for held in (self.answers, self._by_topic) if held]
        self.answers, self._by_topic = {}, {}

    def _free(self) -> None:
        for _ in range(FREED):
            if not self._forgotten:
                return
            held = self._forgotten[-1]
            if held:
                held.popitem()
            else:
                self._forgotten.pop()

    def after_fork(self) -> None:
        """Make the map usable in a forked child, where another thread's lock would stay locked for ever."""
        self._lock = threading.Lock()
        self._start_over()
