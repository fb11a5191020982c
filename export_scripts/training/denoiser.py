"""Trains the denoiser: ``python -m export_scripts.training.denoiser --data DIR --out DIR``.

``--data`` is what datasets.reduced unpacked (with identities.npz). The network learns exactly what
the served graph asks of it: the residual from photo and identity. The identity is the teacher's
embedding of the sharp photo, or zeros for photos without a face and in a third of the draws, so
that a rough or absent identity does no harm. ``--weights`` continues from finished weights instead
of fresh ones: the error's floor is then low from the start. Pairs are made by ``--workers``
processes and learned from several times (training.replay).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from export_scripts.datasets.degradations import apply, training_degradation
from export_scripts.datasets.pictures import Picture, load_folder
from export_scripts.networks import denoiser as network
from export_scripts.networks.denoiser import BLOCK, IDENTITY, blocks, build
from export_scripts.networks.loading import load_network
from export_scripts.training.muon import Muon
from export_scripts.training.precision import fast_autocast
from export_scripts.training.replay import SIDES, ReplayPool, Rows
from export_scripts.training.wallclock import WallClockRun, half

# Share of each source, and the largest factor by which its photos are reduced further, so that
# heads have the sizes that head-and-shoulders crops have on the 640 canvas.
SOURCES = {
    "official": (0.42, 1.7),
    "webmorph": (0.24, 1.73),
    "celeba": (0.14, 1.67),
    "utkface": (0.02, 1.0),
    "clic": (0.06, 2.5),
    "cid22": (0.08, 1.3),
    "wallpapers": (0.04, 2.1),
}
MARGIN = 16
ERROR_FLOORS = (4e-3, 1e-4)  # PSNR 30 and 46 dB
FLOOR_FALLS = 0.3  # of a training
TOLD_EVERY = 50  # steps
MADE_AT_ONCE = 32  # pairs, by one process
IDENTITY_TRUST = 0.25


class PairSampler(IterableDataset[Rows]):
    """Batches of (sharp, degraded, identity): uint8 [N, 3, S, S] twice, float32 [N, 128]."""

    def __init__(self, data: Path, size: int, seed: int, count: int = 1) -> None:
        self.size = size
        self.count = count
        self.seed = seed
        self.random = np.random.default_rng(seed)
        self.photos = {name: load_folder(data / name) for name in SOURCES}
        shares = np.array([SOURCES[n][0] if self.photos[n] else 0.0 for n in SOURCES])
        if not shares.any():
            raise FileNotFoundError(f"no photos below {data}")
        self.shares = shares / shares.sum()
        identities = data / "identities.npz"
        self.identities = dict(np.load(identities)) if identities.exists() else {}

    def _crop(self, side: int) -> tuple[Picture, str]:
        name = list(SOURCES)[int(self.random.choice(len(self.shares), p=self.shares))]
        stem, photo = self.photos[name][int(self.random.integers(len(self.photos[name])))]
        factor = float(self.random.uniform(1.0, SOURCES[name][1]))
        factor = min(factor, min(photo.shape[:2]) / side)
        extent = min(round(side * factor), *photo.shape[:2])
        # Towards the middle, where the face is: the mean of two uniform draws.
        top = int((photo.shape[0] - extent) * self.random.uniform(0, 1, 2).mean())
        left = int((photo.shape[1] - extent) * self.random.uniform(0, 1, 2).mean())
        crop = np.asarray(photo[top : top + extent, left : left + extent])
        if extent != side:
            method = cv2.INTER_AREA if extent > side else cv2.INTER_CUBIC
            crop = np.asarray(cv2.resize(crop, (side, side), interpolation=method), np.uint8)
        if self.random.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
        return crop, f"{name}/{stem}"

    def __iter__(self) -> Iterator[Rows]:
        """Batches of ``count`` rows, without end, other ones in each process."""
        cv2.setNumThreads(1)
        worker = get_worker_info()
        if worker is not None:
            self.random = np.random.default_rng((self.seed, worker.id))
        while True:
            yield self.batch(self.count)

    def batch(self, count: int) -> Rows:
        """See the class."""
        sharp, rough = [], []
        identity = np.zeros((count, IDENTITY), np.float32)
        for row in range(count):
            crop, key = self._crop(self.size + MARGIN)
            light = self.random.uniform(0.75, 1.15) if self.random.random() < 0.3 else 1.0
            crop = np.clip(crop * light, 0, 255).astype(np.uint8)
            degraded = apply(training_degradation(self.random), crop, self.random)
            # A random corner: the phone's 8x8 JPEG grid falls anywhere on the network's blocks.
            top, left = self.random.integers(MARGIN + 1, size=2)
            window = np.s_[top : top + self.size, left : left + self.size]
            sharp.append(crop[window])
            rough.append(degraded[window])
            if self.random.random() > 0.33:
                identity[row] = self.identities.get(key, 0.0)
        return _planes(sharp), _planes(rough), torch.from_numpy(identity)


def _planes(pictures: list[Picture]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def errors(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean squared error of each row, [N]."""
    return ((restored - sharp) ** 2).mean(dim=(1, 2, 3))


def error_floor(progress: float) -> float:
    """Error that counts as none, from ERROR_FLOORS[0] to [1] over the first part of a training.

    With a low floor from the start, good photos outweigh all others and hold a fresh network at
    changing nothing.
    """
    high, low = ERROR_FLOORS
    return float(high * (low / high) ** min(1.0, progress / FLOOR_FALLS))


def restoration_loss(
    restored: Tensor, reference: Tensor, sharp: Tensor, floor: float, harm: float
) -> Tensor:
    """Mean over rows of the logarithm of the error, so that each photo counts by its dB.

    What a row loses against its degraded photo counts ``1 + harm`` times: a photo must not suffer.
    """
    after = torch.log(errors(restored, sharp) + floor)
    before = torch.log(errors(reference, sharp) + floor)
    return (after + harm * F.relu(after - before)).mean()


def optimizers(net: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the inner convolutions, AdamW for the ends, the conditioning and the biases."""
    inner: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        is_inner = parameter.dim() == 4 and not name.startswith(("stem", "head"))
        (inner if is_inner else rest).append(parameter)
    return [
        Muon(inner, lr=2 * rate, momentum=0.9, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4),
    ]


def train(arguments: argparse.Namespace) -> None:
    """Train until the time is up; see ``main`` for the arguments."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    torch.backends.cudnn.benchmark = True
    device = torch.device(arguments.device)
    net: nn.Module = build()
    if arguments.weights is not None:
        net = load_network(network, arguments.weights).train()
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = WallClockRun(
        net, optimizers(net, arguments.rate), arguments.out, minutes=arguments.minutes
    )
    if arguments.resume:
        run.resume()
    seed = arguments.seed + run.step_count
    sampler = PairSampler(arguments.data, arguments.crop, seed, count=MADE_AT_ONCE)
    loader = DataLoader(
        sampler,
        batch_size=None,
        num_workers=arguments.workers,
        prefetch_factor=4,
        pin_memory=device.type == "cuda",
    )
    pool = ReplayPool(iter(loader), arguments.pool, device)
    least = min(arguments.pool, 8 * arguments.batch)
    pool.draw(SIDES, least=least)
    progress, mean = tqdm(mininterval=20, unit="step"), 0.0
    while run.start_step():
        sharp, reference, identity = pool.draw(arguments.batch, least=least)
        photo = blocks(reference).contiguous(memory_format=torch.channels_last)
        with fast_autocast(device.type):
            residual = net(identity, photo)
        restored = reference + F.pixel_shuffle(residual.float(), BLOCK)
        floor = error_floor(1.0 if arguments.weights else run.progress)
        loss = restoration_loss(restored, reference, sharp, floor, arguments.harm)
        torch.autograd.backward(loss)
        run.end_step(clip=0.5)
        progress.update()
        if run.step_count % TOLD_EVERY == 0:
            with torch.no_grad():
                before, after = errors(reference, sharp) + 1e-4, errors(restored, sharp) + 1e-4
                gain = float((10 * torch.log10(before / after)).mean())
            mean = gain if not mean else mean + (gain - mean) * 0.1
            told = {"gain_db": f"{mean:.3f}", "loss": f"{float(loss.detach()):.3f}"}
            told |= {"made": str(pool.made), "time": f"{run.progress:.3f}"}
            progress.set_postfix(told, refresh=False)
    pool.close()
    run.save()
    # The people of the training are seen so often that the network knows them by heart, and takes
    # others for them: what an identity says counts less when it serves.
    trusted = dict(run.average)
    trusted["identity.weight"] = trusted["identity.weight"] * IDENTITY_TRUST
    save_file(half(trusted), arguments.out / "weights.safetensors")


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that make pairs")
    parser.add_argument("--pool", type=int, default=4096, help="pairs kept to learn from")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--harm", type=float, default=2.0, help="extra weight of losses")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--weights", type=Path, help="continue from these weights")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
