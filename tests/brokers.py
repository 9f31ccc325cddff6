"""A real NATS with JetStream that can be frozen and killed, and what tests ask it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from cqar import broker
from tests.caching import until

T = TypeVar("T")


def free_port() -> int:
    """Give a port that nobody listens on now; it is taken again after a restart, so it cannot be the server's choice."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


class NatsServer:
    """A NATS that keeps its streams in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or "nats-server"
        self._folder, self.port = folder, free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._command = [program, "--jetstream", "--store_dir", str(folder), "--addr", "127.0.0.1"]
        self._command += ["--port", str(self.port), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, and return when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, "NATS does not start")

    def _answers(self) -> bool:
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return None if self._process is None else self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def wipe(self) -> None:
        """Lose all that it has stored. Only while it does not run."""
        shutil.rmtree(self._folder / "jetstream", ignore_errors=True)

    def kill(self) -> None:
        """End it at once, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def do(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run something on a connection of its own."""

        async def run() -> T:
            connection = await broker.connected(broker.address(self.url, "url"), "test")
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(run())
