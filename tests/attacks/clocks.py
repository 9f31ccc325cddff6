"""Processes that see another clock, or none: started in namespaces of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ASK = """
import json, sys
from cqar.client import connect
with connect(sys.argv[1], replica_dir=sys.argv[2], sync=sys.argv[3], timeout=20) as client:
    verdict = client.check_tradable(sys.argv[4])
    usual = [client.check_tradable(sys.argv[4]).decision for _ in range(3)]
    status = client.status()
    print(json.dumps({"decision": verdict.decision, "reasons": verdict.reasons, "age": str(verdict.age), "usual": usual,
                      "told": str(client.age), "error": status.last_error, "state": str(status.state)}))
"""
WITHOUT_BOOT_ID = (
    "unshare",
    "-m",
    "sh",
    "-c",
    'mount --bind /dev/null /proc/sys/kernel/random/boot_id && exec "$@"',
    "sh",
)


def in_time_namespace(seconds: int) -> tuple[str, ...]:
    """Return the beginning of a command that runs where CLOCK_BOOTTIME shows so many seconds more than on the host."""
    return ("unshare", "--time", "--boottime", str(seconds), "--fork")


def works(*prefix: str) -> bool:
    """Report whether this host and account can start such a process."""
    try:
        return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def asked(prefix: tuple[str, ...], target: str, replica: Path, sync: str, asset_id: str) -> dict[str, Any]:
    """Return what a process there says of an asset."""
    path = os.pathsep.join([each for each in sys.path if each])
    done = subprocess.run(
        [*prefix, sys.executable, "-c", ASK, target, str(replica), sync, asset_id],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
