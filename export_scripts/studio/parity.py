"""How far an exported graph is from the torch network it came from, on seeded random inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from export_scripts.studio.spec import Precision, StudioModel

# Relative to the largest magnitude of the output; uint8 outputs count in levels of 255 (one level
# is 3.9e-3), float16 outputs cannot be nearer than 4.9e-4.
TOLERANCE = {Precision.FLOAT32: 5e-3, Precision.FLOAT16: 2e-2, Precision.BFLOAT16: 1e-1}


@dataclass(frozen=True)
class Parity:
    """Errors over all outputs.

    Attributes:
        absolute: largest absolute difference.
        relative: largest difference over the largest magnitude of that output.
        rows: largest absolute difference between a row in a batch and the row alone.
        runtime: what ran the graph.
    """

    absolute: float
    relative: float
    rows: float
    runtime: str


def run_onnx(path: Path, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """Run a graph with ONNX Runtime on one CPU thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def run_openvino(path: Path, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """Run a graph with OpenVINO, which has the bfloat16 kernels that ONNX Runtime's CPU lacks."""
    import openvino  # noqa: PLC0415 - only this path needs it

    core = openvino.Core()
    # float32 activations: the hint decides the arithmetic, the graph's weights are bfloat16.
    compiled = core.compile_model(
        core.read_model(path),
        "CPU",
        {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "bf16"},
    )
    result = compiled(inputs)
    return [np.array(result[output]) for output in compiled.outputs]


def measure(model: StudioModel, path: Path, precision: Precision, batch: int = 2) -> Parity:
    """Compare an exported graph with the float32 torch network.

    Args:
        model: the model with its float32 network.
        path: model.onnx.
        precision: arithmetic of the graph; bfloat16 runs in OpenVINO, the rest in ONNX Runtime.
        batch: rows in the batch; row 0 is run alone, too.
    """
    inputs = model.example(batch)
    with torch.no_grad():
        wanted = model.network.eval()(*inputs)
    references = [wanted] if isinstance(wanted, Tensor) else list(wanted)
    runtime = run_openvino if precision is Precision.BFLOAT16 else run_onnx
    feed = {port.name: tensor.numpy() for port, tensor in zip(model.inputs, inputs, strict=True)}
    found = runtime(path, feed)
    alone = runtime(path, {name: array[:1] for name, array in feed.items()})
    absolute = relative = rows = 0.0
    scores_only = model.unordered and precision is not Precision.FLOAT32
    for number, (reference, output, single) in enumerate(
        zip(references, found, alone, strict=True)
    ):
        if scores_only and number != 1:
            continue
        target = reference.numpy().astype(np.float64)
        value = output.astype(np.float64)
        difference = float(np.abs(value - target).max())
        scale = 255.0 if output.dtype == np.uint8 else max(float(np.abs(target).max()), 1e-6)
        absolute = max(absolute, difference)
        relative = max(relative, difference / scale)
        rows = max(rows, float(np.abs(value[:1] - single.astype(np.float64)).max()))
    name = "openvino" if runtime is run_openvino else "onnxruntime"
    return Parity(absolute, relative, rows, name)
