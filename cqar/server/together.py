"""Calls that wait at the same time are answered together, with one read.

A call alone is read at once. While a read is under way others gather, and the next read is for all of them: the busier the
server, the less a call costs. Nobody waits long for the questions of others: beside a slow read another one begins. An
answer is always read after its question was asked, so whoever has seen a write sees it here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import Context, copy_context
from functools import partial
from typing import Final, Generic, TypeVar

from cqar.server.lanes import LANE, SHARED

K = TypeVar("K")
V = TypeVar("V")

AT_ONCE: Final = 4  # reads
PATIENCE: Final = 0.01  # seconds that a question waits for the read under way; most take two milliseconds
MOST: Final = 256  # questions of a read


class Together(Generic[K, V]):
    """Gathers the questions of one sort. To be used in one event loop."""

    def __init__(self, pool: Executor, answer: Callable[[Sequence[K]], Sequence[V]]) -> None:
        """`answer` runs in the pool's threads, and gives one answer for each question, in order."""
        self._pool = pool
        self._answer = answer
        self._waiting: list[tuple[K, asyncio.Future[V], Context]] = []
        self._reads = 0
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, question: K) -> V:
        """Give the answer to one question; raises what the read raised."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[V] = loop.create_future()
        self._waiting.append((question, answered, copy_context()))
        if len(self._waiting) == 1 and self._reads == 0:
            loop.call_soon(self._read)  # so that all that came in with it are asked with it
        elif self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._read)
        return await answered

    def _read(self) -> None:
        """Ask what waits, unless enough is being asked; what is left then is asked when that is done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting or self._reads >= AT_ONCE:
            return
        asked, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        self._reads += 1
        questions = [question for question, _, _ in asked]
        LANE.set(SHARED)  # of the callback that this is: the read is for several callers
        loop, first = asyncio.get_running_loop(), asked[0][2]  # the context whose log lines and spans the read's are
        read = loop.run_in_executor(self._pool, first.run, self._answer, questions)
        read.add_done_callback(partial(self._tell, [answered for _, answered, _ in asked]))
        if self._waiting:
            self._timer = loop.call_later(PATIENCE, self._read)

    def _tell(self, asked: list[asyncio.Future[V]], read: asyncio.Future[Sequence[V]]) -> None:
        self._reads -= 1
        self._read()
        error = asyncio.CancelledError() if read.cancelled() else read.exception()
        for index, answered in enumerate(asked):
            if answered.done():
                continue  # its caller has given up
            if error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(read.result()[index])
