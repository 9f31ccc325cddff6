"""The simulated folder does what the real one does: what is proven over the one holds for the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cqar.client import _folder
from cqar.client._head import LENGTH, MOVED, POSITION, About
from cqar.errors import SnapshotError
from tests.simulator import folder as simulated
from tests.simulator.world import Made, MemoryIndex
from tests.worlds import World


class Idle:
    """A process to which nothing happens."""

    number, appended = 1, 0

    def point(self, what: str) -> None:
        """Go on."""


def about(generation: str, tail: str) -> About:
    """A head."""
    return About(
        log_id="00000000-0000-4000-8000-000000000001",
        term=1,
        history=0,
        generation=generation,
        tail=tail,
        clock="boot",
        pid=1,
    )


@pytest.fixture(params=["real", "simulated"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Callable[[], Any], str]:
    """How a process opens a folder, and a generation that is there."""
    world = World()
    if request.param == "real":
        folder = _folder.Folder(tmp_path / "replica")
        path = folder.new_generation(1)
        world.generation(path)
        return (lambda: _folder.Folder(tmp_path / "replica")), path.name
    disk = simulated.Disk()
    name = disk.publish(Made(world.head, MemoryIndex(world.records), frozenset()))
    return (lambda: simulated.Folder(disk, Idle())), name


def test_one_process_holds_the_lock_until_another_takes_it(opened: tuple[Callable[[], Any], str]) -> None:
    """A lock is held by one; a seized one is no longer the holder's, who can still let go of it; then it is free again."""
    open_folder, _ = opened
    one, other = open_folder(), open_folder()
    assert one.beat() == (0, 0)
    lock = one.try_lock()
    assert lock.held()
    assert other.try_lock() is None
    noted = other.beat()
    lock.beat()
    assert other.beat() != noted
    seized = other.seize()
    assert (lock.held(), seized.held()) == (False, True)
    lock.release()
    assert one.try_lock() is None
    seized.release()
    assert one.try_lock().held()


def test_a_head_takes_the_place_of_another(opened: tuple[Callable[[], Any], str]) -> None:
    """All mappings of a head show the same words; the one that is left says so, and only the new one is present."""
    open_folder, generation = opened
    writer, reader = open_folder(), open_folder()
    assert reader.head() is None
    first = writer.publish(about(generation, "tail-a"), {POSITION: 1}, None)
    seen = reader.head()
    first.words[POSITION] = 7
    assert (seen.words[POSITION], seen.about, seen.identity) == (7, first.about, first.identity)
    assert reader.is_present(seen)
    first.trouble = "none"
    assert seen.trouble == "none"
    second = writer.publish(about(generation, "tail-b"), {POSITION: 8}, first)
    assert seen.words[LENGTH] == MOVED
    assert not reader.is_present(seen)
    assert reader.head().identity == second.identity != seen.identity


def test_a_tail_is_appended_to_and_outlives_its_name(opened: tuple[Callable[[], Any], str]) -> None:
    """What is appended is read by those who have the tail open, also when `clean` has removed it; a new reader finds it gone."""
    open_folder, generation = opened
    writer, reader = open_folder(), open_folder()
    tail = writer.new_tail(generation, b"one", 4)
    opened_tail = reader.tail(generation, tail.name)
    kept = writer.new_tail(generation, b"", 5)
    assert (_folder.history_of(tail.name), _folder.history_of(kept.name)) == (4, 5)
    assert sorted(reader.tails(generation)) == sorted([tail.name, kept.name])
    writer.clean(writer.publish(about(generation, kept.name), {}, None))
    tail.append(b"two")
    assert (tail.length, opened_tail.read(1, 5), opened_tail.read(4, 99), opened_tail.all()) == (
        6,
        b"netw",
        b"wo",
        b"onetwo",
    )
    assert reader.tails(generation) == [kept.name]
    with pytest.raises(OSError, match="tail"):
        reader.tail(generation, tail.name)


def test_generations_are_listed_and_opened(opened: tuple[Callable[[], Any], str]) -> None:
    """A generation that is there is opened; for one that is not SnapshotError is raised, for a tail in it OSError."""
    open_folder, generation = opened
    folder = open_folder()
    assert folder.generations() == [generation]
    assert folder.generation(generation).head.position == 1
    with pytest.raises(SnapshotError):
        folder.generation("gen-none")
    assert folder.tails("gen-none") == []
    with pytest.raises(OSError, match="gen-none"):
        folder.new_tail("gen-none", b"", 0)
