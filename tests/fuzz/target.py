"""A server under fire: its methods as it tells them itself, calls of bytes, and what no answer may be.

The methods come from the server's reflection, so one that is new is attacked without a change here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.text_format import MessageToString
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cqar import wire

PATIENCE: Final = 30.0  # seconds for an answer
_TASTE: Final = 0.02  # seconds of a stream after its first message

# The codes of R16, and OUT_OF_RANGE of the feed.
_DOCUMENTED: Final = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]*[A-Z0-9]")
# Names of constraints, drivers, tracebacks, addresses of databases. No request holds any of them, so no reply may.
_INSIDES: Final = re.compile(
    rb"\b(?:pk|uq|ck|fk|ex|ix)_(?:asset|chain|venue|clock|batch|change|request)|\bpsycopg|sqlalchemy|Traceback|postgres(?:ql)?://"
)
# Tables, statements and paths: a reply may hold them, in a manifest or a URL, but no error.
_DETAILS: Final = re.compile(
    rb"\basset_(?:deployments|identifiers|relationships|groups|group_members|quality_flags)\b|\bvenue_symbols\b(?!:)|"
    rb"\bSELECT\b|\bINSERT INTO\b|\bUPDATE \w+ (?:AS|SET)\b|\bFile \"|\.py\b|/(?:usr|home|root|work|tmp|dev|opt|var|proc)/"
)


class Answer(NamedTuple):
    """What a call gave: its code, and either messages or the text and details of an error."""

    code: grpc.StatusCode
    messages: list[bytes]
    text: str = ""
    status: bytes = b""

    @property
    def info(self) -> error_details_pb2.ErrorInfo | None:
        """The machine-readable part of an error of ours."""
        for detail in status_pb2.Status.FromString(self.status).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return info
        return None


class Target:
    """The methods of a server and a channel to it. Thread-safe."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        services = [pool.FindServiceByName(name) for name in sorted(database.get_services())]
        self.methods: list[MethodDescriptor] = [method for service in services for method in service.methods]

    def call(self, method: MethodDescriptor, request: bytes) -> Answer:
        """Call a method with the bytes of a request; of a stream only the first messages are taken."""
        service = method.containing_service
        assert service is not None
        path = f"/{service.full_name}/{method.name}"
        requests: Any = iter([request]) if method.client_streaming else request
        try:
            if not method.server_streaming:
                unary: Any = self._channel.stream_unary if method.client_streaming else self._channel.unary_unary
                return Answer(grpc.StatusCode.OK, [unary(path)(requests, timeout=PATIENCE)])
            stream: Any = self._channel.stream_stream if method.client_streaming else self._channel.unary_stream
            return Answer(grpc.StatusCode.OK, list(_first(stream(path)(requests, timeout=PATIENCE))))
        except grpc.RpcError as error:
            failed: Any = error
            details = [value for name, value in failed.trailing_metadata() or () if name == wire.DETAILS]
            return Answer(failed.code(), [], failed.details() or "", details[0] if details else b"")


def _first(call: Any) -> Iterator[bytes]:
    """Give the first messages of a stream: one, and what else comes at once."""
    taken = 0
    timer = threading.Timer(_TASTE, call.cancel)
    try:
        for message in call:
            yield message
            taken += 1
            if taken == 1:
                timer.start()
            elif taken == 5:
                return
    except grpc.RpcError:
        if taken == 0 or call.code() is not grpc.StatusCode.CANCELLED:
            raise
    finally:
        timer.cancel()
        call.cancel()


def parsed(descriptor: Any, data: bytes) -> Message | None:
    """Give the message in some bytes; None if there is none."""
    try:
        return GetMessageClass(descriptor).FromString(data)
    except DecodeError:
        return None


def check(method: MethodDescriptor, answer: Answer) -> None:
    """Raise AssertionError unless this is an answer that a caller may get, whatever it sent (R16)."""
    ours = method.full_name.startswith("cqar.")
    info = answer.info
    contended = answer.code is grpc.StatusCode.UNAVAILABLE and info is not None and info.reason == "CONTENTION"
    assert answer.code in _DOCUMENTED or contended, f"{answer.code.name}: {answer.text[:1000]}"
    assert answer.code is not grpc.StatusCode.OUT_OF_RANGE or method.name == "WatchChanges"
    if answer.code is grpc.StatusCode.OK:
        for data in answer.messages:
            assert not (found := _INSIDES.search(data)) or not ours, f"leaked in a reply: {found!r}"
        return
    if ours:
        assert info is not None, f"no reason in {answer.code.name}: {answer.text[:1000]}"
        assert info.domain == wire.DOMAIN
        assert _REASON.fullmatch(info.reason), info.reason
    for data in (answer.text.encode(errors="replace"), answer.status):
        assert not (found := _INSIDES.search(data) or _DETAILS.search(data)), f"leaked: {found!r}"


def shown(method: MethodDescriptor, request: bytes) -> str:
    """Show a request for people, and as `make fuzz` takes it to send it again."""
    message = parsed(method.input_type, request)
    text = "no message" if message is None else MessageToString(message, as_one_line=True)
    return f"{method.full_name}\n  text: {text[:2000]}\n  again: --method {method.full_name} --request {_hex(request)}"


def _hex(request: bytes) -> str:
    return request.hex() or "''"
