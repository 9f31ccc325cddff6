"""Calls to the server: one channel, one deadline for each call, typed errors. Nothing here is remembered.

Imports grpc, which costs 100 ms: the client imports this module when it first needs the server.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import grpc

from cqar import wire
from cqar.answers import Position, Resolution
from cqar.client import _handshake
from cqar.client._calls import Calls, keep_running
from cqar.client._forks import Forks
from cqar.client._replies import resolution_of
from cqar.client._tls import Tls
from cqar.errors import ClosedError, CqarError, InternalError, InvalidError, PositionExpiredError, UnavailableError
from cqar.model import FeedToken
from cqar.v1 import admin_pb2_grpc, registry_pb2_grpc, replication_pb2, replication_pb2_grpc, types_pb2
from cqar.v1 import registry_pb2 as pb

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 0.5  # seconds that a fork waits for threads to leave gRPC, once their channel is closed
MAX_MESSAGE = 32 << 20  # a batch is one message, and a bulk write may be large: twice what a server takes
TOO_LARGE, NO_MESSAGE = "MESSAGE_TOO_LARGE", "NO_MESSAGE"
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # A frozen peer is noticed after 25 s. Without ping_timeout_ms it takes a minute, whatever keepalive_timeout_ms says.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


OTHER_LOG = "OTHER_LOG"


def _told(trailing: Any) -> dict[str, str]:
    """Return the texts of a reply's metadata."""
    return {name: value for name, value in trailing or () if isinstance(value, str)}


class FeedMessage(NamedTuple):
    """What the feed brings: batches still in the form of the wire, and the server's head if it told."""

    batches: list[types_pb2.Batch]
    head_position: int | None
    as_of: float | None  # when that was the head, in seconds from when the server took the call
    size: int  # bytes of the message


class _Stubs(NamedTuple):
    channel: grpc.Channel
    registry: registry_pb2_grpc.AssetRegistryStub
    admin: admin_pb2_grpc.AdminStub
    replication: replication_pb2_grpc.ReplicationStub


class Remote:
    """A connection to one server, made at the first call. Thread-safe."""

    def __init__(
        self, target: str, *, token: str | None, actor: str | None, timeout: float, tls: Tls | None = None
    ) -> None:
        """`timeout` is the deadline of a call, in seconds, unless the call says otherwise; without `tls` all is plain text."""
        self.target, self.timeout = target, timeout
        self._tls, self._files = tls, None if tls is None else _handshake.files(tls)
        self._answered = False  # by a server of ours: then it is not for want of TLS that it cannot be reached
        self._metadata: list[tuple[str, str]] = []
        if token:
            self._metadata.append(("authorization", f"Bearer {token}"))
        if actor:
            self._metadata.append(("cqar-actor", actor))
        self._lock = threading.Lock()
        self._stubs: _Stubs | None = None
        self._calls = Calls()
        self._closed = False
        self.holds: Callable[[], str] = str  # the log that the caller has a replica of; none: empty
        self.refused = 0  # replies of a registry with another log

    def _open(self) -> _Stubs:
        with self._lock:
            if self._closed:
                raise ClosedError
            if self._stubs is None:
                keep_running()
                channel = (
                    grpc.insecure_channel(self.target, options=_OPTIONS)
                    if self._files is None
                    else grpc.secure_channel(self.target, grpc.ssl_channel_credentials(*self._files), options=_OPTIONS)
                )
                # Under the lock: making a stub on a channel that another thread is closing crashes the process.
                self._stubs = _Stubs(
                    channel,
                    registry_pb2_grpc.AssetRegistryStub(channel),  # type: ignore[no-untyped-call]
                    admin_pb2_grpc.AdminStub(channel),  # type: ignore[no-untyped-call]
                    replication_pb2_grpc.ReplicationStub(channel),  # type: ignore[no-untyped-call]
                )
            stubs = self._stubs
        _remotes.add(self)  # not under the lock, which a fork holds while it waits for none
        return stubs

    @contextmanager
    def _calling(self) -> Iterator[_Stubs]:
        """Yield the stubs, and count this thread as inside gRPC meanwhile; none enters while a fork is under way."""
        while True:
            stubs = self._open()
            with self._lock:
                if stubs is not self._stubs:  # closed by a fork
                    continue
                self._calls.__enter__()
            break
        try:
            yield stubs
        finally:
            self._calls.__exit__()

    def _error(self, error: grpc.RpcError) -> CqarError:
        code, details = error.code(), error.details() or ""
        if self._closed and code is grpc.StatusCode.CANCELLED:
            return ClosedError()
        trailing = [(entry.key, entry.value) for entry in error.trailing_metadata() or ()]
        if code is grpc.StatusCode.UNAVAILABLE and not any(name == wire.DETAILS for name, _ in trailing):
            if not self._answered and (why := _handshake.diagnosed(self.target, self._tls)) is not None:
                return why
            details = f"{self.target} cannot be reached: {details}"  # said by gRPC, not by a server of ours
        return wire.error_from_status(code, details, trailing)

    def call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """Call a method of AssetRegistry; raises the CqarError that the server's status stands for.

        Raises UnavailableError (OTHER_LOG) if the server is not of the registry that the caller has a replica of. It refuses such
        a call itself, unless it is too old; one that does not tell its log at all is taken for the right one.
        """
        return self._ours(method, request, timeout)[0]

    def write(self, method: str, request: Any, timeout: float | None = None) -> tuple[Any, Position]:
        """Call a method that writes; return the reply, and the position with the history that the server told."""
        reply, told = self._ours(method, request, timeout)
        return reply, Position(reply.position, told.get(wire.LOG_ID, ""), bytes.fromhex(told.get(wire.CHAIN, "")))

    def _ours(self, method: str, request: Any, timeout: float | None) -> tuple[Any, dict[str, str]]:
        held = self.holds()
        try:
            with self._calling() as stubs:
                reply, call = self._begun(
                    getattr(stubs.registry, method).with_call,
                    request,
                    timeout=self.timeout if timeout is None else timeout,
                    metadata=[(wire.LOG_ID, held)] if held else [],
                )
        except grpc.RpcError as error:
            failed = self._error(error)
            self._check_log(held, _told(error.trailing_metadata()), failed.reason)
            raise failed from None
        self._answered = True
        told = _told(call.trailing_metadata())
        self._check_log(held, told)
        return reply, told

    def _check_log(self, held: str, told: dict[str, str], reason: str = "") -> None:
        own = told.get(wire.LOG_ID, "")
        if not (held and own and held != own) and reason != OTHER_LOG:
            return
        self.refused += 1
        raise UnavailableError(
            f"{self.target} answers for another registry: it has the log {own}, and the replica is of {held}. Either the address"
            " leads elsewhere now, or the registry's database was replaced; then the replica loads the new one in a moment",
            reason=OTHER_LOG,
            log_id=own,
            held=held,
        )

    def call_admin(self, method: str, request: Any) -> Any:
        """Call a method of Admin; raises likewise."""
        return self._unary("admin", method, request, None)

    def _begun(
        self, method: Any, request: Any, timeout: float | None = None, metadata: Sequence[tuple[str, str]] = ()
    ) -> Any:
        try:
            return method(request, timeout=timeout, metadata=[*self._metadata, *metadata])
        except ValueError as error:  # on a channel that was closed meanwhile
            if self._closed:
                raise ClosedError from None
            raise UnavailableError(f"{self.target}: the connection was closed: {error}", reason="CLOSED") from None

    def _unary(self, service: str, method: str, request: Any, timeout: float | None) -> Any:
        timeout = self.timeout if timeout is None else timeout
        try:
            with self._calling() as stubs:
                reply = self._begun(getattr(getattr(stubs, service), method), request, timeout=timeout)
        except grpc.RpcError as error:
            raise self._error(error) from None
        self._answered = True
        return reply

    def stream(self, method: str, requests: Iterator[Any], timeout: float) -> Iterator[Any]:
        """Call a method that answers a stream with a stream; yield what it answers.

        Raises the error of its status, and what iterating over the requests raised, which grpc would only print.
        """
        failures: list[Exception] = []

        def watched() -> Iterator[Any]:
            try:
                yield from requests
            except Exception as failure:
                failures.append(failure)
                raise

        held = self.holds()
        with self._calling() as stubs:
            call = self._begun(
                getattr(stubs.registry, method),
                watched(),
                timeout=timeout,
                metadata=[(wire.LOG_ID, held)] if held else [],
            )
        try:
            yield from self._calls.each(call)
        except grpc.RpcError as error:
            raise failures[0] if failures else self._error(error) from None
        finally:
            call.cancel()  # a caller who stops in the middle wants no more of it to be written

    def resolve(self, request: pb.ResolveRequest) -> Resolution:
        """Ask for one resolution."""
        return resolution_of(self.call("Resolve", request).resolution)

    # --- replication ----------------------------------------------------------------------------------------------

    def head(self, timeout: float | None = None) -> FeedToken:
        """Ask where the registry is now."""
        return self._token(self.about(timeout).head)

    def about(self, timeout: float | None = None) -> replication_pb2.GetHeadResponse:
        """Ask where the registry is now, and of which version and at what time the server is."""
        request = replication_pb2.GetHeadRequest()
        reply: replication_pb2.GetHeadResponse = self._unary("replication", "GetHead", request, timeout)
        return reply

    def snapshots(self) -> list[tuple[FeedToken, str]]:
        """Ask which snapshots the server has, newest first, each with the hash of its manifest ("" from an older server)."""
        reply = self._list_snapshots(replication_pb2.ListSnapshotsRequest())
        return [(self._token(info.head), info.sha256) for info in reply.snapshots]

    def published(self, sha256s: Iterable[str]) -> frozenset[str]:
        """Ask which of these hashes are of manifests that the registry has published; none, for a server that cannot tell."""
        request = replication_pb2.ListSnapshotsRequest(sha256=list(sha256s))
        return frozenset(self._list_snapshots(request).vouched)

    def _list_snapshots(self, request: replication_pb2.ListSnapshotsRequest) -> Any:
        return self._unary("replication", "ListSnapshots", request, None)

    def _token(self, told: types_pb2.FeedToken) -> FeedToken:
        try:
            return wire.token_from_wire(told)
        except InvalidError as error:
            raise InternalError(
                f"{self.target}: the server's reply cannot be used: {error}", reason="BAD_REPLY", target=self.target
            ) from error

    def fetch_snapshot(self, log_id: str, position: int, timeout: float) -> Iterator[Any]:
        """Download a snapshot: the manifest, then chunks of its files; see the contract."""
        request = replication_pb2.FetchSnapshotRequest(log_id=log_id, position=position)
        try:
            with self._calling() as stubs:
                call = self._begun(stubs.replication.FetchSnapshot, request, timeout=timeout)
            yield from self._calls.each(call)
        except grpc.RpcError as error:
            raise self._error(error) from None

    def watch(self, after: FeedToken, timeout: float | None = None) -> Watch:
        """Follow the feed from a token on, for ever or for so many seconds."""
        request = replication_pb2.WatchChangesRequest(after=wire.token_to_wire(after))
        with self._calling() as stubs:
            return Watch(self, self._begun(stubs.replication.WatchChanges, request, timeout=timeout))

    def leads_through(self, place: FeedToken) -> bool:
        """Report whether the history that the server has now leads through a place; raises what the call raises."""
        watch = self.watch(place, self.timeout)
        try:
            next(iter(watch))
        except PositionExpiredError as error:
            return error.reason in {TOO_LARGE, NO_MESSAGE}  # what comes after the place
        finally:
            watch.cancel()
        return True

    def close(self) -> None:
        """Close the channel for good; running calls end with ClosedError, as all later ones do."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            stubs, self._stubs = self._stubs, None
        if stubs is not None:
            stubs.channel.close()

    def _before_fork(self) -> None:
        """Close the channel, let none be opened until the fork is over, and wait until all threads have left gRPC.

        Otherwise the fork may find threads holding a lock of gRPC's, which the child would then wait for. Calls under way end with
        UnavailableError; the feed goes on by itself.
        """
        self._lock.acquire()
        stubs, self._stubs = self._stubs, None
        if stubs is not None:
            stubs.channel.close()
        if not self._calls.wait_for_none(PATIENCE):
            log.warning("a fork found threads inside gRPC: the first calls of the child to the server may fail")

    def _after_fork_in_parent(self) -> None:
        """Go on; the next call opens a channel."""
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        """Go on with a lock of the child's own."""
        self._lock = threading.Lock()
        self._stubs, self._calls = None, Calls()


# Added to after the first channel was made: grpc's own handlers, registered by that, must run when ours did.
_remotes: Forks[Remote] = Forks()


class Watch:
    """An open feed. Iterate in one thread; `cancel` from any."""

    def __init__(self, remote: Remote, call: Any) -> None:
        self._remote, self._call = remote, call

    def __iter__(self) -> Iterator[FeedMessage]:
        """Yield what comes, until the server ends it: then raises the CqarError of its status."""
        try:
            for reply in self._remote._calls.each(self._call):  # noqa: SLF001
                beat = reply.heartbeat if reply.HasField("heartbeat") else None
                head = None if beat is None else beat.head_position
                as_of = beat.as_of_ms / 1000 if beat is not None and beat.HasField("as_of_ms") else None
                yield FeedMessage(list(reply.batches), head, as_of, reply.ByteSize())
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or ""):
                raise PositionExpiredError(
                    f"the feed of {self._remote.target} goes on with a message of more than {MAX_MESSAGE >> 20} MiB, which this "
                    "client does not take: a snapshot beyond it is needed",
                    reason=TOO_LARGE,
                ) from None
            if error.code() is grpc.StatusCode.INTERNAL and "deserializing" in (error.details() or ""):
                raise PositionExpiredError(
                    f"the feed of {self._remote.target} goes on with what is no message, as with a text that is not UTF-8: a"
                    " snapshot beyond it is needed",
                    reason=NO_MESSAGE,
                ) from None
            raise self._remote._error(error) from None  # noqa: SLF001

    def cancel(self) -> None:
        """End it."""
        self._call.cancel()
