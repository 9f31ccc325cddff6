"""Records of the index are damaged, and the only process that meets them may not write to the head.

Before, its complaints went nowhere, and 20 answers were UNKNOWN or NOT_FOUND for good: systemd unit, compose and Kubernetes files
all recommend such an account for readers. Now the syncer looks at every byte every 10 s by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cqar.client import Asset, AssetType, Client, connect
from cqar.client._generation import INDEX
from cqar.server.server import ServerThread
from tests.attacks.marks import attack
from tests.integration.test_client import eventually

pytestmark = attack("A14", by="a damaged disk", promise="what only a reader meets is whole again within 30 s")

WITHIN = 30.0
ASSETS = 20
# Reads, and tells what it sees, until its input ends.
READER = """
import json, sys
from cqar.client import CqarError, connect
client = connect(sys.argv[1], replica_dir=sys.argv[2], sync="off")
for line in sys.stdin:
    told = {"may complain": client._view.head.complain(), "names": [], "decisions": []}
    for asset_id in json.loads(line):
        try:
            record = client._replica.get("asset", asset_id)  # below the client, which would ask the server
            told["names"].append(record and record.name)
        except CqarError as error:
            told["names"].append(error.reason)
        told["decisions"].append(client.check_tradable(asset_id).decision)
    print(json.dumps(told), flush=True)
"""
# Takes root's right to write what a mode forbids (CAP_DAC_OVERRIDE), which no other account has, and runs a program.
WITHOUT_RIGHTS = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


@pytest.fixture
def leader(server: ServerThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Yield the client of the process that syncs, over a generation that holds some assets."""
    monkeypatch.setattr("cqar.client._sync.TAIL_CHANGES", ASSETS)
    with connect(server.target, replica_dir=tmp_path / "replica") as client:
        for number in range(ASSETS):
            position = client.registry.create_asset(
                Asset(symbol=f"COIN{number}", name=f"Some name {number}", asset_type=AssetType.TOKEN)
            ).position
        client.wait_for(position)
        eventually(lambda: client.status().changes_since_generation == 0, 20)
        yield client


@pytest.fixture
def reader(server: ServerThread, leader: Client, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that may only read, and asks when it is told ids."""
    head = Path(leader.status().generation).parent / "head"
    head.chmod(0o444)
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_RIGHTS, READER, server.target, str(tmp_path / "replica")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def ask(reader: subprocess.Popen[str], ids: list[str]) -> dict[str, Any]:
    """Return what the reader sees of assets."""
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write(json.dumps(ids) + "\n")
    reader.stdin.flush()
    told: dict[str, Any] = json.loads(reader.stdout.readline())
    return told


def damage(path: Path) -> None:
    """Turn a bit of every name, in the file as it is mapped."""
    data = bytearray(path.read_bytes())
    start = -1
    while (start := data.find(b"Some name", start + 1)) >= 0:
        data[start] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def test_what_only_a_reader_meets_is_repaired(leader: Client, reader: subprocess.Popen[str], scale: int) -> None:
    """No name is wrong and no asset safe meanwhile; within 30 s all are read and safe again, though nobody could complain."""
    names = {asset.asset_id: asset.name for asset in leader.list_assets()}
    ids = list(names)
    seen = ask(reader, ids)
    assert seen == {"may complain": False, "names": list(names.values()), "decisions": ["ALLOW"] * ASSETS}
    for _ in range(scale):
        generation = Path(leader.status().generation)
        (generation.parent / "head").chmod(0o444)
        damage(generation / INDEX)
        began = time.monotonic()
        time.sleep(0.2)  # a verdict holds for 0.1 s
        told = ask(reader, ids)
        assert told["names"] == ["BAD_INDEX"] * ASSETS
        assert told["decisions"] == ["UNKNOWN"] * ASSETS
        while (told := ask(reader, ids))["decisions"] != ["ALLOW"] * ASSETS:
            assert all(
                found in {"BAD_INDEX", right} for found, right in zip(told["names"], names.values(), strict=True)
            )
            assert time.monotonic() - began < WITHIN
            time.sleep(0.2)
        assert ask(reader, ids)["names"] == list(names.values())
        assert time.monotonic() - began < WITHIN
