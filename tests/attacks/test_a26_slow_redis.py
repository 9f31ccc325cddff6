"""A Redis that answers, 40 ms late each time, with a time-out of 50 ms.

Before, every call was 44 ms slower for as long as that lasted: only a failure kept Redis from being asked. Now it is left alone
when most answers take longer than the database would, and asked again when looks from the background are quick.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cqar.model import Asset, AssetType
from tests.attacks.marks import attack
from tests.caching import RedisServer, Server, asset, running, until

pytestmark = attack(
    "A26", by="a slow Redis", promise="a Redis slower than the database slows no calls but the first few"
)

ASSET = "0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"
LATE = 0.04  # seconds


class Proxy:
    """Hands on what Redis and its clients say, its answers late."""

    def __init__(self, path: Path, target: str) -> None:
        self.late = 0.0
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if is_answer and self.late:
                    time.sleep(self.late)
                target.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            target.close()

    def close(self) -> None:
        """Take no more."""
        self._listener.close()


@pytest.fixture
def proxy(redis_server: RedisServer, tmp_path: Path) -> Iterator[Proxy]:
    """Yield what stands before Redis."""
    made = Proxy(tmp_path / "slow.sock", redis_server.url.removeprefix("unix://"))
    yield made
    made.close()


def calls(server: Server, count: int) -> float:
    """Make calls, one after the other; return the seconds that the middle one took."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        assert server.ask(*asset(ASSET)).asset.symbol == "USDC"
        took.append(time.monotonic() - began)
    return statistics.median(took)


def trouble(server: Server) -> str | None:
    """Return why a server does not use its Redis."""
    return server.cache.trouble


def test_a_slow_redis_is_left_alone_until_it_is_quick(proxy: Proxy, migrated_url: str, tmp_path: Path) -> None:
    """Two dozen calls wait for it; then none does, and it is used again when it answers quickly."""
    with running(migrated_url, f"unix://{tmp_path / 'slow.sock'}", tmp_path / "server") as server:
        server.tell(Asset(asset_id=ASSET, symbol="USDC", name="USD Coin", asset_type=AssetType.TOKEN))
        quick = calls(server, 20)
        assert not trouble(server)
        proxy.late = LATE
        calls(server, 30)
        assert trouble(server) == "Redis is slower than the database"
        alone = calls(server, 30)
        print(f"\n{quick * 1000:.1f} ms before, {alone * 1000:.1f} ms beside a slow Redis")  # noqa: T201  (a figure)
        assert alone < LATE
        time.sleep(1.5)  # for as long as it is slow, no look makes it be used
        assert trouble(server)
        proxy.late = 0.0
        until(lambda: not trouble(server), "Redis is not used again")
        hits = server.hits()
        calls(server, 5)
        assert server.hits() > hits
