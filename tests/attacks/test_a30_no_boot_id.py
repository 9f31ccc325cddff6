"""A host that does not tell which start of it this is, after a restart without a network.

Before: "" equals "", so times of another start counted: ALLOW at an age of 1.4 s, of data that the server had blocked long
since. So it is with ProcSubset=pid of systemd, and was on macOS.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cqar import model
from cqar.client import Decision, _clock, connect
from tests.attacks.clocks import WITHOUT_BOOT_ID, asked, works
from tests.attacks.marks import attack
from tests.faults.replica.liar import Liar
from tests.worlds import World, catalogue

pytestmark = [
    attack("A30", by="a host without a boot id", promise="no boot id, no age: UNKNOWN, with the reason"),
    pytest.mark.skipif(not works(*WITHOUT_BOOT_ID), reason="hiding the boot id takes mount namespaces"),
]

ASSET = msgspec.convert(catalogue()["asset"][0], model.Asset)


@pytest.mark.parametrize("who", ["the reader", "the syncer", "both"])
def test_without_a_boot_id_no_age_is_known(who: str, tmp_path: Path) -> None:
    """Whoever of the two does not have it: the times of the other may be of another start."""
    with Liar(World([ASSET], position=0)) as liar:
        liar.commit(ASSET)
        if who != "the reader":
            said = asked(WITHOUT_BOOT_ID, liar.target, tmp_path, "auto", ASSET.asset_id)
            assert (said["decision"], said["age"]) == ("UNKNOWN", "inf")
        else:
            with connect(liar.target, replica_dir=tmp_path, timeout=10) as client:
                assert client.check_tradable(ASSET.asset_id).decision is Decision.ALLOW
        said = asked(() if who == "the syncer" else WITHOUT_BOOT_ID, liar.target, tmp_path, "off", ASSET.asset_id)
        assert {said["decision"], *said["usual"]} == {"UNKNOWN"}
        assert (said["age"], said["told"]) == ("inf", "inf")
        assert "which start of the host" in said["reasons"][0]
        assert "which start of the host" in said["error"]


def test_two_unknown_clocks_are_not_one() -> None:
    """The rule itself."""
    assert _clock.difference("") is not None
    assert _clock.difference(_clock.clock_id()) is None
    assert "another start" in str(_clock.difference("11111111-0000-4000-8000-000000000001/0"))
