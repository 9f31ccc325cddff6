"""`cqar import`: real data from files into a server, with a report for every row that was not taken."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cqar.cli import output
from cqar.cli.app import FAILED, examples
from cqar.cli.connection import Session, with_session

if TYPE_CHECKING:
    from cqar.importers import Progress, Report

SHOWN = 20  # refusals on the screen; a file of 5,000 rows may have 4,000


class ImportKind(enum.StrEnum):
    """The names of `cqar.importers.KINDS`, which is not imported for a line of help: it needs grpc."""

    CHAINS = "chains"
    VENUES = "venues"
    VENUE_SYMBOLS = "venue-symbols"
    MARKETS = "markets"
    TOKENLIST = "tokenlist"
    SNAPSHOT = "snapshot"


@with_session
def import_file(
    session: Session,
    *,
    kind: Annotated[ImportKind, typer.Argument(help="What the file holds.", show_default=False)],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="File to read; of a snapshot the folder, default the bundled catalogue.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would happen and write nothing.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Values of the file replace what is there, not only fill what is missing.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write every refusal to this file: *.csv, or else JSON lines.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if anything was refused or left out.")] = False,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="UTC day that the file describes, for tickers that changed their meaning; default today.",
        ),
    ] = None,
    trust_symbols: Annotated[
        bool,
        typer.Option(
            "--trust-symbols",
            help="Take a venue's currency code for the one asset with this symbol; wrong for about 1 token in 100.",
        ),
    ] = False,
    provenance: Annotated[
        str | None, typer.Option(help="Where the file comes from, noted with every row that does not say so itself.")
    ] = None,
) -> None:
    """Import chains, venues, tickers, markets, a token list or a snapshot. It can be repeated at will.

    A row that breaks a rule is refused with a reason, and the others are written: that is success (exit code 0), unless
    --strict. A second run changes nothing; after an interruption it goes on.
    """
    from cqar.importers import Options, run  # noqa: PLC0415

    if report is not None and not report.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {report.parent}", param_hint="--report")
    with _progress() as progress:
        done = run(
            kind,
            _path(kind, file),
            session.registry,
            options=Options(
                replace=replace,
                as_of=datetime.now(UTC) if as_of is None else as_of.replace(tzinfo=UTC),
                trust_symbols=trust_symbols,
            ),
            dry_run=dry_run,
            provenance=provenance,
            progress=progress,
        )
    if report is not None:
        done.write(report)
    if session.json:
        output.document(done)
    else:
        _show(done, report)
    if strict and done.refusals:
        raise typer.Exit(FAILED)


def _path(kind: ImportKind, file: Path | None) -> Path:
    if file is not None:
        return file
    if kind is not ImportKind.SNAPSHOT:
        raise typer.BadParameter(f"{kind} needs a file", param_hint="FILE")
    from cqar.client._place import bundled_catalogue  # noqa: PLC0415

    return bundled_catalogue()


@contextmanager
def _progress() -> Iterator[Progress]:
    """Draw a bar on stderr, if it is a terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    with Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step, part: bar.update(task, description=step, completed=part)


def _show(done: Report, report: Path | None) -> None:
    output.facts(
        [
            ("rows", done.rows),
            ("created", done.created),
            ("updated", done.updated),
            ("unchanged", done.unchanged),
            ("refused", done.refused),
            ("left out", f"{done.left_out} parts of rows" if done.left_out else None),
            ("position", done.position),
            ("took", f"{done.seconds:.1f} s"),
        ]
    )
    if done.reasons:
        output.line()
        output.table(["reason", "times"], list(done.reasons.items()))
        output.line()
        output.table(
            ["row", "key", "reason", "message"],
            [[each.row, _printable(each.key), each.reason, _printable(each.message)] for each in done.refusals[:SHOWN]],
        )
    if report is not None:
        output.note(f"all {len(done.refusals):,} refusals are in {report}")
    elif len(done.refusals) > SHOWN:
        output.note(f"{len(done.refusals) - SHOWN:,} more; --report FILE writes all of them")
    if done.dry_run:
        output.note("dry run: nothing was written")
    elif not done.changed:
        output.note("nothing changed: all that could be taken was there already")


def _printable(text: str) -> str:
    """Show what a file says without letting it speak to the terminal."""
    return "".join([each if each.isprintable() else ascii(each)[1:-1] for each in text])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "import",
        epilog=examples(
            "cqar import snapshot --target localhost:7433           (the bundled catalogue)",
            "cqar import tokenlist uniswap.tokenlist.json --dry-run",
            "cqar import markets binance.csv --as-of 2021-07-22 --report refused.csv",
            "cqar import venue-symbols tickers.csv --strict --json",
        ),
    )(import_file)
