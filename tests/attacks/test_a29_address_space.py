"""A process with little room for addresses opens a replica that others of its host keep.

Before, every process mapped 64 GiB for an index of some megabytes. One with a limit of 16 GiB (RLIMIT_AS, which batch systems and
some service managers set) could not, took that for damage and complained, and the whole host made its replica again three times.
Now a mapping is as large as its file. What a process still cannot do it is told, and nobody else hears of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cqar.client import Client, connect
from cqar.client._head import COMPLAINTS
from tests.attacks.marks import attack
from tests.integration.test_client import eventually

pytestmark = attack("A29", by="the limits of one process", promise="what one process cannot do is no damage to others")

TARGET = "127.0.0.1:9"  # nobody serves there: the replica begins with the catalogue
READER = """
import resource, sys
import grpc, lmdb, cqar.client._remote, cqar.client._sync, cqar.client._source
from cqar.client import NotReadyError, connect
target, replica_dir, limit, room = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = limit or used + room
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    client = connect(target, replica_dir=replica_dir, sync="off", timeout=1.5)
except NotReadyError as error:
    print(error)
else:
    print(client.resolve("USDC").asset.symbol)
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Client]:
    """Yield the client of a process that keeps the host's replica."""
    with connect(TARGET, replica_dir=tmp_path / "replica", start="catalogue", timeout=20) as client:
        assert client.resolve("USDC")
        yield client


def reader(replica_dir: Path, *, limit: int = 0, room: int = 0) -> str:
    """Return what a process says that has so many bytes of addresses, or so many to spare."""
    done = subprocess.run(
        [sys.executable, "-c", READER, TARGET, str(replica_dir), str(limit), str(room)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


FILES = """
import resource, sys, time
from cqar.client import connect
client = connect(sys.argv[1], replica_dir=sys.argv[2], sync="off", timeout=1.5)
client.resolve("USDC"), client.check_tradable("x"), client.status()  # their modules are loaded
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print("ready", flush=True)
sys.stdin.readline()  # the replica is made again
for _ in range(40):
    client._view.age()  # as who looks whether the head is still the one
    asset = client.resolve("USDC").asset
    time.sleep(0.01)
print(asset.symbol, client.status().last_error)
"""


def undisturbed(host: Client, before: str) -> bool:
    """Report whether the host's replica is the one that it was, and nobody complained of it."""
    head = host._view.head
    return head is not None and not head.words[COMPLAINTS] and host.status().generation == before


def test_sixteen_gigabytes_of_addresses_are_enough(host: Client, tmp_path: Path) -> None:
    """A reader with the usual limit of a batch system answers, and the host's replica stays."""
    before = host.status().generation
    assert reader(tmp_path / "replica", limit=16 << 30) == "USDC"
    assert undisturbed(host, before)


def test_who_cannot_map_the_index_is_told_and_disturbs_nobody(host: Client, tmp_path: Path) -> None:
    """A reader without room for the index says what it lacks; the others go on, and nothing is made again."""
    before = host.status().generation
    told = reader(tmp_path / "replica", room=6 << 20)
    assert "this process cannot open it" in told, told
    assert "Cannot allocate memory" in told
    assert undisturbed(host, before)
    assert host.resolve("USDC")


def test_who_has_no_file_to_spare_goes_on_with_what_it_has(host: Client, tmp_path: Path) -> None:
    """A reader that may open no more files cannot go over to the next head: it says so, and answers from where it is."""
    command = [sys.executable, "-c", FILES, TARGET, str(tmp_path / "replica")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        head = host._view.head
        assert head is not None
        (host._folder.path / "head").unlink()  # type: ignore[union-attr]  # the syncer takes over from itself, with another head
        eventually(lambda: host.status().syncer and host._view.head is not head, 20)
        told, _ = reader.communicate("go\n", timeout=60)
    assert told.startswith("USDC"), told
    assert "Too many open files" in told
    assert not host._view.head.words[COMPLAINTS]  # type: ignore[union-attr]
