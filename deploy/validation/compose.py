"""compose.yaml: every name it uses is defined, every file it mounts is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_SERVICE_KEYS = {
    "image", "build", "profiles", "networks", "ports", "environment", "volumes", "deploy",
    "restart", "stop_grace_period", "shm_size", "read_only", "tmpfs", "cap_drop", "security_opt",
    "depends_on",
}  # fmt: skip


def problems(path: Path) -> list[str]:
    """Return what is wrong with a compose file."""
    document: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    found: list[str] = []
    for name, service in document.get("services", {}).items():
        found += _reference_problems(name, service, document)
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                found.append(f"{name}: port {port} is published beyond the loopback address")
        build = service.get("build")
        if build:
            context = (path.parent / build["context"]).resolve()
            if not (context / build["dockerfile"]).is_file():
                found.append(f"{name}: no {build['dockerfile']} in its build context")
        elif ":" not in service["image"] or service["image"].endswith(":latest"):
            found.append(f"{name}: image {service['image']} is not pinned to a version")
        for volume in service.get("volumes", []):
            found += _volume_problems(name, volume, path.parent, document.get("volumes", {}))
    return [f"{path.name}: {text}" for text in found]


def _reference_problems(name: str, service: dict[str, Any], document: dict[str, Any]) -> list[str]:
    found = [f"{name}: unknown key {key}" for key in sorted(service.keys() - _SERVICE_KEYS)]
    if "profiles" not in service:
        found.append(f"{name}: in no profile, so it would start with every one")
    found += [
        f"{name}: network {network} is not defined"
        for network in service.get("networks", [])
        if network not in document.get("networks", {})
    ]
    found += [
        f"{name}: depends on {other}, which is not a service"
        for other in service.get("depends_on", [])
        if other not in document["services"]
    ]
    return found


def _volume_problems(
    name: str, volume: str | dict[str, Any], folder: Path, named: dict[str, Any]
) -> list[str]:
    source = str(volume["source"]) if isinstance(volume, dict) else volume.split(":")[0]
    if source.startswith("${"):
        return []
    if source.startswith((".", "/")):
        there = (folder / source).exists()
        return [] if there else [f"{name}: {source} is not there"]
    return [] if source in named else [f"{name}: volume {source} is not defined"]
