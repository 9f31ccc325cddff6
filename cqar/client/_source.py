"""Where a replica comes from: the server's feed, its snapshots, this host's own files. What takes long runs beside the syncer.

Generations are built in a process of their own: the library sits inside trading services, and building a large one would keep
their interpreter busy for seconds.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cqar import broker
from cqar.client import _builder, _published
from cqar.client._feed import Feed, FromServer
from cqar.client._folder import Folder
from cqar.client._generation import Progress
from cqar.client._remote import Remote
from cqar.errors import (
    CqarError,
    InternalError,
    PositionExpiredError,
    SnapshotError,
    UnavailableError,
)
from cqar.locations import shown
from cqar.model import FeedToken
from cqar.paths import inside

log = logging.getLogger(__name__)

DOWNLOAD_TIMEOUT = 600.0  # seconds for a whole snapshot
ASKED_AT_ONCE = 1_000  # snapshots that the server is asked about
ZERO_CHAIN = bytes(16)  # of a log without batches


class Work:
    """Something that takes long, in a thread of its own."""

    def __init__(self, run: Callable[[threading.Event], str]) -> None:
        self._cancelled = threading.Event()
        self._made: str | None = None
        self._error: Exception | None = None
        self.took = 0.0  # seconds, once it is done
        self._thread = threading.Thread(target=self._run, name="cqar-build", args=(run,), daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[threading.Event], str]) -> None:
        began = time.monotonic()
        try:
            self._made = run(self._cancelled)
        except (CqarError, OSError) as error:
            self._error = error
        except Exception as error:
            log.exception("a generation could not be built")
            self._error = InternalError(f"a generation could not be built: {error}")
        self.took = time.monotonic() - began

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
        feed: broker.Address | None = None,
    ) -> None:
        """`published` is where the server publishes, if this host sees it; `catalogue` what to begin with if there is no server.

        `feed` is the NATS whose stream is followed; otherwise it is the server itself.
        """
        self._remote, self._folder, self._published = remote, folder, published
        self._catalogue, self._progress = catalogue, progress
        self._feed = feed
        self._head: Callable[[], FeedToken] | None = (
            remote.head
        )  # to be asked once: all followers of a NATS return together

    def watch(self, after: FeedToken) -> Feed:
        """Follow the feed from a token on."""
        if self._feed is None:
            return Feed(FromServer(self._remote, after))
        from cqar.client._broker import Follower  # noqa: PLC0415  (needs the package of NATS)

        head, self._head = self._head, None
        return Feed(Follower(self._feed, after, ask=self._ask, head=head))

    def load(self, after: FeedToken | None, *, bare: bool) -> Work:
        """Build the generation of the newest snapshot; after a token only of one beyond it. `bare`: there are no data at all."""
        return Work(partial(self._load, after, bare))

    def compact(self, generation: str, tail: str, length: int) -> Work:
        """Build the generation that a generation and a part of its tail amount to."""
        return Work(partial(_builder.compacted, generation, tail, length, self._folder))

    def verify(self, generation: str, tail: str, length: int) -> Work:
        """Look at every byte of a generation and of a part of its tail."""

        def run(_cancelled: threading.Event) -> str:
            self._folder.verify(generation, tail, length)
            return generation

        return Work(run)

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
        refused: SnapshotError | None = None
        if self._published is not None:
            found = self._fetched(self._published, log_id, beyond, cancelled)
            if found is not None:
                return found
        for head, sha256 in self._remote.snapshots():
            if head.log_id == log_id and head.position > beyond:
                try:
                    return self._download(head, sha256, work)
                except SnapshotError as error:
                    log.warning("falling back to an older snapshot: %s", error)
                    refused = refused or error
        if beyond >= 0:
            raise refused or UnavailableError(f"no snapshot beyond position {beyond} yet", reason="NO_NEWER_SNAPSHOT")
        # From position 0 on the feed tells everything, as long as the server keeps all of it.
        return snapshots.write(work, FeedToken(log_id=log_id, position=0, chain=ZERO_CHAIN), datetime.now(UTC), {}).path

    def _fetched(self, published: str, log_id: str, beyond: int, cancelled: threading.Event) -> Path | None:
        """Give the newest snapshot beyond a position that the server vouches for, and that is whole and of use.

        What others have put there may have the right head and the wrong records. None if it knows none of them: it is asked itself.
        """
        found = _published.offers(published, log_id, cancelled)[:ASKED_AT_ONCE]
        ours = self._remote.published([offer.sha256 for offer in found]) if found else frozenset()
        offers = [offer for offer in found if offer.sha256 in ours]
        if len(offers) < len(found):
            log.warning(
                "%s: the server vouches for %d of %d snapshots; the others are not loaded",
                shown(published),
                len(offers),
                len(found),
            )
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
        """Tell whether the server goes on from a snapshot; one of a past that was undone may still be published."""
        try:
            self._ask(head)
        except PositionExpiredError as error:
            log.warning("the snapshot of position %d is of no use: %s", head.position, error)
            return False
        return True

    def _ask(self, after: FeedToken) -> None:
        """Ask the server whether its feed goes on from a token; raises PositionExpiredError if not."""
        watch = self._remote.watch(after)
        patience = threading.Timer(self._remote.timeout, watch.cancel)
        patience.start()
        try:
            next(iter(watch), None)
        finally:
            patience.cancel()
            watch.cancel()

    def _download(self, head: FeedToken, sha256: str, work: Path) -> Path:
        from cqar.snapshot import MANIFEST, load_manifest  # noqa: PLC0415

        room: dict[str, int] = {}  # bytes that are still to come of each file
        for part in self._remote.fetch_snapshot(head.log_id, head.position, DOWNLOAD_TIMEOUT):
            if part.WhichOneof("part") == "manifest" and not room:
                (work / MANIFEST).write_bytes(part.manifest)
                manifest = load_manifest(work).manifest  # it comes first: who cannot read it needs no files
                if manifest.head != head or sha256 not in {"", manifest.sha256}:
                    raise SnapshotError(
                        "the server sent another snapshot than it was asked for", reason="WRONG_SNAPSHOT"
                    )
                room = {entry.name: entry.bytes for entry in manifest.files}
                continue
            name = part.chunk.file
            room[name] = room.get(name, 0) - len(part.chunk.data)
            if room[name] < 0:
                raise SnapshotError(
                    f"the server sent more of {name[:100]!r} than its manifest says",
                    reason="WRONG_SIZE",
                    file=name[:100],
                )
            with inside(work, name).open("ab") as file:
                file.write(part.chunk.data)
        return work
