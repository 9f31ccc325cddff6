"""A replica's folder on this host, shared by all of its processes.

    lock                           held by the one syncer, which notes in it that it is alive
    head                           the mapped page: which generation, which tail, how far (`_head`)
    gen-<position>-<format>-…/     a generation, never written again once it is published (`_generation`)
        tail-…                     the batches after it (`_tail`)
    download/                      snapshots that are being copied from object storage (`_published`)

Everything that the syncer and the readers do to files is here, so that a simulator can put another folder in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import time
import weakref
from pathlib import Path
from uuid import uuid4

from cqar.client import _generation, _head, _tail, _trust
from cqar.client._damage import refused
from cqar.client._generation import Generation
from cqar.client._head import About, Head
from cqar.client._trust import Owners
from cqar.errors import SnapshotError
from cqar.paths import inside

log = logging.getLogger(__name__)

LOCK, HEAD, DOWNLOAD = "lock", "head", "download"
A_DAY = 86_400.0  # seconds after which nobody goes on with a download that broke off
_BEAT = struct.Struct("<QQ")  # pid, and a number that changes while it is alive


def history_of(tail: str) -> int:
    """Tell by its name the history that a tail belongs to."""
    return int(tail.split("-")[1])


class Lock:
    """The right to be this host's syncer, as long as nobody took the file's place."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor, self._beats = path, descriptor, 0

    def held(self) -> bool:
        """Tell whether the lock's file is still the one that counts."""
        try:
            mine, theirs = os.fstat(self._descriptor), self._path.stat()
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino)

    def beat(self) -> None:
        """Note that the holder is alive."""
        self._beats += 1
        with contextlib.suppress(OSError):  # a full disk: nobody shall take over for that
            os.pwrite(self._descriptor, _BEAT.pack(os.getpid(), self._beats), 0)

    def release(self) -> None:
        """Let another process have it. Also for a forked child: closing leaves the parent's lock alone, unlocking would not."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Tail:
    """A tail that this process writes: nobody else ever does."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.name, self.length = path.name, 0
        try:
            self.append(data)
        except OSError:
            self.close()
            path.unlink()
            raise

    def append(self, data: bytes) -> None:
        """Write at the end; OSError if it does not fit, and then nothing is there."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.pwrite(self._descriptor, rest, self.length + len(data) - len(rest)) :]
        except OSError:
            os.ftruncate(self._descriptor, self.length)
            raise
        self.length += len(data)

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class TailFile:
    """A tail to read. Closed by being forgotten."""

    def __init__(self, path: Path, trusted: Owners) -> None:
        self._descriptor = _trust.open_file(path, trusted)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, end: int) -> bytes:
        """Give a piece; shorter than asked for if the file is, whatever a damaged head asked for."""
        end = min(end, os.fstat(self._descriptor).st_size)
        return os.pread(self._descriptor, max(0, end - start), start)

    def all(self) -> bytes:
        """Give everything, whether it counts or not."""
        return self.read(0, os.fstat(self._descriptor).st_size)


class Folder:
    """The files of one replica."""

    def __init__(self, path: Path, trusted: Owners | None = None) -> None:
        """`trusted` owns what may be read; None: who `_trust.owners` says.

        Raises InvalidError (REPLICA_OWNER) if the folder is another account's.
        """
        self.path = path
        self.trusted = _trust.owners() if trusted is None else trusted
        self.refused: str | None = None  # why the head that is there is not read
        with contextlib.suppress(OSError):  # who only reads may have no right to, and finds no head then
            _trust.make_folder(path, self.trusted)

    def _make(self) -> None:
        """Make the folder where somebody has removed it, or put something else in its place, which is moved aside."""
        if (self.path.is_symlink() or self.path.exists()) and not self.path.is_dir():
            aside = self.path.with_name(f".{self.path.name}-{uuid4().hex}")
            log.warning("%s is no folder: moving it to %s", self.path, aside)
            self.path.rename(aside)
        _trust.make_folder(self.path, self.trusted)

    @property
    def downloads(self) -> Path:
        """Where copies of snapshots are made."""
        return self.path / DOWNLOAD

    # --- who writes ---------------------------------------------------------------------------------------------------

    def try_lock(self, *, quietly: bool = False) -> Lock | None:
        """Become the syncer unless there is one, or the folder is another user's; `quietly`: only to see whether there is one."""
        path = self.path / LOCK
        try:
            # Who may open it can lock it, and keep all others from it.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _trust.PRIVATE_MODE)
        except PermissionError:
            return None
        except (FileNotFoundError, NotADirectoryError):
            if not quietly:
                self._make()
            return None
        _trust.own(descriptor, self.path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        lock = Lock(path, descriptor)
        if not quietly:
            lock.beat()
        if lock.held():
            return lock
        lock.release()  # between opening and locking another file came into its place
        return None

    def seize(self) -> Lock:
        """Become the syncer in the place of one that is frozen: when it wakes up, its files are nobody's."""
        work = self.path / f".lock-{uuid4().hex}"
        descriptor = os.open(work, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _trust.PRIVATE_MODE)
        _trust.own(descriptor, self.path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock = Lock(self.path / LOCK, descriptor)
        lock.beat()
        work.rename(self.path / LOCK)
        return lock

    def may_lead(self) -> bool:
        """Report whether this account may write here: others only read, whoever syncs."""
        return os.access(self.path, os.W_OK | os.X_OK)

    def beat(self) -> tuple[int, int]:
        """Give the syncer's process id and a number that changes while it is alive; zeros if there never was one."""
        try:
            noted = (self.path / LOCK).read_bytes()
        except OSError:
            return (0, 0)
        return _BEAT.unpack(noted) if len(noted) == _BEAT.size else (0, 0)

    # --- the head -----------------------------------------------------------------------------------------------------

    def head(self) -> Head | None:
        """Map the present head; None if there is none that can be read. `refused` says why, if it is another account's."""
        try:
            found = _head.open_head(self.path / HEAD, self.trusted)
        except SnapshotError as error:
            if error.message != self.refused:
                log.warning("the replica's head is not read: %s", error)
            self.refused = error.message
            return None
        self.refused = None
        return found

    def is_present(self, head: Head) -> bool:
        """Tell whether a head is still the one that counts."""
        try:
            found = (self.path / HEAD).stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == head.identity

    def publish(self, about: About, words: dict[int, int], previous: Head | None) -> Head:
        """Put a new head in the place of the present one, and tell the readers of that."""
        work = self.path / f".head-{uuid4().hex}"
        try:
            descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _trust.FILE_MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_head.page_of(about, words))
            made = _head.open_head(work, self.trusted)
            if made is None:
                raise SnapshotError(f"{work}: cannot be read back", reason="BAD_HEAD", path=work)
        except BaseException:  # a full disk; there would be another one at each attempt
            work.unlink(missing_ok=True)
            raise
        if previous is not None:
            # First: killed between the two, readers look for a new head until the next syncer publishes one. The other way
            # round they would watch the old one for ever.
            previous.words[_head.LENGTH] = _head.MOVED
        work.rename(self.path / HEAD)
        return made

    # --- generations and tails ----------------------------------------------------------------------------------------

    def new_generation(self, position: int) -> Path:
        """Give a place for another generation."""
        return self.path / _generation.folder_name(position, uuid4().hex[:8])

    def generation(self, name: str) -> Generation:
        """Open a generation; SnapshotError if it is damaged or gone."""
        return Generation(inside(self.path, name), self.trusted)

    def verify(self, generation: str, tail: str, length: int) -> None:
        """Look at every byte of a generation, and of its tail up to a length; SnapshotError for damage. Opens and maps nothing."""
        path = inside(self.path, generation, tail)
        _generation.verify(path.parent)
        try:
            end = _tail.sound(self.tail(generation, tail).read(0, length))
        except OSError as error:
            raise refused(path, error, "BAD_TAIL") from error
        if end != length:
            raise SnapshotError(f"{path}: damaged after {end} bytes", reason="BAD_TAIL", path=path)

    def generations(self) -> list[str]:
        """List the generations of this version's format, newest first."""
        return [path.name for path in _generation.in_folder(self.path)]

    def tails(self, generation: str) -> list[str]:
        """List the tails of a generation."""
        return [path.name for path in inside(self.path, generation).glob("tail-*")]

    def new_tail(self, generation: str, data: bytes, history: int) -> Tail:
        """Make a tail that begins with these frames, of the history of this number; OSError if the disk is full."""
        return Tail(inside(self.path, generation) / f"tail-{history:06d}-{uuid4().hex}", data)

    def tail(self, generation: str, name: str) -> TailFile:
        """Open a tail for reading; OSError if it is gone."""
        return TailFile(inside(self.path, generation, name), self.trusted)

    def sweep(self) -> None:
        """Remove what syncers and builders were making when they were killed. What is taken from one that lives, it makes again."""
        import shutil  # noqa: PLC0415  (slow to import, seldom needed)

        for path in self.path.glob(".*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for path in self.downloads.glob("*"):
            with contextlib.suppress(OSError):  # whoever makes it removes it
                if max(each.stat().st_mtime for each in (path, *path.iterdir())) < time.time() - A_DAY:
                    shutil.rmtree(path, ignore_errors=True)

    def clean(self, head: Head) -> None:
        """Remove what the present head does not need, but for what some process has open."""
        generation = inside(self.path, head.about.generation)
        for path in generation.glob("tail-*"):
            if path.name != head.about.tail:
                path.unlink(missing_ok=True)
        _generation.remove_unused(self.path, [generation])
