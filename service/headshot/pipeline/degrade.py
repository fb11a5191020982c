"""Near the deadline: what to leave out, from what the stages took lately."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from headshot.deadline import Deadline
from headshot.errors import DeadlineError

# Weight of the newest measurement in the running mean of a stage's time.
_NEWEST = 0.2
# Of the time that is left, how much a plan may fill: the rest absorbs noise.
_USABLE = 0.9
_FEWEST_STEPS = 2

FEWER_CANDIDATES = "FEWER_CANDIDATES"
FEWER_STEPS = "FEWER_STEPS"
SMALLER_RENDITIONS = "SMALLER_RENDITIONS"


class StageCosts:
    """Running means of what stages take, in seconds; shared by all requests of a process."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}
        self._lock = threading.Lock()

    def book(self, stage: str, seconds: float) -> None:
        """Take a measurement into the mean."""
        with self._lock:
            old = self._means.get(stage, seconds)
            self._means[stage] = old + _NEWEST * (seconds - old)

    def expect(self, stage: str) -> float:
        """Return the expected seconds of a stage; 0 before it was ever measured."""
        with self._lock:
            return self._means.get(stage, 0.0)


@dataclass(frozen=True)
class Effort:
    """How much work one headshot is.

    Attributes:
        candidates: candidates to make.
        steps: diffusion steps of each.
        upscaled: whether the result is enlarged before it is rendered.
        files: pixels of its files over those of a usual set, at least 1.
    """

    candidates: int
    steps: int
    upscaled: bool
    files: float = 1.0


def expected_seconds(costs: StageCosts, effort: Effort) -> float:
    """Return what the rest of a headshot is expected to take, from the denoise loop on."""
    loop = costs.expect("denoise_step") * effort.steps * effort.candidates
    fixed = costs.expect("matte") + costs.expect("verify") * effort.candidates
    finish = "finish_upscaled" if effort.upscaled else "finish_plain"
    enlarge = costs.expect("upscale") if effort.upscaled else 0.0
    return loop + fixed + enlarge + costs.expect(finish) * effort.files


def enough_time(costs: StageCosts, effort: Effort, deadline: Deadline) -> bool:
    """Tell whether an effort is expected to end before a deadline."""
    return expected_seconds(costs, effort) <= deadline.remaining() * _USABLE


def fit(
    costs: StageCosts, effort: Effort, remaining_s: float, *, keep: bool = False
) -> tuple[Effort, tuple[str, ...]]:
    """Return the largest effort that the time left allows, and what was given up for it.

    The order of giving up: candidates, then steps down to two, then the enlargement. What still
    does not fit is refused before it wastes time.

    Args:
        costs: what stages took lately.
        effort: what was asked for.
        remaining_s: seconds to the deadline.
        keep: refuse instead of giving anything up.

    Raises:
        DeadlineError: even the smallest effort does not fit.
    """
    budget = remaining_s * _USABLE
    given_up: list[str] = []
    if expected_seconds(costs, effort) > budget and effort.candidates > 1 and not keep:
        given_up.append(FEWER_CANDIDATES)
        while effort.candidates > 1 and expected_seconds(costs, effort) > budget:
            effort = replace(effort, candidates=effort.candidates - 1)
    if expected_seconds(costs, effort) > budget and effort.steps > _FEWEST_STEPS and not keep:
        given_up.append(FEWER_STEPS)
        while effort.steps > _FEWEST_STEPS and expected_seconds(costs, effort) > budget:
            effort = replace(effort, steps=effort.steps - 1)
    if expected_seconds(costs, effort) > budget and effort.upscaled and not keep:
        given_up.append(SMALLER_RENDITIONS)
        effort = replace(effort, upscaled=False)
    if expected_seconds(costs, effort) > budget:
        raise DeadlineError(
            "the work cannot finish before the deadline; send a later deadline or ask for less",
            reason="DEADLINE_TOO_SHORT",
            metadata={"expected_ms": f"{expected_seconds(costs, effort) * 1e3:.0f}"},
        )
    return effort, tuple(given_up)
