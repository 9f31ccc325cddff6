"""Somebody overwrites the head, or removes or replaces the replica's folder, under the processes that use it.

Before, the syncer took garbage in the head for complaints, forgot where it was and failed at every step from then on, with 171
lines of log and 12 tracebacks, while its lock kept others from taking over; without a folder all stayed quietly stale for good.
Now the syncer makes everything again, and says so once; the readers go over to the new files, and nobody sees anything wrong
meanwhile.
"""

from __future__ import annotations

import logging
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cqar.answers import Decision
from cqar.client import Asset, AssetType, Client, UnavailableError, connect
from cqar.client._head import PAGE
from cqar.server.server import ServerThread
from tests.attacks.marks import attack
from tests.integration.test_client import eventually

pytestmark = attack("A13", by="who writes where the replica is", promise="all is whole again within 30 s, said once")

WITHIN = 30.0
LINES = 8  # of log for each process


def garbage(folder: Path) -> None:
    """Write over the head, in the very file."""
    with (folder / "head").open("r+b") as file:
        file.write(random.Random(13).randbytes(PAGE))


def words(folder: Path) -> None:
    """Write over what changes in the head, and leave what it describes."""
    with (folder / "head").open("r+b") as file:
        file.write(random.Random(14).randbytes(128))


def another_head(folder: Path) -> None:
    """Put another file in the head's place."""
    work = folder / "work"
    work.write_bytes(random.Random(15).randbytes(PAGE))
    work.rename(folder / "head")


def no_lock(folder: Path) -> None:
    """Remove the lock."""
    (folder / "lock").unlink()


def no_generations(folder: Path) -> None:
    """Remove all generations."""
    for path in folder.glob("gen-*"):
        shutil.rmtree(path)


def no_folder(folder: Path) -> None:
    """Remove everything."""
    aside = folder.with_name("gone")  # at once: a removal file by file meets processes that make them again
    folder.rename(aside)
    shutil.rmtree(aside)


def a_file(folder: Path) -> None:
    """Put a file in the folder's place."""
    no_folder(folder)
    folder.write_text("not a folder")


ATTACKS = (garbage, words, another_head, no_lock, no_generations, no_folder, a_file)


@pytest.fixture
def host(server: ServerThread, tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    """Yield the client of a process that syncs, and one that only reads."""
    base = tmp_path / "replica"
    with (
        connect(server.target, replica_dir=base) as leader,
        connect(server.target, replica_dir=base, sync="off") as reader,
    ):
        yield leader, reader


@pytest.fixture
def late(server: ServerThread, tmp_path: Path) -> Callable[[], Client]:
    """Return what connects a process that only reads, and comes later."""
    return lambda: connect(server.target, replica_dir=tmp_path / "replica", sync="off")


def written(client: Client, symbol: str) -> tuple[Asset, int]:
    """Create an asset; return it with the position of the write."""
    done = client.registry.create_asset(Asset(symbol=symbol, name=symbol, asset_type=AssetType.TOKEN))
    return done.asset, done.position


def sees(client: Client, asset: Asset, position: int) -> bool:
    """Report whether a replica shows a write and is level; a read before that may be answered by the server."""
    client.check_tradable(asset.asset_id)  # who only waits for an age finds out what happened to the head
    try:
        client.wait_for(position, timeout=0.1)
    except UnavailableError:
        return False
    return client.check_tradable(asset.asset_id).decision is Decision.ALLOW


@pytest.mark.parametrize("what", ATTACKS, ids=lambda each: each.__name__)
def test_all_is_made_again(
    what: Callable[[Path], None],
    host: tuple[Client, Client],
    late: Callable[[], Client],
    scale: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After the attack a write is seen by all processes of the host within 30 s, and the log tells of it in a few lines."""
    leader, reader = host
    asset, position = written(leader, "FIRST")
    eventually(lambda: sees(leader, asset, position) and sees(reader, asset, position))
    generation = Path(leader.status().generation)
    for number in range(scale):
        caplog.clear()
        what(generation.parent)
        began = time.monotonic()
        assert leader.resolve("FIRST").asset == asset
        assert reader.resolve("FIRST").asset == asset
        asset_again, position = written(leader, f"AGAIN{number}")
        for client in host:
            eventually(lambda: sees(client, asset_again, position), WITHIN)  # noqa: B023
            assert client.resolve(f"AGAIN{number}").source == "replica"
        eventually(lambda: Path(reader.status().generation).is_dir(), WITHIN)
        with late() as newcomer:
            assert sees(newcomer, asset_again, position)
        assert time.monotonic() - began < WITHIN
        lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) <= 2 * LINES, [record.getMessage() for record in lines]
        assert not [record for record in lines if record.exc_info]
        generation = Path(leader.status().generation)


def test_garbage_in_the_middle_of_a_repair(host: tuple[Client, Client], caplog: pytest.LogCaptureFixture) -> None:
    """A head that is overwritten while the replica is being made again is published again like any other."""
    leader, reader = host
    asset, position = written(leader, "FIRST")
    eventually(lambda: sees(leader, asset, position) and sees(reader, asset, position))
    head, folder = leader._view.head, Path(leader.status().generation).parent
    assert head is not None
    head.ask_for_rebuild()
    syncer = leader._thread.syncer  # type: ignore[union-attr]
    eventually(lambda: syncer._load is not None)
    for _ in range(20):
        garbage(folder)
        time.sleep(0.02)
    asset, position = written(leader, "AGAIN")
    for client in host:
        eventually(lambda: sees(client, asset, position), WITHIN)  # noqa: B023
    assert not [record for record in caplog.records if record.exc_info]
    assert folder == Path(reader.status().generation).parent
