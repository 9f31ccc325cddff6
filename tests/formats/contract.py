"""Whether a later wire contract breaks an earlier one: what a peer of the earlier one would misread, or miss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet

FIELD = ("name", "type", "type_name", "label", "proto3_optional", "oneof")
METHOD = ("input_type", "output_type", "client_streaming", "server_streaming")


def breaks(before: FileDescriptorSet, after: FileDescriptorSet) -> list[str]:
    """Give what was removed or changed of the earlier contract, a line each; what was added is no break."""
    return list(_compared(_facts(before), _facts(after)))


def _compared(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> Iterator[str]:
    for thing, facts in before.items():
        if thing not in after:
            yield f"{thing} was removed"
            continue
        for fact, value in facts.items():
            if after[thing][fact] != value:
                yield f"{thing}: {fact} was {value!r}, is {after[thing][fact]!r}"


def _facts(described: FileDescriptorSet) -> dict[str, dict[str, Any]]:
    """Give all that is agreed on, by its full name; fields and values by their number, for this is what is sent."""
    found: dict[str, dict[str, Any]] = {}
    for file in described.file:
        found |= _of_messages(f".{file.package}", file.message_type)
        found |= _of_enums(f".{file.package}", file.enum_type)
        for service in file.service:
            for method in service.method:
                name = f".{file.package}.{service.name}/{method.name}"
                found[name] = {fact: getattr(method, fact) for fact in METHOD}
    return found


def _of_messages(scope: str, messages: Iterable[Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for message in messages:
        name = f"{scope}.{message.name}"
        found[name] = {}
        for field in message.field:
            facts = {fact: getattr(field, fact) for fact in FIELD[:-1]}
            facts["oneof"] = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
            found[f"{name} field {field.number}"] = facts
        found |= _of_messages(name, message.nested_type)
        found |= _of_enums(name, message.enum_type)
    return found


def _of_enums(scope: str, enums: Iterable[Any]) -> dict[str, dict[str, Any]]:
    return {f"{scope}.{each.name} value {value.number}": {"name": value.name} for each in enums for value in each.value}
