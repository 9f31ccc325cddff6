"""Turns: the simulated processes take them one at a time, in an order and with accidents that a seed decides.

Each task of a process (its syncer, its reader) has a thread, of which only one runs: the others wait for the baton. So a task
can be put aside between any two steps that it does to the disk, for long, and still everything is the seed's doing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Killed(BaseException):
    """Ends what a killed process is doing."""


class Worker:
    """A thread that does what it is given when it has the baton."""

    def __init__(self) -> None:
        self.go, self.done = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.done.acquire()
        self.act: Callable[[], None] | None = None
        self.failure: BaseException | None = None
        threading.Thread(target=self._run, name="simulated", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.go.acquire()
            assert self.act is not None
            try:
                self.act()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001  (handed on)
                self.failure = error
            self.act = None
            self.done.release()

    def turn(self) -> bool:
        """Let it go on until it is done, or put aside; tell whether it is done."""
        self.go.release()
        self.done.acquire()
        return self.act is None

    def put_aside(self) -> None:
        """Give the baton back in the middle of something; called in the thread itself."""
        self.done.release()
        self.go.acquire()


_idle: list[Worker] = []


class Task:
    """What one thread of a process does, again and again."""

    def __init__(self, name: str, act: Callable[[], float]) -> None:
        """`act` gives how many seconds may pass until it is called again."""
        self.name = name
        self.due = 0.0
        self._act = act
        self._worker: Worker | None = None
        self._wait = 0.0

    @property
    def is_aside(self) -> bool:
        """Whether it was put aside in the middle of something."""
        return self._worker is not None

    def turn(self, now: float) -> None:
        """Begin, or go on with what it was put aside from; raises what it raises."""
        worker = self._worker
        if worker is None:
            worker = self._worker = _idle.pop() if _idle else Worker()
            worker.act = self._once
        if worker.turn():
            self._worker = None
            failure, worker.failure = worker.failure, None
            _idle.append(worker)
            self.due = now + self._wait
            if failure is not None:
                raise failure

    def _once(self) -> None:
        self._wait = 0.0
        self._wait = max(self._act(), self._wait)

    def pause(self, seconds: float) -> None:
        """Have the next turn wait."""
        self._wait = max(self._wait, seconds)

    def put_aside(self) -> None:
        """Wait for another turn."""
        assert self._worker is not None
        self._worker.put_aside()
