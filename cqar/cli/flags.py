"""`cqar flag …`: raise, clear and list quality flags, and the trade gate."""

from __future__ import annotations

import contextlib
import enum
from typing import Annotated

import typer

from cqar.answers import Decision, Resolution
from cqar.cli import find, output
from cqar.cli.app import BLOCKED, OK, UNKNOWN, Group, examples
from cqar.cli.assets import show_flags
from cqar.cli.connection import ChainName, Session, with_session
from cqar.cli.find import AssetRef
from cqar.errors import CqarError
from cqar.model import FlagType, QualityFlag, Severity
from cqar.rules.gate import MAX_AGE

app = typer.Typer(name="flag", cls=Group, help="Quality flags, and whether an asset may be traded.")


class Level(enum.StrEnum):
    """The severities by name, for the command line."""

    INFO = "INFO"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"

    @property
    def severity(self) -> Severity:
        """The severity of this name."""
        return Severity[self.name]


@app.command(
    "raise",
    epilog=examples(
        "cqar flag raise ABC --type EXPLOITED --severity CRITICAL --reason 'bridge drained' --evidence https://…",
        "cqar flag raise USDT --type DEPEGGED --severity HIGH --source desk-risk --reason '0.97 on three venues'",
    ),
)
@with_session
def raise_flag(
    session: Session,
    *,
    asset: AssetRef,
    type: Annotated[FlagType, typer.Option(case_sensitive=False, help="What it warns of.", show_default=False)],
    severity: Annotated[Level, typer.Option(case_sensitive=False, help="How bad it is.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why.", show_default=False)],
    source: Annotated[str, typer.Option(help="Who says so: one active flag for each asset, type and source.")] = (
        "manual"
    ),
    evidence: Annotated[str | None, typer.Option(metavar="URL", help="Where it can be read.")] = None,
    chain: ChainName = None,
) -> None:
    """Warn of an asset. Raising a flag again updates its severity, reason and evidence."""
    meant = find.to_write(session, asset, chain)
    flag = QualityFlag(
        asset_id=meant.asset_id,
        flag_type=type,
        severity=severity.severity,
        source=source,
        reason=reason,
        evidence_url=evidence,
    )
    written = session.registry.raise_quality_flag(flag)
    if session.json:
        output.document({"flag": written.record, "asset": meant, "position": written.position})
    else:
        made = written.record
        output.line(f"raised {made.flag_type} {made.severity.name} on {find.described(meant)}")
        output.line(f"flag {made.flag_id} at position {written.position}")


@app.command(epilog=examples("cqar flag clear 0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e --reason 'peg restored'"))
@with_session
def clear(
    session: Session,
    flag_id: Annotated[str, typer.Argument(help="Id of the flag, from `cqar flag list`.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why it no longer holds.", show_default=False)],
) -> None:
    """Clear a flag. It is kept, with who cleared it and why."""
    written = session.registry.resolve_quality_flag(flag_id, reason=reason)
    made, meant = written.record, None
    with contextlib.suppress(CqarError):  # the flag is cleared; the asset may have been deleted
        meant = session.registry.get_asset(made.asset_id)
    if session.json:
        output.document({"flag": made, "asset": meant, "position": written.position})
    else:
        whose = made.asset_id if meant is None else find.described(meant)
        output.line(f"cleared {made.flag_type} {made.severity.name} on {whose}")
        output.line(f"at position {written.position}")


@app.command("list", epilog=examples("cqar flag list --min-severity HIGH", "cqar flag list ABC --all"))
@with_session
def list_flags(
    session: Session,
    *,
    asset: Annotated[
        str | None, typer.Argument(metavar="[ASSET]", help="Only of this asset.", show_default=False)
    ] = None,
    chain: ChainName = None,
    min_severity: Annotated[Level, typer.Option(case_sensitive=False, help="At least this bad.")] = Level.INFO,
    type: Annotated[FlagType | None, typer.Option(case_sensitive=False, help="Only of this type.")] = None,
    source: Annotated[str | None, typer.Option(help="Only from this source.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Cleared ones too.")] = False,
) -> None:
    """List flags, the worst first."""
    from cqar.arrow import from_arrow  # noqa: PLC0415

    key = None if asset is None else find.resolve(session, asset, chain).asset.asset_id
    conditions = {"asset_id": key, "flag_type": None if type is None else str(type), "source": source}
    given = {name: value for name, value in conditions.items() if value is not None}
    where = " AND ".join(["severity >= $least", *[f"{name} = ${name}" for name in given]])
    rows = session.client.sql(
        f"SELECT * FROM asset_quality_flags WHERE {where}{'' if everything else ' AND cleared_at IS NULL'}"
        " ORDER BY cleared_at IS NOT NULL, severity DESC, raised_at DESC, flag_id",
        {"least": int(min_severity.severity), **given},
    ).to_arrow_table()
    found = from_arrow(QualityFlag, rows)
    if session.json:
        output.document(found)
        return
    if not found:
        output.note("no such flag")
        return
    symbols = dict(
        session.client.sql(
            "SELECT asset_id, symbol FROM assets WHERE asset_id IN (SELECT asset_id FROM asset_quality_flags)"
        ).fetchall()
    )
    show_flags(found, symbols)


@app.command(
    epilog=examples(
        "cqar flag check USDC --chain ethereum --target localhost:7433",
        "cqar flag check 0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e && echo buy      (by id; only ALLOW is exit code 0)",
        "cqar flag check USDC --block-at HIGH --json",
    )
)
@with_session
def check(
    session: Session,
    asset: AssetRef,
    chain: ChainName = None,
    block_at: Annotated[Level, typer.Option(case_sensitive=False, help="Least severity that blocks.")] = Level.CRITICAL,
    max_age: Annotated[float, typer.Option(min=0, help="Greatest age of the data, in seconds.")] = MAX_AGE,
) -> None:
    """Tell whether an asset may be traded. Exit code 0 only for ALLOW; 4 for BLOCK, 5 for UNKNOWN, 3 for an ambiguous symbol.

    A symbol is blocked if any asset that bears exactly this symbol is, whichever of them a look-up prefers: prefer ids.
    Without a server the answer is UNKNOWN: the bundled catalogue is older than any trade should rely on.
    """
    # An id goes to the gate as it is: what the gate does not know is UNKNOWN, not an error.
    resolution = None if find.is_uuid(asset) else find.resolve(session, asset, chain)
    found = None if resolution is None else resolution.asset
    key = asset.strip().lower() if found is None else found.asset_id
    verdict = session.client.check_tradable(key, block_at=block_at.severity, max_age=max_age)
    blocked = [] if resolution is None else _blocked_namesakes(session, resolution, asset.strip(), block_at, max_age)
    decision = Decision.BLOCK if blocked else verdict.decision
    reasons = [*verdict.reasons, *[f"{each} bears this symbol too and is blocked: {why}" for each, why in blocked]]
    if found is None:
        with contextlib.suppress(CqarError):  # an id that nothing is known of is shown alone
            found = session.client.asset(key)
    if session.json:
        named = {"symbol": found and found.symbol, "name": found and found.name}
        output.document({**named, "asset_id": key, **output.plain(verdict), "decision": decision, "reasons": reasons})
    else:
        output.facts(
            [
                ("asset", key if found is None else find.described(found)),
                ("decision", decision),
                *[("because", reason) for reason in reasons],
                ("position", verdict.position),
                ("age", output.duration(verdict.age)),
            ]
        )
        if verdict.flags:
            output.line()
            show_flags(verdict.flags)
    raise typer.Exit({Decision.ALLOW: OK, Decision.BLOCK: BLOCKED}.get(decision, UNKNOWN))


def _blocked_namesakes(
    session: Session, resolution: Resolution, text: str, block_at: Level, max_age: float
) -> list[tuple[str, str]]:
    """Return the other assets that bear this symbol and are blocked, each with the reasons."""
    blocked = []
    for each in find.namesakes(resolution, text):
        verdict = session.client.check_tradable(each.asset_id, block_at=block_at.severity, max_age=max_age)
        if verdict.decision is Decision.BLOCK:
            blocked.append((f"{each.name} ({each.asset_id})", "; ".join(verdict.reasons)))
    return blocked


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
