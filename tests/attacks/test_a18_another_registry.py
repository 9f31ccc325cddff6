"""A18: a miss that is answered by another registry, because its server has got the address.

A replica was made from a server; later the address leads to a server of another registry: another environment, another tenant,
a test set-up. Whatever the replica does not know is asked there. Before, the stranger's answer was given as if it were the
registry's, and writes went to the stranger.

Now each call says which log the replica is of, and a server with another one refuses it before it reads or writes anything; each
reply says which log it is from, and the client refuses one of another log. Both are counted in `status().refused_replies`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from cqar.client import (
    Asset,
    AssetType,
    Client,
    Decision,
    FlagType,
    NotFoundError,
    QualityFlag,
    Severity,
    UnavailableError,
    connect,
)
from cqar.server.config import Config
from cqar.server.logs import CallNote
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.same_log import SameLog
from cqar.server.server import running_server
from cqar.server.store import Store
from tests.attacks.marks import attack

pytestmark = attack("A18", by="another registry at the address", promise="an answer is the registry's own, or none")

USDC = Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.STABLECOIN)


@pytest.fixture
def stranger(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """Yield a database with a registry of its own."""
    name = f"stranger_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        copy = SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(copy.format(Identifier(name), Identifier(migrated_template)))
    yield postgres.url_for(name)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
def client(config: Config, stranger: str, tmp_path: Path) -> Iterator[Client]:
    """Yield a client whose replica is of a registry, while a stranger answers at its address and knows what it is asked."""
    with running_server(config) as server:
        target = server.target
        with connect(target, replica_dir=tmp_path / "replica") as first:
            first.wait_for(first.registry.create_asset(USDC).position)
    store = Store(stranger)
    assert store.head().log_id
    store.new_log()
    store.close()
    with running_server(Config(listen=target, database=stranger, data_dir=tmp_path / "stranger", snapshot_interval=0)):
        with connect(target, replica_dir=tmp_path / "its", start="server") as its:
            its.registry.create_asset(Asset(symbol="ONLY", name="The stranger's", asset_type=AssetType.TOKEN))
        with connect(target, replica_dir=tmp_path / "replica", sync="off", start="server") as reader:
            yield reader


def asks(client: Client) -> list[Callable[[], Any]]:
    """What the replica does not know: with a stranger's answer, and with its "not found", which is an answer too."""
    registry = client.registry
    return [
        lambda: client.resolve("ONLY"),
        lambda: client.resolve("NOBODYS"),
        lambda: client.resolve_identifier("coingecko", "only"),
        lambda: client.asset(str(uuid.uuid4())),
        lambda: client.group("ONLY"),
        lambda: registry.resolve("ONLY"),
        lambda: registry.check_tradable(client.resolve("USDC").asset.asset_id),
        lambda: list(registry.list_assets()),
        lambda: registry.create_asset(Asset(symbol="MINE", name="Mine", asset_type=AssetType.TOKEN)),
        lambda: registry.raise_quality_flag(
            QualityFlag(
                asset_id=str(uuid.uuid4()),
                flag_type=FlagType.SCAM,
                severity=Severity.CRITICAL,
                source="x",
                reason="x",
                raised_by="x",
            )
        ),
        lambda: registry.upsert_records([USDC]),
        lambda: list(registry.upsert_stream([[Asset(symbol="MINE", name="Mine", asset_type=AssetType.TOKEN)]])),
    ]


def test_a_strangers_answer_is_refused_and_nothing_is_written_there(client: Client, stranger: str) -> None:
    """Reads, "not found" and writes alike; what the replica has goes on, and the gate says what it knows."""
    store = Store(stranger)
    before = store.head()
    for number, ask in enumerate(asks(client)):
        with pytest.raises(UnavailableError) as refused:
            pytest.fail(f"ask {number} is answered: {ask()!r:.200}")
        assert refused.value.reason == "OTHER_LOG", (number, refused.value)
    assert client.resolve_many(["USDC", "ONLY"])["status"].to_pylist() == ["OK", "UNAVAILABLE"]
    assert store.head() == before
    store.close()
    assert client.resolve("USDC").source == "replica"
    assert client.status().refused_replies > 0
    verdict = client.check_tradable(client.resolve("USDC").asset.asset_id)
    assert verdict.decision is not Decision.BLOCK


def test_a_stranger_that_does_not_look_is_refused_by_its_replies(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server, or what stands before it, does not compare the logs: the client does."""

    async def pass_on(_self: SameLog, continuation: Any, details: Any) -> Any:
        return await continuation(details)

    monkeypatch.setattr(SameLog, "intercept_service", pass_on)
    for number, ask in enumerate(asks(client)[:9]):
        with pytest.raises(UnavailableError) as refused:
            pytest.fail(f"ask {number} is answered: {ask()!r:.200}")
        assert refused.value.reason == "OTHER_LOG", (number, refused.value)
    assert client.status().refused_replies >= 8


def test_an_old_server_that_tells_nothing_is_taken_for_the_right_one(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be told from the registry's own, and clients are upgraded first or last: unknown is tolerated."""

    async def pass_on(_self: SameLog, continuation: Any, details: Any) -> Any:
        return await continuation(details)

    monkeypatch.setattr(SameLog, "intercept_service", pass_on)
    monkeypatch.setattr(CallNote, "trailing", lambda _self: ())
    assert client.resolve("ONLY").asset.name == "The stranger's"
    with pytest.raises(NotFoundError):
        client.resolve("NOBODYS")
    assert client.status().refused_replies == 0


def test_the_own_server_is_never_refused(config: Config, tmp_path: Path) -> None:
    """Not before there is a replica, not after, and not after its log got another name, once the replica has loaded it."""
    with running_server(config) as server, connect(server.target, replica_dir=tmp_path / "replica") as client:
        client.wait_for(client.registry.create_asset(USDC).position)
        with pytest.raises(NotFoundError):
            client.resolve("NOBODYS")
        target = server.target
    store = Store(str(config.database))
    store.new_log()
    store.close()
    again = Config(
        listen=target, database=config.database, data_dir=tmp_path, snapshot_interval=0, heartbeat_interval=0.1
    )
    with running_server(again), connect(target, replica_dir=tmp_path / "replica") as client:
        position = client.registry.create_asset(Asset(symbol="NEW", name="New", asset_type=AssetType.TOKEN)).position
        client.wait_for(position, timeout=20)
        assert client.resolve("NEW").source == "replica"
