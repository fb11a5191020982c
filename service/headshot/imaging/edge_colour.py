"""The matte's edge decided by colour, at the picture's own resolution.

A network's matte knows where the person ends, but not which of two neighbouring pixels is a strand
of hair. Colour does where the person and what is behind differ: between a known foreground F and a
known background B a pixel I = a F + (1 - a) B has a = (I - B).(F - B) / |F - B|^2, the clean-plate
equation of blue-screen matting (Smith and Blinn, SIGGRAPH 1996) with both colours taken from what
is surely person and surely not. Where they are alike, or vary more than they differ (a flag, a
bookshelf), the matte stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.enlarge import enlarged_block, runs
from headshot.imaging.parts import SideBySide, both, one_by_one

_WORK = 256
"""Side at which colours are gathered: both are smooth along an edge."""
_DEEP = 0.016
_SHALLOW = 0.005
_OUTSIDE = 0.022
"""How far the sure person and the sure background are from the outline, over the longer side."""
_REACH_OUT = 0.030
_REACH_IN = 0.018
"""How far colour may change the matte outside and inside the outline."""
_FADE = 0.35
_NOISE = 0.05
_STRANGE = 0.3
"""Distance from the line between F and B, over its length, from which a pixel is no mixture."""
_SHADING = 0.12
"""Share of B that a rim pixel may have from the person's own shading."""
_SPREADS = (0.006, 0.025, 0.12)
"""Standard deviations, over the side, of the local means that the colours are taken from."""
_LUMP = 3
"""Pixels, at the side above, from which what colour would add is no strand."""
_LUMP_REACH = 6
_SEEN, _HELD = 0.1, 0.5
"""Opacity from which something is seen, and from which the matte before calls it the person."""
_ISLAND_REACH = 3
"""Pixels around an island in which it fades out."""
_COUNTS = 0.01
"""Weight from which a pixel counts."""
_BAND = 320
"""Rows of a block: enough that a block's work is pixels rather than calls."""

_Block = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class _Line:
    """The mixtures of B and F that the pixels of a block may be.

    Attributes:
        places: intp [n], pixels along the outline, counted row by row within the block: numpy takes
            them several times faster by one number than by row and column.
        trust: float32 [n], how far colour decides there.
        back: float32 [n, 3], B.
        span: float32 [n, 3], F - B.
    """

    places: NDArray[np.intp]
    trust: NDArray[np.float32]
    back: NDArray[np.float32]
    span: NDArray[np.float32]


Lines = dict[_Block, _Line]
"""What `decide` found of the colours at one size of the picture; `take_off_rim` needs it again."""


@dataclass(frozen=True)
class EdgeColours:
    """The two colours along the outline.

    Attributes:
        fore: float32 [h0, w0, 3], 0..255, of the person.
        back: float32 [h0, w0, 3], 0..255, of what is behind.
        trust: float32 [h0, w0], 0..1, how far colour decides; 0 away from the outline.
        bounds: float32 [h0, w0, 2], the shares of F up to which a pixel is all background and
            from which it is all person.
        rim: float32 [h0, w0], 0..1, how far the old background's light on the rim is taken off.
        apart: uint8 [h, w] of the picture settled on, 1 where what colour would add does not hang
            together with the person; None for nowhere.
    """

    fore: F32
    back: F32
    trust: F32
    bounds: F32
    rim: F32
    apart: U8 | None = None


def gather(image: U8, alpha: F32, side_by_side: SideBySide = one_by_one) -> EdgeColours:
    """Return the colours of person and background along the outline of a matte.

    Args:
        image: uint8 [h, w, 3].
        alpha: float32 [h, w], 0..1.
        side_by_side: does what does not need each other.
    """
    height, width = alpha.shape
    ratio = min(1.0, _WORK / max(height, width))
    size = (max(8, round(width * ratio)), max(8, round(height * ratio)))
    area = cv2.INTER_AREA
    colours = np.asarray(cv2.resize(image, size, interpolation=area), np.float32)
    small = np.asarray(cv2.resize(alpha, size, interpolation=area), np.float32)
    side = float(max(size))
    solid = np.asarray(small > 0.9, np.uint8)
    deep = cv2.erode(solid, _disc(_DEEP * side), borderValue=1)
    outer = cv2.dilate(np.asarray(small > 0.1, np.uint8), _disc(_OUTSIDE * side))
    known_back = np.asarray(outer == 0, np.float32)
    (back, back_spread), (fore, _) = both(
        side_by_side,
        lambda: _spread(colours, known_back, side),
        lambda: _spread(colours, np.asarray(deep, np.float32), side),
    )
    # The person's colour near the edge, shaded as it is there, without what the matte took along.
    plain = _share(colours, fore, back) > 0.75
    shallow = cv2.erode(solid, _disc(_SHALLOW * side), borderValue=1) * plain
    known_fore = np.asarray(np.maximum(deep, shallow), np.float32)
    fore, fore_spread = _spread(colours, known_fore, side)
    contrast = np.linalg.norm(fore - back, axis=-1)
    # The error of alpha that the colours' own variation makes, at its worst end.
    error = np.maximum(back_spread, 0.5 * fore_spread) / np.maximum(contrast, 1e-3)
    trust = np.clip((contrast - 36) / 40, 0, 1) * np.clip(1.6 - 6.0 * error, 0, 1)
    if known_fore.sum() < 30 or known_back.sum() < 30:
        trust = np.zeros_like(trust)
    near, depth = _near_outline(small, side)
    # A backdrop's noise, or a pattern that resembles the person, is no hair.
    none = np.minimum(_NOISE + 2.5 * back_spread / np.maximum(contrast, 1e-3), 0.5)
    # Inside, only what is nearly the background's colour is a gap: skin beside a beard, or a glint
    # in hair, is not.
    whole = 0.97 - 0.5 * np.clip((depth - 0.3) / 0.7, 0, 1)
    whole -= 0.8 * np.clip(4 * depth, 0, 1) * fore_spread / np.maximum(contrast, 1e-3)
    bounds = np.asarray(np.dstack([none, np.maximum(whole, none + 0.1)]), np.float32)
    trust *= near
    share = _share(colours, fore, back)
    trust *= 1 - _lumps(share, bounds, small, np.asarray(trust, np.float32))
    rim = np.asarray(trust * np.clip(1.5 - 5 * depth, 0, 1), np.float32)
    return EdgeColours(fore, back, np.asarray(trust, np.float32), bounds, rim)


def settle(
    image: U8, alpha: F32, side_by_side: SideBySide = one_by_one, lines: Lines | None = None
) -> tuple[F32, EdgeColours]:
    """Return the matte with its edge decided, and the colours that decide it at other sizes.

    What colour adds and does not hang together with the person is left out, here and, where it was
    found here, at every size.

    Args:
        image: uint8 [h, w, 3].
        alpha: float32 [h, w], 0..1.
        side_by_side: does parts of the picture.
        lines: where what is found of the colours at this size is kept.
    """
    colours = gather(image, alpha, side_by_side)
    out = decide(image, alpha, colours, side_by_side, lines)
    apart = _apart(alpha, out)
    if apart is None:
        return out, colours
    np.minimum(out, alpha, out=out, where=apart > 0)
    return out, replace(colours, apart=apart)


def decide(
    image: U8,
    alpha: F32,
    colours: EdgeColours,
    side_by_side: SideBySide = one_by_one,
    lines: Lines | None = None,
) -> F32:
    """Return the matte with its edge decided by colour where that can be trusted.

    Args:
        image: uint8 [h, w, 3], what the colours were gathered on, at any resolution.
        alpha: float32 [h, w], its matte.
        colours: of `gather`.
        side_by_side: does blocks of the picture.
        lines: where what is found of the colours at this size is kept.
    """
    out = alpha.copy()
    kept: Lines = {} if lines is None else lines

    def decide_block(block: _Block) -> None:
        line = kept[block] = _line(colours, image, block)
        places = line.places
        if places.size == 0:
            return
        share, strange = _shares(image, block, places, line.back, line.span)
        trust = line.trust * (1 - strange)
        none, whole = _at(colours.bounds, image, block, places).T
        share = np.clip((share - none) / (whole - none), 0, 1)
        view = out[block[1] : block[3], block[0] : block[2]]
        old = np.ascontiguousarray(view).reshape(-1).take(places)
        change = trust * (share - old)
        if colours.apart is not None:
            apart = _nearest(colours.apart, image, block).reshape(-1).take(places)
            change[(apart > 0) & (change > 0)] = 0
        view[np.divmod(places, view.shape[1])] = old + change

    side_by_side([partial(decide_block, block) for block in _blocks(colours.trust, image)])
    return out


def take_off_rim(
    foreground: U8,
    colours: EdgeColours,
    side_by_side: SideBySide = one_by_one,
    lines: Lines | None = None,
) -> U8:
    """Return the foreground without the old background's light along its rim.

    A bright wall lights the rim of a cheek and blends into the outermost pixels: before another
    background that is a line of light. What a rim pixel has of B beyond F is taken off.

    Args:
        foreground: uint8 [h, w, 3], of `foreground.estimate` with the decided matte.
        colours: of `gather`.
        side_by_side: does blocks of the picture.
        lines: as `decide` filled it at this size; None to find it here.
    """
    out = foreground.copy()
    kept: Lines = {} if lines is None else lines

    def clean_block(block: _Block) -> None:
        line = kept.get(block) or _line(colours, foreground, block)
        # The rim's weight is never above the trust: all that counts is along the line.
        weight = _at(colours.rim, foreground, block, line.places)
        some = np.flatnonzero(weight > _COUNTS)
        if some.size == 0:
            return
        places = line.places.take(some)
        back, span = line.back.take(some, axis=0), line.span.take(some, axis=0)
        share, strange = _shares(foreground, block, places, back, span)
        excess = np.clip(1 - _SHADING - share, 0, 1) * weight.take(some) * (1 - strange)
        some = np.flatnonzero(excess > 0)
        view = out[block[1] : block[3], block[0] : block[2]]
        at = np.divmod(places.take(some), view.shape[1])
        moved = view[at] + excess.take(some)[:, None] * span.take(some, axis=0)
        view[at] = np.clip(moved + 0.5, 0, 255).astype(np.uint8)

    side_by_side([partial(clean_block, block) for block in _blocks(colours.trust, foreground)])
    return out


def _blocks(weight: F32, image: U8) -> Iterator[_Block]:
    """Yield the blocks of the picture in which the weight may count."""
    height, width = image.shape[:2]
    h0, w0 = weight.shape
    some = cv2.dilate(np.asarray(weight > _COUNTS, np.uint8), np.ones((3, 3), np.uint8))
    step = max(1, _BAND * h0 // height)
    for row in range(0, h0, step):
        end = min(h0, row + step)
        for first, last in runs(np.flatnonzero(some[row:end].any(axis=0)), 8):
            y0, y1 = row * height // h0, end * height // h0
            x0, x1 = first * width // w0, last * width // w0
            yield x0, y0, x1, y1


def _line(colours: EdgeColours, image: U8, block: _Block) -> _Line:
    wide = enlarged_block(colours.trust, (image.shape[1], image.shape[0]), block)
    places = np.flatnonzero(wide > _COUNTS)
    trust = np.asarray(wide.reshape(-1).take(places), np.float32)
    back = _at(colours.back, image, block, places)
    return _Line(places, trust, back, _at(colours.fore, image, block, places) - back)


def _at(plane: F32, image: U8, block: _Block, places: NDArray[np.intp]) -> NDArray[np.float32]:
    wide = enlarged_block(plane, (image.shape[1], image.shape[0]), block)
    rows = wide.reshape(-1, *plane.shape[2:])
    return np.asarray(rows.take(places, axis=0), np.float32)


def _shares(
    image: U8,
    block: _Block,
    places: NDArray[np.intp],
    back: NDArray[np.float32],
    span: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the pixels are made of.

    The share of F float32 [n], and float32 [n] 0..1 how far a pixel is from any mixture of both:
    the corner of a shelf is neither the wall nor the person.
    """
    part = np.ascontiguousarray(image[block[1] : block[3], block[0] : block[2]])
    away = part.reshape(-1, 3).take(places, axis=0) - back
    # einsum, not sum: a sum over a last axis of three is slow.
    power = np.maximum(np.einsum("ij,ij->i", span, span), np.float32(1))
    share = np.asarray(np.einsum("ij,ij->i", away, span) / power, np.float32)
    # Beyond F lies shading of the person, beyond B a brighter wall; neither is strange.
    rest = away - share[:, None] * span
    off = np.sqrt(np.einsum("ij,ij->i", rest, rest) / power)
    strange = np.clip((off - _STRANGE) / _STRANGE, 0, 1)
    return share, np.asarray(strange, np.float32)


def _spread(colours: F32, known: F32, side: float) -> tuple[F32, NDArray[np.floating]]:
    """Return the local mean of the known pixels' colours everywhere, and their local spread."""
    mean: F32 = np.zeros_like(colours)
    square = np.zeros(known.shape, np.float32)
    weight = np.zeros(known.shape, np.float32)
    energy = known * np.einsum("ijk,ijk->ij", colours, colours)
    weighted = np.asarray(colours * cv2.merge([known] * 3), np.float32)
    for sigma in _SPREADS:
        found = _blur(known, sigma * side)
        new = np.clip(found * 40, 0, 1) * (1 - weight)
        share = np.asarray(new / (found + np.float32(1e-5)), np.float32)
        mean += _blur(weighted, sigma * side) * cv2.merge([share] * 3)
        square += _blur(energy, sigma * side) * share
        weight += new
    rest = np.maximum(weight, np.float32(1e-3))
    mean /= cv2.merge([rest] * 3)
    variance = square / rest - np.einsum("ijk,ijk->ij", mean, mean)
    return mean, np.sqrt(np.maximum(variance, 0))


def _blur(plane: F32, sigma: float) -> F32:
    """Return a Gaussian mean, worked at a scale where sigma is about 3 px."""
    ratio = min(1.0, 3.0 / sigma)
    if ratio == 1.0:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)
    height, width = plane.shape[:2]
    size = (max(8, round(width * ratio)), max(8, round(height * ratio)))
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma * ratio)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR))


def _near_outline(alpha: F32, side: float) -> tuple[F32, F32]:
    """Return 0..1, 1 near the outline and 0 from the reach on; and the depth inside, 0..1."""
    solid = np.asarray(alpha > 0.5, np.uint8)
    outside = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 3) / side
    inside = cv2.distanceTransform(solid, cv2.DIST_L2, 3) / side
    out = np.clip((_REACH_OUT - outside) / (_FADE * _REACH_OUT), 0, 1)
    into = np.clip((_REACH_IN - inside) / (_FADE * _REACH_IN), 0, 1)
    depth = np.minimum(inside / _REACH_IN, 1)
    return np.asarray(np.minimum(out, into), np.float32), np.asarray(depth, np.float32)


def _share(colours: F32, fore: F32, back: F32) -> F32:
    """Return the share of F in each pixel, float32 [h, w]; beyond 0 and 1 where it is neither."""
    span = fore - back
    away = ((colours - back) * span).sum(axis=-1)
    return np.asarray(away / np.maximum((span * span).sum(axis=-1), 1.0), np.float32)


def _lumps(share: F32, bounds: F32, alpha: F32, trust: F32) -> F32:
    """Return 0..1, 1 where colour would add something solid to the person.

    A network misses strands of hair, which are thin. What is as solid as a star of a flag beside
    grey hair is something else of the person's colour.

    Args:
        share: float32 [h, w] of F in each pixel.
        bounds: of `EdgeColours`.
        alpha: float32 [h, w], the matte before.
        trust: of `EdgeColours`.
    """
    none, whole = bounds[..., 0], bounds[..., 1]
    most = share > 0.5 * (none + whole)
    added = np.asarray((trust > 0.05) & most & (alpha < 0.5), np.uint8)
    lump = np.asarray(
        cv2.morphologyEx(added, cv2.MORPH_OPEN, np.ones((_LUMP, _LUMP), np.uint8)), np.uint8
    )
    if not lump.any():
        return np.zeros(alpha.shape, np.float32)
    beside = np.ones((3, 3), np.uint8)
    for _ in range(_LUMP_REACH):  # its tips, which are as thin as strands
        lump = np.minimum(np.asarray(cv2.dilate(lump, beside), np.uint8), added)
    wide = cv2.dilate(lump, beside).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(wide, (0, 0), 0.7), np.float32)


def _apart(before: F32, after: F32) -> U8 | None:
    """Return where colour may add nothing: in islands that hold nothing of the person before.

    Hair hangs together with a head. A leaf, the dark between two stars or a crack in a wall may
    have the hair's colour, and would float beside it.
    """
    seen = np.asarray(after > _SEEN, np.uint8)
    count, labels = cv2.connectedComponents(seen, connectivity=8)
    lone = np.ones(count, np.uint8)
    lone[labels[before > _HELD]] = 0
    lone[0] = 0
    if not lone.any():
        return None
    islands = lone[labels]
    reach = np.ones((2 * _ISLAND_REACH + 1,) * 2, np.uint8)
    # The person's own edge keeps its say, however near an island is.
    return np.asarray(cv2.dilate(islands, reach) & (islands | (1 - seen)), np.uint8)


def _nearest(mask: U8, image: U8, block: _Block) -> U8:
    """Return a block of the mask at the picture's size, not interpolated."""
    (height, width), (h0, w0) = image.shape[:2], mask.shape
    rows = np.arange(block[1], block[3]) * h0 // height
    columns = np.arange(block[0], block[2]) * w0 // width
    return np.asarray(mask[rows].take(columns, axis=1), np.uint8)


def _disc(radius: float) -> U8:
    reach = max(1, round(radius))
    return np.asarray(
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)), np.uint8
    )
