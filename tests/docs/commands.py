"""Command lines in the documentation: whether the real command line takes them, and what it says to them."""

from __future__ import annotations

import doctest
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import typer
from typer.testing import CliRunner

from cqar.cli import app
from cqar.server.config import CONFIG_FILE, fields
from tests.docs.pages import ROOT

# Programs of the system, and of others: that they exist and take these options is not ours to prove.
OTHERS = frozenset(
    {
        *("apt-get", "cat", "cd", "chmod", "chown", "cp", "createdb", "crontab", "curl"),
        *("docker", "dropdb", "du", "df", "echo", "export", "grpcurl", "git", "journalctl"),
        *("kill", "kubectl", "ls", "mkdir", "mv", "nats", "pg_dump", "pg_restore", "podman"),
        *("promtool", "psql", "redis-cli", "rm", "rsync", "sh", "source", "sudo", "systemctl"),
        *("systemd-analyze", "systemd-creds", "tar", "test", "umask", "useradd"),
    }
)
_REDIRECTION = re.compile(r"\s\d?[<>]{1,2}(&\d|\s*\S+)")
_PLACEHOLDER = re.compile(r"<([a-z-]+)>")  # what the reader has to fill in
_ASSIGNMENT = re.compile(r"([A-Za-z_]+)=(.*)", re.DOTALL)


def lines_of(text: str) -> Iterator[str]:
    """Give the command lines of a block: without prompts and comments, continued lines put together."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        bare = line.strip().removeprefix("$ ")
        if bare and not bare.startswith("#"):
            yield bare


def simple_commands(line: str) -> Iterator[list[str]]:
    """Split a line at pipes and the like into commands, each a list of words."""
    filled = _PLACEHOLDER.sub(r"\1", line)
    lexer = shlex.shlex(_REDIRECTION.sub("", filled), posix=True, punctuation_chars=True)
    lexer.wordchars += ":@,{}%+!^[]$…"
    words: list[str] = []
    for word in lexer:
        if word and set(word) <= set("|&;()"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def check(line: str) -> None:
    """Raise AssertionError for a command line that would be refused."""
    for words in simple_commands(line):
        while words and (assignment := _ASSIGNMENT.fullmatch(words[0])):
            check_variable(assignment[1])
            words.pop(0)
        if words:
            _check_command(words)


def check_variable(name: str) -> None:
    """Raise AssertionError for a variable of ours that nothing reads."""
    assert not name.startswith("CQAR_") or name in _known_variables(), f"{name} is no variable of CQAR"


def _check_command(words: list[str]) -> None:
    program, arguments = words[0].rpartition("/")[2], words[1:]
    match program:
        case "cqar":
            parse(arguments)
        case "make":
            targets = [word for word in arguments if "=" not in word]
            assert targets, "make what?"
            for target in targets:
                assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
        case "pip":
            for extra in re.findall(r"cqar\[(.*?)\]", " ".join(arguments)):
                assert set(extra.split(",")) <= set(_project()["optional-dependencies"]), words
        case "python" | "python3":
            assert not arguments or arguments[0] == "-m" or (ROOT / arguments[0]).is_file(), f"no file {arguments[0]}"
        case _:
            assert (ROOT / words[0]).is_file() or program in OTHERS, f"{words[0]}: neither ours nor in OTHERS"


def parse(arguments: list[str]) -> None:
    """Parse the arguments of `cqar` as the command line would, and run nothing."""
    command: Any = _root()
    context, given = None, arguments
    name = "cqar"
    try:
        while True:
            with command.make_context(name, list(given), parent=context) as context:
                if not hasattr(command, "commands"):
                    return
                given = [*context._protected_args, *context.args]
                name, command, given = command.resolve_command(context, given)
    except typer.Exit:
        return  # --help, --version
    except Exception as error:
        raise AssertionError(f"cqar {shlex.join(arguments)}: {error}") from error


def run(text: str, environment: dict[str, str]) -> None:
    """Run the commands of a console block, lines that begin with "$ ", and compare what they print with what stands below them.

    "..." stands for anything. Who fails must be asked for it by "$ echo $?" in the next line.
    """
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0], f"before the first command: {parts[0]!r}"
    code, told = 0, True
    for part in parts[1:]:
        line, _, wanted = part.partition("\n")
        if line == "echo $?":
            got, told = f"{code}\n", True
        else:
            assert told, f"exit code {code} is not shown"
            words = shlex.split(line, comments=True)
            extra = {}
            while assignment := _ASSIGNMENT.fullmatch(words[0]):
                extra[assignment[1]] = assignment[2]
                words.pop(0)
            assert words.pop(0) == "cqar", f"only cqar is run in a console: {line}"
            result = CliRunner().invoke(app, words, env={**environment, **extra})
            got, code = result.output, result.exit_code
            told = code == 0
        if not doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE):
            raise AssertionError(f"$ {line}\n{got}\ninstead of\n{wanted}")
    assert told, f"exit code {code} is not shown"


@cache
def _root() -> Any:
    return typer.main.get_command(app)


@cache
def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


@cache
def _known_variables() -> frozenset[str]:
    def below(command: Any) -> Iterator[str]:
        for each in command.params:
            if each.envvar:
                yield from [each.envvar] if isinstance(each.envvar, str) else each.envvar
        for each in getattr(command, "commands", {}).values():
            yield from below(each)

    settings = {field.variable for field in fields()}
    return frozenset(below(_root())) | settings | {CONFIG_FILE, "CQAR_PG_BIN", "CQAR_IMAGE"}
