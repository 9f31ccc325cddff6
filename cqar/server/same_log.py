"""Refuses callers that hold the history of another registry, before anything is read or written for them.

An address may be given to another server, and a database be replaced under the same one. A client says with each call which log
its replica is of; an answer from another registry would be a stranger's, and a write would go to the wrong one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from cqar import wire
from cqar.errors import UnavailableError
from cqar.server.auth import refusing, value_of


class SameLog(grpc.aio.ServerInterceptor):
    """Lets calls through that name no log, or the server's own. Must be inside the `ErrorInterceptor`."""

    def __init__(self, log_id: Callable[[], str]) -> None:
        """`log_id` tells the server's own, empty before it is known."""
        self._log_id = log_id

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Have the call fail if it is meant for another registry."""
        handler = await continuation(handler_call_details)
        meant = value_of(handler_call_details.invocation_metadata, wire.LOG_ID)
        own = self._log_id()
        if handler is None or meant is None or not own or meant == own:
            return handler
        return refusing(handler, other_log(meant, own))


def other_log(meant: str, own: str) -> UnavailableError:
    """Return the error for a call that was meant for the registry with another log."""
    return UnavailableError(
        f"this server has the log {own}, and the call is from a replica of {meant}: the address leads to another registry, or its"
        " database was replaced and the replica has not loaded it yet",
        reason="OTHER_LOG",
        log_id=own,
        meant=meant,
    )
