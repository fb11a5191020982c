"""ONNX files: float16 storage, and comparison between runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
MIN_STORED_HALF = 256
"""Constants with fewer elements stay float32: halving them saves nothing."""


@dataclass(frozen=True)
class Tolerance:
    """Largest error that an export may show, relative to the root mean square of the reference.

    ``onnx``: root mean square of the difference between ONNX Runtime in float32 on the stored
    (float16) weights and PyTorch on the same weights. ``bf16``: between OpenVINO in bfloat16 and
    OpenVINO in float32, or what the network's own ``bf16_error`` tells.
    """

    onnx: float = 2e-3
    bf16: float = 5e-2


def store_half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Large float32 initialisers become float16 with a Cast to float32; runtimes fold the Cast.

    Depthwise kernels stay float32: they are few, and an error in one touches a whole channel.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    casts, initialisers = [], []
    for tensor in result.graph.initializer:
        small = int(np.prod(tensor.dims)) < MIN_STORED_HALF
        depthwise = len(tensor.dims) == 4 and tensor.dims[1] == 1
        if tensor.data_type != TensorProto.FLOAT or small or depthwise:
            initialisers.append(tensor)
            continue
        values = numpy_helper.to_array(tensor)
        half = np.clip(values, -65504, 65504).astype(np.float16)
        stored_name = f"{tensor.name}__half"
        initialisers.append(numpy_helper.from_array(half, stored_name))
        casts.append(
            helper.make_node(
                "Cast", [stored_name], [tensor.name], f"{tensor.name}__cast", to=TensorProto.FLOAT
            )
        )
    nodes = [*casts, *result.graph.node]
    del result.graph.initializer[:], result.graph.node[:]
    result.graph.initializer.extend(initialisers)
    result.graph.node.extend(nodes)
    return result


def separate_biases(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Write what a convolution adds, and slopes of PReLU, as constants of four axes beside it.

    The same function, told so that OpenVINO computes it inside the convolution: of a bias given as
    the convolution's own input its importer makes a shape computed at run time, and then passes
    over the whole map once more for each of them; a slope of three axes changes the map's layout
    and back. ONNX Runtime puts the bias back where it was.
    """
    result = onnx.ModelProto()
    result.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    aliases = {n.output[0]: n.input[0] for n in result.graph.node if n.op_type == "Identity"}

    def channels(name: str, new: str) -> TensorProto | None:
        tensor = constants.get(aliases.get(name, name))
        if tensor is None:
            return None
        return numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(1, -1, 1, 1), new)

    nodes, added = [], []
    for node in result.graph.node:
        nodes.append(node)
        out = node.output[0]
        if node.op_type == "Conv" and len(node.input) == 3:
            bias = channels(node.input[2], f"{out}__bias")
            if bias is not None:
                del node.input[2]
                node.output[0] = f"{out}__product"
                nodes.append(helper.make_node("Add", [node.output[0], bias.name], [out]))
                added.append(bias)
        elif node.op_type == "PRelu":
            slope = channels(node.input[1], f"{out}__slope")
            if slope is not None:
                node.input[1] = slope.name
                added.append(slope)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(added)
    _drop_unused(result.graph)
    return result


def _drop_unused(graph: onnx.GraphProto) -> None:
    kept = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if kept.intersection(node.output):
            nodes.append(node)
            kept.update(node.input)
    initialisers = [tensor for tensor in graph.initializer if tensor.name in kept]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(initialisers)


def run_onnxruntime(
    graph: onnx.ModelProto, feeds: Mapping[str, Array], threads: int = 1
) -> list[Array]:
    """Outputs of ONNX Runtime's CPU provider, in the graph's order."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[Array] = session.run(None, dict(feeds))
    return outputs


def compile_openvino(
    graph: onnx.ModelProto | Path, precision: str, threads: int = 1, *, one_row: bool = False
) -> Any:
    """The graph compiled for the CPU.

    Args:
        graph: itself or its file.
        precision: ``"f32"`` or ``"bf16"``.
        threads: to compute with.
        one_row: fix the batch axis at 1, as the service's backend does, which is faster.
    """
    core = ov.Core()
    if isinstance(graph, Path):
        model = core.read_model(graph)
    else:
        model = core.read_model(graph.SerializeToString())
    if one_row:
        shapes = {port: port.partial_shape for port in model.inputs}
        for shape in shapes.values():
            shape[0] = 1
        model.reshape(shapes)
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    return core.compile_model(model, "CPU", settings)


def computes_bfloat16() -> bool:
    """Whether OpenVINO computes bfloat16 here; elsewhere it silently computes float32 instead."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def run_openvino(
    graph: onnx.ModelProto | Path, feeds: Mapping[str, Array], precision: str, threads: int = 1
) -> list[Array]:
    """Outputs of OpenVINO on the CPU, in the graph's order."""
    compiled = compile_openvino(graph, precision, threads)
    results = compiled.create_infer_request().infer(dict(feeds))
    return [np.array(results[i]) for i in range(len(compiled.outputs))]


def relative_error(output: Array, reference: Array) -> float:
    """Root mean square of the difference over that of the reference (at least 1e-6).

    Infinite where shapes differ or a value is not finite.
    """
    if output.shape != reference.shape:
        return float("inf")
    a, b = output.astype(np.float64), reference.astype(np.float64)
    if not np.isfinite(a).all():
        return float("inf")
    scale = max(float(np.sqrt(np.mean(b**2))), 1e-6)
    return float(np.sqrt(np.mean((a - b) ** 2))) / scale


def worst_error(outputs: Sequence[Array], references: Sequence[Array]) -> float:
    """The largest ``relative_error`` of all outputs."""
    return max(relative_error(o, r) for o, r in zip(outputs, references, strict=True))
