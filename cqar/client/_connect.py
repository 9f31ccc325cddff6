"""Making clients: from a server, or from a snapshot alone."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cqar.client import _generation
from cqar.client._client import Client, register_fork_handlers
from cqar.client._generation import Generation, Progress
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._tls import Tls
from cqar.errors import InvalidError, SnapshotError, UnavailableError
from cqar.model import FeedToken

if TYPE_CHECKING:
    from cqar.client._remote import Remote

log = logging.getLogger(__name__)

# Unset, a forked child that inherits an open stream dies by SIGABRT; with 0 it hangs. Read when grpc is first imported, which is
# later than this; an application that imports grpc before cqar.client, and forks, must set it itself.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

DOWNLOAD_TIMEOUT = 600.0  # seconds for a whole snapshot
ZERO_CHAIN = bytes(16)  # of a log without batches
_fork_handlers = False


def default_replica_dir() -> Path:
    """Where this user's replicas are: `$CQAR_REPLICA_DIR`, else `$XDG_CACHE_HOME/cqar/replica`, else `~/.cache/cqar/replica`."""
    named = os.environ.get("CQAR_REPLICA_DIR")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cqar" / "replica"


def bundled_catalogue() -> Path:
    """The snapshot folder that ships with CQAR: inside the wheel, or beside the package in a clone."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_catalogue"
    return inside if inside.is_dir() else package.parent / "snapshots" / "catalogue"


def open_snapshot(
    location: str | os.PathLike[str] | None = None,
    *,
    replica_dir: str | os.PathLike[str] | None = None,
    recent: int = 100_000,
    progress: Progress | None = None,
) -> Client:
    """Open a snapshot without a server; None is the catalogue that ships with CQAR.

    `location` is a folder of snapshots, of which the newest that verifies is taken, or one snapshot. The first process of a
    host to open it builds its generation under `replica_dir`; all others share that. `recent` bounds the number of answers
    kept at hand. The data only grow older, so the trade gate of such a client says UNKNOWN unless told to accept their age.
    Raises SnapshotError if there is nothing whole at `location`.
    """
    from cqar import snapshot as snapshots  # noqa: PLC0415

    root = Path(location) if location is not None else bundled_catalogue()
    if not root.exists():
        raise SnapshotError(f"{root}: there is no such folder", reason="NO_SNAPSHOT", path=root)
    folder = _usable(replica_dir)
    newest = root if (root / snapshots.MANIFEST).exists() else snapshots.latest(root).path
    generation = _generation.obtain(folder, newest, progress)
    return Client(Replica(generation, Recent(recent)), scratch=folder / "scratch")


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: Tls | bool = False,
    actor: str | None = None,
    snapshots: str | os.PathLike[str] | None = None,
    replica_dir: str | os.PathLike[str] | None = None,
    timeout: float = 10.0,
    call_timeout: float = 2.0,
    recent: int = 100_000,
    progress: Progress | None = None,
) -> Client:
    """Connect to a server at "host:port": load its newest snapshot, follow its feed, return once level with it.

    `token` is an API token, sent with every call; `actor` names the caller to a server that is open. `tls` encrypts: True
    trusts the CAs that gRPC brings along, a `Tls` names files.
    `snapshots` is the folder where the server publishes, if this host sees it; otherwise the snapshot comes over gRPC. The
    replica lives under `replica_dir`, shared by all processes of the host. `timeout` bounds the wait for being level: when it runs
    out the client is returned all the same if it has data, and `status()` tells. `call_timeout` is the deadline of each call on a
    miss, in seconds. `recent` bounds the number of answers kept at hand. Raises UnavailableError if the server cannot be
    reached and SnapshotError if the replica cannot be built.
    """
    global _fork_handlers  # noqa: PLW0603  (once per process)
    from cqar.client._remote import Remote  # noqa: PLC0415
    from cqar.client._sync import Syncer  # noqa: PLC0415

    if not isinstance(target, str) or ":" not in target:
        raise InvalidError(f"target: {target!r} is not host:port", reason="TARGET", field="target")
    folder = _usable(replica_dir)
    encryption = (Tls() if tls else None) if isinstance(tls, bool) else tls
    remote = Remote(target, token=token, actor=actor, timeout=call_timeout, tls=encryption)
    source = _Source(remote, folder, Path(snapshots) if snapshots is not None else None, progress)
    try:
        log_id = remote.head(timeout=timeout).log_id
        if not _fork_handlers:  # only now: grpc registered its own with the first channel
            register_fork_handlers()
            _fork_handlers = True
        generation = source.best(log_id)
    except BaseException:
        remote.close()
        raise
    replica = Replica(generation, Recent(recent))
    syncer = Syncer(replica, remote, lambda another: source.reload(replica, may_go_back=another))
    client = Client(replica, remote=remote, syncer=syncer, scratch=folder / "scratch")
    syncer.start()
    if not syncer.wait_until_level(timeout):
        log.warning(
            "%s: not level with the server after %g s; answers go on from position %d",
            target,
            timeout,
            replica.position,
        )
    return client


def _usable(replica_dir: str | os.PathLike[str] | None) -> Path:
    """Give a folder that can be written: the one asked for, or if none was and the default cannot be, a private one."""
    folder = Path(replica_dir) if replica_dir is not None else default_replica_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written")
    except OSError as error:
        if replica_dir is not None:
            raise InvalidError(f"replica_dir: {error}", reason="REPLICA_DIR", field="replica_dir") from error
        from tempfile import gettempdir  # noqa: PLC0415  (this and others below: slow to import, seldom needed)

        folder = Path(gettempdir()) / f"cqar-replica-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class _Source:
    """Where generations come from: this host, the server's snapshot folder, the server."""

    def __init__(self, remote: Remote, folder: Path, published: Path | None, progress: Progress | None) -> None:
        self._remote, self._folder, self._published, self._progress = remote, folder, published, progress

    def best(self, log_id: str) -> Generation:
        """Open the newest generation that this host has or can build."""
        mine = _generation.newest(self._folder, log_id)
        newer = self._snapshot(log_id, after=mine.head.position if mine is not None else -1)
        if newer is None:
            return mine if mine is not None else self._empty(log_id)
        try:
            return _generation.obtain(self._folder, newer, self._progress)
        finally:
            self._discard(newer)

    def reload(self, replica: Replica, *, may_go_back: bool) -> None:
        """Bring a replica that cannot go on by the feed to the server's newest snapshot.

        Only where the history is another one may the position go back: otherwise raises UnavailableError until there is a
        snapshot beyond it.
        """
        log_id = self._remote.head().log_id
        path = self._snapshot(log_id, after=-1 if may_go_back else replica.position)
        if path is None and not may_go_back:
            raise UnavailableError(f"no snapshot beyond position {replica.position} yet", reason="NO_NEWER_SNAPSHOT")
        if path is None:
            generation = self._empty(log_id)
        else:
            try:
                generation = _generation.obtain(self._folder, path, self._progress)
            finally:
                self._discard(path)
        replica.switch(generation)

    def _snapshot(self, log_id: str, after: int) -> Path | None:
        """Give the newest snapshot after a position, from the folder or downloaded; None if there is none."""
        from cqar import snapshot as snapshots  # noqa: PLC0415

        if self._published is not None:
            for snapshot in snapshots.listing(self._published, log_id):
                if snapshot.manifest.position <= after:
                    return None
                try:
                    return snapshots.verify(snapshot.path).path
                except SnapshotError as error:
                    log.warning("falling back to an older snapshot: %s", error)
            return None
        for head in self._remote.snapshots():
            if head.log_id == log_id and head.position > after:
                return self._download(head)
        return None

    def _download(self, head: FeedToken) -> Path:
        """Fetch a snapshot over gRPC into a folder of its own. What arrives is verified when it is built from."""
        import tempfile  # noqa: PLC0415

        from cqar.snapshot import MANIFEST  # noqa: PLC0415

        target = Path(tempfile.mkdtemp(prefix=".download-", dir=self._folder))
        try:
            for part in self._remote.fetch_snapshot(head.log_id, head.position, DOWNLOAD_TIMEOUT):
                if part.WhichOneof("part") == "manifest":
                    (target / MANIFEST).write_bytes(part.manifest)
                else:
                    name = Path(part.chunk.file).name
                    with (target / name).open("ab") as file:
                        file.write(part.chunk.data)
        except BaseException:
            self._discard(target)
            raise
        return target

    def _discard(self, path: Path) -> None:
        if path.parent == self._folder and path.name.startswith(".download-"):
            import shutil  # noqa: PLC0415

            shutil.rmtree(path, ignore_errors=True)

    def _empty(self, log_id: str) -> Generation:
        """Start from nothing: the feed from position 0 on tells everything, as long as the server keeps all of it."""
        import tempfile  # noqa: PLC0415
        from datetime import UTC, datetime  # noqa: PLC0415

        from cqar import snapshot as snapshots  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix=".empty-", dir=self._folder) as root:
            head = FeedToken(log_id=log_id, position=0, chain=ZERO_CHAIN)
            snapshot = snapshots.write(Path(root), head, datetime.now(UTC), {})
            return _generation.obtain(self._folder, snapshot.path, None)
