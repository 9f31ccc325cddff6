"""Calls that wait at the same time are answered together: each by its own answer, none by another's trouble."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from cqar.server.together import AT_ONCE, MOST, Together


class Reads:
    """Answers questions with their squares when it is let; -1 raises."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gates: list[threading.Event] = []
        self._news = threading.Condition()

    def __call__(self, questions: Sequence[int]) -> list[int]:
        """Answer many."""
        gate = threading.Event()
        with self._news:
            self.asked.append(list(questions))
            self.gates.append(gate)
            self._news.notify_all()
        assert gate.wait(10)
        if -1 in questions:
            raise ValueError("a read has failed")
        return [question**2 for question in questions]

    async def begun(self, count: int) -> None:
        """Wait until there were so many reads."""
        await asyncio.to_thread(self._wait, count)

    def _wait(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.asked) >= count, 10)

    def let(self) -> None:
        """Let all reads that have begun end."""
        for gate in list(self.gates):
            gate.set()


def test_a_question_alone_is_asked_at_once() -> None:
    """Nothing waits for company."""

    async def run() -> None:
        reads = Reads()
        with ThreadPoolExecutor(4) as pool:
            together: Together[int, int] = Together(pool, reads)
            for count, question in enumerate((3, 4), 1):
                asked = asyncio.create_task(together.ask(question))
                await reads.begun(count)
                assert reads.asked[-1] == [question]
                reads.let()
                assert await asked == question**2

    asyncio.run(run())


def test_nobody_waits_for_a_slow_read() -> None:
    """A question that comes during a read that does not end is asked beside it, soon."""

    async def run() -> None:
        reads = Reads()
        with ThreadPoolExecutor(4) as pool:
            together: Together[int, int] = Together(pool, reads)
            slow = asyncio.create_task(together.ask(2))
            await reads.begun(1)
            other = asyncio.create_task(together.ask(3))
            await reads.begun(2)
            reads.gates[1].set()
            assert await other == 9
            assert not slow.done()
            reads.let()
            assert await slow == 4

    asyncio.run(run())


def test_questions_that_come_during_reads_are_asked_together() -> None:
    """Two reads are under way at most; the third is for all that came meanwhile."""

    async def run() -> None:
        reads = Reads()
        with ThreadPoolExecutor(4) as pool:
            together: Together[int, int] = Together(pool, reads)
            first = []
            for number in range(AT_ONCE):
                first.append(asyncio.create_task(together.ask(number)))
                await reads.begun(number + 1)
            later = [asyncio.create_task(together.ask(number)) for number in range(10, 40)]
            await asyncio.sleep(0)
            assert len(reads.asked) == AT_ONCE
            reads.gates[0].set()
            await reads.begun(AT_ONCE + 1)
            assert reads.asked[AT_ONCE] == list(range(10, 40))
            reads.let()
            assert await asyncio.gather(*first, *later) == [n**2 for n in (*range(AT_ONCE), *range(10, 40))]

    asyncio.run(run())


def test_a_read_has_a_bounded_number_of_questions_and_none_waits_for_a_free_place() -> None:
    """A burst is split, and as many reads as may be under way at once are."""

    async def run() -> None:
        reads = Reads()
        with ThreadPoolExecutor(4) as pool:
            together: Together[int, int] = Together(pool, reads)
            burst = [asyncio.create_task(together.ask(number)) for number in range(AT_ONCE * MOST + 10)]
            await reads.begun(AT_ONCE)
            assert sorted(map(len, reads.asked)) == [MOST] * AT_ONCE
            reads.let()
            await reads.begun(AT_ONCE + 1)
            assert len(reads.asked[AT_ONCE]) == 10
            reads.let()
            assert await asyncio.gather(*burst) == [number**2 for number in range(AT_ONCE * MOST + 10)]

    asyncio.run(run())


def test_an_error_reaches_all_who_asked_with_it_and_nobody_else() -> None:
    """The read's error is raised by each of its askers; the next read is as ever."""

    async def run() -> None:
        reads = Reads()
        with ThreadPoolExecutor(4) as pool:
            together: Together[int, int] = Together(pool, reads)
            asked = [asyncio.create_task(together.ask(number)) for number in (1, -1, 2)]
            await reads.begun(1)
            reads.let()
            for answer in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(answer, ValueError)
            after = asyncio.create_task(together.ask(5))
            await reads.begun(2)
            reads.let()
            assert await after == 25

    asyncio.run(run())


@pytest.mark.parametrize("begun", [False, True])
def test_a_caller_that_gives_up_disturbs_no_other(begun: bool) -> None:
    """Whether its read has begun or not, the others get their answers."""

    async def run() -> None:
        reads = Reads()
        with ThreadPoolExecutor(4) as pool:
            together: Together[int, int] = Together(pool, reads)
            asked = [asyncio.create_task(together.ask(number)) for number in range(5)]
            await asyncio.sleep(0)
            if begun:
                await reads.begun(1)
            asked[0].cancel()
            asked[3].cancel()
            await reads.begun(1)
            reads.let()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert [answer for answer in answers if not isinstance(answer, asyncio.CancelledError)] == [1, 4, 16]

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(5))
def test_everybody_gets_the_answer_to_their_own_question(seed: int) -> None:
    """Whatever comes when, is given up when, and however long the reads take."""
    rng = random.Random(seed)

    def answer(questions: Sequence[int]) -> list[int]:
        threading.Event().wait(rng.random() / 500)
        if rng.random() < 0.05:
            raise ValueError
        return [question**2 for question in questions]

    async def caller(together: Together[int, int], question: int) -> bool:
        await asyncio.sleep(rng.random() / 10)
        try:
            async with asyncio.timeout(rng.choice([0.001, 10])):
                assert await together.ask(question) == question**2
        except (ValueError, TimeoutError):
            return False
        return True

    async def run() -> int:
        with ThreadPoolExecutor(4) as pool:
            together: Together[int, int] = Together(pool, answer)
            done = await asyncio.gather(*[caller(together, question) for question in range(1_500)])
            while together._reads or together._waiting:  # noqa: ASYNC110 - for callers that have given up: nothing tells
                await asyncio.sleep(0.001)
        return sum(done)

    assert asyncio.run(run()) > 100
