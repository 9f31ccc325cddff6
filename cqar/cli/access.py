"""`cqar token …` and `cqar audit`: who may use a server, and who did what.

The first token cannot come from a server that lets nobody in without one: without a target, `cqar token` works on the database
itself, the one that `cqar serve` would use with the same flags and variables.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from cqar.access import AuditEntry, Role, Token
from cqar.cli import find, output
from cqar.cli.app import Group, WrongUsageError, examples
from cqar.cli.connection import ChainName, Session, actor, with_session
from cqar.errors import ConflictError, InvalidError, UnavailableError

if TYPE_CHECKING:
    from cqar.client._admin import NewToken
    from cqar.server.tokens import Tokens

app = typer.Typer(name="token", cls=Group, help="API tokens: who may use a server, and for what.")

Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Work on this database, without a server; default without a target: CQAR_DATABASE, else the embedded one.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Work on the embedded database in this data folder, while no server runs on it (CQAR_DATA_DIR)."),
]


class _Keeper(Protocol):
    """Where tokens are made and ended: a server, or a database."""

    def create_token(self, name: str, roles: Sequence[Role], *, expires_at: datetime | None) -> NewToken: ...

    def list_tokens(self, *, include_ended: bool) -> Iterator[Token]: ...

    def revoke_token(self, token_id: str) -> Token: ...


class _OnDatabase:
    """Tokens without a server."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def create_token(self, name: str, roles: Sequence[Role], *, expires_at: datetime | None) -> NewToken:
        from cqar.client._admin import NewToken  # noqa: PLC0415

        return NewToken(*self._tokens.create(name, roles, created_by=actor(), expires_at=expires_at))

    def list_tokens(self, *, include_ended: bool) -> Iterator[Token]:
        after = None
        while found := self._tokens.page(include_ended=include_ended, after=after, limit=1000):
            yield from found
            after = found[-1].created_at, found[-1].token_id

    def revoke_token(self, token_id: str) -> Token:
        return self._tokens.revoke(token_id, revoked_by=actor())


@contextlib.contextmanager
def _keeper(session: Session, database: str | None, data_dir: Path | None) -> Iterator[_Keeper]:
    """Give the target's tokens, or, without one or where a database is named, those of the database."""
    if session.target is not None and database is None and data_dir is None:
        yield session.admin
        return
    session.target = None  # what fails now is not the server
    from cqar.cli.serve import database_error  # noqa: PLC0415
    from cqar.server.config import load, redacted  # noqa: PLC0415
    from cqar.server.postgres import EmbeddedPostgres  # noqa: PLC0415
    from cqar.server.store import Store  # noqa: PLC0415
    from cqar.server.tokens import Tokens  # noqa: PLC0415

    flags = {"database": database, "data_dir": None if data_dir is None else str(data_dir)}
    if data_dir is not None and database is None:
        flags["database"] = ""  # not the one of the environment
    config = load(flags)
    with contextlib.ExitStack() as cleanup:
        url = config.database
        if not url:
            try:
                url = cleanup.enter_context(EmbeddedPostgres(config.postgres_dir)).url
            except ConflictError as error:
                raise ConflictError(
                    f"a server runs on {config.data_dir}: ask it, with --target HOST:PORT", reason=error.reason
                ) from None
        where = redacted(url) if config.database else f"the embedded database in {config.data_dir}"
        output.note(f"no server: working on {where}")
        store = Store(url, pool_size=1)
        cleanup.callback(store.close)
        try:
            store.migrate()
            yield _OnDatabase(Tokens(store))
        except UnavailableError as error:
            raise database_error(url, error) from None


@app.command(
    epilog=examples(
        "cqar token create ops --role admin                         (the first one: on the database)",
        "cqar token create importer --role writer --role flagger --expires 90d --target localhost:7433",
        "cqar token create desk --role reader --database postgresql://cqar:secret@db/cqar",
    )
)
@with_session
def create(
    session: Session,
    *,
    name: Annotated[str, typer.Argument(help="Whose it is: the actor in the audit.", show_default=False)],
    role: Annotated[
        list[Role],
        typer.Option(case_sensitive=False, help="What it may do; can be repeated.", show_default=False),
    ],
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="90d, 12h, 2027-01-31; never if not given.")
    ] = None,
    database: Database = None,
    data_dir: DataDir = None,
) -> None:
    """Make a token and print it. It is shown this once: only a hash of it is kept.

    Roles: reader reads and follows; writer also writes all but flags; flagger reads, and raises and clears flags; approver is a
    flagger who may clear CRITICAL ones; admin may do everything.
    """
    expires_at = None if expires is None else _moment(expires, "expires", sign=1)
    with _keeper(session, database, data_dir) as keeper:
        made = keeper.create_token(name, role, expires_at=expires_at)
    if session.json:
        output.document({"token": made.token, "secret": made.secret})
        return
    output.note(f"token {made.token.token_id} of {name}, shown this once; give it to connect(token=…) or CQAR_TOKEN")
    output.line(made.secret)


@app.command("list", epilog=examples("cqar token list", "cqar token list --all --json"))
@with_session
def list_tokens(
    session: Session,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Revoked and expired ones, too.")] = False,
    database: Database = None,
    data_dir: DataDir = None,
) -> None:
    """List tokens, newest first, without their secrets."""
    with _keeper(session, database, data_dir) as keeper:
        found = list(keeper.list_tokens(include_ended=everything))
    if session.json:
        output.document(found)
        return
    if not found:
        output.note("no token")
        return
    output.table(
        ["token id", "name", "roles", "created", "by", "expires", "last used", "revoked"],
        [
            [
                each.token_id,
                each.name,
                each.roles,
                each.created_at,
                each.created_by,
                each.expires_at,
                each.last_used_at,
                each.revoked_at,
            ]
            for each in found
        ],
    )


@app.command(epilog=examples("cqar token revoke 0f3a9c1be27d4e55"))
@with_session
def revoke(
    session: Session,
    *,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the token, from `cqar token list`.")],
    database: Database = None,
    data_dir: DataDir = None,
) -> None:
    """End a token for good. All servers refuse it within seconds and end its feeds."""
    with _keeper(session, database, data_dir) as keeper:
        token = keeper.revoke_token(token_id)
    if session.json:
        output.document(token)
    else:
        output.line(f"revoked {token.token_id} of {token.name}")


@with_session
def audit(
    session: Session,
    *,
    asset: Annotated[
        str | None, typer.Option(help="All that was about an asset: symbol, id, CAIP-19; deleted: its id.")
    ] = None,
    chain: ChainName = None,
    kind: Annotated[str | None, typer.Option(help="A kind of record: asset, deployment, quality_flag, …")] = None,
    key: Annotated[str | None, typer.Option(help="Key of a record of that kind.")] = None,
    actor: Annotated[str | None, typer.Option(help="Name of the token, or of the user.")] = None,
    request: Annotated[str | None, typer.Option(metavar="ID", help="The request_id of the write.")] = None,
    position: Annotated[int | None, typer.Option(help="Of one commit.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="7d, 12h: so long ago; or 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Likewise; exclusive.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Entries at most.")] = 50,
) -> None:
    """Show who wrote what, newest first, with the values before and after."""
    if key is not None and kind is None:
        raise WrongUsageError("--key needs --kind")
    asset_id = None if asset is None else find.asset_id_on_server(session, asset, chain)
    entries = session.admin.list_audit_entries(
        kind=kind,
        key=key,
        asset_id=asset_id,
        actor=actor,
        request_id=request,
        position=position,
        since=None if since is None else _moment(since, "since", sign=-1),
        until=None if until is None else _moment(until, "until", sign=-1),
    )
    found = list(itertools.islice(entries, limit))
    if session.json:
        output.document(found)
        return
    if not found:
        output.note("no such entry")
        return
    output.table(
        ["position", "time", "actor", "kind", "key", "what"],
        [[each.position, each.committed_at, each.actor, each.kind, each.key, _what(each)] for each in found],
    )


def _what(entry: AuditEntry) -> str:
    """Tell what happened to the record: created and removed, or the fields with their values before and after."""
    if entry.before is None:
        return "created"
    if entry.after is None:
        return "removed"
    return output.difference(entry.before, entry.after)


_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def _moment(text: str, field: str, *, sign: int) -> datetime:
    """Give the time that a text means: so long from now, or, with the sign -1, ago; or a date, or a time, of UTC if no zone."""
    try:
        if match := re.fullmatch(r"(\d{1,6})([mhdw])", text):
            return datetime.now(UTC) + sign * int(match[1]) * _UNITS[match[2]]
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InvalidError(
            f"{field}: {text!r} is no time such as 90d, 12h, 30m, 2026-11-01 or 2026-11-01T12:00",
            reason="TIME",
            field=field,
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
    root.command(
        epilog=examples(
            "cqar audit --asset USDC --chain ethereum --since 7d",
            "cqar audit --kind chain --key ethereum --json",
            "cqar audit --actor importer --limit 200",
        )
    )(audit)
