"""A stream of Redis with one publisher.

What is added goes in by a script, which adds nothing if the stream is not as its publisher left it: so entries come in order and
once, whoever else believes to lead. An entry has the fields `id`, `type`, `upto` and `data`, as `cqar.events` means them.
"""

from __future__ import annotations

import time
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
_AT_ONCE: Final = 500  # entries of one step
_NOTHING: Final = "0-0"
# One step, in which Redis does nothing else: nil if the stream does not end as its publisher believes, else the id of the last of
# the new entries. Arguments: that end, the oldest id to keep, and four values for each entry.
_ADD: Final = """
    local last = '0-0'
    if redis.call('EXISTS', KEYS[1]) == 1 then
        local info = redis.call('XINFO', 'STREAM', KEYS[1])
        for i = 1, #info, 2 do
            if info[i] == 'last-generated-id' then last = info[i + 1] end
        end
    end
    if last ~= ARGV[1] then return nil end
    for i = 3, #ARGV, 4 do
        last = redis.call(
            'XADD', KEYS[1], '*', 'id', ARGV[i], 'type', ARGV[i + 1], 'upto', ARGV[i + 2], 'data', ARGV[i + 3])
    end
    redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[2])
    return last
"""


class RedisStream:
    """An open stream, for one publisher. To be used in one event loop."""

    def __init__(self, client: redis.asyncio.Redis, shown: str, days: float) -> None:
        self.empty = False
        self._client, self._shown, self._days = client, shown, days
        self._end = _NOTHING  # id of the last entry that ever was
        self._script = client.register_script(_ADD)

    async def open(self) -> None:
        """Find where the stream ends."""
        with self._translated():
            self._end = await self._ends()
        self.empty = self._end == _NOTHING

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
        oldest = max(0, int((time.time() - self._days * 86_400) * 1000))
        entries = [
            (each.id, each.subject.removeprefix(f"{EVENTS}."), each.headers[UPTO], each.data) for each in messages
        ]
        added = await self._script(
            keys=[EVENTS], args=[self._end, f"{oldest}-0", *[value for entry in entries for value in entry]]
        )
        if added is None:
            raise self._moved()
        self._end = added.decode()

    async def check(self) -> None:
        """See that the stream ends where this publisher left it."""
        with self._translated():
            if await self._ends() != self._end:
                raise self._moved()

    def _moved(self) -> UnavailableError:
        return UnavailableError(f"the stream at {self._shown} does not end where it was left", reason="STREAM_MOVED")

    async def _ends(self) -> str:
        try:
            info: Any = await self._client.xinfo_stream(EVENTS)
        except redis.exceptions.ResponseError as error:
            if "no such key" in str(error):
                return _NOTHING
            raise
        found: str = info["last-generated-id"].decode()
        return found

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
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
