"""What happened, in words that others act on: an event for each record that a committed transaction wrote or removed.

Events are made from the change log, never from a request, so none is told that was not committed and none is forgotten. Their
names are the specification's and, where it has none, of its kind. `wire` gives each its message of `protos/cqar/v1/events.proto`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from cqar.model import KINDS, Op, QualityFlag, Record


class Names(NamedTuple):
    """What it is called when a record of a kind is made, becomes another one, and is removed."""

    made: str
    changed: str
    removed: str


NAMES: Final[dict[str, Names]] = {
    "chain": Names("ChainRegistered", "ChainUpdated", "ChainRemoved"),
    "asset": Names("AssetCreated", "AssetUpdated", "AssetDeleted"),
    "deployment": Names("AssetDeploymentCreated", "AssetDeploymentUpdated", "AssetDeploymentDeleted"),
    "identifier": Names("IdentifierMapped", "IdentifierUpdated", "IdentifierUnmapped"),
    "relationship": Names("RelationshipEstablished", "RelationshipUpdated", "RelationshipEnded"),
    "group": Names("GroupCreated", "GroupChanged", "GroupDeleted"),
    "group_member": Names("GroupMemberAdded", "GroupMemberChanged", "GroupMemberRemoved"),
    "quality_flag": Names("QualityFlagSet", "QualityFlagChanged", "QualityFlagRemoved"),
    "venue": Names("VenueRegistered", "VenueUpdated", "VenueRemoved"),
    "venue_symbol": Names("VenueSymbolMapped", "VenueSymbolChanged", "VenueSymbolUnmapped"),
}
RESOLVED: Final = "QualityFlagResolved"

# Type to kind: every event that there is.
TYPES: Final[dict[str, str]] = {name: kind for kind, names in NAMES.items() for name in names} | {
    RESOLVED: "quality_flag"
}
assert NAMES.keys() == KINDS.keys()


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. `record` is what it led to, or of a removal what was removed.

    What was made and removed in one transaction is told as removed, without the record.
    """

    log_id: str
    position: int  # of the transaction
    index: int  # within the transaction, from 0
    time: datetime  # of the commit
    actor: str
    request_id: str | None = None
    type: str  # a key of TYPES
    key: str
    record: Record | None = None
    before: Record | None = None  # what a changed record was, if that is known

    @property
    def event_id(self) -> str:
        """What it is known by, should it come twice."""
        return f"{self.log_id}:{self.position}:{self.index}"


def type_of(op: Op, kind: str, record: Record | None, before: Record | None) -> str:
    """Name what a change is. Without `before`, as a replica has it, a record is new if its times say so."""
    names = NAMES[kind]
    if op is Op.REMOVE or record is None:
        return names.removed
    if before is None and record.created_at == record.updated_at:
        return names.made
    if isinstance(record, QualityFlag) and not record.is_active:
        return RESOLVED
    return names.changed
