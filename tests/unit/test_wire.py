"""Errors over the wire: the class that was raised is the class that arrives."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cqar import errors, wire
from cqar.answers import Collision
from cqar.model import AssetType


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidError("decimals: 300", reason="RANGE", field="decimals"),
        errors.ConflictError("taken", existing_id="x"),
        errors.AmbiguousError("two", reason="CHAIN_AMBIGUOUS"),
        errors.AmbiguousError("two"),
        errors.PreconditionError("a cycle", reason="CYCLE"),
        errors.PositionExpiredError("gone", reason="LOG_MISMATCH"),
        errors.UnavailableError("away"),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.reason}",
)
def test_an_error_arrives_as_what_it_was(error: errors.CqarError) -> None:
    """Class, message, reason and variables survive the trip through a gRPC status."""
    told = wire.error_from_status(*wire.error_to_status(error))
    assert (type(told), told.message, told.reason, told.metadata) == (
        type(error),
        error.message,
        error.reason,
        error.metadata,
    )


def test_an_error_is_small_enough_to_arrive_whatever_it_tells() -> None:
    """GRPC drops statuses of more than 8 kB at random: long texts are cut, and as many candidates told as fit."""
    candidate = Collision(asset_id="a" * 36, symbol="😀" * 64, name="😀" * 128, asset_type=AssetType.TOKEN)
    error = errors.AmbiguousError("ß" * 5000, candidates=(candidate,) * 20, reason="SYMBOL_AMBIGUOUS", name="😀" * 4000)
    code, message, trailing = wire.error_to_status(error)
    assert len(quote(message)) + len(base64.b64encode(trailing[0][1])) < 8000
    told = wire.error_from_status(code, message, trailing)
    assert isinstance(told, errors.AmbiguousError)
    assert (told.reason, told.candidates[0]) == ("SYMBOL_AMBIGUOUS", candidate)
    assert told.message.startswith("ß" * 250)
    assert told.metadata["name"].startswith("😀" * 40)


@pytest.mark.parametrize("year", [1, 1969, 1970, 2026, 9999])
def test_times_are_those_of_the_library(year: int) -> None:
    """A time becomes the message that protobuf's own conversion makes of it, with any zone or none, to the microsecond."""
    for zone in (None, UTC, timezone(timedelta(hours=-11, minutes=-30))):
        moment = datetime(year, 2, 3, 4, 5, 6, 789, tzinfo=zone)
        theirs = Timestamp()
        theirs.FromDatetime(moment)
        assert wire.time_to_wire(moment) == theirs
