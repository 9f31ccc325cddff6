"""A process forks while 200 of its threads ask the server for what the replica does not know.

Before, 6 of 1,971 children never came back from their first miss, in the making of gRPC's channel, beyond every deadline.

The interpreter's lock was held meanwhile, so that the whole child stood still. With the stack of such a child in hand the cause was
found: closing the last channel before the fork lets gRPC shut down in a thread of its own, whose locks the child inherits.

Now a fork waits until our threads have left gRPC, and gRPC does not shut down while the process lives (`cqar/client/_calls.py`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cqar.server.server import ServerThread
from tests.attacks.marks import attack

pytestmark = attack(
    "A36", by="a fork of a process with many threads", promise="a forked child comes back from its miss"
)

TIMEOUT = 5.0  # seconds: the deadline of a call of the program
# An application that has a channel of its own before ours: gRPC's fork handler is registered before ours then.
OWN_CHANNEL = """
import grpc, sys
own = grpc.insecure_channel(sys.argv[1])
grpc.channel_ready_future(own).result(timeout=20)
"""
PROGRAM = """
import os, sys, threading, time
from cqar.client import connect
from cqar.errors import CqarError, NotFoundError

target, folder, children = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = connect(target, replica_dir=folder, call_timeout=5.0, timeout=30)
stopping = False

def ask(number):
    for turn in range(10**9):
        if stopping:
            return
        try:
            client.resolve(f"NOWHERE-{number}-{turn}")
        except CqarError:
            pass

for number in range(200):
    threading.Thread(target=ask, args=(number,), daemon=True).start()
time.sleep(0.5)
worst, refused = 0.0, 0
for child in range(children):
    begin = time.monotonic()
    pid = os.fork()
    if not pid:
        try:
            client.resolve(f"CHILD-{os.getpid()}")
        except NotFoundError:
            os._exit(0)
        except CqarError:
            os._exit(3)
        os._exit(4)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - begin > 30:
            os.kill(pid, 9)
            print("a child hangs", flush=True)
            os._exit(1)
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 3), code
    refused += code == 3
    worst = max(worst, time.monotonic() - begin)
stopping = True
print(f"{children} children, {refused} refused, worst {worst:.2f} s", flush=True)
os._exit(0)
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("before", ["", OWN_CHANNEL], ids=["ours only", "a channel of the application's own"])
def test_children_of_a_process_with_200_threads_come_back(
    server: ServerThread, tmp_path: Path, scale: int, before: str
) -> None:
    """Every child gets its answer, or an error at the deadline; and no fork finds a thread of ours inside gRPC."""
    command = [sys.executable, "-c", before + PROGRAM, server.target, str(tmp_path / "replica"), str(40 * scale)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "skipping fork() handlers" not in ran.stderr
