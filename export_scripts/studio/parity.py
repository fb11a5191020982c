"""How far an exported graph is from the torch network it came from, on seeded random inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from export_scripts.studio.bfloat16 import run_rounded
from export_scripts.studio.spec import Precision, StudioModel

Arrays = dict[str, NDArray[np.generic]]
Floats = NDArray[np.float64]

# Relative to the largest magnitude of the output; uint8 outputs count in levels of 255 (one level
# is 3.9e-3), float16 outputs cannot be nearer than 4.9e-4.
TOLERANCE = {Precision.FLOAT32: 5e-3, Precision.FLOAT16: 2e-2, Precision.BFLOAT16: 1e-1}


@dataclass(frozen=True)
class Parity:
    """Errors over all outputs.

    Attributes:
        absolute: largest absolute difference.
        relative: largest difference over the largest magnitude of that output.
        rows: largest absolute difference between a row in a batch and the row alone.

    All are infinite where a value is not finite.
    """

    absolute: float
    relative: float
    rows: float


def run_onnx(path: Path, inputs: Arrays) -> list[NDArray[np.generic]]:
    """Run a graph with ONNX Runtime on one CPU thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def follow_order(targets: list[Floats], found: list[Floats]) -> list[Floats]:
    """Bring the reference's faces into the order in which they were found.

    Scores that are nearly equal change places in 16 bits, and the last ones change for others that
    did not make the list before. So each found face is compared with the reference's nearest one,
    by box and landmarks; faces whose score is not surely among the reference's best are left out.

    Args:
        targets: boxes [B, N, 4], scores [B, N] falling, landmarks [B, N, 5, 2] of the reference.
        found: the same of the graph.

    Returns:
        The targets in the order of `found`, with NaN where a face is left out; scores as they were,
        each compared by rank.

    Raises:
        ValueError: fewer than an eighth of the faces are surely among the reference's best.
    """
    boxes, scores, landmarks = (target.copy() for target in targets)
    # A score can only be as far off as the ranked scores are, so twice that is surely above.
    margin = 2 * np.abs(found[1] - scores).max()
    sure = found[1] > scores[:, -1:] + margin
    if sure.mean() < 1 / 8:
        raise ValueError(f"only {sure.mean():.0%} of the faces can be compared")
    for row in range(len(scores)):
        places = [
            np.concatenate([side[0][row], side[2][row].reshape(len(scores[row]), -1)], axis=1)
            for side in (targets, found)
        ]
        distance = np.abs(places[1][:, None] - places[0][None]).max(axis=2)
        nearest = distance.argmin(axis=1)
        boxes[row] = np.where(sure[row][:, None], targets[0][row][nearest], np.nan)
        landmarks[row] = np.where(sure[row][:, None, None], targets[2][row][nearest], np.nan)
    return [boxes, scores, landmarks]


def measure(model: StudioModel, path: Path, precision: Precision, batch: int = 2) -> Parity:
    """Compare an exported graph with the float32 torch network.

    Args:
        model: the model with its float32 network.
        path: model.onnx.
        precision: arithmetic of the graph; bfloat16 is computed in float32 and rounded.
        batch: rows in the batch; row 0 is run alone, too.
    """
    inputs = model.example(batch)
    with torch.no_grad():
        wanted = model.network.eval()(*inputs)
    references = [wanted] if isinstance(wanted, Tensor) else list(wanted)
    runtime = run_rounded if precision is Precision.BFLOAT16 else run_onnx
    feed = {port.name: tensor.numpy() for port, tensor in zip(model.inputs, inputs, strict=True)}
    found = runtime(path, feed)
    alone = runtime(path, {name: array[:1] for name, array in feed.items()})
    absolute = relative = rows = 0.0
    targets = [reference.numpy().astype(np.float64) for reference in references]
    # Float16 overflows to what is no number, which compares as neither far nor near.
    if not all(np.isfinite(values).all() for values in (*targets, *found, *alone)):
        return Parity(math.inf, math.inf, math.inf)
    if model.unordered and precision is not Precision.FLOAT32:
        targets = follow_order(targets, [output.astype(np.float64) for output in found])
    for target, output, single in zip(targets, found, alone, strict=True):
        value = output.astype(np.float64)
        difference = float(np.nanmax(np.abs(value - target)))
        scale = 255.0 if output.dtype == np.uint8 else max(float(np.nanmax(np.abs(target))), 1e-6)
        absolute = max(absolute, difference)
        relative = max(relative, difference / scale)
        rows = max(rows, float(np.abs(value[:1] - single.astype(np.float64)).max()))
    return Parity(absolute, relative, rows)
