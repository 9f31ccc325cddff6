"""`make bench-streams`: what each follower of the feed costs a server, over gRPC and over NATS.

Real connections, one for each follower, as of so many hosts; to leave the processor to the server, what a real client says on one
is recorded once and said again on all of them, and what comes is read as bytes. Every batch carries when its write began, so the
latencies are from there until a follower has it. Options: `--streams N …`, `--rate` in batches a second, `--seconds` of each part.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import os
import re
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from cqar import broker
from cqar.client import Asset, AssetType
from cqar.client._registry import Registry
from cqar.client._remote import Remote
from tests.brokers import NatsServer
from tests.faults.replica.proxy import Proxy
from tests.processes import Process, process

BEAT = 1.0  # seconds between two heartbeats
SAMPLE = 20  # one of so many followers tells its latencies
ROOM = 1 << 20  # bytes that a follower takes before it would have to tell that it has taken them
_MOMENT = re.compile(rb"began at (\d{20})")
_PING = re.compile(rb"\x00\x00\x08\x06\x00\x00\x00\x00\x00(.{8})", re.DOTALL)  # of HTTP/2
_CLOCK = os.sysconf("SC_CLK_TCK")
_WINDOW = bytes.fromhex("000004080000000000") + ROOM.to_bytes(4)  # HTTP/2's WINDOW_UPDATE, of the connection


class Cost(msgspec.Struct):
    """What so many followers cost in some seconds."""

    server: float  # seconds of processor
    nats: float
    memory: int  # bytes of the server
    batches: int
    latencies: list[float]


# --- followers ----------------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """What a follower says at first, and once it has the consumer that it asked for."""

    first: bytes
    then: bytes = b""


class Recorder(Proxy):
    """Notes what the client of its only connection says."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self.said = b""

    def _pass(self, data: bytes, to: socket.socket, *, counts: bool) -> bool:
        if not counts:
            self.said += data
        return super()._pass(data, to, counts=counts)


def over_grpc(target: str) -> list[Said]:
    """Give what a client says that follows a server from its head on."""
    with Recorder(target) as recorder:
        remote = Remote(recorder.target, token=None, actor=None, timeout=10)
        watch = remote.watch(Remote(target, token=None, actor=None, timeout=10).head())
        next(iter(watch))
        said = recorder.said
        watch.cancel()
        remote.close()
    return [Said(said + _WINDOW)]


def over_nats(count: int) -> list[Said]:
    """Give what followers of NATS say, each of whom has a consumer of its own."""
    stream = broker.FEED_STREAM
    wanted = msgspec.json.encode({"batch": 10_000, "expires": 600 * 10**9})
    said = []
    for number in range(count):
        name = f"bench-{os.getpid()}-{number}"
        config = {"name": name, "deliver_policy": "new", "ack_policy": "none", "mem_storage": True, "num_replicas": 1}
        made = msgspec.json.encode({"stream_name": stream, "config": {**config, "inactive_threshold": 60 * 10**9}})
        first = (
            b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
            + f"SUB {broker.HEARTBEATS} 1\r\nSUB {name}.* 2\r\n".encode()
            + f"PUB $JS.API.CONSUMER.CREATE.{stream}.{name} {name}.0 {len(made)}\r\n".encode()
            + made
            + b"\r\n"
        )
        then = f"PUB $JS.API.CONSUMER.MSG.NEXT.{stream}.{name} {name}.1 {len(wanted)}\r\n".encode() + wanted + b"\r\n"
        said.append(Said(first, then))
    return said


def follow(address: tuple[str, int], said: list[Said], count: int, told: multiprocessing.connection.Connection) -> None:
    """Hold so many connections and read them; tell the latencies of a few each time that somebody asks."""
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        for number in range(count):
            follower = socket.create_connection(address, timeout=30)
            mine = said[number % len(said)]
            follower.sendall(mine.first)
            follower.setblocking(False)
            selector.register(follower, selectors.EVENT_READ, (number % SAMPLE == 0, mine.then))
            for key, _ in selector.select(0):  # a server that has much to say to those before must not wait
                _read(key, latencies)
        selector.register(told, selectors.EVENT_READ)
        told.send(None)
        while True:
            for key, _ in selector.select():
                if key.fileobj is told:
                    told.recv()
                    told.send(latencies)
                    latencies = []
                else:
                    _read(key, latencies)


def _read(key: selectors.SelectorKey, latencies: list[float]) -> None:
    assert isinstance(key.fileobj, socket.socket)
    data = key.fileobj.recv(1 << 16)
    if not data:
        raise ConnectionError("a follower was sent away")
    for asked in _PING.findall(data):
        key.fileobj.send(b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + asked)
    if data.startswith(b"PING\r\n"):
        key.fileobj.send(b"PONG\r\n")
    sampled, then = key.data
    if then and b"consumer_create_response" in data:
        key.fileobj.send(then)
    if sampled:
        now = time.monotonic_ns()
        latencies += [(now - int(found)) / 1e9 for found in _MOMENT.findall(data)]


@contextmanager
def followers(
    address: tuple[str, int], said: list[Said], count: int
) -> Iterator[multiprocessing.connection.Connection]:
    """Run so many followers in a process of their own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    reader = context.Process(target=follow, args=(address, said, count, there), daemon=True)
    reader.start()
    there.close()  # so that the end of the reader is seen
    here.recv()
    try:
        yield here
    finally:
        reader.kill()
        reader.join()


# --- what they cost -----------------------------------------------------------------------------------------------------


def processor(pid: int) -> float:
    """Give the seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK


def memory(pid: int) -> int:
    """Give the bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def write(target: str, rate: float, seconds: float) -> int:
    """Write at a steady pace, a transaction each time; give how many."""
    remote = Remote(target, token=None, actor="bench", timeout=30)
    registry = Registry(remote)
    asset = Asset(symbol="BENCH", name="-", asset_type=AssetType.TOKEN, description="as long as real ones are " * 8)
    asset_id = registry.create_asset(asset).asset.asset_id
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        registry.update_asset(asset_id, name=f"began at {time.monotonic_ns():020d}")
        count += 1
        time.sleep(max(0.0, began + count / rate - time.monotonic()))
    remote.close()
    return count + 1


def cost(
    server: Process, nats: NatsServer, told: multiprocessing.connection.Connection | None, rate: float, seconds: float
) -> Cost:
    """Let time pass, with so many batches a second, and tell what that took."""
    assert nats.pid is not None
    if told is not None:
        told.send(None)
        told.recv()
    pids = server.popen.pid, nats.pid
    before = [processor(pid) for pid in pids]
    batches = 0
    if rate:
        batches = write(server.target, rate, seconds)
        time.sleep(0.5)  # the last ones are still on their way
    else:
        time.sleep(seconds)
    by_server, by_nats = [processor(pid) - start for pid, start in zip(pids, before, strict=True)]
    latencies: list[float] = []
    if told is not None:
        told.send(None)
        latencies = told.recv()
    return Cost(by_server, by_nats, memory(pids[0]), batches, latencies)


def measure(way: str, streams: list[int], rate: float, seconds: float, table: Table) -> None:
    """Measure one way for several numbers of followers, each beside none at all on the same server."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        nats = NatsServer(folder / "nats")
        nats.start()
        flags = ["--data-dir", str(folder), "--snapshot-interval", "0", "--heartbeat-interval", str(BEAT)]
        flags += ["--max-concurrent-rpcs", "5000", "--log-level", "INFO"]
        with process(*flags, *(["--feed", nats.url] if way == "NATS" else [])) as server:
            host, _, port = server.target.rpartition(":")
            write(server.target, rate, 3)  # what is imported and warmed at the first calls is none of theirs
            idle, busy = [cost(server, nats, None, each, seconds) for each in (0, rate)]
            for count in streams:
                address = (host, int(port)) if way == "gRPC" else ("127.0.0.1", nats.port)
                said = over_grpc(server.target) if way == "gRPC" else over_nats(count)
                before = memory(server.popen.pid)
                with followers(address, said, count) as told:
                    time.sleep(2)
                    resting = cost(server, nats, told, 0, seconds)
                    working = cost(server, nats, told, rate, seconds)
                beats = resting.server - idle.server
                batches = (working.server - busy.server) - beats
                ordered = sorted(working.latencies)
                expected = working.batches * len(range(0, count, SAMPLE))
                table.add_row(
                    way,
                    f"{count:,}",
                    f"{working.batches / seconds:.1f}",
                    f"{100 * working.server / seconds:.0f} %",
                    f"{1e6 * batches / (working.batches * count):.1f}",
                    f"{1e6 * beats / (seconds / BEAT * count):.1f}",
                    f"{(working.memory - before) / count / 1024:.1f}",
                    f"{1000 * statistics.median(ordered):.1f}",
                    f"{1000 * ordered[int(len(ordered) * 0.99)]:.1f}",
                    f"{len(ordered) / (expected - len(range(0, count, SAMPLE))):.0%}",
                    f"{100 * working.nats / seconds:.0f} %" if way == "NATS" else "",
                )
                time.sleep(1)  # until the server has seen that they are gone
        nats.kill()


def main() -> None:
    """Measure both and print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.streams", description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--only", nargs="+", choices=["gRPC", "NATS"], default=["gRPC", "NATS"])
    arguments = parser.parse_args()
    columns = ("batches/s", "server", "µs/batch", "µs/heartbeat", "KiB each", "p50 ms", "p99 ms", "came", "NATS")
    table = Table("over", "followers", *columns, title=f"The feed at up to {arguments.rate:g} batches a second")
    for way in arguments.only:
        with Console(stderr=True).status(f"following over {way} …"):
            measure(way, arguments.streams, arguments.rate, arguments.seconds, table)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
