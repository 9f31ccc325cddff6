"""Servers, brokers and PostgreSQL killed while writes go on: who follows the events has the change log, exactly, in its order.

`FAULT_ROUNDS` says how often each of them is killed and, with 200 a round, how many writes there are: `make faults` does 10,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from cqar.cli import follow
from cqar.errors import CqarError
from cqar.events import Event
from cqar.model import Asset, AssetType
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.store import Store
from tests.brokers import Broker, NatsServer, committed, told
from tests.faults.audit import check_log
from tests.faults.process import ServerProcess
from tests.faults.test_postgres_killed import kill

ROUNDS = max(2, int(os.environ.get("FAULT_ROUNDS", "5")) // 2 * 2)
WRITES = 200 * ROUNDS if ROUNDS > 5 else 500
WRITERS = 4
PATIENCE = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 20 * ROUNDS)]


class Writers:
    """Threads that write, whatever happens to the database, until as much as is wanted was acknowledged."""

    def __init__(self, url: str) -> None:
        self.count = 0
        self._store = Store(url, pool_size=WRITERS)
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        for each in self._threads:
            each.start()

    def _write(self, number: int) -> None:
        dice = random.Random(number)
        while not self._stopping.is_set():
            try:
                with self._store.transaction(actor=f"writer {number}") as tx:
                    for _ in range(dice.choice((1, 1, 1, 2, 9))):
                        made = tx.put(Asset(symbol=f"A{next(self._numbers)}", name="A", asset_type=AssetType.TOKEN))
                    if dice.random() < 0.2:
                        tx.remove(made)
                self.count += 1
                time.sleep(0.002)  # the kills shall find them at it
            except CqarError:
                time.sleep(0.05)

    def until(self, count: int) -> None:
        """Wait until so many were acknowledged."""
        deadline = time.monotonic() + PATIENCE
        while self.count < count:
            assert time.monotonic() < deadline, "nothing can be written"
            time.sleep(0.005)

    def stop(self) -> None:
        """End them."""
        self._stopping.set()
        for each in self._threads:
            each.join()
        self._store.close()


class Follower:
    """Follows the events in a thread, as `cqar events tail` does; `events` are those that came, each once."""

    def __init__(self, url: str) -> None:
        self.events: dict[str, Event] = {}
        self.copies = 0
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._follow())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _follow(self) -> None:
        async with contextlib.aclosing(follow.events(self._url, everything=True)) as told_:
            async for event in told_:
                self.copies += event.event_id in self.events
                self.events.setdefault(event.event_id, event)

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()


def test_who_follows_has_the_log_whoever_was_killed(broker_server: Broker, open_folder: Path) -> None:
    """The publishing server, the broker and the database die in turns: nothing is lost, nothing out of order, nothing invented."""
    dice = random.Random(7)
    names = itertools.count()
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(open_folder / "pg", fsync=True))
        store = Store(postgres.url)
        store.migrate()
        store.close()

        def server() -> ServerProcess:
            flags = ("--database", postgres.url, "--data-dir", str(open_folder / "data"), "--snapshot-interval", "0")
            process = ServerProcess(open_folder / f"log-{next(names)}", *flags, "--events", broker_server.url)
            stack.callback(process.stop)
            return process

        servers = [server(), server()]
        for each in servers:
            each.wait_for_target()
        with psycopg.connect(postgres.url) as connection:  # so that a follower has something to begin with
            assert connection.execute("SELECT position FROM clock").fetchone() == (0,)
        writers = Writers(postgres.url)
        stack.callback(writers.stop)
        writers.until(1)
        _until(lambda: bool(broker_server.events()), "the first is published")
        follower = Follower(broker_server.url)
        stack.callback(follower.stop)

        def kill_server() -> None:
            victim = dice.randrange(2)
            servers[victim].kill()
            servers[victim] = server()

        def kill_broker() -> None:
            broker_server.kill()
            writers.until(writers.count + 10)
            broker_server.start()

        def kill_database() -> None:
            kill(open_folder / "pg")
            postgres.stop()  # forgets the dead one
            postgres.start()

        for _ in range(ROUNDS):
            for fault in (kill_server, kill_broker, kill_database):
                writers.until(writers.count + WRITES // (3 * ROUNDS))
                fault()
        writers.until(max(WRITES, writers.count + 10))
        writers.stop()
        check_log(postgres.url)
        wanted = committed(postgres.url)
        _until(lambda: len(follower.events) >= len(wanted), "everything has arrived")
        assert told(follower.events.values()) == wanted
        assert told(broker_server.events()) == wanted  # not even once too often
        assert all(each.runs for each in servers)


def test_the_process_of_the_relays_is_started_again_and_ends_with_its_server(
    nats_server: NatsServer, database_url: str, open_folder: Path
) -> None:
    """Killed alone it comes back and goes on; when the server is killed it ends by itself."""
    flags = ("--database", database_url, "--data-dir", str(open_folder / "data"), "--snapshot-interval", "0")
    process = ServerProcess(open_folder / "log", *flags, "--events", nats_server.url)
    store = Store(database_url)
    try:
        process.wait_for_target()
        _until(lambda: len(_children(process.pid)) == 1, "it runs")
        (first,) = _children(process.pid)
        for number in range(2):
            with store.transaction(actor="test") as tx:
                tx.put(Asset(symbol=f"A{number}", name="A", asset_type=AssetType.TOKEN))
            _until(lambda: told(nats_server.events()) == committed(database_url), "what is committed is published")
            if number == 0:
                os.kill(first, signal.SIGKILL)
                _until(lambda: _children(process.pid) not in ([], [first]), "another one runs")
        (second,) = _children(process.pid)
        process.kill()
        _until(lambda: not Path(f"/proc/{second}/cmdline").exists(), "it ends with its server")
    finally:
        store.close()
        process.stop()


def _children(pid: int) -> list[int]:
    """Return the process of the relays of a server, if it runs."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"cqar.server.apart" in (folder / "cmdline").read_bytes():
                status = (folder / "status").read_text()
                if f"PPid:\t{pid}\n" in status:
                    found.append(int(folder.name))
    return found


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
