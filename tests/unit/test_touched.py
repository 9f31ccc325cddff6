"""When topics changed last: as long as is remembered exactly, and never forgotten in favour of an old answer."""

from __future__ import annotations

import random
import time

import pytest

from cqar.model import FeedToken
from cqar.server.touched import Touched

LOG = "00000000-0000-4000-8000-000000000001"


def begun(position: int = 0, size: int = 100) -> Touched:
    """Give one that follows the log from a position."""
    touched = Touched(size)
    touched.begin(head(position))
    return touched


def head(position: int) -> FeedToken:
    """Give where a log is."""
    return FeedToken(log_id=LOG, position=position, chain=bytes(16))


def still(touched: Touched, position: int, *topics: str) -> bool:
    """Ask of an answer that was read just now."""
    return touched.still(position, topics, read_at=time.time())


def test_an_answer_is_true_until_one_of_its_topics_changes() -> None:
    """Of the position of the change itself it is true again."""
    touched = begun()
    touched.note(5, {"a"}, complete=True)
    assert [still(touched, position, "a", "b") for position in (4, 5, 6)] == [False, True, True]
    assert still(touched, 1, "b")


def test_a_commit_of_this_server_counts_before_the_feed_brings_those_before_it() -> None:
    """The position up to which all is known stays where it was."""
    touched = begun(3)
    touched.note(9, {"a"}, complete=False)
    assert not still(touched, 8, "a")
    assert touched.position == 3
    touched.note(4, {"a"}, complete=True)  # an older commit does not hide the newer one
    assert not still(touched, 8, "a")
    assert touched.position == 4


def test_nothing_counts_before_the_beginning_and_after_the_end() -> None:
    """What happened before the feed began, or after it has failed, nobody has noted."""
    touched = Touched()
    assert not still(touched, 10, "a")
    touched.begin(head(10))
    assert not still(touched, 9, "a")
    assert still(touched, 10, "a")
    touched.end()
    assert not still(touched, 10, "a")
    touched.begin(head(10))
    assert still(touched, 10, "a")


def test_what_was_read_before_a_beginning_does_not_count_however_high_its_position() -> None:
    """It may be of a history that the database has lost."""
    read_at = time.time() - 1
    touched = begun(10)
    assert not touched.still(50, ["a"], read_at=read_at)
    assert touched.still(50, ["a"], read_at=time.time())


def test_a_commit_that_is_noted_before_a_beginning_behind_it_is_not_forgotten() -> None:
    """The head is read, a commit of this server follows it, and then the beginning is noted."""
    touched = begun()
    touched.note(11, {"a"}, complete=False)
    touched.begin(head(10))
    assert not still(touched, 10, "a")
    assert still(touched, 10, "b")


@pytest.mark.parametrize("seed", range(20))
def test_forgetting_makes_answers_miss_and_never_stale(seed: int) -> None:
    """With a small memory, everything that is believed is true; and the newest is believed."""
    rng = random.Random(seed)
    small = begun(size=8)
    truth: dict[str, int] = {}
    for position in range(1, 400):
        topics = {f"t{rng.randrange(40)}" for _ in range(rng.randrange(1, 4))}
        if rng.random() < 0.3:
            small.note(position, topics, complete=False)  # its own commit, which the feed brings as well
        small.note(position, topics, complete=True)
        truth |= dict.fromkeys(topics, position)
        assert len(small._changed) <= 8
        for _ in range(5):
            topic, at = f"t{rng.randrange(40)}", rng.randrange(position + 1)
            if still(small, at, topic):
                assert truth.get(topic, 0) <= at
        assert still(small, position, *topics)
