"""Where the camera would have stood: the square portrait that a photo can give.

The wanted composition is head and shoulders with level eyes in the upper third. A photo that holds
too little of the body, or cuts the hair, cannot give it everywhere: the plan then trades head size,
eye line, centring and levelling against each other by one cost, and never shows an edge of the
photo that crosses the subject (a floating shoulder, a flat-topped head). What it gave up is told in
notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32
from headshot.imaging.face import EYE_TO_CROWN, HEAD_HALF_WIDTH, FaceShape, shape_of
from headshot.imaging.framing_model import (
    EdgeTouch,
    FrameNote,
    FramingSpec,
    PortraitFrame,
    photo_quad,
)

_CROWN_ALLOWANCE = 0.35
"""Face units of hair above the average crown that an unmatted plan leaves room for."""
_HIGHEST_HAIR = 3.0
_HAIR_LOST = 0.25
"""What hair that a photo shows costs when it is cut, over what a cut that the photo shows costs."""
_MOST_HAIR = 0.15
"""Of the side: a photo that can give no more than some of so much hair gives shoulders instead."""
_TOLD = 0.02
"""Of the side: from here on lost hair is told."""


def plan_portrait(
    landmarks: NDArray[Any],
    box: NDArray[Any] | None,
    image_size: tuple[int, int],
    spec: FramingSpec | None = None,
    *,
    canvas: int = 640,
    touch: EdgeTouch | None = None,
) -> PortraitFrame:
    """Plan the square portrait of one face.

    Args:
        landmarks: [5, 2] in photo pixels.
        box: [4] x1, y1, x2, y2 of the face, or None; sides are taken from the landmarks, the box
            only keeps a turned head (whose ear side the landmarks miss) centred.
        image_size: (width, height) of the photo.
        spec: the composition; the default is a classic head and shoulders.
        canvas: side of the square, pixels.
        touch: where the subject really meets the photo's edges (`edges_touched` of a matte); None
            assumes shoulders on every edge below the chin, and cut hair where the crown that the
            face leads one to expect is not in the photo.

    Raises:
        ValueError: landmarks are not [5, 2] finite points, or the eyes coincide.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError("landmarks must be five finite points, [5, 2]")
    face = shape_of(points)
    if face.inter_eye < 1:
        raise ValueError("the eyes coincide")
    spec = spec or FramingSpec()
    edges = touch or _expected_touch(face)
    plan = _search(face, _centre_offset(face, box), image_size, edges, spec)
    matrix = _matrix(face, plan, canvas)
    mapped = (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    quad = photo_quad(image_size, matrix)
    frame_mask = np.zeros((canvas, canvas), np.uint8)
    cv2.fillConvexPoly(frame_mask, np.rint(quad).astype(np.int32), 1)
    hat_top = None
    if edges.hat is not None:
        hat_top = float(matrix[1] @ (face.eyes[0], edges.hat, 1.0))
    return PortraitFrame(
        matrix=matrix.astype(np.float32),
        canvas=canvas,
        visible=float(frame_mask.mean()),
        notes=_notes(face, plan, spec, image_size, edges, float(frame_mask.mean()), hat_top),
        landmarks=mapped,
        photo_size=image_size,
        spec=spec,
        touch=touch,
        hat_top=hat_top,
    )


def edges_touched(alpha: F32, landmarks: NDArray[Any]) -> EdgeTouch:
    """Return where the subject of a photo's matte meets the photo's edges.

    Args:
        alpha: float32 [h, w] matte of the whole photo, 0..1, at any scale.
        landmarks: [5, 2] in the pixels of `alpha`.
    """
    face = shape_of(landmarks)
    height, width = alpha.shape
    band = max(1, round(0.004 * max(height, width)))
    near = slice(
        max(0, int(face.eyes[0] - 2.2 * face.scale)), int(face.eyes[0] + 2.2 * face.scale) + 1
    )
    solid = alpha[:, near] > 0.5
    rows = np.flatnonzero(solid.any(axis=1))
    # A door frame or a flag may pass for hair, but no hair stands three face units above the eyes.
    highest = face.eyes[1] - _HIGHEST_HAIR * face.scale
    crown = max(float(rows[0]) if rows.size else face.crown_y, highest)
    met = int((alpha[:band, near] > 0.4).any(axis=0).sum())
    top = bool(highest <= 0 and met > 0.12 * face.scale)
    hat = float(rows[0]) if _hat(solid, face, near.start, highest) and rows[0] >= band else None
    sides: list[float | None] = []
    for edge in (alpha[:, :band], alpha[:, -band:]):
        hits = np.flatnonzero((edge > 0.4).any(axis=1))
        sides.append(float(hits[0]) if hits.size > 0.01 * height else None)
    return EdgeTouch(top=top, left=sides[0], right=sides[1], crown=crown, hat=hat)


def _hat(solid: NDArray[np.bool_], face: FaceShape, left: int, row: float) -> bool:
    """Tell whether what is solid at that row, columns from `left` on, is as wide as a hat."""
    if not 0 <= row < solid.shape[0]:
        return False
    middle, reach = face.eyes[0] - left, 1.2 * face.scale
    over = solid[int(row), max(0, int(middle - reach)) : int(middle + reach) + 1]
    return bool(over.sum() > 0.8 * face.scale)


def settle(frame: PortraitFrame, alpha: F32) -> PortraitFrame:
    """Plan again with what the matte of the first plan's canvas shows of the edges.

    Args:
        frame: a plan made without `touch`.
        alpha: float32 [s, s] matte of that canvas.

    Returns:
        The better frame: room for tall hair, background beside a subject that meets no edge, and
        no flat-topped head. The same frame where nothing changes.
    """
    ratio = frame.canvas / alpha.shape[0]
    # Seen in the photo's own pixels, so that rotation cannot confuse its edges with the canvas's.
    scale = float(np.hypot(frame.matrix[0, 0], frame.matrix[1, 0]))
    width = max(2, round(frame.photo_size[0] * scale / ratio))
    height = max(2, round(frame.photo_size[1] * scale / ratio))
    to_photo = cv2.invertAffineTransform(frame.matrix.astype(np.float64))
    small = np.diag([width / frame.photo_size[0], height / frame.photo_size[1]])
    matrix = np.column_stack([small @ to_photo[:, :2] * ratio, small @ to_photo[:, 2]])
    photo_alpha = np.asarray(
        cv2.warpAffine(alpha, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.float32
    )
    points = frame.landmarks.astype(np.float64) @ to_photo[:, :2].T + to_photo[:, 2]
    found = edges_touched(photo_alpha, points @ small)
    back_y = frame.photo_size[1] / height
    touch = EdgeTouch(
        top=found.top,
        left=None if found.left is None else found.left * back_y,
        right=None if found.right is None else found.right * back_y,
        crown=found.crown * back_y,
        hat=None if found.hat is None else found.hat * back_y,
    )
    again = plan_portrait(
        points, None, frame.photo_size, frame.spec, canvas=frame.canvas, touch=touch
    )
    return again


@dataclass(frozen=True)
class _Plan:
    side: float  # canvas side in photo pixels
    eye_line: float
    centre: float  # x of the face centre as a fraction of the side
    roll: float
    violations: dict[str, float]


def _expected_touch(face: FaceShape) -> EdgeTouch:
    shoulder = face.chin_y - 0.1 * face.scale
    crown = face.eyes[1] - (EYE_TO_CROWN + _CROWN_ALLOWANCE) * face.scale
    return EdgeTouch(top=crown <= 0, left=shoulder, right=shoulder, crown=max(crown, 0.0))


def _centre_offset(face: FaceShape, box: NDArray[Any] | None) -> float:
    """Return how far the head's centre is from the eye midpoint, in photo pixels."""
    if box is None:
        return 0.25 * (face.mouth[0] - face.eyes[0])
    middle = (float(box[0]) + float(box[2])) / 2
    return float(np.clip(0.5 * (middle - face.eyes[0]), -0.3 * face.scale, 0.3 * face.scale))


def _search(
    face: FaceShape,
    offset: float,
    size: tuple[int, int],
    edges: EdgeTouch,
    spec: FramingSpec,
) -> _Plan:
    """Return the cheapest plan of a grid over head size, eye line, centring and levelling."""
    ideal = face.head_height / spec.head_height
    least = face.head_height / spec.max_head_height
    sides = ideal * np.exp(np.linspace(0, np.log(least / ideal), 36))
    lines = np.unique(np.r_[spec.eye_line, np.linspace(*spec.eye_line_range, 18)])
    centres = np.linspace(-0.08, 0.08, 17)
    wanted_roll = float(np.clip(face.tilt, -spec.max_roll, spec.max_roll))
    rolls = np.array([wanted_roll, 0.5 * wanted_roll, 0.0]) if abs(wanted_roll) > 1 else None
    rolls = np.array([wanted_roll]) if rolls is None else rolls
    side, line, shift, roll = (
        grid.ravel() for grid in np.meshgrid(sides, lines, centres, rolls, indexing="ij")
    )
    centre = 0.5 + shift
    worst = _violations(face, offset, side, line, centre, roll, size, edges, spec)
    # Each penalty is a fraction of the side that shows a cut; 0.5% is one pixel of an avatar.
    cost = (
        (np.log(ideal / side) / 0.25) ** 2
        + ((line - spec.eye_line) / np.where(line > spec.eye_line, 0.06, 0.05)) ** 2
        + spec.hold * ((np.log(ideal / side) > 0.009) + 1.0 * (abs(line - spec.eye_line) > 0.009))
        + (shift / 0.05) ** 2
        + ((roll - wanted_roll) / 4.0) ** 2
        + sum(
            (_HAIR_LOST if name == "hair" else 1.0) * (200.0 * (v > 0.002) + 4000.0 * v)
            for name, v in worst.items()
        )
    )
    best = int(np.argmin(cost))
    return _Plan(
        side=float(side[best]),
        eye_line=float(line[best]),
        centre=float(centre[best] - offset / side[best]),
        roll=float(roll[best]),
        violations={name: float(v[best]) for name, v in worst.items()},
    )


def _violations(
    face: FaceShape,
    offset: float,
    side: NDArray[np.float64],
    line: NDArray[np.float64],
    centre: NDArray[np.float64],
    roll: NDArray[np.float64],
    size: tuple[int, int],
    edges: EdgeTouch,
    spec: FramingSpec,
) -> dict[str, NDArray[np.float64]]:
    """Return how far each edge of the photo intrudes where the subject is, per side length."""
    width, height = size[0] - 1.0, size[1] - 1.0
    angle = np.radians(roll)
    cos, sin = np.cos(angle), np.sin(angle)

    def to_photo(u: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[Any, Any]:
        # Canvas fractions (u, v) to photo pixels, about the eye midpoint.
        dx, dy = (u - centre) * side + offset, (v - line) * side
        return face.eyes[0] + cos * dx - sin * dy, face.eyes[1] + sin * dx + cos * dy

    zero, one = np.zeros_like(side), np.ones_like(side)
    bottom_left, bottom_right = to_photo(zero, one), to_photo(one, one)
    bottom = np.maximum.reduce([bottom_left[1] - height, bottom_right[1] - height, zero]) / side
    out = {"bottom": bottom}
    for name, corner, row in (("left", zero, edges.left), ("right", one, edges.right)):
        if row is None:
            out[name] = zero
            continue
        # Rows at and below the place where the subject meets this edge must not show it.
        low = to_photo(corner, one)
        meet = np.clip(line + (row - face.eyes[1]) / side, 0.0, 1.0)
        high = to_photo(corner, meet)
        if name == "left":
            gap = np.maximum.reduce([-low[0], -high[0], zero])
        else:
            gap = np.maximum.reduce([low[0] - width, high[0] - width, zero])
        out[name] = np.where(meet < 1.0, gap / side, 0.0)
    reach = HEAD_HALF_WIDTH * face.scale / side
    top_left, top_right = to_photo(centre - reach, zero), to_photo(centre + reach, zero)
    highest = np.minimum(top_left[1], top_right[1])
    out["top"] = np.maximum(-highest, 0) / side if edges.top else zero
    crown = line - (face.eyes[1] - edges.crown) / side
    # Hair that the photo itself cuts may reach the canvas's edge; whole hair keeps its margin.
    out["crown"] = zero if edges.top else np.maximum(spec.top_margin - crown, 0)
    # Cut once, it should not be cut again, but for a team's one eye line and head size.
    out["hair"] = np.clip(-crown, 0, _MOST_HAIR) if edges.top and not spec.hold else zero
    chin = line + (face.chin_y - face.eyes[1]) / side
    out["chin"] = np.maximum(chin - 0.94, 0)
    return out


def _matrix(face: FaceShape, plan: _Plan, canvas: int) -> NDArray[np.float64]:
    scale = canvas / plan.side
    angle = np.radians(plan.roll)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[c, s], [-s, c]])
    target = np.array([plan.centre, plan.eye_line]) * canvas
    return np.column_stack([linear, target - linear @ np.array(face.eyes)])


def _notes(
    face: FaceShape,
    plan: _Plan,
    spec: FramingSpec,
    size: tuple[int, int],
    edges: EdgeTouch,
    visible: float,
    hat_top: float | None,
) -> tuple[FrameNote, ...]:
    ideal = face.head_height / spec.head_height
    notes: list[FrameNote] = []
    above = (spec.eye_line * ideal) > face.eyes[1]
    below = ((1 - spec.eye_line) * ideal) > size[1] - face.eyes[1]
    left = edges.left is not None and 0.5 * ideal > face.eyes[0]
    right = edges.right is not None and 0.5 * ideal > size[0] - face.eyes[0]
    for short, note in (
        (
            (above and edges.top) or plan.violations["hair"] > _TOLD,
            FrameNote.PHOTO_TOO_TIGHT_TOP,
        ),
        (below, FrameNote.PHOTO_TOO_TIGHT_BOTTOM),
        (left, FrameNote.PHOTO_TOO_TIGHT_LEFT),
        (right, FrameNote.PHOTO_TOO_TIGHT_RIGHT),
        (plan.side < ideal / 1.05, FrameNote.HEAD_LARGER_THAN_ASKED),
        (abs(plan.eye_line - spec.eye_line) > 0.02, FrameNote.EYE_LINE_MOVED),
        (abs(plan.roll - face.tilt) > 2.0, FrameNote.EYES_NOT_LEVEL),
        (visible < 0.995, FrameNote.BACKGROUND_EXTENDED),
        (hat_top is not None and hat_top < -0.5, FrameNote.HEADWEAR_CUT),
    ):
        if short:
            notes.append(note)
    return tuple(notes)
