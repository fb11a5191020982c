"""The subject's light matched to the new background.

Two effects a camera would have recorded: light of the background that wraps around the subject's
edge, and none of the old room's. Both stay near the outline; skin in the middle of the face does
not move, so that the person's complexion is untouched.
"""

from __future__ import annotations

import cv2
import numpy as np

from headshot.imaging.colorimetry import F32, U8, linear_to_srgb, srgb_to_linear
from headshot.imaging.colour import tripled
from headshot.imaging.enlarge import add_shift
from headshot.imaging.geometry import shrink

_WORK = 256
_MIDDLE_GREY = np.float32(0.18)


def match(
    foreground: U8,
    alpha: F32,
    background: U8,
    *,
    strength: float = 0.22,
    width: float = 0.012,
) -> U8:
    """Return the foreground with the background's light wrapped around its edge.

    In linear light F' = F + w r (B - F) with B the blurred background, w the share of background
    within `width` of a pixel times `strength`, and r = F / (F + 0.18) for what the surface
    reflects; worked out at 256 px and added as a smooth difference, so that no texture is lost.

    Args:
        foreground: uint8 [h, w, 3] clean foreground colours.
        alpha: float32 [h, w].
        background: uint8 [h, w, 3].
        strength: share of the background's light at the very edge, 0..1.
        width: reach inwards, over the picture's longer side.

    Returns:
        uint8 [h, w, 3].
    """
    if strength <= 0:
        return foreground
    height, full_width = alpha.shape
    ratio = min(1.0, _WORK / max(height, full_width))
    size = (max(8, round(full_width * ratio)), max(8, round(height * ratio)))
    inner = np.asarray(shrink(alpha, size), np.float32)
    fore = srgb_to_linear(np.asarray(shrink(foreground, size), np.uint8))
    back = srgb_to_linear(np.asarray(shrink(background, size), np.uint8))
    reach = max(0.8, width * max(size))
    near = cv2.GaussianBlur(1.0 - inner, (0, 0), reach)
    glow = _blurred(back, 4 * reach)
    edge = np.clip(near * 2, 0, 1)
    weight = np.asarray(strength * edge * np.sqrt(edge), np.float32)
    # A surface gives back the share of light that it reflects: a black suit stays black.
    share = fore / (fore + _MIDDLE_GREY)
    lit = fore + tripled(weight) * share * (glow - fore)
    shift = linear_to_srgb(np.asarray(lit, np.float32)).astype(np.int16) - linear_to_srgb(fore)
    shift[weight < 0.004] = 0
    return add_shift(foreground, shift)


def _blurred(light: F32, sigma: float) -> F32:
    """Return float32 [h, w, 3] blurred by a Gaussian, worked where sigma is about 3 px."""
    height, width = light.shape[:2]
    size = (max(8, round(width * 3 / sigma)), max(8, round(height * 3 / sigma)))
    if size[0] >= width or size[1] >= height:
        return np.asarray(cv2.GaussianBlur(light, (0, 0), sigma), np.float32)
    small = cv2.GaussianBlur(shrink(light, size), (0, 0), sigma * size[0] / width)
    return np.asarray(
        cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )
