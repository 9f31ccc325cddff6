"""`cqar asset create|update|delete`: writing assets, on the server."""

from __future__ import annotations

import sys
from typing import Annotated, cast

import typer

from cqar.cli import find, output
from cqar.cli.app import WrongUsageError, examples
from cqar.cli.assets import app
from cqar.cli.connection import ChainName, Session, with_session
from cqar.cli.find import AssetRef
from cqar.model import Asset, AssetType, Deployment
from cqar.patches import AssetPatch

Category = Annotated[str | None, typer.Option(help="Category, such as defi or platform.")]
Website = Annotated[str | None, typer.Option(help="URL of the project.")]
Logo = Annotated[str | None, typer.Option(help="URL of the logo.")]
Description = Annotated[str | None, typer.Option(help="A few sentences.")]
Metadata = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="Anything else; may be repeated.")
]


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise WrongUsageError(f"--metadata: {text!r} is not KEY=VALUE")
        pairs[name] = value
    return pairs


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
    fields = {
        "symbol": symbol,
        "name": name,
        "asset_type": type,
        "category": category,
        "website": website,
        "logo_url": logo_url,
        "description": description,
        "metadata": _pairs(metadata) if metadata else None,
    }
    changes = cast("AssetPatch", {field: value for field, value in fields.items() if value is not None})
    if not changes:
        raise WrongUsageError("nothing to change: give at least one field")
    meant = find.to_write(session, asset, chain)
    written = session.registry.update_asset(meant.asset_id, expected_position=expected_position, **changes)
    if session.json:
        output.document({"asset": written.record, "position": written.position})
    else:
        output.line(f"updated {find.described(meant)}")
        output.line(f"at position {written.position}")


@with_session
def delete(
    session: Session,
    asset: AssetRef,
    chain: ChainName = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take an asset out of the registry, with its deployments, names, tickers and memberships. Its history stays."""
    found = find.to_write(session, asset, chain)
    if not yes:
        if not sys.stdin.isatty():
            raise WrongUsageError("deleting without a terminal needs --yes")
        typer.confirm(f"Delete {find.described(found)}?", abort=True, err=True)
    position = session.registry.delete_asset(found.asset_id)
    if session.json:
        output.document({"asset_id": found.asset_id, "asset": found, "position": position})
    else:
        output.line(f"deleted {find.described(found)}")
        output.line(f"at position {position}")


def register(_root: typer.Typer) -> None:
    """Add these commands to those that read."""
    app.command(
        epilog=examples(
            "cqar asset create --symbol ABC --name 'Abc Protocol' --type TOKEN",
            "cqar asset create --symbol ABC --name Abc --type TOKEN --chain base --address 0x… --decimals 18",
        )
    )(create)
    app.command(
        epilog=examples("cqar asset update ABC --name 'New name'", "cqar asset update ABC --website ''   (clears it)")
    )(update)
    app.command(
        epilog=examples("cqar asset delete 0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e", "cqar asset delete ABC --yes")
    )(delete)
