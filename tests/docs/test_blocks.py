"""Every code block of the documentation is run, or checked as far as its language can be, or says why it is not.

The Python and the consoles of a page are one session, in their order, against a real server with the catalogue. What a `print`
shows stands below it as `#> …`, and `pytest tests/docs --update-examples` writes it there.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_examples import CodeExample, EvalExample, find_examples

from cqar.client import Client
from cqar.server.config import load
from tests.docs import commands
from tests.docs.pages import ROOT, Block, blocks, with_code

RUN = {"python", "console"}
PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in with_code()]


@pytest.mark.parametrize("page", [each for each in PAGES if RUN & {block.language for block in blocks(each.values[0])}])
def test_the_code_of_a_page_runs_and_shows_what_it_says(
    page: Path, environment: dict[str, str], eval_example: EvalExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Python and its consoles, from the first to the last, do what the page shows."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # each example takes its place
    eval_example.set_config(line_length=120)
    python = {example.start_line: example for example in find_examples(page)}
    session: dict[str, Any] = {}
    try:
        for block in blocks(page):
            if block.reason is not None:
                continue
            if block.language == "console":
                commands.run(block.text, environment)
            elif block.language == "python":
                session = _ran(eval_example, python[block.line], session)
    finally:
        for held in session.values():
            if isinstance(held, Client):
                held.close()


def _ran(eval_example: EvalExample, example: CodeExample, session: dict[str, Any]) -> dict[str, Any]:
    """Run an example after those before it. What it prints is compared everywhere in docs/, elsewhere where it is shown."""
    checked = (ROOT / "docs") in example.path.parents or "#> " in example.source
    run = eval_example.run_print_check if checked else eval_example.run
    if checked and eval_example.update_examples:
        run = eval_example.run_print_update
    try:
        return run(example, module_globals=session)
    except Exception as error:
        # Told in short: pytest cannot follow a traceback that the plugin has rewritten.
        where = _line_of(error, example.path) or example.start_line
        error.__traceback__ = None
        raise AssertionError(f"{example.path.relative_to(ROOT)}:{where}: {type(error).__name__}: {error}") from error


def _line_of(error: BaseException, page: Path) -> int:
    """Give the last line of the page that an error went through."""
    line, each = 0, error.__traceback__
    while each is not None:
        line = each.tb_lineno if each.tb_frame.f_code.co_filename == str(page) else line
        each = each.tb_next
    return line


@pytest.mark.parametrize("page", PAGES)
def test_the_other_blocks_of_a_page_hold(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Command lines are what the command line takes, settings are those of the server, the rest is well-formed."""
    for block in blocks(page):
        if block.reason is None and block.language not in RUN:
            assert block.language in CHECKS, (
                f"{block}: no check for {block.language!r}: add one, or say <!-- not run: reason -->"
            )
            try:
                CHECKS[block.language](block, tmp_path)
            except Exception as error:
                raise AssertionError(f"{block}: {error}") from error


def test_a_block_that_is_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a reason; all are listed."""
    left_out = [block for page in with_code() for block in blocks(page) if block.reason is not None]
    with capsys.disabled():
        for block in left_out:
            sys.stdout.write(f"\nnot run: {block}: {block.reason}")
    assert [str(block) for block in left_out if not block.reason] == []


def test_metrics_that_are_named_exist() -> None:
    """Who copies the name of a metric into an alert gets one that the server has."""
    source = "".join([path.read_text(encoding="utf-8") for path in (ROOT / "cqar" / "server").rglob("*.py")])
    named = {name for page in with_code() for name in re.findall(r"\bcqar_[a-z_]+\b", page.read_text(encoding="utf-8"))}
    assert named
    assert [name for name in sorted(named) if f'"{name}"' not in source] == []


# --- checks by language -----------------------------------------------------------------------------------------------


def _commands(block: Block, _folder: Path) -> None:
    for line in commands.lines_of(block.text):
        commands.check(line)


def _settings(block: Block, folder: Path) -> None:
    file = folder / "cqar.toml"
    file.write_text(block.text, encoding="utf-8")
    load({}, environment={}, file=file)


def _unit(block: Block, _folder: Path) -> None:
    """A unit of systemd: its sections, what it executes, and its variables."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block.text)
    for section in unit.values():
        for key, value in section.items():
            if key.startswith("Exec"):
                commands.check(value)
            elif key == "Environment":
                commands.check_variable(value.partition("=")[0])


def _crontab(block: Block, _folder: Path) -> None:
    """Lines of /etc/cron.d: variables, and five fields, a user and a command."""
    for line in commands.lines_of(block.text):
        if variable := re.fullmatch(r"(\w+)=.*", line):
            commands.check_variable(variable[1])
            continue
        found = re.fullmatch(r"(?:[\d*/,-]+\s+){5}\w+\s+(.*)", line)
        assert found, line
        commands.check(found[1])


CHECKS: dict[str, Callable[[Block, Path], object]] = {
    "sh": _commands,
    "toml": lambda block, folder: (
        tomllib.loads(block.text) if re.search(r"^\[", block.text, re.MULTILINE) else _settings(block, folder)
    ),
    "ini": _unit,
    "cron": _crontab,
    "pyi": lambda block, _: ast.parse(block.text),
    "json": lambda block, _: json.loads(block.text),
    "yaml": lambda block, _: list(yaml.safe_load_all(block.text)),
    "text": lambda block, _: block.text,  # drawings and what other programs print
}
