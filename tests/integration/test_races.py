"""Writers at the same moment: of those that exclude each other one wins, and the others learn who.

Two stores over one database stand for two servers, so no lock of a process can help. A writer waits before its first write until
the others have looked as well, or are held up by a lock: what each saw is then out of date when it writes, in every round.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from weakref import WeakSet

import pytest

from cqar import model
from cqar.errors import ConflictError, CqarError, NotFoundError, PreconditionError, StaleError
from cqar.model import (
    KIND_OF,
    Asset,
    AssetType,
    Chain,
    Deployment,
    FlagType,
    Group,
    GroupMember,
    Identifier,
    MarketKind,
    QualityFlag,
    Record,
    Relationship,
    RelationshipType,
    Severity,
    Venue,
    VenueSymbol,
    VenueType,
)
from cqar.rules.addresses import checksummed
from cqar.server.registry import AssetPatch, Call, Registry
from cqar.server.store import Store
from cqar.server.transaction import Tx

ROUNDS = 4
ME = Call(actor="me")
Write = Callable[[Registry, int], Any]


class Race(NamedTuple):
    """What became of the writers."""

    won: list[Any]
    lost: list[CqarError]


class Track:
    """Two servers on one registry, and races between writers of both."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.registries = [Registry(store) for store in stores]
        self.store = stores[0]
        self.meeting = threading.Barrier(1)
        self._numbers = itertools.count(1)

    @property
    def registry(self) -> Registry:
        """One of the servers."""
        return self.registries[0]

    def run(self, *writes: Write) -> Race:
        """Let the writers go at the same moment; each is told its number."""
        self.meeting = threading.Barrier(len(writes))
        start = threading.Barrier(len(writes))

        def go(number: int) -> Any:
            start.wait(10)
            try:
                return writes[number](self.registries[number % 2], number)
            except CqarError as error:
                return error

        with ThreadPoolExecutor(len(writes)) as pool:
            done = list(pool.map(go, range(len(writes))))
        return Race([d for d in done if not isinstance(d, CqarError)], [d for d in done if isinstance(d, CqarError)])

    def fresh(self) -> str:
        """Give a name that nobody has."""
        return f"n{next(self._numbers)}"

    def asset(self) -> Asset:
        """Create an asset."""
        name = self.fresh()
        return self.registry.create_asset(ME, Asset(symbol=name, name=name, asset_type=AssetType.TOKEN)).asset


@pytest.fixture
def track(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Track]:
    """Yield a track with a chain and a venue."""
    stores = [Store(migrated_url), Store(migrated_url)]
    track = Track(stores)
    track.registry.create_chain(ME, Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1))
    track.registry.create_venue(ME, Venue(venue_id="binance", name="Binance", venue_type=VenueType.CEX))
    original, met = Tx.put, WeakSet[Tx]()

    def put(tx: Tx, record: Any) -> Any:
        if tx not in met:
            met.add(tx)
            with contextlib.suppress(
                threading.BrokenBarrierError
            ):  # the others wait for a lock of this one, or are done
                track.meeting.wait(0.1)
        return original(tx, record)

    monkeypatch.setattr(Tx, "put", put)
    yield track
    for store in stores:
        store.close()


# --- one wins --------------------------------------------------------------------------------------------------------


def address(track: Track) -> Write:
    """One address of a chain, in two spellings, for two assets."""
    assets, plain = [track.asset() for _ in range(3)], f"0x{uuid.uuid4().hex}{'ab' * 4}"
    return lambda registry, n: (
        registry.create_asset_deployment(
            ME,
            Deployment(
                asset_id=assets[n].asset_id,
                chain_id="ethereum",
                contract_address=checksummed(plain) if n else plain,
                decimals=n,
            ),
        ).record
    )


def native(track: Track) -> Write:
    """The native asset of a chain."""
    slug = track.fresh()
    track.registry.create_chain(ME, Chain(chain_id=slug, name=slug, namespace="eip155"))
    assets = [track.asset() for _ in range(3)]
    return lambda registry, n: (
        registry.create_asset_deployment(
            ME, Deployment(asset_id=assets[n].asset_id, chain_id=slug, is_native=True, decimals=18)
        ).record
    )


def external_id(track: Track) -> Write:
    """One id of a data source, for two assets."""
    assets, name = [track.asset() for _ in range(3)], track.fresh()
    return lambda registry, n: (
        registry.create_asset_identifier(
            ME, Identifier(asset_id=assets[n].asset_id, source="coingecko", external_id=name)
        ).record
    )


def canonical_member(track: Track) -> Write:
    """The canonical member of a group."""
    assets = [track.asset() for _ in range(3)]
    group = track.registry.create_asset_group(ME, Group(canonical_symbol=track.fresh(), name="x")).record
    return lambda registry, n: (
        registry.add_asset_to_group(
            ME, GroupMember(group_id=group.group_id, asset_id=assets[n].asset_id, is_canonical=True)
        ).record
    )


def membership(track: Track) -> Write:
    """One asset, into a group twice."""
    asset = track.asset()
    group = track.registry.create_asset_group(ME, Group(canonical_symbol=track.fresh(), name="x")).record
    return lambda registry, _: (
        registry.add_asset_to_group(ME, GroupMember(group_id=group.group_id, asset_id=asset.asset_id)).record
    )


def group_symbol(track: Track) -> Write:
    """A group's symbol, in two cases."""
    symbol = track.fresh()
    return lambda registry, n: (
        registry.create_asset_group(ME, Group(canonical_symbol=symbol.upper() if n else symbol, name="x")).record
    )


def interval(track: Track) -> Write:
    """Overlapping meanings of one ticker."""
    asset, symbol = track.asset(), track.fresh()
    start = datetime(2022, 5, 1, tzinfo=UTC)
    return lambda registry, n: (
        registry.create_venue_symbol(
            ME,
            VenueSymbol(
                venue_id="binance",
                symbol=symbol,
                market_kind=MarketKind.SPOT,
                asset_id=asset.asset_id,
                valid_from=start + n * timedelta(days=10),
                valid_to=start + timedelta(days=100) if n else None,
            ),
        ).record
    )


def same_edge(track: Track) -> Write:
    """One relationship, twice."""
    parent, child = track.asset(), track.asset()
    return lambda registry, _: (
        registry.create_asset_relationship(ME, edge(parent, child, RelationshipType.WRAPS)).record
    )


def chain_slug(track: Track) -> Write:
    """A chain's slug."""
    slug = track.fresh()
    return lambda registry, _: registry.create_chain(ME, Chain(chain_id=slug, name="x", namespace="x")).record


def chain_alias(track: Track) -> Write:
    """A name of two chains, as alias in two cases."""
    slug = track.fresh()
    return lambda registry, n: (
        registry.create_chain(
            ME, Chain(chain_id=f"{slug}-{n}", name="x", namespace="x", aliases=(f"ccxt:{slug.upper() if n else slug}",))
        ).record
    )


def chain_network(track: Track) -> Write:
    """A network id of two chains: one says it, the others have it for a slug."""
    number = str(10**6 + int(track.fresh()[1:]))
    return lambda registry, n: (
        registry.create_chain(
            ME,
            Chain(chain_id=number, name="x", namespace="x")
            if n
            else Chain(chain_id=f"net-{number}", name="x", namespace="eip155", network_id=int(number)),
        ).record
    )


def venue_alias(track: Track) -> Write:
    """An alias of two venues."""
    slug = track.fresh()
    return lambda registry, n: (
        registry.create_venue(
            ME, Venue(venue_id=f"{slug}-{n}", name="x", venue_type=VenueType.CEX, aliases=(f"ccxt:{slug}",))
        ).record
    )


def chosen_id(track: Track) -> Write:
    """The UUID that two callers chose."""
    key = str(uuid.uuid4())
    return lambda registry, n: (
        registry.create_asset(ME, Asset(asset_id=key, symbol=f"x{n}", name="x", asset_type=AssetType.TOKEN)).asset
    )


def edge(parent: Asset, child: Asset, kind: RelationshipType) -> Relationship:
    """Give a relationship to create."""
    return Relationship(parent_asset_id=parent.asset_id, child_asset_id=child.asset_id, relationship_type=kind)


@pytest.mark.parametrize(
    ("contest", "reasons"),
    [
        (address, {"ALREADY_EXISTS"}),
        (native, {"NATIVE_EXISTS"}),
        (external_id, {"ALREADY_EXISTS"}),
        (canonical_member, {"CANONICAL_EXISTS"}),
        (membership, {"ALREADY_EXISTS"}),
        (group_symbol, {"ALREADY_EXISTS"}),
        (interval, {"INTERVAL_OVERLAP"}),
        (same_edge, {"ALREADY_EXISTS"}),
        (chain_slug, {"ALREADY_EXISTS"}),
        (chain_alias, {"NAME_TAKEN"}),
        (chain_network, {"NAME_TAKEN", "ALREADY_EXISTS"}),
        (venue_alias, {"NAME_TAKEN"}),
        (chosen_id, {"ID_USED"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_of_writers_that_exclude_each_other_one_wins(
    track: Track, contest: Callable[[Track], Write], reasons: set[str]
) -> None:
    """The others get ALREADY_EXISTS with the documented reason and the key of the winner; there is one position for one record."""
    for round_ in range(ROUNDS):
        write = contest(track)
        before = track.store.head().position
        writers = 2 + round_ % 2
        won, lost = track.run(*[write] * writers)
        (winner,) = won
        assert isinstance(winner, Record)
        assert len(lost) == writers - 1
        for error in lost:
            assert isinstance(error, ConflictError)
            assert error.reason in reasons
            assert error.existing_id == KIND_OF[type(winner)].key_of(winner)
        assert track.store.head().position == before + 1


# --- nobody has to lose ----------------------------------------------------------------------------------------------


def test_flags_raised_at_once_are_one_flag(track: Track) -> None:
    """Raising is never refused because of another: the later one updates, as it would a minute later (R10)."""
    for _ in range(ROUNDS):
        asset = track.asset()

        def write(registry: Registry, n: int, asset: Asset = asset) -> QualityFlag:
            severity = (Severity.LOW, Severity.CRITICAL, Severity.HIGH)[n]
            flag = QualityFlag(
                asset_id=asset.asset_id, flag_type=FlagType.SCAM, severity=severity, source="s", reason=f"by {n}"
            )
            return registry.raise_quality_flag(ME, flag).record

        won, lost = track.run(write, write, write)
        assert lost == []
        (active,) = track.registry.list_quality_flags(asset_id=asset.asset_id, include_resolved=True).records
        assert {flag.flag_id for flag in won} == {active.flag_id}
        assert active in won


@pytest.mark.parametrize("is_primary", [False, True])
def test_first_identifiers_at_once_leave_one_primary(track: Track, is_primary: bool) -> None:
    """Whoever of two names of one source is written first: both are there, and exactly one is primary (R7)."""
    for _ in range(ROUNDS):
        asset = track.asset()

        def write(registry: Registry, n: int, asset: Asset = asset) -> Identifier:
            name = Identifier(
                asset_id=asset.asset_id, source="s", external_id=f"{asset.symbol}-{n}", is_primary=is_primary
            )
            return registry.create_asset_identifier(ME, name).record

        won, lost = track.run(write, write, write)
        assert (len(won), lost) == (3, [])
        found = track.registry.list_asset_identifiers(asset_id=asset.asset_id).records
        assert len(found) == 3
        assert len([identifier for identifier in found if identifier.is_primary]) == 1


def test_one_request_id_of_several_callers_is_one_write(track: Track) -> None:
    """Whatever each of them asked for: all get the reply of the one that was first (R13)."""
    for _ in range(ROUNDS):
        call, before = Call(actor="me", request_id=track.fresh()), track.store.head().position

        def write(registry: Registry, n: int, call: Call = call) -> Any:
            return registry.create_asset(call, Asset(symbol=f"by{n}", name="x", asset_type=AssetType.TOKEN))

        won, lost = track.run(write, write, write, write)
        assert lost == []
        assert all(answer == won[0] for answer in won)
        assert track.store.head().position == before + 1


# --- one after the other ---------------------------------------------------------------------------------------------


def test_of_two_updates_from_one_position_one_is_stale(track: Track) -> None:
    """`expected_position` decides between writers at the same moment as well (R13)."""
    for _ in range(ROUNDS):
        asset, position = track.asset(), track.store.head().position

        def write(registry: Registry, n: int, asset: Asset = asset, position: int = position) -> Asset:
            return registry.update_asset(ME, asset.asset_id, AssetPatch(name=f"by {n}"), position).record

        won, lost = track.run(write, write, write)
        assert [type(error) for error in lost] == [StaleError, StaleError]
        assert track.registry.get_asset(asset.asset_id).record == won[0]


def test_a_flag_is_cleared_once(track: Track) -> None:
    """Of those who clear it at the same moment one does, and the others are told that it is done (R10)."""
    for _ in range(ROUNDS):
        flag = track.registry.raise_quality_flag(
            ME,
            QualityFlag(
                asset_id=track.asset().asset_id,
                flag_type=FlagType.SCAM,
                severity=Severity.LOW,
                source="s",
                reason="r",
            ),
        ).record

        def write(registry: Registry, n: int, flag: QualityFlag = flag) -> QualityFlag:
            return registry.resolve_quality_flag(ME, flag.flag_id, cleared_by=f"by {n}", clear_reason="x").record

        won, lost = track.run(write, write, write)
        assert [error.reason for error in lost] == ["ALREADY_CLEARED"] * 2
        assert track.registry.list_quality_flags(include_resolved=True, asset_id=flag.asset_id).records == tuple(won)


# --- cycles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize(
    "kinds",
    [
        (RelationshipType.WRAPS,),
        (RelationshipType.STAKES, RelationshipType.BRIDGES),
        (RelationshipType.MIGRATION, RelationshipType.FORK),
    ],
    ids="+".join,
)
def test_edges_that_only_together_close_a_cycle_are_never_all_written(
    track: Track, size: int, kinds: tuple[RelationshipType, ...]
) -> None:
    """Each writer has one side of the polygon: all but one are written, and the last is told that it closes a cycle (R8)."""
    for _ in range(3):
        corners = [track.asset() for _ in range(size)]

        def write(registry: Registry, n: int, corners: list[Asset] = corners) -> Relationship:
            side = edge(corners[n], corners[(n + 1) % len(corners)], kinds[n % len(kinds)])
            return registry.create_asset_relationship(ME, side).record

        won, lost = track.run(*[write] * size)
        assert len(won) == size - 1
        (error,) = lost
        assert isinstance(error, PreconditionError)
        assert error.reason == "CYCLE"
        assert {error.metadata["parent_asset_id"], error.metadata["child_asset_id"]} <= {c.asset_id for c in corners}


def test_bulk_writes_close_no_cycle_together(track: Track) -> None:
    """Two imports with one side each, and a third writer with the last: the same (R8)."""
    for _ in range(3):
        corners = [track.asset() for _ in range(3)]

        def write(registry: Registry, n: int, corners: list[Asset] = corners) -> str:
            side = edge(corners[n], corners[(n + 1) % 3], RelationshipType.WRAPS)
            (result,) = registry.upsert_records(ME, [side]).results
            return result.reason or str(result.outcome)

        won, lost = track.run(write, write, write)
        assert (sorted(won), lost) == (["CREATED", "CREATED", "CYCLE"], [])


# --- delete ----------------------------------------------------------------------------------------------------------


def parts_of(track: Track, asset: Asset) -> dict[str, Write]:
    """Give the writes that would hang something on an asset."""
    other, group = track.asset(), track.registry.create_asset_group(ME, Group(canonical_symbol=track.fresh(), name="x"))
    own = asset.asset_id
    return {
        "deployment": lambda registry, _: registry.create_asset_deployment(
            ME,
            Deployment(
                asset_id=own, chain_id="ethereum", contract_address=f"0x{uuid.uuid4().hex}{'00' * 4}", decimals=1
            ),
        ),
        "identifier": lambda registry, _: registry.create_asset_identifier(
            ME, Identifier(asset_id=own, source="s", external_id=track.fresh())
        ),
        "group_member": lambda registry, _: registry.add_asset_to_group(
            ME, GroupMember(group_id=group.record.group_id, asset_id=own)
        ),
        "venue_symbol": lambda registry, _: registry.create_venue_symbol(
            ME,
            VenueSymbol(
                venue_id="binance",
                symbol=track.fresh(),
                market_kind=MarketKind.SPOT,
                asset_id=other.asset_id,
                quote_asset_id=own,
            ),
        ),
        "quality_flag": lambda registry, _: registry.raise_quality_flag(
            ME,
            QualityFlag(asset_id=own, flag_type=FlagType.SCAM, severity=Severity.LOW, source="s", reason="r"),
        ),
        "relationship": lambda registry, _: registry.create_asset_relationship(
            ME, edge(other, asset, RelationshipType.WRAPS)
        ),
    }


@pytest.mark.parametrize(
    "kind", ["deployment", "identifier", "group_member", "venue_symbol", "quality_flag", "relationship"]
)
def test_nothing_is_hung_on_an_asset_while_it_is_deleted(track: Track, kind: str) -> None:
    """Either it was there first and goes with the asset, or it is refused: nothing live is left of what a delete takes (R12)."""
    for round_ in range(ROUNDS):
        asset = track.asset()
        add = parts_of(track, asset)[kind]

        def delete(registry: Registry, _: int, asset: Asset = asset) -> str:
            registry.delete_asset(ME, asset.asset_id)
            return "deleted"

        won, lost = track.run(*([add, delete] if round_ % 2 else [delete, add]))
        assert "deleted" in won
        for error in lost:
            assert isinstance(error, NotFoundError)
            assert error.reason == "ASSET_NOT_FOUND"
        with track.store.view() as view:
            assert view.get(model.ASSET, asset.asset_id) is None
            left = view.find(model.KINDS[kind], **{_owner(kind): asset.asset_id})
        expected = len(won) - 1 if kind in {"quality_flag", "relationship"} else 0
        assert len(left) == expected


def _owner(kind: str) -> str:
    return {"venue_symbol": "any_asset_id", "relationship": "child_asset_id"}.get(kind, "asset_id")


def test_an_asset_is_deleted_once(track: Track) -> None:
    """The second is told that there is none any more."""
    for _ in range(ROUNDS):
        asset = track.asset()

        def write(registry: Registry, _: int, asset: Asset = asset) -> int:
            return registry.delete_asset(ME, asset.asset_id).position

        won, lost = track.run(write, write, write)
        assert len(won) == 1
        assert [error.reason for error in lost] == ["ASSET_NOT_FOUND"] * 2
