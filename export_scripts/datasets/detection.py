"""Pseudo-labelled photos for the face detector.

python -m export_scripts.datasets.detection --mirror DIR --teachers DIR --out DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.datasets.packed import PackWriter, decode_rgb, encode_jpeg
from export_scripts.datasets.sources import (
    BSDS,
    CANADA,
    CCP,
    CELEBA,
    CID22,
    CLIC,
    LONDON,
    OFFICIAL,
    URBAN,
    UTKFACE,
    WALLPAPERS,
    Source,
    read_source,
)
from export_scripts.datasets.yunet import YuNet

# (source, every n-th photo, longest side that is kept)
FACES: tuple[tuple[Source, int, int], ...] = (
    (LONDON, 1, 1024),
    (CANADA, 1, 1024),
    *((source, 1, 768) for source in OFFICIAL),
    (CELEBA, 1, 640),
    (CCP, 1, 832),
    (UTKFACE, 4, 256),
)
NEGATIVES: tuple[tuple[Source, int, int], ...] = (
    (BSDS, 1, 640),
    (CID22, 1, 640),
    (CLIC, 1, 1024),
    (URBAN, 1, 768),
    (WALLPAPERS, 1, 1024),
)
SURE_SCORE = 0.65


def prepare(mirror: Path, teachers: Path, out: Path) -> None:
    """Write `faces` and `negatives` packs: photos with teacher faces as [n,16] rows.

    Column 14 is the score, column 15 is 1 for a face to learn and 0 for one to ignore (found at
    one scale only, or with a low score).
    """
    teacher = YuNet(teachers / "yunet" / "yunet_n_dynamic.onnx")
    for name, sources in (("faces", FACES), ("negatives", NEGATIVES)):
        with PackWriter(out / name) as pack:
            for source, every, longest in sources:
                photos = read_source(mirror, source, every=every)
                for path, data in tqdm(photos, desc=source.name, mininterval=10):
                    rgb = decode_rgb(data, longest)
                    if rgb is None or min(rgb.shape[:2]) < 64:
                        continue
                    scales = (96, 160, 256) if source is UTKFACE else (160, 320, 640)
                    rows = teacher.detect_at_scales(rgb, scales)
                    sure = (rows[:, 14] >= SURE_SCORE) & (rows[:, 15] >= 2)
                    rows[:, 15] = sure
                    if name == "faces" and not sure.any():
                        continue
                    pack.add(
                        f"{source.name}/{Path(path).stem}",
                        {"image": encode_jpeg(rgb)},
                        faces=[[round(float(v), 2) for v in row] for row in rows],
                    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="fetched repositories")
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    prepare(arguments.mirror, arguments.teachers, arguments.out)


if __name__ == "__main__":
    main()
