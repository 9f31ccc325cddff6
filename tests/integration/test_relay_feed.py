"""The feed at a broker, as the server publishes it: one unbroken history, with the marks that a follower proves it by."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cqar.broker import AFTER, CALL, FEED_STREAM, HEARTBEATS, LOG, PART, SESSION, UPTO, mark, marked
from cqar.client._feed import frame_from_wire
from cqar.errors import InvalidError
from cqar.model import Asset, AssetType, Batch, FeedToken
from cqar.server.config import Config
from cqar.server.server import running_server
from cqar.server.store import START, Store
from cqar.v1.replication_pb2 import WatchChangesResponse
from tests.brokers import NatsServer, Stored
from tests.caching import until
from tests.integration.test_events import write


@pytest.fixture
def settings(migrated_url: str, tmp_path: Path, nats_server: NatsServer) -> dict[str, Any]:
    """The settings of a server that publishes its feed."""
    return {
        "listen": "127.0.0.1:0",
        "database": migrated_url,
        "data_dir": tmp_path,
        "feed": nats_server.url,
        "snapshot_interval": 0,
        "poll_interval": 0.02,
        "heartbeat_interval": 0.2,
    }


def whole(stored: list[Stored]) -> Iterator[tuple[FeedToken, list[Batch], FeedToken]]:
    """Put the messages of a stream together; give each with where it goes on from and where it leads."""
    data = b""
    for each in stored:
        number, _, of = each.headers[PART].partition("/")
        data = each.data if number == "1" else data + each.data
        if number != of:
            continue
        log_id = each.headers[LOG]
        batches = [frame_from_wire(batch).batch for batch in WatchChangesResponse.FromString(data).batches]
        yield marked(log_id, each.headers[AFTER]), batches, marked(log_id, each.headers[UPTO])


def until_level(server: NatsServer, store: Store) -> list[tuple[FeedToken, list[Batch], FeedToken]]:
    """Wait until the stream ends at the head, and see that its messages follow each other; give them."""
    head = store.head()

    def level() -> bool:
        stored = server.streamed(FEED_STREAM)
        last = stored[-1].headers if stored else {}
        return (last.get(LOG), last.get(UPTO)) == (head.log_id, mark(head))

    until(level, "the stream is level")
    found = list(whole(server.streamed(FEED_STREAM)))
    for (_, batches, end), (start, _, _) in itertools.pairwise(found):
        assert start == end == FeedToken(log_id=head.log_id, position=batches[-1].position, chain=batches[-1].chain)
    return found


def batches(found: list[tuple[FeedToken, list[Batch], FeedToken]]) -> list[Batch]:
    """Give all batches, in order."""
    return [batch for _, some, _ in found for batch in some]


def test_the_stream_is_the_log(settings: dict[str, Any], store: Store, nats_server: NatsServer) -> None:
    """Every batch is there once, as the log has it, from the start; a server that comes later goes on at its end."""
    write(store, 3)
    for _ in range(2):
        with running_server(Config(**settings)):
            until_level(nats_server, store)
            write(store, 3, each=2)
            found = until_level(nats_server, store)
    assert found[0][0] == FeedToken(log_id=store.head().log_id, position=0, chain=START)
    assert batches(found) == store.batches(0, 10_000)


def test_a_message_that_is_too_large_comes_in_parts(
    settings: dict[str, Any], store: Store, nats_server: NatsServer
) -> None:
    """What NATS would refuse is cut up, and is the same when it is put together."""
    with store.transaction(actor="me") as tx:
        for number in range(3_000):
            tx.put(Asset(symbol=f"A{number}", name="A", asset_type=AssetType.TOKEN, description="x" * 1_000))
    with running_server(Config(**settings)):
        found = until_level(nats_server, store)
    assert len(nats_server.streamed(FEED_STREAM)) > 1
    assert batches(found) == store.batches(0, 10_000)


def test_a_stream_of_another_history_is_begun_anew(
    settings: dict[str, Any], store: Store, migrated_url: str, nats_server: NatsServer
) -> None:
    """After a restore, with the log's name or under a new one, nothing of the past is left in the stream."""
    write(store, 5)
    with running_server(Config(**settings)):
        until_level(nats_server, store)
    for statement in (
        "UPDATE clock SET log_id = gen_random_uuid()",
        # As if others had been written from the third on.
        """UPDATE batches SET chain = sha256(chain) WHERE position >= 3;
        UPDATE clock SET chain = (SELECT chain FROM batches WHERE position = clock.position)""",
    ):
        with psycopg.connect(migrated_url, autocommit=True) as connection:
            connection.execute(statement.encode())
        with running_server(Config(**settings)):
            assert batches(until_level(nats_server, store)) == store.batches(0, 10_000)


def test_a_stream_that_ends_before_the_log_begins_is_begun_anew(
    settings: dict[str, Any], store: Store, nats_server: NatsServer
) -> None:
    """A stream that was left for so long that what follows was trimmed does not go on with a gap."""
    write(store, 5)
    with running_server(Config(**settings)):
        until_level(nats_server, store)
    write(store, 10)
    store.trim(9, datetime.now(UTC) + timedelta(days=1))
    with running_server(Config(**settings)):
        found = until_level(nats_server, store)
    assert [batch.position for batch in batches(found)] == list(range(10, 16))


def test_a_new_stream_begins_where_a_snapshot_would_not_be_quicker(
    settings: dict[str, Any], store: Store, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long log is not published from its start."""
    monkeypatch.setattr("cqar.server.relay_feed._BACK", 3)
    write(store, 10)
    with running_server(Config(**settings)):
        found = until_level(nats_server, store)
    assert [batch.position for batch in batches(found)] == [8, 9, 10]


def test_heartbeats_can_be_timed(settings: dict[str, Any], store: Store, nats_server: NatsServer) -> None:
    """The publisher tells how long its session lasts; so a follower has a bound for when the head was told."""
    write(store, 2)
    with running_server(Config(**settings)):
        until_level(nats_server, store)

        async def hear(nats: Any) -> list[tuple[float, float, int]]:
            subscription = await nats.subscribe(HEARTBEATS)
            heard = []
            for _ in range(3):
                message = await subscription.next_msg(timeout=5)
                assert message.headers[LOG] == store.head().log_id
                asked = time.monotonic()
                answer = await nats.request(f"{CALL}.{message.headers[SESSION]}", b"", timeout=5)
                began = asked - float(answer.data) / 1000
                beat = WatchChangesResponse.FromString(message.data).heartbeat
                heard.append((began, began + beat.as_of_ms / 1000, beat.head_position))
            return heard

        started = time.monotonic()
        heard = nats_server.do(hear)
        ended = time.monotonic()
    assert [head for _, _, head in heard] == [2, 2, 2]
    began = [each for each, _, _ in heard]
    assert max(began) - min(began) < 0.5  # each is a bound of the same moment
    times = [as_of for _, as_of, _ in heard]
    assert times == sorted(times)
    assert started - 1 < times[0] <= times[-1] <= ended


def test_marks_that_are_none_are_refused() -> None:
    """Whatever stands in a header, it is a token or an error."""
    token = FeedToken(log_id="l", position=7, chain=bytes(range(16)))
    assert marked("l", mark(token)) == token
    for text in ("", "7", "x:00", "7:zz", "７:00", ":"):
        with pytest.raises(InvalidError):
            marked("l", text)
