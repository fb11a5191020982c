"""A recogniser in ncnn's format as a batched OpenVINO graph, for distillation only.

Reads the ``.param``/``.bin`` pair (text graph, raw float32 weights in layer order), folds batch
norms into the convolution before them, and compiles the graph with its embedding and chosen
feature maps as outputs. Nothing of the teacher is written anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops

Array = npt.NDArray[np.float32]


@dataclass
class _Layer:
    kind: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[int, float]
    weights: dict[str, Array] = field(default_factory=dict)


class _Weights:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, count: int) -> Array:
        values = np.frombuffer(self._content, np.float32, count, self._at)
        self._at += 4 * count
        return values.astype(np.float32)

    def take_tagged(self, count: int) -> Array:
        tag = np.frombuffer(self._content, np.uint32, 1, self._at)[0]
        if tag != 0:
            raise ValueError(f"only raw float32 weights are read, found tag {tag:#x}")
        self._at += 4
        return self.take(count)

    def finish(self) -> None:
        if self._at != len(self._content):
            raise ValueError(f"{len(self._content) - self._at} bytes of weights left over")


def _parse(param: Path, weights: Path) -> list[_Layer]:
    lines = param.read_text().split("\n")
    if lines[0].strip() != "7767517":
        raise ValueError(f"{param} is not an ncnn graph")
    source = _Weights(weights.read_bytes())
    layers = []
    for line in lines[2:]:
        words = line.split()
        if not words:
            continue
        inputs, outputs = int(words[2]), int(words[3])
        blobs, settings = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
        layer = _Layer(
            words[0],
            blobs[:inputs],
            blobs[inputs:],
            {int(k): float(v) for k, v in (s.split("=") for s in settings)},
        )
        _read_weights(layer, source)
        layers.append(layer)
    source.finish()
    return layers


def _read_weights(layer: _Layer, source: _Weights) -> None:
    count = int(layer.settings.get(0, 0))
    if layer.kind in ("Convolution", "ConvolutionDepthWise"):
        layer.weights["kernel"] = source.take_tagged(int(layer.settings[6]))
        biased = bool(layer.settings.get(5, 0))
        layer.weights["bias"] = source.take(count) if biased else np.zeros(count, np.float32)
    elif layer.kind == "InnerProduct":
        layer.weights["kernel"] = source.take_tagged(int(layer.settings[2]))
        biased = bool(layer.settings.get(1, 0))
        layer.weights["bias"] = source.take(count) if biased else np.zeros(count, np.float32)
    elif layer.kind == "BatchNorm":
        slope, mean, variance, bias = (source.take(count) for _ in range(4))
        scale = slope / np.sqrt(variance + np.float32(layer.settings.get(1, 0.0)))
        layer.weights.update(scale=scale, shift=bias - mean * scale)
    elif layer.kind == "PReLU":
        layer.weights["slope"] = source.take(count)


def _convolution(layer: _Layer, x: ov.Node, channels: int) -> ov.Node:
    settings, count = layer.settings, int(layer.settings[0])
    groups = int(settings.get(7, 1))
    size = int(settings[1])
    kernel = layer.weights["kernel"].reshape(count, channels // groups, size, size)
    stride, pad = [int(settings.get(3, 1))] * 2, [int(settings.get(4, 0))] * 2
    if groups == 1:
        y = ops.convolution(x, ops.constant(kernel), stride, pad, pad, [1, 1])
    else:
        shaped = kernel.reshape(groups, count // groups, channels // groups, size, size)
        y = ops.group_convolution(x, ops.constant(shaped), stride, pad, pad, [1, 1])
    return ops.add(y, ops.constant(layer.weights["bias"].reshape(1, -1, 1, 1)))


def _fold_batch_norms(layers: list[_Layer]) -> list[_Layer]:
    kept: list[_Layer] = []
    for layer in layers:
        before = kept[-1] if kept else None
        if (
            layer.kind == "BatchNorm"
            and before is not None
            and before.outputs == layer.inputs
            and "kernel" in before.weights
        ):
            scale, shift = layer.weights["scale"], layer.weights["shift"]
            kernel = before.weights["kernel"].reshape(scale.size, -1) * scale[:, None]
            before.weights["kernel"] = kernel.reshape(-1)
            before.weights["bias"] = before.weights["bias"] * scale + shift
            before.outputs = layer.outputs
        else:
            kept.append(layer)
    return kept


def build(param: Path, weights: Path, outputs: tuple[str, ...]) -> ov.Model:
    """The teacher as an OpenVINO model.

    Input uint8 RGB ``[B, 3, 112, 112]`` (planar); outputs float32, in the order of ``outputs``
    (blob names of the graph: ``[B, C, h, w]`` maps, ``[B, D]`` embeddings).

    Raises:
        ValueError: not an ncnn graph, a layer kind this reader does not know, or weights that do
            not fit the graph.
    """
    layers = _fold_batch_norms(_parse(param, weights))
    parameter = ops.parameter([-1, 3, 112, 112], ov.Type.u8)
    blobs: dict[str, ov.Node] = {}
    channels: dict[str, int] = {}
    for layer in layers:
        if layer.kind == "Input":
            blobs[layer.outputs[0]] = ops.convert(parameter, ov.Type.f32)
            channels[layer.outputs[0]] = 3
            continue
        x, depth = blobs[layer.inputs[0]], channels[layer.inputs[0]]
        y: ov.Node
        if layer.kind in ("Convolution", "ConvolutionDepthWise"):
            y, depth = _convolution(layer, x, depth), int(layer.settings[0])
        elif layer.kind == "PReLU":
            y = ops.prelu(x, ops.constant(layer.weights["slope"]))
        elif layer.kind == "Split":
            y = x
        elif layer.kind == "BinaryOp" and layer.settings.get(1):
            number = ops.constant(np.float32(layer.settings[2]))
            y = (ops.add, ops.subtract, ops.multiply)[int(layer.settings[0])](x, number)
        elif layer.kind == "BinaryOp":
            y = ops.add(x, blobs[layer.inputs[1]])
        elif layer.kind == "InnerProduct":
            count = int(layer.settings[0])
            flat = ops.reshape(x, ops.constant(np.array([0, -1], np.int64)), True)
            y = ops.matmul(
                flat, ops.constant(layer.weights["kernel"].reshape(count, -1)), False, True
            )
            y, depth = ops.add(y, ops.constant(layer.weights["bias"][None])), count
        else:
            raise ValueError(f"layer kind {layer.kind} is not known")
        for name in layer.outputs:
            blobs[name], channels[name] = y, depth
    return ov.Model([ops.result(blobs[name]) for name in outputs], [parameter], "teacher")


class Teacher:
    """MobileFaceNet with its embedding and feature maps, compiled for one thread.

    ``__call__`` takes uint8 RGB ``[B, 3, 112, 112]`` and returns float32 arrays in the order of
    ``outputs``.
    """

    MAP_28, MAP_14, MAP_7, EMBEDDING = "_plus3", "_plus9", "_plus11", "fc1"

    def __init__(
        self,
        folder: Path,
        outputs: tuple[str, ...] = (EMBEDDING,),
        threads: int = 1,
        precision: str = "f32",
    ) -> None:
        model = build(folder / "mobilefacenet.param", folder / "mobilefacenet.bin", outputs)
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
        self._compiled = ov.Core().compile_model(model, "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def __call__(self, faces: npt.NDArray[np.uint8]) -> list[Array]:
        """See the class."""
        results = self._request.infer([faces], share_inputs=True)
        return [np.array(results[i]) for i in range(len(self._compiled.outputs))]
