"""Who publishes a feed at NATS as the relay of a server does, step by step, and whatever else a test wants to be there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from nats.js.api import StreamConfig

from cqar import broker, wire
from cqar.model import Batch, FeedToken
from cqar.v1 import types_pb2
from cqar.v1.replication_pb2 import Heartbeat, WatchChangesResponse
from tests.worlds import LOG_ID, NOW, chain_hash

T = TypeVar("T")


def token(position: int, log_id: str = LOG_ID) -> FeedToken:
    """Give where the log of these tests is at a position."""
    return FeedToken(log_id=log_id, position=position, chain=chain_hash(position))


def batch(position: int) -> types_pb2.Batch:
    """Give a batch of that log, without changes."""
    return wire.batch_to_wire(Batch(position=position, chain=chain_hash(position), committed_at=NOW, changes=()))


class Publisher:
    """One session of a publisher. `answers` is cleared by who wants it to be deaf."""

    def __init__(self, url: str, log_id: str = LOG_ID) -> None:
        self.log_id, self.session = log_id, uuid4().hex
        self.answers, self.slowness = True, 0.0
        self.asked = 0
        self._began = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._nats: Any = self._do(broker.connected(broker.address(url, "url"), "publisher"))
        self._do(self._nats.subscribe(f"{broker.CALL}.{self.session}", cb=self._answer))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(15)

    async def _answer(self, question: Any) -> None:
        self.asked += 1
        if self.answers:
            told = f"{self.ago():.3f}".encode()
            await asyncio.sleep(self.slowness)
            await question.respond(told)

    def ago(self) -> float:
        """Give how many milliseconds ago this session began."""
        return (time.monotonic() - self._began) * 1000

    # --- the stream

    def make(self, **settings: Any) -> None:
        """Make the stream."""
        config = StreamConfig(name=broker.FEED_STREAM, subjects=[broker.BATCHES], **settings)
        self._do(self._nats.jetstream().add_stream(config))

    def remove(self) -> None:
        """Remove the stream."""
        self._do(self._nats.jetstream().delete_stream(broker.FEED_STREAM))

    def purge(self, keep: int | None = None) -> None:
        """Empty the stream, but for so many messages at its end."""
        self._do(self._nats.jetstream().purge_stream(broker.FEED_STREAM, keep=keep))

    def delete_consumers(self) -> None:
        """Take the consumers away from all followers."""
        context = self._nats.jetstream()
        for each in self._do(context.consumers_info(broker.FEED_STREAM)):
            self._do(context.delete_consumer(broker.FEED_STREAM, each.name))

    def publish(
        self,
        *batches: types_pb2.Batch,
        parts: int = 1,
        only: int | None = None,
        beat: float | None = None,
        head: int | None = None,
        **headers: str,
    ) -> None:
        """Add a message, in parts, of which `only` the first so many arrive.

        `beat` is how many milliseconds after the session's beginning its heartbeat is of; otherwise of now. `head` is what it
        tells; otherwise the last batch. Headers are those of a truthful publisher but for `after`, `upto` and `log`.
        """
        first, last = batches[0].position, batches[-1]
        upto = FeedToken(log_id=self.log_id, position=last.position, chain=last.chain)
        told = {
            broker.LOG: headers.get("log", self.log_id),
            broker.AFTER: headers.get("after", broker.mark(token(first - 1))),
            broker.UPTO: headers.get("upto", broker.mark(upto)),
            broker.SESSION: self.session,
        }
        as_of = int(self.ago() if beat is None else beat)
        response = WatchChangesResponse(
            batches=batches, heartbeat=Heartbeat(head_position=head or last.position, as_of_ms=as_of)
        )
        data = response.SerializeToString()
        size = -(-len(data) // parts)
        context = self._nats.jetstream()
        for number in range(1, (parts if only is None else only) + 1):
            piece = data[(number - 1) * size : number * size]
            part = {} if parts == 1 else {broker.PART: f"{number}/{parts}"}
            self._do(context.publish(broker.BATCHES, piece, headers={**told, **part}))

    def publish_all(self, positions: Sequence[int]) -> None:
        """Add a message for each position."""
        for position in positions:
            self.publish(batch(position))

    def litter(self, subject: str, data: bytes, **headers: str) -> None:
        """Send anything to a subject."""
        self._do(self._nats.publish(subject, data, headers=headers or None))
        self._do(self._nats.flush())

    # --- heartbeats

    def beat(
        self, head: int, ms: float | None = None, log_id: str | None = None, upto: FeedToken | None = None
    ) -> None:
        """Tell where the head is, as of so many milliseconds after the session's beginning; otherwise of now."""
        told = Heartbeat(head_position=head, as_of_ms=int(self.ago() if ms is None else ms))
        headers = {broker.LOG: log_id or self.log_id, broker.SESSION: self.session}
        if upto is not None:
            headers[broker.UPTO] = broker.mark(upto)
        data = WatchChangesResponse(heartbeat=told).SerializeToString()
        self._do(self._nats.publish(broker.HEARTBEATS, data, headers=headers))
        self._do(self._nats.flush())

    def close(self) -> None:
        """End the session."""
        self._do(self._nats.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
