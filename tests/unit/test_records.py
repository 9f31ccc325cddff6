"""Normal forms of whole records: they keep every digit, and are their own normal form."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqar import model, wire
from cqar.errors import InvalidError
from cqar.model import KINDS
from cqar.rules.records import normal
from cqar.v1 import types_pb2
from tests.fuzz.values import Maker, Pool
from tests.worlds import catalogue

ID = "00000000-0000-4000-8000-00000000000"
CHAINS = [chain for chain in catalogue()["chain"] if isinstance(chain, model.Chain)]


def pool() -> Pool:
    """Know some real records of each kind."""
    known = Pool()
    for records in catalogue().values():
        for record in records[:200]:
            known.learn(wire.any_to_wire(record))
    return known


POOL = pool()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(source=st.randoms(use_true_random=False))
def test_a_normal_form_is_its_own_normal_form(kind: model.Kind[Any], source: random.Random) -> None:
    """What is stored passes the rules again, unchanged, whatever it was made from."""
    message = Maker(source, POOL).message(getattr(types_pb2, kind.record.__name__).DESCRIPTOR)
    chain = source.choice(CHAINS) if kind is model.DEPLOYMENT else None
    try:
        record = normal(wire.record_from_wire(kind.record, message), chain)
    except InvalidError:
        return
    assert normal(record, chain) == record


@pytest.mark.parametrize(
    "digits", ["99999999999999999999.999999999999999999", "12345678901234567890", "0.000000000000000001"]
)
def test_a_decimal_keeps_every_digit(digits: str) -> None:
    """Numbers are exact up to the 38 digits that are stored; Python's own arithmetic would round to 28 (R17)."""
    row = model.GroupMember(group_id=f"{ID}1", asset_id=f"{ID}2", weight=Decimal(f"{digits}"))
    assert format(normal(row).weight, "f") == digits
    assert format(model.exact(Decimal(digits)), "f") == digits


def test_a_blank_text_counts_as_absent() -> None:
    """Where a text may be absent, blanks are none; they do not stand for the source of a rate either (R8)."""
    group = model.Group(canonical_symbol="ETH", name="Ether", description=" \n")
    assert normal(group).description is None
    rate = model.Relationship(
        parent_asset_id=f"{ID}1",
        child_asset_id=f"{ID}2",
        relationship_type=model.RelationshipType.WRAPS,
        conversion_rate=Decimal(1),
        rate_as_of=datetime(2026, 11, 1, tzinfo=UTC),
        rate_source=" ",
    )
    with pytest.raises(InvalidError) as caught:
        normal(rate)
    assert caught.value.reason == "RATE_SOURCE"
