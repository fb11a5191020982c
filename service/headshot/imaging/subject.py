"""From what the matting network says to the one subject of a headshot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import flecks, fog
from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.matte import clean


def settle(alpha: U8 | F32, image: U8, face: NDArray[np.floating]) -> tuple[U8 | F32, U8 | None]:
    """Return the subject's matte: other islands, scraps of the background and fog are gone.

    Args:
        alpha: [h0, w0] of the network, uint8 0..255 or float32 0..1.
        image: uint8 [h, w, 3], the picture it belongs to, of the same aspect.
        face: (x, y) in the face, in pixels of `alpha`.

    Returns:
        ([h0, w0] of the dtype of `alpha`, uint8 [h0, w0]: 1 where scraps were taken off and colour
        has no say any more; None where there were none).
    """
    whole = clean(fog.clear(alpha), seed=face)
    # Before the fog is decided: a fog of the background's colours is background, whatever it says.
    kept = flecks.remove(whole, image)
    around = None if kept is whole else flecks.around(whole, kept)
    return clean(fog.decide(kept), seed=face), around
