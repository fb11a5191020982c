"""Train the matting network.

    python -m export_scripts.training.matting --data DIR --out DIR [--minutes 60] [--resume]

`--data` holds the packs of export_scripts.datasets.mattes. Small canvases come first (they show
many people), 512 pixels last (they show hair). Ends at a set time; checkpoints every 2.5 minutes.
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
from tqdm import tqdm

from export_scripts.networks.matting import build
from export_scripts.training.matting_samples import MattingSamples
from export_scripts.training.wallclock import WallClockRun

# (share of the time after which it ends, canvas, batch)
PHASES = ((0.45, 256, 16), (0.70, 384, 8), (1.0, 512, 4))
LEARNING_RATE = 1.5e-3


class Batches(IterableDataset[list[Tensor]]):
    """Endless batches of one size: image uint8 [B,S,S,3], alpha and confidence uint8 [B,S,S]."""

    def __init__(self, data: Path, side: int, count: int, seed: int) -> None:
        self.data, self.side, self.count, self.seed = data, side, count, seed

    def __iter__(self) -> Iterator[list[Tensor]]:
        cv2.setNumThreads(1)
        samples = MattingSamples(self.data)
        rng = np.random.default_rng(self.seed)
        while True:
            rows = [samples.sample(rng, self.side) for _ in range(self.count)]
            yield [torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)]


def gradient_error(alpha: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """L1 of horizontal and vertical differences, [B,1,H,W] each."""
    loss = alpha.new_zeros(())
    for dim in (2, 3):
        gap = (alpha.diff(dim=dim) - truth.diff(dim=dim)).abs()
        both = torch.minimum(
            weight.narrow(dim, 0, weight.shape[dim] - 1),
            weight.narrow(dim, 1, weight.shape[dim] - 1),
        )
        loss = loss + (gap * both).mean()
    return loss


def matting_loss(
    logits: Tensor, coarse: Tensor, truth: Tensor, confidence: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy for what is person, L1 and gradients for the edge, [B,1,H,W] each."""
    logits, coarse = logits.float(), coarse.float()
    alpha = torch.sigmoid(logits)
    # Soft edges are a few per cent of the pixels and most of what is seen: weigh them up.
    local = functional.max_pool2d(truth, 9, 1, 4) + functional.max_pool2d(-truth, 9, 1, 4)
    weight = confidence * (1 + 4 * (local > 0.05).float())
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    loss_entropy = (entropy * confidence).mean()
    loss_alpha = ((alpha - truth).abs() * weight).mean()
    loss_gradient = gradient_error(alpha, truth, confidence**2)
    small = functional.avg_pool2d(truth, 8)
    trust = functional.avg_pool2d(confidence, 8)
    coarse_entropy = functional.binary_cross_entropy_with_logits(coarse, small, reduction="none")
    loss_coarse = (coarse_entropy * trust).mean()
    loss = loss_entropy + 2 * loss_alpha + 3 * loss_gradient + 0.5 * loss_coarse
    parts = {
        "mae": float(((alpha - truth).abs() * confidence).mean()),
        "gradient": float(loss_gradient),
        "coarse": float(loss_coarse),
    }
    return loss, parts


def phase_at(progress: float) -> tuple[int, int]:
    """Return canvas and batch at a share of the training time."""
    for end, side, count in PHASES:
        if progress < end:
            return side, count
    return PHASES[-1][1:]


def train(data: Path, out: Path, minutes: float, seed: int, resume: bool) -> None:
    """Train until the time is up; writes checkpoint.pt and weights.safetensors below `out`."""
    torch.manual_seed(seed)
    network = build().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.02)
    run = WallClockRun(network, optimizer, out, minutes=minutes, decay=0.997)
    if resume:
        run.resume()
    bar = tqdm(total=round(minutes * 60), unit="s", mininterval=15, initial=int(run.spent))
    shown: dict[str, float] = {}
    side = 0
    loader: Iterator[list[Tensor]] = iter(())
    while run.start_step():
        wanted, count = phase_at(run.progress)
        if wanted != side:
            side = wanted
            batches = Batches(data, side, count, seed + run.step_count)
            loader = iter(DataLoader(batches, None, num_workers=1))
        images, alpha, confidence = next(loader)
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with torch.autocast("cpu", torch.bfloat16):
            logits, coarse = network(x.contiguous(memory_format=torch.channels_last))
        truth, trust = alpha[:, None].float() / 255, confidence[:, None].float() / 255
        loss, parts = matting_loss(logits, coarse, truth, trust)
        loss.backward()  # type: ignore[no-untyped-call]
        run.end_step(clip=3.0)
        for name, value in parts.items():
            shown[name] = 0.97 * shown.get(name, value) + 0.03 * value
        bar.n = int(run.spent)
        bar.set_postfix(step=run.step_count, side=side, **{k: f"{v:.4f}" for k, v in shown.items()})
    run.save()
    bar.close()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.data, arguments.out, arguments.minutes, arguments.seed, arguments.resume)


if __name__ == "__main__":
    main()
