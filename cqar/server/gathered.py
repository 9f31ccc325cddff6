"""The reads that are asked for most: many calls are answered with one read, and Redis may remember the answers.

Each method says how a request becomes a question, how questions are answered, and under which key of the specification
its answers are remembered for how long. A key holds the question as it was put, so that none is answered that would have
been refused. How calls are gathered is in `together`, how answers are remembered in `cache`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from cqar import wire
from cqar.answers import Resolution, Verdict
from cqar.errors import CqarError
from cqar.model import QualityFlag, Severity, VenueSymbol
from cqar.rules.gate import judge
from cqar.server.auth import noted_caller
from cqar.server.cache import Answer, Cache, Plan, Reply
from cqar.server.registry import (
    AddressKey,
    GateKey,
    Meaning,
    PageRequest,
    Registry,
    ResolveKey,
    SourceKey,
    SymbolKey,
    TickerKey,
)
from cqar.server.registry import Answer as Found
from cqar.server.requests import arguments_of, way_of
from cqar.server.together import Together
from cqar.server.touched import VENUES
from cqar.v1 import registry_pb2 as pb
from cqar.wire import enum_to_wire, record_from_wire, record_to_wire

HOUR: Final = 3600.0  # seconds; this and the others are those of the specification
HALF_HOUR: Final = 1800.0
FIVE_MINUTES: Final = 300.0

Questions = Sequence[Any]


class Gathered(NamedTuple):
    """How one method is answered for many calls at once."""

    question: Callable[[Any], Any]
    answers: Callable[[Registry, Questions], list[Answer]]  # one for each question, in order
    plan: Plan[Any]

    def handler(
        self, registry: Registry, pool: Executor, cache: Cache | None
    ) -> Callable[[Any, Any], Awaitable[Message]]:
        """Make the method's handler, for the event loop; the reads are made in the pool."""
        read = partial(self.answers, registry)
        together: Together[Any, Answer] = Together(
            pool, read if cache is None else lambda questions: cache.through(self.plan, questions, read)
        )

        async def handle(request: Any, context: Any) -> Message:
            noted_caller(context)
            answer = await together.ask(self.question(request))
            if isinstance(answer, CqarError):
                raise answer
            return answer.message

        return handle


def resolve_key(request: pb.ResolveRequest) -> ResolveKey:
    """Give the key that a request asks for."""
    match way_of(request):
        case "symbol":
            return SymbolKey(**arguments_of(request.symbol))
        case "address":
            return AddressKey(**arguments_of(request.address))
        case "identifier":
            return SourceKey(**arguments_of(request.identifier))
        case _:
            return TickerKey(**arguments_of(request.ticker))


def _assets(registry: Registry, asset_ids: Questions) -> list[Answer]:
    def reply(found: Found[Any] | CqarError) -> Answer:
        if isinstance(found, CqarError):
            return found
        message = pb.GetAssetResponse(asset=record_to_wire(found.record), position=found.position)
        return Reply(message, (f"asset:{found.record.asset_id}",), HOUR)

    return [reply(found) for found in registry.get_assets(asset_ids)]


def _resolutions(registry: Registry, keys: Questions) -> list[Answer]:
    found = registry.resolve_many(keys)
    return [
        Reply(pb.ResolveResponse(resolution=wire.resolution_to_wire(outcome)), topics, HOUR)
        if isinstance(outcome, Resolution)
        else outcome
        for outcome, topics in zip(found.outcomes, found.topics, strict=True)
    ]


def _part(text: str) -> str:
    """Give a part of a key that others follow: "FOO:eip155" on chain "1" is not "FOO" on "eip155:1"."""
    return text.replace("%", "%25").replace(":", "%3A")


def _resolution_name(key: ResolveKey) -> str | None:
    match key:
        case SymbolKey(symbol=symbol, chain=chain):
            return None if chain == "" else f"asset:symbol:{_part(symbol)}:{chain or ''}"
        case AddressKey(chain=chain, address=address):
            return f"asset:address:{_part(chain)}:{address}"
        case _:
            return None


def _verdicts(registry: Registry, keys: Questions) -> list[Answer]:
    def reply(key: GateKey, verdict: Verdict | CqarError) -> Answer:
        if isinstance(verdict, CqarError):
            return verdict
        return Reply(_told(verdict), (f"asset:{key.asset_id.lower()}",), FIVE_MINUTES)

    return [reply(*pair) for pair in zip(keys, registry.check_many(keys), strict=True)]


def _told(verdict: Verdict) -> pb.CheckTradableResponse:
    return pb.CheckTradableResponse(
        decision=f"DECISION_{verdict.decision.name}",
        reasons=verdict.reasons,
        flags=[record_to_wire(flag) for flag in verdict.flags],
        position=verdict.position,
    )


def _flags(verdict: pb.CheckTradableResponse) -> pb.CheckTradableResponse | None:
    """Return the flags that a verdict rests on; None if it rests on more: what is no asset is looked up each time."""
    facts = pb.CheckTradableResponse(flags=verdict.flags, position=verdict.position)
    return facts if _judged(facts) == verdict else None


def _judged(facts: pb.CheckTradableResponse) -> pb.CheckTradableResponse:
    """Judge a live asset by its flags."""
    flags = tuple([record_from_wire(QualityFlag, flag) for flag in facts.flags])
    verdict = judge(
        "",
        exists=True,
        flags=flags,
        block_at=Severity.CRITICAL,
        age=0.0,
        max_age=math.inf,
        position=facts.position,
    )
    return _told(verdict)


def _meanings(registry: Registry, keys: Questions) -> list[Answer]:
    def reply(found: Found[VenueSymbol] | Meaning | CqarError) -> Answer:
        if isinstance(found, CqarError):
            return found
        message = pb.GetVenueSymbolResponse(venue_symbol=record_to_wire(found.record), position=found.position)
        if not isinstance(found, Meaning):
            return Reply(message)
        kinds: list[Any] = [enum_to_wire(kind) for kind in found.other_kinds]
        message.other_kinds.CopyFrom(pb.MarketKinds(kinds=kinds))
        topics = {f"venue_symbol:{row.venue_symbol_id}" for row in found.rows}
        topics |= {VENUES, f"ticker:{found.record.venue_id}:{found.record.symbol}"}
        return Reply(message, topics, min(HOUR, found.seconds))

    tickers = [key for key in keys if isinstance(key, TickerKey)]
    ids = [key for key in keys if not isinstance(key, TickerKey)]
    meanings = iter(registry.get_venue_symbols_now(tickers) if tickers else ())
    records = iter(registry.get_venue_symbols(ids) if ids else ())
    return [reply(next(meanings) if isinstance(key, TickerKey) else next(records)) for key in keys]


def _ticker_key(request: pb.GetVenueSymbolRequest) -> TickerKey | str:
    if way_of(request) == "ticker":
        return TickerKey(**arguments_of(request.ticker))
    return request.venue_symbol_id


def _ticker_name(key: TickerKey | str) -> str | None:
    if not isinstance(key, TickerKey):
        return None
    kind = f":{key.market_kind}" if key.market_kind else ""
    return f"venue:{_part(key.venue)}{kind}:symbol:{key.symbol}"


def _members(registry: Registry, requests: Questions) -> list[Answer]:
    def reply(request: pb.ListAssetGroupMembersRequest) -> Answer:
        try:
            found = registry.list_asset_group_members(
                request.group_id, page=PageRequest(size=request.page_size, token=request.page_token)
            )
        except CqarError as error:
            return error
        message = pb.ListAssetGroupMembersResponse(
            members=[record_to_wire(member) for member in found.records],
            next_page_token=found.next_page_token,
            position=found.position,
        )
        return Reply(message, (f"group:{request.group_id.lower()}",), HALF_HOUR)

    return [reply(request) for request in requests]


def _members_name(request: pb.ListAssetGroupMembersRequest) -> str | None:
    return None if request.page_token or request.page_size else f"group:{request.group_id.lower()}:members"


GATHERED: Final[dict[str, Gathered]] = {
    "GetAsset": Gathered(
        lambda request: request.asset_id,
        _assets,
        Plan(lambda asset_id: f"asset:id:{asset_id.lower()}", pb.GetAssetResponse),
    ),
    "ListAssetGroupMembers": Gathered(
        lambda request: request, _members, Plan(_members_name, pb.ListAssetGroupMembersResponse)
    ),
    "GetVenueSymbol": Gathered(_ticker_key, _meanings, Plan(_ticker_name, pb.GetVenueSymbolResponse)),
    "Resolve": Gathered(resolve_key, _resolutions, Plan(_resolution_name, pb.ResolveResponse, holder="resolution")),
    # A warning may be of a moment ago: the gate waits for no feed.
    "CheckTradable": Gathered(
        lambda request: GateKey(**arguments_of(request)),
        _verdicts,
        Plan(
            lambda key: f"flags:{key.asset_id.lower()}:critical" if key.block_at is Severity.CRITICAL else None,
            pb.CheckTradableResponse,
            is_strict=True,
            facts=_flags,
            told=_judged,
        ),
    ),
}
