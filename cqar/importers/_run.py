"""Runs an import: read the file, plan, write in transactions of a few hundred records, tell what became of every row."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cqar.errors import CqarError, InvalidError
from cqar.importers._chains import CHAINS
from cqar.importers._lookups import Lookups, Progress, quiet
from cqar.importers._markets import MARKETS
from cqar.importers._plan import Importer, Options, Plan, Refusal
from cqar.importers._snapshot import SNAPSHOT
from cqar.importers._tickers import VENUE_SYMBOLS
from cqar.importers._tokenlist import TOKENLIST
from cqar.importers._venues import VENUES
from cqar.model import KIND_OF, Record

if TYPE_CHECKING:
    from cqar.client._registry import Registry, UpsertResult

KINDS: Mapping[str, Importer] = {
    importer.name: importer for importer in (CHAINS, VENUES, VENUE_SYMBOLS, MARKETS, TOKENLIST, SNAPSHOT)
}

RANK = ("UNCHANGED", "UPDATED", "CREATED", "REFUSED")  # the outcome of a row is the last of those of its records
# Fields that refer to a record of another kind.
REFERENCES = {
    "chain_id": "chain",
    "native_asset_id": "asset",
    "asset_id": "asset",
    "quote_asset_id": "asset",
    "settle_asset_id": "asset",
    "parent_asset_id": "asset",
    "child_asset_id": "asset",
    "group_id": "group",
    "venue_id": "venue",
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file's rows. `refusals` has the reason for every row refused and every part left out."""

    kind: str
    file: str
    dry_run: bool
    rows: int
    created: int
    updated: int
    unchanged: int
    refused: int
    left_out: int  # parts of rows that were written otherwise
    position: int | None  # of the registry afterwards; None if it was not asked
    seconds: float
    refusals: tuple[Refusal, ...]

    @property
    def changed(self) -> bool:
        """Whether something was written, or would be."""
        return bool(self.created or self.updated)

    @property
    def reasons(self) -> dict[str, int]:
        """How often each reason for a refusal occurs, most frequent first."""
        return dict(Counter([refusal.reason for refusal in self.refusals]).most_common())

    def write(self, path: Path) -> None:
        """Write all refusals to a file: CSV if its name ends so, else one JSON object a line."""
        rows = [{"file": self.file, **msgspec.structs.asdict(refusal)} for refusal in self.refusals]
        if path.suffix.lower() != ".csv":
            path.write_bytes(b"".join([msgspec.json.encode(row) + b"\n" for row in rows]))
            return
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["file", *Refusal.__struct_fields__], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def run(
    kind: str | Importer,
    path: Path,
    registry: Registry,
    *,
    options: Options | None = None,
    dry_run: bool = False,
    provenance: str | None = None,
    chunk: int | None = None,
    progress: Progress = quiet,
) -> Report:
    """Import a file. A second run changes nothing; one that was interrupted is gone on with by another.

    `kind` is a name of `KINDS`, or an importer of your own. `provenance` is noted for rows that do not tell their own source.
    `chunk` records are written in one transaction.

    Raises InvalidError for a file that is not of its kind, and what the server raises; the message then tells how far it got.
    """
    importer = kind if isinstance(kind, Importer) else KINDS.get(kind)
    if importer is None:
        raise InvalidError(f"kind: {kind!r} is none of {', '.join(KINDS)}", reason="IMPORT_KIND", field="kind")
    started = time.monotonic()
    options = options or Options()
    progress("reading", 0.0)
    parsed = importer.parse(path)
    parsed.provenance = provenance or parsed.provenance
    lookups = Lookups(registry, progress)
    made = importer.plan(parsed, lookups, options)
    made.refused += parsed.refused
    writer = _Writer(registry, replace=options.replace, dry_run=dry_run)
    writer.write(made, chunk or importer.chunk, progress)
    outcomes = writer.outcomes | {(refusal.row, refusal.key): "REFUSED" for refusal in made.refused if not refusal.part}
    counts = Counter(outcomes.values())
    return Report(
        kind=importer.name,
        file=str(path),
        dry_run=dry_run,
        rows=parsed.count,
        created=counts["CREATED"],
        updated=counts["UPDATED"],
        unchanged=counts["UNCHANGED"],
        refused=counts["REFUSED"],
        left_out=sum([refusal.part for refusal in made.refused]),
        position=writer.position if writer.position is not None else lookups.position,
        seconds=time.monotonic() - started,
        refusals=tuple(sorted(made.refused, key=lambda refusal: refusal.row)),
    )


class _Writer:
    """Sends planned records and keeps count."""

    def __init__(self, registry: Registry, *, replace: bool, dry_run: bool) -> None:
        self._registry, self._replace, self._dry_run = registry, replace, dry_run
        self._promised: set[tuple[str, str]] = set()  # what a dry run would have created
        self.outcomes: dict[tuple[int, str], str] = {}
        self.position: int | None = None

    def write(self, made: Plan, chunk: int, progress: Progress) -> None:
        """Write all records; refusals are added to the plan's."""
        done = 0
        for batch in _chunks(made, chunk):
            try:
                results, self.position = self._registry.upsert_records(
                    [record for _, _, record in batch], replace=self._replace, dry_run=self._dry_run
                )
            except CqarError as error:
                at = "" if self.position is None else f", up to position {self.position}"
                total = len(made.records)
                raise type(error)(
                    f"the import stopped after {done:,} of {total:,} records{at} ({error.message}); run it again to go on",
                    reason="IMPORT_STOPPED",
                    **{**error.metadata, "cause": error.reason, "done": done, "total": total},
                ) from error
            for (row, key, record), result in zip(batch, results, strict=True):
                self._count(made, row, key, record, result)
            done += len(batch)
            progress("writing", done / len(made.records))

    def _count(self, made: Plan, row: int, key: str, record: Record, result: UpsertResult) -> None:
        outcome = self._outcome(record, result)
        if outcome == "REFUSED":
            made.refused.append(Refusal(row=row, key=key, reason=result.reason, message=result.message))
        self.outcomes[row, key] = max(self.outcomes.get((row, key), RANK[0]), outcome, key=RANK.index)

    def _outcome(self, record: Record, result: UpsertResult) -> str:
        """Give the outcome; in a dry run a record may refer to one that an earlier transaction would have created."""
        kind = KIND_OF[type(record)]
        outcome = result.outcome.value
        if not self._dry_run:
            return outcome
        if outcome == "REFUSED" and result.reason.endswith("_NOT_FOUND") and self._refers_to_promised(record):
            outcome = "CREATED"
        if outcome == "CREATED":
            self._promised.add((kind.name, kind.key_of(record)))
        return outcome

    def _refers_to_promised(self, record: Record) -> bool:
        return any((target, getattr(record, field, None)) in self._promised for field, target in REFERENCES.items())


def _chunks(made: Plan, size: int) -> Iterator[list[tuple[int, str, Record]]]:
    rest = iter(made.records)
    while batch := list(islice(rest, size)):
        yield batch
