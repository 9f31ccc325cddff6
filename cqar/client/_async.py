"""The client for asyncio: answers come from the replica at once, in the loop's thread; only a miss awaits.

`AsyncClient` holds an ordinary client. Each look-up asks a twin of it that shares everything but what a miss does: it raises
`_WouldBlock`, and the look-up is asked again in a thread, where it may wait for the server. What takes DuckDB goes there always.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from cqar import model
from cqar.answers import GroupView, Position, Resolution, Ticker, Variant, Verdict
from cqar.client import _waits
from cqar.client._arguments import members, optional_member, seconds
from cqar.client._client import MAX_ROWS, QUERY_SECONDS, Client
from cqar.client._connect import connect, open_snapshot
from cqar.client._generation import Progress
from cqar.client._lookup import Direction
from cqar.client._recent import Key, Topic
from cqar.client._status import Status
from cqar.client._tls import Tls
from cqar.client._venues import VenueView
from cqar.errors import ClosedError
from cqar.model import AssetType, FeedToken, MarketKind, RelationshipType, Severity, VenueType
from cqar.rules.gate import BLOCK_AT, MAX_AGE

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from cqar.client._async_registry import AsyncAdmin, AsyncRegistry
    from cqar.client._remote import Remote

T = TypeVar("T")

WAITING = 16  # threads in which misses wait for the server


class _WouldBlock(Exception):  # noqa: N818  (no error: it never leaves this module)
    """The server has to be asked."""


class _Twin(Client):
    """The same client, which never waits."""

    def __init__(self, client: Client) -> None:
        self.__dict__ = client.__dict__  # shared, not copied: whatever changes there changes here

    def _miss(self, key: Key, topics: tuple[Topic, ...], version: int, remote: Callable[[Remote], Any] | None) -> Any:
        if self._remote is None or remote is None or self._brief is None or self._brief.holds(key):
            return super()._miss(key, topics, version, remote)
        raise _WouldBlock

    def _proved(self, place: FeedToken) -> bool:  # noqa: ARG002  (as in `Client`)
        raise _WouldBlock


class AsyncClient:
    """The registry, from the host's own replica, for one event loop. See `Client`, whose surface this is.

    Look-ups are coroutines that answer without suspending; where the replica does not know, they await the server's answer.
    `position`, `age`, `status` and the gate never wait. To be used in the loop in which it was made.
    """

    def __init__(self, client: Client) -> None:
        """Take over a client; `connect` and `open_snapshot` make one."""
        self._client = client
        self._twin = _Twin(client)
        self._threads = ThreadPoolExecutor(WAITING, thread_name_prefix="cqar-ask")
        self._flights: dict[Hashable, asyncio.Future[Any]] = {}

    @classmethod
    async def connect(
        cls,
        target: str,
        *,
        token: str | None = None,
        tls: Tls | bool = False,
        actor: str | None = None,
        snapshots: str | os.PathLike[str] | None = None,
        feed: str | None = None,
        replica_dir: str | os.PathLike[str] | None = None,
        replica_owner: str | int | None = None,
        sync: Literal["auto", "off"] = "auto",
        start: Literal["replica", "catalogue", "server"] = "replica",
        timeout: float = 10.0,  # noqa: ASYNC109  (the same as `connect`'s)
        call_timeout: float = 2.0,
        recent: int = 100_000,
        progress: Progress | None = None,
        on_state: Callable[[Status], object] | None = None,
    ) -> Self:
        """Connect to a server without blocking the loop; see `cqar.client.connect`. Callbacks are called in other threads."""
        making = functools.partial(
            connect,
            target,
            token=token,
            tls=tls,
            actor=actor,
            snapshots=snapshots,
            feed=feed,
            replica_dir=replica_dir,
            replica_owner=replica_owner,
            sync=sync,
            start=start,
            timeout=timeout,
            call_timeout=call_timeout,
            recent=recent,
            progress=progress,
            on_state=on_state,
        )
        return await cls._made(making)

    @classmethod
    async def open_snapshot(
        cls,
        location: str | os.PathLike[str] | None = None,
        *,
        replica_dir: str | os.PathLike[str] | None = None,
        replica_owner: str | int | None = None,
        recent: int = 100_000,
        progress: Progress | None = None,
    ) -> Self:
        """Open a snapshot without a server; see `cqar.client.open_snapshot`."""
        return await cls._made(
            functools.partial(
                open_snapshot,
                location,
                replica_dir=replica_dir,
                replica_owner=replica_owner,
                recent=recent,
                progress=progress,
            )
        )

    @classmethod
    async def _made(cls, making: Callable[[], Client]) -> Self:
        under_way = asyncio.ensure_future(asyncio.to_thread(making))
        try:
            return cls(await asyncio.shield(under_way))
        except asyncio.CancelledError:
            under_way.add_done_callback(_close_unwanted)  # nobody will hold it
            raise

    # --- which asset is it? -----------------------------------------------------------------------------------------

    async def resolve(self, symbol: str, *, chain: str | None = None) -> Resolution:
        """See `Client.resolve`."""
        try:
            return self._twin.resolve(symbol, chain=chain)
        except _WouldBlock:
            return await self._ask(self._client.resolve, symbol, chain=chain)

    async def resolve_address(self, chain: str, address: str) -> Resolution:
        """See `Client.resolve_address`."""
        try:
            return self._twin.resolve_address(chain, address)
        except _WouldBlock:
            return await self._ask(self._client.resolve_address, chain, address)

    async def resolve_identifier(self, source: str, external_id: str) -> Resolution:
        """See `Client.resolve_identifier`."""
        try:
            return self._twin.resolve_identifier(source, external_id)
        except _WouldBlock:
            return await self._ask(self._client.resolve_identifier, source, external_id)

    async def resolve_venue_symbol(self, venue: str, symbol: str, *, kind: MarketKind | None = None) -> Ticker:
        """See `Client.resolve_venue_symbol`."""
        try:
            return self._twin.resolve_venue_symbol(venue, symbol, kind=kind)
        except _WouldBlock:
            return await self._ask(self._client.resolve_venue_symbol, venue, symbol, kind=kind)

    async def venue(self, venue: str, *, kind: MarketKind | None = None) -> AsyncVenueView:
        """See `Client.venue`; the view's `resolve` is a coroutine."""
        try:
            view = self._twin.venue(venue, kind=kind)
        except _WouldBlock:
            await self._ask(self._client.venue, venue, kind=kind)
            view = VenueView(self._twin, venue, optional_member(MarketKind, kind, "kind"))
        return AsyncVenueView(self, view)

    async def resolve_many(self, symbols: Iterable[str | None], *, chain: str | None = None) -> pa.Table:
        """See `Client.resolve_many`; runs in a thread."""
        return await self._run(self._client.resolve_many, symbols, chain=chain)

    # --- what is known of it? ---------------------------------------------------------------------------------------

    async def asset(self, asset_id: str) -> model.Asset:
        """See `Client.asset`."""
        try:
            return self._twin.asset(asset_id)
        except _WouldBlock:
            return await self._ask(self._client.asset, asset_id)

    async def deployments(self, asset_id: str, *, chain: str | None = None) -> tuple[model.Deployment, ...]:
        """See `Client.deployments`."""
        try:
            return self._twin.deployments(asset_id, chain=chain)
        except _WouldBlock:
            return await self._ask(self._client.deployments, asset_id, chain=chain)

    async def identifiers(self, asset_id: str) -> tuple[model.Identifier, ...]:
        """See `Client.identifiers`."""
        try:
            return self._twin.identifiers(asset_id)
        except _WouldBlock:
            return await self._ask(self._client.identifiers, asset_id)

    async def relationships(
        self,
        asset_id: str,
        *,
        type: RelationshipType | None = None,
        direction: Direction = "both",
    ) -> tuple[model.Relationship, ...]:
        """See `Client.relationships`."""
        try:
            return self._twin.relationships(asset_id, type=type, direction=direction)
        except _WouldBlock:
            return await self._ask(self._client.relationships, asset_id, type=type, direction=direction)

    async def variants(self, asset_id: str, *, types: Iterable[RelationshipType] | None = None) -> tuple[Variant, ...]:
        """See `Client.variants`."""
        wanted = None if types is None else members(RelationshipType, types, "types")
        try:
            return self._twin.variants(asset_id, types=wanted)
        except _WouldBlock:
            return await self._ask(self._client.variants, asset_id, types=wanted)

    async def flags(
        self, asset_id: str, *, min_severity: Severity = Severity.INFO, include_resolved: bool = False
    ) -> tuple[model.QualityFlag, ...]:
        """See `Client.flags`."""
        try:
            return self._twin.flags(asset_id, min_severity=min_severity, include_resolved=include_resolved)
        except _WouldBlock:
            return await self._ask(
                self._client.flags, asset_id, min_severity=min_severity, include_resolved=include_resolved
            )

    async def group(self, canonical_symbol: str) -> GroupView:
        """See `Client.group`."""
        try:
            return self._twin.group(canonical_symbol)
        except _WouldBlock:
            return await self._ask(self._client.group, canonical_symbol)

    # --- may it be traded? ------------------------------------------------------------------------------------------

    async def check_tradable(
        self, asset_id: str, *, block_at: Severity = BLOCK_AT, max_age: float = MAX_AGE
    ) -> Verdict:
        """See `Client.check_tradable`; never waits."""
        return self._twin.check_tradable(asset_id, block_at=block_at, max_age=max_age)

    def require_tradable(
        self, asset_id: str, *, block_at: Severity = BLOCK_AT, max_age: float = MAX_AGE
    ) -> Awaitable[None]:
        """See `Client.require_tradable`; never waits. It checks when it is called: a forgotten `await` lets nothing pass."""
        self._twin.require_tradable(asset_id, block_at=block_at, max_age=max_age)
        return _nothing()

    # --- lists and queries ------------------------------------------------------------------------------------------

    async def search(
        self,
        text: str,
        *,
        chain: str | None = None,
        venue: str | None = None,
        type: AssetType | None = None,
        limit: int = 20,
    ) -> tuple[model.Asset, ...]:
        """See `Client.search`; runs in a thread."""
        return await self._run(self._client.search, text, chain=chain, venue=venue, type=type, limit=limit)

    async def list_assets(
        self,
        *,
        chain: str | None = None,
        venue: str | None = None,
        type: AssetType | None = None,
        limit: int | None = None,
    ) -> tuple[model.Asset, ...]:
        """See `Client.list_assets`; runs in a thread."""
        return await self._run(self._client.list_assets, chain=chain, venue=venue, type=type, limit=limit)

    async def list_chains(self, *, include_inactive: bool = False) -> tuple[model.Chain, ...]:
        """See `Client.list_chains`."""
        return self._twin.list_chains(include_inactive=include_inactive)

    async def list_venues(
        self,
        *,
        type: VenueType | None = None,
        include_inactive: bool = False,
    ) -> tuple[model.Venue, ...]:
        """See `Client.list_venues`."""
        return self._twin.list_venues(type=type, include_inactive=include_inactive)

    async def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        max_rows: int = MAX_ROWS,
        timeout: float = QUERY_SECONDS,  # noqa: ASYNC109  (the same as `Client.sql`'s)
    ) -> duckdb.DuckDBPyRelation:
        """See `Client.sql`; runs in a thread. The rows are computed when it returns."""
        return await self._run(self._client.sql, query, parameters, max_rows=max_rows, timeout=timeout)

    # --- how current is it? -----------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """See `Client.position`."""
        return self._client.position

    @property
    def age(self) -> float:
        """See `Client.age`."""
        return self._client.age

    def status(self) -> Status:
        """See `Client.status`."""
        return self._client.status()

    def on_state(self, callback: Callable[[Status], object]) -> None:
        """See `Client.on_state`; the callback is called in another thread than the loop's."""
        self._client.on_state(callback)

    async def rebuild(self, timeout: float = 600.0) -> None:  # noqa: ASYNC109  (the same as `Client.rebuild`'s)
        """See `Client.rebuild`; waits in a thread."""
        await self._run(self._client.rebuild, timeout)

    async def wait_for(
        self,
        position: int,
        timeout: float = 5.0,  # noqa: ASYNC109  (the same as `Client.wait_for`'s)
        *,
        log_id: str | None = None,
    ) -> None:
        """See `Client.wait_for`."""
        wanted = _waits.wanted(position, log_id)
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + seconds(timeout, "timeout"), 0.0005
        while not await self._shows(wanted):
            if loop.time() >= deadline:
                self._client.wait_for(wanted, timeout=0)
                return
            await asyncio.sleep(pause)
            pause = min(1.2 * pause, 0.005)

    async def _shows(self, wanted: Position) -> bool:
        """See `Client._shows`, which may ask the server."""
        try:
            return self._twin._shows(wanted)  # noqa: SLF001
        except _WouldBlock:
            return await self._run(self._client._shows, wanted)  # noqa: SLF001

    @property
    def registry(self) -> AsyncRegistry:
        """The write surface: the methods of `Client.registry`, awaitable. Lists are asynchronous iterators."""
        from cqar.client._async_registry import AsyncRegistry  # noqa: PLC0415  (grpc)

        return AsyncRegistry(self._client.registry, self._run)

    @property
    def admin(self) -> AsyncAdmin:
        """API tokens and audit: the methods of `Client.admin`, awaitable. Lists are asynchronous iterators."""
        from cqar.client._async_registry import AsyncAdmin  # noqa: PLC0415  (grpc)

        return AsyncAdmin(self._client.admin, self._run)

    # --- asking -----------------------------------------------------------------------------------------------------

    async def _run(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, functools.partial(call, *arguments, **named)
            )
        except (RuntimeError, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if self._client.status().state == "closed" and (task is None or not task.cancelling()):
                raise ClosedError from error
            raise

    async def _ask(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Ask in a thread what others may be asking at the moment too: one thread waits for all of them."""
        key = (call, arguments, tuple(named.items()))
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.ensure_future(self._run(call, *arguments, **named))
            flight.add_done_callback(functools.partial(self._landed, key))
        # Shielded: who no longer wants the answer does not take it from the others.
        return cast("T", await asyncio.shield(flight))

    def _landed(self, key: Hashable, flight: asyncio.Future[Any]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # looked at, so that asyncio does not report it where all who asked have gone

    # --- life -------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """See `Client.close`. Calls that wait for the server end with ClosedError."""
        await asyncio.to_thread(self._client.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self._client).replace("<Client", "<AsyncClient")


class AsyncVenueView:
    """See `VenueView`. A ticker that the replica knows does not suspend."""

    __slots__ = ("_client", "_view")

    def __init__(self, client: AsyncClient, view: VenueView) -> None:
        self._client, self._view = client, view

    @property
    def venue(self) -> str:
        """The venue, as it was named."""
        return self._view.venue

    @property
    def kind(self) -> MarketKind | None:
        """The kind of market; None for any."""
        return self._view.kind

    async def resolve(self, ticker: str) -> Ticker:
        """See `VenueView.resolve`."""
        try:
            return self._view.resolve(ticker)
        except _WouldBlock:
            return await self._client.resolve_venue_symbol(self.venue, ticker, kind=self.kind)

    def __repr__(self) -> str:
        return repr(self._view).replace("<VenueView", "<AsyncVenueView")


async def _nothing() -> None:
    """Be awaited."""


def _close_unwanted(made: asyncio.Future[Client]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()
