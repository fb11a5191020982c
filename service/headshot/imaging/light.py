"""The subject's light matched to the new background.

Two effects a camera would have recorded: light of the background that wraps around the subject's
edge, and none of the old room's. Both stay near the outline; skin in the middle of the face does
not move, so that the person's complexion is untouched.
"""

from __future__ import annotations

import cv2
import numpy as np

from headshot.imaging.colorimetry import F32, U8, linear_to_srgb, srgb_to_linear
from headshot.imaging.enlarge import enlarged_block, runs

_WORK = 256


def match(
    foreground: U8,
    alpha: F32,
    background: U8,
    *,
    strength: float = 0.22,
    width: float = 0.012,
) -> U8:
    """Return the foreground with the background's light wrapped around its edge.

    In linear light F' = F + w (B - F) with B the blurred background and w the share of background
    within `width` of a pixel, times `strength`; worked out at 256 px and added as a smooth
    difference, so that no texture is lost.

    Args:
        foreground: uint8 [h, w, 3] clean foreground colours.
        alpha: float32 [h, w].
        background: uint8 [h, w, 3].
        strength: share of the background's light at the very edge, 0..1.
        width: reach inwards, over the picture's longer side.

    Returns:
        uint8 [h, w, 3].
    """
    if strength <= 0:
        return foreground
    height, full_width = alpha.shape
    ratio = min(1.0, _WORK / max(height, full_width))
    size = (max(8, round(full_width * ratio)), max(8, round(height * ratio)))
    area = cv2.INTER_AREA
    inner = np.asarray(cv2.resize(alpha, size, interpolation=area), np.float32)
    fore = srgb_to_linear(np.asarray(cv2.resize(foreground, size, interpolation=area), np.uint8))
    back = srgb_to_linear(np.asarray(cv2.resize(background, size, interpolation=area), np.uint8))
    reach = max(0.8, width * max(size))
    near = cv2.GaussianBlur(1.0 - inner, (0, 0), reach)
    glow = cv2.GaussianBlur(back, (0, 0), 4 * reach)
    weight = (strength * np.clip(near * 2, 0, 1) ** 1.5)[..., None]
    lit = fore + weight * (glow - fore)
    shift = linear_to_srgb(np.asarray(lit, np.float32)).astype(np.int16) - linear_to_srgb(fore)
    shift[weight[..., 0] < 0.004] = 0
    return _add(foreground, shift)


def _add(image: U8, shift: np.ndarray) -> U8:
    """Return image + the enlarged int16 shift [h0, w0, 3], only where it is not zero."""
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
