"""The subject's own colour at its soft edges, free of the background it stood before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.colour import tripled
from headshot.imaging.enlarge import enlarged_block, runs
from headshot.imaging.parts import SideBySide, both, one_by_one

# (longer side, window radius over that side), coarse to fine.
_LEVELS = ((128, 0.07), (256, 0.015), (512, 0.006))
_SOLID = 0.995
_EMPTY = 0.002
_BAND = 256
"""Rows of a block: enough that a block's work is pixels rather than calls."""
_ROWS = 64
"""The same of the estimate itself."""


@dataclass(frozen=True)
class Estimate:
    """Foreground and background at no more than 512 px, for `correct` at any resolution.

    Attributes:
        fore: float32 [h0, w0, 3], 0..255.
        back: float32 [h0, w0, 3], 0..255.
        alpha: float32 [h0, w0], the matte they were estimated with.
    """

    fore: F32
    back: F32
    alpha: F32


def estimate(image: U8, alpha: F32) -> U8:
    """Return the foreground colours F of I = alpha F + (1 - alpha) B.

    From coarse to fine, F and B are alpha-weighted local means corrected by the residual of the
    compositing equation: the blur-fusion estimate of Forte ("Approximate fast foreground colour
    estimation", ICIP 2021) on a pyramid, as Germer et al. solve it on one ("Fast multi-level
    foreground estimation", ICPR 2020), with a last closed-form correction at full size.
    Pixels with alpha 1 keep their colour exactly.

    Args:
        image: uint8 [h, w, 3] sRGB.
        alpha: float32 [h, w], 0..1.

    Returns:
        uint8 [h, w, 3]; also filled, by the nearest subject colours, where alpha is 0 near the
        edge, so that later resizing cannot pull the old background back in.
    """
    return correct(image, alpha, coarse(image, alpha))


def correct(image: U8, alpha: F32, small: Estimate, side_by_side: SideBySide = one_by_one) -> U8:
    """Return what `estimate` does, from an estimate of the same picture at another resolution.

    Args:
        image: as of `estimate`.
        alpha: as of `estimate`.
        small: of `coarse`.
        side_by_side: does blocks of the picture.
    """
    height, width = alpha.shape
    h0, w0 = small.alpha.shape
    edge = _edge(small.alpha)
    filled = np.asarray(cv2.convertScaleAbs(small.fore), np.uint8)
    out = image.copy()
    parts = []
    step = max(1, _BAND * h0 // height)
    for row in range(0, h0, step):
        end = min(h0, row + step)
        for first, last in runs(np.flatnonzero(edge[row:end].any(axis=0)), 8):
            y0, y1 = row * height // h0, end * height // h0
            x0, x1 = first * width // w0, last * width // w0
            estimates = (small.fore, small.back, filled)
            parts.append(partial(_correct, image, alpha, estimates, out, (x0, y0, x1, y1)))
    side_by_side(parts)
    return out


def _edge(alpha: F32) -> U8:
    """Return 0/1 uint8 [h, w], 1 where `correct` looks at an estimate made with this matte."""
    near = cv2.dilate((alpha > 0.004).astype(np.uint8), np.ones((17, 17), np.uint8))
    edge = ((near > 0) & (alpha < _SOLID)).astype(np.uint8)
    # A solid pixel of the small matte may hide a soft one of the large.
    return np.asarray(cv2.dilate(edge, np.ones((3, 3), np.uint8)), np.uint8)


def coarse(image: U8, alpha: F32, side_by_side: SideBySide = one_by_one) -> Estimate:
    """Return F and B of a picture on a pyramid, at its finest level; sound where `correct` looks.

    Args:
        image: uint8 [h, w, 3].
        alpha: float32 [h, w], 0..1.
        side_by_side: does parts of the picture.
    """
    height, width = alpha.shape
    fore: F32 = np.zeros((0, 0, 3), np.float32)
    back, matte = fore, alpha
    finest = _size(width, height, _LEVELS[-1][0])
    area = cv2.INTER_AREA
    fine_image = cv2.resize(image, finest, interpolation=area) if finest[0] < width else image
    fine_alpha = cv2.resize(alpha, finest, interpolation=area) if finest[0] < width else alpha
    for side, radius in _LEVELS:
        size = _size(width, height, side)
        colours = cv2.resize(fine_image, size, interpolation=area).astype(np.float32)
        matte = np.asarray(cv2.resize(fine_alpha, size, interpolation=area), np.float32)
        if fore.size:
            fore = np.asarray(cv2.resize(fore, size, interpolation=cv2.INTER_LINEAR), np.float32)
            back = np.asarray(cv2.resize(back, size, interpolation=cv2.INTER_LINEAR), np.float32)
        else:
            fore = back = np.asarray(colours, np.float32)
        window = 2 * max(1, round(radius * max(size))) + 1
        known = np.asarray(colours, np.float32)
        if side == _LEVELS[-1][0]:
            fore, back = _fuse_edge(known, matte, (fore, back), window, side_by_side)
        else:
            fore, back = _fuse(known, matte, (fore, back), window, side_by_side)
    return Estimate(fore, back, matte)


def _fuse_edge(
    image: F32, alpha: F32, before: tuple[F32, F32], window: int, side_by_side: SideBySide
) -> tuple[F32, F32]:
    """Return what `_fuse` does where `correct` looks, and what was there before elsewhere."""
    height, width = alpha.shape
    fore, back = before[0].copy(), before[1].copy()
    # A pixel more is mixed in where the estimate is enlarged.
    edge = cv2.dilate(_edge(alpha), np.ones((3, 3), np.uint8))
    reach = window // 2

    def fuse(block: tuple[int, int, int, int]) -> None:
        x0, y0, x1, y1 = block
        left, top = max(0, x0 - reach), max(0, y0 - reach)
        seen = (slice(top, min(height, y1 + reach)), slice(left, min(width, x1 + reach)))
        parts = (before[0][seen], before[1][seen])
        made = _fuse(image[seen], alpha[seen], parts, window, one_by_one)
        own = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        fore[y0:y1, x0:x1], back[y0:y1, x0:x1] = made[0][own], made[1][own]

    blocks = []
    for row in range(0, height, _ROWS):
        end = min(height, row + _ROWS)
        for first, last in runs(np.flatnonzero(edge[row:end].any(axis=0)), 4 * reach):
            blocks.append((first, row, last, end))
    side_by_side([partial(fuse, block) for block in blocks])
    return fore, back


def _size(width: int, height: int, side: int) -> tuple[int, int]:
    ratio = min(1.0, side / max(width, height))
    return max(8, round(width * ratio)), max(8, round(height * ratio))


def _fuse(
    image: F32, alpha: F32, before: tuple[F32, F32], window: int, side_by_side: SideBySide
) -> tuple[F32, F32]:
    (fore, back), rest = before, np.asarray(1 - alpha, np.float32)
    mean_f, mean_b = both(
        side_by_side,
        lambda: _local_mean(fore, alpha, window),
        lambda: _local_mean(back, rest, window),
    )
    a, b = tripled(alpha), tripled(rest)
    residual = image - a * mean_f
    residual -= b * mean_b
    a *= residual
    a += mean_f
    b *= residual
    b += mean_b
    return np.clip(a, 0, 255, out=a), np.clip(b, 0, 255, out=b)


def _local_mean(colours: F32, weight: F32, window: int) -> F32:
    """Return the weighted mean in the window; the colours themselves where nothing weighs."""
    box = (window, window)
    total = np.asarray(cv2.blur(colours * tripled(weight), box), np.float32)
    norm = np.asarray(cv2.blur(weight, box), np.float32) + np.float32(1e-5)
    trust = np.minimum(norm * 50, 1)
    total *= tripled(np.asarray(trust / norm, np.float32))
    total += colours * tripled(np.asarray(1 - trust, np.float32))
    return total


def _correct(
    image: U8,
    alpha: F32,
    estimates: tuple[F32, F32, U8],
    out: U8,
    block: tuple[int, int, int, int],
) -> None:
    """Write F = F0 + alpha (I - alpha F0 - (1 - alpha) B0) where alpha is below 1."""
    x0, y0, x1, y1 = block
    fore, back, filled = estimates
    region = alpha[y0:y1, x0:x1]
    whole = (image.shape[1], image.shape[0])
    view = out[y0:y1, x0:x1]
    empty = (region <= _EMPTY).astype(np.uint8)
    if empty.any():
        out[y0:y1, x0:x1] = cv2.copyTo(enlarged_block(filled, whole, block), empty, view)
    soft = np.flatnonzero((region < _SOLID) & (region > _EMPTY))
    if soft.size == 0:
        return
    f, b, pixels = (
        np.ascontiguousarray(part).reshape(-1, 3).take(soft, axis=0)
        for part in (
            enlarged_block(fore, whole, block),
            enlarged_block(back, whole, block),
            image[y0:y1, x0:x1],
        )
    )
    a = region.reshape(-1).take(soft)[:, None]
    f += a * (pixels - a * f - (1 - a) * b)
    f += np.float32(0.5)
    ys, xs = np.divmod(soft, region.shape[1])
    view[ys, xs] = np.clip(f, 0, 255, out=f).astype(np.uint8)
