"""The subject's own colour at its soft edges, free of the background it stood before."""

from __future__ import annotations

import cv2
import numpy as np

from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.enlarge import enlarged_block, runs

# (longer side, window radius over that side), coarse to fine.
_LEVELS = ((128, 0.07), (256, 0.015), (512, 0.006))
_SOLID = 0.995
_EMPTY = 0.002


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
    height, width = alpha.shape
    fore, back, small_alpha = _pyramid(image, alpha)
    h0, w0 = small_alpha.shape
    near = cv2.dilate((small_alpha > 0.004).astype(np.uint8), np.ones((17, 17), np.uint8))
    edge = ((near > 0) & (small_alpha < _SOLID)).astype(np.uint8)
    # A solid pixel of the small matte may hide a soft one of the large.
    edge = np.asarray(cv2.dilate(edge, np.ones((3, 3), np.uint8)), np.uint8)
    filled = np.asarray(np.clip(fore + 0.5, 0, 255), np.uint8)
    out = image.copy()
    step = max(1, 128 * h0 // height)
    for row in range(0, h0, step):
        end = min(h0, row + step)
        for first, last in runs(np.flatnonzero(edge[row:end].any(axis=0)), 8):
            y0, y1 = row * height // h0, end * height // h0
            x0, x1 = first * width // w0, last * width // w0
            _correct(image, alpha, (fore, back, filled), out, (x0, y0, x1, y1))
    return out


def _pyramid(image: U8, alpha: F32) -> tuple[F32, F32, F32]:
    """Return F and B float32 [h0, w0, 3] and the matte [h0, w0] at the finest level."""
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
        fore, back = _fuse(np.asarray(colours, np.float32), matte, fore, back, window)
    return fore, back, matte


def _size(width: int, height: int, side: int) -> tuple[int, int]:
    ratio = min(1.0, side / max(width, height))
    return max(8, round(width * ratio)), max(8, round(height * ratio))


def _fuse(image: F32, alpha: F32, fore: F32, back: F32, window: int) -> tuple[F32, F32]:
    a = alpha[..., None]
    b = 1.0 - a
    mean_f = _local_mean(fore, a, window)
    mean_b = _local_mean(back, np.asarray(b, np.float32), window)
    residual = image - a * mean_f - b * mean_b
    return (
        np.asarray(np.clip(mean_f + a * residual, 0, 255), np.float32),
        np.asarray(np.clip(mean_b + b * residual, 0, 255), np.float32),
    )


def _local_mean(colours: F32, weight: F32, window: int) -> F32:
    """Return the weighted mean in the window; the colours themselves where nothing weighs."""
    box = (window, window)
    # Weight and weighted colours in one four-channel pass.
    total = cv2.blur(np.concatenate([colours * weight, weight], axis=-1), box)
    norm = total[..., 3:] + np.float32(1e-5)
    trust = np.minimum(norm * 50, 1)
    return np.asarray(total[..., :3] / norm * trust + colours * (1 - trust), np.float32)


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
    ys, xs = np.nonzero((region < _SOLID) & (region > _EMPTY))
    if ys.size == 0:
        return
    f = enlarged_block(fore, whole, block)[ys, xs]
    b = enlarged_block(back, whole, block)[ys, xs]
    a = region[ys, xs][:, None]
    pixels = image[y0:y1, x0:x1][ys, xs].astype(np.float32)
    f += a * (pixels - a * f - (1 - a) * b)
    view[ys, xs] = np.clip(f + 0.5, 0, 255).astype(np.uint8)
