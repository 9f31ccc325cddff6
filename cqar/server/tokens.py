"""API tokens in the database: made, listed, revoked, and read as a whole for the guard of `auth`.

A token is `cqar_<id>_<secret>`, a form that secret scanners can find; the id is no secret. Of the secret only the hash is
stored. It is a plain SHA-256, which would be wrong for a password: a slow, salted hash protects what people choose and others
can guess. These secrets are 256 random bits, which nobody guesses at any speed, and each call has to be checked in microseconds.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Row, insert, or_, select, tuple_, update

from cqar.access import Role, Token
from cqar.errors import InvalidError, NotFoundError
from cqar.rules.text import check_text, check_time
from cqar.server.schema import API_TOKENS
from cqar.server.store import Store

USE_NOTED: Final = timedelta(minutes=1)  # how exact `last_used_at` is
_FORM: Final = re.compile(r"cqar_([0-9a-f]{16})_([0-9a-f]{64})")
_TOKENS: Final = API_TOKENS.c
_FIELDS: Final = [_TOKENS[name] for name in Token.__struct_fields__]

Place = tuple[datetime, str]  # in the list: when it was made, and its id


class Known(NamedTuple):
    """A token as the guard knows it: with the hash of its secret, which appears nowhere else."""

    token: Token
    digest: bytes

    def __repr__(self) -> str:
        """Show it without the hash."""
        return f"Known({self.token!r})"


def parse(text: str) -> tuple[str, bytes] | None:
    """Give a token's id and the hash of its secret; None for what is no token."""
    match = _FORM.fullmatch(text)
    return None if match is None else (match[1], _digest(match[2]))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Tokens:
    """The tokens of one database. Thread-safe; all methods block, and raise UnavailableError if the database fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self, name: str, roles: Iterable[Role], *, created_by: str, expires_at: datetime | None = None
    ) -> tuple[Token, str]:
        """Make a token; give it and its secret text, which nobody can learn again. Raises InvalidError."""
        name = check_text(name, "name", 128)
        if not name:
            raise InvalidError("name: required", reason="REQUIRED", field="name")
        given = frozenset(roles)
        if not given:
            raise InvalidError(f"roles: required; give some of {', '.join(Role)}", reason="REQUIRED", field="roles")
        now = self._store.now()
        if expires_at is not None:
            expires_at = check_time(expires_at, "expires_at")
            if expires_at <= now:
                raise InvalidError("expires_at: must be in the future", reason="TIME_RANGE", field="expires_at")
        token = Token(
            token_id=secrets.token_hex(8),
            name=name,
            roles=tuple([role for role in Role if role in given]),
            created_at=now,
            created_by=created_by,
            expires_at=expires_at,
        )
        secret = secrets.token_hex(32)
        values = {name: getattr(token, name) for name in token.__struct_fields__}
        with self._store.connection() as connection:
            connection.execute(insert(API_TOKENS), {**values, "roles": list(token.roles), "hash": _digest(secret)})
        return token, f"cqar_{token.token_id}_{secret}"

    def revoke(self, token_id: str, *, revoked_by: str) -> Token:
        """End a token for good; one that is revoked already stays as it is. Raises NotFoundError."""
        now = self._store.now()
        ending = update(API_TOKENS).where(_TOKENS.token_id == token_id, _TOKENS.revoked_at.is_(None))
        with self._store.connection() as connection:
            connection.execute(ending, {"revoked_at": now, "revoked_by": revoked_by})
            row = connection.execute(select(*_FIELDS).where(_TOKENS.token_id == token_id)).one_or_none()
        if row is None:
            raise NotFoundError(
                f"token_id: no token {token_id!r}; see cqar token list", reason="TOKEN_NOT_FOUND", field="token_id"
            )
        return _token(row)

    def page(self, *, include_ended: bool, after: Place | None, limit: int) -> list[Token]:
        """List up to `limit` tokens, newest first, from the one behind `after` on."""
        conditions: list[ColumnElement[bool]] = []
        if not include_ended:
            alive = or_(_TOKENS.expires_at.is_(None), _TOKENS.expires_at > self._store.now())
            conditions += [_TOKENS.revoked_at.is_(None), alive]
        if after is not None:
            conditions.append(tuple_(_TOKENS.created_at, _TOKENS.token_id) < tuple_(*after))
        order = (_TOKENS.created_at.desc(), _TOKENS.token_id.desc())
        with self._store.connection() as connection:
            rows = connection.execute(select(*_FIELDS).where(*conditions).order_by(*order).limit(limit)).all()
        return [_token(row) for row in rows]

    def known(self, used: Iterable[str] = ()) -> dict[str, Known]:
        """Give all tokens that ever were, by id, after noting which were used lately."""
        used, now = list(used), self._store.now()
        with self._store.connection() as connection:
            if used:
                unnoted = or_(_TOKENS.last_used_at.is_(None), _TOKENS.last_used_at < now - USE_NOTED)
                connection.execute(update(API_TOKENS).where(_TOKENS.token_id.in_(used), unnoted), {"last_used_at": now})
            rows = connection.execute(select(*_FIELDS, _TOKENS.hash)).all()
        return {row.token_id: Known(_token(row), bytes(row.hash)) for row in rows}


def _token(row: Row[*tuple[Any, ...]]) -> Token:
    values = {name: getattr(row, name) for name in Token.__struct_fields__}
    return Token(**{**values, "roles": tuple(map(Role, values["roles"]))})
