"""Part of a smooth, small map at the picture's full size, without making the whole of it."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_LONGEST_RUN = 32


def enlarged_block(
    small: NDArray[Any], size: tuple[int, int], block: tuple[int, int, int, int]
) -> NDArray[Any]:
    """Return the block of `small` enlarged to size, bilinear, sampled as cv2.resize does.

    Args:
        small: [h0, w0] or [h0, w0, c].
        size: (width, height) of the whole enlarged map.
        block: (x0, y0, x1, y1) in its pixels.

    Returns:
        [y1 - y0, x1 - x0] or [..., c], dtype of `small`; perhaps a view.
    """
    x0, y0, x1, y1 = block
    columns = _aligned(small.shape[1], size[0], x0, x1)
    rows = _aligned(small.shape[0], size[1], y0, y1)
    if columns is not None and rows is not None:
        # Several times faster than a warp, whose coordinates are rounded besides.
        (left, right, wide), (top, low, high) = columns, rows
        made = cv2.resize(small[top:low, left:right], (wide, high), interpolation=cv2.INTER_LINEAR)
        x, y = x0 - left * size[0] // small.shape[1], y0 - top * size[1] // small.shape[0]
        return made[y : y + y1 - y0, x : x + x1 - x0]
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


def _aligned(small: int, large: int, first: int, last: int) -> tuple[int, int, int] | None:
    """Return the samples that pixels first..last need, and how many pixels those make.

    None where no short run of samples makes a whole number of pixels, so that a part of the map
    cannot be resized on its own.
    """
    parts = math.gcd(small, large)
    samples, pixels = small // parts, large // parts
    if samples > _LONGEST_RUN:
        return None
    # A run more on both sides: the edge of what is resized has no neighbours to mix with.
    begin = max(0, first // pixels - 1)
    end = min(parts, -(-last // pixels) + 1)
    return begin * samples, end * samples, (end - begin) * pixels


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
    up = np.maximum(shift, 0).astype(np.uint8)
    down = np.maximum(-shift, 0).astype(np.uint8)
    moved = up | down
    some = cv2.dilate(
        ((moved[..., 0] | moved[..., 1] | moved[..., 2]) > 0).astype(np.uint8),
        np.ones((3, 3), np.uint8),
    )
    brightens, darkens = bool(up.any()), bool(down.any())
    step = max(1, round(192 * h0 / height))
    for row in range(0, h0, step):
        end = min(h0, row + step)
        for first, last in runs(np.flatnonzero(some[row:end].any(axis=0)), 8):
            y0, y1 = row * height // h0, end * height // h0
            x0, x1 = first * width // w0, last * width // w0
            block = (x0, y0, x1, y1)
            region = out[y0:y1, x0:x1]
            if brightens:
                brighter = enlarged_block(up, (width, height), block)
                region = np.asarray(cv2.add(region, brighter), np.uint8)
            if darkens:
                darker = enlarged_block(down, (width, height), block)
                region = np.asarray(cv2.subtract(region, darker), np.uint8)
            out[y0:y1, x0:x1] = region
    return out
