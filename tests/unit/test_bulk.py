"""Bulk look-ups: each row of `resolve_many` says what `resolve` says, whatever the way in which it was found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cqar import model
from cqar.client import AmbiguousError, Client, InvalidError, NotFoundError, open_snapshot
from cqar.client import _answers as answers
from cqar.client import _bulk as bulk
from cqar.client import _texts as columns
from cqar.looks import skeleton
from tests.worlds import DISGUISE, Story, World, catalogue, excerpt

SYMBOLS = ("USDC", "USDT", "DAI", "WETH", "ETH", "stETH", "cbETH", "BTC", "WBTC", "USD", "EUR", "SOL", "OP")
ODD = [
    None,
    "",
    " ",
    "A" * 64,
    "A" * 65,
    "no such",
    "two  blanks",
    " usdc\t",
    "\u3000USDC",
    "a\u200bb",
    "a\x00b",
    "é",
    "£",
    "ﬃ",
]
MANNERS: dict[str, int] = {"one by one": 1 << 30, "joined": 0}
MISSING = dict.fromkeys(("asset_id", "name", "asset_type", "chain_id", "contract_address", "decimals", "collisions"))


@pytest.fixture(params=list(MANNERS))
def manner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of finding the rows, and small blocks and pieces so that there are several."""
    monkeypatch.setattr(bulk, "ONE_BY_ONE", MANNERS[request.param])
    monkeypatch.setattr(bulk, "_PIECE", 500)
    monkeypatch.setattr(columns, "BLOCK", 20_000)
    return str(request.param)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The bundled catalogue."""
    with open_snapshot(replica_dir=tmp_path_factory.mktemp("replica")) as client:
        yield client


def told(client: Client, symbol: Any, chain: str | None) -> dict[str, Any]:
    """What `resolve` tells, as a row."""
    try:
        found = client.resolve(symbol, chain=chain)
    except NotFoundError:
        return {"status": "NOT_FOUND", **MISSING}
    except AmbiguousError:
        return {"status": "AMBIGUOUS", **MISSING}
    except InvalidError:
        return {"status": "INVALID", **MISSING}
    deployment = found.deployment
    return {
        "status": "OK",
        "asset_id": found.asset.asset_id,
        "name": found.asset.name,
        "asset_type": str(found.asset.asset_type),
        "chain_id": deployment and deployment.chain_id,
        "contract_address": deployment and deployment.contract_address,
        "decimals": deployment.decimals if deployment else None,
        "collisions": len(found.collisions),
    }


def spellings(symbols: Iterable[str]) -> list[str | None]:
    """Symbols in several cases, with blanks around them, and in letters that only look like theirs; and odd ones."""
    found = set[str]()
    for symbol in symbols:
        found |= {symbol, symbol.lower(), symbol.upper(), symbol.swapcase(), f" {symbol}", symbol.translate(DISGUISE)}
    return [*sorted(found), *ODD]


def assert_equals_resolve(client: Client, asked: list[str | None], chain: str | None) -> None:
    """Compare every row."""
    table = client.resolve_many(asked, chain=chain)
    assert table.column("symbol").to_pylist() == asked
    assert table.schema.metadata[b"cqar.position"] == str(client.position).encode()
    rows = table.drop_columns("symbol").to_pylist()
    unlike = [(symbol, row, told(client, symbol, chain)) for symbol, row in zip(asked, rows, strict=True)]
    assert [one for one in unlike if one[1] != one[2]] == []


@pytest.mark.parametrize("chain", [None, "ethereum", "polygon", "solana", "base"])
def test_every_symbol_of_the_catalogue_is_told_as_resolve_tells_it(
    whole: Client, manner: str, chain: str | None
) -> None:
    """Over the whole catalogue, in several cases and disguises, all rows equal single answers."""
    symbols = {asset.symbol for asset in catalogue()["asset"] if isinstance(asset, model.Asset)}
    assert_equals_resolve(whole, spellings(symbols), chain)


@pytest.mark.parametrize("seed", range(6))
def test_rows_follow_the_changes(seed: int, manner: str, tmp_path: Path) -> None:
    """After any history of writes over a generation, all rows equal single answers."""
    world = World(excerpt(SYMBOLS))
    with open_snapshot(world.publish(tmp_path / "snapshots").path, replica_dir=tmp_path / "replica") as client:
        story = Story(seed, world)
        asked = set[str]()
        for _ in range(12):
            for _ in range(4):
                client._replica.apply(story.step())
            asked |= {asset.symbol for asset in world.all("asset") if isinstance(asset, model.Asset)}
            for chain in (None, "ethereum", "polygon"):
                assert_equals_resolve(client, spellings(asked), chain)


def test_looks_are_the_same_for_all_at_once(whole: Client) -> None:
    """The skeletons that are made for a whole column are those that the rules compare (R18)."""
    symbols = [asset.symbol for asset in catalogue()["asset"] if isinstance(asset, model.Asset)]
    made = answers._mapped(pa.array(symbols), answers._ascii_skeleton, skeleton)
    assert made.to_pylist() == [skeleton(symbol) for symbol in symbols]


def test_all_rows_are_of_one_position(manner: str, tmp_path: Path) -> None:
    """While batches swap two symbols over and over, each table shows them as they were at the position that it tells."""
    first, second = (
        model.Asset(asset_id=str(UUID(int=number)), symbol=symbol, name=symbol, asset_type=model.AssetType.TOKEN)
        for number, symbol in enumerate(("ONE", "TWO"))
    )
    world = World([first, second])
    with open_snapshot(world.publish(tmp_path / "snapshots").path, replica_dir=tmp_path / "replica") as client:
        start, done = world.position, threading.Event()

        def swap() -> None:
            a, b = first.symbol, second.symbol
            while not done.wait(0.0005):
                a, b = b, a
                replace = msgspec.structs.replace
                client._replica.apply(world.commit([replace(first, symbol=a), replace(second, symbol=b)]))

        writer = threading.Thread(target=swap)
        writer.start()
        positions = set[int]()
        asked = ["ONE", *[f"NONE{number}" for number in range(500)], "two"] * 2
        try:
            for _ in range(20):
                table = client.resolve_many(asked)
                position = int(table.schema.metadata[b"cqar.position"])
                positions.add(position)
                expected = [first.asset_id, second.asset_id][:: -1 if (position - start) % 2 else 1]
                assert table.column("asset_id").drop_null().to_pylist() == expected * 2
        finally:
            done.set()
            writer.join()
        assert len(positions) > 5


TEXTS = ["USDC", "usdc", None, "USDC", "NOPE"]
FORMS: dict[str, Callable[[], Any]] = {
    "list": lambda: TEXTS,
    "generator": lambda: (text for text in TEXTS),
    "array": lambda: pa.array(TEXTS),
    "chunked": lambda: pa.chunked_array([TEXTS[:1], [], TEXTS[1:]]),
    "large": lambda: pa.array(TEXTS, pa.large_string()),
    "view": lambda: pa.array(TEXTS, pa.string_view()),
    "dictionary": lambda: pa.array(TEXTS).dictionary_encode(),
    "dictionaries": lambda: pa.chunked_array([pa.array(part).dictionary_encode() for part in (TEXTS[:2], TEXTS[2:])]),
    "null in dictionary": lambda: pa.array(TEXTS).dictionary_encode("encode"),
    "unused in dictionary": lambda: pa.array(["OP", *TEXTS]).dictionary_encode().slice(1),
    "slice": lambda: pa.array(["x", *TEXTS, "y"]).slice(1, len(TEXTS)),
    "pandas": lambda: pd.Series(TEXTS),
    "pandas objects": lambda: pd.Series(TEXTS, dtype=object),
    "pandas categories": lambda: pd.Series(TEXTS, dtype="category"),
    "pandas arrow": lambda: pd.Series(TEXTS, dtype=pd.ArrowDtype(pa.string())),
    "polars": lambda: pl.Series(TEXTS),
    "polars categories": lambda: pl.Series(TEXTS, dtype=pl.Categorical),
    "polars chunks": lambda: pl.concat([pl.Series(TEXTS[:2]), pl.Series(TEXTS[2:])], rechunk=False),
    "numpy": lambda: pd.Series(TEXTS, dtype=object).to_numpy(),
}


@pytest.mark.parametrize("form", FORMS)
def test_symbols_may_come_in_any_form(whole: Client, manner: str, form: str) -> None:
    """Whatever holds the texts, the rows are the same, and the result can be filtered and handed on."""
    table = whole.resolve_many(FORMS[form](), chain="ethereum")
    assert table.column("symbol").to_pylist() == TEXTS
    assert table.column("status").to_pylist() == ["OK", "OK", "INVALID", "OK", "NOT_FOUND"]
    assert set(table.column("decimals").to_pylist()) == {6, None}
    assert table.filter(pc.field("status") == "OK").num_rows == 3
    assert len(table.drop_columns("symbol").to_pandas()) == 5  # pandas itself refuses a dictionary with a null
    assert pl.DataFrame(table).height == 5
    table.validate(full=True)


def test_what_is_no_text_is_an_invalid_row(whole: Client, manner: str) -> None:
    """Numbers, bytes, lists and broken texts among the symbols spoil their own rows only."""
    odd: list[Any] = ["USDC", 1, b"USDC", ["USDC"], 1.5, "\ud800", "usdc"]
    for form in (odd, pd.Series(odd, dtype=object)):
        table = whole.resolve_many(form)
        assert table.column("status").to_pylist() == ["OK", *["INVALID"] * 5, "OK"]
        assert table.column("symbol").to_pylist() == ["USDC", *[None] * 5, "usdc"]
    assert whole.resolve_many(pa.nulls(2)).column("status").to_pylist() == ["INVALID"] * 2


@pytest.mark.parametrize("empty", [[], pa.chunked_array([], pa.string()), pa.array([]), pd.Series([], dtype=str)])
def test_nothing_gives_no_rows(whole: Client, manner: str, empty: Any) -> None:
    """An empty column gives the columns and no rows."""
    table = whole.resolve_many(empty)
    assert (table.num_rows, table.column_names) == (0, ["symbol", *answers.SCHEMA.names])


@pytest.mark.parametrize(
    "wrong",
    [pa.array([1]), pd.Series([1.5]), pl.Series([b"x"]), "USDC", b"USDC", None, 1, pl.DataFrame({"a": ["USDC"]})],
)
def test_a_column_of_something_else_is_refused(whole: Client, wrong: Any) -> None:
    """One text, a table, or a column of numbers is a mistake of the call: the error says what to give."""
    with pytest.raises(InvalidError, match="give a column or an iterable of texts") as error:
        whole.resolve_many(wrong)
    assert error.value.field == "symbols"


def test_an_unknown_chain_is_a_mistake_of_the_call(whole: Client) -> None:
    """A mistyped chain must not look like a million unknown symbols."""
    with pytest.raises(NotFoundError) as error:
        whole.resolve_many(["USDC"], chain="etherium")
    assert error.value.reason == "CHAIN_NOT_FOUND"


def test_the_tables_of_few_chains_are_kept(whole: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of all answers is made once for a chain, and those of the chains asked for longest ago go."""
    monkeypatch.setattr(bulk, "ONE_BY_ONE", 0)
    generation = whole._replica.generation
    chains = ["ethereum", "base", "polygon", "arbitrum-one", "optimism"]
    for chain in chains:
        whole.resolve_many(["USDC"], chain=chain)
    kept = answers._made[generation]
    first = kept["polygon"]
    whole.resolve_many(["USDC"], chain="polygon")
    assert kept["polygon"] is first
    assert len(kept) == answers._KEPT
