"""The client that trading services hold: a thin shell that remembers, and asks the server only on a miss.

What is here is speed and fallback; what the answers are is in `_lookup`, where the data lives is in `_replica`.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cqar import model
from cqar.answers import GroupView, Resolution, Variant, Verdict
from cqar.client import _lookup
from cqar.client._brief import Brief
from cqar.client._lookup import Direction, required_text
from cqar.client._recent import Recent, Topic
from cqar.client._replica import Replica, about
from cqar.client._status import State, Status
from cqar.errors import InvalidError, NotFoundError, UnavailableError
from cqar.model import AssetType, MarketKind, RelationshipType, Severity, VenueType
from cqar.rules.gate import BLOCK_AT, MAX_AGE, judge, require
from cqar.rules.text import check_symbol, check_uuid

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from cqar.client._registry import Registry
    from cqar.client._remote import Remote
    from cqar.client._sync import Syncer
    from cqar.client._tables import Tables

_GATE, _FLAGS = "gate", "flags"


class Client:
    """The registry, from the host's own replica.

    Made by `connect` or `open_snapshot`. Thread-safe, and usable after fork. Look-ups raise NotFoundError, AmbiguousError,
    InvalidError, and UnavailableError where the replica does not know and the server cannot be asked. `chain` and `venue` take
    any name: slug, CAIP-2, network id, alias.
    """

    def __init__(
        self, replica: Replica, *, remote: Remote | None = None, syncer: Syncer | None = None, scratch: Path
    ) -> None:
        self._replica = replica
        self._remote = remote
        self._syncer = syncer
        self._scratch = scratch
        self._recent: Recent = replica.recent
        self._brief = Brief()
        self._tables: Tables | None = None
        self._registry: Registry | None = None
        self._closed = False
        if syncer is not None:
            syncer.on_batch(self._brief.drop)
        _clients.add(self)

    # --- which asset is it? -----------------------------------------------------------------------------------------

    def resolve(self, symbol: str, *, chain: str | None = None) -> Resolution:
        """Resolve a symbol: on a chain to the deployment there, without one to the asset (R2).

        An exact-case match wins over others, then the canonical one; otherwise AmbiguousError with all `candidates`. What was
        not chosen is in `collisions`.
        """
        try:
            return self._recent.young[symbol, chain]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            return self._resolve(symbol, chain)

    def _resolve(self, symbol: str, chain: str | None) -> Resolution:
        required_text(symbol, "symbol")

        def local() -> _lookup.Found[Resolution]:
            slug = "" if chain is None else _lookup.chain_of(self._replica, chain).chain_id
            return _lookup.resolve(self._replica, symbol, slug)

        def remote(server: Remote) -> Resolution:
            from cqar.v1 import registry_pb2 as pb  # noqa: PLC0415

            key = pb.SymbolKey(symbol=check_symbol(symbol), chain=None if chain is None else str(chain))
            return server.resolve(pb.ResolveRequest(symbol=key))

        asked = f"{symbol} on {chain}" if chain is not None else symbol
        return self._ask((symbol, chain), local, remote, asked)  # type: ignore[no-any-return]

    def resolve_address(self, chain: str, address: str) -> Resolution:
        """Resolve a contract address (R3), or one of the placeholders for the chain's native asset.

        A mixed-case EVM address must be a valid EIP-55 checksum, otherwise InvalidError.
        """
        key = ("address", chain, address)
        try:
            return self._recent.young[key]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            pass
        required_text(address, "address")

        def local() -> _lookup.Found[Resolution]:
            return _lookup.resolve_address(self._replica, _lookup.chain_of(self._replica, chain), address)

        def remote(server: Remote) -> Resolution:
            from cqar.v1 import registry_pb2 as pb  # noqa: PLC0415

            return server.resolve(pb.ResolveRequest(address=pb.ChainAddress(chain=str(chain), address=address)))

        return self._ask(key, local, remote, f"{address} on {chain}")  # type: ignore[no-any-return]

    def resolve_identifier(self, source: str, external_id: str) -> Resolution:
        """Resolve the name that a data source has for an asset (R7)."""
        key = ("identifier", source, external_id)
        try:
            return self._recent.young[key]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            pass
        required_text(source, "source")
        required_text(external_id, "external_id")

        def remote(server: Remote) -> Resolution:
            from cqar.v1 import registry_pb2 as pb  # noqa: PLC0415

            return server.resolve(pb.ResolveRequest(identifier=pb.SourceKey(source=source, external_id=external_id)))

        return self._ask(  # type: ignore[no-any-return]
            key,
            lambda: _lookup.resolve_identifier(self._replica, source, external_id),
            remote,
            f"{external_id} of {source}",
        )

    def resolve_venue_symbol(self, venue: str, symbol: str, *, kind: MarketKind | None = None) -> model.VenueSymbol:
        """Tell what a ticker means on a venue now (R6): `.asset_id`, `.quote_asset_id`, `.multiplier`, ….

        Without a `kind` all kinds that list the ticker must agree, otherwise AmbiguousError.
        """
        key = ("ticker", venue, symbol, kind)
        try:
            return self._recent.young[key]  # type: ignore[no-any-return]
        except (KeyError, TypeError):
            pass
        required_text(symbol, "symbol")
        lasts = True

        def local() -> _lookup.Found[model.VenueSymbol]:
            nonlocal lasts
            slug = _lookup.venue_of(self._replica, venue).venue_id
            answer, topics, lasts = _lookup.resolve_venue_symbol(self._replica, slug, symbol, kind)
            return answer, topics

        return self._ask(  # type: ignore[no-any-return]
            key,
            local,
            lambda server: self._registry_of(server).get_venue_symbol(venue=str(venue), symbol=symbol, kind=kind),
            f"{symbol} on {venue}",
            lasts=lambda: lasts,
        )

    def resolve_many(self, symbols: Iterable[str], *, chain: str | None = None) -> pa.Table:
        """Resolve many symbols at once: one row per input, in its order, with a `status`; never raises for a row.

        `symbols` may be an Arrow array or any iterable of texts. Columns: symbol, status (OK, NOT_FOUND, AMBIGUOUS, INVALID or
        UNAVAILABLE), asset_id, name, asset_type, chain_id, contract_address, decimals, collisions (their number).
        """
        from cqar.client._bulk import resolve_many  # noqa: PLC0415

        return resolve_many(symbols, lambda symbol: self.resolve(symbol, chain=chain))

    # --- what is known of it? ---------------------------------------------------------------------------------------

    def asset(self, asset_id: str) -> model.Asset:
        """Give an asset by its id."""
        return self._of_asset(  # type: ignore[no-any-return]
            "asset",
            asset_id,
            lambda key: _lookup.asset(self._replica, key),
            lambda registry, key: registry.get_asset(key),
        )

    def deployments(self, asset_id: str, *, chain: str | None = None) -> tuple[model.Deployment, ...]:
        """Give an asset's deployments, on all chains or on one."""
        found: tuple[model.Deployment, ...] = self._of_asset(
            "deployments",
            asset_id,
            lambda key: _lookup.of_asset(self._replica, "deployment_by_asset", key),
            lambda registry, key: tuple(registry.list_asset_deployments(asset_id=registry.get_asset(key).asset_id)),
        )
        if chain is None:
            return found
        slug = self._replica.consistently(lambda: _lookup.chain_of(self._replica, chain).chain_id)[0]
        return tuple([deployment for deployment in found if deployment.chain_id == slug])

    def identifiers(self, asset_id: str) -> tuple[model.Identifier, ...]:
        """Give the names that data sources have for an asset."""
        return self._of_asset(  # type: ignore[no-any-return]
            "identifiers",
            asset_id,
            lambda key: _lookup.of_asset(self._replica, "identifier_by_asset", key),
            lambda registry, key: tuple(registry.list_asset_identifiers(asset_id=registry.get_asset(key).asset_id)),
        )

    def relationships(
        self,
        asset_id: str,
        *,
        type: RelationshipType | None = None,
        direction: Direction = "both",
    ) -> tuple[model.Relationship, ...]:
        """Give the edges to the assets that this one is derived from ("parents"), to those derived from it, or both (R8)."""
        if direction not in {"both", "parents", "children"}:
            raise InvalidError(
                f"direction: {direction!r} is none of both, parents, children", reason="ENUM", field="direction"
            )
        found: tuple[model.Relationship, ...] = self._of_asset(
            f"relationships {direction}",
            asset_id,
            lambda key: _lookup.relationships(self._replica, key, direction),
            lambda registry, key: tuple(
                registry.list_asset_relationships(asset_id=registry.get_asset(key).asset_id, direction=direction)
            ),
        )
        return found if type is None else tuple([edge for edge in found if edge.relationship_type == type])

    def variants(self, asset_id: str, *, types: Iterable[RelationshipType] | None = None) -> tuple[Variant, ...]:
        """Give all assets derived from this one over any number of steps, nearest first: wrapped, bridged, staked, …"""
        wanted = None if types is None else frozenset(types)
        return self._of_asset(  # type: ignore[no-any-return]
            ("variants", wanted),
            asset_id,
            lambda key: _lookup.variants(self._replica, key, wanted),
            None,
        )

    def flags(
        self, asset_id: str, *, min_severity: Severity = Severity.INFO, include_resolved: bool = False
    ) -> tuple[model.QualityFlag, ...]:
        """Give an asset's flags of at least a severity, the worst first (R10)."""
        found: tuple[model.QualityFlag, ...] = self._of_asset(
            _FLAGS,
            asset_id,
            lambda key: _lookup.flags(self._replica, key),
            lambda registry, key: tuple(
                registry.list_quality_flags(asset_id=registry.get_asset(key).asset_id, include_resolved=True)
            ),
        )
        return _lookup.filtered(found, min_severity, include_resolved=include_resolved)

    def group(self, canonical_symbol: str) -> GroupView:
        """Give a group with its members by its symbol (R9)."""
        required_text(canonical_symbol, "canonical_symbol")
        return self._ask(  # type: ignore[no-any-return]
            ("group", canonical_symbol, ""),
            lambda: _lookup.group(self._replica, canonical_symbol),
            lambda server: self._remote_group(server, canonical_symbol),
            f"group {canonical_symbol}",
        )

    def _remote_group(self, server: Remote, canonical_symbol: str) -> GroupView:
        registry = self._registry_of(server)
        group = registry.get_asset_group(canonical_symbol=canonical_symbol)
        members = [(m, registry.get_asset(m.asset_id)) for m in registry.list_asset_group_members(group.group_id)]
        return GroupView(group=group, members=tuple(members))

    # --- may it be traded? ------------------------------------------------------------------------------------------

    def check_tradable(self, asset_id: str, *, block_at: Severity = BLOCK_AT, max_age: float = MAX_AGE) -> Verdict:
        """Tell whether an asset may be traded: ALLOW, BLOCK or UNKNOWN (R11). From local data only; never raises for an asset.

        BLOCK for an active flag of at least `block_at`; UNKNOWN for an asset that is not known or deleted, and when the data
        are older than `max_age` seconds. Only ALLOW is a yes.
        """
        key = (_GATE, asset_id, None)
        try:
            exists, flags = self._recent.young[key]
        except (KeyError, TypeError):
            exists, flags = self._gate(key, asset_id)
        return judge(
            asset_id,
            exists=exists,
            flags=flags,
            block_at=block_at,
            age=self.age,
            max_age=max_age,
            position=self._replica.position,
            doubt=self._syncer.doubt if self._syncer is not None else None,
        )

    def _gate(self, key: tuple[Any, ...], asset_id: str) -> tuple[bool, tuple[model.QualityFlag, ...]]:
        normal = check_uuid(asset_id, "asset_id")

        def local() -> tuple[bool, tuple[model.QualityFlag, ...]]:
            return self._replica.get("asset", normal) is not None, self._replica.active_flags(normal)

        found, version = self._replica.consistently(local)
        self._replica.remember(key, found, (about(normal),), version)
        return found

    def require_tradable(self, asset_id: str, *, block_at: Severity = BLOCK_AT, max_age: float = MAX_AGE) -> None:
        """Raise AssetBlockedError or VerdictUnknownError unless `check_tradable` says ALLOW."""
        require(asset_id, self.check_tradable(asset_id, block_at=block_at, max_age=max_age))

    # --- lists and queries ------------------------------------------------------------------------------------------

    def search(
        self,
        text: str,
        *,
        chain: str | None = None,
        venue: str | None = None,
        type: AssetType | None = None,
        limit: int = 20,
    ) -> tuple[model.Asset, ...]:
        """Find assets by symbol, name, address, identifier, ticker or id: exact matches first, then prefixes, then the rest."""
        from cqar.client import _queries  # noqa: PLC0415

        return _queries.search(
            self._query,
            required_text(text, "text"),
            chain=self._slug("chain", chain),
            venue=self._slug("venue", venue),
            asset_type=type,
            limit=limit,
        )

    def list_assets(
        self,
        *,
        chain: str | None = None,
        venue: str | None = None,
        type: AssetType | None = None,
        limit: int | None = None,
    ) -> tuple[model.Asset, ...]:
        """Give the assets of a chain, of a venue, of a type, sorted by symbol and id."""
        from cqar.client import _queries  # noqa: PLC0415

        return _queries.list_assets(
            self._query,
            chain=self._slug("chain", chain),
            venue=self._slug("venue", venue),
            asset_type=type,
            limit=limit,
        )

    def list_chains(self, *, include_inactive: bool = False) -> tuple[model.Chain, ...]:
        """Give the chains, sorted by slug."""
        chains: list[model.Chain] = self._replica.consistently(lambda: list(self._replica.all("chain")))[0]
        return tuple([chain for chain in chains if include_inactive or chain.is_active])

    def list_venues(
        self,
        *,
        type: VenueType | None = None,
        include_inactive: bool = False,
    ) -> tuple[model.Venue, ...]:
        """Give the venues, sorted by slug."""
        venues: list[model.Venue] = self._replica.consistently(lambda: list(self._replica.all("venue")))[0]
        return tuple(
            [v for v in venues if (include_inactive or v.is_active) and (type is None or v.venue_type == type)]
        )

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> duckdb.DuckDBPyRelation:
        """Run one SELECT over the replica; give its rows as a DuckDB relation whose alias is `position_<n>`.

        Tables: chains, assets, asset_deployments, asset_identifiers, asset_relationships, asset_groups, asset_group_members,
        asset_quality_flags, venues, venue_symbols. All are of one position. Nothing else can be read: no files, no network.
        Raises InvalidError with DuckDB's words for anything else than one valid SELECT.
        """
        rows, position = self._query(query, parameters)
        return self._open_tables().relation(rows, position)

    def _query(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> tuple[pa.Table, int]:
        return self._open_tables().query(query, parameters, self._replica.frozen)

    def _open_tables(self) -> Tables:
        from cqar.client._tables import Tables  # noqa: PLC0415

        path = self._replica.generation.tables
        tables = self._tables
        if tables is None or tables.path != path:
            self._tables = tables = Tables(path, self._scratch)
        return tables

    def _slug(self, what: str, name: str | None) -> str | None:
        if name is None:
            return None
        if what == "chain":
            return self._replica.consistently(lambda: _lookup.chain_of(self._replica, name).chain_id)[0]
        return self._replica.consistently(lambda: _lookup.venue_of(self._replica, name).venue_id)[0]

    # --- how current is it? -----------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The position that answers are true at."""
        return self._replica.position

    @property
    def age(self) -> float:
        """Seconds since the replica was last known to be level with the server.

        Without a server: since the snapshot was made, by the wall clock. Infinite if it never was level.
        """
        if self._syncer is not None:
            return self._syncer.age
        return max(0.0, time.time() - self._replica.generation.created)

    def status(self) -> Status:
        """Tell in one look how the replica is."""
        replica, syncer = self._replica, self._syncer
        return Status(
            state=State.CLOSED if self._closed else syncer.state if syncer is not None else State.OFFLINE,
            target=self._remote.target if self._remote is not None else None,
            log_id=replica.head.log_id,
            position=replica.position,
            head_position=syncer.head_position if syncer is not None else replica.position,
            age=self.age,
            generation=str(replica.generation.path),
            changes_since_generation=len(replica.overlay),
            quarantined=syncer.quarantined if syncer is not None else 0,
            last_error=syncer.last_error if syncer is not None else None,
        )

    def wait_for(self, position: int, timeout: float = 5.0) -> None:
        """Wait until the replica shows a position, such as that of a write of yours; UnavailableError if it takes longer."""
        if not self._replica.wait_for(position, timeout):
            raise UnavailableError(
                f"the replica is at {self._replica.position}, not yet at {position} after {timeout:g} s",
                reason="NOT_YET",
                position=position,
            )

    @property
    def registry(self) -> Registry:
        """The write and admin surface: one method for each RPC. UnavailableError for a client without a server."""
        if self._remote is None:
            raise UnavailableError("this client has no server: it was made by open_snapshot", reason="NO_SERVER")
        return self._registry_of(self._remote)

    def _registry_of(self, server: Remote) -> Registry:
        if self._registry is None:
            from cqar.client._registry import Registry  # noqa: PLC0415

            self._registry = Registry(server)
        return self._registry

    # --- asking -----------------------------------------------------------------------------------------------------

    def _of_asset(
        self,
        what: object,
        asset_id: str,
        local: Callable[[str], _lookup.Found[Any]],
        remote: Callable[[Registry, str], Any] | None,
    ) -> Any:
        key = ("of", what, asset_id)
        try:
            return self._recent.young[key]
        except (KeyError, TypeError):
            pass
        normal = check_uuid(asset_id, "asset_id")
        ask = None if remote is None else (lambda server: remote(self._registry_of(server), normal))
        return self._ask(key, lambda: local(normal), ask, f"asset {normal}")

    def _ask(
        self,
        key: tuple[Any, ...],
        local: Callable[[], _lookup.Found[Any]],
        remote: Callable[[Remote], Any] | None,
        asked: str,
        *,
        lasts: Callable[[], bool] = lambda: True,
    ) -> Any:
        """Answer from the last turn, else from the replica, else from the server."""
        try:
            return self._recent.renewed(key)
        except KeyError:
            pass
        topics: tuple[Topic, ...] = ()
        version = self._replica.version
        try:
            (answer, topics), version = self._replica.consistently(local)
        except NotFoundError:  # a chain or venue that the replica does not know
            if self._remote is None or remote is None:
                raise
            answer = None
        if answer is not None:
            if lasts():
                self._replica.remember(key, answer, topics, version)
            return answer
        if self._remote is None or remote is None:
            raise NotFoundError(f"{asked}: not found", asked=asked)
        server = self._remote
        return self._brief.ask(key, topics, lambda: remote(server), lambda: self._replica.version == version)

    # --- life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop following and let go of files and connections. Further look-ups have undefined results; idempotent."""
        if self._closed:
            return
        self._closed = True
        _clients.discard(self)
        if self._syncer is not None:
            self._syncer.stop()
        if self._remote is not None:
            self._remote.close()
        if self._tables is not None:
            self._tables.close()
        self._recent.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self.status()
        age = "never" if math.isinf(state.age) else f"{state.age:.1f} s"
        return f"<Client {state.target or state.generation} {state.state} position={state.position} age={age}>"

    # --- fork -------------------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        self._replica.before_fork()

    def _after_fork_in_parent(self) -> None:
        self._replica.after_fork_in_parent()

    def _after_fork_in_child(self) -> None:
        self._replica.after_fork_in_child()
        self._brief.after_fork()
        if self._tables is not None:
            self._tables.after_fork()
        if self._remote is not None:
            self._remote.after_fork()
        if self._syncer is not None:
            self._syncer.after_fork()


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_forking: list[Client] = []


def _before_fork() -> None:
    _forking[:] = _clients
    for client in _forking:
        client._before_fork()  # noqa: SLF001


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop()._after_fork_in_parent()  # noqa: SLF001


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop()._after_fork_in_child()  # noqa: SLF001


def register_fork_handlers() -> None:
    """Make clients survive fork. To be called after grpc was imported: its own handlers must have run when ours do."""
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
