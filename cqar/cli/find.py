"""What a person writes for an asset: a symbol, an id, an address with its chain, or a CAIP-19 id.

Reading commands look it up in the client, writing ones on the server: who writes must not act on an old copy.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from cqar.answers import Candidate, Collision, Resolution
from cqar.cli.connection import Session
from cqar.errors import AmbiguousError, InvalidError, NotFoundError
from cqar.model import Asset, fold
from cqar.rules.caip import address_of, is_asset_id, parse_asset_id
from cqar.rules.choose import collision

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"0[xX][0-9a-fA-F]{16,}")
_LONG = re.compile(r"[A-Za-z0-9]{32,}")  # base58 and the like; no real ticker is one
_MARKS = ("::", "ibc/", "factory/", "cw20:")

AssetRef = Annotated[
    str, typer.Argument(metavar="ASSET", help="Symbol, id, CAIP-19 id, or address (with --chain).", show_default=False)
]


def is_uuid(text: str) -> bool:
    """Whether a text is written as an id of the registry."""
    return _UUID.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether a text is surely an address and no symbol."""
    return bool(_HEX.match(text) or _LONG.fullmatch(text) or any(mark in text for mark in _MARKS))


def resolve(session: Session, text: str, chain: str | None, *, address: bool = False) -> Resolution:
    """Resolve what a person writes for an asset, in the client."""
    text = text.strip()
    client = session.client
    if is_uuid(text):
        return Resolution(
            asset=client.asset(text),
            deployment=None,
            flags=client.flags(text),
            collisions=(),
            position=client.position,
        )
    if is_asset_id(text):
        asset_id = parse_asset_id(text)
        found = session.chain(str(asset_id.chain))
        return client.resolve_address(found.chain_id, address_of(asset_id, found))
    if address or is_address(text):
        if chain is None:
            raise InvalidError(_which_chain(session, text), reason="CHAIN_MISSING", field="chain")
        return client.resolve_address(chain, text)
    try:
        return client.resolve(text, chain=chain)
    except NotFoundError as error:
        if chain is not None:
            session.chain(chain)  # if it is the chain that is not known, say so
        raise _hinted(session, error, text, chain) from None


def _which_chain(session: Session, text: str) -> str:
    rows = session.client.sql(
        "SELECT DISTINCT chain_id FROM asset_deployments WHERE contract_address IN ($text, lower($text)) ORDER BY 1",
        {"text": text},
    ).fetchall()
    known = ", ".join([row[0] for row in rows])
    return f"{text} is an address: say on which chain with --chain" + (f"; it is known on {known}" if known else "")


def _hinted(session: Session, error: NotFoundError, text: str, chain: str | None) -> NotFoundError:
    """Say where else the symbol is, or how to look for it."""
    hint = f"`cqar asset search {text}` looks for parts of symbols and names"
    if chain is not None:
        rows = session.client.sql(
            "SELECT DISTINCT chain_id FROM asset_deployments JOIN assets USING (asset_id)"
            " WHERE lower(symbol) = lower($symbol) ORDER BY 1",
            {"symbol": text},
        ).fetchall()
        if rows:
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            hint = f"it is on {', '.join([row[0] for row in rows[:5]])}{more}"
    return NotFoundError(
        f"{error.message}; {hint}", look_alikes=error.look_alikes, reason=error.reason, **error.metadata
    )


def to_write(session: Session, text: str, chain: str | None) -> Asset:
    """Return the asset that a write is about, as the server knows it; every command says which it was (rule R22, writes by name).

    Raise AmbiguousError if another live asset bears the symbol, in whatever case and whichever of them a look-up would prefer: a
    look-up may be repeated, a write to the wrong asset has been seen by everybody.
    """
    text = text.strip()
    registry = session.registry
    if not (is_uuid(text) or is_asset_id(text) or is_address(text)):
        return _only_bearer(registry.resolve(text, chain=chain), text, chain)
    return registry.get_asset(asset_id_on_server(session, text, chain))


def _only_bearer(found: Resolution, text: str, chain: str | None) -> Asset:
    others = namesakes(found, text, in_any_case=True)
    if others:
        asked = text if chain is None else f"{text} on {chain}"
        answer = collision(Candidate(found.asset, found.deployment, found.flags))
        raise AmbiguousError(
            f"{asked}: {len(others) + 1} assets bear this symbol, and a write never chooses: nothing was written. "
            "Say which one by its asset id, or by its address with --chain",
            candidates=(answer, *others),
            reason="SEVERAL_BEARERS",
        )
    return found.asset


def namesakes(found: Resolution, text: str, *, in_any_case: bool = False) -> list[Collision]:
    """Return the other assets that bear the symbol that was asked for, once each.

    In any case, or as it was typed, unless the answer itself differs from that by case. The mark `look_alike` does not count: it
    is on one that bears the very symbol too, if its name looks like the answer's or the answer is a native asset.
    """
    answer, text = found.asset, text.strip()
    in_any_case = in_any_case or answer.symbol != text
    others: dict[str, Collision] = {}
    for each in found.collisions:
        bears = fold(each.symbol) == fold(text) if in_any_case else each.symbol == text
        if bears and each.asset_id != answer.asset_id:
            others.setdefault(each.asset_id, each)
    return list(others.values())


def described(asset: Asset) -> str:
    """Return how every command that writes says what it hit: symbol, name and id."""
    return f"{asset.symbol}  {asset.name}  {asset.asset_id}"


def asset_id_on_server(session: Session, text: str, chain: str | None) -> str:
    """Return the id of what a person writes for an asset, as the server knows it; for commands that only read."""
    text = text.strip()
    registry = session.registry
    if is_uuid(text):
        return text.lower()
    if is_asset_id(text):
        asset_id = parse_asset_id(text)
        found = registry.get_chain(str(asset_id.chain))
        return registry.get_asset_deployment(chain=found.chain_id, address=address_of(asset_id, found)).asset_id
    if is_address(text):
        if chain is None:
            raise InvalidError(
                f"{text} is an address: say on which chain with --chain", reason="CHAIN_MISSING", field="chain"
            )
        return registry.get_asset_deployment(chain=chain, address=text).asset_id
    return registry.resolve(text, chain=chain).asset.asset_id
