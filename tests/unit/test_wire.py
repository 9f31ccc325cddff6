"""Errors over the wire: the class that was raised is the class that arrives."""

from __future__ import annotations

import pytest

from cqar import errors, wire


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
