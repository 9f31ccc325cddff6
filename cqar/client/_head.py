"""The head: one mapped page that tells every process of the host where the replica is.

What a head describes never changes: a generation, a tail, the history they belong to. What changes is a few words of 8 bytes
each, which one syncer writes and everybody reads without a lock: an aligned word is read whole or not at all. To go over to
another generation or tail the syncer publishes another head in its place and leaves `MOVED` in the old one, so that a reader has
but one word to watch.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path

import msgspec

from cqar.client import _trust
from cqar.client._clock import clock_id
from cqar.client._damage import is_own, refused
from cqar.client._trust import Owners
from cqar.errors import SnapshotError
from cqar.paths import inside

PAGE = 4096
MOVED = 2**64 - 1  # in `LENGTH`: look for the head anew

# The words, by their index.
LENGTH = 0  # of the tail in bytes, as far as it counts
HEARD = 1  # when the replica was level with its server, ns of `now`; 0: never
STATE = 2  # an index of `_status.TOLD`
SERVER = 3  # the server's position, as last heard
POSITION = 4  # at the end of the tail
COMPLAINTS = 5  # 1 if a reader met damage
QUARANTINED = 6  # records that the syncer could not read
REBUILDS = 7  # 1 if a client asks for one
_WORDS = 16

_ABOUT = slice(_WORDS * 8, 2048)
_TROUBLE = slice(2048, PAGE)
_LENGTH_AND_CRC = struct.Struct("<II")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a head describes."""

    log_id: str
    term: int  # of the syncer: who leads later in the same succession has a higher one, and readers do not go back to an earlier
    history: int  # another number: the server's past is another one (restored from a backup), and positions may go back
    generation: str  # name of its folder
    tail: str  # name of its file
    clock: str  # the times in the words are of this one (`_clock.clock_id`); "": not known, and then none counts
    pid: int  # of the syncer
    feed: str = ""  # where the syncer has the feed from
    succession: str = ""  # of syncers, each of which saw the head of the one before it; who finds none begins another


class Head:
    """A mapped head. `words` may be read by any thread; only its syncer writes, but for the complaints."""

    def __init__(self, page: mmap.mmap, about: About, identity: tuple[int, int]) -> None:
        self._page = page
        self.about = about
        self.identity = identity  # of the file
        self.words = memoryview(page)[: _WORDS * 8].cast("Q")

    @property
    def heard(self) -> int:
        """When the replica was level with its server, in ns of this process's clock; 0: never, or not known."""
        return self.words[HEARD] if self.is_timely() else 0

    def is_timely(self) -> bool:
        """Report whether its times are of the clock of this process."""
        clock = clock_id()
        return self.about.clock == clock != ""

    @property
    def trouble(self) -> str | None:
        """What the syncer struggles with, if it does."""
        return _unpack(bytes(self._page[_TROUBLE])) or None

    @trouble.setter
    def trouble(self, text: str | None) -> None:
        room = PAGE - 2048 - _LENGTH_AND_CRC.size
        packed = _pack((text or "").encode("utf-8", "replace")[:room].decode("utf-8", "ignore").encode())
        self._page[2048 : 2048 + len(packed)] = packed

    def is_sound(self) -> bool:
        """Tell whether what the page says of itself is what it said at first."""
        return _described(self._page) == self.about

    def complain(self) -> bool:
        """Tell the syncer that a file of the replica seems damaged; return False where the page may not be written.

        It looks at all files now and then anyway.
        """
        return self._ask(COMPLAINTS)

    def ask_for_rebuild(self) -> bool:
        """Ask the syncer to make the replica again, whole or not; return False where the page may not be written."""
        return self._ask(REBUILDS)

    def _ask(self, index: int) -> bool:
        try:
            self.words[index] = 1
        except TypeError:
            return False  # mapped for reading only
        return True


def _pack(text: bytes) -> bytes:
    return _LENGTH_AND_CRC.pack(len(text), zlib.crc32(text)) + text


def _unpack(packed: bytes) -> str:
    length, crc = _LENGTH_AND_CRC.unpack_from(packed)
    text = packed[_LENGTH_AND_CRC.size : _LENGTH_AND_CRC.size + length]
    return text.decode() if len(text) == length and zlib.crc32(text) == crc else ""


def page_of(about: About, words: dict[int, int]) -> bytes:
    """Give the bytes of a new head."""
    page = bytearray(PAGE)
    packed = _pack(msgspec.json.encode(about))
    page[_ABOUT.start : _ABOUT.start + len(packed)] = packed
    page[_TROUBLE.start : _TROUBLE.start + _LENGTH_AND_CRC.size] = _pack(b"")
    for index, value in words.items():
        struct.pack_into("=Q", page, index * 8, value)
    return bytes(page)


def open_head(path: Path, trusted: Owners) -> Head | None:
    """Map the head at a path; None if there is none that can be read.

    SnapshotError (REPLICA_OWNER) if it is not trusted, UnavailableError (OWN_LIMIT) if a limit of this process is in the way.
    """
    for flags, access in ((os.O_RDWR, mmap.ACCESS_WRITE), (os.O_RDONLY, mmap.ACCESS_READ)):
        try:
            descriptor = _trust.open_file(path, trusted, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            if is_own(error) and (access == mmap.ACCESS_READ or not isinstance(error, PermissionError)):
                raise refused(path, error, "BAD_HEAD") from error
            continue  # it may be another user's, or on a file system that is read only
        try:
            found = os.fstat(descriptor)
            if found.st_size != PAGE:  # a page that is not there kills who reads it
                return None
            page = mmap.mmap(descriptor, PAGE, access=access)
        except OSError as error:
            raise refused(path, error, "BAD_HEAD") from error
        finally:
            os.close(descriptor)
        about = _described(page)
        return None if about is None else Head(page, about, (found.st_dev, found.st_ino))
    return None


def _described(page: mmap.mmap) -> About | None:
    try:
        about = msgspec.json.decode(_unpack(bytes(page[_ABOUT])), type=About)
        inside(Path(), about.generation, about.tail)  # names that lead elsewhere are no head's
    except (msgspec.DecodeError, UnicodeDecodeError, SnapshotError):
        return None
    return about
