"""`cqar token` and `cqar audit` as a person uses them: the first token, roles, the history of a record."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from cqar.cli import app
from cqar.server.config import Config
from cqar.server.server import running_server

TOKEN = re.compile(r"cqar_[0-9a-f]{16}_[0-9a-f]{64}")


class Ran(NamedTuple):
    """What a command line did."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The document that it printed."""
        return json.loads(self.stdout)


class CommandLine:
    """Runs command lines in this process, with CQAR_* variables of its own."""

    def __init__(self, **environment: str) -> None:
        self._environment = environment

    def __call__(self, *arguments: str, **environment: str) -> Ran:
        """Run a command line to its end."""
        done = CliRunner().invoke(app, list(arguments), env={**self._environment, **environment})
        assert "defect" not in done.stderr
        return Ran(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def settings(database_url: str, open_folder: Path) -> Config:
    """Give the settings of a server for other machines."""
    return Config(
        listen="0.0.0.0:0",
        database=database_url,
        data_dir=open_folder,
        workers=4,
        heartbeat_interval=0.2,
        snapshot_interval=0.0,
    )


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Give the command line of a host without a server, away from this user's settings."""
    for name in [name for name in os.environ if name.startswith("CQAR_")]:
        monkeypatch.delenv(name)
    return CommandLine(CQAR_REPLICA_DIR=str(tmp_path / "replica"), CQAR_DATA_DIR=str(tmp_path / "data"))


@pytest.fixture
def admin(local: CommandLine, settings: Config, tmp_path: Path) -> Iterator[CommandLine]:
    """Yield the command line of an admin, whose token was made on the database before the server could start."""
    made = local("token", "create", "ops", "--role", "admin", "--database", settings.database)
    assert made.code == 0, made.stderr
    token = made.stdout.strip()
    assert TOKEN.fullmatch(token)
    assert token[-64:] not in made.stderr
    with running_server(settings) as server:
        yield CommandLine(
            CQAR_TARGET=f"localhost:{server.server.port}",
            CQAR_TOKEN=token,
            CQAR_REPLICA_DIR=str(tmp_path / "replica"),
        )


def error_of(ran: Ran) -> str:
    """Give the one line of an error."""
    assert ran.code == 1
    (line,) = ran.stderr.splitlines()
    return line


def test_tokens_are_made_listed_and_revoked(admin: CommandLine) -> None:
    """The first token came from the database, the next from the server; each may what its role says, until its end."""
    made = admin("token", "create", "robot", "--role", "Writer", "--role", "reader", "--expires", "90d", "--json")
    assert made.code == 0, made.stderr
    robot, token = made.json["token"], made.json["secret"]
    assert (robot["name"], robot["roles"], robot["created_by"]) == ("robot", ["reader", "writer"], "ops")
    assert robot["expires_at"] > robot["created_at"]
    assert token.startswith(f"cqar_{robot['token_id']}_")

    create = ("asset", "create", "--symbol", "ABC", "--name", "Abc", "--type", "token")
    assert admin(*create, CQAR_TOKEN=token).code == 0
    assert "needs the role admin" in error_of(admin("token", "list", CQAR_TOKEN=token))
    assert "wants an API token" in error_of(admin("token", "list", CQAR_TOKEN=""))
    assert "wants an API token" in error_of(admin("resolve", "ABC", CQAR_TOKEN=""))
    assert admin("resolve", "ABC", "--token", token).code == 0

    listed = admin("token", "list")
    assert [line.split()[1] for line in listed.stdout.splitlines()] == ["id", "robot", "ops"]
    assert not TOKEN.search(listed.stdout)
    assert admin("token", "revoke", robot["token_id"]).stdout == f"revoked {robot['token_id']} of robot\n"
    assert "revoked" in error_of(admin("resolve", "ABC", "--token", token))
    assert [each["name"] for each in admin("token", "list", "--json").json] == ["ops"]
    assert [each["name"] for each in admin("token", "list", "--all", "--json").json] == ["robot", "ops"]
    assert "no token" in error_of(admin("token", "revoke", "0" * 16))


def test_tokens_can_be_kept_without_a_server(local: CommandLine, settings: Config) -> None:
    """On the database itself, by flag or variable: what was made there can be listed and revoked there."""
    direct = {"CQAR_DATABASE": settings.database}
    first = local("token", "create", "a", "--role", "reader", "--json", **direct).json["token"]
    listed = local("token", "list", "--json", **direct)
    assert listed.json == [first]
    assert "no server: working on" in listed.stderr
    assert local("token", "revoke", first["token_id"], "--database", settings.database).code == 0
    assert local("token", "list", **direct).stdout == ""
    unreachable = local("token", "list", "--database", "postgresql://u:secret@127.0.0.1:1/x", CQAR_TARGET="localhost:1")
    assert "is PostgreSQL running there" in error_of_noted(unreachable)
    assert "secret" not in unreachable.stderr


def error_of_noted(ran: Ran) -> str:
    """Give the error after the remark on which database is used."""
    assert ran.code == 1
    _, line = ran.stderr.splitlines()
    return line


def test_the_embedded_database_of_a_running_server_is_left_alone(local: CommandLine, open_folder: Path) -> None:
    """Whoever tries is told to ask the server; before it runs, the first token can be made in its folder."""
    folder = ("--data-dir", str(open_folder))
    token = local("token", "create", "ops", "--role", "admin", *folder).stdout.strip()
    with running_server(Config(listen="127.0.0.1:0", data_dir=open_folder, snapshot_interval=0.0)) as server:
        assert "--target" in error_of(local("token", "list", *folder))
        assert local("token", "list", "--target", server.target, "--token", token).code == 0


@pytest.mark.parametrize("arguments", [("--expires", "soon"), ("--expires", "2001-01-01")])
def test_a_bad_time_is_told_in_one_line(admin: CommandLine, arguments: tuple[str, str]) -> None:
    """Neither nonsense nor the past is taken for an expiry."""
    assert "expires" in error_of(admin("token", "create", "x", "--role", "reader", *arguments))


def test_the_audit_shows_the_history_of_an_asset(admin: CommandLine) -> None:
    """Created, updated, flagged, deleted: who, and what was before and after, in a table and as JSON."""
    made = admin("asset", "create", "--symbol", "ABC", "--name", "Abc", "--type", "token", "--json").json["asset"]
    admin("asset", "update", "ABC", "--name", "Alphabet")
    admin("flag", "raise", "ABC", "--type", "paused", "--severity", "high", "--reason", "halted")
    shown = admin("audit", "--asset", "ABC")
    assert shown.code == 0, shown.stderr
    heading, flag, update, creation = shown.stdout.splitlines()
    assert heading.split() == ["position", "time", "actor", "kind", "key", "what"]
    assert "quality_flag" in flag
    assert update.endswith("name: Abc -> Alphabet")
    assert creation.endswith("created")
    assert all(line.split()[3] == "ops" for line in (flag, update, creation))
    assert admin("asset", "delete", "ABC", "--yes").code == 0
    (removed,) = admin("audit", "--asset", made["asset_id"], "--limit", "1", "--json").json
    assert (removed["op"], removed["actor"], removed["after"]) == ("REMOVE", "ops", None)
    assert removed["before"]["name"] == "Alphabet"
    by_key = admin("audit", "--kind", "asset", "--key", made["asset_id"], "--since", "1h", "--json").json
    assert [each["before"] and each["before"]["name"] for each in by_key] == ["Alphabet", "Abc", None]
    assert admin("audit", "--actor", "nobody").stdout == ""
    assert admin("audit", "--until", "2020-01-01T00:00").stdout == ""
    misused = admin("audit", "--key", "x")
    assert (misused.code, "--kind" in misused.stderr) == (2, True)
