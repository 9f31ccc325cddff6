"""The promises hold in every weather that a seed makes; and the simulator would notice if they did not."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.simulator.folder import Violation
from tests.simulator.mutants import MUTANTS, Mutant, alive
from tests.simulator.simulation import Simulation

SEEDS = int(os.environ.get("SIM_SEEDS", "250"))
FIRST = int(os.environ.get("SIM_FIRST", "0"))
ENOUGH = 600  # seeds in which a bug must be found


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_the_promises_hold(part: int) -> None:
    """Whatever is killed, frozen, lost, damaged or restored: what readers see is right, and all is well again soon after."""
    for seed in range(FIRST + part, FIRST + SEEDS, 5):
        try:
            Simulation(seed).run()
        except Violation as error:
            pytest.fail(f"seed {seed}: {error}; its trace: make simulate SEEDS=1 SEED={seed}")


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same trace, step by step: what failed once can be looked at."""
    first, second = (Simulation(7, tracing=True) for _ in range(2))
    first.run()
    second.run()
    assert first.trace == second.trace
    assert len(first.trace) > 50


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_bug_is_found(mutant: Mutant) -> None:
    """A line taken out of the client breaks a promise within some hundred seeds."""
    with alive(mutant):
        for seed in range(ENOUGH):
            try:
                Simulation(seed).run()
            except Violation:
                return
    pytest.fail(f"{mutant.name}: not found in {ENOUGH} seeds")
