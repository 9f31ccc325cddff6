"""The standard service `grpc.health.v1.Health`: whether calls can be answered now.

The servicer of grpcio-health-checking is not used: while it sends to a watcher that does not read, no status can be set,
and a watcher keeps a server that drains from ending.

Probes have no token, so what they may cost is bounded here: calls of one address, calls in all, and requests that are being
read. Both methods are served as streams of requests, which on the wire they are as well: only so does the server decide when it
reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from cqar.errors import InvalidError, LimitError, NotFoundError

Status = health_pb2.HealthCheckResponse
NAME: Final[str] = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
FROM_ONE_ADDRESS: Final = 32  # calls at once, watchers included
AT_ONCE: Final = 256
READS_AT_ONCE: Final = 8  # requests that are being read, of each address one: a message may be 16 MiB large
READ_SECONDS: Final = 2.0  # for a request to arrive


class Health:
    """One status for the server ("") and each of its services. Used in one event loop only; not serving at first."""

    def __init__(self, services: Sequence[str]) -> None:
        self._status: dict[str, Any] = dict.fromkeys(["", *services], Status.NOT_SERVING)
        self._ended = False
        self._changed = asyncio.Event()
        self._calls: Counter[str] = Counter()  # under way, by address
        self._reading: dict[str, asyncio.Lock] = {}  # by address, while it has calls
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    def set(self, *, serving: bool) -> None:
        """Tell whether the server can answer, to watchers at once."""
        self._status = dict.fromkeys(self._status, Status.SERVING if serving else Status.NOT_SERVING)
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self) -> None:
        """Tell that the server will not answer any more, and let the watchers go."""
        self._ended = True
        self.set(serving=False)

    async def check(self, requests: AsyncGenerator[Any, None], context: Any) -> Any:
        """Return the status of a service. Raises NotFoundError for a name that is not known, and LimitError."""
        with self._admitted(context) as turn:
            service = await self._service(requests, turn)
            if service not in self._status:
                raise NotFoundError("there is no such service", service=service)
            return Status(status=self._status[service])

    async def watch(self, requests: AsyncGenerator[Any, None], context: Any) -> AsyncIterator[Any]:
        """Yield the status of a service now and whenever it changes, until the server stops. Raises LimitError."""
        with self._admitted(context) as turn:
            service = await self._service(requests, turn)
            told = None
            while True:
                changed = self._changed
                status = self._status.get(service, Status.SERVICE_UNKNOWN)
                if status != told:
                    told = status
                    yield Status(status=status)
                elif self._ended:
                    return
                else:
                    await changed.wait()

    @contextlib.contextmanager
    def _admitted(self, context: Any) -> Iterator[asyncio.Lock]:
        """Count a call of an address while the block runs; yield the lock with which it reads its request."""
        address = context.peer().rpartition(":")[0]
        if self._calls[address] >= FROM_ONE_ADDRESS or self._calls.total() >= AT_ONCE:
            raise LimitError(
                f"{self._calls[address]} probes of this address and {self._calls.total()} in all are under way: watch once and"
                " keep the stream, or try again in 1 s",
                reason="TOO_MANY_PROBES",
                limit=FROM_ONE_ADDRESS,
                retry_after_ms=1000,
            )
        self._calls[address] += 1
        try:
            yield self._reading.setdefault(address, asyncio.Lock())
        finally:
            self._calls[address] -= 1
            if not self._calls[address]:
                del self._calls[address], self._reading[address]

    async def _service(self, requests: AsyncGenerator[Any, None], turn: asyncio.Lock) -> str:
        """Read the request; return the service that it asks for."""
        async with turn, self._reads:
            try:
                async with asyncio.timeout(READ_SECONDS), contextlib.aclosing(requests) as received:
                    request = await anext(received, None)
            except TimeoutError:
                raise LimitError(
                    f"the request did not arrive within {READ_SECONDS:g} s", reason="SLOW_REQUEST"
                ) from None
        if request is None:
            raise InvalidError("the call has no request", reason="REQUIRED", field="service")
        service: str = request.service
        return service


def add_health(server: grpc.aio.Server, health: Health) -> None:
    """Register the service with a server."""
    messages = {
        "request_deserializer": health_pb2.HealthCheckRequest.FromString,
        "response_serializer": Status.SerializeToString,
    }
    handlers = {
        "Check": grpc.stream_unary_rpc_method_handler(health.check, **messages),
        "Watch": grpc.stream_stream_rpc_method_handler(health.watch, **messages),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
