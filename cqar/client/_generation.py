"""A generation: the registry at one position as two read-only files, shared by all processes of a host.

`<replica dir>/<log_id>/gen-<position, 20 digits>-<formats>/` holds `index.lmdb`, `tables.duckdb` and `meta.json`. It is built under
another name from a verified snapshot, made durable, renamed into place and never written again. Nothing in it is precious:
what is damaged, or of another format, is built anew. The folder's name carries the formats, so that programs with other
library versions build their own beside it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import weakref
from collections.abc import Callable, Container, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cqar.answers import Candidate
from cqar.client._index import Builder, Entry, Index, posting_entries, record_entries, symbol_entry
from cqar.errors import NotReadyError, SnapshotError
from cqar.looks import looks_like, skeletons
from cqar.model import KINDS, Asset, Deployment, FeedToken, Group, GroupMember, QualityFlag, Record, Words, fold
from cqar.rules.choose import identity, worst_first

if TYPE_CHECKING:
    from cqar.snapshot import Snapshot

log = logging.getLogger(__name__)

FORMAT = "2"  # of index.lmdb and tables.duckdb together; a change makes every host build anew
KEEP = 2  # generations of a log that stay even if nobody uses them
META, INDEX, TABLES = "meta.json", "index.lmdb", "tables.duckdb"

Progress = Callable[[str, float], None]  # what is being done, and which part of all is done


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a generation is."""

    log_id: str
    position: int
    chain: str
    created_at: str  # of the snapshot, ISO 8601
    rows: dict[str, int]
    sizes: dict[str, int]  # bytes of each file
    unread: tuple[tuple[str, str], ...] = ()  # records that this version could not read: kind and key


class Generation:
    """An open generation. Holds a shared lock on its `meta.json` until it is forgotten, so that nobody removes it."""

    def __init__(self, path: Path) -> None:
        """Open what `build` has published; SnapshotError if it is incomplete or damaged."""
        self.path = path
        try:
            lock = os.open(path / META, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SnapshotError(f"{path}: not a generation: {error}", reason="BAD_GENERATION", path=path) from error
        weakref.finalize(self, os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self.meta = msgspec.json.decode(os.pread(lock, 1 << 20, 0), type=Meta)
            for name, size in self.meta.sizes.items():
                if (path / name).stat().st_size != size:
                    raise SnapshotError(f"{path / name}: not {size} bytes", reason="BAD_GENERATION", path=path)
            self.created = datetime.fromisoformat(
                self.meta.created_at
            ).timestamp()  # of the snapshot, seconds since 1970
            self.index = Index(path / INDEX)
        except (OSError, msgspec.DecodeError) as error:
            raise SnapshotError(f"{path}: damaged: {error}", reason="BAD_GENERATION", path=path) from error

    @property
    def tables(self) -> Path:
        """The DuckDB file."""
        return self.path / TABLES

    @property
    def unread(self) -> frozenset[tuple[str, str]]:
        """Kind and key of the records that could not be read: they are in neither file."""
        return frozenset(self.meta.unread)

    @property
    def head(self) -> FeedToken:
        """Where to go on from by the feed."""
        return FeedToken(log_id=self.meta.log_id, position=self.meta.position, chain=bytes.fromhex(self.meta.chain))


class _NoIndex(Index):
    def __init__(self) -> None:  # nothing to open
        pass

    def record(self, _kind: str, _key: str) -> None:
        """Give nothing."""

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
        self.index = _NoIndex()

    @property
    def unread(self) -> frozenset[tuple[str, str]]:
        """Nothing."""
        return frozenset()

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


def folder_of(replica_dir: Path, head: FeedToken) -> Path:
    """Where the generation for this position belongs."""
    return replica_dir / head.log_id / folder_name(head.position)


def newest(replica_dir: Path, log_id: str) -> Generation | None:
    """Open the newest generation of a log that is whole; damaged ones are logged and removed."""
    for path in sorted((replica_dir / log_id).glob(f"gen-*-{FORMAT}"), reverse=True):
        try:
            return Generation(path)
        except SnapshotError as error:
            log.warning("discarding a generation: %s", error)
            _remove(path)
    return None


def obtain(replica_dir: Path, snapshot_path: Path, progress: Progress | None = None) -> Generation:
    """Open the generation of a snapshot, building it first if this host has not yet.

    The snapshot is verified before anything in it is read. Several processes may do this at once: the first to finish wins.
    Raises SnapshotError if the snapshot is damaged.
    """
    from cqar import snapshot as snapshots  # noqa: PLC0415  (pyarrow: only who builds pays for it)

    snapshot = snapshots.load_manifest(snapshot_path)
    path = folder_of(replica_dir, snapshot.manifest.head)
    if path.exists():
        try:
            found = Generation(path)
        except SnapshotError as error:
            log.warning("building a generation anew: %s", error)
        else:
            if found.head == snapshot.manifest.head:
                return found
            log.warning("%s: of a history that the server has undone (restored from a backup?)", path)
        _remove(path)
    build(path, snapshots.verify(snapshot_path), progress or (lambda _what, _part: None))
    remove_unused(path.parent, sorted(path.parent.glob("gen-*"), reverse=True)[:KEEP])
    return Generation(path)


def build(path: Path, snapshot: Snapshot, progress: Progress) -> None:
    """Build a generation from a verified snapshot and publish it at `path`."""
    from cqar import snapshot as snapshots  # noqa: PLC0415
    from cqar.client._tables import build_tables  # noqa: PLC0415  (duckdb)

    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.parent / f".tmp-{path.name}-{os.urandom(8).hex()}"
    work.mkdir()
    try:
        build_tables(work / TABLES, {name: snapshot.file(name) for name in KINDS})
        progress("tables", 0.2)
        records = {name: list(snapshots.read(snapshot, name)) for name in KINDS}
        progress("records", 0.4)
        _build_index(work / INDEX, records)
        progress("index", 0.9)
        manifest = snapshot.manifest
        meta = Meta(
            log_id=manifest.log_id,
            position=manifest.position,
            chain=manifest.chain,
            created_at=manifest.created_at.isoformat(),
            rows={name: len(held) for name, held in records.items()},
            sizes={name: (work / name).stat().st_size for name in (INDEX, TABLES)},
        )
        (work / META).write_bytes(msgspec.json.encode(meta))
        for name in (META, INDEX, TABLES, "."):
            _sync(work / name)
        try:
            work.rename(path)
        except OSError:
            if not path.exists():  # else another process was first: its files are as good
                raise
        _sync(path.parent)
        progress("published", 1.0)
    finally:
        _remove(work)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    import shutil  # noqa: PLC0415  (slow to import, seldom needed)

    shutil.rmtree(path, ignore_errors=True)


def remove_unused(folder: Path, needed: Container[Path]) -> None:
    """Remove the generations of a folder, but for those needed and those that some process has open."""
    for old in folder.glob("gen-*"):
        if old in needed:
            continue
        try:
            descriptor = os.open(old / META, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(old)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


# --- index -----------------------------------------------------------------------------------------------------------


class _Context(NamedTuple):
    """What candidates are made of, besides assets and deployments."""

    flags: dict[str, tuple[QualityFlag, ...]]  # active ones by asset, worst first
    canonical: set[tuple[str, str]]  # (folded group symbol, canonical member)


def _build_index(path: Path, records: dict[str, list[Record]]) -> None:
    builder = Builder(path)
    for name, kind in KINDS.items():
        for number in range(len(kind.postings)):
            builder.put(posting_entries(name, number, records[name]))
    for name in KINDS:
        builder.put(record_entries(name, records[name]))
    builder.put(_symbol_entries(records))
    builder.close()


def _symbol_entries(records: dict[str, list[Record]]) -> list[Entry]:
    """Gather the candidates of every symbol, on each chain and on none in particular."""
    assets = {asset.asset_id: asset for asset in records["asset"] if isinstance(asset, Asset)}
    context = _context(records)
    found: dict[tuple[str, str], list[Candidate]] = {}
    folded = {asset_id: fold(asset.symbol) for asset_id, asset in assets.items()}
    for asset_id, asset in assets.items():
        symbol = folded[asset_id]
        candidate = Candidate(
            asset, None, context.flags.get(asset_id, ()), is_canonical=(symbol, asset_id) in context.canonical
        )
        found.setdefault(("", symbol), []).append(candidate)
    for deployment in records["deployment"]:
        assert isinstance(deployment, Deployment)
        owner = assets.get(deployment.asset_id)
        if owner is not None:
            candidate = Candidate(
                owner,
                deployment,
                context.flags.get(deployment.asset_id, ()),
                is_canonical=deployment.is_canonical,
            )
            found.setdefault((deployment.chain_id, folded[deployment.asset_id]), []).append(candidate)
    for place, twins in _look_alikes(found).items():
        found[place] += twins
    return [
        symbol_entry(chain, symbol, sorted(candidates, key=identity)) for (chain, symbol), candidates in found.items()
    ]


def _look_alikes(found: dict[tuple[str, str], list[Candidate]]) -> dict[tuple[str, str], list[Candidate]]:
    """Give, for each place in which there are some, the candidates whose symbols only look like those of the place (R18)."""
    folds: dict[str, set[str]] = {}
    for chain, folded in found:
        if not chain:
            for symbol in {candidate.asset.symbol for candidate in found["", folded]}:
                for key in skeletons(symbol):
                    folds.setdefault(key, set()).add(folded)
    twins: dict[str, set[str]] = {}
    for alike in folds.values():
        if len(alike) > 1:
            for folded in alike:
                twins.setdefault(folded, set()).update(alike - {folded})
    return {
        (chain, folded): others
        for chain, folded in found
        if folded in twins
        and (
            others := [
                msgspec.structs.replace(candidate, look_alike=True)
                for twin in sorted(twins[folded])
                for candidate in found.get((chain, twin), ())
                if any(looks_like(candidate.asset.symbol, own.asset.symbol) for own in found[chain, folded])
            ]
        )
    }


def _context(records: dict[str, list[Record]]) -> _Context:
    flags: dict[str, list[QualityFlag]] = {}
    for flag in records["quality_flag"]:
        assert isinstance(flag, QualityFlag)
        flags.setdefault(flag.asset_id, []).append(flag)
    symbols = {group.group_id: fold(group.canonical_symbol) for group in records["group"] if isinstance(group, Group)}
    canonical = {
        (symbols[member.group_id], member.asset_id)
        for member in records["group_member"]
        if isinstance(member, GroupMember) and member.is_canonical and member.group_id in symbols
    }
    return _Context({asset_id: worst_first(held) for asset_id, held in flags.items()}, canonical)
