"""`cqar asset …`: what is known of an asset, lists and search, and the writes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cqar.answers import Variant
from cqar.cli import find, output
from cqar.cli.app import Group, WrongUsageError, examples
from cqar.cli.connection import ChainName, Session, VenueName, with_session
from cqar.cli.find import AssetRef
from cqar.model import Asset, AssetType, Deployment, QualityFlag, RelationshipType

app = typer.Typer(name="asset", cls=Group, help="Assets: show, search, list, and write.")

Type = Annotated[AssetType | None, typer.Option(case_sensitive=False, help="Only of this type.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")]
Category = Annotated[str | None, typer.Option(help="Category, such as defi or platform.")]
Website = Annotated[str | None, typer.Option(help="URL of the project.")]
Logo = Annotated[str | None, typer.Option(help="URL of the logo.")]
Description = Annotated[str | None, typer.Option(help="A few sentences.")]
Metadata = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="Anything else; may be repeated.")
]


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
        list[RelationshipType] | None, typer.Option(case_sensitive=False, help="Only these steps; may be repeated.")
    ] = None,
) -> None:
    """List what is derived from an asset over any number of steps: wrapped, bridged, staked, …"""
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


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise WrongUsageError(f"--metadata: {text!r} is not KEY=VALUE")
        pairs[name] = value
    return pairs


@app.command(
    epilog=examples(
        "cqar asset create --symbol ABC --name 'Abc Protocol' --type TOKEN",
        "cqar asset create --symbol ABC --name Abc --type TOKEN --chain base --address 0x… --decimals 18",
    )
)
@with_session
def create(
    session: Session,
    *,
    symbol: Annotated[str, typer.Option(help="Symbol as its issuer writes it.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name.", show_default=False)],
    type: Annotated[AssetType, typer.Option(case_sensitive=False, help="What it is.", show_default=False)],
    category: Category = None,
    website: Website = None,
    logo_url: Logo = None,
    description: Description = None,
    metadata: Metadata = None,
    chain: Annotated[str | None, typer.Option("--chain", "-c", help="Chain of its first deployment.")] = None,
    address: Annotated[str | None, typer.Option(help="Contract there; without one it is the native asset.")] = None,
    decimals: Annotated[int | None, typer.Option(min=0, max=255, help="Decimals there.")] = None,
    canonical: Annotated[bool, typer.Option("--canonical", help="The one that the symbol means there.")] = False,
) -> None:
    """Create an asset, with its first deployment if a chain is given."""
    if chain is None and (address is not None or decimals is not None or canonical):
        raise WrongUsageError("--address, --decimals and --canonical go with --chain")
    if chain is not None and decimals is None:
        raise WrongUsageError("--chain needs --decimals: they differ by chain and are never guessed")
    registry = session.registry
    first = []
    if chain is not None and decimals is not None:
        first.append(
            Deployment(
                asset_id="",
                chain_id=registry.get_chain(chain).chain_id,
                contract_address=address,
                decimals=decimals,
                is_native=address is None,
                is_canonical=canonical,
            )
        )
    asset = Asset(
        symbol=symbol,
        name=name,
        asset_type=type,
        category=category,
        website=website,
        logo_url=logo_url,
        description=description,
        metadata=tuple(sorted(_pairs(metadata).items())),
    )
    made = registry.create_asset(asset, deployments=first)
    if session.json:
        output.document(made)
    else:
        output.line(f"created {made.asset.symbol} {made.asset.asset_id} at position {made.position}")


@app.command(
    epilog=examples("cqar asset update ABC --name 'New name'", "cqar asset update ABC --website ''   (clears it)")
)
@with_session
def update(
    session: Session,
    *,
    asset: AssetRef,
    chain: ChainName = None,
    symbol: Annotated[str | None, typer.Option(help="New symbol.")] = None,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    type: Annotated[AssetType | None, typer.Option(case_sensitive=False, help="New type.")] = None,
    category: Category = None,
    website: Website = None,
    logo_url: Logo = None,
    description: Description = None,
    metadata: Metadata = None,
    expected_position: Annotated[
        int | None, typer.Option(min=0, help="Refuse if it was written after this position.")
    ] = None,
) -> None:
    """Change the given fields of an asset; an empty text clears one. `--metadata` replaces all of it."""
    changes = (symbol, name, type, category, website, logo_url, description, metadata or None)
    if all(change is None for change in changes):
        raise WrongUsageError("nothing to change: give at least one field")
    written = session.registry.update_asset(
        find.asset_id_on_server(session, asset, chain),
        symbol=symbol,
        name=name,
        asset_type=type,
        category=category,
        website=website,
        logo_url=logo_url,
        description=description,
        metadata=_pairs(metadata) if metadata else None,
        expected_position=expected_position,
    )
    if session.json:
        output.document({"asset": written.record, "position": written.position})
    else:
        output.line(f"updated {written.record.symbol} {written.record.asset_id} at position {written.position}")


@app.command(epilog=examples("cqar asset delete 0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e", "cqar asset delete ABC --yes"))
@with_session
def delete(
    session: Session,
    asset: AssetRef,
    chain: ChainName = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take an asset out of the registry, with its deployments, names, tickers and memberships. Its history stays."""
    found = session.registry.get_asset(find.asset_id_on_server(session, asset, chain))
    if not yes:
        if not sys.stdin.isatty():
            raise WrongUsageError("deleting without a terminal needs --yes")
        typer.confirm(f"Delete {found.symbol} ({found.name}) {found.asset_id}?", abort=True, err=True)
    position = session.registry.delete_asset(found.asset_id)
    if session.json:
        output.document({"asset_id": found.asset_id, "position": position})
    else:
        output.line(f"deleted {found.symbol} {found.asset_id} at position {position}")


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.add_typer(app)
