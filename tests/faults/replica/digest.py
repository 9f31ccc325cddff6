"""A digest of all records of a registry, whatever the order in which they were written: equal digests, equal registries."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from cqar.client._replica import Replica
from cqar.model import KINDS, Batch, Op, Record

_encode = msgspec.msgpack.Encoder().encode
_WHOLE = 1 << 128


def of_record(kind: str, key: str, record: Record) -> int:
    """Give a number for one record; the digest is the sum of all."""
    return int.from_bytes(blake2b(f"{kind}\0{key}\0".encode() + _encode(record), digest_size=16).digest())


class Running:
    """The digest of a registry that batches are applied to."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], int] = {}
        self._sum = 0

    @property
    def value(self) -> str:
        """The digest now."""
        return f"{self._sum:032x}"

    def apply(self, batch: Batch) -> None:
        """Take the changes of a batch into account."""
        for change in batch.changes:
            place = change.kind, change.key
            self._sum -= self._parts.pop(place, 0)
            if change.op is Op.PUT:
                assert change.record is not None
                part = self._parts[place] = of_record(*place, change.record)
                self._sum += part
            self._sum %= _WHOLE


def of_replica(replica: Replica) -> str:
    """Give the digest of a replica that stands still, from its index and what lies over it."""
    found = Running()
    total = sum(of_record(kind, KINDS[kind].key_of(record), record) for kind in KINDS for record in replica.all(kind))
    found._sum = total % _WHOLE
    return found.value
