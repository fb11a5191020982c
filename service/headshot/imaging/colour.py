"""Colour arithmetic that needs no profile: light, alpha, ink."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def _decoding_table() -> NDArray[np.float32]:
    v = np.arange(256) / 255.0
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR: Final = _decoding_table()
_UNIT: Final = np.arange(256, dtype=np.float32) / np.float32(255)
_ENCODING_STEPS: Final = 4095


def _encoding_table() -> Image:
    v = np.arange(_ENCODING_STEPS * 4 + 1) / (_ENCODING_STEPS * 4)
    encoded = np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded * 255), dtype=np.uint8)


_ENCODED: Final = _encoding_table()


def srgb_to_linear(image: Image) -> NDArray[np.float32]:
    """SRGB levels 0..255 (uint8, any shape) to linear light 0..1 (IEC 61966-2-1)."""
    return looked_up(image, _LINEAR)


def unit(levels: Image) -> NDArray[np.float32]:
    """Levels 0..255 (uint8, any shape) as float32 0..1."""
    return looked_up(levels, _UNIT)


def tripled(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """A plane float32 [h,w] three times, [h,w,3]; numpy repeats a last axis slowly."""
    return np.asarray(cv2.merge([plane, plane, plane]), np.float32)


def looked_up(levels: Image, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Levels uint8 of any shape through a table float32 [256], faster than numpy does it."""
    if levels.size == 0:
        return np.zeros(levels.shape, np.float32)
    row = np.ascontiguousarray(levels).reshape(1, -1)
    return np.asarray(cv2.LUT(row, table), np.float32).reshape(levels.shape)


def linear_to_srgb(light: NDArray[Any]) -> Image:
    """Linear light 0..1 (any shape; clipped) to sRGB levels 0..255, uint8, to the nearest level.

    A table of 16,381 entries; it differs from the formula by at most one level, below level 12.
    """
    index = np.clip(light, 0, 1) * (_ENCODING_STEPS * 4)
    return np.asarray(_ENCODED.take(np.rint(index, out=index).astype(np.intp)), dtype=np.uint8)


def flatten(image: Image, background: int = 255) -> Image:
    """Lay RGBA (or grey with alpha) over a plain grey level; straight alpha, in sRGB levels.

    Args:
        image: uint8 [h,w,2] or [h,w,4], alpha last.
        background: level 0..255; white is what such pictures are usually shown on.

    Returns:
        uint8 [h,w,1] or [h,w,3].
    """
    alpha = image[..., -1:]
    if bool((alpha == 255).all()):
        return np.ascontiguousarray(image[..., :-1])
    colour = image[..., :-1].astype(np.uint16)
    a = alpha.astype(np.uint16)
    mixed = colour * a + np.uint16(background) * (255 - a)
    return ((mixed + 127) // 255).astype(np.uint8)


def cmyk_to_rgb(ink: Image) -> Image:
    """Plain conversion of ink (uint8 [h,w,4], 255 = full ink) to RGB where no profile says better.

    R = 255 (1 - C)(1 - K) and so on: bright colours come out more saturated than printed.
    """
    paper = 255 - ink.astype(np.uint16)
    return ((paper[..., :3] * paper[..., 3:] + 127) // 255).astype(np.uint8)


_UPRIGHT: Final[dict[int, tuple[int | None, int | None]]] = {
    # EXIF orientation: (rotation, then flip code of cv2.flip)
    1: (None, None),
    2: (None, 1),
    3: (cv2.ROTATE_180, None),
    4: (None, 0),
    5: (cv2.ROTATE_90_CLOCKWISE, 1),
    6: (cv2.ROTATE_90_CLOCKWISE, None),
    7: (cv2.ROTATE_90_CLOCKWISE, 0),
    8: (cv2.ROTATE_90_COUNTERCLOCKWISE, None),
}


def upright(image: Image, orientation: int) -> Image:
    """Turn stored pixels [h,w] or [h,w,c] upright by their EXIF orientation 1..8."""
    rotation, flip = _UPRIGHT[orientation]
    turned = image if rotation is None else np.asarray(cv2.rotate(image, rotation), np.uint8)
    return turned if flip is None else np.asarray(cv2.flip(turned, flip), np.uint8)
