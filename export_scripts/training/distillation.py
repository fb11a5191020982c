"""Batches with a teacher's maps, a pool that repeats them, and the losses of distillation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional


@dataclass
class Batch:
    """Views uint8 ``[B, 3, 112, 112]`` and the teacher's outputs by stage.

    In the last phase ``entry`` holds the frozen stages' map instead of the views.
    """

    views: npt.NDArray[np.uint8]
    targets: dict[int, Tensor]
    entry: Tensor | None = None
    uses_left: int = 0


class Replay:
    """Hands every late batch out ``uses`` times, far apart: a pool that is drawn from at random."""

    def __init__(self, seed: int, size: int = 32, uses: int = 4) -> None:
        self._rng = np.random.default_rng(seed)
        self._pool: list[Batch] = []
        self._size = size
        self._uses = uses

    def __call__(self, fresh: Callable[[], Batch]) -> Batch:
        """A batch of the pool, or a fresh one with probability 1 / ``uses``."""
        full = len(self._pool) >= self._size
        if not full or self._rng.random() < 1 / self._uses:
            batch = fresh()
            batch.uses_left = self._uses - 1
            self._pool.append(batch)
            return batch
        index = int(self._rng.integers(len(self._pool)))
        batch = self._pool[index]
        batch.uses_left -= 1
        if batch.uses_left == 0:
            self._pool.pop(index)
        return batch


def relative_error(output: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Mean squared error with every channel scaled to unit variance of the target."""
    shape = (1, -1, 1, 1) if output.dim() == 4 else (1, -1)
    weight = variance.clamp_min(1e-4).rsqrt().view(shape)
    return ((output.float() - target.float()) * weight).square().mean()


def embedding_losses(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One minus the mean cosine, and the squared difference of the similarity matrices."""
    student = functional.normalize(output.float(), dim=1)
    teacher = functional.normalize(target.float(), dim=1)
    relation = (student @ student.T - teacher @ teacher.T).square()
    off_diagonal = relation.sum() / (len(student) * (len(student) - 1))
    return 1 - (student * teacher).sum(1).mean(), off_diagonal
