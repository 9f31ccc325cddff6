"""`cqar resolve`, `cqar chain …`, `cqar venue …`: which asset, chain or venue is it?"""

from __future__ import annotations

from typing import Annotated

import typer

from cqar.answers import Resolution, Ticker
from cqar.cli import find, output
from cqar.cli.app import Group, WrongUsageError, examples, show_collisions
from cqar.cli.connection import ChainName, Session, VenueName, with_session
from cqar.model import MarketKind, VenueType, fold, names_of
from cqar.rules.caip import asset_id_of

chains = typer.Typer(name="chain", cls=Group, help="Chains: their names, and how many assets they carry.")
venues = typer.Typer(name="venue", cls=Group, help="Venues and what they list.")


@with_session
def resolve(
    session: Session,
    *,
    symbol: Annotated[str, typer.Argument(help="Symbol, ticker, address, CAIP-19 id or asset id.", show_default=False)],
    chain: ChainName = None,
    venue: VenueName = None,
    kind: Annotated[
        MarketKind | None, typer.Option(case_sensitive=False, help="With --venue: the kind of market.")
    ] = None,
    address: Annotated[bool, typer.Option("--address", help="Take it for an address, whatever it looks like.")] = False,
    source: Annotated[
        str | None, typer.Option(help="Take it for the name that this data source has: coingecko, slip44, …")
    ] = None,
) -> None:
    """Tell which asset a symbol, ticker, address or id means.

    If several assets are meant and no rule prefers one, all are listed and the exit code is 3.
    """
    if kind is not None and venue is None:
        raise WrongUsageError("--kind goes with --venue")
    if venue is not None and (chain is not None or address or source is not None):
        raise WrongUsageError("--venue goes with --kind only: a ticker belongs to no chain")
    if venue is not None:
        _show_ticker(session, session.client.resolve_venue_symbol(venue, symbol, kind=kind))
    elif source is not None:
        _show_resolution(session, session.client.resolve_identifier(source, symbol))
    else:
        _show_resolution(session, find.resolve(session, symbol, chain, address=address))


RESOLVE_HELP = examples(
    "cqar resolve USDC --chain ethereum",
    "cqar resolve 0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48 --chain 1",
    "cqar resolve eip155:1/slip44:60 --json",
    "cqar resolve BTCUSDT --venue binance --kind SPOT",
    "cqar resolve usd-coin --source coingecko --target localhost:7433",
)


def _show_resolution(session: Session, found: Resolution) -> None:
    if session.json:
        output.document(found)
        return
    asset, deployment = found.asset, found.deployment
    rows: list[tuple[str, object]] = [
        ("symbol", asset.symbol),
        ("name", asset.name),
        ("type", asset.asset_type),
        ("asset id", asset.asset_id),
    ]
    if deployment is not None:
        chain = session.chains.get(deployment.chain_id)
        rows += [
            ("chain", deployment.chain_id),
            ("contract", session.address(deployment.chain_id, deployment.contract_address)),
            ("decimals", deployment.decimals),
            ("canonical", deployment.is_canonical),
            ("CAIP-19", asset_id_of(chain, deployment.contract_address) if chain is not None else None),
        ]
    rows.append(("flags", [f"{flag.flag_type} {flag.severity.name} ({flag.source})" for flag in found.flags]))
    rows.append(
        ("answered by", f"{found.source} at position {found.position}, age {output.duration(session.client.age)}")
    )
    output.facts(rows)
    if found.collisions:
        output.line()
        show_collisions(found.collisions, title="Not meant, but so called:")


def _show_ticker(session: Session, row: Ticker) -> None:
    if session.json:
        output.document(row)
        return

    def named(asset_id: str | None) -> str | None:
        if asset_id is None:
            return None
        asset = session.client.asset(asset_id)
        return f"{asset.symbol}  {asset.name}  {asset_id}"

    output.facts(
        [
            ("venue", row.venue_id),
            ("ticker", row.symbol),
            ("kind", row.market_kind),
            ("also", list(row.other_kinds or ())),
            ("base", named(row.asset_id)),
            ("quote", named(row.quote_asset_id)),
            ("settle", named(row.settle_asset_id)),
            ("multiplier", row.multiplier),
            ("valid from", row.valid_from),
            ("valid to", row.valid_to),
        ]
    )


@chains.command("list", epilog=examples("cqar chain list arb", "cqar chain list --all --json"))
@with_session
def list_chains(
    session: Session,
    text: Annotated[str, typer.Argument(help="Only chains with this in one of their names.", show_default=False)] = "",
    everything: Annotated[bool, typer.Option("--all", help="Inactive ones too.")] = False,
) -> None:
    """List the chains."""
    found = [
        chain
        for chain in session.client.list_chains(include_inactive=everything)
        if any(fold(text) in word for (word,) in [*names_of(chain), (fold(chain.name),)])
    ]
    if session.json:
        output.document(found)
        return
    output.table(
        ["chain", "name", "CAIP-2", "native", "remarks"],
        [
            [
                chain.chain_id,
                chain.name,
                chain.caip2,
                chain.native_symbol,
                " ".join(["testnet"] * chain.is_testnet + ["inactive"] * (not chain.is_active)),
            ]
            for chain in found
        ],
    )


@chains.command("show", epilog=examples("cqar chain show polygon-pos", "cqar chain show 137"))
@with_session
def show_chain(
    session: Session,
    name: Annotated[str, typer.Argument(help="Slug, CAIP-2, network id or alias.", show_default=False)],
) -> None:
    """Show a chain with all its names."""
    chain = session.chain(name)
    if session.json:
        output.document(chain)
        return
    (count,) = session.client.sql(
        "SELECT count(*) FROM asset_deployments WHERE chain_id = $chain", {"chain": chain.chain_id}
    ).fetchall()[0]
    output.facts(
        [
            ("chain", chain.chain_id),
            ("name", chain.name),
            ("CAIP-2", chain.caip2),
            ("namespace", chain.namespace),
            ("network id", chain.network_id),
            ("native", chain.native_symbol),
            ("native decimals", chain.native_decimals),
            ("native asset", chain.native_asset_id),
            ("explorer", chain.explorer_url),
            ("testnet", chain.is_testnet),
            ("inactive", not chain.is_active),
            ("aliases", chain.aliases),
            ("deployments", count),
            ("provenance", chain.provenance),
        ]
    )


@venues.command("list", epilog=examples("cqar venue list --type DEX", "cqar venue list kraken"))
@with_session
def list_venues(
    session: Session,
    text: Annotated[str, typer.Argument(help="Only venues with this in one of their names.", show_default=False)] = "",
    type: Annotated[VenueType | None, typer.Option(case_sensitive=False, help="Only of this type.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Inactive ones too.")] = False,
) -> None:
    """List the venues."""
    found = [
        venue
        for venue in session.client.list_venues(type=type, include_inactive=everything)
        if any(fold(text) in word for (word,) in [*names_of(venue), (fold(venue.name),)])
    ]
    if session.json:
        output.document(found)
        return
    output.table(
        ["venue", "name", "type", "chain", "countries", "remarks"],
        [
            [
                venue.venue_id,
                venue.name,
                venue.venue_type,
                venue.chain_id,
                venue.countries,
                "" if venue.is_active else "inactive",
            ]
            for venue in found
        ],
    )


@venues.command("show", epilog=examples("cqar venue show binance", "cqar venue show gdax --json"))
@with_session
def show_venue(
    session: Session, name: Annotated[str, typer.Argument(help="Slug or alias.", show_default=False)]
) -> None:
    """Show a venue with all its names, and what it lists by kind."""
    venue = session.venue(name)
    if session.json:
        output.document(venue)
        return
    output.facts(
        [
            ("venue", venue.venue_id),
            ("name", venue.name),
            ("type", venue.venue_type),
            ("website", venue.website),
            ("countries", venue.countries),
            ("chain", venue.chain_id),
            ("inactive", not venue.is_active),
            ("aliases", venue.aliases),
            ("provenance", venue.provenance),
        ]
    )
    kinds = session.client.sql(
        "SELECT market_kind, count(*) FROM venue_symbols WHERE venue_id = $venue GROUP BY 1 ORDER BY 1",
        {"venue": venue.venue_id},
    ).fetchall()
    output.facts([("lists", [f"{count} {kind}" for kind, count in kinds])])


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("resolve", epilog=RESOLVE_HELP)(resolve)
    app.add_typer(chains)
    app.add_typer(venues)
