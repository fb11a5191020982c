"""Train the detector's first or second look and join it with the weights of its other parts.

    python -m export_scripts.training.face_refiner --look second --data DIR --others FILE --out DIR

`--data` holds `patches.npz` (and `hard.npz`) of export_scripts.datasets.face_patches. Writes
`face_detector.safetensors` below `--out`: the weights that are exported.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.datasets.face_patches import AROUND, PATCH
from export_scripts.networks.face_refiner import CROP, FIRST_LOOK, MARGIN, SECOND_LOOK, Refiner
from export_scripts.training.detector_samples import MIRRORED
from export_scripts.training.photo_noise import degrade
from export_scripts.training.precision import fast_autocast
from export_scripts.training.wallclock import WallClockRun, with_part

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
BATCH = 192
LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class Look:
    """One of the two looks and what it learns from.

    Attributes:
        part: name of its weights in the detector.
        layers: of its network.
        faces, parts: shares of faces and of parts of faces in a batch; the rest are other things.
        scale, shift: how far the box is off that the crop is cut around, standard deviations of
            the logarithm of its size and, in sides of the face, of its place.
    """

    part: str
    layers: tuple[int, ...]
    faces: float
    parts: float
    scale: float
    shift: float


LOOKS = {
    "first": Look("refiner", FIRST_LOOK, 0.62, 0.08, 0.16, 0.09),
    # Sees boxes of the first look, and is there for the landmarks.
    "second": Look("closer", SECOND_LOOK, 0.74, 0.06, 0.07, 0.04),
}


class CropBatches(IterableDataset[list[Tensor]]):
    """Endless batches: crops uint8 [B,64,64,3], points [B,14], kind [B] (1 face, 0 not)."""

    def __init__(self, data: Path, look: Look, seed: int) -> None:
        self.data, self.look, self.seed = data, look, seed

    def __iter__(self) -> Iterator[list[Tensor]]:
        cv2.setNumThreads(1)
        rng = np.random.default_rng(self.seed)
        with np.load(self.data / "patches.npz") as store:
            faces, points, others = store["faces"], store["points"], store["others"]
        hard = others
        if (self.data / "hard.npz").is_file():
            with np.load(self.data / "hard.npz") as store:
                hard = store["others"]
        while True:
            rows = []
            for _ in range(BATCH):
                roll = rng.random()
                if roll < self.look.faces:
                    index = int(rng.integers(len(faces)))
                    rows.append((*face_crop(rng, self.look, faces[index], points[index]), 1.0))
                elif roll < self.look.faces + self.look.parts:
                    index = int(rng.integers(len(faces)))
                    rows.append((part_crop(rng, faces[index]), np.zeros(14, np.float32), 0.0))
                else:
                    pool = hard if rng.random() < 0.47 else others
                    index = int(rng.integers(len(pool)))
                    scale = float(np.exp(rng.normal(0, 0.15)))
                    matrix = crop_matrix(rng, scale, rng.normal(0, 0.08, 2), rng.normal(0, 12))
                    crop = sample(rng, pool[index], matrix)
                    rows.append((crop, np.zeros(14, np.float32), 0.0))
            yield [
                torch.from_numpy(np.stack([row[0] for row in rows])),
                torch.from_numpy(np.stack([row[1] for row in rows])),
                torch.tensor([row[2] for row in rows]),
            ]


def crop_matrix(
    rng: np.random.Generator, scale: float, shift: npt.NDArray[np.float64], degrees: float
) -> npt.NDArray[np.float64]:
    """Return the map [2,3] from a patch to a crop.

    At scale 1 the crop is MARGIN times the face; `shift` is in sides of the face. Mirrored half
    of the time.
    """
    zoom = CROP / (PATCH / AROUND * MARGIN * scale)
    angle = np.deg2rad(degrees)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        linear = np.diag([-1.0, 1.0]) @ linear
    centre = np.array([PATCH, PATCH]) / 2 + shift * PATCH / AROUND
    return np.concatenate([linear, (CROP / 2 - linear @ centre)[:, None]], 1)


def sample(rng: np.random.Generator, patch: Bytes, matrix: npt.NDArray[np.float64]) -> Bytes:
    """Cut a crop as the served graph would, by nearest pixels, or smoothly; then degrade it."""
    if rng.random() < 0.3:  # a small face: few real pixels
        size = int(rng.integers(24, 80))
        small = cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)
        method = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_LINEAR
        patch = np.asarray(cv2.resize(small, (PATCH, PATCH), interpolation=method), np.uint8)
    flags = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_LINEAR
    crop = cv2.warpAffine(patch, matrix, (CROP, CROP), flags=flags, borderMode=1)
    crop = np.asarray(crop, np.uint8)
    if rng.random() < 0.12:  # cut by the edge of the canvas, whose last pixels are repeated
        edge = int(rng.integers(4, 20))
        side = int(rng.integers(4))
        crop = np.rot90(crop, side).copy()
        crop[:edge] = crop[edge]
        crop = np.ascontiguousarray(np.rot90(crop, -side))
    return degrade(rng, np.asarray(crop, np.uint8), 0.9)


def face_crop(
    rng: np.random.Generator, look: Look, patch: Bytes, points: Floats
) -> tuple[Bytes, Floats]:
    """Cut a face as the box before this look would find it; returns crop and targets [14]."""
    scale = float(np.exp(rng.normal(0, look.scale)))
    degrees = float(rng.normal(0, 14)) if rng.random() < 0.7 else 0.0
    matrix = crop_matrix(rng, scale, np.clip(rng.normal(0, look.shift, 2), -0.3, 0.3), degrees)
    crop = sample(rng, patch, matrix)
    linear = matrix[:, :2]
    moved = (points * PATCH + PATCH / 2) @ linear.T + matrix[:, 2]
    mirrored = np.linalg.det(linear) < 0
    landmarks = moved[2:][MIRRORED] if mirrored else moved[2:]
    middle = moved[:2].mean(0)
    half = np.abs(points[1] - points[0]) * PATCH * np.sqrt(abs(np.linalg.det(linear))) / 2
    target = np.concatenate([[middle - half, middle + half], landmarks])
    return crop, ((target - CROP / 2) / CROP).astype(np.float32).reshape(14)


def part_crop(rng: np.random.Generator, patch: Bytes) -> Bytes:
    """Cut a part of a face, or a place beside it: not a face of that box."""
    if rng.random() < 0.5:
        scale, reach = float(rng.uniform(0.22, 0.45)), 0.35
    else:
        scale, reach = float(rng.uniform(0.4, 0.8)), 0.85
    direction = rng.normal(0, 1, 2)
    direction /= np.linalg.norm(direction) + 1e-6
    shift = direction * (reach if reach > 0.5 else rng.uniform(0, reach))
    return sample(rng, patch, crop_matrix(rng, scale, shift, rng.normal(0, 10)))


def train(
    data: Path, look: Look, out: Path, minutes: float, seed: int, resume: bool
) -> dict[str, Tensor]:
    """Train until the time is up; returns the averaged weights."""
    torch.manual_seed(seed)
    network = Refiner(look.layers).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.02)
    run = WallClockRun(network, [optimizer], out, minutes=minutes, decay=0.995, save_every=60)
    if resume:
        run.resume()
    loader = iter(DataLoader(CropBatches(data, look, seed + run.step_count), None, num_workers=1))
    bar = tqdm(total=round(minutes * 60), unit="s", mininterval=15, initial=int(run.spent))
    shown: dict[str, float] = {}
    while run.start_step():
        crops, points, kind = next(loader)
        x = crops.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with fast_autocast():
            output = network(x.contiguous(memory_format=torch.channels_last)).float()
        score = functional.binary_cross_entropy_with_logits(output[:, 0], kind * 0.98 + 0.01)
        error = (output[:, 1:] - points).abs()[kind > 0.5]
        place = torch.log1p(error[:, 4:] * 40).mean() + 0.3 * torch.log1p(error[:, :4] * 40).mean()
        (score + place).backward()  # type: ignore[no-untyped-call]
        run.end_step(clip=5.0)
        right = (output.detach()[:, 0] > 0).float() == kind
        parts = {
            "right": float(right.float().mean()),
            "points": float(error.detach()[:, 4:].mean()),
        }
        for name, value in parts.items():
            shown[name] = 0.97 * shown.get(name, value) + 0.03 * value
        bar.n = int(run.spent)
        bar.set_postfix(step=run.step_count, **{k: f"{v:.4f}" for k, v in shown.items()})
    run.save()
    bar.close()
    return run.average


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--look", choices=LOOKS, required=True)
    parser.add_argument("--others", type=Path, required=True, help="weights of the other parts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    look = LOOKS[arguments.look]
    average = train(
        arguments.data, look, arguments.out, arguments.minutes, arguments.seed, arguments.resume
    )
    others = load_file(arguments.others)
    joined = with_part(others, look.part, average)
    save_file(joined, arguments.out / "face_detector.safetensors")


if __name__ == "__main__":
    main()
