"""What look-ups give: the chosen record with its context, its position, and what else could have been meant.

All are frozen and shared between threads and callers. Records are in `cqar.model`; how a candidate is chosen is in
`cqar.rules`.
"""

from __future__ import annotations

import enum
from typing import Literal, NoReturn, Self

import msgspec

from cqar.model import (
    Asset,
    AssetType,
    Deployment,
    FlagType,
    Group,
    GroupMember,
    MarketKind,
    QualityFlag,
    Relationship,
    RelationshipType,
    Severity,
    Venue,
    VenueSymbol,
)

Source = Literal["replica", "server"]


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One thing that a name may mean. `deployment` is None where no chain was asked for."""

    asset: Asset
    deployment: Deployment | None = None
    flags: tuple[QualityFlag, ...] = ()  # active ones, worst first
    is_canonical: bool = False  # canonical deployment of its chain's symbol, or canonical member of the symbol's group
    look_alike: bool = False  # its symbol is another one that looks the same: never the answer, always told (R18)


class Collision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A candidate that was not chosen, with what tells it apart (R2)."""

    asset_id: str
    symbol: str
    name: str
    asset_type: AssetType
    chain_id: str | None = None
    contract_address: str | None = None
    deployment_id: str | None = None
    is_canonical: bool = False
    flags: tuple[tuple[FlagType, Severity], ...] = ()  # active ones, worst first
    # R18: may be taken for another: its symbol or name looks like the answer's and is not, or it has a native asset's symbol.
    look_alike: bool = False


class Resolution(msgspec.Struct, frozen=True, gc=False):
    """The answer to "which asset is this?".

    `position` is where the answer was computed; a remembered answer is dropped by the first change that touches it, so it
    still holds at the client's present position.
    """

    asset: Asset
    deployment: Deployment | None
    flags: tuple[QualityFlag, ...]
    collisions: tuple[Collision, ...]
    position: int
    source: Source = "replica"


class Position(int):
    """The position of a write: a number, and which history it is a position of.

    `wait_for` needs all of it: after a restore the same number may be a place in another history. `log_id` and `chain` are empty
    where the server did not tell.
    """

    log_id: str
    chain: bytes

    def __new__(cls, position: int, log_id: str = "", chain: bytes = b"") -> Self:
        """Make a position in a log, proved by the chain there."""
        made = super().__new__(cls, position)
        made.log_id, made.chain = log_id, chain
        return made

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the history: writes and waits may be in different processes."""
        return (type(self), (int(self), self.log_id, self.chain))


class Decision(enum.StrEnum):
    """Whether an asset may be traded. Only ALLOW is a yes (R11)."""

    ALLOW = "ALLOW"
    BLOCK = "BLOCK"
    UNKNOWN = "UNKNOWN"


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The gate's answer with its grounds. It has no truth value: `if verdict:` would be true for BLOCK too."""

    decision: Decision
    reasons: tuple[str, ...]  # for people, worst first; empty for ALLOW
    flags: tuple[QualityFlag, ...]  # active ones, worst first, whatever their severity
    position: int
    age: float  # seconds since the data was known to be current; inf: never was

    def __bool__(self) -> NoReturn:
        """Raise TypeError: only a comparison of the decision says whether to trade."""
        raise TypeError(
            "a verdict is neither true nor false: write `verdict.decision is Decision.ALLOW`, or call require_tradable"
        )


class Variant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An asset that is derived, over one or more steps, from another."""

    asset: Asset
    path: tuple[Relationship, ...]  # from the asset that was asked for to this one, nearest first
    depth: int

    @property
    def relationship_type(self) -> RelationshipType:
        """Type of the last step."""
        return self.path[-1].relationship_type


class Ticker(VenueSymbol, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a ticker means on a venue now: the row that holds, and which other kinds of market bear the ticker.

    `other_kinds` is for those who asked without a kind, so that nobody takes the spot market for the only one; None if a server
    did not tell it, as older ones do.
    """

    other_kinds: tuple[MarketKind, ...] | None = None

    @property
    def record(self) -> VenueSymbol:
        """The row alone, as it is written and listed."""
        return VenueSymbol(**{name: getattr(self, name) for name in VenueSymbol.__struct_fields__})


def ticker_of(row: VenueSymbol, other_kinds: tuple[MarketKind, ...] | None) -> Ticker:
    """Return a row as the answer to what its ticker means."""
    return Ticker(**{name: getattr(row, name) for name in row.__struct_fields__}, other_kinds=other_kinds)


class Listing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A venue that lists an asset now, with the tickers that have it on any side: the first ones if there are very many."""

    venue: Venue
    venue_symbols: tuple[VenueSymbol, ...]
    symbol_count: int


class GroupView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A group with its members and their assets."""

    group: Group
    members: tuple[tuple[GroupMember, Asset], ...]  # canonical first, then by symbol and id

    @property
    def canonical(self) -> Asset | None:
        """The canonical member's asset, if there is one."""
        return next((asset for member, asset in self.members if member.is_canonical), None)
