"""The colour of the light, from things that ought to be neutral and from skin."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8, hue_degrees, srgb_to_linear, to_lab
from headshot.imaging.face import face_mask, shape_of, skin_patches

_SIDE = 160
_SKIN_HUE = (36.0, 72.0)
"""Hue angles of facial skin of all groups under a white light, degrees (CIELAB, D65)."""


@dataclass(frozen=True)
class Cast:
    """A colour cast.

    Attributes:
        a, b: CIELAB of what ought to be neutral.
        confidence: 0..1, share of the picture that spoke for it.
        light: float64 [3], linear RGB of the light, green 1.
    """

    a: float
    b: float
    confidence: float
    light: NDArray[np.float64]

    @property
    def strength(self) -> float:
        """Chroma of the cast, CIELAB units."""
        return float(np.hypot(self.a, self.b))


def estimate_cast(image: U8, landmarks: NDArray[np.floating], alpha: F32 | None = None) -> Cast:
    """Return the cast of a picture with a face.

    Near-neutral pixels outside the face vote, weighted by how near they are to the estimate so
    far, from the grey axis outwards (iterative grey-point search; Huo et al., "Robust automatic
    white balance algorithm using gray color points", IEEE TCE 2006). Skin has a veto on what it
    cannot be: its hue stays within 36..72 degrees under white light in every skin group.

    Args:
        image: uint8 [h, w, 3].
        landmarks: [5, 2] in its pixels.
        alpha: float32 [h, w]; then only the subject votes, as it must where the background has
            been replaced.
    """
    height, width = image.shape[:2]
    ratio = min(1.0, _SIDE / max(height, width))
    size = (max(8, round(width * ratio)), max(8, round(height * ratio)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    points = np.asarray(landmarks, np.float64) * ratio
    lab = to_lab(small)
    grow = 2 * max(1, round(0.4 * shape_of(points).scale)) + 1
    outside = cv2.dilate(face_mask(points, size), np.ones((grow, grow), np.uint8)) == 0
    usable = outside & (lab[..., 0] > 35) & (lab[..., 0] < 96) & (small.max(axis=-1) < 252)
    if alpha is not None:
        usable &= cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) > 0.97
    patches = skin_patches(points, size) > 0
    skin = np.median(lab[patches], axis=0) if patches.any() else np.array([60.0, 12.0, 16.0])
    # Neck, hands and a bald head vote like the face: not at all.
    usable &= np.hypot(lab[..., 1] - skin[1], lab[..., 2] - skin[2]) > 0.45 * np.hypot(*skin[1:])
    # Planes: numpy is several times faster on what lies together.
    a, b = lab[..., 1][usable], lab[..., 2][usable]
    # White shirts, walls and teeth are better witnesses than dark cloth.
    bright = (lab[..., 0][usable] / 100.0) ** 2
    centre = np.zeros(2)
    share = 0.0
    if a.size > 50:
        # This factor keeps the search from walking off to the largest coloured thing.
        near_grey = np.exp(-(a * a + b * b) / np.float32(18.0**2))
        for reach in (12.0, 10.0, 8.0, 7.0, 7.0, 7.0):
            off_a, off_b = a - np.float32(centre[0]), b - np.float32(centre[1])
            weight = near_grey * np.exp(-(off_a * off_a + off_b * off_b) / np.float32(reach**2))
            share = float(weight.mean())
            if share < 0.01:
                break
            weight *= bright
            centre = np.array([a @ weight, b @ weight], np.float64) / float(weight.sum())
    evidence = float(np.clip(share / 0.12, 0, 1))
    centre = centre * evidence
    centre = _within_skin(centre, skin[1:])
    light = _light_of(centre)
    return Cast(float(centre[0]), float(centre[1]), evidence, light)


def _within_skin(centre: NDArray[np.float64], skin: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cast moved along blue-yellow until it leaves skin of a hue that skin has.

    Lamps and daylight differ along that axis; moving along red-green too would turn faces green.
    """
    rest = skin - centre
    if float(np.hypot(*rest)) < 4 or float(rest[0]) < 2:
        return centre
    hue = hue_degrees(float(rest[0]), float(rest[1]))
    target = float(np.clip(hue, *_SKIN_HUE))
    if abs(target - hue) < 1e-6:
        return centre
    shift = float(rest[1]) - float(rest[0]) * float(np.tan(np.radians(target)))
    return np.array([centre[0], centre[1] + float(np.clip(shift, -20, 20))])


def _light_of(centre: NDArray[np.float64]) -> NDArray[np.float64]:
    lab = np.array([[[72.0, centre[0], centre[1]]]], np.float32)
    rgb = np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)[0, 0], 0, 1)
    linear = np.interp(rgb * 255, np.arange(256), srgb_to_linear(np.arange(256, dtype=np.uint8)))
    return np.asarray(linear / max(float(linear[1]), 1e-4), np.float64)
