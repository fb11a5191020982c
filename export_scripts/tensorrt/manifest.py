"""The manifest beside each plan: what it was built from and for, so that a stale one is rebuilt.

A plan runs on the GPU architecture and TensorRT version that it was built on, and says nothing
about the graph that it came from. The manifest does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from export_scripts.tensorrt.profiles import InputProfile

_CHUNK = 1 << 20
SUFFIX = ".manifest.json"


@dataclass(frozen=True)
class Platform:
    """Where a plan is built and runs.

    Attributes:
        gpu: name of the GPU.
        compute_capability: "9.0" and the like.
        tensorrt: full version.
    """

    gpu: str
    compute_capability: str
    tensorrt: str


@dataclass(frozen=True)
class Options:
    """How a plan is built.

    Attributes:
        typing: "strong" (types of the graph; the only way from TensorRT 11 on) or "weak" (a
            float32 graph with builder flags, TensorRT 10).
        flags: builder flags of weak typing: "fp16", "bf16".
        version_compatible: runs on later TensorRT versions of the same major.
        hardware_compatible: runs on all GPUs from Ampere on.
        optimization_level: 0 to 5.
        workspace_mib: most scratch memory of one layer.
    """

    typing: str = "strong"
    flags: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: bool = False
    optimization_level: int = 3
    workspace_mib: int = 4096


@dataclass(frozen=True)
class PlanManifest:
    """Everything that decides whether a plan may be used."""

    model: str
    source_sha256: str
    plan_sha256: str
    platform: Platform
    options: Options
    profiles: tuple[InputProfile, ...]

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", "utf-8")


def read_manifest(path: Path) -> PlanManifest | None:
    """Read a manifest; None when there is none or it cannot be read: then the plan is rebuilt."""
    try:
        fields = json.loads(path.read_text("utf-8"))
        return PlanManifest(
            model=fields["model"],
            source_sha256=fields["source_sha256"],
            plan_sha256=fields["plan_sha256"],
            platform=Platform(**fields["platform"]),
            options=Options(**(fields["options"] | {"flags": tuple(fields["options"]["flags"])})),
            profiles=tuple(
                InputProfile(
                    item["name"],
                    *(tuple(item[key]) for key in ("smallest", "usual", "largest")),
                )
                for item in fields["profiles"]
            ),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def file_sha256(path: Path) -> str:
    """Lower-case hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def source_sha256(graph: Path) -> str:
    """Hash a graph together with the external data that it names.

    Raises:
        FileNotFoundError: the graph names data that is not there.
    """
    digest = hashlib.sha256(file_sha256(graph).encode())
    model = onnx.load(graph, load_external_data=False)
    names = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        digest.update(name.encode())
        digest.update(file_sha256(graph.parent / name).encode())
    return digest.hexdigest()


def stale_reason(
    plan: Path,
    source: str,
    platform: Platform,
    options: Options,
    wanted: tuple[InputProfile, ...],
) -> str | None:
    """Tell why a plan has to be rebuilt.

    Args:
        plan: path of model.plan; its manifest lies beside it.
        source: `source_sha256` of the graph as it is now.
        platform: the machine it is to run on.
        options: how it would be built now.
        wanted: profiles as the configuration asks for them now.

    Returns:
        A short reason, or None when the plan may be used as it is.
    """
    if not plan.is_file():
        return "no plan"
    found = read_manifest(plan.with_name(plan.name + SUFFIX))
    if found is None:
        return "no manifest"
    major = platform.tensorrt.split(".", maxsplit=1)[0]
    same_major = found.platform.tensorrt.split(".", maxsplit=1)[0] == major
    same_gpu = found.platform.compute_capability == platform.compute_capability
    checks = (
        (found.source_sha256 != source, "the graph changed"),
        (found.options != options, "other build options"),
        (found.profiles != wanted, "other profiles"),
        (
            found.platform.tensorrt != platform.tensorrt
            and not (options.version_compatible and same_major),
            f"built with TensorRT {found.platform.tensorrt}, here is {platform.tensorrt}",
        ),
        (
            not same_gpu and not options.hardware_compatible,
            f"built for compute capability {found.platform.compute_capability}, "
            f"here is {platform.compute_capability}",
        ),
        (file_sha256(plan) != found.plan_sha256, "the plan is not the one of its manifest"),
    )
    return next((reason for wrong, reason in checks if wrong), None)
