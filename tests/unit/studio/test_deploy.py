"""The deployment files, and that their checks find what is wrong."""

from __future__ import annotations

import copy
import importlib.util
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from headshot.config import Settings

from deploy.validation import compose, dockerfiles, kubernetes

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
OVERLAYS = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
needs_kustomize = pytest.mark.skipif(
    not (shutil.which("kubectl") or shutil.which("kustomize")),
    reason="neither kubectl nor kustomize is installed",
)


@pytest.mark.parametrize("path", sorted((DEPLOY / "docker").glob("*.Dockerfile")), ids=str)
def test_a_dockerfile_has_no_problems(path: Path) -> None:
    assert dockerfiles.problems(path, ROOT) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("FROM python\nUSER 1\nENTRYPOINT ['a']", "not pinned"),
        ("FROM python:latest\nUSER 1\nENTRYPOINT ['a']", "not pinned"),
        ("FROM python:3.12\nENTRYPOINT ['a']", "runs as root"),
        ("FROM python:3.12\nUSER 1\nENTRYPOINT run me", "exec form"),
        ("FROM python:3.12\nUSER 1\nCOPY nothing-here /x\nENTRYPOINT ['a']", "build context"),
        ("FROM python:3.12\nUSER 1\nADD x /x\nENTRYPOINT ['a']", "ADD is not used"),
        ("FROM python:3.12\nRUN pip install -r a.txt\nUSER 1\nENTRYPOINT ['a']", "require-hashes"),
        ("FROM python:3.12\nRUN pip install a==1\nUSER 1\nENTRYPOINT ['a']", "require-hashes"),
        ("FROM python:3.12\nRUN apt-get install x\nUSER 1\nENTRYPOINT ['a']", "cleaning up"),
        ("FROM python:3.12\nUSER 1\nRUN a && \\", "continued line"),
    ],
)
def test_a_bad_dockerfile_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(text.replace("'", '"'))
    assert any(problem in found for found in dockerfiles.problems(path, tmp_path))


def test_the_gateway_image_has_the_packages_of_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dockerfile = (DEPLOY / "docker" / "gateway.Dockerfile").read_text()
    pinned, _tools = re.findall(r"--require-hashes -r (\S+)", dockerfile)
    installed = set(re.findall(r"^([\w-]+)==", (ROOT / pinned).read_text(), re.MULTILINE))
    wanted = {
        re.split(r"[<>=]", item)[0]
        for items in project["optional-dependencies"].values()
        for item in items
    }
    assert "c2pa-python" in wanted
    assert wanted <= installed


def test_the_compose_file_has_no_problems() -> None:
    assert compose.problems(DEPLOY / "compose" / "compose.yaml") == []


def test_a_bad_compose_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    service = {
        "image": "grafana/grafana",
        "ports": ["3000:3000"],
        "networks": ["nowhere"],
        "volumes": ["./missing:/x", "unnamed:/y"],
        "depends_on": ["nobody"],
        "privileged": True,
    }
    path.write_text(yaml.safe_dump({"services": {"grafana": service}}))
    found = "\n".join(compose.problems(path))
    for text in ("pinned", "loopback", "nowhere", "missing", "unnamed", "nobody", "privileged"):
        assert text in found


def test_every_setting_in_the_manifests_is_a_setting_of_the_gateway() -> None:
    names = set()
    for path in (DEPLOY / "compose" / "compose.yaml", DEPLOY / "kubernetes/base/gateway.yaml"):
        names |= set(re.findall(r"^\s+HEADSHOT_([A-Z_]+):", path.read_text(), re.MULTILINE))
    assert len(names) >= 8
    assert {name.lower() for name in names} <= set(Settings.model_fields)


def test_the_gateway_reads_the_values_of_both_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    document = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    configmap = _object(_base(), "ConfigMap", "headshot-gateway")
    for values in (document["services"]["gateway"]["environment"], configmap["data"]):
        with monkeypatch.context() as patch:
            for name, value in values.items():
                patch.setenv(name, value)
            settings = Settings()
        assert settings.host == "0.0.0.0"
        assert settings.triton_url
        assert not settings.shared_memory
        # Beyond loopback either TLS and credentials, or the word that says so.
        assert settings.insecure != bool(settings.tls_certificate and settings.credentials)


def test_the_gateway_may_start_as_long_as_it_waits_for_triton_and_triton_may_load() -> None:
    def patience(name: str) -> float:
        spec = _object(_base(), "Deployment", name)["spec"]["template"]["spec"]
        probe = spec["containers"][0]["startupProbe"]
        return probe["periodSeconds"] * probe["failureThreshold"]

    values = _object(_base(), "ConfigMap", "headshot-gateway")["data"]
    waits = float(values["HEADSHOT_TRITON_READY_S"])
    assert patience("triton") <= waits
    assert patience("headshot-gateway") >= waits + 30


def test_permits_and_threads_of_a_pod_fit_what_it_may_use_however_large_its_node_is() -> None:
    spec = _object(_base(), "Deployment", "headshot-gateway")["spec"]["template"]["spec"]
    resources = spec["containers"][0]["resources"]
    limit_gb = float(resources["limits"]["memory"].removesuffix("Gi")) * 2**30 / 1e9
    values = _object(_base(), "ConfigMap", "headshot-gateway")["data"]
    # What the comment beside them says that a permit takes, with a quarter of the limit to spare.
    assert 0.5 + 0.2 * int(values["HEADSHOT_MAX_CONCURRENCY"]) <= 0.75 * limit_gb
    assert int(values["HEADSHOT_IMAGING_THREADS"]) <= int(resources["requests"]["cpu"])


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_builds_and_its_references_hold(overlay: Path) -> None:
    objects = kubernetes.build(overlay)
    assert objects is not None
    kinds = {item["kind"] for item in objects}
    assert {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget",
        "NetworkPolicy", "ServiceMonitor",
    } <= kinds  # fmt: skip
    assert kubernetes.reference_problems(objects) == []


@needs_kustomize
def test_the_gpu_overlay_asks_for_a_gpu_and_the_tensorrt_variant() -> None:
    objects = kubernetes.build(DEPLOY / "kubernetes" / "overlays" / "studio-gpu")
    assert objects is not None
    triton = next(
        item for item in objects if item["kind"] == "Deployment" and
        item["metadata"]["name"] == "triton"
    )  # fmt: skip
    container = triton["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "MODEL_CONFIG_NAME", "value": "tensorrt"} in container["env"]
    # A strategic merge keeps what the base has.
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert container["startupProbe"]["httpGet"]["port"] == "http"


def _base() -> list[dict]:
    return copy.deepcopy(kubernetes.read(DEPLOY / "kubernetes" / "base"))


def _object(objects: list[dict], kind: str, name: str) -> dict:
    return next(
        item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name
    )


@pytest.mark.parametrize(
    ("kind", "name", "spoil", "problem"),
    [
        (
            "Service",
            "triton",
            lambda spec: spec["selector"].update({"app.kubernetes.io/name": "x"}),
            "selects no pod",
        ),
        (
            "Service",
            "triton",
            lambda spec: spec["ports"][0].update(targetPort="x"),
            "no container port",
        ),
        (
            "HorizontalPodAutoscaler",
            "triton",
            lambda spec: spec["scaleTargetRef"].update(name="x"),
            "not there",
        ),
        (
            "Deployment",
            "headshot-gateway",
            lambda spec: spec.update(replicas=2),
            "fixes replicas",
        ),
        (
            "Deployment",
            "headshot-gateway",
            lambda spec: spec["template"]["spec"]["containers"][0]["livenessProbe"].update(
                httpGet={"path": "/", "port": "x"}
            ),
            "livenessProbe has no port",
        ),
        (
            "Deployment",
            "triton",
            lambda spec: spec["template"]["spec"]["containers"][0]["resources"].pop("limits"),
            "no memory limit",
        ),
        (
            "Deployment",
            "triton",
            lambda spec: spec["template"]["spec"].update(volumes=[]),
            "is not defined",
        ),
    ],
)
def test_a_broken_reference_is_named(kind: str, name: str, spoil, problem: str) -> None:
    objects = _base()
    assert kubernetes.reference_problems(objects) == []
    spoil(_object(objects, kind, name)["spec"])
    assert any(problem in found for found in kubernetes.reference_problems(objects))


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None,
    reason="kubernetes-validate, which carries the schemas, is not installed",
)
def test_the_manifests_follow_the_kubernetes_schemas_and_a_typo_does_not() -> None:
    objects = _base()
    assert kubernetes.schema_problems(objects) == []
    _object(objects, "Deployment", "triton")["spec"]["replicaz"] = 2
    _object(objects, "ServiceMonitor", "triton")["spec"]["endpoint"] = []
    found = "\n".join(kubernetes.schema_problems(objects))
    assert "replicaz" in found
    assert "unknown field endpoint" in found


def test_triton_scales_on_the_queue_time_that_the_adapter_makes_of_tritons_own_counters() -> None:
    scaler = _object(_base(), "HorizontalPodAutoscaler", "triton")
    metric = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
    values = yaml.safe_load((DEPLOY / "kubernetes/prometheus-adapter/values.yaml").read_text())
    (rule,) = [rule for rule in values["rules"]["custom"] if rule["name"]["as"] == metric]
    assert "nv_inference_queue_duration_us" in rule["metricsQuery"]


def test_the_gateway_finds_every_triton_pod_by_a_headless_service() -> None:
    objects = _base()
    assert _object(objects, "Service", "triton")["spec"]["clusterIP"] == "None"
    url = _object(objects, "ConfigMap", "headshot-gateway")["data"]["HEADSHOT_TRITON_URL"]
    assert url == '["dns:///triton:8001"]'
