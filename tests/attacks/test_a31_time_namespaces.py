"""A reader in a time namespace, as containers may have, whose CLOCK_BOOTTIME is 12 s behind the syncer's.

Before: its ages were too small by the offset: the last ALLOW came 26 s after the server fell silent, of 15 allowed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cqar import model
from cqar.client import Decision, connect
from tests.attacks.clocks import asked, in_time_namespace, works
from tests.attacks.marks import attack
from tests.faults.replica.liar import Liar
from tests.worlds import World, catalogue

pytestmark = [
    attack("A31", by="a container with a clock of its own", promise="an age is never told too small"),
    pytest.mark.skipif(not works(*in_time_namespace(-12)), reason="needs time namespaces, and the right to make one"),
]

ASSET = msgspec.convert(catalogue()["asset"][0], model.Asset)


@pytest.mark.parametrize("seconds", [-12, 12, -1])
def test_times_of_another_time_namespace_do_not_count(seconds: int, tmp_path: Path) -> None:
    """Behind or ahead, by however little: not known, and told so."""
    with Liar(World([ASSET], position=0)) as liar:
        liar.commit(ASSET)
        with connect(liar.target, replica_dir=tmp_path, timeout=10) as client:
            said = asked(in_time_namespace(seconds), liar.target, tmp_path, "off", ASSET.asset_id)
            assert {said["decision"], *said["usual"]} == {"UNKNOWN"}
            assert (said["age"], said["told"]) == ("inf", "inf")
            assert "time namespace" in said["reasons"][0]
            assert "time namespace" in said["error"]
            assert client.check_tradable(ASSET.asset_id).decision is Decision.ALLOW


def test_two_that_share_a_time_namespace_understand_each_other(tmp_path: Path) -> None:
    """A namespace without an offset shows the host's clock; and a syncer in one is followed by itself."""
    with Liar(World([ASSET], position=0)) as liar:
        liar.commit(ASSET)
        with connect(liar.target, replica_dir=tmp_path, timeout=10):
            said = asked(in_time_namespace(0), liar.target, tmp_path, "off", ASSET.asset_id)
            assert said["decision"] == "ALLOW"
        said = asked(in_time_namespace(-12), liar.target, tmp_path / "own", "auto", ASSET.asset_id)
        assert said["decision"] == "ALLOW"
