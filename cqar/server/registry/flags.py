"""Quality flags, and the question that they are for: may this asset be traded?"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import msgspec

from cqar.access import Role
from cqar.answers import Verdict
from cqar.errors import ConflictError, CqarError, InvalidError, PermissionDeniedError, PreconditionError
from cqar.model import ASSET, QUALITY_FLAG, FlagType, QualityFlag, Severity
from cqar.rules.choose import worst_first
from cqar.rules.gate import BLOCK_AT, judge
from cqar.rules.records import normal
from cqar.rules.text import check_text, check_uuid
from cqar.server.registry._base import (
    FIRST_PAGE,
    NOBODY,
    Answer,
    Base,
    Page,
    PageRequest,
    attempted,
    require_fresh_id,
    require_known_asset,
    required_for_update,
    writes,
)
from cqar.server.transaction import Tx


class GateKey(msgspec.Struct, frozen=True):
    """A question to the gate."""

    asset_id: str
    block_at: Severity = BLOCK_AT


class Flags(Base):
    """The operations on quality flags, and the gate."""

    # The store finds a conflict only if another writer raised it meanwhile: then it is to be updated.
    @writes(ConflictError)
    def raise_quality_flag(self, tx: Tx, flag: QualityFlag) -> Answer[QualityFlag]:
        """Raise a flag, or update the active one of the same asset, type and source (R10).

        Raises InvalidError, NotFoundError, and PermissionDeniedError if it lowers a CRITICAL one without an approver.
        """
        if flag.cleared_by or flag.cleared_at or flag.clear_reason:
            raise InvalidError("cleared_at: a flag is cleared by resolving it", reason="CLEARED", field="cleared_at")
        flag = normal(flag)
        if not flag.reason:
            raise InvalidError("reason: required", reason="REQUIRED", field="reason")
        active = tx.find_for_update(
            QUALITY_FLAG, asset_id=flag.asset_id, flag_type=flag.flag_type, source=flag.source, cleared_at=None
        )
        if active:
            after = raised_again(tx, active[0], flag)
            return Answer(record=active[0] if after == active[0] else tx.put(after))
        require_fresh_id(tx, QUALITY_FLAG, flag)
        return Answer(record=tx.put(first_raised(tx, flag)))

    @writes()
    def resolve_quality_flag(
        self, tx: Tx, flag_id: str, *, cleared_by: str = "", clear_reason: str = ""
    ) -> Answer[QualityFlag]:
        """Clear a flag, which is kept; without `cleared_by` the caller did it.

        Raises InvalidError if nobody says who or why, NotFoundError, PreconditionError if it is cleared already, and
        PermissionDeniedError if it is CRITICAL and the caller is no approver.
        """
        reason = check_text(clear_reason, "clear_reason", 2000)
        if not reason:
            raise InvalidError("clear_reason: required", reason="REQUIRED", field="clear_reason")
        who = check_text(cleared_by, "cleared_by", 128) or (tx.actor if tx.actor != NOBODY else "")
        if not who:
            raise InvalidError("cleared_by: required of a caller without a name", reason="REQUIRED", field="cleared_by")
        flag = required_for_update(tx, QUALITY_FLAG, flag_id, "flag_id")
        if not flag.is_active:
            raise PreconditionError(
                f"flag {flag.flag_id} was cleared already, by {flag.cleared_by}",
                reason="ALREADY_CLEARED",
                flag_id=flag.flag_id,
            )
        if flag.severity is Severity.CRITICAL:
            require_role(tx, Role.APPROVER, "clearing a CRITICAL flag")
        cleared = msgspec.structs.replace(
            flag,
            cleared_by=who,
            cleared_at=tx.now,
            clear_reason=reason,
        )
        return Answer(record=tx.put(cleared))

    def get_quality_flag(self, flag_id: str) -> Answer[QualityFlag]:
        """Give a flag by its id, active or cleared; raises NotFoundError."""
        return self._get(QUALITY_FLAG, flag_id, "flag_id")

    def list_quality_flags(
        self,
        *,
        asset_id: str | None = None,
        flag_type: FlagType | None = None,
        source: str | None = None,
        min_severity: Severity | None = None,
        include_resolved: bool = False,
        page: PageRequest = FIRST_PAGE,
    ) -> Page[QualityFlag]:
        """List flags by asset, also one that is deleted, by type, source and severity, which means "at least"."""
        with self._store.view() as view:
            filters = {
                "asset_id": require_known_asset(view, asset_id),
                "flag_type": flag_type,
                "source": None if source is None else source.strip().lower(),
                "min_severity": min_severity,
                "is_active": None if include_resolved else True,
            }
            found = self._page("list_quality_flags", QUALITY_FLAG, page, view, filters)
            return msgspec.structs.replace(found, position=view.position)

    def check_tradable(self, asset_id: str, *, block_at: Severity = BLOCK_AT) -> Verdict:
        """Tell whether an asset may be traded; what the server says is never stale (R11)."""
        (verdict,) = self.check_many([GateKey(asset_id, block_at)])
        if isinstance(verdict, CqarError):
            raise verdict
        return verdict

    def check_many(self, keys: Sequence[GateKey]) -> list[Verdict | CqarError]:
        """Tell of several assets whether they may be traded, or give the error in its place; all at one position."""
        asset_ids = [attempted(partial(check_uuid, field="asset_id"), key.asset_id) for key in keys]
        valid = list({asset_id for asset_id in asset_ids if isinstance(asset_id, str)})
        with self._store.view() as view:
            live = view.live(ASSET, valid)
            missing = set(valid) - live
            deleted = view.used(ASSET, missing) if missing else set()
            flags: dict[str, list[QualityFlag]] = defaultdict(list)
            for flag in view.find(QUALITY_FLAG, asset_id=valid, is_active=True):
                flags[flag.asset_id].append(flag)
            position = view.position

        def verdict(asset_id: str, block_at: Severity) -> Verdict:
            return judge(
                asset_id,
                exists=asset_id in live,
                deleted=asset_id in deleted,
                flags=worst_first(flags[asset_id]),
                block_at=block_at,
                age=0.0,
                max_age=math.inf,
                position=position,
            )

        return [
            asset_id if isinstance(asset_id, CqarError) else verdict(asset_id, key.block_at)
            for asset_id, key in zip(asset_ids, keys, strict=True)
        ]


def require_role(tx: Tx, role: Role, what: str) -> None:
    """Raise PermissionDeniedError unless the caller has the role."""
    if role not in tx.roles:
        raise PermissionDeniedError(f"{what} needs the role {role}", reason="ROLE_NEEDED", role=role)


def first_raised(tx: Tx, flag: QualityFlag) -> QualityFlag:
    """Fill in who raised a new flag, and when."""
    return msgspec.structs.replace(flag, raised_by=flag.raised_by or tx.actor, raised_at=flag.raised_at or tx.now)


def raised_again(tx: Tx, active: QualityFlag, flag: QualityFlag) -> QualityFlag:
    """Give the active flag with what the later one says; who raised it first, and when, stays.

    To lower a CRITICAL one is as good as to clear it, and needs the same right: PermissionDeniedError.
    """
    if active.severity is Severity.CRITICAL and flag.severity < Severity.CRITICAL:
        require_role(tx, Role.APPROVER, "lowering the severity of a CRITICAL flag")
    return msgspec.structs.replace(
        active,
        severity=flag.severity,
        reason=flag.reason,
        evidence_url=flag.evidence_url,
        provenance=flag.provenance or active.provenance,
    )
