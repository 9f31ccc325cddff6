"""Watches every call from outside: counts and times it, traces it, names it in the log, and gives it a request id.

`Observer` is the outermost interceptor, so that it sees the status that a call ends with, whoever decided on it. It learns the
status from the call's note (`logs.CALL`), where `ErrorInterceptor` leaves it: a handler in a thread cannot ask its context.
A call costs a few microseconds here; what a method needs is looked up once and kept.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Final

import grpc

from cqar.server.logs import CALL, CallNote
from cqar.server.metrics import MethodSeries, Metrics
from cqar.server.tracing import CallSpan, Tracing
from cqar.wire import REQUEST_ID

log = logging.getLogger(__name__)

SLOW: Final = 1.0  # seconds after which a call of one reply is worth a line
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_OK: Final = grpc.StatusCode.OK


class Observer(grpc.aio.ServerInterceptor):
    """The outermost interceptor of one server. No spans without `tracing`; `log_id` tells which history it answers from."""

    def __init__(self, metrics: Metrics, tracing: Tracing | None = None, log_id: Callable[[], str] = str) -> None:
        self.metrics = metrics
        self.tracing = tracing
        self.log_id = log_id
        self._prefix = f"{uuid.uuid4().hex[:12]}-"
        self._numbers = itertools.count(1)
        self._methods: dict[str, MethodSeries] = {}  # of the server's own methods only, so it is bounded

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler that the server found for the call, or count that there is none."""
        arrived = time.perf_counter()
        self.metrics.received += 1
        handler = await continuation(handler_call_details)
        if handler is None:
            self.metrics.no_such_method()
            return None
        path = handler_call_details.method
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self.metrics.method(path, stream=handler.response_streaming)
        call = _Call(self, method, handler_call_details.invocation_metadata or (), arrived)
        # Not kept with the method: one that is refused takes a stream of requests.
        sort, make = _SORTS[handler.request_streaming, handler.response_streaming]
        serve = getattr(handler, sort)
        return make(_watched(serve)(serve, call), handler.request_deserializer, handler.response_serializer)

    def request_id(self, given: str | None) -> str:
        """Give the caller's id if it is a harmless one, else a new one."""
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return f"{self._prefix}{next(self._numbers):x}"


def _watched(serve: Any) -> Callable[[Any, _Call], Any]:
    """Tell how a handler is watched: one and the same method may be refused by a coroutine and served by a plain function."""
    if inspect.iscoroutinefunction(serve):
        return _coroutine
    if inspect.isasyncgenfunction(serve):
        return _stream
    return _plain_stream if inspect.isgeneratorfunction(serve) else _plain


_SORTS: Final[dict[tuple[bool, bool], tuple[str, Callable[..., Any]]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class _Call:
    """One call. Used as a context manager around the handler, in the thread or the task that runs it."""

    __slots__ = ("_arrived", "_context", "_metadata", "_note", "_observer", "_series", "_span")

    def __init__(self, observer: Observer, series: MethodSeries, metadata: Any, arrived: float) -> None:
        self._observer, self._series, self._metadata, self._arrived = observer, series, metadata, arrived
        self._note: CallNote | None = None
        self._span: CallSpan | None = None

    def __call__(self, context: Any) -> _Call:
        """Keep the context of the call; the handler begins now."""
        self._context = context
        return self

    def __enter__(self) -> None:
        given = next((value for name, value in self._metadata if name == REQUEST_ID), None)
        request_id = self._observer.request_id(given if isinstance(given, str) else None)
        note = self._note = CallNote(request_id, self._series.method, log_id=self._observer.log_id())
        CALL.set(note)
        self._series.under_way.add(self)
        self._context.set_trailing_metadata(note.trailing())
        if self._observer.tracing is not None:
            self._span = self._observer.tracing.begin(self._series.service, self._series.method, self._metadata)
            note.trace_id = self._span.trace_id

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        assert self._note is not None
        if self._note.wrote is not None and self._note.code is None:
            self._context.set_trailing_metadata(self._note.trailing())
        code = self._code(kind)
        seconds = time.perf_counter() - self._arrived
        series = self._series
        series.under_way.discard(self)
        series.ended(code, seconds)
        if self._span is not None:
            self._span.end(code)
        slow = seconds > SLOW and not series.stream
        level = logging.WARNING if slow else logging.DEBUG
        if log.isEnabledFor(level):
            fields = {"code": code.name, "seconds": round(seconds, 6)}
            log.log(level, "slow call" if slow else "call", extra={"fields": fields})
        CALL.set(None)  # not a reset by token: a stream may be ended by another task than the one that began it

    def _code(self, kind: type[BaseException] | None) -> grpc.StatusCode:
        """Tell the status that the caller gets, or would have got."""
        assert self._note is not None
        left = self._context.time_remaining()
        if left is not None and left <= 0:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        if self._note.code is not None:
            code: grpc.StatusCode = self._note.code
            return code
        if kind is None or issubclass(kind, grpc.aio.AbortError):
            told = self._context.code() if hasattr(self._context, "code") else None  # a thread's context has none
            return _status(told) or (_OK if kind is None else grpc.StatusCode.UNKNOWN)
        if issubclass(kind, asyncio.CancelledError | GeneratorExit):
            return grpc.StatusCode.CANCELLED
        return grpc.StatusCode.UNKNOWN


def _status(told: Any) -> grpc.StatusCode | None:
    """Give the status for what a context tells: a status, its number, or 0 for none yet."""
    return told if isinstance(told, grpc.StatusCode) else _BY_NUMBER.get(told) if told else None


_BY_NUMBER: Final = {status.value[0]: status for status in grpc.StatusCode}


# A handler stays of its sort, by which gRPC chooses between the event loop and a thread.


def _plain(serve: Any, call: _Call) -> Callable[[Any, Any], Any]:
    def watched(request: Any, context: Any) -> Any:
        with call(context):
            return serve(request, context)

    return watched


def _plain_stream(serve: Any, call: _Call) -> Callable[[Any, Any], Any]:
    def watched(request: Any, context: Any) -> Iterator[Any]:
        with call(context):
            yield from serve(request, context)

    return watched


def _coroutine(serve: Any, call: _Call) -> Callable[[Any, Any], Any]:
    async def watched(request: Any, context: Any) -> Any:
        with call(context):
            return await serve(request, context)

    return watched


def _stream(serve: Any, call: _Call) -> Callable[[Any, Any], Any]:
    async def watched(request: Any, context: Any) -> AsyncIterator[Any]:
        with call(context):
            async for reply in serve(request, context):
                yield reply

    return watched
