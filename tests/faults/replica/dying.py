"""A process that kills itself at a chosen step of what its syncer does to the files, as `kill -9` would at that instant.

Every write, rename, removal and store to the head counts twice: before and after. A write that it dies at is torn.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cqar.client import _folder, _generation
from cqar.client._head import Head

_steps = itertools.count(1)
_lock = threading.Lock()


class _Death:
    def __init__(self, at: int, seed: int) -> None:
        self.at, self.random = at, random.Random(seed)

    def step(self) -> bool:
        """Count a step; tell whether it is the last one."""
        with _lock:
            return next(_steps) >= self.at


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _around(function: Callable[..., Any], death: _Death) -> Callable[..., Any]:
    def stepped(*arguments: Any, **more: Any) -> Any:
        if death.step():
            _die()
        result = function(*arguments, **more)
        if death.step():
            _die()
        return result

    return stepped


class _Words:
    """The words of a head, each store to which is a step."""

    def __init__(self, words: Any, death: _Death) -> None:
        self._words, self._death = words, death

    def __getitem__(self, index: int) -> int:
        return int(self._words[index])

    def __setitem__(self, index: int, value: int) -> None:
        if self._death.step():
            _die()
        self._words[index] = value
        if self._death.step():
            _die()


class _Os:
    """`os` with steps, for one module."""

    def __init__(self, death: _Death) -> None:
        self._death = death
        self.ftruncate = _around(os.ftruncate, death)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        if self._death.step():
            os.pwrite(descriptor, bytes(data)[: self._death.random.randrange(len(data) + 1)], offset)
            _die()
        written = os.pwrite(descriptor, data, offset)
        if self._death.step():
            _die()
        return written


def arm(at: int, seed: int) -> None:
    """Die at the step with this number."""
    death = _Death(at, seed)
    setattr(_folder, "os", _Os(death))  # noqa: B010  (for mypy)
    for owner, names in (
        (Path, ("rename", "write_bytes", "unlink")),
        (_folder.Folder, ("publish", "new_tail", "clean")),
        (_generation, ("remove_unused",)),
    ):
        for name in names:
            setattr(owner, name, _around(getattr(owner, name), death))
    publish = _folder.Folder.publish

    def published(*arguments: Any) -> Head:
        head = publish(*arguments)
        head.words = _Words(head.words, death)  # type: ignore[assignment]
        return head

    _folder.Folder.publish = published  # type: ignore[assignment]
