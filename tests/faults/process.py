"""A server in a process of its own, with its log in a file: for tests that measure its memory or take its database away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ServerProcess:
    """A server process. Its log may be read while it runs."""

    def __init__(self, log: Path, *flags: str) -> None:
        self._log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CQAR_")}
        command = [sys.executable, "-m", "cqar.server", "--listen", "127.0.0.1:0", *flags]
        with log.open("wb") as file:
            self._popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=file, env=clean)

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text(errors="replace")

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def memory(self) -> int:
        """Bytes of memory that it holds at present."""
        return int(Path(f"/proc/{self._popen.pid}/statm").read_text().split()[1]) * _PAGE

    def wait_for_target(self) -> str:
        """Give where it serves, once it does."""
        deadline = time.monotonic() + PATIENCE
        while self.runs and time.monotonic() < deadline:
            _, found, rest = self.log.partition("serving on ")
            if found and "\n" in rest:
                return rest.split()[0]
            time.sleep(0.01)
        raise AssertionError(f"the server does not serve; it says:\n{self.log}")

    def kill(self) -> None:
        """End it at once."""
        self._popen.kill()
        self._popen.wait()

    def stop(self) -> None:
        """Leave nothing behind."""
        self._popen.terminate()
        try:
            self._popen.wait(PATIENCE)
        finally:
            self._popen.kill()
            self._popen.wait()


@contextmanager
def server_process(log: Path, *flags: str) -> Iterator[ServerProcess]:
    """Run a server process while the block runs."""
    process = ServerProcess(log, *flags)
    try:
        yield process
    finally:
        process.stop()
