"""Run an exported graph on photos, as the served model would be run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from export_scripts.onnx_tools import compile_openvino

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Graph:
    """An ONNX file in OpenVINO in bfloat16 on one CPU thread, as the CPU profile serves it."""

    def __init__(self, path: Path, precision: str = "bf16") -> None:
        self._compiled = compile_openvino(path, precision)
        self._request = self._compiled.create_infer_request()

    def run(self, batch: Bytes) -> list[npt.NDArray[Any]]:
        """Return the outputs for uint8 [B,H,W,3]."""
        results = self._request.infer([batch])
        return [np.array(results[index]) for index in range(len(self._compiled.outputs))]


def letterbox(rgb: Bytes, side: int) -> tuple[Bytes, float]:
    """Scale to fit a square canvas, top left, zero padding; returns canvas and scale."""
    scale = side / max(rgb.shape[:2])
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(rgb, size, interpolation=method)
    return canvas, scale


def parameters(config: Path) -> dict[str, str]:
    """Return the `parameters` of a config.pbtxt."""
    pattern = r'key:\s*"(\w+)"\s*value:?\s*\{\s*string_value:\s*"([^"]*)"'
    return dict(re.findall(pattern, config.read_text()))
