"""Distil the identity encoder from a public recogniser.

    python -m export_scripts.training.identity_encoder --data DIR --teachers DIR --out DIR \
        [--minutes N | --until HH:MM] [--threads N] [--resume]

``--data`` holds the crops of ``export_scripts.datasets.prepare_faces``. The teacher sees exactly
the augmented view that the student sees, so every view is a fresh, exact target; part of the views
are blends of two aligned faces, people who do not exist. The student is compared with the teacher
between its blocks as well (feature hints): thousands of targets a face where the embedding is one.

Three phases, by the clock:

1. local: every block reads the teacher's map in place of the student's and learns what the
   teacher's block adds to it, so all of them learn at once and none waits for another. Large maps
   hold thousands of places a face, so few of the faces suffice there;
2. early: the blocks at 56 and 28 pixels as a chain, each on the output of the one before;
3. late: the early blocks are frozen and the rest is trained as a whole. A view's frozen map and its
   targets are kept and come back a few times, which spares the teacher and the early blocks. The
   embedding takes over from the hints.
"""

from __future__ import annotations

import argparse
import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino as ov
import torch
from torch import Tensor, nn
from tqdm import tqdm

from export_scripts.datasets.augment_faces import Augmenter
from export_scripts.datasets.identity_split import training_faces
from export_scripts.networks.identity_encoder import (
    FACE_SIZE,
    Bottleneck,
    IdentityEncoder,
    build,
    fold_batch_norms,
)
from export_scripts.training.distillation import (
    Batch,
    Replay,
    embedding_losses,
    relative_error,
)
from export_scripts.training.muon import Muon
from export_scripts.training.ncnn_teacher import Teacher
from export_scripts.training.precision import fast_autocast
from export_scripts.training.wallclock import WallClockRun

SEED = 20261125
BATCH = 64
PEAK_RATE = 2.5e-3
LOCAL_UNTIL, EARLY_UNTIL = 0.4, 0.55
"""Ends of the first two phases, as parts of the time."""
EARLY_BATCH = 16
EARLY_STAGES = 7
REUSED = 2
"""How often a view of the last phase comes back."""
LOCAL_SHARE = {56: 8, 28: 5, 14: 2, 7: 1}
"""Which part of a batch (one in so many faces) a block learns from, by its input's size."""
MILD_FROM = 0.7
MILD_STRENGTH = 0.6
"""From this part of the time on the views are closer to ordinary photos, as those served are."""
ANGLE_WEIGHT, RELATION_WEIGHT = 4.0, 8.0

TEACHER_MAPS = (
    "conv_2_dw_relu",
    "dconv_23_conv_proj_batchnorm",
    *(f"_plus{i}" for i in range(4)),
    "dconv_34_conv_proj_batchnorm",
    *(f"_plus{i}" for i in range(4, 10)),
    "dconv_45_conv_proj_batchnorm",
    *(f"_plus{i}" for i in range(10, 12)),
    "fc1",
)
"""The teacher's blobs that the student's stages are compared with, in order."""
LATE_HINTS = tuple(TEACHER_MAPS.index(n) for n in ("_plus6", "_plus9", "_plus11", "fc1"))
"""Which of them are compared in the last phase."""

Views = npt.NDArray[np.uint8]


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
        """``size`` fresh views, augmented with that strength, and the teacher's maps by stage."""
        self._augment.strength = strength
        if stages not in self._teachers:
            names = tuple(TEACHER_MAPS[i] for i in stages)
            self._teachers = {stages: Teacher(self._folder, names)}
        views = self._augment.batch(size)
        outputs = self._teachers[stages](views)
        targets = {i: torch.from_numpy(o) for i, o in zip(stages, outputs, strict=True)}
        return Batch(views, targets)


def to_input(views: Views) -> Tensor:
    """uint8 views to float32 in [-1, 1], channels last."""
    x = torch.from_numpy(views).float() / 127.5 - 1.0
    return x.contiguous(memory_format=torch.channels_last)


def channel_variances(maps: Tensor) -> Tensor:
    """Variance of every channel, ``[C]``, of ``[B, C, ...]``."""
    return maps.transpose(0, 1).flatten(1).var(dim=1)


def local_losses(net: IdentityEncoder, batch: Batch) -> dict[str, Tensor]:
    """Error of every stage alone, fed with the teacher's map before it.

    A block with a shortcut is measured by what it adds: the stream it passes on is exact anyway.
    """
    losses = {}
    x = to_input(batch.views)
    for i, stage in enumerate(net.stages):
        target = batch.targets[i]
        faces = max(1, len(x) // LOCAL_SHARE.get(x.shape[-1], LOCAL_SHARE[56]))
        given = x[:faces].contiguous(memory_format=torch.channels_last)
        if isinstance(stage, Bottleneck) and stage.shortcut:
            made, wanted = stage.branch(given), target[:faces] - given
        else:
            made, wanted = stage(given), target[:faces]
        losses[TEACHER_MAPS[i]] = relative_error(made, wanted, channel_variances(wanted))
        x = target
    return losses


def early_losses(net: IdentityEncoder, batch: Batch) -> dict[str, Tensor]:
    """Errors of the early stages, each fed with the output of the one before."""
    losses = {}
    y = to_input(batch.views)
    for i, stage in enumerate(net.stages[:EARLY_STAGES]):
        y = stage(y)
        target = batch.targets[i]
        losses[TEACHER_MAPS[i]] = relative_error(y, target, channel_variances(target))
    return losses


def late_losses(net: IdentityEncoder, batch: Batch) -> dict[str, Tensor]:
    """Errors behind the frozen stages: hints, angle to the teacher, relations in the batch."""
    assert batch.entry is not None
    losses, y = {}, batch.entry
    last = len(TEACHER_MAPS) - 1
    for i in range(EARLY_STAGES, last + 1):
        y = net.stages[i](y)
        if i in batch.targets:
            target = batch.targets[i]
            losses[TEACHER_MAPS[i]] = relative_error(y, target, channel_variances(target))
    losses["angle"], losses["relation"] = embedding_losses(y, batch.targets[last])
    return losses


def freeze_early(net: IdentityEncoder, average: dict[str, Tensor]) -> None:
    """The averaged early stages are what the others build on from now on."""
    early = net.stages[:EARLY_STAGES]
    prefix = len("stages.")
    early.load_state_dict(
        {
            k[prefix:]: v
            for k, v in average.items()
            if k.startswith("stages.") and int(k.split(".")[1]) < EARLY_STAGES
        }
    )
    early.eval().requires_grad_(False)


class FrozenStages:
    """The early stages compiled for one thread: views to the map that the late ones start from."""

    def __init__(self, net: IdentityEncoder) -> None:
        stages = nn.Sequential(*fold_batch_norms(net).stages[:EARLY_STAGES])
        model = ov.convert_model(stages, example_input=torch.zeros(1, 3, FACE_SIZE, FACE_SIZE))
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, batch: Batch) -> Batch:
        """The batch with that map in place of its views."""
        faces = batch.views.astype(np.float32) / np.float32(127.5) - np.float32(1)
        entry = torch.from_numpy(np.array(self._request.infer([faces])[0]))
        entry = entry.contiguous(memory_format=torch.channels_last)
        return Batch(np.empty((0,), np.uint8), batch.targets, entry)


def late_batch(compiled: FrozenStages, source: Source, strength: float) -> Batch:
    """A fresh batch of the last phase."""
    return compiled(source(LATE_HINTS, BATCH, strength))


def optimisers(net: IdentityEncoder) -> list[torch.optim.Optimizer]:
    """Muon for matrices, AdamW for depthwise kernels, norms, slopes and biases."""
    matrices, rest = [], []
    for parameter in net.parameters():
        mixes = parameter.dim() == 2 or (parameter.dim() == 4 and parameter.shape[1] > 1)
        (matrices if mixes else rest).append(parameter)
    return [
        Muon(matrices, lr=PEAK_RATE, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=PEAK_RATE, weight_decay=0.0),
    ]


def seconds_until(clock: str, now: datetime) -> float:
    """Seconds from ``now`` until it is next ``clock``, local time HH:MM."""
    hour_minute = datetime.strptime(clock, "%H:%M").time()
    end = now.replace(hour=hour_minute.hour, minute=hour_minute.minute, second=0, microsecond=0)
    return ((end if end > now else end + timedelta(days=1)) - now).total_seconds()


def begin(
    net: IdentityEncoder, out: Path, minutes: float, until: str | None, resume: bool
) -> WallClockRun:
    """The run, resumed or new, that ends after ``minutes`` in all, or at the time ``until``."""
    run = WallClockRun(net, optimisers(net), out, minutes=minutes, decay=0.99, warmup=60)
    if resume:
        run.resume()
    if until is not None:
        run.end_in(seconds_until(until, datetime.now().astimezone()))
    return run


def train(
    data: Path, teachers: Path, out: Path, minutes: float, until: str | None, resume: bool
) -> None:
    """Train for ``minutes``, or to the time ``until``; see the module."""
    torch.manual_seed(SEED)
    net = build().train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = begin(net, out, minutes, until, resume)
    source = Source(data, teachers, SEED + run.step_count)
    replay = Replay(SEED + run.step_count, uses=REUSED)
    every_stage = tuple(range(len(TEACHER_MAPS)))
    smooth: dict[str, float] = {}
    bar = tqdm(total=round(run.seconds), unit="s", mininterval=20, initial=int(run.spent))
    print(f"{len(source)} faces", flush=True)
    compiled: FrozenStages | None = None
    while run.start_step():
        hint_weight = 1.0
        if run.progress < LOCAL_UNTIL:
            batch = source(every_stage, BATCH)
            losses_of = local_losses
        elif run.progress < EARLY_UNTIL:
            batch = source(every_stage[:EARLY_STAGES], EARLY_BATCH)
            losses_of = early_losses
        else:
            if compiled is None:
                freeze_early(net, run.average)
                compiled, smooth = FrozenStages(net), {}
            strength = 1.0 if run.progress < MILD_FROM else MILD_STRENGTH
            batch = replay(partial(late_batch, compiled, source, strength))
            losses_of = late_losses
            # Towards the end the hints only steady the trunk; the embedding is what is served.
            hint_weight = 0.4 * (1 - run.progress) + 0.05
        with fast_autocast():
            losses = losses_of(net, batch)
        weights = {"angle": ANGLE_WEIGHT, "relation": RELATION_WEIGHT}
        parts = [weights.get(k, hint_weight) * v for k, v in losses.items()]
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        run.end_step(clip=20.0)
        for name, value in losses.items():
            smooth[name] = 0.95 * smooth.get(name, float(value.detach())) + 0.05 * float(
                value.detach()
            )
        if run.step_count % 20 == 0:
            shown = {k: round(smooth[k], 4) for k in losses}
            line = {"step": run.step_count, "seconds": round(run.spent), **shown}
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
        bar.n = int(run.spent)
        bar.update(0)
    run.save()
    bar.close()


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teachers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--until", help="local time HH:MM at which it ends")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        arguments.data,
        arguments.teachers,
        arguments.out,
        arguments.minutes,
        arguments.until,
        arguments.resume,
    )


if __name__ == "__main__":
    main()
