"""`cqar events` as a person uses it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cqar.cli import app
from cqar.model import ASSET
from cqar.server.server import ServerThread
from cqar.server.store import Store
from tests.brokers import NatsServer, RedisBroker, committed
from tests.conftest import temporary_folder
from tests.integration.test_events import publishing, until_published, write


def tail(*arguments: str) -> list[str]:
    """Run `cqar events tail`; give the lines."""
    done = CliRunner().invoke(app, ["events", "tail", *arguments], env={"CQAR_EVENTS": "", "CQAR_TARGET": ""})
    assert done.exit_code == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["nats", "redis"])
def test_tail_shows_what_a_broker_has(kind: str, store: Store, migrated_url: str, tmp_path: Path) -> None:
    """All of it, what follows a position, or what is of a type; people and programs can read it."""
    with temporary_folder() as folder:
        server = NatsServer(folder) if kind == "nats" else RedisBroker(folder)
        server.start()
        (made,) = write(store, actor="maker")
        with store.transaction(actor="remover") as tx:
            found = tx.get(ASSET, made)
            assert found is not None
            tx.remove(found)
        write(store)
        with publishing(migrated_url, tmp_path, server.url):
            until_published(server, migrated_url)
        lines = tail("--broker", server.url, "--all", "--count", "3")
        assert [line.split("  ")[1:3] for line in lines] == [
            ["1", "AssetCreated"],
            ["2", "AssetDeleted"],
            ["3", "AssetCreated"],
        ]
        assert made in lines[0]
        assert lines[1].endswith("by remover")
        (line,) = tail("--broker", server.url, "--after", "1", "--count", "1", "--json")
        assert json.loads(line) == json.loads(
            tail("--broker", server.url, "--all", "--json", "--type", "*deleted", "--count", "1")[0]
        )
        assert json.loads(line)["record"]["asset_id"] == made
        server.kill()


def test_tail_follows_a_server_without_a_broker(server: ServerThread, store: Store, migrated_url: str) -> None:
    """The feed tells what happens just as well, but for who did it."""
    write(store, 2)
    lines = tail("--target", server.target, "--all", "--count", "2", "--json")
    assert [json.loads(line)["event_id"] for line in lines] == [event_id for event_id, _, _ in committed(migrated_url)]
    assert {json.loads(line)["type"] for line in lines} == {"AssetCreated"}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--broker", "nats://127.0.0.1:1"), "NATS cannot be reached"),
        (("--broker", "redis://127.0.0.1:1"), "connecting to 127.0.0.1:1"),
        (("--broker", "kafka://x"), "is not an address such as nats://host:4222"),
        (("--type", "AssetMade"), "no type of events; Asset"),
        ((), "give --target HOST:PORT"),
    ],
)
def test_tail_says_what_is_wrong(arguments: Sequence[str], what: str) -> None:
    """A broker that is not there, an address or a type that is none: one line, and no waiting."""
    done = CliRunner().invoke(app, ["events", "tail", *arguments], env={"CQAR_EVENTS": "", "CQAR_TARGET": ""})
    assert done.exit_code == 1
    assert what in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stream_that_is_not_there_is_said_to_be_so(nats_server: NatsServer) -> None:
    """Nobody publishes there: it says which server setting is missing."""
    done = CliRunner().invoke(app, ["events", "tail", "--broker", nats_server.url])
    assert done.exit_code == 1
    assert "cqar serve --events" in done.stderr


def test_a_relay_can_be_forgotten(store: Store, migrated_url: str) -> None:
    """Once nothing publishes any more, the log need not be kept for it; a name that is none is said to be none."""
    store.note_relayed("events", 7)
    done = CliRunner().invoke(app, ["events", "forget", "events", "--database", migrated_url])
    assert done.stdout == "forgot that events were published up to position 7\n"
    again = CliRunner().invoke(app, ["events", "forget", "events", "--database", migrated_url])
    assert again.exit_code == 1
    assert "no relay 'events'" in again.stderr
