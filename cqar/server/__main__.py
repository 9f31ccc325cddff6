"""`python -m cqar.server`: run a server with flags, `CQAR_*` variables or a TOML file. `cqar serve` does the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cqar.errors import CqarError
from cqar.server.config import CONFIG_FILE, fields, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; return the exit code: 1, with one line on stderr, if the server cannot start."""
    flags = vars(_parser().parse_args(arguments))
    try:
        config = load(flags, file=flags.pop("config"))
        from cqar.server.server import serve  # noqa: PLC0415 - a wrong flag or --help should not wait for its imports

        serve(config)
    except CqarError as error:
        print(f"cqar serve: {error.message}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cqar.server", description="The CQAR registry server.")
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"TOML file of these settings (env {CONFIG_FILE})")
    for field in fields():
        text = f"{field.help} (default {field.default!s}, env {field.variable})".replace("%", "%%")
        if field.type is bool:
            parser.add_argument(field.flag, dest=field.name, action=argparse.BooleanOptionalAction, help=text)
        else:
            parser.add_argument(field.flag, dest=field.name, metavar=field.name.upper(), help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
