"""When requests shall be sent: fixed before the run, from a seed, whatever the service does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["poisson", "constant", "step"]


@dataclass(frozen=True)
class Arrivals:
    """A schedule's recipe.

    Attributes:
        shape: poisson (exponential gaps), constant (equal gaps), or step (Poisson whose rate rises
            in equal steps from `rate` to `peak`).
        rate: requests a second.
        seconds: length of the run.
        seed: of the gaps.
        peak: last step's rate, for step.
        steps: number of steps, for step.
    """

    shape: Shape
    rate: float
    seconds: float
    seed: int = 0
    peak: float = 0.0
    steps: int = 5

    def times(self) -> NDArray[np.float64]:
        """Return intended send times in seconds from the start, ascending."""
        if self.rate <= 0 or self.seconds <= 0:
            raise ValueError("rate and seconds must be positive")
        if self.shape == "constant":
            return np.arange(0.0, self.seconds, 1.0 / self.rate)
        generator = np.random.default_rng(self.seed)
        if self.shape == "poisson":
            return _poisson(generator, self.rate, 0.0, self.seconds)
        length = self.seconds / self.steps
        rates = np.linspace(self.rate, max(self.peak, self.rate), self.steps)
        parts = [
            _poisson(generator, rate, index * length, length) for index, rate in enumerate(rates)
        ]
        return np.concatenate(parts)


def _poisson(
    generator: np.random.Generator, rate: float, start: float, length: float
) -> NDArray[np.float64]:
    """Return the points of a Poisson process of `rate` on [start, start + length)."""
    count = generator.poisson(rate * length)
    return np.sort(generator.uniform(start, start + length, count))
