"""The command line: `cqar …`, also `python -m cqar`.

Each file is a topic and adds its commands to the app; `app` turns errors into lines and exit codes, `connection` has the options
that all share, `output` prints. grpc, pyarrow, duckdb and sqlalchemy are imported inside commands: `cqar --help` is quick.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from typing import Annotated, NoReturn

import typer

from cqar.cli import (
    access,
    asset_writes,
    assets,
    bench,
    doctor,
    events,
    flags,
    groups,
    imports,
    lookups,
    replica,
    serve,
    snapshots,
)
from cqar.cli.app import Group, examples

app = typer.Typer(
    name="cqar",
    cls=Group,
    help="CQAR, the crypto quant asset registry: which asset is it, and may it be traded?",
    epilog=examples(
        "cqar resolve USDC --chain ethereum",
        "cqar serve",
        "cqar flag check USDC --target localhost:7433",
        "Reading without --target answers from the bundled catalogue.",
        "Exit codes: 0 success, 1 error, 2 wrong usage, 3 ambiguous; flag check: 4 BLOCK, 5 UNKNOWN.",
    ),
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"cqar {version('cqar')}")
        raise typer.Exit


@app.callback()
def _main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="CQAR_DEBUG", help="Show log and traceback; allowed anywhere in the line.")
    ] = False,
) -> None:
    """Which asset is it, and may it be traded?"""


for _topic in (
    lookups,
    assets,
    asset_writes,
    flags,
    groups,
    access,
    serve,
    imports,
    snapshots,
    replica,
    events,
    doctor,
    bench,
):
    _topic.register(app)

if importlib.util.find_spec("cqar.demo") is not None:

    @app.command()
    def demo() -> None:
        """Show the main job on real data: a server, a client, a flag raised and seen. Takes a minute at most."""
        module = importlib.import_module("cqar.demo")
        raise typer.Exit(module.run() or 0)


def main() -> NoReturn:
    """Run the command line of this process, and end the process with the command.

    At once, and not by way of the interpreter's own end: that waits for threads of gRPC and its like, one of which was seen
    to keep a command that had said all it had to say for ever.
    """
    code: object = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    if isinstance(code, str):
        typer.echo(code, err=True)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):  # nobody reads on
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
