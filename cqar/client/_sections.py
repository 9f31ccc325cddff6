"""The entries of a new index, section by section, from columns (see `_columns`): records and postings.

The rows of each kind are sorted by key. A section comes out in the order of its keys and in parts of bounded size, so that the
index is written in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from cqar.client import _columns
from cqar.client._columns import BYTES, TEXT, join, whole
from cqar.client._entries import DELETED, FLAGGED, MAX_KEY, deleted_prefix, kind_prefix, posting_prefix, short
from cqar.looks import skeleton
from cqar.model import KINDS, NATIVE, Words, fold

AT_ONCE = 10_000  # entries; bounds the memory

Part = tuple[pa.Array, pa.Array]  # keys and payloads
Posted = tuple[pa.Array, pa.Array]  # words, joined by NUL, and the numbers of the rows that they belong to


def records(kind: str, rows: pa.Table, encoded: pa.Array, extras: pa.Array | None = None) -> Iterator[Part]:
    """Give the entries of a kind's records; `extras`, for assets, holds what follows one that has flags, else null."""
    keys = _keys(kind_prefix[kind], _columns.keys_of(kind, rows))
    order = _columns.order_of(keys)
    if order is not None:  # some are long, and stand under their hashes
        keys, encoded, extras = keys.take(order), encoded.take(order), None if extras is None else extras.take(order)
    for start in range(0, len(keys), AT_ONCE):
        payloads = encoded.slice(start, AT_ONCE)
        if extras is not None:
            extra = extras.slice(start, AT_ONCE)
            head = pc.if_else(extra.is_valid(), pa.scalar(bytes([FLAGGED]), BYTES), pa.scalar(b"", BYTES))
            payloads = join(head, payloads, extra)
        yield keys.slice(start, AT_ONCE), payloads


def tombstones(rows: pa.Table) -> Iterator[Part]:
    """Give the entries of the records that were deleted, of the kinds that this version knows, from tombstones."""
    kinds, keys = whole(rows.column("kind")), whole(rows.column("key"))
    for name, prefix in deleted_prefix.items():
        held = _keys(prefix, keys.filter(pc.equal(kinds, name)).drop_null().unique())
        order = _columns.order_of(held)
        held = held if order is None else held.take(order)
        for start in range(0, len(held), AT_ONCE):
            part = held.slice(start, AT_ONCE)
            yield part, pa.repeat(pa.scalar(DELETED, BYTES), len(part))


def encoded(kind: str, rows: pa.Table) -> pa.Array:
    """Give all records of a kind, encoded."""
    parts = [_columns.encode(kind, rows.slice(start, AT_ONCE)) for start in range(0, len(rows), AT_ONCE)]
    return pa.concat_arrays(parts) if parts else pa.array([], BYTES)


def postings(kind: str, rows: pa.Table) -> Iterator[Part]:
    """Give the entries of all postings of a kind."""
    record_keys = _columns.keys_of(kind, rows)
    for posting in KINDS[kind].postings:
        recipe = _RECIPES.get(posting.name)
        words, owners = recipe(rows) if recipe else _by_record(kind, rows, posting.words)

        def fragments(numbers: pa.Array, owners: pa.Array = owners) -> pa.Array:
            return join(*_columns.text(record_keys.take(owners.take(numbers))))

        yield from grouped(_keys(posting_prefix[posting.name], words), fragments)


def grouped(keys: pa.Array, fragments: Callable[[pa.Array], pa.Array]) -> Iterator[Part]:
    """Give one entry for each distinct key: the msgpack array of the fragments of its rows, in the order of the rows.

    `fragments` gives the fragments of the rows with some numbers.
    """
    if not len(keys):
        return
    order = _columns.order_of(keys)
    if order is None:
        order = pa.arange(0, len(keys))
    else:
        keys = keys.take(order)
    new = pc.indices_nonzero(pc.not_equal(keys[1:], keys[:-1])).cast(pa.int64())
    starts = pa.concat_arrays([pa.array([0], pa.int64()), pc.add(new, 1)])
    bounds = pa.concat_arrays([starts, pa.array([len(keys)], pa.int64())])
    for first in range(0, len(starts), AT_ONCE):
        offsets = bounds.slice(first, AT_ONCE + 1)
        begin, end = offsets[0].as_py(), offsets[-1].as_py()
        payloads = _columns.joined(fragments(order[begin:end]), pc.subtract(offsets, begin))
        yield keys.take(offsets[:-1]), payloads


def _keys(prefix: bytes, words: pa.Array) -> pa.Array:
    return shortened(join(prefix, words))


def shortened(keys: pa.Array) -> pa.Array:
    """Keep keys within LMDB's limit."""
    if not len(keys) or pc.max(pc.binary_length(keys)).as_py() <= MAX_KEY:
        return keys
    return pa.array([short(key) for key in keys.to_pylist()], BYTES)


# --- words of postings -----------------------------------------------------------------------------------------------
# What `model.Posting.words` gives for a record, for all rows at once. A posting without a recipe is asked record by record.


def _every(rows: pa.Table) -> pa.Array:
    return pa.arange(0, len(rows))


def _by(*names: str) -> Callable[[pa.Table], Posted]:
    def recipe(rows: pa.Table) -> Posted:
        return _beside(*[whole(rows.column(name)) for name in names]), _every(rows)

    return recipe


def _beside(*words: pa.Array) -> pa.Array:
    return words[0] if len(words) == 1 else pc.binary_join_element_wise(*words, pa.scalar("\0", TEXT))


def _address(rows: pa.Table) -> Posted:
    address = whole(rows.column("contract_address")).fill_null("")
    address = pc.if_else(pc.equal(address, ""), pa.scalar(NATIVE, TEXT), address)
    return _beside(whole(rows.column("chain_id")), address), _every(rows)


def folded(symbols: pa.Array) -> pa.Array:
    """Fold symbols (`model.fold`)."""
    return pa.array(_columns.mapped(symbols.to_pylist(), fold), TEXT)


def _symbol(rows: pa.Table) -> Posted:
    return folded(whole(rows.column("symbol"))), _every(rows)


_skeleton = skeleton.__wrapped__  # uncached: it gets all symbols as one text
_SKELETONS: tuple[Callable[[str], str], ...] = (  # as in `looks.skeletons`
    _skeleton,
    lambda text: _skeleton(text.upper()),
    lambda text: _skeleton(text.casefold()),
)


def skeleton_words(symbols: pa.Array) -> Posted:
    """Give the keys under which look-alikes of symbols are found (R18), with the numbers of the symbols."""
    texts = symbols.to_pylist()
    return _distinct(*[pa.array(_columns.mapped(texts, function), TEXT) for function in _SKELETONS])


def _sides(rows: pa.Table) -> Posted:
    sides = [whole(rows.column(name)) for name in ("asset_id", "quote_asset_id", "settle_asset_id")]
    return _distinct(*[pc.if_else(pc.equal(side, ""), pa.scalar(None, TEXT), side) for side in sides])


def _distinct(*columns: pa.Array) -> Posted:
    """Give the words of each row once, whichever columns they stand in, row by row."""
    every = pa.arange(0, len(columns[0]))
    words, owners = [], []
    for number, column in enumerate(columns):
        wanted = column.is_valid()
        for earlier in columns[:number]:
            wanted = pc.and_(wanted, pc.not_equal(column, earlier).fill_null(True))
        words.append(column.filter(wanted))
        owners.append(every.filter(wanted))
    order = pc.sort_indices(pa.concat_arrays(owners))
    return pa.concat_arrays(words).take(order), pa.concat_arrays(owners).take(order)


_RECIPES: dict[str, Callable[[pa.Table], Posted]] = {
    "asset_by_symbol": _symbol,
    "asset_by_skeleton": lambda rows: skeleton_words(whole(rows.column("symbol"))),
    "deployment_by_asset": _by("asset_id"),
    "deployment_by_address": _address,
    "identifier_by_asset": _by("asset_id"),
    "identifier_by_external": _by("source", "external_id"),
    "relationship_by_parent": _by("parent_asset_id"),
    "relationship_by_child": _by("child_asset_id"),
    "member_by_group": _by("group_id"),
    "member_by_asset": _by("asset_id"),
    "flag_by_asset": _by("asset_id"),
    "venue_symbol_by_symbol": _by("venue_id", "symbol"),
    "venue_symbol_by_asset": _sides,
}


def _by_record(kind: str, rows: pa.Table, words_of: Callable[..., object]) -> Posted:
    found: list[str] = []
    owners: list[int] = []
    for number, record in enumerate(_columns.records_of(rows, kind)):
        words: list[Words] = list(words_of(record))  # type: ignore[call-overload]
        found += ["\0".join(each) for each in words]
        owners += [number] * len(words)
    return pa.array(found, TEXT), pa.array(owners, pa.int64())
