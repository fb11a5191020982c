"""Crops of every aspect from one square portrait.

A wide crop widens the background at the sides, but only above the row where the shoulders leave
the photo: below it there is nothing to show. A narrow crop that would cut the head at its sides
gets background above, which makes it wider. It cuts the head only where that is not enough (the
notes tell), and puts no background above hair that the photo itself cuts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32
from headshot.imaging.colour import unit
from headshot.imaging.face import HEAD_HALF_WIDTH
from headshot.imaging.framing_model import Crop, FrameNote, PortraitFrame

_TOUCH = 0.2
"""Alpha at an edge from which the subject is said to be cut by it."""
_LEAST_SIDE = 600 / 640
"""Least longer side of a crop over the canvas: 2400 px of print from the upscaled canvas."""

LEAST_LONGER_SIDE = 0.5
"""No crop's longer side is less of the canvas, however tight the photo."""

_MARGIN = 0.025
"""Least room beside and above the head over the height."""

_NEARLY_SQUARE = 0.01
"""Aspects this near to 1 are the square, as 1200 x 1199 pixels are."""
_LINE_MOVED = 0.06
"""Of the height: an eye line this far from the one wanted is told."""
_UNSEEN = 0.003
"""Of the height: less of a breach or a cut is not seen."""
_STEP = 0.006
"""Of the height: half a step of the grid over the eye line."""
_HEAD_LARGER = 1.15
"""A head this many times as large as asked for, and as in the square, is told."""


def parse_aspect(aspect: str) -> float:
    """Return width over height of "W:H"; ValueError where it is malformed or beyond 3:1."""
    try:
        width, height = (float(part) for part in aspect.split(":"))
        ratio = width / height
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"aspect {aspect!r} is not of the form W:H, such as 4:3") from None
    if not 1 / 3 <= ratio <= 3:
        raise ValueError(f"aspect {aspect!r} is outside 1:3..3:1")
    return ratio


def limit_to_photo(alpha: F32, frame: PortraitFrame) -> F32:
    """Return the matte with zeros where the photo has no pixels, feathered over two pixels.

    Args:
        alpha: float32 [s, s] matte of the canvas at any resolution.
        frame: the plan of that canvas.
    """
    if frame.visible >= 1.0:
        return alpha
    side = alpha.shape[0]
    mask = cv2.erode(frame.coverage(), np.ones((3, 3), np.uint8), borderValue=255)
    large = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    soft = unit(np.asarray(large, np.uint8))
    soft *= alpha
    return soft


def plan_crop(frame: PortraitFrame, alpha: F32, aspect: str | float) -> Crop:
    """Plan one aspect from the square portrait.

    Args:
        frame: the plan of the canvas.
        alpha: float32 [s, s] matte of the canvas, 0..1, at any resolution.
        aspect: "W:H", or width over height.

    Returns:
        The rectangle, in pixels of `frame.canvas`.
    """
    ratio = parse_aspect(aspect) if isinstance(aspect, str) else float(aspect)
    canvas = frame.canvas
    small = cv2.resize(alpha, (canvas, canvas), interpolation=cv2.INTER_AREA)
    limits = _limits(limit_to_photo(np.asarray(small, np.float32), frame), frame)
    return _search(frame, limits, ratio)


@dataclass(frozen=True)
class _Limits:
    left: NDArray[np.float64]  # [canvas + 1]: least x0 of a crop whose bottom is at that row
    right: NDArray[np.float64]  # greatest x1
    top: float  # least y0
    bottom: float  # greatest y1
    crown: float
    head_left: float
    head_right: float


def _limits(alpha: F32, frame: PortraitFrame) -> _Limits:
    canvas = frame.canvas
    face = frame.face
    covered = frame.coverage() > 0
    rows = np.arange(canvas)
    first = np.where(covered.any(axis=1), covered.argmax(axis=1), canvas)
    last = np.where(covered.any(axis=1), canvas - 1 - covered[:, ::-1].argmax(axis=1), -1)

    def at(columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        near = np.zeros(canvas, bool)
        for step in range(-1, 6):
            near |= alpha[rows, np.clip(columns + step, 0, canvas - 1)] > _TOUCH
        return near

    left = np.where(at(first) & (first < canvas), first.astype(np.float64), -np.inf)
    right = np.where(at(last - 4) & (last >= 0), last + 1.0, np.inf)
    columns = np.arange(canvas)
    top_row = np.where(covered.any(axis=0), covered.argmax(axis=0), canvas - 1)
    low_row = np.where(covered.any(axis=0), canvas - 1 - covered[::-1].argmax(axis=0), 0)
    near_head = np.abs(columns - face.eyes[0]) < 1.9 * face.scale
    cut_top = near_head & (
        np.maximum.reduce([alpha[np.clip(top_row + k, 0, canvas - 1), columns] for k in range(5)])
        > _TOUCH
    )
    cut_low = (
        np.maximum.reduce([alpha[np.clip(low_row - k, 0, canvas - 1), columns] for k in range(5)])
        > _TOUCH
    )
    head = (alpha > 0.5) & near_head[None, :] & (rows[:, None] < face.chin_y)
    filled = np.flatnonzero(head.any(axis=1))
    sides = np.flatnonzero(head[: int(max(1, face.mouth[1]))].any(axis=0))
    half = HEAD_HALF_WIDTH * face.scale
    return _Limits(
        left=np.r_[-np.inf, np.maximum.accumulate(left)],
        right=np.r_[np.inf, np.minimum.accumulate(right)],
        # A few pixels of cut hair are a strand, not a flat head.
        top=float(top_row[cut_top].max()) if cut_top.sum() > 0.12 * face.scale else -np.inf,
        bottom=_lowest(low_row[cut_low], canvas),
        crown=float(filled[0]) if filled.size else face.crown_y,
        head_left=float(sides[0]) if sides.size else face.eyes[0] - half,
        head_right=float(sides[-1] + 1) if sides.size else face.eyes[0] + half,
    )


def _lowest(rows: NDArray[np.int64], canvas: int) -> float:
    """Return the lower edge of what may be shown of a person who is cut at these rows."""
    if rows.size == 0:
        return float(canvas)
    last = int(rows.min())
    # Within the canvas `limit_to_photo` takes the photo's last row and the one before.
    return float(last + 1 if last == canvas - 1 else last - 1)


def _search(frame: PortraitFrame, limits: _Limits, ratio: float) -> Crop:
    """Return the cheapest rectangle of a grid over size, place and breach of the limits."""
    canvas, face, spec = float(frame.canvas), frame.face, frame.spec
    # The longer side carries the resolution; a crop never asks for more than 1.6 canvases of it.
    longest = canvas * (1.0 if ratio <= 1 else min(1.6, max(1.0, ratio)))
    head = (limits.head_right - limits.head_left) / (ratio - 2 * _MARGIN)
    raised = ratio <= 1 and head > longest and not np.isfinite(limits.top)
    if raised:
        # A narrow crop as high as the canvas would cut the head at both sides: background above
        # makes it wider. A tenth more for a head that is not in the middle.
        longest = min(1.6 * canvas, max(longest, 1.1 * head))
    shortest = LEAST_LONGER_SIDE * canvas * max(1.0, ratio)
    heights = np.unique(np.r_[np.linspace(shortest, longest, 33), canvas * max(1.0, ratio)])
    heights = heights / max(1.0, ratio)
    if abs(ratio - 1) < _NEARLY_SQUARE and _whole_canvas_is_sound(frame, limits):
        return _canvas(frame, limits, ratio)
    steps = np.linspace(-0.12, 0.12, 13)
    wanted_line = spec.eye_line + 0.02 * max(0.0, ratio - 1)
    # Below the middle only where tall hair leaves nothing else: cut hair looks worse.
    lines = np.unique(np.r_[wanted_line, face.eyes[1] / canvas, np.linspace(0.26, 0.56, 31)])
    height, line, shift = (g.ravel() for g in np.meshgrid(heights, lines, steps, indexing="ij"))
    width = height * ratio
    y0 = face.eyes[1] - line * height
    if raised or limits.bottom < canvas:
        # The grid's steps seldom end at the photo's lower edge: what is a hair below moves up.
        over = y0 + height - limits.bottom
        y0 = np.where((over > 0) & (over <= _STEP * height), y0 - over, y0)
    y1 = y0 + height
    middle = (face.eyes[0] + face.mouth[0]) / 2
    x0 = middle - (0.5 + shift) * width
    x1 = x0 + width
    row = np.clip(np.ceil(y1), 0, frame.canvas).astype(np.int64)
    breach = {
        FrameNote.PHOTO_TOO_TIGHT_LEFT: np.maximum(limits.left[row] - x0, 0) / height,
        FrameNote.PHOTO_TOO_TIGHT_RIGHT: np.maximum(x1 - limits.right[row], 0) / height,
        FrameNote.PHOTO_TOO_TIGHT_TOP: np.maximum(limits.top - y0, 0) / height,
        FrameNote.PHOTO_TOO_TIGHT_BOTTOM: np.maximum(y1 - limits.bottom, 0) / height,
    }
    margin = _MARGIN * height
    room_above = limits.crown - y0 if not np.isfinite(limits.top) else np.full_like(y0, np.inf)
    # Below the chin only what the photo shows: a strip of ground under a bust lets it float.
    low_enough = np.minimum(face.chin_y + 2 * margin, max(limits.bottom, face.chin_y))
    cut = (
        np.maximum(margin - room_above, 0)
        + np.maximum(low_enough - y1, 0)
        + np.maximum(x0 + margin - limits.head_left, 0)
        + np.maximum(limits.head_right + margin - x1, 0)
    ) / height
    least = _LEAST_SIDE * canvas
    wanted = canvas if ratio <= 1 else min(canvas, _wanted_height(frame, ratio))
    cost = (
        (np.log(height / wanted) / 0.2) ** 2
        + ((line - wanted_line) / 0.05) ** 2
        + (np.maximum(line - 0.5, 0) / 0.003) ** 2
        + (shift / 0.05) ** 2
        + sum(200.0 * (v > _UNSEEN) + 12000.0 * v for v in breach.values())
        + 300.0 * (cut > _UNSEEN)
        + 6000.0 * cut
        + 60.0 * (np.maximum(width, height) < least - 0.5)
    )
    best = int(np.argmin(cost))
    notes = [note for note, v in breach.items() if v[best] > _UNSEEN]
    if max(width[best], height[best]) < least - 0.5:
        notes.append(FrameNote.CROP_SMALLER)
    if abs(line[best] - wanted_line) > _LINE_MOVED:
        notes.append(FrameNote.EYE_LINE_MOVED)
    outside = x0[best] < -0.5 or y0[best] < -0.5 or x1[best] > canvas + 0.5
    if outside:
        notes.append(FrameNote.BACKGROUND_EXTENDED)
    asked = max(face.head_height / wanted, face.head_height / canvas)
    if cut[best] > _UNSEEN or face.head_height / height[best] > _HEAD_LARGER * asked:
        notes.append(FrameNote.HEAD_LARGER_THAN_ASKED)
    if frame.cuts_hat(float(y0[best])):
        notes.append(FrameNote.HEADWEAR_CUT)
    crop = Crop(float(x0[best]), float(y0[best]), float(x1[best]), float(y1[best]), ratio)
    if _cuts_head(frame, limits, crop):
        notes.append(FrameNote.HEAD_CUT)
    return replace(crop, notes=tuple(notes))


def _cuts_head(frame: PortraitFrame, limits: _Limits, crop: Crop) -> bool:
    """Tell whether a crop leaves out a part of the head that the photo shows; a hat is none."""
    slack = _UNSEEN * crop.height
    above = limits.crown < crop.y0 - slack and not frame.cuts_hat(crop.y0)
    beside = limits.head_left < crop.x0 - slack or limits.head_right > crop.x1 + slack
    return above or beside or frame.face.chin_y > crop.y1 + slack


def _canvas(frame: PortraitFrame, limits: _Limits, ratio: float) -> Crop:
    """Return the canvas itself, trimmed to an aspect next to 1: the same picture to a hair."""
    canvas, face = float(frame.canvas), frame.face
    width, height = canvas * min(1.0, ratio), canvas / max(1.0, ratio)
    line = face.eyes[1] / canvas
    x0, y0 = (canvas - width) / 2, face.eyes[1] - line * height
    crop = Crop(x0, y0, x0 + width, y0 + height, ratio)
    told = (
        (abs(line - frame.spec.eye_line) > _LINE_MOVED, FrameNote.EYE_LINE_MOVED),
        (frame.cuts_hat(y0), FrameNote.HEADWEAR_CUT),
        (_cuts_head(frame, limits, crop), FrameNote.HEAD_CUT),
    )
    return replace(crop, notes=tuple(note for found, note in told if found))


def _whole_canvas_is_sound(frame: PortraitFrame, limits: _Limits) -> bool:
    """Tell whether the plan itself is the square crop: what a team shares to the pixel."""
    side = frame.canvas
    return bool(
        limits.left[side] <= 1.0
        and limits.right[side] >= side - 1.0
        and limits.bottom >= side - 1.0
        and limits.top <= 1.0
    )


def _wanted_height(frame: PortraitFrame, ratio: float) -> float:
    """Return the height of a wide crop that shows head and shoulders: the head at 1.3 of 1:1's."""
    head = frame.spec.head_height * (1 + 0.35 * min(1.0, ratio - 1))
    return frame.face.head_height / min(0.75, head)
