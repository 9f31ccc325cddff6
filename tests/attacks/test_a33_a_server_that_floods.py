"""A server, or who stands in its place, sends messages of 60 MiB as fast as it can.

Before, the client read ahead a hundred messages of any size and wrote all that came: 4 GB of memory, a tail of 2.8 GB. Now it takes
no message above 32 MiB, reads 4 MiB ahead of what it has written, and writes no more than 32 MiB ahead of what it has made a
generation of; then it does not read on, and gRPC's flow control stops the server.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cqar import wire
from cqar.client import Asset, AssetType
from cqar.client._remote import MAX_MESSAGE
from cqar.client._sync import TAIL_MOST
from cqar.v1 import types_pb2
from tests.attacks.marks import attack
from tests.faults.replica.host import until
from tests.faults.replica.liar import Liar
from tests.worlds import World

pytestmark = attack(
    "A33", by="a server, or who stands in its place", promise="what comes costs a bounded amount of memory and disk"
)

MEBIBYTE = 1 << 20
LARGE = 14  # MiB of a message: what a server takes of a writer goes into one
_PROGRAM = """
import sys
from cqar.client import connect
with connect(sys.argv[1], replica_dir=sys.argv[2]) as client:
    print("ready", flush=True)
    for line in sys.stdin:
        status = client.status()
        held = [each.split()[1] for each in open("/proc/self/status") if each.startswith("VmHWM")]
        print(held[0], status.position, status.state, status.last_error, flush=True)
"""


class Victim:
    """A process that follows the server."""

    def __init__(self, target: str, folder: Path, log: Path) -> None:
        self.folder = folder
        with log.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, target, str(folder)], stdin=-1, stdout=-1, stderr=file, text=True
            )
        assert self.popen.stdout is not None
        assert self.popen.stdout.readline() == "ready\n"

    def told(self) -> tuple[int, int, str]:
        """Return its memory in MiB at its highest, its position, and its state with what it struggles with."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()
        memory, position, rest = self.popen.stdout.readline().split(maxsplit=2)
        return int(memory) // 1024, int(position), rest

    def tail(self) -> int:
        """Return the bytes of its tails."""
        total = 0
        for each in self.folder.glob("*/gen-*/tail-*"):
            try:
                total = max(total, each.stat().st_size)
            except FileNotFoundError:
                continue
        return total


@contextmanager
def attacked(tmp_path: Path) -> Iterator[tuple[Liar, Victim]]:
    """Run a server and a client of it."""
    with Liar(World([asset(0, 1)], position=1)) as liar:
        liar.snapshots.append(liar.world.publish(tmp_path / "snapshots"))
        victim = Victim(liar.target, tmp_path / "replica", tmp_path / "log")
        try:
            yield liar, victim
        finally:
            victim.popen.kill()
            victim.popen.communicate()


def asset(number: int, size: int) -> Asset:
    """Return an asset of about so many bytes."""
    return Asset(
        asset_id=f"00000000-0000-4000-9000-{number:012d}",
        symbol=f"COIN{number}",
        name="x" * size,
        asset_type=AssetType.TOKEN,
    )


def batch(liar: Liar, mebibytes: int) -> types_pb2.Batch:
    """Return the next batch, about so large."""
    return wire.batch_to_wire(liar.world.commit([asset(each, MEBIBYTE // 8) for each in range(8 * mebibytes)]))


def test_a_flood_is_taken_in_as_fast_as_it_is_written(tmp_path: Path, scale: int) -> None:
    """Memory and tail stay bounded while the server pushes, and the client comes level in the end."""
    with attacked(tmp_path) as (liar, victim):
        for _ in range(20 * scale):
            liar.enter(batch(liar, LARGE))
        longest = 0

        def level() -> bool:
            nonlocal longest
            longest = max(longest, victim.tail())
            return victim.told()[1] == liar.world.position

        until(level, "the client is level", within=90.0 * scale)
        memory, _, _ = victim.told()
    print(f"{20 * scale * LARGE} MiB sent: {memory} MiB of memory, a tail of {longest / MEBIBYTE:.0f} MiB")  # noqa: T201
    assert longest <= TAIL_MOST + 2 * LARGE * MEBIBYTE
    assert memory < 600


def test_a_message_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """The client says so, keeps what it has, and goes on by the next snapshot."""
    with attacked(tmp_path) as (liar, victim):
        before = liar.world.position
        large = MAX_MESSAGE // MEBIBYTE + 8
        liar.enter(batch(liar, large))
        until(lambda: "a message of more than 32 MiB" in victim.told()[2], "it says so")
        assert victim.told()[1] == before
        assert victim.told()[0] < 400
        liar.snapshots.append(liar.world.publish(tmp_path / "snapshots"))
        until(lambda: victim.told()[1] == liar.world.position, "it goes on")
