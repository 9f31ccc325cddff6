"""A server as a process of its own, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PATIENCE = 40.0  # several that start at once on a busy machine


class Process:
    """A server process; its log is read beside it."""

    def __init__(self, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CQAR_")}
        command = [sys.executable, "-m", "cqar.server", "--listen", "127.0.0.1:0", *flags]
        self.popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment or clean)
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def line_with(self, text: str) -> str:
        """Wait for a line of the log that holds the text."""
        with self._news:
            found = self._news.wait_for(lambda: [line for line in self.lines if text in line], PATIENCE)
        assert found, self.lines
        return found[0]

    @property
    def target(self) -> str:
        """Where it serves."""
        return self.line_with("serving on ").partition("serving on ")[2].split()[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def exit_code(self) -> int:
        """Wait for its end."""
        code = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self) -> None:
        """Leave nothing behind."""
        self.popen.kill()
        self.popen.wait()
        self._reader.join(PATIENCE)
        assert self.popen.stderr is not None
        self.popen.stderr.close()


@contextmanager
def process(*flags: str, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run a server process while the block runs, if need be in another environment: that of another release."""
    started = Process(*flags, environment=environment)
    try:
        yield started
    finally:
        started.close()
