"""A process of a host that shares a replica: `python -m tests.faults.replica.member '{"target": …}'`.

It says what it sees, and does what it is told, in lines of JSON. All the while a thread of it looks things up and keeps account
of what may not be: half a transaction, a position that goes back, an error for what had an answer, an ALLOW of data too old.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cqar.answers import Decision
from cqar.client import Client, connect
from cqar.client._view import now
from cqar.errors import CqarError, SnapshotError
from tests.faults.replica import digest

PAIR = "PAIR"  # symbol of the group whose members always have the same name


class Watch:
    """Looks things up without end."""

    def __init__(self, client: Client, pause: float) -> None:
        self.client, self._pause = client, pause
        self.reads = 0
        self.position, self.history = 0, 0
        self.wrong: list[str] = []  # what may not be
        self.errors: Counter[str] = Counter()
        self.allowed: dict[int, float] = {}  # position to the last time at which it was the ground of an ALLOW
        self.slowest = 0.0
        self.asset_id = ""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            began = time.perf_counter()
            try:
                self._look()
            except CqarError as error:
                self.errors[type(error).__name__] += 1
                if len(self.wrong) < 20:
                    self.wrong.append(f"{type(error).__name__}: {error}")
            except Exception as error:  # whatever it is, it is not for a caller
                self.wrong.append(f"{error!r}")
                logging.getLogger(__name__).exception("a look-up failed")
            self.slowest = max(self.slowest, time.perf_counter() - began)
            self.reads += 1
            time.sleep(self._pause)

    def _look(self) -> None:
        client, replica = self.client, self.client._replica
        history, position = self._history(), client.position
        if history == self._history():  # else the position is of one or the other
            if history == self.history and position < self.position:
                self.wrong.append(f"from position {self.position} back to {position}")
            self.position, self.history = position, history
        members = client.group(PAIR).members
        names = {asset.name for _, asset in members}
        if len(members) != 2 or len(names) != 1:
            self.wrong.append(f"torn: {names} in a group of {len(members)}")
        self.asset_id = members[0][0].asset_id
        try:
            cold = {one.name for one in replica.consistently(_pair, (self.asset_id, members[1][0].asset_id))[0]}
        except SnapshotError:  # damaged files: said, not guessed
            return
        if len(cold) != 1:
            self.wrong.append(f"torn: {cold}")
        verdict = client.check_tradable(self.asset_id)
        if verdict.decision is Decision.ALLOW:
            self.allowed[verdict.position] = now()
            if verdict.age > 15:
                self.wrong.append(f"ALLOW at the age of {verdict.age}")

    def _history(self) -> int:
        at = self.client._view._at
        return 0 if at is None else at.history

    def report(self) -> dict[str, Any]:
        """Tell the account so far."""
        return {
            "reads": self.reads,
            "wrong": self.wrong[:20],
            "errors": dict(self.errors),
            "allowed": {str(position): at for position, at in list(self.allowed.items())},
            "slowest": self.slowest,
            "position": self.position,
        }


def _pair(replica: Any, *keys: str) -> list[Any]:
    return [replica.get("asset", key) for key in keys]


class Program:
    """What a member can be told to do; each method answers what is printed."""

    def __init__(self, client: Client, options: dict[str, Any]) -> None:
        self.client = client
        self.watch = Watch(client, options.get("pause", 0.001)) if options.get("watch", True) else None

    def report(self) -> dict[str, Any]:
        """Tell the account of the watch."""
        if self.watch is None:
            return {"wrong": [], "errors": {}, "allowed": {}, "reads": 0}
        return self.watch.report()

    def digest(self) -> dict[str, Any]:
        """Tell the digest of all records, and where it is true."""
        self.client._refresh()
        still = self.client._replica.still()
        return {"log_id": still.head.log_id, "position": still.position, "digest": digest.of_replica(still)}

    def tables(self) -> dict[str, Any]:
        """Tell what SQL says of the pair."""
        rows = self.client.sql("SELECT DISTINCT name FROM assets WHERE symbol IN ('PAIRA', 'PAIRB')")
        return {"alias": rows.alias, "names": [name for (name,) in rows.fetchall()]}

    def status(self) -> dict[str, Any]:
        """Tell the status."""
        found = self.client.status()
        told = {name: getattr(found, name) for name in found.__struct_fields__}
        return told | {"age": min(found.age, 1e9), "pid": os.getpid()}

    def gate(self, asset_id: str, max_age: float = 15.0) -> dict[str, Any]:
        """Tell the gate's verdict."""
        verdict = self.client.check_tradable(asset_id, max_age=max_age)
        return {"decision": verdict.decision.value, "age": min(verdict.age, 1e9), "position": verdict.position}

    def wait(self, position: int, timeout: float = 20.0) -> dict[str, Any]:
        """Wait for a position."""
        self.client.wait_for(position, timeout)
        return {"position": self.client.position}

    def asset(self, asset_id: str) -> dict[str, Any]:
        """Look an asset up."""
        began = time.perf_counter()
        try:
            return {"name": self.client.asset(asset_id).name}
        except CqarError as error:
            return {"error": type(error).__name__, "seconds": time.perf_counter() - began}

    def resources(self) -> dict[str, Any]:
        """Tell what the process holds."""
        status = Path("/proc/self/status").read_text()
        memory = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
        links = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return {
            "descriptors": len(links),
            "links": sorted(links),
            "memory": int(memory),
            "threads": threading.active_count(),
        }

    def close(self) -> dict[str, Any]:
        """Close the client."""
        self.client.close()
        return {}


def _say(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main(options: dict[str, Any]) -> None:
    """Connect, say so, and obey."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(name)s %(message)s")
    for name, value in options.get("constants", {}).items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(f"cqar.client.{module}"), constant, value)
    if "die_at" in options:
        from tests.faults.replica import dying

        dying.arm(options["die_at"], options.get("seed", 0))
    if "uid" in options:
        for name in ("_remote", "_source", "_sync", "_tables", "_status", "_brief", "_registry", "_folder"):
            importlib.import_module(
                f"cqar.client.{name}"
            )  # the other user may not be allowed to read the interpreter's
        os.setgid(options["uid"])
        os.setuid(options["uid"])
    names = ("replica_dir", "sync", "start", "timeout", "call_timeout", "snapshots")
    try:
        client = connect(options["target"], **{name: options[name] for name in names if name in options})
    except CqarError as error:
        _say(failed=type(error).__name__, reason=error.reason, message=str(error))
        return
    program = Program(client, options)
    _say(ready=os.getpid(), position=client.position)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            _say(**getattr(program, command.pop("do"))(**command))
        except CqarError as error:
            _say(error=type(error).__name__, reason=error.reason, message=str(error))
    if options.get("leave_open"):
        return
    client.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(json.loads(sys.argv[1]))
