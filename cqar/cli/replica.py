"""`cqar replica …`: this host's copies of the registry, and a process that keeps one warm."""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import msgspec
import typer

from cqar.cli import output
from cqar.cli.app import FAILED, Group, examples
from cqar.cli.connection import Session, with_session
from cqar.errors import InvalidError
from cqar.model import FeedToken
from cqar.paths import inside

if TYPE_CHECKING:
    from cqar.client import Status

app = typer.Typer(name="replica", cls=Group, help="This host's replicas: look at them, keep one warm, rebuild.")


class Replica(msgspec.Struct, frozen=True):
    """What this host has of a server."""

    path: Path
    log_id: str
    state: str  # as its syncer says
    position: int
    head_position: int  # the server's, as last heard
    age: float  # seconds since it was level with the server
    syncer: int | None  # process id, if one is there
    feed: str  # where that one has the feed from: a server, or a NATS
    generation: str
    last_error: str | None


class Found(msgspec.Struct, frozen=True):
    """A generation on this host."""

    path: Path
    log_id: str
    position: int
    created_at: datetime | None  # of its snapshot
    rows: dict[str, int]
    bytes: int  # on disk
    damaged: bool


_TELL_EVERY = 60.0  # seconds between two lines of `run`


@app.command(
    epilog=examples(
        "cqar replica run --target registry:7433",
        "cqar replica run --target registry:7433 --feed nats://broker:4222",
        "cqar replica run --target registry:7433 --snapshots s3://bucket/cqar?region=eu-west-1",
        "cqar replica run --once   (then exit)",
    )
)
@with_session
def run(
    session: Session,
    once: Annotated[bool, typer.Option("--once", help="Bring the replica level and exit: for a cron.")] = False,
    snapshots: Annotated[
        str | None,
        typer.Option(
            envvar="CQAR_SNAPSHOTS",
            metavar="FOLDER|URI",
            help="Where the server publishes, if this host can read it; otherwise snapshots come from the server.",
        ),
    ] = None,
) -> None:
    """Keep this host's replica level with a server, so that trading services open it at once and only read it.

    They then use connect(..., sync="off"), or stand by for this one to die. Runs until Ctrl-C or SIGTERM and tells its state
    when it changes and once a minute, with --json as one object a line. It may start before the server does. With --once the exit
    code is 1 if the replica could not be brought level.
    """
    from cqar.client import State  # noqa: PLC0415

    _ = session.checked_target
    session.snapshots = snapshots or None
    if once:
        status = session.client.status()
        _tell(session, status)
        if status.state is not State.FRESH:
            raise typer.Exit(FAILED)
        return
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    client = session.connected(start="server")
    last, told_at = None, -math.inf
    while True:
        status = client.status()
        if status.state is not last or time.monotonic() - told_at >= _TELL_EVERY:
            last, told_at = status.state, time.monotonic()
            _tell(session, status)
        if stopping.wait(0.5):
            return


def _tell(session: Session, status: Status) -> None:
    if session.json:
        output.json_line(status)
        return
    role = "syncing" if status.is_syncer else f"standing by for process {status.syncer}" if status.target else "at rest"
    output.line(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {status.state}, {role}: position {status.position} of"
        f" {status.head_position}, age {output.duration(status.age)}, generation {Path(status.generation).name or 'none'}"
        f" + {status.changes_since_generation} changes, feed {status.feed or 'none'}"
        + (f" ({status.last_error})" if status.last_error else "")
    )


@app.command(epilog=examples("cqar replica status", "cqar replica status --json"))
@with_session
def status(session: Session) -> None:
    """List the replicas and generations of this host, with position, size and age; with a target, how far behind it is."""
    folder = _folder(session)
    replicas, rows = _replicas(folder), _generations(folder)
    head = session.remote.head() if session.target is not None else None
    if session.json:
        output.document({"replica_dir": folder, "replicas": replicas, "generations": rows, "head": head})
        return
    output.facts(
        [
            ("replica dir", folder),
            ("server", None if head is None else f"{session.target}: log {head.log_id}, position {head.position}"),
        ]
    )
    if replicas:
        output.line()
        output.table(
            ["replica", "state", "position", "of", "age", "syncer", "feed", "remarks"],
            [
                [
                    each.path.name,
                    each.state,
                    each.position,
                    each.head_position,
                    output.duration(each.age),
                    each.syncer or "none",
                    each.feed,
                    each.last_error or _remark(each.log_id, each.position, head),
                ]
                for each in replicas
            ],
        )
    if not rows:
        output.note("no generations yet: the first client builds one")
        return
    output.line()
    now = datetime.now(UTC)
    output.table(
        ["generation", "log", "position", "snapshot of", "age", "records", "size", "remarks"],
        [
            [
                f"{row.path.parent.name}/{row.path.name}",
                row.log_id,
                row.position,
                row.created_at,
                output.duration((now - row.created_at).total_seconds()) if row.created_at else "",
                sum(row.rows.values()),
                output.size(row.bytes),
                "damaged: will be built anew" if row.damaged else _remark(row.log_id, row.position, head),
            ]
            for row in rows
        ],
    )


def _remark(log_id: str, position: int, head: FeedToken | None) -> str:
    if head is None or head.log_id != log_id:
        return ""
    behind = head.position - position
    return f"{behind} positions behind the server" if behind > 0 else "level with the server"


def _folder(session: Session) -> Path:
    from cqar.client._place import default_replica_dir  # noqa: PLC0415

    return session.replica_dir or default_replica_dir()


def _replicas(base: Path) -> list[Replica]:
    from cqar.client import _head  # noqa: PLC0415
    from cqar.client._folder import HEAD, Folder  # noqa: PLC0415
    from cqar.client._status import TOLD  # noqa: PLC0415
    from cqar.client._trust import ANYONE  # noqa: PLC0415
    from cqar.client._view import now  # noqa: PLC0415

    found = []
    for path in sorted(base.glob(f"*/{HEAD}")):
        folder = Folder(path.parent, ANYONE)
        head = folder.head()
        if head is None:
            continue
        lock = folder.try_lock(quietly=True)
        if lock is not None:
            lock.release()
        found.append(
            Replica(
                path=path.parent,
                log_id=head.about.log_id,
                state=TOLD[head.words[_head.STATE] % len(TOLD)] if lock is None else "nobody syncs",
                position=head.words[_head.POSITION],
                head_position=max(head.words[_head.SERVER], head.words[_head.POSITION]),
                age=now() - head.heard / 1e9 if head.heard else math.inf,
                syncer=head.about.pid if lock is None else None,
                feed=head.about.feed,
                generation=head.about.generation,
                last_error=head.trouble,
            )
        )
    return found


def _generations(folder: Path) -> list[Found]:
    """Describe every generation under a folder from its meta.json, newest first within each replica."""
    return [
        _described(path)
        for replica in sorted(path for path in folder.glob("*") if path.is_dir())
        for path in sorted(replica.glob("gen-*"), reverse=True)
    ]


def _described(path: Path) -> Found:
    from cqar.client._generation import META, unpacked  # noqa: PLC0415

    position = int(path.name.split("-")[1])
    try:
        meta = unpacked((path / META).read_bytes())
        whole = {name: (path / name).stat().st_size for name in meta.sizes} == meta.sizes
        used = sum(file.stat().st_blocks * 512 for file in path.iterdir())
    except (OSError, ValueError):
        return Found(path, "", position, None, {}, 0, damaged=True)
    created = datetime.fromisoformat(meta.created_at)
    return Found(path, meta.log_id, position, created, meta.rows, used, damaged=not whole)


@app.command(epilog=examples("cqar replica rebuild --target registry:7433", "cqar replica rebuild   (the catalogue's)"))
@with_session
def rebuild(session: Session) -> None:
    """Build this host's replica anew from the newest snapshot, and remove what was there.

    Whichever process syncs it does so; all others go over to the new one. Without a target: the bundled catalogue's.
    """
    if session.target is None:
        _rebuild_catalogue(session)
        return
    client = session.client
    before = client.status().generation
    client.rebuild(timeout=max(session.timeout, 600))
    if not session.json:
        output.note(f"{Path(before).name} is replaced")
    _tell(session, client.status())


def _rebuild_catalogue(session: Session) -> None:
    from cqar import snapshot  # noqa: PLC0415
    from cqar.client._place import bundled_catalogue  # noqa: PLC0415

    found = snapshot.listing(bundled_catalogue())
    if not found:
        raise InvalidError("there is no bundled catalogue: give --target HOST:PORT", reason="NO_TARGET", field="target")
    aside = []
    for path in sorted(inside(_folder(session), found[0].manifest.log_id).glob("gen-*")):
        away = path.with_name(f".old-{path.name}-{uuid4().hex}")
        path.rename(away)
        aside.append((path, away))
    try:
        client = session.client
    except BaseException:
        for path, away in aside:
            if not path.exists():
                away.rename(path)
        raise
    for _, away in aside:
        shutil.rmtree(away, ignore_errors=True)
    if not session.json:
        output.note(f"{len(aside)} old generations removed")
    _tell(session, client.status())


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
