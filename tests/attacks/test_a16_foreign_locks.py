"""Another account, which may only read a replica, locks every file that it can open: flock needs no more than that.

Before: readers locked `meta.json` of a generation, and the attacker, too: no replica was ready within 20 s.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cqar import model
from cqar.client import Client, State, _sync, connect
from tests.attacks.marks import attack
from tests.faults.replica.liar import Liar
from tests.worlds import World, catalogue

pytestmark = [
    attack("A16", by="another account of the host, without write access", promise="who only reads holds up nobody"),
    pytest.mark.skipif(os.geteuid() != 0, reason="playing another account takes root"),
]

STRANGER = 12345
LOCKS = """
import fcntl, os, sys, time
os.setgroups([]); os.setgid({account}); os.setuid({account})
held = {{}}
print("begun", flush=True)
while True:
    for folder, _, names in os.walk({folder!r}):
        for name in names:
            path = os.path.join(folder, name)
            if path in held:
                continue
            try:
                held[path] = os.open(path, os.O_RDONLY)
                fcntl.flock(held[path], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                pass
    time.sleep(0.002)
"""


@pytest.fixture
def locked(open_folder: Path) -> Iterator[Path]:
    """A folder for replicas in which a stranger locks whatever appears."""
    program = LOCKS.format(account=STRANGER, folder=str(open_folder))
    stranger = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert stranger.stdout is not None
    assert stranger.stdout.readline() == "begun\n"
    yield open_folder / "replica"
    stranger.kill()
    stranger.communicate()


def ready(liar: Liar, folder: Path) -> Client:
    """Connect, which must not take long."""
    began = time.monotonic()
    client = connect(liar.target, replica_dir=folder, timeout=20)
    assert client.status().state is State.FRESH
    assert time.monotonic() - began < 5
    return client


def test_a_replica_is_made_compacted_and_cleaned_all_the_same(
    locked: Path, monkeypatch: pytest.MonkeyPatch, scale: int
) -> None:
    """Generations come and go, no more of them stay than without the stranger, and another process can take over at once."""
    monkeypatch.setattr(_sync, "TAIL_CHANGES", 20)
    monkeypatch.setattr(_sync, "CLEAN", 0.2)
    asset = msgspec.convert(catalogue()["asset"][0], model.Asset)
    with Liar(World([asset], position=0)) as liar:
        liar.commit(asset)
        with ready(liar, locked) as client:
            seen = set()
            for number in range(60 * scale):
                liar.commit(msgspec.structs.replace(asset, name=f"name {number}"))
                client.wait_for(liar.head.position, timeout=10)
                seen.add(client.status().generation)
            deadline = time.monotonic() + 20
            while len(seen) < 2 and time.monotonic() < deadline:  # a builder takes a moment to start
                time.sleep(0.1)
                seen.add(client.status().generation)
            assert len(seen) >= 2
            deadline = time.monotonic() + 10
            while len(list(locked.glob("*/gen-*"))) > 1 and time.monotonic() < deadline:
                time.sleep(0.1)
                client.resolve(asset.symbol)
            assert len(list(locked.glob("*/gen-*"))) == 1
        with ready(liar, locked) as another:
            assert another.position == liar.head.position


def test_no_lock_can_be_opened_by_another_account(locked: Path) -> None:
    """The rule: a file that is locked is its owner's alone."""
    asset = msgspec.convert(catalogue()["asset"][0], model.Asset)
    with Liar(World([asset], position=0)) as liar, ready(liar, locked):
        inodes = {path.stat().st_ino: path for path in locked.rglob("*") if path.is_file()}
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        ours = [each for each in locks if each[1] == "FLOCK" and int(each[4]) == os.getpid()]
        found = {inodes[inode] for each in ours if (inode := int(each[5].rpartition(":")[2])) in inodes}
        assert {path.name for path in found} == {"lock", "in-use"}
        for path in found:
            assert path.stat().st_mode & 0o077 == 0
