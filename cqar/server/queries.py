"""The selects over the tables of records, built once for each shape of question, and rows to records.

A question is a kind with filters by name: a column's name asks for equality (a collection: for any of its values; None:
for no value), and the names in `_FILTERS` ask for more. Deleted rows are never found unless asked for.
"""

from __future__ import annotations

import enum
import functools
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    TextClause,
    any_,
    bindparam,
    func,
    or_,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Integer, SmallInteger

from cqar.model import KINDS, Kind, Record, exact
from cqar.server.schema import CLOCK, DELETED, TABLES, TEXT

Lock = Literal["update", "share"]
Filters = Mapping[str, object]
_MANY = (list, tuple, set, frozenset)
_Form = Literal["one", "many", "none"]
_Page = Literal["first", "next"]
R = TypeVar("R", bound=Record)

_SYMBOLS = TABLES["venue_symbol"]
_DEPLOYMENTS = TABLES["deployment"]
_MEMBERS = TABLES["group_member"]
_SIDES = ("asset_id", "quote_asset_id", "settle_asset_id")
_NOW = (
    or_(_SYMBOLS.c.valid_from.is_(None), _SYMBOLS.c.valid_from <= func.now()),
    or_(_SYMBOLS.c.valid_to.is_(None), _SYMBOLS.c.valid_to > func.now()),
)


def _on_chain(table: Table, name: str) -> ColumnElement[bool]:
    chain = bindparam(name, type_=TEXT)
    found = select(_DEPLOYMENTS.c.asset_id).where(_DEPLOYMENTS.c.deleted_at.is_(None), _DEPLOYMENTS.c.chain_id == chain)
    return table.c.asset_id.in_(found)


def _on_venue(table: Table, name: str) -> ColumnElement[bool]:
    return _listed(table, _SYMBOLS.c.venue_id == bindparam(name, type_=TEXT))


def _on_venue_now(table: Table, name: str) -> ColumnElement[bool]:
    return _listed(table, _SYMBOLS.c.venue_id == bindparam(name, type_=TEXT), *_NOW)


def _lists_now(table: Table, name: str) -> ColumnElement[bool]:
    found = select(_SYMBOLS.c.venue_id).where(_SYMBOLS.c.deleted_at.is_(None), _any_side(_SYMBOLS, name), *_NOW)
    return table.c.venue_id.in_(found)


def _listed(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Give the condition that an asset is one side of a venue symbol that meets the others."""
    sides = [select(_SYMBOLS.c[side]).where(_SYMBOLS.c.deleted_at.is_(None), *conditions) for side in _SIDES]
    return table.c.asset_id.in_(union_all(*sides))


def _of_member(table: Table, name: str) -> ColumnElement[bool]:
    member = bindparam(name, type_=_MEMBERS.c.asset_id.type)
    found = select(_MEMBERS.c.group_id).where(_MEMBERS.c.deleted_at.is_(None), _MEMBERS.c.asset_id == member)
    return table.c.group_id.in_(found)


def _touching(table: Table, name: str) -> ColumnElement[bool]:
    asset = bindparam(name, type_=table.c.parent_asset_id.type)
    return or_(table.c.parent_asset_id == asset, table.c.child_asset_id == asset)


def _any_side(table: Table, name: str) -> ColumnElement[bool]:
    asset = bindparam(name, type_=table.c.asset_id.type)
    return or_(*[table.c[side] == asset for side in _SIDES])


def _named(table: Table, name: str) -> ColumnElement[bool]:
    overlaps: ColumnElement[bool] = table.c.names.overlap(bindparam(name, type_=ARRAY(TEXT)))
    return overlaps


def _alike(_table: Table, name: str) -> TextClause:
    """Ask for any of the skeletons, one after the other, which OFFSET 0 sees to.

    Asked for all at once, PostgreSQL takes so many assets to have one of them that it walks through the whole table.
    """
    return text(f"""
        assets.asset_id IN (
            SELECT twin.asset_id FROM unnest(:{name}) AS look JOIN LATERAL (
                SELECT asset_id FROM assets WHERE skeletons @> ARRAY[look] OFFSET 0
            ) AS twin ON TRUE
        )
    """).bindparams(bindparam(name, type_=ARRAY(TEXT)))


def _severe(table: Table, name: str) -> ColumnElement[bool]:
    return table.c.severity >= bindparam(name, type_=SmallInteger())


def _active(table: Table, _name: str) -> ColumnElement[bool]:
    return table.c.cleared_at.is_(None)


_FILTERS: dict[tuple[str, str], Callable[[Table, str], ColumnElement[bool] | TextClause]] = {
    ("asset", "on_chain"): _on_chain,
    ("asset", "on_venue"): _on_venue,
    ("asset", "any_skeleton"): _alike,
    ("asset", "on_venue_now"): _on_venue_now,
    ("chain", "any_name"): _named,
    ("venue", "any_name"): _named,
    ("venue", "lists_now"): _lists_now,
    ("group", "member_asset_id"): _of_member,
    ("relationship", "touching"): _touching,
    ("quality_flag", "is_active"): _active,
    ("quality_flag", "min_severity"): _severe,
    ("venue_symbol", "any_asset_id"): _any_side,
}


def _condition(kind: Kind[Any], name: str, form: _Form) -> ColumnElement[bool] | TextClause:
    table = TABLES[kind.name]
    special = _FILTERS.get((kind.name, name))
    if special is not None:
        return special(table, name)
    column = table.c[name]
    if form == "none":
        return column.is_(None)
    if form == "many":
        return column == any_(bindparam(name, type_=ARRAY(column.type)))
    return column == bindparam(name, type_=column.type)


@functools.cache
def _select(
    name: str,
    shape: tuple[tuple[str, _Form], ...],
    lock: Lock | None,
    page: _Page | None,
    *,
    deleted: bool,
    fields: tuple[str, ...] = (),
) -> Select[Any]:
    kind, table = KINDS[name], TABLES[name]
    statement = select(*[table.c[field] for field in fields or kind.record.__struct_fields__])
    if not deleted:
        statement = statement.where(table.c[DELETED].is_(None))
    statement = statement.where(*[_condition(kind, field, form) for field, form in shape])
    key = [table.c[field] for field in kind.key]
    if page == "next":
        after = [bindparam(f"after_{column.name}", type_=column.type) for column in key]
        statement = statement.where(tuple_(*key) > tuple_(*after))
    if page is not None:
        statement = statement.order_by(*key).limit(bindparam("page_limit", type_=Integer()))
    if lock is not None:
        statement = statement.with_for_update(read=lock == "share", key_share=lock == "share")
    return statement


def records(
    kind: Kind[Any],
    filters: Filters,
    *,
    lock: Lock | None = None,
    deleted: bool = False,
    after: str | None = None,
    limit: int | None = None,
) -> tuple[Select[Any], dict[str, object]]:
    """Give the select for the records of a kind that pass the filters, and its parameters.

    With a `limit` they come sorted by key, from the one behind `after` on. With `deleted` the deleted ones are found as
    well. The lock "share" keeps others from deleting the rows, not from changing.
    """
    shape: list[tuple[str, _Form]] = []
    parameters: dict[str, object] = {}
    for name, value in filters.items():
        form: _Form = "none" if value is None else "many" if isinstance(value, _MANY) else "one"
        shape.append((name, form))
        if form == "many":
            parameters[name] = [_plain(item) for item in cast("Iterable[object]", value)]
        elif form == "one":
            parameters[name] = _plain(value)
    page: _Page | None = None
    if limit is not None:
        page = "first" if after is None else "next"
        parameters["page_limit"] = limit
    if after is not None:
        parameters |= {f"after_{name}": part for name, part in by_key(kind, after).items()}
    return _select(kind.name, tuple(shape), lock, page, deleted=deleted), parameters


def live_keys(kind: Kind[Any], keys: Iterable[str], *, lock: Lock | None = None, deleted: bool = False) -> Any:
    """Give the select for those of the keys that records have, and its parameters; for kinds with a key of one field."""
    (name,) = kind.key
    statement = _select(kind.name, ((name, "many"),), lock, None, deleted=deleted, fields=kind.key)
    return statement, {name: list(keys)}


@functools.cache
def positioned(kind_name: str) -> Select[Any]:
    """Give the select for the records with some keys, in whose rows the clock's position comes last."""
    (name,) = KINDS[kind_name].key
    statement = _select(kind_name, ((name, "many"),), None, None, deleted=False)
    return statement.add_columns(select(CLOCK.c.position).scalar_subquery())


def _plain(value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else value


def by_key(kind: Kind[Any], key: str) -> Filters:
    """Give the filters that a key stands for."""
    return dict(zip(kind.key, key.split("/"), strict=True))


def everything(kind: Kind[Any]) -> Select[Any]:
    """Give the select for all records of a kind, sorted by key."""
    table = TABLES[kind.name]
    return _select(kind.name, (), None, None, deleted=False).order_by(*[table.c[name] for name in kind.key])


# --- rows to records ---------------------------------------------------------------------------------------------------


def _converter(annotation: Any) -> Callable[[Any], Any] | None:
    """Give what turns a column's value into a field's, None stripped; None if it is one already."""
    kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    if typing.get_origin(annotation) is tuple:
        return tuple if kinds[0] is str else lambda value: tuple(sorted(value.items()))
    plain = annotation if not kinds else kinds[0]
    if issubclass(plain, enum.Enum):
        members = {member.value: member for member in plain}
        return members.__getitem__
    return exact if plain is Decimal else None


_CONVERTERS: dict[str, list[tuple[int, Callable[[Any], Any]]]] = {}
for _kind in KINDS.values():
    _hints = typing.get_type_hints(_kind.record)
    _CONVERTERS[_kind.name] = [
        (index, converter)
        for index, name in enumerate(_kind.record.__struct_fields__)
        if (converter := _converter(_hints[name])) is not None
    ]


def record_of(kind: Kind[R], row: Sequence[Any]) -> R:
    """Give the record in a row of one of the selects above."""
    values = list(row)
    for index, convert in _CONVERTERS[kind.name]:
        if values[index] is not None:
            values[index] = convert(values[index])
    return kind.record(**dict(zip(kind.record.__struct_fields__, values, strict=False)))
