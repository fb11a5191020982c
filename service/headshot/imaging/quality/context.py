"""Does the picture do a headshot's work: framing, margins, recognised small."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8, to_lab
from headshot.imaging.face import face_mask, shape_of


@dataclass(frozen=True)
class Framing:
    """Where the head sits; fractions of the picture's height unless said otherwise.

    Attributes:
        eye_line: eyes from the top.
        eye_tilt: angle of the eye line, degrees.
        head_height: crown to chin of an average head of this face's size.
        margin_top: room above the hair.
        margin_sides: room beside the head on its tighter side, of the width.
        margin_chin: room below the chin.
        circle_overflow: fraction of the head outside the inscribed circle.
    """

    eye_line: float
    eye_tilt: float
    head_height: float
    margin_top: float
    margin_sides: float
    margin_chin: float
    circle_overflow: float


def framing(landmarks: NDArray[np.floating], alpha: F32, *, circle_margin: float) -> Framing:
    """Return the framing of a result.

    Args:
        landmarks: [5, 2] in pixels of the result.
        alpha: float32 [h, w] matte of the result.
        circle_margin: room kept inside the circle, of the shorter side.
    """
    height, width = alpha.shape
    face = shape_of(landmarks)
    ys, xs = np.ogrid[0:height, 0:width]
    # Hair falls to the shoulders; the head's sides are read above the mouth.
    head = (alpha > 0.5) & (ys < face.chin_y) & (np.abs(xs - face.eyes[0]) < 1.9 * face.scale)
    above = head & (ys < face.mouth[1])
    rows, columns = np.flatnonzero(head.any(axis=1)), np.flatnonzero(above.any(axis=0))
    top = float(rows[0]) if rows.size else max(0.0, face.crown_y)
    left, right = (float(columns[0]), float(columns[-1] + 1)) if columns.size else (0.0, width)
    radius = (0.5 - circle_margin) * min(height, width)
    outside = head & ((xs + 0.5 - width / 2) ** 2 + (ys + 0.5 - height / 2) ** 2 > radius**2)
    return Framing(
        eye_line=face.eyes[1] / height,
        eye_tilt=face.tilt,
        head_height=face.head_height / height,
        margin_top=top / height,
        margin_sides=min(left, width - right) / width,
        margin_chin=(height - face.chin_y) / height,
        circle_overflow=float(outside.sum() / max(1, head.sum())),
    )


def small_contrast(
    result: U8, landmarks: NDArray[np.floating], alpha: F32, side: int
) -> float | None:
    """Return how far the face stands out from the background beside it, at avatar size.

    The picture is brought to `side` pixels; CIE76 difference of the median face colour and the mean
    background within a quarter of the side of the head, lightness counted in full and colour by
    half: small pictures are told by light and dark.

    Args:
        result: uint8 [h, w, 3].
        landmarks: [5, 2] in its pixels.
        alpha: float32 [h, w].
        side: 48 or 32.

    Returns:
        The difference; 0 where the matte leaves the face out, None where there is no background
        beside it to stand out from.
    """
    ratio = side / result.shape[1]
    size = (side, max(4, round(result.shape[0] * ratio)))
    small = np.asarray(cv2.resize(result, size, interpolation=cv2.INTER_AREA), np.uint8)
    matte = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    lab = to_lab(small)
    points = np.asarray(landmarks, np.float64) * ratio
    face = (face_mask(points, size) > 0) & (matte > 0.9)
    reach = max(3, side // 4) | 1
    near = cv2.dilate((matte > 0.5).astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    beside = near & (matte < 0.1)
    beside[: max(0, round(shape_of(points).crown_y - 0.2 * side))] = False
    if not beside.any():
        return None
    if not face.any():
        return 0.0
    difference = np.median(lab[face], axis=0) - lab[beside].mean(axis=0)
    difference[1:] *= 0.5
    return float(np.linalg.norm(difference))
