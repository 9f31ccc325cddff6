"""Syncers, their builders and readers killed with -9, at random moments and at every step: nobody else notices.

`FAULT_ROUNDS` (`make faults`: 50) times four is how often a syncer is killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import time
from pathlib import Path

import pytest

from cqar.client._folder import Folder
from tests.faults.replica.host import Host, Member, Truth, host, until
from tests.faults.replica.writer import Writer

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "3"))
KILLS = 4 * ROUNDS
SEED = int(os.environ.get("FAULT_SEED", "1"))
TAKEOVER = 2.0  # seconds until there is another syncer
SMALL = {"_sync.TAIL_CHANGES": 60, "_generation.KEEP": 1}  # a generation is built every second

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 20 * ROUNDS)]


def children(pid: int) -> list[int]:
    """Give the processes that a process has started."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        threads = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for each in threads for child in (each / "children").read_text().split()]
    return []


def kill(pid: int) -> None:
    """Kill a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def leftovers(shared: Path) -> list[str]:
    """List what killed processes have left behind."""
    return [path.name for path in shared.iterdir() if path.name.startswith(".")]


class Killings:
    """Kills syncers of a host until that was done so often, and keeps the books."""

    def __init__(self, several: Host, seed: int) -> None:
        self._several, self._random = several, random.Random(seed)
        self._folder = Folder(several.shared)
        self._candidates: list[Member] = []
        self.killed = self.by_itself = self.builders = 0
        self.takeovers: list[float] = []
        self.worst = 0.0

    def _start(self) -> None:
        at = int(
            10 ** self._random.uniform(0, 3.2)
        )  # most die early: while taking over and writing their first batches
        member = self._several.start(die_at=at, seed=self._random.random(), watch=False, constants=SMALL)
        self._candidates.append(member)

    def _listen(self) -> None:
        for member in self._candidates:
            if member.first is None and member.has_spoken():
                with contextlib.suppress(EOFError):
                    member.ready()

    def _strike(self, leader: int) -> None:
        """Kill the builder of the syncer, or the syncer."""
        builders = children(leader)
        if builders and self._random.random() < 0.5:
            kill(builders[0])
            self.builders += 1
        elif any(member.pid == leader for member in self._candidates):
            kill(leader)
            self.by_itself -= 1

    def _bury(self, leader: int) -> float | None:
        """Take note of the dead; give when the syncer died, if another process stood by."""
        died_at: float | None = None
        for member in [member for member in self._candidates if not member.runs()]:
            self._candidates.remove(member)
            member.kill()
            if member.pid == leader or member.first is None:
                self.killed += 1
                ready = [each for each in self._candidates if each.runs() and each.first is not None]
                died_at = time.monotonic() if member.pid == leader and ready else None
        return died_at

    def run(self, times: int) -> None:
        """Kill."""
        leader = 0
        strike_at = time.monotonic() + 1
        died_at: float | None = None
        while self.killed < times:
            while len(self._candidates) < 3:
                self._start()
            pid, _ = self._folder.beat()
            if pid != leader:
                if died_at is not None:
                    self.takeovers.append(time.monotonic() - died_at)
                leader, died_at = pid, None
            died_at = self._bury(leader) or died_at
            self._listen()
            if time.monotonic() > strike_at:
                strike_at = time.monotonic() + self._random.uniform(0.2, 1.5)
                self._strike(leader)
            time.sleep(0.003)
        for member in self._candidates:
            member.kill()
        self.by_itself += self.killed


def test_a_killed_syncer_is_replaced_and_no_reader_notices(
    target: str, truth: Truth, writer: Writer, folder: Path
) -> None:
    """F1: killed at every step of taking over, appending, building and flipping, its place is taken within 2 s."""
    with host(target, folder) as several:
        several.start(watch=False).ready().kill()
        readers = [several.start(sync="off").ready() for _ in range(2)]
        killings = Killings(several, SEED)
        with writer.at_work():
            killings.run(KILLS)
        last = several.start(constants=SMALL).ready()
        several.check(truth)
        accounts = [several.check_account(reader, truth) for reader in readers]
        print(f"\n{killings.killed} syncers killed, {killings.by_itself} of them at a step of theirs,", end=" ")  # noqa: T201  (a figure)
        print(f"{killings.builders} builders; {sum(each['reads'] for each in accounts)} reads;", end=" ")  # noqa: T201  (a figure)
        print(f"takeover {statistics.median(killings.takeovers):.2f} s, at most {max(killings.takeovers):.2f} s")  # noqa: T201  (a figure)
        assert statistics.median(killings.takeovers) < TAKEOVER / 2
        assert max(killings.takeovers) < TAKEOVER
        until(lambda: not leftovers(several.shared), "what the killed have left behind is removed")
        assert len(list(several.shared.glob("gen-*"))) <= 4  # those that somebody reads
        assert last.ask("status")["is_syncer"]


def test_readers_that_are_killed_leave_nothing_behind(target: str, truth: Truth, writer: Writer, folder: Path) -> None:
    """F2: whatever a reader was doing when it was killed, no file grows by it and none stays that nobody needs."""
    with host(target, folder, constants=SMALL) as several:
        last = several.start().ready()
        with writer.at_work():
            for _ in range(ROUNDS):
                doomed = [several.start(sync="off") for _ in range(2)]
                time.sleep(random.uniform(0.1, 0.8))
                for member in doomed:
                    member.kill()
        for _ in range(80):  # one more generation
            writer.write_pair()
        several.check(truth)
        until(lambda: len(list(several.shared.glob("gen-*"))) == 1, "only one generation is left")
        until(lambda: not leftovers(several.shared), "nothing is half built")
        assert len(list(several.shared.glob("gen-*/tail-*"))) == 1
        held = last.ask("resources")["links"]
        assert not [link for link in held if link.endswith("(deleted)") and "cqar" in link], held


def test_two_syncers_at_once_do_no_harm(target: str, truth: Truth, writer: Writer, folder: Path) -> None:
    """F4: the lock's file is removed again and again under a living syncer: one steps down, and no state is ever wrong."""
    with host(target, folder, constants=SMALL) as several:
        members = [several.start(pause=0.0005).ready() for _ in range(3)]
        with writer.at_work():
            for _ in range(3 * ROUNDS):
                (several.shared / "lock").unlink(missing_ok=True)
                time.sleep(random.uniform(0.05, 0.4))
        several.check(truth)
        until(lambda: sum(member.ask("status")["is_syncer"] for member in members) == 1, "one of them leads")
