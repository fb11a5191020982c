"""Putting our input and output graphs around a published ONNX file.

Detectors and mattes of the studio profile are published as ONNX. Their graphs are kept; what is
added is uint8 in, the decoder out, and a batch axis. Both additions are torch modules, exported
and merged, so that one definition serves the graph and the reference in tests.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import compose, numpy_helper, version_converter
from torch import Tensor, nn

from export_scripts.studio.half import to_half
from export_scripts.studio.onnx_export import OPSET, opset_of
from export_scripts.studio.spec import Port, Precision


class WrapError(Exception):
    """A published file that does not have the expected interface."""


@dataclass(frozen=True)
class Published:
    """A published graph: one image input, one or more outputs.

    Attributes:
        graph: the graph, read from the file.
        outputs: the outputs that the decoder takes, in its order.
        batched: whether the graph takes more than one image at once.
    """

    graph: onnx.ModelProto
    outputs: tuple[str, ...]
    batched: bool = False


def read_published(path: Path, outputs: tuple[str, ...] = ()) -> Published:
    """Read a published file.

    Args:
        path: the .onnx file.
        outputs: names in the decoder's order; empty: all, in the file's order.

    Raises:
        WrapError: not exactly one input, or an output is missing.
    """
    graph = onnx.load(path)
    constants = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value.name for value in graph.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise WrapError(f"{path.name} has the inputs {inputs}, one image is expected")
    names = [value.name for value in graph.graph.output]
    missing = [name for name in outputs if name not in names]
    if missing:
        raise WrapError(f"{path.name} has no outputs {missing}, it has {names}")
    return Published(graph, outputs or tuple(names))


def free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give a graph that was exported for one image a batch axis.

    The first axis of inputs and outputs becomes dynamic, and where a Reshape spells out batch 1
    and leaves another size to be inferred, the 1 becomes 0 (ONNX: copy the input's size). Shapes
    recorded for inner tensors are dropped: they were made for batch 1.

    Returns:
        A changed copy.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    _drop_constant_inputs(graph)
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for value in graph.output:
        # Not always the batch: SCRFD's heads count cells times batch there.
        value.type.tensor_type.shape.dim[0].dim_param = f"{value.name}_rows"
    del graph.value_info[:]
    shapes = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            shapes[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in shapes:
            continue
        tensor = shapes[node.input[1]]
        shape = numpy_helper.to_array(tensor).copy()
        if shape.size > 1 and shape[0] == 1 and np.any(shape[1:] == -1):
            shape[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    return changed


def _drop_constant_inputs(graph: onnx.GraphProto) -> None:
    # Old files list their weights among the inputs.
    constants = {tensor.name for tensor in graph.initializer}
    keep = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(keep)


def with_batch(published: Published, shape: tuple[int, ...]) -> Published:
    """Give a published graph a batch axis where its structure allows one, and say whether.

    Some graphs spell out the batch in ways that cannot be told from other sizes (windows of a
    Swin trunk). Such a graph is left as it is and served one image at a time.

    Args:
        published: the graph as read.
        shape: channels and sizes of its input, without the batch.
    """
    freed = _modern(free_batch(published.graph))
    source = freed.graph.input[0].name
    original = onnx.ModelProto()
    original.CopyFrom(published.graph)
    _drop_constant_inputs(original.graph)
    planes = torch.rand((2, *shape), generator=torch.Generator().manual_seed(4)) * 255
    fixed = _modern(original)
    try:
        both = _run(freed, source, planes, published.outputs)
        one = _run(fixed, source, planes[:1], published.outputs)
    except Exception:
        return Published(fixed, published.outputs)
    for pair, single in zip(both, one, strict=True):
        if pair.numel() != 2 * single.numel():
            return Published(fixed, published.outputs)
        # Heads that fold the batch into another axis cannot be compared by row here; parity does.
        if pair.shape[0] == 2 and not torch.allclose(pair[:1], single, rtol=1e-3, atol=1e-3):
            return Published(fixed, published.outputs)
    return Published(freed, published.outputs, batched=True)


def wrap(
    published: Published,
    ports: tuple[tuple[Port, ...], tuple[Port, ...]],
    before: nn.Module,
    after: nn.Module,
    precision: Precision,
) -> onnx.ModelProto:
    """Merge input graph, published graph and output graph.

    Args:
        published: the graph in the middle.
        ports: input and output ports of the whole.
        before: wire tensors to the published input.
        after: the published outputs to wire tensors.
        precision: arithmetic of the published part; the ends stay float32.

    Returns:
        A graph whose tensors are called like the ports.
    """
    inputs, outputs = ports
    opset = opset_of(precision)
    body = onnx.ModelProto()
    body.CopyFrom(_modern(published.graph, opset))
    if precision is not Precision.FLOAT32:
        body = to_half(body, precision)
    source = body.graph.input[0].name
    example = _example(inputs, 2 if published.batched else 1)
    head = _modern(_part(before, example, [port.name for port in inputs], ["planes"]), opset)
    with torch.no_grad():
        planes = before(*example)
    # By the float32 graph: ONNX Runtime's CPU has no bfloat16, and the heads' types are the same.
    heads = _run(published.graph, source, planes, published.outputs)
    names = [f"head_{i}" for i in range(len(heads))]
    tail = _modern(_part(after, heads, names, [port.name for port in outputs]), opset)
    for graph, mark in ((head, "in/"), (body, "net/"), (tail, "out/")):
        compose.add_prefix(graph, mark, inplace=True)
        graph.ir_version = max(head.ir_version, 10)
    joined = compose.merge_models(
        head, body, io_map=[("in/planes", f"net/{source}")],
        outputs=[f"net/{name}" for name in published.outputs],
    )  # fmt: skip
    joined = compose.merge_models(
        joined, tail,
        io_map=[(f"net/{name}", f"out/head_{i}") for i, name in enumerate(published.outputs)],
    )  # fmt: skip
    _rename(joined, {f"in/{port.name}": port.name for port in inputs})
    _rename(joined, {f"out/{port.name}": port.name for port in outputs})
    _state_shapes(joined, inputs, outputs)
    onnx.checker.check_model(joined)
    return joined


def as_published(network: nn.Module, shape: tuple[int, ...], outputs: tuple[str, ...]) -> Published:
    """Export a stand-in network the way the public files were: one image, batch 1, float32."""
    generator = torch.Generator().manual_seed(3)
    planes = torch.rand((1, *shape), generator=generator)
    return Published(_part(network, (planes,), ["input"], list(outputs), dynamic=False), outputs)


def _example(ports: tuple[Port, ...], batch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    return tuple(
        torch.randint(0, 256, (batch, *port.dims), dtype=torch.uint8, generator=generator)
        for port in ports
    )


def _part(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    *,
    dynamic: bool = True,
) -> onnx.ModelProto:
    # The legacy exporter: it follows `reshape(-1, ...)` of a batch that is not the first axis.
    axes = {name: {0: "batch"} for name in [*inputs, *outputs]} if dynamic else None
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), example, buffer, input_names=inputs, output_names=outputs,
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def _run(
    model: onnx.ModelProto, source: str, planes: Tensor, outputs: tuple[str, ...]
) -> tuple[Tensor, ...]:
    import onnxruntime as ort  # noqa: PLC0415 - only wrapping runs a graph

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    found = session.run(list(outputs), {source: planes.numpy()})
    return tuple(torch.from_numpy(np.array(array)) for array in found)


def _modern(model: onnx.ModelProto, opset: int = OPSET) -> onnx.ModelProto:
    versions = {item.domain: item.version for item in model.opset_import}
    if versions.get("", opset) >= opset:
        return model
    return version_converter.convert_version(model, opset)


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for value in [*model.graph.input, *model.graph.output]:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
        for index, name in enumerate(node.output):
            node.output[index] = names.get(name, name)


def _state_shapes(
    model: onnx.ModelProto, inputs: tuple[Port, ...], outputs: tuple[Port, ...]
) -> None:
    for value, port in zip(
        [*model.graph.input, *model.graph.output], [*inputs, *outputs], strict=True
    ):
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        shape.dim.add().dim_param = "batch"
        for size in port.dims:
            shape.dim.add().dim_value = size


Wrapper = Callable[[Precision], bytes]


def wrapper(
    published: Published,
    ports: tuple[tuple[Port, ...], tuple[Port, ...]],
    before: nn.Module,
    after: nn.Module,
) -> Wrapper:
    """Bind everything but the precision, as `StudioModel.wrap` wants it."""

    def build(precision: Precision) -> bytes:
        return wrap(published, ports, before, after, precision).SerializeToString()

    return build


class Chain(nn.Module):
    """The torch reference of a wrapped model: before, network, after."""

    def __init__(self, before: nn.Module, network: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.network, self.after = before, network, after

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the three in turn."""
        heads = self.network(self.before(*inputs))
        return self.after(*heads) if isinstance(heads, tuple) else self.after(heads)
