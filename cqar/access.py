"""Who may do what, and who did it: roles, API tokens, and the entries of the audit.

The secret of a token is in none of these values: its owner has it, and the server keeps a hash. Which method needs which
role stands in `cqar.server.rights`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from cqar.model import Op, Record


class Role(enum.StrEnum):
    """A right that a token has; some bring others along."""

    READER = "reader"  # read everything but tokens and audit, and follow the feed
    WRITER = "writer"  # write everything but flags; reads
    FLAGGER = "flagger"  # raise and clear flags; reads
    APPROVER = "approver"  # clear a CRITICAL flag, or lower its severity; a flagger besides
    ADMIN = "admin"  # everything, tokens and audit included


_BRINGS: Final[Mapping[Role, frozenset[Role]]] = {
    Role.READER: frozenset(),
    Role.WRITER: frozenset({Role.READER}),
    Role.FLAGGER: frozenset({Role.READER}),
    Role.APPROVER: frozenset({Role.FLAGGER, Role.READER}),
    Role.ADMIN: frozenset(Role),
}
EVERY_ROLE: Final = frozenset(Role)


def with_implied(roles: Iterable[Role]) -> frozenset[Role]:
    """Give the roles and all that they bring along."""
    return frozenset([each for role in roles for each in (role, *_BRINGS[role])])


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An API token, without its secret. Its name is the actor in the audit. It has ended when revoked or expired."""

    token_id: str
    name: str
    roles: tuple[Role, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    last_used_at: datetime | None = None  # to about a minute

    def has_ended(self, now: datetime) -> bool:
        """Tell whether it is refused."""
        return self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= now)


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One record written or removed: by whom, when, and what it was before and after."""

    position: int
    committed_at: datetime
    actor: str
    request_id: str | None
    op: Op
    kind: str
    key: str
    before: Record | None  # None: it was not there
    after: Record | None  # None: it was removed
