"""A server of replication that says what it is told to, true or not."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

from cqar import broker, errors, model, snapshot, wire
from cqar.errors import CqarError, PositionExpiredError
from cqar.model import Batch, FeedToken
from cqar.v1 import replication_pb2 as pb
from cqar.v1 import types_pb2
from cqar.v1.replication_pb2_grpc import ReplicationServicer, add_ReplicationServicer_to_server
from tests.brokers import NatsServer
from tests.publisher import Publisher, token
from tests.worlds import LOG_ID, World

BEAT = 0.1  # seconds
Said = types_pb2.Batch | Exception


class Liar(ReplicationServicer):
    """Holds a log. `say` puts anything into the open feeds; a feed that begins anew is told the log as it is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log_id = LOG_ID
        self.log: dict[int, types_pb2.Batch] = {}
        self.snapshots: list[snapshot.Snapshot] = []
        self.feed: str | None = None  # a NATS where it publishes its feed
        self.begun: list[int] = []  # after which position each feed began
        self.silent = False
        self._feeds: list[queue.Queue[Said]] = []
        self._server = grpc.server(ThreadPoolExecutor(30))
        self.serve(self._server)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def serve(self, server: grpc.Server) -> None:
        """Offer the service; one that knows more adds its own."""
        add_ReplicationServicer_to_server(self, server)  # type: ignore[no-untyped-call]

    @property
    def head(self) -> FeedToken:
        """Where the log is."""
        token = self.world.head
        return FeedToken(log_id=self.log_id, position=token.position, chain=token.chain)

    def commit(self, *records: model.Record, silently: bool = False) -> types_pb2.Batch:
        """Write a transaction, and tell it to the open feeds unless `silently`."""
        return self.enter(self.world.commit(records), silently=silently)

    def enter(self, batch: Batch | types_pb2.Batch, *, silently: bool = False) -> types_pb2.Batch:
        """Put a batch into the log."""
        message = wire.batch_to_wire(batch) if isinstance(batch, Batch) else batch
        self.log[message.position] = message
        if not silently:
            self.say(message)
        return message

    def trim(self, upto: int) -> None:
        """Forget what is up to a position."""
        self.log = {position: batch for position, batch in self.log.items() if position > upto}

    def say(self, *said: Said) -> None:
        """Send batches to the open feeds as they stand, or end these with an error: who comes again is told the log as it is."""
        for feed in self._feeds:
            for each in said:
                feed.put(each)

    # --- the service

    def GetHead(self, _request: pb.GetHeadRequest, _context: object) -> pb.GetHeadResponse:  # noqa: N802
        """Give where the log is."""
        return pb.GetHeadResponse(head=wire.token_to_wire(self.head))

    def ListSnapshots(self, request: pb.ListSnapshotsRequest, _context: object) -> pb.ListSnapshotsResponse:  # noqa: N802
        """List the snapshots, or vouch for all that it is asked about."""
        if request.sha256:
            return pb.ListSnapshotsResponse(vouched=request.sha256)
        found = [pb.SnapshotInfo(head=wire.token_to_wire(each.manifest.head)) for each in reversed(self.snapshots)]
        return pb.ListSnapshotsResponse(snapshots=found)

    def FetchSnapshot(self, request: pb.FetchSnapshotRequest, _context: object) -> Any:  # noqa: N802
        """Send one."""
        (found,) = [each for each in self.snapshots if each.manifest.position == request.position]
        for path in sorted(found.path.iterdir(), key=lambda path: path.name != snapshot.MANIFEST):
            if path.name == snapshot.MANIFEST:
                yield pb.FetchSnapshotResponse(manifest=path.read_bytes())
            else:
                yield pb.FetchSnapshotResponse(chunk=pb.SnapshotChunk(file=path.name, data=path.read_bytes()))

    def WatchChanges(self, request: pb.WatchChangesRequest, context: Any) -> Any:  # noqa: N802
        """Tell the log, then what is said."""
        began = time.monotonic()
        after = wire.token_from_wire(request.after)
        self.begun.append(after.position)
        try:
            self._check(after)
            mine: queue.Queue[Said] = queue.Queue()
            self._feeds.append(mine)
            position = after.position
            while position + 1 in self.log:
                position += 1
                yield pb.WatchChangesResponse(batches=[self.log[position]])
            while context.is_active():
                try:
                    said = mine.get(timeout=BEAT)
                except queue.Empty:
                    if not self.silent:
                        as_of = int((time.monotonic() - began) * 1000)
                        yield pb.WatchChangesResponse(
                            heartbeat=pb.Heartbeat(head_position=self.head.position, as_of_ms=as_of)
                        )
                    continue
                if isinstance(said, Exception):
                    raise said
                yield pb.WatchChangesResponse(batches=[said])
        except CqarError as error:
            code, details, trailing = wire.error_to_status(error)
            context.set_trailing_metadata(trailing)
            context.abort(code, details)

    def _check(self, after: FeedToken) -> None:
        if after.log_id != self.log_id or after.position > self.head.position:
            raise PositionExpiredError("another history", reason="LOG_MISMATCH")
        if after.position and after.position in self.log and after.chain != self.log[after.position].chain:
            raise PositionExpiredError("another history", reason="LOG_MISMATCH")
        if after.position < self.head.position and after.position + 1 not in self.log:
            raise errors.PositionExpiredError("trimmed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(0)


class Broadcaster(Liar):
    """The same over NATS: what is said goes into the stream there, which after an error is begun anew with the log as it is."""

    def __init__(self, world: World, nats: NatsServer) -> None:
        super().__init__(world)
        self.feed = nats.url
        self._publisher = Publisher(nats.url, self.log_id)
        self._publisher.make()
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat)
        self._beating.start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            if not self.silent:
                self._publisher.beat(self.head.position)

    def trim(self, upto: int) -> None:
        """Forget what is up to a position."""
        super().trim(upto)
        self._publisher.purge(keep=len(self.log))

    def say(self, *said: Said) -> None:
        """Publish batches as they stand; after an error the stream tells the log as it is."""
        for each in said:
            if isinstance(each, Exception):
                self._publisher.log_id = self.log_id
                self._publisher.purge()
                for _, batch in sorted(self.log.items()):
                    self._publish(batch)
            else:
                self._publish(each)

    def _publish(self, batch: types_pb2.Batch) -> None:
        before = self.log.get(batch.position - 1)
        chain = token(batch.position - 1).chain if before is None else before.chain
        after = FeedToken(log_id=self.log_id, position=batch.position - 1, chain=chain)
        self._publisher.publish(batch, after=broker.mark(after), head=self.head.position)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._ended.set()
        self._beating.join()
        self._publisher.close()
