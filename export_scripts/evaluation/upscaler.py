"""Metrics of the upscaler: Y-PSNR on Set5 and Kodak, tiling, time.

Y-PSNR as in the x4 literature: the sharp image is cropped to multiples of 4, reduced by antialiased
bicubic interpolation and rounded; luminance of ITU-R BT.601, 4 pixels of border left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from export_scripts.datasets.pictures import Picture, decode
from export_scripts.datasets.snapshots import git_directory, list_blobs, read_blobs, snapshot_root
from export_scripts.evaluation.restoration import latency_ms, luma, psnr
from export_scripts.evaluation.runtime import Graph, parameters
from export_scripts.metrics import Metric, table

NAME = "upscaler"
SCALE = 4
SETS = {
    "Set5": ("majedelhelou/denoising_datasets", r"^CSet5/.*\.png$"),
    "Set14": ("majedelhelou/denoising_datasets", r"^CSet14/.*\.png$"),
    "Kodak": ("imazen/codec-corpus", r"^kodak/.*\.png$"),
}


def benchmark(data: Path, name: str) -> list[Picture]:
    """The photos of a benchmark, cropped to multiples of 4."""
    repository, pattern = SETS[name]
    git = git_directory(data, repository)
    photos = []
    for _, content in read_blobs(git, list_blobs(git, pattern).items()):
        photo = decode(content)
        if photo is not None:
            height, width = (side // SCALE * SCALE for side in photo.shape[:2])
            photos.append(photo[:height, :width])
    return photos


def resize(picture: Picture, factor: float) -> Picture:
    """Bicubic (antialiased when reducing), 8-bit."""
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image, np.uint8)


def luma_psnr(restored: Picture, sharp: Picture) -> float:
    """Y-PSNR in dB without the outer 4 pixels."""
    inner = np.s_[SCALE:-SCALE, SCALE:-SCALE]
    return psnr(luma(restored)[inner], luma(sharp)[inner])


def tile_difference(graph: Graph, picture: Picture, tile: int, overlap: int) -> int:
    """Largest difference (8-bit codes) between the whole image and its tiles put together."""
    whole = graph.run(picture[None])[0][0]
    worst = 0
    height, width = picture.shape[:2]
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            y, x = max(0, top - overlap), max(0, left - overlap)
            bottom, right = min(height, top + tile), min(width, left + tile)
            part = picture[y : min(height, bottom + overlap), x : min(width, right + overlap)]
            made = graph.run(np.ascontiguousarray(part)[None])[0][0]
            inner = made[(top - y) * 4 : (bottom - y) * 4, (left - x) * 4 : (right - x) * 4]
            truth = whole[top * 4 : bottom * 4, left * 4 : right * 4]
            worst = max(worst, int(np.abs(inner.astype(int) - truth.astype(int)).max()))
    return worst


def evaluate(data: Path, teachers: Path, repository: Path) -> list[Metric]:
    """All figures of the model card; ``data`` is described at ``snapshot_root``.

    No teacher is needed.
    """
    del teachers
    data = snapshot_root(data)
    folder = repository / NAME
    graph = Graph(folder / "1" / "model.onnx")
    metrics = []
    for name in SETS:
        sharp = benchmark(data, name)
        small = [resize(photo, 1 / SCALE) for photo in sharp]
        plain = [luma_psnr(resize(s, SCALE), p) for s, p in zip(small, sharp, strict=True)]
        made = [luma_psnr(graph.run(s[None])[0][0], p) for s, p in zip(small, sharp, strict=True)]
        bar = 31.0 if name == "Set5" else None
        gain_bar = 1.2 if name == "Kodak" else None
        mean, before = float(np.mean(made)), float(np.mean(plain))
        metrics.append(Metric(NAME, f"{name} Y-PSNR", mean, "dB", bar))
        metrics.append(Metric(NAME, f"{name} above bicubic", mean - before, "dB", gain_bar))
        if name == "Kodak":
            overlap = int(parameters(folder / "config.pbtxt")["overlap"])
            tiles = tile_difference(graph, small[0], 64, overlap)
            metrics.append(
                Metric(NAME, "tiled against whole, largest difference", tiles, "codes", 0, "lower")
            )
    path = folder / "1" / "model.onnx"
    metrics.append(
        Metric(
            NAME,
            "640 to 2560, OpenVINO bf16, 2 threads",
            latency_ms(path, (640, 640, 3), 5),
            "ms",
            350,
            "lower",
        )
    )
    return metrics


def main() -> None:
    """Prints the table: ``python -m export_scripts.evaluation.upscaler --data DIR``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="git snapshots, here or in snapshots/"
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    arguments = parser.parse_args()
    print(table(evaluate(arguments.data, arguments.data, arguments.repository)))


if __name__ == "__main__":
    main()
