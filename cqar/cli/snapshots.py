"""`cqar snapshot …`: publish, list, verify and prune snapshots in a folder or on object storage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cqar.cli import output
from cqar.cli.app import FAILED, Group, WrongUsageError, examples
from cqar.cli.serve import database_error
from cqar.errors import ConflictError, SnapshotError, UnavailableError

if TYPE_CHECKING:
    from cqar.server.store import Store
    from cqar.snapshot import Snapshot
    from cqar.storage import Storage

app = typer.Typer(name="snapshot", cls=Group, help="Snapshots: the whole registry at one position, as Parquet files.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Place = Annotated[
    str | None,
    typer.Argument(
        envvar="CQAR_SNAPSHOTS",
        metavar="[FOLDER|URI]",
        help="Folder of snapshots, or s3://bucket/prefix?region=…, gs://…; default: that of the server on this machine.",
        show_default=False,
    ),
]


def _storage(given: str | None) -> Storage:
    from cqar import locations, storage  # noqa: PLC0415

    if given is None:
        from cqar.server.config import load  # noqa: PLC0415

        given = load({}).snapshot_root
    folder = locations.folder_of(given)
    if folder is not None and not folder.is_dir():
        raise SnapshotError(f"{folder}: there is no such folder", reason="NO_SNAPSHOT", path=folder)
    return storage.at(given)


def _row(made: Snapshot) -> dict[str, object]:
    manifest = made.manifest
    return {
        "path": made.location,
        "log_id": manifest.log_id,
        "position": manifest.position,
        "created_at": manifest.created_at,
        "bytes": made.size,
        "rows": made.rows,
    }


@app.command(
    epilog=examples(
        "cqar snapshot export ./out --database postgresql://cqar:secret@db/cqar",
        "cqar snapshot export ./out        (from the data folder of a server that does not run now)",
        "cqar snapshot export s3://bucket/cqar?region=eu-west-1 --database postgresql://cqar:secret@db/cqar",
    )
)
def export(
    place: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|URI",
            help="Folder to publish in, made if it is not there; or s3://bucket/prefix?region=…, gs://….",
            show_default=False,
        ),
    ],
    database: Annotated[
        str | None, typer.Option(envvar="CQAR_DATABASE", metavar="URL", help="Database to read.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder whose embedded PostgreSQL to read; default: the server's own.")
    ] = None,
    json: Json = False,
) -> None:
    """Publish the registry as it is now. From a database, or from the data folder of a server that is stopped.

    A server that runs on its embedded PostgreSQL publishes by itself: see `cqar serve --snapshot-interval`.
    """
    if database and data_dir:
        raise WrongUsageError("--database and --data-dir exclude each other")
    with _store(database, data_dir) as store, output.progress("publishing") as progress:
        from cqar.server.export import export_snapshot  # noqa: PLC0415

        try:
            made = export_snapshot(store, place, progress=progress)
        except UnavailableError as error:
            is_database = database and not error.reason.startswith("STORAGE")
            raise (database_error(database or "", error) if is_database else error) from None
    if json:
        output.document(_row(made))
    else:
        total = sum(made.rows.values())
        output.line(f"{made.location}: {total} records at position {made.manifest.position}, {output.size(made.size)}")


@contextlib.contextmanager
def _store(database: str | None, data_dir: Path | None) -> Iterator[Store]:
    from cqar.server.config import load  # noqa: PLC0415
    from cqar.server.postgres import EmbeddedPostgres  # noqa: PLC0415
    from cqar.server.store import Store  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        if not database:
            config = load({"data_dir": None if data_dir is None else str(data_dir)})
            if not config.postgres_dir.is_dir():
                raise SnapshotError(
                    f"{config.postgres_dir}: no server has kept data there; give --database URL or --data-dir FOLDER",
                    reason="NO_DATABASE",
                )
            try:
                postgres = stack.enter_context(EmbeddedPostgres(config.postgres_dir))
            except ConflictError:
                raise ConflictError(
                    f"a server runs on {config.postgres_dir}: it publishes by itself in {config.snapshot_root}",
                    reason="IN_USE",
                ) from None
            database = postgres.url
        store = Store(database, pool_size=2)
        stack.callback(store.close)
        yield store


@app.command(
    "list",
    epilog=examples(
        "cqar snapshot list ./out", "cqar snapshot list s3://bucket/cqar?region=eu-west-1", "cqar snapshot list --json"
    ),
)
def list_snapshots(place: Place = None, json: Json = False) -> None:
    """List the snapshots of a place, the newest of each log first. Only manifests are read: see `verify`."""
    storage = _storage(place)
    found, damaged = [], []
    for each in storage.found():
        if isinstance(each, SnapshotError):
            damaged.append(each.message)
        else:
            found.append(each)
    if json:
        output.document(list(map(_row, found)))
    elif found:
        now = datetime.now(UTC)
        output.table(
            ["log", "position", "made", "age", "records", "size"],
            [
                [
                    each.manifest.log_id,
                    each.manifest.position,
                    each.manifest.created_at,
                    output.duration((now - each.manifest.created_at).total_seconds()),
                    sum(each.rows.values()),
                    output.size(each.size),
                ]
                for each in found
            ],
        )
    else:
        output.note(f"{storage.name}: no snapshots")
    for message in damaged:
        output.note(f"damaged: {message}")


@app.command(
    epilog=examples(
        "cqar snapshot verify ./out",
        "cqar snapshot verify ./out/<log>/<position>",
        "cqar snapshot verify s3://bucket/cqar/<log>/<position>-<nonce>",
    )
)
def verify(place: Place = None, json: Json = False) -> None:
    """Check every byte of a snapshot, or of all in a place, against the manifests. Exit code 1 if one is damaged."""
    storage = _storage(place)
    results = [_verified(storage, each) for each in storage.found()]
    if not results:
        raise SnapshotError(f"{storage.name}: no snapshots", reason="NO_SNAPSHOT", path=storage.name)
    if json:
        output.document(results)
    else:
        for result in results:
            output.line(f"{'ok  ' if result['ok'] else 'FAIL'}  {result['path']}  {result['message']}")
    bad = sum(not result["ok"] for result in results)
    if bad:
        output.error(f"{bad} of {len(results)} snapshots are damaged")
        raise typer.Exit(FAILED)


def _verified(storage: Storage, found: Snapshot | SnapshotError) -> dict[str, object]:
    """Check what was found, with a bar of its own: it may be a download."""
    try:
        if isinstance(found, SnapshotError):
            raise found
        with output.progress(f"verifying position {found.manifest.position}") as progress:
            storage.verify(found, progress)
    except SnapshotError as error:
        path = error.metadata.get("path") if isinstance(found, SnapshotError) else found.location
        return {"path": path, "ok": False, "reason": error.reason, "message": error.message}
    return {"path": found.location, "ok": True, "reason": None, "message": f"{output.size(found.size)} verified"}


@app.command(
    epilog=examples("cqar snapshot prune ./out --keep 5 --min-age-hours 48", "cqar snapshot prune s3://bucket/cqar")
)
def prune(
    place: Place = None,
    keep: Annotated[int, typer.Option(min=1, help="Snapshots of each log to keep.")] = 3,
    min_age_hours: Annotated[
        float, typer.Option(min=0, help="Of the younger ones keep the last hour whole, and one per hour.")
    ] = 24.0,
    json: Json = False,
) -> None:
    """Remove old snapshots: of each log the newest stay, and one per hour of the last day.

    On object storage the manifests go at once and the files an hour later: by the server, or when this is run again.
    """
    removed = _storage(place).prune(keep=keep, min_age=timedelta(hours=min_age_hours))
    if json:
        output.document({"removed": removed})
    else:
        for path in removed:
            output.line(f"removed {path}")
        output.note(f"{len(removed)} snapshots removed")


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
