"""Real brokers that can be frozen and killed, what tests ask them, and what they should hold."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from cqar import broker, wire
from cqar.events import TYPES, Event
from cqar.v1 import events_pb2
from tests.caching import RedisServer, until

T = TypeVar("T")
SUBJECTS = {broker.EVENTS_STREAM: f"{broker.EVENTS}.>", broker.FEED_STREAM: broker.BATCHES}


class Stored(NamedTuple):
    """A message of a stream."""

    subject: str
    headers: dict[str, str]
    data: bytes


def free_port() -> int:
    """Give a port that nobody listens on now; it is taken again after a restart, so it cannot be the server's choice."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


class NatsServer:
    """A NATS that keeps its streams in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or "nats-server"
        self._folder, self.port = folder, free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._command = [program, "--jetstream", "--store_dir", str(folder), "--addr", "127.0.0.1"]
        self._command += ["--port", str(self.port), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and return when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, "NATS does not start")

    def _answers(self) -> bool:
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return None if self._process is None else self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def wipe(self) -> None:
        """Lose all that it has stored. Only while it does not run."""
        shutil.rmtree(self._folder / "jetstream", ignore_errors=True)

    def kill(self) -> None:
        """End it at once, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def do(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run something on a connection of its own."""

        async def run() -> T:
            connection = await broker.connected(broker.address(self.url, "url"), "test")
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(run())

    def streamed(self, stream: str) -> list[Stored]:
        """Give everything that a stream holds."""

        async def read(connection: Any) -> list[Stored]:
            context = connection.jetstream()
            try:
                state = (await context.stream_info(stream)).state
            except NotFoundError:
                return []
            found: list[Stored] = []
            if state.messages:
                start = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
                subscription = await context.subscribe(f"{SUBJECTS[stream]}", ordered_consumer=True, config=start)
                while len(found) < state.messages:
                    message = await subscription.next_msg(timeout=5)
                    found.append(Stored(message.subject, dict(message.headers), message.data))
            return found

        return self.do(read)

    def events(self) -> list[Event]:
        """Give the events that were published."""
        return [_event(each.data, each.headers["Nats-Msg-Id"]) for each in self.streamed(broker.EVENTS_STREAM)]

    def lose(self, stream: str = broker.EVENTS_STREAM) -> None:
        """Remove a stream."""
        self.do(lambda connection: connection.jetstream().delete_stream(stream))

    def empty(self, stream: str = broker.EVENTS_STREAM) -> None:
        """Remove the messages of a stream."""
        self.do(lambda connection: connection.jetstream().purge_stream(stream))


class RedisBroker(RedisServer):
    """A Redis that loses nothing when it is killed."""

    def __init__(self, folder: Path, fsync: str = "always") -> None:
        super().__init__(folder, "--appendonly", "yes", "--appendfsync", fsync)

    def events(self) -> list[Event]:
        """Give the events that were published."""
        found: Any = self.client.xrange(broker.EVENTS)
        return [_event(fields[b"data"], fields[b"id"].decode()) for _, fields in found]

    def lose(self) -> None:
        """Remove the stream."""
        self.client.delete(broker.EVENTS)

    def empty(self) -> None:
        """Remove the messages of the stream."""
        self.client.xtrim(broker.EVENTS, maxlen=0, approximate=False)


Broker = NatsServer | RedisBroker


def _event(data: bytes, event_id: str) -> Event:
    event = wire.event_from_wire(events_pb2.Event.FromString(data))
    assert event.event_id == event_id
    return event


def committed(url: str) -> list[tuple[str, str, str]]:
    """Give what the change log of a database says that there should be: id, kind and key of every event."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT clock.log_id, c.position, c.kind, c.key, c.op,"
            " row_number() OVER (PARTITION BY c.position ORDER BY c.ordinal) - 1"
            " FROM clock, changes AS c ORDER BY c.position, c.ordinal"
        ).fetchall()
    return [(f"{log_id}:{position}:{index}", kind, key) for log_id, position, kind, key, _, index in rows]


def told(events: Iterable[Event]) -> list[tuple[str, str, str]]:
    """Give id, kind and key of events, in their order."""
    return [(event.event_id, TYPES[event.type], event.key) for event in events]
