"""Snapshots: published by a timer or a command, listed and sent to followers that share no storage with the server.

A snapshot is offered only while the feed can go on from it: its position and chain must be those of the present log. And only if
the registry has published it: the hash of its manifest, which covers all files, is noted in the database before it appears. What
a snapshot is made of is in `cqar.snapshot`.

Of the servers that publish in one place a leader does it. Each place has a leader of its own, because servers that share a
database need not share their disks. If two believe to lead, both publish what is true.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from cqar import snapshot, storage
from cqar.errors import NotFoundError, SnapshotError, UnavailableError
from cqar.locations import STORAGE_REASONS, Location
from cqar.server.leader import Leader
from cqar.server.store import Store
from cqar.snapshot import Manifest, Progress, Snapshot
from cqar.storage import Storage

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK_BYTES: Final = 1 << 20


class StoppedError(Exception):
    """An export was told to stop; nothing was published."""


def export_snapshot(
    store: Store,
    location: Location,
    *,
    stopped: Callable[[], bool] = lambda: False,
    confirm: Callable[[], None] = lambda: None,
    progress: Progress = snapshot.quiet,
) -> Snapshot:
    """Publish the registry as it is now at a folder or URI; one that is there already at this position is returned unchanged.

    Blocks and streams: memory does not grow with the registry. Raises UnavailableError if the database or object storage
    fails, SnapshotError if a folder holds another history at this position, OSError if it cannot be written, StoppedError soon
    after `stopped` says so, and what `confirm` raises just before the end; nothing is published then.
    """
    return _export(store, storage.at(location), stopped, confirm, progress)


def _export(
    store: Store, place: Storage, stopped: Callable[[], bool], confirm: Callable[[], None], progress: Progress
) -> Snapshot:
    def note(manifest: Manifest) -> None:
        confirm()
        store.note_snapshot(manifest.sha256, manifest.position)

    with store.export() as (head, records, tombstones):
        made = place.publish(
            head,
            datetime.now(UTC),
            {
                **{name: _until(stopped, rows) for name, rows in records.items()},
                snapshot.TOMBSTONES: _until(stopped, tombstones),
            },
            confirm=note,
            counts=lambda manifest: bool(store.published([manifest.sha256])),
            progress=progress,
        )
    if made.manifest.head != head:
        raise SnapshotError(
            f"{made.location} belongs to another history of this log: remove it, or publish in another folder",
            reason="LOG_MISMATCH",
            path=made.location,
        )
    return made


def _until(stopped: Callable[[], bool], rows: Iterable[T]) -> Iterator[T]:
    """Pass records on until told to stop: a thread cannot be cancelled."""
    for row in rows:
        if stopped():
            raise StoppedError("the server stops")
        yield row


def offered(store: Store, place: Storage) -> list[Snapshot]:
    """List the snapshots that the registry has published and the feed can go on from, newest first; no file is verified here.

    Whoever may write to the place can put others there, whose heads are right and whose records are not: those are left out.
    """
    found = storage.listing(place, store.head().log_id)
    ours = store.published([each.manifest.sha256 for each in found])
    for each in found:
        if each.manifest.sha256 not in ours:
            _warn_of(each.location, each.manifest.sha256)
    return [
        each
        for each in found
        if each.manifest.sha256 in ours and store.chain_at(each.manifest.position) == each.manifest.head.chain
    ]


@functools.lru_cache(1_000)  # it is found at each look
def _warn_of(location: str, sha256: str) -> None:
    log.warning("ignoring a snapshot that the registry has not published: %s, of hash %s", location, sha256)


def chosen(store: Store, place: Storage, log_id: str, position: int) -> Snapshot:
    """Give a snapshot that verifies: the one asked for, or the newest for position 0.

    An empty `log_id` means the present log. Raises NotFoundError if there is none, SnapshotError if none is intact.
    """
    found = [
        each
        for each in offered(store, place)
        if log_id in {"", each.manifest.log_id} and position in {0, each.manifest.position}
    ]
    if not found:
        raise NotFoundError("there is no such snapshot", reason="NO_SNAPSHOT", log_id=log_id, position=position)
    for each in found:
        try:
            place.verify(each)
        except SnapshotError as error:
            log.warning("not sending a damaged snapshot: %s", error)
        else:
            return each
    raise SnapshotError("the snapshot is damaged on the server", log_id=log_id, position=position)


@contextlib.contextmanager
def discreetly() -> Iterator[None]:
    """Keep what is wrong with object storage, and where it is, in the log: followers are told that it is."""
    try:
        yield
    except (UnavailableError, SnapshotError) as error:
        if error.reason not in STORAGE_REASONS:
            raise
        log.warning("followers get no snapshot: %s", error)
        raise UnavailableError("the server cannot reach its snapshots; try again", reason="STORAGE") from None


def pieces(place: Storage, chosen_one: Snapshot) -> Iterator[tuple[str, bytes]]:
    """Yield file names with consecutive chunks: the manifest, whole, then every file in the manifest's order.

    Raises UnavailableError if the snapshot is pruned meanwhile: the next try gets a newer one.
    """
    try:
        yield (
            snapshot.MANIFEST,
            snapshot.encoded(chosen_one.manifest),
        )  # not read again: there may be another one by now
        for entry in chosen_one.manifest.files:
            for data in place.chunks(chosen_one, entry.name, CHUNK_BYTES):
                yield entry.name, data
    except FileNotFoundError:
        raise UnavailableError(
            "the snapshot was removed while it was sent; try again", reason="SNAPSHOT_GONE"
        ) from None


class Exporter:
    """Publishes a snapshot at once and then at every interval in which the position moved, and prunes old ones.

    While another server leads in that place it only looks, at every interval, whether that has gone. With `log_keep`, in
    days, it also trims the change log of what is older, but of nothing that a snapshot listed before may be continued by.
    """

    def __init__(self, store: Store, location: Location, *, interval: float, keep: int, log_keep: float = 0) -> None:
        self.exports = 0
        self.failures = 0
        self.newest: Manifest | None = None  # of the snapshots that are offered, whoever published it
        self.trouble = ""  # why the last export failed, if it did; for anyone to read
        self._store = store
        self._place = storage.at(location)
        self._interval = interval
        self._keep = keep
        self._log_keep = timedelta(days=log_keep)
        self._leader: Leader | None = None
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "cqar-export")

    @property
    def running(self) -> bool:
        """Whether it has been started."""
        return self._task is not None

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.create_task(self._run(), name="cqar-export")

    async def stop(self) -> None:
        """End, giving up an export that is under way; nothing of it stays."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._thread.shutdown)
        if self._leader is not None:
            await asyncio.to_thread(self._leader.close)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, self._export)
            await asyncio.sleep(self._interval)

    def _export(self) -> None:
        """Lead: publish, trim and prune; a failure is logged and counted, and the next interval tries again."""
        try:
            found = offered(self._store, self._place)
            self.newest = found[0].manifest if found else None
            if not self._leads():
                return
            if not found or found[0].manifest.position != self._store.head().position:
                made = _export(self._store, self._place, lambda: self._stopped, self._confirm_lead, snapshot.quiet)
                self.exports += 1
                self.newest = made.manifest
                log.info("published snapshot %s: %d records", made.location, sum(made.rows.values()))
            if self._log_keep and found:
                self._trim(min(each.manifest.position for each in found))
            for removed in self._place.prune(keep=self._keep):
                log.info("removed the old snapshot %s", removed)
            self.trouble = ""
        except StoppedError as why:
            log.info("gave up an export: %s", why)
        except Exception as error:
            self.failures += 1
            self.trouble = f"no snapshot could be published ({type(error).__name__}); the server's log has the details"
            log.exception("a snapshot could not be published; trying again in %g s", self._interval)

    def _leads(self) -> bool:
        if self._leader is None:
            self._leader = Leader(self._store.url, f"snapshots {self._place.identity()}")
        return self._leader.leads()

    def _confirm_lead(self) -> None:
        if not self._leads():
            raise StoppedError("another server has taken the lead")

    def _trim(self, oldest: int) -> None:
        """Trim the log up to the oldest snapshot of before this round: one that goes now can be continued for a round.

        And of nothing that a relay has yet to publish: a broker that is away for long makes the log grow.
        """
        floor = self._store.relay_floor()
        if floor is not None and floor[1] + 1 < oldest:
            log.warning(
                "the change log is kept from position %d on: the relay of the %s is there", floor[1] + 1, floor[0]
            )
            oldest = floor[1] + 1
        gone = self._store.trim(oldest, datetime.now(UTC) - self._log_keep)
        if gone:
            log.info("trimmed %d batches from the change log; it goes on from before position %d", gone, oldest)
