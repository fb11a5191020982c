"""What every stage of one request shares: deadline, priority, timings, events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from headshot.deadline import Deadline


@dataclass
class StageTiming:
    """Where the time of one stage went, in seconds; batch facts of its model requests."""

    stage: str
    total_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    wire_s: float = 0.0
    requests: int = 0
    batch_rows: int = 0

    @property
    def mean_batch(self) -> float:
        """Mean number of rows that ran together with this stage's requests; 0 without requests."""
        return self.batch_rows / self.requests if self.requests else 0.0

    def parts(self) -> tuple[float, float, float]:
        """Return queue, wire and compute as seconds of the stage's own time; they sum to it.

        Requests side by side wait and compute at the same time: their sums are cut to the wall's.
        What no request accounts for was computed here.
        """
        summed = self.queue_s + self.wire_s + self.compute_s
        share = min(1.0, self.total_s / summed) if summed else 0.0
        queue, wire = self.queue_s * share, self.wire_s * share
        return queue, wire, max(0.0, self.total_s - queue - wire)


@dataclass(frozen=True)
class StageEvent:
    """A stage began (`finished` false) or ended."""

    stage: str
    finished: bool
    duration_s: float = 0.0


@dataclass(frozen=True)
class ProgressEvent:
    """A denoise step of one candidate finished; `preview` is a JPEG or empty."""

    candidate: int
    step: int
    steps: int
    preview: bytes = b""


Event = StageEvent | ProgressEvent


def _ignore(_event: Event) -> None:
    """Drop an event nobody listens to."""


@dataclass
class Call:
    """The context of one request, handed from stage to stage.

    Attributes:
        deadline: when the caller wants the answer.
        request_id: the request's identifier.
        priority: 1 (highest) to 2, as Triton counts; 0 leaves it to the model.
        headers: trace headers for Triton.
        emit: receives events; must not block.
        executions: when each of its model requests was computed, (begun, ended) in seconds of the
            monotonic clock, in order of their answers.
    """

    deadline: Deadline
    request_id: str = ""
    priority: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    emit: Callable[[Event], None] = _ignore
    started: float = field(default_factory=time.perf_counter)
    admission_s: float = 0.0
    stages: dict[str, StageTiming] = field(default_factory=dict)
    executions: list[tuple[float, float]] = field(default_factory=list)

    def timing(self, stage: str) -> StageTiming:
        """Return the stage's timing, made on first use."""
        return self.stages.setdefault(stage, StageTiming(stage))

    @contextmanager
    def stage(self, name: str) -> Iterator[StageTiming]:
        """Measure a stage, refuse to begin it after the deadline, tell when it begins and ends."""
        self.deadline.check(name)
        timing = self.timing(name)
        self.emit(StageEvent(name, finished=False))
        begun = time.perf_counter()
        try:
            yield timing
        finally:
            spent = time.perf_counter() - begun
            timing.total_s += spent
            self.emit(StageEvent(name, finished=True, duration_s=spent))

    @property
    def total_s(self) -> float:
        """Seconds since the request reached the gateway."""
        return time.perf_counter() - self.started

    @property
    def computing_s(self) -> float:
        """Seconds in which at least one of its model requests was computed.

        Requests that run side by side, or in one batch, count once: the stages' `compute_s`, which
        count each, can add up to more than the whole request took.
        """
        covered, until = 0.0, float("-inf")
        for begun, ended in sorted(self.executions):
            covered += max(0.0, ended - max(begun, until))
            until = max(until, ended)
        return covered
