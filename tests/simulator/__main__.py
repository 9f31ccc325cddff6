"""Run many seeds: `python -m tests.simulator [count] [first]`; the one that fails is printed with its trace."""

from __future__ import annotations

import logging
import sys
import time

from tests.simulator.folder import Violation
from tests.simulator.simulation import Simulation


def main(count: int, first: int) -> int:
    """Run these seeds."""
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    for seed in range(first, first + count):
        try:
            Simulation(seed).run()
        except Violation as error:
            print_failure(seed, error)
            return 1
        done = seed - first + 1
        if done % 1000 == 0 or done == count:
            print(f"{done} seeds, {time.monotonic() - began:.1f} s: every promise held", flush=True)  # noqa: T201
    return 0


def print_failure(seed: int, error: Violation) -> None:
    """Run a seed again and print what happened."""
    again = Simulation(seed, tracing=True)
    try:
        again.run()
    except Violation as second:
        error = second
    print("\n".join(again.trace[-200:]))  # noqa: T201
    print(f"seed {seed}: {error}")  # noqa: T201


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:3]]
    sys.exit(main(*given, *(1_000, 0)[len(given) :]))
