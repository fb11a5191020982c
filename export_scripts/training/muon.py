"""Muon: momentum whose update is orthogonalised, for matrices and convolution kernels.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the update is
scaled to the root mean square of AdamW's (Liu et al. 2025, "Muon is scalable for LLM training"),
so that one learning rate serves both optimisers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from export_scripts.training.precision import fast_dtype


def orthogonalised(matrix: Tensor, steps: int = 4) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix, in bfloat16 if fast.

    ``matrix`` is float32 [..., rows, columns]; leading axes are matrices of their own.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(fast_dtype(matrix.device.type))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.mT if tall else x).to(matrix.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """For parameters with two or more axes; axes after the first are flattened."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            # Matrices of one shape go together: a GPU is quicker at a few large products.
            alike: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = parameter.shape[0]
                    alike[rows, parameter.numel() // rows].append(parameter)
            for shape, parameters in alike.items():
                directions = [self._direction(p, group["momentum"]) for p in parameters]
                flat = torch.stack([d.reshape(shape) for d in directions])
                updates = orthogonalised(flat) * (0.2 * max(shape) ** 0.5)
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.view_as(parameter), alpha=-group["lr"])

    def _direction(self, parameter: Tensor, decay: float) -> Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - decay)
        return gradient.lerp(momentum, decay)
