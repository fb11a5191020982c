"""Distil the identity encoder from a public recogniser.

    python -m export_scripts.training.identity_encoder --data DIR --teachers DIR --out DIR \
        [--minutes N | --until HH:MM] [--threads N] [--resume]

``--data`` holds the crops of ``export_scripts.datasets.prepare_faces``. The teacher sees exactly
the augmented view that the student sees, so every view is a fresh, exact target; part of the views
are blends of two aligned faces, people who do not exist. The student is compared with the teacher
between its stages as well (feature hints): hundreds of targets a face where the embedding is one.

Three phases, by the clock:

1. local: every stage reads the teacher's map in place of the student's, so all learn at once;
2. early: the stages at 28 pixels alone, in small batches (784 positions a face suffice), down to a
   learning rate of zero;
3. late: the early stages are frozen, the rest is trained as a whole. A view's frozen map and its
   targets are kept and come back a few times, which spares the teacher and the early stages.
   Towards the end the embedding takes over from the hints; the rate falls to zero.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from export_scripts.datasets.augment_faces import Augmenter
from export_scripts.datasets.identity_split import training_faces
from export_scripts.networks.identity_encoder import ConvPair, IdentityEncoder, build
from export_scripts.training.distillation import (
    Batch,
    Replay,
    embedding_losses,
    relative_error,
)
from export_scripts.training.muon import Muon
from export_scripts.training.ncnn_teacher import Teacher
from export_scripts.training.precision import fast_autocast

SEED = 20261121
BATCH = 96
EARLY_BATCH = 24
PEAK_RATE = 2.5e-3
WARM_UP_STEPS = 60
LOCAL_UNTIL = 0.12
EARLY_UNTIL = 0.21
"""Ends of the first two phases, as parts of the time."""
EARLY_STAGES = 3
MILD_FROM = 0.42
MILD_STRENGTH = 0.6
"""From this part of the time on the views are closer to ordinary photos, as those served are."""

TEACHER_MAPS = (
    "dconv_23_conv_proj_batchnorm",
    "_plus1",
    "_plus3",
    "dconv_34_conv_proj_batchnorm",
    "_plus6",
    "_plus9",
    "dconv_45_conv_proj_batchnorm",
    "_plus10",
    "_plus11",
    "fc1",
)
"""The teacher's blobs that the student's stages are compared with, in order."""
LATE_HINTS = (4, 5, 8, 9)
"""Which of them are compared in the last phase."""


class Source:
    """Batches of views with the teacher's maps of the stages asked for."""

    def __init__(self, data: Path, teachers: Path, seed: int) -> None:
        self._faces, self._weights = training_faces(data)
        self._augment = Augmenter(self._faces, self._weights, seed)
        self._folder = teachers / "mobilefacenet"
        self._teachers: dict[tuple[int, ...], Teacher] = {}

    def __len__(self) -> int:
        return len(self._weights)

    def __call__(self, stages: tuple[int, ...], size: int, strength: float = 1.0) -> Batch:
        """``size`` fresh views, augmented with that strength."""
        self._augment.strength = strength
        if stages not in self._teachers:
            names = tuple(TEACHER_MAPS[i] for i in stages)
            self._teachers = {stages: Teacher(self._folder, names, precision="bf16")}
        views = self._augment.batch(size)
        outputs = self._teachers[stages](views)
        return Batch(
            views,
            {i: torch.from_numpy(o).bfloat16() for i, o in zip(stages, outputs, strict=True)},
        )


def to_input(views: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 views to float32 in [-1, 1], channels last."""
    x = torch.from_numpy(views).float() / 127.5 - 1.0
    return x.contiguous(memory_format=torch.channels_last)


def stage_variances(batches: list[Batch]) -> dict[int, Tensor]:
    """Variance of every channel of the teacher's maps."""
    return {
        i: torch.cat([b.targets[i].float().transpose(0, 1).flatten(1) for b in batches], dim=1).var(
            dim=1
        )
        for i in batches[0].targets
    }


class Clock:
    """Progress in [0, 1] by the time spent in training, over all resumptions."""

    def __init__(self, seconds: float, spent: float) -> None:
        self._start = time.monotonic() - spent
        self._seconds = seconds + spent

    @property
    def spent(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """Part of the time that has passed."""
        return min(1.0, self.spent / self._seconds)


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, step: int) -> None:
    """Exponential moving average of weights and batch-norm statistics."""
    decay = min(0.99, step / (step + 10))
    ours, theirs = average.state_dict(), net.state_dict()
    floats = [k for k, v in ours.items() if v.is_floating_point()]
    torch._foreach_lerp_([ours[k] for k in floats], [theirs[k] for k in floats], 1 - decay)


class Trainer:
    """Network, average, optimisers and the loss."""

    def __init__(self, variances: dict[int, Tensor]) -> None:
        torch.manual_seed(SEED)
        self.net: IdentityEncoder = build()
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for stage in self.net.modules():
            if isinstance(stage, ConvPair) and stage.shortcut:
                nn.init.zeros_(stage.project.weight)
        self.average = copy.deepcopy(self.net)
        stages = self.net.stages
        self.early = self._optimisers(stages[:EARLY_STAGES])
        self.late = self._optimisers(stages[EARLY_STAGES:])
        self.variances = variances
        self.step = 0
        self.steps_since_start = 0
        self.frozen = False

    @staticmethod
    def _optimisers(stages: nn.ModuleList) -> list[torch.optim.Optimizer]:
        named = list(stages.named_parameters())
        matrices = [p for n, p in named if p.dim() in (2, 4)]
        rest = [p for n, p in named if p.dim() not in (2, 4)]
        return [
            Muon(matrices, lr=PEAK_RATE, weight_decay=0.02),
            torch.optim.AdamW(rest, lr=PEAK_RATE, weight_decay=0.0),
        ]

    def _apply(self, optimisers: list[torch.optim.Optimizer], part: float) -> None:
        rate = PEAK_RATE * min(1.0, (self.steps_since_start + 1) / WARM_UP_STEPS) * max(0.0, part)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def local(self, batch: Batch, progress: float) -> dict[str, float]:
        """One step in which every stage learns from the teacher's map before it."""
        self.net.train()
        last = len(TEACHER_MAPS) - 1
        with fast_autocast():
            given = [
                batch.targets[i].contiguous(memory_format=torch.channels_last) for i in range(last)
            ]
            outputs = self.net.maps(to_input(batch.views), given)
        parts = self._losses(dict(enumerate(outputs)), batch.targets)
        self._loss(parts, 1.0).backward()
        self._apply(self.early, self._early_part(progress))
        self._apply(self.late, 1 - progress)
        return self._finish(parts)

    def early_only(self, batch: Batch, progress: float) -> dict[str, float]:
        """One step of the early stages, each on the output of the one before."""
        self.net.train()
        outputs = {}
        with fast_autocast():
            y = self.net.fold(to_input(batch.views))
            for i in range(EARLY_STAGES):
                y = self.net.stages[i](y)
                outputs[i] = y
        parts = self._losses(outputs, batch.targets)
        self._loss(parts, 1.0).backward()
        self._apply(self.early, self._early_part(progress))
        return self._finish(parts)

    @staticmethod
    def _early_part(progress: float) -> float:
        return min(1.0, (EARLY_UNTIL - progress) / (EARLY_UNTIL - LOCAL_UNTIL))

    def freeze(self) -> None:
        """The averaged early stages are what the others build on from now on."""
        ours, theirs = self.net.stages[:EARLY_STAGES], self.average.stages[:EARLY_STAGES]
        ours.load_state_dict(theirs.state_dict())
        self.frozen = True

    @torch.no_grad()
    def entry(self, batch: Batch) -> Batch:
        """The batch with the frozen stages' map in place of its views."""
        self.net.eval()
        with fast_autocast():
            y = self.net.fold(to_input(batch.views))
            for i in range(EARLY_STAGES):
                y = self.net.stages[i](y)
        empty = np.empty((0,), np.uint8)
        return Batch(empty, batch.targets, y.bfloat16())

    def late_only(self, batch: Batch, progress: float) -> dict[str, float]:
        """One step of everything behind the frozen stages."""
        self.net.train()
        assert batch.entry is not None
        outputs, y = {}, batch.entry
        with fast_autocast():
            for i in range(EARLY_STAGES, len(self.net.stages)):
                y = self.net.stages[i](y)
                outputs[i] = y
        parts = self._losses(outputs, batch.targets)
        # Towards the end the hints only steady the trunk; the embedding is what is served.
        self._loss(parts, 0.4 * (1 - progress) + 0.05).backward()
        self._apply(self.late, (1 - progress) / (1 - EARLY_UNTIL))
        return self._finish(parts)

    def _losses(self, outputs: dict[int, Tensor], targets: dict[int, Tensor]) -> dict[str, Tensor]:
        parts = {
            TEACHER_MAPS[i]: relative_error(outputs[i], target, self.variances[i])
            for i, target in targets.items()
        }
        last = len(TEACHER_MAPS) - 1
        if last in targets:
            parts["angle"], parts["relation"] = embedding_losses(outputs[last], targets[last])
        return parts

    @staticmethod
    def _loss(parts: dict[str, Tensor], hint_weight: float) -> Tensor:
        weights = {"angle": 4.0, "relation": 8.0}
        return torch.stack([weights.get(k, hint_weight) * v for k, v in parts.items()]).sum()

    def _finish(self, parts: dict[str, Tensor]) -> dict[str, float]:
        self.step += 1
        self.steps_since_start += 1
        update_average(self.average, self.net, self.step)
        return {k: float(v.detach()) for k, v in parts.items()}

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [o.state_dict() for o in self.early + self.late],
            "variances": self.variances,
            "step": self.step,
            "frozen": self.frozen,
        }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.early + self.late, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.frozen = state["step"], state["frozen"]


def save(trainer: Trainer, spent: float, out: Path) -> None:
    """Checkpoint for resuming, and the averaged weights in float16; both atomically."""
    torch.save({**trainer.state(), "spent": spent}, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")
    weights = {
        k: (v.half() if v.is_floating_point() else v).contiguous()
        for k, v in trainer.average.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    save_file(weights, out / "identity_encoder.tmp")
    (out / "identity_encoder.tmp").replace(out / "identity_encoder.safetensors")


def late_batch(trainer: Trainer, source: Source, strength: float) -> Batch:
    """A fresh batch of the last phase."""
    return trainer.entry(source(LATE_HINTS, BATCH, strength))


def train(data: Path, teachers: Path, out: Path, seconds: float, resume: bool) -> None:
    """Train for ``seconds``; see the module."""
    out.mkdir(parents=True, exist_ok=True)
    saved: dict[str, Any] | None = None
    if resume and (out / "checkpoint.pt").exists():
        saved = torch.load(out / "checkpoint.pt", weights_only=True)
    done = saved["step"] if saved else 0
    source = Source(data, teachers, SEED + done)
    print(f"{len(source)} faces", flush=True)
    every_stage = tuple(range(len(TEACHER_MAPS)))
    variances = (
        saved["variances"]
        if saved
        else stage_variances([source(every_stage, BATCH) for _ in range(3)])
    )
    trainer = Trainer(variances)
    if saved:
        trainer.load(saved)
    clock = Clock(seconds, saved["spent"] if saved else 0.0)
    replay = Replay(SEED + done)
    last_save, samples = clock.spent, 0
    smooth: dict[str, float] = {}
    with tqdm(total=round(clock.spent + seconds), unit="s", mininterval=20) as bar:
        while clock.progress < 1:
            progress = clock.progress
            if progress < LOCAL_UNTIL:
                parts = trainer.local(source(every_stage, BATCH), progress)
            elif progress < EARLY_UNTIL:
                early = every_stage[:EARLY_STAGES]
                parts = trainer.early_only(source(early, EARLY_BATCH), progress)
            else:
                if not trainer.frozen:
                    trainer.freeze()
                strength = 1.0 if progress < MILD_FROM else MILD_STRENGTH
                batch = replay(partial(late_batch, trainer, source, strength))
                parts = trainer.late_only(batch, progress)
                samples += BATCH
            for name, value in parts.items():
                smooth[name] = 0.9 * smooth.get(name, value) + 0.1 * value
            bar.update(round(clock.spent) - bar.n)
            if trainer.step % 20 == 0:
                line = {
                    "step": trainer.step,
                    "late_samples": samples,
                    "seconds": round(clock.spent),
                    **{k: round(v, 4) for k, v in smooth.items()},
                }
                with (out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
            if clock.spent - last_save > 180:
                save(trainer, clock.spent, out)
                last_save = clock.spent
    save(trainer, clock.spent, out)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--until", help="local time HH:MM at which the learning rate is zero")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seconds = arguments.minutes * 60
    if arguments.until:
        now = datetime.now().astimezone()
        clock = datetime.strptime(arguments.until, "%H:%M").astimezone()
        end = now.replace(hour=clock.hour, minute=clock.minute, second=0)
        seconds = ((end if end > now else end + timedelta(days=1)) - now).total_seconds()
    train(arguments.data, arguments.teachers, arguments.out, seconds, arguments.resume)


if __name__ == "__main__":
    main()
