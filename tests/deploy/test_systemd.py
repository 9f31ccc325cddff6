"""The units and the cron line: systemd takes them, their sandbox is tight, and their commands and variables are real."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cqar.server.config import load
from cqar.server.server import GRACE
from tests.deploy.reading import DEPLOY, check_command, check_variables

UNITS = sorted((DEPLOY / "systemd").glob("*.*"))
SERVICES = [path for path in UNITS if path.suffix == ".service"]
EXPOSURE = 20  # of 100, as `systemd-analyze security` counts; an unprotected service has 96

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")


class Unit:
    """A unit; a key may stand more than once, and the values are lists."""

    def __init__(self, path: Path) -> None:
        self.values: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            if match := re.fullmatch(r"(\w+)=(.*)", line):
                self.values.setdefault(match[1], []).append(match[2])
        self.header = "\n".join(line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))

    def one(self, name: str) -> str:
        """Give the value of a key that stands once."""
        (value,) = self.values[name]
        return value

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sets."""
        words = [word for line in self.values.get("Environment", []) for word in shlex.split(line)]
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    @property
    def asked_for(self) -> set[str]:
        """The variables that it wants in its file of secrets."""
        return set(re.findall(r"\b(CQAR_[A-Z_]+)=", self.header))


@needs_systemd
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(path: Path, tmp_path: Path) -> None:
    """No unknown key, no bad value, no line that is ignored."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:
        (tmp_path / unit.name).write_text(re.sub(r"/opt/cqar/\w+/[\w.]+", str(program), unit.read_text()))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / path.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_the_sandbox_is_tight(path: Path) -> None:
    """By systemd's own count."""
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_replica_can_tell_its_age_in_the_sandbox(path: Path) -> None:
    """The boot's id is under /proc/sys, and generations are built at a lower priority: both must not be taken away."""
    unit = Unit(path)
    assert "ProcSubset" not in unit.values
    assert not [value for value in unit.values["SystemCallFilter"] if "@resources" in value]
    assert "MemoryDenyWriteExecute" not in unit.values


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_commands_and_variables_are_real(path: Path) -> None:
    """What a unit runs and sets is what this cqar has."""
    unit = Unit(path)
    check_variables(unit.environment)
    check_variables(sorted(unit.asked_for))
    check_command(shlex.split(unit.one("ExecStart")), ["CQAR_TARGET", *unit.environment])


def test_a_server_has_the_time_to_drain() -> None:
    """SIGTERM goes to the server alone, and SIGKILL comes after the drain, the calls under way and a PostgreSQL that stops."""
    unit = Unit(DEPLOY / "systemd" / "cqar-server.service")
    drain = load({}, environment=unit.environment).drain_seconds
    assert drain > 0
    assert int(unit.one("TimeoutStopSec")) >= drain + GRACE + 20
    assert unit.one("KillMode") == "mixed"
    assert unit.one("Restart") == "always"
    assert unit.one("StartLimitIntervalSec") == "0"


def test_all_write_where_they_may() -> None:
    """The folder that the environment names is the one that systemd makes and leaves writable."""
    server = Unit(DEPLOY / "systemd" / "cqar-server.service")
    assert server.environment["CQAR_DATA_DIR"] == f"/var/lib/{server.one('StateDirectory')}"
    for name in ("cqar-replica", "cqar-replica-refresh"):
        replica = Unit(DEPLOY / "systemd" / f"{name}.service")
        assert replica.environment["CQAR_REPLICA_DIR"] == f"/var/cache/{replica.one('CacheDirectory')}"
        assert replica.one("CacheDirectoryMode") == "0755"  # readers are other accounts
    backup = Unit(DEPLOY / "systemd" / "cqar-backup.service")
    assert backup.one("ExecStart").split()[-1] == f"/var/lib/{backup.one('StateDirectory')}"
    assert backup.one("StateDirectoryMode") == "0700"


def test_a_timer_starts_a_service_that_ends_by_itself() -> None:
    """Each has the service of its name, of type oneshot, and catches up what it missed."""
    timers = [path for path in UNITS if path.suffix == ".timer"]
    assert len(timers) == 2
    for timer in timers:
        service = Unit(timer.with_suffix(".service"))
        assert service.one("Type") == "oneshot"
        assert "Restart" not in service.values
        assert Unit(timer).one("Persistent") == "yes"


def test_the_cron_line_runs_the_refresh(tmp_path: Path) -> None:
    """Its command line is real, reads the file of variables, and is a line that cron takes: no percent sign, a user, one line."""
    lines = (DEPLOY / "cron" / "cqar-replica").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("*")]
    *when, user, command = line.split(maxsplit=6)
    assert when == ["*/5", "*", "*", "*", "*"]
    assert user == "cqar"
    assert "%" not in command
    (tmp_path / "replica.env").write_text("CQAR_TARGET=registry:7433\n# a remark\n")
    program = tmp_path / "cqar"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$CQAR_TARGET" "$@"\n')
    program.chmod(0o755)
    here = command.partition(" 2>&1 | logger")[0]
    for there, replaced in {
        "/opt/cqar/bin/cqar": program,
        "/etc/cqar": tmp_path,
        "/var/cache/cqar": tmp_path,
    }.items():
        here = here.replace(there, str(replaced))
    done = subprocess.run(["/bin/sh", "-c", here], capture_output=True, text=True, check=True)
    target, *arguments = done.stdout.splitlines()
    assert target == "registry:7433"
    check_command(["cqar", *arguments], ["CQAR_TARGET"])
    refresh = shlex.split(Unit(DEPLOY / "systemd" / "cqar-replica-refresh.service").one("ExecStart"))
    assert refresh[1:] == arguments


def test_the_test_of_commands_can_fail() -> None:
    """A flag or a variable that is none is found."""
    for words in (["cqar", "serve", "--no-such"], ["cqar", "nonsense"], ["backup.sh", "--no-such"]):
        with pytest.raises(Exception, match=r"(?i)no such"):
            check_command(words)
    with pytest.raises(AssertionError, match="CQAR_NONSENSE"):
        check_variables({"CQAR_NONSENSE": "1"})
    with pytest.raises(Exception, match="CQAR_WORKERS"):
        check_variables({"CQAR_WORKERS": "many"})
