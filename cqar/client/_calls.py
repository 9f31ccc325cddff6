"""Calls and forks: what gRPC needs of an application whose threads call a server while others fork.

1. No thread of the application may be inside gRPC at the moment of a fork; otherwise gRPC skips its own fork handlers, as its
   documentation says. `Calls` lets a fork wait until all have come out.
2. gRPC must not be shutting down at that moment. It shuts down in a thread of its own when its last object goes, which is what the
   closing of our channel before a fork brings about. A child then inherits locks that nobody will release, and its first channel
   never comes to be, with the interpreter's lock held: the whole child stands still. Of children of a process with 200 threads that
   asked a server, about 1 in 40 did. `keep_running` holds one object of gRPC's as long as the process lives.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Self, TypeVar

import grpc

T = TypeVar("T")


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


_kept: list[object] = []  # one at most; empty in a child until its first channel
_registered: list[bool] = []  # whether a child is told


def keep_running() -> None:
    """Let gRPC not shut down in this process, whatever channels are closed. To be called before each channel is made.

    Nothing is kept if the application used gRPC first: its own channel keeps gRPC running then, as a rule. An object of ours would
    be let go only after gRPC's fork handler, which ends a child where gRPC does not end within 1.5 s.
    """
    if _kept:
        return
    state = getattr(import_module("grpc._cython.cygrpc"), "_fork_state", None)
    if not _registered:
        if getattr(state, "fork_handler_registered", True):
            return
        os.register_at_fork(
            after_in_child=_kept.clear
        )  # before gRPC registers its own: handlers of a child run in that order
        _registered.append(True)
    _kept.append(grpc.local_server_credentials())
