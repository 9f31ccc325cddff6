"""Arguments mean one thing: every parameter of every public method takes what it says, and refuses everything else.

The methods are found, not listed: a new one is covered by being there, and one with a parameter that no table here knows fails.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cqar.access import Role
from cqar.client import (
    Asset,
    AssetType,
    AsyncClient,
    Chain,
    Client,
    Decision,
    Deployment,
    FlagType,
    Group,
    GroupMember,
    Identifier,
    InvalidError,
    MarketKind,
    NotFoundError,
    QualityFlag,
    Relationship,
    RelationshipType,
    Severity,
    TradeRefusedError,
    Venue,
    VenueSymbol,
    VenueType,
    VenueView,
    Verdict,
    connect,
    open_snapshot,
)
from cqar.client._admin import Admin
from cqar.client._arguments import member
from cqar.client._registry import Registry
from cqar.rules.text import shown
from cqar.server.server import ServerThread
from tests.integration.conftest import config, migrated_template, migrated_url, server

__all__ = ["config", "migrated_template", "migrated_url", "server"]

ID = "00000000-0000-4000-8000-00000000000a"


class Odd:
    """Is nothing that anything takes, cannot be hashed, and cannot be shown."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")


class Five(float):
    """A number that is equal to a severity and hashes as one."""


NEVER: list[Any] = [Odd(), object(), 1j]  # what no parameter takes
NO_TEXT: list[Any] = [*NEVER, 7, 0, True, 1.5, b"USDC", ["USDC"], ("group", "ETH", None), {"a": "b"}, "\ud800"]
NO_BOOL: list[Any] = [*NEVER, 0, 1, "no", "True", "", None, [], 1.0]
NO_COUNT: list[Any] = [*NEVER, -1, True, "5", 1.0, math.nan, [1], b"1", 2**64]
NO_SECONDS: list[Any] = [*NEVER, "5", True, None, -1, -0.1, math.nan, -math.inf, [5], Decimal(5), b"5"]
NO_MEMBER: list[Any] = [*NEVER, "", "NO_SUCH", 99, 0, 5, 1, True, 5.0, Five(5), b"HIGH", ["HIGH"], ("HIGH",)]
NO_FUNCTION: list[Any] = [*NEVER, "f", 5, [print]]
NO_PATH: list[Any] = [*NEVER, 5, b"/tmp", True, ["/tmp"], ""]
NO_LIST: list[Any] = [*NEVER, 5, "text", b"text", True, [Odd()], [5]]
NO_RECORD: list[Any] = [*NEVER, None, 5, "text", {"symbol": "X"}, Chain]

# By annotation: what is wrong. Where None may be given it is left out.
WRONG: dict[str, list[Any]] = {
    "str": [*NO_TEXT, None],
    "str | None": NO_TEXT,
    "bool": NO_BOOL,
    "int": [*NO_COUNT, None],
    "int | None": NO_COUNT,
    "float": NO_SECONDS,
    "Direction": [*NO_TEXT, "up", "", None],
    "Literal['both', 'parents', 'children']": [*NO_TEXT, "up", "", None],
    "Literal['auto', 'off']": [*NO_TEXT, "on", None],
    "Literal['replica', 'catalogue', 'server']": [*NO_TEXT, "Replica", None],
    "datetime | None": [*NEVER, "2024-01-01", 5, 0, True],
    "str | os.PathLike[str] | None": NO_PATH,
    "str | int | None": [*NEVER, -1, True, 1.5, b"root", ["root"], "no such account"],
    "Tls | bool": [*NEVER, 1, 0, "yes", None],
    "Progress | None": NO_FUNCTION,
    "Callable[[Status], object] | None": NO_FUNCTION,
    "Callable[[Status], object]": [*NO_FUNCTION, None],
    "Iterable[str | None]": [*NEVER, None, 5, "USDC", b"USDC", True],
    "Sequence[Any] | Mapping[str, Any] | None": [*NEVER, 5, "text", b"text", True],
    "Sequence[pb.ResolveRequest]": [*NO_LIST, None],
    "Sequence[Record]": [*NO_LIST, None, [None], [Asset]],
    "Iterable[Sequence[Record]]": [*NEVER, None, 5, "text", [5], ["text"], [[5]], [[Asset]], 5],
}
ENUMS = [AssetType, FlagType, MarketKind, RelationshipType, Role, Severity, VenueType]
for _kind in ENUMS:
    _name = _kind.__name__
    NO_SUCH = [*NO_MEMBER, *[each for each in (getattr(_kind, "UNKNOWN", None),) if each is not None]]
    WRONG[_name] = [*NO_SUCH, None]
    WRONG[f"{_name} | None"] = NO_SUCH
    for _many in ("Iterable", "Collection"):
        wrong = [*NO_LIST, *[[value] for value in NO_MEMBER], _kind[next(iter(_kind.__members__))], "HIGH"]
        WRONG[f"{_many}[{_name}]"] = [*wrong, None]
        WRONG[f"{_many}[{_name}] | None"] = wrong
RECORDS: dict[str, Any] = {
    "Asset": Asset(symbol="X", name="X", asset_type=AssetType.TOKEN),
    "Deployment": Deployment(asset_id=ID, chain_id="ethereum", is_native=True, decimals=18),
    "Identifier": Identifier(asset_id=ID, source="coingecko", external_id="x"),
    "Relationship": Relationship(parent_asset_id=ID, child_asset_id=ID, relationship_type=RelationshipType.WRAPS),
    "Group": Group(canonical_symbol="X", name="X"),
    "GroupMember": GroupMember(group_id=ID, asset_id=ID),
    "QualityFlag": QualityFlag(
        asset_id=ID, flag_type=FlagType.SCAM, severity=Severity.LOW, source="x", reason="x", raised_by="x"
    ),
    "Chain": Chain(chain_id="x", name="X", namespace="x"),
    "Venue": Venue(venue_id="x", name="X", venue_type=VenueType.CEX),
    "VenueSymbol": VenueSymbol(venue_id="x", symbol="X", asset_id=ID, market_kind=MarketKind.ASSET),
}


def bent(record: Any) -> Iterator[Any]:
    """Yield a record with each of its fields wrong in turn."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    for name in values:
        yield type(record)(**{**values, name: Odd()})


for _name, _record in RECORDS.items():
    WRONG[_name] = [*NO_RECORD, *bent(_record)]
    WRONG[f"Iterable[{_name}]"] = [*NO_LIST, None, *[[each] for each in bent(_record)]]

# What is right, by name: given beside the wrong one.
RIGHT: dict[str, Any] = {
    "symbol": "USDC",
    "ticker": "BTCUSDT",
    "symbols": ["USDC"],
    "chain": "ethereum",
    "address": "0x" + "a" * 40,
    "source": "coingecko",
    "external_id": "usd-coin",
    "venue": "binance",
    "text": "USDC",
    "query": "SELECT 1",
    "position": 0,
    "canonical_symbol": "ETH",
    "callback": lambda _status: None,
    "name": "somebody",
    "roles": [Role.READER],
    "token_id": ID,
    "records": [RECORDS["Asset"]],
    "batches": [[RECORDS["Asset"]]],
    "requests": [],
    "to": ID,
    "reason": "because",
    "target": "127.0.0.1:1",
}
RECORD_OF = {
    "asset": "Asset",
    "deployment": "Deployment",
    "identifier": "Identifier",
    "relationship": "Relationship",
    "group": "Group",
    "member": "GroupMember",
    "flag": "QualityFlag",
    "venue_symbol": "VenueSymbol",
}
NOTHING_TO_REFUSE = {"close", "status", "position", "age", "registry", "admin"}


def right(name: str, annotation: str) -> Any:
    """Give a right value for a parameter without a default."""
    if annotation in RECORDS:
        return RECORDS[annotation]
    if name in RIGHT:
        return RIGHT[name]
    assert name.endswith("_id"), f"say in RIGHT what is right for {name}: {annotation}"
    return ID


def methods(of: Any) -> dict[str, Callable[..., Any]]:
    """Give the public methods of a class."""
    return {name: method for name, method in inspect.getmembers(of, inspect.isfunction) if not name.startswith("_")}


def wrongs(method: Callable[..., Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield calls of a method that must be refused: the parameter at fault, and all arguments."""
    parameters = [p for p in inspect.signature(method).parameters.values() if p.name not in {"self", "cls"}]
    needed = {
        p.name: right(p.name, p.annotation) for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            patch = parameter.annotation.removeprefix("Unpack[").removesuffix("]")
            for field in vars(__import__("cqar.patches", fromlist=[patch]))[patch].__annotations__:
                yield field, {**needed, field: Odd()}
            continue
        annotation = parameter.annotation.replace('"', "'")
        assert annotation in WRONG, f"say in WRONG what is wrong for {parameter.name}: {annotation}"
        for value in WRONG[annotation]:
            yield parameter.name, {**needed, parameter.name: value}


def is_gate(method: str, field: str) -> bool:
    """Tell whether a parameter is the asset that the gate is asked about, which is never refused."""
    return method in {"check_tradable", "require_tradable"} and field == "asset_id"


def outcome(call: Callable[[], Any]) -> Any:
    """Make a call, and give what it gives or raises; of a list the first item."""

    async def awaited(answer: Any) -> Any:
        if hasattr(answer, "__aiter__"):
            return [item async for item in answer]
        return await answer

    try:
        answer = call()
        if inspect.isawaitable(answer) or hasattr(answer, "__aiter__"):
            return asyncio.get_event_loop_policy().get_event_loop().run_until_complete(awaited(answer))
        return next(answer, None) if isinstance(answer, Iterator) else answer
    except Exception as error:  # noqa: BLE001  (it is what the test is about)
        return error


def check(surface: Any, of: Any, *, gate: bool) -> int:
    """Give every method of an object each wrong argument; tell how many there were."""
    count, taken = 0, []
    for name, method in methods(of).items():
        if name in NOTHING_TO_REFUSE or name in {"connect", "open_snapshot"}:
            continue
        for field, arguments in wrongs(method):
            count += 1
            said = outcome(functools.partial(getattr(surface, name), **arguments))
            if gate and is_gate(name, field):
                verdict = said.verdict if isinstance(said, TradeRefusedError) else said
                refused = (
                    isinstance(verdict, Verdict) and verdict.decision is Decision.UNKNOWN and bool(verdict.reasons)
                )
            else:
                refused = isinstance(said, InvalidError) and bool(said.field)
            if not refused:
                taken.append(f"{of.__name__}.{name}({field}={shown(arguments[field])}): {said!r:.160}")
    assert not taken, "\n".join([f"{len(taken)} of {count} taken:", *taken])
    return count


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client on the bundled catalogue."""
    with open_snapshot(replica_dir=tmp_path_factory.mktemp("replica")) as client:
        yield client


@pytest.fixture
def online(server: ServerThread, tmp_path: Path) -> Iterator[Client]:
    """A client of a server that has next to nothing: all that it is asked for is a miss."""
    with connect(server.target, replica_dir=tmp_path) as client:
        yield client


def test_every_parameter_refuses_what_is_wrong_offline(offline: Client) -> None:
    """With answers at hand: the right question was asked before, and asked again."""
    for _ in range(3):
        for name in ("resolve", "resolve_address", "resolve_venue_symbol", "group", "check_tradable"):
            needed = {
                p.name: right(p.name, p.annotation)
                for p in inspect.signature(getattr(offline, name)).parameters.values()
                if p.default is p.empty
            }
            outcome(functools.partial(getattr(offline, name), **needed))
    assert check(offline, Client, gate=True) > 300
    assert check(offline.venue("binance", kind=MarketKind.PERPETUAL), VenueView, gate=False) > 5


def test_every_parameter_refuses_what_is_wrong_online(online: Client) -> None:
    """With a server to ask: nothing that is wrong gets there, nor to the methods that write."""
    before = online.position
    assert check(online, Client, gate=True) > 300
    assert check(online.registry, Registry, gate=False) > 1000
    assert check(online.admin, Admin, gate=False) > 100
    assert online.registry.resolve_many([]).position == before


def test_every_parameter_refuses_what_is_wrong_in_a_loop(server: ServerThread, tmp_path: Path) -> None:
    """The client for event loops refuses the same."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        client = loop.run_until_complete(AsyncClient.connect(server.target, replica_dir=tmp_path))
        assert check(client, AsyncClient, gate=True) > 300
        loop.run_until_complete(client.close())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.mark.parametrize("make", [connect, open_snapshot])
def test_every_option_of_a_client_refuses_what_is_wrong(make: Callable[..., Client], tmp_path: Path) -> None:
    """No client is made of wrong options."""
    taken = []
    for field, arguments in wrongs(make):
        given = {"replica_dir": tmp_path, **arguments}
        said = outcome(functools.partial(make, **given))
        if not isinstance(said, InvalidError):
            taken.append(f"{field}={shown(arguments[field])}: {said!r:.160}")
    assert not taken, "\n".join(taken)


@pytest.mark.parametrize("kind", ENUMS)
def test_an_enum_takes_its_members_names_and_values_in_any_case(kind: Any) -> None:
    """One coercion for all."""
    for each in kind:
        spellings = [each, each.name, each.name.lower(), each.name.title(), f" {each.name} "]
        spellings += [each.value, each.value.upper()] if isinstance(each.value, str) else []
        assert {member(kind, spelling, "x") for spelling in spellings} == {each}


def test_names_of_enums_answer_as_members_do(offline: Any) -> None:
    """In every method that takes one; before and after the answer is remembered."""
    eth = offline.resolve("ETH").asset.asset_id
    for _ in range(3):
        for word in ("perpetual", "Perpetual", "PERPETUAL", MarketKind.PERPETUAL):
            assert offline.resolve_venue_symbol("binance", "BTCUSDT", kind=word).market_kind is MarketKind.PERPETUAL
        wraps = offline.variants(eth, types=[RelationshipType.WRAPS])
        assert wraps
        assert offline.variants(eth, types=["wraps"]) == offline.variants(eth, types={"WRAPS"}) == wraps
    assert offline.flags(eth, min_severity="high") == offline.flags(eth, min_severity=Severity.HIGH)
    assert offline.list_assets(type="fiat") == offline.list_assets(type=AssetType.FIAT)
    assert offline.list_venues(type="dex") == offline.list_venues(type=VenueType.DEX)
    assert offline.check_tradable(eth, block_at="high", max_age=math.inf).decision is Decision.ALLOW


def test_an_error_says_what_was_given_and_what_is_accepted(offline: Client) -> None:
    """And what was probably meant."""
    with pytest.raises(InvalidError, match=r"'PERPETUEL' is not a MarketKind, one of ASSET, .*did you mean PERPETUAL"):
        offline.resolve_venue_symbol("binance", "BTCUSDT", kind="PERPETUEL")  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="max_age: '5' is not a number of seconds"):
        offline.check_tradable(ID, max_age="5")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [None, "", "USDC", b"x", 0, 7, True, 10**5000, ["x"], Odd(), ID[:-1], ID + "0"],
    ids=lambda value: type(value).__name__,
)
def test_the_gate_says_unknown_to_what_is_no_id(offline: Client, wrong: Any) -> None:
    """And `require_tradable` raises what callers of a gate catch, with the verdict."""
    verdict = offline.check_tradable(wrong, max_age=math.inf)
    assert verdict.decision is Decision.UNKNOWN
    assert "UUID" in verdict.reasons[0]
    with pytest.raises(TradeRefusedError) as refused:
        offline.require_tradable(wrong, max_age=math.inf)
    assert refused.value.verdict is not None
    assert refused.value.verdict.reasons == verdict.reasons


def test_what_is_equal_to_a_default_is_not_taken_for_it(offline: Client) -> None:
    """5 == Severity.CRITICAL, and yet no severity; 15 is an age."""
    asset_id = offline.resolve("ETH").asset.asset_id
    for _ in range(3):
        offline.check_tradable(asset_id)
        with pytest.raises(InvalidError):
            offline.check_tradable(asset_id, block_at=5)  # type: ignore[arg-type]
        assert offline.check_tradable(asset_id, max_age=15).decision is Decision.UNKNOWN


def test_a_chain_is_not_found_under_the_key_of_another_answer(offline: Client) -> None:
    """The memory of answers is keyed by what was asked, and a caller may give such a key."""
    for _ in range(3):
        offline.group("ETH")
    with pytest.raises(InvalidError):
        offline.resolve("USDC", chain=("group", "ETH", None))  # type: ignore[arg-type]


def test_a_write_takes_names_of_enums_in_records(online: Client) -> None:
    """The record comes back with the member."""
    made = online.registry.create_asset(Asset(symbol="TST", name="Test", asset_type="token")).asset  # type: ignore[arg-type]
    assert made.asset_type is AssetType.TOKEN
    assert online.registry.update_asset(made.asset_id, asset_type="Wrapped").record.asset_type is AssetType.WRAPPED  # type: ignore[arg-type]
    assert [each.symbol for each in online.registry.list_assets(asset_type="wrapped")] == ["TST"]  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        online.registry.get_asset(ID)


def test_a_verdict_has_no_truth_value(offline: Client) -> None:
    """`if client.check_tradable(…)` would trade on BLOCK."""
    with pytest.raises(TypeError, match="require_tradable"):
        bool(offline.check_tradable(ID))
    with pytest.raises(TypeError, match=r"decision is Decision\.ALLOW"):
        assert not offline.check_tradable(ID)
