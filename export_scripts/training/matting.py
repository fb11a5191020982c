"""Train the matting network.

    python -m export_scripts.training.matting --data DIR --teachers DIR --out DIR [--minutes 60]

`--data` holds the packs of export_scripts.datasets.mattes. Four phases, in shares of the time:

1. hints: every stage of the trunk learns alone to turn the teacher's map before it into the
   teacher's map after it, so that all of them learn at once and none waits for another;
2. trunk: the stages in a chain learn the mask from known alpha and from the teacher, its maps
   still in sight;
3. joint: three of four batches for the trunk, without the maps and on photos that are degraded
   less, the fourth for the detail path on a 256 pixel crop at an edge of a 512 pixel photo, with
   the mask that is served (the mean of four looks);
4. cloth: the same, one to one, with more composites, half of them over drawn cloth (flags and
   curtains).

Ends at a set time; checkpoints every 2.5 minutes.
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

from export_scripts.datasets.selfie import MAPS, SelfieMaps, SelfieSegmenter
from export_scripts.networks.matting import (
    CANVAS,
    SEMANTIC_STRIDE,
    TRUNK,
    MattingNetwork,
    Trunk,
)
from export_scripts.training.matting_samples import MattingSamples
from export_scripts.training.muon import Muon
from export_scripts.training.precision import fast_autocast
from export_scripts.training.wallclock import WallClockRun

PHASES = {
    "hints": 0.2,
    "trunk": 0.4,
    "joint": 0.92,
    "cloth": 1.0,
}  # share of the time after which each ends
TRUNK_ROWS, JOINT_ROWS = 16, 6
CROP = 256
LEARNING_RATE = 3e-3
HINT_WEIGHT = 0.1
TEACHER_WEIGHT = 0.3
# Batches for the trunk to one for the detail path.
TRUNK_BATCHES = {"hints": 1, "trunk": 1, "joint": 3, "cloth": 1}
DEGRADATION = {"hints": 0.8, "trunk": 0.8, "joint": 0.5, "cloth": 0.5}

Maps = dict[str, Tensor]


class Batches(IterableDataset[Maps]):
    """Endless batches for one phase.

    "image" uint8 [B,S,S,3], "alpha" and "confidence" uint8 [B,S,S]; at the trunk's size also the
    teacher's "mask" and, before the joint phase, its maps, float16 [B,C,H,W].
    """

    def __init__(self, data: Path, teachers: Path, phase: str, seed: int) -> None:
        self.data, self.teachers, self.phase, self.seed = data, teachers, phase, seed

    def __iter__(self) -> Iterator[Maps]:
        cv2.setNumThreads(1)
        joint = self.phase in ("joint", "cloth")
        settings = {"degradation": DEGRADATION[self.phase]}
        if self.phase == "cloth":
            settings |= {"composites": 0.58, "cloth": 0.45}
        samples = MattingSamples(self.data, longest=448, **settings)
        large = MattingSamples(self.data, **settings)
        model = self.teachers / "selfie_segmentation" / "selfie_segmentation.tflite"
        teacher = SelfieSegmenter(model).mask_only if joint else SelfieMaps(model)
        rng = np.random.default_rng(self.seed)
        while True:
            for _ in range(TRUNK_BATCHES[self.phase]):
                rows = []
                for _ in range(TRUNK_ROWS):
                    image, alpha, confidence = samples.sample(rng, TRUNK)
                    row = {"image": image, "alpha": alpha, "confidence": confidence}
                    rows.append({**row, **teacher(image)})
                yield stacked(rows)
            if joint:
                rows = [
                    dict(zip(("image", "alpha", "confidence"), sample, strict=True))
                    for sample in (large.sample(rng, CANVAS) for _ in range(JOINT_ROWS))
                ]
                yield stacked(rows)


def stacked(rows: list[dict[str, np.ndarray]]) -> Maps:
    """Stack equal arrays of every row to one tensor."""
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


class Hints:
    """Squared error against the teacher's maps, in units of each channel's own variance."""

    def __init__(self, *, started: bool) -> None:
        self.started = started
        self._variance: Maps = {}

    def loss(self, name: str, map_: Tensor, wanted: Tensor) -> Tensor:
        """Compare [B,C,H,W] with the teacher's; 1 is what a constant would reach."""
        variance = wanted.var((0, 2, 3)) + 1e-3
        if name in self._variance:
            variance = torch.lerp(self._variance[name], variance, 0.02)
        self._variance[name] = variance
        return ((map_.float() - wanted).square().mean((0, 2, 3)) / variance).mean()

    def stages(self, trunk: Trunk, image: Tensor, maps: Maps) -> dict[str, Tensor]:
        """Loss of each stage alone, fed with the teacher's maps."""
        t = maps
        made = {
            "down128": trunk.down128(image),
            "down64": trunk.down64(t["down128"]),
            "down32": trunk.down32(t["down64"]),
            "down16": trunk.down16(t["down32"]),
            "rise32": trunk.rise32(trunk.deepest(t["down16"]), t["down32"]),
            "rise64": trunk.rise64(t["rise32"], t["down64"]),
            "rise128": trunk.rise128(t["rise64"], t["down128"]),
        }
        losses = {name: self.loss(name, map_, t[name]) for name, map_ in made.items()}
        logits = trunk.logits(t["rise128"]).float()
        losses["mask"] = functional.binary_cross_entropy_with_logits(logits, t["mask"])
        return losses

    @torch.no_grad()
    def start(self, trunk: Trunk, maps: Maps) -> None:
        """Begin near the teacher's mean and spread, which gradient steps are slow to find.

        The first block of each stage on the way down gets the channels' mean and deviation of the
        teacher's map; the blocks after it begin as small corrections.
        """
        firsts = {"down64": trunk.down64, "down32": trunk.down32[0], "down16": trunk.down16[0]}
        inputs = {"down64": "down128", "down32": "down64", "down16": "down32"}
        for name, block in firsts.items():
            made, wanted = block(maps[inputs[name]]), maps[name]
            scale = wanted.std((0, 2, 3)) / made.std((0, 2, 3))
            block.narrow.weight.mul_(scale[:, None, None, None])
            shift = wanted.mean((0, 2, 3)) - scale * made.mean((0, 2, 3))
            block.narrow.bias.mul_(scale).add_(shift)
        for block in (*trunk.down32[1:], *trunk.down16[1:]):
            block.narrow.weight.mul_(0.2)
            block.narrow.bias.zero_()
        self.started = True

    def chain(self, trunk: Trunk, image: Tensor, maps: Maps) -> tuple[Tensor, Tensor]:
        """Run the trunk as a whole: (mask logits, mean loss of its maps against the teacher's)."""
        made = dict(
            zip(("down128", "down64", "down32", "down16"), trunk.encode(image), strict=True)
        )
        made["rise32"] = trunk.rise32(trunk.deepest(made["down16"]), made["down32"])
        made["rise64"] = trunk.rise64(made["rise32"], made["down64"])
        made["rise128"] = trunk.rise128(made["rise64"], made["down128"])
        losses = [self.loss(name, made[name], maps[name]) for name in MAPS]
        return trunk.logits(made["rise128"]), torch.stack(losses).mean()


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
    generator: torch.Generator, image: Tensor, truth: Tensor, trust: Tensor, maps: list[Tensor]
) -> list[Tensor]:
    """Cut a CROP square around a random soft pixel of each row (anywhere if there is none).

    `image`, `truth` and `trust` are [B,C,H,W], `maps` what the trunk gave for the whole photo at
    lower resolutions; returns all of them cut, in this order.
    """
    side = image.shape[-1]
    whole = [image, truth, trust, *maps]
    parts: list[list[Tensor]] = [[] for _ in whole]
    for row in range(len(image)):
        soft = ((truth[row, 0] > 0.1) & (truth[row, 0] < 0.9)).nonzero()
        if len(soft):
            y, x = soft[int(torch.randint(len(soft), (1,), generator=generator))].tolist()
        else:
            y, x = torch.randint(side, (2,), generator=generator).tolist()
        corner = [
            min(max(centre - CROP // 2, 0), side - CROP) // SEMANTIC_STRIDE * SEMANTIC_STRIDE
            for centre in (y, x)
        ]
        for cut, tensor in zip(parts, whole, strict=True):
            factor = side // tensor.shape[-1]
            top, left = (c // factor for c in corner)
            reach = CROP // factor
            cut.append(tensor[row][:, top : top + reach, left : left + reach])
    return [torch.stack(p).contiguous(memory_format=torch.channels_last) for p in parts]


def batch_loss(
    network: MattingNetwork,
    hints: Hints,
    generator: torch.Generator,
    batch: Maps,
    phase: str,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch and what the progress bar shows of it."""
    channels_last = torch.channels_last
    x = batch["image"].permute(0, 3, 1, 2).float() / 127.5 - 1.0
    x = x.contiguous(memory_format=channels_last)
    truth, trust = batch["alpha"][:, None].float() / 255, batch["confidence"][:, None].float() / 255
    if x.shape[-1] == CANVAS:
        network.trunk.eval()  # as it is served: of six photos the statistics would be their own
        with torch.no_grad():
            semantic, mask = network.locate(x)
        network.trunk.train()
        cut, truth, trust, *maps = edge_crops(generator, x, truth, trust, [semantic, mask])
        loss, error = edge_loss(network.detail(cut, *maps), truth, trust)
        return loss, {"mae": error}
    maps_ = {
        name: batch[name].float().contiguous(memory_format=channels_last)
        for name in (*MAPS, "mask")
        if name in batch
    }
    if phase == "hints":
        if not hints.started:
            hints.start(network.trunk, maps_)
        losses = hints.stages(network.trunk, x, maps_)
        return torch.stack(list(losses.values())).sum(), {k: float(v) for k, v in losses.items()}
    if phase == "trunk":
        mask, hint = hints.chain(network.trunk, x, maps_)
    else:
        mask, hint = network.trunk(x)[1], x.new_zeros(())
    loss, iou = mask_loss(mask, truth, trust)
    taught = functional.binary_cross_entropy_with_logits(mask.float(), maps_["mask"])
    loss = loss + TEACHER_WEIGHT * taught + HINT_WEIGHT * hint
    return loss, {"iou": iou, "hint": float(hint), "taught": float(taught)}


def optimizers(network: MattingNetwork) -> list[torch.optim.Optimizer]:
    """Muon for kernels that mix channels, AdamW for depthwise kernels, norms and biases."""
    mixing, rest = [], []
    for parameter in network.parameters():
        mixes = parameter.dim() == 4 and parameter.shape[1] > 1 and parameter.shape[0] > 1
        (mixing if mixes else rest).append(parameter)
    return [
        Muon(mixing, LEARNING_RATE, weight_decay=0.01),
        torch.optim.AdamW(rest, LEARNING_RATE, weight_decay=0.01),
    ]


def train(data: Path, teachers: Path, out: Path, minutes: float, seed: int, resume: bool) -> None:
    """Train until the time is up; writes checkpoint.pt and weights.safetensors below `out`."""
    torch.manual_seed(seed)
    network = MattingNetwork().train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = WallClockRun(network, optimizers(network), out, minutes=minutes, decay=0.995)
    if resume:
        run.resume()
    hints = Hints(started=resume)
    bar = tqdm(total=round(minutes * 60), unit="s", mininterval=15, initial=int(run.spent))
    shown: dict[str, float] = {}
    generator = torch.Generator().manual_seed(seed + run.step_count)
    loader: Iterator[Maps] = iter(())
    phase = ""
    while run.start_step():
        wanted = next((name for name, end in PHASES.items() if run.progress < end), "cloth")
        if wanted != phase:
            phase, shown = wanted, {}
            batches = Batches(data, teachers, phase, seed + run.step_count)
            loader = iter(DataLoader(batches, None, num_workers=1))
        with fast_autocast():
            loss, parts = batch_loss(network, hints, generator, next(loader), phase)
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
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    a = arguments
    train(a.data, a.teachers, a.out, a.minutes, a.seed, a.resume)


if __name__ == "__main__":
    main()
