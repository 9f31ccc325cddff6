"""The feed from NATS, message by message: what a follower believes, what it refuses, and what it says of each trouble."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from cqar import broker
from cqar.client import _broker
from cqar.client._broker import Follower
from cqar.client._feed import Feed
from cqar.client._proof import Marks
from cqar.client._sync import Told
from cqar.client._view import now
from cqar.errors import CqarError, PositionExpiredError, UnavailableError
from cqar.model import FeedToken
from tests.brokers import NatsServer
from tests.conftest import temporary_folder
from tests.publisher import Publisher, batch, token


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    """Run one NATS for all tests that do not harm it."""
    with temporary_folder() as folder:
        server = NatsServer(folder)
        server.start()
        yield server
        server.kill()


@pytest.fixture
def publisher(nats: NatsServer) -> Iterator[Publisher]:
    """Yield a publisher with an empty stream."""
    with Publisher(nats.url) as made:
        made.make()
        yield made
        made.remove()


def away(_token: FeedToken) -> None:
    """Be a server that cannot be asked."""
    raise UnavailableError("the server is away")


def agree(_token: FeedToken) -> None:
    """Be a server that goes on from there."""


def refuse(asked: FeedToken) -> None:
    """Be a server of another history."""
    raise PositionExpiredError("another history", reason="LOG_MISMATCH", position=asked.position)


class Following:
    """A feed that is being followed, and all that it told."""

    def __init__(
        self,
        where: NatsServer,
        after: FeedToken,
        ask: Callable[[FeedToken], None] = away,
        head: Callable[[], FeedToken] | None = None,
    ) -> None:
        self.began = now()
        self.told: list[Told] = []
        self.reader = Follower(broker.address(where.url, "feed"), after, ask=ask, head=head)
        self._feed = Feed(self.reader)

    @property
    def positions(self) -> list[int]:
        """The positions that came."""
        return [frame.batch.position for told in self.told for frame in told.frames]

    def until(self, wanted: Callable[[Following], object], within: float = 10.0) -> None:
        """Listen until something is so; raises what ends the feed."""
        deadline = time.monotonic() + within
        while not wanted(self):
            assert time.monotonic() < deadline, f"in vain; {len(self.told)} messages: {self.told[-1:]}"
            if (told := self._feed.poll(0.05)) is not None:
                self.told.append(told)

    def nothing(self, seconds: float = 0.3) -> None:
        """Listen for a while; nothing may come."""
        assert self._feed.poll(seconds) is None

    def end(self, within: float = 10.0) -> CqarError:
        """Listen until the feed ends; give what ended it."""
        with pytest.raises(CqarError) as raised:
            self.until(lambda _: False, within)
        return raised.value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.cancel()


# --- batches ------------------------------------------------------------------------------------------------------------


def test_batches_come_in_order_and_once_with_a_time_that_is_never_too_young(
    nats: NatsServer, publisher: Publisher
) -> None:
    """What is there and what comes is told in order; heartbeats say at what time that was all there was."""
    publisher.publish_all([1, 2, 3])
    with Following(nats, token(1)) as following:
        following.until(lambda it: it.positions == [2, 3])
        publisher.publish(batch(4), batch(5))
        following.until(lambda it: it.positions == [2, 3, 4, 5])
        before = now()
        publisher.beat(5)
        following.until(lambda it: it.told[-1].as_of > before - 0.1)
        assert following.told[-1].head_position == 5
        assert all(told.as_of <= now() for told in following.told)
        publisher.beat(7)
        following.until(lambda it: it.told[-1].head_position == 7)
        publisher.publish(batch(6), beat=-1e9)
        following.until(lambda it: it.positions[-1] == 6)
        assert following.told[-1].head_position == 7
        publisher.publish(batch(7), beat=-1e9)  # with an old time: what was heard before still holds
        following.until(lambda it: it.positions[-1] == 7)
        assert following.told[-1].head_position == 7
        assert following.told[-1].as_of > before - 0.1


def test_every_token_finds_its_place_in_few_questions(
    nats: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of several batches, in parts, after an end that was lost: each position goes on with exactly what follows it."""
    position = 0
    for count, parts in [(1, 1), (3, 1), (2, 3), (1, 2), (5, 1)] * 5:
        publisher.publish(*[batch(position + number) for number in range(1, count + 1)], parts=parts)
        position += count
    publisher.purge(keep=30)
    asked = 0

    def counted(headers: dict[str, str]) -> Marks:
        nonlocal asked
        asked += 1
        return Marks(headers)

    expired = []
    for start in range(position + 1):
        with monkeypatch.context() as patch, Following(nats, token(start)) as following:
            asked = 0
            patch.setattr(_broker, "Marks", counted)
            try:
                following.until(lambda it: it.reader._pulls == 1 or it.told)
                questions = asked - following.reader._delivered
                following.until(lambda it: it.positions == list(range(start + 1, position + 1)))  # noqa: B023
            except PositionExpiredError:
                expired.append(start)
            else:
                assert questions <= 2 * math.log2(30) + 2
    assert expired == list(range(len(expired)))
    assert 0 < len(expired) < position


def test_a_series_whose_publisher_died_is_skipped_and_one_that_lost_its_beginning_is_not_guessed(
    nats: NatsServer, publisher: Publisher
) -> None:
    """A rest of parts is followed by a whole series that tells the same or more; parts without their first are nothing."""
    publisher.publish(batch(1))
    with Following(nats, token(0)) as following:
        publisher.publish(batch(2), parts=5, only=3)
        following.until(lambda it: it.positions == [1])
        following.nothing()
        publisher.publish(batch(2), batch(3), parts=4)
        publisher.publish(batch(4))
        following.until(lambda it: it.positions == [1, 2, 3, 4])
    for start in (1, 2, 3):
        with Following(nats, token(start)) as late:
            late.until(lambda it: it.positions == list(range(start + 1, 5)))  # noqa: B023
    publisher.purge(keep=3)  # parts 3 and 4, and the last message
    for start in (0, 1, 2):
        with Following(nats, token(start)) as late:
            assert late.end().reason == "POSITION_EXPIRED"
    with Following(nats, token(3)) as late:
        late.until(lambda it: it.positions == [4])


def test_more_than_one_message_takes_comes_in_parts(nats: NatsServer, publisher: Publisher) -> None:
    """A batch beyond NATS's max_payload arrives whole."""
    large = batch(1)
    large.changes.add(kind="asset", key="x" * (3 << 20))
    publisher.publish(large, parts=4)
    with Following(nats, token(0)) as following:
        following.until(lambda it: it.positions == [1])
        assert following.told[0].frames[0].unread == (("asset", "x" * (3 << 20)),)


def test_a_slow_follower_loses_nothing(nats: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more than is read ahead waits at NATS, through many pulls; one that is full or has run out is followed by another."""
    monkeypatch.setattr(_broker, "PULL", 7)
    monkeypatch.setattr(_broker, "IDLE", 0.2)
    monkeypatch.setattr(_broker, "PULL_SECONDS", 0.5)
    for first in range(1, 3000, 20):
        publisher.publish(*[batch(first + number) for number in range(20)])
    with Following(nats, token(0)) as following:
        following.until(lambda it: it.told)
        time.sleep(0.5)
        following.until(lambda it: it.positions == list(range(1, 3001)))
        time.sleep(0.7)  # the pull has run out
        publisher.publish(batch(3001))
        following.until(lambda it: it.positions[-1] == 3001)


# --- another history ----------------------------------------------------------------------------------------------------


def other(position: int) -> str:
    """Give the mark of a position in another history."""
    return f"{position}:{'ff' * 16}"


def strange(position: int) -> FeedToken:
    """Give the token of a position in another history."""
    return FeedToken(log_id=token(0).log_id, position=position, chain=b"\xff" * 16)


@pytest.mark.parametrize("at", [0, 2, 3, 4])
def test_a_token_of_another_history_is_refused(at: int, nats: NatsServer, publisher: Publisher) -> None:
    """Whether the marks show it or a batch within a message; the beginning is nobody's."""
    publisher.publish(batch(1), batch(2), batch(3))
    publisher.publish(batch(4))
    with Following(nats, strange(at), refuse) as following:
        error = following.end()
    assert isinstance(error, PositionExpiredError)
    assert error.reason == "LOG_MISMATCH"
    assert not following.told
    with Following(nats, token(at, "another"), refuse) as following:
        assert following.end().reason == "LOG_MISMATCH"


def test_a_stream_that_is_not_the_servers_is_no_reason_to_load_a_snapshot(
    nats: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server itself goes on from the token it is the stream that is wrong: said so, and tried again."""
    monkeypatch.setattr(_broker, "STUCK", 3)
    monkeypatch.setattr(_broker, "TICK", 0.1)
    publisher.publish_all([1, 2])
    for mine in (strange(1), token(1, "another")):
        with Following(nats, mine, agree) as following:
            if mine == strange(1):
                following.until(lambda it: it.reader.set_aside)
                publisher.beat(2)
            error = following.end()
        assert isinstance(error, UnavailableError)
        assert error.reason == "ANOTHER_FEED"
        assert "is this its NATS?" in error.message


def test_a_message_that_goes_back_or_contradicts_itself_is_refused(nats: NatsServer, publisher: Publisher) -> None:
    """A repetition, another chain, marks that are not of the batches, another log: none of it is applied."""
    wrong: list[Callable[[], None]] = [
        lambda: publisher.publish(batch(3)),
        lambda: publisher.publish(batch(5), after=other(4)),
        lambda: publisher.publish(batch(5), batch(7)),
        lambda: publisher.publish(batch(5), upto=other(5)),
        lambda: publisher.publish(batch(5), upto=broker.mark(token(6))),
        lambda: publisher.publish(batch(5), log="another"),
    ]
    for number, lie in enumerate(wrong):
        if number:
            publisher.purge()
        publisher.publish_all([1, 2, 3, 4])
        with Following(nats, token(0), refuse) as following:
            following.until(lambda it: it.positions == [1, 2, 3, 4])
            lie()
            assert following.end().reason == "LOG_MISMATCH", number
            assert following.positions == [1, 2, 3, 4]


def test_a_gap_is_handed_on_as_it_is_and_asked_for_again(nats: NatsServer, publisher: Publisher) -> None:
    """Who applies batches sees the gap; the next follower begins before it."""
    publisher.publish_all([1, 2, 5])
    for _ in range(2):
        with Following(nats, token(1)) as following:
            following.until(lambda it: it.positions == [2, 5])
            assert following.reader._proof.at == token(2)


# --- where the stream does not reach --------------------------------------------------------------------------------------


def test_a_token_ahead_of_the_stream_waits_and_is_proved_by_the_batch_that_overlaps(
    nats: NatsServer, publisher: Publisher
) -> None:
    """A replica that came from a newer snapshot: no time is believed until its history is shown to be the stream's."""
    publisher.publish_all([1, 2])
    with Following(nats, token(4)) as following, Following(nats, strange(4), refuse) as stranger:
        following.nothing(0.2)
        publisher.beat(5)
        following.nothing()
        publisher.publish(batch(3), head=5)
        publisher.publish(batch(4), batch(5))
        following.until(lambda it: it.positions == [5])
        assert following.told[-1].head_position == 5
        assert stranger.end().reason == "LOG_MISMATCH"


def test_a_head_below_the_token_means_that_history_was_undone(
    nats: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only of a time after the replica was there, an older word is no more than late; and only once the server says so too."""
    monkeypatch.setattr(_broker, "ASK_AGAIN", 0.2)
    publisher.publish_all([1, 2])
    early = publisher.ago() - 1000
    with Following(nats, token(3)) as following:
        following.until(lambda it: it.reader._pulls)
        publisher.beat(2, early)
        following.nothing()
        assert not following.reader.set_aside
        publisher.beat(2)
        following.until(lambda it: it.reader.set_aside)
        following.nothing()  # who may write heartbeats cannot undo history
        following.reader._ask = refuse
        assert following.end().reason == "LOG_MISMATCH"


def test_what_the_stream_cannot_prove_the_server_is_asked(nats: NatsServer, publisher: Publisher) -> None:
    """An empty stream on a registry at rest: the server's word makes the heartbeats count, or ends it."""
    with Following(nats, token(4), agree) as following:
        following.until(lambda it: it.reader._pulls)
        publisher.beat(4)
        following.until(lambda it: it.told)
        assert following.told[0].head_position == 4
        publisher.publish(batch(5))
        following.until(lambda it: it.positions == [5])
    publisher.purge()
    with Following(nats, token(4), refuse) as following:
        following.until(lambda it: it.reader._pulls)
        publisher.beat(4)
        assert following.end().reason == "LOG_MISMATCH"


def test_a_stream_that_falls_behind_or_lost_what_follows_is_given_up(
    nats: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the server's head without a message: asked anew, with what to look at; with nothing there at all, a snapshot."""
    monkeypatch.setattr(_broker, "STUCK", 3)
    monkeypatch.setattr(_broker, "TICK", 0.1)
    cases: list[tuple[FeedToken, Callable[[FeedToken], None], str]] = [
        (token(2), agree, "FEED_BEHIND"),
        (token(9), away, "FEED_BEHIND"),
        (token(2), agree, "POSITION_EXPIRED"),
    ]
    for number, (mine, ask, reason) in enumerate(cases):
        if number == 2:
            publisher.purge()
        elif not number:
            publisher.publish_all([1, 2])
        with Following(nats, mine, ask) as following:
            following.until(lambda it: it.reader._pulls)
            publisher.beat(9)
            error = following.end()
        assert error.reason == reason, (number, error)


def test_where_the_server_is_counts_at_once(nats: NatsServer, publisher: Publisher) -> None:
    """The first heartbeat may be seconds away: the server is asked at the beginning, and what it says is of before the question."""
    publisher.publish_all([1, 2])
    with Following(nats, token(2), head=lambda: token(2)) as following:
        following.until(lambda it: it.told)
        assert following.told[0].head_position == 2
        assert following.told[0].as_of <= now()
        assert following.told[0].as_of >= following.began


# --- times ----------------------------------------------------------------------------------------------------------------


def test_times_of_a_session_count_only_once_it_has_answered(nats: NatsServer, publisher: Publisher) -> None:
    """A publisher that is deaf is not believed; batches come meanwhile, and the next session counts by itself."""
    publisher.answers = False
    publisher.publish(batch(1))
    with Following(nats, token(0)) as following:
        following.until(lambda it: it.positions == [1])
        publisher.beat(1)
        publisher.publish(batch(2))
        following.until(lambda it: it.positions == [1, 2])
        assert all(told.head_position is None for told in following.told)
        assert publisher.asked == 1
        with Publisher(nats.url) as successor:
            successor.publish(batch(3))
            successor.beat(3)
            following.until(lambda it: it.told[-1].head_position == 3)
            assert following.told[-1].as_of > following.began
            publisher.answers = True
            before = following.told[-1].as_of
            publisher.beat(2, publisher.ago() - 5000)  # of the one that was replaced, late
            following.nothing()
            successor.beat(3)
            following.until(lambda it: it.told[-1].as_of > before)
            assert following.told[-1].head_position == 3


def test_a_slow_answer_makes_times_older_never_younger(nats: NatsServer, publisher: Publisher) -> None:
    """The session began before the answer was on its way: all of that time is taken off."""
    publisher.publish(batch(1))
    publisher.slowness = 1.0
    with Following(nats, token(0)) as following:
        following.until(lambda it: it.positions == [1])
        beaten = now()
        publisher.beat(1)
        following.until(lambda it: it.told[-1].head_position == 1)
        assert following.told[-1].as_of <= beaten
        assert following.told[-1].as_of > beaten - 2.5


def test_old_times_in_the_stream_are_not_told(nats: NatsServer, publisher: Publisher) -> None:
    """A message that lay there for long says nothing of now: the syncer would begin anew for a better time, for ever."""
    publisher.publish(batch(1), beat=publisher.ago() - 60_000)
    with Following(nats, token(0)) as following:
        following.until(lambda it: it.positions == [1])
        following.nothing()
        assert following.told[0].head_position is None
        publisher.beat(1)
        following.until(lambda it: it.told[-1].head_position == 1)


def test_a_session_is_calibrated_anew_after_a_while(
    nats: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clocks drift apart: a publisher whose clock runs fast is not believed for ever."""
    monkeypatch.setattr(_broker, "RECALIBRATE", 0.3)
    publisher.publish(batch(1))
    with Following(nats, token(0)) as following:
        following.until(lambda it: it.told)
        publisher.beat(1)
        following.until(lambda it: it.told[-1].head_position == 1)
        publisher._began -= 100  # all at once, what a drift does in years
        time.sleep(0.35)
        publisher.beat(1)  # too young by that, and so taken for one of now; it is time to ask again
        following.until(lambda _: publisher.asked == 2)
        time.sleep(0.5)
        publisher.beat(1, publisher.ago() - 300)
        beaten = now() - 0.3
        following.until(lambda it: it.told[-1].as_of > following.began + 0.5)
        assert following.told[-1].as_of <= beaten


# --- trouble --------------------------------------------------------------------------------------------------------------


def test_each_trouble_says_what_to_do(nats: NatsServer) -> None:
    """No NATS, no stream, a stream that goes, a consumer that goes, and something that is no message of ours."""
    nobody = NatsServer(Path("/nonexistent"))
    assert "cannot be reached" in Following(nobody, token(0)).end().message
    error = Following(nats, token(0)).end()
    assert error.reason == "NO_STREAM"
    assert "--feed" in error.message
    with Publisher(nats.url) as publisher:
        for harm in (publisher.delete_consumers, publisher.remove):
            if harm == publisher.delete_consumers:
                publisher.make()
                publisher.publish(batch(1))
            with Following(nats, token(0)) as following:
                following.until(lambda it: it.told)
                harm()
                error = following.end(3)
                assert isinstance(error, UnavailableError)
                assert error.reason == "BROKER_CONSUMER"
        publisher.make()
        publisher.publish(batch(1), after="nonsense")
        assert Following(nats, token(0)).end().reason == "POSITION_EXPIRED"
        publisher.remove()


def test_silence_is_noticed(nats: NatsServer, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """NATS is well and nobody publishes, or who publishes does not answer: each is said."""
    monkeypatch.setattr(_broker, "SILENT", 3)
    monkeypatch.setattr(_broker, "TICK", 0.1)
    publisher.publish(batch(1))
    with Following(nats, token(1)) as following:
        assert "no heartbeat" in following.end().message
    publisher.answers = False
    with Following(nats, token(1)) as following:
        following.until(lambda it: it.reader._pulls)
        publisher.beat(1)
        assert "no answer of the server" in following.end().message


def test_a_nats_that_is_killed_or_frozen_ends_the_feed(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed: at once. Frozen: when its signs of life fail to come; connecting to it fails in time as well."""
    monkeypatch.setattr(_broker, "IDLE", 0.2)
    monkeypatch.setattr(_broker, "QUIET", 6)
    monkeypatch.setattr(_broker, "TICK", 0.1)
    monkeypatch.setattr(broker, "CONNECT_SECONDS", 1)
    with Publisher(nats_server.url) as publisher:
        publisher.make()
        publisher.publish(batch(1))
        with Following(nats_server, token(0)) as following:
            following.until(lambda it: it.told)
            time.sleep(1)  # it is quiet, and lives
            nats_server.signal(signal.SIGSTOP)
            assert following.end(6).reason == "BROKER_SILENT"
            with Following(nats_server, token(0)) as late:
                assert "cannot be reached" in late.end(6).message
            nats_server.signal(signal.SIGCONT)
        with Following(nats_server, token(0)) as following:
            following.until(lambda it: it.told)
            nats_server.kill()
            assert following.end(2).reason == "BROKER_LOST"
        nats_server.start()
        with Following(nats_server, token(0)) as following:
            following.until(lambda it: it.positions == [1])


RIGHTS = """
authorization: {{ users: [
  {{ user: relay, password: secret }},
  {{ user: follower, password: secret, permissions: {{
    publish: [{publish}],
    subscribe: ["_INBOX.>", "cqar.feed.v1.heartbeats"] }} }},
] }}
"""


def test_a_follower_needs_few_rights_and_says_which_it_lacks(tmp_path: Path) -> None:
    """With those of the documentation it follows, and cannot write to the stream; without one of them that one is named at once."""
    needed = [
        "$JS.API.STREAM.INFO.CQAR_FEED",
        "$JS.API.STREAM.MSG.GET.CQAR_FEED",
        "$JS.API.CONSUMER.CREATE.CQAR_FEED.>",
        "$JS.API.CONSUMER.MSG.NEXT.CQAR_FEED.>",
        "cqar.feed.v1.call.>",
    ]
    documented = (Path(__file__).parents[2] / "docs/feed-over-a-broker.md").read_text()
    assert all(f'"{right}"' in documented for right in needed)
    server = NatsServer(tmp_path / "store", "--config", str(tmp_path / "nats.conf"))
    server.url = f"nats://follower:secret@127.0.0.1:{server.port}"
    relay = f"nats://relay:secret@127.0.0.1:{server.port}"
    for missing in (None, needed[0], needed[3]):
        rights = ", ".join(f'"{each}"' for each in needed if each != missing)
        config = RIGHTS.format(publish=rights)
        (tmp_path / "nats.conf").write_text(config)
        server.start()
        try:
            with Publisher(relay) as publisher:
                if missing is None:
                    publisher.make()
                    publisher.publish(batch(1))
                with Following(server, token(0)) as following:
                    if missing is None:
                        following.until(lambda it: it.told)
                        publisher.beat(1)
                        following.until(lambda it: it.told[-1].head_position == 1)
                    else:
                        error = following.end(3)
                        assert error.reason == "BROKER_RIGHTS"
                        assert missing[:25].lower() in error.message.lower()
                        assert "secret" not in error.message
        finally:
            server.kill()


FORKING = """
import gc, os, sys, time
from tests.integration.test_broker_feed import Following, token

class At:
    url = sys.argv[1]

following = Following(At, token(0))
following.until(lambda it: it.positions == [1])
for way in ("forgets", "exits"):
    pid = os.fork()
    if not pid:
        if way == "exits":
            sys.exit(0)
        del following
        gc.collect()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
print("forked", flush=True)
following.until(lambda it: it.positions == [1, 2])
print("well", flush=True)
"""


def test_a_fork_leaves_the_parents_feed_alone(nats: NatsServer, publisher: Publisher) -> None:
    """Children that forget the feed, or end as interpreters do, take nothing away from the parent, which goes on at once."""
    publisher.publish(batch(1))
    with subprocess.Popen([sys.executable, "-c", FORKING, nats.url], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "forked\n"
        publisher.publish(batch(2))
        assert program.stdout.readline() == "well\n"
        assert program.wait(10) == 0
