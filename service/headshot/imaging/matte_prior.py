"""A weak matte made whole by what a head and shoulders look like.

A network that is unsure of flags, doors or a white shirt on a white wall answers with grey. Where a
matte is grey over more than an edge's width, it is combined with the shape that the face leads one
to expect and cut again by colour. Narrow edges, and with them hair, stay the network's; a crisp
matte passes untouched.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.face import shape_of

Matte = TypeVar("Matte", U8, F32)

_SIDE = 256
_CRISP = 0.007
"""Mean width of the grey edge, over the side, up to which a matte is taken as it is."""
_FOG = 0.03
"""Width, over the side, from which an undecided place is no edge."""
_SHAPE_WEIGHT = 0.8
_ITERATIONS = 2
_UNLIKELY = (0.42, 0.25)
"""Belief below which colour may not bring a place back: beside head and neck, and further down,
where networks doubt shoulders more often than they see too much."""
_DOUBT = 1.4
"""Log odds taken off what a matte says: a person is answered with white, not with grey."""


def greyness(alpha: U8 | F32) -> float:
    """Return the mean width of the undecided edge over the picture's side.

    The number of pixels between 0.1 and 0.9 over the length of the outline: 0.005 to 0.015 for
    hair cut out well, several times that where whole regions are undecided.
    """
    grey = alpha if alpha.dtype == np.uint8 else np.rint(alpha * 255).astype(np.uint8)
    unsure = int(((grey > 26) & (grey < 229)).sum())
    solid = (grey > 127).astype(np.uint8)
    edge = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return float(unsure / max(1.0, float(edge.sum()) / 2) / max(grey.shape))


def reinforce(
    alpha: Matte, image: U8, landmarks: NDArray[np.floating], *, side: int = _SIDE
) -> Matte:
    """Return the matte, its undecided regions decided.

    Args:
        alpha: [h0, w0] of the network, uint8 0..255 or float32 0..1.
        image: uint8 [h, w, 3], the picture it belongs to, of the same aspect.
        landmarks: [5, 2] in pixels of `image`.
        side: at which undecided regions are cut by colour; the time goes with its square.

    Returns:
        [h0, w0], dtype of `alpha`; the very array where it is crisp already.
    """
    if greyness(alpha) <= _CRISP:
        return alpha
    height, width = alpha.shape
    ratio = side / max(height, width)
    size = (max(16, round(width * ratio)), max(16, round(height * ratio)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    values = alpha.astype(np.float32)
    if alpha.dtype == np.uint8:
        values /= np.float32(255)
    rough = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)
    fog = _fog(rough)
    if not fog.any():
        return alpha
    points = np.asarray(landmarks, np.float64) * (size[0] / image.shape[1])
    shape = expected_shape(points, size)
    belief = _combined(rough, shape, _DOUBT)
    below = shape_of(points).chin_y + 0.3 * shape_of(points).scale
    limits = np.where(np.arange(size[1]) < below, *_UNLIKELY)[:, None]
    decided = _cut(small, belief, np.asarray(limits, np.float32))
    # Where colour cannot tell, the likelier side: a shoulder in a fog is nobody's shoulder.
    if decided is None:
        decided = np.asarray(_combined(rough, shape, 0.0) > 0.5, np.float32)
    soft = cv2.GaussianBlur(decided, (0, 0), 1.2)
    foggy = cv2.resize(fog, (width, height), interpolation=cv2.INTER_LINEAR)
    grown = np.clip(cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    # Where the edge is narrow it is the network's own: it knows hair better than any prior.
    own = alpha.astype(np.float32) / np.float32(255 if alpha.dtype == np.uint8 else 1)
    grown = own + foggy * (grown - own)
    scaled = np.rint(grown * 255) if alpha.dtype == np.uint8 else grown
    return np.asarray(scaled, alpha.dtype)


def expected_shape(landmarks: NDArray[np.floating], size: tuple[int, int]) -> F32:
    """Return the chance, 0..1, that a pixel is subject, given the face alone; [h, w].

    An upright adult in face units (`FaceShape.scale`) from the eyes: a head 1.25 wide to each side
    with hair up to 2, a neck, shoulders that slope from 0.95 to 2.9 to each side.
    """
    face = shape_of(landmarks)
    s = face.scale
    x = np.abs((np.arange(size[0]) - face.eyes[0])[None, :]) / s
    y = ((np.arange(size[1]) - face.eyes[1])[:, None]) / s
    # Half width of the outline by height; hair and clothes make its spread.
    heights = [-2.2, -2.0, -1.5, -0.8, 0.0, 0.8, 1.5, 2.0, 2.4, 3.0, 4.0, 6.0]
    halves = [0.0, 0.4, 0.95, 1.2, 1.25, 1.15, 0.95, 0.95, 1.5, 2.3, 2.9, 3.2]
    spreads = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9]
    half = np.interp(y, heights, halves)
    spread = np.interp(y, heights, spreads)
    above = np.clip((y + 2.5) / 0.4, 0, 1)
    return np.asarray(above / (1 + np.exp((x - half) / (0.32 * spread))), np.float32)


def _fog(alpha: F32) -> F32:
    """Return 0..1: 1 in and beside places that are undecided over more than an edge's width."""
    grey = np.asarray((alpha > 0.08) & (alpha < 0.92), np.float32)
    window = 2 * round(0.5 * _FOG * max(alpha.shape)) + 1
    wide = np.asarray(cv2.blur(grey, (window, window)) > 0.6, np.uint8)
    around = 2 * window + 1
    near = cv2.dilate(wide, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (around, around)))
    return np.asarray(cv2.blur(near.astype(np.float32), (window, window)), np.float32)


def _combined(alpha: F32, shape: F32, doubt: float) -> F32:
    """Return both as one chance: a weighted sum of log odds, less a doubt."""

    def log_odds(p: F32) -> NDArray[np.float32]:
        held = np.clip(p, 0.02, 0.98)
        return np.asarray(np.log(held / (1 - held)), np.float32)

    total = log_odds(alpha) - np.float32(doubt) + np.float32(_SHAPE_WEIGHT) * log_odds(shape)
    return np.asarray(1 / (1 + np.exp(-total)), np.float32)


def _cut(image: U8, belief: F32, unlikely: F32) -> F32 | None:
    """Return 0/1 float32 by GrabCut (Rother et al. 2004), or None where colour cannot tell."""
    plain = np.asarray(belief > 0.5, np.float32)
    labels = np.asarray(np.where(belief > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD), np.uint8)
    labels[belief < 0.06] = cv2.GC_BGD
    labels[belief > 0.97] = cv2.GC_FGD
    if not ((labels == cv2.GC_BGD).any() and (labels == cv2.GC_FGD).any()):
        return None
    cv2.setRNGSeed(7)  # the colour models start from k-means
    cv2.grabCut(
        image,
        labels,
        (0, 0, 1, 1),  # unused: the labels start it
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        _ITERATIONS,
        cv2.GC_INIT_WITH_MASK,
    )
    found = np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), np.float32)
    found[belief < unlikely] = 0
    # Colour decides between likely things; it may not overrule what is believed.
    belief_area = max(1.0, float(plain.sum()))
    gained = float((found * (belief < 0.3)).sum()) / belief_area
    lost = float(((1 - found) * (belief > 0.6)).sum()) / belief_area
    return found if gained < 0.06 and lost < 0.08 else None
