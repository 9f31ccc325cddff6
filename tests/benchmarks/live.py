"""The live replica: a call while changes arrive, a write until another process sees it, a killed syncer until its successor."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from cqar.client import Asset, AssetType, Client, FlagType, QualityFlag, Severity, _head, _tail, connect
from cqar.client._build import build
from cqar.client._clock import clock_id
from cqar.client._folder import Folder
from cqar.client._head import About
from cqar.client._place import bundled_catalogue, folder_of
from cqar.client._status import TOLD, State
from cqar.client._tail import Frame
from cqar.client._view import now
from cqar.model import Batch, Change, Op
from tests.benchmarks.figures import Figure
from tests.processes import process
from tests.worlds import NOW

ROUNDS = 9
CALLS = 100_000
EVERY = 0.02  # seconds between two batches


def nanoseconds(call: Callable[[], object], number: int) -> float:
    """Time a call, in ns; the loop is part of it for all peers alike."""
    start = time.perf_counter_ns()
    for _ in range(number):
        call()
    return (time.perf_counter_ns() - start) / number


def publish(target: str, base: Path) -> None:
    """Lay the bundled catalogue out as the replica of a server that does not exist."""
    from cqar import snapshot

    folder = Folder(folder_of(base, target))
    found = snapshot.latest(bundled_catalogue())
    path = folder.new_generation(found.manifest.position)
    build(path, found, lambda _what, _part: None)
    tail = folder.new_tail(path.name, b"", 0)
    about = About(
        log_id=found.manifest.log_id,
        term=0,
        history=0,
        generation=path.name,
        tail=tail.name,
        clock=clock_id(),
        pid=os.getpid(),
    )
    words = {_head.STATE: TOLD.index(State.FRESH), _head.HEARD: int(now() * 1e9)}
    folder.publish(about, words, None)


def feed(target: str, base: Path) -> None:
    """Be the syncer of that replica, by the files alone: an unrelated batch every 20 ms. Ends with whoever started it."""
    folder = Folder(folder_of(base, target))
    head = folder.head()
    assert head is not None
    generation = folder.generation(head.about.generation)
    position = generation.head.position
    tail = folder.path / head.about.generation / head.about.tail
    assets = [key for key, _ in zip(generation.index.keys("asset"), range(200), strict=False)]
    parent = os.getppid()
    length = 0
    with tail.open("ab", buffering=0) as file:
        while os.getppid() == parent:
            head.words[_head.HEARD] = int(now() * 1e9)
            time.sleep(EVERY)
            record = generation.index.record("asset", assets[position % len(assets)])
            assert isinstance(record, Asset)
            if record.symbol in {"USDC", "USDT"}:
                record = generation.index.record("asset", assets[0])
                assert isinstance(record, Asset)
            position += 1
            named = msgspec.structs.replace(record, name=f"{record.name[:40]} {position}")
            change = Change(op=Op.PUT, kind="asset", key=named.asset_id, record=named)
            batch = Batch(position=position, chain=bytes(16), committed_at=NOW, changes=(change,))
            data = _tail.packed(Frame(batch))
            file.write(data)
            length += len(data)
            head.words[_head.POSITION] = position
            head.words[_head.LENGTH] = length


def hot(folder: Path, _size: int) -> Iterator[Figure]:
    """Repeated look-ups beside a plain function with one dict look-up: quiet, and with 50 unrelated batches a second."""
    target = "nowhere:1"
    publish(target, folder)
    with connect(target, replica_dir=folder, sync="off") as client:
        quiet = measured(client)
        program = (
            f"from pathlib import Path; from tests.benchmarks.live import feed; feed({target!r}, Path({str(folder)!r}))"
        )
        with subprocess.Popen([sys.executable, "-c", program]) as writer:
            before = client.position
            while client.position < before + 10:
                time.sleep(0.05)
            began, start = client.position, time.perf_counter()
            busy = measured(client)
            rate = (client.position - began) / (time.perf_counter() - start)
            writer.kill()
    names = ("repeated resolve", "repeated check_tradable")
    for name, bar, alone, besieged in zip(names, (2, 4), quiet[1:], busy[1:], strict=True):
        peer = f"plain function, dict: {quiet[0]:.0f} ns"
        yield Figure(name, f"{alone:.0f} ns", peer, alone / quiet[0], f"<= {bar}", alone <= bar * quiet[0])
        # Each beside the plain function of its own run: whoever writes the batches takes a share of caches and clock.
        ratio = (besieged / busy[0]) / (alone / quiet[0])
        yield Figure(
            f"{name}, {rate:.0f} batches/s",
            f"{besieged:.0f} ns",
            f"quiet: {alone:.0f} ns",
            ratio,
            "<= 1.3",
            ratio <= 1.3,
        )


def measured(client: Client) -> list[float]:
    """Give the medians of a plain function, `resolve` and `check_tradable`, in ns."""
    known = {("USDC", "ethereum"): client.resolve("USDC", chain="ethereum")}

    def plain(symbol: str, *, chain: str | None = None) -> object:
        return known[symbol, chain]  # type: ignore[index]

    asset_id = client.resolve("USDC", chain="ethereum").asset.asset_id
    rounds = [
        (
            nanoseconds(lambda: plain("USDC", chain="ethereum"), CALLS),
            nanoseconds(lambda: client.resolve("USDC", chain="ethereum"), CALLS),
            nanoseconds(lambda: client.check_tradable(asset_id), CALLS),
        )
        for _ in range(ROUNDS)
    ]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


# --- with a server ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def member(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process of the host, which says a line when it is ready."""
    command = [sys.executable, "-c", "from tests.benchmarks import live; live." + program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline()
        try:
            yield started
        finally:
            started.kill()


def stand(target: str, folder: str) -> None:
    """Sync, or stand by to."""
    with connect(target, replica_dir=folder):
        print("ready", flush=True)  # noqa: T201
        while True:
            time.sleep(60)


def watch(target: str, folder: str, asset_id: str) -> None:
    """Only read: say at what time each new reason of the flag was seen."""
    last = ""
    with connect(target, replica_dir=folder, sync="off") as client:
        print("ready", flush=True)  # noqa: T201
        while True:
            flags = client.flags(asset_id)
            if flags and flags[0].reason != last:
                last = flags[0].reason
                print(last, time.monotonic_ns(), flush=True)  # noqa: T201
            time.sleep(0.0002)


def visible(_folder: Path, _size: int) -> Iterator[Figure]:
    """From the acknowledgement of a write over gRPC until a process that only reads shows it."""
    after = []
    with tempfile.TemporaryDirectory() as data, process("--data-dir", data, "--snapshot-interval", "0") as server:
        Path(data).chmod(0o755)
        folder = f"{data}/replica"
        with (
            member(f"stand({server.target!r}, {folder!r})"),
            connect(server.target, replica_dir=folder, sync="off") as client,
        ):
            coin = Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.STABLECOIN)
            asset = client.registry.create_asset(coin).asset
            with member(f"watch({server.target!r}, {folder!r}, {asset.asset_id!r})") as reader:
                assert reader.stdout is not None
                for number in range(300):
                    flag = QualityFlag(
                        asset_id=asset.asset_id,
                        flag_type=FlagType.DEPEGGED,
                        severity=Severity.CRITICAL,
                        source="bench",
                        reason=str(number),
                    )
                    client.registry.raise_quality_flag(flag)
                    acknowledged = time.monotonic_ns()
                    reason, seen = reader.stdout.readline().split()
                    assert reason == str(number)
                    after.append((int(seen) - acknowledged) / 1e6)
                    time.sleep(0.005)
    after.sort()
    p50, p99 = after[150], after[297]
    yield Figure(
        "write acknowledged -> visible in another process",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        "",
        None,
        "p50 <= 10, p99 <= 50",
        p50 <= 10 and p99 <= 50,
    )


def takeover(_folder: Path, _size: int) -> Iterator[Figure]:
    """From the kill -9 of the syncer until another process is level with the server in its place."""
    took = []
    with tempfile.TemporaryDirectory() as data, process("--data-dir", data, "--snapshot-interval", "0") as server:
        Path(data).chmod(0o755)
        folder = f"{data}/replica"
        with contextlib.ExitStack() as stack:
            members = {
                m.pid: m
                for m in [stack.enter_context(member(f"stand({server.target!r}, {folder!r})")) for _ in range(3)]
            }
            with connect(server.target, replica_dir=folder, sync="off") as client:
                for _ in range(10):
                    leader = client._view.head.about.pid  # type: ignore[union-attr]
                    os.kill(leader, signal.SIGKILL)
                    start = time.monotonic()
                    while (head := client._view.head) is None or head.about.pid == leader:
                        client.wait_for(0)  # a look at what is new
                        time.sleep(0.001)
                    while client._view.state is not State.FRESH:
                        time.sleep(0.001)
                    took.append(time.monotonic() - start)
                    members.pop(leader)
                    another = stack.enter_context(member(f"stand({server.target!r}, {folder!r})"))
                    members[another.pid] = another
    yield Figure(
        "takeover after kill -9",
        f"median {statistics.median(took):.2f} s, worst {max(took):.2f} s",
        "",
        None,
        "<= 2 s",
        max(took) <= 2,
    )
