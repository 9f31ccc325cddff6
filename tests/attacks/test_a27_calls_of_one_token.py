"""One reader's token keeps 3,000 calls under way.

Before, they used up the calls and the threads of the server: everybody else's writes and misses were refused (CANCELLED), and a
new host was not ready.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import msgspec

from cqar import wire
from cqar.access import Role
from cqar.client import connect
from cqar.client._remote import Remote
from cqar.model import Asset, AssetType
from cqar.server.config import Config
from cqar.server.lanes import LANE, Lane, Lanes
from cqar.server.server import running_server
from cqar.server.store import Store
from cqar.server.tokens import Tokens
from cqar.v1 import registry_pb2 as pb
from tests.attacks.marks import attack

pytestmark = attack("A27", by="a reader's token", promise="one token's calls refuse only themselves")

OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
SEARCH = "/cqar.v1.AssetRegistry/SearchAssets"


def test_a_flood_of_reads_refuses_only_itself(store: Store, config: Config, tmp_path: Path, scale: int) -> None:
    """While one token has thousands of searches under way, others write and read, and a new host becomes ready."""
    tokens = Tokens(store)
    flooder, other, writer = [
        tokens.create(name, roles, created_by="test")[1]
        for name, roles in (("flooder", [Role.READER]), ("other", [Role.READER]), ("writer", [Role.WRITER]))
    ]
    request = pb.SearchAssetsRequest(query="coin").SerializeToString()
    codes: Counter[grpc.StatusCode] = Counter()
    hints: list[Any] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server(msgspec.structs.replace(config, calls_per_token=100)))
        asset = Asset(symbol="COIN", name="Coin", asset_type=AssetType.TOKEN)
        stub = Remote(server.target, token=writer, actor=None, timeout=10.0)
        created = stub.call("CreateAsset", pb.CreateAssetRequest(asset=wire.record_to_wire(asset)))
        flood: list[Any] = []
        for _ in range(3):
            channel = stack.enter_context(grpc.insecure_channel(server.target, OPTIONS))
            search: Any = channel.unary_unary(SEARCH)
            flood += [
                search.future(request, timeout=30, metadata=(("authorization", f"Bearer {flooder}"),))
                for _ in range(1000 * scale)
            ]
        for number in range(5):
            asset = Asset(symbol=f"C{number}", name="Coin", asset_type=AssetType.TOKEN)
            stub.call("CreateAsset", pb.CreateAssetRequest(asset=wire.record_to_wire(asset)))
            reader = Remote(server.target, token=other, actor=None, timeout=10.0)
            assert reader.call("GetAsset", pb.GetAssetRequest(asset_id=created.asset.asset_id)).asset.symbol == "COIN"
        with connect(server.target, token=other, replica_dir=tmp_path / "replica", timeout=20) as client:
            assert client.resolve("COIN").asset.asset_id == created.asset.asset_id
        for call in flood:
            codes[call.code()] += 1
            if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                hints.append(call)
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] > 0
    assert "try again in" in hints[0].details()


def test_lanes_leave_threads_to_others() -> None:
    """One caller has half of the threads, reads three quarters; writes of others begin at once."""
    lanes, ending = Lanes(8, "test"), threading.Event()
    running: Counter[Lane] = Counter()
    lock = threading.Lock()

    def work(lane: Lane) -> None:
        with lock:
            running[lane] += 1
        ending.wait(20)

    def submit(lane: Lane, count: int) -> None:
        mark = LANE.set(lane)
        for _ in range(count):
            lanes.submit(work, lane)
        LANE.reset(mark)

    flooder, other, writer = Lane("flooder"), Lane("other"), Lane("writer", is_reserved=True)
    submit(flooder, 100)
    submit(flooder._replace(is_reserved=True), 100)
    submit(other, 100)
    submit(writer, 2)
    begun = time.monotonic()
    while running.total() < 8 and time.monotonic() < begun + 10:
        time.sleep(0.01)
    ending.set()
    assert running[writer] == 2
    assert running[flooder] == 4
    assert running[other] == 2
    lanes.shutdown(cancel_futures=True)
