"""One without a token sends messages that unpack to a thousand times their size.

Before, grpcio 1.76 to 1.81.1 unpacked 300 KiB of gzip into 329 MiB before anything could be refused, and `pyproject.toml` admitted
them.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from cqar.access import Role
from cqar.server.store import Store
from cqar.server.tokens import Tokens
from tests.attacks.marks import attack
from tests.attacks.test_a20_without_a_token import MIB, SERVE, highest

pytestmark = attack(
    "A35", by="anybody who reaches the port", promise="a small message does not unpack into a large one"
)

BOMB = """
import sys, zlib, grpc
target, method = sys.argv[1], sys.argv[2]
with grpc.insecure_channel(target, [("grpc.max_send_message_length", -1)]) as channel:
    call = channel.unary_unary(method)
    bomb = b"\\0" * (300 << 20)
    for _ in range(3):
        try:
            call(bomb, compression=grpc.Compression.Gzip, timeout=30)
        except grpc.RpcError as error:
            print(error.code().name)
"""


@pytest.mark.parametrize(
    "method", ["/cqar.v1.AssetRegistry/GetAsset", "/grpc.health.v1.Health/Check", "/cqar.v1.AssetRegistry/UpsertStream"]
)
def test_a_bomb_is_refused(store: Store, migrated_url: str, tmp_path: Path, method: str) -> None:
    """300 MiB of zeros, packed, cost the server less than 100 MiB and are refused, with and without a token wanted."""
    Tokens(store).create("reader", [Role.READER], created_by="test")
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
            [sys.executable, "-c", BOMB, target, method], capture_output=True, text=True, check=True, timeout=50
        )
        grown = highest(process.pid) - before
        process.stdin.close()
    assert len(sent.stdout.split()) == 3
    assert set(sent.stdout.split()) <= {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "INTERNAL"}
    assert grown < 100 * MIB


def test_no_version_is_admitted_that_unpacks_it() -> None:
    """The bound in `pyproject.toml` is the first version that refuses, and the installed one is not below it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    (bound,) = [each for each in project["project"]["dependencies"] if each.startswith("grpcio>=")]
    least = tuple(map(int, bound.removeprefix("grpcio>=").partition(",")[0].split(".")[:2]))
    assert least >= (1, 85)  # 1.82.1 unpacked 576 MiB for a health check
    assert tuple(map(int, version("grpcio").split(".")[:2])) >= least
