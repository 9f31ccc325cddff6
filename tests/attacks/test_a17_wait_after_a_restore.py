"""A17: waiting for a write on a server that was restored.

A server loses its database and goes on with a backup, from an earlier position. A replica still holds what was lost, at a higher
position. Somebody writes to the restored server and waits until the replica shows the write. Before, `wait_for` compared two
numbers and returned at once, and the service acted on a replica without its own write, such as a flag just raised.

Now the position of a write names its log and the chain there: `wait_for` returns when the replica has that very place in its
history, and until then says which history it has. That holds with `cqar database new-log` and, where the chain tells, without it;
where the replica does not remember how it came there, the server is asked whether its history leads through it.
"""

from __future__ import annotations

import asyncio
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from cqar.answers import Position
from cqar.client import Asset, AssetType, AsyncClient, Client, UnavailableError, connect
from cqar.server.config import Config
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.server import running_server
from cqar.server.store import Store
from tests.attacks.marks import attack

pytestmark = attack("A17", by="a restore from a backup", promise="read your writes: what was waited for is there")

LOST = 12  # writes that the backup does not have


class Restored(NamedTuple):
    """A restored server, and a host whose replica is of the history that was lost."""

    config: Config
    folder: Path
    log_id: str
    position: int  # of the replica


def write(client: Client, symbol: str) -> Position:
    """Make a record; give the position of the write."""
    return client.registry.create_asset(Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN)).position


@pytest.fixture(params=["followed", "loaded"])
def restored(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, config: Config, tmp_path: Path
) -> Iterator[Restored]:
    """Yield a server at its old address with an older database.

    The replica followed the lost writes one by one, or loaded them in one snapshot and knows nothing of the way.
    """
    folder = tmp_path / "replica"
    backup = f"backup_{uuid.uuid4().hex}"
    with running_server(config) as server:
        with connect(server.target, replica_dir=tmp_path / "writer") as writer:
            write(writer, "KEPT")
        target = server.target
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        copy = SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(
            copy.format(Identifier(backup), Identifier(str(conninfo_to_dict(str(config.database))["dbname"])))
        )
    again = {"listen": target, "data_dir": tmp_path, "snapshot_interval": 0, "heartbeat_interval": 0.1}
    with running_server(Config(database=config.database, **again)):  # type: ignore[arg-type]
        first = folder if request.param == "followed" else tmp_path / "writer"
        with connect(target, replica_dir=first) as writer:
            for number in range(LOST):
                last = write(writer, f"LOST{number}")
            writer.wait_for(last)
        with connect(target, replica_dir=folder) as host:
            host.wait_for(last)
            found = host.status()
    yield Restored(Config(database=postgres.url_for(backup), **again), folder, found.log_id, found.position)  # type: ignore[arg-type]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(backup)))


def test_a_higher_number_of_the_same_log_is_not_the_write(restored: Restored) -> None:
    """The database was restored without another name for its log; nobody follows the server on this host."""
    with (
        running_server(restored.config) as server,
        connect(server.target, replica_dir=restored.folder, sync="off", start="server") as host,
    ):
        position = write(host, "MINE")
        assert position.log_id == restored.log_id
        assert position < host.position == restored.position
        with pytest.raises(UnavailableError) as refused:
            host.wait_for(position, timeout=0.5)
        assert refused.value.reason == "OTHER_HISTORY"
        with connect(server.target, replica_dir=restored.folder) as syncer:  # now somebody follows it
            host.wait_for(position, timeout=20)
            assert host.resolve("MINE").source == "replica"
            syncer.wait_for(pickle.loads(pickle.dumps(position)), timeout=20)


def test_a_number_of_another_log_is_not_the_write(restored: Restored) -> None:
    """Restored as the runbook says, with `new-log`: another host's write is waited for with its log."""
    store = Store(str(restored.config.database))
    store.new_log()
    store.close()
    with (
        running_server(restored.config) as server,
        connect(server.target, replica_dir=restored.folder, sync="off", start="server") as host,
        connect(server.target, replica_dir=restored.folder.with_name("another")) as elsewhere,
    ):
        position = write(elsewhere, "MINE")
        assert position < host.position
        for number, log_id in ((position, None), (int(position), position.log_id)):
            with pytest.raises(UnavailableError) as refused:
                host.wait_for(number, timeout=0.2, log_id=log_id)
            assert refused.value.reason == "OTHER_LOG"
            assert position.log_id in str(refused.value)
        with connect(server.target, replica_dir=restored.folder):
            host.wait_for(position, timeout=20)
            assert host.resolve("MINE").source == "replica"


def test_a_loop_waits_likewise(restored: Restored) -> None:
    """The same for `AsyncClient`, whose loop goes on meanwhile."""

    async def run(target: str) -> None:
        async with await AsyncClient.connect(target, replica_dir=restored.folder, sync="off", start="server") as host:
            made = await host.registry.create_asset(Asset(symbol="MINE", name="Mine", asset_type=AssetType.TOKEN))
            with pytest.raises(UnavailableError) as refused:
                await host.wait_for(made.position, timeout=0.5)
            assert refused.value.reason == "OTHER_HISTORY"

    with running_server(restored.config) as server:
        asyncio.run(run(server.target))


def test_waiting_costs_the_server_nothing_where_the_history_is_known(
    config: Config, tmp_path: Path, scale: int
) -> None:
    """In ordinary life the replica remembers its way: the write is shown without a question."""
    with running_server(config) as server, connect(server.target, replica_dir=tmp_path / "replica") as client:
        for number in range(20 * scale):
            position = write(client, f"T{number}")
            assert position.chain
            client.wait_for(position)
            assert client._view.chain_at(position) == position.chain
        assert client._proof[0] is None
