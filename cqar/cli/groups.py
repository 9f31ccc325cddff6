"""`cqar group …`: assets that are summed up together."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from cqar.cli import find, output
from cqar.cli.app import Group as Commands
from cqar.cli.app import WrongUsageError, examples
from cqar.cli.connection import ChainName, Session, with_session
from cqar.cli.find import AssetRef
from cqar.model import Group, GroupMember

app = typer.Typer(name="group", cls=Commands, help='Groups of assets to sum up together: "all ETH variants".')

Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="Symbol of the group.", show_default=False)]


@app.command(epilog=examples("cqar group show ETH", "cqar group show ETH --json"))
@with_session
def show(session: Session, symbol: Symbol) -> None:
    """Show a group with its members, the canonical one first."""
    found = session.client.group(symbol)
    if session.json:
        output.document(
            {
                "group": found.group,
                "members": [{**output.plain(member), "asset": asset} for member, asset in found.members],
            }
        )
        return
    output.facts(
        [
            ("group", found.group.canonical_symbol),
            ("name", found.group.name),
            ("description", found.group.description),
            ("group id", found.group.group_id),
        ]
    )
    output.line()
    output.table(
        ["symbol", "name", "type", "weight", "canonical", "asset id"],
        [
            [asset.symbol, asset.name, asset.asset_type, member.weight, member.is_canonical, asset.asset_id]
            for member, asset in found.members
        ],
    )


@app.command("list", epilog=examples("cqar group list"))
@with_session
def list_groups(session: Session) -> None:
    """List the groups."""
    from cqar.arrow import from_arrow  # noqa: PLC0415

    rows = session.client.sql("SELECT * FROM asset_groups ORDER BY canonical_symbol, group_id").to_arrow_table()
    found = from_arrow(Group, rows)
    if session.json:
        output.document(found)
        return
    counts = dict(session.client.sql("SELECT group_id, count(*) FROM asset_group_members GROUP BY 1").fetchall())
    output.table(
        ["group", "name", "members", "group id"],
        [[each.canonical_symbol, each.name, counts.get(each.group_id, 0), each.group_id] for each in found],
    )


@app.command(epilog=examples("cqar group create SOL --name 'All SOL variants'"))
@with_session
def create(
    session: Session,
    symbol: Symbol,
    name: Annotated[str, typer.Option(help="Name.", show_default=False)],
    description: Annotated[str | None, typer.Option(help="What belongs in it.")] = None,
) -> None:
    """Create an empty group."""
    written = session.registry.create_asset_group(Group(canonical_symbol=symbol, name=name, description=description))
    if session.json:
        output.document({"group": written.record, "position": written.position})
    else:
        output.line(
            f"created group {written.record.canonical_symbol} {written.record.group_id} at position {written.position}"
        )


@app.command(epilog=examples("cqar group add SOL SOL --canonical", "cqar group add SOL JitoSOL --weight 0.9"))
@with_session
def add(
    session: Session,
    *,
    symbol: Symbol,
    asset: AssetRef,
    chain: ChainName = None,
    canonical: Annotated[bool, typer.Option("--canonical", help="The one that the group's symbol means.")] = False,
    weight: Annotated[str, typer.Option(metavar="DECIMAL", help="What one unit counts for.")] = "1",
) -> None:
    """Add an asset to a group."""
    meant = find.to_write(session, asset, chain)
    member = GroupMember(
        group_id=session.registry.get_asset_group(canonical_symbol=symbol).group_id,
        asset_id=meant.asset_id,
        is_canonical=canonical,
        weight=_decimal(weight),
    )
    written = session.registry.add_asset_to_group(member)
    if session.json:
        output.document({"member": written.record, "asset": meant, "position": written.position})
    else:
        output.line(f"added {find.described(meant)}")
        output.line(f"to {symbol} at position {written.position}")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise WrongUsageError(f"--weight: {text!r} is not a decimal number, such as 0.9") from None


@app.command(epilog=examples("cqar group remove SOL JitoSOL"))
@with_session
def remove(session: Session, symbol: Symbol, asset: AssetRef, chain: ChainName = None) -> None:
    """Take an asset out of a group."""
    meant = find.to_write(session, asset, chain)
    group_id = session.registry.get_asset_group(canonical_symbol=symbol).group_id
    position = session.registry.remove_asset_from_group(group_id, meant.asset_id)
    if session.json:
        output.document({"group_id": group_id, "asset_id": meant.asset_id, "asset": meant, "position": position})
    else:
        output.line(f"removed {find.described(meant)}")
        output.line(f"from {symbol} at position {position}")


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
