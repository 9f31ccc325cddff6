"""Many records in one transaction, matched by their natural keys: what every import uses (R14).

What the records may meet in the registry is read first, with a few selects for each kind; then one record after the other
is merged or refused in memory, and what is left is written many rows at a time. A refused record writes nothing and does
not spoil the others. Kinds are done in the order of `IMPORTERS`, so that a record may refer to any of the same call.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from cqar.errors import ConflictError, CqarError, InvalidError, LimitError, NotFoundError, PermissionDeniedError
from cqar.model import KIND_OF, Record
from cqar.server.registry._base import Base, writes
from cqar.server.registry.importers import IMPORTERS, Importer, Merge, Shared
from cqar.server.transaction import Tx

MAX_RECORDS: Final = 1000


class Outcome(enum.StrEnum):
    """What became of one record."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"


class UpsertResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one record; `key` is that of the record as it stands, or of the one in the way."""

    outcome: Outcome
    key: str = ""
    reason: str = ""
    message: str = ""


class UpsertAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One result for each record, in order. The position is that of before if nothing was written."""

    results: tuple[UpsertResult, ...]
    position: int = 0


class Upserts(Base):
    """The bulk write."""

    # The store finds a conflict or a dead reference only if another writer made it after the selects of this one.
    @writes(ConflictError, NotFoundError)
    def upsert_records(
        self,
        tx: Tx,
        records: Sequence[Record | InvalidError],
        *,
        merge: Merge = Merge.FILL,
        dry_run: bool = False,
    ) -> UpsertAnswer:
        """Create or update up to 1000 records; an error in place of one gives the reason to refuse it.

        With `dry_run` the outcomes are the same and nothing is written. Raises LimitError for more records.
        """
        if len(records) > MAX_RECORDS:
            raise LimitError(f"records: {len(records)} are more than {MAX_RECORDS}", field="records")
        tx.rollback_only = dry_run
        results: dict[int, UpsertResult] = {}
        by_kind: dict[str, list[tuple[int, Record]]] = {}
        for index, record in enumerate(records):
            if isinstance(record, InvalidError):
                results[index] = _refusal(record)
            else:
                by_kind.setdefault(KIND_OF[type(record)].name, []).append((index, record))
        while True:
            try:
                with tx.attempt():
                    results |= _import_all(Shared(tx, merge), by_kind)
                return UpsertAnswer(results=tuple([results[index] for index in range(len(records))]))
            except PermissionDeniedError:
                # What the guard refused writes nothing, and the others once more without it.
                refused = {index: _refusal(error) for index, error in tx.refused.items() if isinstance(index, int)}
                if not refused:
                    raise
                results |= refused
                by_kind = {
                    name: [(index, record) for index, record in items if index not in refused]
                    for name, items in by_kind.items()
                }


def _import_all(shared: Shared, by_kind: Mapping[str, list[tuple[int, Record]]]) -> dict[int, UpsertResult]:
    """Merge or refuse the records of all kinds."""
    results: dict[int, UpsertResult] = {}
    for importer in IMPORTERS:
        items = by_kind.get(importer.kind.name)
        if items:
            results |= _import(importer(shared), items)
    return results


def _import(importer: Importer[Any], items: list[tuple[int, Record]]) -> dict[int, UpsertResult]:
    """Merge or refuse the records of one kind."""
    results: dict[int, UpsertResult] = {}
    importer.read_names([record for _, record in items])
    normal: list[tuple[int, Record]] = []
    for index, record in items:
        try:
            normal.append((index, importer.normal(record)))
        except CqarError as error:
            results[index] = _refusal(error)
    importer.read([record for _, record in normal])
    for index, record in normal:
        importer.tx.cause = index
        try:
            outcome, key = importer.write(record)
            results[index] = UpsertResult(outcome=Outcome[outcome], key=key)
        except CqarError as error:
            if importer.tx.refused:  # by the guard, of what is sent already
                raise
            results[index] = _refusal(error)
    return results


def _refusal(error: CqarError) -> UpsertResult:
    key = error.existing_id if isinstance(error, ConflictError) else None
    return UpsertResult(outcome=Outcome.REFUSED, key=key or "", reason=error.reason, message=error.message)
