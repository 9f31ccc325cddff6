"""Callers without a token flood the server: watchers of its health, messages of 15 MiB, connections that say nothing.

Before, 2,100 `Health.Watch` streams used up the calls of everybody, 40 messages of 15 MiB took 937 MiB of memory before they were
refused, and 70 idle HTTP connections made /health/live answer 503.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from grpc_health.v1 import health_pb2

from cqar.access import Role
from cqar.client._remote import Remote
from cqar.server import health
from cqar.server.config import Config
from cqar.server.server import ServerThread, running_server
from cqar.server.store import Store
from cqar.server.tokens import Tokens
from tests.attacks.marks import attack

pytestmark = attack(
    "A20", by="anybody who reaches the port", promise="who has no token costs little and keeps nobody out"
)

MIB = 1 << 20
WATCH = "/grpc.health.v1.Health/Watch"
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0))


@pytest.fixture
def token(store: Store) -> str:
    """Make a token: the server lets nobody in without one."""
    return Tokens(store).create("reader", [Role.READER], created_by="test")[1]


@pytest.fixture
def guarded(token: str, config: Config) -> Iterator[ServerThread]:
    """Run a server that wants tokens, with few calls at once."""
    small = msgspec.structs.replace(config, max_concurrent_rpcs=50, http_listen="127.0.0.1:0")
    with running_server(small) as server:
        yield server


def answers(server: ServerThread, token: str) -> bool:
    """Report whether one with a token gets an answer."""
    return Remote(server.target, token=token, actor=None, timeout=5.0).head().position >= 0


def test_watchers_keep_nobody_out(guarded: ServerThread, token: str, scale: int) -> None:
    """However many streams are asked for: one address has some of them, and calls with a token go on."""
    request = health_pb2.HealthCheckRequest().SerializeToString()
    with contextlib.ExitStack() as stack:
        streams: list[Any] = []
        for _ in range(3):
            channel = stack.enter_context(grpc.insecure_channel(guarded.target, OPTIONS))
            streams += [channel.unary_stream(WATCH)(request, timeout=20) for _ in range(100 * scale)]
        assert answers(guarded, token)
        refused: Counter[grpc.StatusCode] = Counter()
        watching = 0
        for stream in streams:
            try:
                next(stream)
                watching += 1
            except grpc.RpcError as error:
                refused[error.code()] += 1
        assert watching <= health.FROM_ONE_ADDRESS
        assert refused[grpc.StatusCode.RESOURCE_EXHAUSTED] == len(streams) - watching
        assert answers(guarded, token)
        for stream in streams:
            stream.cancel()


SEND = """
import sys, grpc
target, method, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
channels = [grpc.insecure_channel(target, options) for _ in range(count)]
data = b"x" * (15 << 20)
calls = [channel.unary_unary(method).future(data, timeout=30) for channel in channels]
print(" ".join(sorted({call.code().name for call in calls})))
"""
SERVE = """
import sys
from pathlib import Path
from typing import Any
from cqar.server.config import Config
from cqar.server.server import running_server
config = Config(listen="127.0.0.1:0", database=sys.argv[1], data_dir=Path(sys.argv[2]), snapshot_interval=0)
with running_server(config) as server:
    print(server.target, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("/cqar.v1.AssetRegistry/GetAsset", "UNAUTHENTICATED"),
        ("/cqar.v1.AssetRegistry/UpsertRecords", "UNAUTHENTICATED"),
        ("/cqar.v1.Replication/WatchChanges", "UNAUTHENTICATED"),
        ("/grpc.health.v1.Health/Check", ""),
    ],
)
def test_large_messages_are_not_read(token: str, migrated_url: str, tmp_path: Path, method: str, code: str) -> None:
    """40 messages of 15 MiB without a token cost the server process less than 200 MiB in all, at their highest."""
    assert token
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, migrated_url, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdin
        target = process.stdout.readline().strip()
        before = highest(process.pid)
        sent = subprocess.run(
            [sys.executable, "-c", SEND, target, method, "40"], capture_output=True, text=True, check=True, timeout=50
        )
        grown = highest(process.pid) - before
        process.stdin.close()
    assert grown < 200 * MIB
    assert code in sent.stdout


def highest(pid: int) -> int:
    """Return the most memory, in bytes, that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def test_idle_connections_do_not_keep_probes_out(guarded: ServerThread, scale: int) -> None:
    """With many connections that say nothing, and some that say half a request, /health/live answers 200 at once."""
    host, _, port = guarded.server.http_target.rpartition(":")
    with contextlib.ExitStack() as stack:
        for number in range(150 * scale):
            idle = stack.enter_context(socket.create_connection((host, int(port))))
            if number % 2:
                idle.sendall(b"GET /health/live HTTP/1.1\r\n")
        for _ in range(5):
            with urllib.request.urlopen(f"http://{host}:{port}/health/live", timeout=5) as reply:
                assert reply.status == 200


def test_unknown_tokens_keep_nobody_out(guarded: ServerThread, token: str) -> None:
    """A flood of calls with tokens that do not exist, each of which has the server look, leaves those with one alone."""
    with grpc.insecure_channel(guarded.target, OPTIONS) as channel:
        calls: list[Any] = []
        for number in range(500):
            secret = f"cqar_{number:016x}_{'0' * 64}"
            method: Any = channel.unary_unary("/cqar.v1.AssetRegistry/GetAsset")
            calls.append(method.future(b"", timeout=20, metadata=(("authorization", f"Bearer {secret}"),)))
        assert answers(guarded, token)
        codes = Counter(call.code() for call in calls)
    assert set(codes) <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
