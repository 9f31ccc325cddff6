"""The manifests: Kubernetes' own schema takes them, and names, ports, probes, settings and times agree with the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest

from cqar.client._folder import HEAD
from cqar.server.config import load
from cqar.server.server import GRACE
from cqar.server.web import _PATHS
from tests.deploy.reading import DEPLOY, check_command, check_variables, documents
from tests.deploy.test_containers import VERSION, image_environment

FOLDER = DEPLOY / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
KUSTOMIZATIONS = [path for path in FILES if path.name == "kustomization.yaml"]
RELEASES = ("1.29", "1.34", "1.37")  # the oldest with sidecars, and newer ones
OBJECTS = [each for path in FILES if path not in KUSTOMIZATIONS for each in documents(path.read_text())]


def one(kind: str, name: str) -> Any:
    """Give one object."""
    (found,) = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Give the name, the specification and the labels of every pod that is made."""
    for each in OBJECTS:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template") or (
            each if each["kind"] == "Pod" else {}
        )
        if template:
            yield each["metadata"]["name"], template["spec"], template["metadata"]["labels"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Give all containers of a pod."""
    found: list[dict[str, Any]] = [*spec.get("initContainers", []), *spec["containers"]]
    return found


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Give the variables of a container: of the image, of the maps that it takes whole, and its own; secrets as in the example."""
    found = dict(image_environment())
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= one("ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            found |= one("Secret", source["secretRef"]["name"])["stringData"]
    for each in container.get("env", []):
        if "value" in each:
            found[each["name"]] = each["value"]
        else:
            reference = each["valueFrom"]["secretKeyRef"]
            found[each["name"]] = one("Secret", reference["name"])["stringData"][reference["key"]]
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_the_schema_of_kubernetes_takes_every_object(release: str) -> None:
    """Strictly: a key that the release does not know is an error."""
    for each in OBJECTS:
        kubernetes_validate.validate(each, release, strict=True)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_kubectl_builds_what_the_files_say(path: Any) -> None:
    """`kubectl apply -k` gets every object of the folder but the examples, in one namespace, with the version of this code."""
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here")
    done = subprocess.run(["kubectl", "kustomize", path.parent], capture_output=True, text=True, check=True)
    built = documents(done.stdout)
    (kustomization,) = documents(path.read_text())
    listed = [each for name in kustomization["resources"] for each in documents((path.parent / name).read_text())]
    assert sorted((each["kind"], each["metadata"]["name"]) for each in built) == sorted(
        (each["kind"], each["metadata"]["name"]) for each in listed
    )
    for each in built:
        kubernetes_validate.validate(each, "1.34", strict=True)
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == kustomization["namespace"]
    assert f"image: cqar:{VERSION}\n" in done.stdout
    assert "image: cqar\n" not in done.stdout
    named = {path.parent / name for name in kustomization["resources"]}
    left = {each for each in path.parent.glob("*.yaml") if each not in named} - {path}
    assert {each.name for each in left} <= {"secret.example.yaml", "first-token.yaml"}


def test_commands_and_variables_are_real() -> None:
    """What a container runs is a command of this cqar, and its settings are such that a server takes them."""
    checked = 0
    for _, spec, _ in pods():
        for container in containers(spec):
            given = environment(container)
            check_variables(given)
            if container["command"][0] != "python":
                check_command(container["command"], sorted({*given, "CQAR_TARGET"}))
                checked += 1
    assert checked == 6


def test_the_program_of_the_trader_compiles_and_uses_what_there_is() -> None:
    """The example of a service is Python, and gives `connect` what it takes."""
    import inspect

    from cqar.client import connect

    trader = one("Deployment", "trader")["spec"]["template"]["spec"]["containers"][0]
    (program,) = trader["args"]
    compile(program, "trader", "exec")
    (arguments,) = re.findall(r'connect\(os.environ\["CQAR_TARGET"\], (.*)\) as client', program)
    inspect.signature(connect).bind(
        "t", **eval(f"dict({arguments})", {"os": type("", (), {"environ": {"CQAR_TOKEN": ""}})})
    )
    assert set(re.findall(r'environ\["(\w+)"\]', program)) <= environment(trader).keys()


def test_pods_keep_to_the_restricted_standard() -> None:
    """As the namespaces demand: no root, no privilege, nothing writable but volumes, no token of the cluster."""
    for name, spec, _ in pods():
        security = spec["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] >= 10_000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        # Else a Service called cqar would put CQAR_PORT and its like into the environment.
        assert spec["enableServiceLinks"] is False
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounted.keys() <= {volume["name"] for volume in spec["volumes"]}
            assert "/tmp" in mounted.values()
    for namespace in ("cqar", "trading"):
        assert one("Namespace", namespace)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_selectors_select() -> None:
    """Service, disruption budget, spread and network policies mean pods that there are; the budget leaves one that may go."""
    labels = [labels for _, _, labels in pods()]

    def selected(selector: dict[str, str]) -> int:
        return sum(selector.items() <= each.items() for each in labels)

    deployment = one("Deployment", "cqar-server")["spec"]
    wanted = deployment["selector"]["matchLabels"]
    assert selected(wanted) == 1
    assert one("Service", "cqar")["spec"]["selector"] == wanted
    budget = one("PodDisruptionBudget", "cqar-server")["spec"]
    assert budget["selector"]["matchLabels"] == wanted
    assert 0 < budget["minAvailable"] < deployment["replicas"]
    for each in deployment["template"]["spec"]["topologySpreadConstraints"]:
        assert each["labelSelector"]["matchLabels"] == wanted
    assert selected(one("NetworkPolicy", "cqar")["spec"]["podSelector"]["matchLabels"]) == len(labels) - 1  # the trader
    policy = one("NetworkPolicy", "cqar-server")["spec"]
    assert policy["podSelector"]["matchLabels"] == wanted
    clients = policy["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"]
    assert clients.items() <= one("Namespace", "trading")["metadata"]["labels"].items()


def test_ports_and_probes_are_those_of_the_server() -> None:
    """Named ports agree with the settings, probes ask for pages that there are, and a start may wait for the migration."""
    (server,) = one("Deployment", "cqar-server")["spec"]["template"]["spec"]["containers"]
    config = load({}, environment={k: v for k, v in environment(server).items() if k.startswith("CQAR_")})
    ports = {each["name"]: each["containerPort"] for each in server["ports"]}
    assert ports == {
        name: int(at.rpartition(":")[2]) for name, at in (("grpc", config.listen), ("http", config.http_listen))
    }
    (service,) = one("Service", "cqar")["spec"]["ports"]
    assert (service["port"], service["targetPort"]) == (ports["grpc"], "grpc")
    probes = {name: server[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} <= set(_PATHS)
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}
    assert probes["readiness"]["httpGet"]["path"] == "/health/ready"
    assert probes["liveness"]["httpGet"]["path"] == "/health/live"  # a database that is away is no reason to be killed
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] > config.migrate_wait
    for policy in one("NetworkPolicy", "cqar-server")["spec"]["ingress"]:
        assert {port["port"] for port in policy["ports"]} <= ports.keys()
    annotations = one("Deployment", "cqar-server")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["http"])
    assert annotations["prometheus.io/path"] in _PATHS


def test_a_server_has_the_time_to_drain() -> None:
    """A pod that goes is taken out of the Service before it refuses calls, and killed only after drain and grace."""
    spec = one("Deployment", "cqar-server")["spec"]["template"]["spec"]
    config = load(
        {}, environment={k: v for k, v in environment(spec["containers"][0]).items() if k.startswith("CQAR_")}
    )
    readiness = spec["containers"][0]["readinessProbe"]
    assert config.drain_seconds >= readiness["periodSeconds"] * readiness["failureThreshold"]
    assert spec["terminationGracePeriodSeconds"] >= config.drain_seconds + GRACE + 20
    assert one("Deployment", "cqar-server")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_jobs_do_what_servers_leave_to_them() -> None:
    """Servers neither migrate nor publish; the exporter publishes where they look, and the backup is on a volume that stays."""
    settings = one("ConfigMap", "cqar-server")["data"]
    assert settings["CQAR_MIGRATE"] == "false"
    assert settings["CQAR_SNAPSHOT_INTERVAL"] == "0"
    exporter = one("CronJob", "cqar-exporter")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert exporter["command"][-1] == settings["CQAR_SNAPSHOTS"]
    for name in ("cqar-exporter", "cqar-backup"):
        job = one("CronJob", name)["spec"]
        assert job["concurrencyPolicy"] == "Forbid"
        assert len(job["schedule"].split()) == 5
    backup = one("CronJob", "cqar-backup")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount["name"] for mount in backup["containers"][0]["volumeMounts"]}
    (volume,) = [each for each in backup["volumes"] if each["name"] == mounts[backup["containers"][0]["command"][-1]]]
    one("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])


def test_the_replica_is_shared_in_the_pod() -> None:
    """A sidecar writes one folder that the service reads; the service waits for it; they see each other's processes."""
    spec = one("Deployment", "trader")["spec"]["template"]["spec"]
    (sidecar,), (trader,) = spec["initContainers"], spec["containers"]
    assert spec["shareProcessNamespace"]
    assert sidecar["restartPolicy"] == "Always"  # what makes a sidecar of it
    folder = environment(sidecar)["CQAR_REPLICA_DIR"]
    assert environment(trader)["CQAR_REPLICA_DIR"] == folder
    assert sidecar["startupProbe"]["exec"]["command"] == ["sh", "-c", f"ls {folder}/*/{HEAD}"]
    shared = {mount["mountPath"]: mount for mount in trader["volumeMounts"]}[folder]
    assert shared["readOnly"]
    assert shared["name"] in {mount["name"] for mount in sidecar["volumeMounts"] if mount["mountPath"] == folder}
    (volume,) = [each for each in spec["volumes"] if each["name"] == shared["name"]]
    assert "emptyDir" in volume
    service, _, port = environment(trader)["CQAR_TARGET"].partition(":")
    assert service == "cqar.cqar"
    assert int(port) == one("Service", "cqar")["spec"]["ports"][0]["port"]
