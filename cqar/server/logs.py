"""The server's log: text for people, or one JSON object per line for programs; times are UTC.

A line that is written within a call names it: `CALL` is set by `observe` around every handler, in the thread or task that runs
it, and the formatters read it, so that no line has to pass anything on. What a client says of itself (request id, actor) is
bounded and printable before it gets here. Metadata, requests and connection strings are never logged.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from cqar import wire
from cqar.model import FeedToken


class CallNote(msgspec.Struct):
    """What the log tells of one call. Its handler fills in the actor; `code` is the status that the call ends with."""

    request_id: str
    method: str
    trace_id: str = ""
    actor: str = ""
    code: Any = None  # grpc.StatusCode, once it is known
    log_id: str = ""  # of the history that the server answers from
    wrote: FeedToken | None = None  # where the call's write is in that history

    def trailing(self) -> tuple[tuple[str, str], ...]:
        """Return what every reply tells in its metadata, an error too."""
        told = [(wire.REQUEST_ID, self.request_id)]
        if self.log_id:
            told.append((wire.LOG_ID, self.log_id if self.wrote is None else self.wrote.log_id))
        if self.wrote is not None:
            told.append((wire.CHAIN, self.wrote.chain.hex()))
        return tuple(told)

    def fields(self) -> dict[str, str]:
        """Give what is known, for a log line."""
        named = {"request_id": self.request_id, "method": self.method, "actor": self.actor, "trace_id": self.trace_id}
        return {name: value for name, value in named.items() if value}


CALL: Final[ContextVar[CallNote | None]] = ContextVar("cqar_call", default=None)


def note_write(at: FeedToken | None) -> None:
    """Note where the present call's write is, if there is a call."""
    note = CALL.get()
    if note is not None:
        note.wrote = at


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """Give the named values of a line: those of the call, then its own, given as `extra={"fields": …}`."""
    note = CALL.get()
    return {**(note.fields() if note else {}), **getattr(record, "fields", {})}


class _Json(logging.Formatter):
    """Writes a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class _Text(logging.Formatter):
    """Writes a record as a line with its named values at the end, and an exception's traceback below it."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        return " ".join([super().formatMessage(record), *[f"{name}={_word(v)}" for name, v in _fields(record).items()]])


def _word(value: object) -> str:
    """Give a value so that its end can be seen."""
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "=') else msgspec.json.encode(text).decode()


def set_up(level: str, form: Literal["text", "json"]) -> None:
    """Send the log of this process to stderr, in place of what was set up before."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every plugin that it loads
