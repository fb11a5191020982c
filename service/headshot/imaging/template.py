"""The five-point template that faces are aligned to."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

TEMPLATE_SIDE: Final = 112
"""Side in pixels of the crop that ARCFACE_TEMPLATE is given for."""

ARCFACE_TEMPLATE: Final[NDArray[np.float32]] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float32,
)
"""float32 [5,2]: left eye, right eye, nose, left mouth corner, right mouth corner as seen in the
image, in a 112x112 crop: the template that ArcFace-family recognisers are trained on."""
ARCFACE_TEMPLATE.setflags(write=False)
