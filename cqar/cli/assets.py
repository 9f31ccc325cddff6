"""`cqar asset …`, reading: what is known of an asset, lists and search."""

from __future__ import annotations

from typing import Annotated

import typer

from cqar.answers import Variant
from cqar.cli import find, output
from cqar.cli.app import Group, examples
from cqar.cli.connection import ChainName, Session, VenueName, with_session
from cqar.cli.find import AssetRef
from cqar.model import Asset, AssetType, Deployment, QualityFlag, RelationshipType

app = typer.Typer(name="asset", cls=Group, help="Assets: show, search, list, and write.")

Type = Annotated[AssetType | None, typer.Option(case_sensitive=False, help="Only of this type.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")]


@app.command(
    epilog=examples("cqar asset show USDC", "cqar asset show eip155:1/slip44:60", "cqar asset show ETH --json")
)
@with_session
def show(session: Session, asset: AssetRef, chain: ChainName = None) -> None:
    """Show all that is known of an asset: deployments, names, relationships, groups, flags."""
    found = find.resolve(session, asset, chain).asset
    key = found.asset_id
    client = session.client
    deployments = client.deployments(key)
    identifiers = client.identifiers(key)
    edges = client.relationships(key)
    flags = client.flags(key, include_resolved=True)
    groups = [
        row[0]
        for row in client.sql(
            "SELECT canonical_symbol FROM asset_groups JOIN asset_group_members USING (group_id)"
            " WHERE asset_id = $key ORDER BY 1",
            {"key": key},
        ).fetchall()
    ]
    if session.json:
        output.document(
            {
                "asset": found,
                "deployments": deployments,
                "identifiers": identifiers,
                "relationships": edges,
                "groups": groups,
                "flags": flags,
                "position": client.position,
            }
        )
        return
    output.facts(
        [
            *_facts(found),
            ("groups", groups),
            ("known as", [f"{each.source}:{each.external_id}" for each in identifiers]),
            ("position", client.position),
        ]
    )
    if deployments:
        output.line()
        _deployments(session, deployments)
    if edges:
        output.line()
        _relationships(session, key)
    if flags:
        output.line()
        show_flags(flags)


def _facts(asset: Asset) -> list[tuple[str, object]]:
    return [
        ("symbol", asset.symbol),
        ("name", asset.name),
        ("type", asset.asset_type),
        ("category", asset.category),
        ("asset id", asset.asset_id),
        ("website", asset.website),
        ("logo", asset.logo_url),
        ("description", asset.description),
        ("metadata", [f"{name}={value}" for name, value in asset.metadata]),
        ("provenance", asset.provenance),
        ("updated", asset.updated_at),
    ]


def _deployments(session: Session, rows: tuple[Deployment, ...]) -> None:
    output.table(
        ["chain", "contract", "decimals", "canonical", "deployment id"],
        [
            [
                row.chain_id,
                session.address(row.chain_id, row.contract_address),
                row.decimals,
                row.is_canonical,
                row.deployment_id,
            ]
            for row in rows
        ],
    )


def _relationships(session: Session, key: str) -> None:
    rows = []
    for edge in session.client.relationships(key):
        is_child = edge.child_asset_id == key
        other = session.client.asset(edge.parent_asset_id if is_child else edge.child_asset_id)
        label = "derived from" if is_child else "parent of"
        rows.append([edge.relationship_type, label, other.symbol, other.name, edge.conversion_rate, other.asset_id])
    output.table(["relationship", "this is", "symbol", "name", "rate", "asset id"], rows)


def show_flags(flags: tuple[QualityFlag, ...] | list[QualityFlag], symbols: dict[str, str] | None = None) -> None:
    """Print flags; with `symbols` (by asset id) those of several assets."""
    several = ["asset"] if symbols is not None else []
    output.table(
        ["severity", "type", *several, "source", "reason", "raised", "cleared", "flag id"],
        [
            [
                flag.severity,
                flag.flag_type,
                *([symbols.get(flag.asset_id, flag.asset_id)] if symbols is not None else []),
                flag.source,
                flag.reason,
                flag.raised_at,
                flag.cleared_at,
                flag.flag_id,
            ]
            for flag in flags
        ],
    )


def _listed(session: Session, assets: tuple[Asset, ...]) -> None:
    if session.json:
        output.document(assets)
        return
    output.table(
        ["symbol", "name", "type", "category", "asset id"],
        [[each.symbol, each.name, each.asset_type, each.category, each.asset_id] for each in assets],
    )


@app.command(epilog=examples("cqar asset search usd --chain base", "cqar asset search 'wrapped ether' -n 5"))
@with_session
def search(
    session: Session,
    *,
    text: Annotated[str, typer.Argument(help="Part of a symbol or name; or a whole address, id, ticker.")],
    chain: ChainName = None,
    venue: VenueName = None,
    type: Type = None,
    limit: Limit = 20,
) -> None:
    """Find assets: exact matches first, then beginnings, then parts. Exit code 1 if nothing is found."""
    found = session.client.search(text, chain=chain, venue=venue, type=type, limit=limit)
    _listed(session, found)
    if not found:
        output.note(f"nothing found for {text}")
        raise typer.Exit(1)


@app.command("list", epilog=examples("cqar asset list --chain solana", "cqar asset list --type STABLECOIN --json"))
@with_session
def list_assets(
    session: Session, chain: ChainName = None, venue: VenueName = None, type: Type = None, limit: Limit = 100
) -> None:
    """List the assets of a chain, of a venue, of a type, by symbol."""
    found = session.client.list_assets(chain=chain, venue=venue, type=type, limit=limit + 1)
    _listed(session, found[:limit])
    if len(found) > limit:
        output.note(f"only the first {limit} are shown: --limit N shows more")


@app.command(epilog=examples("cqar asset deployments USDC", "cqar asset deployments USDC --chain base --json"))
@with_session
def deployments(session: Session, asset: AssetRef, chain: ChainName = None) -> None:
    """List on which chains an asset lives, with contract and decimals."""
    key = find.resolve(session, asset, chain).asset.asset_id
    found = session.client.deployments(key, chain=chain)
    if session.json:
        output.document(found)
    else:
        _deployments(session, found)


@app.command(epilog=examples("cqar asset variants ETH", "cqar asset variants ETH --type WRAPS --type STAKES"))
@with_session
def variants(
    session: Session,
    asset: AssetRef,
    chain: ChainName = None,
    type: Annotated[
        list[RelationshipType] | None,
        typer.Option(
            case_sensitive=False, help="Only these steps; may be repeated. Default: all but FORK and MIGRATION."
        ),
    ] = None,
) -> None:
    """List what is derived from an asset over any number of steps: wrapped, bridged, staked, …; forks only if asked for."""
    key = find.resolve(session, asset, chain).asset.asset_id
    found: tuple[Variant, ...] = session.client.variants(key, types=type or None)
    if session.json:
        output.document(found)
        return
    symbols = {key: session.client.asset(key).symbol} | {each.asset.asset_id: each.asset.symbol for each in found}
    output.table(
        ["symbol", "name", "steps", "path", "asset id"],
        [
            [
                each.asset.symbol,
                each.asset.name,
                each.depth,
                " ".join([symbols[key], *[f"-{e.relationship_type}-> {symbols[e.child_asset_id]}" for e in each.path]]),
                each.asset.asset_id,
            ]
            for each in found
        ],
    )


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
