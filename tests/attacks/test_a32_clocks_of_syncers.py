"""A syncer with a clock of the future dies, its head is lost, and one with a clock of the past comes.

Before: the terms of syncers were times, so that readers stayed with the head of the one that had gone: UNKNOWN for good.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from cqar import model
from cqar.client import Client, Decision, _sync, connect
from tests.attacks.marks import attack
from tests.faults.replica.liar import Liar
from tests.worlds import World, catalogue

pytestmark = attack("A32", by="wrong clocks", promise="readers follow whoever syncs now")

ASSET = msgspec.convert(catalogue()["asset"][0], model.Asset)
A_YEAR = 366 * 86_400


def comes_to(client: Client, position: int) -> bool:
    """Report whether a reader comes there soon, and trades."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        verdict = client.check_tradable(ASSET.asset_id)
        if verdict.decision is Decision.ALLOW and verdict.position == position:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("lost", [("head",), ("head", "lock"), ()])
@pytest.mark.parametrize("clocks", [(A_YEAR, -A_YEAR), (-A_YEAR, A_YEAR), (0, 0)])
def test_readers_follow_a_syncer_of_any_clock(
    clocks: tuple[int, int], lost: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: what the second one leaves is followed by a third that has the clock of the first."""
    with Liar(World([ASSET], position=0)) as liar:
        liar.commit(ASSET)
        reader: Client | None = None
        for number, ahead in enumerate((*clocks, clocks[0]), start=1):
            monkeypatch.setattr(_sync, "wall_clock", lambda ahead=ahead: time.time() + ahead)
            with connect(liar.target, replica_dir=tmp_path, timeout=10) as syncer:
                liar.commit(msgspec.structs.replace(ASSET, name=f"name {number}"))
                assert comes_to(syncer, number + 1)
                reader = reader or connect(liar.target, replica_dir=tmp_path, sync="off", timeout=10)
                assert comes_to(reader, number + 1)
            for name in lost:
                next(tmp_path.glob(f"*/{name}")).unlink()
        assert reader is not None
        reader.close()
