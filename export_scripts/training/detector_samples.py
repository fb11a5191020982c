"""Training canvases for the face detector: photos zoomed so that faces take 3% to 98% of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from export_scripts.datasets.packed import Pack, fit_within
from export_scripts.networks.face_detector import STRIDES
from export_scripts.training.photo_noise import degrade

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
# Longer side of the faces that each stride learns, in pixels; a size can belong to two strides.
SIZES = {8: (9, 58), 16: (40, 130), 32: (96, 290), 64: (200, 900)}
MIRRORED = [1, 0, 2, 4, 3]


@dataclass
class Targets:
    """What each of N cells learns: `quality` is 1 at a face's centre and falls off around it."""

    fields: Floats  # [N,14]: box and landmarks in pixels
    quality: Floats  # [N]: 0 for background
    ignored: Floats  # [N]: 1 where the score is not trained


def assign(faces: Floats, side: int) -> Targets:
    """Assign faces [n,15] (box, landmarks, 1 to learn or 0 to ignore) to the cells."""
    fields, quality, ignored = [], [], []
    for stride in STRIDES:
        count = side // stride
        centre = (np.arange(count, dtype=np.float32) + 0.5) * stride
        f = np.zeros((count, count, 14), np.float32)
        q = np.zeros((count, count), np.float32)
        g = np.zeros((count, count), np.float32)
        low, high = SIZES[stride]
        for face in faces[np.argsort(-(faces[:, 2] - faces[:, 0]))]:
            x1, y1, x2, y2 = face[:4]
            size = max(x2 - x1, y2 - y1)
            if face[14] < 0.5 or size < 9:
                inside_x = (centre > x1 - stride) & (centre < x2 + stride)
                inside_y = (centre > y1 - stride) & (centre < y2 + stride)
                g[np.ix_(inside_y, inside_x)] = 1
                continue
            if not low <= size <= high:
                continue
            dx = (centre - (x1 + x2) / 2) / stride
            dy = (centre - (y1 + y2) / 2) / stride
            near = np.exp(-0.25 * (dx[None] ** 2 + dy[:, None] ** 2))
            near *= (np.abs(dx)[None] < 1.6) & (np.abs(dy)[:, None] < 1.6)
            inside = (centre > x1) & (centre < x2)
            near = near * inside[None] * ((centre > y1) & (centre < y2))[:, None]
            better = near > q
            q = np.where(better, near, q)
            f[better] = face[:14]
        g[q > 0] = 0
        fields.append(f.reshape(-1, 14))
        quality.append(q.reshape(-1))
        ignored.append(g.reshape(-1))
    return Targets(np.concatenate(fields), np.concatenate(quality), np.concatenate(ignored))


class DetectorSamples:
    """Endless stream of canvases: `sample(rng, side)`."""

    def __init__(self, data: Path) -> None:
        self.faces = Pack(data / "faces")
        self.negatives = Pack(data / "negatives")
        self.labels = [
            np.asarray(record["faces"], np.float32).reshape(-1, 16) for record in self.faces.records
        ]
        self.negative_labels = [
            np.asarray(record["faces"], np.float32).reshape(-1, 16)
            for record in self.negatives.records
        ]
        self._textures: dict[int, Bytes] = {}
        # Few photos come from studio sets; show them as often as ten of the many.
        weight = [
            6.0 if record["key"].split("/")[0] in ("london", "canada") else 1.0
            for record in self.faces.records
        ]
        self._cumulative = np.cumsum(weight) / np.sum(weight)

    def sample(self, rng: np.random.Generator, side: int) -> tuple[Bytes, Targets]:
        """Return one canvas uint8 [side,side,3] and its targets."""
        kind = rng.random()
        if kind < 0.14:
            canvas, faces = self._negative(rng, side)
        elif kind < 0.14 + 0.22:
            canvas, faces = self._mosaic(rng, side)
        else:
            # Most photos that people send are portraits; small faces are the rarer case.
            low, high = (0.2, 1.0) if rng.random() < 0.65 else (0.035, 0.3)
            canvas, faces = self._photo(rng, side, low, high)
        canvas = degrade(rng, canvas)
        return canvas, assign(faces, side)

    def _mosaic(self, rng: np.random.Generator, side: int) -> tuple[Bytes, Floats]:
        canvas = np.zeros((side, side, 3), np.uint8)
        rows = []
        cut = side // 2
        for y in (0, cut):
            for x in (0, cut):
                low = 24 / cut if cut > 200 else 0.08
                tile, faces = self._photo(rng, cut, low, 1.0)
                canvas[y : y + cut, x : x + cut] = tile
                faces[:, 0:14:2] += x
                faces[:, 1:14:2] += y
                rows.append(faces)
        return canvas, np.concatenate(rows)

    def _negative(self, rng: np.random.Generator, side: int) -> tuple[Bytes, Floats]:
        index = int(rng.integers(len(self.negatives)))
        photo = self.negatives.image(index)
        faces = self.negative_labels[index].copy()
        faces[:, 15] = 0  # a face the teacher half sees in a landscape is neither taught nor denied
        base = side / max(photo.shape[:2])
        scale = base * float(np.exp(rng.uniform(np.log(0.8), np.log(4.0))))
        extent = np.array([photo.shape[1], photo.shape[0]]) * scale
        offset = rng.random(2) * (side - extent)
        return warp(rng, photo, faces, side, scale, offset, 0.0, None)

    def _photo(
        self, rng: np.random.Generator, side: int, low: float, high: float
    ) -> tuple[Bytes, Floats]:
        index = int(np.searchsorted(self._cumulative, rng.random()))
        photo = self.faces.image(index)
        faces = self.labels[index].copy()
        sure = np.flatnonzero(faces[:, 15] > 0.5)
        face = faces[int(rng.choice(sure))]
        extent = float(max(face[2] - face[0], face[3] - face[1]))
        if rng.random() < 0.25:  # the whole photo, letterboxed as the service does it
            scale = side / max(photo.shape[:2])
            offset = np.zeros(2)
            return warp(rng, photo, faces, side, scale, offset, 0.0, None)
        target = side * float(np.exp(rng.uniform(np.log(low), np.log(high))))
        target = max(target, 12.0)
        scale = min(target / extent, 5.0)
        centre = np.array([face[0] + face[2], face[1] + face[3]]) / 2 * scale
        slack = max(side - extent * scale, 0) / 2 + 0.15 * extent * scale
        place = side / 2 + rng.uniform(-1, 1, 2) * slack
        angle = float(rng.normal(0, 9)) if rng.random() < 0.6 else 0.0
        background = None
        if rng.random() < 0.4:
            background = self._texture(int(rng.integers(len(self.negatives))))
        return warp(rng, photo, faces, side, scale, place - centre, angle, background)

    def _texture(self, index: int) -> Bytes:
        # Decoding a large photo only to lay it behind another would cost as much as the rest.
        if index not in self._textures:
            self._textures[index] = fit_within(self.negatives.image(index), 400)
        return self._textures[index]


def warp(
    rng: np.random.Generator,
    photo: Bytes,
    faces: Floats,
    side: int,
    scale: float,
    offset: npt.NDArray[np.float64],
    angle: float,
    background: Bytes | None,
) -> tuple[Bytes, Floats]:
    """Place a photo on a canvas: scale, rotate about the canvas centre, mirror half of the time.

    Returns the canvas and the faces [n,15] on it; those mostly outside are to be ignored.
    """
    while scale < 0.5:  # halve with an area filter first, so that fine texture does not alias
        photo = np.asarray(cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        faces = faces.copy()
        faces[:, :14] /= 2
        scale *= 2
    middle = side / 2
    turn = cv2.getRotationMatrix2D((middle, middle), angle, 1.0)
    move = np.array([[scale, 0, offset[0]], [0, scale, offset[1]], [0, 0, 1]])
    matrix = turn @ move
    if rng.random() < 0.5:
        matrix = np.array([[-1, 0, side], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
    canvas = fill(rng, side, background)
    method = cv2.INTER_LINEAR if scale < 1 or rng.random() < 0.5 else cv2.INTER_CUBIC
    cv2.warpAffine(photo, matrix, (side, side), canvas, method, borderMode=cv2.BORDER_TRANSPARENT)
    return canvas, move_faces(faces, matrix, side)


def fill(rng: np.random.Generator, side: int, background: Bytes | None) -> Bytes:
    """Return what lies around a photo: black as in a letterbox, or another photo."""
    if background is None:
        return np.zeros((side, side, 3), np.uint8)
    edge = int(rng.uniform(0.4, 1.0) * min(background.shape[:2]))
    y = int(rng.integers(background.shape[0] - edge + 1))
    x = int(rng.integers(background.shape[1] - edge + 1))
    crop = background[y : y + edge, x : x + edge]
    return np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def move_faces(faces: Floats, matrix: npt.NDArray[np.float64], side: int) -> Floats:
    """Map faces [n,16] by an affine matrix [2,3]; returns [n,15] with the last column to learn."""
    out = np.zeros((len(faces), 15), np.float32)
    if not len(faces):
        return out
    linear = matrix[:, :2]
    mirrored = np.linalg.det(linear) < 0
    scale = np.sqrt(abs(np.linalg.det(linear)))
    centre = (faces[:, :2] + faces[:, 2:4]) / 2 @ linear.T + matrix[:, 2]
    half = (faces[:, 2:4] - faces[:, :2]) / 2 * scale
    points = faces[:, 4:14].reshape(-1, 5, 2) @ linear.T + matrix[:, 2]
    out[:, 0:2], out[:, 2:4] = centre - half, centre + half
    out[:, 4:14] = (points[:, MIRRORED] if mirrored else points).reshape(-1, 10)
    visible = np.clip(np.minimum(out[:, 2:4], side) - np.maximum(out[:, :2], 0), 0, None).prod(1)
    share = visible / np.maximum((2 * half).prod(1), 1e-3)
    out[:, 14] = (faces[:, 15] > 0.5) & (share > 0.6)
    return np.asarray(out[share > 0.05], np.float32)
