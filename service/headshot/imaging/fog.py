"""Fog in a matte: grey over more than an edge's width, where the network is not sure.

Half a shoulder is nobody's shoulder, so fog is decided, for what it is more likely to be. Narrow
edges, and with them hair, stay the network's. What shape and colours a person is likely to have is
not asked: see docs/decisions/compositing.md.
"""

from __future__ import annotations

import cv2
import numpy as np

from headshot.imaging.colorimetry import F32, U8

_SIDE = 256
"""At which fog is looked for."""
_GREY = (0.08, 0.92)
_WIDTH = 0.03
"""Width, over the side, from which an undecided place is no edge."""
_LIKELY = 0.5
_SOFT = 1.2
"""Standard deviation of a decided edge, in pixels at which fog is looked for."""


def decide(alpha: U8 | F32) -> U8 | F32:
    """Return the matte, its fog decided.

    Args:
        alpha: [h, w], uint8 0..255 or float32 0..1.

    Returns:
        [h, w], dtype of `alpha`; the very array where there is no fog.
    """
    height, width = alpha.shape
    full = np.float32(255 if alpha.dtype == np.uint8 else 1)
    own = alpha.astype(np.float32) / full
    ratio = _SIDE / max(height, width)
    size = (max(16, round(width * ratio)), max(16, round(height * ratio)))
    small = np.asarray(cv2.resize(own, size, interpolation=cv2.INTER_AREA), np.float32)
    fog = _fog(small)
    if not fog.any():
        return alpha
    likely = cv2.GaussianBlur((small > _LIKELY).astype(np.float32), (0, 0), _SOFT)
    share = cv2.resize(fog, (width, height), interpolation=cv2.INTER_LINEAR)
    sure = np.clip(cv2.resize(likely, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    decided = (own + share * (sure - own)) * full
    if alpha.dtype == np.uint8:
        return np.asarray(np.rint(decided), np.uint8)
    return np.asarray(decided, np.float32)


def _fog(alpha: F32) -> F32:
    """Return 0..1: 1 in and beside places that are undecided over more than an edge's width."""
    low, high = _GREY
    grey = np.asarray((alpha > low) & (alpha < high), np.float32)
    window = 2 * round(0.5 * _WIDTH * max(alpha.shape)) + 1
    wide = np.asarray(cv2.blur(grey, (window, window)) > 0.6, np.uint8)
    around = 2 * window + 1
    near = cv2.dilate(wide, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (around, around)))
    return np.asarray(cv2.blur(near.astype(np.float32), (window, window)), np.float32)
