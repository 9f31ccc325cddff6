"""What the feed brings, whoever it comes from: read by a thread of its own, so that the syncer never waits longer than it wants to.

A `Reader` knows how messages are had: `FromServer` by a stream of gRPC, `_broker.Follower` from NATS.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from cqar import wire
from cqar.client._remote import Remote
from cqar.client._sync import Told
from cqar.client._tail import Frame
from cqar.client._view import now
from cqar.errors import CqarError, InternalError, InvalidError, UnavailableError
from cqar.model import KINDS, QUALITY_FLAG, Batch, Change, FeedToken
from cqar.rules.text import shown
from cqar.v1 import types_pb2

log = logging.getLogger(__name__)

AHEAD = 100  # messages read ahead of the syncer
AHEAD_BYTES = 4 << 20  # and bytes, but for one message: then gRPC's flow control stops the server
SLICE = 50  # changes, about 1 ms, after which the reading of a batch lets the threads of the application have the interpreter
BREATH = 0.0002  # seconds


class Reader(Protocol):
    """How the messages of one feed are had."""

    def read(self, put: Callable[[Told], None]) -> None:
        """Put what comes until it ends; raises the CqarError that ended it. `put` may wait, until `cancel` at the longest."""

    def cancel(self) -> None:
        """Let `read` end soon. From any thread."""


class Feed:
    """An open feed."""

    def __init__(self, reader: Reader) -> None:
        self._messages: queue.Queue[Told | Exception] = queue.Queue(AHEAD)
        self._bytes, self._taken = 0, threading.Condition()  # of the messages that are read ahead
        self._cancelled = threading.Event()
        self._reader = reader
        threading.Thread(target=self._run, name="cqar-feed", daemon=True).start()

    def _run(self) -> None:
        try:
            self._reader.read(self._put)
            self._put(UnavailableError("the server ended the feed"))
        except CqarError as error:
            self._put(error)
        except Exception as error:
            log.exception("the feed cannot be read")
            self._put(InternalError(f"the feed cannot be read: {error}"))

    def _put(self, message: Told | Exception) -> None:
        with self._taken:
            while self._bytes > AHEAD_BYTES and not self._cancelled.is_set():
                self._taken.wait(1)
            self._bytes += _size(message)
        while not self._cancelled.is_set():
            with contextlib.suppress(queue.Full):
                self._messages.put(message, timeout=1)
                return

    def poll(self, timeout: float) -> Told | None:
        """Give what came, or None after `timeout` seconds; raises the CqarError that ended it."""
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        with self._taken:
            self._bytes -= _size(message)
            self._taken.notify()
        if isinstance(message, Exception):
            raise message
        return message

    def cancel(self) -> None:
        """End it."""
        self._cancelled.set()
        self._reader.cancel()
        with contextlib.suppress(queue.Full):  # whoever waits for a message shall not wait longer
            self._messages.put_nowait(UnavailableError("the feed was cancelled"))


def _size(message: Told | Exception) -> int:
    return 0 if isinstance(message, Exception) else message.size


class FromServer:
    """Reads the feed of a server, over gRPC."""

    def __init__(self, remote: Remote, after: FeedToken) -> None:
        self._began = now()  # before the call: the server's times count from when it took it
        self._watch = remote.watch(after)

    def read(self, put: Callable[[Told], None]) -> None:
        """Put what comes; raises the CqarError of the server's status."""
        for message in self._watch:
            as_of = self._began + (message.as_of or 0.0)
            put(Told(frames(message.batches), message.head_position, as_of, message.size))

    def cancel(self) -> None:
        """End the call."""
        self._watch.cancel()


def frames(received: Iterable[types_pb2.Batch]) -> list[Frame]:
    """Read batches; see `frame_from_wire`."""
    return [frame_from_wire(each) for each in received]


def frame_from_wire(received: types_pb2.Batch) -> Frame:
    """Read a batch. A change that this version cannot read is set aside and named; what it can read of the record stands for it."""
    changes: list[Change] = []
    unread: dict[tuple[str, str], None] = {}  # in their order; the last change of a record counts
    for number, each in enumerate(received.changes, 1):
        if number % SLICE == 0:
            time.sleep(BREATH)
        held = each.record.WhichOneof("record")
        if each.kind and each.kind not in KINDS and held is None:
            continue  # of a kind that a newer server has: nothing that this version answers depends on it
        try:
            changes.append(wire.change_from_wire(each))
            unread.pop((each.kind, each.key), None)
        except InvalidError as error:
            log.warning("set aside: %s %s: %s", shown(each.kind), shown(each.key), error)
            # What it may be about: of what does not say what it is, a quality flag, so that the gate says UNKNOWN.
            unread.update(dict.fromkeys([(kind, each.key) for kind in (each.kind, held) if kind in KINDS]))
            if each.kind not in KINDS:
                unread[QUALITY_FLAG.name, each.key] = None
            if (change := wire.readable_change(each)) is not None:
                changes.append(change)
    batch = Batch(
        position=received.position,
        chain=received.chain,
        committed_at=_moment(received.committed_at),
        changes=tuple(changes),
    )
    return Frame(batch, tuple(unread))


def _moment(stamp: Timestamp) -> datetime:
    """Read when a batch was committed; nothing depends on it, so what cannot be read must not stop the feed."""
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
