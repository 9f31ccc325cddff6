"""A query whose result, or whose work, does not fit into memory, or never ends, in a process that trades.

Before, the process grew by 4 GB and more: a result was built whole before anybody looked at its size. Now its rows, its time and
the memory of all queries are bounded, nothing is spilled to disk, and the error says which bound it was and what to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.attacks.marks import attack

pytestmark = attack("A23", by="a careless query", promise="a query takes bounded memory and time, and says what to do")

PROGRAM = """
import resource, sys, time
from cqar.client import LimitError, open_snapshot
client = open_snapshot()
client.sql("SELECT count(*) FROM assets").fetchall()
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
try:
    client.sql(sys.argv[1], eval(sys.argv[2]), max_rows=int(sys.argv[3]), timeout=float(sys.argv[4]))
except LimitError as error:
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert client.sql("SELECT 1").fetchall() == [(1,)]  # and later queries are answered
    print(error.reason, grown, time.monotonic() - began)
else:
    print("answered")
"""
PRODUCT = "SELECT a.range, b.range FROM range(10000000) AS a, range(10000000) AS b"


class Case(NamedTuple):
    """A query, its bounds, which of them it meets, and by how many MiB the process may grow."""

    query: str
    reason: str
    most: int
    parameters: list[int] | None = None
    rows: int = 1_000_000
    seconds: float = 30.0


CASES = [
    Case(PRODUCT, "QUERY_ROWS", 250),
    Case("SELECT * FROM range($1)", "QUERY_ROWS", 250, parameters=[10**12]),
    Case("SELECT repeat('x', 1000) FROM range(100000000)", "QUERY_MEMORY", 1_800, rows=1 << 40),
    Case(f"{PRODUCT} ORDER BY random()", "QUERY_MEMORY", 1_800, rows=1 << 40),
    Case("SELECT list(range) FROM range(1000000000)", "QUERY_MEMORY", 2_600),
    Case(f"SELECT sum(hash(x)) FROM ({PRODUCT}) AS x", "QUERY_TIME", 250, seconds=0.5),
    Case("WITH RECURSIVE r AS (SELECT 1 UNION ALL FROM r) SELECT count(*) FROM r", "QUERY_TIME", 900, seconds=0.5),
]


@pytest.mark.parametrize("case", CASES, ids=[case.query[:40] for case in CASES])
def test_a_query_that_takes_too_much_is_stopped(case: Case, tmp_path: Path) -> None:
    """It ends with a typed error, later queries are answered, the process has not grown beyond bounds, and nothing was written."""
    paths = os.pathsep.join([str(Path.cwd()), *[each for each in sys.path if each]])
    given = [case.query, repr(case.parameters), str(case.rows), str(case.seconds)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert not done.returncode, done.stderr
    said, grown, took = done.stdout.split()
    assert said == case.reason
    assert int(grown) < case.most
    assert float(took) < case.seconds + 15
    assert not list(tmp_path.iterdir())
