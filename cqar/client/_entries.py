"""How an index is laid out: keys, payloads, checksums.

Four sorts of entries, told apart by the first byte of the key:

- `D` kind, record key       -> nothing: the record was deleted, and is not there again
- `P` posting, words         -> the keys of the records found under these words (see `model.Posting`)
- `R` kind, record key       -> the record; with an asset that has active flags come these flags: the trade gate reads once, and
  no damage that loses an entry can take an asset's flags and leave the asset
- `S` chain, folded symbol   -> the candidates, whole: the look-up that trading services repeat costs one read.
  The chain is empty for "on no particular chain"

LMDB notices no flipped bit, so every value ends in a seal of two checksums: one over its key and payload, and the link, one over
its key and the key that follows it in the file. The first says that what was found is right. The second proves that what was not
found is not there: nothing lies between two neighbours that a link joins. `FIRST` stands before all; the last link leads to `END`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import xxhash

from cqar.answers import Candidate
from cqar.model import KINDS, Asset, QualityFlag, Record, Words

MAX_KEY = 511  # of the LMDB 0.9 format
CHECKSUM = 8  # bytes
SEAL = 2 * CHECKSUM  # at the end of each value: of key and payload, and the link
FIRST, END = b"\0", b""  # the key before all others, whose payload is empty; what the last key is joined with
FLAGGED = 0x92  # first byte of an asset that has flags: an array of the asset and its flags

checksum = xxhash.xxh3_64_digest  # of key and payload: 0.1 µs for 600 bytes, a sixth of what crc32 takes

encode = msgspec.msgpack.Encoder().encode
decode_flagged = msgspec.msgpack.Decoder(tuple[Asset, tuple[QualityFlag, ...]]).decode
decode_keys = msgspec.msgpack.Decoder(tuple[str, ...]).decode
decode_candidates = msgspec.msgpack.Decoder(tuple[Candidate, ...]).decode


class _Decoders(dict[str, Callable[[bytes], Record]]):
    """The decoder of each kind, made when it is first needed: all of them take 3 ms of every import."""

    def __missing__(self, kind: str) -> Callable[[bytes], Record]:
        decode = self[kind] = msgspec.msgpack.Decoder(KINDS[kind].record).decode
        return decode


decoders = _Decoders()
deleted_prefix = {name: b"D" + bytes([number]) for number, name in enumerate(KINDS)}
kind_prefix = {name: b"R" + bytes([number]) for number, name in enumerate(KINDS)}
posting_prefix = {
    posting.name: b"P" + bytes([number])
    for number, posting in enumerate(posting for kind in KINDS.values() for posting in kind.postings)
}


def short(key: bytes) -> bytes:
    """Keep a key within LMDB's limit; longer ones (rare: IBC denoms, foreign ids) are stored under their hash."""
    if len(key) <= MAX_KEY:
        return key
    from hashlib import blake2b  # noqa: PLC0415  (loads OpenSSL)

    return key[:2] + b"#" + blake2b(key, digest_size=32).digest()


def record_key(kind: str, key: str) -> bytes:
    """Give the index key of a record."""
    return _stored(kind_prefix[kind], key)


def deleted_key(kind: str, key: str) -> bytes:
    """Return the index key that says that a record was deleted."""
    return _stored(deleted_prefix[kind], key)


def posting_key(posting: str, words: Words) -> bytes:
    """Give the index key of a posting."""
    return _stored(posting_prefix[posting], "\0".join(words))


def symbol_key(chain: str, folded: str) -> bytes:
    """Give the index key of a symbol's candidates; also the topic of the answers made of them."""
    try:
        key = f"S{chain}\0{folded}".encode()
    except UnicodeEncodeError:  # half of a surrogate pair: no name, but no reason to fall over
        key = f"S{chain}\0{folded}".encode("utf-8", "surrogatepass")
    return key if len(key) <= MAX_KEY else short(key)


def _stored(prefix: bytes, text: str) -> bytes:
    return short(prefix + text.encode("utf-8", "surrogatepass"))


def link(key: bytes, following: bytes) -> bytes:
    """Return the checksum that joins a key with the next one of the file."""
    return checksum(key + following, len(key))


def sealed(key: bytes, payload: bytes, following: bytes) -> bytes:
    """Return the value of a key that another one follows."""
    return payload + checksum(key + payload) + checksum(key + following, len(key))


# --- payloads --------------------------------------------------------------------------------------------------------

Entry = tuple[bytes, bytes]  # key, payload


class Gate(NamedTuple):
    """What the trade gate must know of an asset."""

    exists: bool
    flags: tuple[QualityFlag, ...] = ()  # active ones, worst first


DELETED = b"\xc0"  # payload: the nil of msgpack
NOTHING, UNFLAGGED = Gate(exists=False), Gate(exists=True)


def record_payload(kind: str, record: Record, gate: Gate = UNFLAGGED) -> bytes:
    """Give what is stored for a record; for an asset, `gate` tells its flags."""
    if kind == "asset" and gate.flags:
        return encode((record, gate.flags))
    return encode(record)


def posting_payload(keys: Iterable[str]) -> bytes | None:
    """Give what is stored for a posting; None if it is empty."""
    ordered = sorted(keys)
    return encode(ordered) if ordered else None


def candidates_payload(candidates: Sequence[Candidate]) -> bytes | None:
    """Give what is stored for a symbol on a chain; None if it has no candidates."""
    return encode(candidates) if candidates else None


def array_payload(fragments: Sequence[bytes]) -> bytes:
    """Give an array of things that are encoded already."""
    return array_head(len(fragments)) + b"".join(fragments)


def array_head(length: int) -> bytes:
    """Give the msgpack header of an array."""
    return sized(length, 16, 0x90, (0xDC, 2), (0xDD, 4))


def sized(length: int, small: int, first: int, *sizes: tuple[int, int]) -> bytes:
    """Give a msgpack header with a length: in its first byte where it is small, else after a code, in so many bytes."""
    if length < small:
        return bytes([first | length])
    for code, width in sizes:
        if length < 1 << (8 * width):
            return bytes([code]) + length.to_bytes(width, "big")
    raise OverflowError(length)
