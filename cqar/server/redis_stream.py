"""A stream of Redis with one publisher.

What is added goes in by one transaction, which Redis refuses if the stream is not as its publisher left it: so entries come in
order and once, whoever else believes to lead. An entry has the fields `id`, `type`, `upto` and `data`, as `cqar.events` means them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cqar.broker import EVENTS, UPTO
from cqar.errors import UnavailableError
from cqar.server.relay import Last, Message

_SECONDS: Final = 5.0  # for an answer
_AT_ONCE: Final = 500  # entries of one transaction


class RedisStream:
    """An open stream, for one publisher. To be used in one event loop."""

    def __init__(self, client: redis.asyncio.Redis, shown: str, days: float) -> None:
        self.empty = False
        self._client, self._shown, self._days = client, shown, days
        self._end = "0-0"  # id of the last entry that ever was

    async def open(self) -> None:
        """Find where the stream ends."""
        with self._translated():
            self._end = await self._ends(self._client)
        self.empty = self._end == "0-0"

    async def last(self) -> Last | None:
        """Give the last entry; None if there is none, or none any more."""
        with self._translated():
            found: Any = await self._client.xrevrange(EVENTS, count=1)
        if not found:
            return None
        fields: dict[str, bytes] = {name.decode(): value for name, value in found[0][1].items()}
        return Last(fields.get("id", b"").decode(), {UPTO: fields.get("upto", b"").decode()})

    async def publish(self, messages: Sequence[Message]) -> None:
        """Add messages in their order. Refused if others than these were added since `last`, or what was there has gone."""
        for start in range(0, len(messages), _AT_ONCE):
            with self._translated():
                await self._add(messages[start : start + _AT_ONCE])

    async def _add(self, messages: Sequence[Message]) -> None:
        async with self._client.pipeline(transaction=True) as pipeline:
            await pipeline.watch(EVENTS)
            await self._same(await self._ends(pipeline))
            pipeline.multi()  # type: ignore[no-untyped-call]
            for each in messages:
                fields: dict[Any, Any] = {
                    "id": each.id,
                    "type": each.subject.removeprefix(f"{EVENTS}."),
                    "upto": each.headers[UPTO],
                    "data": each.data,
                }
                pipeline.xadd(EVENTS, fields)
            seconds, _ = await self._client.time()
            pipeline.xtrim(EVENTS, minid=f"{(seconds - int(self._days * 86_400)) * 1000}-0", approximate=True)
            *added, _ = await pipeline.execute()
        self._end = added[-1].decode()

    async def check(self) -> None:
        """See that the stream ends where this publisher left it."""
        with self._translated():
            await self._same(await self._ends(self._client))

    async def _same(self, end: str) -> None:
        if end != self._end:
            raise UnavailableError(f"the stream at {self._shown} does not end where it was left", reason="STREAM_MOVED")

    @staticmethod
    async def _ends(client: Any) -> str:
        try:
            info = await client.xinfo_stream(EVENTS)
        except redis.exceptions.ResponseError as error:
            if "no such key" in str(error):
                return "0-0"
            raise
        found: str = info["last-generated-id"].decode()
        return found

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except redis.exceptions.WatchError as error:
            raise UnavailableError(f"another publisher is at {self._shown}", reason="STREAM_MOVED") from error
        except (redis.exceptions.RedisError, OSError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise UnavailableError(f"{self._shown} does not answer: {said}", reason="BROKER") from error


@asynccontextmanager
async def opened(url: str, shown: str, *, days: float) -> AsyncIterator[RedisStream]:
    """Open the stream of the events; entries older than so many days go."""
    client = redis.asyncio.from_url(
        url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, retry=Retry(NoBackoff(), 0)
    )
    try:
        stream = RedisStream(client, shown, days)
        await stream.open()
        yield stream
    finally:
        await client.aclose()
