"""From the chosen candidate to finished files: tone, retouch, background, crops, encoding.

All of it is work on pixels without models, done on one thread for one headshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import background, compose, foreground, framing, geometry, grain, retouch, tone
from headshot.imaging import matte as mattes
from headshot.imaging.background import BackgroundChoice, BackgroundSpec
from headshot.imaging.framing import Crop, PortraitFrame
from headshot.imaging.renditions import RenditionSpec
from headshot.pipeline.styles import Style

Image = NDArray[np.uint8]
Alpha = NDArray[np.float32]


@dataclass(frozen=True)
class Finished:
    """The toned and cut-out person, ready to be set on a background at any crop.

    Attributes:
        colours: uint8 [s, s, 3], the person with cleaned edge colours.
        scene: uint8 [s, s, 3], the same canvas with its own background.
        alpha: float32 [s, s], opacity of the person.
        landmarks: float32 [5, 2] in pixels of the canvas (not of s).
        texture_kept: skin texture after retouch over before, 1 is untouched.
    """

    colours: Image
    scene: Image
    alpha: Alpha
    landmarks: NDArray[np.float32]
    texture_kept: float
