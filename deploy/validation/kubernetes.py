"""Kubernetes manifests: schemas of the API, and references from one object to another."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# The oldest and the newest release that the manifests are for.
VERSIONS = ("1.29", "1.33")
_CUSTOM = {"ServiceMonitor"}

Object = dict[str, Any]


def build(overlay: Path) -> list[Object] | None:
    """Render an overlay; None where neither kustomize nor kubectl is installed.

    Raises:
        subprocess.CalledProcessError: kustomize refused it; stderr has the reason.
    """
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        program = shutil.which(command[0])
        if program:
            done = subprocess.run(  # noqa: S603 - fixed program and a path of this repository
                [program, *command[1:], str(overlay)], check=True, capture_output=True, text=True
            )
            return [item for item in yaml.safe_load_all(done.stdout) if item]
    return None


def read(folder: Path) -> list[Object]:
    """Read the plain manifests of a folder, without kustomize."""
    paths = sorted(path for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")
    return [item for path in paths for item in yaml.safe_load_all(path.read_text("utf-8")) if item]


def schema_problems(objects: list[Object]) -> list[str]:
    """Validate against the Kubernetes schemas, strictly: unknown fields are errors, too.

    Raises:
        ModuleNotFoundError: the package kubernetes-validate, which carries them, is missing.
    """
    import kubernetes_validate  # noqa: PLC0415 - a large optional package

    found = []
    for item in objects:
        if item["kind"] in _CUSTOM:
            found += _monitor_problems(item)
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{_name(item)} ({version}): {error.message}")
    return found


def reference_problems(objects: list[Object]) -> list[str]:
    """Check that selectors select, ports exist, targets are there and probes have a port.

    An autoscaler's target may not say replicas itself.
    """
    pods = {
        _name(item): item["spec"]["template"] for item in objects if item["kind"] == "Deployment"
    }
    known = {(item["kind"], item["metadata"]["name"]) for item in objects}
    fixed = {
        (item["kind"], item["metadata"]["name"])
        for item in objects
        if "replicas" in item.get("spec", {})
    }
    found = []
    for item in objects:
        kind, spec = item["kind"], item.get("spec", {})
        if kind == "Service":
            found += _service_problems(item, pods)
        elif kind == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            if (target["kind"], target["name"]) not in known:
                found.append(f"{_name(item)}: scales {target['name']}, which is not there")
            if (target["kind"], target["name"]) in fixed:
                found.append(f"{_name(item)}: {target['name']} fixes replicas, apply resets them")
        elif kind == "PodDisruptionBudget":
            if not _selected(spec["selector"]["matchLabels"], pods):
                found.append(f"{_name(item)}: selects no pod")
        elif kind == "NetworkPolicy":
            for labels in _policy_labels(spec):
                if not _selected(labels, pods):
                    found.append(f"{_name(item)}: {labels} selects no pod")
        elif kind == "Deployment":
            found += _deployment_problems(item, known)
    return found


def _service_problems(item: Object, pods: dict[str, Object]) -> list[str]:
    chosen = _selected(item["spec"]["selector"], pods)
    if not chosen:
        return [f"{_name(item)}: selects no pod"]
    names = {
        port["name"]
        for pod in chosen
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    }
    return [
        f"{_name(item)}: no container port {port['targetPort']}"
        for port in item["spec"]["ports"]
        if port["targetPort"] not in names
    ]


def _deployment_problems(item: Object, known: set[tuple[str, str]]) -> list[str]:
    pod = item["spec"]["template"]["spec"]
    found = []
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for container in pod["containers"]:
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if container.get(probe, {}).get("httpGet", {}).get("port") not in ports:
                found.append(f"{_name(item)}: {probe} has no port of the container")
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                found.append(f"{_name(item)}: volume {mount['name']} is not defined")
        for source in container.get("envFrom", []):
            if ("ConfigMap", source["configMapRef"]["name"]) not in known:
                found.append(f"{_name(item)}: no ConfigMap {source['configMapRef']['name']}")
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation", True) or not context.get(
            "readOnlyRootFilesystem"
        ):
            found.append(f"{_name(item)}: the container may write or gain rights")
        if "memory" not in container.get("resources", {}).get("limits", {}):
            found.append(f"{_name(item)}: no memory limit")
    claims = [volume.get("persistentVolumeClaim") for volume in volumes.values()]
    for claim in claims:
        if claim and ("PersistentVolumeClaim", claim["claimName"]) not in known:
            found.append(f"{_name(item)}: no claim {claim['claimName']}")
    if ("ServiceAccount", pod.get("serviceAccountName")) not in known:
        found.append(f"{_name(item)}: no ServiceAccount {pod.get('serviceAccountName')}")
    return found


def _policy_labels(spec: Object) -> Iterator[dict[str, str]]:
    yield spec["podSelector"].get("matchLabels", {})
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(direction, []):
            for peer in rule.get(peers, []):
                if "podSelector" in peer:
                    yield peer["podSelector"]["matchLabels"]


def _selected(labels: dict[str, str], pods: dict[str, Object]) -> list[Object]:
    return [pod for pod in pods.values() if labels.items() <= pod["metadata"]["labels"].items()]


def _monitor_problems(item: Object) -> list[str]:
    # The schema of this kind is the Prometheus operator's; these are the fields used here.
    found = [
        f"{_name(item)}: unknown field {key}"
        for key in item["spec"].keys() - {"selector", "endpoints"}
    ]
    for endpoint in item["spec"]["endpoints"]:
        extra = endpoint.keys() - {"port", "path", "interval", "relabelings"}
        found += [f"{_name(item)}: unknown endpoint field {key}" for key in sorted(extra)]
    return found


def _name(item: Object) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"
