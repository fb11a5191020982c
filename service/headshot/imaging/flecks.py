"""Scraps of the old background that a matte took along, found by their colours.

A network follows the outline to within a few pixels, and a stripe of a flag beside an ear is a few
pixels. Each pixel along the outline is therefore compared with two palettes: the colours that the
background surely has around there, and those that the person surely has. What is plainly of the
first and of none of the second is background, wherever the matte's edge runs. Nothing is ever
added, and only what joins the background goes: a glint on a forehead is white like a wall, but
lies inside. A pearl at an ear does not, and its colour is nowhere else on the person: what the
network calls the person at both looks stays, unless it is of a strong colour.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.colorimetry import F32, U8, to_lab
from headshot.imaging.parts import SideBySide, both, one_by_one

_COLOURS_BEHIND, _COLOURS_OWN = 12, 24
"""Sizes of both palettes; the finer one protects what the person has little of."""
_SAMPLES = 2500
_COARSE = 64
"""Side of the maps of where which colour occurs."""
_AROUND = 0.07
"""Standard deviation, over the side, of what counts as around there."""
_RARE_BEHIND, _RARE_OWN = 0.03, 0.006
"""Share of the pixels around there from which a colour counts in full: the end of a hair band is
little, and is the person's."""
_ABSENT = 40.0
"""CIELAB units that a colour which is nowhere around is further away."""
_OUTSIDE = 0.012
_CORE = 0.035
_DEEP = 0.02
"""Over the side: how far sure background is from the outline; half of how wide what is surely
person is at its narrowest, and how deep it lies."""
_SIDES = 0.07
"""Share of the side at left and right where no colour is taken for the person's: half a flag there
is as solid as a shoulder."""
_BAND = 0.035
"""How far inside the outline scraps are looked for, over the side."""
_VARIED = 9.0
"""CIELAB spread below which a background is plain: there the edge is decided finer, by
`edge_colour`."""
_OTHER = 14.0
_ALIKE = 14.0
_RATIO = 0.6
"""What goes is further than the first from every colour of the person, nearer than the second to
one of the background, and that in this proportion."""
_FOREIGN, _SOMEWHERE, _VIVID = 24.0, 20.0, 38.0
_SPOT = 0.0006
"""A spot goes whatever the network says, and although the background is not known to have its
colour around there, if it has less than this share of the picture and is vivid: further than the
first from the person's colours around there, nearer than the second to one that the background has
anywhere, and nearer than to any of the person's; of the third chroma on, all in CIELAB."""
_OWN = 8.0
"""Within this of a colour of the person a pixel is the person's."""
_DECIDED = 0.9
"""Where the matte itself doubts, the background's colours count wherever they are."""
_CERTAIN, _STRONG = 0.98, 35.0
"""Alpha at both looks from which a pixel is the person's, and the chroma in CIELAB from which
colour is heard nevertheless: a flag's red."""
_PASSES = 3
_EMPTY = 0.05
"""Alpha up to which the matte leaves a place to the background."""
_NEIGHBOURHOOD = 0.12
"""How far from the outline, over the side, a background is asked whether it is plain."""
_SOFT = 0.0016
"""Standard deviation of the cut's edge, over the side."""
_NEAR = 0.02
"""How far around a scrap, over the side, colour has no say: as far as the matte's filter looks."""


def remove(
    alpha: U8 | F32,
    image: U8,
    opinion: U8 | None = None,
    side_by_side: SideBySide = one_by_one,
) -> U8 | F32:
    """Return the matte without scraps of background along its outline.

    Args:
        alpha: [h0, w0], uint8 0..255 or float32 0..1, with the subject only (`matte.clean`).
        image: uint8 [h, w, 3], the picture it belongs to, of the same aspect.
        opinion: uint8 [h1, w1] of the same aspect, what the network says of the same picture seen
            another way; None where it was asked once, and is not believed against colour.
        side_by_side: does what does not need each other.

    Returns:
        [h0, w0], dtype of `alpha`; the very array where there is nothing to take off.
    """
    height, width = alpha.shape
    values = np.asarray(alpha.astype(np.float32) / _full(alpha), np.float32)
    fitted = image
    if image.shape[:2] != alpha.shape:
        area = cv2.INTER_AREA
        fitted = np.asarray(cv2.resize(image, (width, height), interpolation=area), np.uint8)
    colours = to_lab(fitted)
    other = None if opinion is None else _at_size(opinion, width, height)
    gone = np.zeros((height, width), np.uint8)
    for _ in range(_PASSES):
        left = np.asarray(values * (1 - gone), np.float32)
        scrap, deepest = _scraps(left, colours, other, side_by_side)
        gone |= scrap
        # What reached the band's inner end goes on behind it.
        if deepest < 0.8 * _BAND:
            break
    if not gone.any():
        return alpha
    soft = cv2.GaussianBlur(gone.astype(np.float32), (0, 0), _SOFT * max(height, width))
    kept = values * (1 - np.maximum(soft, gone))
    if alpha.dtype == np.uint8:
        return np.asarray(np.rint(kept * 255), np.uint8)
    return np.asarray(kept, np.float32)


def around(before: U8 | F32, after: U8 | F32) -> U8:
    """Return where scraps were taken off, and their surroundings: 0/1 uint8 [h0, w0].

    A filter that follows colours would bring them back: a star of a flag beside grey hair is of the
    hair's colour.

    Args:
        before: the matte that `remove` was given.
        after: what it returned.
    """
    gone = before.astype(np.float32) - after.astype(np.float32) > 0.1 * _full(before)
    reach = 2 * round(_NEAR * max(before.shape)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return np.asarray(cv2.dilate(gone.astype(np.uint8), disc), np.uint8)


def _full(alpha: U8 | F32) -> np.float32:
    return np.float32(255 if alpha.dtype == np.uint8 else 1)


def _at_size(opinion: U8, width: int, height: int) -> F32:
    large = cv2.resize(opinion, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large * np.float32(1 / 255), np.float32)


def _scraps(
    alpha: F32, colours: F32, opinion: F32 | None, side_by_side: SideBySide
) -> tuple[U8, float]:
    """Return 0/1 uint8 [h, w], 1 where scraps are, and how deep they reach over the side."""
    height, width = alpha.shape
    side = float(max(height, width))
    nothing = np.zeros((height, width), np.uint8)
    solid = np.asarray(alpha > 0.5, np.uint8)
    away = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 3) / side
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3) / side
    # What is narrower than a neck may be a scrap.
    core = _opened(solid, _CORE * side)
    behind = (alpha < _EMPTY) & (away > _OUTSIDE)
    margin = round(_SIDES * side)
    person = (core > 0) & (depth > _DEEP) & (alpha > 0.97)
    person[:, :margin] = person[:, -margin:] = False
    if min(int(behind.sum()), int(person.sum())) < 40 * _COLOURS_OWN:
        return nothing, 0.0
    band = np.flatnonzero((alpha > _EMPTY) & ((depth < _BAND) | (core == 0)))
    around = behind & (away < _NEIGHBOURHOOD)
    if band.size == 0 or not around.any():
        return nothing, 0.0
    _, spread = cv2.meanStdDev(colours, mask=around.astype(np.uint8))
    if float(np.linalg.norm(spread)) < _VARIED:
        return nothing, 0.0
    pixels = colours.reshape(-1, 3)[band]
    places = _coarse_places(band, width, height)
    (near_by, anywhere), (to_person, ever) = both(
        side_by_side,
        lambda: _distances(pixels, places, colours, behind, (_COLOURS_BEHIND, _RARE_BEHIND)),
        lambda: _distances(pixels, places, colours, person, (_COLOURS_OWN, _RARE_OWN)),
    )
    doubted = alpha.reshape(-1)[band] < _DECIDED
    to_background = np.where(doubted, anywhere, near_by)
    plainly = (to_person > _OTHER) & (to_background < np.minimum(_ALIKE, _RATIO * to_person))
    outside = np.asarray(alpha <= _EMPTY, np.uint8)
    joined = _joined(_marked(band[plainly], alpha), outside)
    foreign = (to_person > _FOREIGN) & (solid.reshape(-1)[band] > 0)
    foreign &= anywhere < np.minimum(np.minimum(_SOMEWHERE, ever), _RATIO * to_person)
    vivid = band[foreign][_chroma(pixels[foreign]) > _VIVID]
    joined |= _spots(_marked(vivid, alpha) & (1 - joined), outside | joined, depth > _DEEP)
    # Between two colours of a flag lies a blend of both that is no colour of either palette.
    strange = _marked(band[to_person > _OWN], alpha)
    beside = np.asarray(cv2.dilate(joined, np.ones((5, 5), np.uint8)), np.uint8)
    found = joined | (strange & _closed(joined | outside) & beside)
    if opinion is not None:
        taken = np.flatnonzero(found)
        own = np.minimum(alpha.reshape(-1)[taken], opinion.reshape(-1)[taken]) > _CERTAIN
        own &= _chroma(colours.reshape(-1, 3)[taken]) < _STRONG
        found.reshape(-1)[taken[own]] = 0
    return found, float(depth[found > 0].max(initial=0.0))


def _chroma(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.hypot(pixels[:, 1], pixels[:, 2]), np.float32)


def _marked(places: NDArray[np.intp], alpha: F32) -> U8:
    """Return 0/1, 1 at the places, counted row by row."""
    mask = np.zeros(alpha.size, np.uint8)
    mask[places] = 1
    return mask.reshape(alpha.shape)


def _spots(found: U8, outside: U8, inside: NDArray[np.bool_]) -> U8:
    """Return the parts of what was found that are small, compact, outermost and nowhere inside."""
    if not found.any():
        return found
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    square = np.ones((3, 3), np.uint8)
    compact, outermost, deep = np.zeros((3, count), bool)
    compact[labels[cv2.erode(found, square) > 0]] = True
    outermost[labels[cv2.dilate(outside, square) > 0]] = True
    deep[labels[inside]] = True
    chosen = compact & outermost & ~deep & (stats[:, cv2.CC_STAT_AREA] < _SPOT * found.size)
    chosen[0] = False
    return np.asarray(chosen[labels], np.uint8)


def _opened(solid: U8, radius: float) -> U8:
    height, width = solid.shape
    size = (max(8, width // 4), max(8, height // 4))
    small = cv2.resize(solid, size, interpolation=cv2.INTER_NEAREST)
    reach = max(1, round(radius * size[0] / width))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    eroded = cv2.erode(small, disc, borderValue=1)
    return np.asarray(
        cv2.resize(cv2.dilate(eroded, disc), (width, height), interpolation=cv2.INTER_NEAREST),
        np.uint8,
    )


def _coarse_places(places: NDArray[np.intp], width: int, height: int) -> NDArray[np.intp]:
    rows, columns = np.divmod(places, width)
    return np.asarray(rows * _COARSE // height * _COARSE + columns * _COARSE // width, np.intp)


def _distances(
    pixels: F32,
    places: NDArray[np.intp],
    colours: F32,
    known: NDArray[np.bool_],
    palette: tuple[int, float],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how far pixels are from the palette of the known ones around them, and of all.

    Both float32 [n], CIELAB units.
    """
    count, rare = palette
    height, width = known.shape
    at = np.flatnonzero(known)
    at = at[:: max(1, len(at) // _SAMPLES)]
    cv2.setRNGSeed(7)  # of this thread: k-means draws its first centres
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 0.5)
    _, labels, centres = cv2.kmeans(
        colours.reshape(-1, 3)[at],
        count,
        np.zeros((0, 0), np.int32),
        criteria,
        1,
        cv2.KMEANS_PP_CENTERS,
    )
    homes = _coarse_places(at, width, height)
    total = np.maximum(_occurrence(homes), np.float32(1e-6))
    # Planes: numpy is several times faster on what lies together.
    planes = np.ascontiguousarray(pixels.T)
    near_by = np.full(len(pixels), np.inf, np.float32)
    anywhere = near_by.copy()
    for label, centre in enumerate(centres):
        share = _occurrence(homes[labels[:, 0] == label]) / total
        absent = np.clip(1 - share / np.float32(rare), 0, 1) * np.float32(_ABSENT)
        away = _length(planes, centre)
        np.minimum(anywhere, away, out=anywhere)
        away += absent.take(places)
        np.minimum(near_by, away, out=near_by)
    return near_by, anywhere


def _occurrence(homes: NDArray[np.intp]) -> F32:
    """Return how much of something lies around each place of the coarse map, float32 [n]."""
    counts = np.bincount(homes, minlength=_COARSE * _COARSE).astype(np.float32)
    spread = cv2.GaussianBlur(counts.reshape(_COARSE, _COARSE), (0, 0), _AROUND * _COARSE)
    return np.asarray(spread.reshape(-1), np.float32)


def _length(planes: F32, centre: F32) -> NDArray[np.float32]:
    """Return how far pixels float32 [3, n] are from a colour float32 [3]."""
    squares = planes[0] - centre[0]
    squares *= squares
    for plane, level in zip(planes[1:], centre[1:], strict=True):
        away = plane - level
        away *= away
        squares += away
    return np.asarray(np.sqrt(squares, out=squares), np.float32)


def _closed(mask: U8) -> U8:
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)), np.uint8)


def _joined(scrap: U8, outside: U8) -> U8:
    """Return the scraps that what is surely outside comes up to, but for a blurred edge."""
    count, labels = cv2.connectedComponents(scrap, connectivity=8)
    if count <= 1:
        return scrap
    beside = cv2.dilate(outside, np.ones((9, 9), np.uint8))
    touching = np.unique(labels[(beside > 0) & (scrap > 0)])
    return np.asarray(np.isin(labels, touching[touching > 0]), np.uint8)
