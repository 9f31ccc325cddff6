"""Who calls, and may they: the interceptor that asks the guard at every call, and tells the handler its caller.

A call carries its token as metadata, `authorization: Bearer …`. On an open server callers are who they say, by `cqar-actor`, and
may do everything; as soon as there is a token that header counts for nothing.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import grpc

from cqar import wire
from cqar.access import EVERY_ROLE
from cqar.errors import CqarError, InternalError, PermissionDeniedError
from cqar.rules.text import check_text
from cqar.server.admission import Admission
from cqar.server.guard import Caller, Guard
from cqar.server.logs import CALL
from cqar.server.rights import NEEDED

log = logging.getLogger(__name__)

ACTOR: Final = "cqar-actor"  # metadata: who calls, as they say; counts on an open server only
Metadata = Iterable[tuple[str, str | bytes]]


_CALLER: ContextVar[Caller | None] = ContextVar("cqar-caller", default=None)


def caller_of(context: Any) -> Caller:
    """Give who makes the call that is handled in this thread or task; on an open server, who they say they are."""
    caller = _CALLER.get()
    if caller is None:
        said = value_of(context.invocation_metadata(), ACTOR) or ""
        caller = Caller(check_text(said, ACTOR, 128) or "anonymous", EVERY_ROLE)
    return caller


def noted_caller(context: Any) -> Caller:
    """Give who makes the call, and note it for the lines of the log."""
    caller, note = caller_of(context), CALL.get()
    if note is not None:
        note.actor = caller.actor
    return caller


def _served(caller: Caller | None, serve: Callable[[Any, Any], Any], request: Any, context: Any) -> Any:
    """Call a handler that blocks. Its thread goes on to other calls; a coroutine has its task to itself."""
    mark = _CALLER.set(caller)
    try:
        return serve(request, context)
    finally:
        _CALLER.reset(mark)


def value_of(metadata: Metadata | None, name: str) -> str | None:
    """Return the first text of a name in a call's metadata."""
    return next((value for key, value in metadata or () if key == name and isinstance(value, str)), None)


# --- the interceptor -----------------------------------------------------------------------------------------------------


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call through to its handler, with its `Caller`, or has it fail. Must be inside the `ErrorInterceptor`."""

    def __init__(self, guard: Guard, admission: Admission) -> None:
        self._guard, self._admission = guard, admission

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler that the server found for the call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or (method in NEEDED and NEEDED[method] is None):
            return handler
        try:
            caller = await self._guard.admit(value_of(handler_call_details.invocation_metadata, "authorization"))
            _require(method, caller)
            self._admission.enter(method, caller and caller.token_id)
        except CqarError as error:
            return refusing(handler, error)
        except Exception:
            log.exception("a token cannot be checked")
            return refusing(handler, InternalError())
        if handler.request_streaming:
            return _with_requests_checked(self._guard, handler, caller)
        if handler.response_streaming:
            return handler._replace(unary_stream=_ending(self._guard, handler.unary_stream, caller))
        return handler if caller is None else handler._replace(unary_unary=_as(caller, handler.unary_unary))


def _require(method: str, caller: Caller | None) -> None:
    name = method.rpartition("/")[2]
    if method not in NEEDED:
        raise PermissionDeniedError(f"{name}: no role may call it", reason="METHOD_NOT_LISTED", method=name)
    role = NEEDED[method]
    if caller is not None and role not in caller.roles:
        raise PermissionDeniedError(
            f"{name} needs the role {role}, which the token {caller.actor!r} does not have",
            reason="ROLE_NEEDED",
            role=role,
            method=name,
        )


def refusing(handler: Any, error: CqarError) -> Any:
    """Make a handler like the given one that fails without reading the request.

    It takes a stream of requests, which on the wire a single one is, too: of a handler of one request gRPC reads that first, and
    40 messages of 15 MiB from callers without a token took 900 MiB.
    """

    async def refuse(_requests: Any, _context: Any) -> None:
        raise error

    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    return grpc.stream_unary_rpc_method_handler(refuse)


def _as(caller: Caller | None, serve: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Make a handler of one reply know its caller; one that blocks stays a plain function, for the thread pool."""

    def run(request: Any, context: Any) -> Any:
        return _served(caller, serve, request, context)

    async def run_coroutine(request: Any, context: Any) -> Any:
        _CALLER.set(caller)
        return await serve(request, context)

    return run_coroutine if inspect.iscoroutinefunction(serve) else run


def _ending(guard: Guard, serve: Callable[[Any, Any], Any], caller: Caller | None) -> Callable[[Any, Any], Any]:
    """Make a handler of many replies know its caller, and end with the caller's token."""
    token_id = caller and caller.token_id

    async def run(request: Any, context: Any) -> None:
        _CALLER.set(caller)
        async with guard.while_valid(token_id):
            await serve(request, context)

    async def run_generator(request: Any, context: Any) -> AsyncIterator[Any]:
        _CALLER.set(caller)
        async for reply in serve(request, context):
            guard.check(token_id)
            yield reply

    return run if inspect.iscoroutinefunction(serve) else run_generator


def _with_requests_checked(guard: Guard, handler: Any, caller: Caller | None) -> Any:
    """Make a handler of many requests know its caller, and get no further request when the caller's token has ended."""
    token_id = caller and caller.token_id
    name = "stream_stream" if handler.response_streaming else "stream_unary"
    serve = getattr(handler, name)

    def run(requests: Iterable[Any], context: Any) -> Any:
        return _served(caller, serve, _checked(guard, token_id, requests), context)

    async def run_coroutine(requests: AsyncIterator[Any], context: Any) -> Any:
        _CALLER.set(caller)
        return await serve(_checked_async(guard, token_id, requests, context), context)

    async def run_generator(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        _CALLER.set(caller)
        async for reply in serve(_checked_async(guard, token_id, requests, context), context):
            yield reply

    if inspect.isasyncgenfunction(serve):
        return handler._replace(**{name: run_generator})
    return handler._replace(**{name: run_coroutine if inspect.iscoroutinefunction(serve) else run})


def _checked(guard: Guard, token_id: str | None, requests: Iterable[Any]) -> Iterator[Any]:
    for request in requests:
        guard.check(token_id)
        yield request


async def _checked_async(
    guard: Guard, token_id: str | None, requests: AsyncIterator[Any], context: Any
) -> AsyncIterator[Any]:
    async for request in requests:
        try:
            guard.check(token_id)
        except CqarError as error:
            await context.abort(*wire.error_to_status(error))
        yield request
