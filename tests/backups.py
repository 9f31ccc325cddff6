"""The scripts of `deploy/backup` on a database, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cqar.server.postgres import _programs

SCRIPTS = Path(__file__).parents[1] / "deploy" / "backup"


def script(name: str, *arguments: str | Path, database: str, code: int = 0, **variables: str) -> str:
    """Run a script on a database, with PostgreSQL's programs of the wheel; give what it said. AssertionError unless it ends so."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("CQAR_", "PG"))}
    needed = {
        "CQAR_DATABASE": database,
        "PG_BIN": str(_programs()),
        "CQAR": str(Path(sys.executable).with_name("cqar")),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [SCRIPTS / name, *arguments]
    done = subprocess.run(command, env=clean | needed | variables, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def dump_in(folder: Path) -> Path:
    """Give the one backup in a folder."""
    (dump,) = folder.glob("cqar-*.dump")
    return dump
