"""The command line against a real server, each call a process: exit codes, one-line errors, JSON that parses."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cqar.server.config import Config
from cqar.server.server import running_server
from tests.conftest import temporary_folder
from tests.e2e.conftest import USDC, CommandLine, Ran


def one_error(result: Ran) -> str:
    """Give the only line that a failed run wrote to stderr."""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_reading_asks_the_server_and_is_silent_about_it(cqar: CommandLine) -> None:
    """With a target the answer comes from it: no remark about the catalogue, and the look-ups agree."""
    by_symbol = cqar("resolve", "USDC", "--chain", "1", "--json")
    by_address = cqar("resolve", USDC, "--chain", "ethereum", "--json")
    assert (by_symbol.code, by_symbol.stderr) == (0, "")
    assert by_symbol.json["asset"] == by_address.json["asset"]
    assert by_symbol.json["deployment"]["decimals"] == 6
    ticker = cqar("resolve", "ETHUSDC", "--venue", "binance", "--json")
    assert ticker.json["quote_asset_id"] == by_symbol.json["asset"]["asset_id"]


def test_an_ambiguous_symbol_exits_3_with_its_candidates(cqar: CommandLine) -> None:
    """Two assets are called USDC: both are listed on stdout, one line on stderr."""
    result = cqar("resolve", "USDC")
    assert result.code == 3
    assert "2 candidates" in one_error(result)
    assert "USD Coin" in result.stdout
    assert "Not the coin" in result.stdout
    assert cqar("asset", "delete", "USDC", "--yes").code == 3


def test_an_asset_lives_from_create_to_delete(cqar: CommandLine) -> None:
    """Create with a deployment, show, update, find, delete: each step is seen by the next process."""
    made = cqar(
        *("asset", "create", "--symbol", "LIFE", "--name", "Life", "--type", "token", "--metadata", "k=v"),
        *("--chain", "8453", "--address", "0x" + "ab" * 20, "--decimals", "18", "--json"),
    )
    assert made.code == 0, made.stderr
    key = made.json["asset"]["asset_id"]
    assert made.json["deployments"][0]["chain_id"] == "base"
    shown = cqar("asset", "show", f"eip155:8453/erc20:0x{'ab' * 20}", "--json")
    assert shown.json["asset"]["metadata"] == {"k": "v"}
    updated = cqar("asset", "update", "LIFE", "--website", "https://life.example", "--json")
    assert updated.json["asset"]["website"] == "https://life.example"
    assert updated.json["position"] > made.json["position"]
    stale = cqar("asset", "update", "LIFE", "--name", "x", "--expected-position", str(made.json["position"]))
    assert stale.code == 1
    one_error(stale)
    assert [each["asset_id"] for each in cqar("asset", "search", "life", "--json").json] == [key]
    unasked = cqar("asset", "delete", "LIFE")
    assert unasked.code == 2
    assert "--yes" in one_error(unasked)
    assert cqar("asset", "delete", "LIFE", "--yes").code == 0
    gone = cqar("asset", "show", key)
    assert gone.code == 1
    one_error(gone)


def test_a_duplicate_is_refused_in_one_line(cqar: CommandLine) -> None:
    """The contract is taken: the error says by what, and nothing is written."""
    before = cqar("asset", "list", "--json").json
    result = cqar(
        *("asset", "create", "--symbol", "TWIN", "--name", "Twin", "--type", "TOKEN"),
        *("--chain", "ethereum", "--address", USDC, "--decimals", "6"),
    )
    assert result.code == 1
    one_error(result)
    assert cqar("asset", "list", "--json").json == before


def test_a_flag_turns_the_gate(cqar: CommandLine) -> None:
    """ALLOW is exit code 0; a CRITICAL flag makes it 4 in the next process; cleared, it is 0 again."""
    assert cqar("flag", "check", "ETH").code == 0
    raised = cqar("flag", "raise", "ETH", "--type", "paused", "--severity", "critical", "--reason", "halted", "--json")
    assert raised.code == 0, raised.stderr
    blocked = cqar("flag", "check", "ETH", "--json")
    assert blocked.code == 4
    assert blocked.json["flags"][0]["reason"] == "halted"
    assert blocked.json["flags"][0]["raised_by"]
    listed = cqar("flag", "list", "--min-severity", "high", "--json").json
    assert [each["flag_id"] for each in listed] == [raised.json["flag"]["flag_id"]]
    cleared = cqar("flag", "clear", listed[0]["flag_id"], "--reason", "resumed", "--json")
    assert cleared.json["flag"]["clear_reason"] == "resumed"
    assert cqar("flag", "check", "ETH").code == 0
    again = cqar("flag", "clear", listed[0]["flag_id"], "--reason", "twice")
    assert again.code == 1
    one_error(again)


def test_a_check_by_symbol_is_blocked_by_any_bearer(cqar: CommandLine) -> None:
    """U1: the canonical one of two answers, healthy or not; the exit code says no for either. An ambiguous symbol is no yes."""
    ids = {}
    for number, name in enumerate(("Canonical", "Other")):
        more = ["--canonical"] if number == 0 else []
        made = cqar(
            *("asset", "create", "--symbol", "TWICE", "--name", name, "--type", "token", "--decimals", "18", *more),
            *("--chain", "ethereum", "--address", f"0x{number + 1:040x}", "--json"),
        )
        ids[name] = made.json["asset"]["asset_id"]
    on_chain = ("TWICE", "--chain", "ethereum")
    assert cqar("flag", "check", "TWICE").code == 3
    for flagged in ("Canonical", "Other"):
        raised = cqar(
            *(
                "flag",
                "raise",
                ids[flagged],
                "--type",
                "scam",
                "--severity",
                "critical",
                "--reason",
                "drained",
                "--json",
            )
        )
        assert raised.code == 0
        checked = cqar("flag", "check", *on_chain)
        assert checked.code == 4
        assert checked.stdout.splitlines()[0].split() == ["asset", "TWICE", "Canonical", ids["Canonical"]]
        assert "drained" in checked.stdout
        as_json = cqar("flag", "check", *on_chain, "--json")
        assert (as_json.code, as_json.json["decision"], as_json.json["symbol"]) == (4, "BLOCK", "TWICE")
        assert as_json.json["asset_id"] == ids["Canonical"]
        cleared = cqar("flag", "clear", raised.json["flag"]["flag_id"], "--reason", "an error")
        assert cleared.stdout.splitlines()[0].split()[-2:] == [flagged, ids[flagged]]
    assert cqar("flag", "check", *on_chain).code == 0


def test_a_write_by_a_symbol_that_another_bears_is_refused(cqar: CommandLine) -> None:
    """U2, rule R22: whichever of them a look-up would prefer, nothing is written, and the candidates are shown."""
    ids = []
    for number, symbol in enumerate(("SHARED", "shared")):
        made = cqar(
            *("asset", "create", "--symbol", symbol, "--name", f"number {number}", "--type", "token"),
            *("--chain", "ethereum", "--address", f"0x{number + 77:040x}", "--decimals", "18", "--json"),
        )
        ids.append(made.json["asset"]["asset_id"])
    position = cqar("group", "create", "SHARERS", "--name", "x", "--json").json["position"]
    for command in (
        ("flag", "raise", "SHARED", "--type", "scam", "--severity", "critical", "--reason", "r"),
        ("asset", "update", "SHARED", "--name", "moved"),
        ("asset", "delete", "SHARED", "--yes"),
        ("group", "add", "SHARERS", "SHARED", "--chain", "ethereum"),
        ("group", "remove", "SHARERS", "SHARED"),
    ):
        refused = cqar(*command)
        assert refused.code == 3
        assert "nothing was written" in refused.stderr
        assert all(each in refused.stdout + refused.stderr for each in ids)
    done = cqar("asset", "update", ids[1], "--name", "moved")  # by its id it is written, and said of what
    assert done.stdout.splitlines()[0].endswith(f"shared  number 1  {ids[1]}")
    assert done.stdout.splitlines()[1] == f"at position {position + 1}", "the refused commands wrote something"


def test_a_group_is_made_filled_and_emptied(cqar: CommandLine) -> None:
    """Groups are written by symbol, and weights are exact decimals."""
    assert cqar("group", "create", "ETHERS", "--name", "All ether").code == 0
    added = cqar("group", "add", "ETHERS", "ETH", "--canonical", "--weight", "0.10", "--json")
    assert added.code == 0, added.stderr
    (member,) = cqar("group", "show", "ethers", "--json").json["members"]
    assert (member["weight"], member["is_canonical"], member["asset"]["symbol"]) == ("0.1", True, "ETH")
    assert cqar("group", "remove", "ETHERS", "ETH").code == 0
    assert cqar("group", "show", "ETHERS", "--json").json["members"] == []


def test_a_chain_that_is_misspelt_is_suggested_from_the_server_s(cqar: CommandLine) -> None:
    """Near matches come from the registry that is asked, for reading and for writing."""
    for line in (["resolve", "USDC", "-c", "etherium"], ["asset", "update", "USDC", "-c", "etherium", "--name", "x"]):
        result = cqar(*line)
        assert result.code == 1
        assert "ethereum" in one_error(result)


def test_replica_run_once_leaves_a_warm_replica(cqar: CommandLine, tmp_path: Path) -> None:
    """After `run --once` there is a generation, and `status` says how far it is behind the server."""
    place = ["--replica-dir", str(tmp_path)]
    assert cqar("replica", "run", "--once", *place).code == 0
    found = cqar("replica", "status", "--json", *place).json
    assert found["generations"][0]["log_id"] == found["head"]["log_id"]
    assert not found["generations"][0]["damaged"]
    assert cqar("replica", "rebuild", *place).code == 0


def test_replica_run_once_fails_when_it_refreshed_nothing(database_url: str, tmp_path: Path) -> None:
    """With the server away the replica stays as it was and answers, and a cron learns that nothing was refreshed."""
    config = Config(listen="127.0.0.1:0", database=database_url, data_dir=tmp_path / "server", workers=4)
    with running_server(config) as server:
        alone = CommandLine(server.target, tmp_path / "replica")
        assert alone("replica", "run", "--once").code == 0
    result = alone("replica", "run", "--once", "--json", "--timeout", "1")
    assert result.code == 1
    assert result.json["position"] == 0
    assert result.json["state"] != "fresh"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_replica_run_stops_on_signals(cqar: CommandLine, tmp_path: Path, number: int, code: int) -> None:
    """Ctrl-C is 130, a service manager's stop is a success, and neither leaves a traceback."""
    running = cqar.start("replica", "run", "--replica-dir", str(tmp_path))
    assert running.stdout is not None
    assert "position" in running.stdout.readline()
    running.send_signal(number)
    _, stderr = running.communicate(timeout=20)
    assert running.returncode == code
    assert "Traceback" not in stderr


def test_doctor_checks_the_server(cqar: CommandLine) -> None:
    """With a target the report includes the server's head and the replica's position."""
    result = cqar("doctor", "--json")
    assert result.code == 0, result.stdout
    checks = {each["check"]: each for each in result.json["findings"]}
    assert cqar.target in checks["server"]["found"]
    assert "position" in checks["replica"]["found"]


def test_a_frozen_server_is_given_up_in_time(cqar: CommandLine) -> None:
    """A port that accepts and never answers costs --timeout, and the error names the target."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        result = cqar("chain", "list", "--target", target, "--timeout", "1")
    assert result.code == 1
    assert target in one_error(result)


def test_a_reader_that_goes_away_is_no_error(cqar: CommandLine) -> None:
    """`cqar … | head` prints nothing on stderr about the broken pipe."""
    running = cqar.start("asset", "list", "--json", "-n", "1000", CQAR_TARGET="")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert not [line for line in running.stderr if "rror" in line or "Traceback" in line]
    running.stderr.close()
    assert running.wait(timeout=30) in {0, 141}


def test_migrate_prepares_an_empty_database_and_export_reads_it(
    cqar: CommandLine, database_url: str, tmp_path: Path
) -> None:
    """`migrate` says what it did and can be repeated, `--check` asks; `snapshot export` then publishes what verifies."""
    migrate = ["migrate", "--database", database_url]
    unmade = cqar(*migrate, "--check", "--json")
    assert (unmade.code, unmade.json["found"], unmade.json["current"]) == (1, None, False)
    assert "the schema is none, this version needs" in cqar(*migrate, "--check").stdout
    assert "was brought from none to" in cqar(*migrate).stdout
    assert "is up to date" in cqar(*migrate).stdout
    result = cqar(*migrate, "--check", "--json")
    assert (result.code, result.json["current"], result.json["found"]) == (0, True, result.json["wanted"])
    unready = cqar("snapshot", "export", str(tmp_path), "--database", database_url, "--json")
    assert unready.code == 0, unready.stderr
    assert unready.json["position"] == 0
    assert cqar("snapshot", "verify", str(tmp_path)).code == 0
    (listed,) = cqar("snapshot", "list", str(tmp_path), "--json").json
    assert listed["log_id"] == result.json["log_id"]


def test_serve_runs_on_its_own_database_until_told_to_stop(cqar: CommandLine) -> None:
    """`cqar serve` with nothing but a folder: it says that it uses an embedded PostgreSQL, serves, and drains on SIGTERM.

    While it runs an export from its folder is refused with where its snapshots are; afterwards it succeeds.
    """
    with temporary_folder() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        target = f"127.0.0.1:{port}"
        running = cqar.start("serve", "--data-dir", str(folder), "--listen", target, "--log-format", "json")
        try:
            assert running.stderr is not None
            lines = []
            for line in running.stderr:
                lines.append(json.loads(line)["message"])
                if "serving on" in lines[-1]:
                    break
            assert any("embedded PostgreSQL" in line for line in lines), lines
            assert cqar("chain", "list", "--json", "--target", target).json == []
            export = ["snapshot", "export", str(folder / "out"), "--data-dir", str(folder)]
            refused = cqar(*export)
            assert refused.code == 1
            assert str(folder / "snapshots") in one_error(refused)
        finally:
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=30)
        assert running.returncode == 0
        assert cqar(*export).code == 0


def test_serve_refuses_a_taken_port_in_one_line(cqar: CommandLine) -> None:
    """The port is in use: exit code 1 and a line that says so."""
    with temporary_folder() as folder:
        result = cqar("serve", "--data-dir", str(folder), "--listen", cqar.target)
    assert result.code == 1
    assert cqar.target in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_the_console_script_is_installed(cqar: CommandLine) -> None:
    """`cqar` beside this Python does what `python -m cqar` does."""
    script = Path(sys.executable).with_name("cqar")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == cqar("--version").stdout


def test_a_command_ends_whatever_threads_there_are() -> None:
    """A thread that would keep the interpreter does not keep a command: neither its exit code nor its output is lost."""
    program = (
        "import sys, threading, cqar.cli; threading.Thread(target=threading.Event().wait).start();"
        " sys.argv[1:] = {arguments}; cqar.cli.main()"
    )
    for arguments, code, said in ((["--version"], 0, "cqar "), (["no-such-command"], 2, "")):
        command = [sys.executable, "-c", program.format(arguments=arguments)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == code
        assert ended.stdout.startswith(said)
        assert ended.stdout or ended.stderr
