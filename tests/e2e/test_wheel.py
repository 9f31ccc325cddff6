"""What is installed is what works: the wheel, away from the clone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import cqar, cqar.client
client = cqar.client.open_snapshot()
found = client.resolve("USDC", chain="ethereum")
print(cqar.__file__, found.asset.name, found.deployment.decimals, sep="|")
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_installed_wheel_opens_the_catalogue_without_clone_server_or_network(tmp_path: Path) -> None:
    """`open_snapshot()` from a wheel finds the catalogue inside it."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("cqar-*.whl")
    installed = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(installed), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(installed), "CQAR_REPLICA_DIR": str(tmp_path / "replica")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    where, name, decimals = done.stdout.strip().split("|")
    assert Path(where).is_relative_to(installed)
    assert (name, decimals) == ("USD Coin", "6")
