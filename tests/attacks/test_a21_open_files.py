"""More followers than the soft limit of open files allows, which is 1,024 on most machines.

Before, 96 of 1,100 followers were refused, and only "failed to connect" said so.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from tests.attacks.marks import attack

pytestmark = attack(
    "A21", by="many followers", promise="the server has the files that it may have, and says when few are left"
)

CHECK = "/grpc.health.v1.Health/Check"
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
START = """
import resource, sys
hard = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
from cqar.cli import main
main()
"""


@contextlib.contextmanager
def serving(url: str, folder: Path, hard: int) -> Iterator[tuple[str, str, Path]]:
    """Run `cqar serve` with a soft limit of 128 files; yield where it serves, where its HTTP is, and its log."""
    log = folder / "server.log"
    listen = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data-dir", str(folder)]
    command = [sys.executable, "-c", START, str(hard), "serve", "--database", url, "--snapshot-interval", "0", *listen]
    with log.open("w") as output, subprocess.Popen(command, stderr=output, env={**os.environ}) as process:
        try:
            while "serving on " not in (text := log.read_text()):
                assert process.poll() is None, text
            http = text.partition("metrics and health on http://")[2].split()[0]
            yield text.partition("serving on ")[2].split()[0], http, log
        finally:
            process.terminate()
            process.wait(20)


def connected(target: str, count: int, stack: contextlib.ExitStack) -> int:
    """Open so many connections and keep them; return how many were answered."""
    answered = 0
    request = health_pb2.HealthCheckRequest().SerializeToString()
    for _ in range(count):
        channel = stack.enter_context(grpc.insecure_channel(target, OPTIONS))
        with contextlib.suppress(grpc.RpcError):
            channel.unary_unary(CHECK)(request, timeout=5)
            answered += 1
    return answered


def test_the_soft_limit_is_raised(migrated_url: str, tmp_path: Path) -> None:
    """150 connections are answered by a server that was started with a soft limit of 128."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(migrated_url, tmp_path, hard) as (target, _, log), contextlib.ExitStack() as stack:
        assert connected(target, 150, stack) == 150
        assert "files open" not in log.read_text() or hard < 2200


def test_few_files_are_said(migrated_url: str, tmp_path: Path) -> None:
    """With a hard limit that is too low the server warns at its start, and its health says that they run out."""
    with serving(migrated_url, tmp_path, 256) as (target, http, log), contextlib.ExitStack() as stack:
        assert "may have 256 files open and may need" in log.read_text()
        files = {"status": "ok"}
        for count in (200, *[4] * 10):
            connected(target, count, stack)
            with urllib.request.urlopen(f"http://{http}/health/ready", timeout=5) as reply:
                files = json.load(reply)["components"]["files"]
            if files["status"] != "ok":
                break
        assert files["status"] == "degraded"
        assert "of 256 files are open" in files["reason"]
