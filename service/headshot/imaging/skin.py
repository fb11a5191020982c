"""Skin as dermatology and retouchers measure it: typology angle, hue, texture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import (
    F32,
    U8,
    angle_between,
    hue_degrees,
    ita_degrees,
    ita_group,
    to_lab,
)
from headshot.imaging.face import FaceShape, face_mask, feature_mask, shape_of, skin_patches

_TEXTURE_SCALE = 96.0
"""Pixels of face scale at which texture is compared, so that resolution does not matter."""

_LEAST_CHROMA = 3.0
"""CIELAB units below which skin has no colour: a greyscale photo, give or take its compression."""
_USUAL_B = 15.0
"""b* to count with where there is none: about the middle of what skin has in white light."""


@dataclass(frozen=True)
class SkinReading:
    """Median colour of forehead and cheeks.

    Attributes:
        lightness, a, b: CIELAB.
        ita: individual typology angle, degrees; of skin without colour with a usual b*.
        hue: h_ab, degrees; means nothing of skin without colour.
        group: name of the ITA group.
    """

    lightness: float
    a: float
    b: float
    ita: float
    hue: float
    group: str

    @property
    def colourless(self) -> bool:
        """Whether the skin has no colour to speak of, as in a greyscale photo."""
        return bool(np.hypot(self.a, self.b) < _LEAST_CHROMA)


@dataclass(frozen=True)
class SkinChange:
    """How skin differs between two pictures of one face; degrees and CIELAB units.

    Attributes:
        delta_ita: signed change of the typology angle; positive is lighter. Where one of the two
            has no colour, both count with a usual b*.
        delta_hue: signed change of the hue angle; positive is yellower. 0 where one of the two has
            no colour.
        delta_lightness: change of L*.
        delta_e: CIE76 difference.
    """

    delta_ita: float
    delta_hue: float
    delta_lightness: float
    delta_e: float


def skin_pixels(image: U8, landmarks: NDArray[np.floating], alpha: F32 | None = None) -> U8:
    """Return uint8 [n, 3]: the pixels of the skin patches without glints and deep shadow.

    Raises:
        ValueError: the patches lie outside the picture.
    """
    height, width = image.shape[:2]
    mask = skin_patches(landmarks, (width, height))
    x, y, wide, high = cv2.boundingRect(mask)
    part = (slice(y, y + high), slice(x, x + wide))
    chosen = mask[part] > 0
    if alpha is not None:
        inside = chosen & (alpha[part] > 0.9)
        # A matte that misses the face must not decide what its colour is.
        chosen = inside if int(inside.sum()) > 0.3 * int(chosen.sum()) else chosen
    pixels: U8 = image[part][chosen]
    if pixels.shape[0] < 12:
        raise ValueError("the face's skin lies outside the picture")
    # Whole numbers all the same; numpy multiplies matrices of floats many times faster.
    level = pixels.astype(np.float64) @ np.array([77.0, 150.0, 29.0])
    low, high = np.percentile(level, (15, 85))
    middle: U8 = pixels[(level >= low) & (level <= high)]
    return middle


def read_skin(image: U8, landmarks: NDArray[np.floating], alpha: F32 | None = None) -> SkinReading:
    """Return the skin's median colour.

    Args:
        image: uint8 [h, w, 3].
        landmarks: [5, 2] in its pixels.
        alpha: float32 [h, w] matte, or None.
    """
    return reading_of(skin_pixels(image, landmarks, alpha))


def reading_of(pixels: U8) -> SkinReading:
    """Return the reading of skin pixels uint8 [n, 3]."""
    # Planes: the median of what lies together takes a fraction of the time.
    lightness, a, b = (float(np.median(v)) for v in np.ascontiguousarray(to_lab(pixels).T))
    ita = _typology(lightness, b, colourless=bool(np.hypot(a, b) < _LEAST_CHROMA))
    return SkinReading(lightness, a, b, ita, hue_degrees(a, b), ita_group(ita))


def _typology(lightness: float, b: float, *, colourless: bool) -> float:
    # With b* about 0 the angle is +-90 degrees whatever the lightness: it would tell nothing.
    return ita_degrees(lightness, _USUAL_B if colourless else b)


def change_between(before: SkinReading, after: SkinReading) -> SkinChange:
    """Return the change from one reading to another."""
    colourless = before.colourless or after.colourless
    old, new = (_typology(v.lightness, v.b, colourless=colourless) for v in (before, after))
    return SkinChange(
        delta_ita=angle_between(new, old),
        delta_hue=0.0 if colourless else angle_between(after.hue, before.hue),
        delta_lightness=after.lightness - before.lightness,
        delta_e=float(
            np.hypot(
                np.hypot(after.lightness - before.lightness, after.a - before.a),
                after.b - before.b,
            )
        ),
    )


def skin_mask(lab: F32, landmarks: NDArray[np.floating]) -> F32:
    """Return float32 [h, w] in 0..1: facial skin, soft, without eyes, brows, nostrils and mouth.

    Args:
        lab: CIELAB float32 [h, w, 3].
        landmarks: [5, 2] in its pixels.
    """
    height, width = lab.shape[:2]
    size = (width, height)
    patches = skin_patches(landmarks, size) > 0
    if int(patches.sum()) < 12:
        return np.zeros((height, width), np.float32)
    middle = np.median(lab[patches], axis=0)
    # Beard, hair and glasses differ in lightness and chroma; Mahalanobis-like in fixed units.
    away = (
        ((lab[..., 0] - middle[0]) / 22.0) ** 2
        + ((lab[..., 1] - middle[1]) / 11.0) ** 2
        + ((lab[..., 2] - middle[2]) / 12.0) ** 2
    )
    alike = np.clip(1.6 - 0.8 * away, 0, 1)
    region = face_mask(landmarks, size).astype(np.float32) / 255
    region *= 1.0 - feature_mask(landmarks, size).astype(np.float32) / 255
    scale = shape_of(landmarks).scale
    soft = cv2.GaussianBlur((region * alike).astype(np.float32), (0, 0), max(0.8, 0.05 * scale))
    return np.asarray(np.clip(soft, 0, 1) * alike, np.float32)


def texture(image: U8, landmarks: NDArray[np.floating]) -> float:
    """Return the strength of skin texture: pores, fine lines, freckles.

    RMS of the lightness band between 1/64 and 1/30 of the face scale over forehead and cheeks, the
    face brought to one size first, taken per block with the lower half of blocks (a hair or a deep
    line is no pore). Units of L*.

    Args:
        image: uint8 [h, w, 3].
        landmarks: [5, 2] in its pixels.
    """
    return textures(image, landmarks)[0]


def finest_texture(image: U8, landmarks: NDArray[np.floating]) -> float:
    """Return the RMS of the lightness above 1/64 of the face scale, L*: pores and grain."""
    lightness, mask = _face_lightness(image, landmarks)
    return _lower_rms(lightness - _smooth(lightness), mask)


def textures(image: U8, landmarks: NDArray[np.floating]) -> tuple[float, float]:
    """Return `texture` and `finest_texture` of one look at the face."""
    lightness, mask = _face_lightness(image, landmarks)
    smooth = _smooth(lightness)
    band = smooth - cv2.GaussianBlur(lightness, (0, 0), 3.2)
    return (
        _lower_rms(np.asarray(band, np.float32), mask),
        _lower_rms(lightness - smooth, mask),
    )


def _smooth(lightness: F32) -> F32:
    return np.asarray(cv2.GaussianBlur(lightness, (0, 0), 1.5), np.float32)


def _face_lightness(image: U8, landmarks: NDArray[np.floating]) -> tuple[F32, NDArray[np.bool_]]:
    face = shape_of(landmarks)
    scale = _TEXTURE_SCALE / max(face.scale, 1e-3)
    part, points = _face_window(image, landmarks, face)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (max(16, round(part.shape[1] * scale)), max(16, round(part.shape[0] * scale)))
    shrunk = np.asarray(cv2.resize(part, size, interpolation=method), np.uint8)
    mask = skin_patches(points * scale, size) > 0
    return to_lab(shrunk)[..., 0], mask


def _face_window(
    image: U8, landmarks: NDArray[np.floating], face: FaceShape
) -> tuple[U8, NDArray[np.float64]]:
    reach = 2.2 * face.scale
    x0, y0 = max(0, int(face.eyes[0] - reach)), max(0, int(face.eyes[1] - reach))
    x1, y1 = int(face.eyes[0] + reach) + 1, int(face.eyes[1] + reach) + 1
    part = image[y0:y1, x0:x1]
    return part, np.asarray(landmarks, np.float64) - (x0, y0)


def _lower_rms(band: F32, mask: NDArray[np.bool_]) -> float:
    cell = 8
    rows, columns = band.shape[0] // cell, band.shape[1] // cell
    if rows == 0 or columns == 0:
        return 0.0
    trim = (slice(0, rows * cell), slice(0, columns * cell))
    energy = cv2.resize(band[trim] ** 2, (columns, rows), interpolation=cv2.INTER_AREA)
    covered = cv2.resize(
        mask[trim].astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA
    )
    cells = energy[covered > 0.8]
    if cells.size < 4:
        return 0.0
    return float(np.sqrt(np.mean(np.sort(cells.ravel())[: max(1, cells.size // 2)])))
