"""One description of each kind: records, tables, messages and Parquet columns cannot drift apart."""

from __future__ import annotations

import enum
import re
import typing
from datetime import datetime
from decimal import Decimal

import pytest

from cqar import model
from cqar.arrow import schema_of
from cqar.client._registry import Registry
from cqar.model import KINDS, Kind, Record
from cqar.patches import PATCHES
from cqar.server import schema
from cqar.server.gathered import GATHERED
from cqar.server.rpc import HANDLERS, STREAMS
from cqar.v1 import registry_pb2, types_pb2

ENUMS = (
    model.AssetType,
    model.RelationshipType,
    model.FlagType,
    model.Severity,
    model.VenueType,
    model.MarketKind,
    model.Op,
)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_fields_columns_message_and_parquet_agree(kind: Kind[Record]) -> None:
    """A kind has the same fields, in the same order, in record, table, message and Parquet file."""
    fields = list(kind.record.__struct_fields__)
    own = {*schema.BOOKKEEPING[kind.name], schema.DELETED}
    assert [column.name for column in schema.TABLES[kind.name].columns if column.name not in own] == fields
    message = getattr(types_pb2, kind.record.__name__).DESCRIPTOR
    assert [field.name for field in message.fields] == fields
    assert schema_of(kind.record).names == fields


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_may_be_absent_may_be_absent_everywhere(kind: Kind[Record]) -> None:
    """A column is nullable exactly if the record's field may be None, but for the times that the server sets."""
    hints = typing.get_type_hints(kind.record)
    for name in kind.record.__struct_fields__:
        optional = type(None) in typing.get_args(hints[name])
        assert schema.TABLES[kind.name].c[name].nullable == (optional and name not in {"created_at", "updated_at"}), (
            name
        )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_values_of_one_type_are_stored_and_exported_as_one(kind: Kind[Record]) -> None:
    """Times keep their zone and microseconds, decimals their 18 digits, wherever they are kept."""
    hints = typing.get_type_hints(kind.record)
    arrow = schema_of(kind.record)
    for name in kind.record.__struct_fields__:
        plain = next(arm for arm in typing.get_args(hints[name]) or (hints[name],) if arm is not type(None))
        column = str(schema.TABLES[kind.name].c[name].type)
        if plain is datetime:
            assert (column, str(arrow.field(name).type)) == ("DATETIME", "timestamp[us, tz=UTC]")
        elif plain is Decimal:
            assert (column, str(arrow.field(name).type)) == ("NUMERIC(38, 18)", "decimal128(38, 18)")


@pytest.mark.parametrize("members", ENUMS, ids=lambda members: members.__name__)
def test_every_enum_member_has_its_value_in_the_contract(members: type[enum.Enum]) -> None:
    """An enum has the same members in the records and in the contract, which only has UNSPECIFIED besides."""
    descriptor = types_pb2.DESCRIPTOR.enum_types_by_name[members.__name__]
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    assert {value.name.removeprefix(prefix) for value in descriptor.values} == {
        "UNSPECIFIED",
        *(member.name for member in members),
    }


def test_severities_have_the_numbers_of_the_contract() -> None:
    """A severity is stored as the number that travels, so that thresholds mean the same everywhere."""
    numbers = {value.name.removeprefix("SEVERITY_"): value.number for value in types_pb2.Severity.DESCRIPTOR.values}
    assert {member.name: member.value for member in model.Severity} == {
        name: number for name, number in numbers.items() if number
    }


def test_the_record_message_has_every_kind() -> None:
    """A record of any kind fits into a change and into a bulk write."""
    assert {field.name for field in types_pb2.Record.DESCRIPTOR.fields} == set(KINDS)


def test_every_reference_is_a_foreign_key() -> None:
    """A field that names another record has a foreign key to that record's table, under a name that errors know."""
    for kind in KINDS.values():
        for field, target in schema.references(kind).items():
            keys = schema.TABLES[kind.name].c[field].foreign_keys
            assert [key.target_fullname for key in keys] == [f"{target.table}.{target.key[0]}"]
            assert schema.REFERENCES[f"fk_{kind.table}_{field}"] == (field, target)


def test_every_constraint_has_a_meaning() -> None:
    """A violated constraint of a record's table never reaches a caller as an internal error."""
    known = {*schema.UNIQUES, *schema.RULES, *schema.REFERENCES}
    for table in schema.TABLES.values():
        names = {str(constraint.name) for constraint in table.constraints}
        names |= {str(index.name) for index in table.indexes if index.unique}
        assert names <= known


def test_every_method_of_the_contract_has_a_handler() -> None:
    """No method of the service answers UNIMPLEMENTED, and none is served that the contract lacks."""
    service = registry_pb2.DESCRIPTOR.services_by_name["AssetRegistry"]
    assert {*HANDLERS, *GATHERED, *STREAMS} == {method.name for method in service.methods}


def test_the_client_has_a_method_for_every_method_of_the_contract() -> None:
    """Everything that the server can do can be asked for by a method of the same name, in Python's spelling."""
    service = registry_pb2.DESCRIPTOR.services_by_name["AssetRegistry"]
    names = {re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower() for method in service.methods}
    assert names == {name for name in dir(Registry) if not name.startswith("_")}


@pytest.mark.parametrize("record", PATCHES, ids=lambda record: record.__name__)
def test_an_update_may_change_the_fields_of_its_patch(record: type[Record]) -> None:
    """The message of an update has the fields of the kind's patch, each with presence, and the record has them too."""
    (message,) = [
        message
        for name, message in registry_pb2.DESCRIPTOR.message_types_by_name.items()
        if name in {f"Update{record.__name__}Request", f"UpdateAsset{record.__name__}Request"}
    ]
    fields = set(PATCHES[record].__annotations__)
    assert fields <= set(record.__struct_fields__)
    key = {*model.KIND_OF[record].key} | {name.removesuffix("_id") for name in model.KIND_OF[record].key}
    assert {field.name for field in message.fields} - key == fields | {"expected_position", "request_id"}
    assert all(message.fields_by_name[name].has_presence for name in fields)
