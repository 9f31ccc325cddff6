"""Normal forms of contract addresses, per chain namespace (R3).

`normalise_address` is the only door: what it gives is stored, indexed and compared as it is. Two spellings of one
contract have one normal form; a spelling whose checksum is wrong is refused, never repaired. Placeholders that people
write for a chain's native asset give `model.NATIVE`. Each namespace has one function in `_RULES`; a namespace without
one keeps the text exactly, but for surrounding blanks.

The client imports this module: Keccak (28 ms), base58 and bech32 are imported when an address first needs them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import NoReturn

from cqar import model
from cqar.errors import InvalidError
from cqar.rules.text import has_hidden, quote

ADDRESS_LIMIT = 256  # the longest real one has 120; LMDB takes keys of at most 511 bytes
CHECKSUM_WITH_CHAIN = frozenset({30, 31})  # EIP-1191: Rootstock, main and test network

_EVM_NORMAL = re.compile(r"0x[0-9a-f]{40}")
_EVM = re.compile(r"0[xX]([0-9a-fA-F]{40})")
_EVM_NATIVE = frozenset({"0x" + "0" * 40, "0x" + "e" * 40})  # "no contract", and the convention of swap routers
_EVM_NATIVE_ON = {  # system contracts that mirror the balance in the chain's own coin; each is in some token list
    10: "0xdeaddeaddeaddeaddeaddeaddeaddeaddead0000",  # Optimism
    137: "0x0000000000000000000000000000000000001010",  # Polygon
    199: "0x0000000000000000000000000000000000001010",  # BitTorrent
    1088: "0xdeaddeaddeaddeaddeaddeaddeaddeaddead0000",  # Metis
    5000: "0xdeaddeaddeaddeaddeaddeaddeaddeaddead0000",  # Mantle
    42220: "0x471ece3750da237f93b8e339c536989b8978a438",  # Celo
}
_EVM_PREFIX_ON = {50: "xdc", 51: "xdc", 2020: "ronin:", 2021: "ronin:"}  # written instead of 0x on these networks
_HEX_64 = re.compile(r"0[xX]([0-9a-fA-F]{1,64})")
_MOVE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BECH32 = re.compile(r"([a-z][a-z0-9]*)1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{38,}", re.IGNORECASE)
_DENOM = re.compile(r"[a-zA-Z][a-zA-Z0-9/:._-]{2,127}")  # Cosmos SDK, types/coin.go
_EVM_DENOM = re.compile(r"([a-z0-9]+[/:]?)(0x[0-9a-fA-F]{40})")  # peggy0x…, erc20/0x…: a contract in a denom
_IBC_DENOM = re.compile(r"ibc/([0-9a-fA-F]{64})")
_BITCOIN_TOKEN = re.compile(r"([0-9a-f]{64})(i(?:0|[1-9][0-9]*))?|[1-9][0-9]*:(?:0|[1-9][0-9]*)")
_SEGWIT_PREFIXES = frozenset({"bc", "tb", "ltc", "tltc"})
_BECH32M = 0x2BC830A3  # BIP-350; the bech32 package knows only BIP-173
_SOLANA_SYSTEM = "1" * 32
_TRON_VERSION = 0x41
_TRON_ZERO = "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb"  # version 0x41 and twenty zero bytes
_MOVE_NATIVE = {  # the coin's type, and on Aptos its metadata object of the newer standard as well
    "aptos": frozenset({f"0x{1:064x}::aptos_coin::AptosCoin", f"0x{0xA:064x}"}),
    "sui": frozenset({f"0x{2:064x}::sui::SUI"}),
}


def normalise_address(chain: model.Chain, text: str) -> str:
    """Give the normal form of a contract address on a chain, or `model.NATIVE` for its native asset's placeholders.

    Raises `InvalidError` with a reason ADDRESS_… and the rule that was broken. Idempotent.
    """
    if chain.namespace == "eip155" and _EVM_NORMAL.fullmatch(text):  # 0.3 us: what every look-up of a program pays
        return model.NATIVE if text in _EVM_NATIVE or text == _EVM_NATIVE_ON.get(chain.network_id or 0) else text
    text = text.strip()
    if text == model.NATIVE:
        return model.NATIVE
    if not text:
        _refuse("must not be empty", "EMPTY", "at least 1 character")
    if len(text) > ADDRESS_LIMIT:
        rule = f"at most {ADDRESS_LIMIT} characters"
        _refuse(f"has {len(text)} characters, allowed are {rule}", "LENGTH", rule)
    if has_hidden(text) or any(map(str.isspace, text)):
        _refuse(f"{quote(text)} holds a blank or an invisible character", "CHARACTER", "visible characters only")
    normalise = _RULES.get(chain.namespace)
    if normalise is None:
        return text
    if not text.isascii():
        _refuse(f"{quote(text)} holds a character outside ASCII: a look-alike?", "CHARACTER", "ASCII only")
    return normalise(chain, text)


def display_address(chain: model.Chain, address: str) -> str:
    """Give the form to show to people: checksummed on EVM chains (EIP-55, EIP-1191), as stored elsewhere."""
    if chain.namespace == "eip155" and _EVM_NORMAL.fullmatch(address):
        return checksummed(address, chain.network_id if chain.network_id in CHECKSUM_WITH_CHAIN else None)
    return address


@functools.lru_cache(maxsize=16384)
def checksummed(address: str, network_id: int | None = None) -> str:
    """Write a normal EVM address with its EIP-55 checksum, or with that of EIP-1191 if a network id is given."""
    from Crypto.Hash import keccak  # noqa: PLC0415 - 28 ms

    digits = address[2:]
    hashed = digits if network_id is None else f"{network_id}{address}"
    digest = keccak.new(digest_bits=256, data=hashed.encode()).hexdigest()
    return "0x" + "".join([d.upper() if h >= "8" else d for d, h in zip(digits, digest, strict=False)])


def _evm(chain: model.Chain, text: str) -> str:
    prefix = _EVM_PREFIX_ON.get(chain.network_id or 0)
    if prefix is not None and text.startswith(prefix):
        text = "0x" + text.removeprefix(prefix)
    match = _EVM.fullmatch(text)
    if match is None:
        _refuse(f"{quote(text)} is no EVM address: expected 0x and 40 hex digits", "FORMAT", "0x and 40 hex digits")
    normal = "0x" + match[1].lower()
    _verify_checksum("0x" + match[1], normal, chain.network_id if chain.network_id in CHECKSUM_WITH_CHAIN else None)
    return normalise_address(chain, normal)


def _verify_checksum(text: str, normal: str, network_id: int | None = None) -> None:
    """Refuse mixed case that is not the checksum. All-lower and all-upper case carry none."""
    if text == normal or text[2:] == normal[2:].upper() or text == checksummed(normal, network_id):
        return
    standard = "EIP-55" if network_id is None else f"EIP-1191 for network {network_id}"
    _refuse(
        f"{text} has a wrong checksum ({standard}): a character is mistyped, or its case was changed on the way; "
        "check it, or write it all in lower case",
        "CHECKSUM",
        standard,
    )


def _solana(_chain: model.Chain, text: str) -> str:
    if len(_base58(text)) != 32:
        _refuse(f"{text} is no Solana address: expected base58 of 32 bytes", "FORMAT", "base58 of 32 bytes")
    return model.NATIVE if text == _SOLANA_SYSTEM else text


def _tron(_chain: model.Chain, text: str) -> str:
    what = "a Tron address: 34 characters of base58check, the first T"
    if _base58check(text, what)[0] != _TRON_VERSION:
        _refuse(f"{text} is not {what}", "FORMAT", what)
    return model.NATIVE if text == _TRON_ZERO else text


def _bitcoin(_chain: model.Chain, text: str) -> str:
    """Tokens on Bitcoin-like chains are named by an inscription, a rune (block:index) or an issuing transaction."""
    lower = text.lower()
    if _BITCOIN_TOKEN.fullmatch(lower):
        return lower
    if lower.partition("1")[0] in _SEGWIT_PREFIXES:
        return _segwit(text)
    what = "an inscription, rune or transaction id, nor a base58check or segwit address"
    if _base58check(text, what)[0] == _TRON_VERSION:
        _refuse(f"{text} is not {what}", "FORMAT", what)
    return text


def _cosmos(_chain: model.Chain, text: str) -> str:
    """Bank denoms are exact; a CW20 contract is its bare address, whether written with `cw20:` or without."""
    text = text.removeprefix("cw20:")
    if _BECH32.fullmatch(text):
        return _account(text)
    if text.lower().startswith("ibc/"):
        match = _IBC_DENOM.fullmatch(text)
        if match is None:
            _refuse(f"{text} is no IBC denom: expected ibc/ and 64 hex digits", "FORMAT", "ibc/ and 64 hex digits")
        return "ibc/" + match[1].upper()
    if not _DENOM.fullmatch(text):
        rule = "3 to 128 of letters, digits and / : . _ -, the first a letter"
        hint = " (0x… belongs to the chain's EVM side)" if text.startswith("0x") else ""
        _refuse(f"{quote(text)} is no denom: expected {rule}{hint}", "FORMAT", rule)
    if match := _EVM_DENOM.fullmatch(text):  # checksummed on its chain, in lower case in some lists
        _verify_checksum(match[2], match[2].lower())
        return match[1] + checksummed(match[2].lower())
    if text.startswith("factory/") and _BECH32.fullmatch(creator := text.split("/")[1]):
        _account(creator)  # for its checksum
    return text


def _starknet(_chain: model.Chain, text: str) -> str:
    match = _HEX_64.fullmatch(text)
    if match is None or not 0 < int(match[1], 16) < 2**251:
        rule = "0x and up to 64 hex digits, from 1 to 2^251 - 1"
        _refuse(f"{quote(text)} is no Starknet address: expected {rule}", "FORMAT", rule)
    return f"0x{int(match[1], 16):064x}"


def _move(chain: model.Chain, text: str) -> str:
    """Normalise a bare address (of an object), or a type `address::module::Name`, which keeps the case of its names.

    Every address is padded to 64 digits (AIP-40's long form, normalizeSuiAddress): sources drop leading zeros.
    """
    address, *names = text.split("::")
    match = _HEX_64.fullmatch(address)
    if match is None or len(names) not in {0, 2} or not all(map(_MOVE_NAME.fullmatch, names)):
        rule = "0x and up to 64 hex digits, alone or with ::module::Name"
        _refuse(f"{quote(text)} is no {chain.namespace} address or type: expected {rule}", "FORMAT", rule)
    normal = "::".join([f"0x{match[1].lower():0>64}", *names])
    return model.NATIVE if normal in _MOVE_NATIVE[chain.namespace] else normal


_RULES: dict[str, Callable[[model.Chain, str], str]] = {
    "eip155": _evm,
    "solana": _solana,
    "tron": _tron,
    "bip122": _bitcoin,
    "cosmos": _cosmos,
    "starknet": _starknet,
    "aptos": _move,
    "sui": _move,
}


@functools.lru_cache(maxsize=16384)
def _base58(text: str) -> bytes:
    import base58  # noqa: PLC0415 - 14 ms

    try:
        return bytes(base58.b58decode(text))
    except ValueError:
        _refuse(f"{quote(text)} is not base58, which has no 0, O, I and l", "FORMAT", "base58")


@functools.lru_cache(maxsize=16384)
def _base58check(text: str, what: str) -> bytes:
    import base58  # noqa: PLC0415 - 14 ms

    payload = _base58(text)[:-4]
    if len(payload) not in {21, 22}:  # 22: Zcash has versions of two bytes
        _refuse(f"{text} is not {what}", "FORMAT", what)
    if base58.b58encode_check(payload) != text.encode():
        _refuse(f"{text} has a wrong checksum: a character is mistyped", "CHECKSUM", "base58check")
    return payload


@functools.lru_cache(maxsize=16384)
def _account(text: str) -> str:
    words, checksum = _bech32(text)
    if checksum not in {1, _BECH32M} or _size(words) not in {20, 21, 32}:  # account, Namada's account, contract
        _refuse(f"{text} has a wrong checksum: a character is mistyped", "CHECKSUM", "bech32 of 20 or 32 bytes")
    return text.lower()


@functools.lru_cache(maxsize=1024)
def _segwit(text: str) -> str:
    words, checksum = _bech32(text)
    version = words[0]
    sizes = {20, 32} if version == 0 else range(2, 41)  # BIP-141
    if version > 16 or checksum != (_BECH32M if version else 1) or _size(words[1:]) not in sizes:
        rule = "bech32, from version 1 on bech32m"
        _refuse(f"{text} has a wrong checksum: a character is mistyped", "CHECKSUM", rule)
    return text.lower()


def _bech32(text: str) -> tuple[list[int], int]:
    """Give the words of a bech32 text and its checksum: 1, or 0x2BC830A3 for bech32m, anything else is wrong."""
    import bech32  # noqa: PLC0415 - rarely needed

    prefix, _, data = text.lower().rpartition("1")
    words = [bech32.CHARSET.find(character) for character in data]
    if text not in {text.lower(), text.upper()} or len(words) < 8 or -1 in words:
        _refuse(f"{text} is not bech32", "FORMAT", "bech32, all in lower or all in upper case")
    return words[:-6], bech32.bech32_polymod(bech32.bech32_hrp_expand(prefix) + words)


def _size(words: list[int]) -> int:
    """Count the bytes in 5-bit words; 0 if the padding is wrong."""
    import bech32  # noqa: PLC0415 - rarely needed

    return len(bech32.convertbits(words, 5, 8, pad=False) or ())


def _refuse(what: str, reason: str, rule: str) -> NoReturn:
    raise InvalidError(f"contract_address {what}", reason=f"ADDRESS_{reason}", field="contract_address", rule=rule)
