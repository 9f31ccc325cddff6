"""The present code and what is published already: every format, contract and replica is read on, and none has changed."""

from __future__ import annotations

import enum
import shutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from cqar import arrow, snapshot
from cqar.client import open_snapshot
from cqar.client._generation import FORMAT
from cqar.client._place import bundled_catalogue
from cqar.model import KINDS
from cqar.wire import any_from_wire, any_to_wire
from tests.formats.contract import breaks
from tests.formats.releases import FORMATS, contract, replica_format, written

HINT = "`python -m tests.formats` writes the fixture of a new format; see docs/compatibility.md for what makes one new"
PUBLISHED = sorted((path for path in FORMATS.iterdir() if path.is_dir()), key=lambda path: int(path.name))
CONTRACTS = sorted(FORMATS.glob("contract-*.binpb"))


def plain(records: list[Any]) -> Any:
    """Give records as JSON has them."""
    return msgspec.json.decode(msgspec.json.encode(records))


# --- snapshots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: f"format {path.name}")
def test_a_snapshot_of_each_published_format_is_read_exactly(folder: Path, tmp_path: Path) -> None:
    """What was noted when it was written is what its files, a client's index and its tables give today."""
    found, noted = snapshot.latest(folder), written(folder)
    assert found.manifest.format_version == int(folder.name)
    with open_snapshot(folder, replica_dir=tmp_path) as client:
        assert client.status().quarantined == 0
        for name, records in noted.items():
            kind = KINDS[name]
            read = list(snapshot.read(found, name))
            assert plain(read) == records
            assert [client._replica.get(name, kind.key_of(record)) for record in read] == read
            assert client.sql(f"SELECT count(*) FROM {kind.table}").fetchall() == [(len(records),)]
            assert [any_from_wire(any_to_wire(record)) for record in read] == read


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: f"format {path.name}")
def test_a_fixture_leaves_no_value_out(folder: Path) -> None:
    """Every enum value that its release knew is in it, so that none can be dropped unnoticed."""
    noted = written(folder)
    for name, kind in KINDS.items():
        for field, annotation in typing.get_type_hints(kind.record).items():
            if isinstance(annotation, enum.EnumMeta) and int(folder.name) == snapshot.FORMAT_VERSION:
                known = {member.value for member in list[enum.Enum](annotation)}
                assert {record[field] for record in noted[name]} == known, HINT


@pytest.mark.parametrize(
    "root", [FORMATS / str(snapshot.FORMAT_VERSION), bundled_catalogue()], ids=["fixture", "catalogue"]
)
def test_columns_are_only_ever_added_to_a_format(root: Path) -> None:
    """Each column of a published file is still written, with its type; a column that is new need not have a value."""
    found = snapshot.latest(root)
    for name, kind in KINDS.items():
        path = found.file(name)
        assert path is not None
        before, now = pq.read_schema(path), arrow.schema_of(kind.record)
        assert {field.name: field.type for field in before}.items() <= {field.name: field.type for field in now}.items()
        required = {field.name for field in msgspec.structs.fields(kind.record) if field.required}
        assert not required - set(before.names), f"a new field of {name} needs a default: older files have none"


# --- the wire contract -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_the_contract_breaks_none_that_was_released(path: Path) -> None:
    """No message, field, number, type, enum value or method of a released contract was removed or changed."""
    assert breaks(FileDescriptorSet.FromString(path.read_bytes()), contract()) == []


def _types(found: FileDescriptorSet) -> Any:
    return next(file for file in found.file if file.name.endswith("types.proto"))


def _registry(found: FileDescriptorSet) -> Any:
    return next(file for file in found.file if file.name.endswith("registry.proto"))


def _asset(found: FileDescriptorSet) -> Any:
    return next(message for message in _types(found).message_type if message.name == "Asset")


CHANGES: dict[str, tuple[Callable[[FileDescriptorSet], object], str]] = {
    "a field removed": (lambda found: _asset(found).field.pop(0), "field 1 was removed"),
    "a field renamed": (lambda found: setattr(_asset(found).field[1], "name", "ticker"), "field 2"),
    "a field renumbered": (lambda found: setattr(_asset(found).field[1], "number", 99), "field 2 was removed"),
    "a field of another type": (
        lambda found: setattr(_asset(found).field[1], "type", FieldDescriptorProto.TYPE_BYTES),
        "field 2",
    ),
    "a field repeated": (
        lambda found: setattr(_asset(found).field[1], "label", FieldDescriptorProto.LABEL_REPEATED),
        "field 2",
    ),
    "presence dropped": (
        lambda found: [field.ClearField("proto3_optional") for field in _asset(found).field],
        "proto3_optional",
    ),
    "a message removed": (lambda found: _types(found).message_type.pop(0), "was removed"),
    "an enum value removed": (lambda found: _types(found).enum_type[0].value.pop(), "was removed"),
    "an enum value renamed": (lambda found: setattr(_types(found).enum_type[0].value[1], "name", "X"), "value 1"),
    "a method removed": (lambda found: _registry(found).service[0].method.pop(), "was removed"),
    "a method that streams": (
        lambda found: setattr(_registry(found).service[0].method[0], "server_streaming", True),
        "server_streaming",
    ),
    "a method that answers otherwise": (
        lambda found: setattr(_registry(found).service[0].method[0], "output_type", ".cqar.v1.Asset"),
        "output_type",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_break_of_the_contract_is_noticed(what: str) -> None:
    """Each sort of change that a peer of the last release would trip over is named; additions are not."""
    change, told = CHANGES[what]
    later = contract()
    change(later)
    assert any(told in line for line in breaks(contract(), later))
    grown = contract()
    _asset(grown).field.add(name="of_the_future", number=500, type=FieldDescriptorProto.TYPE_STRING)
    _types(grown).enum_type[0].value.add(name="OF_THE_FUTURE", number=500)
    _types(grown).message_type.add(name="OfTheFuture")
    grown.file.add(name="cqar/v1/future.proto")
    assert breaks(contract(), grown) == []


# --- replicas --------------------------------------------------------------------------------------------------------


def test_a_replica_format_names_one_model() -> None:
    """Clients of several versions share the replica of a host if its format is the same: a change of the model is a new one."""
    described = FORMATS / f"replica-{FORMAT}.json"
    assert described.exists(), HINT
    assert replica_format() == msgspec.json.decode(described.read_bytes()), f"raise FORMAT in _generation.py; {HINT}"


def test_a_client_of_another_replica_format_stands_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each format has generations of its own under one folder: neither reads, nor removes, nor disturbs the other's."""
    folder = FORMATS / str(snapshot.FORMAT_VERSION)
    with open_snapshot(folder, replica_dir=tmp_path) as present:
        mine = Path(present.status().generation)
        shutil.copytree(mine, theirs := mine.with_name(mine.name.replace(f"-{FORMAT}", "-of_the_future")))
        for path in theirs.iterdir():
            path.write_bytes(b"of another layout")
        with open_snapshot(folder, replica_dir=tmp_path) as again:
            assert Path(again.status().generation) == mine
        monkeypatch.setattr("cqar.client._generation.FORMAT", "2")
        with open_snapshot(folder, replica_dir=tmp_path) as other:
            assert Path(other.status().generation) not in {mine, theirs}
            assert other.list_assets() == present.list_assets()
    assert all(path.read_bytes() == b"of another layout" for path in theirs.iterdir())
