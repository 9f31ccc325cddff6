"""Files of a replica cut off and overwritten, closed and open: no process dies of it, no answer is wrong, all is repaired.

What is mapped (the index, the head) must not be cut off while processes have it open: that kills them, and nothing can be done
about it. So files are cut off here while nobody has them open, and the tail, which is read and not mapped, at any time. Bits may
turn anywhere at any time.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cqar.client import _head
from cqar.client._folder import Folder
from cqar.client._view import now
from tests.faults.replica.host import Member, Truth, host, some, until
from tests.faults.replica.proxy import Proxy
from tests.faults.replica.writer import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
Damage = Callable[[Path], None]


def cut(part: float) -> Damage:
    """Leave a part of a file."""
    return lambda path: os.truncate(path, int(path.stat().st_size * part))


def cut_page(path: Path) -> None:
    """Take away the last page."""
    os.truncate(path, max(0, path.stat().st_size - 4096))


def garbage(start: int, length: int) -> Damage:
    """Overwrite a piece."""

    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(min(start, max(0, path.stat().st_size - length)))
            file.write(random.Random(start).randbytes(length))

    return damage


def flips(count: int, first: int = 0) -> Damage:
    """Turn single bits all over a file, from a byte on."""

    def damage(path: Path) -> None:
        source = random.Random(count)
        data = bytearray(path.read_bytes())
        for _ in range(count):
            data[source.randrange(first, len(data))] ^= 1 << source.randrange(8)
        with path.open("r+b") as file:  # the same file, as it is mapped
            file.write(data)

    return damage


def values(path: Path) -> None:
    """Turn a bit of every value that has a name in it, in the same file, as it is mapped."""
    data = bytearray(path.read_bytes())
    for text in (b"name ", b"Some"):
        start = -1
        while (start := data.find(text, start + 1)) >= 0:
            data[start + 1] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def missing(path: Path) -> None:
    """Remove a file."""
    path.unlink()


CLOSED: dict[str, tuple[str, Damage]] = {
    "index cut to nothing": ("gen-*/index.lmdb", cut(0)),
    "index cut to half": ("gen-*/index.lmdb", cut(0.5)),
    "index cut by a page": ("gen-*/index.lmdb", cut_page),
    "index with damaged meta pages": ("gen-*/index.lmdb", garbage(0, 8192)),
    "index with flipped bits": ("gen-*/index.lmdb", values),
    "index missing": ("gen-*/index.lmdb", missing),
    "tables cut to half": ("gen-*/tables.duckdb", cut(0.5)),
    "tables with flipped bits": ("gen-*/tables.duckdb", flips(2000, 64)),
    "meta cut to nothing": ("gen-*/meta.json", cut(0)),
    "meta with flipped bits": ("gen-*/meta.json", flips(8)),
    "meta missing": ("gen-*/meta.json", missing),
    "tail cut to half": ("gen-*/tail-*", cut(0.5)),
    "tail with flipped bits": ("gen-*/tail-*", flips(30)),
    "tail missing": ("gen-*/tail-*", missing),
    "head cut": ("head", cut(0.5)),
    "head with flipped bits": ("head", flips(60)),
    "head of garbage": ("head", garbage(0, 4096)),
    "head missing": ("head", missing),
    "lock of garbage": ("lock", garbage(0, 16)),
}


def whole(member: Member, truth: Truth) -> bool:
    """Tell whether a member shows the server's present state, in its records and its tables."""
    told = member.ask("digest")
    if "error" in told or told["position"] < truth.position:
        return False
    truth.check(told)
    rows = member.ask("tables")
    return "error" not in rows and len(rows["names"]) == 1


@pytest.fixture(scope="module")
def closed(target: str, truth: Truth, writer: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a replica that nobody has open, with a generation that is not empty and a tail after it."""
    for _ in range(30):
        writer._write()
    time.sleep(1.5)  # a snapshot is made
    place = tmp_path_factory.mktemp("closed")
    with host(target, place) as several:
        member = several.start(watch=False).ready()
        for _ in range(10):
            position = writer.write_pair()
        member.ask("wait", position=position)
        assert member.end() == 0
        assert list(several.shared.glob("gen-*[1-9]*/tail-*"))
        return several.replica_dir


@pytest.mark.parametrize("what", some(CLOSED, 4))
def test_a_replica_that_was_damaged_is_built_anew(
    what: str, closed: Path, target: str, truth: Truth, folder: Path
) -> None:
    """F7: whatever was done to a file while nobody had it open, the next process gives right answers, and repairs it."""
    pattern, damage = CLOSED[what]
    shutil.copytree(closed, folder / "replica")
    with host(target, folder) as several:
        for path in several.shared.glob(pattern):
            damage(path)
        member = several.start().ready()
        until(lambda: whole(member, truth), "all is right", 15)
        several.check_account(member, truth)
        assert member.end() == 0, member.log
        assert "Traceback" not in member.log, member.log


OPEN: dict[str, tuple[str, Damage]] = {
    "index": ("gen-*/index.lmdb", values),
    "tables": ("gen-*/tables.duckdb", flips(2000, 64)),
    "meta": ("gen-*/meta.json", flips(8)),
    "index anywhere": ("gen-*/index.lmdb", flips(40, 8192)),
    "tail": ("gen-*/tail-*", flips(30)),
    "tail cut": ("gen-*/tail-*", cut(0.5)),
    "head": ("head", garbage(16 * 8, 1900)),
    "lock": ("lock", garbage(0, 16)),
}


def test_files_damaged_while_they_are_open_give_no_wrong_answer(
    target: str, truth: Truth, writer: Writer, folder: Path
) -> None:
    """F7: readers notice, ask the server, and the syncer repairs the replica, for those who join later too."""
    with host(target, folder, constants={"_sync.REPAIR": 0.05}) as several:
        for _ in range(30):
            writer._write()
        time.sleep(1.2)
        members = [several.start().ready(), several.start(sync="off").ready()]
        for what in some(OPEN, 3):
            pattern, damage = OPEN[what]
            for _ in range(5):
                position = writer.write_pair()
            members[1].ask("wait", position=position)
            for path in several.shared.glob(pattern):
                damage(path)
            writer.write_pair()
            late = several.start(sync="off", watch=False).ready()
            for member in (*members, late):
                until(lambda: whole(member, truth), f"all is right after damage to {what}", 20)  # noqa: B023
            late.kill()
        several.check(truth)
        for member in members:
            assert "Traceback" not in member.log, member.log


WORDS = {
    "length": (_head.LENGTH, 1 << 40),
    "length shorter": (_head.LENGTH, 3),
    "moved": (_head.LENGTH, _head.MOVED),
    "heard in the future": (_head.HEARD, 1 << 62),
    "state": (_head.STATE, 99),
    "server": (_head.SERVER, 1 << 60),
    "position": (_head.POSITION, 1 << 60),
    "complaints": (_head.COMPLAINTS, 1 << 63),
}


def test_words_of_the_head_that_are_overwritten_are_mended(
    target: str, truth: Truth, writer: Writer, folder: Path
) -> None:
    """F7: no word of the head, whatever it says, makes data younger than they are, or keeps readers from what comes next."""
    with Proxy(target) as proxy, host(proxy.target, folder, constants={"_sync.REPAIR": 0.05}) as several:
        members = [several.start().ready(), several.start(sync="off").ready()]
        asset_id = writer.pair[0]
        for what, (index, value) in WORDS.items():
            head = Folder(several.shared).head()
            assert head is not None
            head.words[index] = value
            time.sleep(0.3)
            until(lambda: whole(members[1], truth), f"it is mended after {what}")
            until(lambda: members[1].ask("gate", asset_id=asset_id)["decision"] == "ALLOW", f"it is level after {what}")
            position = writer.write_pair()
            for member in members:
                member.ask("wait", position=position)
            assert members[1].ask("status")["head_position"] < 1 << 50
        head = Folder(several.shared).head()
        assert head is not None
        proxy.cut()
        silent_at = now()
        head.words[_head.HEARD] = 1 << 62
        time.sleep(2)
        for member in members:
            assert member.ask("gate", asset_id=asset_id)["age"] > now() - silent_at - 0.5
        proxy.restore()
        several.check(truth)


def _fill(path: Path) -> Path:
    """Take all space that is left."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 16 MB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=16m none {place} 2>/dev/null"):
        pytest.skip("mounting a tmpfs needs root")
    yield place
    os.system(f"umount -l {place}")


def test_reads_go_on_while_the_disk_is_full(target: str, truth: Truth, writer: Writer, small_disk: Path) -> None:
    """F8: while nothing can be appended, nor a generation built, readers are right and say their age; then all is well again."""
    with host(target, small_disk / "host", constants={"_sync.TAIL_CHANGES": 150}) as several:
        members = [several.start().ready(), several.start(sync="off").ready()]
        for _ in range(2):
            filler = _fill(small_disk)
            with writer.at_work():
                until(lambda: members[1].ask("status")["last_error"], "the trouble is told")
                assert "space" in members[1].ask("status")["last_error"]
                stuck = members[1].ask("digest")
                truth.check(stuck)
                assert stuck["position"] < truth.position
                time.sleep(1)
                filler.unlink()
                time.sleep(0.5)
            several.check(truth)
            assert members[0].ask("status")["is_syncer"]
        # In the middle of a build: the tail is past its limit, and there is room for a tail but not for a generation.
        with writer.at_work():
            time.sleep(1)
            filler = _fill(small_disk)
            os.truncate(filler, filler.stat().st_size - (1 << 18))
            time.sleep(2)
            filler.unlink()
            time.sleep(1)
        several.check(truth)
        until(lambda: not [each for each in several.shared.iterdir() if each.name.startswith(".")], "nothing is left")
