"""Where the head of a standing figure is, from a map of figures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# A head's height and width in units of a standing figure's height.
HEAD = (1 / 7.5, 1 / 10)


def head_of(numbers: npt.NDArray[np.uint8]) -> list[float]:
    """Return where the head of the largest figure is, [x1, y1, x2, y2], from a map of figures."""
    counts = np.bincount(numbers.ravel())
    counts[0] = 0
    rows, columns = np.nonzero(numbers == int(counts.argmax()))
    height = float(rows.max() - rows.min() + 1)
    top = rows < rows.min() + HEAD[0] * height
    middle, half = float(np.median(columns[top])), HEAD[1] * height / 2
    return [middle - half, float(rows.min()), middle + half, rows.min() + HEAD[0] * height]
