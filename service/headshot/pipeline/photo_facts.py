"""What can be measured on one photo before any judgement."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from headshot.imaging import geometry
from headshot.imaging.colorimetry import U8, luma, to_lab
from headshot.imaging.face import shape_of
from headshot.imaging.pose import FaceAngles, face_angles
from headshot.imaging.quality import ofiq, realism
from headshot.imaging.skin import finest_texture

# In units of the face scale: from the eyes to the middle of the face, from there to its edge.
_MIDDLE = 0.62
_REACH = 1.34
# From the eyes to the far edge of forehead and cheeks, with a margin for filters.
_SKIN_REACH = 1.2
_MOST_SCALE = 192.0
# Pixels of face scale from which skin's texture can be told.
_LEAST_SCALE = 90.0
_HASH_SIDE = 512


@dataclass(frozen=True)
class PhotoFacts:
    """What was measured on one photo; None where it could not be.

    Attributes:
        size: (width, height) of the upright photo.
        faces: how many faces were found.
        box: float32 [4] of the chosen face.
        landmarks: float32 [5, 2] of the chosen face.
        angles: head pose, degrees.
        inter_eye: distance of the eyes, pixels.
        sharpness: levels, see `quality.realism.sharpness`.
        light: luminance components of the face.
        skin_detail: L*, see `imaging.skin.finest_texture`; None for faces too small to tell.
        glare: fraction of the eye regions that is burnt to colourless white.
        room_above: from the upper edge to the crown, in face units; negative where the head is cut.
        room_below: from the chin to the lower edge, in face units; negative where the chin is cut.
        picture_hash: 64-bit perceptual hash.
        similarity: to the template of the set's other photos, None until it is known.
        threshold: the recogniser's threshold for that.
    """

    size: tuple[int, int]
    faces: int
    picture_hash: int
    box: NDArray[np.float32] | None = None
    landmarks: NDArray[np.float32] | None = None
    angles: FaceAngles | None = None
    inter_eye: float = 0.0
    sharpness: float = 0.0
    light: ofiq.FaceLight | None = None
    skin_detail: float | None = None
    glare: float = 0.0
    room_above: float = 0.0
    room_below: float = 0.0
    similarity: float | None = None
    threshold: float = 0.0


def measure_photo(
    image: U8,
    faces: int,
    box: NDArray[np.float32] | None,
    landmarks: NDArray[np.float32] | None,
) -> PhotoFacts:
    """Return the facts of one photo.

    Args:
        image: uint8 [h, w, 3], upright.
        faces: how many were found.
        box: float32 [4] of the chosen face, None where there is none.
        landmarks: float32 [5, 2] of it.
    """
    size = (image.shape[1], image.shape[0])
    code = perceptual_hash(image)
    if landmarks is None:
        return PhotoFacts(size=size, faces=faces, picture_hash=code)
    part, points = _around_face(image, landmarks)
    whole = shape_of(landmarks)
    sharpness = realism.sharpness(part, points)
    detail = _skin_detail(part, points) if whole.scale >= _LEAST_SCALE else None
    light = ofiq.face_light(part, points)
    glare = _glare(part, points)
    return PhotoFacts(
        size=size,
        faces=faces,
        picture_hash=code,
        box=box,
        landmarks=landmarks,
        angles=face_angles(landmarks),
        inter_eye=whole.inter_eye,
        sharpness=sharpness,
        light=light,
        skin_detail=detail,
        glare=glare,
        room_above=whole.crown_y / whole.scale,
        room_below=(size[1] - whole.chin_y) / whole.scale,
    )


def _around_face(image: U8, landmarks: NDArray[np.float32]) -> tuple[U8, NDArray[np.float64]]:
    """Return the face, all that is measured, at less than 192 px of face scale.

    A circle around the face's ellipse (`imaging.face.face_mask`) with a margin for filters. Large
    faces are halved, which is exact and many times faster than other ratios, until cost is bounded.
    """
    face = shape_of(landmarks)
    tilt = np.radians(face.tilt)
    middle = np.array(face.eyes) + _MIDDLE * face.scale * np.array([-np.sin(tilt), np.cos(tilt)])
    factor = 1
    while face.scale / factor >= _MOST_SCALE:
        factor *= 2
    x0, y0 = (max(0, int(v)) for v in middle - _REACH * face.scale)
    x1, y1 = (int(v) + 1 for v in middle + _REACH * face.scale)
    part = image[y0:y1, x0:x1]
    points = np.asarray(landmarks, np.float64) - (x0, y0)
    if factor > 1 and min(part.shape[:2]) >= factor:
        size = (part.shape[1] // factor, part.shape[0] // factor)
        part = geometry.shrink(part[: size[1] * factor, : size[0] * factor], size)
        points = points / factor
    return np.ascontiguousarray(part), points


def _skin_detail(part: U8, points: NDArray[np.float64]) -> float:
    """Return `finest_texture` of the part of the face in which it looks for skin."""
    face = shape_of(points)
    reach = _SKIN_REACH * face.scale
    x0, y0 = (max(0, int(v - reach)) for v in face.eyes)
    x1, y1 = (int(v + reach) + 1 for v in face.eyes)
    return finest_texture(part[y0:y1, x0:x1], points - (x0, y0))


def _glare(part: U8, points: NDArray[np.float64]) -> float:
    some, at = _thinned(part, points)
    scale = shape_of(at).scale
    mask = np.zeros(some.shape[:2], np.uint8)
    for x, y in at[:2]:
        axes = (max(1, round(0.42 * scale)), max(1, round(0.3 * scale)))
        cv2.ellipse(mask, (round(float(x)), round(float(y))), axes, 0, 0, 360, 255, -1)
    pixels = some[mask > 0]
    if pixels.size == 0:
        return 0.0
    lab = to_lab(pixels)
    burnt = (lab[:, 0] > 94) & (np.hypot(lab[:, 1], lab[:, 2]) < 9)
    return float(burnt.mean())


def _thinned(part: U8, points: NDArray[np.float64]) -> tuple[U8, NDArray[np.float64]]:
    """Return every second pixel of every second row: enough to count what share is how bright."""
    step = 2 if shape_of(points).scale >= _MOST_SCALE / 2 else 1
    return np.ascontiguousarray(part[::step, ::step]), points / step


def perceptual_hash(image: U8) -> int:
    """Return the 64-bit DCT hash (pHash): signs of the low frequencies against their median."""
    # Every so many pixels: what averages over a sixteenth of a part leave out is no low frequency.
    step = max(1, min(image.shape[:2]) // _HASH_SIDE)
    rows = image[::step]
    width = -(-rows.shape[1] // step)
    coarse = np.asarray(
        cv2.resize(rows[:, : width * step], (width, len(rows)), interpolation=cv2.INTER_NEAREST),
        np.uint8,
    )
    small = cv2.resize(luma(coarse), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
