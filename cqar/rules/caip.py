"""CAIP-2 chain ids (`eip155:1`) and CAIP-19 asset types (`eip155:1/erc20:0x…`): read and written (R5).

Syntax from https://chainagnostic.org/CAIPs/caip-2 and caip-19; which asset namespace a chain's tokens have, from the
profiles at https://namespaces.chainagnostic.org. The address inside is passed on as written: `addresses` normalises it.
"""

from __future__ import annotations

import re
from typing import NoReturn

import msgspec

from cqar import model
from cqar.errors import InvalidError
from cqar.rules.text import quote

_CHAIN = r"(?P<namespace>[-a-z0-9]{3,8}):(?P<reference>[-_a-zA-Z0-9]{1,32})"
_CHAIN_ID = re.compile(_CHAIN)
_ASSET_TYPE = re.compile(
    rf"{_CHAIN}/(?P<asset_namespace>[-a-z0-9]{{3,8}}):(?P<asset_reference>[-.%a-zA-Z0-9]{{1,128}})"
    r"(?P<token_id>/[-.%a-zA-Z0-9]{1,78})?"
)

_TO_ENCODE = re.compile(r"[^-.a-zA-Z0-9]")
_ENCODED = re.compile(r"(?:[-.a-zA-Z0-9]|%[0-9A-Fa-f]{2})*")

SLIP44 = "slip44"  # CAIP-20: the native asset, by its coin type
# Asset namespace of fungible tokens, per chain namespace. Only published profiles: an invented one helps nobody.
TOKEN_NAMESPACES = {"eip155": "erc20", "solana": "token", "stellar": "asset"}


class ChainId(msgspec.Struct, frozen=True):
    """A CAIP-2 chain id; `str` formats it."""

    namespace: str
    reference: str

    def __str__(self) -> str:
        return f"{self.namespace}:{self.reference}"


class AssetId(msgspec.Struct, frozen=True):
    """A CAIP-19 asset type; `str` formats it. `reference` is decoded: the address, or the coin type for slip44."""

    chain: ChainId
    namespace: str
    reference: str

    @property
    def is_native(self) -> bool:
        """Whether it names the chain's native asset."""
        return self.namespace == SLIP44

    def __str__(self) -> str:
        return f"{self.chain}/{self.namespace}:{_encode(self.reference)}"


def parse_chain_id(text: str, field: str = "chain_id") -> ChainId:
    """Read a CAIP-2 id."""
    match = _CHAIN_ID.fullmatch(text)
    if match is None:
        _refuse(text, field, "CHAIN_ID_FORMAT", "CAIP-2: namespace:reference, as in eip155:1")
    return ChainId(match["namespace"], match["reference"])


def parse_asset_id(text: str, field: str = "asset") -> AssetId:
    """Read a CAIP-19 asset type. An id with a token id names one NFT, which the registry does not hold: refused."""
    match = _ASSET_TYPE.fullmatch(text)
    if match is None:
        rule = "CAIP-19: chain/namespace:reference, as in eip155:1/erc20:0xa0b8… or eip155:1/slip44:60"
        _refuse(text, field, "ASSET_ID_FORMAT", rule)
    if match["token_id"] is not None:
        _refuse(text, field, "ASSET_ID_NFT", "a fungible asset: an id with a token id names an NFT")
    reference = _decode(match["asset_reference"])
    if reference is None:
        _refuse(text, field, "ASSET_ID_FORMAT", "percent-encoded UTF-8 where it has a % sign (RFC 3986)")
    if match["asset_namespace"] == SLIP44 and not re.fullmatch(r"0|[1-9][0-9]{0,9}", reference):
        _refuse(text, field, "ASSET_ID_FORMAT", "a SLIP-44 coin type after slip44:, as in eip155:1/slip44:60")
    return AssetId(ChainId(match["namespace"], match["reference"]), match["asset_namespace"], reference)


def is_asset_id(text: str) -> bool:
    """Whether a text is written as a CAIP-19 id, to tell it from an address or a symbol."""
    return _ASSET_TYPE.fullmatch(text) is not None


def address_of(asset: AssetId, chain: model.Chain, field: str = "asset") -> str:
    """Give the address (not yet normalised) or `model.NATIVE` that a CAIP-19 id means on its chain.

    A coin type other than the chain's own is refused: `eip155:137/slip44:60` is ether, not Polygon's native asset.
    """
    if not asset.is_native:
        expected = TOKEN_NAMESPACES.get(chain.namespace)
        if expected is not None and asset.namespace != expected:
            _refuse(str(asset), field, "ASSET_ID_NAMESPACE", f"{expected}: for a token on {chain.chain_id}")
        return asset.reference
    if chain.slip44 is not None and asset.reference != str(chain.slip44):
        _refuse(
            str(asset), field, "ASSET_ID_COIN_TYPE", f"slip44:{chain.slip44} for the native asset of {chain.chain_id}"
        )
    return model.NATIVE


def asset_id_of(chain: model.Chain, address: str | None) -> str | None:
    """Write the CAIP-19 id of a deployment (None or `model.NATIVE`: native), if chain and namespace have one."""
    if chain.caip2 is None:
        return None
    if address is None or address == model.NATIVE:
        return None if chain.slip44 is None else f"{chain.caip2}/{SLIP44}:{chain.slip44}"
    namespace = TOKEN_NAMESPACES.get(chain.namespace)
    return None if namespace is None else f"{chain.caip2}/{namespace}:{_encode(address)}"


def _encode(reference: str) -> str:
    """Percent-encode what CAIP-19 does not allow; urllib would let "_" and "~" pass, and costs 10 ms to import."""
    return _TO_ENCODE.sub(lambda match: "".join([f"%{byte:02X}" for byte in match[0].encode()]), reference)


def _decode(reference: str) -> str | None:
    if "%" not in reference:
        return reference
    if not _ENCODED.fullmatch(reference):
        return None
    try:
        return re.sub(rb"%(..)", lambda match: bytes.fromhex(match[1].decode()), reference.encode()).decode()
    except UnicodeDecodeError:
        return None


def _refuse(text: str, field: str, reason: str, rule: str) -> NoReturn:
    raise InvalidError(f"{field} must be {rule}; got {quote(text)}", reason=reason, field=field, rule=rule)
