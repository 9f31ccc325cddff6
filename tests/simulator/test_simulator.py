"""The promises hold in seeded histories of crashes, freezes, torn files and bad transports; and their checks can fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from cqar.client import _tail, _view
from cqar.client._client import Client
from cqar.client._recent import Recent
from cqar.client._sync import Syncer
from tests.simulator.folder import Folder, Violation
from tests.simulator.simulation import Simulation

SEEDS = int(os.environ.get("SIM_SEEDS", "300"))
FIRST = int(os.environ.get("SIM_FIRST", "0"))
PIECES = 10


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged of thousands of faults is of no interest."""
    caplog.set_level("CRITICAL")


@pytest.mark.parametrize("piece", range(PIECES))
def test_the_promises_hold(piece: int) -> None:
    """No seed breaks a promise; the one that does is named, for `python -m tests.simulator 1 SEED` to show its trace."""
    for seed in range(FIRST + piece, FIRST + SEEDS, PIECES):
        try:
            Simulation(seed).run()
        except Violation as error:
            pytest.fail(f"seed {seed}: {error}")


def test_a_seed_is_a_history() -> None:
    """The same seed gives the same history to the last step."""
    traces = []
    for _ in range(2):
        simulation = Simulation(7, tracing=True)
        simulation.run()
        traces.append(simulation.trace)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 50


def _unchecked(data: bytes, start: int) -> bytes:
    length = int.from_bytes(data[start : start + 4], "little")
    return data[start + 8 : start + 8 + length]


def _no_drop(self: Recent, topics: Any) -> None:
    """Forget nothing."""


def _head_only(self: Syncer, stream: Any, _listen: Callable[..., None] = Syncer._listen) -> None:
    """Take what comes for news of this moment."""
    poll = stream.poll

    class Now:
        def poll(self, timeout: float, syncer: Any = self) -> Any:
            told = poll(timeout)
            return None if told is None else told._replace(as_of=syncer._clock())

        def cancel(self) -> None:
            stream.cancel()

    _listen(self, Now())


def _no_rest(data: bytes, after: int, _whole: Callable[..., Any] = _tail.whole) -> Any:
    """Lose the last frame of what is taken over."""
    frames, end = _whole(data, after)
    return frames[:-1], end


def _unmarked(self: Folder, previous: Any) -> None:
    """Tell nobody that a head is left."""


def _backwards(self: Any, _reopen: Callable[[Any], bool] = _view.View._reopen) -> bool:
    """Forget how far it was."""
    self._at = None
    return _reopen(self)


MUTANTS: dict[str, list[tuple[Any, str, Any]]] = {
    "frames are not checked": [(_tail, "_payload", _unchecked)],
    "remembered answers are not dropped": [(Recent, "drop", _no_drop)],
    "old news is taken for new": [(Syncer, "_listen", _head_only)],
    "a flag that cannot be read is forgotten": [(Client, "_doubt", None)],
    "the last frame of a tail is lost": [(_tail, "whole", _no_rest)],
    "a reader goes back": [(_view.View, "_reopen", _backwards)],
    "a deposed syncer goes on": [(Folder, "is_present", lambda _self, _head: True)],
    "nobody watches for orphaned heads": [
        (_view.View, "_look_for_another", lambda _self, _head: None),
        (Folder, "mark", _unmarked),
    ],
}


@pytest.fixture(params=list(MUTANTS))
def mutant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A deliberate bug."""
    for owner, name, wrong in MUTANTS[request.param]:
        monkeypatch.setattr(owner, name, wrong)
    mutated: str = request.param
    return mutated


def test_a_deliberate_bug_is_found(mutant: str) -> None:
    """Each of these would break a promise, and some seed shows it."""
    for seed in range(400):
        try:
            Simulation(seed).run()
        except Violation:
            return
    pytest.fail(f"400 seeds do not notice that {mutant}")
