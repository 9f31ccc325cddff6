"""A database restored from a backup, by the scripts of `deploy/backup`, while clients follow: all reload, and none mixes.

A server loses its database; a backup from before its last writes is restored into another cluster, its log gets a new id, and a
server goes on with it at the same address and with other writes. What was lost is nowhere afterwards, in no process of any kind.
"""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from cqar.answers import Decision, Verdict
from cqar.client import Asset, AssetType, Client, FlagType, QualityFlag, Severity, connect
from cqar.client._view import now
from cqar.errors import UnavailableError
from cqar.model import KINDS, FeedToken
from cqar.server.config import Config
from cqar.server.postgres import EmbeddedPostgres, _programs
from cqar.server.server import ServerThread, running_server
from cqar.server.store import Store
from tests.backups import dump_in, script
from tests.conftest import temporary_folder
from tests.faults.replica import digest
from tests.faults.replica.host import Host, Member, host, some, until
from tests.faults.replica.writer import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

BOUND = 15.0  # seconds: the age that the gate accepts


class Facts(NamedTuple):
    """What a database holds, read without a server."""

    head: FeedToken
    digest: str


def facts(url: str) -> Facts:
    """Read a database."""
    store = Store(url, pool_size=1)
    with store.export() as (head, records, _):
        total = sum(
            digest.of_record(kind, KINDS[kind].key_of(one), one) for kind, rows in records.items() for one in rows
        )
    store.close()
    return Facts(head, f"{total % (1 << 128):032x}")


@pytest.fixture(scope="module")
def another_cluster() -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL beside the one of the session."""
    with temporary_folder() as folder, EmbeddedPostgres(folder, fsync=False) as server:
        yield server


@contextmanager
def new_database(cluster: EmbeddedPostgres, template: str = "template0") -> Iterator[str]:
    """Make a database in a cluster for a while."""
    name = f"restored_{uuid.uuid4().hex}"
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
    yield cluster.url_for(name)
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


class Gate:
    """Asks a client for its verdicts without end, and keeps those that allow."""

    def __init__(self, client: Client, *assets: str) -> None:
        self.allowed: dict[str, list[float]] = {asset: [] for asset in assets}  # when the data of each ALLOW were level
        self.wrong: list[Verdict] = []
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.001):
            for asset, levels in self.allowed.items():
                verdict = self._client.check_tradable(asset)
                if verdict.decision is Decision.ALLOW:
                    levels.append(now() - verdict.age)
                    if verdict.age > BOUND:
                        self.wrong.append(verdict)

    def stop(self) -> dict[str, list[float]]:
        """Ask no more; give when the data of each ALLOW were level with the server."""
        self._stopping.set()
        self._thread.join()
        assert not self.wrong, self.wrong
        return self.allowed


class Team:
    """The clients of a server: three processes of one host, this one among them, and one that was there and comes back later."""

    def __init__(self, target: str, folder: Path, several: Host) -> None:
        self._options: dict[str, Any] = {"replica_dir": folder / "later", "timeout": 20.0}
        self.target = target
        self.live = connect(target, replica_dir=several.replica_dir, timeout=20.0)
        self.members = [several.start(), several.start(sync="off")]
        self._later: Client | None = connect(target, **self._options)

    def all_at(self, position: int) -> None:
        """Wait until all have a position; then one of them goes away."""
        assert self._later is not None
        for client in (self.live, self._later):
            client.wait_for(position, 20)
        for member in self.members:
            member.ask("wait", position=position)
        self._later.close()
        self._later = None

    def check(self, told: Facts) -> None:
        """Raise AssertionError unless every client comes to show exactly what the database holds."""
        self._later = connect(self.target, **self._options)
        for client in (self.live, self._later):
            until(partial(_shows, client, told), "a client has followed")
            still = client._replica.still()
            assert (still.head, digest.of_replica(still)) == told
        for member in self.members:
            until(partial(_member_shows, member, told), "a process has followed")
            account = member.ask("report")
            assert (account["wrong"], account["errors"]) == ([], {})

    def close(self) -> None:
        """Leave nothing behind."""
        for client in (self.live, self._later):
            if client is not None:
                client.close()


def _shows(client: Client, told: Facts) -> bool:
    client._refresh()
    return client._replica.head == told.head


def _member_shows(member: Member, told: Facts) -> bool:
    shown = member.ask("digest")
    return (shown["log_id"], shown["position"], shown["digest"]) == (told.head.log_id, told.head.position, told.digest)


class Story:
    """A server that loses its database when clients have read more than the backup holds."""

    def __init__(self, target: str, writer: Writer) -> None:
        self.target, self.writer = target, writer
        self.flagged = flagged(writer, "STAYS")[0]  # CRITICAL in all histories
        self.cleared, self._flag_id = flagged(writer, "CLEARED")  # CRITICAL in the backup, cleared in what is lost
        self.lost = 0  # the last position of the lost history
        self.ended = 0.0  # when the first server served for the last time

    def lose(self, team: Team, server: ServerThread) -> None:
        """Write what no backup has, see that every client has read it, and end the server."""
        self.writer.registry.resolve_quality_flag(self._flag_id, reason="well")
        self.lost = write(self.writer, "LOST", 20)
        team.all_at(self.lost)
        server.stop()
        self.ended = now()


def flagged(writer: Writer, symbol: str) -> tuple[str, str]:
    """Make an asset with a CRITICAL flag; give the ids of both."""
    made = writer.registry.create_asset(Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN))
    asset_id = made.asset.asset_id
    kinds: dict[str, Any] = {"flag_type": FlagType.PAUSED, "severity": Severity.CRITICAL}
    flag = QualityFlag(asset_id=asset_id, source="test", reason="a test", **kinds)
    return asset_id, writer.registry.raise_quality_flag(flag).record.flag_id


def write(writer: Writer, symbol: str, times: int) -> int:
    """Make so many assets, in a transaction each, and rename the pair; give the last position."""
    for _ in range(times):
        writer.registry.create_asset(Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN))
    return writer.write_pair()


def is_there(writer: Writer) -> bool:
    """Tell whether a writer reaches the server again."""
    try:
        writer._remote.head()
    except UnavailableError:
        return False
    return True


def tell(url: str, folder: Path, restore: Callable[[Path], str], *, beyond: bool) -> None:
    """Have a server with clients lose what was written after a backup, and go on with the database that `restore` makes of it.

    It is written to again, until its position is `beyond` the lost one or far below. Raises AssertionError unless every client
    shows that history alone in the end.
    """
    first = Config(listen="127.0.0.1:0", database=url, data_dir=folder / "server", snapshot_interval=1)
    with running_server(first) as server, host(server.target, folder / "host") as several:
        writer = Writer(server.target)
        story = Story(server.target, writer)
        team = Team(server.target, folder, several)
        gate = Gate(team.live, story.flagged, story.cleared)
        try:
            with writer.at_work():
                script("backup.sh", folder / "backups", database=url)
            story.lose(team, server)
            restored = restore(dump_in(folder / "backups"))
            # The same address and the same folder of snapshots, where those of the lost history are still.
            second = msgspec.structs.replace(first, listen=story.target, database=restored)
            with running_server(second):
                until(lambda: is_there(writer), "the writer has found the server")
                write(writer, "NEW", 5)
                while beyond and writer.position <= story.lost:
                    writer.write_pair()
                assert (writer.position > story.lost) is beyond
                team.check(facts(restored))
                symbols = {symbol for (symbol,) in team.live.sql("SELECT DISTINCT symbol FROM assets").fetchall()}
                assert symbols & {"LOST", "NEW"} == {"NEW"}
                until(
                    lambda: team.live.check_tradable(story.cleared).decision is Decision.BLOCK,
                    "the flag is back",
                )
            assert not gate.stop()[story.flagged]
            assert gate.allowed[story.cleared], "it was never allowed, so nothing was tried"
            assert max(gate.allowed[story.cleared]) <= story.ended
        finally:
            gate.stop()
            team.close()
            writer.close()


def test_a_database_restored_by_the_scripts_is_loaded_anew_by_all(
    database_url: str, another_cluster: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Dumped under load and restored into another cluster: the log has another id, and no client shows anything of the lost."""
    with new_database(another_cluster) as target:

        def restore(dump: Path) -> str:
            before = facts(database_url).head
            said = script("restore.sh", dump, database=target)
            head = facts(target).head
            assert f"the log {before.log_id} is {head.log_id} from now on" in said
            assert head.log_id != before.log_id
            assert 0 < head.position < before.position
            return target

        tell(database_url, tmp_path, restore, beyond=True)


@pytest.mark.parametrize("case", some(("the same log, further on", "the same log, behind", "another log, behind"), 3))
def test_positions_that_were_used_twice_mix_nothing(
    database_url: str, postgres: EmbeddedPostgres, tmp_path: Path, case: str
) -> None:
    """Restored by hand: even without another log, when only the running hash tells the two histories apart."""
    with new_database(postgres) as target:

        def restore(dump: Path) -> str:
            subprocess.run([_programs() / "pg_restore", "--no-owner", f"--dbname={target}", dump], check=True)
            if case.startswith("another"):
                store = Store(target, pool_size=1)
                store.new_log()
                store.close()
            return target

        tell(database_url, tmp_path, restore, beyond=case.endswith("further on"))
