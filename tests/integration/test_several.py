"""Several servers over one PostgreSQL: one history for all followers, whoever wrote, whoever dies."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import select
import shutil
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from cqar import snapshot, wire
from cqar.client import connect
from cqar.errors import PositionExpiredError, PreconditionError, StaleError
from cqar.model import ASSET, Asset, AssetType, Batch, Chain, FeedToken
from cqar.server.changes import Feed
from cqar.server.config import Config
from cqar.server.export import export_snapshot
from cqar.server.leader import Leader
from cqar.server.registry._base import required_for_update
from cqar.server.server import ServerThread, running_server
from cqar.server.store import Store
from cqar.v1 import registry_pb2, replication_pb2
from cqar.v1.registry_pb2_grpc import AssetRegistryStub
from cqar.v1.replication_pb2_grpc import ReplicationStub
from tests.processes import PATIENCE, process

NEVER = 3_600.0  # an interval that no test waits for
START = bytes(16)


@contextmanager
def servers(url: str, folder: Path, count: int = 3, **settings: Any) -> Iterator[list[ServerThread]]:
    """Run servers over one database that, unless told otherwise, find changes of the others by wake-ups only."""
    usual = {"poll_interval": NEVER, "heartbeat_interval": NEVER, "snapshot_interval": 0, "workers": 4}
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running_server(
                    Config(listen="127.0.0.1:0", database=url, data_dir=folder / str(number), **{**usual, **settings})
                )
            )
            for number in range(count)
        ]


def create(target: str, *names: str) -> int:
    """Create chains through a server, each in a batch of its own; give the last position."""
    position = 0
    with grpc.insecure_channel(target) as channel:
        stub = AssetRegistryStub(channel)  # type: ignore[no-untyped-call]
        for name in names:
            chain = wire.record_to_wire(Chain(chain_id=name, name=name, namespace="test"))
            position = stub.CreateChain(registry_pb2.CreateChainRequest(chain=chain), timeout=PATIENCE).position
    return position


def follow(target: str, after: FeedToken, until: int, started: Callable[[], object] = lambda: None) -> list[Any]:
    """Follow the feed of a server up to a position; give the batches as they came."""
    taken: list[Any] = []
    with grpc.insecure_channel(target) as channel:
        stub = ReplicationStub(channel)  # type: ignore[no-untyped-call]
        request = replication_pb2.WatchChangesRequest(after=wire.token_to_wire(after))
        for reply in stub.WatchChanges(request, timeout=PATIENCE):
            started()
            taken += reply.batches
            if taken and taken[-1].position >= until:
                break
    return taken


def start_of(store: Store) -> FeedToken:
    """Give the token of the start of the log."""
    return FeedToken(log_id=store.head().log_id, position=0, chain=START)


def sessions(url: str, name: str) -> list[int]:
    """Give the process ids of PostgreSQL's sessions for a purpose."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s",
            [f"cqar {name}%"],
        ).fetchall()
    return [pid for (pid,) in rows]


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait for what another thread or process will bring about."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return result


# --- wake-ups and the feed


def test_a_write_through_one_server_is_told_by_all_others(store: Store, migrated_url: str, open_folder: Path) -> None:
    """Followers of servers that would never look by themselves get every batch, in order and without a gap."""
    names = [f"c{number}" for number in range(30)]
    with servers(migrated_url, open_folder) as (first, *others), ThreadPoolExecutor(2) as pool:
        following = [pool.submit(follow, other.target, start_of(store), 30) for other in others]
        assert create(first.target, *names) == 30
        for each in following:
            batches = each.result(PATIENCE)
            assert [batch.position for batch in batches] == list(range(1, 31))
            assert [batch.changes[0].key for batch in batches] == names


def test_without_wake_ups_a_poll_finds_everything(store: Store, migrated_url: str, open_folder: Path) -> None:
    """Wake-ups are optional: no session is made for them, and servers converge within one poll."""
    with servers(migrated_url, open_folder, 2, wakeups=False, poll_interval=0.2) as (first, second):
        assert sessions(migrated_url, "listen") == sessions(migrated_url, "notify") == []
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow, second.target, start_of(store), 1)
            create(first.target, "c")
            written = time.monotonic()
            following.result(PATIENCE)
            assert time.monotonic() - written < 2  # a poll, and room for a busy machine


def test_eight_writers_over_three_servers_make_one_history(store: Store, migrated_url: str, open_folder: Path) -> None:
    """Positions are gapless, and the followers of all servers see the same batches with the same chain, byte for byte."""
    with servers(migrated_url, open_folder) as running, ThreadPoolExecutor(14) as pool:
        targets = [server.target for server in running]
        following = [pool.submit(follow, target, start_of(store), 80) for target in targets * 2]
        writing = [
            pool.submit(create, targets[number % 3], *[f"w{number}-{each}" for each in range(10)])
            for number in range(8)
        ]
        assert max(each.result(PATIENCE) for each in writing) == 80
        history, *same = [each.result(PATIENCE) for each in following]
    assert [batch.position for batch in history] == list(range(1, 81))
    assert same == [history] * 5
    assert history[-1].chain == store.head().chain


def test_lost_wake_up_connections_are_made_again(
    store: Store, migrated_url: str, open_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When PostgreSQL cuts them, what was written meanwhile is found at once after the reconnection."""
    caplog.set_level(logging.INFO)
    with servers(migrated_url, open_folder, 2) as (first, second), ThreadPoolExecutor(1) as pool:
        cut = eventually(
            lambda: len(found := sessions(migrated_url, "listen") + sessions(migrated_url, "notify")) == 4 and found
        )
        with psycopg.connect(migrated_url, autocommit=True) as connection:
            for pid in cut:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        create(first.target, "during")
        following = pool.submit(follow, second.target, start_of(store), 1)
        assert [batch.position for batch in following.result(PATIENCE)] == [1]
        eventually(lambda: caplog.text.count("is connected again") == 3)  # a session that sends notices when it has to
        following = pool.submit(follow, second.target, store.head(), 2)
        create(first.target, "after")
        assert [batch.position for batch in following.result(PATIENCE)] == [2]


def test_anybody_may_notify_anything(store: Store, migrated_url: str, open_folder: Path) -> None:
    """Wake-ups without sense, or of positions that are not there, change nothing."""
    with servers(migrated_url, open_folder, 2) as (first, second), ThreadPoolExecutor(1) as pool:
        eventually(lambda: len(sessions(migrated_url, "listen")) == 2)
        with psycopg.connect(migrated_url, autocommit=True) as connection:
            for payload in ("", "x", "-1", "9" * 5_000, "9" * 18, "1e3", "٣"):
                connection.execute("SELECT pg_notify('cqar', %s)", [payload])
        following = pool.submit(follow, second.target, start_of(store), 2)
        create(first.target, "a", "b")
        assert [batch.position for batch in following.result(PATIENCE)] == [1, 2]


def test_a_writer_does_not_wait_for_a_wake_up(store: Store, migrated_url: str, open_folder: Path) -> None:
    """With the session that sends them frozen, writes go on, and other servers find them by polling."""
    with servers(migrated_url, open_folder, 2, poll_interval=0.1) as (first, second):
        frozen = eventually(lambda: len(found := sessions(migrated_url, "notify")) == 2 and found)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert create(first.target, *[f"c{number}" for number in range(20)]) == 20
            assert len(follow(second.target, start_of(store), 20)) == 20
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)


def test_a_follower_goes_on_at_another_server(store: Store, migrated_url: str, open_folder: Path) -> None:
    """When the server that it followed is killed, its token is as good anywhere: no batch is lost and none comes twice."""
    with (
        servers(migrated_url, open_folder, 1) as (second,),
        process("--database", migrated_url, "--data-dir", str(open_folder)) as first,
    ):
        create(first.target, *[f"a{number}" for number in range(10)])
        seen = follow(first.target, start_of(store), 10)
        first.signal(signal.SIGKILL)
        first.exit_code()
        token = FeedToken(log_id=store.head().log_id, position=seen[-1].position, chain=seen[-1].chain)
        create(second.target, *[f"b{number}" for number in range(10)])
        seen += follow(second.target, token, 20)
    assert [batch.position for batch in seen] == list(range(1, 21))


# --- who leads


def test_one_leads_until_its_session_ends(migrated_url: str) -> None:
    """A second candidate waits; it leads as soon as the first one's connection is cut, and the first one notices."""
    first, second, other = Leader(migrated_url, "work"), Leader(migrated_url, "work"), Leader(migrated_url, "else")
    assert [first.leads(), second.leads(), first.leads(), other.leads()] == [True, False, True, True]
    (holder, _) = sorted(sessions(migrated_url, "work"), key=lambda pid: pid not in holders(migrated_url))
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [holder])
    eventually(second.leads)
    assert not first.leads()
    assert (first.leading, second.leading) == (False, True)
    second.close()
    assert eventually(first.leads)
    for each in (first, other):
        each.close()


def holders(url: str) -> list[int]:
    """Give the process ids of the sessions that hold an advisory lock of this database."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_locks JOIN pg_database ON pg_locks.database = pg_database.oid"
            " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
        ).fetchall()
    return [pid for (pid,) in rows]


def test_a_killed_exporter_is_succeeded(store: Store, migrated_url: str, open_folder: Path) -> None:
    """Of two servers with one folder, one publishes; after its kill -9 the other does, and both say who leads."""
    shared = open_folder / "shared"
    flags = ("--database", migrated_url, "--data-dir", str(open_folder), "--snapshots", str(shared))
    with (
        process(*flags, "--snapshot-interval", "0.2") as first,
        process(*flags, "--snapshot-interval", "0.2") as second,
    ):
        targets = {first.target: first, second.target: second}
        eventually(lambda: any("this server leads" in line for each in targets.values() for line in each.lines))
        leader = next(each for each in targets.values() if any("this server leads" in line for line in each.lines))
        follower = second if leader is first else first
        assert f":{leader.popen.pid}" in follower.line_with("another server leads in snapshots")
        create(follower.target, "before")
        eventually(lambda: snapshot.paths(shared) and snapshot.latest(shared).manifest.position == 1)
        assert not [line for line in follower.lines if "published" in line]
        leader.signal(signal.SIGKILL)
        leader.exit_code()
        create(follower.target, "after")
        follower.line_with("this server leads in snapshots")
        eventually(lambda: snapshot.latest(shared).manifest.position == 2)
        follower.line_with("published snapshot")


def test_servers_with_folders_of_their_own_all_publish(store: Store, migrated_url: str, open_folder: Path) -> None:
    """Servers need not share their disks: each has a snapshot to send."""
    with store.transaction(actor="test") as tx:
        tx.put(Chain(chain_id="c", name="c", namespace="test"))
    with servers(migrated_url, open_folder, 2, snapshot_interval=NEVER):
        folders = [open_folder / str(number) / "snapshots" for number in range(2)]
        eventually(lambda: all(snapshot.paths(folder) for folder in folders))


def test_two_that_publish_in_one_folder_do_not_break_a_reader(store: Store, migrated_url: str, tmp_path: Path) -> None:
    """Even if two servers believe to lead, whoever reads the newest snapshot finds it whole, all of the time."""
    rivals = [store, Store(migrated_url)]
    with ThreadPoolExecutor(3) as pool:
        export_snapshot(store, tmp_path)
        done = False

        def read() -> int:
            times = 0
            while not done:
                for kind in snapshot.latest(tmp_path).manifest.files:
                    assert kind.name
                times += 1
            return times

        reading = pool.submit(read)
        for number in range(15):
            with store.transaction(actor="test") as tx:
                tx.put(Chain(chain_id=f"c{number}", name="c", namespace="test"))
            made = list(pool.map(lambda each: export_snapshot(each, tmp_path), rivals))
            assert made[0].manifest == made[1].manifest == snapshot.latest(tmp_path).manifest
            for each in pool.map(lambda _: snapshot.prune(tmp_path), rivals):
                assert each == []
        done = True
        assert reading.result(PATIENCE) > 0
    rivals[1].close()


def test_who_lost_the_lead_does_not_publish(store: Store, migrated_url: str, tmp_path: Path) -> None:
    """An exporter whose session was cut while it wrote finds another leading, and leaves nothing behind."""
    mine, other = Leader(migrated_url, "work"), Leader(migrated_url, "work")
    assert mine.leads()

    def confirm() -> None:
        with psycopg.connect(migrated_url, autocommit=True) as connection:
            for pid in holders(migrated_url):
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        eventually(other.leads)
        if not mine.leads():
            raise InterruptedError

    with pytest.raises(InterruptedError):
        export_snapshot(store, tmp_path, confirm=confirm)
    assert list((tmp_path / store.head().log_id).iterdir()) == []
    mine.close()
    other.close()


# --- start and schema


def test_three_servers_start_and_migrate_at_once(database_url: str, open_folder: Path) -> None:
    """Processes that meet an empty database together all serve, on one log."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(process("--database", database_url, "--data-dir", str(open_folder / str(number))))
            for number in range(3)
        ]
        assert [create(each.target, f"c{number}") for number, each in enumerate(started)] == [1, 2, 3]


def test_a_server_that_may_not_migrate_waits_for_the_schema(database_url: str, open_folder: Path) -> None:
    """It says what it waits for, and serves as soon as somebody has migrated the database."""
    flags = ("--database", database_url, "--data-dir", str(open_folder), "--no-migrate")
    with process(*flags) as server:
        assert "has the schema (none) and this server needs" in server.line_with("waiting for `cqar migrate`")
        store = Store(database_url)
        store.migrate()
        store.close()
        assert create(server.target, "c") == 1


def test_waiting_for_the_schema_ends_with_a_signal(database_url: str, open_folder: Path) -> None:
    """A server that waits stops as cleanly as one that serves."""
    with process("--database", database_url, "--data-dir", str(open_folder), "--no-migrate") as server:
        server.line_with("waiting for `cqar migrate`")
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
        assert "Traceback" not in "".join(server.lines)


def test_waiting_for_the_schema_ends_in_time(database_url: str, open_folder: Path) -> None:
    """After `migrate_wait` seconds the start fails with what to do."""
    with (
        pytest.raises(PreconditionError, match="run `cqar migrate`") as caught,
        servers(database_url, open_folder, 1, migrate=False, migrate_wait=0.1),
    ):
        pass
    assert caught.value.reason == "SCHEMA_OLDER"


@pytest.mark.parametrize("migrate", [True, False])
def test_a_schema_of_the_future_is_refused_at_once(migrated_url: str, open_folder: Path, migrate: bool) -> None:
    """A server does not work on, or wait for, what it does not know."""
    with psycopg.connect(migrated_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with (
        pytest.raises(PreconditionError, match="upgrade cqar") as caught,
        servers(migrated_url, open_folder, 1, migrate=migrate),
    ):
        pass
    assert caught.value.reason == "SCHEMA_NEWER"


def test_more_connections_than_the_database_allows_are_told(
    migrated_url: str, open_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The start says how many may be needed, how many there are, and what to change; fewer workers need no warning."""
    with servers(migrated_url, open_folder, 1):
        assert "connections" not in caplog.text
    with servers(migrated_url, open_folder, 1, workers=400):
        assert "this server may need 412 connections and the database allows 100 in all" in caplog.text


def test_the_embedded_database_allows_what_its_server_needs(
    open_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With many workers the embedded PostgreSQL is started with more connections; people have some of them, too."""
    config = Config(listen="127.0.0.1:0", data_dir=open_folder, snapshot_interval=0, workers=150)
    with running_server(config) as server:
        create(server.target, "c")
        assert server.server._postgres is not None
        with psycopg.connect(server.server._postgres.url) as connection:
            assert connection.execute("SHOW max_connections").fetchone() == ("182",)
    assert "max_connections" not in caplog.text


# --- trimming the log


def filled(store: Store, count: int) -> None:
    """Commit chains, each in a batch of its own."""
    for number in range(count):
        with store.transaction(actor="test") as tx:
            tx.put(Chain(chain_id=f"c{number}", name="c", namespace="test"))


def age(url: str, *positions: int) -> None:
    """Let batches be of last month."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE batches SET committed_at = committed_at - interval '30 days' WHERE position = ANY (%s)",
            [list(positions)],
        )


def logged(url: str) -> list[int]:
    """Give the positions that the log still has, proved to have all of their changes."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # a trim may come between the two
        batches = connection.execute("SELECT position FROM batches ORDER BY 1").fetchall()
        changes = connection.execute("SELECT DISTINCT position FROM changes ORDER BY 1").fetchall()
    assert batches == changes
    return [position for (position,) in batches]


def test_the_log_is_trimmed_from_its_start_only(
    store: Store, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes ends before the bound and before the first batch that is young, even if an older one follows it."""
    monkeypatch.setattr("cqar.server.store.TRIMMED_AT_ONCE", 2)
    filled(store, 12)
    age(migrated_url, 1, 2, 3, 4, 5, 7, 8)
    yesterday = store.now() - timedelta(days=1)
    assert store.trim(3, yesterday) == 2
    assert logged(migrated_url) == list(range(3, 13))
    assert store.trim(12, yesterday) == 3
    assert store.trim(12, yesterday) == 0
    assert logged(migrated_url) == list(range(6, 13))


def test_a_log_that_is_trimmed_while_it_is_read_has_expired(store: Store, migrated_url: str) -> None:
    """A follower that is overtaken by the trimming is told to load a snapshot, not that the log is broken."""
    filled(store, 5)

    class Overtaken(Store):
        def batches(self, after: int, limit_changes: int) -> list[Batch]:
            self.trim(4, self.now())
            return super().batches(after, limit_changes)

    overtaken = Overtaken(migrated_url)
    token = FeedToken(log_id=store.head().log_id, position=1, chain=store.chain_at(1) or b"")

    async def follow_it() -> None:
        feed = Feed(overtaken, poll_interval=1, heartbeat_interval=1)
        await feed.start()
        try:
            async for _ in feed.watch(token):
                pass
        finally:
            await feed.stop()

    with pytest.raises(PositionExpiredError) as caught:
        asyncio.run(follow_it())
    assert caught.value.reason == "POSITION_EXPIRED"
    overtaken.close()


def test_an_expected_position_from_before_the_trimmed_log_is_refused(store: Store) -> None:
    """Whether the record was written since cannot be known any more, so nothing is overwritten; a fresh look helps."""
    with store.transaction(actor="test") as tx:
        asset = tx.put(Asset(symbol="A", name="A", asset_type=AssetType.TOKEN))
    filled(store, 5)
    store.trim(4, store.now())
    with pytest.raises(StaleError) as caught, store.transaction(actor="test") as tx:
        required_for_update(tx, ASSET, asset.asset_id, "asset_id", 1)
    assert caught.value.metadata["position"] == "3"
    with store.transaction(actor="test") as tx:
        required_for_update(tx, ASSET, asset.asset_id, "asset_id", 6)


def test_the_log_is_kept_for_ever_unless_asked(store: Store, migrated_url: str, open_folder: Path) -> None:
    """By default an exporter publishes and prunes, and the log, which is the audit trail, stays whole."""
    filled(store, 5)
    age(migrated_url, *range(1, 6))
    folder = open_folder / "0" / "snapshots"
    with servers(migrated_url, open_folder, 1, snapshot_interval=0.05) as (server,):
        eventually(lambda: snapshot.paths(folder) and newest(folder) == 5)
        for position in (6, 7):  # the round of 7 comes after whatever that of 6 did last
            create(server.target, f"new-{position}")
            eventually(partial(is_newest, folder, position))
    assert logged(migrated_url) == list(range(1, 8))


def is_newest(folder: Path, position: int) -> bool:
    """Tell whether the newest snapshot is of this position."""
    return newest(folder) == position


def newest(folder: Path) -> int:
    """Give the position of the newest snapshot."""
    return snapshot.latest(folder).manifest.position


def test_a_client_behind_a_trimmed_log_reloads_and_loses_nothing(
    store: Store, migrated_url: str, open_folder: Path, tmp_path: Path
) -> None:
    """With `log_keep` the log goes back to the oldest snapshot of before; who is further behind starts from a new one."""
    folder = open_folder / "0" / "snapshots"
    with servers(migrated_url, open_folder, 1, snapshot_interval=0.05, log_keep=1, heartbeat_interval=0.1) as (server,):
        create(server.target, "first")
        eventually(lambda: snapshot.paths(folder) and newest(folder) == 1)
        with connect(server.target, replica_dir=tmp_path / "replica") as client:
            assert [chain.chain_id for chain in client.list_chains()] == ["first"]
        token = snapshot.latest(folder).manifest.head
        create(server.target, *[f"c{number}" for number in range(20)])
        eventually(lambda: newest(folder) == 21)
        for path in snapshot.paths(folder)[1:]:
            shutil.rmtree(path)  # as if it were a day later
        age(migrated_url, *range(1, 21))
        create(server.target, "last")
        eventually(lambda: logged(migrated_url) == [21, 22])
    # Another server: the first still had everything in memory.
    with servers(migrated_url, open_folder, 1, snapshots=str(folder), heartbeat_interval=0.1) as (server,):
        with pytest.raises(grpc.RpcError) as caught:
            follow(server.target, token, 22)
        status: Any = caught.value
        error = wire.error_from_status(status.code(), status.details(), status.trailing_metadata())
        assert isinstance(error, PositionExpiredError)
        assert error.reason == "POSITION_EXPIRED"
        for replica in ("replica", "new"):
            with connect(server.target, replica_dir=tmp_path / replica) as client:
                client.wait_for(22)
                assert len(client.list_chains()) == 22


# --- behind a pooler


class Pooler(socketserver.ThreadingTCPServer):
    """What PgBouncer does to a session, as far as a client can see it: the process that it is promised is none."""

    allow_reuse_address = True
    daemon_threads = True
    database_socket = ""


class PooledSession(socketserver.BaseRequestHandler):
    """Passes bytes on, with the process id in the greeting replaced."""

    server: Pooler

    def handle(self) -> None:
        """Serve one client to its end."""
        with socket.socket(socket.AF_UNIX) as database:
            database.connect(self.server.database_socket)
            names = {database: self.request, self.request: database}
            while True:
                for source in select.select(list(names), [], [])[0]:
                    data = source.recv(65_536)
                    if not data:
                        return
                    names[source].sendall(
                        re.sub(rb"K\x00\x00\x00\x0c....", b"K\x00\x00\x00\x0c\x00\x00\x00\x07", data, flags=re.DOTALL)
                    )


def test_a_pooler_is_told_of_once_and_hurts_nothing(
    store: Store,
    migrated_url: str,
    open_folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where sessions may not be its own, a server says so once for each use, and goes on."""
    monkeypatch.setattr("cqar.server.dedicated._told", set())
    address = conninfo_to_dict(migrated_url)
    with Pooler(("127.0.0.1", 0), PooledSession) as pooler:
        pooler.database_socket = f"{address['host']}/.s.PGSQL.5432"
        serving = threading.Thread(target=pooler.serve_forever, args=(0.01,))
        serving.start()
        url = f"postgresql://postgres@127.0.0.1:{pooler.server_address[1]}/{address['dbname']}?sslmode=disable&gssencmode=disable"
        with servers(url, open_folder, 2, poll_interval=0.1, snapshot_interval=NEVER) as (first, second):
            create(first.target, "c")
            assert [batch.position for batch in follow(second.target, start_of(store), 1)] == [1]
            eventually(lambda: len(sessions(migrated_url, "listen")) == 2)
            eventually(lambda: caplog.text.count("a pooler stands before the database") == 4)
        pooler.shutdown()
        serving.join()
    told = [record.args for record in caplog.records if "a pooler stands before" in record.message]
    assert len({*told}) == len(told) == 4
