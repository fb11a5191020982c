"""Metrics of the denoiser on portraits that no training saw, degraded as phones degrade them.

Every held-out portrait (one official portrait a person, the neutral London photos), 640 x 640,
takes two of the seven conditions in turn; four steps at strength 1 and at the default strength. The
identity given is the teacher's embedding of the degraded photo, zeros where it finds no face.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from tqdm import tqdm

from export_scripts.datasets.degradations import CONDITIONS, apply
from export_scripts.datasets.pictures import Picture, decode
from export_scripts.datasets.portraits import london_blobs, official_blobs
from export_scripts.datasets.snapshots import read_blobs, snapshot_root
from export_scripts.evaluation.restoration import FaceTeacher, psnr
from export_scripts.evaluation.runtime import parameters
from export_scripts.metrics import Metric, table

NAME = "denoiser"
FACTOR = 8
Floats = NDArray[np.float32]


def unshuffle(image: Floats) -> Floats:
    """[H, W, 3] to [192, H/8, W/8], channel = colour * 64 + dy * 8 + dx."""
    height, width = image.shape[0] // FACTOR, image.shape[1] // FACTOR
    blocks = image.reshape(height, FACTOR, width, FACTOR, 3).transpose(4, 1, 3, 0, 2)
    return np.ascontiguousarray(blocks.reshape(3 * FACTOR**2, height, width))


def shuffle(latent: Floats) -> Floats:
    """The inverse of ``unshuffle``."""
    _, height, width = latent.shape
    blocks = latent.reshape(3, FACTOR, FACTOR, height, width).transpose(3, 1, 4, 2, 0)
    return np.ascontiguousarray(blocks.reshape(height * FACTOR, width * FACTOR, 3))


class Sampler:
    """The served flow: Euler steps of model.onnx in OpenVINO (bfloat16 as served)."""

    def __init__(self, folder: Path, *, threads: int = 2, precision: str = "bf16") -> None:
        values = parameters(folder / "config.pbtxt")
        self.canvas = int(values["canvas"])
        self.steps = int(values["steps"])
        self.default_strength = float(values["default_strength"])
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
        compiled = ov.Core().compile_model(str(folder / "1" / "model.onnx"), "CPU", settings)
        self._request = compiled.create_infer_request()
        self.step_ms: list[float] = []

    def restore(self, photo: Picture, identity: Floats | None, *, strength: float) -> Picture:
        """The restored photo, uint8 [640, 640, 3]; ``strength`` in (0, 1]."""
        reference = unshuffle(photo.astype(np.float32) / 127.5 - 1)
        state = reference
        rough = np.zeros(128, np.float32) if identity is None else identity
        times = np.linspace(strength, 0, self.steps + 1, dtype=np.float32)
        for now, after in pairwise(times):
            feed = {
                "sample": state.astype(np.float16)[None],
                "timestep": np.array([now], np.float32),
                "identity": rough[None],
                "reference": photo[None],
            }
            start = time.perf_counter()
            velocity = next(iter(self._request.infer(feed).values()))[0]
            self.step_ms.append((time.perf_counter() - start) * 1000)
            state = state + (after - now) * velocity.astype(np.float32)
        restored = np.clip((shuffle(state) + 1) * 127.5 + 0.5, 0, 255)
        return np.asarray(restored, np.uint8)


def held_out_portraits(mirror: Path, canvas: int) -> list[tuple[str, Picture]]:
    """(name, photo) of the test split: uint8 [canvas, canvas, 3], one for each person."""
    newest = {
        Path(blob.path).stem: (git, blob) for git, blob in official_blobs(mirror, testing=True)
    }
    london = [(g, b) for g, b in london_blobs(mirror, testing=True) if "neutral" in b.path]
    newest |= {f"london-{Path(blob.path).stem}": (git, blob) for git, blob in london}
    found = []
    for name, (git, blob) in sorted(newest.items()):
        for _, content in read_blobs(git, [(blob.path, blob.oid)]):
            photo = decode(content)
            if photo is not None:
                side = min(photo.shape[:2])
                top, left = ((extent - side) // 2 for extent in photo.shape[:2])
                square = photo[top : top + side, left : left + side]
                small = cv2.resize(square, (canvas, canvas), interpolation=cv2.INTER_AREA)
                found.append((name, np.asarray(small, np.uint8)))
    return found


@dataclass
class Tally:
    """Figures over the photos of one condition."""

    gains: list[float] = field(default_factory=list)
    default_gains: list[float] = field(default_factory=list)
    similarity_before: list[float] = field(default_factory=list)
    similarity_after: list[float] = field(default_factory=list)


class Judge:
    """Compares restorations with the clean photo."""

    def __init__(self, sampler: Sampler, teacher: FaceTeacher) -> None:
        self.sampler, self.teacher = sampler, teacher
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.clean_similarity: list[float] = []
        self.clean_psnr: list[float] = []
        self.falls = 0
        self.strength_checks = 0

    def degraded(self, name: str, photo: Picture, condition: str, seed: int) -> None:
        """Adds one degraded photo; one without a face found counts for its PSNR only."""
        rough = apply(CONDITIONS[condition], photo, np.random.default_rng(seed))
        if np.array_equal(rough, photo):
            return  # A chain may draw nothing at all: a clean photo, infinitely many dB.
        place = self.teacher.align(photo)
        identity = self.teacher.embedding(rough)
        full = self.sampler.restore(rough, identity, strength=1.0)
        usual = self.sampler.restore(rough, identity, strength=self.sampler.default_strength)
        tally = self.tallies[condition]
        before = psnr(rough, photo)
        tally.gains.append(psnr(full, photo) - before)
        tally.default_gains.append(psnr(usual, photo) - before)
        if place is None:
            return
        vectors = [self.teacher.embedding(x, place) for x in (photo, rough, usual)]
        clean, worse, better = (v for v in vectors if v is not None)
        tally.similarity_before.append(float(clean @ worse))
        tally.similarity_after.append(float(clean @ better))

    def clean(self, photo: Picture) -> None:
        """Adds one clean photo at the default strength."""
        identity = self.teacher.embedding(photo)
        made = self.sampler.restore(photo, identity, strength=self.sampler.default_strength)
        self.clean_psnr.append(psnr(made, photo))
        place = self.teacher.align(photo)
        after = self.teacher.embedding(made, place)
        if identity is not None and after is not None:
            self.clean_similarity.append(float(identity @ after))

    def strengths(self, photo: Picture, seed: int) -> None:
        """Counts where a higher strength does not move further from the degraded photo."""
        rough = apply(CONDITIONS["mixed"], photo, np.random.default_rng(seed))
        moved = []
        for strength in (0.2, 0.4, 0.6, 0.8, 1.0):
            made = self.sampler.restore(rough, None, strength=strength)
            moved.append(float(np.mean((made.astype(float) - rough.astype(float)) ** 2)))
        self.falls += sum(b <= a for a, b in pairwise(moved))
        self.strength_checks += len(moved) - 1

    def metrics(self) -> list[Metric]:
        """Everything gathered, as metrics with their bars."""
        tallies = list(self.tallies.values())
        gains = np.concatenate([t.gains for t in tallies])
        usual = np.concatenate([t.default_gains for t in tallies])
        before = np.concatenate([t.similarity_before for t in tallies])
        after = np.concatenate([t.similarity_after for t in tallies])
        strength = self.sampler.default_strength
        found = [
            Metric(NAME, "PSNR gain, strength 1", float(gains.mean()), "dB", 3.0),
            Metric(NAME, "PSNR gain, worst photo, strength 1", float(gains.min()), "dB", -0.3),
            Metric(NAME, f"PSNR gain, strength {strength}", float(usual.mean()), "dB", 3.0),
            Metric(
                NAME, f"PSNR gain, worst photo, strength {strength}", float(usual.min()), "dB", -0.3
            ),
            Metric(NAME, "similarity to the clean photo, degraded", float(before.mean())),
            Metric(
                NAME,
                "similarity to the clean photo, restored",
                float(after.mean()),
                "",
                float(before.mean()),
            ),
            Metric(
                NAME, "share of photos with a higher similarity", float((after > before).mean())
            ),
            Metric(NAME, "clean photo, similarity, worst", min(self.clean_similarity), "", 0.90),
            Metric(NAME, "clean photo, similarity, mean", float(np.mean(self.clean_similarity))),
            Metric(NAME, "clean photo, PSNR to itself, worst", min(self.clean_psnr), "dB"),
            Metric(
                NAME,
                "strength steps that fall",
                self.falls,
                f"of {self.strength_checks}",
                0,
                "lower",
            ),
            Metric(
                NAME,
                "step, OpenVINO bf16, 2 threads",
                float(np.median(self.sampler.step_ms)),
                "ms",
                100,
                "lower",
            ),
        ]
        for condition, tally in self.tallies.items():
            found.append(Metric(NAME, f"PSNR gain, {condition}", float(np.mean(tally.gains)), "dB"))
        return found


def evaluate(data: Path, teachers: Path, repository: Path, *, every: int = 1) -> list[Metric]:
    """All figures of the model card; ``data`` is described at ``snapshot_root``.

    ``every`` takes only every n-th portrait, for a quick look.
    """
    mirror = snapshot_root(data)
    sampler = Sampler(repository / NAME)
    judge = Judge(sampler, FaceTeacher(teachers))
    names = list(CONDITIONS)
    portraits = held_out_portraits(mirror, sampler.canvas)[::every]
    for index, (name, photo) in enumerate(tqdm(portraits, desc=NAME)):
        for turn in (2 * index, 2 * index + 1):
            judge.degraded(name, photo, names[turn % len(names)], seed=turn)
        if index % 3 == 0:
            judge.clean(photo)
        if index % 10 == 0:
            judge.strengths(photo, seed=index)
    return judge.metrics()


def main() -> None:
    """Prints the table: ``python -m export_scripts.evaluation.denoiser --data D --teachers D``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="git snapshots, here or in snapshots/"
    )
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--every", type=int, default=1, help="take every n-th portrait")
    a = parser.parse_args()
    print(table(evaluate(a.data, a.teachers, a.repository, every=a.every)))


if __name__ == "__main__":
    main()
