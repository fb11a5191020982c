"""Connected components of a mask, and which of them the rest encloses."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import U8


@dataclass(frozen=True)
class Components:
    """The components of a mask, joined along pixels' sides; number 0 is what the mask leaves out.

    Attributes:
        labels: int32 [h, w], the number of the component.
        stats: int32 [n, 5], x, y, width, height and area of each, in pixels.
        enclosed: bool [n], True for one that nowhere touches the picture's border.
    """

    labels: NDArray[np.int32]
    stats: NDArray[np.int32]
    enclosed: NDArray[np.bool_]

    def window(self, number: int, margin: int = 0) -> tuple[slice, slice]:
        """Return the rows and columns that hold a component, and a margin around it in pixels."""
        x, y, wide, high, _ = (int(value) for value in self.stats[number])
        return (
            slice(max(0, y - margin), y + high + margin),
            slice(max(0, x - margin), x + wide + margin),
        )


def components_of(mask: U8) -> Components:
    """Return the components of a 0/1 uint8 [h, w] mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    x, y, wide, high = stats[:, :4].T
    height, width = mask.shape
    enclosed = (x > 0) & (y > 0) & (x + wide < width) & (y + high < height)
    enclosed[0] = False
    return Components(
        np.asarray(labels, np.int32), np.asarray(stats, np.int32), np.asarray(enclosed, bool)
    )
