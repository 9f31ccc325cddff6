"""Somebody who may write to the NATS adds garbage to the stream of the feed and to its heartbeats.

Before, one message that no server had written ended each follower, which began anew at the same place and met it again: all hosts
stayed stale for good. So did a heartbeat of another log, or one that told of a lower position. Now what is none of ours, or does
not lead on, is set aside and counted; only the server itself can say that its history is another; and where a batch was lost that
way a snapshot is asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cqar import broker
from cqar.client import _broker
from cqar.errors import PositionExpiredError
from tests.attacks.marks import attack
from tests.brokers import NatsServer
from tests.integration.test_broker_feed import Following, agree, away, nats, publisher
from tests.publisher import Publisher, batch, token

__all__ = ["nats", "publisher"]

pytestmark = attack("A12", by="who may write to the broker", promise="garbage at the broker stops no follower")


def garbage(made: Publisher) -> Iterator[Callable[[], Any]]:
    """Yield ways to add to the stream what no server has written."""
    chance = random.Random(12)
    yield lambda: made.litter(broker.BATCHES, b"")
    yield lambda: made.litter(broker.BATCHES, chance.randbytes(200))
    yield lambda: made.litter(broker.BATCHES, b"", **{broker.LOG: made.log_id})
    yield lambda: made.litter(
        broker.BATCHES,
        chance.randbytes(50),
        **{broker.LOG: made.log_id, broker.AFTER: broker.mark(token(3)), broker.UPTO: broker.mark(token(4))},
    )
    for headers in ({"after": "nonsense"}, {"upto": "9:xyz"}, {"log": "another"}, {"upto": f"4:{'ff' * 16}"}):
        yield lambda told=headers: made.publish(batch(4), **told)  # type: ignore[misc]
    yield lambda: made.publish(batch(4), batch(6))
    yield lambda: made.publish(batch(2))


@pytest.mark.parametrize("ask", [agree, away], ids=["with the server", "without the server"])
def test_garbage_in_the_stream_is_passed_over(nats: NatsServer, publisher: Publisher, ask: Any) -> None:
    """Whether it comes while a follower is there, or lies where the next one begins."""
    publisher.publish_all([1, 2, 3])
    with Following(nats, token(0), ask) as following:
        following.until(lambda it: it.positions == [1, 2, 3])
        for number, add in enumerate(garbage(publisher), start=1):
            add()
            following.until(lambda it, n=number: it.reader.set_aside >= n)  # type: ignore[misc]
        publisher.publish_all([4])
        following.until(lambda it: it.positions == [1, 2, 3, 4])
    for after in range(4):
        with Following(nats, token(after), ask) as following:
            following.until(lambda it, a=after: it.positions == list(range(a + 1, 5)))  # type: ignore[misc]


@pytest.mark.parametrize("ask", [agree, away], ids=["with the server", "without the server"])
def test_garbage_in_the_heartbeats_is_passed_over(nats: NatsServer, publisher: Publisher, ask: Any) -> None:
    """None, half a one, of another log, of a lower head, of a session that answers nonsense: the next true one counts."""
    publisher.publish_all([1, 2, 3])
    with Following(nats, token(0), ask) as following:
        following.until(lambda it: it.positions == [1, 2, 3])
        for data in (b"", b"\xff" * 30, b"\x0a\x05abc"):
            for headers in ({}, {broker.LOG: publisher.log_id}, {broker.LOG: publisher.log_id, broker.UPTO: "x"}):
                publisher.litter(broker.HEARTBEATS, data, **headers)
        publisher.beat(9, log_id="another")
        publisher.beat(1)
        publisher.beat(3, upto=token(3, "another"))
        told = len(following.told)
        publisher.beat(3)
        following.until(lambda it: len(it.told) > told and it.told[-1].head_position == 3)
        publisher.publish_all([4])
        following.until(lambda it: it.positions == [1, 2, 3, 4])
        assert following.reader.set_aside >= 5


def test_where_garbage_took_the_place_of_a_batch_a_snapshot_is_asked_for(
    nats: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream leads on no more, and the follower does not stay where it is."""
    monkeypatch.setattr(_broker, "STUCK", 3)
    monkeypatch.setattr(_broker, "TICK", 0.1)
    publisher.publish_all([1, 2, 3])
    with Following(nats, token(0), agree) as following:
        following.until(lambda it: it.positions == [1, 2, 3])
        publisher.litter(broker.BATCHES, b"instead of 4")
        publisher.beat(4)
        assert isinstance(following.end(), PositionExpiredError)


def test_a_heartbeat_proves_where_the_log_is(nats: NatsServer, publisher: Publisher) -> None:
    """An empty stream, a registry at rest and no server: a heartbeat that names the follower's mark makes the time count."""
    with Following(nats, token(4), away) as following:
        following.until(lambda it: it.reader._pulls)
        publisher.beat(4)
        following.nothing()
        publisher.beat(4, upto=token(4))
        following.until(lambda it: it.told)
        assert following.told[0].head_position == 4
