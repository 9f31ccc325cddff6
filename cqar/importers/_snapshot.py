"""A snapshot, loaded into a registry that may hold other things already. Ids stay as they are."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cqar import snapshot
from cqar.importers._lookups import Lookups
from cqar.importers._plan import Importer, Options, Parsed, Plan, Row
from cqar.model import KIND_OF, KINDS, Chain, Record


def parse(path: Path) -> Parsed[Record]:
    """Read the newest snapshot under a folder, or the one that the folder is. Raises SnapshotError."""
    newest = snapshot.latest(path)
    parsed = Parsed[Record](path, "")
    for kind in KINDS:
        parsed.rows += [Row(number, record) for number, record in enumerate(snapshot.read(newest, kind), start=1)]
    return parsed


def plan(parsed: Parsed[Record], _lookups: Lookups, _options: Options) -> Plan:
    """Plan the records as they are; what native asset a chain has is said once the assets are there."""
    made = Plan()
    chains = []
    for number, record in parsed.rows:
        kind = KIND_OF[type(record)]
        key = f"{kind.name}/{kind.key_of(record)}"
        if isinstance(record, Chain) and record.native_asset_id is not None:
            chains.append((number, key, record))
            made.add(number, key, msgspec.structs.replace(record, native_asset_id=None))
        else:
            made.add(number, key, record)
    for number, key, chain in chains:
        made.add(number, key, chain)
    return made


SNAPSHOT = Importer(
    name="snapshot",
    help="all records of a snapshot folder; without one, of the bundled catalogue",
    parse=parse,
    plan=plan,
    chunk=1000,
)
