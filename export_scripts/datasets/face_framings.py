"""Crops of faces with the teacher's landmarks for the very picture: what the third look learns.

    python -m export_scripts.datasets.face_framings --mirror DIR --teachers DIR --out DIR
        [--part 0/2]

Each face is framed anew several times (scaled, turned, mirrored, degraded) as a portrait in which
it takes half of the height, and the teacher is asked about this very picture: its answer for a
mirrored or degraded picture is not the mirrored answer, and part of the difference can be learned.
Writes one shard a file as it goes on (an interrupted run continues after the last): `crops` uint8
[n,96,96,3] as the served graph would cut them, `points` float32 [n,5,2] in crop sides from the
crop's centre, `held` uint8 [n]: 1 for faces that are kept for tuning. Parts can run side by side.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.datasets.packed import decode_rgb
from export_scripts.datasets.sources import (
    CANADA,
    CCP,
    CELEBA,
    LONDON,
    OFFICIAL,
    UTKFACE,
    Source,
    read_source,
)
from export_scripts.datasets.yunet import YuNet, box_iou
from export_scripts.networks.face_refiner import LEVELS, THIRD_CROP, THIRD_MARGIN
from export_scripts.training.photo_noise import degrade

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
CANVAS = 640
PHOTOS = 100  # of one shard
CUTS = 2  # crops of one framed picture
# (source, every n-th photo, framings of each face, longest side of the photo)
FACES: tuple[tuple[Source, int, int, int], ...] = (
    (LONDON, 1, 8, 1024),
    (CANADA, 1, 8, 1024),
    *((source, 1, 7, 768) for source in OFFICIAL),
    (CELEBA, 1, 8, 640),
    (CCP, 1, 2, 832),
    (UTKFACE, 1, 1, 256),
)
# Longest sides at which the teacher sees a framed picture; a face of half its height is then 80 and
# 130 pixels high, where the teacher is at its best. Large pictures are seen as training labels and
# the evaluation see large photos.
SCALES = (160, 250)
LARGE_SCALES = (160, 320, 640)
LARGE = 400
FACE_SHARE = 0.51
HELD_SHARE = 0.06
SURE = 0.65  # the teacher's score of a face that is framed
SMALLEST = 40  # its height in pixels
# How far the second look's box is from the teacher's: standard deviations in sides of the face and
# of the logarithm of its size.
BOX_SHIFT = 0.022
BOX_SCALE = 0.05


@dataclass(frozen=True)
class Framed:
    """A framed picture: RGB uint8 [s,s,3] and the teacher's row [16] for it, in its pixels."""

    picture: Bytes
    face: Floats


def is_held(key: str) -> bool:
    """Tell whether a photo is kept for tuning, by a hash of its name."""
    return hashlib.sha256(key.encode()).digest()[0] / 256 < HELD_SHARE


def framing_matrix(rng: np.random.Generator, box: Floats, side: int) -> Matrix:
    """Return the map [2,3] from a photo to a square picture of `side` pixels around a face."""
    scale = FACE_SHARE * np.exp(rng.normal(0, 0.1)) * side / float(box[3] - box[1])
    angle = np.deg2rad(rng.normal(0, 7)) if rng.random() < 0.5 else 0.0
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        linear = np.diag([-1.0, 1.0]) @ linear
    place = side * (0.5 + np.array([rng.normal(0, 0.05), rng.normal(0.01, 0.03)]))
    centre = (box[:2] + box[2:4]) / 2
    return np.concatenate([linear, (place - linear @ centre)[:, None]], 1)


def draw(rgb: Bytes, matrix: Matrix, side: int, border: int) -> Bytes:
    """Draw a photo through `matrix`, halved first where it shrinks, so that nothing aliases."""
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    linear, height = matrix[:, :2].copy(), rgb.shape[0]
    while scale < 0.6 and min(rgb.shape[:2]) > 8:
        rgb = np.asarray(cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        scale *= 2
    linear *= height / rgb.shape[0]
    smaller = np.concatenate([linear, matrix[:, 2:]], 1)
    picture = cv2.warpAffine(rgb, smaller, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(picture, np.uint8)


def frame(rng: np.random.Generator, teacher: YuNet, rgb: Bytes, box: Floats) -> Framed | None:
    """Frame a face and ask the teacher; None where it sees none at both scales."""
    roll = rng.random()
    side = 150
    if roll > 0.6:
        low, high = (LARGE, 2 * LARGE) if roll > 0.94 else (120, LARGE)
        side = int(np.exp(rng.uniform(np.log(low), np.log(high))))
    matrix = framing_matrix(rng, box, side)
    border = cv2.BORDER_CONSTANT if rng.random() < 0.6 else cv2.BORDER_REPLICATE
    picture = degrade(rng, draw(rgb, matrix, side, border), 0.5)
    flags = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 97))]
    coded = cv2.imencode(".jpg", picture, flags)[1]
    picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    scales = SCALES if side < LARGE else LARGE_SCALES
    rows = teacher.detect_at_scales(picture, scales)
    rows = rows[rows[:, 15] >= 2]
    if not len(rows):
        return None
    middle = matrix[:, :2] @ ((box[:2] + box[2:4]) / 2) + matrix[:, 2]
    half = np.sqrt(abs(np.linalg.det(matrix[:, :2]))) * (box[2:4] - box[:2]) / 2
    expected = np.concatenate([middle - half, middle + half]).astype(np.float32)
    overlap = box_iou(expected[None], rows[:, :4])[0]
    best = int(overlap.argmax())
    return Framed(picture, rows[best]) if overlap[best] > 0.4 else None


def on_canvas(rng: np.random.Generator, picture: Bytes) -> tuple[Bytes, float]:
    """Scale a picture as the service would, or as a part of a larger photo; returns the scale."""
    side = CANVAS if rng.random() < 0.75 else int(np.exp(rng.uniform(np.log(80), np.log(1100))))
    side = side // 8 * 8
    method = cv2.INTER_AREA if side < picture.shape[0] else cv2.INTER_LINEAR
    canvas = np.asarray(cv2.resize(picture, (side, side), interpolation=method), np.uint8)
    return canvas, side / picture.shape[0]


def cut(canvas: Bytes, box: Floats) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Cut a crop as `crop_squares` does; returns it and the square (x, y, side) on the canvas."""
    extent = float((box[2:4] - box[:2]).max())
    side = round(float(np.clip(extent * THIRD_MARGIN, 12, 2 * CANVAS)))
    centre = np.rint((box[:2] + box[2:4]) / 2).astype(np.int64)
    corner = centre - side // 2
    reach = side * (np.arange(THIRD_CROP) * 2 + 1) // (2 * THIRD_CROP)
    xs, ys = (np.clip(c + reach, 0, canvas.shape[0] - 1) for c in corner)
    power = 0
    while power < LEVELS - 1 and side >= 2 * THIRD_CROP * 2**power:
        power += 1
    if power:
        shape = (canvas.shape[1] >> power, canvas.shape[0] >> power)
        canvas = np.asarray(cv2.resize(canvas, shape, interpolation=cv2.INTER_AREA), np.uint8)
    crop = canvas[np.ix_(ys >> power, xs >> power)]
    return crop, np.array([*corner, side])


def sample(rng: np.random.Generator, framed: Framed) -> tuple[Bytes, Floats]:
    """Cut around a box that is off as the second look's are; returns crop and points [5,2]."""
    canvas, scale = on_canvas(rng, framed.picture)
    box = framed.face[:4] * scale
    size = box[2:] - box[:2]
    middle = (box[:2] + box[2:]) / 2 + rng.normal(0, BOX_SHIFT, 2) * size.max()
    half = size / 2 * np.exp(rng.normal(0, BOX_SCALE))
    crop, square = cut(canvas, np.concatenate([middle - half, middle + half]).astype(np.float32))
    points = framed.face[4:14].reshape(5, 2) * scale
    return crop, ((points - square[:2]) / square[2] - 0.5).astype(np.float32)


def read_faces(mirror: Path, part: int, parts: int) -> Iterator[tuple[str, bytes, int, int]]:
    """Yield (key, encoded photo, longest side, framings) of this part's photos.

    The sources take turns in proportion to their sizes, so that the first shards are like the last.
    """
    readers = [read_source(mirror, source, every=every) for source, every, _, _ in FACES]
    sizes = [
        sum(1 for _ in read_source(mirror, source, every=every, content=False))
        for source, every, _, _ in FACES
    ]
    taken = [0] * len(sizes)
    for _ in range(sum(sizes)):
        which = min(range(len(sizes)), key=lambda k: (taken[k] + 0.5) / max(sizes[k], 1))
        source, _, count, longest = FACES[which]
        place, taken[which] = taken[which], taken[which] + 1
        path, data = next(readers[which], ("", b""))
        if not path or place % parts != part:
            continue
        yield f"{source.name}/{Path(path).stem}", data, longest, count


def prepare(mirror: Path, teachers: Path, out: Path, part: int, parts: int, seed: int) -> None:
    """Write the shards of one part, each of so many photos."""
    teacher = YuNet(teachers / "yunet" / "yunet_n_dynamic.onnx")
    out.mkdir(parents=True, exist_ok=True)
    crops: list[Bytes] = []
    points: list[Floats] = []
    held: list[bool] = []
    photos = read_faces(mirror, part, parts)
    for place, (key, data, longest, count) in enumerate(tqdm(photos, mininterval=20)):
        path = out / f"part{part}of{parts}-{place // PHOTOS:04d}.npz"
        if path.exists():
            continue
        # A generator for each photo: a run that goes on draws what one run would have drawn.
        rng = np.random.default_rng((seed, part, place))
        rgb = decode_rgb(data, longest)
        for framed in framings(rng, teacher, rgb, count) if rgb is not None else ():
            for _ in range(CUTS):
                crop, where = sample(rng, framed)
                crops.append(crop)
                points.append(where)
                held.append(is_held(key))
        if place % PHOTOS == PHOTOS - 1:
            with path.with_suffix(".tmp").open("wb") as file:
                arrays = {"crops": np.stack(crops), "points": np.stack(points)}
                np.savez(file, held=np.asarray(held, np.uint8), **arrays)
            path.with_suffix(".tmp").replace(path)
            crops, points, held = [], [], []


def framings(rng: np.random.Generator, teacher: YuNet, rgb: Bytes, count: int) -> Iterator[Framed]:
    """Frame the two best faces of a photo `count` times each."""
    rows = teacher.detect_at_scales(rgb, (256,))
    rows = rows[(rows[:, 14] > SURE) & (rows[:, 3] - rows[:, 1] > SMALLEST)]
    for face in rows[:2]:
        for _ in range(count):
            framed = frame(rng, teacher, rgb, face[:4])
            if framed is not None:
                yield framed


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="fetched repositories")
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", default="0/1", help="this part of so many")
    parser.add_argument("--seed", type=int, default=20261126)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    part, parts = (int(value) for value in arguments.part.split("/"))
    prepare(arguments.mirror, arguments.teachers, arguments.out, part, parts, arguments.seed)


if __name__ == "__main__":
    main()
