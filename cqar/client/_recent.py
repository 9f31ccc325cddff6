"""The recent map: answers computed lately, bounded, read without a lock.

Two dicts take turns: new answers go into `young`; when it is full it becomes the old one and an empty one takes its place,
so that what nobody asked for during a whole turn is forgotten. Nothing is ever moved one by one: a hit costs one dict
look-up, an insertion never more than a few. Each answer names the *topics* that it depends on; a batch drops the answers to
the topics that it touches and no others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Any

Key = tuple[Hashable, ...]
Topic = tuple[str, ...]


class _Turn:
    """The answers of one turn, and which of them depend on a topic."""

    __slots__ = ("answers", "by_topic", "topics")

    def __init__(self) -> None:
        self.answers: dict[Key, Any] = {}
        self.topics: dict[Key, tuple[Topic, ...]] = {}
        self.by_topic: dict[Topic, set[Key]] = {}

    def put(self, key: Key, answer: Any, topics: tuple[Topic, ...]) -> None:
        self.topics[key] = topics
        for topic in topics:
            self.by_topic.setdefault(topic, set()).add(key)
        self.answers[key] = answer

    def drop(self, topic: Topic) -> None:
        for key in self.by_topic.pop(topic, ()):
            self.answers.pop(key, None)
            self.topics.pop(key, None)


class Recent:
    """A bounded map of answers. `young` may be read by any thread without a lock; all else goes through the methods."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._half = max(1, capacity // 2)
        self._turn, self._last = _Turn(), _Turn()
        self.young = self._turn.answers
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._turn.answers) + len(self._last.answers)

    def renewed(self, key: Key) -> Any:
        """Give an answer of the last turn and keep it for this one; KeyError if it is not there."""
        with self._lock:
            answer = self._last.answers[key]
            self._put(key, answer, self._last.topics[key])
            return answer

    def put(self, key: Key, answer: Any, topics: tuple[Topic, ...], *, still_holds: Callable[[], bool]) -> None:
        """Remember an answer unless the data has moved on since it was computed.

        `still_holds` is asked under the lock that `drop` takes too: an answer that was computed before a batch can then
        never be put back after that batch has dropped it.
        """
        with self._lock:
            if still_holds():
                self._put(key, answer, topics)

    def _put(self, key: Key, answer: Any, topics: tuple[Topic, ...]) -> None:
        if len(self._turn.answers) >= self._half:
            self._last, self._turn = self._turn, _Turn()
            self.young = self._turn.answers
        self._turn.put(key, answer, topics)

    def drop(self, topics: Iterable[Topic]) -> None:
        """Forget the answers that depend on any of the topics."""
        with self._lock:
            for topic in topics:
                self._turn.drop(topic)
                self._last.drop(topic)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._turn, self._last = _Turn(), _Turn()
            self.young = self._turn.answers

    def after_fork(self) -> None:
        """Make the map usable in a forked child, where another thread's lock would stay locked for ever."""
        self._lock = threading.Lock()
        self.clear()
