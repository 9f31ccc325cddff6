"""Processes that are stopped without ending, and peers that fall silent: age tells, the gate fails closed, others take over."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from cqar.client._view import now
from tests.faults.process import ServerProcess
from tests.faults.replica.host import LONG, Truth, host, until
from tests.faults.replica.proxy import Proxy
from tests.faults.replica.writer import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MAX_AGE = 15.0  # of what the gate says ALLOW to
FROZEN = 15.0 if LONG else 4.0  # without a sign of life for that long a syncer is replaced: 15 s
SILENT = 16.0 if LONG else 4.0  # without a word a stream is given up: 16 s
DEAD = SILENT + 9.0  # until that is seen, whatever else goes on


def test_a_frozen_syncer_is_replaced_and_nothing_old_is_allowed(
    target: str, truth: Truth, writer: Writer, folder: Path
) -> None:
    """F5: readers tell the age, the gate says UNKNOWN after 15 s, another process takes over, and the thawed one steps down."""
    with host(target, folder, constants={"_sync.FROZEN": FROZEN}) as several:
        leader = several.start().ready()
        others = [several.start().ready(), several.start(sync="off").ready()]
        assert leader.ask("status")["is_syncer"]
        asset_id = writer.pair[0]
        until(lambda: others[0].ask("gate", asset_id=asset_id)["decision"] == "ALLOW", "the gate says ALLOW")
        leader.signal(signal.SIGSTOP)
        frozen_at = now()
        written = writer.write_pair()
        decisions: list[tuple[float, str, str]] = []
        while now() - frozen_at < FROZEN + 15:
            for member in others:
                told, status = member.ask("gate", asset_id=asset_id, max_age=FROZEN), member.ask("status")
                decisions.append((now() - frozen_at, told["decision"], status["state"]))
            if others[0].ask("status")["is_syncer"]:
                break
            time.sleep(0.1)
        taken_over = now() - frozen_at
        assert FROZEN - 2 < taken_over < FROZEN + 6, taken_over
        late = [each for each in decisions if FROZEN + 0.1 < each[0] < taken_over - 0.5]
        assert all(decision == "UNKNOWN" for _, decision, _ in late)
        assert not LONG or all(state in {"stale", "disconnected"} for _, _, state in late), late
        print(  # noqa: T201  (a figure)
            f"\ntaken over after {taken_over:.1f} s; last ALLOW at",
            max(each[0] for each in decisions if each[1] == "ALLOW" and each[0] < taken_over - 0.5),
        )
        for member in others:
            member.ask("wait", position=written)
        until(lambda: others[1].ask("gate", asset_id=asset_id)["decision"] == "ALLOW", "it is level again")
        with writer.at_work():
            leader.signal(signal.SIGCONT)
            until(lambda: not leader.ask("status")["is_syncer"], "the thawed one steps down")
            time.sleep(1)
        several.check(truth)
        assert sum(member.ask("status")["is_syncer"] for member in several.members) == 1


def test_a_peer_that_falls_silent_is_given_up_in_time(
    server: ServerProcess, target: str, truth: Truth, writer: Writer, folder: Path
) -> None:
    """F17: a stopped server and a network that swallows everything: the stream is dead within 25 s, a miss ends at its deadline."""
    short = {"constants": {"_sync.SILENT": SILENT}}
    with (
        Proxy(target) as proxy,
        host(target, folder / "a", **short) as near,
        host(proxy.target, folder / "b", **short) as far,
    ):
        members = [near.start().ready(), far.start().ready()]
        asset_id = writer.pair[0]
        for member in members:
            until(lambda: member.ask("gate", asset_id=asset_id)["decision"] == "ALLOW", "it is level")  # noqa: B023
        proxy.swallow()
        server._popen.send_signal(signal.SIGSTOP)
        silent_at = now()
        try:
            for member in members:
                miss = member.ask("asset", asset_id="00000000-0000-4000-8000-00000000dead")
                assert miss["error"] == "UnavailableError"
                assert miss["seconds"] < 2.5  # call_timeout is 2
            gone: dict[int, float] = {}
            while len(gone) < 2 and now() - silent_at < DEAD + 5:
                for member in members:
                    if member.ask("status")["state"] == "disconnected":
                        gone.setdefault(member.pid, now() - silent_at)
                    told = member.ask("gate", asset_id=asset_id)
                    assert told["decision"] == "UNKNOWN" or told["age"] <= MAX_AGE
                time.sleep(0.2)
            print("\nstream given up after", gone.values())  # noqa: T201  (a figure)
            assert len(gone) == 2
            assert max(gone.values()) < DEAD
        finally:
            server._popen.send_signal(signal.SIGCONT)
        proxy.restore()
        writer.write_pair()
        near.check(truth)
        far.check(truth)
