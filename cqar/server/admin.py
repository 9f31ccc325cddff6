"""The gRPC service `Admin`: API tokens, and the audit. That only admins call it, `rights` says and `auth` sees to."""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from cqar import model, wire
from cqar.access import AuditEntry, Role, Token
from cqar.errors import InvalidError
from cqar.rules.text import check_text, check_uuid
from cqar.server import audit
from cqar.server.auth import caller_of
from cqar.server.registry import PageRequest
from cqar.server.registry._base import make_token, page_size, read_token
from cqar.server.store import Store
from cqar.server.tokens import Tokens
from cqar.v1 import admin_pb2 as pb

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Admin"]


class Admin:
    """Answers admins. All methods block: they run in the server's thread pool."""

    def __init__(self, store: Store, *, on_change: Callable[[], None]) -> None:
        """`on_change` is called when a token was made or revoked; the reply waits for it."""
        self._store = store
        self._tokens = Tokens(store)
        self._changed = on_change

    def create_token(self, request: pb.CreateTokenRequest, context: Any) -> pb.CreateTokenResponse:
        """Make a token; its secret is in this reply only."""
        token, secret = self._tokens.create(
            request.name,
            [_role(number) for number in request.roles],
            created_by=caller_of(context).actor,
            expires_at=_time(request, "expires_at"),
        )
        self._changed()
        return pb.CreateTokenResponse(token=_token_to_wire(token), secret=secret)

    def list_tokens(self, request: pb.ListTokensRequest, _context: object) -> pb.ListTokensResponse:
        """List tokens, newest first."""
        filters = {"include_ended": request.include_ended}
        asked = PageRequest(size=request.page_size, token=request.page_token)
        size = page_size(asked)
        after = read_token(asked.token, tuple[datetime, str], "list_tokens", filters)
        found = self._tokens.page(include_ended=request.include_ended, after=after, limit=size + 1)
        more = len(found) > size
        return pb.ListTokensResponse(
            tokens=[_token_to_wire(token) for token in found[:size]],
            next_page_token=(
                make_token((found[size - 1].created_at, found[size - 1].token_id), "list_tokens", filters)
                if more
                else ""
            ),
        )

    def revoke_token(self, request: pb.RevokeTokenRequest, context: Any) -> pb.RevokeTokenResponse:
        """End a token for good."""
        token = self._tokens.revoke(check_text(request.token_id, "token_id", 128), revoked_by=caller_of(context).actor)
        self._changed()
        return pb.RevokeTokenResponse(token=_token_to_wire(token))

    def list_audit_entries(self, request: pb.ListAuditEntriesRequest, _context: object) -> pb.ListAuditEntriesResponse:
        """List what was written, newest first."""
        question = _question(request)
        filters = {name: value for name in question.__struct_fields__ if (value := getattr(question, name)) is not None}
        asked = PageRequest(size=request.page_size, token=request.page_token)
        size = page_size(asked)
        after = read_token(asked.token, tuple[int, int], "list_audit_entries", filters)
        found = audit.entries(self._store, question, after=after, limit=size + 1)
        more = len(found) > size
        return pb.ListAuditEntriesResponse(
            entries=[_entry_to_wire(entry) for _, entry in found[:size]],
            next_page_token=make_token(found[size - 1][0], "list_audit_entries", filters) if more else "",
        )


def add_admin(server: grpc.aio.Server, service: Admin) -> None:
    """Register the service with a server, which must have the interceptors of `rpc` and `auth`."""
    served: dict[str, Callable[[Any, Any], Message]] = {
        "CreateToken": service.create_token,
        "ListTokens": service.list_tokens,
        "RevokeToken": service.revoke_token,
        "ListAuditEntries": service.list_audit_entries,
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            handler,
            request_deserializer=_message_class(_SERVICE.methods_by_name[name].input_type).FromString,
            response_serializer=_message_class(_SERVICE.methods_by_name[name].output_type).SerializeToString,
        )
        for name, handler in served.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),))


def _message_class(descriptor: Any) -> type[Any]:
    return typing.cast("type[Any]", getattr(pb, descriptor.name))


# --- messages ------------------------------------------------------------------------------------------------------------


def _role(number: int) -> Role:
    roles = {getattr(pb, f"ROLE_{role.name}"): role for role in Role}
    if number not in roles:
        known = ", ".join([role.name for role in Role])
        raise InvalidError(f"roles: not a known value ({number}); give some of {known}", reason="ENUM", field="roles")
    return roles[number]


def _time(request: Any, field: str) -> datetime | None:
    return wire.time_from_wire(getattr(request, field), field) if request.HasField(field) else None


def _question(request: pb.ListAuditEntriesRequest) -> audit.Question:
    """Give the filters; InvalidError for one that can match nothing by its form."""

    def given(name: str) -> str | None:
        return check_text(getattr(request, name), name, 512) if request.HasField(name) else None

    kind, key, asset_id = given("kind"), given("key"), given("asset_id")
    if kind is not None and kind not in model.KINDS:
        raise InvalidError(f"kind: give one of {', '.join(model.KINDS)}", reason="ENUM", field="kind")
    if key is not None and kind is None:
        raise InvalidError("kind: required with a key", reason="REQUIRED", field="kind")
    return audit.Question(
        kind=kind,
        key=key,
        asset_id=None if asset_id is None else check_uuid(asset_id, "asset_id"),
        actor=given("actor"),
        request_id=given("request_id"),
        position=request.position if request.HasField("position") else None,
        since=_time(request, "since"),
        until=_time(request, "until"),
    )


def _token_to_wire(token: Token) -> pb.Token:
    message = pb.Token(
        token_id=token.token_id,
        name=token.name,
        roles=[f"ROLE_{role.name}" for role in token.roles],
        created_by=token.created_by,
        revoked_by=token.revoked_by,
    )
    for name in ("created_at", "expires_at", "revoked_at", "last_used_at"):
        moment = getattr(token, name)
        if moment is not None:
            getattr(message, name).CopyFrom(wire.time_to_wire(moment))
    return message


def _entry_to_wire(entry: AuditEntry) -> pb.AuditEntry:
    message = pb.AuditEntry(
        position=entry.position,
        committed_at=wire.time_to_wire(entry.committed_at),
        actor=entry.actor,
        request_id=entry.request_id,
        op=f"OP_{entry.op.name}",
        kind=entry.kind,
        key=entry.key,
    )
    if entry.before is not None:
        wire.any_to_wire(entry.before, message.before)
    if entry.after is not None:
        wire.any_to_wire(entry.after, message.after)
    return message
