"""All faults at random for a while: nothing grows, and in the end every process shows what the server is.

`FAULT_ROUNDS` (`make faults`: 50) times twelve seconds.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cqar.client import _head
from cqar.client._folder import Folder
from tests.faults.replica.host import Host, Member, Truth, host, until
from tests.faults.replica.proxy import Proxy
from tests.faults.replica.writer import Writer

SECONDS = 12.0 * int(os.environ.get("FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("FAULT_SEED", "1"))
QUICK = {"_sync.TAIL_CHANGES": 150, "_sync.FROZEN": 3.0, "_sync.REPAIR": 0.5}
LEAST = 3  # members that live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + int(SECONDS))]


class Faults:
    """What may happen to a host, of which something is drawn again and again. A steady reader is left alone."""

    def __init__(self, several: Host, proxy: Proxy, seed: int) -> None:
        self._several, self._proxy, self._random = several, proxy, random.Random(seed)
        self.count = 0
        self.doomed: list[Member] = []

    def _one(self) -> Member:
        return self._random.choice(self.doomed)

    def fill(self) -> None:
        """Have enough members."""
        self.doomed = [member for member in self.doomed if member.runs()]
        while len(self.doomed) < LEAST:
            self.doomed.append(self._several.start(constants=QUICK, watch=self._random.random() < 0.5, pause=0.005))

    def kill(self) -> None:
        """Kill any."""
        self._one().kill()

    def kill_the_syncer(self) -> None:
        """Kill the one that leads."""
        pid, _ = Folder(self._several.shared).beat()
        for member in self.doomed:
            if member.pid == pid:
                member.kill()

    def freeze(self) -> None:
        """Stop one for longer than its place is kept, or not."""
        member = self._one()
        member.signal(signal.SIGSTOP)
        time.sleep(self._random.choice((0.3, 4.5)))
        with contextlib.suppress(ProcessLookupError):
            member.signal(signal.SIGCONT)

    def unlink_the_lock(self) -> None:
        """Force two syncers."""
        (self._several.shared / "lock").unlink(missing_ok=True)

    def cut(self) -> None:
        """Take the network away for a moment."""
        self._proxy.cut()
        time.sleep(self._random.uniform(0, 1.5))
        self._proxy.restore()

    def drop(self) -> None:
        """End all connections."""
        self._proxy.drop()

    def break_off(self) -> None:
        """Break in the middle of a message."""
        self._proxy.break_after = self._random.randrange(1, 5000)

    def slow(self) -> None:
        """Make the network slow."""
        self._proxy.delay = 0.05
        time.sleep(0.5)
        self._proxy.delay = 0.0

    def flip_the_tail(self) -> None:
        """Damage what comes next to be read."""
        for path in self._several.shared.glob("gen-*/tail-*"):
            with contextlib.suppress(OSError), path.open("r+b") as file:
                file.seek(self._random.randrange(max(1, path.stat().st_size)))
                file.write(b"\xff")

    def overwrite_the_head(self) -> None:
        """Write nonsense into a word of the head."""
        head = Folder(self._several.shared).head()
        if head is not None:
            head.words[self._random.choice((_head.LENGTH, _head.HEARD, _head.STATE, _head.POSITION))] = 1 << 61

    def lose_the_head(self) -> None:
        """Remove the head."""
        (self._several.shared / "head").unlink(missing_ok=True)

    def run(self) -> str:
        """Do something; give what."""
        self.fill()
        faults: list[Callable[[], None]] = [
            *(self.kill, self.kill_the_syncer, self.freeze, self.unlink_the_lock, self.cut, self.drop, self.break_off),
            *(self.slow, self.flip_the_tail, self.overwrite_the_head, self.lose_the_head),
        ]
        chosen = self._random.choice(faults)
        chosen()
        self.count += 1
        return chosen.__name__


def test_a_long_time_with_all_faults(target: str, truth: Truth, writer: Writer, folder: Path) -> None:
    """F26: files, descriptors, threads and memory stay what they were; every process equals the server in the end."""
    with Proxy(target) as proxy, host(proxy.target, folder) as several:
        first = several.start(constants=QUICK, watch=False).ready()
        steady = several.start(sync="off").ready()
        first.kill()
        faults = Faults(several, proxy, SEED)
        until_ = time.monotonic() + SECONDS
        done: list[str] = []
        begin: dict[str, int] = {}
        with writer.at_work():
            while time.monotonic() < until_:
                done.append(faults.run())
                time.sleep(0.4)
                if not begin and time.monotonic() > until_ - SECONDS * 0.7:
                    begin = steady.ask("resources")
        for member in faults.doomed:
            with contextlib.suppress(ProcessLookupError):
                member.signal(signal.SIGCONT)
        proxy.restore()
        faults.fill()
        for member in faults.doomed:
            member.ready()
        writer.write_pair()
        several.check(truth)
        account = several.check_account(steady, truth)
        end = steady.ask("resources")
        assert account["reads"] > 20 * SECONDS
        assert end["threads"] <= begin["threads"] + 1
        assert end["descriptors"] <= begin["descriptors"] + 5, (begin["links"], end["links"])
        assert end["memory"] < begin["memory"] * 1.5 + 20_000
        for _ in range(200):
            writer._write()
        several.check(truth)
        until(lambda: len(list(several.shared.glob("gen-*"))) <= 3, "generations are removed")
        faults.kill_the_syncer()  # who takes over sweeps what the builders of the dead have left
        faults.fill()
        until(
            lambda: not [each for each in several.shared.iterdir() if each.name.startswith(".")], "nothing is left over"
        )
        size = sum(path.stat().st_size for path in several.shared.rglob("*") if path.is_file())
        assert size < 60 << 20
