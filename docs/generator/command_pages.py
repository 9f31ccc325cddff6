# ruff: noqa: INP001
"""The pages of the command line and of the configuration: from the typer app, `Config` and the parameters of `connect`."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import typer

from cqar.cli import app
from cqar.cli.connection import _options
from cqar.client import connect
from cqar.server.config import Config, Field, fields

DATA_DIR = "`/var/lib/cqar` for root, else `$XDG_DATA_HOME/cqar` or `~/.local/share/cqar`"
SHARED = frozenset(inspect.signature(_options).parameters)  # the options of every command that asks a server


CONFIGURATION = """\
# Configuration

## The server

A setting of `cqar serve` is taken from its flag, else from its variable, else from the TOML file that `--config` or `CQAR_CONFIG`
names, else it has its default. Keys of the file are the names of the settings:

```toml
listen = "0.0.0.0:7433"
database = "postgresql://cqar@db.internal/cqar"  # its password is better in CQAR_DATABASE or a PGPASSFILE
http_listen = "127.0.0.1:7434"
tls_cert = "/etc/cqar/server.pem"
tls_key = "/etc/cqar/server.key"
log_keep = 90
log_format = "json"
```

An unknown key, or a value that is not of its type or out of its bounds, ends the server at once with an error that names it.

| key | flag | variable | type | default | |
| --- | --- | --- | --- | --- | --- |
{settings}

Besides, `CQAR_PG_BIN` names the folder of another PostgreSQL's programs than those that the wheel brings for the embedded
database. Variables of libpq (`PGPASSFILE`, `PGSSLROOTCERT`, …) count for `database`, those of OpenTelemetry (`OTEL_*`) for
`otlp_endpoint`.

## The client

`connect(target, …)` takes keywords; what each means is in the [API](api.md#connect). The library itself reads three variables and
no others: replicas lie in `$CQAR_REPLICA_DIR`, else in `$XDG_CACHE_HOME/cqar/replica`, else in `~/.cache/cqar/replica`, and
`CQAR_REPLICA_OWNER` is the default of `replica_owner`. A service gives the rest from its own configuration.

| keyword | type | default |
| --- | --- | --- |
{keywords}

## The command line

Variables that stand for options of [the commands](cli.md):

| variable | | commands |
| --- | --- | --- |
{variables}
"""


# --- configuration ----------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Give the page of settings."""
    variables: dict[str, tuple[str, list[str]]] = {}
    for name, command in _commands():
        for option in command.params:
            for variable in _variables(option):
                if name != "serve":
                    variables.setdefault(variable, (_text(option.help), []))[1].append(name)
    named = [f"| `{name}` | {text} | {_named(users)} |" for name, (text, users) in sorted(variables.items())]
    return CONFIGURATION.format(
        settings="\n".join(map(_setting, fields())), keywords="\n".join(_keywords()), variables="\n".join(named)
    )


def _setting(field: Field) -> str:
    flag = f"`{field.flag}`" + (f", `--no-{field.flag[2:]}`" if field.type is bool else "")
    default = "none" if field.default in {"", None} else f"`{_toml(field.default)}`"
    cells = [
        f"`{field.name}`",
        flag,
        f"`{field.variable}`",
        _type(field),
        DATA_DIR if field.name == "data_dir" else default,
        field.help,
    ]
    return f"| {' | '.join(cells)} |"


def _toml(value: object) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str | Path) else str(value)
    )


def _type(field: Field) -> str:
    if isinstance(field.type, tuple):
        return ", ".join([f"`{word}`" for word in field.type])
    info = next(each for each in msgspec.structs.fields(Config) if each.name == field.name)
    metas = [meta for meta in _flattened(info.type) if isinstance(meta, msgspec.Meta)]
    least, most = (
        next((getattr(m, side) for m in metas if getattr(m, side) is not None), None) for side in ("ge", "le")
    )
    name = {bool: "truth", str: "text", Path: "path", int: "whole number", float: "number"}[field.type]
    return name if least is None else f"{name}, {least:,} to {most:,}"


def _flattened(annotation: Any) -> Iterator[Any]:
    for each in get_args(annotation):
        yield each
        yield from _flattened(each)


def _keywords() -> Iterator[str]:
    for each in list(inspect.signature(connect).parameters.values())[1:]:
        kind = str(each.annotation).replace("|", "\\|")
        yield f"| `{each.name}` | `{kind}` | `{each.default!r}` |"


def _named(commands: list[str]) -> str:
    return ", ".join([f"`{name}`" for name in commands]) if len(commands) <= 8 else f"{len(commands)} commands"


# --- commands ---------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Give the page of commands."""
    root = typer.main.get_command(app)
    shared = next(command for name, command in _commands() if name == "resolve")
    lines = [
        "# Command line",
        "",
        str(root.help),
        "",
        "Exit codes: 0 success, 1 error, 2 wrong usage, 3 ambiguous; `flag check` ends with 4 for BLOCK and 5 for UNKNOWN. With",
        "`--json` the output is one JSON document, an error too. `--debug` (`CQAR_DEBUG`), anywhere in the line, shows log and",
        "traceback. `--help` works on every command.",
        "",
        "## Options of every command that asks a server",
        "",
        "Reading without `--target` answers from the bundled catalogue.",
        "",
        *_table([option for option in shared.params if option.name in SHARED]),
    ]
    for name, command in _commands():
        lines += ["", *_command(name, command)]
    return "\n".join(lines)


def _commands() -> Iterator[tuple[str, Any]]:
    """Give every command with its name behind `cqar`."""

    def below(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name in sorted(group.commands):
            command = group.commands[name]
            if hasattr(command, "commands"):
                yield from below(command, (*words, name))
            elif not command.hidden:
                yield " ".join([*words, name]), command

    yield from below(typer.main.get_command(app), ())


def _command(name: str, command: Any) -> Iterator[str]:
    yield from (f"## cqar {name}", "", _text(command.help), "")
    asks = {option.name for option in command.params} >= SHARED
    own = [option for option in command.params if option.name not in SHARED or not asks]
    if name == "serve":
        yield from ("Its flags are the settings of [the server](configuration.md#the-server).", "")
    elif own:
        yield from (*_table(own), "")
    if asks:
        yield from (
            "And the [options of every command that asks a server](#options-of-every-command-that-asks-a-server).",
            "",
        )
    lines = [line.strip() for line in (command.epilog or "").replace("\\[", "[").splitlines() if line.strip()]
    shown = [re.sub(r"\s{2,}\((.*)\)$", r"  # \1", line) for line in lines if line != "Examples:"]
    if shown:
        yield from ("```sh", *[line if re.match(r"cqar|[A-Z_]+=", line) else f"# {line}" for line in shown], "```", "")


def _table(options: list[Any]) -> Iterator[str]:
    yield from ("| | | default | variable |", "| --- | --- | --- | --- |")
    for option in options:
        words = ", ".join([f"`{word}`" for word in (*option.opts, *option.secondary_opts)])
        if option.param_type_name == "argument":
            words = f"`{option.name.upper()}`" + ("" if option.required else " (optional)")
        default = getattr(option.default, "value", option.default)
        shown = "" if default in {None, False, ""} or default == () else f"`{default}`"
        choices = _choices(option)
        told = [
            _text(option.help),
            f"One of {', '.join(choices)}." if choices else "",
            "Required." if option.required else "",
        ]
        yield f"| {words} | {' '.join(filter(None, told))} | {shown} | {', '.join([f'`{each}`' for each in _variables(option)])} |"


def _choices(option: Any) -> list[str]:
    """Give the words that an option takes: typer keeps the enum itself from version 0.27 on, and its words before."""
    kept = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    if isinstance(kept, type) and issubclass(kept, enum.Enum):
        return [f"`{each.value}`" for each in kept]
    return [f"`{getattr(each, 'value', each)}`" for each in getattr(getattr(option, "type", None), "choices", ())]


def _variables(option: Any) -> list[str]:
    found = option.envvar
    return [] if found is None else [found] if isinstance(found, str) else list(found)


def _text(help_: str | None) -> str:
    text = inspect.cleandoc(help_ or "").replace("\\[", "[")
    return text.replace("|", "\\|") if "\n" not in text else text
