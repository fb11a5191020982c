"""Train the face detector on the teacher's labels.

    python -m export_scripts.training.face_detector --data DIR --out DIR [--minutes 25] [--resume]

`--data` holds the packs of export_scripts.datasets.detection. Batches alternate between 320 and
640 pixel canvases of about the same cost: the small ones show many photos, the large ones large
faces. Ends at a set time; checkpoints every 2.5 minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.networks.face_detector import build, cell_centres, decode
from export_scripts.training.detector_samples import DetectorSamples
from export_scripts.training.precision import fast_autocast
from export_scripts.training.wallclock import WallClockRun

BATCHES = ((320, 12), (640, 4))
LEARNING_RATE = 2e-3


class Batches(IterableDataset[list[Tensor]]):
    """Endless batches: canvases uint8 [B,S,S,3], fields [B,N,14], quality [B,N], ignored [B,N]."""

    def __init__(self, data: Path, seed: int) -> None:
        self.data, self.seed = data, seed

    def __iter__(self) -> Iterator[list[Tensor]]:
        cv2.setNumThreads(1)
        samples = DetectorSamples(self.data)
        rng = np.random.default_rng(self.seed)
        while True:
            for side, count in BATCHES:
                rows = [samples.sample(rng, side) for _ in range(count)]
                yield [
                    torch.from_numpy(np.stack([canvas for canvas, _ in rows])),
                    torch.from_numpy(np.stack([target.fields for _, target in rows])),
                    torch.from_numpy(np.stack([target.quality for _, target in rows])),
                    torch.from_numpy(np.stack([target.ignored for _, target in rows])),
                ]


def overlap_loss(boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1 - generalised IoU, IoU) of boxes [n,4]; Rezatofighi et al., 2019."""
    low, high = torch.maximum(boxes[:, :2], truth[:, :2]), torch.minimum(boxes[:, 2:], truth[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (truth[:, 2:] - truth[:, :2]).prod(1) - shared
    iou = shared / area.clamp(min=1e-6)
    outer_low = torch.minimum(boxes[:, :2], truth[:, :2])
    outer_high = torch.maximum(boxes[:, 2:], truth[:, 2:])
    outer = (outer_high - outer_low).prod(1).clamp(min=1e-6)
    return 1 - iou + (outer - area) / outer, iou


def detector_loss(
    levels: list[Tensor], cells: Tensor, fields: Tensor, quality: Tensor, ignored: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Quality focal loss of the scores, GIoU of the boxes, L1 of the landmarks by face size."""
    rows = torch.cat([level.float().flatten(2).transpose(1, 2) for level in levels], 1)
    logits = rows[..., 0]
    positive = quality > 0
    raw, truth = rows[positive][:, 1:], fields[positive]
    boxes, points = decode(raw, cells.expand(len(rows), -1, -1)[positive])
    loss_box, iou = overlap_loss(boxes, truth[:, :4])
    size = (truth[:, 2:4] - truth[:, :2]).amax(1).clamp(min=1)
    weight = quality[positive]
    total = weight.sum().clamp(min=1)
    error = (points.flatten(1) - truth[:, 4:]).abs() / size[:, None]
    loss_points = (torch.log1p(error * 20) * weight[:, None]).sum() / total / 10
    target = torch.zeros_like(logits)
    target[positive] = weight * (0.25 + 0.75 * iou.detach().clamp(0, 1))
    probability = torch.sigmoid(logits)
    focal = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = focal * (target - probability).detach().abs() ** 2 * (1 - ignored)
    loss_score = focal.sum() / total
    loss_overlap = (loss_box * weight).sum() / total
    loss = 2 * loss_score + 2 * loss_overlap + 2 * loss_points
    parts = {
        "score": float(loss_score),
        "iou": float((iou * weight).sum() / total),
        "landmarks": float((error.mean(1) * weight).sum() / total),
    }
    return loss, parts


def train(data: Path, out: Path, minutes: float, seed: int, resume: bool) -> None:
    """Train until the time is up; writes checkpoint.pt and weights.safetensors below `out`."""
    torch.manual_seed(seed)
    network = build().train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.02)
    run = WallClockRun(network, [optimizer], out, minutes=minutes, decay=0.997)
    if resume:
        run.resume()
    loader = iter(DataLoader(Batches(data, seed + run.step_count), None, num_workers=1))
    cells = {side: cell_centres(side, side) for side, _ in BATCHES}
    bar = tqdm(total=round(minutes * 60), unit="s", mininterval=15, initial=int(run.spent))
    shown: dict[str, float] = {}
    while run.start_step():
        images, fields, quality, ignored = next(loader)
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        x = x.contiguous(memory_format=torch.channels_last)
        with fast_autocast():
            levels = network(x)
        loss, parts = detector_loss(levels, cells[images.shape[1]], fields, quality, ignored)
        loss.backward()  # type: ignore[no-untyped-call]
        run.end_step(clip=5.0)
        for name, value in parts.items():
            shown[name] = 0.97 * shown.get(name, value) + 0.03 * value
        bar.n = int(run.spent)
        bar.set_postfix(step=run.step_count, **{k: f"{v:.4f}" for k, v in shown.items()})
    run.save()
    bar.close()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.data, arguments.out, arguments.minutes, arguments.seed, arguments.resume)


if __name__ == "__main__":
    main()
