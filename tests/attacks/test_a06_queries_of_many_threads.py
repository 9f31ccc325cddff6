"""Threads query the replica at once, while another one asks the gate.

Before, all queries and their results shared one connection. With duckdb 1.5 the process hung: one thread waited for the connection
while it held the interpreter, another one held the connection and waited for the interpreter; the gate's thread ran once in 30 s.
With duckdb 2.0 97 % of the calls failed ("connection is busy"). Now each query and each result has its own connection.
"""

from __future__ import annotations

import subprocess
import sys

from tests.attacks.marks import attack

pytestmark = attack(
    "A6", by="ordinary threads", promise="queries of several threads answer, and the gate's thread is not held up"
)

PROGRAM = """
import sys, threading, time
from cqar.client import open_snapshot
client = open_snapshot()
usdc = client.resolve("USDC").asset.asset_id
expected = client.sql("SELECT asset_id FROM assets ORDER BY ALL").fetchall()
found = client.list_assets(chain="ethereum"), client.search("USD")
failures, beats, done, stop = [], [], [0], time.monotonic() + float(sys.argv[1])

def gate():
    while time.monotonic() < stop:
        client.check_tradable(usdc)
        beats.append(time.monotonic())
        time.sleep(0.005)

def queries():
    while time.monotonic() < stop:
        try:
            rows = client.sql("SELECT asset_id FROM assets ORDER BY ALL")
            assert rows.fetchall() == expected and len(rows.to_arrow_table()) == len(expected)
            assert (client.list_assets(chain="ethereum"), client.search("USD")) == found
            assert client.sql("SELECT count(*) FROM assets WHERE symbol = ?", ["USDC"]).fetchall()[0][0]
            done[0] += 1
        except BaseException as error:
            failures.append(repr(error))

threads = [threading.Thread(target=queries) for _ in range(6)] + [threading.Thread(target=gate)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(done[0], len(failures), max(b - a for a, b in zip(beats, beats[1:])), *failures[:1])
"""


def test_threads_query_at_once_beside_the_gate(scale: int) -> None:
    """No call fails, every answer is whole, and the gate's thread runs all the time."""
    seconds = 4 * scale
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seconds)], capture_output=True, text=True, timeout=seconds + 40, check=False
    )
    assert not done.returncode, done.stderr
    rounds, failures, longest, *words = done.stdout.split(maxsplit=3)
    assert int(rounds) > 5
    assert failures == "0", words
    assert float(longest) < 1.5  # seconds; 0.15 on two busy cores
