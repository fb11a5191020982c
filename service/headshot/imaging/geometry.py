"""Where things are: similarity transforms, face alignment, letterboxing, warping, resizing, NMS.

Coordinates are (x, y) in pixels with the centre of the top-left pixel at (0, 0), as in OpenCV.
A 2x3 matrix maps source coordinates to destination coordinates. Images are uint8 [h,w] or [h,w,c],
RGB where there are three channels; nothing here changes its input.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging.parts import SideBySide, one_by_one
from headshot.imaging.pose import FaceAngles, face_angles
from headshot.imaging.template import ARCFACE_TEMPLATE, TEMPLATE_SIDE

__all__ = [
    "ARCFACE_TEMPLATE",
    "TEMPLATE_SIDE",
    "FaceAngles",
    "align_face",
    "apply_transform",
    "face_angles",
    "fit_long_side",
    "invert_transform",
    "letterbox",
    "nms",
    "resize",
    "shrink",
    "similarity_transform",
    "warp",
]

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Border = Literal["zero", "replicate", "reflect"]

_BORDERS: Final[dict[str, int]] = {
    "zero": cv2.BORDER_CONSTANT,
    "replicate": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
}


def similarity_transform(src: NDArray[Any], dst: NDArray[Any]) -> Floats:
    """Least-squares similarity (rotation, uniform scale, translation; no mirroring).

    Args:
        src: [n,2], n >= 2 points that do not all coincide.
        dst: [n,2], where they should land.

    Returns:
        float32 [2,3] with `dst ~= M[:, :2] @ src + M[:, 2]`.

    Raises:
        ValueError: shapes differ, a value is not finite, or the source points coincide.

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", IEEE PAMI 13(4), 1991, equations 34 to 43.
    """
    return _umeyama(src, dst).astype(np.float32)


def _umeyama(src: NDArray[Any], dst: NDArray[Any]) -> NDArray[np.float64]:
    a, b = np.asarray(src, dtype=np.float64), np.asarray(dst, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or a.shape[0] < 2:
        raise ValueError(f"two [n,2] arrays with n >= 2 wanted, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("points must be finite")
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    a, b = a - mean_a, b - mean_b
    variance = float((a**2).sum()) / a.shape[0]
    if variance < 1e-12:
        raise ValueError("source points coincide")
    u, d, vt = np.linalg.svd(b.T @ a / a.shape[0])
    # A reflection would fit mirrored points better; a face never needs one.
    sign = np.array([1.0, -1.0 if np.linalg.det(u) * np.linalg.det(vt) < 0 else 1.0])
    rotation = u @ np.diag(sign) @ vt
    scale = float((d * sign).sum()) / variance
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale * rotation
    matrix[:, 2] = mean_b - matrix[:, :2] @ mean_a
    return matrix


def apply_transform(matrix: NDArray[Any], points: NDArray[Any]) -> Floats:
    """Map points [..., 2] through a [2,3] matrix; float32 of the same shape."""
    m = np.asarray(matrix, dtype=np.float64)
    mapped = np.asarray(points, dtype=np.float64) @ m[:, :2].T + m[:, 2]
    return np.asarray(mapped, dtype=np.float32)


def invert_transform(matrix: NDArray[Any]) -> Floats:
    """The inverse of a [2,3] matrix; ValueError where it is singular."""
    m = np.asarray(matrix, dtype=np.float64)
    if abs(float(np.linalg.det(m[:, :2]))) < 1e-12:
        raise ValueError("matrix is singular")
    linear = np.linalg.inv(m[:, :2])
    return np.column_stack([linear, -linear @ m[:, 2]]).astype(np.float32)


def align_face(
    image: Image, landmarks: NDArray[Any], size: int = TEMPLATE_SIDE, *, antialias: bool = False
) -> Image:
    """The face on the ArcFace template, scaled to `size`; outside of the photo is black.

    Args:
        image: uint8 [h,w,3] RGB.
        landmarks: [5,2] in the order of ARCFACE_TEMPLATE.
        size: side of the crop in pixels.
        antialias: False is plain bilinear sampling, pixel for pixel what
            `insightface.utils.face_align.norm_crop` gives and recognisers are trained on.
            True first averages a much larger photo down (see `warp`), which takes away the
            sampling noise of faces several times larger than the crop.

    Returns:
        uint8 [size,size,3].

    Raises:
        ValueError: landmarks are not [5,2], not finite, or coincide.
    """
    points = np.asarray(landmarks)
    if points.shape != (5, 2):
        raise ValueError(f"landmarks must be [5,2], got {points.shape}")
    matrix = _umeyama(points, ARCFACE_TEMPLATE.astype(np.float64) * (size / TEMPLATE_SIDE))
    if antialias:
        return warp(image, matrix, (size, size), "zero")
    return _uint8(cv2.warpAffine(image, matrix, (size, size), borderValue=0.0))


def letterbox(
    image: Image, size: int, side_by_side: SideBySide = one_by_one
) -> tuple[Image, float]:
    """Fit the image into a square: top-left aligned, aspect ratio kept, the rest zero.

    Args:
        image: uint8 [h,w,3].
        size: side of the square in pixels.
        side_by_side: does halves of a picture that is shrunk.

    Returns:
        (canvas uint8 [size,size,3], scale): canvas coordinates = photo coordinates * scale to
        within half a pixel of rounding of the shorter side.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    fitted = image
    if scale < 1:
        fitted = shrink(image, target, side_by_side)
    elif target != (width, height):
        fitted = _uint8(cv2.resize(image, target, interpolation=cv2.INTER_LINEAR))
    canvas = np.zeros((size, size, *image.shape[2:]), dtype=np.uint8)
    canvas[: target[1], : target[0]] = fitted
    return canvas, scale


def nms(boxes: NDArray[Any], scores: NDArray[Any], iou: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression.

    Args:
        boxes: [n,4] x1, y1, x2, y2.
        scores: [n].
        iou: boxes whose intersection over union with a better one is above this are dropped.

    Returns:
        indices of the boxes that stay, best score first; ties in the order given.
    """
    b = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    area = np.maximum(b[:, 2] - b[:, 0], 0) * np.maximum(b[:, 3] - b[:, 1], 0)
    keep: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        keep.append(int(best))
        width = np.minimum(b[best, 2], b[rest, 2]) - np.maximum(b[best, 0], b[rest, 0])
        height = np.minimum(b[best, 3], b[rest, 3]) - np.maximum(b[best, 1], b[rest, 1])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        union = area[best] + area[rest] - common
        order = rest[common <= iou * np.maximum(union, 1e-12)]
    return np.array(keep, dtype=np.intp)


def warp(
    image: Image,
    matrix: NDArray[Any],
    size: tuple[int, int],
    border: Border = "zero",
    side_by_side: SideBySide = one_by_one,
) -> Image:
    """Affine warp with anti-aliasing.

    A matrix that shrinks by more than 1.25 first averages the photo down by area, so that the
    resampling itself (bicubic) stays near one to one; without it, hair and cloth turn to moire.
    Only the part of the photo that the output sees is averaged.

    Args:
        image: uint8 [h,w] or [h,w,c].
        matrix: [2,3], source -> destination.
        size: (width, height) of the output.
        border: what lies outside of the photo: black ("zero"), its edge ("replicate") or its
            mirror image ("reflect").
        side_by_side: does the upper and the lower half; the pixels are the same.

    Returns:
        uint8 [height,width] or [height,width,c].

    Raises:
        ValueError: the matrix is singular.
    """
    m = np.asarray(matrix, dtype=np.float64).copy()
    if size == image.shape[1::-1] and np.allclose(m, np.eye(2, 3), rtol=0, atol=1e-4):
        return np.ascontiguousarray(image)
    factor = 1.0 / math.sqrt(max(abs(float(np.linalg.det(m[:, :2]))), 1e-18))
    if factor >= 1e8:
        raise ValueError("matrix is singular")
    source = image
    if factor > 1.25:
        source, m = _prescaled(image, m, size, factor)
    out = np.empty((size[1], size[0], *image.shape[2:]), np.uint8)

    def rows(first: int, last: int) -> None:
        there = m - np.array([[0, 0, 0], [0, 0, first]])
        mode = _BORDERS[border]
        cv2.warpAffine(
            source,
            there,
            (size[0], last - first),
            dst=out[first:last],
            flags=cv2.INTER_CUBIC,
            borderMode=mode,
            borderValue=0.0,
        )

    middle = size[1] // 2
    if side_by_side is one_by_one or middle == 0:
        rows(0, size[1])
    else:
        side_by_side([partial(rows, 0, middle), partial(rows, middle, size[1])])
    return out


def _prescaled(
    image: Image, m: NDArray[np.float64], size: tuple[int, int], factor: float
) -> tuple[Image, NDArray[np.float64]]:
    """The window of the photo that the output sees, averaged down, and the matrix for it."""
    height, width = image.shape[:2]
    back = np.linalg.inv(m[:, :2])
    corners = np.array([[0, 0], [size[0], 0], [0, size[1]], [size[0], size[1]]], dtype=np.float64)
    seen = (corners - m[:, 2]) @ back.T
    # Bicubic reaches two averaged pixels out; the window keeps whole ones around its edge.
    reach = 4 * factor
    x0, y0 = (max(0, math.floor(v)) for v in seen.min(axis=0) - reach)
    x1 = min(width, math.ceil(seen[:, 0].max() + reach))
    y1 = min(height, math.ceil(seen[:, 1].max() + reach))
    if x1 - x0 < 2 or y1 - y0 < 2:  # the output looks past the photo
        x0, y0, x1, y1 = 0, 0, width, height
    # Halving is exact and several times faster than areas with fractions.
    halvings = math.floor(math.log2(factor))
    (x0, x1), (y0, y1) = (
        _whole(first, last, side, 1 << halvings)
        for first, last, side in ((x0, x1, width), (y0, y1, height))
    )
    target = (max(1, round((x1 - x0) / factor)), max(1, round((y1 - y0) / factor)))
    small = image[y0:y1, x0:x1]
    for _ in range(halvings):
        if small.shape[0] % 2 or small.shape[1] % 2:  # an odd photo, seen to both edges
            break
        half = (small.shape[1] // 2, small.shape[0] // 2)
        small = _uint8(cv2.resize(small, half, interpolation=cv2.INTER_AREA))
    small = _uint8(cv2.resize(small, target, interpolation=cv2.INTER_AREA))
    sx, sy = (x1 - x0) / target[0], (y1 - y0) / target[1]
    # small (u,v) sits at photo ((u + 0.5) * sx - 0.5 + x0, ...)
    up = np.array(
        [[sx, 0, 0.5 * sx - 0.5 + x0], [0, sy, 0.5 * sy - 0.5 + y0], [0, 0, 1]], dtype=np.float64
    )
    return small, m @ up


def _whole(first: int, last: int, side: int, step: int) -> tuple[int, int]:
    """Widen a range within 0..side to a multiple of `step`, as far as that goes."""
    last = min(side, last + (first - last) % step)
    return max(0, first - (first - last) % step), last


def resize(image: Image, size: tuple[int, int], side_by_side: SideBySide = one_by_one) -> Image:
    """Resize to (width, height): area averaging to shrink, Lanczos to grow.

    Args:
        image: uint8 [h,w] or [h,w,c].
        size: (width, height); the aspect ratio is the caller's business.
        side_by_side: does halves of a picture that is shrunk.
    """
    height, width = image.shape[:2]
    if size == (width, height):
        return np.ascontiguousarray(image)
    if size[0] <= width and size[1] <= height:
        return shrink(image, size, side_by_side)
    if size[0] >= width and size[1] >= height:
        return _uint8(cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4))
    # One side shrinks, one grows: each with its own filter.
    shrunk = (min(size[0], width), min(size[1], height))
    return resize(resize(image, shrunk), size)


def shrink(
    image: NDArray[Any], size: tuple[int, int], side_by_side: SideBySide = one_by_one
) -> NDArray[Any]:
    """Average down to (width, height), no larger than the image.

    Areas with fractions are many times slower than halving, which is exact. So a picture of more
    than twice the size is halved, after or before the odd ratio that is left: bicubic at the end
    where that is so little that nothing can alias, else bilinear at the beginning, which the
    halvings then average (53 dB or more from areas over the whole).

    Args:
        image: uint8 or float32 [h,w] or [h,w,c].
        size: (width, height).
        side_by_side: does halves of the picture, where they have the pixels of the whole.
    """
    height, width = image.shape[:2]
    halvings = 0
    while width >= size[0] << (halvings + 1) and height >= size[1] << (halvings + 1):
        halvings += 1
    made = image
    even = width % (1 << halvings) == 0 and height % (1 << halvings) == 0
    little = even and width >> halvings <= 1.25 * size[0] and halvings > 0
    # All but bicubic looks no further than the pixels that a pixel is made of.
    if side_by_side is not one_by_one and not little and height % 2 == size[1] % 2 == 0:
        return _shrunk_in_halves(image, size, side_by_side)
    if halvings > 0 and not little:
        start = (size[0] << halvings, size[1] << halvings)
        if start != (width, height):
            made = np.asarray(cv2.resize(made, start), image.dtype)
    for _ in range(halvings):
        half = (made.shape[1] // 2, made.shape[0] // 2)
        made = np.asarray(cv2.resize(made, half, interpolation=cv2.INTER_AREA), image.dtype)
    if made.shape[1::-1] == size:
        return np.ascontiguousarray(made)
    method = cv2.INTER_CUBIC if little else cv2.INTER_AREA
    return np.asarray(cv2.resize(made, size, interpolation=method), image.dtype)


def _shrunk_in_halves(
    image: NDArray[Any], size: tuple[int, int], side_by_side: SideBySide
) -> NDArray[Any]:
    """`shrink`, upper and lower half each by itself; both heights are even."""
    out = np.empty((size[1], size[0], *image.shape[2:]), image.dtype)
    middle, goal = image.shape[0] // 2, size[1] // 2

    def half(source: NDArray[Any], target: NDArray[Any]) -> None:
        target[...] = shrink(source, (size[0], goal))

    side_by_side(
        [
            partial(half, image[:middle], out[:goal]),
            partial(half, image[middle:], out[goal:]),
        ]
    )
    return out


def fit_long_side(image: Image, long_side: int) -> Image:
    """Shrink so that the longer side is exactly `long_side`; smaller images stay as they are."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= long_side:
        return np.ascontiguousarray(image)
    scale = long_side / longest
    return resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))


def _uint8(array: Any) -> Image:
    return np.asarray(array, dtype=np.uint8)
