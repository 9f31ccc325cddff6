"""The checks of `cqar doctor` on what is named to it: a server, its health over HTTP, a database, a folder of snapshots."""

from __future__ import annotations

import enum
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cqar.cli import output
from cqar.cli.connection import Session, unreachable
from cqar.errors import PermissionDeniedError, SnapshotError, UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from cqar.snapshot import Manifest
    from cqar.v1.replication_pb2 import GetHeadResponse

_SKEW = (1.0, 30.0)  # seconds between two clocks from which on it is a warning, a failure
_NO_SNAPSHOT = "a server publishes one when it starts"
_SNAPSHOT_AGE = 3600.0  # seconds from which on the newest snapshot is old: the exporter makes one every five minutes


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


class Finding(NamedTuple):
    """What a check found, and what to do about it."""

    level: Level
    check: str
    found: str
    advice: str = ""


def server(session: Session) -> Iterator[Finding]:
    """Check the target: does it answer us, which version, how far is its clock, and does our replica follow?"""
    if session.target is None:
        yield Finding(Level.OK, "server", "not checked: no target", "--target HOST:PORT checks one")
        return
    start, before = time.perf_counter(), time.time()
    try:
        about = session.remote.about()
    except UnauthenticatedError as error:
        text = f"{session.target} answers, and does not take the token: {error.message}"
        yield Finding(Level.FAIL, "server", text, "give a valid one with --token or CQAR_TOKEN")
        return
    except PermissionDeniedError as error:
        text = f"{session.target} answers, and the token may not do this: {error.message}"
        yield Finding(Level.FAIL, "server", text, "ask for a token with the role READER")
        return
    except UnavailableError as error:
        yield Finding(Level.FAIL, "server", unreachable(session.target, error).message)
        return
    took = time.perf_counter() - start
    text = f"{session.target}: log {about.head.log_id}, head {about.head.position}, {took * 1000:.0f} ms"
    yield Finding(Level.OK, "server", text)
    yield _server_version(about)
    yield _server_clock(about, before + took / 2, took / 2)
    status = session.client.status()
    text = f"{status.state} at position {status.position} of {status.head_position}, age {output.duration(status.age)}"
    if status.quarantined:
        advice = f"{status.quarantined} records are of a newer version: upgrade cqar here"
        yield Finding(Level.WARN, "replica", text, advice)
    elif status.position < status.head_position or status.last_error:
        yield Finding(Level.WARN, "replica", text, status.last_error or "still catching up: try again in a moment")
    else:
        yield Finding(Level.OK, "replica", text)


def _server_version(about: GetHeadResponse) -> Finding:
    from importlib.metadata import version  # noqa: PLC0415

    here, there = version("cqar"), about.server_version
    if here == there:
        return Finding(Level.OK, "server version", there)
    return Finding(
        Level.WARN, "server version", f"{there or 'not told'}, and {here} here", "upgrade the older one when you can"
    )


def _server_clock(about: GetHeadResponse, asked: float, doubt: float) -> Finding:
    """Compare the clocks; the server looked at its own within `doubt` seconds of `asked`."""
    if not about.HasField("server_time"):
        return Finding(Level.OK, "server clock", "not told: the server is older than this command")
    ahead = about.server_time.ToNanoseconds() / 1e9 - asked
    least = max(0.0, abs(ahead) - doubt)
    level = Level.OK if least < _SKEW[0] else Level.WARN if least < _SKEW[1] else Level.FAIL
    if level is Level.OK:
        return Finding(level, "server clock", f"agrees with the one here to {abs(ahead) + doubt:.3f} s")
    text = f"{least:.1f} s {'ahead of' if ahead > 0 else 'behind'} the one here"
    return Finding(
        level, "server clock", text, "run an NTP client on both: ages and validity times are compared with clocks"
    )


def health(address: str) -> Iterator[Finding]:
    """Check what a server tells of its components over HTTP."""
    import json  # noqa: PLC0415
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415

    place = address.removeprefix("http://").rstrip("/")
    connection = HTTPConnection(place, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        report: dict[str, Any] = json.loads(connection.getresponse().read())
        parts = [(name, part["status"], part.get("reason", "")) for name, part in report["components"].items()]
        state, ready = report["state"], report["ready"]
    except OSError as error:
        text = f"http://{place} cannot be reached: {error.strerror or error}"
        yield Finding(Level.FAIL, "health", text, "is it what the server has as --http-listen?")
        return
    except (HTTPException, ValueError, LookupError, TypeError, AttributeError):
        text = f"http://{place} is not the HTTP address of a CQAR server"
        yield Finding(Level.FAIL, "health", text, "give what the server has as --http-listen")
        return
    finally:
        connection.close()
    yield Finding(Level.OK if ready else Level.FAIL, "health", f"{state}, {'ready' if ready else 'not ready'}")
    levels = {"down": Level.FAIL, "degraded": Level.WARN}
    for name, status, reason in parts:
        advice = "the server's log has more" if status in levels else ""
        found = f"{status}: {reason}" if reason else status
        yield Finding(levels.get(status, Level.OK), f"health: {name}", found, advice)


def database(url: str) -> Iterator[Finding]:
    """Check that a database answers and has the schema of this version."""
    try:
        import sqlalchemy  # noqa: F401, PLC0415
    except ImportError:
        text = "not checked: this installation has no server"
        yield Finding(Level.FAIL, "database", text, "pip install 'cqar[server]'")
        return
    from cqar.cli.serve import database_error  # noqa: PLC0415
    from cqar.server.config import redacted  # noqa: PLC0415
    from cqar.server.store import Store  # noqa: PLC0415

    store = Store(url, pool_size=1)
    try:
        schema = store.schema()
        if not schema.is_current:
            text = f"{redacted(url)}: schema {schema.found or '(none)'}, and {schema.wanted} is needed"
            yield Finding(Level.FAIL, "database", text, "cqar migrate, or start a server on it")
            return
        head = store.head()
    except UnavailableError as error:
        yield Finding(Level.FAIL, "database", database_error(url, error).message)
        return
    finally:
        store.close()
    text = f"{redacted(url)}: schema {schema.found}, log {head.log_id}, position {head.position}"
    yield Finding(Level.OK, "database", text)


def snapshots(location: str) -> Iterator[Finding]:
    """Check a place of snapshots, and how old the newest is."""
    from cqar import locations  # noqa: PLC0415

    folder = locations.folder_of(location)
    return _objects(location) if folder is None else _folder(folder)


def _objects(uri: str) -> Iterator[Finding]:
    """Check that object storage can be read; the newest snapshot is not downloaded for it."""
    from cqar import storage  # noqa: PLC0415

    place = storage.at(uri)
    found = storage.listing(place)
    yield Finding(Level.OK, "snapshots", f"{place.name}: {len(found)} snapshots", "")
    if found:
        yield _newest(found[0].manifest)
    else:
        yield Finding(Level.WARN, "newest snapshot", f"{place.name}: none there", _NO_SNAPSHOT)


def _folder(folder: Path) -> Iterator[Finding]:
    """Check that snapshots can be published in a folder, and verify the newest."""
    from cqar import snapshot  # noqa: PLC0415

    if not folder.is_dir():
        yield Finding(
            Level.FAIL, "snapshots", f"{folder}: there is no such folder", "the server's --snapshots names it"
        )
        return
    try:
        with tempfile.TemporaryFile(dir=folder):
            writable = True
    except OSError:
        writable = False
    free = f"{output.size(shutil.disk_usage(folder).free)} free"
    text = f"{folder}, {free}" if writable else f"{folder} cannot be written by this account"
    advice = "" if writable else "the account of the server must be able to; a follower need not"
    yield Finding(Level.OK if writable else Level.WARN, "snapshots", text, advice)
    try:
        newest = snapshot.latest(folder).manifest
    except SnapshotError as error:
        yield Finding(Level.WARN, "newest snapshot", error.message, _NO_SNAPSHOT)
        return
    yield _newest(newest)


def _newest(newest: Manifest) -> Finding:
    age = (datetime.now(UTC) - newest.created_at).total_seconds()
    old = age > _SNAPSHOT_AGE
    return Finding(
        Level.WARN if old else Level.OK,
        "newest snapshot",
        f"position {newest.position}, {output.duration(age)} old",
        "old unless nothing was written since: does a server that publishes there run?" if old else "",
    )
