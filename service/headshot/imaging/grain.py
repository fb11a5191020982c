"""The photo's grain, measured on the subject and laid over the new background.

A noiseless ground behind a noisy person is the surest sign of a cut-out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8, luma

_LAPLACIAN = np.array([1, -2, 1], np.float32)
"""Immerkaer's mask is the product of this row and this column."""
_BLOCK = 16


@dataclass(frozen=True)
class Grain:
    """Noise of a picture's luma.

    Attributes:
        fine: standard deviation at the picture's own scale, in 8-bit code values.
        coarse: the same after halving the picture.
    """

    fine: float
    coarse: float


def measure(image: U8, alpha: F32 | None = None) -> Grain:
    """Return the grain of the subject's smooth places.

    Immerkaer's estimate (Fast noise variance estimation, CVIU 1996), sqrt(pi/2) / 6 of the mean
    absolute response to his difference mask, taken in blocks; the tenth percentile of the blocks
    is noise, the rest is texture.

    Args:
        image: uint8 [h, w, 3].
        alpha: float32 [h, w]; blocks that are not wholly subject are left out.
    """
    image, alpha = _window(image, alpha)
    grey = luma(image)
    fine = _sigma(grey, alpha)
    half = np.asarray(
        cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8
    )
    small = None if alpha is None else cv2.resize(alpha, half.shape[::-1])
    coarse = _sigma(half, None if small is None else np.asarray(small, np.float32))
    # Sharpened skin and cloth look like grain once halved; no camera's grain grows that much.
    return Grain(fine=min(fine, 6.0), coarse=min(coarse, 1.2 * fine + 0.3, 4.0))


def _window(image: U8, alpha: F32 | None) -> tuple[U8, F32 | None]:
    """Return at most 1024 px a side around the middle: enough blocks for a percentile."""
    height, width = image.shape[:2]
    top, left = max(0, (height - 1024) // 2), max(0, (width - 1024) // 2)
    part = (slice(top, top + 1024), slice(left, left + 1024))
    return image[part], None if alpha is None else alpha[part]


def _sigma(grey: U8, alpha: F32 | None) -> float:
    rows, columns = grey.shape[0] // _BLOCK, grey.shape[1] // _BLOCK
    if rows < 2 or columns < 2:
        return 0.0
    response = cv2.sepFilter2D(grey, cv2.CV_16S, _LAPLACIAN, _LAPLACIAN)
    response = np.abs(response, out=response).astype(np.float32)
    size = (columns, rows)
    trim = (slice(0, rows * _BLOCK), slice(0, columns * _BLOCK))
    blocks = cv2.resize(response[trim], size, interpolation=cv2.INTER_AREA)
    level = cv2.resize(grey[trim], size, interpolation=cv2.INTER_AREA)
    # Black and burnt-out blocks hide their noise.
    usable = (level > 12) & (level < 243)
    if alpha is not None:
        inside = cv2.resize(alpha[trim], size, interpolation=cv2.INTER_AREA)
        usable &= inside > 0.98
    if int(usable.sum()) < 8:
        return 0.0
    return float(np.sqrt(np.pi / 2) / 6 * np.percentile(blocks[usable], 10))


def missing(wanted: Grain, own: Grain) -> Grain:
    """Return the grain to lay over a ground that has some of its own, so that it has the wanted."""
    return Grain(
        fine=float(np.sqrt(max(0.0, wanted.fine**2 - own.fine**2))),
        coarse=float(np.sqrt(max(0.0, wanted.coarse**2 - own.coarse**2))),
    )


def match(background: U8, grain: Grain, *, seed: int) -> U8:
    """Return the background with grain of the same strength and coarseness.

    Args:
        background: uint8 [h, w, 3].
        grain: of `measure` on the subject at the same resolution, or what is `missing` of it.
        seed: the same seed gives the same grain.

    Returns:
        uint8 [h, w, 3]; the background itself where the grain is below a quarter code value. Its
        mean level is the background's: black and white stay black and white.
    """
    if grain.fine < 0.25 and grain.coarse < 0.25:
        return background
    tile = _tile(grain, seed)
    height, width = background.shape[:2]
    out = np.empty_like(background)
    side = tile.shape[0]
    bright = np.maximum(tile, 0).astype(np.uint8)
    dark = np.maximum(-tile, 0).astype(np.uint8)
    across = -(-width // side)
    wide_up, wide_down = (
        cv2.cvtColor(
            np.ascontiguousarray(np.tile(part, (1, across))[:, :width]), cv2.COLOR_GRAY2RGB
        )
        for part in (bright, dark)
    )
    for top in range(0, height, side):
        low = min(height, top + side)
        ground = background[top:low]
        # Never further up than there is room below, and the reverse: noise that is cut at one side
        # only would grey a white ground and lighten a black one.
        brighter = cv2.min(wide_up[: low - top], ground)
        darker = cv2.min(wide_down[: low - top], cv2.bitwise_not(ground))
        out[top:low] = cv2.subtract(cv2.add(ground, brighter), darker)
    return out


@lru_cache(maxsize=8)
def _noises(seed: int) -> tuple[F32, F32, F32]:
    """Return what a tile is made of: normal noise at both scales, and -0.5..0.5; 2.3 MB.

    A headshot is composed at least twice with one seed, and most callers give none.
    """
    rng = np.random.default_rng(seed)
    side = 512
    white = rng.standard_normal((side, side), np.float32)
    rough = rng.standard_normal((side // 2, side // 2), np.float32)
    dither = rng.random((side, side), np.float32) - np.float32(0.5)
    for plane in (white, rough, dither):
        plane.flags.writeable = False
    return white, rough, dither


def _tile(grain: Grain, seed: int) -> NDArray[np.int16]:
    """Return int8 [512, 512] seamless noise whose two scales have the wanted strength."""
    # Halving averages white noise to a half; what is left over is coarse grain of its own.
    fine = grain.fine
    coarse = float(np.sqrt(max(0.0, grain.coarse**2 - (0.5 * fine) ** 2)))
    white, rough, dither = _noises(seed)
    noise = white * np.float32(fine)
    if coarse > 0.1:
        wrapped = cv2.copyMakeBorder(rough, 2, 2, 2, 2, cv2.BORDER_WRAP)
        grown = cv2.resize(wrapped, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)[4:-4, 4:-4]
        noise += np.asarray(grown, np.float32) * coarse
    # Dithered rounding keeps grain weaker than one code value from vanishing.
    noise += dither
    return np.asarray(np.clip(np.rint(noise), -60, 60), np.int16)
