"""Chains, from JSON (names with their evidence) or from a flat CSV; every other name of a chain becomes an alias.

Where the file itself notes that its sources disagree, the disputed value is left out: a chain-id list that calls network 999
Wanchain has no say about HyperEVM.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from cqar.errors import CqarError, InvalidError
from cqar.importers._aliases import Aliases
from cqar.importers._files import SCHEMA, convert, read_csv, read_json, rows_of
from cqar.importers._lookups import Lookups
from cqar.importers._plan import REFUSALS, Importer, Options, Parsed, Plan, Refusal, Row, once
from cqar.model import Chain
from cqar.rules.records import normal
from cqar.rules.text import check_alias, check_url

SOURCES = {  # names of the files' columns and keys -> source of the alias
    "chainlist_short_name": "chainlist",
    "defillama_chainlist": "defillama",
    "defillama_adapter": "defillama",
    "coingecko_platform": "coingecko",
    "ccxt_network": "ccxt",
    "ccxt_networks": "ccxt",
    "cosmos_chain_registry": "cosmos",
}
COLUMNS = (
    "coingecko_platform",
    "defillama",
    "ccxt_networks",
    "hyperlane",
    "wormhole",
    "ledger",
    "chainlist_short_name",
)
NAMESPACES = {"evm": "eip155", "cosmos": "cosmos"}  # by family, for chains without a CAIP-2 id; others: their own slug


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A chain as either format has it."""

    slug: str
    name: str
    kind: str
    caip2: str | None = None
    network_id: int | str | None = None  # a number for EVM chains; elsewhere the reference of CAIP-2
    native_symbol: str | None = None
    native_decimals: int | None = None
    explorer: str | None = None
    slip44: int | None = None
    testnet: bool = False
    aliases: dict[str, Any] = {}
    disagreements: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def parse(path: Path) -> Parsed[Entry]:
    """Read chains.json or chains.csv."""
    if path.suffix.lower() != ".csv":
        elements = read_json(path, list[msgspec.Raw], "a list of chains")
        return rows_of(path, elements, Entry, "slug", f"file:{path.name}")
    table = read_csv(path, required=[("slug", "name", "kind")])
    parsed = Parsed[Entry](path, table.provenance, refused=table.refused)
    for number, values in table.rows:
        try:
            entry = convert({name: value for name, value in values.items() if name not in COLUMNS}, Entry)
        except REFUSALS as error:
            slug = values["slug"]
            parsed.refused.append(Refusal(row=number, key=slug, reason=error.reason, message=error.message))
            continue
        aliases = {name: values[name].split("|") for name in COLUMNS if values.get(name)}
        parsed.rows.append(Row(number, msgspec.structs.replace(entry, aliases=aliases)))
    return parsed


def plan(parsed: Parsed[Entry], lookups: Lookups, _options: Options) -> Plan:
    """Plan a chain for each row."""
    made = Plan()
    registered = lookups.chains.by_id
    claims = Aliases(registered, [(entry.slug, aliases_of(entry)) for _, entry in parsed.rows])
    seen: set[str] = set()
    for number, entry in parsed.rows:
        with made.row(number, entry.slug):
            once(entry.slug, seen, entry.slug)
            wanted = [alias for alias in aliases_of(entry) if _undisputed(made, number, entry, alias)]
            aliases = claims.granted(made, number, entry.slug, wanted)
            chain = _chain(made, number, entry, registered.get(entry.slug), parsed.provenance)
            made.add(number, entry.slug, normal(msgspec.structs.replace(chain, aliases=aliases)))
    return made


def aliases_of(entry: Entry) -> list[str]:
    """Give a row's aliases "source:name", those of well-formed names."""
    found = {
        f"{SOURCES.get(source, source)}:{name}" for source, value in entry.aliases.items() for name in _names(value)
    }
    return sorted(filter(_is_alias, found))


def _names(value: Any) -> Iterator[str]:
    """Yield the names in what a source says: one, a list of them or of objects with an id, or an object by name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    elif isinstance(value, list):
        for item in value:
            yield from _names((item.get("id") or item.get("key")) if isinstance(item, dict) else item)


def _is_alias(alias: str) -> bool:
    try:
        return check_alias(alias) == alias
    except CqarError:
        return False


def _undisputed(made: Plan, row: int, entry: Entry, alias: str) -> bool:
    """Whether no disagreement of the row is about the source of an alias."""
    source = alias.partition(":")[0]
    dispute = next((text for text in entry.disagreements if source == "chainlist" and source in text), None)
    if dispute is not None:
        made.leave_out(row, entry.slug, "DISPUTED", f"alias {alias}: {dispute}")
    return dispute is None


def _chain(made: Plan, row: int, entry: Entry, registered: Chain | None, provenance: str) -> Chain:
    symbol = entry.native_symbol
    for dispute in entry.disagreements:
        if symbol and dispute.startswith(("native symbol", "ticker")):
            made.leave_out(row, entry.slug, "DISPUTED", f"native_symbol {symbol}: {dispute}")
            symbol = None
    return Chain(
        chain_id=entry.slug,
        name=entry.name,
        namespace=registered.namespace if registered is not None else _namespace(entry),
        caip2=entry.caip2,
        network_id=_network_id(entry),
        native_symbol=symbol,
        native_decimals=entry.native_decimals,
        explorer_url=made.optional(row, entry.slug, check_url, entry.explorer, "explorer_url"),
        slip44=entry.slip44,
        is_testnet=entry.testnet,
        provenance=" ".join(entry.sources)[:256] or provenance,
    )


def _network_id(entry: Entry) -> int | None:
    """Give the EIP-155 chain id; on other families the column holds the reference of CAIP-2."""
    if entry.kind != "evm" or entry.network_id is None:
        return None
    if not str(entry.network_id).isdecimal():
        raise InvalidError(f"network_id: {entry.network_id} is not a number", reason=SCHEMA, field="network_id")
    return int(entry.network_id)


def _namespace(entry: Entry) -> str:
    if entry.caip2:
        return entry.caip2.partition(":")[0]
    return NAMESPACES.get(entry.kind, entry.slug)


CHAINS = Importer(name="chains", help="chains with their aliases: chains.json, chains.csv", parse=parse, plan=plan)
