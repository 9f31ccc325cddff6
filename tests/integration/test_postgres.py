"""The embedded PostgreSQL: it keeps its data through crashes, leaves no orphan, and says what is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import sqlalchemy

from cqar.errors import ConflictError, CqarError, PreconditionError, UnavailableError
from cqar.server.postgres import EmbeddedPostgres, default_data_dir

OWNER = """
import ctypes, os, sys, time
from pathlib import Path
import psycopg
from cqar.server.postgres import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]), fsync=False)
server.start()
with psycopg.connect(server.url) as connection:
    connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
child = 0
if sys.argv[2] == "fork":
    child = os.fork()
elif sys.argv[2] == "bare fork":  # as a C library forks: Python's at-fork handlers do not run
    child = ctypes.PyDLL(None).fork()
if child or sys.argv[2] == "alone":
    print(child, flush=True)
time.sleep(60)
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL under another account")


def query(server: EmbeddedPostgres, statement: str) -> object:
    """Run a statement and return the first value of its result, if it has one."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def postmaster(folder: Path) -> int:
    """Return the process id of the server on a data folder."""
    return int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])


def is_alive(pid: int) -> bool:
    """Tell whether a process runs: a zombie does not."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(status) and not status.startswith("Z")


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition, and fail if it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def owner(folder: Path, manner: str = "alone") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run another process that owns a server on the folder; yield it and the child that it forked."""
    command = [sys.executable, "-c", OWNER, str(folder), manner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            if child:
                os.kill(child, signal.SIGKILL)


def test_data_survives_a_restart(open_folder: Path) -> None:
    """What was written before stop is there after start, at the same address."""
    server = EmbeddedPostgres(open_folder / "new" / "data")
    with server:
        url = server.url
        query(server, "CREATE TABLE kept AS SELECT 7 AS n")
    with server:
        assert (url, query(server, "SELECT n FROM kept")) == (server.url, 7)


def test_start_and_stop_may_be_repeated(open_folder: Path) -> None:
    """A second start or stop does nothing, and without a server there is no address."""
    server = EmbeddedPostgres(open_folder, fsync=False)
    server.stop()
    server.start()
    pid = postmaster(open_folder)
    server.start()
    assert postmaster(open_folder) == pid
    server.stop()
    server.stop()
    assert not is_alive(pid)
    with pytest.raises(PreconditionError):
        _ = server.url


def test_stop_does_not_wait_for_clients(open_folder: Path) -> None:
    """An open transaction is rolled back rather than waited for."""
    with EmbeddedPostgres(open_folder, fsync=False) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE lost (n int)")
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 2
        connection.close()


@pytest.mark.parametrize("manner", ["alone", "fork", "bare fork"])
def test_no_orphan_after_kill_of_the_owner(open_folder: Path, manner: str) -> None:
    """PostgreSQL is gone 2 s after kill -9 of its owner, even if a forked child lives on, and the data is there."""
    with owner(open_folder, manner) as (process, child):
        pid = postmaster(open_folder)
        process.kill()
        wait_until(lambda: not is_alive(pid), 2)
        assert not child or is_alive(child)
        with EmbeddedPostgres(open_folder, fsync=False) as server:
            assert query(server, "SELECT n FROM kept") == 7


def test_owner_may_be_replaced_at_once(open_folder: Path) -> None:
    """A new owner waits for the PostgreSQL of one that was killed."""
    with owner(open_folder) as (process, _):
        process.kill()
        process.wait()
        with EmbeddedPostgres(open_folder, fsync=False) as server:
            assert query(server, "SELECT n FROM kept") == 7


def test_killed_postgres_starts_again(open_folder: Path) -> None:
    """After kill -9 of PostgreSQL its owner can start it again, and committed data is there."""
    with EmbeddedPostgres(open_folder, fsync=False) as server:
        query(server, "CREATE TABLE kept AS SELECT 7 AS n")
        os.kill(postmaster(open_folder), signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            wait_until(lambda: query(server, "SELECT 1") is None, 2)
        wait_until(lambda: server._guard is None or server._guard.poll() is not None, 2)
        server.start()
        assert query(server, "SELECT n FROM kept") == 7


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_no_orphan_after_kill_of_the_guard(open_folder: Path) -> None:
    """PostgreSQL ends with its guard."""
    with EmbeddedPostgres(open_folder, fsync=False) as server:
        pid = postmaster(open_folder)
        assert server._guard is not None
        server._guard.kill()
        wait_until(lambda: not is_alive(pid), 2)


def test_thread_that_starts_the_server_may_end(open_folder: Path) -> None:
    """The server belongs to the process, not to the thread that started it."""
    server = EmbeddedPostgres(open_folder, fsync=False)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    with server:
        assert query(server, "SELECT 1") == 1


def test_forked_child_does_not_stop_the_server(open_folder: Path) -> None:
    """A child that leaves the owner's `with` block leaves the server alone."""
    with EmbeddedPostgres(open_folder, fsync=False) as server:
        child = os.fork()
        if child == 0:
            server.stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert query(server, "SELECT 1") == 1


def test_second_owner_is_refused(open_folder: Path) -> None:
    """One data folder has one owner: another, in this process or not, gets a ConflictError within a second."""
    with EmbeddedPostgres(open_folder, fsync=False) as server:
        begun = time.monotonic()
        with pytest.raises(ConflictError, match=str(os.getpid())) as caught:
            EmbeddedPostgres(open_folder).start()
        assert time.monotonic() - begun < 1
        assert caught.value.reason == "DATA_DIR_IN_USE"
        script = OWNER.replace("server.start()", "server.start()  # refused")
        command = [sys.executable, "-c", script, str(open_folder), "alone"]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "ConflictError" in refused.stderr
        assert query(server, "SELECT 1") == 1


def test_two_folders_are_two_servers(open_folder: Path) -> None:
    """Servers on different folders run side by side and know nothing of each other."""
    with (
        EmbeddedPostgres(open_folder / "a", fsync=False) as one,
        EmbeddedPostgres(open_folder / "b", fsync=False) as two,
    ):
        query(one, "CREATE TABLE kept AS SELECT 1 AS n")
        query(two, "CREATE TABLE kept AS SELECT 2 AS n")
        assert (query(one, "SELECT n FROM kept"), query(two, "SELECT n FROM kept")) == (1, 2)


def test_interrupted_initdb_leaves_nothing_broken(open_folder: Path) -> None:
    """An owner killed while it makes the cluster does not keep the next one from making it."""
    command = [sys.executable, "-c", OWNER, str(open_folder), "alone"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_until((open_folder / "cluster.new" / "PG_VERSION").exists, 20)
        process.kill()
    assert not (open_folder / "cluster").exists()
    with EmbeddedPostgres(open_folder, fsync=False) as server:
        assert query(server, "SELECT 1") == 1
        assert not (open_folder / "cluster.new").exists()


def test_start_failure_shows_the_log(open_folder: Path) -> None:
    """If PostgreSQL does not start, the error says why in PostgreSQL's words."""
    with pytest.raises(UnavailableError, match="shared_buffers") as caught:
        EmbeddedPostgres(open_folder, fsync=False, settings={"shared_buffers": "plenty"}).start()
    assert "invalid value" in caught.value.metadata["log"]
    (open_folder / "cluster" / "global" / "pg_control").unlink()
    with pytest.raises(UnavailableError, match="pg_control"):
        EmbeddedPostgres(open_folder, fsync=False).start()


def test_other_major_version_is_refused(open_folder: Path) -> None:
    """A cluster of another major version is named as such and not touched."""
    with EmbeddedPostgres(open_folder, fsync=False):
        pass
    (open_folder / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(PreconditionError) as caught:
        EmbeddedPostgres(open_folder, fsync=False).start()
    assert (caught.value.reason, caught.value.metadata["found"]) == ("POSTGRES_VERSION", "17")


def test_log_is_kept_for_two_starts(open_folder: Path) -> None:
    """Each start begins a new log and keeps the one before, so that logs do not pile up."""
    for _ in range(3):
        with EmbeddedPostgres(open_folder, fsync=False):
            pass
    logs = sorted(open_folder.glob("postgres.log*"))
    assert [log.name for log in logs] == ["postgres.log", "postgres.log.1"]
    assert all(log.read_text().count("ready to accept connections") == 1 for log in logs)


def test_only_the_private_socket_is_open(postgres: EmbeddedPostgres) -> None:
    """There is no TCP port, and the socket's folder is closed to others."""
    assert query(postgres, "SHOW listen_addresses") == ""
    sockets = Path(parse_qs(urlsplit(postgres.url).query)["host"][0])
    assert sockets.stat().st_mode & 0o777 == 0o700


@as_root
def test_other_account_cannot_connect(postgres: EmbeddedPostgres) -> None:
    """Neither root's nor PostgreSQL's account, and the kernel refuses the connection."""
    sockets = Path(parse_qs(urlsplit(postgres.url).query)["host"][0])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(12345)
            os.setuid(12345)
            socket.socket(socket.AF_UNIX).connect(str(sockets / ".s.PGSQL.5432"))
        except PermissionError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_postgres_has_its_own_session(postgres: EmbeddedPostgres) -> None:
    """Ctrl-C in a terminal reaches the owner only."""
    pid = postmaster(postgres._dir)
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)


def test_any_folder_name_works(open_folder: Path) -> None:
    """A path too long or too odd for a socket gets its socket elsewhere, and nothing is left there."""
    folder = open_folder / "a, b" / "ünï" / ("long" * 30)
    with EmbeddedPostgres(folder, fsync=False) as server:
        assert query(server, "SELECT 1") == 1
        sockets = Path(parse_qs(urlsplit(server.url).query)["host"][0])
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not sockets.exists()


@as_root
def test_unreachable_folder_is_explained(open_folder: Path) -> None:
    """A folder below one that the account may not enter is refused, and no permission is changed."""
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PreconditionError, match=f"may not enter {closed}"):
        EmbeddedPostgres(closed / "data", fsync=False).start()
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_owner_of_the_folder_runs_postgres(open_folder: Path) -> None:
    """Root gives the data folder to the account that shall run PostgreSQL."""
    folder = open_folder / "data"
    folder.mkdir()
    os.chown(folder, 1, 1)
    with EmbeddedPostgres(folder, fsync=False):
        assert (folder / "cluster").stat().st_uid == 1


@as_root
def test_cluster_of_root_is_refused(open_folder: Path) -> None:
    """A cluster that a restored backup left to root is named, with the command that helps."""
    (open_folder / "cluster").mkdir()
    with pytest.raises(PreconditionError, match="chown -R") as caught:
        EmbeddedPostgres(open_folder).start()
    assert caught.value.reason == "DATA_DIR_OWNER"


def test_unusable_folder_is_explained(open_folder: Path) -> None:
    """A file where the folder should be is a PreconditionError, not an OSError."""
    (open_folder / "file").touch()
    with pytest.raises(PreconditionError, match="file"):
        EmbeddedPostgres(open_folder / "file" / "data").start()


def test_missing_programs_are_explained(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CQAR_PG_BIN is believed, and a folder without PostgreSQL is an error of ours."""
    monkeypatch.setenv("CQAR_PG_BIN", str(open_folder))
    with pytest.raises(CqarError, match="CQAR_PG_BIN"):
        EmbeddedPostgres(open_folder).start()


def test_settings_are_the_projects(postgres: EmbeddedPostgres) -> None:
    """Time is UTC, text is Unicode, commits wait for the log, and the environment changes none of it."""
    assert query(postgres, "SHOW timezone") == "UTC"
    assert query(postgres, "SHOW synchronous_commit") == "on"
    assert query(postgres, "SHOW server_encoding") == "UTF8"
    assert query(postgres, "SELECT lower('ÄΩ')") == "äω"


def test_database_is_fresh(database_url: str) -> None:
    """Each test gets an empty database, through psycopg and through SQLAlchemy."""
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    engine = sqlalchemy.create_engine(database_url)
    with engine.connect() as session:
        assert session.scalar(sqlalchemy.text("SELECT current_database()")) in database_url
    engine.dispose()


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default folder follows the user and the environment."""
    monkeypatch.setenv("CQAR_DATA_DIR", str(tmp_path))
    assert default_data_dir() == tmp_path / "postgres"
    monkeypatch.delenv("CQAR_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_data_dir() == tmp_path / "cqar" / "postgres"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/cqar/postgres")
