"""Threads for calls, shared out so that nobody takes them all.

Calls wait in lanes, one for each caller, and the lanes take turns. A caller with a token has at most half of the threads at
once, and reads never have the last quarter: writes, and what followers need to begin, find a thread however many reads wait.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple


class Lane(NamedTuple):
    """For whom a thread is wanted."""

    actor: str | None = None  # the id of a token; None: an open server, or a read for many callers at once
    is_reserved: bool = False  # a write, or what followers need


SHARED: Final = Lane()
LANE: ContextVar[Lane] = ContextVar("cqar-lane", default=SHARED)  # of the call whose handler is submitted

_Work = tuple[Future[Any], Callable[[], Any]]


class Lanes(Executor):
    """The threads. Thread-safe; `submit` reads `LANE`."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._most = threads
        self._most_reads = threads - threads // 4
        self._most_each = max(1, threads // 2)
        self._lock = threading.Lock()
        self._waiting: dict[Lane, deque[_Work]] = {}  # the lane whose turn it is comes first
        self._running: Counter[Lane] = Counter()
        self._busy = self._reads = 0

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return sum([len(queue) for queue in list(self._waiting.values())])

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function in a thread when its lane has its turn."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.setdefault(LANE.get(), deque()).append((future, partial(fn, *args, **kwargs)))
            self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - what waits is cancelled
        """Let what runs end; what waits is cancelled."""
        with self._lock:
            left = [future for queue in self._waiting.values() for future, _ in queue]
            self._waiting.clear()
        for future in left:
            future.cancel()
        self._threads.shutdown(wait=wait)

    def _start(self) -> None:
        """Start what may run now. To be called with the lock."""
        while self._busy < self._most:
            lane = next(filter(self._may_run, self._waiting), None)
            if lane is None:
                return
            queue = self._waiting.pop(lane)
            future, work = queue.popleft()
            if queue:
                self._waiting[lane] = queue  # behind the others
            if not future.set_running_or_notify_cancel():
                continue
            self._count(lane, 1)
            self._threads.submit(self._run, lane, future, work)

    def _may_run(self, lane: Lane) -> bool:
        if not lane.is_reserved and self._reads >= self._most_reads:
            return False
        others = lane._replace(is_reserved=not lane.is_reserved)
        return lane.actor is None or self._running[lane] + self._running[others] < self._most_each

    def _count(self, lane: Lane, step: int) -> None:
        self._busy += step
        self._reads += 0 if lane.is_reserved else step
        self._running[lane] += step
        if not self._running[lane]:
            del self._running[lane]

    def _run(self, lane: Lane, future: Future[Any], work: Callable[[], Any]) -> None:
        try:
            result, error = work(), None
        except BaseException as raised:  # noqa: BLE001 - it belongs to who waits
            result, error = None, raised
        with self._lock:
            self._count(lane, -1)
            self._start()
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
