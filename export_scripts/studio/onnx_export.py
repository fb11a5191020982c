"""Exporting a studio model to ONNX: precision, dynamic batch, external data, atomic write."""

from __future__ import annotations

import copy
import logging
import shutil
import tempfile
import warnings
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import nn

from export_scripts.studio.bfloat16 import MOVES
from export_scripts.studio.spec import Port, Precision, StudioModel

OPSET = 18
BFLOAT16_OPSET = 22
"""The first in which convolutions and instance norms take bfloat16."""
EXTERNAL_ABOVE = 1 << 20
"""Bytes of weights above which they go to model.onnx.data (a protobuf ends at 2 GiB)."""


class ExportError(Exception):
    """A graph that does not follow the model's ports."""


def opset_of(precision: Precision) -> int:
    """Return the opset that a precision's graphs are written in."""
    return BFLOAT16_OPSET if precision is Precision.BFLOAT16 else OPSET


def cast_network(network: nn.Module, precision: Precision) -> nn.Module:
    """Copy a network into another precision; the modules keep float32 where they ask for it.

    A sub-module with the attribute `keep_float32 = True` is left alone: time embeddings, norms at
    the end of an encoder, and whatever overflows in float16.
    """
    if precision is Precision.FLOAT32:
        return network
    cast = copy.deepcopy(network).to(precision.torch_dtype)
    for module in cast.modules():
        if getattr(module, "keep_float32", False):
            module.float()
    return cast


def export(model: StudioModel, folder: Path, precision: Precision) -> Path:
    """Write `model.onnx` (and `model.onnx.data`) into a folder, all or nothing.

    Args:
        model: what to export.
        folder: version folder of the model repository; made as needed.
        precision: arithmetic of the graph.

    Returns:
        The path of model.onnx.

    Raises:
        ExportError: precision not held by the network, or the graph's tensors differ from the
            model's ports.
    """
    if precision not in model.precisions:
        raise ExportError(f"{model.name} does not run in {precision}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as scratch:
        work = Path(scratch)
        if model.wrap is not None:
            (work / "model.onnx").write_bytes(model.wrap(precision))
        else:
            _export_torch(model, work / "model.onnx", precision)
        graph = onnx.load(work / "model.onnx", load_external_data=False)
        check_ports(graph, model)
        check_operators(graph, model.name)
        # Data first: whoever sees the new graph must find its weights.
        for path in sorted(work.iterdir(), key=lambda item: item.suffix != ".data"):
            shutil.move(path, folder / path.name)
    return folder / "model.onnx"


def _export_torch(model: StudioModel, path: Path, precision: Precision) -> None:
    network = cast_network(model.network, precision).eval()
    # No larger than Triton forms: a wider range than the network's guards allow is traced twice.
    batch = torch.export.Dim("batch", min=1, max=max(2, model.max_batch))
    shapes = [{0: batch} | _dynamic_sizes(port) for port in model.inputs]
    # The exporter counts every decomposition it skips: only errors matter here.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            model.example(2),
            input_names=[port.name for port in model.inputs],
            output_names=[port.name for port in model.outputs],
            dynamic_shapes=tuple(shapes),
            opset_version=opset_of(precision),
            dynamo=True,
            # Its pattern rewriting takes as long as all the rest, and the runtimes do the same.
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"{model.name}: the exporter gave no program")
    _tidy(program.model)
    weights = sum(
        tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()
    )
    program.save(str(path), external_data=weights > EXTERNAL_ABOVE)


def _tidy(model: ir.Model) -> None:
    """Fold constants, and sequences and CastLike with them: TensorRT has neither."""
    for last in (False, True):
        optimizer.fold_constants(model, should_fold=_may_fold)
        optimizer.remove_unused_nodes(model)
        if not last:
            # Sequences are gone now, which know no bfloat16: with them this would give up. The
            # exporter leaves its function bodies without types, and CastLike needs them.
            common.ShapeInferencePass()(model)


def _may_fold(node: ir.Node) -> bool | None:
    # The evaluator computes bfloat16 in float32 and leaves the result so.
    narrow = any(
        value is not None and value.dtype is ir.DataType.BFLOAT16
        for value in (*node.inputs, *node.outputs)
    )
    return False if narrow and node.op_type not in MOVES else None


# What the exporter may leave and TensorRT's parser does not read.
_NOT_IN_TENSORRT = {"CastLike"}


def check_operators(graph: onnx.ModelProto, name: str) -> None:
    """Check that TensorRT's parser knows a graph's operators and that its types agree.

    Args:
        graph: the graph, with or without its external data.
        name: for the message.

    Raises:
        ExportError: a sequence, a local function or CastLike; or tensors of two types where an
            operator wants one.
    """
    found = {node.op_type for node in graph.graph.node}
    wrong = sorted({kind for kind in found if "Sequence" in kind} | (found & _NOT_IN_TENSORRT)) + [
        function.name for function in graph.functions
    ]
    if wrong:
        raise ExportError(f"{name}: TensorRT does not read {', '.join(wrong)}")
    try:
        onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"{name}: {error}") from error


def _dynamic_sizes(port: Port) -> dict[int, torch.export.Dim]:
    return {
        axis + 1: torch.export.Dim(f"{port.name}_{axis}", min=16, max=4096)
        for axis, size in enumerate(port.dims)
        if size == -1
    }


_ONNX_TYPES = {
    "UINT8": onnx.TensorProto.UINT8,
    "INT32": onnx.TensorProto.INT32,
    "FP16": onnx.TensorProto.FLOAT16,
    "FP32": onnx.TensorProto.FLOAT,
}


def check_ports(graph: onnx.ModelProto, model: StudioModel) -> None:
    """Check names, types and sizes of a graph against the ports, batch axis dynamic.

    Raises:
        ExportError: the first difference.
    """
    for kind, found, ports in (
        ("input", list(graph.graph.input), model.inputs),
        ("output", list(graph.graph.output), model.outputs),
    ):
        names = [value.name for value in found]
        if names != [port.name for port in ports]:
            raise ExportError(f"{model.name}: {kind}s are {names}")
        for value, port in zip(found, ports, strict=True):
            tensor = value.type.tensor_type
            if tensor.elem_type != _ONNX_TYPES[port.dtype]:
                raise ExportError(f"{model.name}.{port.name}: type is not {port.dtype}")
            dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
            if dims[:1] != [-1]:
                raise ExportError(f"{model.name}.{port.name}: the batch axis is fixed: {dims}")
            wrong = len(dims) != 1 + len(port.dims) or any(
                size not in (-1, wanted) for size, wanted in zip(dims[1:], port.dims, strict=False)
            )
            if wrong:
                raise ExportError(f"{model.name}.{port.name}: {dims[1:]}, not {list(port.dims)}")


def graph_bytes(path: Path) -> int:
    """Size of a graph with its external data, in bytes."""
    return sum(part.stat().st_size for part in path.parent.glob(path.name + "*"))
