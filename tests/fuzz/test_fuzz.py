"""What bad input gets: the short run. `make fuzz` is the long one, with the same requests and the same judgement."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.faults import audit
from tests.fuzz.attack import GROWTH, Attack, attack
from tests.fuzz.target import shown
from tests.fuzz.values import Maker

ASSETS = 200
EXAMPLES = 25  # of a method, each of them shrunk to the least that fails
ROUNDS, ROUND = 4, 20  # the same again at full speed, several at a time


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_bad_input_gets_documented_errors_and_nothing_else(database_url: str, open_folder: Path) -> None:
    """No method, whatever it is sent, fails inside, tells of the inside, or leaves a registry that breaks a rule (R16)."""
    with attack(database_url, open_folder, ASSETS) as attacked:
        for method in attacked.target.methods:
            _examples(attacked, method)
    audit.check(database_url)


def _examples(attacked: Attack, method: MethodDescriptor) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.randoms(use_true_random=False))
    def every_request(source: random.Random) -> None:
        request = Maker(source, attacked.pool).request(method)
        note(shown(method, request))
        why = attacked.judged(method, attacked.target.call(method, request))
        assert not why, why

    every_request()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_storm_of_bad_input_leaves_the_server_as_it_was(database_url: str, open_folder: Path) -> None:
    """Many calls at once, good and bad, get documented answers; memory is flat, and the registry keeps its rules."""
    source = random.Random(20_261_101)
    with attack(database_url, open_folder, ASSETS) as attacked:
        failures = [failure for _ in range(ROUNDS) for failure in attacked.round(source, ROUND)]
        assert not failures, "\n".join([str(failure) for failure in failures[:3]])
        assert attacked.growth() < GROWTH
        answered = [name for name, codes in attacked.codes.items() if codes["OK"]]
        assert len(answered) > len(attacked.codes) * 0.8, "the requests do not get far"
    audit.check(database_url)
