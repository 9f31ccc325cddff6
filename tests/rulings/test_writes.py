"""R12 to R17: how the registry is written, listed and refused: over gRPC, with the replica and the database looked at as well.

Rights (UNAUTHENTICATED, PERMISSION_DENIED) are in the tests of tokens, outages in tests/integration (test_rpc, test_store).
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import grpc
import psycopg
import pytest

from cqar import wire
from cqar.client import (
    ConflictError,
    CqarError,
    InvalidError,
    LimitError,
    NotFoundError,
    PreconditionError,
    StaleError,
    UnavailableError,
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
    Relationship,
    RelationshipType,
    Severity,
    VenueSymbol,
)
from cqar.v1 import registry_pb2 as pb
from cqar.v1 import types_pb2
from tests.rulings.conftest import NOBODY, Realm

METHODS = pb.DESCRIPTOR.services_by_name["AssetRegistry"].methods


# --- R12: delete -----------------------------------------------------------------------------------------------------


def test_r12_a_deleted_asset_vanishes_with_all_that_hangs_on_it(realm: Realm) -> None:
    """Out of look-ups, lists and uniqueness at one position; flags and relationships stay readable; the rows stay."""
    asset, other, venue = realm.asset(), realm.asset(), realm.venue()
    deployment = realm.deploy(asset)
    address = deployment.contract_address or ""
    registry, client = realm.registry, realm.client
    identifier = registry.create_asset_identifier(
        Identifier(asset_id=asset.asset_id, source="s", external_id=asset.symbol)
    ).record
    group = registry.create_asset_group(Group(canonical_symbol=f"G{asset.symbol}", name="x")).record
    registry.add_asset_to_group(GroupMember(group_id=group.group_id, asset_id=asset.asset_id, is_canonical=True))
    for symbol, base, quote in (("AB", asset, other), ("BA", other, asset)):
        registry.create_venue_symbol(
            VenueSymbol(
                venue_id=venue,
                symbol=symbol,
                market_kind=MarketKind.SPOT,
                asset_id=base.asset_id,
                quote_asset_id=quote.asset_id,
            )
        )
    edge = registry.create_asset_relationship(
        Relationship(
            parent_asset_id=other.asset_id, child_asset_id=asset.asset_id, relationship_type=RelationshipType.WRAPS
        )
    ).record
    flag = realm.flag(asset, Severity.LOW)
    before = realm.position()
    assert registry.delete_asset(asset.asset_id) == before + 1

    looks: list[Callable[[], object]] = [
        lambda: realm.resolve(asset.symbol),
        lambda: realm.resolve(asset.symbol, "ethereum"),
        lambda: realm.address("ethereum", address),
        lambda: realm.identifier("s", asset.symbol),
        lambda: realm.ticker(venue, "AB"),
        lambda: realm.ticker(venue, "BA"),
        lambda: client.asset(asset.asset_id),
        lambda: client.deployments(asset.asset_id),
        lambda: client.identifiers(asset.asset_id),
        lambda: client.variants(asset.asset_id),
        lambda: registry.get_asset(asset.asset_id),
        lambda: registry.get_asset_deployment(deployment.deployment_id),
        lambda: registry.get_asset_identifier(identifier.identifier_id),
        lambda: registry.update_asset(asset.asset_id, name="x"),
        lambda: registry.delete_asset(asset.asset_id),
        lambda: realm.deploy(asset),
    ]
    for look in looks:
        with pytest.raises(NotFoundError):
            look()
    assert client.search(asset.symbol) == ()
    assert list(registry.search_assets(asset.symbol)) == []
    assert list(registry.list_assets(symbol=asset.symbol)) == []
    assert client.group(group.canonical_symbol).members == ()
    assert list(registry.list_asset_group_members(group.group_id)) == []
    assert list(registry.list_venue_symbols(venue=venue)) == []
    assert [v.asset for v in client.variants(other.asset_id)] == []
    assert realm.flags(asset.asset_id) == {flag}
    assert client.relationships(asset.asset_id) == (edge,)
    assert list(registry.list_asset_relationships(asset_id=asset.asset_id)) == [edge]
    for table, rows in (("assets", 1), ("asset_deployments", 1), ("asset_identifiers", 1), ("asset_group_members", 1)):
        statement = f"SELECT count(*) FROM {table} WHERE asset_id = %s AND deleted_at IS NOT NULL"
        assert realm.sql(statement, asset.asset_id) == [(rows,)]
    assert realm.sql("SELECT count(*), min(op), max(op) FROM changes WHERE position = %s", before + 1) == [
        (6, "REMOVE", "REMOVE")
    ]
    # What it had is free again.
    successor = realm.asset(asset.symbol)
    realm.deploy(successor, contract_address=address)
    registry.create_asset_identifier(Identifier(asset_id=successor.asset_id, source="s", external_id=asset.symbol))
    registry.add_asset_to_group(GroupMember(group_id=group.group_id, asset_id=successor.asset_id, is_canonical=True))
    assert realm.resolve(asset.symbol, "1").asset == realm.identifier("s", asset.symbol).asset == successor


def test_r12_an_id_is_never_used_again(realm: Realm) -> None:
    """Neither by a create nor by a bulk write."""
    asset = realm.asset()
    realm.registry.delete_asset(asset.asset_id)
    with pytest.raises(ConflictError) as caught:
        realm.asset(asset_id=asset.asset_id)
    assert caught.value.reason == "ID_USED"
    (result,) = realm.upsert(asset)
    assert (result.outcome, result.reason) == ("REFUSED", "ID_USED")


# --- R13: updates ----------------------------------------------------------------------------------------------------


def test_r13_omitted_stays_and_empty_clears(realm: Realm) -> None:
    """Field by field, as presence on the wire says; what may not be empty is refused."""
    given: dict[str, Any] = {
        "category": "stable",
        "logo_url": "https://x.example/l.png",
        "website": "https://x.example",
        "description": "d",
        "metadata": (("k", "v"),),
    }
    asset = realm.asset(**given)
    registry = realm.registry
    for field, value in given.items():
        empty: dict[str, Any] = {field: {} if field == "metadata" else ""}
        cleared = registry.update_asset(asset.asset_id, **empty).record
        expected = {name: getattr(asset, name) for name in given} | {field: () if field == "metadata" else None}
        assert {name: getattr(cleared, name) for name in given} == expected
        restored: dict[str, Any] = {field: dict(value) if field == "metadata" else value}
        registry.update_asset(asset.asset_id, **restored)
    moved = registry.update_asset(asset.asset_id, asset_type=AssetType.STABLECOIN, symbol="RENAMED", name="Renamed")
    realm.level()
    assert realm.client.asset(asset.asset_id) == moved.record
    assert (moved.record.symbol, moved.record.asset_type, moved.record.category) == ("RENAMED", "STABLECOIN", "stable")
    assert realm.resolve("RENAMED").asset == moved.record
    with pytest.raises(NotFoundError):
        realm.resolve(asset.symbol)
    refused: tuple[dict[str, Any], ...] = ({"symbol": ""}, {"name": ""}, {"website": "ftp://x"})
    for broken in refused:
        with pytest.raises(InvalidError) as caught:
            registry.update_asset(asset.asset_id, **broken)
        assert caught.value.field in broken


def test_r13_a_lost_update_is_refused(realm: Realm) -> None:
    """Two who read at one position: the second is told that he is stale, whatever others wrote meanwhile."""
    made = realm.registry.create_asset(Asset(symbol="STALE", name="x", asset_type=AssetType.TOKEN))
    key, position = made.asset.asset_id, made.position
    realm.asset()
    realm.registry.update_asset(key, name="first", expected_position=position)
    for call in (
        lambda: realm.registry.update_asset(key, name="second", expected_position=position),
        lambda: realm.registry.delete_asset(key, expected_position=position),
    ):
        with pytest.raises(StaleError):
            call()
    assert realm.registry.get_asset(key).name == "first"


def test_r13_every_write_takes_a_request_id() -> None:
    """In the contract: whatever answers with a position and asks for more than a page or a key."""
    reads = ("Get", "List", "Search", "Resolve", "ResolveMany", "CheckTradable", "Query")
    writes = [m for m in METHODS if m.name == "ResolveQualityFlag" or not m.name.startswith(reads)]
    assert len(writes) >= 13
    for method in writes:
        assert "request_id" in method.input_type.fields_by_name, method.name
        assert "position" in method.output_type.fields_by_name, method.name


def test_r13_a_repetition_gives_the_first_reply_and_writes_nothing(realm: Realm) -> None:
    """Also at the same moment; another request under the same id is no repetition, and refused. See test_registry for a day."""
    request_id = f"r-{uuid.uuid4()}"
    asset = Asset(symbol=f"T{realm.number()}", name="first", asset_type=AssetType.TOKEN)
    request = pb.CreateAssetRequest(asset=wire.record_to_wire(asset), request_id=request_id)
    before = realm.position()
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: realm.remote.call("CreateAsset", request), range(4)))
    assert all(reply == replies[0] for reply in replies)
    assert realm.position() == before + 1 == replies[0].position
    request.asset.name = "another"
    with pytest.raises(InvalidError, match="was used for another request"):
        realm.remote.call("CreateAsset", request)
    bulk = [Chain(chain_id=f"chain-{realm.number()}", name="x", namespace="x")]
    assert realm.registry.upsert_records(bulk, request_id=request_id) == realm.registry.upsert_records(
        bulk, request_id=request_id
    )
    assert realm.position() == before + 2


# --- R14: many records -----------------------------------------------------------------------------------------------


def test_r14_an_asset_with_its_parts_is_one_position_or_nothing(realm: Realm) -> None:
    """Seen whole by the replica; a fault in the last part leaves no asset, no event and no gap."""
    symbol = f"T{realm.number()}"
    asset = Asset(symbol=symbol, name="x", asset_type=AssetType.TOKEN)
    parts = [
        Deployment(asset_id="", chain_id=chain, contract_address=realm.fresh_address(), decimals=6)
        for chain in ("1", "eip155:8453")
    ]
    names = [Identifier(asset_id="", source="s", external_id=symbol)]
    before = realm.position()
    bad: list[tuple[list[Deployment], list[Identifier]]] = [
        ([*parts, parts[0]], names),
        (parts, [*names, names[0]]),
        ([*parts, Deployment(asset_id="", chain_id="mars", contract_address="x", decimals=1)], names),
        (parts, [Identifier(asset_id="", source="coingecko", external_id="usd-coin")]),
    ]
    for deployments, identifiers in bad:
        with pytest.raises((ConflictError, NotFoundError)):
            realm.registry.create_asset(asset, deployments=deployments, identifiers=identifiers)
    assert realm.position() == before
    assert list(realm.registry.list_assets(symbol=symbol)) == []
    made = realm.registry.create_asset(asset, deployments=parts, identifiers=names)
    assert made.position == before + 1 == realm.position()
    found = realm.resolve(symbol, "base")
    assert (found.asset, found.deployment) == (made.asset, made.deployments[1])
    assert {*realm.client.deployments(made.asset.asset_id)} == {*made.deployments}
    assert realm.client.identifiers(made.asset.asset_id) == made.identifiers


def test_r14_a_bulk_write_reports_each_record(realm: Realm) -> None:
    """Created, updated, unchanged, refused with a reason and what is in the way; one position; nothing for a dry run."""
    key = str(uuid.uuid4())
    asset = Asset(asset_id=key, symbol=f"T{realm.number()}", name="x", asset_type=AssetType.TOKEN)
    usdc = realm.resolve("USDC", "ethereum").deployment
    assert usdc is not None
    taken = Deployment(asset_id=key, chain_id="ethereum", contract_address=usdc.contract_address, decimals=6)
    records = (asset, taken, asset)
    before = realm.position()
    for dry in (True, False):
        results = realm.upsert(*records, dry_run=dry)
        assert [str(r.outcome) for r in results] == ["CREATED", "REFUSED", "UNCHANGED"]
        assert (results[1].reason, results[1].key) == ("POINTS_ELSEWHERE", usdc.deployment_id)
        assert "asset_id" in results[1].message
        assert realm.position() == (before if dry else before + 1)
    described = Asset(asset_id=key, symbol="ignored", name="x", asset_type=AssetType.TOKEN, description="d")
    assert [str(r.outcome) for r in realm.upsert(described)] == ["UPDATED"]
    realm.level()
    assert (realm.client.asset(key).symbol, realm.client.asset(key).description) == (asset.symbol, "d")
    with pytest.raises(LimitError):
        realm.upsert(*[asset] * 1001)


# --- R15: lists ------------------------------------------------------------------------------------------------------


def pages(realm: Realm, size: int, **fields: Any) -> Iterator[Any]:
    """Yield the pages of a list of assets."""
    token = ""
    while True:
        reply = realm.remote.call("ListAssets", pb.ListAssetsRequest(page_size=size, page_token=token, **fields))
        yield reply
        token = reply.next_page_token
        if not token:
            return


def test_r15_pages_are_stable_under_inserts(realm: Realm) -> None:
    """What was there at the start comes once and in order, however much is written between two pages."""
    category = f"c{realm.number()}"
    there = sorted(realm.asset(category=category).asset_id for _ in range(7))
    seen: list[str] = []
    for page in pages(realm, 2, category=category):
        assert len(page.assets) <= 2
        seen += [asset.asset_id for asset in page.assets]
        if len(seen) < 7:  # a stream that grows faster than it is read need not end
            realm.asset(category=category)
            realm.asset(category=category)
    assert seen == sorted(set(seen))
    assert set(there) <= set(seen)
    realm.level()
    rows = realm.client.sql("SELECT count(*) FROM assets WHERE category = ?", [category]).fetchall()
    assert rows[0][0] == len(list(realm.registry.list_assets(category=category)))


def test_r15_a_page_has_1_to_1000_records(realm: Realm) -> None:
    """0 means 100; below and above is refused; 1000 works."""
    reply = realm.remote.call("ListChains", pb.ListChainsRequest())
    assert len(reply.chains) == 100
    assert reply.next_page_token
    assert len(realm.remote.call("ListChains", pb.ListChainsRequest(page_size=1)).chains) == 1
    whole = realm.remote.call("ListChains", pb.ListChainsRequest(page_size=1000))
    assert len(whole.chains) > 190
    assert whole.next_page_token == ""
    for size in (-1, 1001, 2**31 - 1):
        with pytest.raises(InvalidError) as caught:
            realm.remote.call("ListChains", pb.ListChainsRequest(page_size=size))
        assert caught.value.field == "page_size"


def test_r15_a_bad_or_foreign_token_is_refused_by_every_list(realm: Realm) -> None:
    """Rubbish, a cut token, a token of another list or of other filters: INVALID_ARGUMENT, for all methods that page."""
    token = realm.remote.call("ListChains", pb.ListChainsRequest(page_size=1)).next_page_token
    group = next(iter(realm.registry.list_asset_groups()))
    usdc = realm.resolve("USDC", "1").asset.asset_id
    needed = {"query": "x", "group_id": group.group_id, "asset_id": usdc, "chain": "1", "venue": "binance"}
    paging = [m for m in METHODS if "page_token" in m.input_type.fields_by_name]
    assert len(paging) >= 11
    for method in paging:
        given = {name: value for name, value in needed.items() if name in method.input_type.fields_by_name}
        for bad in ("rubbish", "!", base64.b64encode(b"\xc1").decode(), token[:-4], "\u0661"):
            _refused(realm, method.name, page_token=bad, **given)
        if method.name != "ListChains":
            _refused(realm, method.name, page_token=token, **given)
    _refused(realm, "ListChains", page_token=token, include_inactive=True)
    first = realm.remote.call("ListAssets", pb.ListAssetsRequest(page_size=1)).next_page_token
    _refused(realm, "ListAssets", page_token=first, category="x")


def _refused(realm: Realm, method: str, **fields: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        realm.remote.call(method, getattr(pb, f"{method}Request")(**fields))
    assert (caught.value.reason, caught.value.field) == ("PAGE_TOKEN", "page_token"), method


def test_r15_search_ranks_exact_before_prefix_before_substring(realm: Realm) -> None:
    """By symbol, name, address, identifier, ticker and id; by the server and the replica in the same ranks; case is folded."""
    word = f"Zq{realm.number()}q"
    exact, prefix, middle = realm.asset(word), realm.asset(f"{word}LONG"), realm.asset(f"A{word}")
    named = realm.asset(name=f"{word} Protocol")
    for text in (word, word.lower(), word.upper()):
        realm.level()
        for found in (realm.client.search(text), tuple(realm.registry.search_assets(text))):
            assert found[0] == exact
            assert {*found[1:3]} == {prefix, named}
            assert found[3:] == (middle,)
    deployment = realm.deploy(exact)
    realm.registry.create_asset_identifier(Identifier(asset_id=exact.asset_id, source="s", external_id=f"id-{word}"))
    venue = realm.venue()
    realm.registry.create_venue_symbol(
        VenueSymbol(venue_id=venue, symbol=f"{word}-PERP", market_kind=MarketKind.PERPETUAL, asset_id=exact.asset_id)
    )
    realm.level()
    for text in (deployment.contract_address or "", f"id-{word}", f"{word}-PERP", exact.asset_id):
        assert realm.client.search(text)[0] == exact
        assert next(realm.registry.search_assets(text)) == exact
    realm.registry.delete_asset(exact.asset_id)
    realm.level()
    for found in (realm.client.search(word), tuple(realm.registry.search_assets(word))):
        assert exact not in found
        assert len(found) == 3


def test_r15_percent_and_underscore_are_letters(realm: Realm) -> None:
    """They match themselves and nothing else."""
    tag = f"p{realm.number()}"
    percent, underscore = realm.asset(f"{tag}%X"), realm.asset(f"{tag}_X")
    realm.asset(f"{tag}YX")
    realm.level()
    for text, expected in ((f"{tag}%", percent), (f"{tag}_", underscore), (f"{tag}_X", underscore)):
        assert realm.client.search(text) == (expected,)
        assert tuple(realm.registry.search_assets(text)) == (expected,)
    assert list(realm.registry.search_assets(f"{tag}\\")) == []
    assert realm.client.search(f"{tag}\\") == ()


def test_r15_search_filters_by_all_that_the_ruling_names(realm: Realm) -> None:
    """Chain, venue, type, category and flag severity, alone and together, and they narrow."""
    word, venue = f"F{realm.number()}F", realm.venue()
    a = realm.asset(f"{word}A", category="x", asset_type=AssetType.STAKED)
    b = realm.asset(f"{word}B", category="y")
    realm.deploy(a, "base")
    realm.deploy(b, "bsc")
    realm.registry.create_venue_symbol(
        VenueSymbol(venue_id=venue, symbol=word, market_kind=MarketKind.ASSET, asset_id=a.asset_id)
    )
    realm.flag(b, Severity.HIGH)
    realm.flag(a, Severity.LOW)
    search = realm.registry.search_assets

    def found(**filters: Any) -> list[Asset]:
        return list(search(word, **filters))

    assert found() == [a, b]
    assert found(chain="8453") == found(venue=venue) == found(asset_type=AssetType.STAKED) == found(category="x") == [a]
    assert found(min_severity=Severity.MEDIUM) == found(chain="bsc") == found(category="y") == [b]
    assert found(min_severity=Severity.LOW) == [a, b]
    assert found(chain="base", category="y") == found(min_severity=Severity.CRITICAL) == []
    realm.level()
    assert realm.client.search(word, chain="8453") == realm.client.search(word, venue=venue) == (a,)
    assert realm.client.search(word, type=AssetType.STAKED) == (a,)
    assert realm.client.search(word, limit=1) == (a,)


# --- R16: errors -----------------------------------------------------------------------------------------------------


def failing(realm: Realm) -> dict[str, tuple[grpc.StatusCode, str, Callable[[], object]]]:
    """Give calls that fail, with the status that the ruling wants."""
    registry = realm.registry
    asset = realm.asset()
    deployment = realm.deploy(asset)
    code = grpc.StatusCode
    twin = [realm.asset("R16TWIN") for _ in range(2)]
    edge = Relationship(
        parent_asset_id=twin[0].asset_id, child_asset_id=twin[1].asset_id, relationship_type=RelationshipType.FORK
    )
    registry.create_asset_relationship(edge)
    return {
        "the field and the rule": (code.INVALID_ARGUMENT, "TEXT_LENGTH", lambda: realm.asset("x" * 65)),
        "an unknown enum": (
            code.INVALID_ARGUMENT,
            "ENUM",
            lambda: realm.remote.call(
                "CreateAsset", pb.CreateAssetRequest(asset=types_pb2.Asset(symbol="x", name="x"))
            ),
        ),
        "no such asset": (code.NOT_FOUND, "ASSET_NOT_FOUND", lambda: registry.get_asset(NOBODY)),
        "no such chain": (code.NOT_FOUND, "CHAIN_NOT_FOUND", lambda: registry.get_chain("mars")),
        "one is there": (
            code.ALREADY_EXISTS,
            "ALREADY_EXISTS",
            lambda: realm.deploy(asset, contract_address=deployment.contract_address),
        ),
        "ambiguous": (code.FAILED_PRECONDITION, "AMBIGUOUS", lambda: registry.resolve("R16TWIN")),
        "a cycle": (
            code.FAILED_PRECONDITION,
            "CYCLE",
            lambda: registry.create_asset_relationship(
                Relationship(
                    parent_asset_id=twin[1].asset_id,
                    child_asset_id=twin[0].asset_id,
                    relationship_type=RelationshipType.FORK,
                )
            ),
        ),
        "stale": (code.ABORTED, "STALE", lambda: registry.update_asset(asset.asset_id, name="y", expected_position=1)),
        "too many": (code.RESOURCE_EXHAUSTED, "LIMIT", lambda: realm.upsert(*[asset] * 1001)),
    }


def test_r16_each_error_has_its_code_reason_and_metadata(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the wire: the gRPC status, and in its details an ErrorInfo of the domain cqar; no SQL, path or address gets out."""
    statuses: list[grpc.RpcError] = []
    original = type(realm.remote)._error

    def noted(self: Any, error: grpc.RpcError) -> CqarError:
        statuses.append(error)
        return original(self, error)

    monkeypatch.setattr(type(realm.remote), "_error", noted)
    calls = failing(realm)
    for what, (code, reason, call) in calls.items():
        statuses.clear()
        with pytest.raises(CqarError) as caught:
            call()
        (status,) = statuses
        assert status.code() is code, what
        assert caught.value.reason == reason, what
        text = f"{status.details()} {caught.value.metadata}"
        for secret in ("SELECT", "INSERT", "postgres", "Traceback", "/site-packages", "psycopg", "constraint"):
            assert secret not in text, what
    by_name = {}
    for what in ("the field and the rule", "one is there", "a cycle", "stale"):
        with pytest.raises(CqarError) as caught:
            calls[what][2]()
        by_name[what] = caught.value
    assert by_name["the field and the rule"].metadata["field"] == "symbol"
    assert "64" in by_name["the field and the rule"].metadata["rule"]
    assert uuid.UUID(by_name["one is there"].metadata["existing_id"])
    assert isinstance(by_name["a cycle"], PreconditionError)
    assert int(by_name["stale"].metadata["expected_position"]) == 1


def test_r16_an_unreachable_server_is_unavailable_and_never_not_found(realm: Realm) -> None:
    """A call to where nobody listens; the same for a database that is away is in test_rpc."""
    from cqar.client._remote import Remote

    nowhere = Remote("127.0.0.1:1", token=None, actor=None, timeout=5)
    with pytest.raises(UnavailableError):
        nowhere.call("GetAsset", pb.GetAssetRequest(asset_id=NOBODY))
    nowhere.close()


# --- R17: time, numbers, text ----------------------------------------------------------------------------------------


def test_r17_times_are_utc_wherever_they_are_told(realm: Realm) -> None:
    """A time of another zone comes back as the same instant in UTC, from the server, the replica and SQL."""
    asset, venue = realm.asset(), realm.venue()
    tokyo = datetime(2022, 5, 28, 15, 0, 0, 1, tzinfo=timezone(timedelta(hours=9)))
    made = realm.registry.create_venue_symbol(
        VenueSymbol(venue_id=venue, symbol="Z", market_kind=MarketKind.SPOT, asset_id=asset.asset_id, valid_from=tokyo)
    ).record
    there = realm.ticker(venue, "Z")
    for record in (made, there, asset):
        times = [getattr(record, name, None) for name in ("created_at", "updated_at", "valid_from")]
        assert {moment.utcoffset() for moment in times if moment} == {timedelta(0)}
    assert there.valid_from == tokyo
    rows = realm.client.sql("SELECT valid_from FROM venue_symbols WHERE venue_id = ?", [venue]).to_arrow_table()
    (moment,) = rows["valid_from"].to_pylist()
    assert (moment, moment.utcoffset()) == (tokyo, timedelta(0))
    assert asset.created_at is not None
    assert abs(datetime.now(UTC) - asset.created_at) < timedelta(minutes=5)


@pytest.mark.parametrize("seconds", [-62_135_596_801, 253_402_300_800, 2**63 - 1, -(2**63)])
def test_r17_times_outside_of_the_years_1_to_9999_are_refused(realm: Realm, seconds: int) -> None:
    """Before the year 1, after the year 9999, and what others call infinite."""
    row = VenueSymbol(venue_id="binance", symbol="INF", market_kind=MarketKind.SPOT, asset_id=realm.asset().asset_id)
    for field in ("valid_from", "valid_to"):
        request = pb.CreateVenueSymbolRequest(venue_symbol=wire.record_to_wire(row))
        getattr(request.venue_symbol, field).seconds = seconds
        with pytest.raises(InvalidError) as caught:
            realm.remote.call("CreateVenueSymbol", request)
        assert caught.value.field == field


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity", "0", "-0", "-1", "1e999999", "x", "1_0\0"])
def test_r17_what_is_no_positive_number_is_refused(realm: Realm, number: str) -> None:
    """NaN, infinities, zero and nonsense, for every decimal of the contract."""
    one, two = realm.asset(), realm.asset()
    edge = Relationship(
        parent_asset_id=one.asset_id,
        child_asset_id=two.asset_id,
        relationship_type=RelationshipType.STAKES,
        conversion_rate=Decimal(1),
        rate_as_of=datetime(2026, 1, 1, tzinfo=UTC),
        rate_source="x",
    )
    relationship = pb.CreateAssetRelationshipRequest(relationship=wire.record_to_wire(edge))
    relationship.relationship.conversion_rate = number
    row = VenueSymbol(venue_id="binance", symbol="N", market_kind=MarketKind.SPOT, asset_id=one.asset_id)
    ticker = pb.CreateVenueSymbolRequest(venue_symbol=wire.record_to_wire(row))
    ticker.venue_symbol.multiplier = number
    group = next(iter(realm.registry.list_asset_groups()))
    member = pb.AddAssetToGroupRequest(
        member=wire.record_to_wire(GroupMember(group_id=group.group_id, asset_id=one.asset_id))
    )
    member.member.weight = number
    for method, request, field in (
        ("CreateAssetRelationship", relationship, "conversion_rate"),
        ("CreateVenueSymbol", ticker, "multiplier"),
        ("AddAssetToGroup", member, "weight"),
    ):
        with pytest.raises(InvalidError) as caught:
            realm.remote.call(method, request)
        assert caught.value.field == field


def test_r17_a_nul_is_refused_in_every_text_of_every_record(realm: Realm) -> None:
    """At the edge, with the field, before the database can say it: for each text field of what can be created."""
    asset, other = realm.asset(), realm.asset()
    records: dict[str, tuple[str, Any]] = {
        "CreateAsset": ("asset", Asset(symbol="N", name="n", asset_type=AssetType.TOKEN)),
        "CreateAssetDeployment": (
            "deployment",
            Deployment(asset_id=asset.asset_id, chain_id="1", contract_address=realm.fresh_address(), decimals=1),
        ),
        "CreateAssetIdentifier": ("identifier", Identifier(asset_id=asset.asset_id, source="s", external_id="n")),
        "CreateAssetRelationship": (
            "relationship",
            Relationship(
                parent_asset_id=asset.asset_id,
                child_asset_id=other.asset_id,
                relationship_type=RelationshipType.WRAPS,
            ),
        ),
        "CreateAssetGroup": ("group", Group(canonical_symbol="NUL", name="n")),
        "RaiseQualityFlag": (
            "flag",
            QualityFlag(
                asset_id=asset.asset_id, flag_type=FlagType.SCAM, severity=Severity.LOW, source="s", reason="r"
            ),
        ),
        "CreateChain": ("chain", Chain(chain_id="nul", name="n", namespace="n")),
        "CreateVenueSymbol": (
            "venue_symbol",
            VenueSymbol(venue_id="binance", symbol="N", market_kind=MarketKind.SPOT, asset_id=asset.asset_id),
        ),
    }
    before, tried = realm.position(), 0
    for method, (name, record) in records.items():
        message = wire.record_to_wire(record)
        for field in message.DESCRIPTOR.fields:
            if field.cpp_type != field.CPPTYPE_STRING or field.is_repeated:
                continue
            broken = wire.record_to_wire(record)
            setattr(broken, field.name, "a\0b")
            with pytest.raises(InvalidError):
                realm.remote.call(method, getattr(pb, f"{method}Request")(**{name: broken}))
            tried += 1
    assert tried > 40
    assert realm.position() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE venue_symbols SET valid_to = 'infinity' WHERE venue_id = 'binance' AND symbol = 'BTCUSDT'",
        "UPDATE assets SET updated_at = '-infinity'",
        "UPDATE assets SET created_at = '10000-01-01 00:00:00+00'",
        "UPDATE venue_symbols SET multiplier = 'NaN'",
        "UPDATE asset_group_members SET weight = 0",
        "UPDATE asset_relationships SET conversion_rate = 'NaN'",
        "UPDATE assets SET symbol = ''",
        "UPDATE asset_deployments SET decimals = 256",
    ],
)
def test_r17_the_database_refuses_it_too(realm: Realm, statement: str) -> None:
    """The CHECKs hold whoever writes."""
    with pytest.raises(psycopg.errors.CheckViolation):
        realm.sql(statement)
