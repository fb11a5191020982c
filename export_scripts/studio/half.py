"""float32 ONNX graphs to 16-bit arithmetic, ends unchanged: for graphs published as ONNX only.

Every float tensor becomes float16 or bfloat16; inputs and outputs are cast at the ends. Only what
ONNX fixes to float32 stays: the region and the scales of Resize.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export_scripts.studio.spec import Precision

_KINDS = {
    Precision.FLOAT16: (TensorProto.FLOAT16, np.dtype(np.float16)),
    Precision.BFLOAT16: (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}


def to_half(model: onnx.ModelProto, precision: Precision = Precision.FLOAT16) -> onnx.ModelProto:
    """Convert a copy of a graph without control flow.

    Args:
        model: a float32 graph.
        precision: float16 or bfloat16.

    Raises:
        ValueError: the graph has sub-graphs (If, Loop, Scan).
    """
    kind, dtype = _KINDS[precision]
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(graph.node):
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise ValueError(f"{node.name}: graphs with control flow are not converted")
        if node.op_type == "Resize":
            for position in range(1, min(3, len(node.input))):
                source = node.input[position]
                if source:
                    name = f"resize_{number}_{position}_float32"
                    nodes.append(helper.make_node("Cast", [source], [name], to=TensorProto.FLOAT))
                    node.input[position] = name
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _halve(attribute.t, dtype)
            elif (
                node.op_type == "Cast"
                and attribute.name == "to"
                and (attribute.i == TensorProto.FLOAT)
            ):
                attribute.i = kind
        nodes.append(node)
    for tensor in graph.initializer:
        _halve(tensor, dtype)
    first, last = _cast_ends(graph, kind)
    del graph.node[:]
    graph.node.extend([*first, *nodes, *last])
    del graph.value_info[:]
    return half


def _halve(tensor: TensorProto, dtype: np.dtype[np.generic]) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        limit = float(ml_dtypes.finfo(dtype).max)
        values = np.clip(numpy_helper.to_array(tensor), -limit, limit).astype(dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _cast_ends(
    graph: onnx.GraphProto, kind: int
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    first: list[onnx.NodeProto] = []
    last: list[onnx.NodeProto] = []
    names: dict[str, str] = {}
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            names[value.name] = f"{value.name}_narrow"
            first.append(helper.make_node("Cast", [value.name], [names[value.name]], to=kind))
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            names[value.name] = f"{value.name}_narrow"
            last.append(
                helper.make_node("Cast", [names[value.name]], [value.name], to=TensorProto.FLOAT)
            )
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return first, last
