"""Checks of the plain values in a record: symbols, names, slugs, URLs, times, decimals, ids.

Each `check_…` gives the normal form to store, or raises `InvalidError` with the field, a reason and the rule. What is
invisible or can reorder a line is refused; what is merely foreign is kept: USD₮0 is a genuine symbol (R1, R17).
Addresses are in `addresses`, CAIP ids in `caip`, what merely looks alike in `cqar.looks`.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal

from cqar.errors import InvalidError

SYMBOL_LIMIT = 64
NAME_LIMIT = 128  # the longest of 21,500 real ones has 70
SLUG_LIMIT = 64
URL_LIMIT = 2048
ALIAS_LIMIT = 128
INTEGER_DIGITS, FRACTION_DIGITS = 20, 18  # numeric(38,18)

# Default-ignorable letters and marks, and the blank Braille pattern. The variation selectors U+FE00 to U+FE0F are
# not here: they belong to emoji.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
# Control, format, surrogate, private use, unassigned, line and paragraph separator.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*")  # printable ASCII with single spaces: nothing to look for
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SLUG = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
_URL = re.compile(r"(?:https?://[^\s/?#@\\:]+(?::[0-9]{1,5})?|ipfs://[^\s/?#@\\:]+)(?:[/?#]\S*)?", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_ALIAS_SOURCE = re.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*")


def check_symbol(text: str, field: str = "symbol") -> str:
    """Give the symbol as its source wrote it, trimmed: 1 to 64 visible characters of any script (R1)."""
    return _check_line(text, field, SYMBOL_LIMIT)


def check_name(text: str, field: str = "name") -> str:
    """Give the name, trimmed: 1 to 128 visible characters of any script."""
    return _check_line(text, field, NAME_LIMIT)


def check_slug(text: str, field: str) -> str:
    """Give a chain's or venue's id: words of a-z and 0-9, joined by single hyphens or underscores ("arbitrum-one")."""
    if len(text) > SLUG_LIMIT or not _SLUG.fullmatch(text):
        rule = f"1 to {SLUG_LIMIT} of a-z and 0-9, words joined by single hyphens or underscores"
        raise InvalidError(f"{field} must be {rule}, got {quote(text)}", reason="SLUG_FORMAT", field=field, rule=rule)
    return text


def check_text(text: str, field: str, limit: int = 4000) -> str:
    """Give free text, trimmed, maybe empty. Line breaks and tabs may stay, other controls and lone surrogates not.

    Format characters stay too: right-to-left marks and joiners belong to some scripts, and free text is no key.
    """
    text = text.strip().replace("\r\n", "\n")
    if len(text) > limit:
        raise _too_long(field, len(text), limit)
    if match := _CONTROL.search(text):
        raise _bad_character(field, match[0])
    return text


def check_url(text: str, field: str) -> str:
    """Give an absolute http, https or ipfs URL, trimmed. User names in it are refused: they disguise the host."""
    text = text.strip()
    if len(text) > URL_LIMIT:
        raise _too_long(field, len(text), URL_LIMIT)
    _refuse_hidden(text, field)
    if not _URL.fullmatch(text):
        rule = "an http, https or ipfs URL with a host and without a user name"
        raise InvalidError(f"{field} must be {rule}, got {quote(text)}", reason="URL_FORMAT", field=field, rule=rule)
    return text


def check_time(value: datetime, field: str) -> datetime:
    """Give the instant in UTC. A time without a zone, or outside the years 1 to 9999 in UTC, is refused (R17)."""
    try:
        if value.utcoffset() is not None:
            return value.astimezone(UTC)
    except OverflowError:
        pass
    rule = "a time with a zone, in the years 1 to 9999 UTC"
    raise InvalidError(f"{field} must be {rule}, got {value.isoformat()}", reason="TIME", field=field, rule=rule)


def check_decimal(value: Decimal, field: str, *, positive: bool = False) -> Decimal:
    """Give the number in plain notation without trailing zeros; it must fit numeric(38,18) unrounded (R17)."""
    if not value.is_finite():
        raise InvalidError(f"{field} must be finite, got {value}", reason="DECIMAL", field=field, rule="finite")
    if positive and value <= 0:
        raise InvalidError(f"{field} must be above 0, got {value}", reason="DECIMAL", field=field, rule="above 0")
    if not value:
        return Decimal(0)  # also for -0 and 0E+999999
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    significant = "".join(map(str, digits)).rstrip("0")
    exponent += len(digits) - len(significant)
    if value.adjusted() >= INTEGER_DIGITS or exponent < -FRACTION_DIGITS:
        rule = f"at most {INTEGER_DIGITS} digits before the point and {FRACTION_DIGITS} after it"
        message = f"{field} must have {rule}, got {quote(str(value))}"
        raise InvalidError(message, reason="DECIMAL_RANGE", field=field, rule=rule)
    plain = f"{'-' * sign}{significant}E{exponent}"
    return Decimal(plain) if exponent <= 0 else Decimal(int(Decimal(plain)))


def check_uuid(text: str, field: str) -> str:
    """Give the UUID in lower case; only the form with four hyphens is one."""
    if not isinstance(text, str) or not _UUID.fullmatch(text):
        rule = "a UUID such as 0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e"
        raise InvalidError(f"{field} must be {rule}, got {shown(text)}", reason="UUID_FORMAT", field=field, rule=rule)
    return text.lower()


def check_alias(text: str, field: str = "aliases") -> str:
    """Give an alias "source:name": a lower-case source, and the name as the source writes it ("ccxt:ERC20")."""
    text = _check_line(text, field, ALIAS_LIMIT)
    source, colon, name = text.partition(":")
    if not (colon and name and name == name.strip() and _ALIAS_SOURCE.fullmatch(source)):
        rule = "<source>:<name>, the source in lower case, as in coingecko:polygon-pos"
        raise InvalidError(f"{field} must be {rule}, got {quote(text)}", reason="ALIAS_FORMAT", field=field, rule=rule)
    return text


def quote(text: str) -> str:
    """Show a caller's text in a message: ASCII only, with escapes, cut to 80 characters."""
    return ascii(text if len(text) <= 80 else text[:79] + "…")


def shown(value: object) -> str:
    """Return any value as a message shows it, cut likewise; of one that cannot be shown its type. Never raises."""
    if isinstance(value, str):
        return quote(value)
    try:
        text = ascii(value)
    except Exception:  # noqa: BLE001  (it is another's code, or a number of more digits than Python writes)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:79]}\u2026"


def has_hidden(text: str) -> str | None:
    """Give the first character that shows nothing or reorders the line, if there is one."""
    if _PLAIN.fullmatch(text):
        return None
    for character in text:
        if character in _INVISIBLE or unicodedata.category(character) in _HIDDEN:
            return character
    return None


def _check_line(text: str, field: str, limit: int) -> str:
    text = text.strip()
    if not text:
        raise InvalidError(f"{field} must not be empty", reason="TEXT_EMPTY", field=field, rule="at least 1 character")
    if len(text) > limit:
        raise _too_long(field, len(text), limit)
    _refuse_hidden(text, field)
    if "\ufe00" <= text[0] <= "\ufe0f":  # a variation selector needs a character to vary
        raise _bad_character(field, text[0])
    return text


def _refuse_hidden(text: str, field: str) -> None:
    if character := has_hidden(text):
        raise _bad_character(field, character)


def _too_long(field: str, length: int, limit: int) -> InvalidError:
    rule = f"at most {limit} characters"
    return InvalidError(f"{field} must have {rule}, got {length}", reason="TEXT_LENGTH", field=field, rule=rule)


def _bad_character(field: str, character: str) -> InvalidError:
    code = f"U+{ord(character):04X}"
    rule = "no control, format or other invisible characters"
    message = f"{field} holds {code} {unicodedata.name(character, 'without a name')}; allowed are {rule}"
    return InvalidError(message, reason="TEXT_CHARACTER", field=field, rule=rule, character=code)
