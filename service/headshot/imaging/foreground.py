"""The subject's own colour at its soft edges, free of the background it stood before."""

from __future__ import annotations

import cv2
import numpy as np

from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.enlarge import enlarged_block, runs

_WORK = 640


def estimate(image: U8, alpha: F32, *, radii: tuple[float, ...] = (0.07, 0.015, 0.005)) -> U8:
    """Return the foreground colours F of I = alpha F + (1 - alpha) B.

    From coarse to fine, F and B are alpha-weighted local means corrected by the residual of the
    compositing equation: the blur-fusion estimate of Forte ("Approximate fast foreground colour
    estimation", ICIP 2021), with three radii at 640 px and one closed-form correction at full size.
    Pixels with alpha 1 keep their colour exactly.

    Args:
        image: uint8 [h, w, 3] sRGB.
        alpha: float32 [h, w], 0..1.
        radii: window radii over the longer side, coarse to fine.

    Returns:
        uint8 [h, w, 3]; also filled, by the nearest subject colours, where alpha is 0 near the
        edge, so that later resizing cannot pull the old background back in.
    """
    height, width = alpha.shape
    ratio = min(1.0, _WORK / max(height, width))
    size = (max(8, round(width * ratio)), max(8, round(height * ratio)))
    small_image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small_alpha = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32)
    fore, back = _fuse(np.asarray(small_image, np.float32), small_alpha, radii)
    out = image.copy()
    top, bottom, left, right = _soft_bounds(small_alpha)
    sy, sx = height / size[1], width / size[0]
    step = max(1, round(192 / sy))
    for row in range(top, bottom, step):
        end = min(bottom, row + step)
        soft = np.flatnonzero((small_alpha[row:end] < 0.995).any(axis=0))
        soft = soft[(soft >= left) & (soft < right)]
        for first, last in runs(soft, 16):
            y0, y1 = round(row * sy), min(height, round(end * sy))
            x0, x1 = round(first * sx), min(width, round(last * sx))
            _correct(image, alpha, fore, back, out, (x0, y0, x1, y1))
    return out


def _fuse(image: F32, alpha: F32, radii: tuple[float, ...]) -> tuple[F32, F32]:
    a = alpha[..., None]
    fore, back = image, image
    for radius in radii:
        window = 2 * max(1, round(radius * max(alpha.shape))) + 1
        box = (window, window)
        inverse = 1.0 - alpha
        weight_f = cv2.blur(alpha, box) + 1e-5
        weight_b = cv2.blur(inverse, box) + 1e-5
        # Premultiplied together so that one pass serves each side.
        mean_f = cv2.blur(fore * a, box) / weight_f[..., None]
        mean_b = cv2.blur(back * (1 - a), box) / weight_b[..., None]
        # Where the window holds nothing of one side its mean is noise: keep the coarser answer.
        trust_f = np.minimum(weight_f * 50, 1)[..., None]
        trust_b = np.minimum(weight_b * 50, 1)[..., None]
        mean_f = mean_f * trust_f + fore * (1 - trust_f)
        mean_b = mean_b * trust_b + back * (1 - trust_b)
        residual = image - a * mean_f - (1 - a) * mean_b
        fore = np.clip(mean_f + a * residual, 0, 255)
        back = np.clip(mean_b + (1 - a) * residual, 0, 255)
    return np.asarray(fore, np.float32), np.asarray(back, np.float32)


def _soft_bounds(alpha: F32) -> tuple[int, int, int, int]:
    """Return the box (top, bottom, left, right) around the subject and a margin to fill."""
    some = cv2.dilate((alpha > 0.004).astype(np.uint8), np.ones((25, 25), np.uint8))
    rows = np.flatnonzero(some.any(axis=1))
    columns = np.flatnonzero(some.any(axis=0))
    if rows.size == 0:
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _correct(
    image: U8, alpha: F32, fore: F32, back: F32, out: U8, block: tuple[int, int, int, int]
) -> None:
    """Write F = F0 + alpha (I - alpha F0 - (1 - alpha) B0) where alpha is below 1."""
    x0, y0, x1, y1 = block
    region = alpha[y0:y1, x0:x1]
    ys, xs = np.nonzero(region < 0.995)
    if ys.size == 0:
        return
    whole = (image.shape[1], image.shape[0])
    f = enlarged_block(fore, whole, block)[ys, xs]
    b = enlarged_block(back, whole, block)[ys, xs]
    a = region[ys, xs][:, None]
    pixels = image[y0:y1, x0:x1][ys, xs].astype(np.float32)
    f += a * (pixels - a * f - (1 - a) * b)
    out[y0:y1, x0:x1][ys, xs] = np.clip(f + 0.5, 0, 255).astype(np.uint8)
