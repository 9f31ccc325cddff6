"""The audit: who wrote what and when, with the record before and after, read from the change log.

Nothing is written for it: the log has it all. Tokens are not records, so they are not in the log; their own rows tell who
made and who revoked them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import text

from cqar import model
from cqar.access import AuditEntry
from cqar.model import KINDS, Op, Record
from cqar.server.schema import references
from cqar.server.store import Store

Place = tuple[int, int]  # in the log: position, and number within the batch


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the entries must have in common; what is None is open."""

    kind: str | None = None
    key: str | None = None
    asset_id: str | None = None  # of the asset itself, or of the one that the record is about
    actor: str | None = None
    request_id: str | None = None
    position: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def _about_asset() -> str:
    """Give the select for kind and key of an asset and of all records that name it, deleted ones as well."""
    selects = ["SELECT 'asset', CAST(:asset_id AS text)"]
    for kind in KINDS.values():
        key = " || '/' || ".join([f"CAST({name} AS text)" for name in kind.key])
        sides = [name for name, target in references(kind).items() if target is model.ASSET]
        if sides:
            naming = " OR ".join([f"{name} = CAST(:asset_id AS uuid)" for name in sides])
            selects.append(f"SELECT '{kind.name}', {key} FROM {kind.table} WHERE {naming}")
    return " UNION ALL ".join(selects)


_CONDITIONS: Final = {
    "kind": "c.kind = :kind",
    "key": "c.key = :key",
    "asset_id": f"(c.kind, c.key) IN ({_about_asset()})",
    "actor": "b.actor = :actor",
    "request_id": "b.request_id = :request_id",
    "position": "b.position = :position",
    "since": "b.committed_at >= :since",
    "until": "b.committed_at < :until",
}


def entries(store: Store, question: Question, *, after: Place | None, limit: int) -> list[tuple[Place, AuditEntry]]:
    """List up to `limit` entries with their places, newest first, from the one behind `after` on."""
    parameters: dict[str, object] = {"limit": limit}
    parameters |= {name: value for name in _CONDITIONS if (value := getattr(question, name)) is not None}
    conditions = [_CONDITIONS[name] for name in parameters if name in _CONDITIONS]
    if after is not None:
        conditions.append("(c.position, c.ordinal) < (:after_position, :after_ordinal)")
        parameters |= {"after_position": after[0], "after_ordinal": after[1]}
    statement = f"""
        SELECT c.position, c.ordinal, b.committed_at, b.actor, b.request_id, c.op, c.kind, c.key,
               CAST(c.before AS text), CAST(c.record AS text)
        FROM changes AS c JOIN batches AS b ON b.position = c.position
        {"WHERE " if conditions else ""}{" AND ".join(conditions)}
        ORDER BY c.position DESC, c.ordinal DESC LIMIT :limit
    """
    with store.connection() as connection:
        rows = connection.execute(text(statement), parameters).all()
    return [
        (
            (position, ordinal),
            AuditEntry(
                position=position,
                committed_at=committed_at,
                actor=actor,
                request_id=request_id,
                op=Op(op),
                kind=kind,
                key=key,
                before=_record(kind, before),
                after=_record(kind, record),
            ),
        )
        for position, ordinal, committed_at, actor, request_id, op, kind, key, before, record in rows
    ]


def _record(kind: str, written: str | None) -> Record | None:
    record: Record | None = None if written is None else msgspec.json.decode(written, type=KINDS[kind].record)
    return record
