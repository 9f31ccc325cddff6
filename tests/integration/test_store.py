"""The store on a real PostgreSQL: every write is numbered and recorded, whole or not at all, beside other writers."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import psycopg
import pytest

from cqar import model
from cqar.errors import (
    ConflictError,
    CqarError,
    InvalidError,
    NotFoundError,
    PositionExpiredError,
    UnavailableError,
)
from cqar.model import (
    ASSET,
    CHAIN,
    DEPLOYMENT,
    GROUP_MEMBER,
    KIND_OF,
    KINDS,
    VENUE_SYMBOL,
    Asset,
    AssetType,
    Chain,
    Deployment,
    Op,
    Record,
)
from cqar.server.faults import CONTENTION
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.store import START, Store

ADDRESS = "0x" + "ab" * 20


def asset(symbol: str = "USDC", **values: object) -> Asset:
    """Give an asset without id or times."""
    return Asset(symbol=symbol, name=f"{symbol} of the tests", asset_type=AssetType.TOKEN, **values)  # type: ignore[arg-type]


ETHEREUM = Chain(chain_id="ethereum", name="Ethereum", namespace="eip155", caip2="eip155:1", network_id=1)


def put(store: Store, *records: Record) -> list[Record]:
    """Write records in one transaction."""
    with store.transaction(actor="test") as tx:
        return [tx.put(record) for record in records]


def one_of_each() -> list[Record]:
    """Give a record of every kind with every field set, in an order in which they can be written."""
    times = [datetime(2026, 1, day, 12, 30, 0, 123456, tzinfo=UTC) for day in range(1, 5)]
    ids = [str(uuid.uuid4()) for _ in range(3)]
    group = str(uuid.uuid4())
    coin, other, quote = ids
    return [
        *[
            asset(
                symbol,
                asset_id=asset_id,
                category="stable",
                logo_url="https://x.test/a.png",
                website="https://x.test",
                description="Ünï\ncode 😀 \\ ' \" %s :x",
                metadata=(("a", "1"), ("b", "ß")),
                provenance="test",
            )
            for symbol, asset_id in zip(("ONE", "USD₮0", "three"), ids, strict=True)
        ],
        msgspec.structs.replace(
            ETHEREUM,
            aliases=("ccxt:ERC20", "coingecko:ethereum"),
            native_symbol="ETH",
            native_decimals=18,
            native_asset_id=coin,
            explorer_url="https://etherscan.io",
            slip44=60,
            is_testnet=True,
            is_active=False,
        ),
        Deployment(asset_id=coin, chain_id="ethereum", contract_address=ADDRESS, decimals=6, is_canonical=True),
        Deployment(asset_id=other, chain_id="ethereum", decimals=18, is_native=True),
        model.Identifier(asset_id=coin, source="coingecko", external_id="one", is_primary=True),
        model.Relationship(
            parent_asset_id=coin,
            child_asset_id=other,
            relationship_type=model.RelationshipType.STAKES,
            protocol="lido",
            conversion_rate=Decimal("1.000000000000000001"),
            rate_as_of=times[0],
            rate_source="test",
        ),
        model.Group(group_id=group, canonical_symbol="Straße", name="One", description="x"),
        model.GroupMember(group_id=group, asset_id=coin, is_canonical=True, weight=Decimal("0.5")),
        model.QualityFlag(
            asset_id=coin,
            flag_type=model.FlagType.SCAM,
            severity=model.Severity.CRITICAL,
            source="test",
            reason="because",
            evidence_url="https://x.test/e",
            raised_by="me",
            raised_at=times[0],
            cleared_by="you",
            cleared_at=times[1],
            clear_reason="sorry",
        ),
        model.Venue(
            venue_id="uniswap",
            name="Uniswap",
            venue_type=model.VenueType.DEX,
            aliases=("coingecko:uniswap_v3",),
            website="https://uniswap.org",
            countries=("CH", "US"),
            chain_id="ethereum",
            is_active=False,
        ),
        model.VenueSymbol(
            venue_id="uniswap",
            symbol="1000ONEUSD",
            market_kind=model.MarketKind.PERPETUAL,
            asset_id=coin,
            quote_asset_id=quote,
            settle_asset_id=other,
            multiplier=Decimal(1000),
            valid_from=times[2],
            valid_to=times[3],
        ),
    ]


# --- what is written is what is read ---------------------------------------------------------------------------------


def test_a_record_of_each_kind_reads_back_as_written(store: Store) -> None:
    """View, change log and export give the very record, every field of it."""
    written = put(store, *one_of_each())
    assert {KIND_OF[type(record)].name for record in written} == set(KINDS)
    with store.view() as view:
        for record in written:
            kind = KIND_OF[type(record)]
            found = view.get(kind, kind.key_of(record))
            assert found == record
            assert repr(found) == repr(record)
    (batch,) = store.batches(0, 100)
    assert [change.record for change in batch.changes] == written
    assert repr([change.record for change in batch.changes]) == repr(written)
    with store.export() as (head, records, _):
        exported = [record for name in KINDS for record in records[name]]
    assert head == store.head()
    assert sorted(map(repr, exported)) == sorted(map(repr, written))


def test_exported_records_are_sorted_by_key(store: Store) -> None:
    """The same registry always gives the same snapshot."""
    put(store, *[asset(f"S{number}") for number in range(50)], ETHEREUM)
    with store.export() as (_, records, _):
        keys = [ASSET.key_of(record) for record in records["asset"]]
    assert keys == sorted(keys)


def test_created_at_stays_and_updated_at_moves(migrated_url: str) -> None:
    """All records of a transaction have its time; a later write moves only `updated_at`."""
    moments = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)]
    clock = iter(moments)
    store = Store(migrated_url, now=lambda: next(clock))
    (first,) = put(store, asset())
    assert (first.created_at, first.updated_at) == (moments[0], moments[0])
    (second,) = put(store, msgspec.structs.replace(first, name="new"))
    assert (second.created_at, second.updated_at) == (moments[0], moments[1])
    assert store.batches(1, 10)[0].committed_at == moments[1]
    store.close()


# --- positions and the change log ----------------------------------------------------------------------------------


def test_positions_have_no_gap_with_eight_writers(store: Store) -> None:
    """Every commit has the next position, whoever writes; rolled back transactions take none."""

    def work(writer: int) -> list[int]:
        positions = []
        for number in range(25):
            with store.transaction(actor=f"writer {writer}") as tx:
                tx.put(asset(f"W{writer}N{number}"))
            positions.append(tx.position)
            with pytest.raises(ZeroDivisionError), store.transaction(actor="nobody") as tx:  # noqa: PT012
                tx.put(asset("GONE"))
                tx.flush()
                raise ZeroDivisionError
        return positions

    with ThreadPoolExecutor(8) as pool:
        positions = [position for found in pool.map(work, range(8)) for position in found]
    assert sorted(positions) == list(range(1, 201))
    assert store.head().position == 200
    batches = store.batches(0, 10_000)
    assert [batch.position for batch in batches] == list(range(1, 201))
    assert "GONE" not in {change.record.symbol for batch in batches for change in batch.changes}  # type: ignore[union-attr]


def test_a_follower_that_polls_beside_writers_misses_nothing(store: Store) -> None:
    """Commits become visible in the order of their positions."""
    done = threading.Event()

    def write(writer: int) -> None:
        for number in range(40):
            put(store, asset(f"W{writer}N{number}"))

    def follow() -> list[int]:
        seen: list[int] = []
        while not (done.is_set() and store.head().position == len(seen)):
            seen += [batch.position for batch in store.batches(len(seen), 7)]
        return seen

    with ThreadPoolExecutor(5) as pool:
        follower = pool.submit(follow)
        list(pool.map(write, range(4)))
        done.set()
        assert follower.result() == list(range(1, 161))


def test_the_chain_hashes_the_history(migrated_url: str, store: Store) -> None:
    """The hash of a position is that of the one before and of the changes, from sixteen zero bytes on."""
    assert store.head().chain == START == store.chain_at(0)
    for symbol in ("A", "B", "C"):
        put(store, asset(symbol))
    batches = store.batches(0, 100)
    assert [store.chain_at(batch.position) for batch in batches] == [batch.chain for batch in batches]
    assert store.head().chain == batches[-1].chain
    assert len({batch.chain for batch in batches}) == 3
    assert store.chain_at(4) is None
    with psycopg.connect(migrated_url) as connection:
        found = connection.execute(
            "SELECT json_build_array(json_build_object('kind', kind, 'key', key, 'op', op))::text, record::text"
            " FROM changes WHERE position = 1"
        ).fetchone()
    assert found is not None
    record = msgspec.json.decode(found[1], type=Asset)
    entry = {"kind": "asset", "key": record.asset_id, "op": "PUT", "record": record, "before": None}
    digest = hashlib.sha256(msgspec.json.encode([entry])).digest()
    assert batches[0].chain == hashlib.sha256(START + digest).digest()[:16]


def test_batches_come_whole(store: Store) -> None:
    """A limit never cuts a transaction in two, and a large one comes alone."""
    sizes = [2, 3, 10, 1]
    for size in sizes:
        put(store, *[asset(f"S{number}") for number in range(size)])
    assert [len(batch.changes) for batch in store.batches(0, 5)] == [2, 3]
    assert [len(batch.changes) for batch in store.batches(1, 4)] == [3]
    assert [len(batch.changes) for batch in store.batches(2, 4)] == [10]
    assert [len(batch.changes) for batch in store.batches(0, 1000)] == sizes
    assert store.batches(4, 10) == []


def test_a_trimmed_log_says_so(migrated_url: str, store: Store) -> None:
    """A follower that is too far behind is told to load a snapshot, not given what is left."""
    for symbol in ("A", "B", "C"):
        put(store, asset(symbol))
    with psycopg.connect(migrated_url) as connection:
        connection.execute("DELETE FROM batches WHERE position < 3")
        connection.execute("DELETE FROM changes WHERE position < 3")
    with pytest.raises(PositionExpiredError):
        store.batches(0, 10)
    assert store.chain_at(1) is None
    assert [batch.position for batch in store.batches(2, 10)] == [3]


def test_nothing_written_takes_no_position(store: Store) -> None:
    """A transaction that only reads gives the present position and no batch."""
    put(store, asset())
    with store.transaction(actor="test") as tx:
        tx.find(ASSET)
    assert tx.position == 1 == store.head().position


def test_each_change_keeps_what_was_before(migrated_url: str, store: Store) -> None:
    """The log tells for each change who made it, and the state before."""
    (first,) = put(store, asset())
    with store.transaction(actor="alice", request_id="r1", method="m") as tx:
        tx.put(msgspec.structs.replace(first, name="second"))
        third = tx.put(msgspec.structs.replace(first, name="third"))
    with store.transaction(actor="bob") as tx:
        tx.remove(third)
    with psycopg.connect(migrated_url) as connection:
        rows = connection.execute(
            "SELECT position, actor, request_id, op, record->>'name', before->>'name' FROM changes"
            " JOIN batches USING (position) ORDER BY position"
        ).fetchall()
    assert rows == [
        (1, "test", None, "PUT", first.name, None),  # type: ignore[attr-defined]
        (2, "alice", "r1", "PUT", "third", first.name),  # type: ignore[attr-defined]
        (3, "bob", None, "REMOVE", None, "third"),
    ]
    assert [change.op for batch in store.batches(0, 9) for change in batch.changes] == [Op.PUT, Op.PUT, Op.REMOVE]


def test_callbacks_hear_of_commits_only_and_cannot_undo_them(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A feed is woken after each commit with something in it; its failure is not the writer's."""
    heard: list[int] = []
    store.on_commit(heard.append)
    store.on_commit(lambda _: 1 / 0)  # type: ignore[arg-type]
    put(store, asset())
    put(store)
    with pytest.raises(ZeroDivisionError), store.transaction(actor="test") as tx:  # noqa: PT012
        tx.put(asset("B"))
        raise ZeroDivisionError
    assert heard == [1]
    assert "position 1" in caplog.text


# --- deletes ---------------------------------------------------------------------------------------------------------


def test_a_removed_record_is_gone_and_kept(store: Store) -> None:
    """A removed record is not found, but its id counts as used; its row is the same as before."""
    (record,) = put(store, asset())
    key = ASSET.key_of(record)
    with store.transaction(actor="test") as tx:
        tx.remove(record)
    with store.view() as view:
        assert view.get(ASSET, key) is None
        assert view.find(ASSET) == []
        assert view.used(ASSET, [key, str(uuid.uuid4())]) == {key}
    assert not store.get(ASSET, [key])


def test_an_id_is_never_used_again_but_a_name_is(store: Store) -> None:
    """Writing under the id of a deleted record is refused; a chain's slug, or a membership, may come back."""
    coin, chain, group = put(store, asset(), ETHEREUM, model.Group(canonical_symbol="G", name="g"))
    assert isinstance(coin, Asset)
    assert isinstance(group, model.Group)
    (member,) = put(store, model.GroupMember(group_id=group.group_id, asset_id=coin.asset_id))
    with store.transaction(actor="test") as tx:
        tx.remove(member)
        tx.remove(chain)
        tx.remove(coin)
    with pytest.raises(ConflictError) as caught:
        put(store, msgspec.structs.replace(coin, name="again"))
    assert caught.value.reason == "ID_USED"
    (again,) = put(store, msgspec.structs.replace(ETHEREUM, name="again"))
    with store.view() as view:
        assert view.get(CHAIN, "ethereum") == again
    (coin,) = put(store, asset())
    put(store, model.GroupMember(group_id=group.group_id, asset_id=coin.asset_id))  # type: ignore[attr-defined]


def test_a_new_reference_to_a_deleted_asset_is_refused(store: Store) -> None:
    """A foreign key would let it pass: the row of a deleted asset is still there."""
    coin, _ = put(store, asset(), ETHEREUM)
    assert isinstance(coin, Asset)
    with store.transaction(actor="test") as tx:
        tx.remove(coin)
    with pytest.raises(NotFoundError) as caught:
        put(store, Deployment(asset_id=coin.asset_id, chain_id="ethereum", contract_address=ADDRESS, decimals=1))
    assert (caught.value.reason, caught.value.metadata["field"]) == ("ASSET_NOT_FOUND", "asset_id")


def test_an_asset_is_not_deleted_under_a_new_deployment(store: Store) -> None:
    """Whoever deletes an asset waits for those who are about to refer to it."""
    coin, _ = put(store, asset(), ETHEREUM)
    assert isinstance(coin, Asset)
    writing, deleting = threading.Event(), threading.Event()

    def delete() -> list[Deployment]:
        writing.wait(5)
        with store.transaction(actor="deleter") as tx:
            deleting.set()
            tx.find_for_update(ASSET, asset_id=coin.asset_id)
            return tx.find(DEPLOYMENT, asset_id=coin.asset_id)

    with ThreadPoolExecutor(1) as pool:
        deleter = pool.submit(delete)
        with store.transaction(actor="writer") as tx:
            tx.put(Deployment(asset_id=coin.asset_id, chain_id="ethereum", contract_address=ADDRESS, decimals=1))
            tx.flush()
            writing.set()
            deleting.wait(5)
        assert len(deleter.result()) == 1


# --- parameters ------------------------------------------------------------------------------------------------------


def test_any_text_is_found_among_others(store: Store) -> None:
    """A list of texts reaches the database as it is, whatever an array's notation means by its characters."""
    texts = [
        '"',
        "\\",
        '\\"',
        "{a,b}",
        "a,b",
        "NULL",
        "null",
        " ",
        "ß ₮ 😀",
        "%s %(x)s :x $1",
        "'",
        "a\nb",
        '""',
        "\\N",
    ]
    (coin,) = put(store, asset())
    assert isinstance(coin, Asset)
    put(store, *[model.Identifier(asset_id=coin.asset_id, source="s", external_id=text) for text in texts])
    with store.view() as view:
        found = view.find(model.IDENTIFIER, external_id=texts, source=["s", "t"])
        assert {identifier.external_id for identifier in found} == set(texts)
        for text in texts:
            assert [each.external_id for each in view.find(model.IDENTIFIER, external_id=[text])] == [text]
        assert view.find(model.IDENTIFIER, external_id=[]) == []
        assert view.find(model.QUALITY_FLAG, severity=[1, 5]) == []


def test_a_nul_in_a_list_is_refused(store: Store) -> None:
    """It does not end the list in secret (R17)."""
    with pytest.raises(InvalidError), store.view() as view:
        view.find(model.IDENTIFIER, external_id=["a", "b\0c"])


# --- other writers ---------------------------------------------------------------------------------------------------


def race(store: Store, make: Callable[[int], Record], writers: int = 2) -> list[CqarError | Record]:
    """Let writers put their records at the same moment; give what became of each."""
    barrier = threading.Barrier(writers)

    def write(number: int) -> CqarError | Record:
        try:
            with store.transaction(actor=f"writer {number}") as tx:
                record = tx.put(make(number))
                barrier.wait(5)
                tx.flush()
        except CqarError as error:
            return error
        return record

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(write, range(writers)))


def test_racing_writers_learn_who_won(store: Store) -> None:
    """Of two deployments at one address one is written, and the other's error names it."""
    one, two, _ = put(store, asset("A"), asset("B"), ETHEREUM)
    ids = [one.asset_id, two.asset_id]  # type: ignore[attr-defined]

    def make(number: int) -> Record:
        return Deployment(asset_id=ids[number], chain_id="ethereum", contract_address=ADDRESS, decimals=number)

    results = race(store, make)
    (error,) = [result for result in results if isinstance(result, CqarError)]
    (winner,) = [result for result in results if isinstance(result, Deployment)]
    assert isinstance(error, ConflictError)
    assert error.existing_id == winner.deployment_id


def test_overlapping_venue_symbols_cannot_race(store: Store) -> None:
    """The database itself refuses two meanings of one ticker at one instant (R6).

    It may settle the race by calling it a deadlock: then the registry tries again, and finds the other row.
    """
    venue = model.Venue(venue_id="binance", name="Binance", venue_type=model.VenueType.CEX)
    one, two, _ = put(store, asset("A"), asset("B"), venue)
    ids = [one.asset_id, two.asset_id]  # type: ignore[attr-defined]
    start = datetime(2022, 5, 1, tzinfo=UTC)

    def make(number: int) -> Record:
        return model.VenueSymbol(
            venue_id="binance",
            symbol="LUNAUSDT",
            market_kind=model.MarketKind.SPOT,
            asset_id=ids[number],
            valid_from=start + number * timedelta(days=10),
        )

    results = race(store, make)
    (error,) = [result for result in results if isinstance(result, CqarError)]
    assert error.reason in {"INTERVAL_OVERLAP", CONTENTION}
    with store.view() as view:
        assert len(view.find(VENUE_SYMBOL)) == 1


def test_a_record_that_changed_since_it_was_read_is_not_overwritten(store: Store) -> None:
    """What was read without a lock must still be so when it is written; the writer is told to try again."""
    (record,) = put(store, asset())
    with pytest.raises(UnavailableError) as caught, store.transaction(actor="slow") as tx:  # noqa: PT012
        (seen,) = tx.find(ASSET)
        put(store, msgspec.structs.replace(record, name="fast"))
        tx.put(msgspec.structs.replace(seen, name="slow"))
    assert caught.value.reason == CONTENTION
    with store.view() as view:
        assert [found.name for found in view.find(ASSET)] == ["fast"]


def test_a_view_stays_at_its_position(store: Store) -> None:
    """All reads of a view are of one position, whatever is written meanwhile."""
    put(store, asset())
    with store.view() as view:
        put(store, asset("B"))
        assert view.position == 1
        assert len(view.find(ASSET)) == 1


def test_an_export_is_of_one_position(store: Store) -> None:
    """A write during an export is in none of its kinds."""
    put(store, *[asset(f"S{number}") for number in range(10)])
    with store.export() as (head, records, _):
        put(store, asset("LATE"), ETHEREUM)
        assert head.position == 1
        assert len(list(records["asset"])) == 10
        assert list(records["chain"]) == []


# --- what the database refuses ---------------------------------------------------------------------------------------

HOSTILE = [
    ("UPDATE asset_group_members SET weight = 'NaN'", "ck_asset_group_members_weight_positive"),
    ("UPDATE assets SET updated_at = 'infinity'", "ck_assets_updated_at_range"),
    ("UPDATE venue_symbols SET valid_to = '12000-01-01'", "ck_venue_symbols_valid_to_range"),
    ("UPDATE asset_quality_flags SET severity = 6", "ck_asset_quality_flags_severity_known"),
    ("UPDATE assets SET asset_type = 'COIN'", "ck_assets_asset_type_known"),
    ("UPDATE asset_deployments SET decimals = 256", "ck_asset_deployments_decimals_range"),
    ("UPDATE asset_deployments SET is_native = true", "ck_asset_deployments_contract_address_native"),
    ("UPDATE assets SET symbol = ''", "ck_assets_symbol_length"),
    (
        "UPDATE asset_relationships SET child_asset_id = parent_asset_id",
        "ck_asset_relationships_child_asset_id_differs",
    ),
    ("UPDATE asset_quality_flags SET cleared_by = NULL", "ck_asset_quality_flags_cleared_by_with_cleared_at"),
    ("DELETE FROM assets", "fk_"),
    ("INSERT INTO clock (singleton) VALUES (true)", "pk_clock"),
]


@pytest.mark.parametrize(("statement", "constraint"), HOSTILE, ids=[constraint for _, constraint in HOSTILE])
def test_the_database_refuses_what_no_record_may_be(
    migrated_url: str, store: Store, statement: str, constraint: str
) -> None:
    """Even a writer that goes past the server cannot store what breaks readers (R17)."""
    put(store, *one_of_each())
    with psycopg.connect(migrated_url) as connection, pytest.raises(psycopg.IntegrityError) as caught:
        connection.execute(statement.encode())
    assert (caught.value.diag.constraint_name or "").startswith(constraint)


@pytest.mark.parametrize(
    "broken",
    [
        asset("x" * 65),
        asset("nul\0"),
        asset(category="a\0b"),
    ],
)
def test_a_value_that_no_rule_caught_is_invalid(store: Store, broken: Asset) -> None:
    """The constraints are the second line: what they refuse is the caller's fault, not an internal error."""
    with pytest.raises(InvalidError):
        put(store, broken)


# --- the database goes away ------------------------------------------------------------------------------------------


def test_a_lost_connection_leaves_nothing_behind(migrated_url: str, store: Store) -> None:
    """A session killed in the middle of a write is UNAVAILABLE, and the next call just works."""
    with pytest.raises(UnavailableError), store.transaction(actor="test") as tx:  # noqa: PT012
        tx.put(asset("LOST"))
        tx.flush()
        with psycopg.connect(migrated_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'cqar'"
            )
        tx.put(asset("LOST TOO"))
    assert store.head().position == 0
    put(store, asset("KEPT"))
    with store.view() as view:
        assert [found.symbol for found in view.find(ASSET)] == ["KEPT"]


@pytest.fixture
def fragile(open_folder: Path) -> Iterator[EmbeddedPostgres]:
    """Yield a PostgreSQL of the test's own, to be ill-treated."""
    with EmbeddedPostgres(open_folder / "fragile") as server:
        yield server


@pytest.mark.slow
def test_a_database_stopped_under_writers_loses_no_acknowledged_write(fragile: EmbeddedPostgres) -> None:
    """Writers get UnavailableError and nothing else; what was acknowledged is there afterwards, without a gap."""
    store = Store(fragile.url)
    store.migrate()
    acknowledged: set[int] = set()
    unknown: list[str] = []
    others: list[Exception] = []
    enough, stop = threading.Event(), threading.Event()

    def work(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                with store.transaction(actor="test") as tx:
                    tx.put(asset(f"W{writer}N{number}"))
                acknowledged.add(tx.position)
                if len(acknowledged) > 50:
                    enough.set()
            except UnavailableError as error:
                if error.reason == "OUTCOME_UNKNOWN":
                    unknown.append(f"W{writer}N{number}")
                stop.wait(0.02)
            except Exception as error:  # noqa: BLE001 - reported below
                others.append(error)
                return

    with ThreadPoolExecutor(4) as pool:
        for writer in range(4):
            pool.submit(work, writer)
        assert enough.wait(20)
        fragile.stop()
        with pytest.raises(UnavailableError):
            store.head()
        fragile.start()
        before = len(acknowledged)
        while len(acknowledged) < before + 20 and not others:
            stop.wait(0.01)
        stop.set()
    assert others == []
    head = store.head().position
    assert [batch.position for batch in store.batches(0, 100_000)] == list(range(1, head + 1))
    assert acknowledged <= set(range(1, head + 1))
    assert head - len(acknowledged) <= len(unknown)
    with store.view() as view:
        assert len(view.find(ASSET)) == head
    store.close()


def test_members_are_found_by_their_two_ids(store: Store) -> None:
    """A key of two parts works like any other."""
    put(store, *one_of_each())
    with store.view() as view:
        (member,) = view.find(GROUP_MEMBER)
        assert view.get(GROUP_MEMBER, GROUP_MEMBER.key_of(member)) == member
        assert view.page(GROUP_MEMBER, {}, after=GROUP_MEMBER.key_of(member), limit=5) == []
        assert view.page(GROUP_MEMBER, {}, after=None, limit=5) == [member]
