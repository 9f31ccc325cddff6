"""Old parts of the change log for followers that are behind the ring: one page at a time, and each caller in its turn.

Two hundred feeds from the start would otherwise read the log two hundred times, and take the threads and the event loop from
writes. A page that was read a moment ago serves all who need it; between two full pages there is a pause, as long as the page
took, which leaves the server at least half of its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from cqar.model import Batch, FeedToken
from cqar.server.lanes import LANE
from cqar.server.ring import Frame, Limits, framed

_KEPT: Final = 32 << 20  # bytes of pages
_RATE: Final = 100 << 20  # bytes a second that are sent of the history, at most


class History:
    """Reads pages of the log. To be used in one event loop; `read` runs in a thread."""

    def __init__(self, read: Callable[[FeedToken], list[Batch]], limits: Limits) -> None:
        """`read` gives the batches after a token, those of a page, and raises if the log does not go on from there."""
        self._read, self._limits = read, limits
        self._thread = ThreadPoolExecutor(1, "cqar-history")
        self._turns = Turns()
        self._pages: OrderedDict[tuple[int, bytes], list[Frame]] = OrderedDict()  # the last used comes last
        self._bytes = 0

    async def stop(self) -> None:
        """Wait for the read under way."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def after(self, at: FeedToken) -> list[Frame]:
        """Return what follows a token, as much as a page holds; nothing if the log has nothing there. Raises what `read` raises."""
        async with self._turns.turn(LANE.get().actor):
            began, key = time.monotonic(), (at.position, at.chain)
            page = self._pages.get(key)
            if page is None:
                page = await asyncio.get_running_loop().run_in_executor(self._thread, self._framed, at)
            size = sum([len(frame.data) for frame in page])
            if sum([frame.changes for frame in page]) >= self._limits.message_changes:
                self._keep(key, page, size)
                await asyncio.sleep(max(time.monotonic() - began, size / _RATE))
            return page

    def _framed(self, at: FeedToken) -> list[Frame]:
        return [framed(batch) for batch in self._read(at)]

    def _keep(self, key: tuple[int, bytes], page: list[Frame], size: int) -> None:
        """Keep a full page, which will never be another one; the oldest ones go."""
        if key not in self._pages:
            self._pages[key] = page
            self._bytes += size
        self._pages.move_to_end(key)
        while self._bytes > _KEPT and len(self._pages) > 1:
            _, gone = self._pages.popitem(last=False)
            self._bytes -= sum([len(frame.data) for frame in gone])


class Turns:
    """Lets one at a time through, callers in turn, and of one caller in order. To be used in one event loop."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: dict[str | None, deque[asyncio.Future[None]]] = {}  # the caller whose turn it is comes first

    @contextlib.asynccontextmanager
    async def turn(self, caller: str | None) -> AsyncIterator[None]:
        """Run the block when it is the caller's turn."""
        if self._busy:
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(caller, deque()).append(mine)
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():  # it was handed the turn at that moment
                    self._next()
                raise
        self._busy = True
        try:
            yield
        finally:
            self._next()

    def _next(self) -> None:
        self._busy = False
        while self._waiting:
            caller = next(iter(self._waiting))
            queue = self._waiting.pop(caller)
            first = queue.popleft()
            if queue:
                self._waiting[caller] = queue  # behind the others
            if not first.done():
                self._busy = True
                first.set_result(None)
                return
