"""What a caller's SQL may ask for: one SELECT over the registry's tables, by functions that only compute.

DuckDB parses; this looks at the tree. What it does not know to be harmless is refused: a table by another name or with a schema's
name, a function in the place of a table, a function that does more than return a value, a query that writes in its WITH.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from cqar.errors import InvalidError
from cqar.model import KINDS

UNREAD: Final = "unread"  # records that could not be read whole: kind and key
TABLES: Final = frozenset([UNREAD, *[kind.table for kind in KINDS.values()]])
MAKERS: Final = frozenset({"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"})
# DuckDB counts these among the functions with side effects, but all that they do is return another value at each call.
_FRESH: Final = frozenset({"random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "error"})
_WITH: Final = re.compile(rb"(?i)with\b")
_DEEPEST: Final = 3
_QUERIES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})


def tables_of(tree: str, active: AbstractSet[str]) -> frozenset[str]:
    """Return the tables that a query reads, given its tree in DuckDB's JSON and the functions that have side effects.

    Raises InvalidError (SQL) for a query that is more than a SELECT over them.
    """
    try:
        parsed = msgspec.json.decode(tree)
    except RecursionError:
        raise _refused("it is nested too deeply: use WITH") from None
    if parsed["error"]:
        raise _refused("give one SELECT statement")
    nodes = list(_nodes(parsed))
    named = {str(name).lower() for node in nodes for name in _names_given(node)}
    return frozenset(name for node in nodes if (name := _checked(node, named, active)) is not None)


def check_nesting(query: str, words: Iterable[int]) -> None:
    """Raise InvalidError for WITH within WITH within WITH…; `words` are where the words of the query begin, in bytes.

    DuckDB 2.0 tries all ways to read it if there is a mistake inside: 23 s for eight, during which no thread of Python runs.
    """
    text, levels = query.encode(), [False]  # for each open parenthesis, whether there is a WITH in it
    for offset in words:
        if text[offset : offset + 1] == b"(":
            levels.append(False)
        elif text[offset : offset + 1] == b")":
            levels = levels[:-1] or [False]
        elif _WITH.match(text, offset):
            levels[-1] = True
            if sum(levels) > _DEEPEST:
                raise _refused(f"more than {_DEEPEST} WITH are nested: put them beside each other")


def without_end(query: str, words: Iterable[int]) -> str:
    """Return a single statement without its semicolons and what follows them."""
    text = query.encode()
    begun = False
    for offset in words:
        if text[offset : offset + 1] != b";":
            begun = True
        elif begun:
            return text[:offset].decode()
    return query


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Return every object of a tree; without recursion, for a query may be nested as deeply as its author likes."""
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _names_given(node: dict[str, Any]) -> Iterator[object]:
    """Return the names that a query gives to parts of its own (WITH)."""
    if isinstance(node.get("cte_map"), dict):
        yield from (entry["key"] for entry in node["cte_map"].get("map", ()))
    if "cte_name" in node:
        yield node["cte_name"]


def _checked(node: dict[str, Any], named: AbstractSet[str], active: AbstractSet[str]) -> str | None:
    """Return the table that a node names, if it names one; raise InvalidError if it may not be there."""
    what = str(node.get("type"))
    if what.endswith("_NODE") and what not in _QUERIES:
        raise _refused("give one SELECT statement, and none that writes in its WITH")
    if what == "SHOW_REF" and not node.get("query"):
        raise _refused(f"SHOW is not answered: DESCRIBE tells the columns of a table; the tables are {_listed(TABLES)}")
    if what == "TABLE_FUNCTION":
        function = str(node["function"].get("function_name")).lower()
        if function not in MAKERS:
            raise _refused(f"{function}() cannot stand in the place of a table, only {_listed(MAKERS)} can")
    if node.get("class") == "FUNCTION":
        function = str(node.get("function_name")).lower()
        if function in active and function not in _FRESH:
            raise _refused(f"{function}() does more than compute a value, and is not run")
    if what != "BASE_TABLE":
        return None
    name = str(node.get("table_name")).lower()
    if node.get("schema_name") or node.get("catalog_name") or (name not in TABLES and name not in named):
        raise _refused(
            f"there is no table {node.get('table_name')!r}: the tables are {_listed(TABLES)}, without a schema"
        )
    return name if name in TABLES else None


def _listed(names: AbstractSet[str]) -> str:
    return ", ".join(sorted(names))


def _refused(why: str) -> InvalidError:
    return InvalidError(f"query: {why}", reason="SQL", field="query")
