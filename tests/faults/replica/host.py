"""A host with several processes that share a replica, and what they are compared with: the server's own history."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from cqar.client._feed import frame_from_wire
from cqar.client._remote import Remote
from cqar.client._source import ZERO_CHAIN
from cqar.client._view import now
from cqar.errors import CqarError
from cqar.model import FeedToken
from tests.faults.replica.digest import Running

PATIENCE = 40.0
LONG = "FAULT_ROUNDS" in os.environ  # `make faults`, rather than what every change has to pass
BOUND = 15.0  # seconds that the data of an ALLOW may be old


def some(names: Iterable[str], every: int) -> list[str]:
    """Give one of so many names; all in the long version."""
    return list(names)[:: 1 if LONG else every]


def until(condition: Callable[[], Any], what: str, within: float = PATIENCE) -> Any:
    """Wait for a condition; give what it gave."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain until {what}"
        time.sleep(0.01)
    return found


class Truth:
    """The server's whole history, followed over a connection of its own: the digest of each position, and when it was seen."""

    def __init__(self, target: str) -> None:
        self._remote = Remote(target, token=None, actor=None, timeout=PATIENCE)
        self.log_id = self._remote.head().log_id
        self.digests: dict[int, str] = {0: Running().value}
        self.seen: dict[int, float] = {0: now()}  # on the clock of the replicas
        self._stopping = False
        self._token = FeedToken(log_id=self.log_id, position=0, chain=ZERO_CHAIN)
        self._watch: Any = None
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def position(self) -> int:
        """The last position seen."""
        return self._token.position

    def _run(self) -> None:
        running = Running()
        while not self._stopping:
            try:
                self._watch = self._remote.watch(self._token)
                for message in self._watch:
                    for received in message.batches:
                        batch = frame_from_wire(received).batch
                        running.apply(batch)
                        self.digests[batch.position], self.seen[batch.position] = running.value, now()
                        self._token = FeedToken(log_id=self.log_id, position=batch.position, chain=batch.chain)
            except CqarError:
                time.sleep(0.05)

    def close(self) -> None:
        """Follow no more."""
        self._stopping = True
        self._remote.close()

    def check(self, told: dict[str, Any]) -> None:
        """Raise AssertionError unless a process shows what the server was at that position."""
        position = told["position"]
        until(lambda: position in self.digests, f"position {position} of {self.position} is heard of")
        assert told["log_id"] == self.log_id
        assert told["digest"] == self.digests[position], f"not what the server was at position {position}"

    def check_allowed(self, allowed: dict[str, float]) -> None:
        """Raise AssertionError if an ALLOW was given on data that were past their bound."""
        for text, at in allowed.items():
            after = self.seen.get(int(text) + 1)
            if after is not None:
                assert at - after <= BOUND, f"ALLOW at position {text}, {at - after:.1f} s after the next one"


class Member:
    """A process that shares a replica; see `member`."""

    def __init__(self, log: Path, wrapped: tuple[str, ...] = (), **options: Any) -> None:
        self._log = log
        command = [*wrapped, sys.executable, "-m", "tests.faults.replica.member", json.dumps(options)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
        with log.open("ab") as file:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, env=environment
            )
        self._rest = b""
        self.first: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def log(self) -> str:
        """What it has written to its standard error."""
        return self._log.read_text(errors="replace")

    def _line(self, timeout: float) -> dict[str, Any]:
        assert self.popen.stdout is not None
        deadline = time.monotonic() + timeout
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.popen.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the member says nothing; its log:\n{self.log[-3000:]}"
            piece = os.read(self.popen.stdout.fileno(), 1 << 16)
            if not piece:
                raise EOFError(f"the member is gone ({self.popen.wait()}); its log:\n{self.log[-3000:]}")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def ready(self, timeout: float = PATIENCE) -> Self:
        """Wait until it is connected."""
        if self.first is None:
            self.first = self._line(timeout)
        assert "ready" in self.first, self.first
        return self

    def ask(self, what: str, timeout: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
        """Have it do something, and give what it says."""
        self.ready()
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps({"do": what, **arguments}).encode() + b"\n")
        self.popen.stdin.flush()
        return self._line(timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def has_spoken(self) -> bool:
        """Tell whether there is something to read."""
        assert self.popen.stdout is not None
        return bool(select.select([self.popen.stdout], [], [], 0)[0])

    def runs(self) -> bool:
        """Tell whether it has not ended."""
        return self.popen.poll() is None

    def end(self, timeout: float = 10.0) -> int:
        """Let it end by itself; give its exit code."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        return self.popen.wait(timeout)

    def kill(self) -> None:
        """End it at once, frozen or not."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Host:
    """Starts members on one replica folder."""

    def __init__(self, target: str, folder: Path, **options: Any) -> None:
        self.target, self.folder, self.options = target, folder, options
        self.replica_dir = folder / "replica"
        self.members: list[Member] = []
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, wrapped: tuple[str, ...] = (), **options: Any) -> Member:
        """Start a member."""
        told = {"target": self.target, "replica_dir": str(self.replica_dir)} | self.options | options
        member = Member(self.folder / f"member-{len(self.members)}.log", wrapped, **told)
        self.members.append(member)
        return member

    @property
    def running(self) -> list[Member]:
        """Those that have not ended."""
        return [member for member in self.members if member.runs()]

    @property
    def shared(self) -> Path:
        """The folder that they share."""
        return next(self.replica_dir.iterdir())

    def leader(self) -> Member | None:
        """Give the one that is the syncer."""
        for member in self.running:
            if member.ask("status")["is_syncer"]:
                return member
        return None

    def check(self, truth: Truth) -> None:
        """Raise AssertionError unless every member shows the server's last position, and nothing was ever wrong with any."""
        head = truth._remote.head().position
        for member in self.running:
            member.ask("wait", position=head)
            truth.check(member.ask("digest"))
            self.check_account(member, truth)

    def check_account(self, member: Member, truth: Truth) -> dict[str, Any]:
        """Raise AssertionError if a member met what may not be; give its account."""
        account = member.ask("report")
        if not account:  # it was started a moment ago and has not looked at anything yet
            return account
        assert not account["wrong"], account["wrong"]
        assert not account["errors"], account["errors"]
        truth.check_allowed(account["allowed"])
        return account


@contextmanager
def host(target: str, folder: Path, **options: Any) -> Iterator[Host]:
    """Give a host, and leave none of its processes behind."""
    made = Host(target, folder, **options)
    try:
        yield made
    finally:
        for member in made.members:
            member.kill()
