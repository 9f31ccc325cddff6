"""Callers of a server that go on whatever happens to its database, and remember what they were told.

Half of the writers do what a good caller does: they repeat a write under its request id until it is acknowledged. The others
give it up after one failure, so that it is not known whether it was done. A reader asks for what exists, a follower follows.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import grpc
import msgspec
import psycopg

from cqar import model, wire
from cqar.model import KINDS, FeedToken, Record
from cqar.v1 import registry_pb2 as pb
from cqar.v1 import replication_pb2, types_pb2
from cqar.v1.registry_pb2_grpc import AssetRegistryStub
from cqar.v1.replication_pb2_grpc import ReplicationStub
from tests.faults import audit
from tests.faults.process import PATIENCE

WRITERS: Final = 8
_BACKOFF: Final = 0.02  # seconds after a failure


class Told(NamedTuple):
    """A write that was acknowledged."""

    request_id: str
    position: int
    record: Record


class Failure(NamedTuple):
    """How a call failed."""

    code: grpc.StatusCode
    reason: str


class Load:
    """Writers, a reader and a follower of one server. `failures` counts what they met, `wrong` says what may not be."""

    def __init__(self, target: str) -> None:
        self.told: list[Told] = []
        self.unknown: dict[str, tuple[str, Any]] = {}  # given up: request id to method and request
        self.failures: Counter[Failure] = Counter()
        self.wrong: list[str] = []
        self.unread = 0  # reads that failed
        self.read = 0
        self._channel = grpc.insecure_channel(target)
        self._registry: Any = AssetRegistryStub(self._channel)  # type: ignore[no-untyped-call]
        self._replication: Any = ReplicationStub(self._channel)  # type: ignore[no-untyped-call]
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(WRITERS + 2)
        self._running: list[Future[None]] = []
        self._feed: Any = None
        self.followed = wire.token_from_wire(self._replication.GetHead(replication_pb2.GetHeadRequest()).head)
        token = model.Asset(symbol="ANCHOR", name="Anchor", asset_type=model.AssetType.TOKEN)
        self._anchor = self._registry.CreateAsset(pb.CreateAssetRequest(asset=wire.record_to_wire(token))).asset

    def start(self) -> None:
        """Begin."""
        jobs: list[Callable[[], None]] = [self._follow, self._read]
        jobs += [lambda writer=writer: self._write(writer) for writer in range(WRITERS)]  # type: ignore[misc]
        self._running = [self._threads.submit(job) for job in jobs]

    def stop(self) -> None:
        """End the writers and the reader, let the follower come to the end, and raise what went wrong in any of them."""
        self._stopping.set()
        for job in self._running[1:]:
            job.result(PATIENCE)
        head = self._replication.GetHead(replication_pb2.GetHeadRequest(), timeout=PATIENCE).head
        self.wait_until(lambda: self.followed.position >= head.position, "the follower comes to the end")
        self._feed.cancel()
        self._running[0].result(PATIENCE)

    def close(self) -> None:
        """Leave nothing behind."""
        self._stopping.set()
        self._channel.close()
        self._threads.shutdown()

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for something that these callers bring about."""
        running = [] if self._stopping.is_set() else self._running
        with self._news:
            done = self._news.wait_for(lambda: true() or any(job.done() for job in running), PATIENCE)
        for job in running:
            if job.done():
                job.result()  # raises what ended it
        assert done, f"waited in vain until {what}; failures: {self.failures}"

    def wait_for_writes(self, count: int) -> None:
        """Wait until so many more writes are acknowledged, and reads and the follower go on too."""
        told, read, followed = len(self.told) + count, self.read, self.followed.position
        self.wait_until(
            lambda: len(self.told) >= told and self.read > read and self.followed.position > followed,
            f"{count} writes are acknowledged, something is read, and the follower moves",
        )

    def wait_for_outage(self) -> None:
        """Wait until a read has failed and as many calls as there are writers."""
        failed, unread = self.failures.total() + WRITERS, self.unread + 1
        self.wait_until(lambda: self.failures.total() >= failed and self.unread >= unread, "callers notice the outage")

    def repeat_unknown(self) -> None:
        """Repeat the writes that were given up, under their request ids: this tells what became of them."""
        for request_id, (method, request) in self.unknown.items():
            self._tell(request_id, getattr(self._registry, method)(request, timeout=PATIENCE))
        self.unknown.clear()

    # --- the callers

    def _write(self, writer: int) -> None:
        """Create assets, and change and flag each of them."""
        asset_id = ""
        for number in itertools.count():
            if self._stopping.is_set():
                return
            method, request = _next(writer, number, asset_id)
            reply = self._told(method, request, repeat=writer % 2 == 0)
            if method == "CreateAsset":
                asset_id = "" if reply is None else reply.asset.asset_id

    def _told(self, method: str, request: Any, *, repeat: bool) -> Any:
        """Call until the write is acknowledged, or give it up after the first failure and wait for better times."""
        given_up = False
        while not self._stopping.is_set() or (repeat and not given_up):
            try:
                if given_up:
                    self._replication.GetHead(replication_pb2.GetHeadRequest(), timeout=PATIENCE)
                    return None
                reply = getattr(self._registry, method)(request, timeout=PATIENCE)
            except grpc.RpcError as error:
                self._note(error)
                if not repeat:
                    self.unknown[request.request_id] = method, request
                    given_up = True
                self._stopping.wait(_BACKOFF)
            else:
                self._tell(request.request_id, reply)
                return reply
        return None

    def _read(self) -> None:
        """Ask for what exists, in every way: it is never absent."""
        asset_id = self._anchor.asset_id
        looks: list[Callable[[], Any]] = [
            lambda: self._registry.GetAsset(pb.GetAssetRequest(asset_id=asset_id), timeout=PATIENCE).asset,
            lambda: (
                self._registry.Resolve(
                    pb.ResolveRequest(symbol=pb.SymbolKey(symbol="ANCHOR")), timeout=PATIENCE
                ).resolution.asset
            ),
            lambda: self._registry.ListAssets(pb.ListAssetsRequest(symbol="ANCHOR"), timeout=PATIENCE).assets[0],
            lambda: self._registry.SearchAssets(pb.SearchAssetsRequest(query="ANCHOR"), timeout=PATIENCE).assets[0],
        ]
        for look in itertools.cycle(looks):
            if self._stopping.is_set():
                return
            try:
                found = look()
            except grpc.RpcError as error:
                self.unread += 1
                self._note(error)
                self._stopping.wait(_BACKOFF)
            else:
                if found != self._anchor:
                    self.wrong.append(f"read {found}")
                with self._news:
                    self.read += 1
                    self._news.notify_all()

    def _follow(self) -> None:
        """Take every batch, and begin again from the last one when the feed ends."""
        while True:
            token = self.followed
            self._feed = self._replication.WatchChanges(
                replication_pb2.WatchChangesRequest(after=wire.token_to_wire(token))
            )
            try:
                for message in self._feed:
                    for batch in message.batches:
                        if batch.position != token.position + 1:
                            self.wrong.append(f"the feed goes from {token.position} to {batch.position}")
                        token = FeedToken(log_id=token.log_id, position=batch.position, chain=batch.chain)
                    with self._news:
                        self.followed = token
                        self._news.notify_all()
            except grpc.RpcError as error:
                if self._stopping.is_set() and self._feed.code() is grpc.StatusCode.CANCELLED:
                    return
                self._note(error)
                self._stopping.wait(_BACKOFF)

    def _tell(self, request_id: str, reply: Any) -> None:
        message = reply.flag if isinstance(reply, pb.RaiseQualityFlagResponse) else reply.asset
        kind = model.QualityFlag if isinstance(message, types_pb2.QualityFlag) else model.Asset
        with self._news:
            self.told.append(Told(request_id, reply.position, wire.record_from_wire(kind, message)))
            self._news.notify_all()

    def _note(self, error: Any) -> None:
        """Count a failure. One that says anything but that the database is away is wrong."""
        meaning = wire.error_from_status(error.code(), error.details(), error.trailing_metadata())
        with self._news:
            self.failures[Failure(error.code(), meaning.reason)] += 1
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                self.wrong.append(f"{error.code().name} {error.details()}")
            self._news.notify_all()


def _next(writer: int, number: int, asset_id: str) -> tuple[str, Any]:
    """Give the next write of a writer: an asset, or something about its last one."""
    name = f"W{writer}N{number}"
    if number % 3 == 0 or not asset_id:
        asset = types_pb2.Asset(
            symbol=name, name=name, asset_type=types_pb2.ASSET_TYPE_TOKEN, metadata={"number": name}
        )
        return "CreateAsset", pb.CreateAssetRequest(asset=asset, request_id=name)
    if number % 3 == 1:
        return "UpdateAsset", pb.UpdateAssetRequest(asset_id=asset_id, description=name, request_id=name)
    flag = types_pb2.QualityFlag(
        asset_id=asset_id,
        flag_type=types_pb2.FLAG_TYPE_PAUSED,
        severity=types_pb2.SEVERITY_LOW,
        source="test",
        reason=name,
    )
    return "RaiseQualityFlag", pb.RaiseQualityFlagRequest(flag=flag, request_id=name)


@contextmanager
def load_on(target: str) -> Iterator[Load]:
    """Keep a server busy while the block runs."""
    load = Load(target)
    try:
        load.start()
        yield load
    finally:
        load.close()


def check(load: Load, database: str) -> None:
    """Raise AssertionError unless all that the callers were told is true; to be called after `stop`."""
    assert not load.wrong, load.wrong[:5]
    log = audit.check(database)
    followed, made = (load.followed.position, load.followed.chain), (log.position, log.chain)
    assert followed == made, f"the follower has come to {followed}, the log to {made}"
    _check_told(load, database)
    load.repeat_unknown()
    audit.check(database)
    _check_told(load, database)


def _check_told(load: Load, database: str) -> None:
    """Every acknowledged write was done once, as it was told; one that was given up was done once, or not at all."""
    with psycopg.connect(database) as connection:
        batches = connection.execute("SELECT request_id, position FROM batches WHERE request_id IS NOT NULL").fetchall()
        changes = connection.execute(
            "SELECT position, kind, record::text FROM changes WHERE record IS NOT NULL"
        ).fetchall()
    positions: dict[str, int] = dict(batches)
    assert len(positions) == len(batches), "a write was done twice"
    records: dict[int, list[Record]] = {}
    for position, kind, text in changes:
        records.setdefault(position, []).append(msgspec.json.decode(text, type=KINDS[kind].record))
    for told in load.told:
        assert positions.get(told.request_id) == told.position, f"lost: {told}"
        assert told.record in records[told.position], told
    done = positions.keys() - {told.request_id for told in load.told}
    assert done <= load.unknown.keys(), "somebody else wrote"
