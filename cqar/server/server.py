"""One running server: database, feed, calls, snapshots and health, put together and taken apart in the right order.

`Server` is the asyncio program; `serve` runs it until a signal; `running_server` runs it in a thread, for tests, demos and
notebooks. The order of a stop is the reverse of the start, which `AsyncExitStack` keeps: health says NOT_SERVING, feeds end,
calls under way finish, the exporter gives up, connections close, and the embedded PostgreSQL goes last.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cqar.errors import CqarError, PreconditionError, UnavailableError
from cqar.server import health, logs
from cqar.server.cache import Cache, client_of
from cqar.server.changes import CATCH_UP_THREADS, Feed
from cqar.server.config import Config, database_host, redacted
from cqar.server.export import Exporter
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.registry import Registry
from cqar.server.replication import FILE_THREADS, Replication, add_replication
from cqar.server.rpc import ErrorInterceptor, add_registry
from cqar.server.store import Store
from cqar.server.touched import Touched
from cqar.v1 import registry_pb2, replication_pb2

log = logging.getLogger(__name__)

GRACE: Final = 10.0  # seconds that calls under way get to finish
_REVIVAL_SECONDS: Final = 5.0  # between tries to start a PostgreSQL that does not want to
_OWN_CONNECTIONS: Final = 2 + CATCH_UP_THREADS + FILE_THREADS  # the 2: of the feed and of the exporter
_SERVICES: Final = (
    registry_pb2.DESCRIPTOR.services_by_name["AssetRegistry"].full_name,
    replication_pb2.DESCRIPTOR.services_by_name["Replication"].full_name,
)
_OPTIONS: Final = (
    # A second server on the port fails instead of taking half of the calls.
    ("grpc.so_reuseport", 0),
    # Followers ping every 15 s; the default would hang up on them.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A follower whose host vanished is noticed and its stream freed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    # Bounds a bulk upsert, and so a batch of the feed: followers accept 64 MiB.
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", -1),
    # Followers spread over the servers again.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
)


class Server:
    """A server with one configuration. `start` once, `stop` once, both in the same event loop."""

    def __init__(self, config: Config) -> None:
        self.port = 0
        self.cache: Cache | None = None  # while it runs, if it has a Redis
        self._config = config
        self._cleanup = contextlib.AsyncExitStack()
        self._health = health.Health(_SERVICES)
        self._postgres: EmbeddedPostgres | None = None
        self._postgres_thread = ThreadPoolExecutor(1, "cqar-postgres")  # one: its start and stop must not overlap
        self._grace: float | None = GRACE

    @property
    def target(self) -> str:
        """Where clients reach it."""
        return f"{self._config.host}:{self.port}"

    async def start(self) -> None:
        """Start everything and return when calls are served; on failure nothing stays behind.

        Raises PreconditionError if the port is taken, UnavailableError if the database cannot be reached, and what the
        embedded PostgreSQL and the migrations raise.
        """
        try:
            await self._start()
        except BaseException:
            await self._cleanup.aclose()
            raise

    async def stop(self, grace: float | None = GRACE) -> None:
        """Stop serving; calls under way get `grace` seconds."""
        self._grace = grace
        await self._cleanup.aclose()

    async def _start(self) -> None:
        config = self._config
        calls = ThreadPoolExecutor(config.workers, "cqar-call")
        server = self._bound(calls)  # first: that the port is taken should not take a database to find out
        redis = client_of(config.redis) if config.redis else None
        url = config.database or await self._embedded_url()
        store = await self._opened(url)
        touched = Touched() if redis else None
        feed = Feed(
            store, poll_interval=config.poll_interval, heartbeat_interval=config.heartbeat_interval, touched=touched
        )
        exporter = Exporter(store, config.snapshot_root, interval=config.snapshot_interval, keep=config.snapshot_keep)
        replication = Replication(store, feed, config.snapshot_root)
        self._cleanup.push_async_callback(exporter.stop)
        self._cleanup.push_async_callback(replication.stop)
        self._cleanup.push_async_callback(asyncio.to_thread, calls.shutdown)
        self._cleanup.push_async_callback(self._stop_calls, server)
        await feed.start()
        self._cleanup.push_async_callback(feed.stop)
        if redis is not None and touched is not None:
            self.cache = Cache(redis, touched, head=store.head)
            await self._start_cache(self.cache, store, touched)
        add_registry(server, Registry(store), calls, self.cache)
        add_replication(server, replication)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if config.reflection:
            reflection.enable_server_reflection((*_SERVICES, health.NAME, reflection.SERVICE_NAME), server)
        await server.start()
        self._health.set(serving=True)
        self._cleanup.push_async_callback(self._stop_task, asyncio.create_task(self._watch(feed), name="cqar-health"))
        self._cleanup.callback(self._health.end)
        if config.snapshot_interval:
            exporter.start()
        head = feed.head
        log.info(
            "serving on %s (database %s, log %s, position %d)", self.target, redacted(url), head.log_id, head.position
        )

    def _bound(self, calls: ThreadPoolExecutor) -> grpc.aio.Server:
        """Make the gRPC server, with its port taken but nothing served yet."""
        server = grpc.aio.server(
            migration_thread_pool=calls,
            interceptors=[ErrorInterceptor()],
            options=_OPTIONS,
            maximum_concurrent_rpcs=self._config.max_concurrent_rpcs,
        )
        try:
            _check_free(self._config.listen)
            self.port = server.add_insecure_port(self._config.listen)
        except (OSError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else "another program was faster"
            raise PreconditionError(
                f"cannot listen on {self._config.listen}: {why}; choose another address with --listen or CQAR_LISTEN",
                reason="LISTEN",
                listen=self._config.listen,
            ) from None
        return server

    async def _embedded_url(self) -> str:
        """Start the embedded PostgreSQL and give the URL of its database."""
        log.info("no database URL: using the embedded PostgreSQL in %s", self._config.postgres_dir)
        self._postgres = EmbeddedPostgres(self._config.postgres_dir)
        self._cleanup.callback(self._postgres_thread.shutdown)
        self._cleanup.push_async_callback(self._with_postgres, self._postgres.stop)
        await self._with_postgres(self._postgres.start)
        return self._postgres.url

    async def _with_postgres(self, action: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._postgres_thread, action)

    async def _opened(self, url: str) -> Store:
        """Connect to the database and bring its schema up to date."""
        store = Store(url, pool_size=self._config.workers + _OWN_CONNECTIONS)
        self._cleanup.push_async_callback(asyncio.to_thread, store.close)
        try:
            await asyncio.to_thread(store.migrate)
        except UnavailableError as error:
            if self._postgres is not None:
                raise
            raise UnavailableError(
                f"cannot reach the database on {database_host(url)}{_said(error)}: start PostgreSQL there, or correct"
                " --database (CQAR_DATABASE); without one, an embedded PostgreSQL is used",
                reason="DATABASE_UNREACHABLE",
            ) from error
        return store

    async def _start_cache(self, cache: Cache, store: Store, touched: Touched) -> None:
        """Remember answers, and let every commit tell which are no longer true."""

        def committed(position: int, topics: set[str]) -> None:
            touched.note(position, topics, complete=False)
            cache.invalidate(position, topics)

        store.on_touch(committed)
        await asyncio.to_thread(cache.start)
        self._cleanup.push_async_callback(asyncio.to_thread, cache.stop)

    async def _stop_calls(self, server: grpc.aio.Server) -> None:
        await server.stop(self._grace)

    @staticmethod
    async def _stop_task(task: asyncio.Task[None]) -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _watch(self, feed: Feed) -> None:
        """Let the health tell whether the database can be read, which the feed knows, and revive the embedded one."""
        serving = True
        while True:
            await asyncio.sleep(self._config.poll_interval)
            if serving is not (feed.trouble is None):
                serving = not serving
                self._health.set(serving=serving)
            if not serving and self._postgres is not None:
                await self._revive(self._postgres)

    async def _revive(self, postgres: EmbeddedPostgres) -> None:
        """Start the embedded PostgreSQL again if it has died; does nothing if it runs."""
        try:
            await self._with_postgres(postgres.start)
        except CqarError as error:
            log.error("the embedded PostgreSQL cannot be started again: %s", error.message)  # noqa: TRY400
            await asyncio.sleep(_REVIVAL_SECONDS)


def _said(error: BaseException) -> str:
    """Give what the driver said, which names no password, as the end of a line; an operator needs to know."""
    cause = error.__cause__
    text = " ".join(str(getattr(cause, "orig", None) or cause or "").split())
    return f" ({text})" if text else ""


def _check_free(listen: str) -> None:
    """Raise OSError if an address is taken or not of this machine, which gRPC tells only in its own log."""
    host, _, port = listen.rpartition(":")
    failures = []
    addresses = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(address)
            except OSError as error:
                failures.append(error)
    taken = [error for error in failures if error.errno == errno.EADDRINUSE]
    if taken or len(failures) == len(addresses):  # ::1 of localhost alone may well be missing, in a container
        raise (taken or failures)[0]


def serve(config: Config) -> None:
    """Run a server until SIGTERM or SIGINT, then drain it; a second signal ends the process at once.

    Blocks; to be called in the main thread. Sends the log to stderr. Raises what `Server.start` raises.
    """
    logs.set_up(config.log_level, config.log_format)
    asyncio.run(_serve(config))


async def _serve(config: Config) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)  # the guard of the embedded PostgreSQL stops it
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    server = Server(config)
    await server.start()
    await stopping.wait()
    log.info("stopping: calls under way have %g s to finish", GRACE)
    await server.stop()
    log.info("stopped")


class ServerThread:
    """A server in a thread of this process. See `running_server`."""

    def __init__(self, config: Config) -> None:
        self.server = Server(config)
        self._started: Future[None] = Future()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="cqar-server", daemon=True)

    @property
    def target(self) -> str:
        """Where clients reach it."""
        return self.server.target

    def start(self) -> None:
        """Return when it serves; raises what `Server.start` raises."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            raise

    def stop(self) -> None:
        """Drain and stop it. Does nothing if it does not run."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self.server.start()
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller of start
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        await self._stop.wait()
        await self.server.stop()


@contextlib.contextmanager
def running_server(config: Config) -> Iterator[ServerThread]:
    """Run a server in a thread of this process while the block runs; it is drained at its end.

    Raises what `Server.start` raises. Do not fork meanwhile: gRPC servers do not survive it.
    """
    thread = ServerThread(config)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
