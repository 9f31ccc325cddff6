"""The command line without a server: the bundled catalogue answers, and errors are one line and an exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cqar.cli import app, output
from cqar.cli.app import AMBIGUOUS, BLOCKED, FAILED, INTERRUPTED, OK, UNKNOWN, USAGE
from cqar.cli.connection import near_names
from cqar.cli.find import is_address
from cqar.client import Client, open_snapshot
from cqar.client._entries import Gate
from cqar.client._place import bundled_catalogue
from cqar.errors import CqarError
from cqar.model import Asset, AssetType, Chain, FlagType, QualityFlag, Severity

USDC = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"  # on Ethereum, by its issuer

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def replica_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder for replicas, so that the catalogue's is built once."""
    return tmp_path_factory.mktemp("replica")


@pytest.fixture
def run(replica_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a function that runs a command line in this process, away from this user's settings and folders."""
    for name in [name for name in os.environ if name.startswith("CQAR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CQAR_REPLICA_DIR", str(replica_dir))
    monkeypatch.setenv("CQAR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments))

    return run


@pytest.fixture(scope="module")
def catalogue(replica_dir: Path) -> Iterator[Client]:
    """Yield the bundled catalogue, to compare with."""
    with open_snapshot(replica_dir=replica_dir) as client:
        yield client


def one_error(result: Any) -> str:
    """Give the error of a run; it must be one line, and no traceback anywhere."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return str(lines[0])


# --- look-ups --------------------------------------------------------------------------------------------------------


def test_resolve_shows_the_deployment_with_its_checksum(run: Run) -> None:
    """A symbol on a chain is answered with the contract as people write it and the decimals there."""
    result = run("resolve", "USDC", "--chain", "ethereum")
    assert result.exit_code == OK
    assert re.search(rf"^contract +{USDC}$", result.stdout, re.MULTILINE)
    assert re.search(r"^decimals +6$", result.stdout, re.MULTILINE)


def test_offline_answers_say_so_in_one_line_on_stderr(run: Run) -> None:
    """Nobody takes the bundled catalogue for a server's answer, and stdout stays clean."""
    result = run("resolve", "USDC", "--chain", "ethereum", "--json")
    assert re.fullmatch(
        r"no server given: .* catalogue of \d{4}-\d\d-\d\d; --target or CQAR_TARGET .*\n", result.stderr
    )
    made = json.loads(next(bundled_catalogue().glob("*/*/manifest.json")).read_text())["created_at"]
    assert made[:10] in result.stderr
    json.loads(result.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        [USDC, "--chain", "1"],
        [USDC.lower(), "--chain", "eip155:1"],
        [f"eip155:1/erc20:{USDC.lower()}"],
        [USDC, "--chain", "ethereum", "--address"],
    ],
)
def test_resolve_understands_addresses_and_caip_19(run: Run, arguments: list[str]) -> None:
    """All spellings of one deployment give the same answer."""
    result = run("resolve", *arguments, "--json")
    assert result.exit_code == OK
    found = json.loads(result.stdout)
    assert found["asset"]["symbol"] == "USDC"
    assert found["deployment"]["contract_address"] == USDC.lower()


def test_resolve_understands_asset_ids(run: Run, catalogue: Client) -> None:
    """The id of an asset finds it."""
    key = catalogue.resolve("USDC", chain="ethereum").asset.asset_id
    assert json.loads(run("resolve", key, "--json").stdout)["asset"]["asset_id"] == key


def test_resolve_on_a_venue_names_both_sides(run: Run) -> None:
    """A ticker is answered with the symbols of its base and its quote."""
    result = run("resolve", "BTCUSDT", "--venue", "binance", "--kind", "spot")
    assert result.exit_code == OK
    assert re.search(r"^base +BTC +Bitcoin", result.stdout, re.MULTILINE)
    assert re.search(r"^quote +USDT ", result.stdout, re.MULTILINE)


def test_an_address_without_its_chain_is_refused_with_the_chains_that_know_it(run: Run) -> None:
    """The same EVM address on another chain is another contract: the chain must be said, and is suggested."""
    result = run("resolve", USDC)
    assert result.exit_code == FAILED
    assert "--chain" in one_error(result)
    assert "ethereum" in one_error(result)


def test_a_symbol_that_is_elsewhere_says_where(run: Run) -> None:
    """Not found on a chain: the error names chains that have the symbol."""
    result = run("resolve", "USDC", "--chain", "bitcoin")
    assert result.exit_code == FAILED
    assert "it is on" in one_error(result)


def test_an_ambiguous_symbol_lists_its_candidates_with_an_exit_code_of_its_own(run: Run, catalogue: Client) -> None:
    """Several meanings, none to prefer: all are printed, and a program can tell by the exit code or the JSON."""
    symbol = _ambiguous(catalogue)
    result = run("resolve", symbol)
    assert result.exit_code == AMBIGUOUS
    assert "candidates" in one_error(result)
    assert len(result.stdout.splitlines()) >= 3
    found = json.loads(run("resolve", symbol, "--json").stdout)["error"]
    assert found["reason"] == "AMBIGUOUS"
    assert len(found["candidates"]) >= 2


def _ambiguous(catalogue: Client) -> str:
    rows = catalogue.sql("SELECT symbol FROM assets GROUP BY 1 HAVING count(*) > 1 ORDER BY 1").fetchall()
    for (symbol,) in rows:
        try:
            catalogue.resolve(symbol)
        except CqarError:
            return str(symbol)
    pytest.skip("the catalogue has no ambiguous symbol")


@pytest.mark.parametrize(
    "arguments",
    [
        ["chain", "list"],
        ["chain", "show", "1"],
        ["venue", "list", "--type", "cex"],
        ["venue", "show", "binance"],
        ["asset", "list", "--chain", "base", "-n", "5"],
        ["asset", "search", "usd coin"],
        ["asset", "show", "ETH"],
        ["asset", "deployments", "USDC", "--chain", "ethereum"],
        ["asset", "variants", "ETH", "--type", "WRAPS"],
        ["group", "list"],
        ["group", "show", "ETH"],
        ["flag", "list"],
        ["replica", "status"],
    ],
)
def test_every_reading_command_prints_text_and_json(run: Run, arguments: list[str]) -> None:
    """Offline, each reading command succeeds and prints either a table or exactly one JSON document."""
    text, document = run(*arguments), run(*arguments, "--json")
    assert (text.exit_code, document.exit_code) == (OK, OK), text.output + document.output
    json.loads(document.stdout)
    assert text.stdout or "no such flag" in text.stderr


def test_json_has_every_field_of_a_record(run: Run) -> None:
    """Keys do not come and go with the values: programs may rely on all of them."""
    (first, *_) = json.loads(run("asset", "list", "-n", "1", "--json").stdout)
    assert set(first) == set(Asset.__struct_fields__)


def test_a_search_without_a_find_fails(run: Run) -> None:
    """Like grep: nothing found is no success, and no error either."""
    result = run("asset", "search", "no such thing anywhere")
    assert result.exit_code == FAILED
    assert "nothing found" in result.stderr


# --- the gate --------------------------------------------------------------------------------------------------------


def test_the_gate_says_unknown_of_the_bundled_catalogue(run: Run) -> None:
    """Data of unknown freshness never allow a trade: exit code 5, not 0."""
    result = run("flag", "check", "USDC", "--chain", "ethereum", "--json")
    assert result.exit_code == UNKNOWN
    assert json.loads(result.stdout)["decision"] == "UNKNOWN"


def test_the_gate_says_unknown_of_an_asset_that_is_not_there(run: Run) -> None:
    """An id that nobody knows is a verdict, UNKNOWN, whatever the age."""
    result = run("flag", "check", "0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e", "--max-age", "1e12")
    assert result.exit_code == UNKNOWN
    assert "no live asset" in result.stdout


def test_the_gate_succeeds_only_for_allow(run: Run) -> None:
    """Whoever accepts the age gets ALLOW, and exit code 0."""
    result = run("flag", "check", "USDC", "--chain", "ethereum", "--max-age", "1e12")
    assert result.exit_code == OK
    assert re.search(r"^decision +ALLOW$", result.stdout, re.MULTILINE)


def test_the_gate_has_an_exit_code_for_block(run: Run, replica_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An active flag at the threshold gives exit code 4."""
    flag = QualityFlag(
        asset_id="", flag_type=FlagType.SCAM, severity=Severity.CRITICAL, source="test", reason="drained"
    )
    monkeypatch.setattr("cqar.client._replica.Replica.gate", lambda *_: Gate(exists=True, flags=(flag,)))
    result = run("flag", "check", "USDC", "--chain", "ethereum")
    assert result.exit_code == BLOCKED
    assert "drained" in result.stdout


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["resovle", "USDC"], USAGE, "Did you mean 'resolve'"),
        (["asset", "serach", "USDC"], USAGE, "Did you mean 'search'"),
        (["resolve"], USAGE, "Missing argument"),
        (["resolve", "USDC", "--chian", "1"], USAGE, "--chian"),
        (["resolve", "USDC", "--kind", "SPOT"], USAGE, "--venue"),
        (["resolve", "USDC", "--chain", "etherium"], FAILED, "did you mean ethereum"),
        (["resolve", "BTCUSDT", "--venue", "binanse"], FAILED, "did you mean binance"),
        (["resolve", "NOSUCHTHING"], FAILED, "cqar asset search NOSUCHTHING"),
        (["resolve", USDC.replace("A0b", "a0b"), "-c", "1"], FAILED, "checksum"),
        (["resolve", "eip155:1/erc721:0x00/1"], FAILED, "NFT"),
        (["chain", "show", "zzzzzz"], FAILED, "cqar chain list"),
        (["group", "show", "nosuchgroup"], FAILED, "not found"),
        (["resolve", "USDC", "--target", "localhost"], FAILED, "HOST:PORT"),
        (["resolve", "USDC", "--target", "localhost:1", "--timeout", "5"], FAILED, "localhost:1 cannot be reached"),
        (["snapshot", "verify", "/no/such/folder"], FAILED, "/no/such/folder"),
        (["snapshot", "list"], FAILED, "there is no such folder"),
        (["snapshot", "export", "/tmp/x"], FAILED, "--database"),
        (["serve", "--config", "/no/such/file.toml"], FAILED, "/no/such/file.toml"),
        (["serve", "--listen", "nonsense"], FAILED, "HOST:PORT"),
        (["serve", "--workers", "many"], USAGE, "--workers"),
        (["migrate"], USAGE, "--database"),
        (["migrate", "--database", "postgresql://me:secret@localhost:1/x"], FAILED, "localhost:1"),
        (["migrate", "--database", "mysql://localhost/x"], FAILED, "postgresql"),
        (["asset", "create", "--symbol", "A", "--name", "A", "--type", "TOKEN", "--chain", "1"], USAGE, "--decimals"),
        (["asset", "update", "USDC"], USAGE, "nothing to change"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(run: Run, arguments: list[str], code: int, expected: str) -> None:
    """No traceback, one line, the right exit code, and a hint at the cause or the cure; never a password."""
    result = run(*arguments)
    assert result.exit_code == code
    assert expected in one_error(result)
    assert "secret" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["asset", "create", "--symbol", "A", "--name", "A", "--type", "TOKEN"],
        ["asset", "update", "USDC", "--name", "x"],
        ["asset", "delete", "USDC", "--yes"],
        ["flag", "raise", "USDC", "--type", "SCAM", "--severity", "HIGH", "--reason", "x"],
        ["flag", "clear", "0b6ab0b3-5d0b-4d1e-8a53-6f1c1c5f2f0e", "--reason", "x"],
        ["group", "create", "X", "--name", "x"],
        ["group", "add", "ETH", "ETH"],
        ["group", "remove", "ETH", "ETH"],
        ["replica", "run", "--once"],
        ["import", "snapshot"],
    ],
)
def test_writing_needs_a_server(run: Run, arguments: list[str]) -> None:
    """Without a target a write fails with what to give; the catalogue is never written to."""
    result = run(*arguments)
    assert result.exit_code == FAILED
    assert "--target HOST:PORT" in one_error(result)
    assert "CQAR_TARGET" in one_error(result)


def test_json_errors_are_a_document_too(run: Run) -> None:
    """A program that asks for JSON gets the reason in it, besides the line on stderr."""
    result = run("resolve", "USDC", "--chain", "etherium", "--json")
    assert result.exit_code == FAILED
    assert json.loads(result.stdout)["error"]["reason"] == "CHAIN_NOT_FOUND"
    one_error(result)


def _broken(*_arguments: object, **_options: object) -> None:
    raise RuntimeError("boom")


def _interrupted(*_arguments: object, **_options: object) -> None:
    raise KeyboardInterrupt


def test_a_defect_is_one_line_with_a_hint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is no wall of text; --debug, anywhere in the line, shows it."""
    monkeypatch.setattr("cqar.client.open_snapshot", _broken)
    result = run("resolve", "USDC")
    assert result.exit_code == FAILED
    assert "unexpected RuntimeError: boom" in one_error(result)
    assert "--debug" in one_error(result)
    for line in (["--debug", "resolve", "USDC"], ["resolve", "USDC", "--debug"]):
        assert isinstance(run(*line).exception, RuntimeError)


def test_ctrl_c_exits_130_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt is no error to explain."""
    monkeypatch.setattr("cqar.client.open_snapshot", _interrupted)
    result = run("resolve", "USDC")
    assert result.exit_code == INTERRUPTED
    assert "Traceback" not in result.output


# --- help ------------------------------------------------------------------------------------------------------------


def _commands() -> list[list[str]]:
    import typer.main

    root: Any = typer.main.get_command(app)
    found: list[list[str]] = []
    for name, command in root.commands.items():
        subcommands = getattr(command, "commands", None)
        found += [[name, each] for each in subcommands] if subcommands else [[name]]
    return found


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_has_help_with_examples(run: Run, command: list[str]) -> None:
    """`--help` of each command explains it and shows how it is called."""
    result = run(*command, "--help")
    assert result.exit_code == OK
    if command[0] != "demo":
        assert f"cqar {' '.join(command)}" in result.stdout.partition("Examples:")[2]


def test_called_alone_it_shows_its_help(run: Run) -> None:
    """`cqar` and `cqar asset` are questions, not errors."""
    for line in ([], ["asset"]):
        result = run(*line)
        assert result.exit_code == OK
        assert "Usage:" in result.stdout


def test_serve_has_a_flag_for_every_setting(run: Run) -> None:
    """No setting of the server is missing from the command line."""
    from cqar.server.config import fields

    shown = run("serve", "--help").stdout
    for field in fields():
        assert field.flag in shown


def test_the_version_is_the_package_s(run: Run) -> None:
    """`--version` tells what is installed."""
    from importlib.metadata import version

    assert run("--version").stdout.strip() == f"cqar {version('cqar')}"


def test_help_imports_nothing_heavy() -> None:
    """`cqar --help` is quick because it loads neither grpc nor arrow nor a database."""
    script = (
        "import sys, cqar.cli\n"
        "heavy = {'grpc', 'pyarrow', 'duckdb', 'lmdb', 'sqlalchemy', 'psycopg', 'google.protobuf'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


# --- snapshots, replica, doctor, bench -------------------------------------------------------------------------------


def test_snapshot_verify_finds_one_altered_byte(run: Run, tmp_path: Path) -> None:
    """A flipped bit is a failure that names the file; the untouched snapshot verifies and is listed."""
    root = tmp_path / "snapshots"
    shutil.copytree(bundled_catalogue(), root)
    assert run("snapshot", "verify", str(root)).exit_code == OK
    (listed,) = json.loads(run("snapshot", "list", str(root), "--json").stdout)
    assert listed["rows"]["chain"] > 0
    file = next(root.glob("*/*/assets.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    result = run("snapshot", "verify", str(root))
    assert result.exit_code == FAILED
    assert "assets.parquet" in result.stdout
    one_error(result)


def test_snapshot_list_shows_damaged_manifests(run: Run, tmp_path: Path) -> None:
    """A snapshot whose manifest is unreadable is named, not passed over."""
    root = tmp_path / "snapshots"
    shutil.copytree(bundled_catalogue(), root)
    next(root.glob("*/*/manifest.json")).write_text("{")
    result = run("snapshot", "list", str(root))
    assert "damaged: " in result.stderr


def test_snapshot_prune_keeps_the_newest(run: Run, tmp_path: Path) -> None:
    """The last snapshot of a log is never removed, however old."""
    root = tmp_path / "snapshots"
    shutil.copytree(bundled_catalogue(), root)
    result = run("snapshot", "prune", str(root), "--keep", "1", "--min-age-hours", "0", "--json")
    assert json.loads(result.stdout) == {"removed": []}
    assert list(root.glob("*/*/manifest.json"))


def test_replica_rebuild_replaces_the_generation(run: Run, tmp_path: Path) -> None:
    """After a rebuild there is one whole generation, and nothing set aside."""
    place = ["--replica-dir", str(tmp_path / "mine")]
    assert run("resolve", "USDC", "-c", "1", *place).exit_code == OK
    damaged = next((tmp_path / "mine").glob("*/gen-*/meta.json"))
    damaged.write_text("{")
    (before,) = json.loads(run("replica", "status", "--json", *place).stdout)["generations"]
    assert before["damaged"]
    assert run("replica", "rebuild", *place).exit_code == OK
    (after,) = json.loads(run("replica", "status", "--json", *place).stdout)["generations"]
    assert not after["damaged"]
    assert not list((tmp_path / "mine").glob("*/.old-*"))


def test_doctor_passes_here(run: Run) -> None:
    """On a machine where the tests run, nothing fails; each check is a line, or an entry."""
    result = run("doctor")
    assert result.exit_code == OK, result.output
    found = json.loads(run("doctor", "--json").stdout)
    assert found["ok"]
    assert {"python", "catalogue", "replica dir", "clock"} <= {each["check"] for each in found["findings"]}


def test_doctor_fails_for_a_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    """A replica folder that cannot be made is a failure with advice, and the exit code says so."""
    (tmp_path / "file").write_text("")
    result = run("doctor", "--replica-dir", str(tmp_path / "file" / "below"))
    assert result.exit_code == FAILED
    assert "--replica-dir" in result.stdout


def test_doctor_fails_for_a_server_that_is_not_there(run: Run) -> None:
    """An unreachable server is a failed check like others, not the end of the checks."""
    result = run("doctor", "--target", "localhost:1", "--json")
    assert result.exit_code == FAILED
    (server,) = [each for each in json.loads(result.stdout)["findings"] if each["check"] == "server"]
    assert server["level"] == "FAIL"


def test_bench_gives_ratios(run: Run) -> None:
    """The figures are there, each with its ratio to a dict look-up; their size is no matter of a test."""
    result = run("bench", "--calls", "1000", "--json")
    assert result.exit_code == OK
    figures = json.loads(result.stdout)["figures"]
    assert figures[0]["times_dict"] == 1
    assert all(each["ns"] > 0 for each in figures)


# --- pieces ----------------------------------------------------------------------------------------------------------


def test_plain_gives_what_json_knows() -> None:
    """Decimals become strings without exponent and idle zeros, times ISO 8601, severities their names, infinity null."""
    assert output.plain(Decimal("1E-7")) == "0.0000001"
    assert output.plain((Decimal("1.000"), Decimal("1E+2"), Decimal("0.10"))) == ["1", "100", "0.1"]
    assert output.plain(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00Z"
    assert output.plain((Severity.HIGH, AssetType.TOKEN, float("inf"))) == ["HIGH", "TOKEN", None]
    asset = Asset(symbol="A", name="a", asset_type=AssetType.TOKEN, metadata=(("k", "v"),))
    assert output.plain(asset)["metadata"] == {"k": "v"}


def test_piped_tables_are_aligned_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns line up by what the eye sees, also for wide characters, and nothing is cut."""
    output.table(["a", "b"], [["日本", "x" * 300], ["ab", True]])
    assert capsys.readouterr().out.splitlines() == ["a     b", "日本  " + "x" * 300, "ab    yes"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("USDC", False),
        ("0x", False),
        ("1INCH", False),
        (USDC, True),
        ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", True),
        ("0x2::sui::SUI", True),
        ("ibc/" + "A" * 64, True),
    ],
)
def test_addresses_are_told_from_symbols(text: str, expected: bool) -> None:
    """What is surely an address is taken for one; short words never are."""
    assert is_address(text) is expected


def test_near_names_look_at_aliases_and_give_slugs() -> None:
    """A misspelt alias leads to the chain's slug, each chain once."""
    chain = Chain(chain_id="polygon", name="Polygon", namespace="eip155", aliases=("coingecko:polygon-pos",))
    assert near_names([chain], "poligon-pos") == ["polygon"]
    assert near_names([chain], "bitcoin") == []


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.25, "0.2 s"), (90, "1.5 min"), (7200, "2.0 h"), (float("inf"), "never")]
)
def test_durations_are_for_people(seconds: float, expected: str) -> None:
    """An age is shown in the unit that fits."""
    assert output.duration(seconds) == expected


def test_a_fork_is_no_variant(run: Run) -> None:
    """Bitcoin Cash is no form of bitcoin; who asks for forks is told of it."""
    assert "WBTC" in run("asset", "variants", "BTC").stdout
    assert "Bitcoin Cash" not in run("asset", "variants", "BTC").stdout
    assert "Bitcoin Cash" in run("asset", "variants", "BTC", "--type", "fork").stdout
