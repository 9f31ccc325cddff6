"""What a request says, read without a line for each field: the names are those of the registry's arguments."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from google.protobuf.message import Message

from cqar import model
from cqar.errors import InvalidError
from cqar.v1 import types_pb2
from cqar.wire import enum_from_wire

# Enums of the contract to those of the records, for the fields of requests that hold one.
_ENUMS: Final = {
    types_pb2.DESCRIPTOR.enum_types_by_name[kind.__name__].full_name: kind
    for kind in (
        model.AssetType,
        model.RelationshipType,
        model.FlagType,
        model.Severity,
        model.VenueType,
        model.MarketKind,
    )
}
_FRAME: Final = frozenset({"request_id", "page_size", "page_token"})


def arguments_of(request: Message, but: Collection[str] = ()) -> dict[str, Any]:
    """Give the fields of a request that are set, but for some, as arguments: names are the same on both sides."""
    arguments: dict[str, Any] = {}
    for descriptor in request.DESCRIPTOR.fields:
        name = descriptor.name
        if name in _FRAME or name in but or (descriptor.has_presence and not request.HasField(name)):
            continue
        value = getattr(request, name)
        if descriptor.enum_type is not None:
            value = enum_from_wire(_ENUMS[descriptor.enum_type.full_name], value, name)
        arguments[name] = value
    return arguments


def given(request: Any, field: str) -> Any:
    """Give the message in a field; InvalidError if it is not set."""
    if not request.HasField(field):
        raise InvalidError(f"{field}: required", reason="REQUIRED", field=field)
    return getattr(request, field)


def way_of(request: Any) -> str:
    """Tell which way of naming a record the caller chose; InvalidError for none."""
    name: str | None = request.WhichOneof("key")
    if name is None:
        ways = ", ".join([field.name for field in request.DESCRIPTOR.oneofs_by_name["key"].fields])
        raise InvalidError(f"key: give one of {ways}", reason="REQUIRED", field="key")
    return name
