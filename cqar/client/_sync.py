"""Following the server: the feed's batches into the replica, in a daemon thread.

The thread alone decides what a fault means: the feed cannot continue -> load a snapshot; the server cannot be reached -> try
again, backing off; a record that this version cannot read -> quarantine it and go on. Everybody else just reads.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
from collections.abc import Callable
from datetime import UTC

from cqar import wire
from cqar.client._recent import Topic
from cqar.client._remote import FeedMessage, Remote, Watch
from cqar.client._replica import Replica, now
from cqar.client._status import State
from cqar.errors import CqarError, InvalidError, PositionExpiredError
from cqar.model import KINDS, QUALITY_FLAG, Batch, Change, Op
from cqar.v1 import types_pb2

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts; doubled each time, jittered


class Syncer:
    """Keeps a replica level with its server. All properties may be read from any thread."""

    def __init__(self, replica: Replica, remote: Remote, reload: Callable[[bool], None]) -> None:
        """`reload` brings the replica to the newest snapshot, in the syncer's thread; if told True, also back to an older one."""
        self._replica, self._remote, self._reload = replica, remote, reload
        self._listeners: list[Callable[[set[Topic]], None]] = []
        self._heard_at = -math.inf
        self._watch: Watch | None = None
        self._stopping = threading.Event()
        self._level = threading.Event()
        self._thread: threading.Thread | None = None
        self._unread: set[tuple[str, str]] = set()
        self.state = State.DISCONNECTED
        self.head_position = replica.position
        self.last_error: str | None = None

    @property
    def age(self) -> float:
        """Seconds since the replica was last known to be level with the server; infinite if it never was."""
        return now() - self._heard_at

    @property
    def quarantined(self) -> int:
        """Number of records that this version could not read."""
        return len(self._unread)

    @property
    def doubt(self) -> str | None:
        """Why no asset can be called safe: a quality flag is among the records that could not be read. Mostly None."""
        if not self._unread or all(kind != QUALITY_FLAG.name for kind, _ in self._unread):
            return None
        return "a quality flag of the feed could not be read: upgrade cqar"

    def on_batch(self, listener: Callable[[set[Topic]], None]) -> None:
        """Have `listener` called with the topics that each batch touched, in the syncer's thread."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Start following."""
        self._thread = threading.Thread(target=self._run, name="cqar-sync", daemon=True)
        self._thread.start()

    def wait_until_level(self, timeout: float) -> bool:
        """Wait until the replica has been level with the server once."""
        return self._level.wait(timeout)

    def stop(self) -> None:
        """Stop following and wait for the thread."""
        self._stopping.set()
        watch = self._watch
        if watch is not None:
            watch.cancel()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def after_fork(self) -> None:
        """Follow anew in a child, where the parent's thread does not exist."""
        self._watch = None
        self._stopping = threading.Event()
        self._level = threading.Event()
        self.start()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = FIRST_PAUSE
        pid = os.getpid()
        while not self._stopping.is_set() and os.getpid() == pid:
            heard = self._heard_at
            try:
                self._follow()
            except PositionExpiredError as error:
                self._failed(State.RESYNCING, error)
                self._try_reload(another_history=True)
            except CqarError as error:
                self._failed(State.DISCONNECTED, error)
            except Exception as error:  # the thread must not die: it would freeze the replica
                log.exception("the replica cannot apply the feed; loading a snapshot")
                self._failed(State.RESYNCING, error)
                self._try_reload(another_history=False)
            pause = FIRST_PAUSE if self._heard_at > heard else min(2 * pause, LONGEST_PAUSE)
            self._stopping.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311  (jitter, no secret)

    def _try_reload(self, *, another_history: bool) -> None:
        try:
            self._reload(another_history)
        except CqarError as error:
            self._failed(State.RESYNCING, error)
        except Exception as error:
            log.exception("no snapshot could be loaded; trying again")
            self._failed(State.RESYNCING, error)

    def _failed(self, state: State, error: Exception) -> None:
        if self._stopping.is_set():
            return
        if self.state is not state:
            log.warning("%s: %s", state, error)
        self.state, self.last_error = state, str(error)

    def _follow(self) -> None:
        """Follow the feed until it ends or `stop` is called."""
        self._watch = watch = self._remote.watch(self._replica.head)
        if self._stopping.is_set():  # `stop` may have come before there was a watch to cancel
            watch.cancel()
            return
        for message in watch:
            for received in message.batches:
                self._apply(received)
            self._told(message)

    def _told(self, message: FeedMessage) -> None:
        position = self._replica.position
        self.head_position = max(self.head_position, position)
        if message.head_position is None:
            return
        self.head_position = message.head_position
        if position >= message.head_position:
            self._heard_at = now()
            self.state = State.FRESH
            self.last_error = None
            self._level.set()
        else:
            self.state = State.CATCHING_UP

    def _apply(self, received: types_pb2.Batch) -> None:
        batch = Batch(
            position=received.position,
            chain=received.chain,
            committed_at=received.committed_at.ToDatetime(tzinfo=UTC),
            changes=tuple([change for each in received.changes if (change := self._change(each)) is not None]),
        )
        touched = self._replica.apply(batch)
        for listener in self._listeners:
            listener(touched)

    def _change(self, received: types_pb2.Change) -> Change | None:
        """Read one change; what this version cannot read leaves the replica, so that the server is asked for it.

        None for a kind that this version has no place for.
        """
        mark = (received.kind, received.key)
        try:
            change = wire.change_from_wire(received)
        except InvalidError as error:
            log.warning("quarantined %s %s: %s", *mark, error)
            self._unread.add(mark)
            if received.kind not in KINDS:
                return None
            return Change(op=Op.REMOVE, kind=received.kind, key=received.key)
        self._unread.discard(mark)
        return change
