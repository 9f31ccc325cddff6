"""What the tests of `deploy/` share: where it is, which variables there are, and whether a command line is one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cqar.cli import app
from cqar.server.config import CONFIG_FILE, fields, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SETTINGS = {field.variable for field in fields()} | {CONFIG_FILE}
# Of PostgreSQL's programs, of the scripts of deploy/backup, and of the object storage.
OTHERS = {
    *("PG_BIN", "PGPASSWORD", "CQAR_PG_BIN", "CQAR_REPLICA_OWNER"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"),
}
# Of Python and the shell, in the image.
PLAIN = {"PATH", "PYTHONUNBUFFERED"}
SCRIPTS = {"backup.sh", "restore.sh"}


def documents(text: str) -> list[dict[str, Any]]:
    """Read the documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from _commands(each)


def options() -> set[str]:
    """Give the variables that options of the command line are taken from."""
    found: set[str] = set()
    for command in _commands(typer.main.get_command(app)):
        for parameter in command.params:
            names = parameter.envvar or ()
            found |= {names} if isinstance(names, str) else set(names)
    return found


KNOWN = SETTINGS | options() | OTHERS | PLAIN


def check_variables(names: Mapping[str, Any] | Sequence[str]) -> None:
    """Raise AssertionError for a variable that nobody reads, and InvalidError for a value that a server would refuse."""
    assert set(names) <= KNOWN, f"nobody reads {sorted(set(names) - KNOWN)}"
    if isinstance(names, Mapping):
        load({}, environment={name: str(value) for name, value in names.items() if name in SETTINGS - {CONFIG_FILE}})


def check_command(words: Sequence[str], variables: Sequence[str] = ()) -> None:
    """Raise AssertionError unless the words are a command of this `cqar`, or a script of the image, with options that it has."""
    program, *rest = words
    name = Path(program).name
    if name in SCRIPTS:
        text = (DEPLOY / "backup" / name).read_text()
        known = set(re.findall(r"^ +(--[a-z]+)\)", text, re.MULTILINE))
        assert {word for word in rest if word.startswith("-")} <= known, f"no such option of {name}: {rest}"
        return
    assert name == "cqar", words
    command: Any = typer.main.get_command(app)
    context = None
    with pytest.MonkeyPatch.context() as patch:
        for variable in variables:
            patch.setenv(variable, {"CQAR_DATABASE": "postgresql://h/d", "CQAR_TLS": "1"}.get(variable, "x"))
        while True:
            context = command.make_context(command.name or "cqar", list(rest), parent=context)  # raises for wrong usage
            if not hasattr(command, "commands"):
                return
            _, command, rest = command.resolve_command(context, context._protected_args + context.args)
            assert command is not None, words
