"""The wall clock stands before the time of a snapshot, or the clock of the host that made it was ahead.

Before: `open_snapshot` took the age to be zero, so the gate said ALLOW at an age of 0.1 s, whatever the age was.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from cqar import model, snapshot
from cqar.client import Client, Decision, VerdictUnknownError, open_snapshot
from tests.attacks.marks import attack
from tests.worlds import World, catalogue

pytestmark = attack(
    "A4", by="a wrong clock", promise="a snapshot alone is never young, and an age that is not known is infinite"
)

ASSET = msgspec.convert(catalogue()["asset"][0], model.Asset)


def opened(tmp_path: Path, made: timedelta) -> Client:
    """Open a snapshot that was made so long after now."""
    world = World([ASSET])
    records = {kind: world.all(kind) for kind in model.KINDS}
    published = snapshot.write(tmp_path / "snapshots", world.head, datetime.now(UTC) + made, records)
    return open_snapshot(published.path, replica_dir=tmp_path / "replica")


@pytest.mark.parametrize("ahead", [timedelta(milliseconds=700), timedelta(hours=1), timedelta(days=365)])
@pytest.mark.parametrize("max_age", [0.1, 15.0, 16.0, 1e9])
def test_a_snapshot_from_the_future_is_unknown(ahead: timedelta, max_age: float, tmp_path: Path) -> None:
    """Whether its maker's clock was ahead or this host's is behind: by how much nobody knows."""
    with opened(tmp_path, ahead) as client:
        began = time.monotonic()
        verdict = client.check_tradable(ASSET.asset_id, max_age=max_age)
        assert time.monotonic() - began < 0.5
        assert (client.age, verdict.age) == (math.inf, math.inf)
        assert verdict.decision is Decision.UNKNOWN
        assert client.status().age == math.inf


@pytest.mark.parametrize("clock", [0.0, 1e9])
def test_a_host_without_a_clock_says_unknown(clock: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine that starts in 1970, until the time is set."""
    with opened(tmp_path, timedelta(hours=-1)) as client:
        with monkeypatch.context() as patch:
            patch.setattr("cqar.client._client.time.time", lambda: clock)
            assert client.check_tradable(ASSET.asset_id, max_age=7200.0).decision is Decision.UNKNOWN
        assert client.check_tradable(ASSET.asset_id, max_age=7200.0).decision is Decision.ALLOW


def test_a_young_snapshot_is_unknown_until_the_caller_accepts_its_age(tmp_path: Path) -> None:
    """Made a second ago, by a clock that says so: only a server makes data young."""
    with opened(tmp_path, timedelta(seconds=-1)) as client:
        for max_age in (15.0, 5.0):
            verdict = client.check_tradable(ASSET.asset_id, max_age=max_age)
            assert verdict.decision is Decision.UNKNOWN
            assert "no server" in verdict.reasons[0]
        with pytest.raises(VerdictUnknownError, match="max_age above 15 s"):
            client.require_tradable(ASSET.asset_id)
        assert client.check_tradable(ASSET.asset_id, max_age=60).decision is Decision.ALLOW
