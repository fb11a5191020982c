"""Aligned face crops: the template, the warp onto it, and the stored sets.

A set is ``<source>.npy``, uint8 RGB ``[N, 128, 128, 3]``: the ArcFace 112-pixel template with eight
more pixels on every side, so that augmentation can shift and turn a face without inventing a
border; ``<source>.json`` holds one record per face. ``export_scripts.datasets.prepare_faces``
writes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]

TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float32,
)
"""ArcFace template (Deng et al. 2019): five points in a 112x112 crop, as seen in the image."""

FACE_SIZE = 112
MARGIN = 8
CROP_SIZE = FACE_SIZE + 2 * MARGIN
LFW_PAIRS = "lfw_pairs.txt"
"""The 6,000-pair protocol of LFW, stored beside its crops."""


@dataclass(frozen=True)
class FaceRecord:
    """What is known of one crop. ``identity`` is empty where the source does not tell.

    ``age`` is in years and -1 where unknown; ``sex`` and ``group`` are the labels of the source.
    """

    source: str
    path: str
    identity: str
    age: int = -1
    sex: str = ""
    group: str = ""
    score: float = 0.0


def similarity_transform(points: Points, target: Points) -> npt.NDArray[np.float64]:
    """Least-squares similarity ``[2, 3]`` that takes ``points`` to ``target`` (Umeyama 1991)."""
    source, goal = points.astype(np.float64), target.astype(np.float64)
    source_mean, goal_mean = source.mean(0), goal.mean(0)
    a, b = source - source_mean, goal - goal_mean
    u, spread, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.diag([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = u @ sign @ vt
    scale = float((spread * np.diag(sign)).sum() / (a**2).sum(1).mean())
    shift = goal_mean - scale * rotation @ source_mean
    return np.concatenate([scale * rotation, shift[:, None]], 1)


def align(rgb: Image, points: Points, margin: int = MARGIN) -> Image:
    """Warp ``rgb`` so that ``points`` lie on the template; ``margin`` pixels more on every side."""
    matrix = similarity_transform(points, TEMPLATE + margin)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.5:
        # The warp samples four pixels only: shrink by area first, or it would alias.
        height, width = rgb.shape[:2]
        shrunk = cv2.resize(rgb, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        rgb = np.asarray(shrunk, np.uint8)
        factor = np.array([rgb.shape[1] / width, rgb.shape[0] / height])
        matrix = similarity_transform(
            ((points + 0.5) * factor - 0.5).astype(np.float32), TEMPLATE + margin
        )
    side = FACE_SIZE + 2 * margin
    return cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR).astype(np.uint8)


def load(folder: Path, source: str) -> tuple[Image, list[FaceRecord]]:
    """Crops ``[N, 128, 128, 3]`` (memory-mapped) and their records.

    Raises:
        FileNotFoundError: the source was not prepared in ``folder``.
    """
    records = [FaceRecord(**r) for r in json.loads((folder / f"{source}.json").read_text())]
    return np.load(folder / f"{source}.npy", mmap_mode="r"), records
