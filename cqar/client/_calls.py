"""Calls and forks: gRPC survives a fork only if no thread of ours is inside it at that moment.

gRPC's documentation asks for that; otherwise it skips its own handlers, and the child inherits locks of threads that it does not
have. Of 1,971 children of processes with 200 threads that asked the server, 6 never came back from making their first channel.

So a fork waits until the threads have come out (`Calls`), and a child trusts gRPC only when it has come back once (`Doubt`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from cqar.errors import UnavailableError

T = TypeVar("T")

GRACE = 0.5  # seconds that a call of a child may take beyond its deadline before gRPC counts as stuck


class Calls:
    """Counts the threads that are inside gRPC. Enter it for each stay. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0

    def __enter__(self) -> Self:
        with self._changed:
            self._inside += 1
        return self

    def __exit__(self, *_error: object) -> None:
        with self._changed:
            self._inside -= 1
            if not self._inside:
                self._changed.notify_all()

    def wait_for_none(self, timeout: float) -> bool:
        """Wait until no thread is inside; report whether that came to pass within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._inside, timeout)

    def each(self, call: Iterator[T]) -> Iterator[T]:
        """Yield what a stream brings. The thread counts as inside only while it waits for the next message."""
        while True:
            with self:
                try:
                    message = next(call)
                except StopIteration:
                    return
            yield message


class Doubt:
    """Bounds the calls of a forked child by a deadline that does not depend on gRPC, until gRPC has come back once. Thread-safe.

    At most one thread stays behind for each caller that waits when gRPC turns out to be stuck: later calls are refused at once.
    """

    def __init__(self) -> None:
        self.over = False  # gRPC came back: it is as in any process
        self._stuck = False

    def run(self, call: Callable[[], T], timeout: float) -> T:
        """Make a call, and return or raise what it does. Raise UnavailableError (FORKED) if it does not come back."""
        if self._stuck:
            raise _stuck()
        outcome: Future[T] = Future()
        threading.Thread(target=self._run, name="cqar-call", args=(call, outcome), daemon=True).start()
        try:
            return outcome.result(timeout + GRACE)
        except TimeoutError:
            if outcome.done():  # an error of the call's own
                raise
            self._stuck = True
            raise _stuck() from None

    def _run(self, call: Callable[[], Any], outcome: Future[Any]) -> None:
        try:
            answer = call()
        except BaseException as error:  # noqa: BLE001  (raised in the thread that asked)
            self.over, self._stuck = True, False
            outcome.set_exception(error)
        else:
            self.over, self._stuck = True, False
            outcome.set_result(answer)


def _stuck() -> UnavailableError:
    return UnavailableError(
        "gRPC does not come back in this forked process: the fork found threads inside it. Look-ups in the replica go on; ask"
        " the server from the parent, or start processes by another method than fork",
        reason="FORKED",
    )
