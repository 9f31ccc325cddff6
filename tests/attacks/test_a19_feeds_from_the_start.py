"""One reader's token opens 40 or 200 feeds from position 0 of a long log.

Before, each of them read the whole log by itself: writes took 1.7 s or timed out, and a new host was not ready within 30 s.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from cqar import wire
from cqar.access import Role
from cqar.client import connect
from cqar.client._remote import Remote
from cqar.errors import PositionExpiredError
from cqar.model import Asset, AssetType, FeedToken
from cqar.server.config import Config
from cqar.server.server import ServerThread, running_server
from cqar.server.store import START, Store
from cqar.server.tokens import Tokens
from cqar.v1 import registry_pb2 as pb
from cqar.v1 import replication_pb2 as replication
from tests.attacks.marks import attack

pytestmark = attack("A19", by="a reader's token", promise="feeds from the start delay neither writes nor new hosts")

FEED = "/cqar.v1.Replication/WatchChanges"
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1))
AT_ONCE = 500  # assets in a transaction


def fill(store: Store, assets: int) -> None:
    """Write a log of so many assets."""
    for start in range(0, assets, AT_ONCE):
        with store.transaction(actor="test") as tx:
            for number in range(start, start + AT_ONCE):
                tx.put(Asset(symbol=f"A{number}", name=f"Asset {number}", asset_type=AssetType.TOKEN))


@contextlib.contextmanager
def feeds(server: ServerThread, token: str, count: int, after: FeedToken) -> Iterator[list[Any]]:
    """Keep feeds open, each over a connection of its own, that read as fast as they can."""
    request = replication.WatchChangesRequest(after=wire.token_to_wire(after)).SerializeToString()
    metadata = (("authorization", f"Bearer {token}"),)
    with contextlib.ExitStack() as stack:
        streams = []
        for _ in range(count):
            channel = stack.enter_context(grpc.insecure_channel(server.target, OPTIONS))
            method: Any = channel.unary_stream(FEED)
            streams.append(method(request, metadata=metadata, timeout=60))
        yield streams
        for stream in streams:
            stream.cancel()


def test_writes_and_new_hosts_do_not_wait(store: Store, config: Config, tmp_path: Path, scale: int) -> None:
    """While 100 feeds read the history, a write takes less than a second, and a new host with another token is ready."""
    fill(store, 20_000 * scale)
    tokens = Tokens(store)
    reader, other, writer = [
        tokens.create(name, roles, created_by="test")[1]
        for name, roles in (("reader", [Role.READER]), ("other", [Role.READER]), ("writer", [Role.WRITER]))
    ]
    start = FeedToken(log_id=store.head().log_id, position=0, chain=START)
    with running_server(config) as server, feeds(server, reader, 100, start) as streams:
        assert all(next(stream).__class__ is bytes for stream in streams)  # each is being served
        stub = Remote(server.target, token=writer, actor=None, timeout=10.0)
        took = []
        for number in range(10):
            began = time.monotonic()
            asset = Asset(symbol=f"NEW{number}", name="New", asset_type=AssetType.TOKEN)
            stub.call("CreateAsset", pb.CreateAssetRequest(asset=wire.record_to_wire(asset)))
            took.append(time.monotonic() - began)
        assert sorted(took)[len(took) // 2] < 1.0
        with connect(server.target, token=other, replica_dir=tmp_path / "replica", timeout=20) as client:
            assert client.resolve("NEW9").asset.symbol == "NEW9"


def test_every_feed_gets_the_whole_history(store: Store, config: Config) -> None:
    """Sharing pages loses nothing: each of several feeds from the start tells every position once and in order."""
    fill(store, 3_000)
    head = store.head()
    token = Tokens(store).create("reader", [Role.READER], created_by="test")[1]
    start = FeedToken(log_id=head.log_id, position=0, chain=START)
    with running_server(config) as server, feeds(server, token, 4, start) as streams:
        for stream in streams:
            positions: list[int] = []
            while not positions or positions[-1] < head.position:
                positions += [b.position for b in replication.WatchChangesResponse.FromString(next(stream)).batches]
            assert positions == list(range(1, head.position + 1))


def test_one_token_has_so_many_feeds(store: Store, config: Config) -> None:
    """Those beyond are refused with a reason, and the others go on."""
    token = Tokens(store).create("reader", [Role.READER], created_by="test")[1]
    small = msgspec.structs.replace(config, feeds_per_token=5)
    with running_server(small) as server, feeds(server, token, 8, store.head()) as streams:
        told = []
        for stream in streams:
            try:
                next(stream)
                told.append("open")
            except grpc.RpcError as error:
                told.append(error.code().name)
        assert sorted(told) == ["RESOURCE_EXHAUSTED"] * 3 + ["open"] * 5


def test_old_history_is_a_snapshot(store: Store, config: Config) -> None:
    """Who is far behind the head is sent to the snapshot that is there."""
    fill(store, 10_000)
    token = Tokens(store).create("reader", [Role.READER], created_by="test")[1]
    start = FeedToken(log_id=store.head().log_id, position=0, chain=START)
    small = msgspec.structs.replace(config, feed_history=5, snapshot_interval=0.2)
    with running_server(small) as server:
        remote = Remote(server.target, token=token, actor=None, timeout=10.0)
        ends = time.monotonic() + 20
        while not remote.snapshots() and time.monotonic() < ends:
            time.sleep(0.1)
        with feeds(server, token, 1, start) as (stream,), pytest.raises(grpc.RpcError) as caught:
            next(stream)
        status: Any = caught.value
        error = wire.error_from_status(status.code(), status.details(), status.trailing_metadata())
        assert isinstance(error, PositionExpiredError)
        assert error.reason == "TOO_FAR_BEHIND"
