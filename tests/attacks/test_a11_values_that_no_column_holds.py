"""A group's member comes with a weight of NaN, Infinity, 1e999999 or 10,000 digits.

Before, the replica took it, and `sql`, `search` and the members failed from then on, for no column of DuckDB holds it. Now what
fits into no column is set aside where it comes off the wire, for every field of every kind: the check is derived from the types of
the records (`cqar.bounds`), and held here against Arrow itself.
"""

from __future__ import annotations

import contextlib
import typing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from cqar import model
from cqar.arrow import to_arrow
from cqar.bounds import fault_of_record
from cqar.model import KIND_OF, KINDS, Record
from tests.attacks.marks import attack
from tests.attacks.test_a10_changes_that_are_not_what_they_say import Host, flag, world

pytestmark = attack("A11", by="a malformed feed", promise="no value that comes by the feed spoils a query")

NO_DECIMALS = (
    "NaN",
    "-NaN",
    "sNaN",
    "Infinity",
    "-Infinity",
    "1e999999",
    "1e20",
    "1e-19",
    "9" * 10_000,
    "0." + "1" * 40,
)
DECIMALS = ("0", "-0", "1", "1e19", "99999999999999999999.999999999999999999", "-1e-18", "0.000000000000000001", "1E+3")
NO_TEXTS = ("\0", "a\0")
TEXTS = ("", "x" * 1_000, "\ufffe", "\U0010ffff", "'; DROP TABLE assets; --")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A replica of an excerpt of the catalogue."""
    return Host(tmp_path_factory.mktemp("a11"), world())


def sample(host: Host, kind: str) -> Record:
    """Return a record of a kind."""
    held = host.world.all(kind)
    return held[0] if held else flag(1, host.world.all("asset")[0].asset_id)  # type: ignore[attr-defined]


def sets_aside(host: Host, record: Record, field: str, raw: Any) -> bool:
    """Feed a record with something else in a field, and report whether it was set aside; raise unless all queries go on."""
    batch = host.batch(record)
    message = getattr(batch.changes[0].record, batch.changes[0].kind)
    target = getattr(message, field)
    if hasattr(target, "update"):
        target["key"] = raw
    elif hasattr(target, "append"):
        target.append(raw)
    else:
        setattr(message, field, raw)
    host.receive(batch)
    host.client.sql(f"SELECT * FROM {KIND_OF[type(record)].table}").fetchall()
    host.client.search("USD")
    return (batch.changes[0].kind, batch.changes[0].key) in host.replica.unread


def fields(*wanted: type) -> list[tuple[str, str]]:
    """Return kind and name of each field that holds values of some types."""
    found = []
    for name, kind in KINDS.items():
        for field, hint in typing.get_type_hints(kind.record).items():
            arms = {
                *typing.get_args(hint),
                hint,
                *[part for arm in typing.get_args(hint) for part in typing.get_args(arm)],
            }
            if field in kind.record.__struct_fields__ and arms & set(wanted):
                found.append((name, field))
    return found


@pytest.mark.parametrize(("kind", "field"), fields(Decimal), ids=lambda part: part)
def test_numbers_that_no_column_holds_are_set_aside(host: Host, kind: str, field: str) -> None:
    """Every number that a column holds is taken, and no other; queries go on."""
    record = sample(host, kind)
    for raw in NO_DECIMALS:
        assert sets_aside(host, record, field, raw), raw[:30]
    for raw in DECIMALS:
        assert not sets_aside(host, record, field, raw), raw
        key = KINDS[kind].key_of(record)
        assert getattr(host.replica.get(kind, key), field) == Decimal(raw)
    host.receive(host.batch(record))


@pytest.mark.parametrize(("kind", "field"), fields(str), ids=lambda part: part)
def test_texts_that_no_column_holds_are_set_aside(host: Host, kind: str, field: str) -> None:
    """A NUL, which divides the words of index keys, is set aside; what is only odd is taken."""
    record = sample(host, kind)
    for raw in NO_TEXTS:
        assert sets_aside(host, record, field, raw), raw[:30]
    if field not in KINDS[kind].key:
        for raw in TEXTS:
            assert not sets_aside(host, record, field, raw), raw[:30]
    host.receive(host.batch(record))
    assert not host.replica.unread - {(kind, "")}


def test_the_check_agrees_with_arrow() -> None:
    """What the check lets pass, Arrow holds and gives back; what Arrow refuses, the check refuses: of each kind each field."""
    values: tuple[Any, ...] = (
        *[Decimal(raw) for raw in (*NO_DECIMALS, *DECIMALS)],
        *(2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 0, -1),
        *("\ud800", "text"),
        *(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
    )
    tried = 0
    made = world()
    made.commit([flag(1, made.all("asset")[0].asset_id)])  # type: ignore[attr-defined]
    for name, kind in KINDS.items():
        record = made.all(name)[0]
        hints = typing.get_type_hints(kind.record)
        for field in kind.record.__struct_fields__:
            for value in values:
                hint = hints[field]
                if type(value) is not hint and (
                    typing.get_origin(hint) is tuple or type(value) not in typing.get_args(hint)
                ):
                    continue
                other = msgspec.structs.replace(record, **{field: value})
                held = False
                with contextlib.suppress(pa.ArrowException, ValueError, OverflowError):
                    held = to_arrow(kind.record, [other]).column(field).to_pylist() == [value]
                assert (fault_of_record(other) is None) == held, (name, field, value)
                tried += 1
    assert tried > 200


def test_the_next_generation_is_built(host: Host, tmp_path: Path) -> None:
    """With all that was taken the replica goes over to the next generation, and everything is answered."""
    edge = next(e for e in host.world.all("relationship") if isinstance(e, model.Relationship))
    assert sets_aside(host, edge, "conversion_rate", "1e999999")
    assert sets_aside(host, host.world.all("asset")[0], "description", "x" * ((1 << 20) + 1))
    assert not sets_aside(host, host.world.all("asset")[0], "symbol", "\ufffe" + "x" * 100_000)
    host.look_at_everything()
    host.compacted()
    host.look_at_everything()
