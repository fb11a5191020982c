"""Rebuild the served ONNX files from the committed weights, checked before they are written.

    python -m export_scripts.export --profile compact [--model NAME ...] [--check]

Each graph is compared with PyTorch on seeded random input (batches of 1 and 3) and OpenVINO in
bfloat16 with OpenVINO in float32; a graph outside its tolerance is not written and the command
fails. Where the processor has no bfloat16 the second comparison is left out, and the table says so:
run `--check` on one that has it before such machines are served. The studio profile is dispatched
to ``export_scripts.studio``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from export_scripts.metrics import aligned
from export_scripts.networks.loading import load_network
from export_scripts.onnx_tools import (
    Array,
    Tolerance,
    computes_bfloat16,
    run_onnxruntime,
    run_openvino,
    separate_biases,
    store_half,
    worst_error,
)
from export_scripts.registry import COMPACT, ROOT, Model, model

BATCHES = (1, 3)


@dataclass(frozen=True)
class Report:
    """Errors and size of one export; see ``Tolerance`` for the errors.

    ``bf16_error`` is None where the processor has no bfloat16: nothing was measured then.
    """

    model: str
    parameters: int
    size_bytes: int
    onnx_error: float
    openvino_error: float
    bf16_error: float | None
    tolerance: Tolerance

    @property
    def within(self) -> bool:
        """Whether every error that was measured is within the tolerance."""
        exact = max(self.onnx_error, self.openvino_error) <= self.tolerance.onnx
        return exact and (self.bf16_error is None or self.bf16_error <= self.tolerance.bf16)

    @property
    def verdict(self) -> str:
        """In a word or three."""
        if not self.within:
            return "OUTSIDE"
        return "ok" if self.bf16_error is not None else "ok in float32"


def export_module(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    opset: int,
    biases_apart: bool = True,
) -> onnx.ModelProto:
    """Trace ``module`` to ONNX, checked, weights stored as float16 behind a Cast.

    ``biases_apart``: see ``separate_biases``.
    """
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module.eval(),
            inputs,
            path,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes={name: dict(axes) for name, axes in dynamic_axes.items()},
            opset_version=opset,
            dynamo=False,
        )
        graph = onnx.load(path)
    stored = store_half(separate_biases(graph) if biases_apart else graph)
    stored.producer_name, stored.producer_version = "headshot", ""
    onnx.checker.check_model(stored, full_check=True)
    return stored


def run_torch(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[Array]:
    """Outputs of ``module`` as arrays, in order."""
    with torch.no_grad():
        outputs = module.eval()(*inputs)
    if isinstance(outputs, torch.Tensor):
        outputs = (outputs,)
    return [o.numpy() for o in outputs]


def build_graph(entry: Model, weights: Path | None = None) -> tuple[onnx.ModelProto, Report]:
    """Export one compact model and measure its errors; writes nothing."""
    network = entry.network()
    net = load_network(network, weights or entry.weights)
    module: torch.nn.Module = network.serving(net)
    graph = export_module(
        module,
        network.example_inputs(2),
        input_names=network.INPUT_NAMES,
        output_names=network.OUTPUT_NAMES,
        dynamic_axes=network.DYNAMIC_AXES,
        opset=network.OPSET,
        biases_apart=getattr(network, "BIASES_APART", True),
    )
    bf16_error: Callable[[list[Array], list[Array]], float]
    bf16_error = getattr(network, "bf16_error", worst_error)
    onnx_errors, openvino_errors, bf16_errors = list[float](), list[float](), list[float]()
    rough = computes_bfloat16()
    for batch in BATCHES:
        inputs = network.example_inputs(batch)
        feeds = {n: t.numpy() for n, t in zip(network.INPUT_NAMES, inputs, strict=True)}
        reference = run_torch(module, inputs)
        exact = run_openvino(graph, feeds, "f32")
        onnx_errors.append(worst_error(run_onnxruntime(graph, feeds), reference))
        openvino_errors.append(worst_error(exact, reference))
        if rough:
            bf16_errors.append(bf16_error(run_openvino(graph, feeds, "bf16"), exact))
    report = Report(
        entry.name,
        sum(p.numel() for p in net.parameters()),
        graph.ByteSize(),
        max(onnx_errors),
        max(openvino_errors),
        max(bf16_errors) if bf16_errors else None,
        tolerance=Tolerance(**getattr(network, "TOLERANCE", {})),
    )
    return graph, report


def write_atomically(graph: onnx.ModelProto, path: Path) -> None:
    """A reader of ``path`` sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = graph.SerializeToString(deterministic=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def report_table(reports: Sequence[Report]) -> str:
    """All reports as text."""
    rows = [("model", "parameters", "file", "onnx", "openvino f32", "bf16", "tolerance", "")]
    for r in reports:
        rows.append(
            (
                r.model,
                f"{r.parameters / 1e6:.2f}M",
                f"{r.size_bytes / 1e6:.2f} MB",
                f"{r.onnx_error:.1e}",
                f"{r.openvino_error:.1e}",
                "not measured here" if r.bf16_error is None else f"{r.bf16_error:.1e}",
                f"{r.tolerance.onnx:.0e} / {r.tolerance.bf16:.0e}",
                r.verdict,
            )
        )
    return aligned(rows)


def export_compact(names: Sequence[str], repository: Path, *, check_only: bool) -> int:
    """Export the named models (all without names); returns the exit status."""
    entries = [model(n) for n in names] if names else list(COMPACT)
    reports = []
    for entry in entries:
        if not entry.weights.exists():
            print(f"{entry.name}: no weights at {entry.weights.relative_to(ROOT)}")
            continue
        graph, report = build_graph(entry)
        if report.within and not check_only:
            write_atomically(graph, repository / entry.name / "1" / "model.onnx")
        reports.append(report)
    if reports:
        print(report_table(reports))
        print(f"total {sum(r.size_bytes for r in reports) / 1e6:.1f} MB")
    missing = len(entries) - len(reports)
    return 0 if not missing and all(r.within for r in reports) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--profile", choices=("compact", "studio"), default="compact")
    parser.add_argument("--model", nargs="*", default=[], help="only these models")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    known, rest = parser.parse_known_args(arguments)
    if known.profile == "studio":
        # The studio profile has checkpoints and options of its own.
        studio = importlib.import_module("export_scripts.studio.export")
        status: int = studio.main([*(f"--model={m}" for m in known.model), *rest])
        return status
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    torch.manual_seed(0)
    return export_compact(known.model, known.repository, check_only=known.check)


if __name__ == "__main__":
    sys.exit(main())
