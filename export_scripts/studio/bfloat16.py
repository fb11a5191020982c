"""Running bfloat16 graphs where no kernels for them are: every tensor in float32, rounded.

ONNX Runtime's CPU has no bfloat16 kernels, and other runtimes silently compute in float32 on
processors without bfloat16 units. Here each node is computed in float32 from bfloat16 numbers and
its result is rounded to bfloat16, as the units of a GPU or of a newer processor do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, helper, inliner, numpy_helper, shape_inference

# Move numbers without computing: what is rounded stays so.
MOVES = {
    "Concat", "Constant", "Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
}  # fmt: skip


class RoundingError(Exception):
    """A graph whose tensor types cannot be told."""


def run_rounded(path: Path, inputs: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """Run a bfloat16 graph with ONNX Runtime on one CPU thread.

    Args:
        path: model.onnx, its external data beside it.
        inputs: every input by name.

    Returns:
        The outputs in the graph's order.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Fusing would drop roundings, and looking for what to fuse takes longer than running.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory(prefix="rounded-") as scratch:
        # Through a file: in float32 the weights may be more than a protobuf holds.
        target = Path(scratch) / "model.onnx"
        onnx.save(rounded(path), target, save_as_external_data=True, location="model.data")
        session = ort.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(inputs)))


def rounded(path: Path) -> onnx.ModelProto:
    """Turn a bfloat16 graph into one of float32 nodes whose results are rounded to bfloat16.

    Args:
        path: a graph without control flow.

    Returns:
        A graph of the same inputs, outputs and results, its weights loaded, for any runtime.

    Raises:
        RoundingError: the type of a tensor is not known.
    """
    model = onnx.load(path, load_external_data=False)
    flat = inliner.inline_local_functions(model) if model.functions else model
    typed = shape_inference.infer_shapes(flat)
    external_data_helper.load_external_data_for_model(typed, str(path.parent))
    graph = typed.graph
    types = {
        value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]
    }
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            elif attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
        nodes.append(node)
        for position, name in enumerate(node.output):
            kind = types.get(name, TensorProto.UNDEFINED)
            if name and kind == TensorProto.UNDEFINED:
                raise RoundingError(f"{node.op_type}: the type of {name} is not known")
            if kind == TensorProto.BFLOAT16 and node.op_type not in MOVES:
                exact, narrow = f"{name}.exact", f"{name}.narrow"
                node.output[position] = exact
                nodes += [
                    helper.make_node("Cast", [exact], [narrow], to=TensorProto.BFLOAT16),
                    helper.make_node("Cast", [narrow], [name], to=TensorProto.FLOAT),
                ]
    for tensor in graph.initializer:
        _widen(tensor)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return typed


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.BFLOAT16:
        values = numpy_helper.to_array(tensor).astype("float32")
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
