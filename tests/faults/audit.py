"""What must be true of a registry's database whatever happened to it: the change log is whole, and no record breaks a rule.

Everything is computed anew from what the tables hold; nothing asks the code that wrote them whether it did it right.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec
import psycopg

from cqar import model
from cqar.model import KINDS, Record
from cqar.rules.records import normal
from cqar.server.store import Store

_START: Final = bytes(16)

Live = dict[str, dict[str, Any]]  # kind, key, record


class Log(NamedTuple):
    """What the change log says: its end, and what it makes of an empty registry."""

    position: int
    chain: bytes
    live: Live


def check(database: str) -> Log:
    """Raise AssertionError unless the log is whole, the tables are what it says, and every live record keeps the rules."""
    log = check_log(database)
    store = Store(database)
    try:
        with store.export() as (head, records, _):
            live: Live = {
                name: {KINDS[name].key_of(record): record for record in rows} for name, rows in records.items()
            }
    finally:
        store.close()
    assert (head.position, head.chain) == (log.position, log.chain)
    for name, found in live.items():
        assert found.keys() == log.live[name].keys(), name
        assert all(record == log.live[name][key] for key, record in found.items()), name
    check_rules(live)
    return log


def check_log(database: str) -> Log:
    """Raise AssertionError unless positions have no gaps, the clock stands at the last, and the hashes chain."""
    with psycopg.connect(database) as connection:
        clock = connection.execute("SELECT position, chain FROM clock").fetchone()
        batches = connection.execute("SELECT position, chain, change_count FROM batches ORDER BY position").fetchall()
        changes = connection.execute(
            "SELECT position, kind, key, op, record::text, before::text FROM changes ORDER BY position, ordinal"
        ).fetchall()
    assert clock is not None
    assert [batch[0] for batch in batches] == list(range(1, clock[0] + 1)), "the counter has gaps"
    by_position = {at: list(entries) for at, entries in itertools.groupby(changes, key=lambda change: change[0])}
    chain = _START
    live: Live = {name: {} for name in KINDS}
    for position, stored, count in batches:
        entries = by_position.pop(position)
        assert len(entries) == count
        chain = hashlib.sha256(chain + _digest(entries)).digest()[:16]
        assert bytes(stored) == chain, f"the hash at {position} is not that of its changes"
        for _, kind, key, op, record, before in entries:
            was = live[kind].pop(key, None)
            assert was == _record(kind, before), f"what {kind} {key} was before position {position}"
            if op == "PUT":
                live[kind][key] = _record(kind, record)
    assert not by_position
    assert bytes(clock[1]) == chain
    return Log(clock[0], chain, live)


def _digest(entries: Iterable[tuple[Any, ...]]) -> bytes:
    """Hash the changes of a batch as their text was when it was written."""
    texts = [
        {"kind": kind, "key": key, "op": op, "record": _raw(record), "before": _raw(before)}
        for _, kind, key, op, record, before in entries
    ]
    return hashlib.sha256(msgspec.json.encode(texts)).digest()


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())


def _record(kind: str, text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text, type=KINDS[kind].record)


# --- the rules -----------------------------------------------------------------------------------------------------------

# What no two live records may share.
_ALONE: Final[dict[str, list[Callable[[Any], object]]]] = {
    "chain": [lambda r: r.caip2, lambda r: r.network_id and (r.namespace, r.network_id)],
    "deployment": [
        lambda r: r.contract_address and (r.chain_id, r.contract_address),
        lambda r: r.is_native and r.chain_id,
    ],
    "identifier": [lambda r: (r.source, r.external_id), lambda r: r.is_primary and (r.asset_id, r.source)],
    "relationship": [lambda r: (r.parent_asset_id, r.child_asset_id, r.relationship_type)],
    "group": [lambda r: model.fold(r.canonical_symbol)],
    "group_member": [lambda r: r.is_canonical and r.group_id],
    "quality_flag": [lambda r: r.cleared_at is None and (r.asset_id, r.flag_type, r.source)],
}
# Kinds that go when their asset goes (R12); relationships and flags stay.
_OF_LIVE_ASSETS: Final = ("deployment", "identifier", "group_member", "venue_symbol")


def check_rules(live: Live) -> None:
    """Raise AssertionError unless all records together keep the rules."""
    for name, found in live.items():
        for record in found.values():
            assert record == _normal(record, live), f"not in its normal form: {record}"
            assert record.created_at <= record.updated_at
        for what in _ALONE.get(name, ()):
            shared = Counter([value for record in found.values() if (value := what(record))])
            assert max(shared.values(), default=1) == 1, f"{name}: {shared.most_common(1)}"
    for name in _OF_LIVE_ASSETS:
        for key, record in live[name].items():
            assert record.asset_id in live["asset"], f"{name} {key} is of a deleted asset"
    for record in live["deployment"].values():
        assert record.chain_id in live["chain"]
    _check_names(live)
    _check_intervals(live["venue_symbol"].values())
    _check_acyclic(live["relationship"].values())


def _normal(record: Record, live: Live) -> Record:
    return normal(record, live["chain"][record.chain_id] if isinstance(record, model.Deployment) else None)


def _check_names(live: Live) -> None:
    """No two chains and no two venues have a name in common, but for aliases without their source (R5)."""
    for name, key in (("chain", "chain_id"), ("venue", "venue_id")):
        names: Counter[str] = Counter()
        for record in live[name].values():
            own = {getattr(record, key), *record.aliases, getattr(record, "caip2", None) or getattr(record, key)}
            names.update({model.fold(each) for each in own})
        assert max(names.values(), default=1) == 1, names.most_common(1)


def _check_intervals(symbols: Iterable[Any]) -> None:
    """A ticker means one thing at a time (R6)."""
    by_ticker = defaultdict(list)
    for row in symbols:
        begin = row.valid_from.timestamp() if row.valid_from else float("-inf")
        end = row.valid_to.timestamp() if row.valid_to else float("inf")
        by_ticker[row.venue_id, row.symbol, row.market_kind].append((begin, end))
    for ticker, spans in by_ticker.items():
        spans.sort()
        assert all(begin < end for begin, end in spans), ticker
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans)), ticker


def _check_acyclic(edges: Iterable[Any]) -> None:
    """Following what derives from what, or what took over from what, never comes back (R8)."""
    children: dict[tuple[str, str], set[str]] = defaultdict(set)
    for edge in edges:
        family = "succession" if edge.relationship_type in {"MIGRATION", "FORK"} else "derivation"
        children[family, edge.parent_asset_id].add(edge.child_asset_id)
    done: set[tuple[str, str]] = set()
    for first in list(children):
        path, stack = {first}, [(first, iter(children[first]))]
        while stack:
            place, rest = stack[-1]
            following = next(((place[0], child) for child in rest if (place[0], child) not in done), None)
            if following is None:
                stack.pop()
                path.discard(place)
                done.add(place)
                continue
            assert following not in path, f"a cycle of {following[0]} at {following[1]}"
            path.add(following)
            stack.append((following, iter(children.get(following, ()))))
