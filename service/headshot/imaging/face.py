"""What five landmarks say about a head: its scale, tilt, chin, crown and face region.

Landmarks are float32 [5, 2] in pixels: left eye, right eye, nose, left and right mouth corner, as
seen in the image. Proportions are means over frontal adult portraits, in units of `scale`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import U8

EYE_TO_CHIN = 1.78
EYE_TO_CROWN = 1.75
HEAD_HEIGHT = EYE_TO_CHIN + EYE_TO_CROWN
HEAD_HALF_WIDTH = 1.32
# Eye-mouth distance over inter-eye distance of a frontal face.
_EYE_MOUTH_OVER_IED = 1.08


@dataclass(frozen=True)
class FaceShape:
    """The geometry of one face.

    Attributes:
        eyes: midpoint of the eyes, (x, y) pixels.
        mouth: midpoint of the mouth corners.
        nose: nose tip.
        inter_eye: distance between the eyes, pixels.
        scale: the larger of the eye-mouth distance and 1.08 x the inter-eye distance, so that
            neither a turned nor a nodding head reads as a small one; pixels.
        tilt: angle of the eye line, degrees, positive where the right eye is lower.
    """

    eyes: tuple[float, float]
    mouth: tuple[float, float]
    nose: tuple[float, float]
    inter_eye: float
    scale: float
    tilt: float

    @property
    def chin_y(self) -> float:
        """Row of the chin of an upright head, pixels."""
        return self.eyes[1] + EYE_TO_CHIN * self.scale

    @property
    def crown_y(self) -> float:
        """Row of the crown with average hair, pixels."""
        return self.eyes[1] - EYE_TO_CROWN * self.scale

    @property
    def head_height(self) -> float:
        """Crown to chin, pixels."""
        return HEAD_HEIGHT * self.scale

    @property
    def chin_metric(self) -> float:
        """T of ISO/IEC 29794-5: distance from the eye midpoint to the chin, pixels."""
        return EYE_TO_CHIN * self.scale


def shape_of(landmarks: NDArray[np.floating]) -> FaceShape:
    """Return the FaceShape of landmarks [5, 2]."""
    points = np.asarray(landmarks, np.float64).reshape(5, 2)
    left, right, nose, mouth_left, mouth_right = points
    eyes = (left + right) / 2
    mouth = (mouth_left + mouth_right) / 2
    across = right - left
    ied = float(np.hypot(*across))
    tilt = float(np.degrees(np.arctan2(across[1], across[0])))
    eye_mouth = float(np.hypot(*(mouth - eyes)))
    return FaceShape(
        eyes=(float(eyes[0]), float(eyes[1])),
        mouth=(float(mouth[0]), float(mouth[1])),
        nose=(float(nose[0]), float(nose[1])),
        inter_eye=ied,
        scale=max(eye_mouth, _EYE_MOUTH_OVER_IED * ied),
        tilt=tilt,
    )


def face_mask(landmarks: NDArray[np.floating], size: tuple[int, int]) -> U8:
    """Return 0/255 uint8 [h, w]: an ellipse from the brows to the chin; size is (w, h)."""
    shape = shape_of(landmarks)
    mask = np.zeros((size[1], size[0]), np.uint8)
    centre = _along(shape, 0.0, 0.62)
    axes = (max(1, round(1.02 * shape.scale)), max(1, round(1.22 * shape.scale)))
    cv2.ellipse(mask, _pixel(centre), axes, shape.tilt, 0, 360, 255, -1)
    return mask


def skin_patches(landmarks: NDArray[np.floating], size: tuple[int, int]) -> U8:
    """Return 0/255 uint8 [h, w]: forehead and cheek patches, clear of eyes, nose and mouth.

    These are the places where dermatology reads the ITA; size is (w, h).
    """
    shape = shape_of(landmarks)
    mask = np.zeros((size[1], size[0]), np.uint8)
    # (sideways, down, half width, half height) in units of the face scale.
    for x, y, rx, ry in (
        (0.0, -0.47, 0.34, 0.12),
        (-0.52, 0.58, 0.2, 0.24),
        (0.52, 0.58, 0.2, 0.24),
    ):
        axes = (max(1, round(rx * shape.scale)), max(1, round(ry * shape.scale)))
        cv2.ellipse(mask, _pixel(_along(shape, x, y)), axes, shape.tilt, 0, 360, 255, -1)
    return mask


def pixels_of(image: NDArray[np.uint8], mask: U8) -> NDArray[np.uint8]:
    """Return the pixels of a picture where a mask is not 0, uint8 [n, 3], row by row.

    Args:
        image: uint8 [h, w, 3].
        mask: uint8 [h, w]; of what covers a part of the picture, only that part is looked at.
    """
    x, y, width, height = cv2.boundingRect(mask)
    part = (slice(y, y + height), slice(x, x + width))
    return np.asarray(image[part][mask[part] > 0], np.uint8)


def feature_mask(landmarks: NDArray[np.floating], size: tuple[int, int]) -> U8:
    """Return 0/255 uint8 [h, w]: eyes with brows, nostrils and mouth, which retouch never moves."""
    shape = shape_of(landmarks)
    points = np.asarray(landmarks, np.float64)
    mask = np.zeros((size[1], size[0]), np.uint8)
    s = shape.scale
    up = np.array(_along(shape, 0, -0.12)) - np.array(shape.eyes)
    for eye in points[:2]:
        cv2.ellipse(
            mask,
            _pixel(tuple(eye + up)),
            (max(1, round(0.44 * s)), max(1, round(0.34 * s))),
            shape.tilt,
            0,
            360,
            255,
            -1,
        )
    nostrils = _along(shape, 0.0, 0.64)
    cv2.ellipse(
        mask,
        _pixel((shape.nose[0] * 0.6 + nostrils[0] * 0.4, nostrils[1] + 0.04 * s)),
        (max(1, round(0.3 * s)), max(1, round(0.12 * s))),
        shape.tilt,
        0,
        360,
        255,
        -1,
    )
    width = float(np.hypot(*(points[4] - points[3])))
    cv2.ellipse(
        mask,
        _pixel(shape.mouth),
        (max(1, round(0.62 * width)), max(1, round(0.26 * s))),
        shape.tilt,
        0,
        360,
        255,
        -1,
    )
    return mask


def _along(shape: FaceShape, sideways: float, down: float) -> tuple[float, float]:
    """Return a point given in face units from the eye midpoint, along the face's own axes."""
    angle = np.radians(shape.tilt)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    x, y = sideways * shape.scale, down * shape.scale
    return shape.eyes[0] + c * x - s * y, shape.eyes[1] + s * x + c * y


def _pixel(point: tuple[float, ...]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
