"""Portraits at the largest size that the denoiser's training looks at, in a tenth of the bytes.

    python -m export_scripts.datasets.reduced pack --data DIR --out DIR
    python -m export_scripts.datasets.reduced unpack --data DIR --out DIR

``pack`` reads the cache of datasets.pictures and datasets.portraits and writes each photo as AVIF
(quality 80, colour at full resolution: 42 to 45 dB) into ``DIR/<source>/``, for another machine;
``unpack`` makes ``.npy`` files (uint8 RGB) of them again, which is what the training reads.
``identities.npz`` goes along.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

# Factor by which a source is reduced: to the largest size that a head-and-shoulders crop has on the
# 640 canvas; and which photos are taken, since official portraits are of few people.
SOURCES = {
    "official": (1.3, 2),
    "webmorph": (1.5, 1),
    "celeba": (1.2, 1),
    "utkface": (1.0, 1),
    "clic": (1.2, 1),
    "cid22": (1.0, 1),
    "wallpapers": (1.2, 2),
}
QUALITY = 80
IDENTITIES = "identities.npz"


def pack(photo: Path, target: Path, factor: float) -> None:
    """Write an array file (uint8 RGB [H, W, 3]) as AVIF, smaller by ``factor``."""
    picture = np.load(photo)
    if factor > 1:
        method = cv2.INTER_AREA
        picture = cv2.resize(picture, None, fx=1 / factor, fy=1 / factor, interpolation=method)
    buffer = io.BytesIO()
    options = {"quality": QUALITY, "subsampling": "4:4:4", "speed": 8, "max_threads": 1}
    Image.fromarray(picture).save(buffer, "AVIF", **options)
    target.write_bytes(buffer.getvalue())


def unpack(photo: Path, target: Path) -> None:
    """Write an AVIF file as an array, uint8 RGB [H, W, 3]."""
    with Image.open(photo) as image:
        np.save(target, np.asarray(image.convert("RGB")))


def _jobs(data: Path, out: Path, suffix: str) -> Iterator[tuple[Path, Path, str]]:
    for name in SOURCES:
        every = SOURCES[name][1] if suffix == ".avif" else 1
        other = ".npy" if suffix == ".avif" else ".avif"
        (out / name).mkdir(parents=True, exist_ok=True)
        for photo in sorted((data / name).glob(f"*{other}"))[::every]:
            yield photo, out / name / f"{photo.stem}{suffix}", name


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=("pack", "unpack"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    packing = arguments.way == "pack"
    jobs = list(_jobs(arguments.data, arguments.out, ".avif" if packing else ".npy"))
    with ProcessPoolExecutor() as pool:
        if packing:
            done = [pool.submit(pack, a, b, SOURCES[name][0]) for a, b, name in jobs]
        else:
            done = [pool.submit(unpack, a, b) for a, b, _ in jobs]
        for future in tqdm(done, mininterval=10, unit="photo"):
            future.result()
    if (arguments.data / IDENTITIES).exists():
        shutil.copyfile(arguments.data / IDENTITIES, arguments.out / IDENTITIES)


if __name__ == "__main__":
    main()
