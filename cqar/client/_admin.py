"""What an admin does: API tokens, and the audit. One method for each RPC of `Admin`.

Every call goes to the server, and needs a token with the role ADMIN. All methods raise the errors of `cqar.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from cqar.access import AuditEntry, Role, Token
from cqar.client._checked import checked
from cqar.client._remote import Remote
from cqar.client._replies import reading
from cqar.model import Op
from cqar.rules.text import check_time
from cqar.v1 import admin_pb2 as pb
from cqar.wire import any_from_wire, enum_from_wire, time_to_wire

PAGE = 500  # audit entries a call: each may hold two records


class NewToken(msgspec.Struct, frozen=True):
    """A token just made. `secret` is what `connect(token=…)` takes; nobody can learn it again."""

    token: Token
    secret: str

    def __repr__(self) -> str:
        """Show it without the secret."""
        return f"NewToken(token={self.token!r}, secret=…)"


@checked
class Admin:
    """Tokens and audit of a server. Thread-safe."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def create_token(self, name: str, roles: Iterable[Role], *, expires_at: datetime | None = None) -> NewToken:
        """Make a token. Its name is the actor in the audit. Without `expires_at` it is good until it is revoked."""
        request = pb.CreateTokenRequest(name=name, roles=[f"ROLE_{role.name}" for role in roles])
        if expires_at is not None:
            request.expires_at.CopyFrom(time_to_wire(check_time(expires_at, "expires_at")))
        reply = self._remote.call_admin("CreateToken", request)
        return NewToken(_token(reply.token), reply.secret)

    def list_tokens(self, *, include_ended: bool = False) -> Iterator[Token]:
        """List tokens, newest first, those that were revoked or have expired only if asked for."""
        request = pb.ListTokensRequest(include_ended=include_ended, page_size=PAGE)
        for message in self._pages("ListTokens", "tokens", request):
            yield _token(message)

    def revoke_token(self, token_id: str) -> Token:
        """End a token for good; all servers refuse it within seconds. A repetition changes nothing."""
        return _token(self._remote.call_admin("RevokeToken", pb.RevokeTokenRequest(token_id=token_id)).token)

    def list_audit_entries(
        self,
        *,
        kind: str | None = None,
        key: str | None = None,
        asset_id: str | None = None,
        actor: str | None = None,
        request_id: str | None = None,
        position: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[AuditEntry]:
        """List what was written, newest first, as far as all given filters hold; `until` is exclusive.

        `asset_id` finds all that ever was about an asset: itself, its deployments, flags, relationships and so on. `key` is that
        of a record and needs its `kind`.
        """
        request = pb.ListAuditEntriesRequest(
            kind=kind,
            key=key,
            asset_id=asset_id,
            actor=actor,
            request_id=request_id,
            position=position,
            since=None if since is None else time_to_wire(check_time(since, "since")),
            until=None if until is None else time_to_wire(check_time(until, "until")),
            page_size=PAGE,
        )
        for message in self._pages("ListAuditEntries", "entries", request):
            yield _entry(message)

    def _pages(self, method: str, field: str, request: Any) -> Iterator[Any]:
        while True:
            reply = self._remote.call_admin(method, request)
            yield from getattr(reply, field)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token


_ROLES = {getattr(pb, f"ROLE_{role.name}"): role for role in Role}


def _time(message: Any, field: str) -> datetime | None:
    return getattr(message, field).ToDatetime(tzinfo=UTC) if message.HasField(field) else None


def _token(message: pb.Token) -> Token:
    return Token(
        token_id=message.token_id,
        name=message.name,
        roles=tuple([_ROLES[number] for number in message.roles if number in _ROLES]),  # a newer server may have more
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        created_by=message.created_by,
        expires_at=_time(message, "expires_at"),
        revoked_at=_time(message, "revoked_at"),
        revoked_by=message.revoked_by if message.HasField("revoked_by") else None,
        last_used_at=_time(message, "last_used_at"),
    )


@reading()
def _entry(message: pb.AuditEntry) -> AuditEntry:
    return AuditEntry(
        position=message.position,
        committed_at=message.committed_at.ToDatetime(tzinfo=UTC),
        actor=message.actor,
        request_id=message.request_id if message.HasField("request_id") else None,
        op=enum_from_wire(Op, message.op, "op"),
        kind=message.kind,
        key=message.key,
        before=any_from_wire(message.before) if message.HasField("before") else None,
        after=any_from_wire(message.after) if message.HasField("after") else None,
    )
