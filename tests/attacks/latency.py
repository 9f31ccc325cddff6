"""How long calls take while something else goes on: a reader in a process of its own, and a control beside it.

The control makes the same loop over a plain dict at the same time: what both suffer is the machine's. CPU seconds of the calling
thread tell what a call does itself, whoever else wants the processor. "late" is by how much the thread went on too late between two
rounds: for want of a processor, or of the interpreter's lock, which the syncer's threads take in the process that has them.
"""

from __future__ import annotations

import gc
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from cqar.client import Asset, AssetType, connect
from cqar.model import Chain, Deployment, Record

EVERY = 0.001  # seconds between two rounds of calls
QUIET = 1.5  # seconds before anything goes on, for comparison


class Took(NamedTuple):
    """What the calls of one process took, in microseconds."""

    calls: int
    worst: float
    p999: float
    worst_cpu: float
    p999_cpu: float
    over: int  # calls that took more than 5 ms
    worst_age: float  # seconds
    position: int

    def __str__(self) -> str:
        return (
            f"worst {self.worst / 1000:.2f} ms (cpu {self.worst_cpu / 1000:.2f}), "
            f"p99.9 {self.p999:.0f} µs (cpu {self.p999_cpu:.0f}), "
            f"{self.over} of {self.calls} over 5 ms, worst age {self.worst_age:.1f} s"
        )


class Reader:
    """A process that asks the gate and `resolve` each millisecond until it is told to stop."""

    def __init__(
        self, target: str, folder: Path, asset_id: str, symbol: str, *, sync: str = "off", idle: bool = False
    ) -> None:
        """With `idle` it asks nothing until it is told to stop, and then for a second."""
        command = [
            sys.executable,
            "-m",
            "tests.attacks.latency",
            target,
            str(folder),
            asset_id,
            symbol,
            sync,
            str(int(idle)),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self) -> Self:
        """Return once it has a replica."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the reader ended"
        return self

    def stop(self) -> dict[str, Took]:
        """Return what its calls and those of its control took, by name."""
        out, _ = self._process.communicate("stop\n", timeout=60)
        return {name: Took(**each) for name, each in json.loads(out).items()}

    def kill(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()


def assets(number: int, first: int = 0) -> list[list[Record]]:
    """Return so many assets with a deployment each, in transactions of 1,000 records."""
    records: list[Record] = []
    for each in range(first, first + number):
        asset_id = f"00000000-0000-4000-9000-{each:012d}"
        records += [
            Asset(asset_id=asset_id, symbol=f"COIN{each}", name=f"Coin {each}", asset_type=AssetType.TOKEN),
            Deployment(
                deployment_id=f"00000000-0000-4000-a000-{each:012d}",
                asset_id=asset_id,
                chain_id="ethereum",
                contract_address=f"0x{each + 1:040x}",
                decimals=6,
            ),
        ]
    return [records[start : start + 1000] for start in range(0, len(records), 1000)]


ETHEREUM = Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1)


def _measured(took: list[int], used: list[int], age: float, position: int) -> dict[str, Any]:
    took.sort()
    used.sort()
    return Took(
        calls=len(took),
        worst=took[-1] / 1000,
        p999=took[len(took) * 999 // 1000] / 1000,
        worst_cpu=used[-1] / 1000,
        p999_cpu=used[len(used) * 999 // 1000] / 1000,
        over=sum(each > 5_000_000 for each in took),
        worst_age=age,
        position=position,
    )._asdict()


def _timed(call: Callable[[], object], took: list[int], used: list[int]) -> object:
    cpu, start = time.thread_time_ns(), time.perf_counter_ns()
    result = call()
    end = time.perf_counter_ns()
    used.append(time.thread_time_ns() - cpu)
    took.append(end - start)
    return result


def _main(arguments: Sequence[Any]) -> None:
    target, folder, asset_id, symbol, sync, idle = arguments
    with connect(target, replica_dir=folder, sync=sync) as client:
        known = {asset_id: client.check_tradable(asset_id)}
        gc.disable()  # the collector is the application's
        took: dict[str, tuple[list[int], list[int]]] = {
            name: ([], []) for name in ("gate", "resolve", "control", "quiet", "late")
        }
        age = 0.0

        def ask(gate: str) -> None:
            nonlocal age
            age = max(age, _timed(lambda: client.check_tradable(asset_id), *took[gate]).age)  # type: ignore[attr-defined]
            _timed(lambda: client.resolve(symbol), *took["resolve"])
            _timed(lambda: known[asset_id], *took["control"])
            cpu, start = time.thread_time_ns(), time.perf_counter_ns()
            time.sleep(EVERY)
            took["late"][0].append(time.perf_counter_ns() - start - int(EVERY * 1e9))
            took["late"][1].append(time.thread_time_ns() - cpu)

        until = time.monotonic() + QUIET
        while time.monotonic() < until:
            ask("quiet")
        age = 0.0
        print("ready", flush=True)  # noqa: T201
        if idle == "1":
            select.select([sys.stdin], [], [])
        while not select.select([sys.stdin], [], [], 0)[0]:
            ask("gate")
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            ask("gate")
        position = client.position
    print(json.dumps({name: _measured(*each, age, position) for name, each in took.items()}))  # noqa: T201


if __name__ == "__main__":
    _main(sys.argv[1:])
