"""Is a database whole? What a dump, a disk or a hand may have left out shows as a fault in words; nothing is changed.

The change log is the measure: batches without a gap up to the clock, each with as many changes as it says. A manifest of
`deploy/backup` tells besides how many rows every table had.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from cqar.errors import InvalidError, PreconditionError
from cqar.model import FeedToken
from cqar.server.schema import metadata
from cqar.server.store import Store

_VIEW: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_PATIENCE: Final = text("SET LOCAL statement_timeout = 0")  # counting a long log takes what it takes
_CLOCK: Final = text("SELECT log_id, position, chain FROM clock")
_LOG: Final = text("""
    SELECT count(*), min(position), max(position), (SELECT chain FROM batches ORDER BY position DESC LIMIT 1) FROM batches
""")
_INCOMPLETE: Final = text("""
    SELECT count(*), min(position) FROM batches FULL JOIN (SELECT position, count(*) AS noted FROM changes GROUP BY position) AS c
    USING (position) WHERE change_count IS DISTINCT FROM noted
""")
_TABLES: Final = (*sorted(metadata.tables), "alembic_version")


class Manifest(msgspec.Struct, frozen=True):
    """What `deploy/backup/backup.sh` writes beside a dump, as far as a database can be compared with it: its log has another id."""

    format: int
    position: int
    chain: str  # hexadecimal
    rows: dict[str, int]


class Inspection(msgspec.Struct, frozen=True):
    """What was found in a database, at one moment."""

    log_id: str
    position: int
    oldest: int | None  # position of the first batch that the log still has
    rows: dict[str, int]  # by table
    faults: tuple[str, ...]


def load_manifest(path: Path) -> Manifest:
    """Read a manifest; raises InvalidError if it is none, or of another format."""
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise InvalidError(f"{path}: {error.strerror}", reason="MANIFEST", field="against") from None
    except msgspec.DecodeError as error:
        raise InvalidError(f"{path}: not a manifest of a backup: {error}", reason="MANIFEST", field="against") from None
    if manifest.format != 1:
        raise InvalidError(
            f"{path}: format {manifest.format} of a newer version: upgrade cqar", reason="MANIFEST", field="against"
        )
    return manifest


def inspect(store: Store, manifest: Manifest | None = None) -> Inspection:
    """Look at every table of a database, in one view, and compare it with a manifest if one is given.

    Reads the whole change log. Raises PreconditionError if the schema is not of this version.
    """
    schema = store.schema()
    if not schema.is_current:
        raise PreconditionError(
            f"the database has the schema {schema.found or '(none)'} and this version needs {schema.wanted}:"
            " run `cqar migrate`",
            reason="SCHEMA_OLDER",
        )
    with store.connection() as connection:
        connection.execute(_VIEW)
        connection.execute(_PATIENCE)
        rows = {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in _TABLES}
        clock = connection.execute(_CLOCK).one_or_none()
        if clock is None:
            return Inspection("", 0, None, rows, ("there is no clock: this database was not restored to its end",))
        head = FeedToken(log_id=clock[0], position=clock[1], chain=bytes(clock[2]))
        oldest = connection.execute(_LOG).one()[1]
        faults = [*_faults(connection, head), *(_differences(head, rows, manifest) if manifest else ())]
    return Inspection(head.log_id, head.position, oldest, rows, tuple(faults))


def _faults(connection: Connection, head: FeedToken) -> Iterator[str]:
    """Tell where the change log contradicts itself or the clock."""
    count, oldest, newest, chain = connection.execute(_LOG).one()
    if (newest or 0) != head.position:
        yield f"the clock is at position {head.position} and the newest batch is {newest or 'missing'}"
    elif count and bytes(chain) != head.chain:
        yield f"the clock and the newest batch, {newest}, have different histories"
    if count and newest - oldest + 1 != count:
        yield f"the change log has gaps: {count} batches from position {oldest} to {newest}"
    incomplete, first = connection.execute(_INCOMPLETE).one()
    if incomplete:
        yield f"{incomplete} batches do not have the changes that they should, the first at position {first}"


def _differences(head: FeedToken, rows: dict[str, int], manifest: Manifest) -> Iterator[str]:
    """Tell where a database is not what a manifest says."""
    said: list[tuple[str, Any, Any]] = [
        ("the position is", head.position, manifest.position),
        ("the running hash is", head.chain.hex(), manifest.chain),
        *[(f"rows of {name}:", rows.get(name, "none"), count) for name, count in sorted(manifest.rows.items())],
    ]
    for what, found, wanted in said:
        if found != wanted:
            yield f"{what} {found}, and {wanted} in the manifest"
