"""From what the matting network says to the one subject of a headshot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import flecks, fog, geometry
from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.matte import clean
from headshot.imaging.parts import SideBySide, one_by_one

_OPINION_SIDE = 256


def second_opinion(alpha: U8, photo_width: int, matrix: NDArray[np.floating], canvas: int) -> U8:
    """Return what the network said of the whole photo, as it lies on the canvas.

    The network sees the canvas at another size and with another part of the scene, so where it
    doubts, the two answers are nearly independent. The first was needed for framing anyway.

    Args:
        alpha: uint8 [h0, w0], the photo's matte.
        photo_width: pixels.
        matrix: [2, 3], photo -> canvas.
        canvas: side of the canvas in pixels.

    Returns:
        uint8 [256, 256]; beyond the photo its edge is continued, as on the canvas.
    """
    wide, small = photo_width / alpha.shape[1], _OPINION_SIDE / canvas
    linear, offset = np.asarray(matrix, np.float64)[:2, :2], np.asarray(matrix, np.float64)[:2, 2]
    # Pixels' middles lie at half numbers: pixel i of the matte is at (i + 1/2) wide - 1/2.
    moved = small * (linear @ np.full(2, 0.5 * wide - 0.5) + offset) + 0.5 * small - 0.5
    there = np.column_stack([small * wide * linear, moved])
    return geometry.warp(alpha, there, (_OPINION_SIDE, _OPINION_SIDE), "replicate")


def settle(
    alpha: U8 | F32,
    image: U8,
    face: NDArray[np.floating],
    opinion: U8 | None = None,
    side_by_side: SideBySide = one_by_one,
) -> tuple[U8 | F32, U8 | None]:
    """Return the subject's matte: other islands, scraps of the background and fog are gone.

    Args:
        alpha: [h0, w0] of the network, uint8 0..255 or float32 0..1.
        image: uint8 [h, w, 3], the picture it belongs to, of the same aspect.
        face: (x, y) in the face, in pixels of `alpha`.
        opinion: of `second_opinion`, heard about banks of fog and scraps.
        side_by_side: does what does not need each other.

    Returns:
        ([h0, w0] of the dtype of `alpha`, uint8 [h0, w0]: 1 where scraps were taken off and colour
        has no say any more; None where there were none).
    """
    whole = clean(fog.clear(alpha, opinion), seed=face)
    # Before the fog is decided: a fog of the background's colours is background, whatever it says.
    kept = flecks.remove(whole, image, opinion, side_by_side)
    around = None if kept is whole else flecks.around(whole, kept)
    return clean(fog.decide(kept), seed=face), around
