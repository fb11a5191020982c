"""Run an exported graph on photos, as the served model would be run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Graph:
    """An ONNX file in ONNX Runtime on one CPU thread."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: Bytes) -> list[npt.NDArray[Any]]:
        """Return the outputs for uint8 [B,H,W,3]."""
        outputs: list[npt.NDArray[Any]] = self._session.run(None, {self._input: batch})
        return outputs


def letterbox(rgb: Bytes, side: int) -> tuple[Bytes, float]:
    """Scale to fit a square canvas, top left, zero padding; returns canvas and scale."""
    scale = side / max(rgb.shape[:2])
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(rgb, size, interpolation=method)
    return canvas, scale


def latency_ms(path: Path, shape: tuple[int, ...], runs: int = 15) -> float:
    """Median time of OpenVINO in bfloat16 on two threads for one row of random bytes, in ms."""
    import time  # noqa: PLC0415 - only the benchmark needs these

    import openvino as ov  # noqa: PLC0415

    settings = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "bf16"}
    compiled = ov.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    batch = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        request.infer([batch])
        times.append((time.perf_counter() - start) * 1000)
    return float(np.median(times))


def parameters(config: Path) -> dict[str, str]:
    """Return the `parameters` of a config.pbtxt."""
    pattern = r'key:\s*"(\w+)"\s*value:?\s*\{\s*string_value:\s*"([^"]*)"'
    return dict(re.findall(pattern, config.read_text()))
