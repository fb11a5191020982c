"""The subject on the new background."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from headshot.imaging import grain as grains
from headshot.imaging import light
from headshot.imaging.colorimetry import F32, U8, linear_to_srgb, srgb_to_linear
from headshot.imaging.framing_model import Crop
from headshot.imaging.grain import Grain
from headshot.imaging.parts import SideBySide, both, one_by_one

_SOLID = 0.996
_BAND = 128


def composite(
    foreground: U8,
    alpha: F32,
    background: U8,
    *,
    wrap: float = 0.22,
    grain: Grain | None = None,
    seed: int = 0,
    linear: float = 0.0,
    side_by_side: SideBySide = one_by_one,
) -> U8:
    """Return the subject over the background.

    Args:
        foreground: uint8 [h, w, 3], of `foreground.estimate`.
        alpha: float32 [h, w].
        background: uint8 [h, w, 3] of the same size.
        wrap: strength of the light wrap (`light.match`); 0 leaves it out.
        grain: of `grain.measure` on the subject, laid over the background; None leaves it clean.
        seed: of the grain.
        linear: share of linear light in the blend of half-covered pixels, 0..1. Light adds in
            linear values, but mattes are learnt, and foregrounds estimated, by the equation in
            coded ones; the inverse of that is the blend without jagged or thinned hair.
        side_by_side: does parts of the picture.

    Returns:
        uint8 [h, w, 3].

    Raises:
        ValueError: the sizes differ.
    """
    if not foreground.shape == background.shape == (*alpha.shape, 3):
        raise ValueError(f"sizes differ: {foreground.shape}, {alpha.shape} and {background.shape}")

    def draw_ground() -> U8:
        ground = background if grain is None else grains.match(background, grain, seed=seed)
        return ground.copy() if ground is background else ground

    subject, out = both(
        side_by_side,
        lambda: light.match(foreground, alpha, background, strength=wrap),
        draw_ground,
    )
    bands = [slice(top, top + _BAND) for top in range(0, alpha.shape[0], _BAND)]
    side_by_side(
        [partial(_lay_over, subject[rows], alpha[rows], out[rows], linear) for rows in bands]
    )
    return out


def _lay_over(subject: U8, alpha: F32, out: U8, linear: float) -> None:
    """Lay rows of the subject over those of `out`, in place."""
    solid = (alpha >= _SOLID).astype(np.uint8)
    cv2.copyTo(subject, solid, out)
    places = np.flatnonzero((alpha > 0.004) & (solid == 0))
    if places.size:
        # Pixels by one number: numpy takes them several times faster than by row and column.
        fore, back = (image.reshape(-1, 3).take(places, axis=0) for image in (subject, out))
        mixed = _blend(fore, back, alpha.reshape(-1).take(places)[:, None], linear)
        out[np.divmod(places, alpha.shape[1])] = mixed


def _blend(fore: U8, back: U8, alpha: F32, linear: float) -> U8:
    coded = alpha * fore + (1 - alpha) * back.astype(np.float32)
    if linear <= 0:
        return np.asarray(coded + 0.5, np.uint8)
    light_sum = alpha * srgb_to_linear(fore) + (1 - alpha) * srgb_to_linear(back)
    physical = linear_to_srgb(np.asarray(light_sum, np.float32)).astype(np.float32)
    return np.asarray(linear * physical + (1 - linear) * coded + 0.5, np.uint8)


def place(
    foreground: U8, alpha: F32, crop: Crop, size: tuple[int, int], *, canvas: int = 640
) -> tuple[U8, F32]:
    """Return foreground and alpha of one crop at (width, height), ready for `composite`.

    Args:
        foreground: uint8 [s, s, 3], the canvas at any resolution.
        alpha: float32 [s, s].
        crop: of `framing.plan_crop`, in pixels of `canvas`; may reach outside.
        size: of the result. Both axes must have one scale (the crop's aspect).
        canvas: side that the crop counts in.

    Returns:
        (uint8 [h, w, 3], float32 [h, w]); alpha is 0 outside the canvas.
    """
    scale = foreground.shape[0] / canvas
    x0, y0 = round(crop.x0 * scale), round(crop.y0 * scale)
    x1, y1 = round(crop.x1 * scale), round(crop.y1 * scale)
    colours = _window(foreground, (x0, y0, x1, y1), cv2.BORDER_REPLICATE)
    matte = _window(alpha, (x0, y0, x1, y1), cv2.BORDER_CONSTANT)
    if size != (x1 - x0, y1 - y0):
        method = cv2.INTER_AREA if size[0] < x1 - x0 else cv2.INTER_CUBIC
        colours = cv2.resize(colours, size, interpolation=method)
        matte = np.clip(cv2.resize(matte, size, interpolation=method), 0, 1)
    return np.asarray(colours, np.uint8), np.asarray(matte, np.float32)


def _window(image: np.ndarray, box: tuple[int, int, int, int], border: int) -> np.ndarray:
    x0, y0, x1, y1 = box
    height, width = image.shape[:2]
    part = image[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    pads = (max(0, -y0), max(0, y1 - height), max(0, -x0), max(0, x1 - width))
    if not any(pads):
        return np.ascontiguousarray(part)
    return np.asarray(cv2.copyMakeBorder(part, *pads, border, value=0))


def cut_out(colours: U8, opacity: U8) -> U8:
    """Return colours uint8 [h, w, 3] and opacity uint8 [h, w] as straight RGBA, uint8 [h, w, 4].

    What is wholly transparent is black: the old scene is not to be found again by whoever drops
    the opacity.
    """
    rgba = np.dstack([colours, opacity])
    rgba[opacity == 0] = 0
    return rgba
