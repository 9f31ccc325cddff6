"""Records to messages and errors to gRPC statuses, both ways, from one description each.

The converters are derived from the annotations of the record classes: a field that a message lacks, or has under another
name, fails at import. Values are converted here, never judged: rules are in `cqar.rules`.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeVar

import grpc
import msgspec
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from cqar import errors
from cqar.answers import Collision, Resolution, Source
from cqar.bounds import fault_of_key, fault_of_record, is_text
from cqar.events import TYPES, Event
from cqar.model import (
    KIND_OF,
    KINDS,
    QUALITY_FLAG,
    Asset,
    AssetType,
    Batch,
    Change,
    Deployment,
    FeedToken,
    FlagType,
    Kind,
    Op,
    QualityFlag,
    Record,
    Severity,
)
from cqar.patches import PATCHES
from cqar.paths import fault_of
from cqar.rules.text import shown
from cqar.v1 import events_pb2, types_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

R = TypeVar("R", bound=Record)
E = TypeVar("E", bound=enum.Enum)

# --- values ----------------------------------------------------------------------------------------------------------


def _prefix(kind: type[enum.Enum]) -> str:
    """Give the prefix of an enum's values in the contract: FlagType -> FLAG_TYPE_."""
    words = "".join([f"_{letter}" if letter.isupper() else letter for letter in kind.__name__])
    return f"{words.strip('_').upper()}_"


@functools.cache
def _numbers(kind: type[enum.Enum]) -> dict[enum.Enum, int]:
    descriptor = types_pb2.DESCRIPTOR.enum_types_by_name[kind.__name__]
    return {member: descriptor.values_by_name[_prefix(kind) + member.name].number for member in kind}


@functools.cache
def _members(kind: type[enum.Enum]) -> dict[int, enum.Enum]:
    return {number: member for member, number in _numbers(kind).items()}


def enum_to_wire(member: enum.Enum) -> int:
    """Give the number that stands for an enum member in the contract; InvalidError for UNKNOWN, which stands for no one value."""
    try:
        return _numbers(type(member))[member]
    except KeyError:
        known = ", ".join([each.name for each in type(member)])
        raise errors.InvalidError(
            f"{member.name} is what a value of a newer version is read as, and cannot be sent; give one of {known}",
            reason="ENUM",
        ) from None


def enum_from_wire(kind: type[E], number: int, field: str) -> E:
    """Give the member that a number stands for; InvalidError for 0 and for numbers of a newer contract."""
    try:
        return typing.cast("E", _members(kind)[number])
    except KeyError:
        known = ", ".join([member.name for member in kind])
        raise errors.InvalidError(
            f"{field}: not a known value ({number}); give one of {known}", reason="ENUM", field=field
        ) from None


def time_from_wire(stamp: Timestamp, field: str) -> datetime:
    """Give an aware datetime in UTC."""
    try:
        if 0 <= stamp.nanos < 1_000_000_000:
            return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError:
        pass
    raise errors.InvalidError(f"{field}: out of the years 1 to 9999", reason="TIME_RANGE", field=field)


def time_to_wire(moment: datetime) -> Timestamp:
    """Give the message for a datetime; one without a zone is of UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    since = aware - _EPOCH  # `FromDatetime` takes three times as long
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def decimal_from_wire(text: str, field: str) -> Decimal:
    """Give the exact number that a text stands for."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise errors.InvalidError(
            f"{field}: {text[:40]!r} is not a decimal number", reason="DECIMAL", field=field
        ) from None


# --- records ---------------------------------------------------------------------------------------------------------

_Reader = Callable[[Any], Any]  # what the message has -> the field's value, or ... for "use the record's default"
_Writer = Callable[[Any, Any], None]


def _converters(kind: Any, name: str) -> tuple[_Reader, Callable[[Any], Any]]:
    """Give the conversions of one value of a scalar type, from the wire and to it."""
    if kind is Decimal:
        return lambda text: decimal_from_wire(text, name) if text else ..., lambda number: format(number, "f")
    if kind is datetime:
        return lambda stamp: time_from_wire(stamp, name), time_to_wire
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return lambda number: enum_from_wire(kind, number, name), enum_to_wire
    if kind in {str, int, bool}:
        return lambda value: value, lambda value: value
    raise TypeError(f"{name}: no conversion for {kind}")


def _codec(message: type[Message], name: str, annotation: Any) -> tuple[str, _Reader, _Writer]:
    """Build reader and writer of one field from its annotation."""
    descriptor = message.DESCRIPTOR.fields_by_name[name]  # KeyError at import: the contract lacks the field
    kind = annotation
    if isinstance(annotation, types.UnionType):
        (kind,) = [member for member in typing.get_args(annotation) if member is not types.NoneType]
    if typing.get_origin(kind) is tuple:
        if typing.get_args(kind)[0] is str:
            return name, tuple, lambda target, value: getattr(target, name).extend(value)
        return (
            name,
            lambda entries: tuple(sorted(entries.items())),
            lambda target, value: getattr(target, name).update(value),
        )
    read, convert_out = _converters(kind, name)

    def write(target: Any, value: Any) -> None:
        setattr(target, name, convert_out(value))

    def write_message(target: Any, value: Any) -> None:
        getattr(target, name).CopyFrom(convert_out(value))

    return name, read, write if descriptor.message_type is None else write_message


def _message_of(record: type[Record]) -> type[Message]:
    return typing.cast("type[Message]", getattr(types_pb2, record.__name__))


_CODECS: dict[type[Record], tuple[tuple[str, _Reader, _Writer], ...]] = {
    kind.record: tuple(
        [
            _codec(_message_of(kind.record), name, annotation)
            for name, annotation in typing.get_type_hints(kind.record).items()
            if name in kind.record.__struct_fields__
        ]
    )
    for kind in KINDS.values()
}


# The readers by field, what a message has where no presence tells, the enums, whose zero is no value, and what must be there.
_READERS: dict[type[Record], dict[str, _Reader]] = {}
_EMPTY: dict[type[Record], dict[str, Any]] = {}
_CHOICES: dict[type[Record], tuple[str, ...]] = {}
_REQUIRED: dict[type[Record], tuple[str, ...]] = {}
for _kind, _codecs in _CODECS.items():
    _READERS[_kind] = {name: read for name, read, _ in _codecs}
    _fields, _nothing = _message_of(_kind).DESCRIPTOR.fields_by_name, _message_of(_kind)()
    _plain = {name: getattr(_nothing, name) for name in _READERS[_kind] if not _fields[name].has_presence}
    _REQUIRED[_kind] = tuple(
        [field.name for field in msgspec.structs.fields(_kind) if field.required and _fields[field.name].has_presence]
    )
    _CHOICES[_kind] = tuple([name for name in _plain if _fields[name].enum_type is not None])
    _EMPTY[_kind] = {
        name: value
        for name, zero in _plain.items()
        if name not in _CHOICES[_kind] and (value := _READERS[_kind][name](zero)) is not ...
    }


def record_to_wire(record: Record, target: Message | None = None) -> Any:
    """Give the message of a record; fills `target` if there is one."""
    message = target if target is not None else _message_of(type(record))()
    message.SetInParent()
    for name, _, write in _CODECS[type(record)]:
        value = getattr(record, name)
        if value is not None:
            try:
                write(message, value)
            except ValueError:  # a number that is too large for its field, or half a character
                raise _out_of_range(name, value) from None
    return message


def _out_of_range(name: str, value: Any) -> errors.InvalidError:
    return errors.InvalidError(f"{name}: {shown(value)} is out of range", reason="RANGE", field=name)


def record_from_wire(kind: type[R], message: Message) -> R:
    """Give the record of a message; InvalidError, with the field, for a value that no record can have."""
    values, readers = _EMPTY[kind].copy(), _READERS[kind]
    for field, set_value in message.ListFields():  # most fields are not set, and asking for each takes longer
        value = readers[field.name](set_value)
        if value is not ...:
            values[field.name] = value
    for name in _CHOICES[kind]:
        if name not in values:
            readers[name](0)  # raises
    for name in _REQUIRED[kind]:
        if name not in values:
            raise errors.InvalidError(f"{name}: required", reason="REQUIRED", field=name)
    return kind(**values)


def readable_from_wire(kind: type[R], message: Message) -> R:
    """Return a record as far as this version can read it: a value that its enum does not have is UNKNOWN.

    Of a quality flag nothing else that cannot be read keeps it from being told: a time that is none is left out, so that the flag
    is rather active than cleared. Raise InvalidError, with the field, for every other value that no record can have.
    """
    values, readers = _EMPTY[kind].copy(), _READERS[kind]
    for field, set_value in message.ListFields():
        try:
            value = readers[field.name](set_value)
        except errors.InvalidError:
            if field.name not in _CHOICES[kind] and kind is not QualityFlag:
                raise
            continue
        if value is not ...:
            values[field.name] = value
    hints = typing.get_type_hints(kind)
    for name in _CHOICES[kind]:
        values.setdefault(name, hints[name].UNKNOWN)
    for name in _REQUIRED[kind]:
        if name not in values:
            raise errors.InvalidError(f"{name}: required", reason="REQUIRED", field=name)
    return kind(**values)


def any_to_wire(record: Record, target: types_pb2.Record | None = None) -> types_pb2.Record:
    """Give a record of any kind as the contract's one-of."""
    message = target if target is not None else types_pb2.Record()
    record_to_wire(record, getattr(message, KIND_OF[type(record)].name))
    return message


def any_from_wire(message: types_pb2.Record) -> Record:
    """Give the record in a one-of; InvalidError if it is empty or of a newer kind."""
    name = message.WhichOneof("record")
    if name is None:
        raise errors.InvalidError(
            "record: empty, or of a kind that this version does not know", reason="KIND", field="record"
        )
    record: Record = record_from_wire(KINDS[name].record, getattr(message, name))
    return record


# --- patches ---------------------------------------------------------------------------------------------------------


@functools.cache
def _patch_fields(kind: type[Record]) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], Any]]:
    """Give how the values of a kind's patch come from the wire and go there, and what stands for an empty one."""
    hints = typing.get_type_hints(kind)
    defaults = {field.name: field.default for field in msgspec.structs.fields(kind)}
    fields = {}
    for name in PATCHES[kind].__annotations__:
        plain = next((arm for arm in typing.get_args(hints[name]) if arm is not types.NoneType), hints[name])
        is_tuple = typing.get_origin(hints[name]) is tuple
        convert = (tuple, tuple) if is_tuple else _converters(plain, name)
        fields[name] = (*convert, defaults[name])
    return fields


def _held(wrapper: Message) -> tuple[Any, Any]:
    """Give the one field of a wrapper, and what it holds."""
    (inner,) = wrapper.DESCRIPTOR.fields
    return inner, getattr(wrapper, inner.name)


def _wrap(wrapper: Message, value: Any, convert: Callable[[Any], Any]) -> None:
    """Put a value into a wrapper; one that is empty leaves it present and empty."""
    wrapper.SetInParent()
    inner, held = _held(wrapper)
    if value is None or value in ((), [], {}):
        return
    if hasattr(held, "items"):
        held.update(dict(value))
    elif isinstance(held, Message):
        held.CopyFrom(convert(value))
    elif inner.has_presence:
        setattr(wrapper, inner.name, value)
    else:
        held.extend(value)


def patch_from_wire(kind: type[Record], request: Message) -> dict[str, Any]:
    """Give what an update's request changes: the fields that are present, each as the record has it (R13)."""
    patch: dict[str, Any] = {}
    for name, (convert, _, empty) in _patch_fields(kind).items():
        if not request.HasField(name):
            continue
        value = getattr(request, name)
        if isinstance(value, Message):
            inner, held = _held(value)
            if inner.has_presence and not value.HasField(inner.name):
                patch[name] = empty
                continue
            value = sorted(held.items()) if hasattr(held, "items") else held
        converted = convert(value)
        patch[name] = empty if converted is ... else converted
    return patch


def patch_to_wire(kind: type[Record], patch: typing.Mapping[str, Any], request: Message) -> None:
    """Set the fields of an update's request; InvalidError for one that cannot be cleared, TypeError for an unknown one."""
    fields = _patch_fields(kind)
    for name, value in patch.items():
        if name not in fields:
            raise TypeError(f"{name} is not a field of {kind.__name__} that can be updated: {', '.join(fields)}")
        _, convert, _ = fields[name]
        target = getattr(request, name)
        if isinstance(target, Message):
            _wrap(target, value, convert)
        elif value is not None:
            try:
                setattr(request, name, convert(value))
            except ValueError:
                raise _out_of_range(name, value) from None
        elif isinstance(target, str):
            setattr(request, name, "")
        else:
            raise errors.InvalidError(f"{name}: cannot be cleared", reason="REQUIRED", field=name)


# --- feed ------------------------------------------------------------------------------------------------------------


def token_to_wire(token: FeedToken) -> types_pb2.FeedToken:
    """Give the message of a feed token."""
    return types_pb2.FeedToken(log_id=token.log_id, position=token.position, chain=token.chain)


def token_from_wire(message: types_pb2.FeedToken) -> FeedToken:
    """Return the feed token of a message; InvalidError for a log id that is no UUID, or a position that is none."""
    token = FeedToken(log_id=message.log_id, position=message.position, chain=message.chain)
    if fault := fault_of(token):
        raise errors.InvalidError(f"feed token: {fault}", reason="FEED_TOKEN", field="after")
    return token


def batch_to_wire(batch: Batch) -> types_pb2.Batch:
    """Give the message of a batch."""
    message = types_pb2.Batch(position=batch.position, chain=batch.chain, committed_at=time_to_wire(batch.committed_at))
    for change in batch.changes:
        entry = message.changes.add(op=enum_to_wire(change.op), kind=change.kind, key=change.key)
        if change.record is not None:
            any_to_wire(change.record, entry.record)
    return message


def _subject(message: types_pb2.Change) -> Kind[Any]:
    """Return the kind of a change whose key is one, and whose record, if it has one, is of this kind."""
    if message.kind not in KINDS:
        raise errors.InvalidError(
            f"kind: {shown(message.kind)} is not known to this version", reason="KIND", field="kind"
        )
    if fault := fault_of_key(message.kind, message.key):
        raise errors.InvalidError(fault, reason="KEY", field="key")
    held = message.record.WhichOneof("record")
    if held not in {None, message.kind}:
        raise errors.InvalidError(
            f"record: a {held}, and the change is of a {message.kind}", reason="KIND", field="record"
        )
    return KINDS[message.kind]


def _written(message: types_pb2.Change, read: Callable[[type[Record], Message], Record] = record_from_wire) -> Change:
    """Return the change that writes the record that `read` reads; InvalidError if it is not its key's, or fits nowhere."""
    kind = _subject(message)
    if message.record.WhichOneof("record") is None:
        raise errors.InvalidError(
            "record: missing, or of a kind that this version does not know", reason="KIND", field="record"
        )
    record = read(kind.record, getattr(message.record, kind.name))
    if kind.key_of(record) != message.key:
        raise errors.InvalidError("the record is another one than its key says", reason="KEY", field="key")
    if fault := fault_of_record(record):
        raise errors.InvalidError(fault[1], reason="RANGE", field=fault[0])
    return Change(op=Op.PUT, kind=kind.name, key=message.key, record=record)


def change_from_wire(message: types_pb2.Change) -> Change:
    """Return a change; InvalidError if this version cannot read it, or nothing can hold it (the follower sets it aside).

    The kind decides which record is read.
    """
    if enum_from_wire(Op, message.op, "op") is Op.PUT:
        return _written(message)
    return Change(op=Op.REMOVE, kind=_subject(message).name, key=message.key)


def readable_change(message: types_pb2.Change) -> Change | None:
    """Return what stands for a change that `change_from_wire` refuses; None if it names no record of a known kind.

    That is the record as far as it can be read. One of which nothing can be told is removed, but for a quality flag: a warning
    that cannot be read is a warning.
    """
    try:
        kind = _subject(message)
    except errors.InvalidError:
        if message.kind not in KINDS or fault_of_key(message.kind, message.key):
            return None
        return Change(op=Op.REMOVE, kind=message.kind, key=message.key)
    if message.op == enum_to_wire(Op.PUT):
        with contextlib.suppress(errors.InvalidError):
            return _written(message, readable_from_wire)
    if kind is QUALITY_FLAG and message.record.WhichOneof("record"):
        told = message.record.quality_flag
        warning = QualityFlag(
            flag_id=message.key,
            asset_id=told.asset_id if is_text(told.asset_id) else "",
            flag_type=FlagType.UNKNOWN,
            severity=Severity.UNKNOWN,
            source=told.source if is_text(told.source) else "",
            reason=told.reason if is_text(told.reason) else "",
        )
        return Change(op=Op.PUT, kind=kind.name, key=message.key, record=warning)
    return Change(op=Op.REMOVE, kind=kind.name, key=message.key)


# --- answers ---------------------------------------------------------------------------------------------------------


def collision_to_wire(collision: Collision) -> types_pb2.Collision:
    """Give the message of a collision."""
    return types_pb2.Collision(
        asset_id=collision.asset_id,
        symbol=collision.symbol,
        name=collision.name,
        asset_type=enum_to_wire(collision.asset_type),  # type: ignore[arg-type]
        chain_id=collision.chain_id,
        contract_address=collision.contract_address,
        deployment_id=collision.deployment_id,
        is_canonical=collision.is_canonical,
        flags=[
            types_pb2.ActiveFlag(flag_type=enum_to_wire(kind), severity=enum_to_wire(severity))  # type: ignore[arg-type]
            for kind, severity in collision.flags
        ],
        look_alike=collision.look_alike,
    )


def collision_from_wire(message: types_pb2.Collision) -> Collision:
    """Give the collision of a message."""
    return Collision(
        asset_id=message.asset_id,
        symbol=message.symbol,
        name=message.name,
        asset_type=enum_from_wire(AssetType, message.asset_type, "asset_type"),
        chain_id=message.chain_id if message.HasField("chain_id") else None,
        contract_address=message.contract_address if message.HasField("contract_address") else None,
        deployment_id=message.deployment_id if message.HasField("deployment_id") else None,
        is_canonical=message.is_canonical,
        flags=tuple(
            [
                (enum_from_wire(FlagType, f.flag_type, "flag_type"), enum_from_wire(Severity, f.severity, "severity"))
                for f in message.flags
            ]
        ),
        look_alike=message.look_alike,
    )


def resolution_to_wire(resolution: Resolution) -> types_pb2.Resolution:
    """Give the message of a resolution."""
    message = types_pb2.Resolution(position=resolution.position)
    record_to_wire(resolution.asset, message.asset)
    if resolution.deployment is not None:
        record_to_wire(resolution.deployment, message.deployment)
    message.flags.extend([record_to_wire(flag) for flag in resolution.flags])
    message.collisions.extend([collision_to_wire(collision) for collision in resolution.collisions])
    return message


def resolution_from_wire(message: types_pb2.Resolution, source: Source = "server") -> Resolution:
    """Give the resolution of a message."""
    return Resolution(
        asset=record_from_wire(Asset, message.asset),
        deployment=record_from_wire(Deployment, message.deployment) if message.HasField("deployment") else None,
        flags=tuple([record_from_wire(QualityFlag, flag) for flag in message.flags]),
        collisions=tuple([collision_from_wire(collision) for collision in message.collisions]),
        position=message.position,
        source=source,
    )


# --- events ----------------------------------------------------------------------------------------------------------

# Type of an event -> the field of the contract's Event that holds its message.
_EVENT_FIELDS: dict[str, str] = {
    getattr(field.message_type, "name", ""): field.name
    for field in events_pb2.Event.DESCRIPTOR.oneofs_by_name["event"].fields
}
_EVENT_TYPES = {field: name for name, field in _EVENT_FIELDS.items()}


def event_to_wire(event: Event) -> events_pb2.Event:
    """Give the message of an event."""
    message = events_pb2.Event(
        event_id=event.event_id,
        log_id=event.log_id,
        position=event.position,
        index=event.index,
        time=time_to_wire(event.time),
        actor=event.actor,
        request_id=event.request_id,
        key=event.key,
    )
    told = getattr(message, _EVENT_FIELDS[event.type])
    told.SetInParent()
    if event.record is not None:
        record_to_wire(event.record, getattr(told, TYPES[event.type]))
    if event.before is not None and "before" in told.DESCRIPTOR.fields_by_name:
        record_to_wire(event.before, told.before)
    return message


def event_from_wire(message: events_pb2.Event) -> Event:
    """Give the event of a message; InvalidError if its type is newer than this version, or a value of its record is."""
    field = message.WhichOneof("event")
    if field is None:
        raise errors.InvalidError("event: of a type that this version does not know", reason="EVENT", field="event")
    told = getattr(message, field)
    kind = KINDS[TYPES[_EVENT_TYPES[field]]]

    def read(name: str) -> Record | None:
        known = name in told.DESCRIPTOR.fields_by_name and told.HasField(name)
        return record_from_wire(kind.record, getattr(told, name)) if known else None

    return Event(
        log_id=message.log_id,
        position=message.position,
        index=message.index,
        time=time_from_wire(message.time, "time"),
        actor=message.actor,
        request_id=message.request_id if message.HasField("request_id") else None,
        type=_EVENT_TYPES[field],
        key=message.key,
        record=read(kind.name),
        before=read("before"),
    )


# --- errors ----------------------------------------------------------------------------------------------------------

DOMAIN = "cqar"  # of google.rpc.ErrorInfo

# Metadata. A caller says which history it holds, and the server refuses it if its own is another one; every reply says which
# it is from, that of a write also with which chain, in hex: position and chain together are one place in one history.
REQUEST_ID = "x-request-id"
LOG_ID = "cqar-log-id"
CHAIN = "cqar-chain"
MAX_CANDIDATES = 20  # told of an ambiguity; in a status fewer, if they are long
DETAILS = "grpc-status-details-bin"

# gRPC refuses an answer with 16 kB of metadata, and from 8 kB on it refuses some at random. What is binary may grow by a
# third on its way and a message threefold, if it is not ASCII: these bounds are 7.8 kB together, at worst.
_STATUS_BYTES = 4500
_MESSAGE_BYTES = 600
_VALUE_BYTES = 200  # of one entry of the metadata

# Most specific first where classes share a code: the reason then tells them apart.
_CODES: tuple[tuple[type[errors.CqarError], grpc.StatusCode], ...] = (
    (errors.InvalidError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.ConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (errors.AmbiguousError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.AssetBlockedError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.VerdictUnknownError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.PreconditionError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.StaleError, grpc.StatusCode.ABORTED),
    (errors.PositionExpiredError, grpc.StatusCode.OUT_OF_RANGE),
    (errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDeniedError, grpc.StatusCode.PERMISSION_DENIED),
    (errors.LimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.NotReadyError, grpc.StatusCode.UNAVAILABLE),
    (errors.UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (errors.SnapshotError, grpc.StatusCode.DATA_LOSS),
    (errors.InternalError, grpc.StatusCode.INTERNAL),
)


def error_to_status(error: errors.CqarError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Give status code, message and trailing metadata for an error."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    message = _cut(error.message, _MESSAGE_BYTES)
    status = status_pb2.Status(code=code.value[0], message=message)
    metadata = {name: _cut(value, _VALUE_BYTES) for name, value in error.metadata.items()}
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, errors.AmbiguousError):
        told = _fitting(error.candidates, status)
        status.details.add().Pack(types_pb2.Ambiguity(candidates=told, total=len(error.candidates)))
    if isinstance(error, errors.NotFoundError) and error.look_alikes:
        told = _fitting(error.look_alikes, status)
        status.details.add().Pack(types_pb2.LookAlikes(look_alikes=told, total=len(error.look_alikes)))
    return code, message, ((DETAILS, status.SerializeToString()),)


def _fitting(candidates: Sequence[Collision], status: status_pb2.Status) -> list[types_pb2.Collision]:
    """Return the first candidates as messages, as many as a status has room for."""
    room = _STATUS_BYTES - status.ByteSize()
    told = []
    for candidate in candidates[:MAX_CANDIDATES]:
        message = collision_to_wire(candidate)
        room -= message.ByteSize() + 4  # and its place in the list
        if room < 0:
            break
        told.append(message)
    return told


def _readable(candidates: Iterable[types_pb2.Collision]) -> Iterator[Collision]:
    """Leave out what only a newer version can read: the error is what matters."""
    for each in candidates:
        with contextlib.suppress(errors.InvalidError):
            yield collision_from_wire(each)


def _cut(text: str, limit: int) -> str:
    """Give as much of a text as fits into so many bytes of UTF-8."""
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "…"


class _Details(NamedTuple):
    """What the details of a status tell beside its code and message."""

    reason: str | None = None
    metadata: dict[str, str] = {}  # noqa: RUF012  (never changed)
    candidates: tuple[Collision, ...] | None = None  # None: no Ambiguity
    look_alikes: tuple[Collision, ...] = ()


def _details(trailing: Iterable[tuple[str, str | bytes]]) -> _Details:
    told = _Details()
    for name, value in trailing:
        if name != DETAILS or not isinstance(value, bytes):
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info, ambiguity, alike = error_details_pb2.ErrorInfo(), types_pb2.Ambiguity(), types_pb2.LookAlikes()
            if detail.Unpack(info) and info.domain == DOMAIN:
                told = told._replace(reason=info.reason, metadata=dict(info.metadata))
            elif detail.Unpack(ambiguity):
                told = told._replace(candidates=tuple(_readable(ambiguity.candidates)))
            elif detail.Unpack(alike):
                told = told._replace(look_alikes=tuple(_readable(alike.look_alikes)))
    return told


def error_from_status(
    code: grpc.StatusCode, message: str, trailing: Sequence[tuple[str, str | bytes]] | None
) -> errors.CqarError:
    """Give the error that a status stands for, whoever sent it."""
    told = _details(trailing or ())
    reason, metadata = told.reason, told.metadata
    if code in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}:
        return errors.UnavailableError(f"no answer in time: {message}", reason=code.name)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.UnavailableError(f"the server is older than this client: {message}", reason=code.name)
    matching = [kind for kind, its_code in _CODES if its_code is code]
    named = [kind for kind in matching if kind.default_reason == reason]
    kind = next(iter(named), matching[-1] if matching else errors.InternalError)
    if kind is errors.AmbiguousError or told.candidates is not None:  # whatever its reason, such as CHAIN_AMBIGUOUS
        return errors.AmbiguousError(message, candidates=told.candidates or (), reason=reason, **metadata)
    if kind is errors.NotFoundError:
        return errors.NotFoundError(message, look_alikes=told.look_alikes, reason=reason, **metadata)
    return kind(message, reason=reason, **metadata)
