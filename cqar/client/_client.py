"""The client that trading services hold: a thin shell that remembers, and asks the server only on a miss.

What is here is speed and fallback; what the answers are is in `_lookup`, where the data lives is in `_replica`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from cqar import model
from cqar.answers import Decision, GroupView, Position, Resolution, Ticker, Variant, Verdict
from cqar.client import _lookup, _waits
from cqar.client._arguments import (
    choice,
    function,
    member,
    members,
    optional_member,
    optional_text,
    refused,
    required_text,
    seconds,
    text,
    truth,
    whole,
)
from cqar.client._clock import difference
from cqar.client._forks import Forks
from cqar.client._head import LENGTH, Head
from cqar.client._lookup import Direction
from cqar.client._place import catalogue_logs
from cqar.client._recent import Key, Recent, Topic
from cqar.client._status import Status
from cqar.client._venues import VenueView
from cqar.client._view import CLOCK, View
from cqar.errors import ClosedError, InvalidError, NotFoundError, SnapshotError, UnavailableError
from cqar.model import AssetType, FeedToken, MarketKind, RelationshipType, Severity, VenueType
from cqar.rules.descent import FORMS
from cqar.rules.gate import BLOCK_AT, MAX_AGE, judge, require
from cqar.rules.text import check_symbol, check_uuid

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from cqar.client._admin import Admin
    from cqar.client._brief import Brief
    from cqar.client._folder import Folder
    from cqar.client._registry import Registry
    from cqar.client._remote import Remote
    from cqar.client._sync import Thread
    from cqar.client._tables import Bounds, Tables

log = logging.getLogger(__name__)

# Why a snapshot without a server is never young: its date, and the clock that it is compared with, may both be wrong.
_ALONE = (
    f"the data are a snapshot's, and no server says that they are current: only a max_age above {MAX_AGE:g} s accepts the age"
    " that its date tells"
)
VERDICT_HOLDS = 0.1  # seconds for which a verdict is given again; the age that it tells is that at their end
_MOST_VERDICTS = 100_000
_PROOF_HOLDS = 0.1  # seconds
MAX_ROWS, MOST_ROWS = 1_000_000, 1 << 40  # of a result of `sql`, unless the caller says otherwise, and at most
QUERY_SECONDS = 30.0  # likewise
_GATE, _FLAGS = "gate", "flags"
_clock, _BOOTTIME = time.clock_gettime, CLOCK


class Client:
    """The registry, from the host's own replica.

    Made by `connect` or `open_snapshot`. Thread-safe, and usable after fork. Look-ups raise NotFoundError, AmbiguousError,
    InvalidError, and UnavailableError where the replica does not know and the server cannot be asked. `chain` and `venue` take
    any name: slug, CAIP-2, network id, alias.
    """

    def __init__(
        self,
        view: View,
        *,
        remote: Remote | None = None,
        folder: Folder | None = None,
        thread: Thread | None = None,
    ) -> None:
        self._view = view
        self._replica = view.replica
        self._remote = remote
        self._folder = folder
        self._thread = thread
        self._recent: Recent = view.replica.recent
        self._verdicts: dict[str, tuple[float, Verdict]] = {}  # until when they hold; replaced by each batch
        self._brief: Brief | None = None
        self._tables: Tables | None = None
        self._registry: Registry | None = None
        self._complained: Head | None = None  # which one last, of damage
        self._closed = False
        self._proof: tuple[FeedToken | None, float, bool] = (None, 0.0, False)
        if remote is not None:
            from cqar.client._brief import Brief  # noqa: PLC0415

            self._brief = Brief()
            # Weakly: the syncer's thread holds the connection, and must not hold the client of whoever forgot to close it.
            log_id = weakref.WeakMethod(self._log_id)
            remote.holds = lambda: "" if (held := log_id()) is None else held()
        view.on_batch = self._moved
        _clients.add(self)

    # --- which asset is it? -----------------------------------------------------------------------------------------

    def resolve(self, symbol: str, *, chain: str | None = None) -> Resolution:
        """Resolve a symbol: on a chain to the deployment there, without one to the asset (R2).

        An exact-case match wins over others, then the canonical one; otherwise AmbiguousError with all `candidates`. What was
        not chosen is in `collisions`.
        """
        view = self._view
        if view.words[LENGTH] != view.seen:
            view.refresh()
        try:
            answer: Resolution | None = self._recent.answers.get((symbol, chain))
        except TypeError:  # not hashable, so no text
            answer = None
        return answer if answer is not None else self._resolve(symbol, chain)

    def _resolve(self, symbol: Any, chain: str | None) -> Resolution:
        required_text(symbol, "symbol")
        slug = "" if chain is None else self._chain(chain)
        key = (symbol, chain)
        answer, topics, version = self._local(key, _lookup.resolve, (symbol, slug))
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        checked = check_symbol(symbol)

        def remote(server: Remote) -> Resolution:
            from cqar.v1 import registry_pb2 as pb  # noqa: PLC0415

            return server.resolve(pb.ResolveRequest(symbol=pb.SymbolKey(symbol=checked, chain=slug or None)))

        try:
            return self._miss(key, topics, version, remote)  # type: ignore[no-any-return]
        except NotFoundError as error:
            if self._remote is None:  # otherwise the server has told them
                error.look_alikes, _ = self._replica.consistently(_lookup.look_alikes, (checked, slug))
            raise

    def resolve_address(self, chain: str, address: str) -> Resolution:
        """Resolve a contract address (R3), or one of the placeholders for the chain's native asset.

        A mixed-case EVM address must be a valid EIP-55 checksum, otherwise InvalidError.
        """
        key = ("address", chain, address)
        if (answer := self._recalled(key)) is not None:
            return answer  # type: ignore[no-any-return]
        required_text(address, "address")

        slug = self._chain(chain)

        def remote(server: Remote) -> Resolution:
            from cqar.v1 import registry_pb2 as pb  # noqa: PLC0415

            return server.resolve(pb.ResolveRequest(address=pb.ChainAddress(chain=chain, address=address)))

        return self._ask(key, remote, _lookup.resolve_address, slug, address)  # type: ignore[no-any-return]

    def resolve_identifier(self, source: str, external_id: str) -> Resolution:
        """Resolve the name that a data source has for an asset (R7)."""
        key = ("identifier", source, external_id)
        if (answer := self._recalled(key)) is not None:
            return answer  # type: ignore[no-any-return]
        required_text(source, "source")
        required_text(external_id, "external_id")

        def remote(server: Remote) -> Resolution:
            from cqar.v1 import registry_pb2 as pb  # noqa: PLC0415

            return server.resolve(pb.ResolveRequest(identifier=pb.SourceKey(source=source, external_id=external_id)))

        return self._ask(key, remote, _lookup.resolve_identifier, source, external_id)  # type: ignore[no-any-return]

    def resolve_venue_symbol(self, venue: str, symbol: str, *, kind: MarketKind | None = None) -> Ticker:
        """Tell what a ticker means on a venue now (R6): `.asset_id`, `.quote_asset_id`, `.multiplier`, ….

        Say the `kind` of the market that you read or trade on. Without it all kinds that bear the ticker must agree on base, quote
        and multiplier, otherwise AmbiguousError; then the SPOT row is the answer if there is one, and `.other_kinds` tells of the
        others. `multiplier` is no contract size: it says how many of the asset one unit of the ticker is, 1000 for 1000SHIB.
        """
        key = ("ticker", venue, symbol, kind)
        if (answer := self._recalled(key)) is not None:
            return answer  # type: ignore[no-any-return]
        required_text(symbol, "symbol")
        kind = optional_member(MarketKind, kind, "kind")
        slug = self._venue(venue)
        key = ("ticker", venue, symbol, kind)

        def remote(server: Remote) -> Ticker:
            found = self._registry_of(server).get_venue_symbol(venue=slug, symbol=symbol, kind=kind)
            assert isinstance(found, Ticker)
            return found

        return self._ask(key, remote, _lookup.resolve_venue_symbol, slug, symbol, kind)  # type: ignore[no-any-return]

    def venue(self, venue: str, *, kind: MarketKind | None = None) -> VenueView:
        """Return a view of one venue with the kind of market fixed: `client.venue("binance", kind="PERPETUAL").resolve(ticker)`.

        Raises NotFoundError for a venue that is not known. The view is thread-safe and as quick as the client's own look-up.
        """
        kind = optional_member(MarketKind, kind, "kind")
        self._venue(venue)
        return VenueView(self, venue, kind)

    def resolve_many(self, symbols: Iterable[str | None], *, chain: str | None = None) -> pa.Table:
        """Resolve many symbols at once: one row per input, in its order, with a `status`; never raises for a row.

        `symbols` may be an Arrow array, a Series of pandas or polars, or any iterable of texts. Columns: symbol, status (OK,
        NOT_FOUND, AMBIGUOUS, INVALID or UNAVAILABLE), asset_id, name, asset_type, chain_id, contract_address, decimals,
        collisions (their number). Each row says what `resolve` would; null and what is no text are INVALID. All rows are true at
        one position, which the schema's metadata tell as `cqar.position`; but symbols that the replica does not know are asked
        from the server, and `cqar.server_position` is the least position of its replies. Raises InvalidError for a column that
        does not hold texts, and as `resolve` does for a chain's name.
        """
        from cqar.client._bulk import resolve_many  # noqa: PLC0415
        from cqar.client._bulk_misses import Misses  # noqa: PLC0415

        self._refresh()
        slug = "" if chain is None else self._chain(chain)
        registry = None if self._remote is None else self._registry_of(self._remote)
        try:
            return resolve_many(symbols, self._replica, slug, Misses(registry, slug))
        except SnapshotError as error:
            raise self._damaged(error) from error

    # --- what is known of it? ---------------------------------------------------------------------------------------

    def asset(self, asset_id: str) -> model.Asset:
        """Give an asset by its id."""
        return self._of_asset(  # type: ignore[no-any-return]
            "asset",
            asset_id,
            _lookup.asset,
            (),
            lambda registry, key: registry.get_asset(key),
        )

    def deployments(self, asset_id: str, *, chain: str | None = None) -> tuple[model.Deployment, ...]:
        """Give an asset's deployments, on all chains or on one."""
        optional_text(chain, "chain")
        found: tuple[model.Deployment, ...] = self._of_asset(
            "deployments",
            asset_id,
            _lookup.of_asset,
            ("deployment_by_asset",),
            lambda registry, key: tuple(registry.list_asset_deployments(asset_id=registry.get_asset(key).asset_id)),
        )
        if chain is None:
            return found
        slug = self._chain(chain)
        return tuple([deployment for deployment in found if deployment.chain_id == slug])

    def identifiers(self, asset_id: str) -> tuple[model.Identifier, ...]:
        """Give the names that data sources have for an asset."""
        return self._of_asset(  # type: ignore[no-any-return]
            "identifiers",
            asset_id,
            _lookup.of_asset,
            ("identifier_by_asset",),
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
        direction = choice(direction, "direction", get_args(Direction))
        wanted = optional_member(RelationshipType, type, "type")
        found: tuple[model.Relationship, ...] = self._of_asset(
            f"relationships {direction}",
            asset_id,
            _lookup.relationships,
            (direction,),
            lambda registry, key: tuple(registry.list_asset_relationships(asset_id=key, direction=direction)),
        )
        return found if wanted is None else tuple([edge for edge in found if edge.relationship_type is wanted])

    def variants(self, asset_id: str, *, types: Iterable[RelationshipType] | None = None) -> tuple[Variant, ...]:
        """Give all assets derived from this one over any number of steps, nearest first: wrapped, bridged, staked, …

        Without `types` forks and migrations are left out: what they lead to is another asset.
        """
        wanted = FORMS if types is None else members(RelationshipType, types, "types")
        return self._of_asset(  # type: ignore[no-any-return]
            ("variants", wanted),
            asset_id,
            _lookup.variants,
            (wanted,),
            None,
        )

    def flags(
        self, asset_id: str, *, min_severity: Severity = Severity.INFO, include_resolved: bool = False
    ) -> tuple[model.QualityFlag, ...]:
        """Give an asset's flags of at least a severity, the worst first (R10).

        A flag that this version cannot read whole has the type or the severity UNKNOWN, which is above every threshold.
        """
        least = member(Severity, min_severity, "min_severity")
        truth(include_resolved, "include_resolved")
        found: tuple[model.QualityFlag, ...] = self._of_asset(
            _FLAGS,
            asset_id,
            _lookup.flags,
            (),
            lambda registry, key: tuple(registry.list_quality_flags(asset_id=key, include_resolved=True)),
        )
        return _lookup.filtered(found, least, include_resolved=include_resolved)

    def group(self, canonical_symbol: str) -> GroupView:
        """Give a group with its members by its symbol (R9)."""
        key = ("group", canonical_symbol, None)
        if (answer := self._recalled(key)) is not None:
            return answer  # type: ignore[no-any-return]
        required_text(canonical_symbol, "canonical_symbol")
        return self._ask(  # type: ignore[no-any-return]
            key,
            lambda server: self._remote_group(server, canonical_symbol),
            _lookup.group,
            canonical_symbol,
        )

    def _remote_group(self, server: Remote, canonical_symbol: str) -> GroupView:
        registry = self._registry_of(server)
        group = registry.get_asset_group(canonical_symbol=canonical_symbol)
        members = [(m, registry.get_asset(m.asset_id)) for m in registry.list_asset_group_members(group.group_id)]
        return GroupView(group=group, members=tuple(members))

    # --- may it be traded? ------------------------------------------------------------------------------------------

    def check_tradable(self, asset_id: str, *, block_at: Severity = BLOCK_AT, max_age: float = MAX_AGE) -> Verdict:
        """Tell whether an asset may be traded: ALLOW, BLOCK or UNKNOWN (R11). From local data only; never raises for an asset.

        BLOCK for an active flag of at least `block_at`, and for an asset that was deleted; UNKNOWN for one that is not known, for
        what this version cannot read, and when the data are older than `max_age` seconds. Only ALLOW is a yes. A client of a
        snapshot alone says ALLOW only with a `max_age` above 15: no server says that its data are current.
        """
        view = self._view
        if view.words[LENGTH] != view.seen:
            try:
                view.refresh()
            except ClosedError:
                return self._judge(asset_id, block_at, max_age)
        if max_age is MAX_AGE and block_at is BLOCK_AT:  # these very ones: 5 and True are equal to severities and ages
            try:
                held = self._verdicts.get(asset_id)
            except TypeError:
                held = None
            if held is not None and _clock(_BOOTTIME) < held[0]:
                return held[1]
        return self._judge(asset_id, block_at, max_age)

    def _judge(self, asset_id: Any, block_at: Any, max_age: Any) -> Verdict:
        block_at, max_age = member(Severity, block_at, "block_at"), seconds(max_age, "max_age")
        try:
            return self._judged(check_uuid(asset_id, "asset_id"), asset_id, block_at, max_age)
        except (InvalidError, ClosedError) as error:  # what is no id names no asset that could be traded
            return Verdict(
                decision=Decision.UNKNOWN,
                reasons=(error.message,),
                flags=(),
                position=self._replica.position,
                age=self.age,
            )

    def _judged(self, asset_id: str, asked: str, block_at: Severity, max_age: float) -> Verdict:
        verdicts = self._verdicts  # before the look at the replica: a batch meanwhile leaves this dict behind
        usual = max_age == MAX_AGE and block_at is BLOCK_AT
        if usual and (held := verdicts.get(asked)) is not None and _clock(_BOOTTIME) < held[0]:
            return held[1]  # of one who says the usual as something else than the very defaults
        key = (_GATE, asset_id, None)
        # Since when it is level, and the position, come first: what is read after them is as new or newer. The age comes last: a
        # process may be put to sleep in between.
        heard = None if self._folder is None else self._view.heard()
        position, doubt = self._replica.position, self._doubt(asset_id)
        try:
            exists, deleted, flags = self._recalled(key) or self._gate(key, asset_id)
        except SnapshotError as error:
            exists, deleted, flags, doubt = True, False, (), f"the replica is damaged: {error}"
        until = _clock(_BOOTTIME) + VERDICT_HOLDS
        age = (self.age if heard is None else self._view.since(heard)) + (VERDICT_HOLDS if usual else 0.0)
        if heard is None and doubt is None and age <= max_age <= MAX_AGE:
            doubt = _ALONE
        if doubt is None and (head := self._view.head) is not None and not age <= max_age:
            doubt = difference(head.about.clock)
        verdict = judge(
            asset_id,
            exists=exists,
            deleted=deleted,
            flags=flags,
            block_at=block_at,
            age=age,
            max_age=max_age,
            position=position,
            doubt=doubt,
        )
        if usual and age < MAX_AGE and self._folder is not None:
            if len(verdicts) >= _MOST_VERDICTS:
                verdicts.clear()
            verdicts[asked] = (until, verdict)
        return verdict

    def _doubt(self, asset_id: str) -> str | None:
        """Why the asset cannot be called safe: it, or a quality flag of any, is among what could not be read. Mostly None."""
        unread = self._replica.unread
        if not unread:
            return None
        if (model.ASSET.name, asset_id) in unread:
            return "the asset's record could not be read: upgrade cqar"
        if all(kind != model.QUALITY_FLAG.name for kind, _ in unread):
            return None
        return "a quality flag of the registry could not be read: upgrade cqar"

    def _gate(self, key: Key, asset_id: str) -> tuple[bool, bool, tuple[model.QualityFlag, ...]]:
        known: tuple[bool, bool, tuple[model.QualityFlag, ...]] | None
        known, _, _ = self._local(key, _lookup.gate, (asset_id,))
        if known is None:  # its repair is under way
            raise SnapshotError("what it knows of the asset cannot be read", reason="DAMAGED")
        return known

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
            chain=None if chain is None else self._chain(chain),
            venue=None if venue is None else self._venue(venue),
            asset_type=optional_member(AssetType, type, "type"),
            limit=whole(limit, "limit", 1, _queries.MAX_LIMIT),
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
            chain=None if chain is None else self._chain(chain),
            venue=None if venue is None else self._venue(venue),
            asset_type=optional_member(AssetType, type, "type"),
            limit=None if limit is None else whole(limit, "limit", 1, sys.maxsize),
        )

    def list_chains(self, *, include_inactive: bool = False) -> tuple[model.Chain, ...]:
        """Give the chains, sorted by slug."""
        truth(include_inactive, "include_inactive")
        self._refresh()
        chains: list[model.Chain] = list(self._replica.consistently(_lookup.everything, ("chain",))[0])
        return tuple([chain for chain in chains if include_inactive or chain.is_active])

    def list_venues(
        self,
        *,
        type: VenueType | None = None,
        include_inactive: bool = False,
    ) -> tuple[model.Venue, ...]:
        """Give the venues, sorted by slug."""
        truth(include_inactive, "include_inactive")
        wanted = optional_member(VenueType, type, "type")
        self._refresh()
        venues: list[model.Venue] = list(self._replica.consistently(_lookup.everything, ("venue",))[0])
        return tuple(
            [v for v in venues if (include_inactive or v.is_active) and (wanted is None or v.venue_type is wanted)]
        )

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        max_rows: int = MAX_ROWS,
        timeout: float = QUERY_SECONDS,
    ) -> duckdb.DuckDBPyRelation:
        """Run one SELECT over the replica; return its rows as a DuckDB relation whose alias is `position_<n>`.

        Tables: chains, assets, asset_deployments, asset_identifiers, asset_relationships, asset_groups, asset_group_members,
        asset_quality_flags, venues, venue_symbols; and unread (kind, key): the records that this version could not read whole, in
        which UNKNOWN (a severity: 127) stands for what it does not know, or of which there is no row. All are of one position.
        Nothing else can be read: no files, no network, no settings. DESCRIBE and SUMMARIZE count as SELECT. The rows are finished:
        no later call changes them, and nothing that is done with them is seen by a later call. Threads may call this at once; one
        relation is for one thread at a time, and of no use in a forked child: fetch its rows before.
        Raises InvalidError with DuckDB's words for anything else than one valid SELECT, and LimitError if there are more than
        `max_rows` rows, if it takes longer than `timeout` seconds, or if the queries of this client need more than 1 GB together.
        """
        required_text(query, "query")
        if parameters is not None and (isinstance(parameters, str) or not isinstance(parameters, Sequence | Mapping)):
            raise refused(parameters, "parameters", "a list or a mapping of values", "LIST")
        whole(max_rows, "max_rows", 1, MOST_ROWS)
        seconds(timeout, "timeout")
        from cqar.client._tables import Bounds  # noqa: PLC0415

        rows, position = self._query(query, parameters, Bounds(max_rows, timeout))
        return self._open_tables().relation(rows, position)

    def _query(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None, bounds: Bounds | None = None
    ) -> tuple[pa.Table, int]:
        self._refresh()
        try:
            while (answer := self._open_tables().query(query, parameters, self._replica.frozen, bounds)) is None:
                pass  # the replica went over to another generation: open its tables
        except SnapshotError as error:
            raise self._damaged(error) from error
        return answer

    def _open_tables(self) -> Tables:
        from cqar.client._tables import Tables  # noqa: PLC0415

        if self._closed:
            raise ClosedError
        path = self._replica.generation.tables
        tables = self._tables
        if tables is None or tables.path != path:
            self._tables = tables = Tables(path)
        return tables

    # --- how current is it? -----------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        view = self._view
        if view.words[LENGTH] != view.seen:
            view.refresh()

    def _moved(self, touched: set[Topic] | None) -> None:
        """Forget what a batch touched; called by whichever thread reads it."""
        self._verdicts = {}
        if self._brief is not None:
            if touched is None:
                self._brief.clear()
            elif touched:
                self._brief.drop(touched)

    @property
    def position(self) -> int:
        """The position that answers are true at."""
        self._refresh()
        return self._replica.position

    @property
    def age(self) -> float:
        """Seconds since the replica was known to be level with the server; never less than that.

        Without a server: since the snapshot was made, by the wall clock. Infinite if it is not known to have been level, and for a
        snapshot that the wall clock puts into the future: one of the two clocks is wrong, by how much nobody knows.
        """
        if self._folder is not None:
            return self._view.age()
        age = time.time() - self._replica.generation.created
        return age if age >= 0 else math.inf

    def status(self) -> Status:
        """Tell in one look how the replica is."""
        from cqar.client._status import status  # noqa: PLC0415

        with contextlib.suppress(ClosedError):
            self._refresh()
        return status(
            self._view,
            folder=self._folder,
            syncer=None if self._thread is None else self._thread.syncer,
            target=None if self._remote is None else self._remote.target,
            age=math.inf if self._view.is_empty else self.age,
            closed=self._closed,
            refused=0 if self._remote is None else self._remote.refused,
        )

    def on_state(self, callback: Callable[[Status], object]) -> None:
        """Have `callback` called with the status now, and whenever the state is another, in a daemon thread of its own.

        What it raises is logged. It ends with `close`.
        """
        from cqar.client._status import watch  # noqa: PLC0415

        watch(weakref.ref(self), function(callback, "callback"))

    def rebuild(self, timeout: float = 600.0) -> None:
        """Have this host's syncer build the replica again from the server's newest snapshot; UnavailableError if it takes longer.

        Look-ups go on meanwhile, as fresh as ever, and never go back. The syncer does it at most every 10 s, and less often when
        it is asked again and again. UnavailableError (READ_ONLY) for an account that may only read the replica.
        """
        seconds(timeout, "timeout")
        self._refresh()
        head = self._view.head
        if head is None:
            raise UnavailableError("there is no replica of a server to rebuild", reason="NO_REPLICA")
        before, asked = head.about.generation, None
        deadline = time.monotonic() + timeout
        while (head := self._view.head) is None or head.about.generation == before:
            if head is not None and head is not asked:  # again where another syncer has taken over meanwhile
                asked = head
                if not head.ask_for_rebuild():
                    raise UnavailableError(
                        "this account may only read the replica: ask by one that may write it", reason="READ_ONLY"
                    )
            if time.monotonic() >= deadline:
                raise UnavailableError(f"the replica was not built anew within {timeout:g} s", reason="NOT_YET")
            time.sleep(0.02)
            self._refresh()

    def wait_for(self, position: int, timeout: float = 5.0, *, log_id: str | None = None) -> None:
        """Wait until the replica shows a write: its position, as the write returned it; UnavailableError if it takes longer.

        The position of a write names its history too, so that a place of the same number in another history, as it may be after
        a restore, is not taken for it. Of a plain number give the `log_id` where you know it, such as from another process; without
        it numbers are compared and nothing else. `timeout` is in seconds.
        """
        wanted = _waits.wanted(position, log_id)
        deadline, pause = time.monotonic() + seconds(timeout, "timeout"), 0.0002
        while not self._shows(wanted):
            if time.monotonic() >= deadline:
                raise _waits.not_yet(self._replica.head, wanted, timeout)
            self._view.heard()  # who only waits would never leave a head that was removed under it
            time.sleep(pause)
            pause = min(1.2 * pause, 0.005)

    def _shows(self, wanted: Position) -> bool:
        """Report whether the replica shows a write. Asks the server only if the replica does not remember how it came there."""
        self._refresh()
        shown = _waits.shown(self._view, wanted)
        if shown is not None:
            return shown
        return self._proved(self._replica.head)

    def _proved(self, place: FeedToken) -> bool:
        """Report whether the server's history leads through a place; what it said of the last one is remembered for a moment."""
        if self._remote is None:
            return True  # nothing was written through this client
        asked, until, answer = self._proof
        if asked != place or time.monotonic() >= until:
            answer = self._remote.leads_through(place)
            self._proof = (place, time.monotonic() + _PROOF_HOLDS, answer)
        return answer

    def _log_id(self) -> str:
        """Return the log that the replica is of; empty if there is none yet, or but the catalogue that stands in for it."""
        head = self._replica.head
        return "" if self._view.is_empty or head.log_id in catalogue_logs() else head.log_id

    @property
    def registry(self) -> Registry:
        """The write surface: one method for each RPC. UnavailableError for a client without a server, ClosedError after `close`."""
        return self._registry_of(self._server)

    @property
    def admin(self) -> Admin:
        """API tokens and audit, for a token of an admin. UnavailableError for a client without a server."""
        from cqar.client._admin import Admin  # noqa: PLC0415

        return Admin(self._server)

    @property
    def _server(self) -> Remote:
        if self._closed:
            raise ClosedError
        if self._remote is None:
            raise UnavailableError("this client has no server: it was made by open_snapshot", reason="NO_SERVER")
        return self._remote

    def _registry_of(self, server: Remote) -> Registry:
        if self._registry is None:
            from cqar.client._registry import Registry  # noqa: PLC0415

            self._registry = Registry(server)
        return self._registry

    # --- asking -----------------------------------------------------------------------------------------------------

    def _recalled(self, key: Key) -> Any:
        """Give the remembered answer, or None, after a look at what is new: every look-up begins here."""
        view = self._view
        if view.words[LENGTH] != view.seen:
            view.refresh()
        try:
            return self._recent.answers.get(key)
        except TypeError:  # not hashable: whoever asked refuses it
            return None

    def _of_asset(
        self,
        what: object,
        asset_id: str,
        read: Callable[..., _lookup.Found[Any]],
        arguments: tuple[Any, ...],
        remote: Callable[[Registry, str], Any] | None,
    ) -> Any:
        key = ("of", what, asset_id)
        if (answer := self._recalled(key)) is not None:
            return answer
        normal = check_uuid(asset_id, "asset_id")
        ask = None if remote is None else (lambda server: remote(self._registry_of(server), normal))
        return self._ask(key, ask, read, normal, *arguments)

    def _ask(
        self,
        key: Key,
        remote: Callable[[Remote], Any] | None,
        read: Callable[..., _lookup.Found[Any]],
        *arguments: Any,
    ) -> Any:
        """Answer from the replica, else from the server."""
        answer, topics, version = self._local(key, read, arguments)
        return answer if answer is not None else self._miss(key, topics, version, remote)

    def _local(
        self, key: Key, read: Callable[..., _lookup.Found[Any]], arguments: tuple[Any, ...]
    ) -> tuple[Any, tuple[Topic, ...], int]:
        """Answer from the replica and remember it; give None, what the absence depends on and since when, if it has none."""
        replica = self._replica
        try:
            (answer, topics), version = replica.consistently(read, arguments)
        except SnapshotError as error:
            self._damaged(error)
            return None, (), -1  # the server is asked, and its answer not remembered
        if answer is not None and topics:
            self._recent.put(key, answer, topics, version, replica)
        return answer, topics, version

    def _damaged(self, error: SnapshotError) -> UnavailableError:
        """Have the replica repaired; raises the error if there is no server to repair it from."""
        head = self._view.head
        if head is None or self._remote is None:
            raise error
        if head is not self._complained:  # else every read of the same place would say it again until it is repaired
            self._complained = head
            log.warning("the replica is damaged: %s", error)
        head.complain()
        return UnavailableError(f"the replica is damaged, and is being repaired: {error}", reason="DAMAGED")

    def _miss(self, key: Key, topics: tuple[Topic, ...], version: int, remote: Callable[[Remote], Any] | None) -> Any:
        """Ask the server for what the replica does not have; NotFoundError if there is none to ask."""
        server = self._remote
        if server is None or remote is None or self._brief is None:
            asked = key if isinstance(key, str) else " ".join([str(part) for part in key if part is not None])
            if self._replica.lacks():
                raise UnavailableError(
                    f"{asked}: not known, for there are records that this version cannot read: upgrade cqar",
                    reason="UNREAD",
                    asked=asked,
                )
            raise NotFoundError(f"{asked}: not found", asked=asked)
        return self._brief.ask(key, topics, lambda: remote(server), lambda: self._replica.version == version)

    def _chain(self, name: str) -> str:
        """Give the slug that a chain's name stands for; NotFoundError (CHAIN_NOT_FOUND)."""
        # Remembered under the bare name: this is on the way of every other cold look-up, whose keys are tuples.
        slug: str | None = self._recent.answers.get(text(name, "chain"))
        return (
            slug
            if slug is not None
            else self._named("chain", name, name, lambda registry: registry.get_chain(name).chain_id)
        )

    def _venue(self, name: str) -> str:
        """Give the slug that a venue's name stands for; NotFoundError (VENUE_NOT_FOUND)."""
        key = ("venue", name, None)
        slug: str | None = self._recalled(key)
        if slug is not None:
            return slug
        text(name, "venue")
        return self._named("venue", name, key, lambda registry: registry.get_venue(name).venue_id)

    def _named(self, what: Literal["chain", "venue"], name: str, key: Key, ask: Callable[[Registry], str]) -> str:
        try:
            slug: str = self._ask(key, lambda server: ask(self._registry_of(server)), _lookup.slug_of, what, name)
        except NotFoundError:
            raise NotFoundError(
                f"{what}: {name!r} is not known", reason=f"{what.upper()}_NOT_FOUND", field=what, name=name
            ) from None
        return slug

    # --- life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop following and let go of files and connections. May be called again, and by any thread.

        From then on the gate says UNKNOWN and `status` that it is closed; all else raises ClosedError. Calls under way in other
        threads end with their answer or with ClosedError.
        """
        if self._closed:
            return
        self._closed = True
        _clients.discard(self)
        self._view.close()
        self._verdicts = {}  # after the view: who still finds a verdict asked before it was closed
        if self._thread is not None:
            self._thread.stop()
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
        """Let no fork happen in the middle of a batch."""
        self._view.before_fork()

    def _after_fork_in_parent(self) -> None:
        """Go on."""
        self._view.after_fork_in_parent()

    def _after_fork_in_child(self) -> None:
        """Go on reading; let go of what is the parent's."""
        self._view.after_fork_in_child()
        if self._brief is not None:
            self._brief.after_fork()
        if self._tables is not None:
            self._tables.after_fork_in_child()
        if self._thread is not None:
            self._thread.after_fork()


_clients: Forks[Client] = Forks()
