"""From the network's small matte to a crisp one at the picture's own size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging import geometry
from headshot.imaging.colorimetry import F32, U8
from headshot.imaging.enclosed import Components, components_of
from headshot.imaging.enlarge import enlarged_block, runs
from headshot.imaging.parts import SideBySide, one_by_one

_WORK = 512
"""Side at which the local linear model is fitted; the guide carries the detail above it."""
_RADIUS, _EPS = 0.018, 5e-5
"""Of the guided filter. With half the radius hair over known backgrounds has a quarter more
gradient error (30 composites of training people); with twice of it flags come into the veil."""
_OUTSIDE, _INSIDE = (0.04, 0.12), (0.9, 0.09)
"""Where colour has no say: alpha from where, and over how much more, it leaves 0 and reaches 1."""
_NOTHING = 20
"""Of 255: alpha below which the matte rules a place out."""
_BAND = 128
"""Rows of output computed at a time, so that temporaries stay in the cache."""
_Band = tuple[int, int]
"""First row and last + 1."""
_VEIL = np.array([[1 / 0.88] * 4 + [-0.06 / 0.88]], np.float32)
"""Sum of four channels, 0.06..0.94 spread to 0..1, as a matrix for `cv2.transform`."""


def clean(alpha: U8 | F32, *, seed: NDArray[np.floating] | None = None) -> U8 | F32:
    """Keep the main subject: drop other islands and fill holes inside it.

    Args:
        alpha: [h, w] matte, uint8 0..255 or float32 0..1.
        seed: (x, y) inside the subject (the face); without it the largest region is the subject.

    Returns:
        The matte, same shape and dtype. Soft hair that joins the subject stays, and so does what
        the matte says of places that the subject encloses; what lies further than a few pixels
        from it goes. Holes of less than 0.4% of the picture are filled: larger ones are real gaps
        (an arm on the hip).
    """
    grey = alpha if alpha.dtype == np.uint8 else np.rint(alpha * 255).astype(np.uint8)
    solid = (grey > 96).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    if count <= 1:
        return alpha
    areas = stats[:, cv2.CC_STAT_AREA]
    main = 1 + int(np.argmax(areas[1:]))
    if seed is not None:
        x = int(np.clip(seed[0], 0, grey.shape[1] - 1))
        y = int(np.clip(seed[1], 0, grey.shape[0] - 1))
        main = int(labels[y, x]) or main
    subject = (labels == main).astype(np.uint8)
    reach = max(3, round(0.03 * max(grey.shape))) | 1
    near = cv2.dilate(subject, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    # Islands of hair a little away stay if they are soft and touch the reach of the subject.
    big = areas > 0.0005 * grey.size
    big[[0, main]] = False
    rest = components_of(np.asarray(1 - subject, np.uint8))
    keep = near.copy()
    # A place amid the subject that is doubted and nowhere ruled out, a dark brim of a hat, is not
    # further from it for being large.
    for i in np.flatnonzero(rest.enclosed).tolist():
        window = rest.window(i)
        place = rest.labels[window] == i
        if grey[window][place].min() >= _NOTHING:
            keep[window][place] = 1
    if big.any():
        blocked = cv2.dilate(big[labels].astype(np.uint8), np.ones((5, 5), np.uint8))
        keep[(blocked > 0) & (subject == 0)] = 0
    out = alpha * keep.astype(alpha.dtype)
    return _fill_holes(out, rest)


def _fill_holes(alpha: U8 | F32, rest: Components) -> U8 | F32:
    full = 255 if alpha.dtype == np.uint8 else 1.0
    for i in np.flatnonzero(rest.enclosed & (rest.stats[:, 4] < 0.004 * alpha.size)).tolist():
        window = rest.window(i, 4)
        hole = (rest.labels[window] == i).astype(np.uint8)
        ring = cv2.dilate(hole, np.ones((7, 7), np.uint8)) - cv2.dilate(
            hole, np.ones((3, 3), np.uint8)
        )
        # A gap in a fading edge is no hole: what lies around one is surely subject.
        if ring.any() and float(alpha[window][ring > 0].mean()) > 0.85 * full:
            alpha[window][cv2.dilate(hole, np.ones((3, 3), np.uint8)) > 0] = full
    return alpha


@dataclass(frozen=True)
class LinearMatte:
    """A matte as a local linear function of colour, for any resolution of its picture.

    Attributes:
        coefficients: float32 [h, w, 4], (a_r, a_g, a_b, b) of alpha = a . I + b, I in 0..1.
        rough: float32 [h, w], the matte interpolated.
        unsure: uint8 [h, w], 1 where the function counts, 0 where `rough` is 0 or 1 anyway.
    """

    coefficients: F32
    rough: F32
    unsure: U8


@dataclass(frozen=True)
class Guide:
    """What the fit needs of the picture alone, so that it can be had before the matte is.

    Attributes:
        size: (width, height) of the planes.
        window: side of the filter's window, pixels.
        planes: float32 [h, w] each, red, green and blue in 0..1.
        means: the same, averaged in the window.
        cofactors: float32 [h, w] each, rr, rg, rb, gg, gb, bb of the colours' covariance.
        inverse: float32 [h, w], 1 over its determinant.
        picture: uint8 [h, w, 3], the picture at that size.
    """

    size: tuple[int, int]
    window: int
    planes: tuple[F32, F32, F32]
    means: tuple[F32, F32, F32]
    cofactors: tuple[F32, ...]
    inverse: F32
    picture: U8


def refine_alpha(
    alpha_small: U8 | F32,
    guide: U8,
    *,
    radius: float = _RADIUS,
    eps: float = _EPS,
) -> F32:
    """Return the matte at the guide's size, its edges drawn along the guide's own edges.

    The colour guided filter (He, Sun and Tang, PAMI 2013) fitted at no more than 512 px, its
    coefficients enlarged and applied to the full guide (the fast guided filter, He and Sun 2015),
    only in rows and columns where the small matte is not already 0 or 1.

    Args:
        alpha_small: [h0, w0] matte of the same picture, uint8 0..255 or float32 0..1.
        guide: uint8 [H, W, 3] sRGB.
        radius: window radius over the longer side.
        eps: regularisation in squared units of 0..1 colour; larger is smoother.

    Returns:
        float32 [H, W] in 0..1.
    """
    return draw(fit(alpha_small, guide, radius=radius, eps=eps), guide)


def fit(
    alpha_small: U8 | F32,
    guide: U8 | Guide,
    *,
    radius: float = _RADIUS,
    eps: float = _EPS,
    decided: U8 | None = None,
    side_by_side: SideBySide = one_by_one,
) -> LinearMatte:
    """Return the first half of `refine_alpha`, which `draw` finishes at any resolution.

    Args:
        alpha_small: as of `refine_alpha`, and so are `guide`, `radius` and `eps`.
        guide: see there, or what `study` returned of it, with its radius and regularisation.
        radius: see there.
        eps: see there.
        decided: uint8 [h0, w0], 1 where the small matte has the say and colour has none; None for
            nowhere.
        side_by_side: fits halves of the picture.
    """
    known = guide if isinstance(guide, Guide) else study(guide, radius=radius, eps=eps)
    size, window = known.size, known.window
    rough = enlarged(alpha_small, size)
    # Further out the linear function agrees with the rough matte: the same pictures, half the work.
    grow = window // 2 | 1
    unsure = cv2.dilate(
        ((rough > 0.02) & (rough < 0.98)).astype(np.uint8), np.ones((grow, grow), np.uint8)
    )
    coefficients = np.empty((*rough.shape, 4), np.float32)
    middle = rough.shape[0] // 2
    side_by_side(
        [
            partial(_fit, known, rough, coefficients, rows)
            for rows in ((0, middle), (middle, rough.shape[0]))
        ]
    )
    if decided is not None:
        where = cv2.resize(decided.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        coefficients = _held(coefficients, rough, np.asarray(where, np.float32))
    return LinearMatte(coefficients, rough, np.asarray(unsure, np.uint8))


def _held(coefficients: F32, rough: F32, where: F32) -> F32:
    """Return the coefficients with the function held at 0 and 1 where the rough matte is sure."""
    low, high = (np.clip((rough - start) / span, 0, 1) for start, span in (_OUTSIDE, _INSIDE))
    share = np.asarray(1 - where * (1 - low * (1 - high)), np.float32)
    # Four channels, not one that numpy would have to repeat: a third of the time.
    held = np.asarray(cv2.multiply(coefficients, cv2.merge([share] * 4)), np.float32)
    held[..., 3] += where * high
    return held


def enlarged(alpha_small: U8 | F32, size: tuple[int, int]) -> F32:
    """Return the matte at (width, height), float32 0..1, its edges only interpolated."""
    small = alpha_small.astype(np.float32)
    if alpha_small.dtype == np.uint8:
        small *= np.float32(1 / 255)
    rough = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(rough, 0, 1, out=rough), np.float32)


def study(
    picture: U8, *, radius: float = _RADIUS, eps: float = _EPS, shrunk: U8 | None = None
) -> Guide:
    """Return what `fit` needs of the picture alone; about half of its work.

    Arguments are as of `refine_alpha`, whose guide the picture is; `shrunk` is the picture at
    `studied_size`, shrunk by `geometry.shrink`, None to shrink it here.
    """
    size = studied_size(picture.shape[1], picture.shape[0])
    small = geometry.shrink(picture, size) if shrunk is None else shrunk
    image = small.astype(np.float32)
    image *= np.float32(1 / 255)
    window = 2 * max(2, round(radius * max(size))) + 1
    # Planes, not pixels: numpy is several times faster on what lies together.
    r, g, b = (np.asarray(plane, np.float32) for plane in cv2.split(image))
    mr, mg, mb = (_mean(plane, window) for plane in (r, g, b))
    rr, rg = _mean(r * r, window) - mr * mr + eps, _mean(r * g, window) - mr * mg
    rb, gg = _mean(r * b, window) - mr * mb, _mean(g * g, window) - mg * mg + eps
    gb, bb = _mean(g * b, window) - mg * mb, _mean(b * b, window) - mb * mb + eps
    # The inverse of the symmetric 3x3 covariance, written out.
    c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    inverse = np.asarray(1.0 / (rr * c_rr + rg * c_rg + rb * c_rb), np.float32)
    cofactors = (c_rr, c_rg, c_rb, c_gg, c_gb, c_bb)
    held = tuple(np.asarray(plane, np.float32) for plane in cofactors)
    return Guide(size, window, (r, g, b), (mr, mg, mb), held, inverse, np.asarray(small, np.uint8))


def studied_size(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) at which a picture of that size is studied."""
    ratio = min(1.0, _WORK / max(height, width))
    return max(8, round(width * ratio)), max(8, round(height * ratio))


def _mean(plane: F32, window: int) -> F32:
    return np.asarray(
        cv2.boxFilter(plane, -1, (window, window), borderType=cv2.BORDER_REFLECT), np.float32
    )


def _fit(guide: Guide, alpha: F32, out: F32, rows: tuple[int, int]) -> None:
    """Write rows of the smoothed coefficients (a_r, a_g, a_b, b) of alpha = a . I + b.

    Args:
        guide: of the picture.
        alpha: float32 [h, w].
        out: float32 [h, w, 4].
        rows: first and last + 1 of those that are written.
    """
    first, last = rows
    # As far as a window around a window sees.
    reach = 2 * (guide.window // 2)
    seen = slice(max(0, first - reach), min(len(alpha), last + reach))

    def mean(x: F32) -> F32:
        return _mean(x, guide.window)

    (r, g, b), (mr, mg, mb) = (
        [plane[seen] for plane in planes] for planes in (guide.planes, guide.means)
    )
    c_rr, c_rg, c_rb, c_gg, c_gb, c_bb = (plane[seen] for plane in guide.cofactors)
    inverse, alpha = guide.inverse[seen], alpha[seen]
    mp = mean(alpha)
    pr, pg, pb = mean(r * alpha) - mr * mp, mean(g * alpha) - mg * mp, mean(b * alpha) - mb * mp
    a_r = (c_rr * pr + c_rg * pg + c_rb * pb) * inverse
    a_g = (c_rg * pr + c_gg * pg + c_gb * pb) * inverse
    a_b = (c_rb * pr + c_gb * pg + c_bb * pb) * inverse
    offset = mp - a_r * mr - a_g * mg - a_b * mb
    whole = mean(np.asarray(cv2.merge([a_r, a_g, a_b, offset]), np.float32))
    out[first:last] = whole[first - seen.start : last - seen.start]


def draw(matte: LinearMatte, guide: U8, side_by_side: SideBySide = one_by_one) -> F32:
    """Return alpha float32 [H, W] of a picture at any size.

    The linear function where the matte is unsure, the enlarged rough matte elsewhere.

    Args:
        matte: of `fit`.
        guide: uint8 [H, W, 3], the fitted picture.
        side_by_side: draws bands of it.
    """
    alpha = np.empty(guide.shape[:2], np.float32)

    def draw_band(band: _Band, rows: slice) -> None:
        _draw_band(matte, guide, band, alpha[rows])

    side_by_side([partial(draw_band, *band) for band in _bands(matte, guide)])
    return alpha


def draw_levels(matte: LinearMatte, guide: U8, side_by_side: SideBySide = one_by_one) -> U8:
    """Return what `draw` does, in levels 0..255: uint8 [H, W]; arguments are as there."""
    levels = np.empty(guide.shape[:2], np.uint8)

    def draw_band(band: _Band, rows: slice) -> None:
        alpha = np.empty(levels[rows].shape, np.float32)
        _draw_band(matte, guide, band, alpha)
        levels[rows] = cv2.convertScaleAbs(alpha, alpha=255)

    side_by_side([partial(draw_band, *band) for band in _bands(matte, guide)])
    return levels


def _bands(matte: LinearMatte, guide: U8) -> Iterator[tuple[_Band, slice]]:
    """Yield bands of rows of the fitted picture, and the rows of the drawn one that are theirs."""
    rows, height = matte.rough.shape[0], guide.shape[0]
    step = max(1, _BAND * rows // height)
    for top in range(0, rows, step):
        last = min(rows, top + step)
        part = slice(top * height // rows, last * height // rows)
        if part.start < part.stop:
            yield (top, last), part


def _draw_band(matte: LinearMatte, guide: U8, band: _Band, alpha: F32) -> None:
    """Write the alpha of the rows that belong to rows first..last of the fitted picture."""
    height, width = guide.shape[:2]
    h0 = matte.rough.shape[0]
    first, last = band
    # Nearest, as cv2.resize does it: the sample that the pixel's corner lies in.
    rows = np.arange(first * height // h0, last * height // h0) * h0 // height
    columns = np.arange(width) * matte.rough.shape[1] // width
    sure = (matte.rough[rows[0] : rows[-1] + 1] > 0.5).astype(np.float32)
    np.take(sure.take(columns, axis=1), rows - rows[0], axis=0, out=alpha)
    columns = np.flatnonzero(matte.unsure[first:last].any(axis=0))
    # Runs of columns, so that the empty middle between both shoulders costs nothing.
    for left0, right0 in runs(columns, 24):
        _apply_block(matte.coefficients, guide, alpha, (first, last, left0, right0))


def _apply_block(
    coefficients: F32, guide: U8, alpha: F32, block: tuple[int, int, int, int]
) -> None:
    """Write alpha, the rows of the block, in its columns."""
    height, width = guide.shape[:2]
    h0, w0 = coefficients.shape[:2]
    top0, low0, left0, right0 = block
    y0, y1 = top0 * height // h0, low0 * height // h0
    x0, x1 = left0 * width // w0, right0 * width // w0
    wide = enlarged_block(coefficients, (width, height), (x0, y0, x1, y1))
    # The guide's fourth channel is 255, so that the products' sum is a . I + b.
    colour = cv2.cvtColor(guide[y0:y1, x0:x1], cv2.COLOR_RGB2RGBA)
    product = cv2.multiply(wide, colour, scale=1 / 255, dtype=cv2.CV_32F)
    # The filter's average leaves a faint veil on both sides of the edge: clip it away.
    out = cv2.transform(product, _VEIL)
    np.clip(out, 0, 1, out=alpha[:, x0:x1])
