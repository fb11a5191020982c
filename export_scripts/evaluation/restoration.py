"""Measures shared by the denoiser's and the upscaler's evaluation: PSNR, and the face teacher."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
from numpy.typing import NDArray

from export_scripts.datasets.faces import FACE_SIZE, TEMPLATE
from export_scripts.datasets.yunet import YuNet
from export_scripts.training.ncnn_teacher import Teacher

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]


def psnr(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in dB of two images on the 0..255 scale; infinity if equal."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))


def luma(picture: Picture) -> NDArray[np.float64]:
    """Luminance of MATLAB's rgb2ycbcr (ITU-R BT.601, 16..235), the convention of x4 benchmarks."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.asarray(picture.astype(np.float64) @ weights + 16)


def latency_ms(path: Path, shape: tuple[int, ...], runs: int = 5) -> float:
    """Median time of OpenVINO in bfloat16 on two threads for one image of random bytes, in ms."""
    settings = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "bf16"}
    request = ov.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        request.infer([image])
        times.append((time.perf_counter() - start) * 1000)
    return float(np.median(times[1:]))


class FaceTeacher:
    """YuNet's largest face, aligned on the ArcFace template, and the teacher's embedding of it."""

    def __init__(self, teachers: Path, *, longest: int = 320) -> None:
        self._detector = YuNet(teachers / "yunet" / "yunet_n_dynamic.onnx")
        self._recogniser = Teacher(teachers / "mobilefacenet")
        self._longest = longest

    def align(self, picture: Picture) -> Floats | None:
        """Similarity transform [2, 3] from the photo to the 112 template; None without a face."""
        scale = min(1.0, self._longest / max(picture.shape[:2]))
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        faces = self._detector.detect(small, threshold=0.5)
        if len(faces) == 0:
            return None
        largest = faces[np.argmax((faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1]))]
        points = largest[4:14].reshape(5, 2) / scale
        transform, _ = cv2.estimateAffinePartial2D(points, TEMPLATE, method=cv2.LMEDS)
        return None if transform is None else np.asarray(transform, np.float32)

    def embedding(self, picture: Picture, transform: Floats | None = None) -> Floats | None:
        """Unit-length embedding [128]; with ``transform``, of the face at that place."""
        transform = self.align(picture) if transform is None else transform
        if transform is None:
            return None
        reduction = float(np.hypot(transform[0, 0], transform[0, 1]))
        if reduction < 0.6:
            # Bilinear warping alone would alias: average first, then warp the smaller photo.
            factor = 2.0 ** -round(-np.log2(reduction) - 0.3)
            size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
            transform = transform.copy()
            transform[:, :2] /= factor
        face = cv2.warpAffine(picture, transform, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR)
        planes = np.ascontiguousarray(np.asarray(face, np.uint8).transpose(2, 0, 1)[None])
        vector = self._recogniser(planes)[0][0]
        return np.asarray(vector / np.linalg.norm(vector), np.float32)
