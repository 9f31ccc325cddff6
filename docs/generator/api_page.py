# ruff: noqa: INP001
"""The page of the Python API: what `cqar.client` exports, and what its clients hand out, from signatures, docstrings and comments.

Read from the source, not from the live objects: there defaults are as they were written and fields have their comments.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from cqar import client, errors, model
from cqar.client import _admin, _registry, _registry_assets

_RULE = re.compile(r" ?\(R\d+(?:, R\d+)*\)")  # the number of a rule in the specification
_WIDTH = 100

# Heading, what stands below it, and the things in it. Every exported name is in one of them.
SECTIONS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("Making a client", "", (client.connect, client.open_snapshot, client.Tls)),
    ("Client", "", (client.Client,)),
    ("AsyncClient", "", (client.AsyncClient,)),
    (
        "Writing: client.registry",
        "It writes to the server, and asks it what only it knows. `client.registry` is one.",
        (
            _registry.Registry,
            _registry.Written,
            _registry_assets.CreatedAsset,
            _registry.Outcome,
            _registry.UpsertResult,
        ),
    ),
    (
        "Tokens and audit: client.admin",
        "",
        (_admin.Admin, _admin.NewToken, client.Role, client.Token, client.AuditEntry),
    ),
    (
        "Answers",
        "Frozen values, shared between callers and threads.",
        (
            *(client.Resolution, client.Candidate, client.Collision, client.GroupView, client.Variant),
            *(client.Verdict, client.Decision, client.Status, client.State),
        ),
    ),
    (
        "Records",
        "Frozen facts, one class for each kind. In a write an empty id, and a time of creation, are the server's to assign.",
        (
            *(model.Record, client.Chain, client.Asset, client.Deployment, client.Identifier, client.Relationship),
            *(client.Group, client.GroupMember, client.QualityFlag, client.Venue, client.VenueSymbol),
        ),
    ),
    (
        "Words",
        "",
        (
            *(client.AssetType, client.RelationshipType, client.FlagType, client.Severity),
            *(client.VenueType, client.MarketKind),
        ),
    ),
)


INTRO = """\
# Python API

All of it is imported from `cqar.client`, but for what `client.registry` and `client.admin` give back. Signatures are in Python's
notation; what a field means stands behind it. Times are aware, in UTC; ages and time-outs are in seconds. The errors that calls
raise are [at the end](#errors).
"""


def page() -> str:
    """Give the page."""
    lines = [INTRO]
    shown = {thing.__name__ for _, _, things in SECTIONS for thing in things}
    shown |= {name for name in client.__all__ if isinstance(getattr(client, name), type(errors.CqarError))}
    if missing := set(client.__all__) - shown:
        raise AssertionError(f"exported, and in no section of the page: {sorted(missing)}")
    for heading, text, things in SECTIONS:
        lines += [f"## {heading}", ""]
        lines += [text, ""] if text else []
        for thing in things:
            lines += _described(thing, alone=len(things) == 1)
    return "\n".join([*lines, *_errors()])


def _described(thing: Any, *, alone: bool) -> Iterator[str]:
    if not isinstance(thing, type):
        yield from (f"### {thing.__name__}", "", *_function(_node_of(thing), _module_of(thing)))
        return
    if not alone:
        yield from (f"### {thing.__name__}", "")
    yield from _docstring(inspect.getdoc(thing) or "")
    fields = list(_fields(thing))
    if fields:
        yield from ("```pyi", f"class {thing.__name__}{_base(thing)}:", *fields, "```", "")
    for function, module in _methods(thing):
        if issubclass(thing, client.AsyncClient) and f"See `Client.{function.name}`" in (
            ast.get_docstring(function) or ""
        ):
            kind = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
            yield f"- `{kind}{function.name}`: {_plain(ast.get_docstring(function) or '')}"
            continue
        level = "###" if alone else "####"
        yield from (f"{level} {thing.__name__}.{function.name}", "", *_function(function, module))
    yield ""


def _base(thing: type) -> str:
    parent = thing.__mro__[1]
    return f"({parent.__name__})" if issubclass(thing, enum.Enum | model.Record) and parent is not object else ""


@cache
def _parsed(module: ModuleType) -> tuple[ast.Module, list[str]]:
    source = inspect.getsource(module)
    return ast.parse(source), source.splitlines()


def _module_of(thing: Any) -> ModuleType:
    return sys.modules[thing.__module__]


def _node_of(thing: Any) -> Any:
    tree, _ = _parsed(_module_of(thing))
    return next(node for node in tree.body if getattr(node, "name", None) == thing.__name__)


def _fields(thing: type) -> Iterator[str]:
    """Give the lines that declare fields or members, with their comments."""
    _, source = _parsed(_module_of(thing))
    declared = [each for each in _node_of(thing).body if isinstance(each, ast.AnnAssign | ast.Assign)]
    for each in declared:
        target = each.target if isinstance(each, ast.AnnAssign) else each.targets[0]
        if isinstance(target, ast.Name) and not target.id.startswith("_") and target.id != "default_reason":
            first = each.lineno - 1
            while source[first - 1].strip().startswith("#"):  # a comment of its own line is about what follows
                first -= 1
            yield from (_RULE.sub("", line) for line in source[first : each.end_lineno])


def _methods(thing: type) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ModuleType]]:
    """Give what is public, also of private parents, in the order of the source."""
    seen = set()
    for owner in thing.__mro__:
        if not owner.__module__.startswith("cqar.") or (
            owner is not thing and owner in model.KIND_OF | {model.Record: 0}
        ):
            continue
        for each in _node_of(owner).body:
            if (
                isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                and each.name[0] != "_"
                and each.name not in seen
            ):
                seen.add(each.name)
                yield each, _module_of(owner)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, module: ModuleType) -> Iterator[str]:
    yield from ("```pyi", *_signature(node, module), "```", "")
    yield from _docstring(ast.get_docstring(node) or "")


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, module: ModuleType) -> list[str]:
    """Give a signature as it was written, one parameter a line if it is long; constants by their value."""
    words = [ast.unparse(each) for each in node.decorator_list]
    decorators = [f"@{word}" for word in words if word in {"property", "classmethod"}]
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    parts = list(_parameters(node.args, module))
    line = f"{kind} {node.name}({', '.join(parts)}){result}: ..."
    if len(line) <= _WIDTH:
        return [*decorators, line]
    return [*decorators, f"{kind} {node.name}(", *[f"    {part}," for part in parts], f"){result}: ..."]


def _parameters(arguments: ast.arguments, module: ModuleType) -> Iterator[str]:
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(plain) - len(arguments.defaults)), *arguments.defaults]
    yield from (_parameter(each, default, module) for each, default in zip(plain, defaults, strict=True))
    if arguments.vararg:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    yield from (_parameter(each, default, module) for each, default in named)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def _parameter(argument: ast.arg, default: ast.expr | None, module: ModuleType) -> str:
    shown = ast.unparse(argument)
    return shown if default is None else f"{shown} = {_constant(default, module)}"


def _constant(default: ast.expr, module: ModuleType) -> str:
    if isinstance(default, ast.Name) and default.id.isupper():
        value = getattr(module, default.id)
        return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)
    return ast.unparse(default)


def _plain(text: str) -> str:
    return _RULE.sub("", " ".join(text.split()))


def _docstring(text: str) -> Iterator[str]:
    yield from (*_RULE.sub("", text).splitlines(), "")


def _errors() -> Iterator[str]:
    tree = (errors.__doc__ or "").partition("\n\n")[2]
    drawn, _, explained = tree.partition("\n\n")
    yield from ("## Errors", "", "```text", drawn, "```", "")
    yield from (explained.strip(), "", "What each has as its reason if nothing says more, and what it adds:", "")
    yield from ("| error | reason | attributes |", "| --- | --- | --- |")
    for node in _parsed(errors)[0].body:
        if isinstance(node, ast.ClassDef) and node.name != "CqarError":
            kind: type[errors.CqarError] = getattr(errors, node.name)
            added = [each.name for each in node.body if isinstance(each, ast.FunctionDef) and each.name[0] != "_"]
            added += [name for name in ("candidates", "verdict") if f"self.{name} =" in inspect.getsource(kind)]
            summary = _plain(ast.get_docstring(node) or "")
            yield f"| `{node.name}`: {summary} | `{kind.default_reason}` | {', '.join([f'`{name}`' for name in added])} |"
