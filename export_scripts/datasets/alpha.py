"""Derive alpha mattes: from a plain backdrop (clean plate) or from a mask and a trimap.

Closed-form matting: Levin, Lischinski, Weiss, "A Closed-Form Solution to Natural Image Matting",
2008 (as in `pymatting`). Clean plate: alpha = <I - B, F - B> / |F - B|^2 for a known backdrop B.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from headshot.imaging.matte import refine_alpha
from pymatting import (  # type: ignore[import-untyped,unused-ignore]
    estimate_alpha_cf,
    estimate_foreground_ml,
)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def _disk(radius: int) -> Bytes:
    shape = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, shape), np.uint8)


def _grow(mask: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), _disk(radius)) > 0)


def _shrink(mask: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    # A constant border of ones: a person cut by the frame is not eaten away at the frame.
    border = cv2.BORDER_CONSTANT
    eroded = cv2.erode(mask.astype(np.uint8), _disk(radius), borderType=border, borderValue=1)
    return np.asarray(eroded > 0)


def main_component(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Keep the largest connected region of a mask [h,w]."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count <= 1:
        return mask
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def clean_plate(rgb: Bytes, background: npt.NDArray[np.bool_], order: int = 3) -> Floats:
    """Fit a smooth backdrop to the sure background pixels; float32 [h,w,3] in 0..255.

    A polynomial in x and y by least squares, fitted again without the worst tenth of pixels.
    """
    height, width = rgb.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = 2 * x / width - 1, 2 * y / height - 1
    terms = [x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)]
    basis = np.stack(terms, -1).reshape(-1, len(terms))
    rows = np.flatnonzero(background.reshape(-1))[::7]
    colours = rgb.reshape(-1, 3).astype(np.float32)
    for _ in range(2):
        weights = np.linalg.lstsq(basis[rows], colours[rows], rcond=None)[0]
        error = np.abs(basis[rows] @ weights - colours[rows]).max(-1)
        rows = rows[error <= np.quantile(error, 0.9)]
    return np.asarray((basis @ weights).reshape(height, width, 3), np.float32)


def alpha_on_backdrop(rgb: Bytes, mask: Floats) -> tuple[Floats, Floats, Floats]:
    """Derive alpha before a plain backdrop.

    `rgb` uint8 [h,w,3], `mask` a person probability float32 [h,w]. Returns (alpha [h,w] in 0..1,
    foreground colour [h,w,3] in 0..255, confidence [h,w] in 0..1, low where closed-form matting
    and the clean plate disagree).
    """
    unit = max(rgb.shape[:2]) / 640
    body = main_component(mask > 0.5)
    far = ~_grow(mask > 0.1, round(36 * unit))
    plate = clean_plate(rgb, far)
    distance = np.linalg.norm(rgb.astype(np.float32) - plate, axis=-1)
    noise = float(np.quantile(distance[far], 0.98)) if far.any() else 6.0
    near = _grow(body, round(44 * unit))
    strands = near & (cv2.GaussianBlur(distance, (0, 0), 0.7 * unit) > max(noise * 1.5, 9))
    inside = _shrink(body & (mask > 0.9), round(9 * unit))
    # The edge of dark hair and skin stands out from the plate: the sure inside may come closer.
    inside |= _shrink(body & (mask > 0.9) & (distance > 80), round(5 * unit))
    band = _grow(body, round(7 * unit)) & ~inside
    unknown = (band | (_grow(strands, 2) & near)) & ~inside
    trimap = np.full(mask.shape, 0.0)
    trimap[unknown] = 0.5
    trimap[inside] = 1.0
    image = rgb.astype(np.float64) / 255
    closed = np.clip(estimate_alpha_cf(image, trimap), 0, 1)
    outline = np.clip((mask - 0.5) * 2 + 0.5, 0, 1)
    colour = np.asarray(estimate_foreground_ml(image, closed), np.float32) * 255
    for _ in range(2):
        contrast = colour - plate
        power = (contrast**2).sum(-1)
        by_plate = ((rgb - plate) * contrast).sum(-1) / np.maximum(power, 1)
        by_plate = np.clip(by_plate, 0, 1)
        # Below a contrast of about 40 levels (a white shirt) colour says little: take the outline
        # of the mask there, and closed form between.
        contrast_level = cv2.GaussianBlur(np.sqrt(power), (0, 0), 2 * unit)
        trust = np.clip((contrast_level - 45) / 45, 0, 1) * unknown
        alpha = trust * by_plate + (1 - trust) * (0.3 * closed + 0.7 * outline)
        alpha[inside] = 1
        alpha[~unknown & ~inside] = 0
        colour = np.asarray(estimate_foreground_ml(image, alpha), np.float32) * 255
    # Sensor noise on the backdrop is not hair.
    alpha = np.clip((alpha - 0.03) / 0.94, 0, 1).astype(np.float32)
    agreement = np.clip(1.5 - np.abs(by_plate - closed) * 4, 0.15, 1)
    confidence = np.where(unknown, np.maximum(agreement, trust), 1).astype(np.float32)
    return alpha, colour, confidence


def alpha_from_mask(rgb: Bytes, mask: Floats, reach: int = 12) -> tuple[Floats, Floats, Floats]:
    """Derive alpha before any background from a person probability.

    Shapes as in `alpha_on_backdrop`; `reach` is half the width of the trimap's band in pixels of
    a 640 pixel image. Confidence is low where closed-form matting and the guided filter of the
    mask (He, Sun, Tang, 2010) disagree.
    """
    unit = max(rgb.shape[:2]) / 640
    body = mask > 0.5
    unsure = (mask > 0.08) & (mask < 0.92)
    inside = _shrink(body, round(reach * 0.7 * unit)) & ~unsure
    outside = ~_grow(body, round(reach * unit)) & ~unsure
    trimap = np.full(mask.shape, 0.5)
    trimap[inside] = 1
    trimap[outside] = 0
    image = rgb.astype(np.float64) / 255
    closed = np.clip(estimate_alpha_cf(image, trimap), 0, 1).astype(np.float32)
    guided = refine_mask(rgb, mask)
    colour = np.asarray(estimate_foreground_ml(image, closed.astype(np.float64)), np.float32) * 255
    unknown = ~(inside | outside)
    agreement = np.clip(1.6 - np.abs(closed - guided) * 3, 0.1, 1)
    confidence = np.where(unknown, agreement, 1).astype(np.float32)
    return closed, colour, confidence


def refine_mask(rgb: Bytes, mask: Floats) -> Floats:
    """Align the edge of a mask with the photo by a guided filter; float32 [h,w] in 0..1."""
    guided = refine_alpha(mask, rgb, radius=5 / 640, eps=4e-4)
    return np.asarray(np.clip((guided - 0.06) / 0.88, 0, 1), np.float32)
