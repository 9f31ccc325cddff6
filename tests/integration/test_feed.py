"""The feed over real gRPC and real PostgreSQL: every batch, in order, once, from any token that the log can go on from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import msgspec
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from cqar import wire
from cqar.errors import CqarError, InternalError, InvalidError, LimitError, PositionExpiredError, UnavailableError
from cqar.model import Asset, AssetType, Chain, FeedToken
from cqar.server.changes import Feed
from cqar.server.config import Config
from cqar.server.edge import ErrorInterceptor
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.replication import Replication, add_replication
from cqar.server.ring import Limits
from cqar.server.server import ServerThread, running_server
from cqar.server.store import Store
from cqar.v1 import replication_pb2 as pb
from cqar.v1.registry_pb2 import CreateChainRequest
from cqar.v1.registry_pb2_grpc import AssetRegistryStub
from cqar.v1.replication_pb2_grpc import ReplicationStub

PATIENCE = 20.0
START = bytes(16)


@pytest.fixture
def server(migrated_url: str, open_folder: Path) -> Iterator[ServerThread]:
    """Run a server on the store's database; commits of the store wake no feed of it. Heartbeats are quick."""
    config = Config(
        listen="127.0.0.1:0",
        database=migrated_url,
        data_dir=open_folder,
        snapshot_interval=0,
        poll_interval=0.05,
        heartbeat_interval=0.2,
    )
    with running_server(config) as thread:
        yield thread


@pytest.fixture
def stub(server: ServerThread) -> Iterator[Any]:
    """Yield a plain gRPC client of the server."""
    with grpc.insecure_channel(server.target, [("grpc.max_receive_message_length", 64 << 20)]) as channel:
        yield replication(channel)


@pytest.fixture
def registry(server: ServerThread) -> Iterator[Any]:
    """Yield a client of the server's registry: commits through it wake the feed."""
    with grpc.insecure_channel(server.target) as channel:
        yield AssetRegistryStub(channel)  # type: ignore[no-untyped-call]


def replication(channel: grpc.Channel) -> Any:
    """Give a plain client of the service."""
    return ReplicationStub(channel)  # type: ignore[no-untyped-call]


def write(store: Store, name: str) -> int:
    """Commit one change; give its position."""
    with store.transaction(actor="test") as tx:
        tx.put(Chain(chain_id=name, name=name, namespace="test"))
    return tx.position


def write_many(store: Store, count: int, *, text: str = "") -> int:
    """Commit many changes in one batch; give its position."""
    with store.transaction(actor="test") as tx:
        for number in range(count):
            tx.put(Asset(symbol=f"S{number}", name="Many", asset_type=AssetType.TOKEN, description=text or None))
    return tx.position


def watch(stub: Any, after: FeedToken) -> Any:
    """Open the feed."""
    return stub.WatchChanges(pb.WatchChangesRequest(after=wire.token_to_wire(after)), timeout=PATIENCE)


def batches_until(call: Any, position: int) -> list[Any]:
    """Take batches from an open feed until one has the position."""
    taken: list[Any] = []
    for reply in call:
        taken += reply.batches
        if taken and taken[-1].position >= position:
            return taken
    raise AssertionError("the feed ended")


def error_of(call: Any) -> CqarError:
    """Give the error that an open feed ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call:
            pass
    status: Any = caught.value
    return wire.error_from_status(status.code(), status.details(), status.trailing_metadata())


def execute(migrated_url: str, statement: str) -> None:
    """Change the database behind the server's back."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute(statement.encode())


def start_of(store: Store) -> FeedToken:
    """Give the token before the first batch."""
    return FeedToken(log_id=store.head().log_id, position=0, chain=START)


@contextmanager
def writers(target: Callable[[str], object], *, count: int, each: int) -> Iterator[None]:
    """Run writers beside the block; their errors are raised at its end."""
    with ThreadPoolExecutor(count) as pool:
        running = [
            pool.submit(lambda worker: [target(f"w{worker}-{number}") for number in range(each)], worker)
            for worker in range(count)
        ]
        yield
        for future in running:
            future.result()


@pytest.mark.parametrize("woken", [True, False], ids=["wake-ups", "poll only"])
def test_every_batch_arrives_in_order_under_concurrent_writers(
    stub: Any, registry: Any, store: Store, woken: bool
) -> None:
    """Eight writers lose no batch and reorder none, whether commits wake the feed or only the poll finds them."""

    def create(name: str) -> None:
        chain = Chain(chain_id=name, name=name, namespace="test")
        registry.CreateChain(CreateChainRequest(chain=wire.record_to_wire(chain)), timeout=PATIENCE)

    with writers(create if woken else partial(write, store), count=8, each=50):
        taken = batches_until(watch(stub, start_of(store)), 400)
    assert [batch.position for batch in taken] == list(range(1, 401))
    assert len({change.key for batch in taken for change in batch.changes}) == 400
    assert taken[-1].chain == store.head().chain


def test_a_feed_resumes_right_after_its_token(stub: Any, store: Store) -> None:
    """A follower that reconnects with the chain of the last batch it has gets the next one first."""
    for number in range(6):
        write(store, f"c{number}")
    first = batches_until(watch(stub, start_of(store)), 6)[2]
    token = FeedToken(log_id=store.head().log_id, position=first.position, chain=first.chain)
    assert [batch.position for batch in batches_until(watch(stub, token), 6)] == [4, 5, 6]


def test_two_followers_see_the_same(stub: Any, store: Store) -> None:
    """Streams are independent: both get everything, byte for byte."""
    one, two = watch(stub, start_of(store)), watch(stub, start_of(store))
    for number in range(20):
        write(store, f"c{number}")
    assert batches_until(one, 20) == batches_until(two, 20)


def test_a_follower_knows_at_once_that_it_is_current(stub: Any, store: Store) -> None:
    """The first message is a heartbeat with the head, and more come while nothing happens."""
    write(store, "c")
    call = watch(stub, store.head())
    beats = [next(call) for _ in range(3)]
    assert [beat.heartbeat.head_position for beat in beats] == [1, 1, 1]
    assert not any(beat.batches for beat in beats)


def test_every_message_with_batches_tells_the_head(stub: Any, store: Store) -> None:
    """A follower that catches up can see how far it still has to go."""
    for number in range(3):
        write(store, f"c{number}")
    for reply in watch(stub, start_of(store)):
        assert reply.HasField("heartbeat")
        if reply.batches:
            assert reply.heartbeat.head_position >= reply.batches[-1].position
            break


def test_messages_are_bounded_and_batches_stay_whole(stub: Any, store: Store) -> None:
    """A batch beyond gRPC's default limit of 4 MiB travels as one message; small ones share messages of 500 changes."""
    large = write_many(store, 1_000, text="x" * 6_000)
    for number in range(600):
        write(store, f"c{number}")
    sizes = []
    for reply in watch(stub, start_of(store)):
        sizes.append([len(batch.changes) for batch in reply.batches])
        if reply.batches and reply.batches[-1].position == large + 600:
            break
    assert [1_000] in sizes
    assert all(sum(size) <= 500 for size in sizes if size != [1_000])
    assert sum(map(sum, sizes)) == 1_600


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"log_id": "00000000-0000-4000-8000-000000000000"}, "LOG_MISMATCH"),
        ({"position": 9}, "LOG_MISMATCH"),
        ({"chain": bytes(range(16))}, "LOG_MISMATCH"),
        ({"position": 2}, "LOG_MISMATCH"),
    ],
    ids=["another log", "ahead", "another history", "chain of another position"],
)
def test_a_token_that_is_not_of_this_history_is_refused(
    stub: Any, store: Store, change: dict[str, Any], reason: str
) -> None:
    """A follower of another database, or ahead of a restored one, is told to reload, never mixed in silently."""
    for number in range(3):
        write(store, f"c{number}")
    error = error_of(watch(stub, msgspec.structs.replace(store.head(), **change)))
    assert isinstance(error, PositionExpiredError)
    assert error.reason == reason


def test_a_token_without_a_position_is_refused(stub: Any, store: Store) -> None:
    """It is no place in any history: the caller is told, and need not load a snapshot."""
    error = error_of(watch(stub, msgspec.structs.replace(store.head(), position=-1)))
    assert isinstance(error, InvalidError)


def test_a_token_is_required(stub: Any) -> None:
    """Where to begin is never guessed."""
    error = error_of(stub.WatchChanges(pb.WatchChangesRequest(), timeout=PATIENCE))
    assert isinstance(error, InvalidError)
    assert error.field == "after"


@pytest.mark.parametrize("after", [0, 1], ids=["from the start", "from a trimmed position"])
def test_a_trimmed_log_tells_the_follower_to_reload(stub: Any, store: Store, migrated_url: str, after: int) -> None:
    """A follower behind what the log still holds gets POSITION_EXPIRED, at once."""
    for number in range(4):
        write(store, f"c{number}")
    first = batches_until(watch(stub, start_of(store)), 1)[0]
    execute(migrated_url, "DELETE FROM changes WHERE position <= 2; DELETE FROM batches WHERE position <= 2")
    token = start_of(store) if after == 0 else FeedToken(log_id=store.head().log_id, position=1, chain=first.chain)
    follower = running_feed(store, lambda feed: first_batch(feed, token))
    with pytest.raises(PositionExpiredError) as caught:
        asyncio.run(follower)
    assert caught.value.reason == "POSITION_EXPIRED"


def test_a_log_that_was_trimmed_to_its_head_expires_the_start(store: Store, migrated_url: str) -> None:
    """A follower at the start of an empty log with a later head is not left waiting for ever."""
    write(store, "c")
    execute(migrated_url, "DELETE FROM changes; DELETE FROM batches")
    with pytest.raises(PositionExpiredError):
        asyncio.run(running_feed(store, lambda feed: first_batch(feed, start_of(store))))


def test_a_gap_in_the_log_is_never_passed_on(store: Store, migrated_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A missing batch is a defect: INTERNAL and a line in the log, and no batch behind it."""
    for number in range(4):
        write(store, f"c{number}")
    execute(migrated_url, "DELETE FROM batches WHERE position = 3")

    async def second_message(feed: Feed) -> None:
        token = FeedToken(log_id=store.head().log_id, position=2, chain=store.chain_at(2) or b"")
        async for message in feed.watch(token):
            assert not pb.WatchChangesResponse.FromString(message).batches

    with pytest.raises(InternalError) as caught:
        asyncio.run(running_feed(store, second_message))
    assert caught.value.reason == "LOG_GAP"
    assert "position 3 is missing" in caplog.text


def test_a_restored_database_ends_the_feeds_of_connected_followers(stub: Any, store: Store, migrated_url: str) -> None:
    """When the head goes back under a running server, its followers are told that the history is another one."""
    for number in range(3):
        write(store, f"c{number}")
    call = watch(stub, store.head())
    assert next(call).heartbeat.head_position == 3
    execute(
        migrated_url,
        "UPDATE clock SET position = 2, chain = (SELECT chain FROM batches WHERE position = 2);"
        "DELETE FROM changes WHERE position = 3; DELETE FROM batches WHERE position = 3",
    )
    error = error_of(call)
    assert isinstance(error, PositionExpiredError)
    assert error.reason == "LOG_MISMATCH"
    assert next(watch(stub, store.head())).heartbeat.head_position == 2


def test_a_database_outage_ends_the_feed_and_it_recovers(
    server: ServerThread, stub: Any, store: Store, migrated_url: str, postgres: EmbeddedPostgres
) -> None:
    """Without the database the feed says UNAVAILABLE, never a state; afterwards it goes on from the token."""
    write(store, "before")
    token = store.head()
    call = watch(stub, token)
    next(call)
    with unreachable(postgres, migrated_url):
        assert isinstance(error_of(call), UnavailableError)
        assert isinstance(error_of(watch(stub, token)), UnavailableError)
    position = write(store, "after")
    call = first_open(lambda: watch(stub, token))
    assert [batch.position for batch in batches_until(call, position)] == [position]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(ring_batches=3, message_changes=7),
        Limits(ring_bytes=300, message_changes=7),
        Limits(ring_bytes=1, message_bytes=1),
    ],
    ids=["few batches", "few bytes", "nothing"],
)
def test_a_follower_behind_the_ring_reads_the_log(store: Store, limits: Limits) -> None:
    """What the ring no longer holds comes from the database, without a gap or a repeat at the seam."""
    for number in range(50):
        write(store, f"c{number}")

    async def all_positions(feed: Feed) -> list[int]:
        positions: list[int] = []
        async for message in feed.watch(start_of(store)):
            news = [batch.position for batch in pb.WatchChangesResponse.FromString(message).batches]
            positions += news
            if news and len(positions) in {7, 14, 21}:  # a heartbeat brings none
                await asyncio.to_thread(write, store, f"more{len(positions)}")
            if len(positions) >= 53:
                break
        return positions

    assert asyncio.run(running_feed(store, all_positions, limits=limits)) == list(range(1, 54))


def test_a_frozen_database_gets_no_heartbeat(store: Store, migrated_url: str) -> None:
    """While a read hangs nobody is told that he is current; then the feed ends, and it recovers with the database."""

    async def use(feed: Feed) -> None:
        head = store.head()
        stream = feed.watch(head)
        await anext(stream)
        await anext(stream)  # the heartbeats run
        with psycopg.connect(migrated_url) as freezing:
            freezing.execute("LOCK TABLE clock")
            beats: list[bytes] = []
            with pytest.raises(UnavailableError, match="does not answer in time"):
                await take_all(stream, beats)
            assert len(beats) <= 1  # one read may have ended just before
            with pytest.raises(UnavailableError):
                await anext(feed.watch(head))
        while feed.trouble:  # noqa: ASYNC110 - the feed has no event for those who do not watch
            await asyncio.sleep(0.01)
        assert await anext(feed.watch(head))

    asyncio.run(running_feed(store, use, patience=0.3))


def test_a_slow_follower_is_cut_off_and_the_others_are_not(store: Store) -> None:
    """A follower that does not read gets RESOURCE_EXHAUSTED after the time to send; the feed goes on for the others."""

    async def serve(feed: Feed) -> CqarError:
        server = grpc.aio.server(interceptors=[ErrorInterceptor()])
        add_replication(server, Replication(store, feed, Path("/nowhere"), send_seconds=0.5))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return await asyncio.to_thread(read_late, f"127.0.0.1:{port}")
        finally:
            await server.stop(None)

    def read_late(target: str) -> CqarError:
        with grpc.insecure_channel(target, [("grpc.max_receive_message_length", 64 << 20)]) as channel:
            slow = watch(replication(channel), start_of(store))
            next(slow)
            for _ in range(10):
                write_many(store, 1_000, text="x" * 3_000)
            quick = watch(replication(channel), store.head())
            for _ in range(8):  # more heartbeats than the slow one has time
                assert next(quick).heartbeat.head_position == 10
            quick.cancel()
            return error_of(slow)

    error = asyncio.run(running_feed(store, serve))
    assert isinstance(error, LimitError)
    assert error.reason == "SLOW_CONSUMER"


def test_stopping_the_server_tells_followers_to_reconnect(server: ServerThread, stub: Any, store: Store) -> None:
    """A drain ends the feeds at once with UNAVAILABLE and a reason."""
    call = watch(stub, store.head())
    next(call)
    server.stop()
    error = error_of(call)
    assert isinstance(error, UnavailableError)
    assert error.reason == "SHUTDOWN"


def test_head_is_read_from_the_database(stub: Any, store: Store) -> None:
    """GetHead tells of a commit of another server at once."""
    write(store, "c")
    assert wire.token_from_wire(stub.GetHead(pb.GetHeadRequest(), timeout=PATIENCE).head) == store.head()


async def running_feed(store: Store, use: Callable[[Feed], Any], **settings: Any) -> Any:
    """Run a feed of its own while it is used."""
    feed = Feed(store, poll_interval=0.05, heartbeat_interval=0.2, **settings)
    await feed.start()
    try:
        async with asyncio.timeout(PATIENCE):
            return await use(feed)
    finally:
        await feed.stop()


async def take_all(stream: AsyncIterator[bytes], taken: list[bytes]) -> None:
    """Take messages until the feed ends."""
    async for message in stream:  # not extend: what came before an error shall be kept
        taken.append(message)  # noqa: PERF401


async def first_batch(feed: Feed, token: FeedToken) -> int:
    """Give the position of the first batch after a token."""
    async for message in feed.watch(token):
        for batch in pb.WatchChangesResponse.FromString(message).batches:
            return int(batch.position)
    raise AssertionError("the feed ended")


def first_open(open_feed: Callable[[], Any]) -> Any:
    """Open the feed as a follower does: again and again until the server has its database back."""
    deadline = threading.Event()
    for _ in range(200):
        call = open_feed()
        try:
            next(call)
        except grpc.RpcError:
            deadline.wait(0.05)
        else:
            return call
    raise AssertionError("the feed did not come back")


@contextmanager
def unreachable(postgres: EmbeddedPostgres, migrated_url: str) -> Iterator[None]:
    """Let nobody into the database and throw out who is in."""
    name = str(conninfo_to_dict(migrated_url)["dbname"])
    allow = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(allow.format(Identifier(name), SQL("false")))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(allow.format(Identifier(name), SQL("true")))
