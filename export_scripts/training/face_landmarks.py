"""Train the detector's third look, the landmarks, and join it with the weights of its other parts.

    python -m export_scripts.training.face_landmarks --framings DIR --others FILE --out DIR

`--framings` holds the shards of export_scripts.datasets.face_framings; `--others` are the weights
of the detector, whose second look the third starts from. Writes `face_detector.safetensors` below
`--out`: the weights that are exported.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm  # type: ignore[import-untyped]

from export_scripts.networks.face_refiner import (
    CROP,
    MARGIN,
    SECOND_LOOK,
    THIRD_CROP,
    THIRD_LOOK,
    THIRD_MARGIN,
    Refiner,
)
from export_scripts.training.precision import fast_autocast
from export_scripts.training.wallclock import WallClockRun, with_part

BATCH = 128
LEARNING_RATE = 1.5e-3
PART = "pointer"
# Share of the crops from which a hidden unit that fires is awake, and how many are looked at.
_AWAKE = 0.002
_LOOKED_AT = 512
# Layers of the second look that those of the third start from.
INHERITED = (0, 1, 2, 4, 5, 6, 7)


def load_framings(folder: Path) -> dict[bool, tuple[Tensor, Tensor]]:
    """Return crops uint8 [n,96,96,3] and points float32 [n,5,2]: True held for tuning, False not.

    Raises FileNotFoundError when there is no shard.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise FileNotFoundError(f"no framings in {folder}")
    held = []
    for path in paths:
        with np.load(path) as store:
            held.append(store["held"] > 0)
    # Room first, then one shard after the other: gigabytes of crops are in memory only once.
    result = {}
    for kept in (True, False):
        count = sum(int((marks == kept).sum()) for marks in held)
        crops = torch.empty(count, THIRD_CROP, THIRD_CROP, 3, dtype=torch.uint8)
        result[kept] = crops, torch.empty(count, 5, 2)
    filled = {True: 0, False: 0}
    for path, marks in zip(paths, held, strict=True):
        with np.load(path) as store:
            shard = store["crops"], store["points"]
        for kept in (True, False):
            begin = filled[kept]
            filled[kept] += int((marks == kept).sum())
            for into, values in zip(result[kept], shard, strict=True):
                into[begin : filled[kept]] = torch.from_numpy(values[marks == kept])
    return result


def inherit(second: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the second look's weights into a beginning for the third's.

    Convolutions are taken as they are, the map before the hidden layer is stretched from 4x4 to
    6x6, and the landmarks' outputs to the new side of the crop.
    """
    state = {}
    for place, source in enumerate(INHERITED):
        prefix = f"features.{source}."
        for name, value in second.items():
            if name.startswith(prefix):
                state[f"features.{place}.{name.removeprefix(prefix)}"] = value
    old, new = CROP // 16, THIRD_CROP // 16
    maps = second["hidden.weight"].reshape(-1, abs(SECOND_LOOK[-1]), old, old)
    maps = functional.interpolate(maps, size=(new, new), mode="bilinear") * (old / new) ** 2
    state["hidden.weight"], state["hidden.bias"] = maps.flatten(1), second["hidden.bias"]
    for name in ("weight", "bias"):
        state[f"output.{name}"] = second[f"output.{name}"][5:] * (MARGIN / THIRD_MARGIN)
    return state


def wake(network: Refiner, crops: Tensor, generator: torch.Generator) -> int:
    """Draw the hidden units anew that no crop wakes; returns how many, the outputs stay the same.

    Of the second look's hidden units, weight decay and rectifier leave a few that ever fire, and
    one that never does learns nothing: the landmarks of five points would pass through a dozen
    numbers. What is drawn fires on about half of the crops, as strongly as the living do.
    """
    seen: list[Tensor] = []
    hook = network.hidden.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].float())
    )
    training = network.training
    with torch.inference_mode():
        network.eval()
        look(network, crops)
    network.train(training)
    hook.remove()
    weight, bias = network.hidden.weight, network.hidden.bias
    with torch.no_grad():
        maps = torch.cat(seen)
        fired = functional.relu(maps @ weight.T + bias)
        asleep = (fired > 0).float().mean(0) < _AWAKE
        count = int(asleep.sum())
        if 0 < count < len(asleep):
            drawn = torch.randn(count, weight.shape[1], generator=generator)
            drawn = drawn * weight[~asleep].std()
            mean = maps.mean(0)
            strength = functional.relu((maps - mean) @ drawn.T).std()
            drawn = drawn * (fired[:, ~asleep].std() / strength)
            weight[asleep], bias[asleep] = drawn, -(drawn @ mean)
            network.output.weight[:, asleep] = 0
    return count


def distance(output: Tensor, points: Tensor) -> Tensor:
    """Distance of each landmark [N,5] of outputs [N,10] to points [N,5,2], in eye distances."""
    eyes = torch.linalg.vector_norm(points[:, 0] - points[:, 1], dim=-1).clamp_min(0.02)
    off = output.reshape(-1, 5, 2) - points
    return torch.sqrt(off.square().sum(-1) + 1e-7) / eyes.unsqueeze(-1)


def look(network: Refiner, crops: Tensor) -> Tensor:
    """Run the network on crops uint8 [N,96,96,3]; landmarks float32 [N,10]."""
    x = crops.permute(0, 3, 1, 2).float() / 127.5 - 1.0
    with fast_autocast():
        landmarks: Tensor = network(x.contiguous(memory_format=torch.channels_last))
    return landmarks.float()


def lit_anew(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and colour a little: the teacher hardly minds."""
    gain = 1 + 0.12 * torch.randn(len(crops), 1, 1, 1, generator=generator)
    gain = gain * (1 + 0.04 * torch.randn(len(crops), 1, 1, 3, generator=generator))
    lift = 8 * torch.randn(len(crops), 1, 1, 1, generator=generator)
    return (crops.float() * gain + lift).clamp(0, 255)


def moved_anew(crops: Tensor, points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn, scale and shift seven of ten crops [N,96,96,3] a little, points [N,5,2] with them.

    Against learning the crops by heart; never mirrored, which the teacher would not follow.
    """
    count = len(crops)
    drawn = torch.randn(count, 4, generator=generator)
    drawn = drawn * (torch.rand(count, 1, generator=generator) < 0.7)
    angle, scale, shift = drawn[:, 0] * 0.1, torch.exp(drawn[:, 1] * 0.06), drawn[:, 2:] * 0.04
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    # From places in the new crop to places in the old one, both -1..1.
    linear = torch.stack([cosine, -sine, sine, cosine], 1).reshape(count, 2, 2)
    grid = functional.affine_grid(
        torch.cat([linear, shift.unsqueeze(-1)], -1),
        [count, 3, THIRD_CROP, THIRD_CROP],
        align_corners=False,
    )
    moved = functional.grid_sample(
        crops.permute(0, 3, 1, 2).float(), grid, padding_mode="border", align_corners=False
    )
    places = (2 * points - shift.unsqueeze(1)) @ torch.linalg.inv(linear).transpose(1, 2) / 2
    return moved.permute(0, 2, 3, 1), places


def held_error(weights: dict[str, Tensor], crops: Tensor, points: Tensor) -> float:
    """Mean distance to the teacher on held faces, in per cent of the eye distance."""
    network = Refiner(THIRD_LOOK, THIRD_CROP, 10).eval()
    network.load_state_dict(weights)
    with torch.inference_mode():
        parts = [
            distance(look(network, crops[k : k + 256]), points[k : k + 256])
            for k in range(0, len(crops), 256)
        ]
    return 100 * float(torch.cat(parts).mean())


def train(
    framings: Path, others: dict[str, Tensor], out: Path, minutes: float, seed: int, resume: bool
) -> dict[str, Tensor]:
    """Train until the time is up; returns the averaged weights."""
    torch.manual_seed(seed)
    sets = load_framings(framings)
    crops, points = sets[False]
    held_crops, held_points = (values[:2048] for values in sets[True])
    print(f"{len(crops)} crops to learn, {len(held_crops)} held", flush=True)
    network = Refiner(THIRD_LOOK, THIRD_CROP, 10).train()
    second = {
        name.removeprefix("closer."): value.float()
        for name, value in others.items()
        if name.startswith("closer.")
    }
    network.load_state_dict(inherit(second))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.03)
    run = WallClockRun(network, [optimizer], out, minutes=minutes, decay=0.997, save_every=120)
    if resume:
        run.resume()
    generator = torch.Generator().manual_seed(seed + run.step_count)
    woken = wake(network, crops[:_LOOKED_AT], generator)
    print(f"{woken} hidden units drawn anew", flush=True)
    order = torch.randperm(len(crops), generator=generator)
    bar = tqdm(total=round(minutes * 60), unit="s", mininterval=20, initial=int(run.spent))
    place, shown = 0, 0.0
    while run.start_step():
        if place + BATCH > len(order):
            order, place = torch.randperm(len(crops), generator=generator), 0
        chosen = order[place : place + BATCH]
        place += BATCH
        seen, places = moved_anew(crops[chosen], points[chosen], generator)
        output = look(network, lit_anew(seen, generator))
        error = distance(output, places).mean()
        error.backward()  # type: ignore[no-untyped-call]
        run.end_step(clip=1.0)
        shown += (100 * float(error.detach()) - shown) * (0.02 if shown else 1.0)
        bar.n = int(run.spent)
        bar.set_postfix(step=run.step_count, error=f"{shown:.2f}")
        if run.step_count % 250 == 0 and len(held_crops):
            held = held_error(run.average, held_crops, held_points)
            print(f"\nstep {run.step_count}: held {held:.2f} %, learned {shown:.2f} %", flush=True)
    run.save()
    bar.close()
    return run.average


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--framings", type=Path, required=True)
    parser.add_argument("--others", type=Path, required=True, help="weights of the other parts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    others = load_file(arguments.others)
    average = train(
        arguments.framings,
        others,
        arguments.out,
        arguments.minutes,
        arguments.seed,
        arguments.resume,
    )
    joined = with_part(others, PART, average)
    save_file(joined, arguments.out / "face_detector.safetensors")


if __name__ == "__main__":
    main()
