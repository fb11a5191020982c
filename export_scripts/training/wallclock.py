"""A training that ends at a set time: annealed learning rate, averaged weights, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer


class WallClockRun:
    """Keeps the clock, the exponential average of the weights and the checkpoint of a training.

    The learning rate warms up linearly over ``warmup`` steps and then follows half a cosine from
    its peak to 1% of it over ``minutes`` of training time; time spent before a resume counts.
    The average's decay grows as ``(1 + n) / (10 + n)`` up to ``decay``.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizers: Sequence[Optimizer],
        out: Path,
        *,
        minutes: float,
        decay: float = 0.999,
        warmup: int = 100,
        save_every: float = 150.0,
    ) -> None:
        self.net, self.optimizers, self.out = net, optimizers, out
        self.seconds, self.decay, self.warmup = minutes * 60, decay, warmup
        self.save_every = save_every
        self.step_count, self.spent = 0, 0.0
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}
        self._peaks = [group["lr"] for group in self._groups()]
        self._last = self._saved = time.monotonic()
        out.mkdir(parents=True, exist_ok=True)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def end_in(self, seconds: float) -> None:
        """Makes the time up so many seconds from now, whatever was spent before a resume."""
        self.seconds = self.spent + (time.monotonic() - self._last) + seconds

    @property
    def progress(self) -> float:
        """Share of the training time that is spent, 0 to 1."""
        return min(1.0, self.spent / self.seconds)

    def start_step(self) -> bool:
        """Sets the learning rate; False once the time is up."""
        now = time.monotonic()
        self.spent += now - self._last
        self._last = now
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress))
        ramp = min(1.0, (self.step_count + 1) / self.warmup)
        for group, peak in zip(self._groups(), self._peaks, strict=True):
            group["lr"] = peak * cosine * ramp
        return self.progress < 1.0

    def end_step(self, *, clip: float = 1.0) -> None:
        """Applies the gradients (norm clipped to ``clip``), averages, saves when it is time."""
        nn.utils.clip_grad_norm_(self.net.parameters(), clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        decay = min(self.decay, (1 + self.step_count) / (10 + self.step_count))
        with torch.no_grad():
            now = self.net.state_dict()
            torch._foreach_lerp_([self.average[k] for k in now], list(now.values()), 1 - decay)
        if time.monotonic() - self._saved > self.save_every:
            self.save()

    def save(self) -> None:
        """Writes ``checkpoint.pt`` (to resume) and ``weights.safetensors`` (average, float16)."""
        self._saved = time.monotonic()
        state: dict[str, Any] = {
            "net": self.net.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": self.average,
            "step_count": self.step_count,
            "spent": self.spent,
        }
        torch.save(state, self.out / "checkpoint.part")
        (self.out / "checkpoint.part").replace(self.out / "checkpoint.pt")
        save_file(half(self.average), self.out / "weights.safetensors")

    def resume(self) -> None:
        """Continues from ``checkpoint.pt``; raises FileNotFoundError where there is none."""
        state = torch.load(self.out / "checkpoint.pt", weights_only=True)
        self.net.load_state_dict(state["net"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.average = state["average"]
        self.step_count, self.spent = state["step_count"], state["spent"]


def half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as contiguous float16, the form in which they are committed."""
    return {k: v.detach().to(torch.float16).contiguous() for k, v in weights.items()}


def with_part(
    others: dict[str, Tensor], part: str, weights: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The weights of a network with those of one part, named ``part.``, replaced (float16)."""
    kept = {k: v for k, v in others.items() if not k.startswith(f"{part}.")}
    return kept | {f"{part}.{k}": v for k, v in half(weights).items()}
