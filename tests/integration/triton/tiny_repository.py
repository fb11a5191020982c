"""A model repository with the contract's shapes and tiny random networks.

The networks know nothing of faces: these are for tests of serving (batching, failures, recovery)
that must not depend on trained weights. The same seed gives the same files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_TYPES = {
    "UINT8": TensorProto.UINT8,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
}
PARAMETERS: dict[str, dict[str, str]] = {
    "face_detector": {
        "profile": "compact",
        "canvas": "640",
        "score_threshold": "0.5",
        "nms_iou": "0.4",
    },
    "identity_encoder": {
        "profile": "compact",
        "recogniser": "tiny-random-1",
        "template": "arcface-112",
        "match_threshold": "0.35",
        "threshold_fmr": "0.001",
    },
    "denoiser": {
        "profile": "compact",
        "canvas": "640",
        "latent_codec": "pixel_unshuffle",
        "latent_factor": "8",
        "latent_channels": "192",
        "prediction_type": "flow",
        "sampler": "flow_euler",
        "steps": "4",
        "noise_scale": "0.5",
        "default_strength": "0.4",
    },
    "matting": {"profile": "compact", "canvas": "512"},
    "upscaler": {"profile": "compact", "scale": "4", "overlap": "8"},
}


class _Graph:
    """Collects nodes and seeded weights of one network."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], *, out: str = "", **attributes: Any) -> str:
        output = out or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def weight(self, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        value = self._random.standard_normal(shape) / np.sqrt(fan_in)
        return self.constant(value.astype(np.float32))

    def floats(self, image: str) -> str:
        """uint8 NHWC to float NCHW in [-1, 1]."""
        cast = self.add("Cast", [image], to=TensorProto.FLOAT)
        scaled = self.add("Div", [cast, self.scalar(127.5)])
        centred = self.add("Sub", [scaled, self.scalar(1)])
        return self.add("Transpose", [centred], perm=[0, 3, 1, 2])

    def pixels(self, image: str, out: str) -> str:
        """Float NCHW in [0, 255] to uint8 NHWC."""
        last = self.add("Transpose", [image], perm=[0, 2, 3, 1])
        clipped = self.add("Clip", [last, self.scalar(0), self.scalar(255)])
        return self.add("Cast", [self.add("Round", [clipped])], out=out, to=TensorProto.UINT8)

    def reshape(self, tensor: str, shape: Sequence[int], out: str = "") -> str:
        return self.add("Reshape", [tensor, self.constant(np.array(shape, np.int64))], out=out)

    def save(
        self,
        path: Path,
        inputs: Mapping[str, tuple[str, Sequence[int | str]]],
        outputs: Mapping[str, tuple[str, Sequence[int | str]]],
    ) -> None:
        def infos(
            entries: Mapping[str, tuple[str, Sequence[int | str]]],
        ) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, _TYPES[kind], ["batch", *shape])
                for name, (kind, shape) in entries.items()
            ]

        graph = helper.make_graph(
            self._nodes, self.name, infos(inputs), infos(outputs), self._weights
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)


def _face_detector(path: Path) -> None:
    graph = _Graph("face_detector", 1)
    cells = graph.add(
        "AveragePool", [graph.floats("image")], kernel_shape=[80, 80], strides=[80, 80]
    )
    maps = graph.add("Conv", [cells, graph.weight(15, 3, 1, 1)], kernel_shape=[1, 1])
    rows = graph.reshape(graph.add("Transpose", [maps], perm=[0, 2, 3, 1]), [0, 64, 15])
    logits, points = "logits", "points"
    graph.add("Identity", [rows], out="rows")
    sizes = graph.constant(np.array([1, 14], np.int64))
    graph._nodes.append(helper.make_node("Split", ["rows", sizes], [logits, points], axis=2))
    squeezed = graph.reshape(graph.add("Sigmoid", [logits]), [0, 64])
    k = graph.constant(np.array([64], np.int64))
    graph._nodes.append(helper.make_node("TopK", [squeezed, k], ["scores", "order"], axis=1))
    column = graph.reshape("order", [0, 64, 1])
    index = graph.add("Expand", [column, graph.constant(np.array([1, 64, 14], np.int64))])
    ordered = graph.add("GatherElements", [points, index], axis=1)
    canvas = graph.add("Mul", [graph.add("Sigmoid", [ordered]), graph.scalar(640)])
    graph._nodes.append(
        helper.make_node(
            "Split",
            [canvas, graph.constant(np.array([4, 10], np.int64))],
            ["boxes", "flat_landmarks"],
            axis=2,
        )
    )
    graph.reshape("flat_landmarks", [0, 64, 5, 2], out="landmarks")
    graph.save(
        path,
        {"image": ("UINT8", [640, 640, 3])},
        {
            "boxes": ("FP32", [64, 4]),
            "scores": ("FP32", [64]),
            "landmarks": ("FP32", [64, 5, 2]),
        },
    )


def _identity_encoder(path: Path) -> None:
    graph = _Graph("identity_encoder", 2)
    pooled = graph.add(
        "AveragePool", [graph.floats("face")], kernel_shape=[14, 14], strides=[14, 14]
    )
    vector = graph.add("MatMul", [graph.reshape(pooled, [0, 192]), graph.weight(192, 128)])
    graph.add("LpNormalization", [vector], out="embedding", axis=1, p=2)
    graph.save(path, {"face": ("UINT8", [112, 112, 3])}, {"embedding": ("FP32", [128])})


def _denoiser(path: Path, layers: int) -> None:
    graph = _Graph("denoiser", 3)
    hidden = graph.add("Cast", ["sample"], to=TensorProto.FLOAT)
    reference = graph.add(
        "AveragePool", [graph.floats("reference")], kernel_shape=[8, 8], strides=[8, 8]
    )
    hidden = graph.add("Add", [hidden, graph.add("Conv", [reference, graph.weight(192, 3, 1, 1)])])
    time = graph.add("Mul", [graph.reshape("timestep", [-1, 1]), graph.weight(1, 192)])
    person = graph.add("MatMul", ["identity", graph.weight(128, 192)])
    condition = graph.reshape(graph.add("Add", [time, person]), [0, 192, 1, 1])
    hidden = graph.add("Add", [hidden, condition])
    for _ in range(layers):
        hidden = graph.add(
            "Conv", [hidden, graph.weight(192, 192, 3, 3)], kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )
        hidden = graph.add("Relu", [hidden])
    mixed = graph.add("Conv", [hidden, graph.weight(192, 192, 1, 1)], kernel_shape=[1, 1])
    graph.add("Cast", [mixed], out="prediction", to=TensorProto.FLOAT16)
    graph.save(
        path,
        {
            "sample": ("FP16", [192, 80, 80]),
            "timestep": ("FP32", []),
            "identity": ("FP32", [128]),
            "reference": ("UINT8", [640, 640, 3]),
        },
        {"prediction": ("FP16", [192, 80, 80])},
    )


def _matting(path: Path) -> None:
    graph = _Graph("matting", 4)
    logits = graph.add("Conv", [graph.floats("image"), graph.weight(1, 3, 1, 1)])
    shares = graph.add("Mul", [graph.add("Sigmoid", [logits]), graph.scalar(255)])
    graph.pixels(shares, "alpha")
    graph.save(path, {"image": ("UINT8", [512, 512, 3])}, {"alpha": ("UINT8", [512, 512, 1])})


def _upscaler(path: Path) -> None:
    graph = _Graph("upscaler", 5)
    image = graph.add("Cast", ["image"], to=TensorProto.FLOAT)
    first = graph.add("Transpose", [image], perm=[0, 3, 1, 2])
    scales = graph.constant(np.array([1, 1, 4, 4], np.float32))
    larger = graph.add(
        "Resize",
        [first, "", scales],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    graph.pixels(larger, "upscaled")
    graph.save(
        path,
        {"image": ("UINT8", ["height", "width", 3])},
        {"upscaled": ("UINT8", ["height4", "width4", 3])},
    )


_CONFIGS = {
    "face_detector": (
        'input [{ name: "image" data_type: TYPE_UINT8 dims: [640, 640, 3] }]',
        'output [{ name: "boxes" data_type: TYPE_FP32 dims: [64, 4] },'
        ' { name: "scores" data_type: TYPE_FP32 dims: [64] },'
        ' { name: "landmarks" data_type: TYPE_FP32 dims: [64, 5, 2] }]',
    ),
    "identity_encoder": (
        'input [{ name: "face" data_type: TYPE_UINT8 dims: [112, 112, 3] }]',
        'output [{ name: "embedding" data_type: TYPE_FP32 dims: [128] }]',
    ),
    "denoiser": (
        'input [{ name: "sample" data_type: TYPE_FP16 dims: [192, 80, 80] },'
        ' { name: "timestep" data_type: TYPE_FP32 dims: [1] reshape: { shape: [] } },'
        ' { name: "identity" data_type: TYPE_FP32 dims: [128] },'
        ' { name: "reference" data_type: TYPE_UINT8 dims: [640, 640, 3] }]',
        'output [{ name: "prediction" data_type: TYPE_FP16 dims: [192, 80, 80] }]',
    ),
    "matting": (
        'input [{ name: "image" data_type: TYPE_UINT8 dims: [512, 512, 3] }]',
        'output [{ name: "alpha" data_type: TYPE_UINT8 dims: [512, 512, 1] }]',
    ),
    "upscaler": (
        'input [{ name: "image" data_type: TYPE_UINT8 dims: [-1, -1, 3] }]',
        'output [{ name: "upscaled" data_type: TYPE_UINT8 dims: [-1, -1, 3] }]',
    ),
}
MODELS = tuple(_CONFIGS)


def write_config(
    folder: Path,
    model: str,
    *,
    backend: str,
    parameters: Mapping[str, str],
    max_batch: int = 8,
    max_queue: int = 64,
    delay_us: int = 2000,
) -> None:
    """Write config.pbtxt of one model in the form that the contract asks for."""
    inputs, outputs = _CONFIGS[model]
    entries = "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
        for key, value in parameters.items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(
        f'name: "{folder.name}"\nbackend: "{backend}"\ndefault_model_filename: "model.onnx"\n'
        f"max_batch_size: {max_batch}\n{inputs}\n{outputs}\n"
        "instance_group [{ kind: KIND_CPU count: 1 }]\n"
        f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us}\n"
        "  priority_levels: 2 default_priority_level: 2\n"
        "  default_queue_policy { timeout_action: REJECT allow_timeout_override: true"
        " default_timeout_microseconds: 600000000"
        f" max_queue_size: {max_queue} }}\n}}\n{entries}"
    )


def build_repository(
    root: Path,
    *,
    backend: str = "openvino",
    precision: str = "f32",
    denoiser_layers: int = 0,
    models: Sequence[str] = MODELS,
    max_batch: int = 8,
    max_queue: int = 64,
    delay_us: int = 2000,
    suffix: str = "",
) -> Path:
    """Write a repository of tiny models and return its folder.

    Args:
        root: folder to write to.
        backend: "openvino" or "onnxruntime".
        precision: INFERENCE_PRECISION_HINT of every model.
        denoiser_layers: 3x3 convolutions that make the denoiser slow (about 28 GFLOP each).
        models: which of the five to write.
        max_batch: max_batch_size of every model.
        max_queue: max_queue_size of every model.
        delay_us: the batcher's max_queue_delay_microseconds.
        suffix: appended to the folder names, to keep several variants in one repository.
    """
    writers = {
        "face_detector": _face_detector,
        "identity_encoder": _identity_encoder,
        "denoiser": lambda path: _denoiser(path, denoiser_layers),
        "matting": _matting,
        "upscaler": _upscaler,
    }
    for model in models:
        folder = root / f"{model}{suffix}"
        write_config(
            folder,
            model,
            backend=backend,
            parameters={**PARAMETERS[model], "INFERENCE_PRECISION_HINT": precision},
            max_batch=max_batch,
            max_queue=max_queue,
            delay_us=delay_us,
        )
        writers[model](folder / "1" / "model.onnx")
    return root
