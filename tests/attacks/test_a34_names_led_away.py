"""A writer, who may clear no flag, leads a name away from an asset with a CRITICAL flag, to a clean one that the gate allows.

Before, only the removal of the asset or of a deployment was guarded: an identifier, a ticker, a membership, an alias of a chain
could be moved or removed, or a symbol taken over by a preferred namesake, and who asked by that name traded.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from cqar import model
from cqar.access import Role, with_implied
from cqar.errors import CqarError, PermissionDeniedError
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
from cqar.server.registry import AddressKey, Call, Merge, Outcome, Registry, ResolveKey, SourceKey, SymbolKey, TickerKey
from cqar.server.registry.roads import LEADING, NAMING, roads
from cqar.server.store import Store
from tests.attacks.marks import attack

pytestmark = attack("A34", by="a writer's token", promise="no name is led away from a warned asset but by an approver")

WRITER = Call(actor="writer", roles=with_implied([Role.WRITER]))
APPROVER = Call(actor="approver", roles=with_implied([Role.WRITER, Role.APPROVER]))
ADDRESS, FREE = f"0x{'ab' * 20}", f"0x{'cd' * 20}"
SOON = datetime(2027, 1, 1, tzinfo=UTC)
NAMES: tuple[ResolveKey, ...] = (
    *[SymbolKey(symbol, chain) for symbol in ("Bad", "BAD") for chain in (None, "slippery", "old")],
    *[AddressKey(chain, ADDRESS) for chain in ("slippery", "old", "test:other", "other")],
    AddressKey("slippery", "native"),
    SourceKey("coingecko", "bad-coin"),
    *[TickerKey(venue, "BAD/USD", MarketKind.SPOT) for venue in ("market", "bazaar", "test:fair", "fair")],
)


class World:
    """A warned asset with a road of every kind to it, and a clean asset."""

    def __init__(self, store: Store) -> None:
        self.registry = registry = Registry(store)
        for chain in ("slippery", "fork"):
            aliases = ("test:old", "test:other") if chain == "slippery" else ()
            registry.create_chain(APPROVER, Chain(chain_id=chain, name=chain, namespace="eip155", aliases=aliases))
        for venue in ("market", "stall"):
            aliases = ("test:bazaar", "test:fair") if venue == "market" else ()
            registry.create_venue(
                APPROVER, Venue(venue_id=venue, name=venue, venue_type=VenueType.CEX, aliases=aliases)
            )
        self.bad, self.clean, self.third, self.other = [
            self.asset(symbol) for symbol in ("Bad", "CLEAN", "THIRD", "OTHER")
        ]
        self.group = registry.create_asset_group(APPROVER, Group(canonical_symbol="Bad", name="Bad")).record
        of: dict[str, Any] = {"asset_id": self.bad}
        other: dict[str, Any] = {"asset_id": self.third}
        self.records: list[Record] = [
            registry.create_asset_deployment(
                APPROVER,
                Deployment(**of, chain_id="slippery", contract_address=ADDRESS, decimals=6, is_canonical=True),
            ).record,
            registry.create_asset_deployment(
                APPROVER, Deployment(**of, chain_id="slippery", is_native=True, decimals=6)
            ).record,
            registry.create_asset_identifier(
                APPROVER, Identifier(**of, source="coingecko", external_id="bad-coin")
            ).record,
            registry.add_asset_to_group(
                APPROVER, GroupMember(group_id=self.group.group_id, asset_id=self.bad, is_canonical=True)
            ).record,
            *[
                registry.create_venue_symbol(
                    APPROVER,
                    VenueSymbol(
                        venue_id="market",
                        symbol=f"{symbol}/USD",
                        market_kind=MarketKind.SPOT,
                        **{**other, "quote_asset_id": self.clean, field: self.bad},
                    ),
                ).record
                for field, symbol in (("asset_id", "BAD"), ("quote_asset_id", "Q"), ("settle_asset_id", "S"))
            ],
            *[
                registry.create_asset_relationship(
                    APPROVER,
                    Relationship(
                        parent_asset_id=parent, child_asset_id=child, relationship_type=RelationshipType.WRAPS
                    ),
                ).record
                for parent, child in ((self.bad, self.third), (self.clean, self.bad))
            ],
            registry.update_chain(APPROVER, "slippery", {"native_asset_id": self.bad}).record,
            registry.get_asset(self.bad).record,
        ]
        registry.raise_quality_flag(
            APPROVER,
            QualityFlag(asset_id=self.bad, flag_type=FlagType.SCAM, severity=Severity.CRITICAL, source="t", reason="t"),
        )
        assert self.bad in self.meanings().values()

    def asset(self, symbol: str) -> str:
        """Create an asset; give its id."""
        asset = Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN)
        return self.registry.create_asset(APPROVER, asset).asset.asset_id

    def meanings(self) -> dict[ResolveKey, str]:
        """Give the asset that each name leads to, with the reason if it leads to none."""

        def meaning(key: ResolveKey) -> str:
            try:
                return self.registry.resolve(key).asset.asset_id
            except CqarError as error:
                return error.reason

        return {key: meaning(key) for key in NAMES}


@pytest.fixture
def world(store: Store) -> World:
    """Make the world on a fresh database."""
    return World(store)


def key_of(record: Record) -> str:
    """Give a record's key."""
    return KIND_OF[type(record)].key_of(record)


def removals(world: World, record: Record) -> list[Callable[[], object]]:  # noqa: C901, PLR0911 - one case for each kind
    """Give the calls with which a writer could remove a record or change what it is found by."""
    registry, key = world.registry, key_of(record)
    match record:
        case Deployment():
            calls: list[Callable[[], object]] = [lambda: registry.delete_asset_deployment(WRITER, key)]
            if record.is_canonical:
                calls.append(lambda: registry.update_asset_deployment(WRITER, key, {"is_canonical": False}))
            return calls
        case Identifier():
            return [
                lambda: registry.delete_asset_identifier(WRITER, key),
                lambda: registry.move_asset_identifier(WRITER, key, world.clean),
            ]
        case GroupMember():
            group = record.group_id
            return [
                lambda: registry.remove_asset_from_group(WRITER, group, record.asset_id),
                lambda: registry.update_group_member(WRITER, group, record.asset_id, {"is_canonical": False}),
                lambda: registry.delete_asset_group(WRITER, group),
                lambda: registry.update_asset_group(WRITER, group, {"canonical_symbol": "ELSE"}),
                lambda: registry.upsert_records(
                    WRITER,
                    [GroupMember(group_id=group, asset_id=world.clean, is_canonical=True)],
                    merge=Merge.REPLACE,
                ),
            ]
        case VenueSymbol():
            calls = [
                lambda: registry.delete_venue_symbol(WRITER, key),
                lambda: registry.update_venue_symbol(WRITER, key, {"valid_to": SOON}),
                lambda: registry.update_venue_symbol(WRITER, key, {"valid_from": SOON}),
            ]
            for field in ("quote_asset_id", "settle_asset_id"):
                if getattr(record, field) == world.bad:
                    patch: Any = {field: None if field == "settle_asset_id" else world.other}
                    calls.append(lambda patch=patch: registry.update_venue_symbol(WRITER, key, patch))  # type: ignore[misc]
            return calls
        case Relationship():
            return [lambda: registry.delete_asset_relationship(WRITER, key)]
        case Chain():
            return [
                lambda: registry.update_chain(WRITER, key, {"native_asset_id": None}),
                lambda: registry.update_chain(WRITER, key, {"native_asset_id": world.clean}),
                lambda: registry.update_chain(WRITER, key, {"aliases": ("test:old",)}),
            ]
        case Asset():
            return [
                lambda: registry.delete_asset(WRITER, key),
                lambda: registry.update_asset(WRITER, key, {"symbol": "ELSE"}),
                lambda: registry.update_asset(WRITER, key, {"symbol": "BAD"}),
            ]
    raise AssertionError(record)


def repointed(record: Record, world: World) -> list[Record]:
    """Give the record with the clean asset in place of the bad one, as a bulk write that replaces would bring it."""
    return [
        msgspec.structs.replace(record, **{field: world.other})
        for field in LEADING[KIND_OF[type(record)].name]
        if getattr(record, field) == world.bad and not isinstance(record, Relationship | GroupMember)
    ]


def refused(call: Callable[[], Any]) -> bool:
    """Tell whether a call is refused for want of an approver, whole or item by item."""
    try:
        answer = call()
    except PermissionDeniedError as error:
        return (error.reason, error.metadata["role"], "CRITICAL" in error.message) == ("ROLE_NEEDED", "approver", True)
    results = getattr(answer, "results", ())
    return bool(results) and all((each.outcome, each.reason) == (Outcome.REFUSED, "ROLE_NEEDED") for each in results)


def test_no_road_of_any_kind_is_taken_away(world: World) -> None:
    """Every field of every kind that refers to an asset is attacked by every way that writes it; all names stay."""
    before, attacked = world.meanings(), set()
    for record in world.records:
        ways = removals(world, record)
        ways += [
            lambda other=other: world.registry.upsert_records(WRITER, [other], merge=Merge.REPLACE)  # type: ignore[misc]
            for other in repointed(record, world)
        ]
        for number, way in enumerate(ways):
            assert refused(way), (record, number)
            assert world.meanings() == before, (record, number)
        attacked |= {(road.kind, road.field) for road in roads(record) if road.asset_id == world.bad}
    everything = {(name, field) for name, fields in LEADING.items() for field in fields} | {("asset", "asset_id")}
    assert attacked == everything, "a kind of record leads to assets and is not attacked here"


def test_an_approver_may(world: World) -> None:
    """The same changes are an approver's right, and a writer may change what leads nowhere else."""
    for record in world.records:
        if isinstance(record, Identifier):
            world.registry.move_asset_identifier(APPROVER, record.identifier_id, world.clean)
        if isinstance(record, Deployment):
            world.registry.update_asset_deployment(WRITER, record.deployment_id, {"provenance": "checked"})
    world.registry.update_asset(WRITER, world.bad, {"website": "https://bad.example"})
    assert world.registry.resolve(SourceKey("coingecko", "bad-coin")).asset.asset_id == world.clean


TAKEOVERS: dict[str, Callable[[World], object]] = {
    "an asset with the exact spelling": lambda w: w.registry.create_asset(
        WRITER, Asset(symbol="BAD", name="Clean", asset_type=AssetType.TOKEN)
    ),
    "a rename": lambda w: w.registry.update_asset(WRITER, w.clean, {"symbol": "BAD"}),
    "in bulk": lambda w: w.registry.upsert_records(
        WRITER, [Asset(asset_id=w.clean, symbol="BAD", name="CLEAN", asset_type=AssetType.TOKEN)], merge=Merge.REPLACE
    ),
    "a chain whose slug is an alias": lambda w: w.registry.create_chain(
        WRITER, Chain(chain_id="old", name="Old", namespace="eip155")
    ),
    "a venue whose slug is an alias": lambda w: w.registry.create_venue(
        WRITER, Venue(venue_id="bazaar", name="Bazaar", venue_type=VenueType.CEX)
    ),
    "an alias given up": lambda w: w.registry.update_venue(WRITER, "market", {"aliases": ()}),
}


@pytest.mark.parametrize("way", TAKEOVERS)
def test_no_name_is_taken_over(world: World, way: str) -> None:
    """Nothing that a writer adds makes a name of the warned asset mean another one."""
    before = world.meanings()
    assert refused(lambda: TAKEOVERS[way](world))
    assert world.meanings() == before


def test_a_preferred_namesake_takes_no_symbol_over(world: World) -> None:
    """With a namesake there already, neither a canonical place in a group nor one on a chain gives it the symbol."""
    registry = world.registry
    registry.update_group_member(APPROVER, world.group.group_id, world.bad, {"is_canonical": False})
    (canonical,) = [each for each in world.records if isinstance(each, Deployment) and each.is_canonical]
    registry.update_asset_deployment(APPROVER, canonical.deployment_id, {"is_canonical": False})
    namesake = world.asset("Bad")
    place = Deployment(asset_id=namesake, chain_id="slippery", contract_address=FREE, decimals=6)
    before = world.meanings()
    member = GroupMember(group_id=world.group.group_id, asset_id=namesake, is_canonical=True)
    for call in (
        lambda: registry.add_asset_to_group(WRITER, member),
        lambda: registry.upsert_records(WRITER, [member]),
        lambda: registry.create_asset_deployment(WRITER, msgspec.structs.replace(place, is_canonical=True)),
    ):
        try:
            assert refused(call)
        finally:
            assert world.meanings() == before
    assert before[AddressKey("slippery", ADDRESS)] == world.bad


def test_what_a_deleted_asset_was_found_by_is_not_used_again(world: World) -> None:
    """An approver deletes the warned asset; a writer cannot let its address, ticker or identifier mean a clean one."""
    registry = world.registry
    registry.delete_asset(APPROVER, world.bad)
    gone = [each for each in world.records if isinstance(each, Deployment | Identifier | VenueSymbol)]
    for record in gone:
        for other in repointed(msgspec.structs.replace(record, **{KIND_OF[type(record)].key[0]: ""}), world):
            assert refused(lambda other=other: registry.upsert_records(WRITER, [other])), other  # type: ignore[misc]
    assert {world.clean, world.third, world.other}.isdisjoint(world.meanings().values())
    address = next(each for each in gone if isinstance(each, Deployment))
    again = msgspec.structs.replace(address, deployment_id="", asset_id=world.clean)
    assert refused(lambda: registry.create_asset_deployment(WRITER, again))
    registry.create_asset_deployment(APPROVER, again)


def test_one_refused_item_does_not_spoil_the_others(world: World) -> None:
    """In a bulk write the guard refuses what leads away, and the rest is written."""
    moved = next(each for each in world.records if isinstance(each, Identifier))
    records: list[Record | Any] = [
        Identifier(asset_id=world.clean, source="coingecko", external_id="clean-coin"),
        msgspec.structs.replace(moved, asset_id=world.clean),
        Identifier(asset_id=world.third, source="coingecko", external_id="third-coin"),
    ]
    answer = world.registry.upsert_records(WRITER, records, merge=Merge.REPLACE)
    assert [each.outcome for each in answer.results] == [Outcome.CREATED, Outcome.REFUSED, Outcome.CREATED]
    assert world.registry.resolve(SourceKey("coingecko", "third-coin")).asset.asset_id == world.third
    assert world.registry.resolve(SourceKey("coingecko", "bad-coin")).asset.asset_id == world.bad


def test_every_kind_that_leads_to_an_asset_is_named() -> None:
    """A kind that `NAMING` does not know is guarded whole; here each has its line, so that no harmless change is refused."""
    assert {name for name, fields in LEADING.items() if fields} == set(NAMING)
    assert model.QUALITY_FLAG.name not in LEADING
