"""`cqar bench`: how fast look-ups are on this machine, beside a plain dict. The full benchmark is `make bench`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cqar.cli import output
from cqar.cli.app import examples
from cqar.cli.connection import Session, with_session
from cqar.errors import CqarError

if TYPE_CHECKING:
    from cqar.client import Client

_ROUNDS = 5  # the best one counts: the others were disturbed


@with_session
def bench(
    session: Session,
    calls: Annotated[int, typer.Option(min=1000, max=10_000_000, help="Calls per round.")] = 100_000,
) -> None:
    """Measure look-ups on this machine.

    The yardstick is a plain function that looks into a dict. "hot" is an answer that was given before; "cold" is the first
    one, from the files of the replica.
    """
    client = session.client
    pairs = _resolvable(client)
    symbol, chain = ("USDC", "ethereum") if ("USDC", "ethereum") in pairs else pairs[0]
    asset_id = client.resolve(symbol, chain=chain).asset.asset_id
    tickers = client.sql(
        "SELECT venue_id, symbol FROM venue_symbols GROUP BY 1, 2 HAVING count(*) = 1 ORDER BY 1, 2 LIMIT 1"
    ).fetchall()
    answers = {(symbol, chain): client.resolve(symbol, chain=chain)}

    def plain(symbol: str, *, chain: str | None = None) -> Any:
        return answers[symbol, chain]  # type: ignore[index]

    figures = {
        "plain function, one dict look-up": _hot(lambda: plain(symbol, chain=chain), calls),
        "resolve, hot": _hot(lambda: client.resolve(symbol, chain=chain), calls),
        "check_tradable, hot": _hot(lambda: client.check_tradable(asset_id, max_age=1e12), calls),
    }
    if tickers:
        venue, ticker = tickers[0]
        figures["resolve_venue_symbol, hot"] = _hot(lambda: client.resolve_venue_symbol(venue, ticker), calls)
    figures["resolve, cold"] = _cold(session, pairs)
    base = figures["plain function, one dict look-up"]
    if session.json:
        rows = [{"what": name, "ns": round(ns), "times_dict": round(ns / base, 2)} for name, ns in figures.items()]
        output.document({"figures": rows, "keys": len(pairs), "position": client.position})
        return
    output.table(
        ["look-up", "ns", "x dict"], [[name, f"{ns:,.0f}", f"{ns / base:.1f}"] for name, ns in figures.items()]
    )
    output.note(f"best of {_ROUNDS} rounds of {calls:,} calls; cold over {len(pairs):,} keys")


def _resolvable(client: Client) -> list[tuple[str, str]]:
    """Give the symbols with a chain that have one answer."""
    rows = client.sql(
        "SELECT DISTINCT symbol, chain_id FROM asset_deployments JOIN assets USING (asset_id) ORDER BY 1, 2 LIMIT 5000"
    ).fetchall()
    found = []
    for symbol, chain in rows:
        try:
            client.resolve(symbol, chain=chain)
        except CqarError:
            continue
        found.append((symbol, chain))
    if not found:
        raise CqarError("the registry has no deployments: nothing to measure", reason="EMPTY")
    return found


def _hot(call: Callable[[], Any], calls: int) -> float:
    """Give the nanoseconds of a call, without those of the loop and the lambda's own."""
    call()
    return max(1.0, _best(call, calls) - _best(lambda: None, calls))


def _best(call: Callable[[], Any], calls: int) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter_ns() - start) / calls)
    return best


def _cold(session: Session, pairs: Sequence[tuple[str, str]]) -> float:
    """Give the nanoseconds of a first answer, from a client that has given none yet."""
    best = float("inf")
    for _ in range(_ROUNDS):
        with session.fresh() as client:
            client.resolve(*pairs[0][:1], chain=pairs[0][1])
            start = time.perf_counter_ns()
            for symbol, chain in pairs[1:]:
                client.resolve(symbol, chain=chain)
            best = min(best, (time.perf_counter_ns() - start) / max(1, len(pairs) - 1))
    return best


def register(root: typer.Typer) -> None:
    """Add these commands."""
    root.command(epilog=examples("cqar bench", "cqar bench --target localhost:7433 --json"))(bench)
