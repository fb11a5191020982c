"""Quality components of ISO/IEC 29794-5 that need no network, from five landmarks.

Names, regions and the mapping from native value to 0..100 follow the standard and its reference
implementation OFIQ 1.x. The standard draws the face region through 98 landmarks; here it is the
ellipse from the brows to the chin that five landmarks give, so values are near OFIQ's, not equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, REC709, U8, srgb_to_linear, to_lab
from headshot.imaging.face import face_mask, shape_of

# Luminance that the brightest 1% of a face reaches in light, whatever the complexion.
_LIT = 0.3
# Levels between the channels of a greyscale photo after the toning of each by itself.
_COLOURLESS = 2


@dataclass(frozen=True)
class Component:
    """A native value and its quality component value, 0..100."""

    value: float
    component: int


def sigmoid(x: float, centre: float, width: float) -> float:
    """Return 1 / (1 + exp((centre - x) / width))."""
    return 1.0 / (1.0 + math.exp(min(60.0, max(-60.0, (centre - x) / width))))


def _clip(quality: float) -> int:
    return int(min(100, max(0, round(quality))))


def luminance(image: U8) -> U8:
    """Return uint8 [h, w]: linear Rec. 709 luminance times 255, as the standard's histograms."""
    # One matrix product over the linear picture; rounding as in the standard.
    level = np.asarray(cv2.transform(srgb_to_linear(image), 255 * REC709[None, :]), np.float32)
    return np.asarray(level + np.float32(0.5), np.uint8)


@dataclass(frozen=True)
class FaceLight:
    """Luminance components of one face, and the luminance, 0..1, that its brightest 1% reaches."""

    mean: Component
    variance: Component
    dynamic_range: Component
    under_exposure: Component
    over_exposure: Component
    uniformity: Component
    highlight: float

    @property
    def lit(self) -> bool:
        """Whether light falls on the face: a dark complexion then has glints all the same."""
        return self.highlight >= _LIT


def face_light(image: U8, landmarks: NDArray[np.floating], alpha: F32 | None = None) -> FaceLight:
    """Return LuminanceMean, LuminanceVariance, DynamicRange, Under/OverExposurePrevention and
    IlluminationUniformity.

    Args:
        image: uint8 [h, w, 3].
        landmarks: [5, 2] in its pixels.
        alpha: float32 [h, w] matte, or None; a bright background beside a narrow face is no
            light on it.
    """  # noqa: D205
    # The face alone: the rest of the picture counts for nothing here.
    face = shape_of(landmarks)
    reach = 2.0 * face.scale
    x0, y0 = max(0, int(face.eyes[0] - reach)), max(0, int(face.eyes[1] - reach))
    x1, y1 = int(face.eyes[0] + reach) + 1, int(face.eyes[1] + reach) + 1
    image = image[y0:y1, x0:x1]
    landmarks = np.asarray(landmarks, np.float64) - (x0, y0)
    level = luminance(image)
    mask = face_mask(landmarks, (image.shape[1], image.shape[0]))
    if alpha is not None:
        person = np.where(alpha[y0:y1, x0:x1] > 0.9, mask, 0)
        # A matte that misses the face must not decide what its light is.
        mask = person if np.count_nonzero(person) > 0.3 * np.count_nonzero(mask) else mask
    histogram = cv2.calcHist([level], [0], mask, [256], [0, 256])[:, 0].astype(np.float64)
    histogram /= max(histogram.sum(), 1.0)
    grid = np.arange(256) / 255.0
    mean = float(histogram @ grid)
    variance = float(histogram @ (grid - mean) ** 2)
    filled = histogram[histogram > 0]
    entropy = float(-(filled * np.log2(filled)).sum())
    dark = float(histogram[:26].sum())
    bright = float(histogram[247:].sum())
    left, right = (_normalised(zone) for zone in _cheeks(level, landmarks))
    overlap = float(np.minimum(left, right).sum())
    return FaceLight(
        mean=Component(
            mean, _clip(100 * sigmoid(mean, 0.2, 0.05) * (1 - sigmoid(mean, 0.8, 0.05)))
        ),
        variance=Component(
            variance, _clip(100 * math.sin(60 * variance / (60 * variance + 1) * math.pi))
        ),
        dynamic_range=Component(entropy, _clip(12.5 * entropy)),
        under_exposure=Component(dark, _clip(120 * (0.832 - sigmoid(dark, 0.92, 0.05)))),
        over_exposure=Component(bright, _clip(1 / (bright + 0.01))),
        uniformity=Component(overlap, _clip(100 * overlap**0.3)),
        highlight=int(np.searchsorted(np.cumsum(histogram), 0.99)) / 255,
    )


def _cheeks(image: U8, landmarks: NDArray[np.floating]) -> tuple[U8, U8]:
    """Return the pixels of both cheek squares, uint8 [n] or [n, 3], left and right as seen.

    Squares of 0.3 inter-eye distances outside of the eyes, half-way down to the mouth, along the
    axes of the face: the standard reads them on a face with level eyes.
    """
    face = shape_of(landmarks)
    height, width = image.shape[:2]
    tilt = math.radians(face.tilt)
    across, down = (
        np.array([math.cos(tilt), math.sin(tilt)]),
        np.array([-math.sin(tilt), math.cos(tilt)]),
    )
    drop = float(np.subtract(face.mouth, face.eyes) @ down) / 2
    steps = np.arange(max(3, int(0.3 * face.inter_eye)))
    points = np.asarray(landmarks, np.float64)
    cut = []
    for eye, outwards in ((points[0], -1 - steps), (points[1], steps)):
        rows = (drop + steps)[:, None, None] * down
        places = np.floor(eye + rows + outwards[None, :, None] * across + 0.5).astype(np.int64)
        x, y = places[..., 0].ravel(), places[..., 1].ravel()
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        cut.append(np.asarray(image[y[inside], x[inside]], np.uint8))
    return cut[0], cut[1]


def _normalised(zone: U8) -> NDArray[np.float64]:
    counts = np.bincount(zone.ravel(), minlength=256).astype(np.float64)
    return np.asarray(counts / max(counts.sum(), 1.0), np.float64)


def natural_colour(image: U8, landmarks: NDArray[np.floating]) -> Component:
    """Return NaturalColour: distance of the cheeks' mean a*, b* from the box [5, 25] x [5, 35].

    A face without any colour has no unnatural one: its distance is 0, as in OFIQ, where the whole
    picture has to be greyscale. Here a greyscale person may stand before a new background.
    """
    joined = np.concatenate(_cheeks(image, landmarks))
    if joined.size == 0:
        return Component(100.0, 0)
    if int(np.ptp(joined, axis=1).max()) <= _COLOURLESS:
        return Component(0.0, 100)
    _, a, b = (float(v) for v in to_lab(np.asarray(joined, np.uint8)).mean(axis=0))
    if a < 0 or b < 0:
        distance = 100.0
    else:
        distance = math.hypot(max(0.0, 5 - a, a - 25), max(0.0, 5 - b, b - 35))
    return Component(distance, _clip(200 * (1 - sigmoid(distance, 0, 10))))


def inter_eye_distance(landmarks: NDArray[np.floating], yaw: float) -> Component:
    """Return InterEyeDistance: pixels between the eyes over the cosine of the yaw (degrees)."""
    face = shape_of(landmarks)
    value = face.inter_eye / max(0.3, math.cos(math.radians(yaw)))
    return Component(value, _clip(100 * sigmoid(value, 70, 20)))


def head_size(landmarks: NDArray[np.floating], height: int) -> Component:
    """Return HeadSize: T (eye midpoint to chin) over the picture's height; 0.45 is best."""
    value = shape_of(landmarks).chin_metric / height
    return Component(value, _clip(200 * (1 - sigmoid(abs(value - 0.45), 0, 0.05))))


def background_uniformity(image: U8, alpha: F32, side: int = 354) -> Component | None:
    """Return BackgroundUniformity: mean Scharr gradient of the luminance over the background.

    Args:
        image: uint8 [h, w, 3].
        alpha: float32 [h, w]; the background is where it is 0, eroded by 4 pixels.
        side: width at which gradients are taken (354 in the standard).

    Returns:
        The component; None where no background is seen, which OFIQ calls a failure to assess.
    """
    ratio = side / image.shape[1]
    size = (side, max(8, round(image.shape[0] * ratio)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    matte = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    ground = cv2.erode((matte < 0.01).astype(np.uint8), np.ones((4, 4), np.uint8))
    if not ground.any():
        return None
    level = luminance(small)
    across = cv2.Scharr(level, cv2.CV_32F, 1, 0)
    down = cv2.Scharr(level, cv2.CV_32F, 0, 1)
    value = float(cv2.magnitude(across, down)[ground > 0].mean())
    return Component(value, _clip(190 * (1 - sigmoid(value, 10, 100))))
