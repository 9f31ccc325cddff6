"""A small registry with records of every kind, made from the annotations of their fields, with values at their bounds.

Values are drawn by hypothesis, the same in every run; the first of each field are its bounds. Fields by which records are told
apart or refer to each other are made, so that nothing collides and every reference holds.
"""

from __future__ import annotations

import functools
import types
import typing
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cqar import model
from cqar.errors import InvalidError
from cqar.model import KINDS, Record
from cqar.rules.records import normal
from cqar.rules.text import check_name, check_symbol, check_text

LIMITS = {
    "symbol": 64,
    "native_symbol": 64,
    "category": 64,
    "protocol": 64,
    "name": 128,
    "raised_by": 128,
    "provenance": 256,
    "rate_source": 256,
    "metadata": 1000,
    "reason": 2000,
    "description": 4000,
}
ODD = (
    *(
        "USD₮0",
        "币安人生",
        "UЅDТ",
        "👩",
        "ß",
        "İ",
        "Ǆ",
        "é",
        "e\u0301",
        "'; DROP TABLE assets; --",
        'a\\b"c',
        "%_",
        "null",
    ),
    *("0", "-", "{}", "a  b"),
)
TIMES = (
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
)
NUMBERS = tuple(
    map(
        Decimal,
        (
            "1e-18",
            "99999999999999999999.999999999999999999",
            "12345678901234567890.123456789012345678",
            "1000",
            "1",
            "0.10",
        ),
    )
)
WHOLE = {"slip44": (0, 2**31 - 1), "decimals": (0, 255), "native_decimals": (0, 255)}
URLS = ("https://x.example/" + "y" * 1000, "ipfs://Qm/a%20b?c=d#e", "http://bücher.example:8080/ü")


def drawn(strategy: st.SearchStrategy[Any], number: int) -> list[Any]:
    """Give examples of a strategy, the same in every run."""
    found: list[Any] = []

    @settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found


@functools.cache
def texts(limit: int, check: Callable[..., str] = check_text) -> tuple[str, ...]:
    """Give texts up to a length: the longest, odd ones, drawn ones."""
    pool = [*("x" * limit, "₮" * limit, "𝕏" * limit), *ODD, *lines()]
    return tuple([text for text in pool if _passes(check, text) and text.strip()])


@functools.cache
def lines() -> tuple[str, ...]:
    """Give texts of visible characters of all scripts."""
    characters = st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp"))
    return tuple(drawn(st.text(characters, min_size=1, max_size=40), 60))


def _passes(check: Callable[..., str], text: str) -> bool:
    try:
        check(text, "x")
    except InvalidError:
        return False
    return True


def values(name: str, annotation: Any) -> Sequence[Any]:
    """Give values for a field, its bounds first; for what may be absent None, and of texts the empty one, are among them."""
    if isinstance(annotation, types.UnionType):
        (kind,) = [member for member in typing.get_args(annotation) if member is not types.NoneType]
        return (None, *values(name, kind), *(("",) if kind is str else ()))
    if typing.get_origin(annotation) is tuple:
        keys, entries = texts(64), texts(LIMITS[name])
        most = tuple(
            zip([f"{n}{key}"[:64].strip() for n, key in enumerate(keys * 64)][:64], entries * 64, strict=False)
        )
        return ((), most, *[((key, entry), ("", "")) for key, entry in zip(keys, entries, strict=False)])
    if name.endswith(("_url", "website")):
        return URLS
    if annotation is str:
        check = check_symbol if name.endswith("symbol") else check_name if name == "name" else check_text
        return texts(LIMITS[name], check)
    plain: dict[Any, Callable[[], Sequence[Any]]] = {
        Decimal: numbers,
        datetime: moments,
        bool: lambda: (True, False),
        int: lambda: (*WHOLE[name], *drawn(st.integers(*WHOLE[name]), 30)),
    }
    return plain.get(annotation, lambda: tuple(annotation))()


@functools.cache
def numbers() -> tuple[Decimal, ...]:
    """Give numbers above 0 with up to 20 digits before the point and 18 after it."""
    return (*NUMBERS, *[Decimal(f"{n}E-18") for n in drawn(st.integers(1, 10**38 - 1), 40)])


@functools.cache
def moments() -> tuple[datetime, ...]:
    """Give times of the years 1 to 9999."""
    return (*TIMES, *drawn(st.datetimes(timezones=st.just(UTC)), 40))


def key(kind: int, number: int) -> str:
    """Give a UUID."""
    return str(uuid.UUID(int=(kind << 100) + number + 1))


def nth(pool: Sequence[Any], number: int) -> Any:
    """Give one value of a pool; later rounds through it begin elsewhere."""
    return pool[number % len(pool)]


def _slug(number: int) -> str:
    return f"n_{number}" if number else "n" * 64


def _chain(n: int, _: int) -> dict[str, Any]:
    network = 2**63 - 1 - n if n % 2 else None
    return {
        "chain_id": _slug(n),
        "namespace": "eip155" if n % 2 else "strange",
        "caip2": f"eip155:{network}" if n % 4 == 1 else None,
        "network_id": network,
        "aliases": tuple(f"s{m}:{n} {nth(ODD, n)}" for m in range(n % 3)),
        "native_asset_id": key(1, n) if n % 3 else None,
    }


def _deployment(n: int, _: int) -> dict[str, Any]:
    native = n % 5 == 0
    exact = f"{nth(ODD, n)}-{n}".replace(" ", "")
    return {
        "deployment_id": key(2, n),
        "asset_id": key(1, n),
        "chain_id": _slug(n),
        "contract_address": None if native else f"0x{n:040x}" if n % 2 else exact,
        "is_native": native,
    }


def _identifier(n: int, _: int) -> dict[str, Any]:
    return {
        "identifier_id": key(3, n),
        "asset_id": key(1, n // 2),
        "source": "s" * 64 if n % 2 else f"s{n}",
        "external_id": f"{n}{nth(texts(256), n)}"[:256].strip(),
        "is_primary": False,
    }


def _relationship(n: int, number: int) -> dict[str, Any]:
    one, other = sorted([n, (n + 1) % number])
    rate = {"rate_as_of": nth(moments(), n), "rate_source": nth(texts(256), n), "conversion_rate": nth(numbers(), n)}
    return {
        "relationship_id": key(4, n),
        "parent_asset_id": key(1, one),
        "child_asset_id": key(1, other),
        **(rate if n % 4 else dict.fromkeys(rate)),
    }


def _venue(n: int, _: int) -> dict[str, Any]:
    return {
        "venue_id": _slug(n),
        "aliases": (f"ccxt:{n} {nth(ODD, n)}",) if n % 2 else (),
        "countries": ("CH", "KY")[: n % 3],
        "chain_id": _slug(n) if n % 4 == 0 else None,
    }


def _venue_symbol(n: int, number: int) -> dict[str, Any]:
    market, other = nth(list(model.MarketKind), n), key(1, (n + 1) % number)
    start, end = sorted([nth(moments(), n), nth(moments(), n + 1)])
    single = market is model.MarketKind.ASSET
    return {
        "venue_symbol_id": key(8, n),
        "venue_id": _slug(n),
        "market_kind": market,
        "asset_id": key(1, n),
        "quote_asset_id": None if single else other,
        "settle_asset_id": None if single or n % 2 else other,
        "valid_from": start if n % 3 else None,
        "valid_to": end if n % 4 else None,
    }


_UNIQUE: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "chain": _chain,
    "asset": lambda n, _: {"asset_id": key(1, n)},
    "deployment": _deployment,
    "identifier": _identifier,
    "relationship": _relationship,
    "group": lambda n, _: {"group_id": key(5, n), "canonical_symbol": f"{n}{nth(ODD, n)}" if n else "G" * 64},
    "group_member": lambda n, number: {"group_id": key(5, n), "asset_id": key(1, (n + 1) % number)},
    "quality_flag": lambda n, _: {
        "flag_id": key(6, n),
        "asset_id": key(1, n),
        "source": f"auditor_{n}",
        **dict.fromkeys(("cleared_by", "cleared_at", "clear_reason")),
    },
    "venue": _venue,
    "venue_symbol": _venue_symbol,
}


def registry_of(number: int) -> list[Record]:
    """Make a registry with `number` records of each kind, as they are sent: not all in their normal form."""
    records: list[Record] = []
    for name, kind in KINDS.items():
        hints = typing.get_type_hints(kind.record)
        unique = [_UNIQUE[name](n, number) for n in range(number)]
        pools = {
            field: values(field, hints[field])
            for field in kind.record.__struct_fields__
            if field not in unique[0] and field not in {"created_at", "updated_at"}
        }
        records += [
            kind.record(**{field: nth(pool, n) for field, pool in pools.items()}, **unique[n]) for n in range(number)
        ]
    return records


def normalised(records: Sequence[Record]) -> list[Record]:
    """Give the records as the rules say that they are kept."""
    chains = {record.chain_id: record for record in records if isinstance(record, model.Chain)}
    return [normal(r, chains[r.chain_id] if isinstance(r, model.Deployment) else None) for r in records]
