"""Brief memory of what the server answered to misses, "not found" included.

An answer lives for seconds, and no longer than until the first batch that touches it. Concurrent misses of one key share one
call. "The server cannot be reached" is never remembered, and never turned into "does not exist".
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from cachetools import TTLCache

from cqar.client._recent import Key, Topic
from cqar.errors import AmbiguousError, CqarError, InvalidError, NotFoundError

SECONDS = 5.0
ENTRIES = 2_000  # a batch looks at all of them
_LASTING = (NotFoundError, AmbiguousError, InvalidError)  # errors that are answers


class Brief:
    """Answers of the server by key. Thread-safe."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._held: TTLCache[Key, tuple[tuple[Topic, ...], Any]] = TTLCache(ENTRIES, seconds)
        self._lock = threading.Lock()
        self._flights: dict[Key, Future[Any]] = {}

    def ask(self, key: Key, topics: tuple[Topic, ...], call: Callable[[], Any], still_holds: Callable[[], bool]) -> Any:
        """Give the remembered answer, or the one of a call that is under way, or call.

        Raises what the call raised. The answer is not remembered if `still_holds` says that the replica moved meanwhile:
        the batch that would have dropped it may be past.
        """
        with self._lock:
            held = self._held.get(key)
        if held is not None:
            return _give(held[1])
        mine: Future[Any] = Future()
        flight = self._flights.setdefault(key, mine)
        if flight is not mine:
            return flight.result()
        try:
            try:
                answer = call()
            except _LASTING as error:
                answer = error
            with self._lock:
                if still_holds():
                    self._held[key] = (topics, answer)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            _settle(mine, answer)
            return _give(answer)
        finally:
            self._flights.pop(key, None)

    def holds(self, key: Key) -> bool:
        """Tell whether the answer is remembered."""
        with self._lock:
            return key in self._held

    def drop(self, touched: set[Topic]) -> None:
        """Forget the answers to the topics that a batch touched."""
        with self._lock:
            for key in [key for key, (topics, _) in self._held.items() if not touched.isdisjoint(topics)]:
                del self._held[key]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()

    def after_fork(self) -> None:
        """Start afresh in a child: the calls under way are the parent's."""
        self._lock = threading.Lock()
        self._flights = {}
        self._held.clear()


def _give(answer: Any) -> Any:
    """Return an answer, or raise it; each caller gets an error object of its own, since raising writes into it."""
    if isinstance(answer, CqarError):
        rebuild, arguments = answer.__reduce__()
        raise rebuild(*arguments)  # type: ignore[operator,misc]
    return answer


def _settle(flight: Future[Any], answer: Any) -> None:
    if isinstance(answer, BaseException):
        flight.set_exception(answer)
    else:
        flight.set_result(answer)
