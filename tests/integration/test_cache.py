"""What servers remember in Redis: under which keys, for how long, and never anything that is not true any more."""

from __future__ import annotations

import copy
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from cqar import model
from cqar.errors import CqarError
from cqar.model import Asset, AssetType, Chain, Deployment, Op, QualityFlag, VenueSymbol
from cqar.server.cache import Cache, Reply
from cqar.server.gathered import GATHERED
from cqar.server.registry import Registry
from cqar.server.store import Store
from cqar.server.values import prefix
from cqar.v1 import registry_pb2 as pb
from tests.caching import (
    Question,
    RedisServer,
    Server,
    Told,
    address,
    asset,
    members,
    questions_about,
    running,
    symbol,
    through,
    ticker,
    told,
    tradable,
    until,
)
from tests.worlds import NOW, Story, World, excerpt

USDC = "0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"
TETHER = "1c6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"
GROUP = "2d6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"
ADDRESS = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
HOUR, HALF_HOUR, FIVE_MINUTES = 3600, 1800, 300

# Every question that the specification has a key for, with the key and its seconds.
KEYS: list[tuple[Question, str, int]] = [
    (asset(USDC), f"asset:id:{USDC}", HOUR),
    (symbol("USDC", "ethereum"), "asset:symbol:USDC:ethereum", HOUR),
    (symbol("USDC"), "asset:symbol:USDC:", HOUR),
    (address("ethereum", ADDRESS), f"asset:address:ethereum:{ADDRESS}", HOUR),
    (members(GROUP), f"group:{GROUP}:members", HALF_HOUR),
    (tradable(USDC), f"flags:{USDC}:critical", FIVE_MINUTES),
    (ticker("binance", "USDCUSDT"), "venue:binance:symbol:USDCUSDT", HOUR),
]


def usdc(name: str = "USDC", text: str = "USD Coin") -> Asset:
    """Give the asset of these tests, by whatever symbol."""
    return Asset(asset_id=USDC, symbol=name, name=text, asset_type=AssetType.TOKEN)


def flag() -> QualityFlag:
    """Give a flag that stops trading."""
    return QualityFlag(
        flag_id="8d6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e",
        asset_id=USDC,
        flag_type=model.FlagType.EXPLOITED,
        severity=model.Severity.CRITICAL,
        source="test",
        reason="of the test",
        raised_by="test",
        raised_at=NOW,
    )


def cleared(record: QualityFlag) -> QualityFlag:
    """Give a flag that is over."""
    return msgspec.structs.replace(record, cleared_at=NOW, cleared_by="test", clear_reason="over")


def listed(valid_to: datetime | None = None) -> VenueSymbol:
    """Give a ticker of the asset."""
    return VenueSymbol(
        venue_symbol_id="3e6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e",
        venue_id="binance",
        symbol="USDCUSDT",
        asset_id=USDC,
        quote_asset_id=TETHER,
        market_kind=model.MarketKind.SPOT,
        valid_to=valid_to,
    )


def found_registry(store: Store) -> None:
    """Write what the questions of `KEYS` are about."""
    with store.transaction(actor="test") as tx:
        tx.put(Chain(chain_id="ethereum", namespace="eip155", name="Ethereum", caip2="eip155:1", network_id=1))
        tx.put(model.Venue(venue_id="binance", name="Binance", venue_type=model.VenueType.CEX))
        tx.put(usdc())
        tx.put(Asset(asset_id=TETHER, symbol="USDT", name="Tether", asset_type=AssetType.TOKEN))
        tx.put(Deployment(asset_id=USDC, chain_id="ethereum", contract_address=ADDRESS, decimals=6))
        tx.put(model.Group(group_id=GROUP, name="dollars", canonical_symbol="USD"))
        tx.put(model.GroupMember(group_id=GROUP, asset_id=USDC))
        tx.put(listed())


@pytest.fixture
def database(migrated_url: str) -> str:
    """Give a database with the registry of `KEYS`."""
    store = Store(migrated_url)
    found_registry(store)
    store.close()
    return migrated_url


@pytest.fixture
def here(database: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[Server]:
    """Run a server with a Redis."""
    with running(database, redis_server.url, tmp_path / "here") as server:
        yield server


@pytest.fixture
def there(database: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[Server]:
    """Run another one with the same Redis."""
    with running(database, redis_server.url, tmp_path / "there") as server:
        yield server


def stored(redis_server: RedisServer, key: str, *, after: bytes | None = None) -> bytes:
    """Wait until there is a value under a key, other than the one it had; gives it."""
    until(lambda: redis_server.client.get(key) not in {None, after}, f"nothing is remembered under {key}")
    value = redis_server.client.get(key)
    assert isinstance(value, bytes)
    return value


# --- keys, times, hits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("question", "key", "seconds"), KEYS, ids=[key for _, key, _ in KEYS])
def test_each_answer_has_the_key_and_the_time_of_the_specification_and_is_a_hit_the_second_time(
    here: Server, redis_server: RedisServer, question: Question, key: str, seconds: int
) -> None:
    """The first answer is remembered as specified; the second is the same, from Redis, at a position that is no lower."""
    first = told(here.ask_all([question])[0])
    stored(redis_server, key)
    assert redis_server.client.keys() == [key.encode()]
    assert seconds - 10 <= int(redis_server.client.ttl(key)) <= seconds
    hits = here.hits()
    second = told(here.ask_all([question])[0])
    assert here.hits() == hits + 1
    assert second.content == first.content
    assert second.position is not None
    assert first.position is not None
    assert second.position >= first.position


def test_another_server_gets_what_one_has_remembered(here: Server, there: Server, redis_server: RedisServer) -> None:
    """Servers that share a Redis share their answers."""
    for question, key, _ in KEYS:
        answer = told(here.ask_all([question])[0])
        stored(redis_server, key)
        hits = there.hits()
        assert told(there.ask_all([question])[0]).content == answer.content
        assert there.hits() == hits + 1


def test_a_hit_tells_a_position_that_the_feed_has_reached_and_not_the_old_one(
    here: Server, redis_server: RedisServer
) -> None:
    """Commits that do not concern an answer carry it along: it is known to be true still."""
    here.ask(*asset(USDC))
    stored(redis_server, f"asset:id:{USDC}")
    position = here.tell(Chain(chain_id="base", namespace="eip155", name="Base", caip2="eip155:8453", network_id=8453))
    here.caught_up(position)
    hits = here.hits()
    assert here.ask(*asset(USDC)).position == position
    assert here.hits() == hits + 1


@pytest.mark.parametrize(
    ("remembered", "asked"),
    [
        (symbol("USDC", "eip155:1"), symbol("USDC:eip155", "1")),
        (symbol("USDC"), symbol("USDC", "")),
        (symbol("USDC"), symbol("USDC\x00")),
        (address("eip155:1", ADDRESS), address("eip155", f"1:{ADDRESS}")),
        (asset(USDC), asset(f" {USDC}")),
        (ticker("binance", "USDCUSDT"), ticker("binance", "USDCUSDT\x00")),
    ],
)
def test_no_question_gets_the_answer_to_another(
    here: Server, redis_server: RedisServer, remembered: Question, asked: Question
) -> None:
    """Names may hold colons and spaces; a question that is refused without Redis is refused with it."""
    refusal = told(here.ask_all([asked])[0])
    assert refusal.position is None
    assert told(here.ask_all([remembered])[0]).position is not None
    until(lambda: redis_server.client.dbsize() == 1, "nothing is remembered")
    assert told(here.ask_all([asked])[0]) == refusal


def test_errors_and_endless_questions_are_not_remembered(here: Server, redis_server: RedisServer) -> None:
    """Only answers are: a name that means nothing may mean something with the next commit."""
    here.answers([symbol("NOTHING"), asset(GROUP), ticker("binance", "NO"), symbol("x" * 5_000)])
    here.ask(*asset(USDC))
    stored(redis_server, f"asset:id:{USDC}")
    assert redis_server.client.dbsize() == 1


# --- no longer true ------------------------------------------------------------------------------------------------------


TWIN = "4f6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"
FAKE = "5a6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"


def token(asset_id: str, name: str) -> Asset:
    """Give another asset."""
    return Asset(asset_id=asset_id, symbol=name, name=name, asset_type=AssetType.TOKEN)


def deployed(chain: str, number: int, asset_id: str = USDC) -> Deployment:
    """Give another deployment; those with numbers of one decade are the same one, which has moved."""
    return Deployment(
        deployment_id=f"{number // 10:08x}-5d0b-4d1e-8a53-6f1c1c5f2f0e",
        asset_id=asset_id,
        chain_id=chain,
        contract_address=f"0x{number:040x}",
        decimals=6,
    )


def ethereum(*aliases: str) -> Chain:
    """Give the chain by other names."""
    return Chain(
        chain_id="ethereum", namespace="eip155", name="Ethereum", caip2="eip155:1", network_id=1, aliases=aliases
    )


def binance(*aliases: str) -> model.Venue:
    """Give the venue by other names."""
    return model.Venue(venue_id="binance", name="Binance", venue_type=model.VenueType.CEX, aliases=aliases)


def led(*, canonical: bool) -> model.GroupMember:
    """Give the asset's membership."""
    return model.GroupMember(group_id=GROUP, asset_id=USDC, is_canonical=canonical)


def group(name: str) -> model.Group:
    """Give the group by its symbol."""
    return model.Group(group_id=GROUP, name="dollars", canonical_symbol=name)


class Gone(NamedTuple):
    """A record to remove."""

    record: model.Record


USDC_ON_ETHEREUM = symbol("USDC", "ethereum")
# A question, and what changes its answer; one after the other. Every way in which an answer may depend on a record.
CHANGES: list[tuple[Question, list[model.Record | Gone]]] = [
    (asset(USDC), [usdc(text="renamed")]),
    (USDC_ON_ETHEREUM, [deployed("ethereum", 10)]),
    (USDC_ON_ETHEREUM, [Gone(deployed("ethereum", 10))]),
    (symbol("USDC", "base"), [Chain(chain_id="base", namespace="eip155", name="Base"), deployed("base", 30)]),
    (symbol("USDC", "base"), [Gone(deployed("base", 30))]),
    (address("base", f"0x{40:040x}"), [deployed("base", 40)]),
    (address("base", f"0x{40:040x}"), [deployed("base", 41)]),
    (USDC_ON_ETHEREUM, [token(TWIN, "usdc"), deployed("ethereum", 20, TWIN)]),
    (symbol("USDC"), [Gone(token(TWIN, "usdc"))]),
    (symbol("USDC"), [token(FAKE, "UЅDС")]),
    (symbol("USDC"), [flag()]),
    (tradable(USDC), [cleared(flag())]),
    (symbol("USDC"), [token(FAKE, "OTHER")]),
    (symbol("USDC"), [token(FAKE, "USDC"), group("USDC"), led(canonical=True)]),
    (symbol("USDC"), [msgspec.structs.replace(flag(), flag_id="", asset_id=FAKE)]),
    (symbol("USDC"), [led(canonical=False)]),
    (symbol("USDC"), [model.GroupMember(group_id=GROUP, asset_id=FAKE, is_canonical=True)]),
    (symbol("USDC"), [group("USD")]),
    (symbol("USDC"), [group("usdc")]),
    (symbol("USDC"), [Gone(model.GroupMember(group_id=GROUP, asset_id=FAKE))]),
    (members(GROUP), [model.GroupMember(group_id=GROUP, asset_id=FAKE)]),
    (members(GROUP), [Gone(model.GroupMember(group_id=GROUP, asset_id=FAKE)), led(canonical=True)]),
    (symbol("OTHER"), [token(FAKE, "OTHER")]),
    (address("ethereum", ADDRESS), [usdc("USDX", "another name")]),
    (symbol("USDX", "story:one"), [ethereum("story:one")]),
    (symbol("USDX", "story:one"), [ethereum("story:two")]),
    (ticker("story:one", "USDCUSDT"), [binance("story:one")]),
    (ticker("story:one", "USDCUSDT"), [binance()]),
    (ticker("binance", "USDCUSDT"), [msgspec.structs.replace(listed(), asset_id=FAKE)]),
    (
        ticker("binance", "USDCUSDT"),
        [msgspec.structs.replace(listed(), venue_symbol_id="", market_kind=model.MarketKind.PERPETUAL)],
    ),
    (tradable(USDC), [Gone(usdc())]),
]


@pytest.mark.parametrize("through_feed", [True, False])
def test_an_answer_changes_with_every_record_that_it_depends_on(
    here: Server, database: str, redis_server: RedisServer, through_feed: bool
) -> None:
    """Whether a commit is this server's own, or one that only the feed tells of: what it touches is asked for anew."""
    outside = Store(database)
    for question, writes in CHANGES:
        before = told(here.ask_all([question])[0])
        if before.position is not None:
            until(lambda question=question: _all_hits(here, [question]), "no hit")  # type: ignore[misc]
        with (outside if through_feed else here.store).transaction(actor="test") as tx:
            for write in writes:
                if isinstance(write, Gone):
                    kind = model.KIND_OF[type(write.record)]
                    tx.remove(tx.get(kind, kind.key_of(write.record)) or write.record)
                else:
                    tx.put(write)
        if through_feed:
            here.caught_up(tx.position)
        after = told(here.ask_all([question])[0])
        registry = GATHERED[question[0]]
        (truth,) = registry.answers(Registry(outside), [registry.question(question[1])])
        assert (after.position is None) is isinstance(truth, CqarError)
        assert after.content != before.content, (question, writes)
        if isinstance(truth, Reply):
            registry.plan.positioned(truth.message).position = 0
            assert after.content == (truth.message.SerializeToString(deterministic=True),), question
    outside.close()


def test_the_gate_waits_for_no_feed(database: str, redis_server: RedisServer, tmp_path: Path) -> None:
    """A server that hears of nothing for a day, and whose Redis has the old verdict, gives the new one at once."""
    outside = Store(database)
    with running(
        database, redis_server.url, tmp_path, poll_interval=86_400, heartbeat_interval=86_400, wakeups=False
    ) as server:
        assert server.ask(*tradable(USDC)).decision == pb.DECISION_ALLOW
        until(lambda: _all_hits(server, [tradable(USDC)]), "no hit")
        with outside.transaction(actor="test") as tx:
            tx.put(flag())
        assert server.ask(*tradable(USDC)).decision == pb.DECISION_BLOCK
    outside.close()


@pytest.mark.parametrize("seed", range(2))
def test_no_answer_differs_from_the_registry(
    seed: int, migrated_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """A random history through two servers: every answer is the registry's own at the position that it tells.

    And at once after its own commits a server answers as one without Redis; the gate of any server does so after every
    commit; and the others do when their feed has brought the commit.
    """
    rng = random.Random(seed)
    records = excerpt(["USDC", "WETH", "DAI"])
    world = World([msgspec.structs.replace(r, native_asset_id=None) if isinstance(r, Chain) else r for r in records])
    history: dict[int, dict[int, tuple[object, ...]]] = {}
    with ExitStack() as stack:
        here, there = [
            stack.enter_context(running(migrated_url, redis_server.url, tmp_path / name)) for name in ("here", "there")
        ]
        bare = stack.enter_context(running(migrated_url, "", tmp_path / "bare"))
        outside = Store(migrated_url)  # of a server that tells nobody: no invalidation, no wake-up
        stack.callback(outside.close)
        with outside.transaction(actor="test") as tx:
            for kind in model.KINDS:
                for record in world.all(kind):
                    tx.put(record)
        here.caught_up(tx.position)
        there.caught_up(tx.position)
        questions = rng.sample(questions_about(world, ["USDСX", "NEW"]), 45)
        gates = [index for index, (method, _) in enumerate(questions) if method == "CheckTradable"]

        def check(server: Server, truth: list[Told], indices: list[int], *, now: bool) -> None:
            for index, answer in zip(indices, server.answers([questions[i] for i in indices]), strict=True):
                told_at = answer.position
                # An error is never remembered: it is of now.
                expected = truth[index].content if now or told_at is None else history[told_at][index]
                assert answer.content == expected, (questions[index], told_at, tx.position)

        everything = list(range(len(questions)))
        story = Tale(seed, world)
        for _ in range(25):
            writer = rng.choice([here, there, None])
            position = _told(story, outside if writer is None else writer.store)
            truth = bare.answers(questions)
            history[position] = dict(enumerate([answer.content for answer in truth]))
            check(here, truth, gates, now=True)
            check(there, truth, gates, now=True)
            for server in (here, there):
                if position - 1 in history or server is writer:
                    late = [i for i in everything if i not in gates or server is writer]
                    check(server, truth, late, now=server is writer)
            here.caught_up(position)
            there.caught_up(position)
            check(here, truth, everything, now=True)
            check(there, truth, everything, now=True)
        outcomes = here.cache.outcomes + there.cache.outcomes
        sys.stderr.write(f"seed {seed}: {dict(outcomes)}\n")
        assert outcomes["hit"] > 500
        assert outcomes["stale"] > 0
        assert not outcomes["error"]


class Tale(Story):
    """A history with chains, venues, tickers and look-alikes as well."""

    def step(self) -> model.Batch:
        """Do something and give its batch."""
        verbs = [self.name_chain, self.name_venue, self.retire, self.imitate, self.unmask]
        if self.random.random() < 0.7:
            return super().step()
        return self.random.choice(verbs)() or super().step()

    def name_chain(self) -> model.Batch | None:
        """Let a chain have other aliases, some of them another's."""
        chain = self.random.choice([self.world.records["chain"]["base"], self._any("chain")])
        assert isinstance(chain, Chain)
        return self.world.commit([msgspec.structs.replace(chain, aliases=(f"story:{self.random.randrange(3)}",))])

    def name_venue(self) -> model.Batch | None:
        """Let a venue have another alias."""
        venue = self._any("venue")
        assert isinstance(venue, model.Venue)
        return self.world.commit([msgspec.structs.replace(venue, aliases=(f"story:{self.random.randrange(3)}",))])

    def retire(self) -> model.Batch | None:
        """End a ticker, or let it begin again."""
        row = self._any("venue_symbol")
        if not isinstance(row, VenueSymbol):
            return None
        ends = None if row.valid_to else datetime.now(UTC) - timedelta(days=1)
        return self.world.commit([msgspec.structs.replace(row, valid_from=None, valid_to=ends)])

    def imitate(self) -> model.Batch | None:
        """Let an asset look like another."""
        fake = Asset(asset_id=self._id(), symbol="UЅDС", name="fake", asset_type=AssetType.TOKEN)
        return self.world.commit([fake, self._deployment(fake.asset_id)])

    def unmask(self) -> model.Batch | None:
        """Give a look-alike another symbol."""
        fakes = [r for r in self.world.all("asset") if isinstance(r, Asset) and not r.symbol.isascii()]
        if not fakes:
            return None
        return self.world.commit([msgspec.structs.replace(self.random.choice(fakes), symbol="FAKE")])


def _told(story: Story, store: Store) -> int:
    """Write the next thing of a story that the database accepts; gives its position."""
    while True:
        before, position = copy.copy(story.world.records), story.world.position
        story.world.records = {kind: dict(records) for kind, records in before.items()}
        batch = story.step()
        try:
            with store.transaction(actor="story") as tx:
                for change in batch.changes:
                    if change.op is Op.REMOVE:
                        tx.remove(before[change.kind][change.key])
                    else:
                        assert change.record is not None
                        tx.put(change.record)
        except CqarError:  # another record has the symbol, the address, the interval: a story does not know
            story.world.records, story.world.position = before, position
            continue
        return tx.position


@pytest.mark.parametrize("commits", ["here", "there"])
@pytest.mark.parametrize("reads", ["here", "there"])
def test_a_slow_writer_never_brings_an_old_answer_back(
    here: Server, there: Server, redis_server: RedisServer, reads: str, commits: str
) -> None:
    """An answer that was read before a commit and reaches Redis after it is seen by nobody."""
    servers = {"here": here, "there": there}
    reader, writer = servers[reads], servers[commits]
    key = f"asset:id:{USDC}"
    through(reader, asset(USDC), lambda: writer.tell(usdc("NEW")))
    value = stored(redis_server, key)
    assert b"USDC" in value  # the old answer is there
    assert writer.ask(*asset(USDC)).asset.symbol == "NEW"
    other = here if writer is there else there
    other.caught_up(writer.store.head().position)
    assert other.ask(*asset(USDC)).asset.symbol == "NEW"
    assert b"NEW" in stored(redis_server, key, after=value)


def test_flags_move_no_name_through_redis(here: Server, there: Server) -> None:
    """Two are called USDe on Ethereum: whichever is warned of, on either server the canonical one stays the answer."""
    ethena, monerium = (str(uuid.uuid4()) for _ in range(2))
    for number, each in enumerate((ethena, monerium)):
        here.tell(
            Asset(asset_id=each, symbol="USDe", name=each, asset_type=AssetType.STABLECOIN),
            Deployment(
                deployment_id=each,
                asset_id=each,
                chain_id="ethereum",
                contract_address=f"0x{number:040x}",
                decimals=18,
                is_canonical=each == ethena,
            ),
        )
    for flagged in (set[str](), {ethena}, {monerium}, {ethena, monerium}, set[str]()):
        flags = [msgspec.structs.replace(flag(), flag_id=each, asset_id=each) for each in (ethena, monerium)]
        there.caught_up(here.tell(*[each if each.asset_id in flagged else cleared(each) for each in flags]))
        for server in (here, there, here):
            found = server.ask(*symbol("USDe", "ethereum")).resolution
            assert found.asset.asset_id == ethena
            assert [each.asset_id for each in found.flags] == [ethena] * (ethena in flagged)
            (beside,) = found.collisions
            assert (beside.asset_id, bool(beside.flags)) == (monerium, monerium in flagged)
    assert here.hits() + there.hits() > 0


def test_an_old_answer_does_not_replace_a_newer_one_in_redis(here: Server, redis_server: RedisServer) -> None:
    """The value with the higher position stays, also where the bytes of positions sort otherwise as text."""
    key = f"asset:id:{USDC}"
    log_id = here.store.head().log_id
    for older, newer in ((1, 2), (127, 128), (255, 256), (0x61, 0x4200), (2**31, 2**40)):
        redis_server.client.delete(key)
        for position in (newer, older):
            here.cache._put(keys=[key], args=[prefix(log_id, position), 100])
        assert redis_server.client.get(key) == prefix(log_id, newer)


def test_a_lost_invalidation_makes_nothing_stale(here: Server, there: Server, redis_server: RedisServer) -> None:
    """Redis is frozen while a commit would bury its answers; what it still has when it goes on counts for nobody."""
    questions = [question for question, _, _ in KEYS]
    here.answers(questions)
    for _, key, _ in KEYS:
        stored(redis_server, key)
    redis_server.signal(signal.SIGSTOP)
    try:
        position = here.tell(usdc("NEW"), flag())
        assert told(here.ask_all([tradable(USDC)])[0]).content == told(there.ask_all([tradable(USDC)])[0]).content
        here.caught_up(position)
        there.caught_up(position)
    finally:
        redis_server.signal(signal.SIGCONT)
    for server in (here, there):
        until(lambda cache=server.cache: cache.trouble is None, "Redis is not used again")  # type: ignore[misc]
        hits = server.hits()
        assert server.ask(*asset(USDC)).asset.symbol == "NEW"
        assert server.ask(*tradable(USDC)).decision == pb.DECISION_BLOCK
        assert told(server.ask_all([symbol("USDC")])[0]).content[0] == "NOT_FOUND"
        assert server.hits() - hits <= 2


def test_a_ticker_does_not_outlive_its_interval_in_redis(here: Server, redis_server: RedisServer) -> None:
    """What a ticker means until tonight is not remembered for an hour, however late Redis begins to count."""
    question, key, _ = KEYS[-1]
    here.tell(listed(datetime.now(UTC) + timedelta(seconds=2.5)))
    here.ask(*question)
    value = stored(redis_server, key)
    assert int(redis_server.client.pttl(key)) <= 2_500
    redis_server.client.persist(key)  # as if it had been set late
    until(lambda: told(here.ask_all([question])[0]).content[0] == "NOT_FOUND", "the ticker outlives its interval")
    assert redis_server.client.get(key) == value  # the old one is there still


def test_nothing_is_believed_from_before_a_restored_database(
    here: Server, redis_server: RedisServer, database: str
) -> None:
    """What was remembered of a history that the database lost is not believed, though its position is a high one."""
    import psycopg

    position = here.tell(usdc("LOST"))
    here.caught_up(position)
    here.ask(*asset(USDC))
    stored(redis_server, f"asset:id:{USDC}")
    assert here.ask(*asset(USDC)).asset.symbol == "LOST"
    with psycopg.connect(database) as connection:  # a backup from before the last commit is restored
        connection.execute("UPDATE assets SET symbol = 'USDC', symbol_fold = 'usdc' WHERE asset_id = %s", [USDC])
        connection.execute("DELETE FROM changes WHERE position = %s", [position])
        connection.execute("DELETE FROM batches WHERE position = %s", [position])
        connection.execute(
            "UPDATE clock SET position = b.position, chain = b.chain FROM batches AS b WHERE b.position = %s",
            [position - 1],
        )
    until(lambda: here.cache._touched.position == position - 1, "the feed does not notice")
    assert here.ask(*asset(USDC)).asset.symbol == "USDC"
    for name in ("base", "gnosis"):  # until the positions are those of the lost history, and further
        here.caught_up(here.tell(Chain(chain_id=name, namespace="eip155", name=name)))
        assert here.ask(*asset(USDC)).asset.symbol == "USDC"


def test_a_server_whose_feed_has_failed_believes_nothing(
    here: Server, redis_server: RedisServer, database: str
) -> None:
    """Without the feed nobody tells of other servers' commits, so what is remembered may be old: it is not used."""
    import psycopg

    here.ask(*asset(USDC))
    stored(redis_server, f"asset:id:{USDC}")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE batches RENAME TO hidden")  # the feed cannot be read, the records can
        outside = Store(database)
        connection.execute("UPDATE clock SET position = position + 1")
        until(lambda: here.cache._touched._begun > time.time(), "the feed does not fail")
        connection.execute("UPDATE assets SET symbol = 'NEW', symbol_fold = 'new' WHERE asset_id = %s", [USDC])
        assert here.ask(*asset(USDC)).asset.symbol == "NEW"
        outside.close()


# --- values that are none ------------------------------------------------------------------------------------------------


def _value(redis_server: RedisServer, key: str, here: Server, change: Callable[[bytes, Server], bytes]) -> None:
    value = redis_server.client.get(key)
    assert isinstance(value, bytes)
    redis_server.client.set(key, change(value, here))


SPOILT: dict[str, Callable[[bytes, Server], bytes]] = {
    "empty": lambda _value, _here: b"",
    "text": lambda _value, _here: b"not a value of ours at all, and longer than a prefix",
    "all ones": lambda _value, _here: b"\xff" * 100,
    "a tombstone": lambda value, _here: value[:24],
    "cut": lambda value, _here: value[:-5],
    "cut in the prefix": lambda value, _here: value[:20],
    "longer": lambda value, _here: value + b"\x00",
    "of another log": lambda value, _here: uuid.uuid4().bytes + value[16:],
    "of another kind of body": lambda value, _here: value[:24] + msgspec.msgpack.encode(["a", 1]),
    "with a reply that is none": lambda value, _here: (
        value[:24] + msgspec.msgpack.encode([time.time() + 5, 1000.0, [], b"\xff\xff\xff"])
    ),
    "huge": lambda value, _here: value + bytes(32 << 20),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_a_value_that_is_none_is_a_miss_and_replaced(
    here: Server, redis_server: RedisServer, spoil: Callable[[bytes, Server], bytes]
) -> None:
    """Whatever somebody has put under our keys: the answers are the registry's, and good values take its place."""
    questions = [question for question, _, _ in KEYS]
    before = [answer.content for answer in here.answers(questions)]
    for _, key, _ in KEYS:
        stored(redis_server, key)
        _value(redis_server, key, here, spoil)
    hits = here.hits()
    for question, content in zip(questions, before, strict=True):
        assert told(here.ask_all([question])[0]).content == content
    assert here.hits() == hits
    until(lambda: _all_hits(here, questions), "good values do not come back")
    assert [answer.content for answer in here.answers(questions)] == before
    assert here.cache.outcomes["refused"] == 0


def _all_hits(server: Server, questions: list[Question]) -> bool:
    hits = server.hits()
    server.answers(questions)
    return server.hits() == hits + len(questions)


def test_a_key_of_another_type_is_a_miss_and_replaced(here: Server, redis_server: RedisServer) -> None:
    """A list under our key neither fails a call nor keeps Redis from being used."""
    for _, key, _ in KEYS:
        redis_server.client.rpush(key, "of somebody else")
    questions = [question for question, _, _ in KEYS]
    assert all(answer.position is not None for answer in here.answers(questions))
    until(lambda: _all_hits(here, questions), "good values do not come back")
    assert here.cache.outcomes["error"] == 0


# --- bounds --------------------------------------------------------------------------------------------------------------


def test_what_a_server_knows_of_its_keys_is_bounded(
    here: Server, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten key gets no tombstone, and is not believed all the same."""
    monkeypatch.setattr("cqar.server.cache.PUT", 2)
    cache: Cache = here.cache
    for question, key, _ in KEYS:
        here.ask(*question)
        stored(redis_server, key)
    assert len(cache._known) == 2
    assert set(cache._by_topic) == {topic for topics in cache._known.values() for topic in topics}
    here.tell(usdc("NEW"))
    assert redis_server.client.get(f"asset:id:{USDC}") is not None
    assert here.ask(*asset(USDC)).asset.symbol == "NEW"


def test_writes_that_redis_does_not_keep_up_with_are_dropped(
    here: Server, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full queue costs hits and nothing else."""
    here.ask(*asset(USDC))
    stored(redis_server, f"asset:id:{USDC}")
    with here.cache._queue.mutex:
        here.cache._queue.maxsize = 1
    redis_server.signal(signal.SIGSTOP)
    try:
        for name in ("A", "B", "C", "D", "E"):
            here.tell(usdc(name))
            assert here.ask(*asset(USDC)).asset.symbol == name
    finally:
        redis_server.signal(signal.SIGCONT)
    until(lambda: here.cache.trouble is None, "Redis is not used again")
    assert here.ask(*asset(USDC)).asset.symbol == "E"
