"""The words of framing: what is asked for, what a photo's edges are, what was planned."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.face import FaceShape, shape_of


class FrameNote(StrEnum):
    """Why a frame or a crop differs from what was asked for."""

    PHOTO_TOO_TIGHT_TOP = "PHOTO_TOO_TIGHT_TOP"
    PHOTO_TOO_TIGHT_BOTTOM = "PHOTO_TOO_TIGHT_BOTTOM"
    PHOTO_TOO_TIGHT_LEFT = "PHOTO_TOO_TIGHT_LEFT"
    PHOTO_TOO_TIGHT_RIGHT = "PHOTO_TOO_TIGHT_RIGHT"
    HEAD_LARGER_THAN_ASKED = "HEAD_LARGER_THAN_ASKED"
    EYE_LINE_MOVED = "EYE_LINE_MOVED"
    EYES_NOT_LEVEL = "EYES_NOT_LEVEL"
    BACKGROUND_EXTENDED = "BACKGROUND_EXTENDED"
    HEADWEAR_CUT = "HEADWEAR_CUT"
    HEAD_CUT = "HEAD_CUT"
    CROP_SMALLER = "CROP_SMALLER"


@dataclass(frozen=True)
class FramingSpec:
    """The composition of the square portrait, in fractions of its side.

    Attributes:
        eye_line: height of the eyes from the top.
        head_height: crown to chin.
        top_margin: least room above the hair.
        max_roll: largest rotation that levels the eyes, degrees; a stronger tilt is left in part.
        max_head_height: the head is never made larger than this to hide an edge of the photo.
        eye_line_range: lowest and highest eye line the plan may fall back to.
        circle_margin: room that the head keeps inside the inscribed circle, for the quality report.
        hold: cost of a head size or an eye line that is 1% off, for a team; a plan's other costs
            are below 10 unless it shows a cut, which is 200 and more.
    """

    eye_line: float = 0.34
    head_height: float = 0.44
    top_margin: float = 0.05
    max_roll: float = 15.0
    max_head_height: float = 1.1
    eye_line_range: tuple[float, float] = (0.28, 0.47)
    circle_margin: float = 0.01
    hold: float = 0.0

    def __post_init__(self) -> None:
        if not 0.2 <= self.head_height <= self.max_head_height <= 1.2:
            raise ValueError("head_height must be in 0.2..max_head_height and that at most 1.2")
        low, high = self.eye_line_range
        if not 0.15 <= low <= self.eye_line <= high <= 0.6:
            raise ValueError("eye_line must lie in eye_line_range, inside 0.15..0.6")


@dataclass(frozen=True)
class EdgeTouch:
    """Where the subject meets the photo's edges, in photo pixels.

    Attributes:
        top: the hair is cut by the top edge.
        left: first row from which the subject meets the left edge, or None where it never does.
        right: the same for the right edge.
        crown: topmost row of the subject's head, no higher than hair stands.
        hat: topmost row of what stands on the head higher than that, whole in the photo; None where
            nothing does.
    """

    top: bool
    left: float | None
    right: float | None
    crown: float
    hat: float | None = None


@dataclass(frozen=True)
class PortraitFrame:
    """The planned square canvas.

    Attributes:
        matrix: float32 [2, 3], photo pixels -> canvas pixels.
        canvas: side of the canvas, pixels.
        visible: fraction of the canvas that the photo covers, 0..1.
        notes: what was given up.
        landmarks: float32 [5, 2] in canvas pixels.
        photo_size: (width, height) of the photo.
        spec: the composition asked for.
        touch: the subject's edges the plan relied on, None where they were estimated.
        hat_top: row of the canvas, negative above it, that `touch.hat` comes to.
    """

    matrix: F32
    canvas: int
    visible: float
    notes: tuple[FrameNote, ...]
    landmarks: F32
    photo_size: tuple[int, int]
    spec: FramingSpec
    touch: EdgeTouch | None = None
    hat_top: float | None = None

    def cuts_hat(self, top: float) -> bool:
        """Tell whether a crop that begins at this row of the canvas cuts what is on the head."""
        return self.hat_top is not None and self.hat_top < top - 0.5

    @property
    def face(self) -> FaceShape:
        """The face in canvas pixels."""
        return shape_of(self.landmarks)

    def coverage(self) -> U8:
        """Return 0/255 uint8 [canvas, canvas]: where the photo has pixels."""
        mask = np.zeros((self.canvas, self.canvas), np.uint8)
        cv2.fillConvexPoly(
            mask, np.rint(photo_quad(self.photo_size, self.matrix)).astype(np.int32), 255
        )
        return mask


def photo_quad(size: tuple[int, int], matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Return the photo's four corners [4, 2] under the matrix, clockwise from the top left."""
    width, height = size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) - 0.5
    m = np.asarray(matrix, np.float64)
    return np.asarray(corners @ m[:, :2].T + m[:, 2], np.float64)


@dataclass(frozen=True)
class Crop:
    """One rendition's rectangle in canvas pixels; may reach outside, where background is drawn.

    Attributes:
        x0, y0, x1, y1: edges, pixels of the square canvas (640 for the compact profile).
        aspect: width over height.
        notes: what was given up.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    aspect: float
    notes: tuple[FrameNote, ...] = ()

    @property
    def width(self) -> float:
        """Width in canvas pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Height in canvas pixels."""
        return self.y1 - self.y0

    def matrix(self, size: tuple[int, int]) -> F32:
        """Return float32 [2, 3]: canvas pixels -> pixels of this crop drawn at (w, h) = size."""
        sx, sy = size[0] / self.width, size[1] / self.height
        return np.array(
            [[sx, 0, (0.5 - self.x0) * sx - 0.5], [0, sy, (0.5 - self.y0) * sy - 0.5]], np.float32
        )
