"""Cutting a picture into overlapping tiles for a convolutional network, and putting it together.

No blending: every output pixel comes from one tile, at least `overlap` input pixels inside that
tile's cut edges. When `overlap` is at least the network's receptive-field radius, each such pixel
is what the network gives on the whole picture, so seams cannot show and nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tile:
    """One tile, in input pixels, half-open ranges.

    Attributes:
        y0, y1, x0, x1: the window that the network sees.
        top, bottom, left, right: the part of it that goes into the output.
    """

    y0: int
    y1: int
    x0: int
    x1: int
    top: int
    bottom: int
    left: int
    right: int

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The window of `image` [h,w,c] that the network sees (a view)."""
        return image[self.y0 : self.y1, self.x0 : self.x1]


def tiles(h: int, w: int, tile: int, overlap: int) -> list[Tile]:
    """Plan tiles that cover [h,w].

    All tiles have the same size, min(tile, h) x min(tile, w), so that they can share a batch; the
    last of a row or column is moved inwards rather than made smaller.

    Args:
        h: picture height in pixels.
        w: picture width in pixels.
        tile: side of a tile in pixels.
        overlap: margin in pixels on every cut side whose output is thrown away.

    Returns:
        tiles in row order; their output parts cover the picture exactly once.

    Raises:
        ValueError: a size is not positive, or the tile has no inside left.
    """
    if h < 1 or w < 1 or overlap < 0:
        raise ValueError(f"cannot tile {h}x{w} with overlap {overlap}")
    rows, columns = _spans(h, tile, overlap), _spans(w, tile, overlap)
    return [
        Tile(y0, y1, x0, x1, top, bottom, left, right)
        for y0, y1, top, bottom in rows
        for x0, x1, left, right in columns
    ]


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """(start, end, first output pixel, end of output) along one axis."""
    if length <= tile:
        return [(0, length, 0, length)]
    if tile <= 2 * overlap:
        raise ValueError(f"a tile of {tile} has no inside with an overlap of {overlap}")
    spans: list[tuple[int, int, int, int]] = []
    start, done = 0, 0
    while done < length:
        end = start + tile
        if end >= length:
            start, end = length - tile, length
        stop = length if end == length else end - overlap
        spans.append((start, end, done, stop))
        done, start = stop, stop - overlap
    return spans


def stitch(
    plan: Sequence[Tile],
    parts: Iterable[NDArray[np.uint8]],
    scale: int = 1,
) -> NDArray[np.uint8]:
    """Put the network's outputs together.

    Args:
        plan: from `tiles`.
        parts: for each tile in order, uint8 [scale*(y1-y0), scale*(x1-x0), c].
        scale: output pixels for each input pixel.

    Returns:
        uint8 [scale*h, scale*w, c], made of the parts' own pixels.

    Raises:
        ValueError: a part is missing, too many, or has another size than its tile.
    """
    height, width = plan[-1].bottom * scale, plan[-1].right * scale
    found = list(parts)
    if not found:
        raise ValueError("no tiles")
    out = np.empty((height, width, *found[0].shape[2:]), dtype=np.uint8)
    paste(plan, found, scale, out)
    return out


def paste(
    plan: Sequence[Tile],
    parts: Iterable[NDArray[np.uint8]],
    scale: int,
    out: NDArray[np.uint8],
) -> None:
    """Write the network's outputs to their places in uint8 [scale*h, scale*w, c].

    Raises:
        ValueError: a part is missing, too many, or has another size than its tile.
    """
    for tile, part in zip(plan, parts, strict=True):
        wanted = ((tile.y1 - tile.y0) * scale, (tile.x1 - tile.x0) * scale)
        if part.shape[:2] != wanted:
            raise ValueError(f"a tile gave {part.shape[:2]}, {wanted} wanted")
        y, x = (tile.top - tile.y0) * scale, (tile.left - tile.x0) * scale
        rows, columns = (tile.bottom - tile.top) * scale, (tile.right - tile.left) * scale
        out[tile.top * scale : tile.bottom * scale, tile.left * scale : tile.right * scale] = part[
            y : y + rows, x : x + columns
        ]


def strips(needed: NDArray[np.bool_], rows: int, overlap: int, step: int = 32) -> list[Tile]:
    """Plan tiles that cover the part of a picture that is needed, and little more.

    Strips of equal height, each as wide as what is needed in it: a person is narrow at the head and
    wide at the shoulders.

    Args:
        needed: bool [h, w].
        rows: height of a strip in pixels, without its margins.
        overlap: as for `tiles`.
        step: strips begin and end at multiples of so many columns, so that few sizes occur.

    Returns:
        tiles in row order, none for strips in which nothing is needed.
    """
    height, width = needed.shape
    plan = []
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        columns = np.flatnonzero(needed[top:bottom].any(axis=0))
        if columns.size == 0:
            continue
        left = int(columns[0]) // step * step
        right = min(width, (int(columns[-1]) // step + 1) * step)
        plan.append(
            Tile(
                max(0, top - overlap),
                min(height, bottom + overlap),
                max(0, left - overlap),
                min(width, right + overlap),
                top,
                bottom,
                left,
                right,
            )
        )
    return plan


def covered(plan: Sequence[Tile], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return bool [h, w], the output parts of tiles."""
    found = np.zeros(shape, bool)
    for tile in plan:
        found[tile.top : tile.bottom, tile.left : tile.right] = True
    return found
