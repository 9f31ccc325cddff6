"""What all topics of the write surface share: what a write gives, and how to write, read and list one kind of record."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from cqar.answers import Position
from cqar.client._remote import Remote
from cqar.client._replies import record_of
from cqar.model import Record
from cqar.v1 import registry_pb2 as pb
from cqar.wire import enum_to_wire, patch_to_wire

R = TypeVar("R", bound=Record)
PAGE = 1000  # records a call when listing everything


class Written(msgspec.Struct, Generic[R], frozen=True):
    """A record as it was written, and the position of the write, which also names the history that it is in."""

    record: R
    position: Position


def optional_enum(member: enum.Enum | None) -> Any:
    """Give the number of a member, None for none."""
    return None if member is None else enum_to_wire(member)


class Base:
    """Holds the connection for the topics, which `Registry` puts together."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def _write(self, kind: type[R], method: str, field: str, request: Any) -> Written[R]:
        reply, position = self._remote.write(method, request)
        return Written(record_of(kind, getattr(reply, field)), position)

    def _update(self, kind: type[R], method: str, field: str, patch: Mapping[str, Any], **fields: Any) -> Written[R]:
        """Change the fields of a patch; the others of the request say of which record, and how."""
        request = getattr(pb, f"{method}Request")(**fields)
        patch_to_wire(kind, patch, request)
        return self._write(kind, method, field, request)

    def _delete(self, method: str, **fields: Any) -> Position:
        return self._remote.write(method, getattr(pb, f"{method}Request")(**fields))[1]

    def _get(self, kind: type[R], method: str, field: str, request: Any) -> R:
        return record_of(kind, getattr(self._remote.call(method, request), field))

    def _list(self, kind: type[R], method: str, field: str, request: Any, limit: int | None = None) -> Iterator[R]:
        request.page_size = PAGE if limit is None else min(PAGE, max(1, limit))
        for given, message in enumerate(self._messages(method, field, request), 1):
            yield record_of(kind, message)
            if given == limit:
                return

    def _messages(self, method: str, field: str, request: Any) -> Iterator[Any]:
        """Yield what a list holds in one of its fields, page after page."""
        while True:
            reply = self._remote.call(method, request)
            yield from getattr(reply, field)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token
