"""Build TensorRT plans for a model repository; rebuild what is stale, leave the rest alone.

    python -m export_scripts.tensorrt.build --repository studio_repository
    python -m export_scripts.tensorrt.build --repository model_repository --dry-run

--dry-run needs neither TensorRT nor a GPU: it prints the profiles and the trtexec commands.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from export_scripts.tensorrt import accuracy, runtime
from export_scripts.tensorrt.command import trtexec
from export_scripts.tensorrt.configs import read_config, write_variants
from export_scripts.tensorrt.files import build_lock, write_atomically
from export_scripts.tensorrt.manifest import (
    SUFFIX,
    Options,
    PlanManifest,
    Platform,
    file_sha256,
    source_sha256,
    stale_reason,
)
from export_scripts.tensorrt.profiles import InputProfile, profiles

TIMING_CACHE = ".timing.cache"

Builder = Callable[[Path, tuple[InputProfile, ...], Options, bytes], tuple[bytes, bytes]]


@dataclass(frozen=True)
class Target:
    """One plan to be built.

    Attributes:
        config: the model's configuration.
        graph: <model>/<version>/model.onnx.
        profiles: shapes of its inputs.
        options: how to build it.
    """

    config: ModelConfig
    graph: Path
    profiles: tuple[InputProfile, ...]
    options: Options

    @property
    def plan(self) -> Path:
        """Where the plan goes: beside the graph."""
        return self.graph.with_name("model.plan")

    @property
    def precision(self) -> str:
        """Arithmetic of the graph; graphs that do not say are float32."""
        if "precision" not in self.config.parameters:
            return "float32"
        return str(self.config.parameters["precision"].string_value)


def targets(repository: Path, options: Options, models: tuple[str, ...] = ()) -> list[Target]:
    """Find every model with a graph, newest version each.

    Raises:
        FileNotFoundError: a named model is not in the repository.
    """
    found = []
    for folder in sorted(repository.iterdir()):
        if not (folder / "config.pbtxt").is_file() or (models and folder.name not in models):
            continue
        versions = [path for path in folder.iterdir() if path.name.isdigit()]
        graphs = [path / "model.onnx" for path in versions if (path / "model.onnx").is_file()]
        if graphs:
            graph = max(graphs, key=lambda path: int(path.parent.name))
            config = read_config(folder / "config.pbtxt")
            found.append(Target(config, graph, profiles(config), options))
    missing = set(models) - {target.config.name for target in found}
    if missing:
        raise FileNotFoundError(f"no graph for {', '.join(sorted(missing))} in {repository}")
    return found


def typed(options: Options, tensorrt: str, precision: str) -> Options:
    """Choose the typing that a TensorRT version has for a graph.

    TensorRT 11 knows strong typing alone. TensorRT 10 takes a float16 or bfloat16 graph strongly
    typed, too; a float32 graph is built weakly typed with the flags that were asked for.
    """
    if int(tensorrt.split(".", maxsplit=1)[0]) >= 11 or precision != "float32":
        return replace(options, typing="strong", flags=())
    return replace(options, typing="weak" if options.flags else "strong")


def ensure_plan(
    target: Target, platform: Platform, cache: Path, builder: Builder, *, force: bool = False
) -> str | None:
    """Build a plan unless a current one is there; one process at a time for each folder.

    Args:
        target: what to build.
        platform: where it is to run.
        cache: timing cache, shared by all models of a GPU.
        builder: the TensorRT call (`runtime.build`).
        force: build in any case.

    Returns:
        Why it was built, or None when the plan was current.
    """
    with build_lock(target.plan.parent):
        source = source_sha256(target.graph)
        reason = (
            "forced"
            if force
            else stale_reason(target.plan, source, platform, target.options, target.profiles)
        )
        if reason is None:
            return None
        timing = cache.read_bytes() if cache.is_file() else b""
        plan, timing = builder(target.graph, target.profiles, target.options, timing)
        manifest_path = target.plan.with_name(target.plan.name + SUFFIX)
        # A plan without a manifest is stale: die in between, and the next run builds again.
        manifest_path.unlink(missing_ok=True)
        write_atomically(target.plan, plan)
        write_atomically(cache, timing)
        PlanManifest(
            target.config.name, source, file_sha256(target.plan), platform, target.options,
            target.profiles,
        ).write(manifest_path)  # fmt: skip
        return reason


def check_plan(target: Target) -> list[accuracy.Difference]:
    """Compare the plan with its graph on seeded inputs of the usual shapes."""
    inputs = accuracy.random_inputs(target.config, target.profiles)
    reference = accuracy.run_graph(target.graph, inputs, target.precision)
    return accuracy.compare(
        reference, runtime.run(target.plan.read_bytes(), inputs), target.precision
    )


def _print_plan(target: Target, cache: Path, major: int) -> None:
    print(f"\n{target.config.name}")
    for item in target.profiles:
        print(f"  {item.name:<24} {item.smallest}  {item.usual}  {item.largest}")
    command = trtexec(
        target.graph, target.plan, target.profiles, target.options, timing_cache=cache, major=major
    )
    print(f"  {shlex.join(command)}")


def main(arguments: list[str] | None = None) -> int:
    """Build, or print what would be built; 1 when a plan differs from its graph."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], help="only these; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="print, build nothing")
    parser.add_argument("--tensorrt-major", type=int, default=11, help="for --dry-run")
    parser.add_argument("--force", action="store_true", help="build current plans, too")
    parser.add_argument("--fp16", action="store_true", help="TensorRT 10, float32 graphs")
    parser.add_argument("--bf16", action="store_true", help="TensorRT 10, float32 graphs")
    parser.add_argument("--version-compatible", action="store_true")
    parser.add_argument("--hardware-compatible", action="store_true", help="Ampere and later")
    parser.add_argument("--optimization-level", type=int, default=3, choices=range(6))
    parser.add_argument("--workspace-mib", type=int, default=4096)
    parser.add_argument("--skip-accuracy", action="store_true")
    options = parser.parse_args(arguments)
    base = Options(
        flags=tuple(flag for flag in ("fp16", "bf16") if getattr(options, flag)),
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        optimization_level=options.optimization_level,
        workspace_mib=options.workspace_mib,
    )
    here = None if options.dry_run else runtime.platform()
    version = here.tensorrt if here else f"{options.tensorrt_major}.0"
    cache = options.repository / TIMING_CACHE
    failed = False
    for found in targets(options.repository, base, tuple(options.model)):
        target = replace(found, options=typed(base, version, found.precision))
        _print_plan(target, cache, int(version.split(".", maxsplit=1)[0]))
        if here is None:
            continue
        reason = ensure_plan(target, here, cache, runtime.build, force=options.force)
        print(f"  {'current' if reason is None else f'built: {reason}'}")
        write_variants(target.graph.parent.parent)
        if not options.skip_accuracy:
            for difference in check_plan(target):
                failed |= not difference.holds
                verdict = "ok" if difference.holds else "OFF"
                print(f"  {difference.output:<24} {difference.relative:.2e} relative  {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
