"""What earlier releases have left in the world: wheels, snapshots, contracts. `python -m tests.formats` writes the next ones.

A fixture is written once, by the release that it is named for, and never again: that the present code would write another one
is what the tests are there to find out.
"""

from __future__ import annotations

import enum
import importlib
import json
import os
import subprocess
import sys
import typing
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from cqar import v1
from cqar.model import KINDS, Kind

DATA = Path(__file__).parents[1] / "data"
FORMATS, WHEELS = DATA / "formats", DATA / "releases"
RECORDS = "records.json"  # beside a published snapshot: what is in it
PATIENCE = 50.0  # seconds that an answer of another version may take


def contract() -> FileDescriptorSet:
    """Give the wire contract of the present code."""
    found = FileDescriptorSet()
    for path in sorted(Path(v1.__file__ or "").parent.glob("*_pb2.py")):
        importlib.import_module(f"cqar.v1.{path.stem}").DESCRIPTOR.CopyToProto(found.file.add())
    return found


def replica_format() -> dict[str, Any]:
    """Describe all of the model that a replica's files depend on: kinds and postings by number, fields, values of enums."""
    return {name: _described(kind) for name, kind in KINDS.items()}


def _described(kind: Kind[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind.record)
    fields = {field: hints[field] for field in kind.record.__struct_fields__}
    return {
        "fields": {field: str(annotation) for field, annotation in fields.items()},
        "key": list(kind.key),
        "postings": [posting.name for posting in kind.postings],
        "values": {
            field: [member.value for member in list[enum.Enum](annotation)]
            for field, annotation in fields.items()
            if isinstance(annotation, enum.EnumMeta)
        },
    }


def newest_wheel() -> Path:
    """Give the wheel of the last release."""
    return max(WHEELS.glob("*.whl"), key=lambda path: [int(part) for part in path.name.split("-")[1].split(".")])


class Release:
    """A release unpacked in a folder: its programs run with the dependencies of the present one."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.folder = folder
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CQAR_")}
        # Safe: otherwise the working folder, which may be the clone, would come first.
        self.environment = {**clean, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}

    @contextmanager
    def interpreter(self) -> Iterator[Interpreter]:
        """Run a Python that imports this release while the block runs."""
        started = Interpreter(self.environment)
        try:
            assert Path(started("cqar.__file__")).is_relative_to(self.folder)
            yield started
        finally:
            started.close()


class ToldError(Exception):
    """What another interpreter raised: `kind` is the name of its class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Interpreter:
    """A Python in a process of its own, with `cqar`, its records and `connect` at hand."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def __call__(self, code: str) -> Any:
        """Run statements, or give what an expression comes to, as JSON has it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.process.wait(PATIENCE)}"
        answer = json.loads(line)
        if "error" in answer:
            raise ToldError(*answer["error"])
        return answer["value"]

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.communicate()


_LOOP = """
import json, sys, time
import msgspec
import cqar, cqar.client
from cqar.client import connect, open_snapshot
from cqar.model import *

names = dict(globals())
for line in sys.stdin:
    code, value = json.loads(line), None
    try:
        try:
            compiled = compile(code, "told", "eval")
        except SyntaxError:
            exec(compile(code, "told", "exec"), names)
        else:
            value = msgspec.to_builtins(eval(compiled, names))
        answer = {"value": value}
    except Exception as error:
        answer = {"error": [type(error).__name__, str(error)]}
    print(msgspec.json.encode(answer).decode(), flush=True)
"""


def written(path: Path) -> dict[str, Any]:
    """Give what is in a published snapshot, as was noted when it was written."""
    noted: dict[str, Any] = msgspec.json.decode((path / RECORDS).read_bytes())
    return noted
