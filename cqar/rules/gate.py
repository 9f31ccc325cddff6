"""May this asset be traded? (R11) The gate fails closed: only ALLOW is a yes, and no setting turns UNKNOWN into ALLOW."""

from __future__ import annotations

from cqar.answers import Decision, Verdict
from cqar.errors import AssetBlockedError, VerdictUnknownError
from cqar.model import QualityFlag, Severity
from cqar.rules.text import shown

MAX_AGE = 15.0  # seconds (R11)
BLOCK_AT = Severity.CRITICAL  # (R11)


def judge(
    asset_id: str,
    *,
    exists: bool,
    flags: tuple[QualityFlag, ...],
    block_at: Severity,
    age: float,
    max_age: float,
    position: int,
    deleted: bool = False,
    doubt: str | None = None,
) -> Verdict:
    """Decide from what is known locally.

    `flags` are the active ones, worst first; `age` and `max_age` are in seconds; `doubt` is another reason why what is known of
    the asset may not be all; `deleted` says that the asset is known to have been one. A known block stays a block however old
    it is: age can only add doubt, never remove a warning. A flag that this version cannot read whole is a doubt.
    """
    blocking = [flag for flag in flags if flag.severity >= block_at and flag.is_whole]
    if not all(flag.is_whole for flag in flags):
        doubt = doubt or "a quality flag of the asset could not be read: upgrade cqar"
    decision = Decision.ALLOW
    reasons: tuple[str, ...] = ()
    if blocking:
        decision = Decision.BLOCK
        reasons = tuple([f"{f.flag_type} ({f.severity.name}) by {f.source}: {f.reason}" for f in blocking])
    elif deleted:
        decision, reasons = Decision.BLOCK, ("the asset was deleted",)
    elif doubt:
        decision, reasons = Decision.UNKNOWN, (doubt,)
    elif not exists:
        decision, reasons = Decision.UNKNOWN, (f"no live asset {asset_id}",)
    elif not age <= max_age:  # also when age is NaN
        decision, reasons = Decision.UNKNOWN, (f"the data is {age:.1f} s old, {max_age:g} s are allowed",)
    return Verdict(decision=decision, reasons=reasons, flags=flags, position=position, age=age)


def require(asset_id: str, verdict: Verdict) -> None:
    """Raise unless the verdict is ALLOW: AssetBlockedError for BLOCK, VerdictUnknownError for all else."""
    if verdict.decision is Decision.ALLOW:
        return
    kind = AssetBlockedError if verdict.decision is Decision.BLOCK else VerdictUnknownError
    named = asset_id if isinstance(asset_id, str) else shown(asset_id)
    raise kind(f"{named}: {'; '.join(verdict.reasons)}", verdict=verdict, asset_id=named)
