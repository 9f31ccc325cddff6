"""`cqar replica …`: this host's copies of the registry, and a process that keeps one warm."""

from __future__ import annotations

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
from cqar.cli.app import Group, examples
from cqar.cli.connection import Session, with_session
from cqar.errors import InvalidError, UnavailableError
from cqar.model import FeedToken

if TYPE_CHECKING:
    from cqar.client import Client

app = typer.Typer(name="replica", cls=Group, help="This host's replicas: look at them, keep one warm, rebuild.")


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


@app.command(epilog=examples("cqar replica run --target registry:7433", "cqar replica run --once   (then exit)"))
@with_session
def run(
    session: Session,
    once: Annotated[bool, typer.Option("--once", help="Build the newest generation and exit.")] = False,
    refresh: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds between looks for a newer snapshot to build from.")
    ] = 300.0,
) -> None:
    """Follow a server and keep this host's replica warm, so that trading services open it at once.

    Runs until Ctrl-C or SIGTERM and tells its state once a minute, with --json as one object a line. The server must be
    there at the start; if it goes away later it is waited for.
    """
    _ = session.checked_target
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    if not once:
        signal.signal(signal.SIGTERM, stop)
    client = session.client
    _tell(session, client)
    if once:
        return
    due = time.monotonic() + refresh
    while not stopping.wait(min(_TELL_EVERY, refresh)):
        if time.monotonic() >= due:
            due = time.monotonic() + refresh
            try:
                client = session.reconnect()
            except UnavailableError as error:
                output.note(f"no newer snapshot: {error.message}")
        _tell(session, client)


def _tell(session: Session, client: Client) -> None:
    status = client.status()
    if session.json:
        output.json_line(status)
        return
    output.line(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {status.state}: position {status.position} of {status.head_position},"
        f" age {output.duration(status.age)}, generation {Path(status.generation).name}"
        f" + {status.changes_since_generation} changes"
    )


@app.command(epilog=examples("cqar replica status", "cqar replica status --json"))
@with_session
def status(session: Session) -> None:
    """List the generations of this host, with position, size and age; with a target, how far it is behind."""
    folder = _folder(session)
    rows = _generations(folder)
    head = session.remote.head() if session.target is not None else None
    if session.json:
        output.document({"replica_dir": folder, "generations": rows, "head": head})
        return
    output.facts(
        [
            ("replica dir", folder),
            ("server", None if head is None else f"{session.target}: log {head.log_id}, position {head.position}"),
        ]
    )
    if not rows:
        output.note("no generations yet: the first client builds one")
        return
    output.line()
    now = datetime.now(UTC)
    output.table(
        ["log", "position", "snapshot of", "age", "records", "size", "remarks"],
        [
            [
                row.log_id,
                row.position,
                row.created_at,
                output.duration((now - row.created_at).total_seconds()) if row.created_at else "",
                sum(row.rows.values()),
                output.size(row.bytes),
                _remark(row, head),
            ]
            for row in rows
        ],
    )


def _remark(row: Found, head: FeedToken | None) -> str:
    if row.damaged:
        return "damaged: the next client builds it anew"
    if head is None or head.log_id != row.log_id:
        return ""
    behind = head.position - row.position
    return f"{behind} positions behind the server" if behind else "level with the server"


def _folder(session: Session) -> Path:
    from cqar.client._place import default_replica_dir  # noqa: PLC0415

    return session.replica_dir or default_replica_dir()


def _generations(folder: Path) -> list[Found]:
    """Describe every generation under a folder from its meta.json, newest first within each log."""
    return [
        _described(path)
        for log in sorted(path for path in folder.glob("*") if path.is_dir())
        for path in sorted(log.glob("gen-*"), reverse=True)
    ]


def _described(path: Path) -> Found:
    from cqar.client._generation import META, Meta  # noqa: PLC0415

    place = (path, path.parent.name, int(path.name.split("-")[1]))
    try:
        meta = msgspec.json.decode((path / META).read_bytes(), type=Meta)
        whole = {name: (path / name).stat().st_size for name in meta.sizes} == meta.sizes
        used = sum(file.stat().st_blocks * 512 for file in path.iterdir())
    except (OSError, msgspec.DecodeError):
        return Found(*place, None, {}, 0, damaged=True)
    return Found(*place, datetime.fromisoformat(meta.created_at), meta.rows, used, damaged=not whole)


@app.command(epilog=examples("cqar replica rebuild --target registry:7433", "cqar replica rebuild   (the catalogue's)"))
@with_session
def rebuild(session: Session) -> None:
    """Build this host's replica anew from the newest snapshot, and remove what was there.

    Processes that have the old files open go on reading them. Without a target: the replica of the bundled catalogue.
    """
    folder = _folder(session)
    log_id = session.remote.head().log_id if session.target is not None else _catalogue_log()
    aside = []
    for path in sorted((folder / log_id).glob("gen-*")):
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
    _tell(session, client)


def _catalogue_log() -> str:
    from cqar import snapshot  # noqa: PLC0415
    from cqar.client._place import bundled_catalogue  # noqa: PLC0415

    found = snapshot.listing(bundled_catalogue())
    if not found:
        raise InvalidError("there is no bundled catalogue: give --target HOST:PORT", reason="NO_TARGET", field="target")
    return found[0].manifest.log_id


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
