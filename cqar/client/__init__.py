"""The embeddable client: which asset is it, and may it be traded, from a replica on this host.

    from cqar.client import connect

    client = connect("registry.internal:7433")
    client.resolve("USDC", chain="ethereum").deployment.decimals
    client.require_tradable(asset_id)

Importing this is cheap: asyncio, grpc, pyarrow and duckdb are loaded when they are first needed.
"""

from typing import TYPE_CHECKING, Any

from cqar.access import AuditEntry, Role, Token
from cqar.answers import (
    Candidate,
    Collision,
    Decision,
    GroupView,
    Position,
    Resolution,
    Ticker,
    Variant,
    Verdict,
)
from cqar.client._client import Client
from cqar.client._connect import connect, open_snapshot
from cqar.client._status import State, Status
from cqar.client._tls import Tls
from cqar.client._venues import VenueView
from cqar.errors import (
    AmbiguousError,
    AssetBlockedError,
    ClosedError,
    ConflictError,
    CqarError,
    InternalError,
    InvalidError,
    LimitError,
    NotFoundError,
    NotReadyError,
    PermissionDeniedError,
    PositionExpiredError,
    PreconditionError,
    SnapshotError,
    StaleError,
    TradeRefusedError,
    UnauthenticatedError,
    UnavailableError,
    VerdictUnknownError,
)
from cqar.model import (
    Asset,
    AssetType,
    Chain,
    Deployment,
    FlagType,
    Group,
    GroupMember,
    Identifier,
    MarketKind,
    QualityFlag,
    Relationship,
    RelationshipType,
    Severity,
    Venue,
    VenueSymbol,
    VenueType,
)

if TYPE_CHECKING:
    from cqar.client._async import AsyncClient, AsyncVenueView

__all__ = [
    "AmbiguousError",
    "Asset",
    "AssetBlockedError",
    "AssetType",
    "AsyncClient",
    "AsyncVenueView",
    "AuditEntry",
    "Candidate",
    "Chain",
    "Client",
    "ClosedError",
    "Collision",
    "ConflictError",
    "CqarError",
    "Decision",
    "Deployment",
    "FlagType",
    "Group",
    "GroupMember",
    "GroupView",
    "Identifier",
    "InternalError",
    "InvalidError",
    "LimitError",
    "MarketKind",
    "NotFoundError",
    "NotReadyError",
    "PermissionDeniedError",
    "Position",
    "PositionExpiredError",
    "PreconditionError",
    "QualityFlag",
    "Relationship",
    "RelationshipType",
    "Resolution",
    "Role",
    "Severity",
    "SnapshotError",
    "StaleError",
    "State",
    "Status",
    "Ticker",
    "Tls",
    "Token",
    "TradeRefusedError",
    "UnauthenticatedError",
    "UnavailableError",
    "Variant",
    "Venue",
    "VenueSymbol",
    "VenueType",
    "VenueView",
    "Verdict",
    "VerdictUnknownError",
    "connect",
    "open_snapshot",
]


def __getattr__(name: str) -> Any:
    if name in {"AsyncClient", "AsyncVenueView"}:
        from cqar.client import _async  # noqa: PLC0415

        return getattr(_async, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__]
