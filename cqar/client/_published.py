"""What a server publishes, as a follower sees it: the snapshots in a folder or on object storage.

Object storage is only ever read in another process (`_builder`): its libraries have threads, which no fork survives, and trading
services fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cqar.client import _builder, _generation, _trust
from cqar.client._folder import DOWNLOAD
from cqar.client._generation import Generation, Progress
from cqar.client._trust import Owners
from cqar.errors import SnapshotError
from cqar.locations import folder_of, shown
from cqar.model import FeedToken
from cqar.paths import inside

log = logging.getLogger(__name__)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that is published; nothing but its manifest was read."""

    path: str  # in its storage
    sha256: str  # of its manifest
    log_id: str
    position: int
    chain: str

    @property
    def head(self) -> FeedToken:
        """Where to go on from by the feed."""
        return FeedToken(log_id=self.log_id, position=self.position, chain=bytes.fromhex(self.chain))


def offers(location: str, log_id: str | None, cancelled: threading.Event) -> list[Offer]:
    """List what is published, latest creation first. Raises UnavailableError, and SnapshotError for a bucket that is not there."""
    if folder_of(location) is not None:
        return offers_here(location, log_id)
    return msgspec.json.decode(_builder.run_on(location, ["offers", log_id or ""], None, cancelled), type=list[Offer])


def fetched(
    location: str, offer: Offer, downloads: Path, progress: Progress | None, cancelled: threading.Event
) -> Path:
    """Give the folder of a snapshot that is copied to `downloads` and verified: nobody else can change it then.

    A copy that broke off is gone on with. Raises SnapshotError if it is damaged or gone, UnavailableError if the storage fails.
    """
    if folder_of(location) is not None:
        return fetched_here(location, offer.path, offer.sha256, downloads, progress)
    arguments = ["fetch", offer.path, offer.sha256, str(downloads)]
    return Path(_builder.run_on(location, arguments, progress, cancelled))


def offers_here(location: str, log_id: str | None) -> list[Offer]:
    """List what is published, in this process. With no log named, SnapshotError if all there is cannot be read."""
    from cqar import snapshot, storage  # noqa: PLC0415  (pyarrow: only who builds pays for it)

    found = list(storage.at(location).found(log_id))
    refused = [str(each) for each in found if isinstance(each, SnapshotError)]
    if log_id is None and refused and len(refused) == len(found):
        raise SnapshotError(f"{shown(location)}: {'; '.join(refused)}", reason="NO_SNAPSHOT")
    return [
        Offer(
            path=str(each.path),
            sha256=each.manifest.sha256,
            log_id=each.manifest.log_id,
            position=each.manifest.position,
            chain=each.manifest.chain,
        )
        for each in snapshot.newest_first(found)
    ]


def fetched_here(location: str, path: str, sha256: str, downloads: Path, progress: Progress | None) -> Path:
    """Copy what is published, in this process. SnapshotError if there is another one by now than that of this hash."""
    from cqar import snapshot, storage  # noqa: PLC0415

    place = storage.at(location)
    found = place.load(Path(path))
    if found.manifest.sha256 != sha256:
        raise SnapshotError(
            f"{found.location}: was replaced by another one", reason="WRONG_SNAPSHOT", path=found.location
        )
    return place.fetch(found, downloads, progress or snapshot.quiet).path


def forget(downloads: Path, but: frozenset[str] = frozenset()) -> None:
    """Remove copies, and what there is of those that broke off, but for these manifests."""
    import shutil  # noqa: PLC0415  (slow to import, seldom needed)

    for path in downloads.glob("*"):
        if path.name not in but:
            shutil.rmtree(path, ignore_errors=True)


def obtain(location: str, replica_dir: Path, trusted: Owners, progress: Progress | None) -> Generation:
    """Open the generation of the newest snapshot on object storage that is whole, building it first if this host has not yet.

    Several processes may do this at once: one copies and builds, the others wait for it.
    """
    cancelled = threading.Event()  # by nobody: an interrupt ends the other process
    problems = []
    for offer in offers(location, None, cancelled):
        try:
            with _alone(inside(replica_dir, offer.log_id), trusted):
                generation = _generation.existing(replica_dir, offer.head, trusted)
                if generation is None:
                    downloads = inside(replica_dir, offer.log_id, DOWNLOAD)
                    path = fetched(location, offer, downloads, first_half(progress), cancelled)
                    generation = _generation.obtain(replica_dir, path, trusted, second_half(progress))
                    forget(downloads)
                return generation
        except SnapshotError as error:
            log.warning("falling back to an older snapshot: %s", error)
            problems.append(str(error))
    raise SnapshotError(
        f"{shown(location)}: {'; '.join(problems) or 'no snapshot there'}", reason="NO_SNAPSHOT", path=shown(location)
    )


@contextlib.contextmanager
def _alone(folder: Path, trusted: Owners) -> Iterator[None]:
    """Let no other process of this host do the same; one that dies lets the next one in."""
    _trust.make_folder(folder, trusted)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder / f".{DOWNLOAD}-lock", flags, _trust.PRIVATE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def first_half(progress: Progress | None) -> Progress | None:
    """Tell of a copy as of the first half of all."""
    return progress and (lambda what, part: progress(what, part / 2))


def second_half(progress: Progress | None) -> Progress | None:
    """Tell of building as of the second half of all."""
    return progress and (lambda what, part: progress(what, 0.5 + part / 2))
