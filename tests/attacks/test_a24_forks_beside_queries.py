"""A process forks while many of its threads query, and its children query at once.

Before, children met "connection is busy" as the threads did, and the log had messages about locks after each fork. Now a child
opens databases of its own, and a fork waits for no query.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.attacks.marks import attack

pytestmark = attack("A24", by="threads that query, and forks", promise="a forked child queries as any process does")

PROGRAM = """
import os, sys, threading, time
from cqar.client import open_snapshot

client = open_snapshot()
wanted = client.sql("SELECT count(*) FROM assets").fetchall()
failures, stopping = [], False

def query():
    while not stopping:
        try:
            assert client.sql("SELECT count(*) FROM assets").fetchall() == wanted
        except Exception as error:
            failures.append(repr(error))
            return

threads = [threading.Thread(target=query, daemon=True) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
worst = 0.0
for _ in range(int(sys.argv[2])):
    begin = time.monotonic()
    pid = os.fork()
    if not pid:
        right = client.sql("SELECT count(*) FROM assets").fetchall() == wanted
        usdc = client.resolve("USDC", chain="ethereum").asset.asset_id
        os._exit(0 if right and client.search("usdc") and client.asset(usdc) else 1)
    worst = max(worst, time.monotonic() - begin)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stopping = True
for thread in threads:
    thread.join(30)
assert not failures, failures[:3]
print(f"worst fork {worst:.2f} s")
"""


@pytest.mark.timeout(600)
def test_children_query_at_once(scale: int) -> None:
    """Every child gets the answer, no thread of the parent fails, and nothing is said of locks."""
    command = [sys.executable, "-c", PROGRAM, str(min(200, 20 * scale)), str(10 * scale)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
