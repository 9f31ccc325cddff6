"""Imports into a real server: twice, in dry runs, over bad rows, over deleted assets, and through an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from cqar.cli import app
from cqar.client._place import bundled_catalogue
from cqar.client._registry import Registry
from cqar.client._remote import Remote
from cqar.errors import SnapshotError, UnavailableError
from cqar.importers import Options, run
from cqar.model import Asset, AssetType, Chain, MarketKind, Record, Venue, VenueSymbol, VenueType
from cqar.server.config import Config
from cqar.server.server import ServerThread, running_server

DATA = Path(__file__).parents[1] / "data" / "imports"
DAI = "0x6b175474e89094c44da98b954eedeac495271d0f"
LUNA_2 = datetime(2022, 5, 28, 6, tzinfo=UTC)  # when the ticker LUNA got its present meaning


@contextmanager
def registry_of(target: str) -> Iterator[Registry]:
    """Yield the write surface of a server."""
    remote = Remote(target, token=None, actor="tests", timeout=20)
    try:
        yield Registry(remote)
    finally:
        remote.close()


@pytest.fixture
def config(migrated_url: str, tmp_path: Path) -> Config:
    """Give the settings of a server on a fresh database."""
    return Config(listen="127.0.0.1:0", database=migrated_url, data_dir=tmp_path, snapshot_interval=0)


@pytest.fixture
def server(config: Config) -> Iterator[ServerThread]:
    """Yield a server on a fresh database."""
    with running_server(config) as server:
        yield server


@pytest.fixture
def registry(server: ServerThread) -> Iterator[Registry]:
    """Yield the write surface of the server."""
    with registry_of(server.target) as registry:
        yield registry


@pytest.fixture
def cqar(server: ServerThread, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Give a function that runs `cqar import` against the server."""
    monkeypatch.setenv("COLUMNS", "200")

    def cqar(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["import", *map(str, arguments), "--target", server.target])

    return cqar


def written(registry: Registry, *records: Record) -> None:
    """Write records, none refused."""
    results, _ = registry.upsert_records(records)
    assert {result.reason for result in results} == {""}


@pytest.mark.slow
def test_the_catalogue_loads_whole_and_a_second_time_changes_nothing(registry: Registry) -> None:
    """Every record of the bundled catalogue arrives over gRPC with its id; again, none changes and the position stays."""
    dry = run("snapshot", bundled_catalogue(), registry, dry_run=True)
    first = run("snapshot", bundled_catalogue(), registry)
    assert (first.refusals, first.created) == ((), first.rows)
    assert (dry.refusals, dry.created, dry.position) == ((), first.created, 0)
    assert registry.get_chain("ethereum").native_asset_id is not None
    second = run("snapshot", bundled_catalogue(), registry)
    assert (second.unchanged, second.position) == (second.rows, first.position)


def test_a_folder_without_a_snapshot_is_one_typed_error(registry: Registry, tmp_path: Path) -> None:
    """What is no snapshot is told by its own error."""
    with pytest.raises(SnapshotError, match="no snapshot there"):
        run("snapshot", tmp_path, registry)


def test_every_kind_is_repeatable(registry: Registry) -> None:
    """A second import of each kind changes nothing, and the position stays."""
    written(registry, *coins())
    names = ("chains.json", "venues.json", "good.tokenlist.json", "markets.csv")
    kinds = ("chains", "venues", "tokenlist", "markets")
    for kind, name in zip(kinds, names, strict=True):
        first = run(kind, DATA / name, registry)
        assert first.created
        second = run(kind, DATA / name, registry)
        assert (second.changed, second.unchanged) == (False, first.created + first.updated + first.unchanged)
        assert second.position == first.position


def test_a_dry_run_writes_nothing(registry: Registry) -> None:
    """It counts what would be created, and the registry is as before."""
    dry = run("chains", DATA / "chains.json", registry, dry_run=True)
    assert (dry.created, dry.position) == (10, 0)
    assert list(registry.list_chains()) == []


def test_aliases_are_added_to_those_that_a_chain_has(registry: Registry) -> None:
    """An import fills what is missing and takes nothing away; with --replace its values win."""
    there = Chain(chain_id="ethereum", name="Mainnet", namespace="eip155", caip2="eip155:1", aliases=("mine:eth1",))
    written(registry, there)
    assert run("chains", DATA / "chains.json", registry).updated == 1
    chain = registry.get_chain("ethereum")
    assert chain.name == "Mainnet"
    assert {"mine:eth1", "viem:mainnet"} < set(chain.aliases)
    assert chain.native_symbol == "ETH"
    run("chains", DATA / "chains.json", registry, options=Options(replace=True))
    chain = registry.get_chain("ethereum")
    assert (chain.name, "mine:eth1" in chain.aliases) == ("Ethereum", True)


def test_bad_rows_are_refused_and_the_rest_is_written(registry: Registry) -> None:
    """The good rows of a list with nine bad ones are in the registry."""
    run("chains", DATA / "chains.json", registry)
    report = run("tokenlist", DATA / "bad_rows.tokenlist.json", registry)
    assert (report.created, report.refused) == (2, 9)
    assert registry.get_asset_deployment(chain="1", address=DAI).decimals == 18


def test_a_deleted_asset_is_not_brought_back(registry: Registry) -> None:
    """Whoever deleted it meant it: the row is refused by the server, its neighbours are not."""
    run("chains", DATA / "chains.json", registry)
    run("tokenlist", DATA / "good.tokenlist.json", registry)
    registry.delete_asset(registry.get_asset_deployment(chain="1", address=DAI).asset_id)
    report = run("tokenlist", DATA / "good.tokenlist.json", registry)
    refused = [refusal for refusal in report.refusals if not refusal.part]
    assert {refusal.key for refusal in refused} == {f"ethereum/{DAI}"}
    assert "ID_USED" in {refusal.reason for refusal in refused}
    assert (report.created, report.unchanged, report.refused) == (0, 7, 1)


def coins() -> tuple[Record, ...]:
    """Give what the sample of markets needs: coins, venues, and the two meanings of LUNA on Binance."""
    kinds = {"BTC": "NATIVE", "ETH": "NATIVE", "USD": "FIAT", "USDT": "STABLECOIN", "LUNA": "NATIVE", "LUNC": "NATIVE"}
    assets = {
        symbol: Asset(
            asset_id=f"00000000-0000-4000-8000-{number:012}", symbol=symbol, name=symbol, asset_type=AssetType[kind]
        )
        for number, (symbol, kind) in enumerate(kinds.items())
    }
    venues = [
        Venue(venue_id=slug, name=slug, venue_type=VenueType.CEX) for slug in ("binance", "okx", "bitmex", "deribit")
    ]
    luna = VenueSymbol(
        venue_id="binance", symbol="LUNA", market_kind=MarketKind.ASSET, asset_id=assets["LUNA"].asset_id
    )
    return (
        *assets.values(),
        *venues,
        msgspec.structs.replace(luna, asset_id=assets["LUNC"].asset_id, valid_to=LUNA_2),
        msgspec.structs.replace(luna, valid_from=LUNA_2),
        VenueSymbol(venue_id="bitmex", symbol="XBT", market_kind=MarketKind.ASSET, asset_id=assets["BTC"].asset_id),
    )


def test_one_file_read_as_of_two_days_gives_two_intervals(registry: Registry) -> None:
    """LUNAUSDT has both its meanings, and the database finds no overlap."""
    written(registry, *coins())
    for day in (datetime.now(UTC), datetime(2021, 7, 22, tzinfo=UTC)):
        report = run("markets", DATA / "markets.csv", registry, options=Options(as_of=day))
        assert report.reasons == {"INACTIVE": 1, "UNMAPPED": 1}
    rows = registry.list_venue_symbols(venue="binance", symbol="LUNAUSDT", kind=MarketKind.SPOT)
    assert {(row.valid_from, row.valid_to) for row in rows} == {(None, LUNA_2), (LUNA_2, None)}
    assert registry.get_venue_symbol(venue="binance", symbol="LUNAUSDT").valid_from == LUNA_2


def test_an_import_goes_on_after_the_server_went_away(config: Config) -> None:
    """The error tells how far it got; with the server back, the same import does the rest."""
    with running_server(config) as server, registry_of(server.target) as registry:
        run("chains", DATA / "chains.json", registry)

        def stop_at_half(step: str, part: float) -> None:
            if step == "writing" and part > 0.4:
                server.stop()

        with pytest.raises(UnavailableError, match="stopped after 6 of 14 records, up to position 4") as caught:
            run("tokenlist", DATA / "good.tokenlist.json", registry, chunk=2, progress=stop_at_half)
        assert caught.value.reason == "IMPORT_STOPPED"
    with running_server(config) as server, registry_of(server.target) as registry:
        report = run("tokenlist", DATA / "good.tokenlist.json", registry, chunk=2)
        assert report.refused == 0
        assert report.created > 0
        assert len(list(registry.list_asset_deployments())) == 8


def test_the_command_line_tells_what_became_of_the_rows(cqar: Callable[..., Any], tmp_path: Path) -> None:
    """Counts and reasons for people, a document for programs, and all refusals in a file."""
    first = cqar("chains", DATA / "chains.json")
    assert first.exit_code == 0, first.output
    assert "created    10" in first.stdout
    assert "DISPUTED" in first.stdout
    second = cqar("chains", DATA / "chains.json")
    assert "nothing changed" in second.stderr
    file = tmp_path / "refused.jsonl"
    bad = cqar("tokenlist", DATA / "bad_rows.tokenlist.json", "--report", file, "--json", "--dry-run")
    document = json.loads(bad.stdout)
    assert (bad.exit_code, document["created"], document["refused"], document["dry_run"]) == (0, 2, 9, True)
    assert len(file.read_text(encoding="utf-8").splitlines()) == len(document["refusals"]) == 9


def test_strict_makes_a_refusal_an_exit_code(cqar: Callable[..., Any]) -> None:
    """Success without, 1 with --strict, although the rest was written in both cases."""
    assert cqar("venues", DATA / "venues.json").exit_code == 0
    assert cqar("venues", DATA / "venues.json", "--strict").exit_code == 1


def test_a_file_that_is_not_of_its_kind_is_one_line_and_exit_code_1(cqar: Callable[..., Any], tmp_path: Path) -> None:
    """A malformed list, a folder, and a kind without its file are told in one line each."""
    path = tmp_path / "list.json"
    path.write_text('{"name": "x"', encoding="utf-8")
    for arguments, code in ((("tokenlist", path), 1), (("chains", tmp_path), 1), (("markets",), 2)):
        result = cqar(*arguments)
        assert result.exit_code == code
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
