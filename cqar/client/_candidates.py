"""The candidates of every symbol, on each chain and on none in particular, as entries of a new index: from columns.

They are what `Replica.candidates` computes record by record for the symbols that changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cqar.client import _columns
from cqar.client._columns import BYTES, TEXT, join, whole
from cqar.client._entries import Entry, array_payload, encode, symbol_key
from cqar.client._sections import Part, folded, grouped, shortened, skeleton_words
from cqar.looks import looks_like
from cqar.model import QualityFlag, fold
from cqar.rules.choose import worst_first

_LOOK_ALIKE = encode("look_alike") + encode(True)
_CANONICAL = encode("is_canonical") + encode(True)


class Flags:
    """The active flags of all assets."""

    def __init__(self, rows: pa.Table) -> None:
        by_asset: dict[str, list[QualityFlag]] = {}
        for flag in _columns.records_of(rows, "quality_flag"):
            assert isinstance(flag, QualityFlag)
            by_asset.setdefault(flag.asset_id, []).append(flag)
        self._active = {
            asset_id: encode(active) for asset_id, held in by_asset.items() if (active := worst_first(held))
        }

    def active(self, assets: pa.Array) -> pa.Array:
        """Give each asset's encoded active flags; null if it has none."""
        held = self._active
        if not held:
            return pa.nulls(len(assets), BYTES)
        return pa.array(held.values(), BYTES).take(pc.index_in(assets, value_set=pa.array(held.keys(), TEXT)))


class _View(NamedTuple):
    """Candidates in the order of `rules.choose.identity`: assets, or deployments with the assets that they are of."""

    keys: pa.Array  # symbol keys
    owners: pa.Array  # numbers of assets
    rows: pa.Array | None  # numbers of deployments
    canonical: pa.Array


class Candidates:
    """All candidates of a registry. Assets and deployments are sorted by key."""

    def __init__(self, tables: Mapping[str, pa.Table], assets: pa.Array, deployments: pa.Array, flags: Flags) -> None:
        """Take all records, and once more the assets and deployments as encoded."""
        self._assets, self._deployed = assets, deployments
        self._deployments = tables["deployment"]
        self._flags = flags
        self._ids = whole(tables["asset"].column("asset_id"))
        self._symbols = whole(tables["asset"].column("symbol"))
        self._folded = folded(self._symbols)
        self._views = [self._on_no_chain(tables), self._on_chains()]

    def _on_no_chain(self, tables: Mapping[str, pa.Table]) -> _View:
        place = pc.binary_join_element_wise(self._folded, self._ids, pa.scalar("\0", TEXT))
        canonical = pc.is_in(place, value_set=pa.array(_canonical_members(tables), TEXT))
        keys = shortened(join(b"S\0", self._folded))
        return _View(keys, pa.arange(0, len(keys)), None, canonical)

    def _on_chains(self) -> _View:
        rows = self._deployments
        order = _columns.order_of(whole(rows.column("asset_id")))
        numbers = pa.arange(0, len(rows)) if order is None else order.cast(pa.int64())
        owners = pc.index_in(whole(rows.column("asset_id")), value_set=self._ids).take(numbers)
        numbers, owners = numbers.filter(owners.is_valid()), owners.drop_null()
        chains = whole(rows.column("chain_id")).take(numbers)
        keys = shortened(join(b"S", chains, b"\0", self._folded.take(owners)))
        canonical = whole(rows.column("is_canonical")).fill_null(False).take(numbers)
        return _View(keys, owners, numbers, canonical)

    def entries(self) -> Iterator[Part]:
        """Give the entries of all symbols, in the order of their keys, without the candidates that only look alike."""
        for view in self._views:
            yield from grouped(view.keys, partial(self._fragments, view))

    def _fragments(self, view: _View, numbers: pa.Array, *, look_alike: bool = False) -> pa.Array:
        """Encode candidates as msgspec would (see `answers.Candidate`)."""
        owners = view.owners.take(numbers)
        flags = self._flags.active(self._ids.take(owners))
        canonical = view.canonical.take(numbers)
        parts: list[pa.Array | bytes] = [encode("asset"), self._assets.take(owners)]
        if view.rows is not None:
            parts += [encode("deployment"), self._deployed.take(view.rows.take(numbers))]
        if flags.null_count < len(flags):
            parts.append(join_present(encode("flags"), flags))
        parts.append(pc.if_else(canonical, pa.scalar(_CANONICAL, BYTES), pa.scalar(b"", BYTES)))
        if look_alike:
            parts.append(_LOOK_ALIKE)
        fields = 1 + (view.rows is not None) + look_alike
        counts = pc.add(pc.add(flags.is_valid().cast(pa.int8()), canonical.cast(pa.int8())), fields)
        heads = pa.array([bytes([0x80 | count]) for count in range(6)], BYTES)
        return join(heads.take(counts), *parts)

    # --- look-alikes (R18) ------------------------------------------------------------------------------------------

    def look_alikes(self) -> Iterator[Entry]:
        """Give the entries of the symbols that have look-alikes, with them: they replace those of `entries`."""
        twins = self._twins()
        if not twins:
            return
        wanted = pa.array(sorted(twins), TEXT)
        for view in self._views:
            held = self._of_symbols(view, wanted)
            for (chain, symbol), own in held.items():
                others = [
                    number
                    for twin in twins[symbol]
                    for number in held.get((chain, twin), ())
                    if any(looks_like(self._symbol(view, number), self._symbol(view, each)) for each in own)
                ]
                if others:
                    yield symbol_key(chain, symbol), self._together(view, own, others)

    def _twins(self) -> dict[str, set[str]]:
        """Give, for each folded symbol that shares a skeleton with others, these others."""
        words, owners = skeleton_words(self._symbols)
        symbols = self._folded.take(owners)
        order = pc.sort_indices(words)
        words, symbols = words.take(order), symbols.take(order)
        # Where a skeleton has several symbols, two of them are neighbours.
        differ = pc.and_(pc.equal(words[1:], words[:-1]), pc.not_equal(symbols[1:], symbols[:-1]))
        shared = pc.is_in(words, value_set=words[1:].filter(differ))
        pairs = zip(words.filter(shared).to_pylist(), symbols.filter(shared).to_pylist(), strict=True)
        alike: dict[str, set[str]] = {}
        for word, symbol in pairs:
            alike.setdefault(word, set()).add(symbol)
        twins: dict[str, set[str]] = {}
        for symbols in alike.values():
            for symbol in symbols:
                twins.setdefault(symbol, set()).update(symbols - {symbol})
        return twins

    def _of_symbols(self, view: _View, wanted: pa.Array) -> dict[tuple[str, str], list[int]]:
        """Give the numbers of the candidates of some folded symbols, by chain and symbol."""
        symbols = self._folded.take(view.owners)
        numbers = pc.indices_nonzero(pc.is_in(symbols, value_set=wanted))
        if view.rows is None:
            chains = [""] * len(numbers)
        else:
            chains = whole(self._deployments.column("chain_id")).take(view.rows.take(numbers)).to_pylist()
        held: dict[tuple[str, str], list[int]] = {}
        for chain, symbol, number in zip(chains, symbols.take(numbers).to_pylist(), numbers.to_pylist(), strict=True):
            held.setdefault((chain, symbol), []).append(number)
        return held

    def _symbol(self, view: _View, number: int) -> str:
        symbol: str = self._symbols[view.owners[number].as_py()].as_py()
        return symbol

    def _together(self, view: _View, own: list[int], others: list[int]) -> bytes:
        fragments = [
            *zip(own, self._fragments(view, pa.array(own)).to_pylist(), strict=True),
            *zip(others, self._fragments(view, pa.array(others), look_alike=True).to_pylist(), strict=True),
        ]
        fragments.sort()  # the numbers are in the order of candidates
        return array_payload([fragment for _, fragment in fragments])


def join_present(name: bytes, values: pa.Array) -> pa.Array:
    """Put a name before each value that is not null."""
    return join(pc.if_else(values.is_valid(), pa.scalar(name, BYTES), pa.scalar(b"", BYTES)), values)


def _canonical_members(tables: Mapping[str, pa.Table]) -> set[str]:
    """Give the folded group symbol and the asset, with a NUL between them, of every canonical member of a group."""
    groups, members = tables["group"], tables["group_member"]
    folds = map(fold, groups.column("canonical_symbol").to_pylist())
    symbols = dict(zip(groups.column("group_id").to_pylist(), folds, strict=True))
    members = members.filter(members.column("is_canonical").fill_null(False))
    pairs = zip(members.column("group_id").to_pylist(), members.column("asset_id").to_pylist(), strict=True)
    return {f"{symbols[group_id]}\0{asset_id}" for group_id, asset_id in pairs if group_id in symbols}
