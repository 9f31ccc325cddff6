"""The write and admin surface: one method for each RPC of `AssetRegistry`, records in, records out.

Every call goes to the server. A write returns `Written`: the record as the server keeps it, and the position to `wait_for` if the
replica shall show it. A list is an iterator over all pages. All methods raise the errors of `cqar.errors`. Grouped by topic in
the files beside.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from cqar.answers import Decision, Resolution, Verdict
from cqar.client._checked import checked
from cqar.client._registry_assets import Assets, CreatedAsset
from cqar.client._registry_base import Written, optional_enum
from cqar.client._registry_groups import Groups
from cqar.client._registry_places import Places
from cqar.client._replies import record_of
from cqar.model import MarketKind, QualityFlag, Record, Severity
from cqar.v1 import registry_pb2 as pb
from cqar.wire import any_to_wire

__all__ = ["CreatedAsset", "Outcome", "Registry", "UpsertResult", "Written"]


class Outcome(enum.StrEnum):
    """What became of one record of a bulk write."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"


class UpsertResult(msgspec.Struct, frozen=True):
    """The outcome of one record; `reason` and `message` tell why it was refused."""

    outcome: Outcome
    key: str
    reason: str = ""
    message: str = ""


@checked
class Registry(Assets, Groups, Places):
    """Everything that the server can do. Thread-safe."""

    def resolve(
        self, symbol: str, *, chain: str | None = None, venue: str | None = None, kind: MarketKind | None = None
    ) -> Resolution:
        """Ask the server, not the replica, which asset a symbol means, or with a venue which is its ticker's base asset now."""
        if venue is not None:
            ticker = pb.Ticker(venue=venue, symbol=symbol, market_kind=optional_enum(kind))
            return self._remote.resolve(pb.ResolveRequest(ticker=ticker))
        return self._remote.resolve(pb.ResolveRequest(symbol=pb.SymbolKey(symbol=symbol, chain=chain)))

    def resolve_many(self, requests: Sequence[pb.ResolveRequest]) -> pb.ResolveManyResponse:
        """Ask the server for up to 1000 resolutions, all at one position; requests and outcomes as in the contract."""
        reply: pb.ResolveManyResponse = self._remote.call("ResolveMany", pb.ResolveManyRequest(keys=requests))
        return reply

    def check_tradable(self, asset_id: str, *, block_at: Severity = Severity.CRITICAL) -> Verdict:
        """Ask the server, not the replica, whether an asset may be traded; the answer's age is 0."""
        reply = self._remote.call(
            "CheckTradable", pb.CheckTradableRequest(asset_id=asset_id, block_at=optional_enum(block_at))
        )
        return Verdict(
            decision=Decision(pb.Decision.Name(reply.decision).removeprefix("DECISION_")),
            reasons=tuple(reply.reasons),
            flags=tuple([record_of(QualityFlag, message) for message in reply.flags]),
            position=reply.position,
            age=0.0,
        )

    def upsert_records(
        self,
        records: Sequence[Record],
        *,
        replace: bool = False,
        dry_run: bool = False,
        request_id: str = "",
        timeout: float = 60.0,
    ) -> tuple[list[UpsertResult], int]:
        """Create or update up to 1000 records in one transaction; give one result for each, and the position.

        Records are matched by their natural keys (see the contract). Without `replace` only fields that the registry has
        no value for are filled. A refused record does not keep the others from being written.
        """
        request = _upsert_request(records, replace=replace, dry_run=dry_run, request_id=request_id)
        reply, position = self._remote.write("UpsertRecords", request, timeout)
        return _upsert_results(reply)[0], position

    def upsert_stream(
        self,
        batches: Iterable[Sequence[Record]],
        *,
        replace: bool = False,
        dry_run: bool = False,
        timeout: float = 600.0,
    ) -> Iterator[tuple[list[UpsertResult], int]]:
        """Do the same for any number of batches, each up to 1000 records and one transaction; yield as each is done, in order.

        The next batches are on their way while the server writes the first ones. An error ends it: what was yielded before
        is written, and a batch that was on its way may be. `timeout` is for all of it, in seconds.
        """
        requests = (_upsert_request(batch, replace=replace, dry_run=dry_run) for batch in batches)
        return map(_upsert_results, self._remote.stream("UpsertStream", requests, timeout))


def _upsert_request(
    records: Sequence[Record], *, replace: bool, dry_run: bool, request_id: str = ""
) -> pb.UpsertRecordsRequest:
    return pb.UpsertRecordsRequest(
        records=[any_to_wire(record) for record in records],
        merge=pb.MERGE_REPLACE if replace else pb.MERGE_FILL,
        dry_run=dry_run,
        request_id=request_id,
    )


def _upsert_results(reply: pb.UpsertRecordsResponse) -> tuple[list[UpsertResult], int]:
    results = [
        UpsertResult(
            Outcome(pb.Outcome.Name(result.outcome).removeprefix("OUTCOME_")),
            result.key,
            result.reason,
            result.message,
        )
        for result in reply.results
    ]
    return results, reply.position
