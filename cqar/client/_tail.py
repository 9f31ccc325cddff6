"""The tail: every batch after the generation's position, as frames in a file that is only ever appended to.

A frame is `length, crc32, payload`; the payload is MessagePack, because every process of the host reads it. A tail has one writer
for all its life: whoever takes over copies what is whole into a tail of its own. So two syncers can never both append.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from cqar.errors import SnapshotError
from cqar.model import KINDS, Batch, Change, Op, Record

PORTION = (
    64  # changes that a reader applies in one call, about 1 ms; a larger batch is shown by a generation that has it
)
LARGE = 2048  # bytes of a change that takes longer to read than others
_HEADER = struct.Struct("<II")
_encode = msgspec.msgpack.Encoder().encode


class Frame(NamedTuple):
    """A batch, and which of its records the syncer could not read whole."""

    batch: Batch
    unread: tuple[tuple[str, str], ...] = ()  # kind and key


class _Payload(msgspec.Struct, frozen=True, array_like=True):
    position: int
    chain: bytes
    committed_at: datetime
    changes: tuple[tuple[str, str, str, msgspec.Raw], ...]  # op, kind, key, record or nil
    unread: tuple[tuple[str, str], ...]


_decode = msgspec.msgpack.Decoder(_Payload).decode


class Step(NamedTuple):
    """A batch as the way of a tail goes: without its records, and where its frame ends."""

    position: int
    chain: bytes
    changes: int  # or as many as would be as large
    end: int


class _Outline(msgspec.Struct, frozen=True, array_like=True):
    position: int
    chain: bytes
    committed_at: msgspec.Raw
    changes: list[msgspec.Raw]
    unread: msgspec.Raw


_outline = msgspec.msgpack.Decoder(_Outline).decode


class _Decoders(dict[str, Callable[[Any], Record]]):
    def __missing__(self, kind: str) -> Callable[[Any], Record]:
        decode = self[kind] = msgspec.msgpack.Decoder(KINDS[kind].record).decode
        return decode


_decoders = _Decoders()


def packed(frame: Frame) -> bytes:
    """Give a frame as it stands in the file."""
    batch = frame.batch
    payload = _encode(
        (
            batch.position,
            batch.chain,
            batch.committed_at,
            [
                (
                    change.op,
                    change.kind,
                    change.key,
                    None if change.record is None else msgspec.Raw(_encode(change.record)),
                )
                for change in batch.changes
            ],
            frame.unread,
        )
    )
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def frames(data: bytes, after: int) -> Iterator[tuple[Frame, int]]:
    """Yield the frames of a piece of a tail that follow a position, each with where it ends in the piece.

    Raises SnapshotError (BAD_TAIL) at the first one that is not whole, or does not follow.
    """
    start = 0
    while start < len(data):
        payload = _payload(data, start)
        end = start + _HEADER.size + len(payload)
        try:
            read = _decode(payload)
            changes = tuple(
                [
                    Change(op=Op(op), kind=kind, key=key, record=None if op == Op.REMOVE else _decoders[kind](raw))
                    for op, kind, key, raw in read.changes
                ]
            )
        except (msgspec.DecodeError, ValueError, KeyError) as error:
            raise SnapshotError(f"the tail cannot be read: {error}", reason="BAD_TAIL", offset=start) from error
        if read.position != after + 1:
            raise SnapshotError(f"the tail goes from {after} to {read.position}", reason="BAD_TAIL", offset=start)
        after += 1
        batch = Batch(position=after, chain=read.chain, committed_at=read.committed_at, changes=changes)
        yield Frame(batch, read.unread), end
        start = end


def _payload(data: bytes, start: int) -> bytes:
    if start + _HEADER.size <= len(data):
        length, crc = _HEADER.unpack_from(data, start)
        payload = data[start + _HEADER.size : start + _HEADER.size + length]
        if len(payload) == length and zlib.crc32(payload) == crc:
            return payload
    raise SnapshotError("the tail is torn or damaged", reason="BAD_TAIL", offset=start)


def whole(data: bytes, after: int) -> tuple[list[Frame], int]:
    """Give the frames up to the first one that is torn, damaged or does not follow, and where the last of them ends."""
    found: list[Frame] = []
    end = 0
    try:
        for frame, end in frames(data, after):  # noqa: B007  (the last end is what is asked for)
            found.append(frame)
    except SnapshotError:
        pass
    return found, end


def steps(data: bytes, after: int) -> list[Step]:
    """Return the way of a tail up to the first frame that is torn, damaged or does not follow: quicker than reading its records."""
    found: list[Step] = []
    end = 0
    try:
        while end < len(data):
            payload = _payload(data, end)
            end += _HEADER.size + len(payload)
            read = _outline(payload)
            if read.position != after + 1:
                break
            after += 1
            found.append(Step(after, read.chain, max(len(read.changes), len(payload) // LARGE), end))
    except (SnapshotError, msgspec.DecodeError):
        pass
    return found


def begins_whole(data: bytes) -> bool:
    """Report whether a piece of a tail holds all of its first frame."""
    return len(data) >= _HEADER.size and len(data) >= _HEADER.size + _HEADER.unpack_from(data)[0]


def sound(data: bytes) -> int:
    """Return where the last one ends of the frames that are whole, by their checksums alone: quicker than reading them."""
    end = 0
    try:
        while end < len(data):
            end += _HEADER.size + len(_payload(data, end))
    except SnapshotError:
        pass
    return end


def joined(several: Iterable[Frame]) -> bytes:
    """Give frames as they stand in the file, one after the other."""
    return b"".join([packed(frame) for frame in several])
