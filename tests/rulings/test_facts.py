"""R6 and R8 to R11: tickers, relationships, groups, flags and the gate, asked of replica and server alike.

Races of these rules are in tests/integration/test_races.py, bulk writes of them in tests/integration/test_registry.py.
"""

from __future__ import annotations

import math
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cqar import snapshot, wire
from cqar.client import (
    AmbiguousError,
    AssetBlockedError,
    ClosedError,
    ConflictError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    VerdictUnknownError,
    connect,
    open_snapshot,
)
from cqar.client._registry import Outcome
from cqar.client._registry_places import _other_kinds
from cqar.client._remote import Remote
from cqar.model import (
    Asset,
    FlagType,
    Group,
    GroupMember,
    MarketKind,
    QualityFlag,
    Relationship,
    RelationshipType,
    Severity,
    VenueSymbol,
)
from cqar.rules.gate import MAX_AGE
from cqar.server.export import export_snapshot
from cqar.server.store import Store
from cqar.v1 import registry_pb2 as pb
from tests.rulings.conftest import NOBODY, Realm

# Binance's own instants: it halted the old LUNA, today's LUNC, and opened the new one five days later.
LUNA_ENDED, LUNA_OPENED = datetime(2022, 5, 26, 15, tzinfo=UTC), datetime(2022, 5, 31, 6, tzinfo=UTC)


def row(venue: str, symbol: str, base: Asset, kind: MarketKind = MarketKind.SPOT, **values: Any) -> VenueSymbol:
    """Give a venue symbol to create."""
    return VenueSymbol(venue_id=venue, symbol=symbol, market_kind=kind, asset_id=base.asset_id, **values)


# --- R6: venue symbols are intervals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MarketKind.SPOT, MarketKind.ASSET])
def test_r06_luna_meant_another_asset_until_may_2022(realm: Realm, kind: MarketKind) -> None:
    """Binance's LUNA is Terra 2 today and was Terra Classic before; between the two it meant nothing."""
    symbol = "LUNAUSDT" if kind is MarketKind.SPOT else "LUNA"
    now = realm.ticker("binance", symbol, kind)
    assert realm.client.asset(now.asset_id).name == "Terra"
    assert (now.valid_from, now.valid_to) == (LUNA_OPENED, None)
    rows = list(realm.registry.list_venue_symbols(venue="binance", symbol=symbol, kind=kind))
    (before,) = [r for r in rows if r != now]
    assert realm.client.asset(before.asset_id).symbol == "LUNC"
    assert (before.valid_from, before.valid_to) == (None, LUNA_ENDED)
    with pytest.raises(ConflictError) as caught:
        realm.registry.create_venue_symbol(
            row("binance", symbol, realm.asset(), kind, valid_to=LUNA_OPENED + timedelta(microseconds=1))
        )
    assert caught.value.reason == "INTERVAL_OVERLAP"
    assert caught.value.existing_id in {now.venue_symbol_id, before.venue_symbol_id}


def test_r06_the_end_is_exclusive_and_the_future_is_not_now(realm: Realm) -> None:
    """A row that ended is not found, one that begins later is not found yet; the moment between belongs to the later."""
    venue, asset = realm.venue(), realm.asset()
    now = datetime.now(UTC)
    realm.registry.create_venue_symbol(row(venue, "X", asset, valid_to=now - timedelta(days=1)))
    realm.registry.create_venue_symbol(row(venue, "X", asset, valid_from=now + timedelta(days=1)))
    with pytest.raises(NotFoundError):
        realm.ticker(venue, "X")
    middle = row(venue, "X", asset, valid_from=now - timedelta(days=1), valid_to=now + timedelta(days=1))
    made = realm.registry.create_venue_symbol(middle).record
    assert realm.ticker(venue, "X") == made
    with pytest.raises(InvalidError):
        realm.registry.create_venue_symbol(row(venue, "Y", asset, valid_from=now, valid_to=now))


def test_r06_the_database_itself_refuses_an_overlap(realm: Realm) -> None:
    """Not only the registry's look before it writes: a row copied by hand runs into the exclusion constraint."""
    import psycopg

    with pytest.raises(psycopg.errors.ExclusionViolation):
        realm.sql(
            "INSERT INTO venue_symbols SELECT (json_populate_record(venue_symbols,"
            " json_build_object('venue_symbol_id', gen_random_uuid()))).* FROM venue_symbols"
            " WHERE venue_id = 'binance' AND symbol = 'BTCUSDT'"
        )


def test_r06_a_pair_has_a_base_and_a_quote(realm: Realm) -> None:
    """Binance's BTCUSDT: the asset is bitcoin, the quote is Tether; spot and perpetual agree, so SPOT answers."""
    found = realm.ticker("binance", "BTCUSDT")
    assert found.market_kind is MarketKind.SPOT
    assert realm.client.asset(found.asset_id).symbol == "BTC"
    assert realm.client.asset(found.quote_asset_id or "").symbol == "USDT"
    perpetual = realm.ticker("binance", "BTCUSDT", MarketKind.PERPETUAL)
    assert perpetual.venue_symbol_id != found.venue_symbol_id
    assert (perpetual.asset_id, perpetual.quote_asset_id) == (found.asset_id, found.quote_asset_id)


def test_r06_kinds_that_do_not_agree_are_ambiguous(realm: Realm) -> None:
    """Another base, or another quote, under one ticker: nobody guesses; a kind decides."""
    venue, one, two = realm.venue(), realm.asset(), realm.asset()
    spot = realm.registry.create_venue_symbol(row(venue, "P", one, quote_asset_id=two.asset_id)).record
    other = row(venue, "P", two, MarketKind.PERPETUAL, quote_asset_id=one.asset_id, settle_asset_id=one.asset_id)
    perpetual = realm.registry.create_venue_symbol(other).record
    with pytest.raises(AmbiguousError) as caught:
        realm.ticker(venue, "P")
    assert caught.value.reason == "KIND_AMBIGUOUS"
    assert realm.ticker(venue, "P", MarketKind.SPOT) == spot
    assert realm.ticker(venue, "P", MarketKind.PERPETUAL) == perpetual
    with pytest.raises(InvalidError) as refused:
        realm.registry.create_venue_symbol(row(venue, "Q", one, quote_asset_id=one.asset_id))
    assert refused.value.reason == "BASE_IS_QUOTE"
    three = realm.asset()
    realm.registry.create_venue_symbol(row(venue, "Q", one, quote_asset_id=three.asset_id))
    realm.registry.create_venue_symbol(row(venue, "Q", one, MarketKind.FUTURE, quote_asset_id=two.asset_id))
    with pytest.raises(AmbiguousError):
        realm.ticker(venue, "Q")


def test_r06_the_answer_tells_which_other_kinds_bear_the_ticker(realm: Realm) -> None:
    """Whether a kind was said or not, and only of rows that hold now; multipliers that differ are ambiguous."""
    venue, base, quote = realm.venue(), realm.asset(), realm.asset()
    pair: dict[str, Any] = {"quote_asset_id": quote.asset_id}
    write = realm.registry.create_venue_symbol
    write(row(venue, "P", base, **pair))
    assert realm.meaning(venue, "P").other_kinds == ()
    perpetual = write(row(venue, "P", base, MarketKind.PERPETUAL, **pair)).record
    now = datetime.now(UTC)
    write(row(venue, "P", base, MarketKind.FUTURE, valid_to=now - timedelta(days=1), **pair))
    write(row(venue, "P", base, MarketKind.OPTION, valid_from=now + timedelta(days=1), **pair))
    found = realm.meaning(venue, "P")
    assert (found.market_kind, found.other_kinds) == (MarketKind.SPOT, (MarketKind.PERPETUAL,))
    found = realm.meaning(venue, "P", MarketKind.PERPETUAL)
    assert (found.record, found.other_kinds) == (perpetual, (MarketKind.SPOT,))
    view = realm.client.venue(venue, kind=MarketKind.PERPETUAL)
    assert [view.resolve("P") for _ in range(3)] == [found] * 3
    assert realm.client.venue(venue, kind="perpetual").resolve("P") == found  # type: ignore[arg-type]
    assert realm.client.venue(venue).resolve("P") == realm.meaning(venue, "P")
    thousand = write(row(venue, "M", base, MarketKind.PERPETUAL, multiplier=Decimal(1000), **pair)).record
    write(row(venue, "M", base, **pair))
    with pytest.raises(AmbiguousError):
        realm.meaning(venue, "M")
    assert realm.meaning(venue, "M", MarketKind.PERPETUAL).record == thousand
    for name in ("binanse", venue + "x"):
        with pytest.raises(NotFoundError):
            realm.client.venue(name, kind=MarketKind.SPOT)
    # An answer is a record too, and may be written as one.
    (result,), _ = realm.registry.upsert_records([found])
    assert result.outcome is Outcome.UNCHANGED


def test_r06_an_old_server_does_not_tell_other_kinds(realm: Realm) -> None:
    """What it did not say is unknown, and not "none"."""
    reply = pb.GetVenueSymbolResponse(venue_symbol=wire.record_to_wire(realm.ticker("binance", "BTCUSDT")))
    assert _other_kinds(reply) is None
    reply.other_kinds.SetInParent()
    assert _other_kinds(reply) == ()


def test_r06_an_asset_ticker_has_no_quote(realm: Realm) -> None:
    """Kraken's XBT and XXBT are bitcoin, tickers of kind ASSET; one with a quote is refused."""
    bitcoin = realm.address("bitcoin", "native").asset
    made = realm.registry.create_venue_symbol(row("kraken", "XBT", bitcoin, MarketKind.ASSET)).record
    for symbol in ("XBT", "XXBT"):
        found = realm.ticker("kraken", symbol)
        assert (found.asset_id, found.market_kind, found.quote_asset_id) == (bitcoin.asset_id, MarketKind.ASSET, None)
    assert realm.ticker("kraken", "XBT") == made
    assert bitcoin in realm.client.list_assets(venue="kraken")
    with pytest.raises(InvalidError) as caught:
        realm.registry.create_venue_symbol(
            row("kraken", "ZZ", bitcoin, MarketKind.ASSET, quote_asset_id=bitcoin.asset_id)
        )
    assert caught.value.reason == "ASSET_WITH_QUOTE"


def test_r06_a_multiplier_is_exact(realm: Realm) -> None:
    """1000SHIB is a thousand SHIB, kPEPE a thousand PEPE, everything else one; all 38 digits survive."""
    for symbol in ("1000SHIB", "1000SHIBUSDT"):
        found = realm.ticker("binance", symbol)
        assert (found.multiplier, realm.client.asset(found.asset_id).symbol) == (Decimal(1000), "SHIB")
    assert realm.ticker("binance", "BTCUSDT").multiplier == Decimal(1)
    venue, pepe = realm.venue(), realm.resolve("PEPE", "ethereum").asset
    realm.registry.create_venue_symbol(row(venue, "kPEPE", pepe, MarketKind.PERPETUAL, multiplier=Decimal(1000)))
    assert realm.ticker(venue, "kPEPE").multiplier == 1000
    with pytest.raises(NotFoundError):
        realm.ticker(venue, "KPEPE")  # a venue's tickers are exact
    for text in ("0.000000000000000001", "12345678901234567890.123456789012345678"):
        realm.registry.create_venue_symbol(row(venue, text, pepe, multiplier=Decimal(text)))
        assert format(realm.ticker(venue, text).multiplier, "f") == text
    for wrong in ("0", "-1", "NaN", "Infinity", "1e-19"):
        with pytest.raises(InvalidError):
            realm.registry.create_venue_symbol(row(venue, "BAD", pepe, multiplier=Decimal(wrong)))


# --- R8: relationships -----------------------------------------------------------------------------------------------


def edge(parent: Asset, child: Asset, kind: RelationshipType, **values: Any) -> Relationship:
    """Give a relationship to create."""
    return Relationship(
        parent_asset_id=parent.asset_id, child_asset_id=child.asset_id, relationship_type=kind, **values
    )


def test_r08_the_child_is_derived_from_the_parent(realm: Realm) -> None:
    """Parent ETH, child WETH, WRAPS; parent old, child new, MIGRATION: listed from either end, by type and by protocol."""
    ether, weth, steth = (realm.resolve(s, "ethereum").asset for s in ("ETH", "WETH", "stETH"))
    realm.level()
    (wraps,) = realm.client.relationships(weth.asset_id, type=RelationshipType.WRAPS, direction="parents")
    assert (wraps.parent_asset_id, wraps.child_asset_id) == (ether.asset_id, weth.asset_id)
    assert (wraps.conversion_rate, wraps.protocol) == (Decimal(1), "WETH9")
    (stakes,) = realm.client.relationships(steth.asset_id, direction="parents")
    assert (stakes.relationship_type, stakes.parent_asset_id) == (RelationshipType.STAKES, ether.asset_id)
    for direction in ("both", "parents", "children"):
        for kind in (None, *RelationshipType):
            there = realm.registry.list_asset_relationships(asset_id=ether.asset_id, direction=direction, type=kind)
            assert {*realm.client.relationships(ether.asset_id, direction=direction, type=kind)} == {*there}
    lido = {*realm.registry.list_asset_relationships(asset_id=ether.asset_id, protocol="Lido")}
    assert lido == {stakes}
    assert stakes in {*realm.registry.list_asset_relationships(protocol="Lido")}
    new = realm.asset("NEW")
    old = realm.asset("OLD")
    moved = realm.registry.create_asset_relationship(edge(old, new, RelationshipType.MIGRATION)).record
    realm.level()
    assert realm.client.relationships(old.asset_id, direction="children") == (moved,)
    variants = {v.asset.symbol for v in realm.client.variants(ether.asset_id)}
    assert {"WETH", "stETH", "wstETH", "cbETH", "rETH"} <= variants


def test_r08_a_fork_is_no_variant_unless_it_is_asked_for(realm: Realm) -> None:
    """Nor is what an asset migrated to; neither for the replica nor for the server, nor for an old client of it."""
    coin, cash, new = realm.asset("COIN"), realm.asset("CASH"), realm.asset("NEWCOIN")
    wrapped, wrapped_cash = realm.asset("WCOIN"), realm.asset("WCASH")
    for parent, child, kind in (
        (coin, cash, RelationshipType.FORK),
        (coin, new, RelationshipType.MIGRATION),
        (coin, wrapped, RelationshipType.WRAPS),
        (cash, wrapped_cash, RelationshipType.WRAPS),
    ):
        realm.registry.create_asset_relationship(edge(parent, child, kind))
    realm.level()

    def found(types: list[RelationshipType]) -> set[str]:
        here = realm.client.variants(coin.asset_id, types=types or None)
        assert here == tuple(realm.registry.list_asset_variants(coin.asset_id, types=types))
        return {variant.asset.symbol for variant in here}

    assert found([]) == {wrapped.symbol}
    assert found([RelationshipType.FORK]) == {cash.symbol}
    assert found(list(RelationshipType)) == {each.symbol for each in (cash, new, wrapped, wrapped_cash)}
    raw = pb.ListAssetVariantsRequest(asset_id=coin.asset_id)
    assert [each.asset.symbol for each in realm.remote.call("ListAssetVariants", raw).variants] == [wrapped.symbol]


def test_r08_a_rate_says_when_and_by_whom_or_is_absent(realm: Realm) -> None:
    """An exact decimal with its date and source; absent stays absent, never 1."""
    parent, child = realm.asset(), realm.asset()
    moment = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)
    rate = Decimal("1.152333444555666777")
    made = realm.registry.create_asset_relationship(
        edge(parent, child, RelationshipType.STAKES, conversion_rate=rate, rate_as_of=moment, rate_source="lido api")
    ).record
    plain = realm.registry.create_asset_relationship(edge(parent, child, RelationshipType.SYNTHETIC)).record
    realm.level()
    assert {*realm.client.relationships(child.asset_id)} == {made, plain}
    assert (made.conversion_rate, made.rate_as_of, made.rate_source) == (rate, moment, "lido api")
    assert plain.conversion_rate is None
    with pytest.raises(InvalidError) as caught:
        realm.registry.create_asset_relationship(edge(child, parent, RelationshipType.FORK, conversion_rate=rate))
    assert caught.value.reason == "RATE_SOURCE"


def test_r08_no_self_edge_and_no_second_one(realm: Realm) -> None:
    """An asset is not derived from itself; the same edge again names the first; another type is another edge."""
    parent, child = realm.asset(), realm.asset()
    with pytest.raises(InvalidError) as own:
        realm.registry.create_asset_relationship(edge(parent, parent, RelationshipType.WRAPS))
    assert own.value.reason == "SELF_EDGE"
    made = realm.registry.create_asset_relationship(edge(parent, child, RelationshipType.WRAPS)).record
    with pytest.raises(ConflictError) as caught:
        realm.registry.create_asset_relationship(edge(parent, child, RelationshipType.WRAPS, protocol="other"))
    assert caught.value.existing_id == made.relationship_id
    realm.registry.create_asset_relationship(edge(parent, child, RelationshipType.BRIDGES))
    with pytest.raises(NotFoundError):
        realm.registry.create_asset_relationship(
            Relationship(
                parent_asset_id=NOBODY, child_asset_id=child.asset_id, relationship_type=RelationshipType.WRAPS
            )
        )


@pytest.mark.parametrize("kind", RelationshipType)
def test_r08_every_type_is_acyclic(realm: Realm, kind: RelationshipType) -> None:
    """A chain of three does not close, for none of the types; nor with the other types of its family."""
    a, b, c = (realm.asset() for _ in range(3))
    realm.registry.create_asset_relationship(edge(a, b, kind))
    realm.registry.create_asset_relationship(edge(b, c, kind))
    succession = {RelationshipType.MIGRATION, RelationshipType.FORK}
    for other in RelationshipType:
        if (other in succession) != (kind in succession):
            continue
        with pytest.raises(PreconditionError) as caught:
            realm.registry.create_asset_relationship(edge(c, a, other))
        assert caught.value.reason == "CYCLE"


def test_r08_a_pool_has_one_edge_for_each_leg(realm: Realm) -> None:
    """An LP token is the child of both of its legs, and their variant."""
    one, two, pool = realm.asset(), realm.asset(), realm.asset()
    for leg in (one, two):
        realm.registry.create_asset_relationship(edge(leg, pool, RelationshipType.LP_PAIR, protocol="Uniswap V2"))
    realm.level()
    legs = realm.client.relationships(pool.asset_id, type=RelationshipType.LP_PAIR, direction="parents")
    assert {leg.parent_asset_id for leg in legs} == {one.asset_id, two.asset_id}
    assert [v.asset for v in realm.client.variants(one.asset_id)] == [pool]


# --- R9: groups ------------------------------------------------------------------------------------------------------


def test_r09_a_group_sums_up_all_forms_of_an_asset(realm: Realm) -> None:
    """The catalogue's ETH group: Ether leads, WETH, stETH, cbETH, rETH belong; found in any case, the same on both sides."""
    realm.level()
    view = realm.client.group("eth")
    assert view.canonical is not None
    assert view.canonical.name == "Ether"
    assert {"ETH", "WETH", "stETH", "cbETH", "rETH"} <= {asset.symbol for _, asset in view.members}
    assert realm.registry.get_asset_group(canonical_symbol="Eth") == view.group
    members = {*realm.registry.list_asset_group_members(view.group.group_id)}
    assert members == {member for member, _ in view.members}
    assert {member.weight for member in members} == {Decimal(1)}
    assert view.group in set(realm.registry.list_asset_groups(asset_id=view.canonical.asset_id))


def test_r09_one_live_group_for_a_symbol_in_any_case(realm: Realm) -> None:
    """The second is refused and named the first."""
    made = realm.registry.create_asset_group(Group(canonical_symbol="gROUP", name="x")).record
    with pytest.raises(ConflictError) as caught:
        realm.registry.create_asset_group(Group(canonical_symbol="Group", name="y"))
    assert caught.value.existing_id == made.group_id
    realm.level()
    assert realm.client.group("GROUP").group == made


def test_r09_at_most_one_canonical_member_and_any_number_of_groups(realm: Realm) -> None:
    """A second leader is refused and named the first; one asset may be in several groups, with a weight in each."""
    one, two = realm.asset(), realm.asset()
    groups = [realm.registry.create_asset_group(Group(canonical_symbol=f"G{n}-{one.symbol}", name="x")) for n in (1, 2)]
    weights = [Decimal("0.5"), Decimal("2.000000000000000001")]
    for group, weight in zip(groups, weights, strict=True):
        member = GroupMember(group_id=group.record.group_id, asset_id=one.asset_id, is_canonical=True, weight=weight)
        assert realm.registry.add_asset_to_group(member).record.weight == weight
    first = groups[0].record
    with pytest.raises(ConflictError) as caught:
        realm.registry.add_asset_to_group(
            GroupMember(group_id=first.group_id, asset_id=two.asset_id, is_canonical=True)
        )
    assert caught.value.reason == "CANONICAL_EXISTS"
    assert caught.value.existing_id == f"{first.group_id}/{one.asset_id}"
    with pytest.raises(ConflictError):
        realm.registry.add_asset_to_group(GroupMember(group_id=first.group_id, asset_id=one.asset_id))
    realm.registry.add_asset_to_group(GroupMember(group_id=first.group_id, asset_id=two.asset_id))
    realm.level()
    assert [asset for _, asset in realm.client.group(first.canonical_symbol).members] == [one, two]
    assert {g.group_id for g in realm.registry.list_asset_groups(asset_id=one.asset_id)} == {
        group.record.group_id for group in groups
    }
    realm.registry.remove_asset_from_group(first.group_id, one.asset_id)
    realm.level()
    view = realm.client.group(first.canonical_symbol)
    assert (view.canonical, [asset for _, asset in view.members]) == (None, [two])
    for wrong in ("0", "-1", "NaN"):
        with pytest.raises(InvalidError):
            realm.registry.add_asset_to_group(
                GroupMember(group_id=first.group_id, asset_id=one.asset_id, weight=Decimal(wrong))
            )


# --- R10: flags ------------------------------------------------------------------------------------------------------


def test_r10_the_types_and_severities_of_the_ruling(realm: Realm) -> None:
    """Fourteen types and five severities exist, can be raised, and come back with all that was said."""
    named = (
        "SCAM RUGPULL EXPLOITED DEPRECATED PAUSED UNVERIFIED LOW_LIQUIDITY HONEYPOT TAX_TOKEN IMPOSTOR SANCTIONED "
        "DEPEGGED UPGRADEABLE MINTABLE"
    )
    assert [*FlagType] == named.split()
    assert {s.name: int(s) for s in Severity} == {"INFO": 1, "LOW": 2, "MEDIUM": 3, "HIGH": 4, "CRITICAL": 5}
    asset = realm.asset()
    evidence = "https://auditor.example/report"
    raised = {
        realm.flag(asset, severity, flag_type=kind, source="Auditor ", evidence_url=evidence, raised_by="ann")
        for kind, severity in zip(FlagType, [*Severity] * 3, strict=False)
    }
    assert realm.flags(asset.asset_id) == raised
    assert {(f.source, f.reason, f.evidence_url, f.raised_by) for f in raised} == {
        ("auditor", "because", evidence, "ann")
    }
    assert all(f.raised_at is not None and f.is_active for f in raised)


def test_r10_raising_again_updates_and_keeps_the_history(realm: Realm) -> None:
    """One active flag for an asset, type and source; the log has what it said before."""
    asset = realm.asset()
    first = realm.flag(asset, Severity.LOW)
    again = realm.flag(asset, Severity.HIGH, reason="worse", evidence_url="https://x.example")
    assert (again.flag_id, again.raised_at, again.raised_by) == (first.flag_id, first.raised_at, first.raised_by)
    assert (again.severity, again.reason, again.evidence_url) == (Severity.HIGH, "worse", "https://x.example")
    realm.flag(asset, Severity.LOW, source="another")
    assert len(realm.flags(asset.asset_id)) == 2
    history = realm.sql(
        "SELECT before->>'reason', record->>'reason' FROM changes WHERE key = %s ORDER BY position", first.flag_id
    )
    assert history == [(None, "because"), ("because", "worse")]


def test_r10_clearing_needs_who_and_why_and_happens_once(realm: Realm) -> None:
    """A cleared flag is kept, is not active, cannot be cleared twice, and can be raised anew."""
    asset = realm.asset()
    flag = realm.flag(asset)
    with pytest.raises(InvalidError) as why:
        realm.registry.resolve_quality_flag(flag.flag_id, reason=" ")
    assert why.value.field == "clear_reason"
    nameless = Remote(realm.target, token=None, actor=None, timeout=20)
    with pytest.raises(InvalidError) as who:
        nameless.call("ResolveQualityFlag", pb.ResolveQualityFlagRequest(flag_id=flag.flag_id, clear_reason="why"))
    assert who.value.field == "cleared_by"
    nameless.close()
    cleared = realm.registry.resolve_quality_flag(flag.flag_id, reason="appeal granted", cleared_by="bob").record
    assert (cleared.cleared_by, cleared.clear_reason, cleared.is_active) == ("bob", "appeal granted", False)
    assert cleared.cleared_at is not None
    assert (cleared.severity, cleared.reason, cleared.raised_at) == (flag.severity, flag.reason, flag.raised_at)
    with pytest.raises(PreconditionError) as twice:
        realm.registry.resolve_quality_flag(flag.flag_id, reason="again")
    assert twice.value.reason == "ALREADY_CLEARED"
    assert realm.flags(asset.asset_id) == set()
    assert realm.flags(asset.asset_id, include_resolved=True) == {cleared}
    anew = realm.flag(asset)
    assert anew.flag_id != flag.flag_id
    assert realm.flags(asset.asset_id) == {anew}
    assert realm.flags(asset.asset_id, include_resolved=True) == {anew, cleared}
    with pytest.raises(NotFoundError):
        realm.registry.resolve_quality_flag(NOBODY, reason="x")


def test_r10_a_threshold_means_at_least(realm: Realm) -> None:
    """By asset and across assets, by type and by source, every threshold gives the severities from it on."""
    asset = realm.asset()
    source = f"auditor-{realm.number()}"
    kinds = [FlagType.PAUSED, FlagType.MINTABLE, FlagType.SCAM, FlagType.TAX_TOKEN, FlagType.DEPEGGED]
    raised = {
        realm.flag(asset, severity, flag_type=kind, source=source)
        for kind, severity in zip(kinds, Severity, strict=True)
    }
    for threshold in Severity:
        expected = {f for f in raised if f.severity >= threshold}
        assert len(expected) == 6 - threshold
        assert realm.flags(asset.asset_id, min_severity=threshold) == expected
        assert {*realm.registry.list_quality_flags(source=source.upper(), min_severity=threshold)} == expected
    (paused,) = realm.registry.list_quality_flags(flag_type=FlagType.PAUSED, source=source)
    assert paused in raised


# --- R11: the gate ---------------------------------------------------------------------------------------------------


def test_r11_block_from_the_threshold_on(realm: Realm) -> None:
    """ALLOW below it, BLOCK from it on, with reasons, position and flags; the default threshold is CRITICAL."""
    asset = realm.asset()
    assert realm.verdict(asset.asset_id).decision == "ALLOW"
    realm.client.require_tradable(asset.asset_id)
    for severity in Severity:
        flag = realm.flag(asset, severity)
        for block_at in Severity:
            verdict = realm.verdict(asset.asset_id, block_at)
            assert verdict.decision == ("BLOCK" if severity >= block_at else "ALLOW")
            assert verdict.flags == (flag,)
            assert bool(verdict.reasons) == (verdict.decision == "BLOCK")
    verdict = realm.client.check_tradable(asset.asset_id)
    assert (verdict.decision, verdict.position) == ("BLOCK", realm.position())
    assert 0 <= verdict.age <= 15
    assert "because" in verdict.reasons[0]
    with pytest.raises(AssetBlockedError) as caught:
        realm.client.require_tradable(asset.asset_id)
    assert caught.value.verdict is not None
    realm.registry.resolve_quality_flag(flag.flag_id, reason="cleared")
    assert realm.verdict(asset.asset_id).decision == "ALLOW"


def test_r11_a_deleted_asset_is_blocked(realm: Realm) -> None:
    """Whether it had flags or none, on the server and in a replica that saw it go."""
    plain, flagged = realm.asset(), realm.asset()
    realm.flag(flagged, Severity.LOW)
    for asset in (plain, flagged):
        assert realm.verdict(asset.asset_id).decision == "ALLOW"
        realm.registry.delete_asset(asset.asset_id)
        verdict = realm.verdict(asset.asset_id)
        assert (verdict.decision, verdict.reasons) == ("BLOCK", ("the asset was deleted",))
        with pytest.raises(AssetBlockedError):
            realm.client.require_tradable(asset.asset_id)


def test_r11_an_asset_deleted_before_the_snapshot_is_blocked(realm: Realm, tmp_path: Path) -> None:
    """A client that has only a snapshot from after the deletion knows it by its tombstone, and nothing else of it."""
    gone, lives = realm.asset(), realm.asset()
    deployment = realm.deploy(gone)
    realm.registry.delete_asset(gone.asset_id)
    position = realm.remote.head().position
    with closing(Store(realm.database)) as store:
        made = export_snapshot(store, tmp_path / "snapshots")
    held = snapshot.columns(made, snapshot.TOMBSTONES).to_pylist()
    assert {"kind": "asset", "key": gone.asset_id, "position": position} in held
    assert {"kind": "deployment", "key": deployment.deployment_id, "position": position} in held
    assert lives.asset_id not in {row["key"] for row in held}
    with open_snapshot(tmp_path / "snapshots", replica_dir=tmp_path / "replica") as client:
        verdict = client.check_tradable(gone.asset_id, max_age=math.inf)
        assert (verdict.decision, verdict.reasons) == ("BLOCK", ("the asset was deleted",))
        assert client.check_tradable(lives.asset_id, max_age=math.inf).decision == "ALLOW"
        assert client.check_tradable(NOBODY, max_age=math.inf).decision == "UNKNOWN"
        with pytest.raises(NotFoundError):
            client.asset(gone.asset_id)


def test_r11_unknown_is_never_a_yes(realm: Realm, tmp_path: Any) -> None:
    """No such asset, data that are too old, a closed client: UNKNOWN, whatever the threshold; a block stays a block.

    A feed that brings what the client does not understand, and a server that is gone: test_sync, test_client.
    """
    assert MAX_AGE == 15.0
    assert realm.verdict(NOBODY).decision == "UNKNOWN"
    with pytest.raises(VerdictUnknownError):
        realm.client.require_tradable(NOBODY)
    good, bad = realm.asset(), realm.asset()
    realm.flag(bad)
    realm.level()
    with connect(realm.target, replica_dir=tmp_path) as client:
        client.wait_for(realm.position())
        for block_at in Severity:
            assert client.check_tradable(good.asset_id, block_at=block_at, max_age=0).decision == "UNKNOWN"
        stale = client.check_tradable(good.asset_id, max_age=0.0)
        assert stale.decision == "UNKNOWN"
        assert "old" in stale.reasons[0]
        assert client.check_tradable(bad.asset_id, max_age=0.0).decision == "BLOCK"
        for wrong in (-1.0, float("nan")):  # no age that could be meant
            with pytest.raises(InvalidError):
                client.check_tradable(good.asset_id, max_age=wrong)
    closed = client.check_tradable(good.asset_id, max_age=0.0)
    assert closed.decision == "UNKNOWN"
    assert closed.reasons == (ClosedError().message,)
    assert realm.client.check_tradable("no id").decision == "UNKNOWN"


def test_r11_the_wire_tells_each_decision(realm: Realm) -> None:
    """ALLOW, BLOCK and UNKNOWN have their numbers in the contract; UNSPECIFIED is none of them."""
    asset = realm.asset()
    asset_ids = (asset.asset_id, realm.flag(realm.asset()).asset_id, NOBODY)
    answers = [realm.remote.call("CheckTradable", pb.CheckTradableRequest(asset_id=i)) for i in asset_ids]
    assert [a.decision for a in answers] == [pb.DECISION_ALLOW, pb.DECISION_BLOCK, pb.DECISION_UNKNOWN]
    assert [wire.record_from_wire(QualityFlag, f).severity for f in answers[1].flags] == [Severity.CRITICAL]
