"""A Redis that is frozen, killed, emptied, started anew or full: answers stay right, and calls hardly notice.

Each test prints what it measured; it fails for wrong answers, for calls that fail, and for more calls than may wait for Redis.
"""

from __future__ import annotations

import logging
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from cqar.errors import InvalidError
from cqar.model import Asset, AssetType
from cqar.server.cache import TIMEOUT
from cqar.server.config import Config
from cqar.server.server import running_server
from tests.caching import Question, RedisServer, Server, asset, running, symbol, told, tradable, until
from tests.conftest import temporary_folder

ASSETS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(40)]
QUESTIONS: list[Question] = [
    question
    for number, asset_id in enumerate(ASSETS)
    for question in (asset(asset_id), symbol(f"S{number}"), tradable(asset_id))
]
CALLERS = 4
SECONDS = 2.0  # that each state is watched for
MAY_WAIT = (
    12  # calls: those under way when Redis fails, of at most six threads, the writer, and those that begin meanwhile
)


class Call(NamedTuple):
    """One call that was made."""

    begun: float
    seconds: float


class Load:
    """Callers that ask all the time and check every answer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._expected = [answer.content for answer in server.answers(QUESTIONS)]
        self._stopped = threading.Event()
        self._calls: list[Call] = []
        self._wrong: list[object] = []
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(CALLERS)]

    def _run(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._stopped.is_set():
            index = rng.randrange(len(QUESTIONS))
            begun = time.monotonic()
            answer = told(self._server.ask_all([QUESTIONS[index]])[0])
            self._calls.append(Call(begun, time.monotonic() - begun))
            if answer.content != self._expected[index]:
                self._wrong.append((QUESTIONS[index], answer))

    @contextmanager
    def going(self) -> Iterator[Load]:
        """Ask while the block runs; no answer may be wrong."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()
        assert not self._wrong

    def watch(self, what: str, seconds: float = SECONDS) -> None:
        """Let it go on for a while, and print how long calls took."""
        cache = self._server.remembered
        begun, before = time.monotonic(), cache.outcomes.copy() if cache else None
        time.sleep(seconds)
        taken = sorted([call.seconds for call in list(self._calls) if call.begun >= begun])
        assert len(taken) >= 20, f"calls hang: {what}"
        cuts = statistics.quantiles(taken, n=100)
        outcomes = cache.outcomes - before if cache and before is not None else {}
        line = f"{what:28} {len(taken):6} calls, p50 {cuts[49] * 1e3:6.1f} ms, p99 {cuts[98] * 1e3:6.1f} ms,"
        sys.stderr.write(f"\n{line} worst {taken[-1] * 1e3:6.1f} ms, {dict(outcomes)}")
        assert taken[-1] < 5.0, f"a call hangs: {what}"


@pytest.fixture
def server(database_url: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[Server]:
    """Run a server with a Redis and some assets."""
    with running(database_url, redis_server.url, tmp_path, timeout=TIMEOUT) as server:
        server.tell(*[named(number) for number in range(len(ASSETS))])
        server.caught_up(server.store.head().position)
        yield server


def named(number: int, name: str = "") -> Asset:
    """Give one of the assets."""
    return Asset(asset_id=ASSETS[number], symbol=f"S{number}", name=name or "n", asset_type=AssetType.TOKEN)


def renamed_at_once(server: Server) -> None:
    """Rename assets that no caller asks for, and see it at once."""
    for number in range(3):
        other = Asset(
            asset_id=f"ffffffff-0000-4000-8000-{number:012x}", symbol="OTHER", name="one", asset_type=AssetType.TOKEN
        )
        server.tell(other)
        assert server.ask(*asset(other.asset_id)).asset.name == "one"
        server.tell(Asset(asset_id=other.asset_id, symbol="OTHER", name="two", asset_type=AssetType.TOKEN))
        assert server.ask(*asset(other.asset_id)).asset.name == "two"


def hits_again(server: Server) -> None:
    """Wait for answers from Redis; prints how long it took."""
    begun, hits = time.monotonic(), server.hits()
    until(lambda: server.hits() > hits, "Redis is not used again")
    sys.stderr.write(f"\nhits again after {time.monotonic() - begun:.2f} s")


def freeze(redis_server: RedisServer) -> None:
    """Stop it where it stands: connections stay open and nothing is answered."""
    redis_server.signal(signal.SIGSTOP)


def thaw(redis_server: RedisServer) -> None:
    """Let it go on."""
    redis_server.signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("fail", "mend"),
    [(freeze, thaw), (RedisServer.kill, RedisServer.start)],
    ids=["frozen", "killed"],
)
def test_without_an_answer_from_redis_calls_go_on(
    server: Server,
    redis_server: RedisServer,
    fail: Callable[[RedisServer], None],
    mend: Callable[[RedisServer], None],
) -> None:
    """A few calls wait for 0.1 s at most, the others not at all, no answer is wrong, and hits come back."""
    with Load(server).going() as load:
        hits_again(server)
        load.watch("Redis answers")
        errors = server.cache.outcomes["error"]
        fail(redis_server)
        load.watch("Redis has just failed", 1.0)
        renamed_at_once(server)
        load.watch("Redis has failed")
        assert 0 < server.cache.outcomes["error"] - errors <= MAY_WAIT
        trouble = server.cache.trouble
        assert trouble is not None
        mend(redis_server)
        hits_again(server)
        load.watch("Redis answers again")
        assert server.cache.trouble is None
        renamed_at_once(server)


def test_an_emptied_or_restarted_redis_fills_again(server: Server, redis_server: RedisServer) -> None:
    """Nothing is lost with what was remembered but hits."""
    with Load(server).going() as load:
        hits_again(server)
        load.watch("Redis answers")
        redis_server.client.flushall()
        load.watch("Redis was emptied", 1.0)
        redis_server.kill()
        redis_server.start()
        renamed_at_once(server)
        hits_again(server)
        load.watch("Redis was restarted", 1.0)


def test_a_full_redis_is_read_and_not_given_up(
    server: Server, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis that refuses writes still gives what it has, and what it has not is answered without it."""
    with Load(server).going() as load:
        hits_again(server)
        load.watch("Redis answers")
        redis_server.client.config_set("maxmemory", 1)
        renamed_at_once(server)
        until(lambda: server.cache.outcomes["refused"], "Redis takes writes though it is full")
        hits = server.hits()
        load.watch("Redis is full", 1.0)
        assert server.hits() > hits
    said = [record.getMessage() for record in caplog.records if "OOM" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("Redis does not take a write")


def test_without_redis_for_comparison(database_url: str, tmp_path: Path) -> None:
    """The same callers, and a server that has no Redis."""
    with running(database_url, "", tmp_path) as server:
        server.tell(*[named(number) for number in range(len(ASSETS))])
        with Load(server).going() as load:
            load.watch("no Redis")


# --- from the start ------------------------------------------------------------------------------------------------------


def test_a_server_starts_without_its_redis_and_uses_it_when_it_is_there(
    database_url: str, open_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An unreachable Redis is a warning, in which no password stands; no call waits for it."""
    redis_server = RedisServer(open_folder)
    url = redis_server.url.replace("unix://", "unix://:geheim@")
    with caplog.at_level(logging.INFO), running(database_url, url, tmp_path) as server:
        assert "Redis is not used until it answers" in caplog.text
        server.tell(named(0))
        assert server.ask(*asset(ASSETS[0])).asset.symbol == "S0"
        assert server.cache.outcomes["error"] == 1
        redis_server = RedisServer(open_folder, "--requirepass", "geheim")
        try:
            redis_server.start()
            until(lambda: server.cache.trouble is None, "Redis is not used")
            server.ask(*asset(ASSETS[0]))
            until(lambda: server.ask(*asset(ASSETS[0])) and server.hits(), "there are no hits")
        finally:
            redis_server.kill()
    assert "geheim" not in caplog.text


@pytest.mark.parametrize("credentials", ["", ":falsch@", "niemand:falsch@"])
def test_a_redis_that_wants_another_password_is_a_clear_warning(
    database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, credentials: str
) -> None:
    """The log says that Redis refuses, once, and never with which password; calls are answered."""
    with temporary_folder() as folder:
        redis_server = RedisServer(folder, "--requirepass", "geheim")
        redis_server.start()
        try:
            url = redis_server.url.replace("unix://", f"unix://{credentials}")
            with caplog.at_level(logging.INFO), running(database_url, url, tmp_path) as server:
                server.tell(named(0))
                until(lambda: server.ask(*asset(ASSETS[0])) and server.cache.outcomes["skipped"] > 3, "not skipped")
        finally:
            redis_server.kill()
    warnings = [record.getMessage() for record in caplog.records if "Redis" in record.getMessage()]
    assert len(warnings) == 1
    assert "Authentication" in warnings[0]
    assert "falsch" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://:geheim@localhost",
        "redis://:geheim@localhost:port",
        "redis://:geheim@[::1",
        "redis://:geheim@localhost?socket_timeout=30",
        "redis://:geheim@localhost?decode_responses=true",
        "redis://:geheim@localhost?ssl_nothing=1",
        "redis://:geheim@localhost?db=geheim",
    ],
)
def test_a_url_that_is_none_is_refused_before_anything_starts(url: str, tmp_path: Path) -> None:
    """The error names the flag and the variable, and not what was given; no database is started for it."""
    with (
        pytest.raises(InvalidError) as caught,
        running_server(Config(redis=url, listen="127.0.0.1:0", data_dir=tmp_path)),
    ):
        raise AssertionError("it was accepted")
    assert caught.value.reason == "REDIS_URL"
    assert "--redis (CQAR_REDIS): " in caught.value.message
    assert "geheim" not in caught.value.message
    assert not list(tmp_path.iterdir())
