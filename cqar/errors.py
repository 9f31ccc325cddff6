"""Every error that CQAR raises, on the server, on the wire and in the client.

CqarError
├── InvalidError            an argument breaks a rule             INVALID_ARGUMENT
├── NotFoundError           no such live record                   NOT_FOUND
├── ConflictError           the record exists already             ALREADY_EXISTS
├── PreconditionError       the registry's state forbids it       FAILED_PRECONDITION
│   └── AmbiguousError      several candidates, none to prefer    FAILED_PRECONDITION
├── StaleError              somebody wrote in between             ABORTED
├── PositionExpiredError    the feed cannot continue from here    OUT_OF_RANGE
├── UnauthenticatedError    no or a wrong token                   UNAUTHENTICATED
├── PermissionDeniedError   the token lacks the right             PERMISSION_DENIED
├── LimitError              too large, or too many at once        RESOURCE_EXHAUSTED
├── UnavailableError        server or database cannot be reached  UNAVAILABLE
│   ├── NotReadyError       the client has no data yet            UNAVAILABLE
│   └── ClosedError         the client was closed                 UNAVAILABLE
├── SnapshotError           a snapshot is missing or damaged      DATA_LOSS
├── InternalError           a defect of CQAR                      INTERNAL
└── TradeRefusedError       the gate did not say ALLOW            FAILED_PRECONDITION
    ├── AssetBlockedError   it said BLOCK
    └── VerdictUnknownError it said UNKNOWN

An error carries a machine-readable `reason` in UPPER_SNAKE and string `metadata` for every variable in its message
(AIP-193), so that callers test attributes, never text. `wire` maps these classes to gRPC status codes, both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from cqar.answers import Collision, Verdict


class CqarError(Exception):
    """Something that CQAR was asked for cannot be done."""

    default_reason: ClassVar[str] = "ERROR"

    def __init__(self, message: str | None = None, *, reason: str | None = None, **metadata: object) -> None:
        """Store the message (default: the class docstring's first line), the reason and the variables as strings."""
        super().__init__(message or (self.__doc__ or "").partition("\n")[0])
        self.reason = reason or self.default_reason
        self.metadata: dict[str, str] = {name: str(value) for name, value in metadata.items() if value is not None}

    @property
    def message(self) -> str:
        """The text for people."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with all attributes: errors cross process pools."""
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


def _rebuild(kind: type[CqarError], message: str, attributes: dict[str, object]) -> CqarError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(attributes)
    return error


class InvalidError(CqarError):
    """An argument breaks a rule."""

    default_reason = "INVALID"

    @property
    def field(self) -> str | None:
        """Name of the argument at fault, if one is."""
        return self.metadata.get("field")


class NotFoundError(CqarError):
    """No such live record. `look_alikes` are assets whose symbol merely looks like the one that was asked for."""

    default_reason = "NOT_FOUND"

    def __init__(
        self,
        message: str | None = None,
        *,
        look_alikes: tuple[Collision, ...] = (),
        reason: str | None = None,
        **metadata: object,
    ) -> None:
        """Keep the look-alikes beside the usual attributes."""
        super().__init__(message, reason=reason, **metadata)
        self.look_alikes = look_alikes


class ConflictError(CqarError):
    """The record exists already."""

    default_reason = "ALREADY_EXISTS"

    @property
    def existing_id(self) -> str | None:
        """Key of the record that is in the way, if it is known."""
        return self.metadata.get("existing_id")


class PreconditionError(CqarError):
    """The state of the registry forbids it."""

    default_reason = "FAILED_PRECONDITION"


class AmbiguousError(PreconditionError):
    """Several candidates match and no rule prefers one; `candidates` tells them apart."""

    default_reason = "AMBIGUOUS"

    def __init__(
        self,
        message: str | None = None,
        *,
        candidates: tuple[Collision, ...] = (),
        reason: str | None = None,
        **metadata: object,
    ) -> None:
        """Keep the candidates beside the usual attributes."""
        super().__init__(message, reason=reason, **metadata)
        self.candidates = candidates


class StaleError(CqarError):
    """The record was written after the position that the caller expected."""

    default_reason = "STALE"


class PositionExpiredError(CqarError):
    """The feed cannot continue from this token; load a snapshot."""

    default_reason = "POSITION_EXPIRED"


class UnauthenticatedError(CqarError):
    """The call carries no valid token."""

    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(CqarError):
    """The token lacks the right for this call."""

    default_reason = "PERMISSION_DENIED"


class LimitError(CqarError):
    """The request is too large, or there are too many at once."""

    default_reason = "LIMIT"


class UnavailableError(CqarError):
    """The server or its database cannot be reached."""

    default_reason = "UNAVAILABLE"


class NotReadyError(UnavailableError):
    """The client has no data yet and no server to ask."""

    default_reason = "NOT_READY"


class ClosedError(UnavailableError):
    """The client is closed; make another one."""

    default_reason = "CLOSED"


class SnapshotError(CqarError):
    """A snapshot is missing, damaged or of an unknown format."""

    default_reason = "SNAPSHOT"


class InternalError(CqarError):
    """CQAR itself failed; the server's log has the details."""

    default_reason = "INTERNAL"


class TradeRefusedError(CqarError):
    """The trade check did not say ALLOW; `verdict` has the reasons."""

    default_reason = "TRADE_REFUSED"

    def __init__(
        self,
        message: str | None = None,
        *,
        verdict: Verdict | None = None,
        reason: str | None = None,
        **metadata: object,
    ) -> None:
        """Keep the verdict beside the usual attributes."""
        super().__init__(message, reason=reason, **metadata)
        self.verdict = verdict


class AssetBlockedError(TradeRefusedError):
    """The asset must not be traded."""

    default_reason = "ASSET_BLOCKED"


class VerdictUnknownError(TradeRefusedError):
    """Whether the asset may be traded cannot be told now."""

    default_reason = "VERDICT_UNKNOWN"
