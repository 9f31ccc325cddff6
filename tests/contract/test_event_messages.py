"""Every event has its message, and arrives as it was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from cqar import wire
from cqar.errors import InvalidError
from cqar.events import NAMES, TYPES, Event
from cqar.model import KIND_OF, KINDS, Record
from cqar.v1 import events_pb2
from tests.records import normalised, registry_of


@pytest.fixture(scope="module")
def of_kind() -> dict[str, list[Record]]:
    """Records of every kind, with values at their bounds."""
    found: dict[str, list[Record]] = {name: [] for name in KINDS}
    for record in normalised(registry_of(30)):
        found[KIND_OF[type(record)].name].append(record)
    return found


def _messages() -> Iterator[Any]:
    for field in events_pb2.Event.DESCRIPTOR.oneofs_by_name["event"].fields:
        yield field.message_type


def test_every_event_has_a_message_of_its_kind() -> None:
    """The contract has a message for each type of event and no other, and each holds the record of its kind."""
    assert {each.name: each.fields[0].name for each in _messages()} == TYPES
    by_name = {each.name: each for each in _messages()}
    for name, names in NAMES.items():
        changed = by_name[names.changed].fields_by_name
        assert changed["before"].message_type.name == changed[name].message_type.name == KINDS[name].record.__name__


@pytest.mark.parametrize("type_", TYPES)
def test_events_come_back_as_they_were(type_: str, of_kind: dict[str, list[Record]]) -> None:
    """An event of each type, with records at their bounds, is the same after its way over the wire."""
    kind = KINDS[TYPES[type_]]
    told = next(each for each in _messages() if each.name == type_)
    for record in of_kind[kind.name]:
        event = Event(
            log_id="l",
            position=7,
            index=2,
            time=datetime(2026, 11, 1, tzinfo=UTC),
            actor="me",
            request_id="r",
            type=type_,
            key=kind.key_of(record),
            record=record,
            before=record if "before" in told.fields_by_name else None,
        )
        data = wire.event_to_wire(event).SerializeToString()
        assert wire.event_from_wire(events_pb2.Event.FromString(data)) == event


def test_an_event_of_a_newer_type_is_said_to_be_one() -> None:
    """What this version does not know is told by an error that can be passed over."""
    with pytest.raises(InvalidError, match="does not know"):
        wire.event_from_wire(events_pb2.Event(event_id="l:1:0"))
