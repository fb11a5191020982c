"""Fog in a matte: grey over more than an edge's width, where the network is not sure.

Half a shoulder is nobody's shoulder, so fog is decided, for what it is more likely to be. Narrow
edges, and with them hair, stay the network's. What shape and colours a person is likely to have is
not asked: see docs/decisions/compositing.md.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.enclosed import components_of

_SIDE = 256
"""At which fog is looked for."""
_GREY = (0.08, 0.92)
_WIDTH = 0.03
"""Width, over the side, from which an undecided place is no edge."""
_LIKELY = 0.5
_UNLIKELY, _BANK = 0.4, 150
"""A bank of fog whose mean is below the first is background, if it has more pixels than the second
at which fog is looked for."""
_HOLE, _ENCLOSED, _ALL = 0.004, 0.015, 0.01
"""Shares of the picture below which an unlikely place is no gap: beside the picture's border, and
where likely ones enclose it; how nearly all of it must be fog."""
_SOFT = 1.2
"""Standard deviation of a decided edge, in pixels at which fog is looked for."""


def clear(alpha: U8 | F32, opinion: U8 | None = None) -> U8 | F32:
    """Return the matte without banks of fog that are unlikely as a whole.

    Of a flag beside a cheek one stripe may seem likely; the flag does not.

    Args:
        alpha: [h, w], uint8 0..255 or float32 0..1.
        opinion: uint8 [h0, w0] of the same aspect, what the network says of the same picture seen
            another way; then the mean of both counts.

    Returns:
        [h, w], dtype of `alpha`; the very array where there is no such bank.
    """
    small = _small(alpha)
    grey, wide = _undecided(small)
    if not wide.any():
        return alpha
    around = np.ones((_window(small), _window(small)), np.uint8)
    banks = np.asarray((cv2.dilate(wide, around) > 0) & grey, np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(banks, connectivity=8)
    sums = np.bincount(labels.ravel(), _heard(small, opinion).ravel(), count)
    sizes = stats[:, cv2.CC_STAT_AREA]
    unlikely = (sizes >= _BANK) & (sums < _UNLIKELY * sizes)
    unlikely[0] = False
    if not unlikely.any():
        return alpha
    gone = np.asarray(unlikely[labels], np.float32)
    gone = np.maximum(gone, cv2.GaussianBlur(gone, (0, 0), _SOFT))
    share = cv2.resize(gone, (alpha.shape[1], alpha.shape[0]), interpolation=cv2.INTER_LINEAR)
    return _like(alpha, alpha.astype(np.float32) * (1 - share))


def decide(alpha: U8 | F32) -> U8 | F32:
    """Return the matte, its fog decided.

    Args:
        alpha: [h, w], uint8 0..255 or float32 0..1.

    Returns:
        [h, w], dtype of `alpha`; the very array where there is no fog.
    """
    small = _small(alpha)
    fog = _fog(small)
    if not fog.any():
        return alpha
    height, width = alpha.shape
    full = np.float32(255 if alpha.dtype == np.uint8 else 1)
    more = np.asarray(small > _LIKELY, np.uint8)
    likely = cv2.GaussianBlur(_filled(more, small, fog).astype(np.float32), (0, 0), _SOFT)
    share = cv2.resize(fog, (width, height), interpolation=cv2.INTER_LINEAR)
    sure = np.clip(cv2.resize(likely, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    own = alpha.astype(np.float32)
    return _like(alpha, own + share * (sure * full - own))


def _filled(more: U8, alpha: F32, fog: F32) -> U8:
    """Return the likely places and the small unlikely ones that lie within fog among them.

    A blotch of a sleeve that seems unlikely while the sleeve does not is no gap.
    """
    rest = components_of(np.asarray(1 - more, np.uint8))
    most = np.where(rest.enclosed, _ENCLOSED, _HOLE) * more.size
    gap = (alpha < _GREY[0]) | (fog < 1 - _ALL)
    sure = np.bincount(rest.labels[gap], minlength=len(most))
    whole = (rest.stats[:, cv2.CC_STAT_AREA] < most) & (sure == 0)
    whole[0] = False
    return np.asarray(more | whole[rest.labels], np.uint8)


def _heard(alpha: F32, opinion: U8 | None) -> F32:
    """Return the mean of both."""
    if opinion is None:
        return alpha
    size = (alpha.shape[1], alpha.shape[0])
    other = cv2.resize(opinion.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(0.5 * alpha + other * np.float32(0.5 / 255), np.float32)


def _like(alpha: U8 | F32, values: F32) -> U8 | F32:
    if alpha.dtype == np.uint8:
        return np.asarray(np.rint(values), np.uint8)
    return np.asarray(values, np.float32)


def _small(alpha: U8 | F32) -> F32:
    """Return the matte at the size at which fog is looked for, float32 0..1."""
    height, width = alpha.shape
    ratio = _SIDE / max(height, width)
    size = (max(16, round(width * ratio)), max(16, round(height * ratio)))
    full = np.float32(255 if alpha.dtype == np.uint8 else 1)
    small = cv2.resize(alpha.astype(np.float32), size, interpolation=cv2.INTER_AREA) / full
    return np.asarray(small, np.float32)


def _window(alpha: F32) -> int:
    return 2 * int(np.rint(0.5 * _WIDTH * max(alpha.shape))) + 1


def _undecided(alpha: F32) -> tuple[NDArray[np.bool_], U8]:
    """Return where alpha is grey, and 0/1 where most of an edge's width around is."""
    low, high = _GREY
    grey = np.asarray((alpha > low) & (alpha < high), bool)
    window = _window(alpha)
    return grey, np.asarray(cv2.blur(grey.astype(np.float32), (window, window)) > 0.6, np.uint8)


def _fog(alpha: F32) -> F32:
    """Return 0..1: 1 in and beside places that are undecided over more than an edge's width."""
    window = _window(alpha)
    around = 2 * window + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (around, around))
    near = cv2.dilate(_undecided(alpha)[1], disc)
    return np.asarray(cv2.blur(near.astype(np.float32), (window, window)), np.float32)
