"""What has to be told of forks: all objects of a kind that live, before and after, one fork at a time.

Several threads may fork at once, a pool of `multiprocessing` does. Without the lock the second would wait for what the first one
holds, and the first, back in the parent, would let go of it for both.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Generic, Protocol, TypeVar


class Forked(Protocol):
    """What wants to be told; not a part of its public face."""

    def _before_fork(self) -> None: ...
    def _after_fork_in_parent(self) -> None: ...
    def _after_fork_in_child(self) -> None: ...


T = TypeVar("T", bound=Forked)


class Forks(Generic[T]):
    """The living objects of a kind."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[T] = weakref.WeakSet()
        self._told: list[T] = []
        self._lock = threading.Lock()
        self._registered = False

    def add(self, each: T) -> None:
        """Tell an object of forks from now on."""
        with self._lock:
            self._all.add(each)
            if not self._registered:
                self._registered = True
                os.register_at_fork(
                    before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child
                )

    def discard(self, each: T) -> None:
        """Tell it no longer."""
        with self._lock:
            self._all.discard(each)

    def _before(self) -> None:
        self._lock.acquire()
        self._told = list(self._all)
        for each in self._told:
            each._before_fork()  # noqa: SLF001

    def _after_in_parent(self) -> None:
        while self._told:
            self._told.pop()._after_fork_in_parent()  # noqa: SLF001
        self._lock.release()

    def _after_in_child(self) -> None:
        while self._told:
            self._told.pop()._after_fork_in_child()  # noqa: SLF001
        self._lock = threading.Lock()
