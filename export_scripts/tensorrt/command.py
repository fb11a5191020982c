"""The `trtexec` command that builds the same plan: for machines without this project's Python."""

from __future__ import annotations

from pathlib import Path

from export_scripts.tensorrt.manifest import Options
from export_scripts.tensorrt.profiles import InputProfile, Shape


def trtexec(
    graph: Path,
    plan: Path,
    wanted: tuple[InputProfile, ...],
    options: Options,
    *,
    timing_cache: Path | None = None,
    major: int = 11,
) -> list[str]:
    """Return the command as arguments.

    Args:
        graph: model.onnx.
        plan: where the plan goes.
        wanted: shapes of every input.
        options: how to build.
        timing_cache: file of kernel timings, read and written.
        major: TensorRT's major version; from 11 on networks are always strongly typed and the
            switch for it is gone.
    """
    command = ["trtexec", f"--onnx={graph}", f"--saveEngine={plan}"]
    for switch, field in (
        ("--minShapes", "smallest"), ("--optShapes", "usual"), ("--maxShapes", "largest")
    ):  # fmt: skip
        shapes = ",".join(f"{item.name}:{_text(getattr(item, field))}" for item in wanted)
        command.append(f"{switch}={shapes}")
    if options.typing == "strong":
        if major < 11:
            command.append("--stronglyTyped")
    else:
        command += [f"--{flag}" for flag in options.flags]
    if options.version_compatible:
        command.append("--versionCompatible")
    if options.hardware_compatible:
        command.append("--hardwareCompatibilityLevel=ampere+")
    command.append(f"--builderOptimizationLevel={options.optimization_level}")
    command.append(f"--memPoolSize=workspace:{options.workspace_mib}M")
    if timing_cache is not None:
        command.append(f"--timingCacheFile={timing_cache}")
    command.append("--skipInference")
    return command


def _text(shape: Shape) -> str:
    return "x".join(str(size) for size in shape)
