"""The standard service `grpc.health.v1.Health`: whether calls can be answered now.

The servicer of grpcio-health-checking is not used: while it sends to a watcher that does not read, no status can be set,
and a watcher keeps a server that drains from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from grpc_health.v1 import health_pb2, health_pb2_grpc

from cqar.errors import NotFoundError

Status = health_pb2.HealthCheckResponse
NAME: Final[str] = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # it is untyped
    """One status for the server ("") and each of its services. Used in one event loop only; not serving at first."""

    def __init__(self, services: Sequence[str]) -> None:
        self._status: dict[str, Any] = dict.fromkeys(["", *services], Status.NOT_SERVING)
        self._ended = False
        self._changed = asyncio.Event()

    def set(self, *, serving: bool) -> None:
        """Tell whether the server can answer, to watchers at once."""
        self._status = dict.fromkeys(self._status, Status.SERVING if serving else Status.NOT_SERVING)
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self) -> None:
        """Tell that the server will not answer any more, and let the watchers go."""
        self._ended = True
        self.set(serving=False)

    async def Check(self, request: health_pb2.HealthCheckRequest, _context: object) -> Any:  # noqa: N802 - the contract's
        """Give the status of a service; NotFoundError for a name that is not known."""
        if request.service not in self._status:
            raise NotFoundError("there is no such service", service=request.service)
        return Status(status=self._status[request.service])

    async def Watch(self, request: health_pb2.HealthCheckRequest, _context: object) -> AsyncIterator[Any]:  # noqa: N802
        """Yield the status of a service now and whenever it changes, until the server stops."""
        told = None
        while True:
            changed = self._changed
            status = self._status.get(request.service, Status.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield Status(status=status)
            elif self._ended:
                return
            else:
                await changed.wait()
