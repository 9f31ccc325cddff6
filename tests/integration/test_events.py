"""Events at a broker: what the change log says, all of it, once, in its order, whatever happens to whom."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from cqar import broker
from cqar.errors import InvalidError, UnavailableError
from cqar.events import NAMES, RESOLVED, TYPES
from cqar.model import ASSET, Asset, AssetType, FlagType, QualityFlag, Severity
from cqar.server import nats_stream, redis_stream
from cqar.server.changes import Feed
from cqar.server.config import Config
from cqar.server.export import Exporter
from cqar.server.relay import Last, Message, Relay, Stream
from cqar.server.relay_events import EventRelay
from cqar.server.server import ServerThread, running_server
from cqar.server.status import Level
from cqar.server.store import Store
from tests.brokers import Broker, NatsServer, RedisBroker, committed, told
from tests.caching import until


def publishing(url: str, folder: Path, place: str, **settings: Any) -> contextlib.AbstractContextManager[ServerThread]:
    """Run a server that publishes its events."""
    usual = {"snapshot_interval": 0, "poll_interval": 0.02, "heartbeat_interval": 0.5, "workers": 4}
    return running_server(
        Config(listen="127.0.0.1:0", database=url, data_dir=folder, events=place, **{**usual, **settings})
    )


def write(store: Store, count: int = 1, *, each: int = 1, actor: str = "me") -> list[str]:
    """Create assets, so many in each of so many transactions; give their ids."""
    made = []
    for _ in range(count):
        with store.transaction(actor=actor) as tx:
            made += [
                tx.put(Asset(symbol=f"T{number}", name="Token", asset_type=AssetType.TOKEN)).asset_id
                for number in range(each)
            ]
    return made


def until_published(server: Broker, url: str) -> None:
    """Wait until everything that was committed is published, and see that it is just that, in its order."""
    wanted = committed(url)
    until(lambda: len(server.events()) >= len(wanted), "all is published")
    assert told(server.events()) == wanted


def test_every_kind_of_change_has_its_event() -> None:
    """There is a message for everything that can happen to a record of any kind, and one more for cleared flags."""
    assert TYPES.keys() == {name for names in NAMES.values() for name in names} | {RESOLVED}


def test_events_tell_what_the_log_says(broker_server: Broker, store: Store, migrated_url: str, tmp_path: Path) -> None:
    """Made, changed, flagged, cleared and removed: each with who did it, when, what it is now and what it was before."""
    with publishing(migrated_url, tmp_path, broker_server.url):
        with store.transaction(actor="maker", request_id="r-1", method="m") as tx:
            asset = tx.put(Asset(symbol="USDC", name="USD Coin", asset_type=AssetType.STABLECOIN))
            flag = tx.put(
                QualityFlag(
                    asset_id=asset.asset_id, flag_type=FlagType.SCAM, severity=Severity.LOW, source="s", reason="r"
                )
            )
        with store.transaction(actor="changer") as tx:
            tx.put(Asset(asset_id=asset.asset_id, symbol="USDC", name="Dollar", asset_type=AssetType.STABLECOIN))
            worse = tx.put(_with(flag, severity=Severity.HIGH))
        with store.transaction(actor="clearer") as tx:
            tx.put(_with(worse, cleared_at=datetime.now(UTC), cleared_by="clearer", clear_reason="fine"))
        with store.transaction(actor="remover") as tx:
            found = tx.get(ASSET, asset.asset_id)
            assert found is not None
            tx.remove(found)
        until_published(broker_server, migrated_url)
    events = broker_server.events()
    assert [(each.type, each.actor, each.position, each.index) for each in events] == [
        ("AssetCreated", "maker", 1, 0),
        ("QualityFlagSet", "maker", 1, 1),
        ("AssetUpdated", "changer", 2, 0),
        ("QualityFlagChanged", "changer", 2, 1),
        ("QualityFlagResolved", "clearer", 3, 0),
        ("AssetDeleted", "remover", 4, 0),
    ]
    created, raised, updated, _, resolved, deleted = events
    assert created.record == asset
    assert (created.before, created.request_id, updated.request_id) == (None, "r-1", None)
    assert raised.record == flag
    assert updated.before == asset
    assert isinstance(updated.record, Asset)
    assert updated.record.name == "Dollar"
    assert deleted.record == updated.record
    assert resolved.before == worse
    assert asset.created_at is not None
    assert abs(created.time - asset.created_at) < timedelta(seconds=1)
    if isinstance(broker_server, NatsServer):
        subjects = [each.subject for each in broker_server.streamed(broker.EVENTS_STREAM)]
        assert subjects == [f"cqar.events.v1.{each.type}" for each in events]


def _with(flag: QualityFlag, **values: Any) -> QualityFlag:
    return msgspec.structs.replace(flag, **values)


def test_what_was_committed_before_is_published_too(
    broker_server: Broker, store: Store, migrated_url: str, tmp_path: Path
) -> None:
    """A broker that is new hears of the whole log; a server that comes later goes on where the last one stopped."""
    write(store, 3, each=400)  # more than is read at once
    with publishing(migrated_url, tmp_path, broker_server.url):
        until_published(broker_server, migrated_url)
    write(store, 5)
    with publishing(migrated_url, tmp_path, broker_server.url):
        until_published(broker_server, migrated_url)
        write(store, 5)
        until_published(broker_server, migrated_url)


def test_a_broker_that_dies_misses_nothing(
    broker_server: Broker, store: Store, migrated_url: str, tmp_path: Path
) -> None:
    """Killed and away it delays events and no writes; health says so, and that it is over."""
    with publishing(migrated_url, tmp_path, broker_server.url) as running:
        report = running.server.status.report
        write(store, 2)
        until_published(broker_server, migrated_url)
        broker_server.kill()
        began = time.monotonic()
        write(store, 20)
        assert time.monotonic() - began < 5
        until(lambda: report()["components"]["relay_events"]["status"] == Level.DEGRADED, "health tells")
        assert report()["ready"]
        assert "127.0.0.1" not in str(report())  # it is for anyone to read
        assert _figure(running, "cqar_relay_failures_total") >= 1
        broker_server.start()
        until_published(broker_server, migrated_url)
        until(lambda: report()["components"]["relay_events"]["status"] == Level.OK, "health tells")
        until(lambda: _figure(running, "cqar_relay_position") == 22, "the position is that of the last event")
        assert _figure(running, "cqar_relay_lag_batches") == 0
        assert _figure(running, "cqar_relay_leading") == 1


def _figure(running: ServerThread, name: str) -> float:
    text = running.server.metrics.scrape()[0].decode()
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f'{name}{{relay="events"}}')]
    return float(values[0]) if values else -1.0


def test_a_broker_that_forgot_is_told_again(
    broker_server: Broker, store: Store, migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is lost is filled from the start of the log; one that was emptied goes on from the place that was noted."""
    monkeypatch.setattr("cqar.server.relay_events._CHECK", 0.2)
    write(store, 5)
    with publishing(migrated_url, tmp_path, broker_server.url):
        until_published(broker_server, migrated_url)
        broker_server.lose()
        until_published(broker_server, migrated_url)
    broker_server.empty()
    write(store, 3)
    with publishing(migrated_url, tmp_path, broker_server.url):
        until(lambda: len(broker_server.events()) >= 3, "the new ones are published")
        assert told(broker_server.events()) == committed(migrated_url)[5:]


def test_another_server_goes_on_when_the_one_that_publishes_ends(
    broker_server: Broker, store: Store, migrated_url: str, tmp_path: Path
) -> None:
    """Of two servers one publishes; when it stops the other one does."""
    with publishing(migrated_url, tmp_path / "a", broker_server.url) as first:
        until(lambda: _figure(first, "cqar_relay_leading") == 1, "it leads")
        with publishing(migrated_url, tmp_path / "b", broker_server.url) as second:
            write(store, 5)
            until_published(broker_server, migrated_url)
            assert _figure(second, "cqar_relay_leading") == 0
            assert _figure(second, "cqar_relay_position") == -1
            first.stop()
            write(store, 5)
            until_published(broker_server, migrated_url)
            assert _figure(second, "cqar_relay_leading") == 1


def test_a_restored_database_goes_on_under_its_new_name(
    broker_server: Broker, store: Store, migrated_url: str, tmp_path: Path
) -> None:
    """After a restore the log has another id, and what follows the noted place is published under it; nothing is taken for old."""
    write(store, 4)
    with publishing(migrated_url, tmp_path, broker_server.url):
        until_published(broker_server, migrated_url)
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("UPDATE clock SET log_id = gen_random_uuid()")
    before = broker_server.events()
    write(store, 4)
    with publishing(migrated_url, tmp_path, broker_server.url):
        until(lambda: len(broker_server.events()) >= 8, "the new ones are published")
        assert told(broker_server.events()) == told(before) + committed(migrated_url)[4:]


# --- one relay, closer -----------------------------------------------------------------------------------------------


class Cut(Stream):
    """A stream of which the connection is lost after so many messages, wherever that is."""

    def __init__(self, stream: Stream, left: list[int]) -> None:
        self._stream, self._left = stream, left
        self.empty = stream.empty

    async def last(self) -> Last | None:
        """Give the last message."""
        return await self._stream.last()

    async def check(self) -> None:
        """Look at the stream."""
        await self._stream.check()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Add messages, until it breaks."""
        if self._left and len(messages) > self._left[0]:
            await self._stream.publish(messages[: self._left.pop(0)])
            raise UnavailableError("the connection is lost")
        await self._stream.publish(messages)


def _opened(server: Broker, left: Sequence[int] = ()) -> Callable[[], contextlib.AbstractAsyncContextManager[Stream]]:
    remaining = list(left)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Stream]:
        whole: contextlib.AbstractAsyncContextManager[Stream] = (
            redis_stream.opened(server.url, "redis", days=1)
            if isinstance(server, RedisBroker)
            else nats_stream.opened(
                broker.address(server.url, "events"),
                broker.EVENTS_STREAM,
                [f"{broker.EVENTS}.>"],
                replicas=1,
                days=1,
            )
        )
        async with whole as stream:
            yield Cut(stream, remaining)

    return opened


async def _run(store: Store, relays: Callable[[Feed], Sequence[Relay]], done: Callable[[], bool]) -> None:
    """Run relays until something is so."""
    feed = Feed(store, poll_interval=0.02, heartbeat_interval=1)
    await feed.start()
    running = relays(feed)
    for relay in running:
        relay.start()
    try:
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(done):  # noqa: ASYNC110 - servers are asked, which tell nothing by themselves
                await asyncio.sleep(0.02)
    finally:
        for relay in running:
            await relay.stop()
        await feed.stop()


def test_a_connection_that_is_lost_in_the_middle_of_a_transaction(
    broker_server: Broker, store: Store, migrated_url: str
) -> None:
    """Wherever publishing breaks off, it goes on with the very next event."""
    write(store, 4, each=7)
    wanted = committed(migrated_url)
    cuts = [1, 3, 7, 8, 5]
    asyncio.run(
        _run(
            store,
            lambda feed: [EventRelay(store, feed, _opened(broker_server, cuts))],
            lambda: len(broker_server.events()) >= len(wanted),
        )
    )
    assert told(broker_server.events()) == wanted


def test_two_that_believe_to_lead_do_no_harm(
    broker_server: Broker, store: Store, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that was cut off and does not know it is refused by the stream: nothing comes twice, nothing out of order."""
    monkeypatch.setattr("cqar.server.leader.Leader.leads", lambda _self: True)
    writing = threading.Thread(target=write, args=(store, 300))
    writing.start()

    def done() -> bool:
        return not writing.is_alive() and len(broker_server.events()) >= 300

    def relays(feed: Feed) -> list[Relay]:
        return [EventRelay(store, feed, _opened(broker_server)) for _ in range(2)]

    asyncio.run(_run(store, relays, done))
    assert told(broker_server.events()) == committed(migrated_url)


def test_a_broker_that_was_away_for_ten_minutes_catches_up(
    broker_server: Broker, store: Store, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was away, by a clock that runs fast: no try is given up, and then everything comes in its order."""
    passed = 0.0
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds
        await real(0 if passed < 600 else min(seconds, 0.01))

    monkeypatch.setattr("cqar.server.relay.asyncio.sleep", sleep)
    broker_server.kill()
    back = threading.Event()

    def done() -> bool:
        if passed < 600:
            write(store)
            return False
        if not back.is_set():
            back.set()
            broker_server.start()
        return len(broker_server.events()) >= len(committed(migrated_url))

    asyncio.run(_run(store, lambda feed: [EventRelay(store, feed, _opened(broker_server))], done))
    assert told(broker_server.events()) == committed(migrated_url)


def test_the_log_is_kept_for_what_is_not_published(store: Store, migrated_url: str, tmp_path: Path) -> None:
    """However old it is, a relay that has yet to publish it will find it, until somebody says that none will."""
    long_ago = datetime.now(UTC) - timedelta(days=90)
    old = Store(migrated_url, now=lambda: long_ago)
    write(old, 10)
    store.note_relayed("events", 4)
    exporter = Exporter(store, tmp_path, interval=1, keep=1, log_keep=1)
    exporter._export()
    exporter._export()
    assert store.oldest() == 5
    store.forget_relay("events")
    write(store)
    exporter._export()
    exporter._export()
    assert store.oldest() == 10  # what follows the oldest snapshot
    old.close()
    asyncio.run(exporter.stop())


def test_a_log_that_lost_its_start_is_published_from_what_it_has(
    nats_server: NatsServer, store: Store, migrated_url: str, tmp_path: Path
) -> None:
    """What was trimmed before there was a broker cannot be told; the rest is."""
    write(store, 10)
    store.trim(6, datetime.now(UTC) + timedelta(days=1))
    with publishing(migrated_url, tmp_path, nats_server.url):
        until_published(nats_server, migrated_url)
    assert [event.position for event in nats_server.events()] == [6, 7, 8, 9, 10]


def test_a_stream_with_other_subjects_is_refused(
    nats_server: NatsServer, migrated_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream that an operator made for something else is not published to; the log says which subjects it lacks."""
    nats_server.do(lambda nats: nats.jetstream().add_stream(name=broker.EVENTS_STREAM, subjects=["something.else"]))
    with caplog.at_level(logging.WARNING), publishing(migrated_url, tmp_path, nats_server.url):
        until(lambda: "does not take cqar.events.v1.>" in caplog.text, "it is said")


@pytest.mark.parametrize(
    ("setting", "value", "what"),
    [
        ("events", "kafka://x", "kafka://x is not an address"),
        ("feed", "redis://x", "redis://x is not an address"),
        ("events", "nats://me:secret@host:4222?oops=1", "host:4222 has oops behind"),
        ("events", "redis://host?socket_timeout=9", "only db and ssl_... can be given"),
    ],
)
def test_a_wrong_address_is_told_at_the_start(setting: str, value: str, what: str, tmp_path: Path) -> None:
    """What is no address of a broker is refused, in one line that names it without its password."""
    settings: dict[str, Any] = {"listen": "127.0.0.1:0", "data_dir": tmp_path, setting: value}
    with pytest.raises(InvalidError) as caught, running_server(Config(**settings)):
        pass
    assert what in caught.value.message
    assert "secret" not in caught.value.message


def test_passwords_of_brokers_are_not_shown() -> None:
    """The settings show where a broker is, and not the password."""
    config = Config(events="nats://me:secret@a:4222,nats://me:secret@b:4222", feed="tls://me:secret@c:4222?creds=/x")
    assert "secret" not in str(config)
    assert "nats://a:4222,nats://b:4222" in str(config)
    assert "secret" not in str(Config(events="redis://me:secret@host/0"))
