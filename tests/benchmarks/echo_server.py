"""A server as in production with one method more: `bench.Echo/Echo`, which gives its request back.

The yardstick of `make bench-server`: the same port, interceptors and thread pool, and nothing behind them. Takes the flags of
`cqar serve` and writes its port to stdout when it serves.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc
import pytest

from cqar.access import Role
from cqar.server import logs, rights, rpc, server
from cqar.server.__main__ import _parser
from cqar.server.config import Config, load

ECHO = "/bench.Echo/Echo"


def _echo(request: bytes, _context: Any) -> bytes:
    return request


async def _serve(config: Config) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    running = server.Server(config)
    await running.start()
    print(running.port, flush=True)  # noqa: T201
    await stopping.wait()
    await running.stop()


def main() -> None:
    """Serve until SIGTERM."""
    add_registry = rpc.add_registry

    def with_echo(grpc_server: grpc.aio.Server, *parts: Any) -> None:
        add_registry(grpc_server, *parts)
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_echo)
        grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "add_registry", with_echo)
        patch.setitem(rights.NEEDED, ECHO, Role.READER)
        config = load(vars(_parser().parse_args()))
        logs.set_up(config.log_level, config.log_format)
        asyncio.run(_serve(config))


if __name__ == "__main__":
    main()
