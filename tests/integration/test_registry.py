"""The operations on the registry, each on a real PostgreSQL, ruling by ruling."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from cqar import model
from cqar.answers import Decision
from cqar.errors import (
    AmbiguousError,
    ConflictError,
    CqarError,
    InvalidError,
    LimitError,
    NotFoundError,
    PreconditionError,
    StaleError,
)
from cqar.model import (
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
from cqar.server.registry import (
    AddressKey,
    AssetPatch,
    Call,
    Merge,
    Outcome,
    PageRequest,
    Registry,
    SourceKey,
    SymbolKey,
)
from cqar.server.store import Store

ME = Call(actor="me")
USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
USDT = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def registry(store: Store) -> Registry:
    """Give a registry that knows two chains and a venue."""
    registry = Registry(store)
    registry.create_chain(
        ME,
        Chain(
            chain_id="ethereum",
            name="Ethereum",
            namespace="eip155",
            caip2="eip155:1",
            network_id=1,
            aliases=("coingecko:ethereum", "ccxt:ERC20"),
        ),
    )
    registry.create_chain(
        ME, Chain(chain_id="bsc", name="BNB Smart Chain", namespace="eip155", caip2="eip155:56", network_id=56)
    )
    registry.create_venue(
        ME, Venue(venue_id="binance", name="Binance", venue_type=VenueType.CEX, aliases=("ccxt:bnb",))
    )
    return registry


def token(symbol: str = "USDC", name: str | None = None, **values: Any) -> Asset:
    """Give an asset to create."""
    return Asset(symbol=symbol, name=name or f"{symbol} token", asset_type=AssetType.TOKEN, **values)


def create(registry: Registry, symbol: str = "USDC", **values: Any) -> Asset:
    """Create an asset."""
    return registry.create_asset(ME, token(symbol, **values)).asset


def deploy(registry: Registry, asset: Asset, address: str, chain: str = "ethereum", **values: Any) -> Deployment:
    """Put an asset on a chain."""
    values.setdefault("decimals", 6)
    deployment = Deployment(asset_id=asset.asset_id, chain_id=chain, contract_address=address, **values)
    return registry.create_asset_deployment(ME, deployment).record


def flag(asset: Asset, severity: Severity = Severity.CRITICAL, **values: Any) -> QualityFlag:
    """Give a flag to raise."""
    values = {"flag_type": FlagType.SCAM, "source": "auditor", "reason": "because"} | values
    return QualityFlag(asset_id=asset.asset_id, severity=severity, **values)


def everything(list_page: Callable[..., Any], **filters: Any) -> list[Any]:
    """Read a list to its end, two records a page."""
    found: list[Any] = []
    request = PageRequest(size=2)
    while True:
        page = list_page(**filters, page=request)
        found += page.records
        if not page.next_page_token:
            return found
        assert len(page.records) == 2
        request = PageRequest(size=2, token=page.next_page_token)


# --- assets ----------------------------------------------------------------------------------------------------------


def test_an_asset_is_created_with_its_parts_at_one_position(registry: Registry, store: Store) -> None:
    """An asset, its deployments and its identifiers are one transaction and one position (R14)."""
    before = store.head().position
    made = registry.create_asset(
        ME,
        token(),
        [
            Deployment(asset_id="", chain_id="1", contract_address=USDC, decimals=6),
            Deployment(asset_id="", chain_id="eip155:56", contract_address=USDT, decimals=18),
        ],
        [Identifier(asset_id="", source="CoinGecko", external_id="usd-coin")],
    )
    assert made.position == before + 1 == store.head().position
    assert {d.asset_id for d in made.deployments} == {made.asset.asset_id}
    assert [(d.chain_id, d.contract_address) for d in made.deployments] == [
        ("ethereum", USDC.lower()),
        ("bsc", USDT.lower()),
    ]
    assert (made.identifiers[0].source, made.identifiers[0].is_primary) == ("coingecko", True)
    assert registry.get_asset(made.asset.asset_id).record == made.asset
    (batch,) = store.batches(before, 100)
    assert [change.kind for change in batch.changes] == ["asset", "deployment", "deployment", "identifier"]


def test_a_fault_in_a_part_leaves_nothing(registry: Registry, store: Store) -> None:
    """If one deployment is refused there is no asset either, and no event of it (R14)."""
    head = store.head()
    good = Deployment(asset_id="", chain_id="1", contract_address=USDC, decimals=6)
    with pytest.raises(NotFoundError) as caught:
        registry.create_asset(ME, token(), [good, msgspec.structs.replace(good, chain_id="mars")])
    assert (caught.value.reason, caught.value.metadata["field"]) == ("CHAIN_NOT_FOUND", "chain_id")
    with pytest.raises(ConflictError):
        registry.create_asset(ME, token(), [good, good])
    assert store.head() == head
    assert registry.list_assets().records == ()


def test_a_chosen_id_is_kept_and_never_given_twice(registry: Registry) -> None:
    """A caller may choose the UUID, unless it is an asset's or was one's (R12)."""
    chosen = str(uuid.uuid4())
    assert create(registry, asset_id=chosen.upper()).asset_id == chosen
    with pytest.raises(ConflictError) as caught:
        create(registry, asset_id=chosen)
    assert caught.value.existing_id == chosen
    registry.delete_asset(ME, chosen)
    with pytest.raises(ConflictError) as caught:
        create(registry, asset_id=chosen)
    assert caught.value.reason == "ID_USED"


def test_an_update_changes_only_what_is_given(registry: Registry) -> None:
    """Omitted fields stay, empty ones are cleared, and a repetition writes nothing (R13)."""
    asset = create(registry, category="stable", website="https://circle.com", metadata=(("k", "v"),))
    patch = AssetPatch(category="", description="d", metadata=())
    updated = registry.update_asset(ME, asset.asset_id, patch)
    record = updated.record
    assert (record.category, record.description, record.metadata) == (None, "d", ())
    assert (record.website, record.symbol, record.created_at) == (asset.website, asset.symbol, asset.created_at)
    again = registry.update_asset(ME, asset.asset_id, patch)
    assert (again.record, again.position) == (record, updated.position)
    for broken in (AssetPatch(symbol=""), AssetPatch(name=" "), AssetPatch(website="not a url")):
        with pytest.raises(InvalidError):
            registry.update_asset(ME, asset.asset_id, broken)
    with pytest.raises(NotFoundError):
        registry.update_asset(ME, NOBODY, patch)


def test_a_lost_update_is_refused(registry: Registry) -> None:
    """`expected_position` holds as long as nobody wrote this asset after it, whatever else was written (R13)."""
    made = registry.create_asset(ME, token())
    create(registry, "OTHER")
    asset_id = made.asset.asset_id
    registry.update_asset(ME, asset_id, AssetPatch(name="first"), made.position)
    with pytest.raises(StaleError):
        registry.update_asset(ME, asset_id, AssetPatch(name="second"), made.position)
    with pytest.raises(StaleError):
        registry.delete_asset(ME, asset_id, made.position)
    assert registry.get_asset(asset_id).record.name == "first"


def test_a_deleted_asset_vanishes_with_what_hangs_on_it(registry: Registry, store: Store) -> None:
    """Deployments, identifiers, memberships and tickers go too; flags and relationships stay readable by id (R12)."""
    asset, other = create(registry, "GONE"), create(registry, "OTHER")
    deployment = deploy(registry, asset, USDC)
    registry.create_asset_identifier(ME, Identifier(asset_id=asset.asset_id, source="s", external_id="x"))
    group = registry.create_asset_group(ME, Group(canonical_symbol="G", name="G")).record
    registry.add_asset_to_group(ME, GroupMember(group_id=group.group_id, asset_id=asset.asset_id))
    ticker = VenueSymbol(
        venue_id="binance",
        symbol="OTHERGONE",
        market_kind=MarketKind.SPOT,
        asset_id=other.asset_id,
        quote_asset_id=asset.asset_id,
    )
    registry.create_venue_symbol(ME, ticker)
    raised = registry.raise_quality_flag(ME, flag(asset, Severity.LOW)).record
    edge = Relationship(
        parent_asset_id=asset.asset_id, child_asset_id=other.asset_id, relationship_type=RelationshipType.FORK
    )
    edge = registry.create_asset_relationship(ME, edge).record
    done = registry.delete_asset(ME, asset.asset_id)
    (batch,) = store.batches(done.position - 1, 100)
    assert sorted(change.kind for change in batch.changes) == [
        "asset",
        "deployment",
        "group_member",
        "identifier",
        "venue_symbol",
    ]
    gone: list[Callable[[], object]] = [
        lambda: registry.get_asset(asset.asset_id),
        lambda: registry.get_asset_deployment(deployment.deployment_id),
        lambda: registry.get_asset_identifier_of("s", "x"),
        lambda: registry.get_venue_symbol_now("binance", "OTHERGONE"),
        lambda: registry.resolve(SymbolKey("GONE")),
        lambda: registry.resolve(AddressKey("ethereum", USDC)),
        lambda: registry.delete_asset(ME, asset.asset_id),
        lambda: registry.raise_quality_flag(ME, flag(asset, source="late")),
    ]
    for look in gone:
        with pytest.raises(NotFoundError):
            look()
    assert registry.search_assets("GONE").records == ()
    assert registry.list_assets().records == (other,)
    assert registry.list_asset_group_members(group.group_id).records == ()
    assert registry.list_asset_deployments(asset_id=asset.asset_id).records == ()
    assert registry.list_quality_flags(asset_id=asset.asset_id).records == (raised,)
    assert registry.list_asset_relationships(asset_id=asset.asset_id).records == (edge,)
    deploy(registry, other, USDC)
    assert registry.check_tradable(asset.asset_id).decision is Decision.BLOCK


def test_assets_are_listed_by_all_that_they_have(registry: Registry) -> None:
    """Type, category, symbol in any case, chain and venue narrow the list, also together."""
    usdc, dai, eth = create(registry, "USDC", category="stable"), create(registry, "dai"), create(registry, "ETH")
    coin = registry.create_asset(ME, Asset(symbol="BTC", name="Bitcoin", asset_type=AssetType.NATIVE)).asset
    deploy(registry, usdc, USDC)
    deploy(registry, dai, USDT)
    registry.create_venue_symbol(
        ME,
        VenueSymbol(
            venue_id="binance",
            symbol="ETHUSDC",
            market_kind=MarketKind.SPOT,
            asset_id=eth.asset_id,
            quote_asset_id=usdc.asset_id,
        ),
    )

    def listed(**filters: Any) -> set[str]:
        return {asset.symbol for asset in everything(registry.list_assets, **filters)}

    assert listed() == {"USDC", "dai", "ETH", "BTC"}
    assert listed(asset_type=AssetType.NATIVE) == {coin.symbol}
    assert listed(category="stable") == {"USDC"}
    assert listed(symbol="DAI") == {"dai"}
    assert listed(chain="1") == {"USDC", "dai"}
    assert listed(venue="ccxt:bnb") == {"USDC", "ETH"}
    assert listed(chain="ethereum", venue="binance") == {"USDC"}
    assert listed(chain="bsc") == set()
    for wrong in ({"chain": "mars"}, {"venue": "mars"}):
        with pytest.raises(NotFoundError):
            registry.list_assets(**wrong)  # type: ignore[arg-type]


# --- pages -----------------------------------------------------------------------------------------------------------


def test_pages_are_complete_and_stable_under_inserts(registry: Registry) -> None:
    """Every asset that was there at the start is listed once, whatever is created between the pages (R15)."""
    ids = {create(registry, f"T{number}").asset_id for number in range(9)}
    seen: list[str] = []
    request = PageRequest(size=2)
    while True:
        page = registry.list_assets(page=request)
        seen += [asset.asset_id for asset in page.records]
        create(registry, "NEW")
        if not page.next_page_token:
            break
        request = PageRequest(size=2, token=page.next_page_token)
        if len(seen) > 100:
            pytest.fail("the list does not end")
    assert len(seen) == len(set(seen))
    assert ids <= set(seen)


def test_a_page_has_at_most_a_thousand_records(registry: Registry) -> None:
    """Sizes out of 1 to 1000 are refused; 0 means the default."""
    for size in (-1, 1001, 2**31 - 1):
        with pytest.raises(InvalidError) as caught:
            registry.list_assets(page=PageRequest(size=size))
        assert caught.value.field == "page_size"
    assert registry.list_assets(page=PageRequest(size=1000)).records == ()


def test_a_bad_or_foreign_token_is_refused(registry: Registry) -> None:
    """A token counts for the list that gave it, with the same filters, and for nothing else (R15)."""
    for number in range(3):
        create(registry, f"T{number}")
    mine = registry.list_assets(page=PageRequest(size=1)).next_page_token
    found = registry.search_assets("T", page=PageRequest(size=1)).next_page_token
    assert mine
    assert found
    attempts: list[Callable[[], object]] = [
        lambda: registry.list_assets(category="x", page=PageRequest(token=mine)),
        lambda: registry.list_assets(page=PageRequest(token=found)),
        lambda: registry.search_assets("T", page=PageRequest(token=mine)),
        lambda: registry.search_assets("T0", page=PageRequest(token=found)),
        lambda: registry.list_quality_flags(page=PageRequest(token=mine)),
        lambda: registry.list_assets(page=PageRequest(token="é")),
        lambda: registry.list_assets(page=PageRequest(token="AAAA")),
        lambda: registry.list_assets(page=PageRequest(token=mine[:-4])),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidError) as caught:
            attempt()
        assert caught.value.field == "page_token"


def test_a_damaged_token_is_refused(registry: Registry) -> None:
    """A token with another place in it is not one that the list gave, whether or not it can be decoded (R15)."""
    for number in range(2):
        create(registry, f"T{number}")
    token = registry.list_assets(page=PageRequest(size=1)).next_page_token
    data = base64.urlsafe_b64decode(token)
    for place in range(len(data)):
        damaged = base64.urlsafe_b64encode(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]).decode()
        with pytest.raises(InvalidError):
            registry.list_assets(page=PageRequest(token=damaged))


# --- search ----------------------------------------------------------------------------------------------------------


def test_search_finds_by_every_name_exact_first(registry: Registry) -> None:
    """Exact matches come before prefixes before substrings, by symbol, name, address, id and ticker (R15)."""
    exact = create(registry, "ABC", name="First")
    prefix = create(registry, "ABCD", name="Second")
    inside = create(registry, "XABCX", name="Third")
    named = create(registry, "ZZZ", name="the abc of it")
    assert [asset.symbol for asset in everything(registry.search_assets, query="abc")] == [
        "ABC",
        "ABCD",
        "XABCX",
        "ZZZ",
    ]
    deploy(registry, exact, USDC)
    registry.create_asset_identifier(ME, Identifier(asset_id=prefix.asset_id, source="s", external_id="Some-Id"))
    registry.create_venue_symbol(
        ME,
        VenueSymbol(venue_id="binance", symbol="TICKUSDT", market_kind=MarketKind.SPOT, asset_id=inside.asset_id),
    )
    for text in (USDC, USDC.lower(), USDC[:12], exact.asset_id):
        assert registry.search_assets(text).records == (exact,)
    for text in ("Some-Id", "Some-"):
        assert registry.search_assets(text).records == (prefix,)
    for text in ("tickusdt", "TICK"):
        assert registry.search_assets(text).records == (inside,)
    assert registry.search_assets("of it").records == (named,)


def test_search_takes_wildcards_for_letters(registry: Registry) -> None:
    """`%`, `_` and a backslash mean themselves (R15)."""
    percent, underscore, slash = create(registry, "50%"), create(registry, "A_B"), create(registry, "C\\D")
    create(registry, "AXB")
    assert registry.search_assets("%").records == (percent,)
    assert registry.search_assets("_").records == (underscore,)
    assert registry.search_assets("A_").records == (underscore,)
    assert registry.search_assets("\\").records == (slash,)
    for empty in ("", "  "):
        with pytest.raises(InvalidError):
            registry.search_assets(empty)


def test_search_honours_filters_and_limit(registry: Registry) -> None:
    """Chain, venue, type, category and flag severity narrow a search; a page is never longer than asked."""
    assets = [create(registry, f"TOK{number}", category="meme" if number else "defi") for number in range(3)]
    deploy(registry, assets[0], USDC)
    registry.create_venue_symbol(
        ME,
        VenueSymbol(venue_id="binance", symbol="X", market_kind=MarketKind.ASSET, asset_id=assets[1].asset_id),
    )
    registry.raise_quality_flag(ME, flag(assets[2], Severity.HIGH))

    def found(**filters: Any) -> list[str]:
        return [asset.symbol for asset in everything(registry.search_assets, query="tok", **filters)]

    assert found() == ["TOK0", "TOK1", "TOK2"]
    assert found(chain="ethereum") == ["TOK0"]
    assert found(venue="binance") == ["TOK1"]
    assert found(category="meme") == ["TOK1", "TOK2"]
    assert found(asset_type=AssetType.NATIVE) == []
    assert found(min_severity=Severity.HIGH) == ["TOK2"]
    assert found(min_severity=Severity.CRITICAL) == []
    assert len(registry.search_assets("tok", page=PageRequest(size=1)).records) == 1


# --- deployments and identifiers -------------------------------------------------------------------------------------


def test_one_address_of_a_chain_is_one_deployment(registry: Registry) -> None:
    """A second deployment at an address is refused, however it is written, and told whose it is (R3)."""
    asset, other = create(registry), create(registry, "OTHER")
    first = deploy(registry, asset, USDC)
    for spelling in (USDC, USDC.lower(), "0X" + USDC[2:].upper()):
        with pytest.raises(ConflictError) as caught:
            deploy(registry, other, spelling)
        assert caught.value.existing_id == first.deployment_id
        assert registry.get_asset_deployment_at("eip155:1", spelling).record == first
    deploy(registry, other, USDC, chain="bsc")
    assert registry.get_asset_deployment(first.deployment_id).record == first
    with pytest.raises(InvalidError):
        deploy(registry, other, "0x" + "ab" * 19)
    with pytest.raises(InvalidError):
        registry.get_asset_deployment("not an id")
    with pytest.raises(NotFoundError):
        registry.get_asset_deployment_at("ethereum", USDT)


def test_a_chain_has_one_native_asset(registry: Registry) -> None:
    """The native deployment has no contract, and the usual placeholders find it (R3)."""
    ether = create(registry, "ETH")
    native = Deployment(asset_id=ether.asset_id, chain_id="ethereum", decimals=18, is_native=True)
    made = registry.create_asset_deployment(ME, native).record
    for placeholder in ("0x" + "0" * 40, "0x" + "e" * 40, "native"):
        assert registry.get_asset_deployment_at("1", placeholder).record == made
        assert registry.resolve(AddressKey("1", placeholder)).deployment == made
    with pytest.raises(ConflictError) as caught:
        registry.create_asset_deployment(ME, native)
    assert (caught.value.reason, caught.value.existing_id) == ("NATIVE_EXISTS", made.deployment_id)
    with pytest.raises(InvalidError):
        deploy(registry, ether, "0x" + "0" * 40)


def test_deployments_are_listed_by_asset_and_chain(registry: Registry) -> None:
    """Each filter counts, and an asset that never was is an error, not an empty list."""
    one, two = create(registry), create(registry, "TWO")
    made = [deploy(registry, one, USDC), deploy(registry, one, USDC, chain="bsc"), deploy(registry, two, USDT)]
    by_id = {deployment.deployment_id: deployment for deployment in made}

    def listed(**filters: Any) -> set[str]:
        return {d.deployment_id for d in everything(registry.list_asset_deployments, **filters)}

    assert listed() == set(by_id)
    assert listed(asset_id=one.asset_id) == {made[0].deployment_id, made[1].deployment_id}
    assert listed(chain="ERC20") == {made[0].deployment_id, made[2].deployment_id}
    assert listed(asset_id=one.asset_id, chain="56") == {made[1].deployment_id}
    with pytest.raises(NotFoundError):
        registry.list_asset_deployments(asset_id=NOBODY)


def test_an_asset_has_one_primary_identifier_a_source(registry: Registry) -> None:
    """The first is primary; a later primary takes its place; a name of a source is of one asset (R7)."""
    asset = create(registry)

    def add(external_id: str, *, primary: bool = False) -> Identifier:
        identifier = Identifier(
            asset_id=asset.asset_id, source="coingecko", external_id=external_id, is_primary=primary
        )
        return registry.create_asset_identifier(ME, identifier).record

    first = add("usd-coin")
    second = add("usdc-old")
    third = add("usdc-new", primary=True)
    assert (first.is_primary, second.is_primary, third.is_primary) == (True, False, True)
    listed = everything(registry.list_asset_identifiers, asset_id=asset.asset_id, source="CoinGecko")
    assert {i.external_id for i in listed if i.is_primary} == {"usdc-new"}
    assert registry.get_asset_identifier_of("COINGECKO", " usd-coin ").record.identifier_id == first.identifier_id
    assert registry.get_asset_identifier(third.identifier_id).record == third
    with pytest.raises(ConflictError) as caught:
        registry.create_asset_identifier(
            ME,
            Identifier(asset_id=create(registry, "X").asset_id, source="coingecko", external_id="usd-coin"),
        )
    assert caught.value.existing_id == first.identifier_id
    with pytest.raises(NotFoundError):
        registry.create_asset_identifier(ME, Identifier(asset_id=NOBODY, source="s", external_id="x"))
    with pytest.raises(InvalidError):
        add("")


# --- relationships and groups ----------------------------------------------------------------------------------------


def relate(registry: Registry, parent: Asset, child: Asset, kind: RelationshipType, **values: Any) -> Relationship:
    """Record an edge."""
    edge = Relationship(
        parent_asset_id=parent.asset_id, child_asset_id=child.asset_id, relationship_type=kind, **values
    )
    return registry.create_asset_relationship(ME, edge).record


def test_relationships_close_no_cycle(registry: Registry) -> None:
    """Derivation goes one way over all its types together; a diamond is no cycle (R8)."""
    eth, weth, steth, lp = (create(registry, symbol) for symbol in ("ETH", "WETH", "stETH", "LP"))
    relate(registry, eth, weth, RelationshipType.WRAPS)
    relate(registry, eth, steth, RelationshipType.STAKES)
    relate(registry, weth, lp, RelationshipType.LP_PAIR)
    relate(registry, steth, lp, RelationshipType.LP_PAIR)
    for parent, child in ((lp, eth), (weth, eth), (lp, steth)):
        with pytest.raises(PreconditionError) as caught:
            relate(registry, parent, child, RelationshipType.BRIDGES)
        assert caught.value.reason == "CYCLE"
    with pytest.raises(InvalidError):
        relate(registry, eth, eth, RelationshipType.WRAPS)
    with pytest.raises(ConflictError):
        relate(registry, eth, weth, RelationshipType.WRAPS)
    relate(registry, lp, eth, RelationshipType.MIGRATION)
    with pytest.raises(PreconditionError):
        relate(registry, eth, lp, RelationshipType.FORK)
    edge = Relationship(parent_asset_id=eth.asset_id, child_asset_id=NOBODY, relationship_type=RelationshipType.WRAPS)
    with pytest.raises(NotFoundError):
        registry.create_asset_relationship(ME, edge)


def test_two_edges_that_only_together_close_a_cycle_cannot_both_be_written(registry: Registry) -> None:
    """Exactly one of A -> B and B -> A wins, however close they come (R8)."""
    for number in range(5):
        one, two = create(registry, f"A{number}"), create(registry, f"B{number}")

        def attempt(pair: tuple[Asset, Asset]) -> CqarError | Relationship:
            try:
                return relate(registry, *pair, RelationshipType.WRAPS)
            except CqarError as error:
                return error

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(attempt, [(one, two), (two, one)]))
        assert sorted(isinstance(result, PreconditionError) for result in results) == [False, True]


def test_relationships_are_listed_from_either_end(registry: Registry) -> None:
    """As parent, as child or both; by type and by protocol (R8)."""
    eth, weth, steth = (create(registry, symbol) for symbol in ("ETH", "WETH", "stETH"))
    wraps = relate(registry, eth, weth, RelationshipType.WRAPS)
    stakes = relate(
        registry,
        eth,
        steth,
        RelationshipType.STAKES,
        protocol="lido",
        conversion_rate=Decimal("1.1"),
        rate_as_of=datetime(2026, 1, 1, tzinfo=UTC),
        rate_source="test",
    )
    bridges = relate(registry, weth, steth, RelationshipType.BRIDGES)

    def listed(**filters: Any) -> set[str]:
        return {edge.relationship_id for edge in everything(registry.list_asset_relationships, **filters)}

    assert listed(asset_id=weth.asset_id) == {wraps.relationship_id, bridges.relationship_id}
    assert listed(asset_id=weth.asset_id, direction="parents") == {wraps.relationship_id}
    assert listed(asset_id=weth.asset_id, direction="children") == {bridges.relationship_id}
    assert listed(relationship_type=RelationshipType.STAKES) == {stakes.relationship_id}
    assert listed(asset_id=eth.asset_id, protocol="lido") == {stakes.relationship_id}
    assert stakes.conversion_rate == Decimal("1.1")
    assert wraps.conversion_rate is None


def test_a_group_has_its_symbol_and_its_canonical_member_for_itself(registry: Registry) -> None:
    """A canonical symbol is unique in any case; a group has one canonical member; assets may be in several (R9)."""
    group = registry.create_asset_group(ME, Group(canonical_symbol="ETH", name="Ether")).record
    other = registry.create_asset_group(ME, Group(canonical_symbol="LST", name="Staked")).record
    with pytest.raises(ConflictError) as caught:
        registry.create_asset_group(ME, Group(canonical_symbol="eth", name="again"))
    assert caught.value.existing_id == group.group_id
    assert registry.get_asset_group(group.group_id).record == group == registry.get_asset_group_of("eth").record
    eth, weth = create(registry, "ETH"), create(registry, "WETH")

    def join(asset: Asset, group: Group, **values: Any) -> GroupMember:
        member = GroupMember(group_id=group.group_id, asset_id=asset.asset_id, **values)
        return registry.add_asset_to_group(ME, member).record

    first = join(eth, group, is_canonical=True)
    assert first.weight == 1
    with pytest.raises(ConflictError) as caught:
        join(weth, group, is_canonical=True)
    assert caught.value.reason == "CANONICAL_EXISTS"
    second = join(weth, group, weight=Decimal("0.5"))
    join(weth, other)
    with pytest.raises(ConflictError):
        join(weth, group)
    assert sorted(map(repr, everything(registry.list_asset_group_members, group_id=group.group_id))) == sorted(
        map(repr, [first, second])
    )
    assert {g.canonical_symbol for g in everything(registry.list_asset_groups)} == {"ETH", "LST"}
    assert {g.canonical_symbol for g in everything(registry.list_asset_groups, asset_id=eth.asset_id)} == {"ETH"}
    registry.remove_asset_from_group(ME, group.group_id, eth.asset_id)
    with pytest.raises(NotFoundError):
        registry.remove_asset_from_group(ME, group.group_id, eth.asset_id)
    join(eth, group, is_canonical=True)
    for missing in (
        lambda: registry.get_asset_group(NOBODY),
        lambda: registry.get_asset_group_of("nope"),
        lambda: registry.list_asset_group_members(NOBODY),
        lambda: registry.add_asset_to_group(ME, GroupMember(group_id=NOBODY, asset_id=eth.asset_id)),
        lambda: registry.add_asset_to_group(ME, GroupMember(group_id=group.group_id, asset_id=NOBODY)),
    ):
        with pytest.raises(NotFoundError):
            missing()


# --- flags -----------------------------------------------------------------------------------------------------------


def test_a_flag_is_raised_updated_cleared_and_raised_anew(registry: Registry, store: Store) -> None:
    """One active flag per asset, type and source; raising again updates it; clearing twice is an error (R10)."""
    asset = create(registry)
    first = registry.raise_quality_flag(ME, flag(asset, Severity.LOW)).record
    assert (first.raised_by, first.raised_at, first.is_active) == ("me", first.created_at, True)
    again = registry.raise_quality_flag(
        Call(actor="you"), flag(asset, Severity.HIGH, reason="worse", evidence_url="https://x.test")
    ).record
    assert (again.flag_id, again.raised_by, again.raised_at) == (first.flag_id, "me", first.raised_at)
    assert (again.severity, again.reason, again.evidence_url) == (Severity.HIGH, "worse", "https://x.test")
    history = [
        change.record for batch in store.batches(0, 100) for change in batch.changes if change.kind == "quality_flag"
    ]
    assert history == [first, again]
    other = registry.raise_quality_flag(ME, flag(asset, source="other")).record
    assert other.flag_id != first.flag_id
    for wrong in ("", "  "):
        with pytest.raises(InvalidError):
            registry.resolve_quality_flag(ME, first.flag_id, clear_reason=wrong)
    cleared = registry.resolve_quality_flag(ME, first.flag_id, clear_reason="refuted").record
    assert (cleared.cleared_by, cleared.clear_reason, cleared.is_active) == ("me", "refuted", False)
    with pytest.raises(PreconditionError) as caught:
        registry.resolve_quality_flag(ME, first.flag_id, clear_reason="refuted")
    assert caught.value.reason == "ALREADY_CLEARED"
    anew = registry.raise_quality_flag(ME, flag(asset, Severity.LOW)).record
    assert anew.flag_id != first.flag_id
    for broken in (flag(asset, reason=" "), flag(asset, cleared_by="me"), flag(asset, source="Not A Slug!")):
        with pytest.raises(InvalidError):
            registry.raise_quality_flag(ME, broken)
    with pytest.raises(NotFoundError):
        registry.resolve_quality_flag(ME, NOBODY, clear_reason="x")


def test_flags_are_listed_by_a_threshold(registry: Registry) -> None:
    """`min_severity` means at least, never equal; cleared flags only on request (R10)."""
    asset, other = create(registry), create(registry, "OTHER")
    made = [
        registry.raise_quality_flag(ME, flag(asset, severity, source=f"s{severity}")).record for severity in Severity
    ]
    exploit = registry.raise_quality_flag(ME, flag(other, flag_type=FlagType.EXPLOITED, source="s1")).record
    registry.resolve_quality_flag(ME, made[0].flag_id, clear_reason="x")

    def listed(**filters: Any) -> list[tuple[str, int]]:
        return sorted((f.source, f.severity) for f in everything(registry.list_quality_flags, **filters))

    assert listed(asset_id=asset.asset_id, min_severity=Severity.HIGH) == [("s4", 4), ("s5", 5)]
    assert listed(asset_id=asset.asset_id, include_resolved=True) == [(f"s{n}", n) for n in range(1, 6)]
    assert listed(source="S1") == [("s1", 5)]
    assert listed(flag_type=FlagType.EXPLOITED) == [("s1", 5)]
    assert exploit.asset_id == other.asset_id
    with pytest.raises(NotFoundError):
        registry.list_quality_flags(asset_id=NOBODY)


def test_the_gate_blocks_at_the_threshold(registry: Registry) -> None:
    """BLOCK from the threshold on, ALLOW below it, UNKNOWN for what is no asset (R11)."""
    asset = create(registry)
    assert registry.check_tradable(asset.asset_id).decision is Decision.ALLOW
    raised = registry.raise_quality_flag(ME, flag(asset, Severity.HIGH)).record
    verdict = registry.check_tradable(asset.asset_id)
    assert (verdict.decision, verdict.flags) == (Decision.ALLOW, (raised,))
    assert registry.check_tradable(asset.asset_id, block_at=Severity.HIGH).decision is Decision.BLOCK
    registry.raise_quality_flag(ME, flag(asset, Severity.CRITICAL))
    assert registry.check_tradable(asset.asset_id).decision is Decision.BLOCK
    registry.resolve_quality_flag(ME, raised.flag_id, clear_reason="x")
    assert registry.check_tradable(asset.asset_id).decision is Decision.ALLOW
    assert registry.check_tradable(NOBODY).decision is Decision.UNKNOWN


# --- chains, venues, venue symbols -----------------------------------------------------------------------------------


def test_a_chain_is_found_by_each_of_its_names(registry: Registry) -> None:
    """Slug, CAIP-2, network id, alias with or without its source, in any case (R5)."""
    for name in ("ethereum", "Ethereum ", "eip155:1", "1", "coingecko:ethereum", "ccxt:erc20", "ERC20"):
        assert registry.get_chain(name).record.chain_id == "ethereum", name
    for missing in ("mars", "2", "coingecko:mars"):
        with pytest.raises(NotFoundError) as caught:
            registry.get_chain(missing)
        assert caught.value.reason == "CHAIN_NOT_FOUND"
    with pytest.raises(InvalidError):
        registry.get_chain(" ")


def test_two_chains_share_no_name_of_a_source(registry: Registry) -> None:
    """A slug, CAIP-2, network id or full alias is one chain's; a bare alias that is several chains' is ambiguous (R5)."""

    def chain(slug: str, **values: Any) -> Chain:
        return Chain(chain_id=slug, name=slug, namespace="eip155", **values)

    for other in (
        chain("ethereum"),
        chain("x", caip2="eip155:1"),
        chain("x", network_id=1),
        chain("x", aliases=("CCXT:erc20".lower(),)),
    ):
        with pytest.raises(ConflictError) as caught:
            registry.create_chain(ME, other)
        assert caught.value.existing_id == "ethereum"
    registry.create_chain(ME, chain("x", aliases=("okx:ERC20", "okx:bsc")))
    with pytest.raises(AmbiguousError, match=r"ethereum.*x"):
        registry.get_chain("ERC20")
    assert registry.get_chain("okx:erc20").record.chain_id == "x"
    assert registry.get_chain("bsc").record.chain_id == "bsc"


def test_two_writers_cannot_give_one_alias_to_two_chains(registry: Registry) -> None:
    """Nothing in the table forbids it; the lock does (R5)."""

    def attempt(slug: str) -> CqarError | None:
        try:
            registry.create_chain(ME, Chain(chain_id=slug, name=slug, namespace="eip155", aliases=("a:same",)))
        except CqarError as error:
            return error
        return None

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(attempt, ["c1", "c2", "c3", "c4"]))
    assert sum(result is None for result in results) == 1
    assert all(result is None or isinstance(result, ConflictError) for result in results)


def test_a_chain_gets_its_native_asset_later(registry: Registry) -> None:
    """Chain, asset, deployment is the order to create; the chain may then be told its native asset (R5)."""
    ether = create(registry, "ETH")
    chain = registry.get_chain("1").record
    answer = registry.upsert_records(ME, [msgspec.structs.replace(chain, native_asset_id=ether.asset_id)])
    assert [result.outcome for result in answer.results] == [Outcome.UPDATED]
    assert registry.get_chain("1").record.native_asset_id == ether.asset_id
    with pytest.raises(NotFoundError):
        registry.create_chain(ME, Chain(chain_id="y", name="y", namespace="y", native_asset_id=NOBODY))


def test_inactive_chains_and_venues_are_listed_on_request(registry: Registry) -> None:
    """An inactive chain or venue is still found by name."""
    registry.create_chain(ME, Chain(chain_id="old", name="Old", namespace="old", is_active=False))
    registry.create_venue(
        ME, Venue(venue_id="ftx", name="FTX", venue_type=VenueType.CEX, is_active=False, chain_id="eip155:1")
    )
    registry.create_venue(ME, Venue(venue_id="uniswap", name="Uniswap", venue_type=VenueType.DEX, chain_id="1"))
    assert [c.chain_id for c in everything(registry.list_chains)] == ["bsc", "ethereum"]
    assert [c.chain_id for c in everything(registry.list_chains, include_inactive=True)] == ["bsc", "ethereum", "old"]
    assert [v.venue_id for v in everything(registry.list_venues)] == ["binance", "uniswap"]
    assert [v.venue_id for v in everything(registry.list_venues, venue_type=VenueType.DEX)] == ["uniswap"]
    assert len(everything(registry.list_venues, include_inactive=True)) == 3
    assert registry.get_venue("FTX").record.chain_id == "ethereum"
    assert registry.get_venue("ccxt:bnb").record.venue_id == "binance"
    with pytest.raises(ConflictError):
        registry.create_venue(ME, Venue(venue_id="x", name="X", venue_type=VenueType.CEX, aliases=("ccxt:bnb",)))


def test_a_ticker_means_one_thing_at_a_time(registry: Registry, store: Store) -> None:
    """Intervals of one ticker and kind never overlap; now decides what it means (R6)."""
    old, new = create(registry, "LUNC"), create(registry, "LUNA")
    change = store.now() - timedelta(days=30)
    row = VenueSymbol(venue_id="ccxt:bnb", symbol="LUNA", market_kind=MarketKind.ASSET, asset_id=old.asset_id)
    first = registry.create_venue_symbol(ME, msgspec.structs.replace(row, valid_to=change)).record
    second = registry.create_venue_symbol(
        ME, msgspec.structs.replace(row, asset_id=new.asset_id, valid_from=change)
    ).record
    assert first.venue_id == "binance"
    assert registry.get_venue_symbol_now("binance", "LUNA").record == second
    assert registry.get_venue_symbol(first.venue_symbol_id).record == first
    with pytest.raises(ConflictError) as caught:
        registry.create_venue_symbol(ME, msgspec.structs.replace(row, valid_from=change - timedelta(days=1)))
    assert caught.value.reason == "INTERVAL_OVERLAP"
    assert caught.value.existing_id in {first.venue_symbol_id, second.venue_symbol_id}
    later = msgspec.structs.replace(row, symbol="SOON", valid_from=store.now() + timedelta(days=1))
    registry.create_venue_symbol(ME, later)
    with pytest.raises(NotFoundError):
        registry.get_venue_symbol_now("binance", "SOON")


def test_spot_and_perpetual_may_share_a_ticker(registry: Registry) -> None:
    """Without a kind the SPOT row answers if all agree on base and quote, and nobody if they do not (R6)."""
    btc, usdt, usdc = (create(registry, symbol) for symbol in ("BTC", "USDT", "USDC"))

    def map_to(kind: MarketKind, quote: Asset, symbol: str = "BTCUSDT", **values: Any) -> VenueSymbol:
        row = VenueSymbol(
            venue_id="binance",
            symbol=symbol,
            market_kind=kind,
            asset_id=btc.asset_id,
            quote_asset_id=quote.asset_id,
            **values,
        )
        return registry.create_venue_symbol(ME, row).record

    perpetual = map_to(MarketKind.PERPETUAL, usdt, settle_asset_id=usdt.asset_id)
    spot = map_to(MarketKind.SPOT, usdt)
    assert registry.get_venue_symbol_now("binance", "BTCUSDT").record == spot
    assert registry.get_venue_symbol_now("binance", "BTCUSDT", MarketKind.PERPETUAL).record == perpetual
    future = map_to(MarketKind.FUTURE, usdc)
    with pytest.raises(AmbiguousError):
        registry.get_venue_symbol_now("binance", "BTCUSDT")

    def listed(**filters: Any) -> set[str]:
        return {row.venue_symbol_id for row in everything(registry.list_venue_symbols, **filters)}

    assert listed(venue="Binance", symbol="BTCUSDT") == {r.venue_symbol_id for r in (perpetual, spot, future)}
    assert listed(asset_id=usdc.asset_id) == {future.venue_symbol_id}
    assert listed(asset_id=usdt.asset_id, market_kind=MarketKind.SPOT) == {spot.venue_symbol_id}


def test_racing_tickers_leave_one_meaning(registry: Registry) -> None:
    """Of overlapping intervals written at once one is written, and the others name it (R6)."""
    assets = [create(registry, f"A{number}") for number in range(4)]

    def attempt(asset: Asset) -> CqarError | VenueSymbol:
        row = VenueSymbol(venue_id="binance", symbol="X", market_kind=MarketKind.SPOT, asset_id=asset.asset_id)
        try:
            return registry.create_venue_symbol(ME, row).record
        except CqarError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(attempt, assets))
    (winner,) = [result for result in results if isinstance(result, VenueSymbol)]
    losers = [result for result in results if isinstance(result, ConflictError)]
    assert [loser.existing_id for loser in losers] == [winner.venue_symbol_id] * 3


# --- resolve ---------------------------------------------------------------------------------------------------------


def test_a_symbol_on_a_chain_is_resolved_with_its_collisions(registry: Registry) -> None:
    """Exact case, then the canonical deployment decide, flags never; else all candidates are told (R2)."""
    real, fake = create(registry, "USDC", name="USD Coin"), create(registry, "USDC", name="fake")
    canonical = deploy(registry, real, USDC, is_canonical=True)
    deploy(registry, fake, USDT)
    found = registry.resolve(SymbolKey("usdc", "eip155:1"))
    assert (found.asset, found.deployment, found.source) == (real, canonical, "server")
    assert [collision.asset_id for collision in found.collisions] == [fake.asset_id]
    with pytest.raises(NotFoundError):
        registry.resolve(SymbolKey("USDC", "bsc"))
    with pytest.raises(NotFoundError):
        registry.resolve(SymbolKey("USDC", "mars"))
    with pytest.raises(AmbiguousError) as caught:
        registry.resolve(SymbolKey("USDC"))
    assert {candidate.asset_id for candidate in caught.value.candidates} == {real.asset_id, fake.asset_id}
    registry.raise_quality_flag(ME, flag(fake, flag_type=FlagType.IMPOSTOR))
    with pytest.raises(AmbiguousError) as still:
        registry.resolve(SymbolKey("USDC"))
    told = {candidate.asset_id: candidate.flags for candidate in still.value.candidates}
    assert told == {real.asset_id: (), fake.asset_id: ((FlagType.IMPOSTOR, Severity.CRITICAL),)}


def test_case_tells_tokens_apart(registry: Registry) -> None:
    """An exact match outranks a folded one (R1)."""
    upper, lower = create(registry, "OP"), create(registry, "op")
    deploy(registry, upper, USDC)
    deploy(registry, lower, USDT)
    assert registry.resolve(SymbolKey("op", "1")).asset == lower
    assert registry.resolve(SymbolKey("OP", "1")).asset == upper
    with pytest.raises(AmbiguousError):
        registry.resolve(SymbolKey("Op", "1"))


def test_without_a_chain_the_group_decides(registry: Registry) -> None:
    """The canonical member of the group of that symbol wins (R2)."""
    real, other = create(registry, "ETH", name="Ether"), create(registry, "ETH", name="another")
    group = registry.create_asset_group(ME, Group(canonical_symbol="eth", name="Ether")).record
    registry.add_asset_to_group(ME, GroupMember(group_id=group.group_id, asset_id=real.asset_id, is_canonical=True))
    found = registry.resolve(SymbolKey("Eth"))
    assert (found.asset, found.deployment) == (real, None)
    assert [collision.asset_id for collision in found.collisions] == [other.asset_id]


def test_many_keys_are_resolved_at_one_position(registry: Registry, store: Store) -> None:
    """Each key has its outcome, in order, whatever its kind and whatever becomes of the others."""
    one, two = create(registry, "ONE"), create(registry, "TWO")
    twin = create(registry, "TWO", name="twin")
    deployment = deploy(registry, one, USDC)
    ether = create(registry, "ETH")
    native = Deployment(asset_id=ether.asset_id, chain_id="ethereum", decimals=18, is_native=True)
    registry.create_asset_deployment(ME, native)
    registry.create_asset_identifier(ME, Identifier(asset_id=two.asset_id, source="s", external_id="x"))
    keys: list[SymbolKey | AddressKey | SourceKey] = [
        SymbolKey("one"),
        SymbolKey("ONE", "ethereum"),
        AddressKey("1", USDC),
        AddressKey("1", "0x" + "e" * 40),
        SourceKey("S", "x"),
        SymbolKey("TWO"),
        SymbolKey("NOPE"),
        SymbolKey("ONE", "mars"),
        AddressKey("1", "0x12"),
        SymbolKey(""),
    ]
    answer = registry.resolve_many(keys)
    assert answer.position == store.head().position
    found = [outcome.reason if isinstance(outcome, CqarError) else outcome.asset.symbol for outcome in answer.outcomes]
    assert found[:6] == ["ONE", "ONE", "ONE", "ETH", "TWO", "AMBIGUOUS"]
    assert found[6:8] == ["NOT_FOUND", "CHAIN_NOT_FOUND"]
    assert isinstance(answer.outcomes[8], InvalidError)
    assert isinstance(answer.outcomes[9], InvalidError)
    assert isinstance(answer.outcomes[5], AmbiguousError)
    assert {candidate.asset_id for candidate in answer.outcomes[5].candidates} == {two.asset_id, twin.asset_id}
    assert answer.outcomes[1] == registry.resolve(keys[1])
    assert answer.outcomes[1].deployment == deployment
    assert registry.resolve_many([]).outcomes == ()
    with pytest.raises(LimitError):
        registry.resolve_many([SymbolKey("x")] * 1001)


# --- repeated calls --------------------------------------------------------------------------------------------------


def test_a_repeated_write_gives_the_first_answer(registry: Registry, store: Store) -> None:
    """A request id makes a write happen once, for every method; another method's ids are its own (R13)."""
    call = Call(actor="me", request_id="r-1")
    asset = registry.create_asset(call, token())
    assert registry.create_asset(call, token()) == asset
    with pytest.raises(InvalidError) as caught:
        registry.create_asset(call, token("OTHER"))
    assert (caught.value.reason, caught.value.field) == ("REQUEST_ID_REUSED", "request_id")
    raised = registry.raise_quality_flag(call, flag(asset.asset))
    cleared = registry.resolve_quality_flag(call, raised.record.flag_id, clear_reason="x")
    assert registry.resolve_quality_flag(call, raised.record.flag_id, clear_reason="x") == cleared
    assert registry.raise_quality_flag(call, flag(asset.asset)) == raised
    records = [token("BULK", asset_id=str(uuid.uuid4()))]
    bulk = registry.upsert_records(call, records)
    assert registry.upsert_records(call, records) == bulk
    with pytest.raises(InvalidError, match="make a new id"):
        registry.upsert_records(call, records, merge=Merge.REPLACE)
    gone = registry.delete_asset(call, asset.asset.asset_id)
    assert registry.delete_asset(call, asset.asset.asset_id) == gone
    assert store.head().position == gone.position


def test_a_repetition_at_the_same_moment_writes_once(registry: Registry, store: Store) -> None:
    """Two calls with one request id wait for each other."""
    before = store.head().position
    call = Call(request_id="twice")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: registry.create_asset(call, token()), range(4)))
    assert len({answer.asset.asset_id for answer in answers}) == 1
    assert store.head().position == before + 1


def test_a_refused_call_may_be_repeated(registry: Registry) -> None:
    """An error is no answer: the call with the same id does its work when the reason is gone."""
    call = Call(request_id="r-2")
    with pytest.raises(NotFoundError):
        registry.raise_quality_flag(
            call, flag(Asset(asset_id=NOBODY, symbol="x", name="x", asset_type=AssetType.TOKEN))
        )
    create(registry, asset_id=NOBODY)
    asset = registry.get_asset(NOBODY).record
    assert registry.raise_quality_flag(call, flag(asset)).record.asset_id == NOBODY


def test_replies_are_forgotten_after_a_day(migrated_url: str) -> None:
    """The same request id counts anew after 24 hours (R13)."""
    moment = [datetime(2026, 1, 1, tzinfo=UTC)]
    store = Store(migrated_url, now=lambda: moment[0])
    registry = Registry(store)
    call = Call(request_id="r")
    first = registry.create_asset(call, token())
    moment[0] += timedelta(hours=23, minutes=59)
    assert registry.create_asset(call, token()) == first
    moment[0] += timedelta(minutes=2)
    assert registry.create_asset(call, token()) != first
    store.close()


# --- bulk ------------------------------------------------------------------------------------------------------------


def fleet() -> list[Record]:
    """Give records of all kinds that refer to each other."""
    coin, wrapped, group = (str(uuid.uuid4()) for _ in range(3))
    return [
        Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", network_id=1),
        Chain(chain_id="new", name="New", namespace="new", native_asset_id=coin),
        token("COIN", asset_id=coin),
        token("WCOIN", asset_id=wrapped, provenance="test"),
        Deployment(asset_id=coin, chain_id="eip155:1", contract_address=USDC, decimals=6),
        Deployment(asset_id=coin, chain_id="new", decimals=6, is_native=True),
        Identifier(asset_id=coin, source="s", external_id="coin"),
        Identifier(asset_id=coin, source="s", external_id="coin-2"),
        Relationship(parent_asset_id=coin, child_asset_id=wrapped, relationship_type=RelationshipType.WRAPS),
        Group(group_id=group, canonical_symbol="COIN", name="Coin"),
        GroupMember(group_id=group, asset_id=coin, is_canonical=True),
        GroupMember(group_id=group, asset_id=wrapped),
        QualityFlag(asset_id=wrapped, flag_type=FlagType.PAUSED, severity=Severity.LOW, source="s", reason="because"),
        Venue(venue_id="dex", name="Dex", venue_type=VenueType.DEX, chain_id="1"),
        VenueSymbol(venue_id="ccxt:bnb", symbol="COIN", market_kind=MarketKind.ASSET, asset_id=coin),
        VenueSymbol(
            venue_id="dex",
            symbol="COIN-WCOIN",
            market_kind=MarketKind.SPOT,
            asset_id=coin,
            quote_asset_id=wrapped,
            valid_from=datetime(2025, 1, 1, tzinfo=UTC),
        ),
    ]


def outcomes(registry: Registry, records: list[Any], **options: Any) -> list[str]:
    """Import records; give the outcomes, with the reasons of refusals."""
    answer = registry.upsert_records(ME, records, **options)
    return [result.reason or str(result.outcome) for result in answer.results]


@pytest.mark.parametrize("merge", Merge)
def test_a_second_import_writes_nothing(registry: Registry, store: Store, merge: Merge) -> None:
    """An import creates what is missing in one transaction; the same import again changes nothing and says so (R14)."""
    records = fleet()
    before = store.head().position
    assert outcomes(registry, records, merge=merge, dry_run=True) == ["UNCHANGED", *["CREATED"] * 15]
    assert store.head().position == before
    assert outcomes(registry, records, merge=merge) == ["UNCHANGED", *["CREATED"] * 15]
    assert store.head().position == before + 1
    assert outcomes(registry, records, merge=merge) == ["UNCHANGED"] * 16
    assert outcomes(registry, records[::-1], merge=merge, dry_run=True) == ["UNCHANGED"] * 16
    assert store.head().position == before + 1
    assert registry.resolve(SymbolKey("coin", "new")).deployment.is_native  # type: ignore[union-attr]
    assert [i.is_primary for i in (registry.get_asset_identifier_of("s", "coin").record,)] == [True]


def test_a_bad_record_does_not_spoil_the_others(registry: Registry, store: Store) -> None:
    """Each refusal has its reason and names what is in the way; the rest is written (R14)."""
    taken = create(registry, "TAKEN")
    existing = deploy(registry, taken, USDT)
    gone = create(registry, "GONE")
    registry.delete_asset(ME, gone.asset_id)
    good, other = str(uuid.uuid4()), str(uuid.uuid4())
    records: list[Any] = [
        token("GOOD", asset_id=good),
        token("NOID"),
        token("DEAD", asset_id=gone.asset_id),
        token("bad\u202e", asset_id=other),
        Deployment(asset_id=good, chain_id="mars", contract_address=USDC, decimals=6),
        Deployment(asset_id=good, chain_id="1", contract_address="0x12", decimals=6),
        Deployment(asset_id=good, chain_id="1", contract_address=USDT, decimals=6),
        Deployment(asset_id=other, chain_id="1", contract_address=USDC, decimals=6),
        Deployment(asset_id=good, chain_id="1", contract_address=USDC, decimals=6),
        InvalidError("asset_type: not a known value", reason="ENUM", field="asset_type"),
        Chain(chain_id="evil", name="Evil", namespace="eip155", network_id=1),
        Identifier(asset_id=good, source="s", external_id=""),
        GroupMember(group_id=other, asset_id=good),
        Relationship(parent_asset_id=good, child_asset_id=other, relationship_type=RelationshipType.FORK),
        flag(taken, cleared_by="me", cleared_at=datetime(2026, 1, 1, tzinfo=UTC)),
    ]
    answer = registry.upsert_records(ME, records)
    assert [result.reason or str(result.outcome) for result in answer.results] == [
        "CREATED",
        "REQUIRED",
        "ID_USED",
        answer.results[3].reason,
        "CHAIN_NOT_FOUND",
        "ADDRESS_FORMAT",
        "POINTS_ELSEWHERE",
        "ASSET_NOT_FOUND",
        "CREATED",
        "ENUM",
        "NAME_TAKEN",
        "REQUIRED",
        "GROUP_NOT_FOUND",
        "ASSET_NOT_FOUND",
        "CLEARED",
    ]
    assert answer.results[6].key == existing.deployment_id
    assert answer.results[10].key == "ethereum"
    assert registry.get_asset(good).record.symbol == "GOOD"
    assert registry.get_asset_deployment_at("1", USDC).record.asset_id == good
    assert len(store.batches(answer.position - 1, 10)[0].changes) == 2


def test_filling_keeps_what_is_there_and_replacing_does_not(registry: Registry) -> None:
    """FILL adds what is missing; REPLACE takes what the record has a value for; neither clears."""
    asset = create(registry, "T", category="old", metadata=(("a", "1"),))
    news = msgspec.structs.replace(
        asset, name="new", category="new", website="https://x.test", metadata=(("a", "2"), ("b", "3"))
    )
    assert outcomes(registry, [news]) == ["UPDATED"]
    filled = registry.get_asset(asset.asset_id).record
    assert (filled.name, filled.category, filled.website) == (asset.name, "old", "https://x.test")
    assert filled.metadata == (("a", "1"), ("b", "3"))
    assert outcomes(registry, [news], merge=Merge.REPLACE) == ["UPDATED"]
    replaced = registry.get_asset(asset.asset_id).record
    assert (replaced.name, replaced.category, replaced.metadata) == ("new", "new", (("a", "2"), ("b", "3")))
    assert outcomes(registry, [token("T", asset_id=asset.asset_id, name="new")], merge=Merge.REPLACE) == ["UNCHANGED"]
    chain = Chain(chain_id="bsc", name="B", namespace="eip155", aliases=("okx:BSC",))
    assert outcomes(registry, [chain, msgspec.structs.replace(chain, aliases=("huobi:bsc",))]) == ["UPDATED"] * 2
    assert registry.get_chain("56").record.aliases == ("huobi:bsc", "okx:BSC")


def test_replacing_moves_an_identifier(registry: Registry) -> None:
    """A source's name that moves to another asset is a re-point, never a second row (R7)."""
    one, two = create(registry, "ONE"), create(registry, "TWO")
    identifier = Identifier(asset_id=one.asset_id, source="s", external_id="x")
    made = registry.create_asset_identifier(ME, identifier).record
    moved = msgspec.structs.replace(identifier, asset_id=two.asset_id)
    assert outcomes(registry, [moved]) == ["POINTS_ELSEWHERE"]
    assert outcomes(registry, [moved], merge=Merge.REPLACE) == ["UPDATED"]
    found = registry.get_asset_identifier_of("s", "x").record
    assert (found.identifier_id, found.asset_id) == (made.identifier_id, two.asset_id)


def test_an_asset_that_loses_its_primary_identifier_gets_another(registry: Registry) -> None:
    """Exactly one of the identifiers that stay behind becomes primary (R7)."""
    one, two = create(registry, "ONE"), create(registry, "TWO")
    names = [Identifier(asset_id=one.asset_id, source="s", external_id=external_id) for external_id in "abc"]
    moved = msgspec.structs.replace(names[0], asset_id=two.asset_id)
    assert outcomes(registry, names) == ["CREATED"] * 3
    new = Identifier(asset_id=one.asset_id, source="s", external_id="d")
    assert outcomes(registry, [moved, new], merge=Merge.REPLACE) == ["UPDATED", "CREATED"]

    def primaries(asset: Asset) -> list[str]:
        listed = registry.list_asset_identifiers(asset_id=asset.asset_id).records
        return [identifier.external_id for identifier in listed if identifier.is_primary]

    assert (primaries(one), primaries(two)) == (["b"], ["a"])


def test_replacing_hands_over_what_only_one_can_be(registry: Registry) -> None:
    """A new primary identifier or canonical member takes the place of the present one only by replacing."""
    one, two = create(registry, "ONE"), create(registry, "TWO")
    group = registry.create_asset_group(ME, Group(canonical_symbol="G", name="G")).record
    for asset in (one, two):
        registry.add_asset_to_group(
            ME, GroupMember(group_id=group.group_id, asset_id=asset.asset_id, is_canonical=asset is one)
        )
        registry.create_asset_identifier(ME, Identifier(asset_id=one.asset_id, source="s", external_id=asset.symbol))
    member = GroupMember(group_id=group.group_id, asset_id=two.asset_id, is_canonical=True)
    name = Identifier(asset_id=one.asset_id, source="s", external_id="TWO", is_primary=True)
    new = Identifier(asset_id=one.asset_id, source="s", external_id="THREE", is_primary=True)
    assert outcomes(registry, [member, name]) == ["UNCHANGED", "UNCHANGED"]
    assert outcomes(registry, [member, name], merge=Merge.REPLACE) == ["UPDATED", "UPDATED"]
    members = registry.list_asset_group_members(group.group_id).records
    assert [m.asset_id for m in members if m.is_canonical] == [two.asset_id]
    assert outcomes(registry, [new], merge=Merge.REPLACE) == ["CREATED"]
    names = registry.list_asset_identifiers(asset_id=one.asset_id).records
    assert [i.external_id for i in names if i.is_primary] == ["THREE"]


def test_imported_relationships_close_no_cycle(registry: Registry) -> None:
    """Edges of one import count for each other (R8)."""
    ids = [create(registry, f"A{number}").asset_id for number in range(3)]
    edges = [
        Relationship(parent_asset_id=a, child_asset_id=b, relationship_type=RelationshipType.WRAPS)
        for a, b in ((ids[0], ids[1]), (ids[1], ids[2]), (ids[2], ids[0]))
    ]
    assert outcomes(registry, edges) == ["CREATED", "CREATED", "CYCLE"]
    assert outcomes(registry, edges) == ["UNCHANGED", "UNCHANGED", "CYCLE"]


def test_imported_tickers_do_not_overlap(registry: Registry) -> None:
    """Intervals of one import count for each other, and one that ends an open interval makes room (R6)."""
    one, two = create(registry, "ONE"), create(registry, "TWO")
    moments = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 5)]

    def row(asset: Asset, start: int | None, end: int | None) -> VenueSymbol:
        return VenueSymbol(
            venue_id="binance",
            symbol="X",
            market_kind=MarketKind.SPOT,
            asset_id=asset.asset_id,
            valid_from=None if start is None else moments[start],
            valid_to=None if end is None else moments[end],
        )

    assert outcomes(registry, [row(one, None, None), row(two, 1, None)]) == ["CREATED", "INTERVAL_OVERLAP"]
    assert outcomes(registry, [row(one, None, 1), row(two, 1, None)]) == ["UPDATED", "CREATED"]
    assert outcomes(registry, [row(one, None, 3)], merge=Merge.REPLACE) == ["INTERVAL_OVERLAP"]
    assert registry.get_venue_symbol_now("binance", "X").record.asset_id == two.asset_id


def test_the_same_record_twice_counts_once(registry: Registry) -> None:
    """Records of one call meet each other like those of two."""
    records = [r for r in fleet() for _ in range(2)]
    assert outcomes(registry, records) == ["UNCHANGED", "UNCHANGED", *["CREATED", "UNCHANGED"] * 15]


def test_imports_at_the_same_moment_do_not_break_each_other(registry: Registry) -> None:
    """Whoever comes second finds the records of the first, whatever the order."""
    records = fleet()

    def load(number: int) -> list[str]:
        return outcomes(registry, records if number % 2 else records[::-1])

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(load, range(4)))
    created = sum(result.count("CREATED") for result in results)
    assert created == 15
    assert {outcome for result in results for outcome in result} == {"CREATED", "UNCHANGED"}


def test_an_import_has_a_limit(registry: Registry) -> None:
    """More than a thousand records are refused before anything is done."""
    with pytest.raises(LimitError):
        registry.upsert_records(ME, [token("X")] * 1001)
    assert registry.upsert_records(ME, []).results == ()


def test_every_kind_may_be_imported() -> None:
    """No kind is left out of the bulk write."""
    from cqar.server.registry.importers import IMPORTERS

    assert {importer.kind for importer in IMPORTERS} == set(model.KINDS.values())
