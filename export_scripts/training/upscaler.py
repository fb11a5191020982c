"""Trains the x4 upscaler: ``python -m export_scripts.training.upscaler --data DIR --out DIR``.

``--data`` is the cache that datasets.pictures and datasets.portraits wrote. Low-resolution inputs
are antialiased bicubic reductions (as MATLAB's imresize and Pillow make them), rounded to 8 bits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from export_scripts.datasets.pictures import Picture, load_folder
from export_scripts.networks.upscaler import SCALE, build
from export_scripts.training.precision import fast_autocast
from export_scripts.training.wallclock import WallClockRun

# Share of each source in a batch, and the factor up to which its photos may be reduced first:
# photos larger than the screen they were made for hold little detail at the pixel.
SOURCES = {
    "bsds": (0.30, 1.0),
    "clic": (0.18, 2.5),
    "cid22": (0.22, 1.0),
    "wallpapers": (0.10, 2.5),
    "official": (0.12, 1.6),
    "webmorph": (0.08, 2.0),
}


class PatchSampler:
    """Random sharp patches, float32 [N, 3, S, S] in 0..1."""

    def __init__(self, data: Path, size: int, seed: int) -> None:
        self.size = size
        self.random = np.random.default_rng(seed)
        self.photos = {name: load_folder(data / name) for name in SOURCES}
        shares = np.array([SOURCES[n][0] if self.photos[n] else 0.0 for n in SOURCES])
        if not shares.any():
            raise FileNotFoundError(f"no photos below {data}")
        self.shares = shares / shares.sum()

    def _patch(self) -> Picture:
        name = list(SOURCES)[int(self.random.choice(len(self.shares), p=self.shares))]
        _, photo = self.photos[name][int(self.random.integers(len(self.photos[name])))]
        room = min(photo.shape[:2]) / self.size
        factor = float(self.random.uniform(1.0, max(1.0, min(SOURCES[name][1], room))))
        side = min(round(self.size * factor), *photo.shape[:2])
        top = int(self.random.integers(photo.shape[0] - side + 1))
        left = int(self.random.integers(photo.shape[1] - side + 1))
        patch = np.asarray(photo[top : top + side, left : left + side])
        if side != self.size:
            small = cv2.resize(patch, (self.size,) * 2, interpolation=cv2.INTER_AREA)
            patch = np.asarray(small, np.uint8)
        patch = np.rot90(patch, int(self.random.integers(4)))
        return patch[:, ::-1] if self.random.random() < 0.5 else patch

    def _detailed_patch(self) -> Picture:
        # Of two patches the one with more detail: flat sky and backdrop teach little.
        first, second = self._patch(), self._patch()
        if self.random.random() < 0.25:
            return first
        return max(
            first, second, key=lambda p: float(np.abs(np.diff(p[::2, ::2, 1], axis=0) * 1.0).mean())
        )

    def batch(self, count: int) -> Tensor:
        """See the class."""
        stack = np.stack([self._detailed_patch() for _ in range(count)])
        return torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255


def reduce_by_bicubic(sharp: Tensor) -> Tensor:
    """[N, 3, 4H, 4W] to [N, 3, H, W], both in 0..1, 8-bit steps."""
    small = F.interpolate(sharp, scale_factor=1 / SCALE, mode="bicubic", antialias=True)
    return torch.round(small.clamp(0, 1) * 255) / 255


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--patch", type=int, default=48, help="side at the low resolution")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    net = build()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), lr=arguments.rate, betas=(0.9, 0.99))
    run = WallClockRun(net, [optimizer], arguments.out, minutes=arguments.minutes)
    if arguments.resume:
        run.resume()
    sampler = PatchSampler(arguments.data, arguments.patch * SCALE, arguments.seed + run.step_count)
    progress, mean = tqdm(mininterval=20, unit="step"), 0.0
    while run.start_step():
        sharp = sampler.batch(arguments.batch).contiguous(memory_format=torch.channels_last)
        small = reduce_by_bicubic(sharp)
        with fast_autocast():
            detail = net.detail(small)
        loss = F.l1_loss(net.combine(small, detail.float()), sharp)
        torch.autograd.backward(loss)
        run.end_step(clip=0.1)
        mean = 0.98 * mean + 0.02 * float(loss.detach()) if mean else float(loss.detach())
        progress.update()
        progress.set_postfix(loss=f"{mean:.5f}", time=f"{run.progress:.3f}", refresh=False)
    run.save()


if __name__ == "__main__":
    main()
