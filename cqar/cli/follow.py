"""The events as they come, from whoever has them: a NATS, a Redis, or a server's own feed.

Each source first gives what there is already, if that is wanted, then what comes, for ever. A connection that is lost is made anew,
and goes on behind the last event that was given; only the first one has to succeed, for an address may be mistyped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, Final

from cqar import broker
from cqar.cli import output
from cqar.errors import InvalidError, UnavailableError
from cqar.events import Event, type_of
from cqar.model import Batch, FeedToken

if TYPE_CHECKING:
    from cqar.client._remote import Remote

_WAIT: Final = 1.0  # seconds between two looks at whether the connection is still there
_PAUSE: Final = (0.2, 5.0)  # seconds: the first after a lost connection, and the longest


def events(url: str, *, everything: bool) -> AsyncGenerator[Event, None]:
    """Follow a broker; raises InvalidError for an address that is none, and UnavailableError if it is not there at first."""
    if url.startswith(broker.REDIS):
        return _Redis(url, everything=everything).follow()
    return _Nats(url, everything=everything).follow()


class _Source:
    """What sources share: they come back."""

    async def follow(self) -> AsyncGenerator[Event, None]:
        """Give the events for ever."""
        first, longest = _PAUSE
        pause = first
        while True:
            try:
                async with contextlib.aclosing(self._open()) as opened:
                    async for data in opened:
                        pause = first
                        if (event := _decoded(data)) is not None:
                            yield event
            except UnavailableError as error:
                if not self._opened:
                    raise
                output.note(f"{error.message}; trying again")
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    _opened = False  # once at least

    def _open(self) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError


class _Nats(_Source):
    def __init__(self, url: str, *, everything: bool) -> None:
        self._address = broker.address(url, "broker")
        self._next: int | None = 1 if everything else None  # sequence to go on at

    async def _open(self) -> AsyncGenerator[bytes, None]:
        lost = asyncio.Event()

        async def on_lost() -> None:
            lost.set()

        connection = await broker.connected(self._address, "cqar events tail", on_lost=on_lost)
        import nats.errors  # noqa: PLC0415
        import nats.js.errors  # noqa: PLC0415
        from nats.js.api import ConsumerConfig, DeliverPolicy  # noqa: PLC0415

        try:
            context = connection.jetstream()
            state = (await context.stream_info(broker.EVENTS_STREAM)).state
            if self._next is None or self._next > state.last_seq + 1:  # a stream that was made anew begins again
                self._next = state.last_seq + 1 if self._next is None else 1
            start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self._next)
            subscription = await context.subscribe(f"{broker.EVENTS}.>", ordered_consumer=True, config=start)
            self._opened = True
            while not lost.is_set():
                with contextlib.suppress(TimeoutError):
                    message = await subscription.next_msg(timeout=_WAIT)
                    self._next = message.metadata.sequence.stream + 1
                    yield message.data
            raise UnavailableError(f"{self._address.shown}: the connection was lost", reason="BROKER")
        except nats.js.errors.NotFoundError:
            raise UnavailableError(
                f"{self._address.shown} has no stream {broker.EVENTS_STREAM}: no server publishes there"
                " (cqar serve --events URL)",
                reason="NO_STREAM",
            ) from None
        except (nats.errors.Error, OSError) as error:
            raise UnavailableError(f"{self._address.shown}: {error}", reason="BROKER") from error
        finally:
            await connection.close()


class _Redis(_Source):
    def __init__(self, url: str, *, everything: bool) -> None:
        self._url = url
        self._last = "0-0" if everything else "$"  # id of the last entry that was given

    async def _open(self) -> AsyncGenerator[bytes, None]:
        import redis.asyncio  # noqa: PLC0415

        try:
            client = redis.asyncio.from_url(self._url, socket_timeout=5 * _WAIT, socket_connect_timeout=5 * _WAIT)
        except ValueError as error:
            raise InvalidError(f"broker: {error}", reason="BROKER", field="broker") from None
        try:
            end = await self._end(client)
            if self._last == "$":
                self._last = end
            self._opened = True
            while True:
                found: Any = await client.xread({broker.EVENTS: self._last}, count=100, block=int(_WAIT * 1000))
                for name, fields in found[0][1] if found else ():
                    self._last = name.decode()
                    yield fields[b"data"]
        except (redis.exceptions.RedisError, OSError) as error:
            raise UnavailableError(f"Redis: {' '.join(str(error).split())}", reason="BROKER") from error
        finally:
            await client.aclose()

    @staticmethod
    async def _end(client: Any) -> str:
        newest = await client.xrevrange(broker.EVENTS, count=1)
        return newest[0][0].decode() if newest else "0-0"


def _decoded(data: bytes) -> Event | None:
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    from cqar import wire  # noqa: PLC0415
    from cqar.v1 import events_pb2  # noqa: PLC0415

    try:
        return wire.event_from_wire(events_pb2.Event.FromString(data))
    except (InvalidError, DecodeError) as error:
        output.note(f"left out an event that this version cannot read: {error}")
        return None


def changes(remote: Remote, *, everything: bool) -> Generator[Event, None, None]:
    """Follow a server's feed, which tells neither who wrote something nor what was there before.

    Raises what the server says, also when the connection is lost.
    """
    from cqar.client._feed import frame_from_wire  # noqa: PLC0415
    from cqar.client._source import ZERO_CHAIN  # noqa: PLC0415

    at = remote.head()
    if everything:
        at = FeedToken(log_id=at.log_id, position=0, chain=ZERO_CHAIN)
    watch = remote.watch(at)
    try:
        for message in watch:
            for received in message.batches:
                yield from _told(at.log_id, frame_from_wire(received).batch)
    finally:
        watch.cancel()


def _told(log_id: str, batch: Batch) -> Generator[Event, None, None]:
    for index, change in enumerate(batch.changes):
        yield Event(
            log_id=log_id,
            position=batch.position,
            index=index,
            time=batch.committed_at,
            actor="",
            type=type_of(change.op, change.kind, change.record, None),
            key=change.key,
            record=change.record,
        )
