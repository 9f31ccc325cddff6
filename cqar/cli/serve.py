"""`cqar serve` and `cqar migrate`: the write authority.

The flags of `serve` are made from the settings in `cqar.server.config`, so that none can be forgotten here.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cqar.cli import output
from cqar.cli.app import FAILED, examples
from cqar.errors import UnavailableError
from cqar.server.config import CONFIG_FILE, Field, database_host, fields, load, redacted

Database = Annotated[
    str, typer.Option(envvar="CQAR_DATABASE", metavar="URL", help="postgresql://user:password@host/name")
]


def serve(**flags: Any) -> None:
    """Run a server, on a PostgreSQL of its own unless a database is given.

    It runs until Ctrl-C or SIGTERM. A setting is taken from its flag, else from its CQAR_… variable, else from the TOML
    file, else it has its default.
    """
    file = flags.pop("config")
    config = load({name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}, file=file)
    from cqar.server.server import serve as run  # noqa: PLC0415 - a wrong flag should not wait for its imports

    run(config)


def _parameter(setting: Field) -> inspect.Parameter:
    """Describe the flag of a setting; None means that it is not given."""
    kind: Any = Literal.__getitem__(setting.type) if isinstance(setting.type, tuple) else setting.type
    negation = f"/--no-{setting.flag[2:]}" if setting.type is bool else ""
    default = "none" if setting.default in {"", None} else str(setting.default)
    text = f"{setting.help} (env {setting.variable}, default {default})".replace("[", "\\[")
    option = typer.Option(f"{setting.flag}{negation}", help=text, show_default=False, show_envvar=False)
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _with_flags() -> None:
    config = inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None,
            typer.Option("--config", metavar="FILE", help=f"TOML file of these settings (env {CONFIG_FILE})."),
        ],
    )
    parameters = [config, *map(_parameter, fields())]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {each.name: each.annotation for each in parameters}


_with_flags()


def migrate(
    database: Database,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 if the schema is older than this version.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Bring a database's schema up to this version.

    `cqar serve` does so at every start, unless --no-migrate tells it to wait for this command.
    """
    from cqar.server.store import Store  # noqa: PLC0415

    store = Store(database, pool_size=1)
    try:
        schema = store.schema() if check else store.migrate()
        head = store.head() if schema.is_current or not check else None
    except UnavailableError as error:
        raise database_error(database, error) from None
    finally:
        store.close()
    name, found = redacted(database), schema.found or "none"
    if json:
        state = {"database": name, "found": schema.found, "wanted": schema.wanted, "current": head is not None}
        output.document(state | ({"log_id": head.log_id, "position": head.position} if head else {}))
    elif head is None:
        output.line(f"{name}: the schema is {found}, this version needs {schema.wanted}; run `cqar migrate`")
    else:
        done = "is up to date" if schema.is_current else f"was brought from {found} to {schema.wanted}"
        output.line(f"{name}: the schema {done} (log {head.log_id}, position {head.position})")
    if head is None:
        raise typer.Exit(FAILED)


def database_error(database: str, error: UnavailableError) -> UnavailableError:
    """Say which database does not answer, without a password."""
    return UnavailableError(
        f"{database_host(database)}: {error.message}; is PostgreSQL running there, and is the URL right?",
        reason=error.reason,
        **error.metadata,
    )


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.command(
        epilog=examples(
            "cqar serve",
            "cqar serve --listen 0.0.0.0:7433 --data-dir /srv/cqar",
            "CQAR_DATABASE=postgresql://cqar:secret@db/cqar cqar serve --config /etc/cqar.toml",
        )
    )(serve)
    root.command(epilog=examples("cqar migrate --database postgresql://cqar:secret@db/cqar"))(migrate)
