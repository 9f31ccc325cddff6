"""Backups and what is said of a database: what is not whole is found, and nothing is overwritten, mixed or shown."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from typer.testing import CliRunner

from cqar.cli import app
from cqar.model import Chain
from cqar.server.postgres import _programs
from cqar.server.server import ServerThread
from cqar.server.store import Store
from cqar.v1 import replication_pb2 as pb
from cqar.v1.replication_pb2_grpc import ReplicationStub
from cqar.wire import token_to_wire
from tests.backups import dump_in, script
from tests.conftest import database_url

empty_url = database_url


def write(store: Store, *names: str) -> None:
    """Write so many batches."""
    for name in names:
        with store.transaction(actor="test") as tx:
            tx.put(Chain(chain_id=name, namespace="eip155", name=name))


def execute(url: str, statements: str) -> None:
    """Run statements on a database, past the server."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements.encode())


@pytest.fixture
def dump(store: Store, migrated_url: str, tmp_path: Path) -> Path:
    """Give a backup of three batches."""
    write(store, "a", "a tab\t a line\n and \\.", "c")
    script("backup.sh", tmp_path / "backups", database=migrated_url)
    return dump_in(tmp_path / "backups")


# --- the scripts ---------------------------------------------------------------------------------------------------------


def test_a_manifest_says_what_is_in_the_dump(dump: Path, store: Store) -> None:
    """Log, position, running hash and the rows of each table, read back from the dump itself; nobody else may read either."""
    manifest = json.loads(dump.with_suffix(".json").read_text())
    head = store.head()
    assert (manifest["log_id"], manifest["position"], manifest["chain"]) == (head.log_id, 3, head.chain.hex())
    rows = manifest["rows"]
    assert (rows["chains"], rows["batches"], rows["changes"], rows["clock"], rows["assets"]) == (3, 3, 3, 1, 0)
    assert (manifest["dump"], manifest["bytes"]) == (dump.name, dump.stat().st_size)
    assert {path.stat().st_mode & 0o077 for path in dump.parent.iterdir()} == {0}


def test_what_is_restored_is_what_was_dumped(dump: Path, store: Store, empty_url: str) -> None:
    """The records come back to the letter, with position and hash, under a log of another name."""
    said = script("restore.sh", "--jobs", "2", dump, database=empty_url)
    restored = Store(empty_url)
    with store.export() as (before, old, _), restored.export() as (after, new, _):
        assert {kind: list(rows) for kind, rows in old.items()} == {kind: list(rows) for kind, rows in new.items()}
    restored.close()
    assert (before.position, before.chain) == (after.position, after.chain)
    assert before.log_id != after.log_id
    assert said.endswith("cqar token revoke).\n")


def test_a_database_that_is_not_empty_is_not_restored_into(dump: Path, store: Store, migrated_url: str) -> None:
    """The live database named by mistake: refused, and left as it is."""
    head = store.head()
    assert "not empty" in script("restore.sh", dump, database=migrated_url, code=1)
    assert store.head() == head


def test_a_damaged_or_unfinished_dump_is_refused(dump: Path, empty_url: str) -> None:
    """One byte that is another, and a dump without its manifest: nothing is restored."""
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "damaged" in script("restore.sh", dump, database=empty_url, code=1)
    dump.write_bytes(whole)
    dump.with_suffix(".json").unlink()
    assert "did not finish" in script("restore.sh", dump, database=empty_url, code=1)
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_dump_of_something_else_is_no_backup(empty_url: str, tmp_path: Path) -> None:
    """A database without a registry gets no manifest, and nothing stays behind."""
    assert "is it the database of a CQAR server?" in script("backup.sh", tmp_path, database=empty_url, code=1)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_log_that_is_not_whole_is_no_backup(store: Store, migrated_url: str, tmp_path: Path) -> None:
    """When the clock and the log disagree, somebody must look: no manifest says that this can be restored."""
    write(store, "a", "b")
    execute(migrated_url, "DELETE FROM batches WHERE position = 2")
    said = script("backup.sh", tmp_path, database=migrated_url, code=1)
    assert "the clock is at 2 and the newest batch is 1" in said


def test_old_backups_go_when_told_so(store: Store, migrated_url: str, tmp_path: Path) -> None:
    """`--keep 2` leaves the two newest pairs, and what it does not know."""
    for number in range(3):
        for suffix in ("dump", "json"):
            (tmp_path / f"cqar-2026010{number}T000000Z-00000000000000000001.{suffix}").touch()
    (tmp_path / "notes.txt").touch()
    script("backup.sh", "--keep", "2", tmp_path, database=migrated_url)
    names = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("cqar-"))
    assert [name[:13] for name in names[:2]] == ["cqar-20260102"] * 2
    assert len(names) == 4
    assert (tmp_path / "notes.txt").exists()


def test_two_backups_do_not_write_in_one_folder(migrated_url: str, tmp_path: Path) -> None:
    """The second one says so and ends, as with a cron that is faster than the dump."""
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another backup.sh" in script("backup.sh", tmp_path, database=migrated_url, code=1)


def test_no_password_is_on_a_command_line(migrated_url: str, tmp_path: Path) -> None:
    """PostgreSQL's programs get it in their environment, whatever characters it has; the rest of the URL as it is."""
    seen = tmp_path / "seen"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("pg_dump", "pg_restore"):
        shim = programs / name
        shim.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$PGPASSWORD\" \"$@\" >>'{seen}'\nexec '{_programs()}/{name}' \"$@\"\n"
        )
        shim.chmod(0o755)
    url = migrated_url.replace("postgres@", "postgres:p%40s%25s%5Cw:o%2Frd@")
    script(
        "backup.sh",
        tmp_path / "backups",
        database=url.replace("postgresql:", "postgresql+psycopg:"),
        PG_BIN=str(programs),
    )
    password, *rest = seen.read_text().splitlines()
    assert password == r"p@s%s\w:o/rd"
    assert migrated_url in rest
    assert not [line for line in rest if "p%40s" in line]
    assert "by PGPASSFILE" in script("backup.sh", tmp_path, database="postgresql://h/d?password=x", code=1)


@pytest.mark.parametrize("name", ["backup.sh", "restore.sh"])
def test_a_script_says_how_it_is_used(name: str) -> None:
    """--help tells it all; what is not understood is named, with code 1."""
    assert "Usage: " in script(name, "--help", database="")
    assert "--nonsense: no such option" in script(name, "--nonsense", database="", code=1)
    assert "see --help" in script(name, database="", code=1)


def test_the_programs_that_are_missing_are_named(tmp_path: Path) -> None:
    """With how to name their folder."""
    for name in ("bash", "dirname", "readlink"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    said = script("backup.sh", "x", database="", PG_BIN="", PATH=str(tmp_path), code=1)
    assert "there is no pg_dump: set PG_BIN" in said


# --- cqar database -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cqar(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Give a function that runs `cqar database …` on the database of the test."""
    for name in [name for name in os.environ if name.startswith("CQAR_")]:
        monkeypatch.delenv(name)
    environment = {"CQAR_DATABASE": migrated_url, "COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(app, ["database", *map(str, arguments)], env=environment)


FAULTS = {
    "DELETE FROM batches WHERE position = 2; DELETE FROM changes WHERE position = 2": "the change log has gaps: 2 batches",
    "DELETE FROM batches WHERE position = 3": "the clock is at position 3 and the newest batch is 2",
    "DELETE FROM changes WHERE position = 1": "1 batches do not have the changes that they should, the first at position 1",
    "UPDATE clock SET chain = 'x'": "the clock and the newest batch, 3, have different histories",
    "DELETE FROM clock": "there is no clock",
    "DELETE FROM chains WHERE chain_id = 'a'": "rows of chains: 2, and 3 in the manifest",
    "UPDATE clock SET position = 3, chain = chain": "",
}


@pytest.mark.parametrize(("damage", "said"), FAULTS.items(), ids=map(str, range(len(FAULTS))))
def test_what_is_not_whole_is_found(
    damage: str, said: str, store: Store, cqar: Callable[..., Any], tmp_path: Path
) -> None:
    """Each way to be incomplete is said in words, with exit code 1; a whole database has exit code 0."""
    write(store, "a", "b", "c")
    manifest = {"format": 1, "position": 3, "chain": store.head().chain.hex(), "rows": {"chains": 3, "clock": 1}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    execute(store.url, damage)
    done = cqar("check", "--against", tmp_path / "manifest.json", "--json")
    assert done.exit_code == bool(said), done.output
    assert said in done.stderr
    assert bool(json.loads(done.stdout)["faults"]) is bool(said)


def test_a_file_that_is_no_manifest_is_named(cqar: Callable[..., Any], tmp_path: Path) -> None:
    """Missing, nonsense, or of a version to come."""
    for text, said in (
        ("{", "not a manifest"),
        ('{"format": 2, "position": 1, "chain": "", "rows": {}}', "upgrade cqar"),
    ):
        (tmp_path / "manifest.json").write_text(text)
        done = cqar("check", "--against", tmp_path / "manifest.json")
        assert (done.exit_code, said in done.stderr) == (1, True), done.output
    assert "No such file" in cqar("check", "--against", tmp_path / "none").stderr


def test_a_database_of_an_older_schema_is_to_be_migrated_first(empty_url: str, cqar: Callable[..., Any]) -> None:
    """It is not taken for a damaged one."""
    done = cqar("check", "--database", empty_url)
    assert (done.exit_code, "cqar migrate" in done.stderr) == (1, True), done.output


def test_a_log_is_renamed_and_nothing_else(store: Store, cqar: Callable[..., Any]) -> None:
    """The position and the running hash go on; the next write follows."""
    write(store, "a")
    store.close()  # its connections would count as a server's
    before = store.head()
    store.close()
    told = json.loads(cqar("new-log", "--json").stdout)
    assert told == {"before": before.log_id, "after": store.head().log_id, "position": 1}
    assert before.log_id != told["after"]
    write(store, "b")
    assert store.head().position == 2
    assert cqar("check").exit_code == 0


def test_the_log_of_a_running_server_is_not_renamed_by_mistake(
    server: ServerThread, cqar: Callable[..., Any], store: Store
) -> None:
    """With servers connected they are named and it takes --yes; then they tell their followers, and go on."""
    write(store, "a")
    head = store.head()
    done = cqar("new-log")
    assert done.exit_code == 1
    assert "cqar wake-ups" in done.stderr or "cqar (" in done.stderr
    assert store.head() == head
    with grpc.insecure_channel(server.target) as channel:
        stub = ReplicationStub(channel)  # type: ignore[no-untyped-call]
        call = stub.WatchChanges(pb.WatchChangesRequest(after=token_to_wire(head)), timeout=20)
        next(call)
        assert cqar("new-log", "--yes").exit_code == 0
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        write(store, "b")
        call = stub.WatchChanges(pb.WatchChangesRequest(after=token_to_wire(store.head())), timeout=20)
        assert next(call).heartbeat.head_position == 2
        call.cancel()
