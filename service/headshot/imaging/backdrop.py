"""Draws backgrounds: solid, gradient, the own scene out of focus, a given image."""

from __future__ import annotations

import math

import cv2
import numpy as np

from headshot.imaging.background import BackgroundSpec, gradient_centre, lab_of, rgb_of
from headshot.imaging.colorimetry import F32, U8, srgb_to_linear, to_lab
from headshot.imaging.enlarge import enlarged_block
from headshot.imaging.framing_model import Crop

_SCENE_SIDE = 192
_GLOW_ROW, _GLOW_REACH = 0.42, 0.6
"""Where a gradient is lightest, over the height, and how far it reaches; 0.5 are the edges."""
_MOST_SPARE = 4
"""Areas of what is drawn that a covering picture, scaled as a whole, may have."""


def render(
    spec: BackgroundSpec,
    size: tuple[int, int],
    *,
    scene: U8 | None = None,
    alpha: F32 | None = None,
    crop: Crop | None = None,
    canvas: int = 640,
    seed: int = 0,
) -> U8:
    """Draw a background.

    Args:
        spec: a concrete one (not `auto`; see `choose`).
        size: (width, height) to draw.
        scene: uint8 [s, s, 3], the portrait canvas at any resolution; needed by `blur`.
        alpha: float32 [s, s], its matte; needed by `blur`.
        crop: the part of the canvas that `size` shows, in pixels of `canvas`; None is all of it.
        canvas: side that `crop` counts in.
        seed: of the dither that keeps smooth tones from banding.

    Returns:
        uint8 [height, width, 3] sRGB.

    Raises:
        ValueError: `auto`, or `blur` without scene and matte.
    """
    width, height = size
    if spec.kind == "solid":
        row = np.tile(np.array(rgb_of(spec.colour), np.uint8), width)
        # Row by row: numpy fills a last axis of three many times slower.
        return np.tile(row, (height, 1)).reshape(height, width, 3)
    if spec.kind == "gradient":
        return _gradient(spec, size, seed)
    if spec.kind == "image":
        assert spec.image is not None
        return _cover(spec.image, size)
    if spec.kind == "blur":
        if scene is None or alpha is None:
            raise ValueError("a background of kind blur needs the scene and its matte")
        return _defocus(
            spec, size, scene, alpha, crop or Crop(0, 0, canvas, canvas, 1.0), canvas, seed
        )
    raise ValueError("choose() turns an auto background into a concrete one first")


def _gradient(spec: BackgroundSpec, size: tuple[int, int], seed: int) -> U8:
    width, height = size
    edge = np.array(lab_of(spec.colour), np.float32)
    centre = np.array(gradient_centre(spec), np.float32)
    # The glow of one lamp on a paper roll, behind the head; gone in the corners and, but for less
    # than a tenth, at the edges: there the colour is the one that was asked for.
    w0, h0 = max(2, width // 8), max(2, height // 8)
    x = (np.arange(w0, dtype=np.float32) + 0.5) / w0 - 0.5
    y = (np.arange(h0, dtype=np.float32) + 0.5) / h0 - _GLOW_ROW
    x = x * max(1.0, width / height) ** 0.5
    y = y * np.where(y < 0, 0.5 / _GLOW_ROW, 0.5 / (1 - _GLOW_ROW))
    away = np.asarray(x[None, :] ** 2 + y[:, None] ** 2, np.float32) / _GLOW_REACH**2
    falloff = (np.maximum(1 - away, 0) ** 2)[..., None]
    lab = edge + (centre - edge) * falloff
    small = cv2.cvtColor(np.asarray(lab, np.float32), cv2.COLOR_Lab2RGB) * 255
    return _dithered(np.asarray(small, np.float32), size, seed)


def _dithered(small: F32, size: tuple[int, int], seed: int) -> U8:
    """Return float sRGB 0..255 enlarged to size, with triangular noise against banding."""
    width, height = size
    rng = np.random.default_rng(seed)
    pair = rng.random((2, 256, 256, 1), np.float32)
    across = np.tile((pair[0] + pair[1] - 1.0) * 1.2, (1, -(-width // 256), 1))[:, :width]
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, 256):
        low = min(height, top + 256)
        band = enlarged_block(small, size, (0, top, width, low)) + across[: low - top]
        out[top:low] = cv2.convertScaleAbs(np.maximum(band, 0.0))
    return out


def _cover(image: U8, size: tuple[int, int]) -> U8:
    width, height = size
    scale = max(width / image.shape[1], height / image.shape[0])
    if image.shape[0] * image.shape[1] * scale**2 > _MOST_SPARE * width * height:
        # A strip of 16384 x 64 that covers a square would take gigabytes as a whole.
        image = _middle(image, (math.ceil(width / scale) + 2, math.ceil(height / scale) + 2))
    span = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grown = cv2.resize(image, span, interpolation=method)
    left, top = (span[0] - width) // 2, (span[1] - height) // 2
    return np.asarray(
        np.ascontiguousarray(grown[top : top + height, left : left + width]), np.uint8
    )


def _middle(image: U8, least: tuple[int, int]) -> U8:
    """Return the middle of a picture, at least (width, height) of it, with the same centre."""
    spare = [max(0, side - want) // 2 for side, want in zip(image.shape[1::-1], least, strict=True)]
    return image[spare[1] : image.shape[0] - spare[1], spare[0] : image.shape[1] - spare[0]]


def _defocus(
    spec: BackgroundSpec,
    size: tuple[int, int],
    scene: U8,
    alpha: F32,
    crop: Crop,
    canvas: int,
    seed: int,
) -> U8:
    """Return the scene without the person, through a lens far out of focus."""
    side = _SCENE_SIDE
    small = srgb_to_linear(
        np.asarray(cv2.resize(scene, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    )
    person = cv2.resize(alpha, (side, side), interpolation=cv2.INTER_AREA)
    # Well beyond the soft edge, so that no hair or skin tints the fill.
    grown = cv2.dilate(person, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13)))
    # A person who leaves only strips of the scene: those strips, tinted or not; or all there is.
    known = next((part for part in (grown < 0.02, person < 0.02) if part.any()), person >= 0)
    empty = _fill(small, np.asarray(known, np.float32))
    radius = spec.blur_radius * side
    margin = int(np.ceil(0.35 * side))
    padded = cv2.copyMakeBorder(empty, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    lens = _disc(radius)
    blurred = cv2.filter2D(padded, -1, lens, borderType=cv2.BORDER_REFLECT_101)
    # A second, smaller pass rounds the disc's edge: no outline of a lamp or a word survives.
    blurred = cv2.GaussianBlur(blurred, (0, 0), 0.45 * radius)
    scale = side / canvas
    w0 = max(8, min(400, round(crop.width * scale)))
    h0 = max(8, round(w0 * size[1] / size[0]))
    sx, sy = crop.width * scale / w0, crop.height * scale / h0
    matrix = np.array(
        [
            [sx, 0, crop.x0 * scale + margin + 0.5 * sx - 0.5],
            [0, sy, crop.y0 * scale + margin + 0.5 * sy - 0.5],
        ]
    )
    view = cv2.warpAffine(
        blurred,
        matrix,
        (w0, h0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    coded = 1.055 * np.maximum(view, 0.0031308) ** (1 / 2.4) - 0.055
    coded = np.where(view <= 0.0031308, view * 12.92, coded)
    return _dithered(np.asarray(coded * 255, np.float32), size, seed)


def _fill(image: F32, known: F32) -> F32:
    """Fill unknown pixels by push-pull: averages of known ones, coarse to fine (Gortler 1996)."""
    height, width = known.shape
    if min(height, width) <= 2 or known.all():
        total = max(float(known.sum()), 1e-6)
        mean = (image * known[..., None]).sum(axis=(0, 1)) / total
        return np.asarray(np.where(known[..., None] > 0, image, mean), np.float32)
    half = (max(1, width // 2), max(1, height // 2))
    weight = np.asarray(cv2.resize(known, half, interpolation=cv2.INTER_AREA), np.float32)
    colour = cv2.resize(image * known[..., None], half, interpolation=cv2.INTER_AREA)
    colour = colour / np.maximum(weight, 1e-6)[..., None]
    coarse = _fill(np.asarray(colour, np.float32), np.asarray(weight > 0, np.float32))
    up = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.where(known[..., None] > 0, image, up), np.float32)


def _disc(radius: float) -> F32:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return np.asarray(kernel / kernel.sum(), np.float32)


def recognisability(background: U8) -> float:
    """Return the detail left in a blurred background: RMS of L* above 1/24 of the width."""
    small = cv2.resize(background, (192, 192), interpolation=cv2.INTER_AREA)
    lightness = to_lab(np.asarray(small, np.uint8))[..., 0]
    low = cv2.GaussianBlur(lightness, (0, 0), 192 / 24 / 2)
    return float(np.sqrt(np.mean((lightness - low) ** 2)))
