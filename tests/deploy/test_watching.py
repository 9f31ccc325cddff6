"""Alerts and dashboard: every expression is PromQL over metrics, labels and values that a running server exports.

A server with all parts (Redis, a broker, snapshots) is asked for its figures; what an expression names must be among them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.request import urlopen

import grpc
import promql_parser
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.sql import SQL, Identifier

from cqar.client import Asset, AssetType
from cqar.client._registry import Registry
from cqar.client._remote import Remote
from cqar.errors import NotFoundError
from cqar.server.config import Config
from cqar.server.postgres import EmbeddedPostgres
from cqar.server.server import running_server
from tests.brokers import NatsServer
from tests.caching import RedisServer, until
from tests.conftest import temporary_folder
from tests.deploy.reading import DEPLOY, ROOT, documents

ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
RUNBOOK = ROOT / "docs" / "alerts.md"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "cqar.json").read_text())
RULES = [rule for group in documents(ALERTS.read_text())[0]["groups"] for rule in group["rules"]]
OF_THE_SCRAPE = {"job", "instance"}  # labels that Prometheus adds
VARIABLES = {"$instance": ".*", "$__rate_interval": "1m"}

Exported = dict[str, dict[str, set[str]]]  # the values of each label, by metric


@pytest.fixture(scope="module")
def exported(postgres: EmbeddedPostgres) -> Iterator[Exported]:
    """Give what a server with all its parts tells, after a few calls."""
    name = "watched"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    with temporary_folder() as folder:
        redis, nats = RedisServer(folder / "redis"), NatsServer(folder / "nats")
        for part in (folder / "redis", folder / "nats"):
            part.mkdir()
        redis.start()
        nats.start()
        config = Config(
            listen="127.0.0.1:0",
            http_listen="127.0.0.1:0",
            database=postgres.url_for(name),
            data_dir=folder,
            redis=redis.url,
            events=nats.url,
            feed=nats.url,
        )
        try:
            with running_server(config) as running:
                _call(running.target)
                url = f"http://{running.server.http_target}/metrics"
                until(lambda: _complete(_scraped(url)), "a part says nothing")
                yield _scraped(url)
        finally:
            redis.kill()
            nats.kill()


def _call(target: str) -> None:
    remote = Remote(target, token=None, actor=None, timeout=20)
    registry = Registry(remote)
    made = registry.create_asset(Asset(symbol="A", name="A", asset_type=AssetType.TOKEN))
    registry.get_asset(made.asset.asset_id)
    with pytest.raises(NotFoundError):
        registry.get_asset("00000000-0000-4000-8000-000000000000")
    remote.close()


def _scraped(url: str) -> Exported:
    with urlopen(url, timeout=10) as reply:
        text = reply.read().decode()
    found: Exported = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def _complete(found: Exported) -> bool:
    relays = found.get("cqar_relay_position", {}).get("relay", set())
    late = {"cqar_snapshot_age_seconds", "cqar_cache_requests_total"}
    return relays == {"events", "feed"} and late <= found.keys()


def parsed(expression: str) -> Any:
    """Parse PromQL, Grafana's variables filled in; ValueError for what is none."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


def parts(node: Any) -> Iterator[Any]:
    """Give an expression and all that is in it."""
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vs", "vector_selector"):
        if (child := getattr(node, name, None)) is not None:
            yield from parts(child)
    for child in getattr(node, "args", None) or ():
        yield from parts(child)


def selectors(expression: str) -> list[Any]:
    """Give the selectors of an expression."""
    found = [each for each in parts(parsed(expression)) if isinstance(each, promql_parser.VectorSelector)]
    assert len({each.name for each in found}) == len(set(re.findall(r"\b(?:cqar|process)_\w+|\bup\b", expression)))
    return found


@cache
def methods() -> set[str]:
    """Give the names of all methods."""
    from cqar.v1 import admin_pb2, registry_pb2, replication_pb2

    files = (registry_pb2, replication_pb2, admin_pb2)
    services = [each for file in files for each in file.DESCRIPTOR.services_by_name.values()]
    return {method.name for service in services for method in service.methods}


def values_of(label: str, seen: set[str]) -> set[str]:
    """Give the values that a label can have; what a run of a few calls did not show stands in the code."""
    whole = {
        "method": methods(),
        "code": {code.name for code in grpc.StatusCode},
        "outcome": {"hit", "miss", "stale", "skipped", "error", "refused", "dropped"},
    }
    return whole.get(label, seen)


def check(expression: str, exported: Exported) -> None:
    """Raise AssertionError for a metric, a label or a value of one that no server exports."""
    for selector in selectors(expression):
        if selector.name == "up":  # Prometheus' own
            continue
        assert selector.name in exported, f"{selector.name} in {expression}"
        labels = exported[selector.name]
        for matcher in selector.matchers.matchers:
            if matcher.name in OF_THE_SCRAPE:
                continue
            assert matcher.name in labels, f"{selector.name} has no {matcher.name}"
            possible = values_of(matcher.name, labels[matcher.name])
            for word in matcher.value.split("|"):
                assert any(re.fullmatch(word, value) for value in possible), f"{matcher.name} is never {word}"
    _check_grouping(expression, exported)


def _check_grouping(expression: str, exported: Exported) -> None:
    named = {
        label.strip() for labels in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for label in labels.split(",")
    }
    there = set().union(*[exported.get(each.name, {}) for each in selectors(expression)]) | OF_THE_SCRAPE | {"", "le"}
    assert named <= there, f"{named - there} in {expression}"


# --- alerts --------------------------------------------------------------------------------------------------------------


def test_every_alert_asks_for_what_servers_export(exported: Exported) -> None:
    """Metrics, labels, their values, and PromQL that Prometheus' own grammar takes."""
    for rule in RULES:
        check(rule["expr"], exported)
        for selector in selectors(rule["expr"]):
            assert ("job", "cqar") in {(each.name, each.value) for each in selector.matchers.matchers}, rule["alert"]


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    """Severity, summary, description, and a runbook with a heading of its own, none of which is left over."""
    headings = [_anchor(line) for line in RUNBOOK.read_text().splitlines() if line.startswith("## ")]
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert re.fullmatch(r"Cqar\w+", rule["alert"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{_anchor('## Alert ' + rule['alert'])}"
        assert all(len(text) > 20 for text in rule["annotations"].values())
    assert headings == [rule["annotations"]["runbook"].partition("#")[2] for rule in RULES]


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


def test_labels_in_texts_are_those_that_are_left() -> None:
    """`$labels.instance` of a sum over all servers would be empty."""
    for rule in RULES:
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        grouped = re.findall(r"^(?:sum|min|max|count|histogram_quantile\([\d.]+, sum) by \(([^)]*)\)", rule["expr"])
        if grouped:
            assert named <= {label.strip() for label in grouped[0].split(",")}, rule["alert"]
        elif re.match(r"\(?(sum|count|min|max)\(", rule["expr"]):
            assert not named, rule["alert"]


def test_every_gauge_that_tells_of_trouble_has_an_alert(exported: Exported) -> None:
    """Failures, time-outs and lags that are counted are also looked at; and all of CQAR's figures are in the dashboard."""
    watched = {each.name for rule in RULES for each in selectors(rule["expr"])}
    troubles = {
        name for name in exported if re.search(r"cqar_.*(failures|timeouts|lag|_waiting|ready|age_seconds)", name)
    }
    assert troubles <= watched | {"cqar_snapshot_position"}
    shown = {each.name for expression in expressions() for each in selectors(expression)}
    ours = {re.sub(r"_(sum|count|created)$", "_bucket", name) for name in exported if name.startswith("cqar_")}
    assert {name for name in ours if not name.endswith("_created")} - shown == {"cqar_calls_received_total"}


def test_the_rules_fire_when_they_should() -> None:
    """Only where there is a promtool: it takes rules and scrape, and the rules fire in the cases of alerts.test.yaml."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool here")
    for command in (["test", "rules", "alerts.test.yaml"], ["check", "config", "--syntax-only", "prometheus.yaml"]):
        done = subprocess.run([promtool, *command], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_is_of_the_job_that_the_rules_ask_for() -> None:
    """And loads the file of the rules."""
    (config,) = documents((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    assert config["rule_files"] == [ALERTS.name]
    assert [job["job_name"] for job in config["scrape_configs"]] == ["cqar"]


# --- dashboard -----------------------------------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    """Give the panels that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Give all expressions of the dashboard."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_every_panel_shows_what_servers_export(exported: Exported) -> None:
    """As for alerts; annotations and the list of servers, too."""
    for expression in expressions():
        check(expression, exported)
        assert "$instance" in expression
    for each in DASHBOARD["annotations"]["list"]:
        check(each["expr"], exported)
    (servers,) = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "instance"]
    (asked,) = re.findall(r"label_values\((.*), instance\)", servers["query"]["query"])
    check(asked, exported)


def test_legends_name_labels_that_are_left() -> None:
    """A label in a legend is one that the expression keeps."""
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
                kept = {each.strip() for labels in grouped for each in labels.split(",")}
                assert label in (kept if grouped else OF_THE_SCRAPE), target


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    """Each has an id, a title, a description and a unit; none lies on another, none beyond the 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])


@pytest.mark.parametrize(
    "wrong",
    [
        "cqar_no_such_metric",
        'cqar_calls_total{colour="red"}',
        'cqar_calls_total{code=~"INTERNAL|NONSENSE"}',
        'cqar_calls_total{method=~"Fetch.*Nothing"}',
        "sum by (colour) (cqar_calls_total)",
    ],
)
def test_what_servers_do_not_export_is_found(wrong: str, exported: Exported) -> None:
    """The checks of this file can fail."""
    with pytest.raises(AssertionError):
        check(wrong, exported)


def test_what_is_not_promql_is_found() -> None:
    """The grammar is Prometheus' own."""
    with pytest.raises(ValueError, match="invalid promql"):
        parsed("sum by cqar_ready")
