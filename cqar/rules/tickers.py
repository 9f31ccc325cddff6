"""What a venue's ticker means: at which moment, and how many units of the coin (rule R6, venue symbols).

Venues write a multiple of a coin as a factor in front of its code or behind it: 1000SHIB, 1MBABYDOGE, kPEPE, SHIB1000. A factor is
a power of ten, or a lone k; the other digits of a code are part of its name (1INCH, C98).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from decimal import Decimal

from cqar.errors import AmbiguousError, InvalidError
from cqar.model import MarketKind, VenueSymbol


def holds(row: VenueSymbol, moment: datetime) -> bool:
    """Tell whether a row's interval contains a moment."""
    return (row.valid_from is None or row.valid_from <= moment) and (row.valid_to is None or moment < row.valid_to)


def current(
    rows: Iterable[VenueSymbol], venue: str, symbol: str, kind: MarketKind | None, moment: datetime
) -> tuple[VenueSymbol, tuple[MarketKind, ...]] | None:
    """Return the row that holds at a moment, and the other kinds of which one holds then; None if no row does.

    Without a kind, markets that agree on base, quote and multiplier are one answer: the SPOT row if there is one. Raises
    AmbiguousError if they do not agree.
    """
    bearing = [row for row in rows if holds(row, moment)]
    live = [row for row in bearing if kind is None or row.market_kind is kind]
    live.sort(key=lambda row: (row.market_kind is not MarketKind.SPOT, row.market_kind, row.venue_symbol_id))
    if len({(row.asset_id, row.quote_asset_id, row.multiplier) for row in live}) > 1:
        kinds = ", ".join([row.market_kind for row in live])
        raise AmbiguousError(
            f"{symbol} on {venue}: means different things as {kinds}; say which kind",
            reason="KIND_AMBIGUOUS",
            venue=venue,
            symbol=symbol,
        )
    if not live:
        return None
    bear = {row.market_kind for row in bearing} - {live[0].market_kind}
    return live[0], tuple([each for each in (*MarketKind, MarketKind.UNKNOWN) if each in bear])


_NUMBER = r"\d+[KkMm]?"
_POWER_OF_TEN = re.compile(r"(10*)([KkMm]?)")
_SUFFIXES = {"": 1, "k": 1000, "m": 1_000_000}
_IN_FRONT = re.compile(rf"({_NUMBER}|(?<![A-Za-z])k(?=[A-Z]))([A-Za-z].*)")
_BEHIND = re.compile(rf"(.*[A-Za-z])({_NUMBER})")


def factor(text: str) -> Decimal | None:
    """Return the factor that a text such as 1000, 1M or k stands for; None unless it is a power of ten of at least 10."""
    if text == "k":
        return Decimal(1000)
    match = _POWER_OF_TEN.fullmatch(text)
    value = 1 if match is None else int(match[1]) * _SUFFIXES[match[2].lower()]
    return Decimal(value) if value > 1 else None


def multiples(code: str) -> list[tuple[Decimal, str]]:
    """Return the readings of a code as a multiple of a coin: each factor with the coin's code. 1INCH has none."""
    readings = [(match[1], match[2]) for match in (_IN_FRONT.fullmatch(code),) if match]
    readings += [(match[2], match[1]) for match in (_BEHIND.fullmatch(code),) if match]
    return [(value, coin) for text, coin in readings if (value := factor(text)) is not None]


def multiple_of(code: str, coin: str) -> Decimal:
    """Return how many units of a coin a venue's code for it stands for: 1000 for 1000SHIB and SHIB1000 of SHIB, 1 for XBT of BTC.

    Raise InvalidError (MULTIPLE) if the code is a multiple of another code, or a number beside the coin is no power of ten.
    """
    if code.casefold() == coin.casefold():
        return Decimal(1)
    beside = _factors_beside(code, coin, ())
    if beside == [""] or (not beside and not multiples(code)):
        return Decimal(1)
    return _product(beside, code, coin)


def multiple_in(symbol: str, code: str, others: Collection[str]) -> Decimal | None:
    """Return the factor that a market's raw symbol writes beside the code of its base; None if the code is not in the symbol.

    `others` are the codes that may follow: quote and settlement. Raise InvalidError (MULTIPLE) for a number beside the code that is
    no power of ten: what it stands for cannot be known.
    """
    beside = _factors_beside(symbol, code, others)
    return _product(beside, symbol, code) if beside else None


def _factors_beside(text: str, code: str, others: Collection[str]) -> list[str]:
    """Return the numbers directly beside each occurrence of a code; "" for an occurrence without one."""
    found = []
    for match in re.finditer(re.escape(code), text, re.IGNORECASE):
        front = re.search(rf"({_NUMBER}|(?<![A-Za-z])k)$", text[: match.start()])
        if front is not None and (front[0] != "k" or match[0].isupper()):
            found.append(front[0])
            continue
        behind = re.match(_NUMBER, text[match.end() :])
        rest = text[match.end() + len(behind[0]) :] if behind else ""
        follows = not rest or not rest[0].isalnum() or any(rest.upper().startswith(other.upper()) for other in others)
        found.append(behind[0] if behind and follows else "")
    return found


def _product(beside: Collection[str], text: str, code: str) -> Decimal:
    numbers = {number for number in beside if number}
    if not numbers:
        if beside:
            return Decimal(1)
        raise InvalidError(
            f"{text}: reads as a multiple, and not of {code}; map the ticker with its multiplier first",
            reason="MULTIPLE",
        )
    values = {factor(number) for number in numbers}
    value = values.pop()
    if value is None or values:
        raise InvalidError(
            f"{text}: the number beside {code} is no power of ten, so that its multiplier cannot be known; "
            "map the ticker with its multiplier first",
            reason="MULTIPLE",
        )
    return value
