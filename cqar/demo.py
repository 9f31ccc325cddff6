"""`cqar demo`: the main job, end to end, on real data and real servers, in less than a minute.

Everything runs on this machine in a temporary folder: an embedded PostgreSQL, the server, a client with its replica. Nothing is
left behind. Each line on the screen is a thing that just happened, with the time that it took.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cqar.answers import Resolution
from cqar.client import AmbiguousError, Client, FlagType, QualityFlag, Severity, connect
from cqar.client._place import bundled_catalogue
from cqar.rules.addresses import display_address

CHAINS = ("ethereum", "base", "bnb", "solana", "osmosis")
ADDRESS = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"  # USDC on Ethereum, as its checksum writes it
LOOKUPS = 100_000


def run(console: Console | None = None) -> int:
    """Run the demo; give the exit code."""
    console = console or Console(highlight=False)
    started = time.perf_counter()
    # PostgreSQL runs under another account when root starts it: the folder must let it pass.
    with tempfile.TemporaryDirectory(prefix="cqar-demo-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        with _server(console, folder) as target:
            position = _load(console, target)
            snapshots = folder / "snapshots"
            _published(console, snapshots, position)
            with (
                _step(console, f"connect a client to {target}: snapshot, replica, feed") as tell,
                connect(target, snapshots=snapshots, replica_dir=folder / "replica", actor="demo") as client,
            ):
                tell(f"position {client.position}, age {client.age * 1000:.0f} ms")
                _resolve(console, client)
                _gate(console, client)
                _measure(console, client)
    console.print(f"\n[bold green]done[/] in {time.perf_counter() - started:.1f} s; nothing is left behind")
    return 0


@contextmanager
def _step(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done and, once the function that is given was called, what came of it and how long it took."""
    start = time.perf_counter()
    console.print(f"[bold cyan]>[/] {escape(what)}")
    yield lambda outcome: console.print(
        f"  [green]ok[/] {escape(outcome)} [dim]({time.perf_counter() - start:.2f} s)[/]"
    )


@contextmanager
def _server(console: Console, folder: Path) -> Iterator[str]:
    from cqar.server.config import Config  # noqa: PLC0415  (the client does without the server's libraries)
    from cqar.server.server import running_server  # noqa: PLC0415

    config = Config(listen="127.0.0.1:0", data_dir=folder, snapshots=str(folder / "snapshots"), snapshot_interval=0.5)
    with _step(console, "start an embedded PostgreSQL and the server") as tell, running_server(config) as server:
        tell(f"serving on {server.target}")
        yield server.target


def _load(console: Console, target: str) -> int:
    from cqar import importers  # noqa: PLC0415
    from cqar.client._registry import Registry  # noqa: PLC0415
    from cqar.client._remote import Remote  # noqa: PLC0415

    remote = Remote(target, token=None, actor="demo", timeout=5.0)
    with _step(console, "load the catalogue of real chains, assets and tickers through gRPC") as tell:
        report = importers.run("snapshot", bundled_catalogue(), Registry(remote))
        tell(f"{report.created:,} records created, {report.refused} refused, position {report.position}")
    with _step(console, "load it again: an import that was done already changes nothing") as tell:
        again = importers.run("snapshot", bundled_catalogue(), Registry(remote))
        tell(
            f"{again.created} created, {again.updated} updated, {again.unchanged:,} unchanged, position {again.position}"
        )
    remote.close()
    return again.position or 0


def _published(console: Console, root: Path, position: int) -> None:
    from cqar import snapshot  # noqa: PLC0415

    with _step(console, "wait for the server to publish a snapshot") as tell:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            newest = next(iter(snapshot.listing(root)), None)
            if newest is not None and newest.manifest.position >= position:
                snapshot.verify(newest.path)
                tell(
                    f"position {newest.manifest.position}: {sum(newest.rows.values()):,} records, {newest.size:,} bytes"
                )
                return
            time.sleep(0.05)
        raise TimeoutError("no snapshot was published within 20 s")


def _resolve(console: Console, client: Client) -> None:
    for chain in CHAINS:
        with _step(console, f'resolve("USDC", chain="{chain}")') as tell:
            tell(_told(client, client.resolve("USDC", chain=chain)))
    with _step(console, 'resolve("USDC", chain="neutron"): two deployments and nothing to prefer') as tell:
        try:
            client.resolve("USDC", chain="neutron")
        except AmbiguousError as error:
            named = ", ".join([f"{(c.contract_address or '')[:16]}…" for c in error.candidates])
            tell(f"AmbiguousError, never a guess: {named}")
    with _step(console, f'resolve_address("ethereum", "{ADDRESS}")') as tell:
        tell(_told(client, client.resolve_address("ethereum", ADDRESS)))
    with _step(console, 'resolve_venue_symbol("binance", "BTCUSDT")') as tell:
        row = client.resolve_venue_symbol("binance", "BTCUSDT")
        quote = client.asset(row.quote_asset_id or "")
        tell(
            f"{row.market_kind}: base {client.asset(row.asset_id).name}, quote {quote.name}, multiplier {row.multiplier}"
        )
    with _step(console, 'group("ETH"): what a portfolio sums up') as tell:
        group = client.group("ETH")
        symbols = list(dict.fromkeys(asset.symbol for _, asset in group.members))
        tell(
            f"{len(group.members)} members, canonical {group.canonical.name if group.canonical else '-'}: "
            f"{', '.join(symbols[:10])}, …"
        )


def _told(client: Client, found: Resolution) -> str:
    text = f"{found.asset.name} ({found.asset.asset_id})"
    if found.deployment is not None:
        (chain,) = [c for c in client.list_chains() if c.chain_id == found.deployment.chain_id]
        address = display_address(chain, found.deployment.contract_address or "native")
        text += f", {found.deployment.decimals} decimals, {address}"
    if found.collisions:
        text += f"; {len(found.collisions)} collisions: {', '.join(sorted({c.name for c in found.collisions}))}"
    return text


def _gate(console: Console, client: Client) -> None:
    asset = client.resolve("USDe", chain="ethereum").asset
    with _step(console, f"may {asset.name} be traded?") as tell:
        tell(str(client.check_tradable(asset.asset_id).decision))
    flag = QualityFlag(
        asset_id=asset.asset_id,
        flag_type=FlagType.DEPEGGED,
        severity=Severity.CRITICAL,
        source="demo",
        reason="raised by the demo: trades must stop",
    )
    with _step(console, "raise a CRITICAL flag on the server, and ask the client's gate until it says BLOCK") as tell:
        start = time.perf_counter()
        written = client.registry.raise_quality_flag(flag)
        acknowledged = time.perf_counter()
        while (verdict := client.check_tradable(asset.asset_id)).decision != "BLOCK":
            if time.perf_counter() - start > 10:
                raise TimeoutError("the gate did not turn within 10 s")
            time.sleep(0.0001)
        seen = time.perf_counter()
        tell(
            f"{verdict.decision}: {verdict.reasons[0]}; {(seen - start) * 1000:.1f} ms after the call, "
            f"{max(0.0, seen - acknowledged) * 1000:.1f} ms after the server's acknowledgement"
        )
    with _step(console, "clear it") as tell:
        cleared = client.registry.resolve_quality_flag(written.record.flag_id, reason="the demo is over")
        client.wait_for(cleared.position)
        tell(str(client.check_tradable(asset.asset_id).decision))


def _measure(console: Console, client: Client) -> None:
    asset_id = client.resolve("USDC", chain="ethereum").asset.asset_id
    plain = {("USDC", "ethereum"): asset_id}
    calls: dict[str, Callable[[], object]] = {
        "a plain dict look-up in a function": lambda: plain["USDC", "ethereum"],
        'resolve("USDC", chain="ethereum")': lambda: client.resolve("USDC", chain="ethereum"),
        'resolve_venue_symbol("binance", "BTCUSDT")': lambda: client.resolve_venue_symbol("binance", "BTCUSDT"),
        "check_tradable(asset_id)": lambda: client.check_tradable(asset_id),
    }
    with _step(console, f"measure look-ups, {LOOKUPS:,} each") as tell:
        figures = [f"{what}: {_nanoseconds(call):.0f} ns" for what, call in calls.items()]
        symbols = [symbol for (symbol,) in client.sql("SELECT symbol FROM assets ORDER BY asset_id").fetchall()]
        client.resolve_many(symbols)  # asks each for the first time
        start = time.perf_counter()
        table = client.resolve_many(symbols * 10)
        took = time.perf_counter() - start
        tell("; ".join(figures))
        console.print(f"     resolve_many: {table.num_rows / took:,.0f} rows a second [dim](this machine, now)[/]")


def _nanoseconds(call: Callable[[], object]) -> float:
    rounds = []
    for _ in range(5):
        start = time.perf_counter_ns()
        for _ in range(LOOKUPS // 5):
            call()
        rounds.append((time.perf_counter_ns() - start) / (LOOKUPS // 5))
    return statistics.median(rounds)
