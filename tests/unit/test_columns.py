"""Columns turned into msgpack: byte for byte what msgspec makes of the records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqar import arrow, looks, model
from cqar.client import _columns, _sections
from cqar.model import KINDS, Record
from tests.worlds import catalogue

MOMENTS = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def columns(kind: str, records: Sequence[Record]) -> pa.Table:
    """Records as the columns that a snapshot gives."""
    return _columns.columns(kind, pa.Table.from_batches([arrow.to_arrow(KINDS[kind].record, records)]))


def encoded_one_by_one(kind: str, rows: pa.Table) -> list[bytes]:
    """What msgspec makes of them."""
    return [msgspec.msgpack.encode(record) for record in _columns.records_of(rows, kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_catalogue_is_encoded_as_msgspec_does_it(kind: str) -> None:
    """Every record of the bundled catalogue has the same bytes both ways."""
    rows = columns(kind, catalogue()[kind])
    assert _columns.readable(kind, rows) is None
    assert _columns.encode(kind, rows).to_pylist() == encoded_one_by_one(kind, rows)


@given(
    st.lists(
        st.builds(
            model.Asset,
            asset_id=TEXTS.filter(bool),
            symbol=TEXTS,
            name=TEXTS,
            asset_type=st.sampled_from(model.AssetType),
            category=st.none() | TEXTS,
            metadata=st.lists(st.tuples(TEXTS, TEXTS), max_size=3, unique_by=lambda pair: pair[0]).map(tuple),
            created_at=st.none() | MOMENTS,
        ),
        max_size=5,
    )
)
def test_any_asset_is_encoded_as_msgspec_does_it(records: list[Record]) -> None:
    """Texts of any length and script, times of any age, with and without their optional fields."""
    rows = columns("asset", records)
    assert _columns.encode("asset", rows).to_pylist() == encoded_one_by_one("asset", rows)


@given(
    st.lists(
        st.builds(
            model.VenueSymbol,
            venue_symbol_id=TEXTS.filter(bool),
            venue_id=TEXTS,
            symbol=TEXTS,
            market_kind=st.sampled_from(model.MarketKind),
            asset_id=TEXTS,
            quote_asset_id=st.none() | TEXTS,
            multiplier=st.decimals(0, 10**12, places=8) | st.just(Decimal(1)),
            valid_from=st.none() | MOMENTS,
        ),
        max_size=5,
    )
)
def test_any_ticker_is_encoded_as_msgspec_does_it(records: list[Record]) -> None:
    """Numbers with their trailing zeros cut, and the record with the most fields."""
    rows = columns("venue_symbol", records)
    assert _columns.encode("venue_symbol", rows).to_pylist() == encoded_one_by_one("venue_symbol", rows)


@pytest.mark.parametrize(
    ("kind", "posting"), [(kind.name, posting.name) for kind in KINDS.values() for posting in kind.postings]
)
def test_postings_by_column_are_the_postings_by_record(kind: str, posting: str) -> None:
    """The words that a recipe gives for all rows are those that the model gives for each record."""
    rows = columns(kind, catalogue()[kind])
    recipe = _sections._RECIPES.get(posting)
    if recipe is None:
        return
    words, owners = recipe(rows)
    found = sorted(zip(owners.to_pylist(), words.to_pylist(), strict=True))
    words_of = next(p.words for p in KINDS[kind].postings if p.name == posting)
    records = enumerate(_columns.records_of(rows, kind))
    assert found == sorted((number, "\0".join(each)) for number, record in records for each in words_of(record))


@given(st.lists(TEXTS, max_size=6))
def test_texts_mapped_together_are_mapped_one_by_one(texts: list[str]) -> None:
    """Folding and skeletons of many symbols as one text never differ from those of each, whatever the symbols hold."""
    assert _columns.mapped(texts, model.fold) == [model.fold(text) for text in texts]
    words, owners = _sections.skeleton_words(pa.array(texts, pa.large_string()))
    found = sorted(zip(owners.to_pylist(), words.to_pylist(), strict=True))
    assert found == sorted((n, word) for n, text in enumerate(texts) for word in looks.skeletons(text))
