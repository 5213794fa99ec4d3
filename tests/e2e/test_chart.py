"""The Helm chart and the manifests beside it: valid, and about the service that there is."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from convserve.api.access import Access
from convserve.api.routes import routes
from convserve.settings import PREFIX, Settings, variables
from convserve.telemetry import Telemetry

pytestmark = pytest.mark.helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docker" / "helm" / "convserve"
BIN = ROOT / ".venv" / "helm" / "bin"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
KUBERNETES = "1.30.0"
KINDS = {
    "Deployment",
    "Service",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "NetworkPolicy",
}
each = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
Document = dict[str, Any]


def tool(name: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(BIN / name), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def parsed(text: str) -> list[Document]:
    code = (
        "import json,sys,yaml; print(json.dumps([d for d in yaml.safe_load_all(sys.stdin) if d]))"
    )
    found = tool("python", "-c", code, stdin=text)
    assert found.returncode == 0, found.stderr
    return [document for document in json.loads(found.stdout) if document]


def render(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return tool("helm", "template", "stable", CHART, "--kube-version", KUBERNETES, *options)


@cache
def rendered(values: Path) -> dict[str, Document]:
    """Return kind → document."""
    done = render("--values", values)
    assert done.returncode == 0, done.stderr
    return {document["kind"]: document for document in parsed(done.stdout)}


def container(values: Path) -> Document:
    (found,) = rendered(values)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(values: Path) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(values)["env"]}


def paths() -> set[str]:
    return {route.path for route in routes(Access(Settings()))}  # type: ignore[attr-defined]


@each
def test_lint_finds_nothing(values: Path) -> None:
    done = tool("helm", "lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


@each
def test_what_is_rendered_is_valid_kubernetes(values: Path, tmp_path: Path) -> None:
    for kind, document in rendered(values).items():
        file = tmp_path / f"{kind}.json"
        file.write_text(json.dumps(document))
        done = tool("kubernetes-validate", "--strict", "-k", KUBERNETES, file)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_validation_bites(tmp_path: Path) -> None:
    document = rendered(VALUES[0])["Service"]
    (file := tmp_path / "wrong.json").write_text(json.dumps(document | {"spec": {"prots": []}}))
    assert tool("kubernetes-validate", "--strict", "-k", KUBERNETES, file).returncode != 0


@pytest.mark.parametrize(
    "wrong",
    [
        "store.kind=tape",
        "store.kind=volume",
        "store.kind=object",
        "image.digest=latest",
        "replicsa=2",
    ],
)
def test_values_that_cannot_work_are_refused(wrong: str) -> None:
    done = render("--set", wrong)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_the_values_files_differ_in_what_they_show() -> None:
    kinds = [set(rendered(values)) for values in VALUES]
    assert set.union(*kinds) == KINDS
    assert KINDS - {"HorizontalPodAutoscaler"} in kinds


@each
def test_selectors_meet_the_pods(values: Path) -> None:
    found = rendered(values)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)


@each
def test_probes_ask_what_the_service_answers(values: Path) -> None:
    probes = container(values)
    asked = {name: probes[f"{name}Probe"]["httpGet"]["path"] for name in PROBES}
    assert asked == PROBES
    assert set(asked.values()) <= paths()
    (port,) = container(values)["ports"]
    assert environment(values)[f"{PREFIX}PORT"] == str(port["containerPort"])


PROBES = {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


@each
def test_its_variables_are_settings(values: Path) -> None:
    ours = {name for name in environment(values) if name.startswith(PREFIX)}
    assert ours <= variables()


@each
def test_a_pod_has_the_time_to_drain(values: Path) -> None:
    spec = rendered(values)["Deployment"]["spec"]["template"]["spec"]
    given = environment(values)
    needed = sum(int(given[PREFIX + name]) for name in ("DRAIN_SECONDS", "SHUTDOWN_SECONDS"))
    assert spec["terminationGracePeriodSeconds"] > needed
    probe = container(values)["readinessProbe"]
    noticed = probe["periodSeconds"] * probe["failureThreshold"]
    assert int(given[f"{PREFIX}DRAIN_SECONDS"]) > noticed


@each
def test_pods_are_held_to_whole_cores_and_cannot_rise(values: Path) -> None:
    limits = container(values)["resources"]["limits"]
    assert float(limits["cpu"]).is_integer()
    assert limits["cpu"] == container(values)["resources"]["requests"]["cpu"]
    security = container(values)["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_the_autoscaler_asks_for_metrics_that_are_exported() -> None:
    exported = {metric.name for metric in Telemetry().registry.collect()}
    scaled = [d["HorizontalPodAutoscaler"] for d in map(rendered, VALUES) if len(d) == len(KINDS)]
    assert scaled
    for autoscaler in scaled:
        asked = {entry["pods"]["metric"]["name"] for entry in autoscaler["spec"]["metrics"]}
        assert asked <= exported


def test_kserve_speaks_our_protocol() -> None:
    (runtime,) = parsed((ROOT / "docker/kserve/serving-runtime.yaml").read_text())
    (service,) = parsed((ROOT / "docker/kserve/inference-service.yaml").read_text())
    (box,) = runtime["spec"]["containers"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert box[probe]["httpGet"]["path"] in paths()
        assert box[probe]["httpGet"]["port"] == box["ports"][0]["containerPort"]
    given = {entry["name"]: entry["value"] for entry in box["env"]}
    assert given.keys() <= variables()
    assert given[f"{PREFIX}PORT"] == str(box["ports"][0]["containerPort"])
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = {entry["name"] for entry in runtime["spec"]["supportedModelFormats"]}
    assert model["modelFormat"]["name"] in formats


def test_a_rollout_shares_all_requests_between_two_releases() -> None:
    (route,) = parsed((ROOT / "docker/gateway/rollout.yaml").read_text())
    backends = route["spec"]["rules"][0]["backendRefs"]
    assert sum(backend["weight"] for backend in backends) == 100
    for backend in backends:
        release = backend["name"].removesuffix("-convserve")
        done = tool("helm", "template", release, CHART, "--show-only", "templates/service.yaml")
        (service,) = parsed(done.stdout)
        assert service["metadata"]["name"] == backend["name"]
        assert backend["port"] in [port["port"] for port in service["spec"]["ports"]]
