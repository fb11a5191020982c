"""General photos for the restoration networks: git snapshots to arrays that map into memory.

``python -m export_scripts.datasets.pictures --mirror DIR --out DIR`` writes one ``.npy`` file
(uint8 RGB ``[H, W, 3]``) for each photo into ``DIR/<source>/``. Sources: BSDS500 train and test
(its validation half is the B100 benchmark and stays out), CLIC 2025 and CID22 from
imazen/codec-corpus (Kodak stays out: it is a benchmark), and elementary/wallpapers.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Blob:
    """One file of a git snapshot: object id and path."""

    oid: str
    path: str


def git_directory(mirror: Path, repository: str) -> Path:
    """The git directory of ``owner/name`` below ``mirror``; raises FileNotFoundError."""
    root = mirror / repository.replace("/", "+") / "repo"
    for candidate in (root / ".git", root):
        if (candidate / "HEAD").is_file():
            return candidate
    raise FileNotFoundError(f"no git snapshot of {repository} below {mirror}")


def list_blobs(git: Path, pattern: str) -> list[Blob]:
    """Files of the whole history whose path matches ``pattern``, each content once, by path."""
    command = ["git", f"--git-dir={git}", "rev-list", "--all", "--objects", "--missing=allow-any"]
    listing = subprocess.run(
        command, check=True, capture_output=True, env=_offline(), text=True
    ).stdout
    wanted = re.compile(pattern)
    seen: dict[str, str] = {}
    for line in listing.splitlines():
        oid, _, path = line.partition(" ")
        if wanted.search(path):
            seen.setdefault(oid, path)
    return sorted((Blob(oid, path) for oid, path in seen.items()), key=lambda b: (b.path, b.oid))


def read_blobs(git: Path, blobs: Iterable[Blob]) -> Iterator[tuple[Blob, bytes]]:
    """Yields the bytes of each blob that the snapshot holds; absent ones are skipped."""
    command = ["git", f"--git-dir={git}", "cat-file", "blob"]
    for blob in blobs:
        done = subprocess.run(
            [*command, blob.oid], check=False, capture_output=True, env=_offline()
        )
        if done.returncode == 0 and done.stdout:
            yield blob, done.stdout


def decode(data: bytes) -> Picture | None:
    """Upright RGB uint8 ``[H, W, 3]``, or None where the bytes are no photo."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def limit_side(picture: Picture, longest: int) -> Picture:
    """The picture, reduced by area averaging so that its longer side is at most ``longest``."""
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def write_photos(
    git: Path, blobs: list[Blob], out: Path, *, longest: int, smallest: int = 192
) -> int:
    """Decodes and writes ``out/<stem>-<oid8>.npy``; returns how many files now exist."""
    out.mkdir(parents=True, exist_ok=True)
    names = {blob.oid: out / f"{Path(blob.path).stem}-{blob.oid[:8]}.npy" for blob in blobs}
    missing = [blob for blob in blobs if not names[blob.oid].exists()]
    for blob, data in tqdm(read_blobs(git, missing), total=len(missing), desc=out.name):
        picture = decode(data)
        if picture is None or min(picture.shape[:2]) < smallest:
            continue
        np.save(names[blob.oid], np.ascontiguousarray(limit_side(picture, longest)))
    return sum(path.exists() for path in names.values())


def load_folder(folder: Path) -> list[tuple[str, Picture]]:
    """Every photo of a cache folder as (stem, read-only memory map), sorted by name."""
    return [(p.stem, np.load(p, mmap_mode="r")) for p in sorted(folder.glob("*.npy"))]


def prepare(mirror: Path, out: Path) -> dict[str, int]:
    """Writes every general source below ``out``; returns the number of photos for each."""
    corpus = git_directory(mirror, "imazen/codec-corpus")
    bsds = git_directory(mirror, "BIDS/BSDS500")
    walls = git_directory(mirror, "elementary/wallpapers")
    return {
        "bsds": write_photos(
            bsds, list_blobs(bsds, r"images/(train|test)/.*\.jpg$"), out / "bsds", longest=512
        ),
        "clic": write_photos(corpus, list_blobs(corpus, r"^clic2025/"), out / "clic", longest=2048),
        "cid22": write_photos(corpus, list_blobs(corpus, r"^CID22/"), out / "cid22", longest=512),
        "wallpapers": write_photos(
            walls, list_blobs(walls, r"\.(jpe?g|png)$"), out / "wallpapers", longest=1600
        ),
    }


def _offline() -> dict[str, str]:
    # A partial clone must report an absent file, not try to fetch it.
    return {**os.environ, "GIT_NO_LAZY_FETCH": "1"}


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="folder of git snapshots")
    parser.add_argument("--out", type=Path, required=True, help="cache folder")
    arguments = parser.parse_args()
    for source, count in prepare(arguments.mirror, arguments.out).items():
        print(f"{source}: {count} photos")


if __name__ == "__main__":
    main()
