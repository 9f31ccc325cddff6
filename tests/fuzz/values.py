"""Requests for any method, made from its descriptor and a source of randomness: bad ones, and ones that go deep.

A `Maker` takes every decision from one `random.Random`: hypothesis hands in its own and can shrink what it finds, a long run
hands in a plain one and is ten times as fast. Half of all values come from a `Pool` of what the registry holds, by the
names of fields, so that the paths behind the first look-up are reached; a method or field that is new needs nothing here.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

POOL_SIZE: Final = 500  # values known of a name, messages known of a type
DEPTH: Final = 6  # of messages in messages
LONG: Final = 1 << 20

# Two noncharacters take as many bytes in UTF-8 as two surrogates, which Python does not write: they are put in afterwards.
_NONCHARACTERS: Final = "\ufdd0\ufdd1"
_SURROGATES: Final = b"\xed\xa0\x80\xed\xb0\x80"

_INTEGERS: Final = (0, 1, -1, 2, 7, 18, 100, 255, 256, 1000, 1001, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63))
_BITS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS: Final = (0.0, -0.0, 1.5, -1.0, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
# The first and the last instant that there is, and those beside them.
_SECONDS: Final = (0, 1, -1, 1_800_000_000, -62135596800, -62135596801, 253402300799, 253402300800, 2**63 - 1, -(2**63))
_NANOS: Final = (0, 0, 0, 1, -1, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))

# Nothing here may look like a thing that only a leak could show: see `verdict`.
_STRINGS: Final = (
    "", " ", "a", "0", "-1", "%", "_", "%%%", "\\", "'", '"', "`", ";", "\x00", "a\x00b", "\n", "\r\n\t", "\x7f", "\x1b[31m",
    "\u200b", "\u202egnp", "\u2066", "\ufeff", "\ud7ff", "\ue000", "\uffff", "\U0010ffff", "\U0001f4a9", "e\u0301\u0301\u0301",
    "İ", "ß", "ﬀ", "ŉ", "\u0345", "USD₮0", "UЅDТ", "١٢٣", "½", "²", "Ⅷ", "x" * 64, "x" * 65, "ﷺ" * 64, "x" * 129, "😀" * 2000,
    "' OR '1'='1", "'; DROP TABLE students; --", "1; COMMIT", "$1", ":name", "%s", "%(name)s", "{0}", "${HOME}", "\\x00", "\\u0000",
    "../../../etc/passwd", "/etc/passwd", "..", "file:///etc/passwd", "C:\\nul", "http://a@b/", "https://", "javascript:alert(1)",
    "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "FFFFFFFF-FFFF-4FFF-8FFF-FFFFFFFFFFFF",
    "00000000000000000000000000000000", "{00000000-0000-0000-0000-000000000000}",
    "0x", "0X", "0x0", "0x" + "0" * 40, "0x" + "e" * 40, "0x" + "f" * 40, "0x" + "F" * 40, "0x" + "g" * 40, "0x" + "0" * 64,
    "0x0000000000000000000000000000000000001010", "1" * 44, "T" + "1" * 33, "bc1q", "ibc/" + "A" * 64, "eip155:1", "eip155:01",
    "eip155:99999999999999999999999999999999", "eip155:", ":1", "eip155:1/erc20:0x0", "eip155:1/slip44:60", "a:b:c/d:e/f",
    "null", "true", "NaN", "[]", "{}", "<script>", "=1+1", "AAAA", "AAA=", "gJ", "wA==", "====", "zgAAAAA=", _NONCHARACTERS,
)  # fmt: skip
_DECIMALS: Final = (
    "1", "0", "-0", "0.1", "-1", "+1", "1.", ".1", "1e3", "1E-18", "1e-19", "1e19", "1e20", "1e999999", "1e-999999",
    "1e999999999999999999999", "9" * 20, "9" * 21, "9" * 20 + "." + "9" * 18, "0." + "0" * 17 + "1", "0." + "0" * 18 + "1",
    "9" * 5000, "NaN", "nan", "sNaN", "-NaN", "NaN123", "NaN" + "9" * 30_000, "Infinity", "-inf", "١٢", "１２", "1_000", "1,5",
    " 1 ", "0x10", "1/3",
)  # fmt: skip
_NUMERIC: Final = frozenset({"conversion_rate", "weight", "multiplier"})

_SORTS: Final = ("0123456789", "abcdef", "ABCDEF", "ghijkmnopqrstuvwxyz", "GHJKLMNPQRSTUVWXYZ")

# Fields that take what other fields hold: by name, or by the end of it.
_SAME: Final = {
    "chain": ("chain_id", "caip2", "aliases", "network_id"),
    "venue": ("venue_id", "aliases"),
    "address": ("contract_address",),
    "key": ("asset_id", "venue_symbol_id"),
    "query": ("symbol", "name", "contract_address", "external_id", "asset_id"),
    "page_token": ("next_page_token",),
    "service": ("service",),
}


def _names(field: str) -> tuple[str, ...]:
    """Tell under which names the pool has values for a field."""
    if field.rstrip("s").endswith("asset_id"):
        return ("asset_id",)
    return _SAME.get(field, (field,))


class Pool:
    """What is known of the registry: texts by the field that held them, and whole messages by type."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = defaultdict(list)
        self.messages: dict[str, list[bytes]] = defaultdict(list)
        self.kinds: dict[str, Descriptor] = {}
        self._random = random.Random(0)

    def learn(self, message: Message) -> None:
        """Note everything in a message, such as a record or a reply."""
        self.kinds[message.DESCRIPTOR.full_name] = message.DESCRIPTOR  # type: ignore[assignment]
        self._add(self.messages[message.DESCRIPTOR.full_name], message.SerializeToString())
        for field, value in message.ListFields():
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                continue
            values = value if field.is_repeated else [value]
            if field.message_type is not None:
                for part in values[:10]:
                    self.learn(part)
            elif field.type == FieldDescriptor.TYPE_STRING:
                for text in values[:10]:
                    self.learn_text(field.name, text)
            elif field.name == "network_id":
                self.learn_text(field.name, str(value))

    def learn_text(self, field: str, text: str) -> None:
        """Note a text that stood in a field."""
        if 0 < len(text) < 4096:
            for name in _names(field) if field.endswith("asset_id") else (field,):
                self._add(self.texts[name], text)

    def _add(self, known: list[Any], value: Any) -> None:
        if len(known) < POOL_SIZE:
            known.append(value)
        else:
            known[self._random.randrange(POOL_SIZE)] = value


_NOTHING: Final = Pool()


class Maker:
    """Makes the bytes of requests. All that is random comes from `source`, all that exists from `pool`."""

    def __init__(self, source: random.Random, pool: Pool) -> None:
        self._random = source
        self._pool = pool

    def request(self, method: MethodDescriptor) -> bytes:
        """Make a request for a method: mostly a message of its type, sometimes damaged, sometimes no message at all."""
        kind = self._random.randrange(100)
        if kind < 3:
            return self._random.randbytes(self._random.randrange(300))
        if method.name.startswith("Delete") and self._chance(80):  # else there would soon be nothing left
            return Maker(self._random, _NOTHING)._made(method, kind)
        return self._made(method, kind)

    def message(self, descriptor: Descriptor) -> Message:
        """Make a message of a type."""
        return self._message(descriptor, DEPTH)

    def _made(self, method: MethodDescriptor, kind: int) -> bytes:
        data = self._message(method.input_type, DEPTH).SerializeToString().replace(_NONCHARACTERS.encode(), _SURROGATES)
        if kind < 6:
            return data[: self._random.randrange(len(data) + 1)]
        if kind < 10 and data:
            return self._flipped(data)
        if kind < 12:
            return data + self._random.randbytes(self._random.randrange(40))  # fields that nobody knows, perhaps
        return data

    def _flipped(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(self._random.randrange(1, 4)):
            damaged[self._random.randrange(len(damaged))] ^= 1 << self._random.randrange(8)
        return bytes(damaged)

    def _chance(self, percent: int) -> bool:
        return self._random.randrange(100) < percent

    def _message(self, descriptor: Descriptor, depth: int) -> Message:
        """Make a message: one that exists with a few fields changed, or a new one."""
        known = self._pool.messages.get(descriptor.full_name)
        if known and self._chance(60):
            message = GetMessageClass(descriptor).FromString(self._random.choice(known))
            self._vary(message, depth)
            return message
        message = GetMessageClass(descriptor)()
        if descriptor.full_name == "google.protobuf.Timestamp":
            message.seconds, message.nanos = self._random.choice(_SECONDS), self._random.choice(_NANOS)  # type: ignore[attr-defined]
        else:
            self._fill(message, depth)
        return message

    def _vary(self, message: Message, depth: int) -> None:
        """Change a message that exists, sometimes into another that may well be created."""
        if self._chance(60):
            self._renew(message)
        fields: list[Any] = list(message.DESCRIPTOR.fields)
        for field in self._random.sample(fields, min(len(fields), self._random.choice((0, 0, 1, 1, 2, 3)))):
            message.ClearField(field.name)
            if self._chance(80):
                self._set(message, field, depth)

    def _fill(self, message: Message, depth: int) -> None:
        """Give some fields of a message values; what a request is about is seldom left out."""
        filled = self._random.choice((25, 60, 90))
        choices = [group for group in message.DESCRIPTOR.oneofs if len(group.fields) > 1]
        for group in choices:
            if self._chance(92):
                self._set(message, self._random.choice(list[Any](group.fields)), depth)
        fields: list[Any] = list(message.DESCRIPTOR.fields)
        for field in fields:
            subject = depth == DEPTH and field.message_type is not None and not field.is_repeated
            if field.containing_oneof not in choices and self._chance(95 if subject else filled):
                self._set(message, field, depth)
        if self._chance(40):
            self._agree(message)

    def _renew(self, message: Message) -> None:
        """Make another record of the same form from one that exists: it may well be created."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", message.DESCRIPTOR.name).lower()
        for field, value in message.ListFields():
            own = field.name.endswith("_id") and name.endswith(field.name.removesuffix("_id"))
            if field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64):
                message.ClearField(field.name)  # numbers of chains are given once
            elif field.type != FieldDescriptor.TYPE_STRING:
                continue
            elif field.is_repeated:
                value[:] = [self._alike(text) for text in value]
            elif field.name.endswith("_id") and not own and field.name != "external_id":
                if self._chance(30):  # refer to another record
                    setattr(message, field.name, self._known(field.name) or value)
            elif own and len(value) == 36 and self._chance(50):
                message.ClearField(field.name)  # a UUID: the server gives a new one
            elif own or self._chance(60):
                setattr(message, field.name, self._alike(value))

    def _alike(self, text: str) -> str:
        """Put other letters and digits of the same sort at the end: an address stays one, and so does a slug or URL."""
        letters = list(text)
        for place in range(max(0, len(letters) - 3), len(letters)):
            sort = next((sort for sort in _SORTS if letters[place] in sort), letters[place])
            letters[place] = self._random.choice(sort)
        return "".join(letters)

    def _agree(self, message: Message) -> None:
        """Let the texts of a message be of one record, so that a pair such as chain and address is one that exists."""
        texts = [field for field in message.DESCRIPTOR.fields if field.type == FieldDescriptor.TYPE_STRING]
        texts = [field for field in texts if not field.is_repeated and field.name not in ("request_id", "page_token")]
        if len(texts) < 2:
            return
        wanted = [set(_names(field.name)) for field in texts]
        fitting = [
            kind for kind in self._pool.kinds.values() if all(names & set(kind.fields_by_name) for names in wanted)
        ]
        if not fitting:
            return
        kind = self._random.choice(fitting)
        record = GetMessageClass(kind).FromString(self._random.choice(self._pool.messages[kind.full_name]))
        for field, names in zip(texts, wanted, strict=True):
            values = [getattr(record, name) for name in sorted(names & set(kind.fields_by_name))]
            if isinstance(values[0], str):
                setattr(message, field.name, values[0])

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        """Give a field a value; messages that are too deep stay empty."""
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entries = getattr(message, field.name)
            for _ in range(self._count()):
                key, value = (self._scalar(part) for part in field.message_type.fields)
                entries[key] = value
        elif field.message_type is not None:
            if depth == 0:
                return
            parts = [
                self._message(field.message_type, depth - 1) for _ in range(self._count() if field.is_repeated else 1)
            ]
            if field.is_repeated:
                getattr(message, field.name).extend(parts)
            else:
                getattr(message, field.name).CopyFrom(parts[0])
        elif field.is_repeated:
            getattr(message, field.name).extend([self._scalar(field) for _ in range(self._count())])
        else:
            setattr(message, field.name, self._scalar(field))

    def _count(self) -> int:
        return self._random.choice((0, 1, 1, 2, 3, 5, 40) if self._chance(30) else (0, 1, 1, 2))

    def _scalar(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        makers: dict[int, Callable[[], Any]] = {
            FieldDescriptor.CPPTYPE_BOOL: lambda: self._chance(50),
            FieldDescriptor.CPPTYPE_FLOAT: lambda: self._random.choice(_FLOATS),
            FieldDescriptor.CPPTYPE_DOUBLE: lambda: self._random.choice(_FLOATS),
        }
        if kind == FieldDescriptor.CPPTYPE_STRING:
            text = self._text(field.name)
            return text if field.type == FieldDescriptor.TYPE_STRING else self._bytes(text)
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            numbers = [value.number for value in field.enum_type.values]
            return self._random.choice(numbers if self._chance(90) else (0, -1, 99, 2**31 - 1, -(2**31)))
        if kind in _BITS:
            low, high = _BITS[kind]
            number = self._random.choice(_INTEGERS) if self._chance(80) else self._random.randrange(low, high + 1)
            return min(max(number, low), high)
        return makers[kind]()

    def _bytes(self, text: str) -> bytes:
        return (
            text.encode() if self._chance(50) else self._random.randbytes(self._random.choice((0, 1, 15, 16, 17, 300)))
        )

    def _text(self, field: str) -> str:
        """Make a text: one that the field may well hold, one that another field holds, or one that means trouble."""
        kind = self._random.randrange(1000)
        if kind < 650 and (text := self._known(field)):
            return text if self._chance(85) else self._changed(text)
        if kind < 720 and self._pool.texts:
            return self._random.choice(self._pool.texts[self._random.choice(sorted(self._pool.texts))] or [""])
        if kind < 723:
            return self._random.choice(("x", "0", "ß", "😀", "\x00", "%", "9")) * (
                LONG // self._random.choice((1, 4, 16))
            )
        if kind < 760:
            return "".join([chr(self._random.randrange(0xD800)) for _ in range(5)])
        return self._random.choice(_DECIMALS if field in _NUMERIC and self._chance(80) else _STRINGS)

    def _known(self, field: str) -> str:
        """Give a text that stood in such a field; the empty one if none is known."""
        texts = self._pool.texts.get(self._random.choice(_names(field)))
        return self._random.choice(texts) if texts else ""

    def _changed(self, text: str) -> str:
        """Change a text a little: its case, a character, its length."""
        place = self._random.randrange(len(text))
        other = self._random.choice("0aZ_%-=\x00é")
        changes = (
            text.upper(),
            text.swapcase(),
            text[:place],
            f" {text}",
            f"{text[:place]}{other}{text[place + 1 :]}",
            text * 2,
        )
        return self._random.choice(changes)
