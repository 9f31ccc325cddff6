"""One bit turns in the files of a replica: in a page's header, a key, a length, a value, a table; at rest, or under a service.

Before, some 50 of about 900 turned bits of an index answered something else in silence: look-ups and deployments were not found,
and `flags()` of a flagged asset was empty; a length could kill the process (SIGBUS). Now a checksum proves what is found, its two
neighbours prove what is not found, and zeros at the end of the file end a wrong length: no answer is wrong at any time. The host's
syncer also notices by itself, where nobody read: on taking over at once, else within 10 s.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from cqar import model
from cqar.answers import Decision
from cqar.client import Client, FlagType, QualityFlag, Severity, UnavailableError, connect
from cqar.client._generation import INDEX, TABLES, verify
from cqar.client._place import bundled_catalogue
from cqar.errors import SnapshotError
from cqar.importers import run
from cqar.server.config import Config
from cqar.server.server import ServerThread
from tests.attacks import flips
from tests.attacks.marks import attack
from tests.generations import built
from tests.integration.test_client import eventually
from tests.worlds import World, catalogue, excerpt

pytestmark = attack("A15", by="a damaged disk or memory", promise="no bit that turns changes an answer in silence")

WITHIN = 30.0
SYMBOLS = ("USDC", "USDT", "DAI", "WETH", "ETH", "stETH", "BTC", "WBTC", "SOL")


def world(records: list[model.Record]) -> World:
    """Return a world in which every third asset has a critical flag."""
    made = World(records)
    made.commit(
        [
            model.QualityFlag(
                flag_id=f"flag-{asset.asset_id}",
                asset_id=asset.asset_id,
                flag_type=FlagType.SCAM,
                severity=Severity.CRITICAL,
                source="test",
                reason="of the test",
            )
            for asset in made.all("asset")[::3]
            if isinstance(asset, model.Asset)
        ]
    )
    return made


@pytest.mark.parametrize(("what", "count"), [("client", 30), ("index", 3)])
def test_no_turned_bit_changes_an_answer(what: str, count: int, scale: int, tmp_path: Path) -> None:
    """Whichever bit turns under an open client or index, each answer is right, or says that the replica is damaged.

    The client over some assets, so that most bits matter to some question; the index over the whole bundled catalogue.
    """
    records = excerpt(SYMBOLS) if what == "client" else [record for kind in catalogue().values() for record in kind]
    path = tmp_path / "gen"
    built(world(records), path)
    done = subprocess.run(
        [sys.executable, "-m", flips.__name__, str(path), "15", str(count * scale), what],
        capture_output=True,
        text=True,
        check=True,
    )
    account = json.loads(done.stdout)
    assert account["wrong"] == []
    assert account["killed"] == []
    assert account["told"] >= count * scale // 6
    assert account["told"] + account["harmless"] == count * scale
    verify(path)


@pytest.fixture
def config(config: Config) -> Config:
    """A server that makes snapshots."""
    return msgspec.structs.replace(config, snapshot_interval=1.0)


@pytest.fixture
def flagged(server: ServerThread, tmp_path: Path) -> str:
    """Load the bundled catalogue into the server; return the id of an asset with a critical flag."""
    with connect(server.target, replica_dir=tmp_path / "other") as client:
        run("snapshot", bundled_catalogue(), client.registry)
        asset_id = client.registry.resolve("WETH").asset.asset_id
        flag = QualityFlag(
            asset_id=asset_id, flag_type=FlagType.SCAM, severity=Severity.CRITICAL, source="test", reason="of the test"
        )
        client.registry.raise_quality_flag(flag)
    time.sleep(2.5)  # a snapshot is made
    return asset_id


def turned(path: Path, source: random.Random) -> None:
    """Turn a bit of an index or tables, in the file as it is open."""
    data = path.read_bytes().rstrip(b"\0")
    at = flips.place(data, source, pages=path.name == INDEX)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1 << source.randrange(8)]))


def is_whole(client: Client) -> bool:
    """Report whether the generation that a client reads is whole."""
    try:
        verify(Path(client.status().generation))
    except SnapshotError:
        return False
    return True


def test_a_host_notices_by_itself(server: ServerThread, flagged: str, tmp_path: Path, scale: int) -> None:
    """Within 30 s all is whole again though nobody read there; meanwhile the gate is right, or says UNKNOWN.

    What was damaged at rest, before a start of the host perhaps, is noticed by the process that takes over.
    """
    source, base = random.Random(15), tmp_path / "replica"
    with (
        connect(server.target, replica_dir=base) as leader,
        connect(server.target, replica_dir=base, sync="off") as reader,
    ):
        clean = reader.resolve("USDC").asset.asset_id
        assert reader.check_tradable(clean).decision is Decision.ALLOW
        for number in range(scale):
            turned(Path(leader.status().generation) / (TABLES if number % 3 == 2 else INDEX), source)
            began = time.monotonic()
            while not is_whole(reader):
                assert time.monotonic() - began < WITHIN
                assert reader.check_tradable(flagged).decision is not Decision.ALLOW
                assert reader.check_tradable(clean).decision is not Decision.BLOCK
                with contextlib.suppress(UnavailableError):
                    assert reader.flags(flagged)
                time.sleep(0.1)
            assert reader.check_tradable(clean).decision is Decision.ALLOW
            assert reader.check_tradable(flagged).decision is Decision.BLOCK
        left = Path(leader.status().generation)
    turned(left / INDEX, source)
    began = time.monotonic()
    with connect(server.target, replica_dir=base) as later:
        eventually(lambda: is_whole(later), WITHIN)
        assert time.monotonic() - began < WITHIN
        assert later.check_tradable(flagged).decision is Decision.BLOCK
        assert later.status().generation != str(left)
