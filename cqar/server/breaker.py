"""Keeps a Redis that fails, or is slower than the database, out of the way of calls, and looks whether it is well again.

A failure opens the breaker at once. A slow answer does not: it may be the processor that was busy. When most of the last dozen were
slow, it opens likewise. Looks are made by a thread of its own, never by a call, and several in a row must be quick.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

PAUSE: Final = 0.5  # seconds between two looks at a Redis that has failed
SLOW: Final = (
    0.01  # seconds: a quicker answer is never slow; one that took longer is if PostgreSQL takes less than half as long
)
LOOKS: Final = 3  # that must be quick, one after the other
_WEIGHT: Final = 1 / 16  # of the newest call among all


class Breaker:
    """Whether Redis is used. Thread-safe."""

    def __init__(self, look: Callable[[], object], failures: tuple[type[Exception], ...]) -> None:
        """`look` raises one of the failures while Redis does not answer."""
        self._look, self._failures = look, failures
        self._open = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._slow = 0.0  # the share of slow answers, by which the newest count most
        self._instead = 0.0  # seconds that PostgreSQL takes for a read, likewise
        self.trouble: str | None = None  # why Redis is not used at present
        self._healer = threading.Thread(target=self._heal, name="cqar-cache-heal", daemon=True)

    @property
    def is_open(self) -> bool:
        """Whether Redis is left alone."""
        return self._open.is_set()

    def start(self) -> None:
        """Begin to look after a Redis that is left alone."""
        self._healer.start()

    def stop(self) -> None:
        """End, and let Redis alone from now on."""
        self._stopped.set()
        self._open.set()
        self._healer.join(1)

    def failed(self, error: Exception) -> None:
        """Open: Redis has not answered."""
        # What the driver says names the host, and no password.
        self._break("Redis does not answer", "answers", f"{type(error).__name__}: {error}")

    def answered(self, seconds: float) -> None:
        """Note how long an answer of Redis took; open if most of the last ones were slow."""
        with self._lock:
            self._slow += (self._is_slow(seconds) - self._slow) * _WEIGHT
            share = self._slow
        if share > 1 / 2:
            self._break(
                "Redis is slower than the database", "is quick", f"its last answer took {seconds * 1000:.0f} ms"
            )

    def read(self, seconds: float) -> None:
        """Note how long PostgreSQL took for what Redis did not have."""
        with self._lock:
            self._instead += (seconds - self._instead) * _WEIGHT

    def _is_slow(self, seconds: float) -> bool:
        return seconds > max(SLOW, 2 * self._instead)

    def _break(self, trouble: str, until: str, why: str) -> None:
        with self._lock:
            if self._open.is_set():
                return
            self.trouble, self._slow = trouble, 0.0
            self._open.set()
        log.warning("Redis is not used until it %s: %s", until, why)

    def _heal(self) -> None:
        while not self._stopped.is_set():
            self._open.wait()
            if self._stopped.wait(PAUSE):
                return
            if not self._is_well() or self._stopped.is_set():
                continue
            self.trouble = None
            self._open.clear()
            log.info("Redis answers again")

    def _is_well(self) -> bool:
        for _ in range(LOOKS):
            began = time.monotonic()
            try:
                self._look()
            except self._failures:
                return False
            if self._is_slow(time.monotonic() - began):
                return False
        return True
