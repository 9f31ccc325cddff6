"""The simulated disk of a host, and the folder on it as one process sees it.

It does what `_folder` does, step by step; between any two steps the process may be killed, frozen or overtaken (`point`). What a
killed process has begun stays as it is. `test_folder` runs both side by side.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any, Protocol, cast

from cqar.client import _generation, _head
from cqar.client._head import About, Head
from cqar.errors import SnapshotError
from tests.simulator.world import Made, MemoryGeneration


class Violation(AssertionError):  # noqa: N818  (it is no error of the simulator's)
    """A promise was broken."""


class Steps(Protocol):
    """The process that does something."""

    def point(self, what: str) -> None:
        """Come to where the process may be killed or put aside."""

    @property
    def number(self) -> int:
        """What tells it from all others that ever were."""

    @property
    def appended(self) -> int:
        """How often it has written to a tail."""

    @appended.setter
    def appended(self, times: int) -> None: ...


class LockFile:
    """The file behind a lock."""

    def __init__(self) -> None:
        self.holder: Lock | None = None
        self.noted = (0, 0)


class TailData:
    """The file behind a tail. `writer` is the one process that may write it."""

    def __init__(self, writer: int) -> None:
        self.data = bytearray()
        self.writer = writer


class Page:
    """The file behind a head."""

    def __init__(self, about: About, inode: int) -> None:
        self.about, self.inode = about, inode
        self.garbled = False  # what it describes cannot be read any more
        self.words = [0] * 16
        self.rest = bytearray(_head.PAGE)  # the trouble is told here


class Place:
    """The folder of a generation."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.damaged = False
        self.tails: dict[str, TailData] = {}


class Disk:
    """What all processes of the host share."""

    def __init__(self) -> None:
        self.lock: LockFile | None = None
        self.head: Page | None = None
        self.generations: dict[str, Place] = {}
        self.full = False
        self.ill = False  # reading a tail fails
        self._names = 0
        self.used_by: list[Any] = []  # callables that tell which generations are open

    def number(self) -> int:
        """Give a number never given before."""
        self._names += 1
        return self._names

    def publish(self, made: Made) -> str:
        """Put a generation there, as its builder does when it is complete."""
        name = f"gen-{made.token.position:020d}-{_generation.FORMAT}-{self.number():08d}"
        self.generations[name] = Place(made)
        return name

    def has_room(self) -> None:
        """Raise unless something more fits."""
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


class Words:
    """The words of a mapped head."""

    def __init__(self, process: Steps, page: Page) -> None:
        self._process, self._page = process, page

    def __getitem__(self, index: int) -> int:
        self._process.point("read a word")
        return self._page.words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._process.point(f"write word {index}")
        self._page.words[index] = value


class SharedHead(Head):
    """A head of the simulated disk."""

    def __init__(self, process: Steps, page: Page) -> None:
        self._page = cast("Any", page.rest)
        self.about = page.about
        self.identity = (0, page.inode)
        self.words = cast("Any", Words(process, page))
        self.page = page

    def is_sound(self) -> bool:
        """Report whether what the page describes can still be read."""
        return not self.page.garbled


class Lock:
    """The right to be the host's syncer."""

    def __init__(self, disk: Disk, process: Steps, file: LockFile) -> None:
        self._disk, self._process, self.file, self._beats = disk, process, file, 0

    def held(self) -> bool:
        """Tell whether the lock's file is still the one that counts."""
        self._process.point("look at the lock")
        return self._disk.lock is self.file

    def beat(self) -> None:
        """Note that the holder is alive."""
        self._process.point("beat")
        self._beats += 1
        self.file.noted = (self._process.number, self._beats)

    def release(self) -> None:
        """Let another process have it."""
        if self.file.holder is self:
            self.file.holder = None

    def belongs_to(self, process: Steps) -> bool:
        """Tell whose it is."""
        return self._process is process


class Tail:
    """A tail that one process writes."""

    def __init__(self, disk: Disk, process: Steps, name: str, file: TailData) -> None:
        self.name, self.length = name, len(file.data)
        self.file, self._disk, self._process = file, disk, process

    def append(self, data: bytes) -> None:
        """Write at the end; OSError if it does not fit, and then nothing is there."""
        if not data:
            return
        self._process.point("append")
        if self.file.writer != self._process.number:
            raise Violation(f"{self._process.number} writes the tail of {self.file.writer}")
        try:
            self._disk.has_room()
        except OSError:
            self._put(data[: len(data) // 2])
            self._process.point("full")
            del self.file.data[self.length :]
            raise
        half = len(data) // 2
        self._put(data[:half])
        self._process.point("append more")
        self._put(data[half:], half)
        self.length += len(data)
        self._process.appended += 1
        self._process.point("appended")

    def _put(self, data: bytes, offset: int = 0) -> None:
        start = self.length + offset
        held = self.file.data
        if len(held) < start:
            held.extend(bytes(start - len(held)))  # cut off by somebody: a hole
        held[start : start + len(data)] = data

    def close(self) -> None:
        """Let go of the file."""


class TailFile:
    """A tail to read."""

    def __init__(self, disk: Disk, process: Steps, file: TailData) -> None:
        self._disk, self._process, self._file = disk, process, file

    def read(self, start: int, end: int) -> bytes:
        """Give a piece; shorter than asked for if the file is."""
        self._process.point("read the tail")
        if end < start:
            raise OSError(errno.EINVAL, "Invalid argument")
        if self._disk.ill:
            raise OSError(errno.EIO, "Input/output error")
        return bytes(self._file.data[start:end])

    def all(self) -> bytes:
        """Give everything, whether it counts or not."""
        return self.read(0, len(self._file.data))


class Folder:
    """The folder, as one process sees it."""

    def __init__(self, disk: Disk, process: Steps) -> None:
        self._disk, self._process = disk, process

    # --- who writes ---------------------------------------------------------------------------------------------------

    def try_lock(self, *, quietly: bool = False) -> Lock | None:
        """Become the syncer unless there is one."""
        self._process.point("open the lock")
        if self._disk.lock is None:
            self._disk.lock = LockFile()
        file = self._disk.lock
        self._process.point("lock")
        if file.holder is not None:
            return None
        lock = file.holder = Lock(self._disk, self._process, file)
        if not quietly:
            lock.beat()
        if lock.held():
            return lock
        lock.release()
        return None

    def seize(self) -> Lock:
        """Become the syncer in the place of one that is frozen."""
        self._process.point("make a lock")
        self._disk.has_room()
        file = LockFile()
        lock = file.holder = Lock(self._disk, self._process, file)
        lock.beat()
        self._process.point("seize")
        self._disk.lock = file
        return lock

    def may_lead(self) -> bool:
        """Tell that all processes are of one account."""
        return True

    def beat(self) -> tuple[int, int]:
        """Give the syncer's process id and a number that changes while it is alive."""
        self._process.point("read the beat")
        return (0, 0) if self._disk.lock is None else self._disk.lock.noted

    # --- the head -----------------------------------------------------------------------------------------------------

    def head(self) -> Head | None:
        """Map the present head."""
        self._process.point("open the head")
        page = self._disk.head
        return None if page is None or page.garbled else SharedHead(self._process, page)

    def is_present(self, head: Head) -> bool:
        """Tell whether a head is still the one that counts."""
        self._process.point("look at the head")
        page = self._disk.head
        return page is not None and (0, page.inode) == head.identity

    def publish(self, about: About, words: dict[int, int], previous: Head | None) -> Head:
        """Put a new head in the place of the present one, and tell the readers of that."""
        self._process.point("write a head")
        self._disk.has_room()
        page = Page(about, self._disk.number())
        for index, value in words.items():
            page.words[index] = value
        if previous is not None:
            self.mark(previous)
        self._process.point("publish")
        self._disk.head = page
        self._process.point("published")
        return SharedHead(self._process, page)

    def mark(self, previous: Head) -> None:
        """Tell the readers of a head that it is left."""
        previous.words[_head.LENGTH] = _head.MOVED

    # --- generations and tails ----------------------------------------------------------------------------------------

    def generation(self, name: str) -> MemoryGeneration:
        """Open a generation; SnapshotError if it is damaged or gone."""
        self._process.point("open a generation")
        place = self._disk.generations.get(name)
        if place is None or place.damaged:
            raise SnapshotError(f"{name}: damaged or gone", reason="BAD_GENERATION")
        return MemoryGeneration(name, place.made)

    def generations(self) -> list[str]:
        """List the generations, newest first."""
        self._process.point("list generations")
        return sorted(self._disk.generations, reverse=True)

    def tails(self, generation: str) -> list[str]:
        """List the tails of a generation."""
        self._process.point("list tails")
        place = self._disk.generations.get(generation)
        return [] if place is None else list(place.tails)

    def _place(self, generation: str) -> Place:
        place = self._disk.generations.get(generation)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, generation)
        return place

    def new_tail(self, generation: str, data: bytes, history: int) -> Tail:
        """Make a tail that begins with these frames; OSError if the disk is full."""
        self._process.point("make a tail")
        place = self._place(generation)
        name = f"tail-{history:06d}-{self._disk.number()}"
        file = place.tails[name] = TailData(self._process.number)
        tail = Tail(self._disk, self._process, name, file)
        try:
            tail.append(data)
        except OSError:
            place.tails.pop(name, None)
            raise
        return tail

    def tail(self, generation: str, name: str) -> TailFile:
        """Open a tail for reading; OSError if it is gone."""
        self._process.point("open a tail")
        file = self._place(generation).tails.get(name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, name)
        return TailFile(self._disk, self._process, file)

    def sweep(self) -> None:
        """Remove what the killed were making: here nothing has a name before it is complete."""
        self._process.point("sweep")

    def clean(self, head: Head) -> None:
        """Remove what the present head does not need, but for what some process has open."""
        self._process.point("clean")
        kept = head.about.generation
        place = self._disk.generations.get(kept)
        for name in list(place.tails) if place is not None else []:
            if name != head.about.tail:
                self._process.point("remove a tail")
                del_from(place.tails if place is not None else {}, [name])
        for name in list(self._disk.generations):
            if name != kept and not any(name in used() for used in self._disk.used_by):
                self._process.point("remove a generation")
                del_from(self._disk.generations, [name])


def del_from(held: dict[str, Any], names: Iterable[str]) -> None:
    """Remove what is there of these."""
    for name in names:
        held.pop(name, None)
