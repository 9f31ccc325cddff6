"""`cqar database …`: is a database whole, and what is its history called? For backups, restores and promoted standbys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cqar.cli import output
from cqar.cli.app import FAILED, Group, examples
from cqar.cli.serve import Database, database_error
from cqar.errors import PreconditionError, UnavailableError

if TYPE_CHECKING:
    from cqar.server.store import Store

app = typer.Typer(
    name="database", cls=Group, help="The database itself: check it, and rename the log of a restored one."
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_SHOWN = 5  # sessions to name


@app.command(
    epilog=examples(
        "cqar database check --database postgresql://cqar:secret@db/cqar",
        "cqar database check --against backup.json --database postgresql://cqar@db2/cqar   (is what was restored what was dumped?)",
    )
)
def check(
    database: Database,
    against: Annotated[
        Path | None, typer.Option(metavar="MANIFEST", help="Compare with the manifest of a backup as well.")
    ] = None,
    json: Json = False,
) -> None:
    """Check that the change log is whole and the clock agrees with it. Changes nothing; reads all of the log.

    Exit code 1 if something is wrong.
    """
    from cqar.server.inspection import inspect, load_manifest  # noqa: PLC0415

    manifest = None if against is None else load_manifest(against)
    with _store(database) as store:
        found = inspect(store, manifest)
    if json:
        output.document(found)
    else:
        output.facts([("log", found.log_id), ("position", found.position), ("oldest batch", found.oldest)])
        output.table(["table", "rows"], [[name, count] for name, count in found.rows.items()])
    for fault in found.faults:
        output.error(fault)
    if found.faults:
        raise typer.Exit(FAILED)


@app.command(
    "new-log",
    epilog=examples(
        "cqar database new-log --database postgresql://cqar@db2/cqar         (after a restore, before a server starts)",
        "cqar database new-log --yes --database postgresql://cqar@db2/cqar   (servers run: after a promotion)",
    ),
)
def new_log(
    database: Database,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Even if servers are connected: they go on with it.")
    ] = False,
    json: Json = False,
) -> None:
    """Give the log of a restored or promoted database a new id, so that nothing known of the old one is mixed in.

    Positions may have been used twice: by writes that the restored database has lost, and by those that come now. Every replica
    loads everything anew, once, and answers from what it has until then. The records and positions stay as they are.
    """
    with _store(database) as store:
        others = [] if yes else store.sessions()
        if others:
            names = ", ".join([f"{name} ({address})" for name, address in others[:_SHOWN]])
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            raise PreconditionError(
                f"this database is in use by {names}{more}: is it the right one? All clients would load everything anew;"
                " stop the servers first, or say --yes",
                reason="IN_USE",
            )
        before, after = store.new_log()
    if json:
        output.document({"before": before.log_id, "after": after.log_id, "position": after.position})
    else:
        output.line(f"the log {before.log_id} is {after.log_id} from now on, at position {after.position}")


@contextlib.contextmanager
def _store(database: str) -> Iterator[Store]:
    from cqar.server.store import Store  # noqa: PLC0415

    store = Store(database, pool_size=1)
    try:
        yield store
    except UnavailableError as error:
        raise database_error(database, error) from None
    finally:
        store.close()


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
