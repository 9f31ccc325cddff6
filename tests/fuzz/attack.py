"""An attack on a server process: rounds of requests for every method, a look at its memory, and then at its records."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import msgspec
from google.protobuf.descriptor import MethodDescriptor

from cqar import wire
from cqar.model import KINDS, Asset, Chain, Record
from cqar.v1 import admin_pb2, registry_pb2
from tests.faults.process import ServerProcess, server_process
from tests.fuzz.target import Answer, Target, check, parsed, shown
from tests.fuzz.values import Maker, Pool
from tests.worlds import catalogue

IN_FLIGHT: Final = 8
# What may still come after a warm-up: the ring of the feed filling up (16 MiB of batches), caches of statements, and holes
# that requests of a megabyte, answered by sixteen threads, leave in the allocator. Between the two halves of the rest of a
# long run lie 140,000 requests: to keep 500 bytes of each would be more.
GROWTH: Final = 64 << 20


class Failed(NamedTuple):
    """A request that got an answer it should not have got."""

    method: MethodDescriptor
    request: bytes
    why: str

    def __str__(self) -> str:
        return f"{self.why}\n{shown(self.method, self.request)}"


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends a token with every call: the requests make tokens, and with the first one the server is open no longer."""

    def __init__(self, secret: str) -> None:
        self._metadata = (("authorization", f"Bearer {secret}"),)

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=self._metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _call  # type: ignore[assignment]


class Attack:
    """A server under fire and what is known of it."""

    def __init__(self, process: ServerProcess, open_channel: grpc.Channel) -> None:
        make: Any = open_channel.unary_unary(
            "/cqar.v1.Admin/CreateToken",
            request_serializer=admin_pb2.CreateTokenRequest.SerializeToString,
            response_deserializer=admin_pb2.CreateTokenResponse.FromString,
        )
        made = make(admin_pb2.CreateTokenRequest(name="attacker", roles=[admin_pb2.ROLE_ADMIN]))
        self._own_token = made.token.token_id.encode()
        channel = grpc.intercept_channel(open_channel, _Bearer(made.secret))
        self.process = process
        self.target = Target(channel)
        self.pool = Pool()
        self.codes: dict[str, Counter[str]] = {method.full_name: Counter() for method in self.target.methods}
        self.memory: list[int] = []
        self._channel = channel

    def seed(self, assets: int) -> None:
        """Fill the registry with real records: so many assets, and all that belongs to them alone."""
        for method in self.target.methods:
            self.pool.learn_text("service", method.containing_service.full_name)
        upsert: Any = self._channel.unary_unary(
            "/cqar.v1.AssetRegistry/UpsertRecords",
            request_serializer=registry_pb2.UpsertRecordsRequest.SerializeToString,
            response_deserializer=registry_pb2.UpsertRecordsResponse.FromString,
        )
        records = [wire.any_to_wire(record) for record in real_records(assets)]
        for start in range(0, len(records), 1000):
            reply = upsert(registry_pb2.UpsertRecordsRequest(records=records[start : start + 1000]))
            refused = [result for result in reply.results if result.outcome == registry_pb2.OUTCOME_REFUSED]
            assert not refused, refused[:3]
        for record in records:
            self.pool.learn(record)

    def round(self, source: random.Random, count: int) -> list[Failed]:
        """Send so many requests for each method, several at a time and in any order; learn from the answers."""
        maker = Maker(source, self.pool)
        requests = [(method, maker.request(method)) for method in self.target.methods for _ in range(count)]
        source.shuffle(requests)
        with ThreadPoolExecutor(IN_FLIGHT) as senders:
            answers = list(senders.map(lambda each: self.target.call(*each), requests))
        failures = []
        for (method, request), answer in zip(requests, answers, strict=True):
            why = self.judged(method, answer)
            if why:
                failures.append(Failed(method, request, why))
            elif answer.code is grpc.StatusCode.OK:
                self._learn(source, method, request, answer)
        self.memory.append(self.process.memory)
        return failures

    def judged(self, method: MethodDescriptor, answer: Answer) -> str:
        """Count an answer, and say what is wrong with it, if anything."""
        self.codes[method.full_name][answer.code.name] += 1
        try:
            check(method, answer)
        except AssertionError as error:
            return str(error)
        return "" if self.process.runs else "the server is dead"

    def _learn(self, source: random.Random, method: MethodDescriptor, request: bytes, answer: Answer) -> None:
        """Note what an answer holds; a request that was answered is a good one to change, more so for its next page."""
        if self._own_token in answer.messages[0]:
            return  # or a request would revoke it
        asked = parsed(method.input_type, request)
        reply = parsed(method.output_type, answer.messages[0])
        if asked is None or reply is None:
            return
        token = getattr(reply, "next_page_token", "")
        if token and "page_token" in method.input_type.fields_by_name:
            asked.page_token = token  # type: ignore[attr-defined]
        if token or source.randrange(10) == 0:
            self.pool.learn(asked)
        if source.randrange(10) == 0 or len(answer.messages[0]) < 2000:
            self.pool.learn(reply)

    def growth(self) -> int:
        """Tell by how many bytes the server's memory grew since the first third of the rounds."""
        after = self.memory[len(self.memory) // 3 :]
        half = len(after) // 2
        return round(statistics.median(after[half:]) - statistics.median(after[: half or 1]))


@contextmanager
def attack(database: str, folder: Path, assets: int) -> Iterator[Attack]:
    """Start a server process on a database, seeded with real records, to be attacked while the block runs."""
    flags = (
        "--database",
        database,
        "--data-dir",
        str(folder),
        "--heartbeat-interval",
        "0.05",
        "--snapshot-interval",
        "20",
    )
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with (
        server_process(folder / "server.log", *flags) as process,
        grpc.insecure_channel(process.wait_for_target(), options=options) as channel,
    ):
        attacked = Attack(process, channel)
        attacked.seed(assets)
        yield attacked


def real_records(assets: int) -> list[Record]:
    """Give the first assets of the bundled catalogue with every record that refers to none but them, and all chains."""
    kept = {record.asset_id for record in catalogue()["asset"][:assets] if isinstance(record, Asset)}
    found: list[Record] = []
    for kind in KINDS:
        for record in catalogue()[kind]:
            if isinstance(record, Chain):
                found.append(msgspec.structs.replace(record, native_asset_id=None))  # its assets come later
            elif {getattr(record, name) for name in record.__struct_fields__ if name.endswith("asset_id")} <= kept | {
                None
            }:
                found.append(record)
    return found
