"""An account that may write to a service's working directory plants Python modules there, named as those that CQAR imports.

Before: `python -m` put the working directory first on the path of the process that builds generations: a planted `xxhash.py` ran
in it with all the rights of the service.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.attacks.marks import attack
from tests.worlds import World, catalogue

pytestmark = attack("A2", by="another account of the host", promise="nothing in the working directory is executed")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A working directory with a module of every name that there is, each of which says that it ran."""
    folder = tmp_path / "shared"
    folder.mkdir()
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + '\\n'); raise SystemExit(99)\n"
    names = {*sys.stdlib_module_names, *packages_distributions(), "cqar", "sitecustomize", "usercustomize", "tests"}
    for name in names:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(code)
    return folder


def run(program: str, planted: Path, *arguments: str, python: tuple[str, ...] = ()) -> str:
    """Run a service's script in that directory; return its output."""
    script = planted.parent / "service" / "service.py"
    script.parent.mkdir(exist_ok=True)
    script.write_text(textwrap.dedent(program))
    path = os.pathsep.join([each for each in sys.path if each])
    done = subprocess.run(
        [sys.executable, *python, str(script), *arguments],
        cwd=planted,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    ran = planted.parent / "ran"
    assert not ran.exists(), f"executed: {ran.read_text()}"
    assert done.returncode == 0, done.stderr
    return done.stdout


BUILD = """
    import sys, threading
    from pathlib import Path
    from cqar.client import _builder
    from cqar.client._folder import Folder
    if sys.argv[3] == "empty entry":
        sys.path.append("")
    folder = Folder(Path(sys.argv[2]))
    name = _builder.build(Path(sys.argv[1]), folder, None, threading.Event())
    print(folder.generation(name).meta.rows["chain"])
"""


@pytest.mark.parametrize("entry", ["none", "empty entry"])
def test_the_process_that_builds_generations_runs_no_planted_module(entry: str, planted: Path, tmp_path: Path) -> None:
    """It finds what its owner found, and nothing else."""
    published = World(catalogue()["chain"][:3]).publish(tmp_path / "snapshots")
    assert run(BUILD, planted, str(published.path), str(tmp_path / "replica"), entry) == "3\n"


SERVE = """
    import sys
    from pathlib import Path
    from cqar.client import connect
    from cqar.server.config import Config
    from cqar.server.server import running_server
    config = Config(listen="127.0.0.1:0", data_dir=Path(sys.argv[1]) / "data", snapshot_interval=0.2)
    with running_server(config) as server, connect(server.target, replica_dir=Path(sys.argv[1]) / "replica") as client:
        print(client.status().state)
"""


def test_a_server_and_its_postgresql_run_no_planted_module(planted: Path, open_folder: Path) -> None:
    """The guard of the embedded PostgreSQL is a script of Python as well; exporter and follower run beside it."""
    assert run(SERVE, planted, str(open_folder)) == "fresh\n"


def test_every_python_that_is_started_leaves_the_working_directory_out() -> None:
    """The rule, for processes to come: each start of this interpreter in the code has -P or -I."""
    for file in (REPOSITORY / "cqar").rglob("*.py"):
        for line in file.read_text().splitlines():
            if "[sys.executable" in line:
                assert '"-P"' in line or '"-I"' in line, f"{file}: {line.strip()}"
