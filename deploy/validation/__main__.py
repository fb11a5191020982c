"""Check all deployment files: `python -m deploy.validation`; exit status 1 when one is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.validation import compose, dockerfiles, kubernetes

DEPLOY = Path(__file__).parents[1]


def main() -> int:
    """Print what is wrong, and what could not be checked here."""
    found: list[str] = []
    skipped: list[str] = []
    for path in sorted((DEPLOY / "docker").glob("*.Dockerfile")):
        found += dockerfiles.problems(path, DEPLOY.parent)
    found += compose.problems(DEPLOY / "compose" / "compose.yaml")
    checked = 0
    for overlay in sorted((DEPLOY / "kubernetes" / "overlays").iterdir()):
        try:
            objects = kubernetes.build(overlay)
        except subprocess.CalledProcessError as error:
            found.append(f"{overlay.name}: {error.stderr.strip()}")
            continue
        if objects is None:
            skipped.append(f"overlay {overlay.name}: neither kustomize nor kubectl is installed")
            objects = kubernetes.read(DEPLOY / "kubernetes" / "base")
        found += [f"{overlay.name}: {text}" for text in kubernetes.reference_problems(objects)]
        try:
            found += [f"{overlay.name}: {text}" for text in kubernetes.schema_problems(objects)]
        except ModuleNotFoundError:
            skipped.append(f"schemas of {overlay.name}: kubernetes-validate is not installed")
        checked += len(objects)
    for text in found:
        print(text)
    for text in skipped:
        print(f"not checked: {text}")
    print(
        f"{checked} Kubernetes objects, {len(found)} problems, {len(skipped)} checks not possible"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
