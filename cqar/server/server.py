"""One running server: database, feed, calls, snapshots and health, put together and taken apart in the right order.

`Server` is the asyncio program; `serve` runs it until a signal; `running_server` runs it in a thread, for tests, demos and
notebooks. The order of a stop is the reverse of the start, which `AsyncExitStack` keeps: health says NOT_SERVING while calls are
taken for `drain_seconds` more, feeds end, calls under way finish, the exporter gives up, connections close, the embedded
PostgreSQL goes, and the HTTP listener last: it has told the whole of it.
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
from grpc_reflection.v1alpha import reflection

from cqar import broker
from cqar.errors import CqarError, PreconditionError, UnavailableError
from cqar.server import exposure, files, health, logs
from cqar.server.admin import Admin, add_admin
from cqar.server.admission import Admission
from cqar.server.apart import CONNECTIONS, Apart
from cqar.server.auth import AuthInterceptor
from cqar.server.cache import Cache, client_of
from cqar.server.changes import CATCH_UP_THREADS, Feed
from cqar.server.config import Config, database_host, redacted
from cqar.server.edge import ErrorInterceptor
from cqar.server.export import Exporter
from cqar.server.guard import Guard
from cqar.server.lanes import Lanes
from cqar.server.metrics import Metrics
from cqar.server.observe import Observer
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.registry import Registry
from cqar.server.relays import measure_relays, relays_of
from cqar.server.replication import FILE_THREADS, Replication, add_replication
from cqar.server.rpc import add_registry
from cqar.server.same_log import SameLog
from cqar.server.status import Component, Level, State, Status, measure
from cqar.server.store import Store
from cqar.server.tokens import Tokens
from cqar.server.touched import Touched
from cqar.server.tracing import Tracing, otlp
from cqar.server.wakeups import Wakeups
from cqar.server.web import Web
from cqar.v1 import admin_pb2, registry_pb2, replication_pb2

log = logging.getLogger(__name__)

GRACE: Final = 10.0  # seconds that calls under way get to finish
_REVIVAL_SECONDS: Final = 5.0  # between tries to start a PostgreSQL that does not want to
_OWN_CONNECTIONS: Final = 3 + CATCH_UP_THREADS + FILE_THREADS  # the 3: of the feed, of the exporter and of the guard
_SESSIONS: Final = 3  # outside the pool: the leader's and the two of the wake-ups
_SPARE_CONNECTIONS: Final = 20  # of the embedded PostgreSQL, for people and their tools
_SCHEMA_SECONDS: Final = 0.5  # between two looks at a schema that is to be migrated
_SERVICES: Final = (
    registry_pb2.DESCRIPTOR.services_by_name["AssetRegistry"].full_name,
    replication_pb2.DESCRIPTOR.services_by_name["Replication"].full_name,
    admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name,
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
    # One connection holds no more calls; those beyond wait in their client. Many feeds may come through one proxy.
    ("grpc.max_concurrent_streams", 1024),
    # Who connects and says nothing.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 10 * 60_000),
    ("grpc.max_metadata_size", 16 << 10),
    # What arrives while the event loop is busy waits for it; by default some of it is cancelled at random, whoever sent it.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    # Else a connection on a quick link may send megabytes before they are read. A message that is being read has its room anyway.
    ("grpc.http2.bdp_probe", 0),
    # Followers spread over the servers again.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
)


class Server:
    """A server with one configuration. `start` once, `stop` once, both in the same event loop."""

    def __init__(self, config: Config, *, relays_apart: bool = False) -> None:
        """Prepare; with `relays_apart` what is committed goes on to brokers by a process of its own."""
        self._relays_apart = relays_apart
        files.warn_if_few(config.max_concurrent_rpcs)
        self.port = self.http_port = 0
        self.cache: Cache | None = None  # while it runs, if it has a Redis
        self.metrics = Metrics()
        self.status = Status()
        self.status.components["files"] = files.component
        self._config = config
        self._cleanup = contextlib.AsyncExitStack()
        self._health = health.Health(_SERVICES)
        self._guard = Guard()
        self._feed: Feed | None = None
        self._admission = Admission(
            most=config.max_concurrent_rpcs,
            calls_per_token=config.calls_per_token,
            feeds_per_token=config.feeds_per_token,
        )
        self._postgres: EmbeddedPostgres | None = None
        self._postgres_thread = ThreadPoolExecutor(1, "cqar-postgres")  # one: its start and stop must not overlap
        self._grace: float | None = GRACE

    @property
    def target(self) -> str:
        """Where clients reach it."""
        return f"{self._config.host}:{self.port}"

    @property
    def http_target(self) -> str:
        """Where /metrics and the health by HTTP are, if they are."""
        return f"{self._config.http_listen.rpartition(':')[0]}:{self.http_port}"

    def _log_id(self) -> str:
        """Return which history it answers from; empty before that is known."""
        return "" if self._feed is None else self._feed.log_id

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
        calls = Lanes(config.workers, "cqar-call")
        tracing = self._tracing()
        server = self._bound(calls, tracing)  # first: that the port is taken should not take a database to find out
        redis = client_of(config.redis) if config.redis else None
        if config.events.startswith(broker.REDIS):
            client_of(config.events, "events").close()  # looks at the URL
        if config.http_listen:
            web = Web(self.metrics, self.status)
            self.http_port = await web.start(config.http_listen)
            self._cleanup.push_async_callback(web.stop)
            log.info("metrics and health on http://%s", self.http_target)
        url = config.database or await self._embedded_url()
        store = await self._opened(url)
        await self._guarded(store)
        if tracing is not None:
            store.on_use(tracing.database)
        touched = Touched() if redis else None
        feed = self._feed = Feed(
            store, poll_interval=config.poll_interval, heartbeat_interval=config.heartbeat_interval, touched=touched
        )
        exporter = Exporter(
            store,
            config.snapshot_root,
            interval=config.snapshot_interval,
            keep=config.snapshot_keep,
            log_keep=config.log_keep,
        )
        replication = Replication(store, feed, config.snapshot_root, feed_history=config.feed_history)
        self._cleanup.push_async_callback(exporter.stop)
        self._cleanup.push_async_callback(replication.stop)
        self._cleanup.push_async_callback(asyncio.to_thread, calls.shutdown)
        self._cleanup.push_async_callback(self._stop_calls, server)
        await feed.start()
        self._cleanup.push_async_callback(feed.stop)
        self._start_relays(url, store, feed)
        if config.wakeups:
            self._start_wakeups(url, store, feed)
        if redis is not None and touched is not None:
            self.cache = Cache(redis, touched, head=store.head, secret=store.secret)
            await self._start_cache(self.cache, store, touched)
        add_registry(server, Registry(store), calls, self.cache)
        add_replication(server, replication)
        add_admin(server, Admin(store, on_change=self._guard.changed))
        health.add_health(server, self._health)
        if config.reflection:
            reflection.enable_server_reflection((*_SERVICES, health.NAME, reflection.SERVICE_NAME), server)
        await server.start()
        self.status.watch(feed, exporter)
        measure(
            self.metrics, self.status, calls=calls, feed=feed, replication=replication, store=store, exporter=exporter
        )
        self._health.set(serving=True)
        self.status.state = State.SERVING
        self._cleanup.push_async_callback(self._drain)
        self._cleanup.push_async_callback(self._stop_task, asyncio.create_task(self._watch(feed), name="cqar-health"))
        if config.snapshot_interval:
            exporter.start()
        head = feed.head
        log.info(
            "serving on %s (database %s, log %s, position %d)", self.target, redacted(url), head.log_id, head.position
        )

    def _start_relays(self, url: str, store: Store, feed: Feed) -> None:
        if self._relays_apart and (self._config.events or self._config.feed):
            apart = Apart(self._config, url)
            measure_relays(self.metrics, self.status, apart.relays)
            apart.start()
            self._cleanup.push_async_callback(apart.stop)
            return
        relays = relays_of(self._config, store, feed)
        measure_relays(self.metrics, self.status, relays)
        for relay in relays:
            relay.start()
            self._cleanup.push_async_callback(relay.stop)

    def _start_wakeups(self, url: str, store: Store, feed: Feed) -> None:
        wakeups = Wakeups(url, feed.announce)
        wakeups.start()
        store.on_commit(wakeups.committed)
        self._cleanup.push_async_callback(wakeups.stop)

    def _tracing(self) -> Tracing | None:
        if not self._config.otlp_endpoint:
            return None
        tracing = Tracing(otlp(self._config.otlp_endpoint))
        self._cleanup.push_async_callback(asyncio.to_thread, tracing.stop)
        return tracing

    def _bound(self, calls: Lanes, tracing: Tracing | None) -> grpc.aio.Server:
        """Make the gRPC server, with its port taken but nothing served yet."""
        server = grpc.aio.server(
            migration_thread_pool=calls,
            interceptors=[
                Observer(self.metrics, tracing, self._log_id),
                ErrorInterceptor(),
                AuthInterceptor(self._guard, self._admission),
                SameLog(self._log_id),
            ],
            options=_OPTIONS,
            # `Admission` and `Health` count what is under way; this bounds calls that have not come so far.
            maximum_concurrent_rpcs=2 * self._config.max_concurrent_rpcs + health.AT_ONCE,
        )
        listen, encryption = self._config.listen, exposure.credentials(self._config)
        try:
            _check_free(listen)
            self.port = server.add_secure_port(listen, encryption) if encryption else server.add_insecure_port(listen)
        except (OSError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else "another program was faster"
            raise PreconditionError(
                f"cannot listen on {listen}: {why}; choose another address with --listen or CQAR_LISTEN",
                reason="LISTEN",
                listen=listen,
            ) from None
        return server

    async def _guarded(self, store: Store) -> None:
        """Let nobody in without a token, unless that may be."""
        tokens = Tokens(store)
        known = await asyncio.to_thread(tokens.known)
        may_be_open = exposure.may_be_open(self._config, [each.token for each in known.values()])
        self._cleanup.push_async_callback(self._guard.stop)
        await self._guard.start(tokens, may_be_open=may_be_open)

    async def _embedded_url(self) -> str:
        """Start the embedded PostgreSQL and give the URL of its database."""
        log.info("no database URL: using the embedded PostgreSQL in %s", self._config.postgres_dir)
        settings = {"max_connections": str(max(100, self._connections + _SPARE_CONNECTIONS))}
        self._postgres = EmbeddedPostgres(self._config.postgres_dir, settings=settings)
        self._cleanup.callback(self._postgres_thread.shutdown)
        self._cleanup.push_async_callback(self._with_postgres, self._postgres.stop)
        await self._with_postgres(self._postgres.start)
        return self._postgres.url

    async def _with_postgres(self, action: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._postgres_thread, action)

    async def _opened(self, url: str) -> Store:
        """Connect to the database and see that its schema is up to date."""
        store = Store(url, pool_size=self._connections - _SESSIONS)
        self._cleanup.push_async_callback(asyncio.to_thread, store.close)
        try:
            await (asyncio.to_thread(store.migrate) if self._config.migrate else self._migrated(store))
            allowed = await asyncio.to_thread(store.connections_allowed)
        except UnavailableError as error:
            if self._postgres is not None:
                raise
            raise UnavailableError(
                f"cannot reach the database on {database_host(url)}{_said(error)}: start PostgreSQL there, or correct"
                " --database (CQAR_DATABASE); without one, an embedded PostgreSQL is used",
                reason="DATABASE_UNREACHABLE",
            ) from error
        if allowed < self._connections:
            log.warning(
                "this server may need %d connections and the database allows %d in all: raise max_connections of"
                " PostgreSQL, or lower --workers (CQAR_WORKERS)",
                self._connections,
                allowed,
            )
        return store

    async def _start_cache(self, cache: Cache, store: Store, touched: Touched) -> None:
        """Remember answers, and let every commit tell which are no longer true."""

        def committed(position: int, topics: set[str]) -> None:
            touched.note(position, topics, complete=False)
            cache.invalidate(position, topics)

        store.on_touch(committed)
        await asyncio.to_thread(cache.start)
        self.metrics.counters(
            "cqar_cache_requests_total",
            "Answers looked up in Redis, and what Redis did.",
            "outcome",
            lambda: dict(cache.outcomes),
        )
        self.status.components["cache"] = lambda: (
            Component(Level.DEGRADED, cache.trouble) if cache.trouble else Component()
        )
        self._cleanup.push_async_callback(asyncio.to_thread, cache.stop)

    async def _drain(self) -> None:
        """Tell load balancers to send no more, and give them the time to hear it."""
        self.status.state = State.STOPPING
        self._health.end()
        await asyncio.sleep(self._config.drain_seconds)

    @property
    def _connections(self) -> int:
        """How many connections to the database it may have at once."""
        relays = len([url for url in (self._config.events, self._config.feed) if url])
        apart = CONNECTIONS if relays and self._relays_apart else 0
        return self._config.workers + _OWN_CONNECTIONS + _SESSIONS + 2 * relays + apart

    async def _migrated(self, store: Store) -> None:
        """Wait until somebody else has migrated the database."""
        seconds = self._config.migrate_wait
        ending = asyncio.get_running_loop().time() + seconds
        told = False
        while not (schema := await asyncio.to_thread(store.schema)).is_current:
            state = f"the database has the schema {schema.found or '(none)'} and this server needs {schema.wanted}"
            if asyncio.get_running_loop().time() >= ending:
                raise PreconditionError(
                    f"{state}: run `cqar migrate`, or let the server do it with --migrate (CQAR_MIGRATE)",
                    reason="SCHEMA_OLDER",
                    schema=schema.found,
                    wanted=schema.wanted,
                )
            if not told:
                log.warning("%s: waiting for `cqar migrate`, %g s at most", state, seconds)
                told = True
            await asyncio.sleep(_SCHEMA_SECONDS)

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
    files.raise_limit()
    asyncio.run(_serve(config))


async def _serve(config: Config) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)  # the guard of the embedded PostgreSQL stops it
        stopping.set()
        starting.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    server = Server(config, relays_apart=True)
    starting = asyncio.create_task(server.start())
    with contextlib.suppress(asyncio.CancelledError):  # by a signal: a start may take minutes
        await starting
    await stopping.wait()
    log.info("stopping: in %g s, then calls under way have %g s to finish", config.drain_seconds, GRACE)
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
