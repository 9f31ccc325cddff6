"""Updates, deletes, moves and the lists across records: each on a real PostgreSQL, beside other writers where that matters."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Unpack

import msgspec
import psycopg
import pytest

from cqar import model
from cqar.client._lookup import variants
from cqar.client._recent import Recent
from cqar.client._replica import Replica
from cqar.errors import (
    AmbiguousError,
    ConflictError,
    CqarError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    StaleError,
    UnavailableError,
)
from cqar.model import (
    GROUP,
    GROUP_MEMBER,
    IDENTIFIER,
    Asset,
    AssetType,
    Chain,
    Deployment,
    Group,
    GroupMember,
    Identifier,
    MarketKind,
    Record,
    Relationship,
    RelationshipType,
    Venue,
    VenueSymbol,
    VenueType,
)
from cqar.patches import (
    AssetPatch,
    ChainPatch,
    DeploymentPatch,
    GroupMemberPatch,
    GroupPatch,
    IdentifierPatch,
    RelationshipPatch,
    VenuePatch,
    VenueSymbolPatch,
)
from cqar.rules.descent import FORMS, MAX_DEPTH
from cqar.server.faults import CONTENTION
from cqar.server.registry import Call, Merge, Outcome, PageRequest, Registry, SourceKey, TickerKey
from cqar.server.store import Store
from cqar.server.transaction import Tx
from tests.worlds import World

ME = Call(actor="me")
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
NOBODY = "00000000-0000-4000-8000-000000000000"
PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry(store: Store) -> Registry:
    """Give a registry that knows a chain and a venue."""
    registry = Registry(store)
    ethereum = Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1)
    registry.create_chain(ME, ethereum)
    registry.create_venue(ME, Venue(venue_id="binance", name="Binance", venue_type=VenueType.CEX))
    return registry


def create(registry: Registry, symbol: str = "USDC") -> str:
    """Create an asset; give its id."""
    asset = Asset(symbol=symbol, name=f"{symbol} token", asset_type=AssetType.TOKEN)
    return registry.create_asset(ME, asset).asset.asset_id


def identify(registry: Registry, asset_id: str, external_id: str, source: str = "coingecko") -> Identifier:
    """Give an asset a name in a source."""
    identifier = Identifier(asset_id=asset_id, source=source, external_id=external_id)
    return registry.create_asset_identifier(ME, identifier).record


def names(registry: Registry, asset_id: str) -> dict[str, bool]:
    """Give the names that an asset has in sources, and whether they are primary."""
    found = registry.list_asset_identifiers(asset_id=asset_id).records
    return {identifier.external_id: identifier.is_primary for identifier in found}


def ticker(registry: Registry, symbol: str, asset_id: str, **values: Any) -> VenueSymbol:
    """Give a ticker a meaning."""
    values = {"venue_id": "binance", "market_kind": MarketKind.SPOT} | values
    return registry.create_venue_symbol(ME, VenueSymbol(symbol=symbol, asset_id=asset_id, **values)).record


def everything(list_page: Callable[..., Any], field: str = "records", **filters: Any) -> list[Any]:
    """Read a list to its end, two entries a page."""
    found: list[Any] = []
    request = PageRequest(size=2)
    while True:
        page = list_page(**filters, page=request)
        found += getattr(page, field)
        if not page.next_page_token:
            return found
        assert len(getattr(page, field)) == 2
        request = PageRequest(size=2, token=page.next_page_token)


def reason(call: Callable[[], object], kind: type[CqarError]) -> str:
    """Give the reason for which a call is refused."""
    with pytest.raises(kind) as caught:
        call()
    return caught.value.reason


@contextmanager
def while_held(
    url: str, store: Store, write: Callable[[Any], None], blocked: Callable[[], Any]
) -> Iterator[Future[Any]]:
    """Write in an open transaction, let another call run into it, commit, and give what becomes of the call."""
    with ThreadPoolExecutor(1) as pool:
        with store.transaction(actor="first") as tx:
            write(tx)
            tx.flush()
            future = pool.submit(blocked)
            with psycopg.connect(url, autocommit=True) as connection:
                deadline = time.monotonic() + 10
                while not connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
                    assert time.monotonic() < deadline, f"nobody waits: {future.done() and future.result()}"
        yield future


# --- what all updates and deletes have in common ---------------------------------------------------------------------


class Case:
    """A record of a kind, and how it is updated, deleted and read."""

    def __init__(self, record: Record, patch: Any, update: Any, delete: Any, read: Any, *key: str) -> None:
        self.record, self.patch, self.key = record, patch, key
        self.update, self.delete, self.read = update, delete, read


def cases(registry: Registry) -> dict[str, Case]:
    """Make a record of every kind that can be updated."""
    one, two = create(registry, "ONE"), create(registry, "TWO")
    deployment = registry.create_asset_deployment(
        ME, Deployment(asset_id=one, chain_id="ethereum", contract_address=USDC, decimals=6, provenance="x")
    ).record
    identifier = identify(registry, one, "usd-coin")
    edge = registry.create_asset_relationship(
        ME, Relationship(parent_asset_id=one, child_asset_id=two, relationship_type=RelationshipType.WRAPS)
    ).record
    group = registry.create_asset_group(ME, Group(canonical_symbol="USD", name="Dollars", description="x")).record
    member = registry.add_asset_to_group(ME, GroupMember(group_id=group.group_id, asset_id=one)).record
    row = ticker(registry, "ONETWO", one, quote_asset_id=two)
    asset = registry.get_asset(one).record
    chain, venue = registry.get_chain("ethereum").record, registry.get_venue("binance").record
    the = Registry

    def get_member(registry: Registry, group_id: str, _asset_id: str) -> Any:
        page = registry.list_asset_group_members(group_id)
        return msgspec.structs.replace(registry.get_asset_group(group_id), record=page.records[0])

    return {
        "asset": Case(asset, AssetPatch(name="New"), the.update_asset, the.delete_asset, the.get_asset, one),
        "deployment": Case(
            deployment,
            DeploymentPatch(decimals=18, is_canonical=True, provenance=""),
            the.update_asset_deployment,
            the.delete_asset_deployment,
            the.get_asset_deployment,
            deployment.deployment_id,
        ),
        "identifier": Case(
            identifier,
            IdentifierPatch(provenance="me"),
            the.update_asset_identifier,
            the.delete_asset_identifier,
            the.get_asset_identifier,
            identifier.identifier_id,
        ),
        "relationship": Case(
            edge,
            RelationshipPatch(protocol="weth", conversion_rate=Decimal(1), rate_as_of=PAST, rate_source="contract"),
            the.update_asset_relationship,
            the.delete_asset_relationship,
            the.get_asset_relationship,
            edge.relationship_id,
        ),
        "group": Case(
            group,
            GroupPatch(canonical_symbol="usd", description=None),
            the.update_asset_group,
            the.delete_asset_group,
            the.get_asset_group,
            group.group_id,
        ),
        "member": Case(
            member,
            GroupMemberPatch(is_canonical=True, weight=Decimal("0.5")),
            the.update_group_member,
            None,
            get_member,
            group.group_id,
            one,
        ),
        "chain": Case(
            chain,
            ChainPatch(name="Mainnet", aliases=("ccxt:ERC20",), native_asset_id=one, slip44=60, is_active=False),
            the.update_chain,
            None,
            the.get_chain,
            "ethereum",
        ),
        "venue": Case(
            venue,
            VenuePatch(name="B", countries=("MT",), chain_id="ethereum", is_active=False),
            the.update_venue,
            None,
            the.get_venue,
            "binance",
        ),
        "venue_symbol": Case(
            row,
            VenueSymbolPatch(valid_from=PAST, valid_to=FUTURE, multiplier=Decimal(1000), settle_asset_id=two),
            the.update_venue_symbol,
            the.delete_venue_symbol,
            the.get_venue_symbol,
            row.venue_symbol_id,
        ),
    }


KINDS = ("asset", "deployment", "identifier", "relationship", "group", "member", "chain", "venue", "venue_symbol")


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_changes_what_is_given_and_nothing_else(registry: Registry, store: Store, kind: str) -> None:
    """Omitted fields stay, empty ones are cleared, the rest is as before; saying it again writes nothing (R13)."""
    case = cases(registry)[kind]
    before = store.head().position
    answer = case.update(registry, ME, *case.key, case.patch)
    assert answer.position == before + 1 == store.head().position
    news = {name: value if value != "" else None for name, value in case.patch.items()}
    expected = msgspec.structs.replace(case.record, **news, updated_at=answer.record.updated_at)
    assert answer.record == expected == case.read(registry, *case.key).record
    assert answer.record.updated_at > case.record.updated_at
    again = case.update(registry, ME, *case.key, case.patch)
    assert (again.record, again.position) == (expected, answer.position)
    assert case.update(registry, ME, *case.key, {}).record == expected
    (batch,) = store.batches(before, 10)
    assert [change.record for change in batch.changes if change.kind == model.KIND_OF[type(expected)].name] == [
        expected
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_or_delete_of_what_was_written_since_is_refused(registry: Registry, store: Store, kind: str) -> None:
    """The record must not have been written after `expected_position`, which must have been reached (R13)."""
    every = cases(registry)
    case, asset_id = every[kind], every["asset"].key[0]
    seen = store.head().position
    registry.update_asset(ME, create(registry, "OTHER"), AssetPatch(name="x"))  # another's write does not matter
    writes = [lambda at: case.update(registry, ME, *case.key, case.patch, at)]
    if case.delete is not None:
        writes.append(lambda at: case.delete(registry, ME, *case.key, at))
    head = store.head().position
    for write in writes:
        assert reason(lambda write=write: write(head + 1), InvalidError) == "POSITION_AHEAD"  # type: ignore[misc]
    assert case.update(registry, ME, *case.key, case.patch, seen).position == head + 1
    for write in writes:
        assert reason(lambda write=write: write(seen), StaleError) == "STALE"  # type: ignore[misc]
        assert reason(lambda write=write: write(-1), StaleError) == "STALE"  # type: ignore[misc]
    assert store.head().position == head + 1
    assert registry.get_asset(asset_id).record.symbol == "ONE"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"member", "chain", "venue"}])
def test_what_is_deleted_is_gone_and_the_replicas_are_told(registry: Registry, store: Store, kind: str) -> None:
    """A delete is one position with a tombstone; afterwards there is nothing to read, update or delete (R12)."""
    case = cases(registry)[kind]
    done = case.delete(registry, ME, *case.key)
    (batch,) = store.batches(done.position - 1, 10)
    own = model.KIND_OF[type(case.record)].name
    assert (model.Op.REMOVE, own, case.key[0]) in {(change.op, change.kind, change.key) for change in batch.changes}
    for call in (
        lambda: case.read(registry, *case.key),
        lambda: case.update(registry, ME, *case.key, case.patch),
        lambda: case.delete(registry, ME, *case.key),
    ):
        assert reason(call, NotFoundError) == f"{own.upper()}_NOT_FOUND"


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_cannot_make_what_a_create_refuses(registry: Registry, store: Store, kind: str) -> None:
    """The rules of a record hold for its updates."""
    broken: dict[str, list[Any]] = {
        "asset": [{"symbol": ""}, {"website": "no url"}],
        "deployment": [{"decimals": 256}, {"decimals": -1}],
        "identifier": [{"provenance": "x" * 300}],
        "relationship": [{"conversion_rate": Decimal(-1), "rate_as_of": PAST}, {"conversion_rate": Decimal(1)}],
        "group": [{"canonical_symbol": "x" * 65}, {"name": ""}],
        "member": [{"weight": Decimal(0)}, {"weight": Decimal("NaN")}],
        "chain": [{"name": ""}, {"caip2": "cosmos:x"}, {"native_decimals": 256}, {"aliases": ("no source",)}],
        "venue": [{"countries": ("Malta",)}, {"website": "no url"}],
        "venue_symbol": [{"valid_from": FUTURE, "valid_to": PAST}, {"multiplier": Decimal(0)}],
    }
    case = cases(registry)[kind]
    head = store.head()
    for patch in broken[kind]:
        with pytest.raises(InvalidError):
            case.update(registry, ME, *case.key, patch)
    if kind in {"chain", "venue_symbol"}:
        field = "native_asset_id" if kind == "chain" else "quote_asset_id"
        assert reason(lambda: case.update(registry, ME, *case.key, {field: NOBODY}), NotFoundError) == "ASSET_NOT_FOUND"
    assert store.head() == head


# --- identifiers -----------------------------------------------------------------------------------------------------


def test_an_identifier_takes_the_place_of_the_primary_one(registry: Registry) -> None:
    """One becomes primary by an update and the other stops being it, at one position; it cannot only stop (R7)."""
    asset = create(registry)
    first, second = identify(registry, asset, "a"), identify(registry, asset, "b")
    assert names(registry, asset) == {"a": True, "b": False}
    registry.update_asset_identifier(ME, second.identifier_id, IdentifierPatch(is_primary=True))
    assert names(registry, asset) == {"a": False, "b": True}
    stop = IdentifierPatch(is_primary=False)
    refused = reason(lambda: registry.update_asset_identifier(ME, second.identifier_id, stop), PreconditionError)
    assert refused == "PRIMARY_REQUIRED"
    assert registry.update_asset_identifier(ME, first.identifier_id, stop).record.is_primary is False


def test_an_identifier_moves_to_another_asset(registry: Registry, store: Store) -> None:
    """A move keeps the row, and each of the two assets has exactly one primary of the source afterwards (R7)."""
    old, new = create(registry, "OLD"), create(registry, "NEW")
    moved = [identify(registry, old, name) for name in "abc"]
    identify(registry, old, "other", source="slip44")
    answer = registry.move_asset_identifier(ME, moved[0].identifier_id, new)
    assert answer.record == msgspec.structs.replace(moved[0], asset_id=new, updated_at=answer.record.updated_at)
    assert names(registry, old) == {"b": True, "c": False, "other": True}
    assert names(registry, new) == {"a": True}
    (batch,) = store.batches(answer.position - 1, 10)
    assert len(batch.changes) == 2
    registry.move_asset_identifier(ME, SourceKey(" CoinGecko ", "c"), new)
    assert names(registry, old) == {"b": True, "other": True}
    assert names(registry, new) == {"a": True, "c": False}
    assert registry.get_asset_identifier_of("coingecko", "c").record.asset_id == new
    registry.move_asset_identifier(ME, SourceKey("coingecko", "b"), new)
    assert names(registry, old) == {"other": True}
    assert names(registry, new) == {"a": True, "b": False, "c": False}
    head = store.head()
    assert registry.move_asset_identifier(ME, moved[0].identifier_id, new).position == head.position
    assert reason(lambda: registry.move_asset_identifier(ME, moved[0].identifier_id, NOBODY), NotFoundError) == (
        "ASSET_NOT_FOUND"
    )
    assert reason(lambda: registry.move_asset_identifier(ME, SourceKey("coingecko", "?"), new), NotFoundError) == (
        "IDENTIFIER_NOT_FOUND"
    )
    late = registry.move_asset_identifier
    assert reason(lambda: late(ME, moved[0].identifier_id, old, 1), StaleError) == "STALE"
    assert store.head() == head


def test_a_deleted_primary_has_an_heir(registry: Registry) -> None:
    """The first by external id that the source has left becomes primary; the name may be used again (R7)."""
    asset, other = create(registry), create(registry, "OTHER")
    made = {name: identify(registry, asset, name) for name in ("m", "z", "b")}
    registry.delete_asset_identifier(ME, made["z"].identifier_id)
    assert names(registry, asset) == {"m": True, "b": False}
    registry.delete_asset_identifier(ME, made["m"].identifier_id)
    assert names(registry, asset) == {"b": True}
    registry.delete_asset_identifier(ME, made["b"].identifier_id)
    assert names(registry, asset) == {}
    assert identify(registry, other, "m").is_primary


def test_each_source_of_an_asset_has_one_primary_whoever_writes(registry: Registry, migrated_url: str) -> None:
    """Creates, moves, promotions and deletes at the same time leave exactly one primary for each asset and source (R7)."""
    assets = [create(registry, f"T{number}") for number in range(3)]
    pool_of_names = [f"n{number}" for number in range(8)]
    done: list[str] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(40):
            key, asset = SourceKey("coingecko", dice.choice(pool_of_names)), dice.choice(assets)
            try:
                match dice.choice(["create", "bulk", "move", "promote", "delete"]):
                    case "create":
                        identify(registry, asset, key.external_id)
                    case "bulk":
                        news = [Identifier(asset_id=asset, source="coingecko", external_id=key.external_id)]
                        registry.upsert_records(ME, news, merge=dice.choice(list(Merge)))
                    case "move":
                        registry.move_asset_identifier(ME, key, asset)
                    case "promote":
                        found = registry.get_asset_identifier_of(key.source, key.external_id).record
                        registry.update_asset_identifier(ME, found.identifier_id, IdentifierPatch(is_primary=True))
                    case _:
                        found = registry.get_asset_identifier_of(key.source, key.external_id).record
                        registry.delete_asset_identifier(ME, found.identifier_id)
                done.append("")
            except (NotFoundError, ConflictError):
                continue
            except UnavailableError as error:  # four writers on three assets may meet four times in a row
                if error.reason != CONTENTION:
                    raise

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(done) > 40
    with psycopg.connect(migrated_url) as connection:
        counts = connection.execute(
            "SELECT asset_id, count(*) FILTER (WHERE is_primary) FROM asset_identifiers WHERE deleted_at IS NULL"
            " GROUP BY asset_id, source"
        ).fetchall()
    assert counts
    assert {count for _, count in counts} == {1}


def test_a_bulk_write_sees_the_primary_go(registry: Registry, store: Store, migrated_url: str) -> None:
    """A name that would be secondary is primary if the primary is deleted before it is written (R7, R14)."""
    asset = create(registry)
    first = identify(registry, asset, "first")
    news = [Identifier(asset_id=asset, source="coingecko", external_id="second")]
    with while_held(
        migrated_url,
        store,
        lambda tx: tx.remove(tx.get(IDENTIFIER, first.identifier_id, for_update=True)),
        lambda: registry.upsert_records(ME, news),
    ) as bulk:
        pass
    assert bulk.result(10).results[0].outcome is Outcome.CREATED
    assert names(registry, asset) == {"second": True}


# --- groups ----------------------------------------------------------------------------------------------------------


def test_a_deleted_group_takes_its_memberships_along(registry: Registry, store: Store) -> None:
    """Group and memberships go at one position, the assets stay, and the symbol is free again (R9, R12)."""
    asset = create(registry)
    group = registry.create_asset_group(ME, Group(canonical_symbol="USD", name="Dollars")).record
    registry.add_asset_to_group(ME, GroupMember(group_id=group.group_id, asset_id=asset, is_canonical=True))
    done = registry.delete_asset_group(ME, group.group_id)
    (batch,) = store.batches(done.position - 1, 10)
    assert [(change.op, change.kind) for change in batch.changes] == [
        (model.Op.REMOVE, "group_member"),
        (model.Op.REMOVE, "group"),
    ]
    assert registry.list_asset_groups(asset_id=asset).records == ()
    assert reason(lambda: registry.list_asset_group_members(group.group_id), NotFoundError) == "GROUP_NOT_FOUND"
    assert registry.get_asset(asset).record.symbol == "USDC"
    again = registry.create_asset_group(ME, Group(canonical_symbol="usd", name="Dollars")).record
    registry.add_asset_to_group(ME, GroupMember(group_id=again.group_id, asset_id=asset, is_canonical=True))


def test_no_asset_joins_a_group_that_is_being_deleted(registry: Registry, store: Store, migrated_url: str) -> None:
    """A membership waits for the end of a delete that is under way, and is then refused: nothing dangles (R12)."""
    asset = create(registry)
    group = registry.create_asset_group(ME, Group(canonical_symbol="USD", name="Dollars")).record
    member = GroupMember(group_id=group.group_id, asset_id=asset)
    with while_held(
        migrated_url,
        store,
        lambda tx: tx.remove(tx.get(GROUP, group.group_id, for_update=True)),
        lambda: registry.add_asset_to_group(ME, member),
    ) as joining:
        pass
    with pytest.raises(NotFoundError) as caught:
        joining.result(10)
    assert caught.value.reason == "GROUP_NOT_FOUND"
    assert registry.list_asset_groups(asset_id=asset).records == ()


def test_two_groups_never_have_one_symbol(registry: Registry) -> None:
    """An update cannot take the symbol of another group, in whatever case (R9)."""
    registry.create_asset_group(ME, Group(canonical_symbol="USD", name="Dollars"))
    other = registry.create_asset_group(ME, Group(canonical_symbol="EUR", name="Euros")).record
    with pytest.raises(ConflictError):
        registry.update_asset_group(ME, other.group_id, GroupPatch(canonical_symbol="usd"))
    assert registry.update_asset_group(ME, other.group_id, GroupPatch(canonical_symbol="eur")).record.name == "Euros"


def test_the_canonical_place_is_handed_over(registry: Registry, store: Store, migrated_url: str) -> None:
    """One member becomes canonical and the present one stops being it, at one position, also if that was another's (R9)."""
    group = registry.create_asset_group(ME, Group(canonical_symbol="USD", name="Dollars")).record.group_id
    assets = [create(registry, f"T{number}") for number in range(4)]
    for asset in assets:
        registry.add_asset_to_group(ME, GroupMember(group_id=group, asset_id=asset, is_canonical=asset == assets[0]))
    done = registry.update_group_member(ME, group, assets[1], GroupMemberPatch(is_canonical=True))
    (batch,) = store.batches(done.position - 1, 10)
    assert len(batch.changes) == 2

    def canonical() -> list[str]:
        return [member.asset_id for member in registry.list_asset_group_members(group).records if member.is_canonical]

    assert canonical() == [assets[1]]

    def crown_third(tx: Tx) -> None:
        for asset, is_canonical in ((assets[1], False), (assets[2], True)):
            member = tx.get(GROUP_MEMBER, f"{group}/{asset}", for_update=True)
            assert member is not None
            tx.put(msgspec.structs.replace(member, is_canonical=is_canonical))
            tx.flush()

    crown = GroupMemberPatch(is_canonical=True)
    with while_held(
        migrated_url, store, crown_third, lambda: registry.update_group_member(ME, group, assets[3], crown)
    ):
        pass
    assert canonical() == [assets[3]]
    registry.update_group_member(ME, group, assets[3], GroupMemberPatch(is_canonical=False))
    assert canonical() == []


# --- chains and venues -----------------------------------------------------------------------------------------------


def test_an_inactive_chain_or_venue_is_found_and_not_listed(registry: Registry) -> None:
    """Deactivation takes it out of lists; every name of it works as before, for the history's sake."""
    registry.update_chain(ME, "eip155:1", ChainPatch(is_active=False))
    registry.update_venue(ME, "Binance", VenuePatch(is_active=False))
    assert (registry.list_chains().records, registry.list_venues().records) == ((), ())
    assert [chain.chain_id for chain in registry.list_chains(include_inactive=True).records] == ["ethereum"]
    assert [venue.venue_id for venue in registry.list_venues(include_inactive=True).records] == ["binance"]
    assert registry.get_chain("1").record.is_active is False
    asset = create(registry)
    deployment = Deployment(asset_id=asset, chain_id="1", contract_address=USDC, decimals=6)
    assert registry.create_asset_deployment(ME, deployment).record.chain_id == "ethereum"
    registry.update_chain(ME, "ethereum", ChainPatch(is_active=True))
    assert len(registry.list_chains().records) == 1


def test_no_two_chains_or_venues_share_a_name_after_an_update(registry: Registry) -> None:
    """A new name must be free, an old one that was given up is free, and one's own may be said again (R5)."""
    registry.create_chain(ME, Chain(chain_id="base", name="Base", namespace="eip155", network_id=8453))
    registry.create_venue(ME, Venue(venue_id="kraken", name="Kraken", venue_type=VenueType.CEX))
    for patch in (ChainPatch(network_id=1), ChainPatch(caip2="eip155:1")):
        assert reason(lambda patch=patch: registry.update_chain(ME, "base", patch), ConflictError) == "NAME_TAKEN"  # type: ignore[misc]
    registry.update_chain(ME, "base", ChainPatch(aliases=("ccxt:BASE", "x:base"), caip2="eip155:8453"))
    taken = ChainPatch(aliases=("CCXT:base",))
    assert reason(lambda: registry.update_chain(ME, "ethereum", taken), InvalidError) == "ALIAS_FORMAT"
    taken = ChainPatch(aliases=("ccxt:base",))
    assert reason(lambda: registry.update_chain(ME, "ethereum", taken), ConflictError) == "NAME_TAKEN"
    registry.update_chain(ME, "base", ChainPatch(aliases=()))
    registry.update_chain(ME, "ethereum", taken)
    assert registry.get_chain("ccxt:base").record.chain_id == "ethereum"
    registry.update_venue(ME, "kraken", VenuePatch(aliases=("ccxt:kr",)))
    assert reason(lambda: registry.update_venue(ME, "binance", VenuePatch(aliases=("ccxt:kr",))), ConflictError) == (
        "NAME_TAKEN"
    )
    assert reason(lambda: registry.update_venue(ME, "mars", VenuePatch(name="x")), NotFoundError) == "VENUE_NOT_FOUND"
    unknown = VenuePatch(chain_id="mars")
    assert reason(lambda: registry.update_venue(ME, "binance", unknown), NotFoundError) == "CHAIN_NOT_FOUND"


def test_a_chain_forgets_its_native_asset_when_that_is_deleted(registry: Registry) -> None:
    """No chain is left with a native asset that is not there; its other facts stay (R12)."""
    ether = create(registry, "ETH")
    registry.update_chain(ME, "ethereum", ChainPatch(native_asset_id=ether, native_symbol="ETH"))
    registry.delete_asset(ME, ether)
    chain = registry.get_chain("ethereum").record
    assert (chain.native_asset_id, chain.native_symbol) == (None, "ETH")


# --- venue symbols ---------------------------------------------------------------------------------------------------


def test_a_ticker_gets_another_meaning_when_the_first_is_closed(registry: Registry) -> None:
    """`valid_to` ends an interval, the next may begin there, and neither may grow into the other (R6)."""
    old, new = create(registry, "LUNC"), create(registry, "LUNA")
    turn = datetime(2022, 5, 28, 6, tzinfo=UTC)
    row = ticker(registry, "LUNAUSDT", old)
    assert reason(lambda: ticker(registry, "LUNAUSDT", new, valid_from=turn), ConflictError) == "INTERVAL_OVERLAP"
    registry.update_venue_symbol(ME, row.venue_symbol_id, VenueSymbolPatch(valid_to=turn))
    later = ticker(registry, "LUNAUSDT", new, valid_from=turn)
    assert registry.get_venue_symbol_now("binance", "LUNAUSDT").record == later
    for patch in (VenueSymbolPatch(valid_to=None), VenueSymbolPatch(valid_to=turn + timedelta(seconds=1))):
        with pytest.raises(ConflictError) as caught:
            registry.update_venue_symbol(ME, row.venue_symbol_id, patch)
        assert caught.value.reason == "INTERVAL_OVERLAP"
    registry.delete_venue_symbol(ME, later.venue_symbol_id)
    reopened = registry.update_venue_symbol(ME, row.venue_symbol_id, VenueSymbolPatch(valid_to=None)).record
    assert registry.get_venue_symbol_now("binance", "LUNAUSDT").record == reopened


def test_a_ticker_resolves_to_its_base_asset(registry: Registry) -> None:
    """A venue's ticker is a key like any other, with what it means now, and its errors (R2, R6)."""
    base, quote, other = create(registry, "BTC"), create(registry, "USDT"), create(registry, "BTCX")
    ticker(registry, "BTCUSDT", base, quote_asset_id=quote)
    ticker(registry, "BTCUSDT", other, quote_asset_id=quote, market_kind=MarketKind.PERPETUAL)
    ticker(registry, "GONE", base, valid_to=PAST)
    found = registry.resolve(TickerKey("Binance", " BTCUSDT ", MarketKind.SPOT))
    assert (found.asset.asset_id, found.deployment, found.source) == (base, None, "server")
    assert registry.resolve(TickerKey("binance", "BTCUSDT", MarketKind.PERPETUAL)).asset.asset_id == other
    keys = [TickerKey("binance", "BTCUSDT"), TickerKey("binance", "GONE"), TickerKey("mars", "BTCUSDT")]
    keys += [
        TickerKey("binance", ""),
        TickerKey("binance", "btcusdt"),
        TickerKey("binance", "BTCUSDT", MarketKind.SPOT),
    ]
    outcomes = registry.resolve_many(keys).outcomes
    assert [getattr(outcome, "reason", "OK") for outcome in outcomes] == [
        "KIND_AMBIGUOUS",
        "NOT_FOUND",
        "VENUE_NOT_FOUND",
        "TEXT_EMPTY",
        "NOT_FOUND",
        "OK",
    ]
    assert isinstance(outcomes[0], AmbiguousError)


def test_the_venues_that_list_an_asset(registry: Registry) -> None:
    """Each venue once, by its slug, with the tickers that have the asset on any side now (R6)."""
    asset, other = create(registry, "BTC"), create(registry, "USDT")
    for slug in ("a", "b", "c", "d", "e"):
        registry.create_venue(ME, Venue(venue_id=slug, name=slug.upper(), venue_type=VenueType.CEX))
    base = ticker(registry, "BTCUSDT", asset, venue_id="a", quote_asset_id=other)
    name = ticker(registry, "XBT", asset, venue_id="a", market_kind=MarketKind.ASSET)
    quote = ticker(registry, "USDTBTC", other, venue_id="b", quote_asset_id=asset)
    margin = ticker(
        registry, "USDTX", other, venue_id="c", settle_asset_id=asset, market_kind=MarketKind.PERPETUAL, valid_from=PAST
    )
    ticker(registry, "OLD", asset, venue_id="d", valid_to=PAST)
    ticker(registry, "SOON", asset, venue_id="d", valid_from=FUTURE)
    ticker(registry, "BTCEUR", asset, venue_id="e")
    registry.update_venue(ME, "e", VenuePatch(is_active=False))
    listed = everything(registry.list_asset_venues, "listings", asset_id=asset)
    assert [(each.venue.venue_id, each.venue_symbols, each.symbol_count) for each in listed] == [
        ("a", (base, name), 2),
        ("b", (quote,), 1),
        ("c", (margin,), 1),
    ]
    everywhere = registry.list_asset_venues(asset, include_inactive=True).listings
    assert [each.venue.venue_id for each in everywhere] == ["a", "b", "c", "e"]
    assert [row.asset_id for row in everything(registry.list_venue_assets, venue="A")] == sorted([asset, other])
    assert registry.list_venue_assets("d").records == ()
    assert reason(lambda: registry.list_asset_venues(NOBODY), NotFoundError) == "ASSET_NOT_FOUND"
    assert reason(lambda: registry.list_venue_assets("mars"), NotFoundError) == "VENUE_NOT_FOUND"


def test_a_listing_with_very_many_tickers_tells_the_first_and_their_number(registry: Registry) -> None:
    """What a page of listings holds is bounded, whatever the venue (R15)."""
    asset = create(registry, "USDT")
    rows: list[Record] = [
        VenueSymbol(venue_id="binance", symbol=f"T{number:03d}", market_kind=MarketKind.SPOT, asset_id=asset)
        for number in range(130)
    ]
    registry.upsert_records(ME, rows)
    (whole,) = registry.list_asset_venues(asset, page=PageRequest(size=1)).listings
    assert (len(whole.venue_symbols), whole.symbol_count) == (130, 130)
    (some,) = registry.list_asset_venues(asset).listings
    assert [row.symbol for row in some.venue_symbols] == [f"T{number:03d}" for number in range(100)]
    assert some.symbol_count == 130


# --- relationships ---------------------------------------------------------------------------------------------------


def test_a_rate_never_keeps_the_time_of_another(registry: Registry) -> None:
    """A new rate comes with its time; one that is cleared takes time and source along (R8)."""
    edge = Relationship(
        parent_asset_id=create(registry, "ETH"),
        child_asset_id=create(registry, "stETH"),
        relationship_type=RelationshipType.STAKES,
        conversion_rate=Decimal("1.1"),
        rate_as_of=PAST,
        rate_source="lido",
    )
    key = registry.create_asset_relationship(ME, edge).record.relationship_id

    def update(**patch: Unpack[RelationshipPatch]) -> Relationship:
        return registry.update_asset_relationship(ME, key, patch).record

    assert reason(lambda: update(conversion_rate=Decimal("1.2")), InvalidError) == "RATE_SOURCE"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    changed = update(conversion_rate=Decimal("1.2"), rate_as_of=now)
    assert (changed.conversion_rate, changed.rate_as_of, changed.rate_source) == (Decimal("1.2"), now, "lido")
    assert reason(lambda: update(rate_as_of=None), InvalidError) == "RATE_SOURCE"
    cleared = update(conversion_rate=None)
    assert (cleared.conversion_rate, cleared.rate_as_of, cleared.rate_source) == (None, None, None)


@pytest.mark.parametrize("seed", range(6))
def test_variants_are_those_of_the_replica(store: Store, tmp_path: Path, seed: int) -> None:
    """Server and replica give the same variants with the same ways, over cycles, diamonds and deleted assets (R8)."""
    dice = random.Random(seed)
    assets = [Asset(symbol=f"T{number}", name="T", asset_type=AssetType.TOKEN) for number in range(14)]
    with store.transaction(actor="test") as tx:
        ids = [tx.put(asset).asset_id for asset in assets]
        pairs = [dice.sample(ids, 2) for _ in range(24)]
        edges = {
            (parent, child, dice.choice([*list(RelationshipType)[:3], RelationshipType.FORK]))
            for parent, child in pairs
        }
        for parent, child, kind in sorted(edges):
            tx.put(Relationship(parent_asset_id=parent, child_asset_id=child, relationship_type=kind))
    registry = Registry(store)
    gone = set(dice.sample(ids, 2))
    for asset_id in gone:
        registry.delete_asset(ME, asset_id)
    with store.export() as (_, records, _):
        world = World(record for found in records.values() for record in found)
    replica = Replica(world.generation(tmp_path / "g"), Recent())
    kinds = [set(), {RelationshipType.WRAPS}, set(list(RelationshipType)[:2]), set(RelationshipType)]
    total = 0
    for asset_id in sorted(set(ids) - gone):
        for types in kinds:
            found = everything(registry.list_asset_variants, "variants", asset_id=asset_id, types=types)
            there, _ = variants(replica, asset_id, frozenset(types) or FORMS)
            assert tuple(found) == there
            live = {(p, c) for p, c, kind in edges if not {p, c} & gone and kind in (types or FORMS)}
            assert {each.asset.asset_id: each.depth for each in found} == distances(asset_id, live)
            total += len(found)
    assert total > 50
    for asset_id in gone:
        assert reason(lambda a=asset_id: registry.list_asset_variants(a), NotFoundError) == "ASSET_NOT_FOUND"  # type: ignore[misc]


def distances(start: str, edges: set[tuple[str, str]]) -> dict[str, int]:
    """Give how many steps each other asset is away, found by trying over and over."""
    found = {start: 0}
    for _ in range(MAX_DEPTH):
        for parent, child in edges:
            if parent in found:
                found[child] = min(found.get(child, MAX_DEPTH), found[parent] + 1)
    del found[start]
    return found


# --- assets with their parts, and long lists -------------------------------------------------------------------------


def test_an_asset_is_born_into_groups(registry: Registry, store: Store) -> None:
    """Memberships are written with the asset, or it is not written at all (R14)."""
    groups = [
        registry.create_asset_group(ME, Group(canonical_symbol=symbol, name=symbol)).record.group_id
        for symbol in ("USD", "STABLE")
    ]
    asset = Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.TOKEN)
    places = [
        GroupMember(group_id=groups[0], asset_id="", is_canonical=True),
        GroupMember(group_id=groups[1], asset_id="", weight=Decimal("0.5")),
    ]
    made = registry.create_asset(ME, asset, memberships=places)
    assert [(place.group_id, place.asset_id) for place in made.memberships] == [
        (group, made.asset.asset_id) for group in groups
    ]
    assert registry.list_asset_group_members(groups[0]).records == made.memberships[:1]
    head = store.head()
    assert reason(lambda: registry.create_asset(ME, asset, memberships=places), ConflictError) == "CANONICAL_EXISTS"
    nowhere = [GroupMember(group_id=NOBODY, asset_id="")]
    assert reason(lambda: registry.create_asset(ME, asset, memberships=nowhere), NotFoundError) == "GROUP_NOT_FOUND"
    others = [GroupMember(group_id=groups[1], asset_id=made.asset.asset_id)]
    assert reason(lambda: registry.create_asset(ME, asset, memberships=others), InvalidError) == "OTHER_ASSET"
    assert reason(lambda: registry.create_asset(ME, asset, memberships=[places[1]] * 2), ConflictError)
    assert store.head() == head
    assert len(registry.list_assets().records) == 1


def test_all_deployments_of_a_chain_are_listed_past_any_page_size(registry: Registry) -> None:
    """Page after page gives every deployment of a chain once, in the order of keys (R15)."""
    asset = create(registry)
    made = [
        Deployment(asset_id=asset, chain_id="ethereum", contract_address=f"0x{number + 1:040x}", decimals=6)
        for number in range(2300)
    ]
    for start in range(0, len(made), 1000):
        registry.upsert_records(ME, made[start : start + 1000])
    seen: list[str] = []
    sizes: list[int] = []
    request = PageRequest(size=1000)
    while True:
        page = registry.list_asset_deployments(chain="1", page=request)
        seen += [deployment.deployment_id for deployment in page.records]
        sizes.append(len(page.records))
        if not page.next_page_token:
            break
        request = PageRequest(size=1000, token=page.next_page_token)
    assert sizes == [1000, 1000, 300]
    assert seen == sorted(set(seen))


def test_a_request_id_belongs_to_one_request(registry: Registry, store: Store) -> None:
    """The same method with other arguments is refused and writes nothing; the first reply stays what it was (R13)."""
    call = Call(actor="me", request_id=str(uuid.uuid4()))
    asset = create(registry)
    first = registry.update_asset(call, asset, AssetPatch(name="First"))
    for patch in (AssetPatch(name="Second"), AssetPatch(name="First", category=""), AssetPatch()):
        refused = reason(lambda patch=patch: registry.update_asset(call, asset, patch), InvalidError)  # type: ignore[misc]
        assert refused == "REQUEST_ID_REUSED"
    assert registry.update_asset(call, asset, AssetPatch(name="First")) == first
    other = create(registry, "OTHER")
    assert reason(lambda: registry.update_asset(call, other, AssetPatch(name="First")), InvalidError) == (
        "REQUEST_ID_REUSED"
    )
    assert store.head().position == first.position + 1
