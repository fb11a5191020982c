"""Retouch that a sitter would not notice, and a stop before it could become plastic.

Only the middle band of skin (blotches and redness, between 1/30 and 1/6 of the face scale) and
glints are evened. Everything finer, pores, lines and freckles, passes untouched, and so does
everything strong: moles, scars, folds, asymmetry.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8, from_lab, to_lab
from headshot.imaging.colour import tripled
from headshot.imaging.enlarge import add_shift
from headshot.imaging.face import shape_of
from headshot.imaging.skin import read_skin, skin_mask, texture


class RetouchLevel(StrEnum):
    """How much is evened."""

    NONE = "none"
    LIGHT = "light"
    STANDARD = "standard"


@dataclass(frozen=True)
class RetouchPlan:
    """What retouch adds, for `repeat` on the same picture at other resolutions.

    Attributes:
        side: width of the picture it was planned on, pixels.
        window: (x0, y0, x1, y1) in that picture.
        shift: int16 [h0, w0, 3], -255..255, what is added in the window; smooth.
    """

    side: int
    window: tuple[int, int, int, int]
    shift: NDArray[np.int16]


@dataclass(frozen=True)
class RetouchReport:
    """What was done.

    Attributes:
        level: as asked for.
        strength: share of the blotch band that was taken out, 0..1.
        texture_kept: skin texture after over before; 1 is untouched.
        halvings: how often the over-smoothing stop halved the strength.
        plan: to repeat it at other resolutions; None where nothing was done.
    """

    level: RetouchLevel
    strength: float
    texture_kept: float
    halvings: int
    plan: RetouchPlan | None = None


# Strength on lightness, on colour, and the least texture that must be kept.
_LEVELS = {RetouchLevel.LIGHT: (0.22, 0.30, 0.94), RetouchLevel.STANDARD: (0.42, 0.50, 0.90)}
_MAX_HALVINGS = 3
_WORK_SCALE = 110.0


def apply(
    image: U8,
    landmarks: NDArray[np.floating],
    level: RetouchLevel | str = RetouchLevel.LIGHT,
    *,
    min_texture: float | None = None,
) -> tuple[U8, RetouchReport]:
    """Return the retouched picture and the report.

    Args:
        image: uint8 [h, w, 3].
        landmarks: [5, 2] in its pixels.
        level: "none", "light" or "standard".
        min_texture: texture kept at least, 0..1; the default is 0.94 (light) or 0.90 (standard).

    Raises:
        ValueError: an unknown level.
    """
    level = RetouchLevel(level)
    if level is RetouchLevel.NONE:
        return image, RetouchReport(level, 0.0, 1.0, 0)
    strength, colour, least = _LEVELS[level]
    least = least if min_texture is None else min_texture
    face = shape_of(landmarks)
    reach = 1.9 * face.scale
    x0, y0 = max(0, int(face.eyes[0] - reach)), max(0, int(face.eyes[1] - 1.2 * face.scale))
    x1, y1 = int(face.eyes[0] + reach) + 1, int(face.chin_y + 0.4 * face.scale) + 1
    part = np.ascontiguousarray(image[y0:y1, x0:x1])
    if min(part.shape[:2]) < 24:
        return image, RetouchReport(level, 0.0, 1.0, 0)
    points = np.asarray(landmarks, np.float64) - (x0, y0)
    before = texture(part, points)
    low, low_points, low_scale = _at_work_scale(part, points, face.scale)
    lab = to_lab(low)
    mask = skin_mask(lab, low_points)
    shift = _shift(lab, mask, low_scale, strength, colour)
    tone = _median_tone(low, low_points)
    out = image.copy()
    for halvings in range(_MAX_HALVINGS + 1):
        share = 0.5**halvings
        evened = np.asarray(lab + np.float32(share) * shift, np.float32)
        # Evening out may move the mean as little as one likes: a viewer, and the typology angle,
        # see the median.
        moved = _median_tone(from_lab(evened), low_points) - tone
        target = from_lab(np.asarray(evened - cv2.merge([mask * part for part in moved])))
        difference = target.astype(np.int16) - low
        difference[mask < 0.01] = 0
        new = add_shift(part, np.asarray(difference, np.int16))
        kept = texture(new, points) / max(before, 1e-6)
        if kept >= least:
            out[y0:y1, x0:x1] = new
            window = (x0, y0, x0 + part.shape[1], y0 + part.shape[0])
            plan = RetouchPlan(image.shape[1], window, np.asarray(difference, np.int16))
            return out, RetouchReport(level, strength * share, float(kept), halvings, plan)
    return image, RetouchReport(level, 0.0, 1.0, _MAX_HALVINGS + 1)


def repeat(image: U8, plan: RetouchPlan | None) -> U8:
    """Return the picture at another resolution with the retouch of the plan.

    Args:
        image: uint8 [h, w, 3], what the plan was made on, larger or smaller.
        plan: of a report; None returns the image itself.
    """
    if plan is None:
        return image
    ratio = image.shape[1] / plan.side
    x0, y0, x1, y1 = (round(edge * ratio) for edge in plan.window)
    out = image.copy()
    out[y0:y1, x0:x1] = add_shift(np.ascontiguousarray(image[y0:y1, x0:x1]), plan.shift)
    return out


def _at_work_scale(
    part: U8, points: NDArray[np.float64], scale: float
) -> tuple[U8, NDArray[np.float64], float]:
    """Return the face at 110 px of scale: all that retouch moves is coarser than its pixels."""
    ratio = min(1.0, _WORK_SCALE / scale)
    if ratio == 1.0:
        return part, points, scale
    size = (max(24, round(part.shape[1] * ratio)), max(24, round(part.shape[0] * ratio)))
    low = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    return low, (points + 0.5) * ratio - 0.5, scale * ratio


def _median_tone(image: U8, landmarks: NDArray[np.floating]) -> F32:
    """Return the skin's median CIELAB, float32 [3]; zeros where it lies outside the picture."""
    try:
        reading = read_skin(image, landmarks)
    except ValueError:
        return np.zeros(3, np.float32)
    return np.array([reading.lightness, reading.a, reading.b], np.float32)


def _shift(lab: F32, mask: F32, scale: float, strength: float, colour: float) -> F32:
    """Return what to add to the Lab picture, float32 [h, w, 3], at full strength."""
    fine = _masked_blur(lab, mask, max(0.8, scale / 30))
    broad = _masked_blur(lab, mask, max(1.6, scale / 6))
    blotch = fine - broad
    # Weak differences are blotches; strong ones are features of this face.
    weight = np.empty_like(blotch)
    weight[..., 0] = strength * np.exp(-((blotch[..., 0] / 4.5) ** 2))
    redness = np.hypot(blotch[..., 1], blotch[..., 2])
    weight[..., 1] = weight[..., 2] = colour * np.exp(-((redness / 7.0) ** 2))
    shift = -blotch * weight
    inside = mask > 0.5
    if int(inside.sum()) > 50:
        # Glints: the part of the shine above the skin's own bright end, half of it at most.
        bright = float(np.percentile(fine[..., 0][inside], 92))
        shine = np.clip(fine[..., 0] - bright, 0, 12)
        shift[..., 0] -= 0.8 * strength * shine
    return np.asarray(shift * tripled(mask), np.float32)


def _masked_blur(lab: F32, mask: F32, sigma: float) -> F32:
    """Return the Gaussian mean over skin only, so that hair and lips do not bleed in."""
    # Worked at a scale where sigma is about 3 px: the same result, a fraction of the time.
    ratio = min(1.0, 3.0 / sigma)
    height, width = mask.shape
    size = (max(8, round(width * ratio)), max(8, round(height * ratio)))
    weight = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) + np.float32(1e-4)
    weighted = np.asarray(lab * tripled(mask + np.float32(1e-4)), np.float32)
    small = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    total = cv2.GaussianBlur(small, (0, 0), sigma * ratio)
    norm = cv2.GaussianBlur(weight, (0, 0), sigma * ratio)
    mean = np.asarray(total / norm[..., None], np.float32)
    return np.asarray(cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
