"""A stream of NATS JetStream with one publisher.

Every message says which one must be the last before it. So however many are on their way, they come in order or not at all, and
a publisher that others have overtaken is refused; only the last of many is acknowledged, which stands for all.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import nats.errors
import nats.js.errors
from nats.js import api

from cqar import broker
from cqar.errors import PreconditionError, UnavailableError
from cqar.server.relay import Last, Message

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

log = logging.getLogger(__name__)

_SECONDS: Final = 10.0  # for an answer
_DUPLICATES: Final = 120.0  # seconds in which NATS itself knows a message again
_HEADER_ROOM: Final = 2_048  # bytes of a message that headers may take
_AT_ONCE: Final = 4 << 20  # bytes that are on their way unacknowledged
_ID: Final = api.Header.MSG_ID.value
_EXPECTED: Final = api.Header.EXPECTED_LAST_SEQUENCE.value


class _Ack(msgspec.Struct):
    """What JetStream says to a message."""

    seq: int = 0
    duplicate: bool = False
    error: dict[str, Any] | None = None


class NatsStream:
    """An open stream, for one publisher. To be used in one event loop."""

    def __init__(self, connection: Client, name: str, shown: str) -> None:
        self.empty = False
        self.room = connection.max_payload - _HEADER_ROOM
        self._connection, self._name, self._shown = connection, name, shown
        self._context = connection.jetstream(timeout=_SECONDS)
        self._sequence = 0  # of the last message

    async def open(self, config: api.StreamConfig) -> None:
        """Find where the stream ends; make it if it is not there."""
        with self._translated():
            try:
                info = await self._context.stream_info(self._name)
            except nats.js.errors.NotFoundError:
                info = await self._context.add_stream(config)
                log.info("made the stream %s at %s", self._name, self._shown)
        if missing := set(config.subjects or ()) - set(info.config.subjects or ()):
            raise PreconditionError(
                f"the stream {self._name} at {self._shown} does not take {', '.join(sorted(missing))}: correct or remove it",
                reason="STREAM",
            )
        self._sequence = info.state.last_seq
        self.empty = self._sequence == 0

    async def last(self) -> Last | None:
        """Give the last message; None if there is none, or none any more."""
        with self._translated():
            try:
                found = await self._context.get_msg(self._name, seq=self._sequence) if self._sequence else None
            except nats.js.errors.NotFoundError:
                return None
        if found is None:
            return None
        headers = dict(found.headers or {})
        return Last(headers.get(_ID, ""), headers)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Add messages in their order. Refused if others than these were added since `last`, or what was there has gone."""
        size = 0
        for number, each in enumerate(messages, start=1):
            size += len(each.data) + _HEADER_ROOM
            headers = {**each.headers, _ID: each.id, _EXPECTED: str(self._sequence)}
            with self._translated():
                if size < _AT_ONCE and number < len(messages):
                    await self._connection.publish(each.subject, each.data, headers=headers)
                else:
                    size = 0
                    answer = await self._connection.request(each.subject, each.data, timeout=_SECONDS, headers=headers)
                    self._acknowledged(each, answer.data)
            self._sequence += 1

    def _acknowledged(self, message: Message, answer: bytes) -> None:
        ack = msgspec.json.decode(answer, type=_Ack)
        if ack.error is not None or ack.seq != self._sequence + 1 or ack.duplicate:
            why = "it is there already" if ack.error is None else ack.error.get("description", "no reason given")
            raise UnavailableError(f"{self._shown} did not take {message.id}: {why}", reason="NOT_TAKEN")

    async def check(self) -> None:
        """See that the stream ends where this publisher left it."""
        with self._translated():
            info = await self._context.stream_info(self._name)
        if info.state.last_seq != self._sequence:
            raise UnavailableError(
                f"the stream {self._name} at {self._shown} does not end where it was left", reason="STREAM_MOVED"
            )

    async def purge(self) -> None:
        """Remove all messages."""
        with self._translated():
            await self._context.purge_stream(self._name)

    async def tell(self, subject: str, headers: Mapping[str, str], data: bytes) -> None:
        """Tell whoever listens now; nothing is stored."""
        with self._translated():
            await self._connection.publish(subject, data, headers=dict(headers))

    async def answer(self, subject: str, reply: Callable[[], Awaitable[bytes]]) -> None:
        """Answer requests for as long as the stream is open."""

        async def respond(question: Msg) -> None:
            with self._translated():
                await question.respond(await reply())

        with self._translated():
            await self._connection.subscribe(subject, cb=respond)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except nats.js.errors.APIError as error:
            raise UnavailableError(f"{self._shown} refuses: {error.description}", reason="BROKER") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise UnavailableError(f"{self._shown} does not answer: {said}", reason="BROKER") from error


@asynccontextmanager
async def opened(
    address: broker.Address, name: str, subjects: Sequence[str], *, replicas: int, days: float
) -> AsyncIterator[NatsStream]:
    """Open a stream, and make it if need be: on disk, with so many replicas, for messages of so many days."""
    connection = await broker.connected(address, "cqar relay")
    try:
        stream = NatsStream(connection, name, address.shown)
        await stream.open(
            api.StreamConfig(
                name=name,
                subjects=list(subjects),
                storage=api.StorageType.FILE,
                num_replicas=replicas,
                max_age=days * 86_400,
                duplicate_window=min(_DUPLICATES, days * 86_400),
                allow_direct=True,
            )
        )
        yield stream
    finally:
        await connection.close()
