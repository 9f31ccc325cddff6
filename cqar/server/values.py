"""What stands in Redis: a remembered answer, under a seal that only servers of the registry can make.

A value is `log (16 bytes) | position (8 bytes, big-endian) | seal (16 bytes) | MessagePack of the body`. The seal is over all of it
and over the key: who may write to Redis can neither make an answer, nor put one under another key, nor say that an old one is of a
later position. It is made with the secret that the database keeps beside the log's id and tells to servers only.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from typing import Any, Final, NamedTuple

import msgspec
from google.protobuf.message import DecodeError, Message

LARGEST: Final = 256 << 10  # bytes: a larger value is not remembered, and is none of ours
PREFIX: Final = 24  # bytes of log and position
_SEAL: Final = 16  # bytes


class Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What follows the seal in a value."""

    read_at: float  # Unix time at which it was asked for, at the latest
    seconds: float  # that it counts from then on: Redis counts from when it gets around to a write
    topics: tuple[str, ...]
    reply: bytes


class Entry(NamedTuple):
    """A value of this log."""

    position: int
    body: Body
    message: Any


class Seal:
    """Makes and reads the values of one log."""

    def __init__(self, log_id: str, secret: bytes) -> None:
        """Take the log's id and the secret that goes with it."""
        self.log_id = log_id
        self._secret = secret

    def value(self, key: str, position: int, body: Body) -> bytes:
        """Return the value of a key."""
        start, rest = prefix(self.log_id, position), msgspec.msgpack.encode(body)
        return start + self._seal(key, start, rest) + rest

    def entry(self, key: str, value: bytes | None, reply: type[Message]) -> Entry | None:
        """Read the value of a key; None for a tombstone, one of another log, and anything that no server put there."""
        if value is None or not PREFIX + _SEAL < len(value) <= LARGEST:
            return None
        start, seal, rest = value[:PREFIX], value[PREFIX : PREFIX + _SEAL], value[PREFIX + _SEAL :]
        if not hmac.compare_digest(seal, self._seal(key, start, rest)):
            return None
        position = int.from_bytes(start[16:], "big")
        if start != prefix(self.log_id, position):
            return None
        try:
            body = msgspec.msgpack.decode(rest, type=Body)
            return Entry(position, body, reply.FromString(body.reply))
        except (msgspec.DecodeError, DecodeError):
            return None

    def _seal(self, key: str, start: bytes, rest: bytes) -> bytes:
        name = key.encode()
        made = hashlib.blake2b(len(name).to_bytes(4, "big"), key=self._secret, digest_size=_SEAL)
        made.update(name)
        made.update(start)  # of one length always, so that all parts are told apart
        made.update(rest)
        return made.digest()


def prefix(log_id: str, position: int) -> bytes:
    """Return what a value begins with, and all that a tombstone is."""
    return uuid.UUID(log_id).bytes + position.to_bytes(8, "big")
