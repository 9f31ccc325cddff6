"""Several processes of one host: nothing is torn, nothing goes back, and whoever dies is replaced."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.replica.host import Truth, host
from tests.faults.replica.writer import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SECONDS = 2


def test_no_process_sees_half_a_transaction_or_goes_back(
    target: str, truth: Truth, writer: Writer, folder: Path
) -> None:
    """F6: several processes read a pair written in one transaction, a hundred times a second: it is always whole."""
    with host(target, folder, constants={"_sync.TAIL_CHANGES": 100}) as several:
        members = [several.start(pause=0.0002) for _ in range(4)]
        with writer.at_work():
            for member in members:
                member.ready()
            began = truth.position
            time.sleep(SECONDS)
        assert truth.position - began > 20 * SECONDS
        several.check(truth)
        reads = [several.check_account(member, truth)["reads"] for member in members]
        print(reads, truth.position - began)  # noqa: T201  (a figure)
        assert min(reads) > 100
        for member in members:
            told = member.ask("tables")
            assert len(told["names"]) == 1
