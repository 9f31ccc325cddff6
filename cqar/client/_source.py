"""Where a replica comes from: the server's feed, its snapshots, this host's own files. What takes long runs beside the syncer.

Generations are built in a process of their own: the library sits inside trading services, and building a large one would keep
their interpreter busy for seconds.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from cqar import wire
from cqar.client import _builder, _published
from cqar.client._folder import Folder
from cqar.client._generation import Progress
from cqar.client._remote import Remote, Watch
from cqar.client._sync import Told
from cqar.client._tail import Frame
from cqar.client._view import now
from cqar.errors import (
    CqarError,
    InternalError,
    InvalidError,
    PositionExpiredError,
    SnapshotError,
    UnavailableError,
)
from cqar.model import KINDS, Batch, Change, FeedToken, Op
from cqar.v1 import types_pb2

log = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT = 600.0  # seconds for a whole snapshot
ZERO_CHAIN = bytes(16)  # of a log without batches
AHEAD = 100  # messages read ahead of the syncer


class Feed:
    """An open feed, read by a thread of its own so that the syncer never waits longer than it wants to."""

    def __init__(self, remote: Remote, after: FeedToken) -> None:
        self._messages: queue.Queue[Told | Exception] = queue.Queue(AHEAD)
        self._cancelled = threading.Event()
        self._began = now()  # before the call: the server's times count from when it took it
        self._watch: Watch = remote.watch(after)
        threading.Thread(target=self._run, name="cqar-feed", daemon=True).start()

    def _run(self) -> None:
        try:
            for message in self._watch:
                frames = [frame_from_wire(received) for received in message.batches]
                as_of = self._began + (message.as_of or 0.0)
                self._put(Told(frames, message.head_position, as_of))
            self._put(UnavailableError("the server ended the feed"))
        except CqarError as error:
            self._put(error)
        except Exception as error:
            log.exception("the feed cannot be read")
            self._put(InternalError(f"the feed cannot be read: {error}"))

    def _put(self, message: Told | Exception) -> None:
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
        if isinstance(message, Exception):
            raise message
        return message

    def cancel(self) -> None:
        """End it."""
        self._cancelled.set()
        self._watch.cancel()
        with contextlib.suppress(queue.Full):  # whoever waits for a message shall not wait longer
            self._messages.put_nowait(UnavailableError("the feed was cancelled"))


def frame_from_wire(received: types_pb2.Batch) -> Frame:
    """Read a batch; what this version cannot read leaves the replica, so that the server is asked for it."""
    changes: list[Change] = []
    unread: dict[tuple[str, str], None] = {}  # in their order; the last change of a record counts
    for each in received.changes:
        try:
            change = wire.change_from_wire(each)
            if change.record is not None and KINDS[change.kind].key_of(change.record) != change.key:
                raise InvalidError("the record is another one than its key says", reason="KEY")
            changes.append(change)
            unread.pop((each.kind, each.key), None)
        except InvalidError as error:
            log.warning("quarantined %s %s: %s", each.kind, each.key, error)
            unread[each.kind, each.key] = None
            if each.kind in KINDS:
                changes.append(Change(op=Op.REMOVE, kind=each.kind, key=each.key))
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


class Work:
    """Something that takes long, in a thread of its own."""

    def __init__(self, run: Callable[[threading.Event], str]) -> None:
        self._cancelled = threading.Event()
        self._made: str | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="cqar-build", args=(run,), daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[threading.Event], str]) -> None:
        try:
            self._made = run(self._cancelled)
        except (CqarError, OSError) as error:
            self._error = error
        except Exception as error:
            log.exception("a generation could not be built")
            self._error = InternalError(f"a generation could not be built: {error}")

    def poll(self) -> str | None:
        """Give what was made, None while it is not; raises what went wrong."""
        if self._thread.is_alive():
            return None
        if self._error is not None:
            raise self._error
        return self._made

    def cancel(self) -> None:
        """End it."""
        self._cancelled.set()


class Server:
    """A server, and where it publishes."""

    def __init__(
        self,
        remote: Remote,
        folder: Folder,
        *,
        published: str | None,
        catalogue: Path | None,
        progress: Progress | None,
    ) -> None:
        """`published` is where the server publishes, if this host sees it; `catalogue` what to begin with if there is no server."""
        self._remote, self._folder, self._published = remote, folder, published
        self._catalogue, self._progress = catalogue, progress

    def watch(self, after: FeedToken) -> Feed:
        """Follow the feed from a token on."""
        return Feed(self._remote, after)

    def load(self, after: FeedToken | None, *, bare: bool) -> Work:
        """Build the generation of the newest snapshot; after a token only of one beyond it. `bare`: there are no data at all."""
        return Work(partial(self._load, after, bare))

    def compact(self, generation: str, tail: str, length: int) -> Work:
        """Build the generation that a generation and a part of its tail amount to."""
        return Work(partial(_builder.compacted, generation, tail, length, self._folder))

    def _load(self, after: FeedToken | None, bare: bool, cancelled: threading.Event) -> str:
        from cqar import snapshot as snapshots  # noqa: PLC0415  (pyarrow: only who builds pays for it)

        progress = self._progress
        # Not a TemporaryDirectory: a forked child would remove it when it ends.
        work = Path(tempfile.mkdtemp(prefix=".download-", dir=self._folder.path))
        try:
            try:
                found = self._newest(after, work, cancelled)
                if found.is_relative_to(self._folder.downloads):
                    progress = _published.second_half(progress)
            except UnavailableError as error:
                if not bare or self._catalogue is None:
                    raise
                log.warning("%s: beginning with the bundled catalogue", error)
                found = snapshots.latest(self._catalogue).path
            made = _builder.build(found, self._folder, progress, cancelled)
            _published.forget(self._folder.downloads)
            return made
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _newest(self, after: FeedToken | None, work: Path, cancelled: threading.Event) -> Path:
        """Give the newest snapshot, or an empty one; it is verified when it is built from."""
        from cqar import snapshot as snapshots  # noqa: PLC0415  (pyarrow: only who builds pays for it)

        log_id = self._remote.head().log_id
        beyond = after.position if after is not None and after.log_id == log_id else -1
        if self._published is not None:
            found = self._fetched(self._published, log_id, beyond, cancelled)
            if found is not None:
                return found
        else:
            for head in self._remote.snapshots():
                if head.log_id == log_id and head.position > beyond:
                    return self._download(head, work)
        if beyond >= 0:
            raise UnavailableError(f"no snapshot beyond position {beyond} yet", reason="NO_NEWER_SNAPSHOT")
        # From position 0 on the feed tells everything, as long as the server keeps all of it.
        return snapshots.write(work, FeedToken(log_id=log_id, position=0, chain=ZERO_CHAIN), datetime.now(UTC), {}).path

    def _fetched(self, published: str, log_id: str, beyond: int, cancelled: threading.Event) -> Path | None:
        """Give the newest snapshot beyond a position that is whole and of use."""
        offers = _published.offers(published, log_id, cancelled)
        _published.forget(self._folder.downloads, frozenset(offer.sha256 for offer in offers))
        for offer in offers:
            if offer.position <= beyond:
                return None
            try:
                if self._can_follow(offer.head):
                    progress = _published.first_half(self._progress)
                    return _published.fetched(published, offer, self._folder.downloads, progress, cancelled)
            except SnapshotError as error:
                log.warning("falling back to an older snapshot: %s", error)
        return None

    def _can_follow(self, head: FeedToken) -> bool:
        """Ask the server whether its feed goes on from a snapshot; one of a past that was undone may still be published."""
        watch = self._remote.watch(head)
        patience = threading.Timer(self._remote.timeout, watch.cancel)
        patience.start()
        try:
            next(iter(watch), None)
        except PositionExpiredError as error:
            log.warning("the snapshot of position %d is of no use: %s", head.position, error)
            return False
        finally:
            patience.cancel()
            watch.cancel()
        return True

    def _download(self, head: FeedToken, work: Path) -> Path:
        from cqar.snapshot import MANIFEST  # noqa: PLC0415

        for part in self._remote.fetch_snapshot(head.log_id, head.position, DOWNLOAD_TIMEOUT):
            if part.WhichOneof("part") == "manifest":
                (work / MANIFEST).write_bytes(part.manifest)
            else:
                with (work / Path(part.chunk.file).name).open("ab") as file:
                    file.write(part.chunk.data)
        return work
