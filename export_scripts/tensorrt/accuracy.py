"""Engine against ONNX: is the plan the same function as the graph it was built from?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export_scripts.tensorrt.profiles import InputProfile

Arrays = Mapping[str, NDArray[np.generic]]

_TYPES = {"TYPE_UINT8": np.uint8, "TYPE_INT32": np.int32, "TYPE_FP16": np.float16,
          "TYPE_FP32": np.float32}  # fmt: skip
# Largest difference that is still rounding: levels of 255 for pictures, parts of the largest
# magnitude for the rest, by the arithmetic of the graph.
# bfloat16's own rounding moves a decoded picture by five levels (docs/production.md), and an engine
# rounds elsewhere than the graph does.
LEVELS = {"float32": 3.0, "float16": 3.0, "bfloat16": 8.0}
RELATIVE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}


@dataclass(frozen=True)
class Difference:
    """How far one output is off.

    Attributes:
        output: its name.
        absolute: largest absolute difference.
        relative: the same over the reference's largest magnitude.
        holds: whether it is within the tolerance.
    """

    output: str
    absolute: float
    relative: float
    holds: bool


def random_inputs(
    config: ModelConfig, wanted: tuple[InputProfile, ...], seed: int = 7
) -> dict[str, NDArray[np.generic]]:
    """Make seeded inputs of the usual shapes: bytes for pictures, normal noise for the rest."""
    from tritonclient.grpc import model_config_pb2  # noqa: PLC0415 - names of the types only

    generator = np.random.default_rng(seed)
    result: dict[str, NDArray[np.generic]] = {}
    for tensor, item in zip(config.input, wanted, strict=True):
        dtype = _TYPES[model_config_pb2.DataType.Name(tensor.data_type)]
        if dtype is np.uint8:
            result[item.name] = generator.integers(0, 256, item.usual, dtype=np.uint8)
        elif dtype is np.int32:
            result[item.name] = np.zeros(item.usual, np.int32)
        elif tensor.name == "timestep":
            result[item.name] = generator.uniform(0.05, 1.0, item.usual).astype(dtype)
        else:
            result[item.name] = generator.standard_normal(item.usual).astype(dtype)
    return result


def run_graph(graph: Path, inputs: Arrays, precision: str) -> dict[str, NDArray[np.generic]]:
    """Run a graph with ONNX Runtime on the CPU, where bfloat16 has no kernels: it is rounded to.

    Args:
        graph: model.onnx.
        inputs: every input by name.
        precision: arithmetic of the graph.

    Returns:
        The outputs by name.
    """
    import onnxruntime as ort  # noqa: PLC0415 - only the check runs the graph

    from export_scripts.studio.bfloat16 import run_rounded  # noqa: PLC0415 - likewise

    names = [value.name for value in onnx.load(graph, load_external_data=False).graph.output]
    if precision == "bfloat16":
        found = run_rounded(graph, inputs)
    else:
        session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        found = session.run(names, dict(inputs))
    return dict(zip(names, found, strict=True))


def compare(reference: Arrays, engine: Arrays, precision: str) -> list[Difference]:
    """Compare all outputs.

    Args:
        reference: outputs of the graph in ONNX Runtime, by name.
        engine: outputs of the plan, by name.
        precision: arithmetic of the graph: float32, float16 or bfloat16.

    Raises:
        ValueError: an output is missing or has another shape or type.
    """
    differences = []
    for name, wanted in reference.items():
        found = engine.get(name)
        if found is None or found.shape != wanted.shape or found.dtype != wanted.dtype:
            what = "missing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise ValueError(f"{name} is {what}, not {wanted.dtype}{list(wanted.shape)}")
        target = wanted.astype(np.float64)
        value = found.astype(np.float64)
        absolute = float(np.abs(value - target).max(initial=0.0))
        relative = absolute / max(float(np.abs(target).max(initial=0.0)), 1e-6)
        if wanted.dtype == np.uint8:
            holds = absolute <= LEVELS[precision]
        else:
            holds = bool(np.isfinite(value).all()) and relative <= RELATIVE[precision]
        differences.append(Difference(name, absolute, relative, holds))
    return differences
