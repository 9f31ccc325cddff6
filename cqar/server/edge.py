"""The edge of the server: requests are read and replies written here, and every error becomes a status.

No malformed byte and no exception's text gets past it, so `ErrorInterceptor` must be the outermost interceptor but for
`observe`: what it wraps takes and gives messages, what it is wrapped in sees bytes and final codes.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from cqar import wire
from cqar.errors import CqarError, InternalError, InvalidError
from cqar.server.logs import CALL

log = logging.getLogger(__name__)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns every exception of a handler into a status: a CqarError into its own, all else into INTERNAL with a number.

    The details of the latter are in the server's log under that number, and nowhere else. Only the `Observer` may be outside of it.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler that the server found for the call; it then takes and gives bytes."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return handler
        guard, *makers = _GUARDS[handler.response_streaming]
        return makers[handler.request_streaming](guard(method, handler))


def _guarded_unary(method: str, handler: Any) -> Callable[[bytes, Any], Any]:
    """Guard a handler of one reply; one that blocks stays a plain function, for the thread pool."""
    serve = handler.stream_unary if handler.request_streaming else handler.unary_unary

    def guarded(data: bytes, context: Any) -> bytes:
        try:
            return _written(handler, serve(_read(handler, data), context))
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            return _fail(context, method, error)

    async def guarded_coroutine(data: bytes, context: Any) -> bytes:
        try:
            return _written(handler, await serve(_read(handler, data), context))
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            return _fail(context, method, error)

    return guarded_coroutine if inspect.iscoroutinefunction(serve) else guarded


def _guarded_stream(method: str, handler: Any) -> Callable[[bytes, Any], Any]:
    """Guard a handler of many replies, which yields them, or writes them to its context."""
    serve = handler.stream_stream if handler.request_streaming else handler.unary_stream

    async def guarded(data: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            async for reply in serve(_read(handler, data), context):
                yield _written(handler, reply)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            _fail(context, method, error)

    async def guarded_coroutine(data: bytes, context: Any) -> None:
        try:
            await serve(_read(handler, data), context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - none may pass
            _fail(context, method, error)

    return guarded_coroutine if inspect.iscoroutinefunction(serve) else guarded


_GUARDS: Final[dict[bool, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]]] = {
    False: (_guarded_unary, grpc.unary_unary_rpc_method_handler, grpc.stream_unary_rpc_method_handler),
    True: (_guarded_stream, grpc.unary_stream_rpc_method_handler, grpc.stream_stream_rpc_method_handler),
}


def _read(handler: Any, data: Any) -> Any:
    """Give what a handler takes: its request, or the iterator of its requests, which only an `async` handler can use."""
    return _read_each(handler, data) if handler.request_streaming else _read_one(handler, data)


async def _read_each(handler: Any, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    # Closed when this is: gRPC's own generator would keep the message that it gave last, in a cycle, until that is collected.
    async with contextlib.aclosing(aiter(stream)) as received:  # type: ignore[type-var]
        async for data in received:
            yield _read_one(handler, data)


def _read_one(handler: Any, data: bytes) -> Any:
    try:
        return handler.request_deserializer(data) if handler.request_deserializer else data
    except DecodeError:
        raise InvalidError("the request is not a message of this method", reason="MALFORMED") from None


def _written(handler: Any, reply: Any) -> bytes:
    data: bytes = handler.response_serializer(reply) if handler.response_serializer else reply
    return data


def _fail(context: Any, method: str, error: Exception) -> bytes:
    """End the call with the status of an error; gives the reply that goes with it, which nobody reads."""
    if not isinstance(error, CqarError):
        number = uuid.uuid4().hex[:8]
        log.error("internal error %s in %s", number, method, exc_info=error)
        error = InternalError(f"internal error {number}; the server's log has the details", number=number)
    code, message, trailing = wire.error_to_status(error)
    context.set_code(code)
    context.set_details(message)
    note = CALL.get()
    if note is None:  # a server without an observer
        context.set_trailing_metadata(trailing)
    else:
        note.code = code
        context.set_trailing_metadata((*trailing, *note.trailing()))
    return b""
