"""The image and the compose file: linters take them, what they name is there, and roles, ports and limits agree."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema

from cqar.client._folder import HEAD
from cqar.server.config import load
from cqar.server.server import GRACE
from cqar.server.web import _PATHS
from tests.deploy.reading import DEPLOY, ROOT, check_command, check_variables, documents

CONTAINERS = DEPLOY / "containers"
DOCKERFILE = CONTAINERS / "Dockerfile"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TAG = re.compile(r"[a-z/]+:[0-9][0-9A-Za-z.-]*")  # never `latest`


def program(name: str) -> str:
    """Give a program of this virtual environment."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Read the compose file, with its variables at their defaults."""
    text = (CONTAINERS / "compose.yaml").read_text()
    plain = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    assert "${" not in plain, "a variable without a default"
    (found,) = documents(plain)
    return found


def instructions() -> list[tuple[str, str]]:
    """Give the instructions of the Dockerfile and what they say."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def image_environment() -> dict[str, str]:
    """Give the variables of the image."""
    (line,) = [rest for name, rest in instructions() if name == "ENV"]
    return dict(word.split("=", 1) for word in shlex.split(line))


# --- the image -----------------------------------------------------------------------------------------------------------


def test_the_linters_find_nothing() -> None:
    """Hadolint on the Dockerfile, shellcheck on the scripts."""
    subprocess.run([program("hadolint"), "--no-color", DOCKERFILE], check=True)
    scripts = sorted((DEPLOY / "backup").glob("*.sh"))
    subprocess.run([program("shellcheck"), "--external-sources", *scripts], check=True, cwd=ROOT)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """Every source of a COPY exists and gets through .dockerignore; the build has what the wheel is made of."""
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == let_in
    assert not [source for source in copied if not (ROOT / source).exists()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *project["project"]["license-files"], "README.md"}
    assert needed <= copied


def test_nothing_runs_as_root_or_builds_at_run_time() -> None:
    """The last stage has a numeric user, labels, a health check, and gets the environment of the first without its tools."""
    lines = instructions()
    last = lines[max(index for index, (name, _) in enumerate(lines) if name == "FROM") :]
    assert sum(name == "FROM" for name, _ in lines) == 2
    told = dict(last)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", told["USER"])
    assert not [rest for name, rest in last if name == "RUN" and re.search(r"pip|apt-get|gcc", rest)]
    assert {"HEALTHCHECK", "LABEL", "STOPSIGNAL", "CMD"} <= told.keys()
    assert f"ARG VERSION={VERSION}" in DOCKERFILE.read_text()
    base = next(rest for name, rest in lines if name == "ARG")
    assert TAG.fullmatch(base.replace("PYTHON=", "python:"))
    assert [rest.split()[0] for name, rest in lines if name == "FROM"] == ["python:${PYTHON}"] * 2


def test_the_image_has_real_settings() -> None:
    """Variables are known and have values that a server takes; ports, health check and command agree with them."""
    environment = image_environment()
    check_variables(environment)
    config = load({}, environment=environment)
    told = dict(instructions())
    ports = [config.listen.rpartition(":")[2], config.http_listen.rpartition(":")[2]]
    assert told["EXPOSE"].split() == ports
    (path,) = re.findall(rf"http://127\.0\.0\.1:{ports[1]}(/[a-z/]+)", told["HEALTHCHECK"])
    assert path in _PATHS
    check_command(re.findall(r'"([^"]+)"', told["CMD"]))
    folders = {str(config.data_dir), environment["CQAR_REPLICA_DIR"]}
    (made,) = re.findall(r"install -d -o (\d+) -g \d+ -m \d+ (.*)", " ".join(rest for _, rest in instructions()))
    assert folders <= set(made[1].split())
    assert told["USER"].startswith(made[0])


def test_the_health_check_tells_a_server_that_is_ready_from_one_that_is_not() -> None:
    """The very code of the image: code 0 for 200, another for 503 and for nobody there."""
    import http.server
    import threading

    (code,) = re.findall(r'"-c", "(.*)"\]', dict(instructions())["HEALTHCHECK"])
    status = 200

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, "-c", code.replace(":7434", f":{server.server_port}")]
        assert subprocess.run(command, check=False).returncode == 0
        status = 503
        assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0
        server.shutdown()
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0


def _engine() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    done = subprocess.run([docker, "info", "--format", "{{.ServerVersion}}"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_image_is_built_and_says_its_version() -> None:
    """Only where there is an engine: the whole build, and the command line in it, as the image's own user."""
    if not _engine():
        pytest.skip("there is no container engine here")
    name = f"cqar:test-{VERSION}"
    subprocess.run(["docker", "build", "--quiet", "-f", DOCKERFILE, "-t", name, ROOT], check=True)
    run = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", name]
    said = subprocess.run([*run, "cqar", "--version"], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"cqar {VERSION}"
    assert subprocess.run([*run, "id", "-u"], capture_output=True, text=True, check=True).stdout.strip() == "10001"
    subprocess.run([*run, "pg_dump", "--version"], check=True)


# --- the compose file ----------------------------------------------------------------------------------------------------


def test_the_compose_file_follows_the_specification(compose: dict[str, Any]) -> None:
    """By the schema of the Compose Specification."""
    jsonschema.validate(compose, get_builtin_schema("vendor.compose-spec"))


def test_services_are_pinned_checked_and_start_again(compose: dict[str, Any]) -> None:
    """No floating tag; each service has a health check, its own or the image's, and comes back by itself."""
    for name, service in compose["services"].items():
        assert TAG.fullmatch(service["image"]), service["image"]
        assert service["restart"] in {"always", "on-failure"}, name
        assert "healthcheck" in service or service["image"] == f"cqar:{VERSION}", name
        for other, condition in service.get("depends_on", {}).items():
            healthy = condition["condition"] == "service_healthy"
            disabled = compose["services"][other].get("healthcheck", {}).get("disable", False)
            assert not (healthy and disabled), f"{name} waits for ever for {other}"


def test_no_secret_is_in_the_compose_file(compose: dict[str, Any]) -> None:
    """Passwords and tokens come from files that git ignores and that have an example."""
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert not re.search(r"PASSWORD|TOKEN|SECRET", variable), f"{name}: {variable}"
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{name}: {variable}"
        if file := service.get("env_file"):
            assert (CONTAINERS / f"{file}.example").is_file()
    assert "*.env" in (CONTAINERS / ".gitignore").read_text().splitlines()


def test_cqar_services_are_real_and_closed(compose: dict[str, Any]) -> None:
    """Commands, variables and folders are those of the image; nothing is writable but volumes, no capability is left."""
    image = image_environment()
    (default,) = [re.findall(r'"([^"]+)"', rest) for name, rest in instructions() if name == "CMD"]
    writable = {image["CQAR_DATA_DIR"], image["CQAR_REPLICA_DIR"]}
    ours = [service for service in compose["services"].values() if service["image"].startswith("cqar:")]
    assert len(ours) == 4
    for service in ours:
        given = image | service.get("environment", {})
        check_variables(given)
        check_command(service.get("command", default), [*given, "CQAR_TARGET", "CQAR_TOKEN"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert {volume.split(":")[1] for volume in service.get("volumes", [])} <= writable


def test_a_server_has_the_time_to_drain_and_a_way_in(compose: dict[str, Any]) -> None:
    """SIGKILL comes after drain and grace; two servers get two ports of this host alone; only servers see the database."""
    services = compose["services"]
    server, given = services["server"], image_environment() | services["server"]["environment"]
    config = load({}, environment=given)
    assert int(server["stop_grace_period"].removesuffix("s")) >= config.drain_seconds + GRACE + 20
    assert not config.migrate
    host, published, port = server["ports"][0].split(":")
    first, last = map(int, published.split("-"))
    assert (host, port) == ("127.0.0.1", config.listen.rpartition(":")[2])
    assert last - first + 1 == server["deploy"]["replicas"]
    for name in ("replica", "trader"):
        assert services[name]["networks"] == ["frontend"]
        assert services[name]["environment"]["CQAR_TARGET"] == f"server:{port}"
    assert compose["networks"]["backend"] == {"internal": True}
    assert [name for name, each in services.items() if "frontend" in each["networks"]] == [
        "server",
        "replica",
        "trader",
    ]


def test_servers_reach_what_they_are_told_of(compose: dict[str, Any]) -> None:
    """Each URL names a service of the file, in a network that both are in."""
    services = compose["services"]
    for name, service in services.items():
        for value in service.get("environment", {}).values():
            for host in re.findall(r"://(?:\w+@)?([a-z]+)", str(value)):
                assert set(services[host]["networks"]) & set(service["networks"]), f"{name} cannot reach {host}"


def test_the_trader_waits_for_a_replica_and_reads_only(compose: dict[str, Any]) -> None:
    """The replica counts as healthy when its head is there; the trader starts then, and cannot write."""
    services = compose["services"]
    assert services["replica"]["healthcheck"]["test"] == ["CMD-SHELL", f"ls /replica/*/{HEAD}"]
    assert services["trader"]["depends_on"]["replica"]["condition"] == "service_healthy"
    assert services["trader"]["volumes"] == ["replica:/replica:ro"]
