"""The gRPC service `Replication`: the head, the feed, and snapshots, for followers.

Its streams send serialised messages (the feed shares them between streams), so the service is registered by hand. A
follower that does not take a message in time is cut off: it resumes with its token, and the server holds nothing for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import grpc

from cqar import snapshot, storage, wire
from cqar.errors import InvalidError, LimitError, PositionExpiredError
from cqar.locations import Location
from cqar.model import FeedToken
from cqar.server import export
from cqar.server.changes import Feed
from cqar.server.store import Store
from cqar.v1 import replication_pb2 as pb

SEND_SECONDS: Final = 30.0  # for a follower to take one message
LISTED_SECONDS: Final = 5.0  # for which a list of the snapshots is good enough
FILE_THREADS: Final = 4  # that read snapshots
ASKED_AT_ONCE: Final = 1_000  # hashes of snapshots

_Context = grpc.aio.ServicerContext[Any, Any]


class Replication:
    """Answers followers. Plain methods run in the server's thread pool, `async` ones in its event loop."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        snapshots: Location,
        *,
        send_seconds: float = SEND_SECONDS,
        feed_history: int = 50_000,
    ) -> None:
        """Prepare; who is more than `feed_history` positions behind is sent to a snapshot, if there is one."""
        self._store = store
        self._feed = feed
        self._snapshots = storage.at(snapshots)
        self._send_seconds = send_seconds
        self._files = ThreadPoolExecutor(FILE_THREADS, "cqar-files")
        self._version = version("cqar")
        self._feed_history = feed_history
        self._newest: tuple[float, int] = (
            -math.inf,
            0,
        )  # when the snapshots were listed, and the position of the newest
        self.streams = 0  # open feeds

    async def stop(self) -> None:
        """Wait for reads of files that are under way."""
        await asyncio.to_thread(self._files.shutdown, cancel_futures=True)

    def get_head(self, _request: pb.GetHeadRequest, _context: object) -> pb.GetHeadResponse:
        """Give where the registry is now, from the database itself."""
        return pb.GetHeadResponse(
            head=wire.token_to_wire(self._store.head()),
            server_version=self._version,
            server_time=wire.time_to_wire(datetime.now(UTC)),
        )

    async def watch_changes(self, request: pb.WatchChangesRequest, context: _Context) -> None:
        """Send the feed until either side ends it."""
        if not request.HasField("after"):
            raise InvalidError(
                "after: required: the head of a snapshot, or of GetHead", reason="REQUIRED", field="after"
            )
        after = wire.token_from_wire(request.after)
        await self._require_near(after)
        self.streams += 1
        try:
            await self._send(context, self._feed.watch(after))
        finally:
            self.streams -= 1

    async def _require_near(self, after: FeedToken) -> None:
        """Raise PositionExpiredError if a token is far behind and a snapshot is ahead of it, which costs both sides less."""
        if self._feed.position - after.position <= self._feed_history:
            return
        listed_at, position = self._newest
        if time.monotonic() - listed_at > LISTED_SECONDS:
            found = await self._in_thread(partial(export.offered, self._store, self._snapshots))
            position = max([each.manifest.position for each in found], default=0)
            self._newest = (time.monotonic(), position)
        if position > after.position:
            raise PositionExpiredError(
                f"position {after.position} is more than {self._feed_history} behind the head; load the snapshot of position"
                f" {position}",
                reason="TOO_FAR_BEHIND",
                position=after.position,
                snapshot=position,
            )

    def list_snapshots(self, request: pb.ListSnapshotsRequest, _context: object) -> pb.ListSnapshotsResponse:
        """List the snapshots that the feed can go on from, newest first; or say which of some hashes are of published ones."""
        if len(request.sha256) > ASKED_AT_ONCE:
            raise LimitError(f"sha256: at most {ASKED_AT_ONCE} at once", reason="TOO_MANY", field="sha256")
        if request.sha256:  # needs the database alone: the follower may reach a storage that this server does not
            return pb.ListSnapshotsResponse(vouched=sorted(self._store.published(request.sha256)))
        with export.discreetly():
            offered = export.offered(self._store, self._snapshots)
        infos = [
            pb.SnapshotInfo(
                head=wire.token_to_wire(each.manifest.head),
                created_at=wire.time_to_wire(each.manifest.created_at),
                bytes=each.size,
                sha256=each.manifest.sha256,
            )
            for each in offered
        ]
        return pb.ListSnapshotsResponse(snapshots=infos)

    async def fetch_snapshot(self, request: pb.FetchSnapshotRequest, context: _Context) -> None:
        """Send a snapshot that was verified just now, chunk by chunk."""
        find = partial(export.chosen, self._store, self._snapshots, request.log_id, request.position)
        pieces = export.pieces(self._snapshots, await self._in_thread(find))
        await self._send(context, self._chunks(pieces))

    async def _chunks(self, pieces: Iterator[tuple[str, bytes]]) -> AsyncGenerator[bytes, None]:
        while piece := await self._in_thread(partial(next, pieces, None)):
            name, data = piece
            part = (
                {"manifest": data} if name == snapshot.MANIFEST else {"chunk": pb.SnapshotChunk(file=name, data=data)}
            )
            yield pb.FetchSnapshotResponse(**part).SerializeToString()

    async def _in_thread(self, read: Callable[[], Any]) -> Any:
        with export.discreetly():
            return await asyncio.get_running_loop().run_in_executor(self._files, read)

    async def _send(self, context: _Context, messages: AsyncGenerator[bytes, None]) -> None:
        """Send one message at a time; LimitError if the follower does not take one in time."""
        async with contextlib.aclosing(messages):
            async for message in messages:
                try:
                    async with asyncio.timeout(self._send_seconds):
                        await context.write(message)
                except TimeoutError:
                    raise LimitError(
                        f"a message was not taken within {self._send_seconds:g} s; resume from the last position",
                        reason="SLOW_CONSUMER",
                    ) from None


def add_replication(server: grpc.aio.Server, service: Replication) -> None:
    """Register the service with a server. The streams give bytes: their methods have no serializer."""
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "GetHead": unary(service.get_head, pb.GetHeadRequest.FromString, pb.GetHeadResponse.SerializeToString),
        "ListSnapshots": unary(
            service.list_snapshots, pb.ListSnapshotsRequest.FromString, pb.ListSnapshotsResponse.SerializeToString
        ),
        "WatchChanges": stream(service.watch_changes, pb.WatchChangesRequest.FromString),
        "FetchSnapshot": stream(service.fetch_snapshot, pb.FetchSnapshotRequest.FromString),
    }
    name = pb.DESCRIPTOR.services_by_name["Replication"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
