"""A generation: the registry at one position as two read-only files, shared by all processes of a host.

`<replica dir>/<log_id>/gen-<position, 20 digits>-<format>…/` holds `index.lmdb`, `tables.duckdb` and `meta.json`. It is built under
another name from a verified snapshot (`_build`), or from an older generation and the changes since (`_compact`), made durable,
renamed into place and never written again. Nothing in it is precious: what is damaged, or of another format, is built anew. The
folder's name carries the format, so that programs of other versions build their own beside it. `meta.json` holds a digest of each
file, which `verify` compares with all of its bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import weakref
import zlib
from collections.abc import Callable, Container, Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import xxhash

from cqar.answers import Candidate
from cqar.client import _trust
from cqar.client._damage import refused
from cqar.client._entries import NOTHING, Gate
from cqar.client._index import Index
from cqar.client._trust import Owners
from cqar.errors import NotReadyError, SnapshotError
from cqar.model import FeedToken, Words
from cqar.paths import inside

log = logging.getLogger(__name__)

FORMAT = "5"  # of index.lmdb and tables.duckdb together; a change makes every host build anew
KEEP = 2  # generations of a log that stay even if nobody uses them
META, INDEX, TABLES = "meta.json", "index.lmdb", "tables.duckdb"
USERS = "in-use"  # locked by those who have the generation open
_PIECE = 4 << 20  # bytes that are read at once

Progress = Callable[[str, float], None]  # what is being done, and which part of all is done


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a generation is."""

    log_id: str
    position: int
    chain: str
    created_at: str  # of the snapshot, ISO 8601
    rows: dict[str, int]
    sizes: dict[str, int]  # bytes of each file
    digests: dict[str, str]  # XXH3-128 of each file, in hex
    unread: tuple[tuple[str, str], ...] = ()  # records that this version could not read: kind and key


def packed(meta: Meta) -> bytes:
    """Give the contents of `meta.json`: a line of JSON and one with its checksum, for a wrong position is worse than none."""
    text = msgspec.json.encode(meta)
    return b"%s\n%08x\n" % (text, zlib.crc32(text))


def unpacked(data: bytes) -> Meta:
    """Read it; ValueError if it is damaged."""
    text, _, rest = data.partition(b"\n")
    if rest != b"%08x\n" % zlib.crc32(text):
        raise ValueError("the checksum of what it says of itself does not match")
    return msgspec.json.decode(text, type=Meta)


def digest(path: Path, onto: Path | None = None) -> str:
    """Return the XXH3-128 of a file, in hex, and copy what was read onto a new file; OSError if either cannot be done.

    About 0.4 s for each GB that is in memory, 0.1 s of a core. The file may be open and mapped elsewhere.
    """
    found, room = xxhash.xxh3_128(), memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as source, contextlib.ExitStack() as stack:
        target = None if onto is None else stack.enter_context(onto.open("xb"))
        while length := source.readinto(room):
            found.update(room[:length])
            if target is not None:
                target.write(room[:length])
    return found.hexdigest()


def verify(path: Path) -> None:
    """Compare every byte of a generation with its digests, without opening it; SnapshotError if one is another."""
    try:
        meta = unpacked((path / META).read_bytes())
        for name, said in meta.digests.items():
            if digest(path / name) != said:
                raise SnapshotError(
                    f"{path / name}: damaged: its digest is another", reason="BAD_GENERATION", path=path
                )
    except (OSError, ValueError) as error:
        raise refused(path, error, "BAD_GENERATION") from error


class Generation:
    """An open generation. Holds a shared lock on its `in-use` until it is forgotten, so that nobody removes it."""

    def __init__(self, path: Path, trusted: Owners | None = None) -> None:
        """Open what `build` has published; SnapshotError if it is incomplete or damaged.

        UnavailableError (OWN_LIMIT) if it is this process that cannot. SnapshotError (REPLICA_OWNER) for what does not belong to
        the `trusted` accounts; None: those that `_trust.owners` says.
        """
        self.path = path
        trusted = _trust.owners() if trusted is None else trusted
        try:
            _trust.check_folder(path, trusted)
            self._keep(path / USERS, trusted)
            self.meta = _read_meta(path, trusted)
            for name, size in self.meta.sizes.items():
                if _trust.check_file(inside(path, name), trusted).st_size != size:
                    raise SnapshotError(f"{path / name}: not {size} bytes", reason="BAD_GENERATION", path=path)
            self.unread = frozenset(
                self.meta.unread
            )  # kind and key of the records that could not be read: not in the files
            self.created = datetime.fromisoformat(
                self.meta.created_at
            ).timestamp()  # of the snapshot, seconds since 1970
            self.index = Index(path / INDEX)
        except (OSError, ValueError) as error:
            raise refused(path, error, "BAD_GENERATION") from error

    def _keep(self, path: Path, trusted: Owners) -> None:
        """Let no one remove the files while this is in use.

        Accounts that only read have no part in that: who may open the lock could hold it for ever. Their generation may be removed
        while they have it open, which takes nothing from what is open.
        """
        try:
            lock = _trust.open_file(path, trusted)
        except PermissionError:
            return
        weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SnapshotError(f"{path}: is being removed", reason="BAD_GENERATION", path=path) from error

    @property
    def tables(self) -> Path:
        """The DuckDB file."""
        return self.path / TABLES

    @property
    def head(self) -> FeedToken:
        """Where to go on from by the feed."""
        return FeedToken(log_id=self.meta.log_id, position=self.meta.position, chain=bytes.fromhex(self.meta.chain))


def _read_meta(path: Path, trusted: Owners) -> Meta:
    descriptor = _trust.open_file(path / META, trusted)
    try:
        return unpacked(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    finally:
        os.close(descriptor)


class _NoIndex(Index):
    def __init__(self) -> None:  # nothing to open
        pass

    def record(self, _kind: str, _key: str) -> None:
        """Give nothing."""

    def gate(self, _asset_id: str) -> Gate:
        """Give nothing."""
        return NOTHING

    def deleted(self, _kind: str, _key: str) -> bool:
        """Know of none."""
        return False

    def posting(self, _name: str, _words: Words) -> tuple[str, ...]:
        """Give nothing."""
        return ()

    def candidates(self, _key: bytes) -> tuple[Candidate, ...]:
        """Give nothing."""
        return ()

    def keys(self, _kind: str) -> Iterator[str]:
        """Refuse to say that there are none."""
        raise _not_ready()


class Nothing(Generation):
    """Stands for a generation until there is one: knows no record, and of what can only be told from all says NotReadyError."""

    def __init__(self) -> None:
        self.path = Path()
        self.unread = frozenset()
        self.index = _NoIndex()

    @property
    def tables(self) -> Path:
        """Refuse."""
        raise _not_ready()

    @property
    def head(self) -> FeedToken:
        """Nowhere."""
        return FeedToken(log_id="", position=0, chain=b"")


def _not_ready() -> NotReadyError:
    return NotReadyError("there is no replica yet: lists and queries are answered when it is built; status() tells")


def folder_name(position: int, nonce: str = "") -> str:
    """Give the name of a generation's folder; a nonce makes it one of its own."""
    return "-".join(["gen", f"{position:020d}", FORMAT, nonce][: 4 if nonce else 3])


def in_folder(folder: Path) -> list[Path]:
    """Give the generations in a folder that are of this version's format, newest first."""
    return sorted((path for path in folder.glob("gen-*") if path.name.split("-")[2:3] == [FORMAT]), reverse=True)


def folder_of(replica_dir: Path, head: FeedToken) -> Path:
    """Where the generation for this position belongs."""
    return inside(replica_dir, head.log_id, folder_name(head.position))


def newest(replica_dir: Path, log_id: str) -> Generation | None:
    """Open the newest generation of a log that is whole; damaged ones are logged and removed."""
    for path in in_folder(inside(replica_dir, log_id)):
        try:
            return Generation(path)
        except SnapshotError as error:
            log.warning("discarding a generation: %s", error)
            remove(path)
    return None


def obtain(
    replica_dir: Path, snapshot_path: Path, trusted: Owners | None = None, progress: Progress | None = None
) -> Generation:
    """Open the generation of a snapshot, building it first if this host has not yet.

    The snapshot is verified before anything in it is read. Several processes may do this at once: the first to finish wins.
    Raises SnapshotError if the snapshot is damaged, InvalidError if the folder of its log is not one of the `trusted` accounts'.
    """
    from cqar import snapshot as snapshots  # noqa: PLC0415  (pyarrow: only who builds pays for it)
    from cqar.client._build import build  # noqa: PLC0415

    trusted = _trust.owners() if trusted is None else trusted
    head = snapshots.load_manifest(snapshot_path).manifest.head
    found = existing(replica_dir, head, trusted)
    if found is not None:
        return found
    path = folder_of(replica_dir, head)
    whole = snapshots.verify(snapshot_path)
    _trust.make_folder(path.parent, trusted)
    build(path, whole, progress or (lambda _what, _part: None))
    remove_unused(path.parent, in_folder(path.parent)[:KEEP])
    return Generation(path, trusted)


def existing(replica_dir: Path, head: FeedToken, trusted: Owners) -> Generation | None:
    """Open the generation of this head if this host has it; what is in its place is removed."""
    path = folder_of(replica_dir, head)
    if not path.exists():
        return None
    _trust.make_folder(path.parent, trusted)
    try:
        verify(path)
        found = Generation(path, trusted)
    except SnapshotError as error:
        log.warning("building a generation anew: %s", error)
    else:
        if found.head == head:
            return found
        log.warning("%s: of a history that the server has undone (restored from a backup?)", path)
    remove(path)
    return None


def remove(path: Path) -> None:
    import shutil  # noqa: PLC0415  (slow to import, seldom needed)

    shutil.rmtree(path, ignore_errors=True)


def remove_unused(folder: Path, needed: Container[Path]) -> None:
    """Remove the generations of a folder, but for those needed, those that some process has open, and other formats'."""
    for old in in_folder(folder):
        if old in needed:
            continue
        try:
            descriptor = os.open(old / USERS, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # who removed it was killed half way
            remove(old)
            continue
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(old)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
