"""`cqar snapshot …`: publish, list, verify and prune snapshots in a folder."""

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

app = typer.Typer(name="snapshot", cls=Group, help="Snapshots: the whole registry at one position, as Parquet files.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Folder = Annotated[
    Path | None,
    typer.Argument(
        envvar="CQAR_SNAPSHOTS",
        help="Folder of snapshots; default: that of the server on this machine.",
        show_default=False,
    ),
]


def _folder(given: Path | None) -> Path:
    from cqar.server.config import load  # noqa: PLC0415

    folder = given or load({}).snapshot_root
    if not folder.is_dir():
        raise SnapshotError(f"{folder}: there is no such folder", reason="NO_SNAPSHOT", path=folder)
    return folder


def _is_snapshot(folder: Path) -> bool:
    from cqar.snapshot import MANIFEST  # noqa: PLC0415

    return (folder / MANIFEST).exists()


def _row(made: Snapshot) -> dict[str, object]:
    manifest = made.manifest
    return {
        "path": made.path,
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
    )
)
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to publish in; made if it is not there.", show_default=False)],
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
    with _store(database, data_dir) as store:
        from cqar.server.export import export_snapshot  # noqa: PLC0415

        try:
            made = export_snapshot(store, folder)
        except UnavailableError as error:
            raise (database_error(database, error) if database else error) from None
    if json:
        output.document(_row(made))
    else:
        total = sum(made.rows.values())
        output.line(f"{made.path}: {total} records at position {made.manifest.position}, {output.size(made.size)}")


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


@app.command("list", epilog=examples("cqar snapshot list ./out", "cqar snapshot list --json"))
def list_snapshots(folder: Folder = None, json: Json = False) -> None:
    """List the snapshots of a folder, the newest of each log first. Only manifests are read: see `verify`."""
    from cqar import snapshot  # noqa: PLC0415

    root = _folder(folder)
    found, damaged = [], []
    for path in [root] if _is_snapshot(root) else snapshot.paths(root):
        try:
            found.append(snapshot.load_manifest(path))
        except SnapshotError as error:
            damaged.append(error.message)
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
        output.note(f"{root}: no snapshots")
    for message in damaged:
        output.note(f"damaged: {message}")


@app.command(epilog=examples("cqar snapshot verify ./out", "cqar snapshot verify ./out/<log>/<position>"))
def verify(folder: Folder = None, json: Json = False) -> None:
    """Check every byte of a snapshot, or of all in a folder, against the manifests. Exit code 1 if one is damaged."""
    from cqar import snapshot  # noqa: PLC0415

    root = _folder(folder)
    results: list[dict[str, object]] = []
    for path in [root] if _is_snapshot(root) else snapshot.paths(root):
        try:
            made = snapshot.verify(path)
        except SnapshotError as error:
            results.append({"path": path, "ok": False, "reason": error.reason, "message": error.message})
        else:
            results.append({"path": path, "ok": True, "reason": None, "message": f"{output.size(made.size)} verified"})
    if not results:
        raise SnapshotError(f"{root}: no snapshots", reason="NO_SNAPSHOT", path=root)
    if json:
        output.document(results)
    else:
        for result in results:
            output.line(f"{'ok  ' if result['ok'] else 'FAIL'}  {result['path']}  {result['message']}")
    bad = sum(not result["ok"] for result in results)
    if bad:
        output.error(f"{bad} of {len(results)} snapshots are damaged")
        raise typer.Exit(FAILED)


@app.command(epilog=examples("cqar snapshot prune ./out --keep 5 --min-age-hours 48"))
def prune(
    folder: Folder = None,
    keep: Annotated[int, typer.Option(min=1, help="Snapshots of each log to keep.")] = 3,
    min_age_hours: Annotated[
        float, typer.Option(min=0, help="Of the younger ones keep the last hour whole, and one per hour.")
    ] = 24.0,
    json: Json = False,
) -> None:
    """Remove old snapshots: of each log the newest stay, and one per hour of the last day."""
    from cqar import snapshot  # noqa: PLC0415

    removed = snapshot.prune(_folder(folder), keep=keep, min_age=timedelta(hours=min_age_hours))
    if json:
        output.document({"removed": removed})
    else:
        for path in removed:
            output.line(f"removed {path}")
        output.note(f"{len(removed)} snapshots removed")


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
