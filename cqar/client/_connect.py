"""Making clients: from a server, or from a snapshot alone."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cqar import broker
from cqar.client import _arguments, _generation, _place, _trust
from cqar.client._client import Client
from cqar.client._clock import clock_id
from cqar.client._generation import Nothing, Progress
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.client._status import State, Status
from cqar.client._tls import Tls
from cqar.client._view import View
from cqar.errors import CqarError, InternalError, NotReadyError, SnapshotError, UnavailableError
from cqar.locations import folder_of

if TYPE_CHECKING:
    from cqar.client._folder import Folder
    from cqar.client._remote import Remote
    from cqar.client._sync import Thread

log = logging.getLogger(__name__)

# Unset, a forked child that inherits an open stream dies by SIGABRT; with 0 it hangs. Read when grpc is first imported, which is
# later than this; an application that imports grpc before cqar.client, and forks, must set it itself.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

MOST_RECENT = 1 << 30  # answers at hand; the note of what was asked takes four bytes for each
JUST_NOW = 6.0  # seconds, a heartbeat and a little: a replica that was level then needs no waiting for


def open_snapshot(
    location: str | os.PathLike[str] | None = None,
    *,
    replica_dir: str | os.PathLike[str] | None = None,
    replica_owner: str | int | None = None,
    recent: int = 100_000,
    progress: Progress | None = None,
) -> Client:
    """Open a snapshot without a server; None is the catalogue that ships with CQAR.

    `location` is a folder of snapshots or the URI of object storage (`s3://bucket/prefix?region=…`, `gs://…`), of which the newest
    that verifies is taken, or one snapshot. The first process of a host to open it builds its generation under `replica_dir`; all
    others share that; files of other accounts than this one, root and `replica_owner` (as in `connect`) are not read there.
    `recent` bounds the number of answers kept at hand. The data only grow older, so the trade gate of such a client says UNKNOWN
    unless told to accept their age. Raises SnapshotError if there is nothing whole at `location`, InvalidError for a replica folder
    that cannot be used, and
    UnavailableError if the storage cannot be reached.
    """
    _arguments.path(location, "location")
    _check_common(replica_dir, recent, progress)
    trusted = _trust.owners(replica_owner)
    folder = _place.usable(replica_dir, trusted)
    root = folder_of(location) if location is not None else _place.bundled_catalogue()
    if root is None:
        assert location is not None
        from cqar.client import _published  # noqa: PLC0415  (seldom needed)

        generation = _published.obtain(os.fspath(location), folder, trusted, progress)
    else:
        generation = _generation.obtain(folder, _newest(root), trusted, progress)
    return Client(View(None, Replica(generation, Recent(recent))))


def _newest(root: Path) -> Path:
    from cqar import snapshot as snapshots  # noqa: PLC0415  (pyarrow: only who builds pays for it)

    if not root.exists():
        raise SnapshotError(f"{root}: there is no such folder", reason="NO_SNAPSHOT", path=root)
    return root if (root / snapshots.MANIFEST).exists() else snapshots.latest(root).path


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: Tls | bool = False,
    actor: str | None = None,
    snapshots: str | os.PathLike[str] | None = None,
    feed: str | None = None,
    replica_dir: str | os.PathLike[str] | None = None,
    replica_owner: str | int | None = None,
    sync: Literal["auto", "off"] = "auto",
    start: Literal["replica", "catalogue", "server"] = "replica",
    timeout: float = 10.0,
    call_timeout: float = 2.0,
    recent: int = 100_000,
    progress: Progress | None = None,
    on_state: Callable[[Status], object] | None = None,
) -> Client:
    """Connect to a server at "host:port": open this host's replica of it, or make it, and return once it is level.

    `token` is an API token, sent with every call; `actor` names the caller to a server that is open. `tls` encrypts: True
    trusts the CAs that gRPC brings along, a `Tls` names files. `snapshots` is where the server publishes, a folder or the URI of
    object storage, if this host can read it; otherwise snapshots come over gRPC. `feed` is the address of a NATS where the server
    publishes its feed, such as "nats://user:password@host:4222" (docs/feed-over-a-broker.md has more): the replica follows that
    instead of the server, and goes on while the server is away. The replica lives under `replica_dir`, which must be local, shared
    by all processes of the host. Who writes its files decides what the trade gate answers: those of other accounts than this one
    and root are refused, and those that others may write to. `replica_owner` (default: CQAR_REPLICA_OWNER) names one more account
    by its name or user id, several with commas: the one that `cqar replica run` runs under, if that is not this one.

    `sync="auto"`: a daemon thread stands by to be this host's syncer, which one process at a time is. With "off" this process only
    reads, and another one (`cqar replica run`) has to be there.

    `timeout` bounds the wait, in seconds. With a replica from before, an unreachable server keeps nobody waiting: answers go on
    from there, and `status()` and `age` tell. With nothing at all NotReadyError is raised, unless `start` says otherwise: with
    "catalogue" the client begins with the bundled catalogue, whose asset ids are its own; with "server" it asks the server for
    every answer until there is a replica.

    `call_timeout` is the deadline of each call on a miss, in seconds. `recent` bounds the number of answers kept at hand.
    `on_state` is called with the status, in a thread of its own, each time the state is another.

    Raises UnauthenticatedError, PermissionDeniedError or UnavailableError for what the server says to that, and InvalidError for a
    bad argument, or a replica folder that cannot be used (reason REPLICA_OWNER: it is another account's).
    """
    from cqar.client._folder import Folder  # noqa: PLC0415
    from cqar.client._remote import Remote  # noqa: PLC0415
    from cqar.client._source import Server  # noqa: PLC0415
    from cqar.client._sync import Syncer, Thread  # noqa: PLC0415

    _check(target, sync, start)
    _check_common(replica_dir, recent, progress)
    _arguments.ascii_line(token, "token")
    _arguments.ascii_line(actor, "actor")
    _arguments.path(snapshots, "snapshots")
    _arguments.optional_text(feed, "feed")
    _arguments.optional_function(on_state, "on_state")
    timeout = _arguments.seconds(timeout, "timeout")
    call_timeout = _arguments.seconds(call_timeout, "call_timeout")
    if not isinstance(tls, bool | Tls):
        raise _arguments.refused(tls, "tls", "True, False or a Tls", "TLS")
    followed = None if feed is None else broker.address(feed, "feed")
    if followed is not None:
        broker.require_nats()
    if snapshots is not None:
        folder_of(snapshots)  # raises what is wrong with it here, rather than in the syncer
    trusted = _trust.owners(replica_owner)
    base = _place.usable(replica_dir, trusted, to_write=sync == "auto")
    encryption = (Tls() if tls else None) if isinstance(tls, bool) else tls
    remote = Remote(target, token=token, actor=actor, timeout=call_timeout, tls=encryption)
    folder = Folder(_place.folder_of(base, target), trusted)
    thread: Thread | None = None
    if sync == "auto":
        catalogue = _place.bundled_catalogue() if start == "catalogue" else None
        published = None if snapshots is None else os.fspath(snapshots)
        source = Server(remote, folder, published=published, catalogue=catalogue, progress=progress, feed=followed)
        thread = Thread(Syncer(folder, source, feed=target if followed is None else followed.shown))
    view = View(folder, Replica(Nothing(), Recent(recent)))
    client = Client(view, remote=remote, folder=folder, thread=thread)
    try:
        _begin(client, view, folder, remote, thread, needs_data=start != "server", timeout=timeout)
    except BaseException:
        client.close()
        raise
    if on_state is not None:
        client.on_state(on_state)
    return client


def _check(target: str, sync: str, start: str) -> None:
    if not isinstance(target, str) or ":" not in target:
        raise _arguments.refused(target, "target", "host:port", "TARGET")
    _arguments.choice(sync, "sync", ("auto", "off"))
    _arguments.choice(start, "start", ("replica", "catalogue", "server"))


def _check_common(replica_dir: object, recent: object, progress: object) -> None:
    _arguments.path(replica_dir, "replica_dir")
    _arguments.whole(recent, "recent", 0, MOST_RECENT)
    _arguments.optional_function(progress, "progress")


def _begin(
    client: Client,
    view: View,
    folder: Folder,
    remote: Remote,
    thread: Thread | None,
    *,
    needs_data: bool,
    timeout: float,
) -> None:
    """Wait until the client is level with the server, or as good as it can be now."""
    deadline = time.monotonic() + timeout
    trouble: CqarError | None = None
    view.refresh()
    if thread is not None and not (view.state is State.FRESH and view.age() <= JUST_NOW):
        try:
            remote.head(timeout=max(0.1, min(remote.timeout, timeout)))
        except (UnavailableError, InternalError) as error:
            if error.reason.startswith("TLS"):
                raise  # it will not go away by waiting
            trouble = error
    if thread is not None:
        thread.start()

    def is_level() -> bool:
        syncer = None if thread is None or not thread.syncer.leads else thread.syncer
        # Without a clock it never knows, and there is nothing to wait for.
        timely = view.age() <= JUST_NOW or (view.head is not None and not clock_id())
        return timely and (view.state if syncer is None else syncer.state) is State.FRESH

    while not is_level() and time.monotonic() < deadline:
        view.catch_up(deadline - time.monotonic())
        # What there is now is what there will be for a while, if nobody here follows the server or the one who does cannot.
        settled = thread is None or thread.syncer.failures > 0 or not thread.syncer.leads
        if settled and (not needs_data if view.head is None else thread is None or trouble is not None):
            break
        time.sleep(0.005)
    if view.head is None and needs_data:
        why = thread.syncer.error if thread is not None and thread.syncer.error is not None else trouble
        missing = "no process of this host keeps it (sync=off)" if thread is None else str(why or "it takes longer")
        hint = folder.refused or view.trouble or missing
        raise NotReadyError(f"{remote.target}: no replica within {timeout:g} s: {hint}", target=remote.target) from why
    if not is_level():
        log.warning("%s: not level with the server; answers go on from position %d", remote.target, client.position)
