"""Train the matting network.

    python -m export_scripts.training.matting --data DIR --out DIR [--minutes 60] [--resume]

`--data` holds the packs of export_scripts.datasets.mattes. First the trunk alone learns what is
person, on photos of 128 and then of 256 pixels; then every second batch trains both, the detail
path on a 256 pixel crop at an edge of a 512 pixel photo. Ends at a set time; checkpoints every 2.5
minutes.
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

from export_scripts.networks.matting import CANVAS, SEMANTIC_STRIDE, TRUNK, MattingNetwork
from export_scripts.training.matting_samples import MattingSamples
from export_scripts.training.wallclock import WallClockRun

# (share of the time after which it ends, batches (side, rows) in turn); CANVAS trains both parts.
PHASES = (
    (0.25, ((128, 32),)),
    (0.5, ((TRUNK, 16),)),
    (1.0, ((TRUNK, 16), (CANVAS, 6))),
)
CROP = 256
LEARNING_RATE = 1.5e-3


class Batches(IterableDataset[list[Tensor]]):
    """Endless batches: image uint8 [B,S,S,3], alpha and confidence uint8 [B,S,S]."""

    def __init__(self, data: Path, sizes: tuple[tuple[int, int], ...], seed: int) -> None:
        self.data, self.sizes, self.seed = data, sizes, seed

    def __iter__(self) -> Iterator[list[Tensor]]:
        cv2.setNumThreads(1)
        samples = MattingSamples(self.data)
        rng = np.random.default_rng(self.seed)
        while True:
            for side, count in self.sizes:
                rows = [samples.sample(rng, side) for _ in range(count)]
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


def edge_loss(logits: Tensor, truth: Tensor, confidence: Tensor) -> tuple[Tensor, float]:
    """Cross-entropy for what is person, L1 and gradients for the edge, [B,1,H,W] each."""
    logits = logits.float()
    alpha = torch.sigmoid(logits)
    # Soft edges are a few per cent of the pixels and most of what is seen: weigh them up.
    local = functional.max_pool2d(truth, 9, 1, 4) + functional.max_pool2d(-truth, 9, 1, 4)
    weight = confidence * (1 + 4 * (local > 0.05).float())
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    error = (alpha - truth).abs()
    loss = (entropy * confidence).mean() + 2 * (error * weight).mean()
    loss = loss + 3 * gradient_error(alpha, truth, confidence**2)
    return loss, float((error * confidence).detach().mean())


def mask_loss(logits: Tensor, truth: Tensor, confidence: Tensor) -> tuple[Tensor, float]:
    """Cross-entropy and soft IoU of the trunk's mask against alpha averaged to its cells."""
    logits = logits.float()
    factor = truth.shape[-1] // logits.shape[-1]
    truth, confidence = (functional.avg_pool2d(t, factor) for t in (truth, confidence))
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    mask = torch.sigmoid(logits)
    shared = (torch.minimum(mask, truth) * confidence).sum((1, 2, 3))
    either = (torch.maximum(mask, truth) * confidence).sum((1, 2, 3))
    iou = (shared + 1) / (either + 1)
    return (entropy * confidence).mean() + 0.5 * (1 - iou).mean(), float(iou.detach().mean())


def edge_crops(
    generator: torch.Generator, image: Tensor, truth: Tensor, semantic: Tensor, mask: Tensor
) -> tuple[list[Tensor], list[tuple[slice, slice]]]:
    """Cut a CROP square around a random soft pixel of each row (anywhere if there is none)."""
    parts: list[list[Tensor]] = [[], [], []]
    places = []
    for row in range(len(image)):
        soft = ((truth[row, 0] > 0.1) & (truth[row, 0] < 0.9)).nonzero()
        if len(soft):
            y, x = soft[int(torch.randint(len(soft), (1,), generator=generator))].tolist()
        else:
            y, x = torch.randint(image.shape[-1], (2,), generator=generator).tolist()
        corner = [
            min(max(centre - CROP // 2, 0), image.shape[-1] - CROP) // SEMANTIC_STRIDE
            for centre in (y, x)
        ]
        small = tuple(slice(c, c + CROP // SEMANTIC_STRIDE) for c in corner)
        large = tuple(slice(c * SEMANTIC_STRIDE, c * SEMANTIC_STRIDE + CROP) for c in corner)
        places.append((large[0], large[1]))
        parts[0].append(image[row][:, large[0], large[1]])
        parts[1].append(semantic[row][:, small[0], small[1]])
        parts[2].append(mask[row][:, small[0], small[1]])
    channels_last = torch.channels_last
    return [torch.stack(p).contiguous(memory_format=channels_last) for p in parts], places


def train(data: Path, out: Path, minutes: float, seed: int, resume: bool) -> None:
    """Train until the time is up; writes checkpoint.pt and weights.safetensors below `out`."""
    torch.manual_seed(seed)
    network = MattingNetwork().train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.02)
    run = WallClockRun(network, [optimizer], out, minutes=minutes, decay=0.985)
    if resume:
        run.resume()
    bar = tqdm(total=round(minutes * 60), unit="s", mininterval=15, initial=int(run.spent))
    shown: dict[str, float] = {}
    generator = torch.Generator().manual_seed(seed + run.step_count)
    sizes: tuple[tuple[int, int], ...] = ()
    loader: Iterator[list[Tensor]] = iter(())
    while run.start_step():
        wanted = next((sides for end, sides in PHASES if run.progress < end), PHASES[-1][1])
        if wanted != sizes:
            sizes = wanted
            batches = Batches(data, sizes, seed + run.step_count)
            loader = iter(DataLoader(batches, None, num_workers=1))
        images, alpha, confidence = next(loader)
        joint = images.shape[1] == CANVAS
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        x = x.contiguous(memory_format=torch.channels_last)
        truth, trust = alpha[:, None].float() / 255, confidence[:, None].float() / 255
        parts: dict[str, float] = {}
        with torch.autocast("cpu", torch.bfloat16):
            small = functional.avg_pool2d(x, CANVAS // TRUNK) if joint else x
            semantic, mask = network.trunk(small)
            loss, parts["iou"] = mask_loss(mask, truth, trust)
            if joint:
                cut, places = edge_crops(generator, x, truth, semantic, mask)
                logits = network.detail(*cut)
                edge_truth, edge_trust = (
                    torch.stack([t[row][:, y, x] for row, (y, x) in enumerate(places)])
                    for t in (truth, trust)
                )
                edge, parts["mae"] = edge_loss(logits, edge_truth, edge_trust)
                loss = loss + edge
        loss.backward()  # type: ignore[no-untyped-call]
        run.end_step(clip=3.0)
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
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.data, arguments.out, arguments.minutes, arguments.seed, arguments.resume)


if __name__ == "__main__":
    main()
