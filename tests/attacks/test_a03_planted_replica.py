"""Another account plants a replica where a trading service looks for its own: in a cache directory that both may write to.

Before: the gate answered from it, ALLOW where the server says BLOCK, with `sync="auto"` and with "off".
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from cqar import model
from cqar.client import (
    Client,
    CqarError,
    Decision,
    InvalidError,
    NotReadyError,
    _place,
    _trust,
    connect,
    open_snapshot,
)
from tests.attacks.marks import attack
from tests.faults.replica.liar import Liar
from tests.worlds import World, catalogue

pytestmark = [
    attack(
        "A3", by="another account of the host", promise="no answer comes from a file that another account could write"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="playing another account takes root"),
]

STRANGER = 12345
ASSET = msgspec.convert(catalogue()["asset"][0], model.Asset)
FLAG = model.QualityFlag(
    flag_id="00000000-0000-4000-8000-0000000000f1",
    asset_id=ASSET.asset_id,
    flag_type=model.FlagType.IMPOSTOR,
    severity=model.Severity.CRITICAL,
    source="desk",
    reason="hacked",
)


@pytest.fixture
def registry() -> Iterator[Liar]:
    """The server: it says BLOCK."""
    with Liar(World([ASSET], position=0)) as liar:
        liar.commit(FLAG)
        yield liar


def hand_over(path: Path, account: int = STRANGER) -> None:
    """Give a file, or a folder with all that is in it, to another account."""
    for each in (path, *path.rglob("*")):
        os.chown(each, account, account, follow_symlinks=False)


@pytest.fixture
def forgery(registry: Liar, tmp_path: Path) -> Path:
    """A replica of another registry, without the flag, level a moment ago, under the name of the server's."""
    with Liar(World([ASSET], position=0)) as other:
        other.commit(msgspec.structs.replace(ASSET, name="all is well"))
        with connect(other.target, replica_dir=tmp_path / "elsewhere") as client:
            client.wait_for(1)
            assert client.check_tradable(ASSET.asset_id).decision is Decision.ALLOW
        made = _place.folder_of(tmp_path / "elsewhere", other.target)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    return made.rename(_place.folder_of(shared, registry.target))


def verdict(client: Client) -> Decision:
    """Ask the gate."""
    return client.check_tradable(ASSET.asset_id).decision


def never_allows(registry: Liar, shared: Path, sync: Literal["auto", "off"]) -> str:
    """Connect and ask for a while; return what `connect` refused, "" if it went on."""
    try:
        client = connect(registry.target, replica_dir=shared, sync=sync, timeout=5)
    except CqarError as error:
        return f"{error.reason}: {error}"
    with client:
        deadline = time.monotonic() + (8 if sync == "auto" else 0.5)
        while (said := verdict(client)) is not Decision.BLOCK and time.monotonic() < deadline:
            assert said is Decision.UNKNOWN
            time.sleep(0.05)
        if sync == "auto":
            assert verdict(client) is Decision.BLOCK
    return ""


@pytest.mark.parametrize("sync", ["auto", "off"])
def test_a_planted_replica_is_refused(sync: Literal["auto", "off"], registry: Liar, forgery: Path) -> None:
    """The error says what, whose, and what to do. Were it the service's own, it would be believed: so the forgery is good."""
    hand_over(forgery)
    said = never_allows(registry, forgery.parent, sync)
    assert said.startswith("REPLICA_OWNER")
    assert all(each in said for each in (str(forgery), str(STRANGER), "replica_owner", "remove it"))


def test_the_forgery_is_believed_if_it_is_ones_own(registry: Liar, forgery: Path) -> None:
    """Or that of an account which configuration names: what is refused is the owner."""
    with connect(registry.target, replica_dir=forgery.parent, sync="off") as client:
        assert verdict(client) is Decision.ALLOW
    hand_over(forgery)
    with connect(registry.target, replica_dir=forgery.parent, sync="off", replica_owner=STRANGER) as client:
        assert verdict(client) is Decision.ALLOW


def newest(folder: Path, name: str) -> Path:
    """Find a file of the replica."""
    (found,) = folder.glob(name)
    return found


PLANTED: dict[str, Callable[[Path], Path]] = {
    "the head": lambda folder: folder / "head",
    "the generation": lambda folder: newest(folder, "gen-*"),
    "meta.json": lambda folder: newest(folder, "gen-*/meta.json"),
    "the index": lambda folder: newest(folder, "gen-*/index.lmdb"),
    "the tables": lambda folder: newest(folder, "gen-*/tables.duckdb"),
    "the tail": lambda folder: newest(folder, "gen-*/tail-*"),
}


def _owned(path: Path) -> None:
    os.chown(path, STRANGER, STRANGER)


def _open_to_all(path: Path) -> None:
    path.chmod(0o777 if path.is_dir() else 0o666)


def _linked(path: Path) -> None:
    away = path.parent / f"away-{path.name}"
    path.rename(away)
    hand_over(away)
    path.symlink_to(away)


def _link_of_ones_own(path: Path) -> None:
    path.symlink_to(path.rename(path.parent / f"away-{path.name}"))


@pytest.mark.parametrize("how", [_owned, _open_to_all, _linked, _link_of_ones_own])
@pytest.mark.parametrize("what", PLANTED)
def test_each_file_of_it_is_looked_at(what: str, how: Callable[[Path], None], registry: Liar, forgery: Path) -> None:
    """One file that another account owns, may write to or has linked to its own is enough."""
    how(PLANTED[what](forgery))
    with pytest.raises(NotReadyError):
        connect(registry.target, replica_dir=forgery.parent, sync="off", timeout=0.2)


@pytest.mark.parametrize("what", PLANTED)
def test_who_syncs_puts_its_own_in_its_place(what: str, registry: Liar, forgery: Path) -> None:
    """What was planted while the folder was open to others is replaced: the server's answer is what counts."""
    hand_over(PLANTED[what](forgery))
    if what == "the head":  # what is left without one is gone on with, if it is one's own
        hand_over(PLANTED["the generation"](forgery))
    forgery.chmod(0o777)
    assert never_allows(registry, forgery.parent, "auto") == ""
    assert forgery.stat().st_mode & 0o022 == 0


def test_a_pipe_in_the_place_of_a_head_keeps_nobody_waiting(registry: Liar, forgery: Path) -> None:
    """It is no file, so it is refused."""
    (forgery / "head").unlink()
    os.mkfifo(forgery / "head")
    began = time.monotonic()
    with pytest.raises(NotReadyError):
        connect(registry.target, replica_dir=forgery.parent, sync="off", timeout=0.2)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("sync", ["auto", "off"])
def test_a_folder_of_replicas_that_is_a_strangers_is_refused(
    sync: Literal["auto", "off"], registry: Liar, forgery: Path
) -> None:
    """Its owner may rename what is in it, sticky or not."""
    _owned(forgery.parent)
    assert never_allows(registry, forgery.parent, sync).startswith("REPLICA_OWNER")


def test_a_folder_that_all_may_rename_in_is_warned_of(
    registry: Liar, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be the volume of a pod, so it is used."""
    shared = tmp_path / "volume"
    shared.mkdir()
    shared.chmod(0o777)
    with caplog.at_level(logging.WARNING), connect(registry.target, replica_dir=shared / "sub") as client:
        client.wait_for(1)
        assert verdict(client) is Decision.BLOCK
    assert "other accounts may write to" in caplog.text


def test_what_the_library_makes_is_closed_to_others(registry: Liar, tmp_path: Path) -> None:
    """Whatever the umask is; the folder of a version before, made under another umask, is closed."""
    before = os.umask(0)
    try:
        with connect(registry.target, replica_dir=tmp_path / "replica", timeout=5) as client:
            client.wait_for(1)
        world = World([ASSET])
        with open_snapshot(world.publish(tmp_path / "snapshots").path, replica_dir=tmp_path / "replica"):
            pass
    finally:
        os.umask(before)
    for path in (tmp_path / "replica", *(tmp_path / "replica").rglob("*")):
        assert path.stat().st_mode & 0o022 == 0, path


@pytest.mark.parametrize("what", ["folder of the log", "generation", "index.lmdb", "base"])
def test_open_snapshot_reads_no_planted_generation(what: str, tmp_path: Path) -> None:
    """A generation without the flag, planted in the place of the snapshot's own."""
    clean, real = World([ASSET]), World([ASSET, FLAG])
    shared = tmp_path / "shared"
    with open_snapshot(clean.publish(tmp_path / "clean").path, replica_dir=shared) as client:
        folder = client.status().generation
    generation = next(shared.glob("*/gen-*"))
    shared.chmod(0o1777)
    place = {"folder of the log": generation.parent, "generation": generation, "base": shared}.get(what)
    hand_over(place) if place is not None else _owned(generation / what)
    assert folder
    published = real.publish(tmp_path / "real").path
    if what in {"folder of the log", "base"}:
        with pytest.raises(InvalidError) as refused:
            open_snapshot(published, replica_dir=shared)
        assert refused.value.reason == "REPLICA_OWNER"
        return
    with open_snapshot(published, replica_dir=shared) as client:
        assert client.check_tradable(ASSET.asset_id, max_age=1e9).decision is Decision.BLOCK


def test_an_account_is_named_by_name_or_number() -> None:
    """Several with commas; one that is not known is an error that says so."""
    assert _trust.owners("nobody") == _trust.owners(65534) == frozenset({0, 65534})
    assert _trust.owners("nobody, 12345") == frozenset({0, 12345, 65534})
    with pytest.raises(InvalidError, match="no account 'nobodies'"):
        _trust.owners("nobodies")


def test_the_variable_names_one_too(registry: Liar, forgery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As deploy/ sets it."""
    hand_over(forgery)
    monkeypatch.setenv(_trust.VARIABLE, str(STRANGER))
    with connect(registry.target, replica_dir=forgery.parent, sync="off") as client:
        assert client.position == 1
    shutil.rmtree(forgery)
