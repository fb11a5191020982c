"""Does the picture look like a photograph of this person: detail, light, colour, edges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging import grain
from headshot.imaging.colorimetry import F32, U8, luma, to_lab
from headshot.imaging.colour import tripled
from headshot.imaging.face import face_mask, pixels_of, shape_of
from headshot.imaging.skin import SkinReading, textures

_SHARP_SCALE = 64.0


def sharpness(image: U8, landmarks: NDArray[np.floating]) -> float:
    """Return the standard deviation of the Laplacian over the face, levels.

    The component Sharpness of ISO/IEC 29794-5 is a forest over Laplacian, Sobel and mean-filter
    differences of the face region; this is the first of those features, the face brought to one
    size so that resolution does not count.
    """
    face = shape_of(landmarks)
    scale = _SHARP_SCALE / max(face.scale, 1e-3)
    size = (max(16, round(image.shape[1] * scale)), max(16, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grey = luma(np.asarray(cv2.resize(image, size, interpolation=method), np.uint8))
    mask = face_mask(np.asarray(landmarks, np.float64) * scale, size) > 0
    response = cv2.Laplacian(grey, cv2.CV_32F)[mask]
    return float(response.std()) if response.size else 0.0


@dataclass(frozen=True)
class SkinKept:
    """What of the reference's skin is in the result.

    Attributes:
        texture: skin texture of the result over that of the reference; below 1 is smoother.
        detail: finest detail (pores, grain) of the result over the reference's. Removing grain
            halves it at most; a skin filter leaves a tenth: plastic.
    """

    texture: float
    detail: float


def skin_kept(result: U8, reference: U8, landmarks: NDArray[np.floating]) -> SkinKept:
    """Return how much of the skin is left.

    Grain is not texture: its part, seen in the finest band, is taken out of both first.

    Args:
        result: uint8 [h, w, 3].
        reference: uint8 [h, w, 3], the photo in the same frame.
        landmarks: [5, 2] in their pixels.
    """
    pores, finest = [], []
    for image in (result, reference):
        band, fine = textures(image, landmarks)
        # White noise puts about 0.14 of its finest-band strength into the texture band.
        pores.append(max(band**2 - (0.14 * fine) ** 2, 0.05 * band**2) ** 0.5)
        finest.append(fine)
    return SkinKept(
        texture=float(pores[0] / max(pores[1], 1e-3)),
        detail=float(finest[0] / max(finest[1], 1e-3)),
    )


def noise(image: U8, alpha: F32) -> float:
    """Return the subject's grain (Immerkaer 1996), standard deviation in levels."""
    return grain.measure(image, alpha).fine


def skin_cast(skin: SkinReading) -> float:
    """Return how far, in CIELAB a*b*, skin lies from every colour that skin has in white light.

    Facial skin of all groups has a hue of 32..76 degrees and a chroma of 5..42 (after the ranges
    that Wang, Xiao, Wuerger, Cheung and Luo measured, "Measuring human skin colour", CIC 23, 2015).
    Clothes tell nothing here: a light blue shirt is no cast.
    """
    low, high = np.radians(32.0), np.radians(76.0)
    chroma, hue = float(np.hypot(skin.a, skin.b)), float(np.arctan2(skin.b, skin.a))
    nearest = float(np.clip(hue, low, high))
    radius = float(np.clip(chroma * np.cos(min(abs(hue - nearest), np.pi / 2)), 5.0, 42.0))
    return float(np.hypot(skin.a - radius * np.cos(nearest), skin.b - radius * np.sin(nearest)))


def clipping(image: U8, landmarks: NDArray[np.floating]) -> float:
    """Return the fraction of face pixels with a channel at 254 or more, or all at 1 or less."""
    pixels = pixels_of(image, face_mask(landmarks, (image.shape[1], image.shape[0])))
    if pixels.size == 0:
        return 0.0
    red, green, blue = pixels.T
    brightest = np.maximum(np.maximum(red, green), blue)
    return float(((brightest >= 254) | (brightest <= 1)).mean())


@dataclass(frozen=True)
class EdgeQuality:
    """How the cut-out's edge looks.

    Attributes:
        halo: mean L* by which edge pixels leave the span between subject and background (a bright
            or dark line along the outline).
        spill: share, 0..1, of the old background's colour in half-covered pixels.
        width: mean width of the soft edge over the picture's side; 0 is scissors, large is fog.
    """

    halo: float
    spill: float
    width: float


def edge_quality(
    result: U8, alpha: F32, background: U8, reference: U8, *, side: int = 320
) -> EdgeQuality:
    """Return how clean the outline is.

    Args:
        result: uint8 [h, w, 3], the composite.
        alpha: float32 [h, w] it was made with.
        background: uint8 [h, w, 3], the new background alone.
        reference: uint8 [h, w, 3], the photo in the same frame, with the old background.
        side: working size of halo and spill.
    """
    width = _edge_width(alpha)
    ratio = min(1.0, side / max(alpha.shape))
    size = (round(alpha.shape[1] * ratio), round(alpha.shape[0] * ratio))
    area = cv2.INTER_AREA
    matte = np.asarray(cv2.resize(alpha, size, interpolation=area), np.float32)
    soft = (matte > 0.15) & (matte < 0.85)
    if int(soft.sum()) < 20:
        return EdgeQuality(halo=0.0, spill=0.0, width=width)
    new, old, shown = (
        to_lab(np.asarray(cv2.resize(image, size, interpolation=area), np.uint8))
        for image in (background, reference, result)
    )
    box = (9, 9)
    solid = (matte > 0.97).astype(np.float32)
    empty = (matte < 0.03).astype(np.float32)
    subject = _mean_of(shown, solid, box)
    ground = _mean_of(new, empty, box)
    before = _mean_of(old, empty, box)
    known = (cv2.blur(solid, box) > 0.02) & (cv2.blur(empty, box) > 0.02) & soft
    if int(known.sum()) < 20:
        return EdgeQuality(halo=0.0, spill=0.0, width=width)
    s, g, b, c = (x[known] for x in (subject, ground, before, shown))
    a = matte[known][:, None]
    low, high = np.minimum(s, g)[:, 0], np.maximum(s, g)[:, 0]
    over = np.maximum(np.maximum(low - c[:, 0], c[:, 0] - high) - 3.0, 0)
    residual = c - (a * s + (1 - a) * g)
    towards = b - g
    distance = np.maximum((towards**2).sum(axis=1), 1.0)
    # Only where old and new ground differ clearly can one be told from the other.
    telling = distance > 15.0**2
    share = (residual * towards).sum(axis=1) / distance
    spill = float(np.mean(np.clip(share[telling], 0, 1))) if telling.sum() > 20 else 0.0
    return EdgeQuality(halo=float(np.mean(over)), spill=spill, width=width)


def _edge_width(alpha: F32) -> float:
    """Return the mean width of the soft edge over the side, at the matte's own size."""
    soft = int(((alpha > 0.15) & (alpha < 0.85)).sum())
    solid = (alpha > 0.5).astype(np.uint8)
    outline = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    # Between 0.15 and 0.85 lies 0.7 of a linear ramp; the gradient marks both sides of the line.
    return float(soft / max(1.0, float(outline.sum()) / 2) / 0.7 / max(alpha.shape))


def _mean_of(lab: F32, weight: F32, box: tuple[int, int]) -> F32:
    total = np.asarray(cv2.blur(lab * tripled(weight), box), np.float32)
    total /= tripled(np.asarray(cv2.blur(weight, box), np.float32) + np.float32(1e-4))
    return total


def blockiness(image: U8) -> float:
    """Return how much steeper luma is across the 8x8 block grid than beside it; 0 is none.

    The mean step across block borders over the mean step just inside them, minus 1, averaged over
    both directions (after Wang, Sheikh and Bovik, "No-reference perceptual quality assessment of
    JPEG compressed images", ICIP 2002). Stands for CompressionArtifacts of ISO/IEC 29794-5, which
    is a network there.
    """
    grey = luma(image)
    values = []
    for first, second, axis in ((grey[:-1], grey[1:], 1), (grey[:, :-1], grey[:, 1:], 0)):
        # Straight runs only: picture edges are as likely on the grid as off it.
        step = np.minimum(cv2.absdiff(first, second), 24)
        line = step.mean(axis=axis, dtype=np.float64)
        usable = line.size // 8 * 8
        folded = line[:usable].reshape(-1, 8).mean(axis=0)
        inside = float(np.mean(np.r_[folded[:7]]))
        values.append(float(folded[7]) / max(inside, 0.05) - 1.0)
    return max(0.0, float(np.mean(values)))
