"""The relay of the feed: for replicas that follow a broker, the messages that a gRPC stream would bring them (`cqar.broker`).

The stream holds one unbroken history. If it ends in another one, or the log no longer has what follows, it is emptied and
begun anew, as far back as the feed is the quicker way for a replica; whoever stood elsewhere loads a snapshot.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from cqar.broker import AFTER, BATCHES, CALL, HEARTBEATS, LOG, PART, SESSION, UPTO, mark, marked
from cqar.errors import InvalidError
from cqar.model import FeedToken
from cqar.server.changes import Feed
from cqar.server.nats_stream import NatsStream
from cqar.server.relay import Last, Message, Relay
from cqar.server.store import Store
from cqar.v1.replication_pb2 import WatchChangesResponse

log = logging.getLogger(__name__)

NAME: Final = "feed"
_BACK: Final = 200_000  # positions that a new stream begins back from the head: further off a snapshot is quicker


class FeedRelay(Relay):
    """Publishes the feed."""

    def __init__(self, store: Store, feed: Feed, opened: Callable[[], AbstractAsyncContextManager[NatsStream]]) -> None:
        """Prepare; `opened` opens the stream for as long as this server leads."""
        super().__init__(NAME, store, feed)
        self._opened = opened

    async def _publish(self) -> None:
        async with self._opened() as stream:
            at = await self._reading(partial(self._goes_on, await stream.last()))
            if at is None:
                await stream.purge()
                at = await self._reading(self._beginning)
            self.position = at.position
            session, began = uuid.uuid4().hex, time.monotonic()  # before the feed counts its own times

            async def ago() -> bytes:
                return f"{(time.monotonic() - began) * 1000:.3f}".encode()

            await stream.answer(f"{CALL}.{session}", ago)
            told = {LOG: at.log_id, SESSION: session}
            async with contextlib.aclosing(self._feed.watch(at)) as feed:
                async for data in feed:
                    batches = WatchChangesResponse.FromString(data).batches
                    if batches:
                        last = batches[-1]
                        upto = FeedToken(log_id=at.log_id, position=last.position, chain=last.chain)
                        headers = {**told, AFTER: mark(at), UPTO: mark(upto)}
                        await stream.publish(_parts(data, headers, stream.room))
                        at = upto
                        self._has_published(len(batches), at.position)
                    else:
                        await stream.check()
                        await stream.tell(HEARTBEATS, {**told, UPTO: mark(at)}, data)
                        self._has_published(0, at.position)

    def _goes_on(self, last: Last | None) -> FeedToken | None:
        """Give the token that the stream ends at, if the log goes on from there."""
        if last is None:
            return None
        part, _, parts = last.headers.get(PART, "1/1").partition("/")
        try:
            token = marked(last.headers.get(LOG, ""), last.headers.get(UPTO if part == parts else AFTER, ""))
        except InvalidError as error:
            log.warning(
                "the stream of the feed ends in what no server of ours has written, it is begun anew: %s", error
            )
            return None
        if self._has_led_through(token) and self._store.oldest() <= token.position + 1:
            return token
        log.warning("the stream of the feed ends in another history, or before the log begins: it is begun anew")
        return None

    def _beginning(self) -> FeedToken:
        head, oldest = self._store.head(), self._store.oldest()
        position = max(0, oldest - 1, head.position - _BACK)
        chain = self._store.chain_at(position)
        if chain is None:  # of what was trimmed the chain is not known
            position += 1
            chain = self._store.chain_at(position)
        return head if chain is None else FeedToken(log_id=head.log_id, position=position, chain=chain)


def _parts(data: bytes, headers: dict[str, str], room: int) -> list[Message]:
    """Cut a message into what the broker takes."""
    pieces = [data[start : start + room] for start in range(0, len(data), room)]
    return [
        Message(
            BATCHES,
            # Of this session: NATS remembers what was purged for two minutes, and a history that begins anew may tell it again.
            f"{headers[SESSION]}:{headers[UPTO]}:{number}/{len(pieces)}",
            {**headers, PART: f"{number}/{len(pieces)}"},
            piece,
        )
        for number, piece in enumerate(pieces, start=1)
    ]
