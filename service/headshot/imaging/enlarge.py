"""Part of a smooth, small map at the picture's full size, without making the whole of it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def enlarged_block(
    small: NDArray[Any], size: tuple[int, int], block: tuple[int, int, int, int]
) -> NDArray[Any]:
    """Return the block of `small` enlarged to size, bilinear, sampled as cv2.resize does.

    Args:
        small: [h0, w0] or [h0, w0, c].
        size: (width, height) of the whole enlarged map.
        block: (x0, y0, x1, y1) in its pixels.

    Returns:
        [y1 - y0, x1 - x0] or [..., c], dtype of `small`.
    """
    x0, y0, x1, y1 = block
    sx, sy = small.shape[1] / size[0], small.shape[0] / size[1]
    # Centres of output pixels in coordinates of the small map.
    matrix = np.array([[sx, 0, (x0 + 0.5) * sx - 0.5], [0, sy, (y0 + 0.5) * sy - 0.5]])
    return cv2.warpAffine(
        small,
        matrix,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def runs(columns: NDArray[np.intp], gap: int) -> list[tuple[int, int]]:
    """Return (first, last + 1) of each run of sorted indices; breaks up to `gap` are bridged."""
    if columns.size == 0:
        return []
    parts = np.split(columns, np.flatnonzero(np.diff(columns) > gap) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def add_shift(image: NDArray[np.uint8], shift: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return image + the enlarged shift, touching only the places where it is not zero.

    Args:
        image: uint8 [h, w, 3].
        shift: int16 [h0, w0, 3], -255..255, a smooth map at a lower resolution.
    """
    height, width = image.shape[:2]
    h0, w0 = shift.shape[:2]
    out = image.copy()
    some = cv2.dilate(np.any(shift != 0, axis=-1).astype(np.uint8), np.ones((3, 3), np.uint8))
    up = np.maximum(shift, 0).astype(np.uint8)
    down = np.maximum(-shift, 0).astype(np.uint8)
    step = max(1, round(192 * h0 / height))
    for row in range(0, h0, step):
        end = min(h0, row + step)
        for first, last in runs(np.flatnonzero(some[row:end].any(axis=0)), 8):
            y0, y1 = row * height // h0, end * height // h0
            x0, x1 = first * width // w0, last * width // w0
            block = (x0, y0, x1, y1)
            region = out[y0:y1, x0:x1]
            brighter = enlarged_block(up, (width, height), block)
            darker = enlarged_block(down, (width, height), block)
            out[y0:y1, x0:x1] = cv2.subtract(cv2.add(region, brighter), darker)
    return out
