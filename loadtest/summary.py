"""Figures of a run: HDR percentiles from intended times, refusals apart, the generator's lag."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

from loadtest.runner import Sample

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)
# Answers that are the service's own refusal to work beyond its means.
SHED = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
_HIGHEST_US = 3_600_000_000


def histogram(seconds: list[float]) -> HdrHistogram:
    """Return an HDR histogram of latencies, 1 microsecond to 1 hour, three digits."""
    made = HdrHistogram(1, _HIGHEST_US, 3)
    for value in seconds:
        made.record_value(max(1, min(_HIGHEST_US, round(value * 1e6))))
    return made


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return {"p50": seconds, ...}; empty without values."""
    if not seconds:
        return {}
    made = histogram(seconds)
    return {f"p{p:g}": made.get_value_at_percentile(p) / 1e6 for p in PERCENTILES}


@dataclass(frozen=True)
class Summary:
    """What a run comes to.

    Attributes:
        offered_rate: requests a second that were sent, over the schedule's length.
        goodput: answers a second that worked, from the schedule's start to its end or to the last
            of these answers, whichever is later.
        latency: percentiles of answers that worked, seconds from the intended send time.
        uncorrected: the same from the real send time, to show what omission would hide.
        codes: answers by code.
        shed: refusals by reason.
        lag: percentiles of the generator's own lateness, seconds.
        stages: mean milliseconds and batch of each stage.
        degraded: answers that gave less than was asked for.
        requests: samples in all.
    """

    offered_rate: float
    goodput: float
    latency: dict[str, float]
    uncorrected: dict[str, float]
    codes: dict[str, int]
    shed: dict[str, int]
    lag: dict[str, float]
    stages: dict[str, dict[str, float]]
    degraded: int
    requests: int


def summarise(samples: list[Sample], seconds: float, begun_s: float = 0.0) -> Summary:
    """Return the figures of a run's samples.

    Args:
        samples: of the requests that were to be sent in that time.
        seconds: length of the schedule, the warm-up apart.
        begun_s: where it begins in the samples' time: the end of the warm-up.
    """
    good = [sample for sample in samples if sample.code == "OK"]
    ended = max((sample.finished_s for sample in good), default=0.0)
    return Summary(
        offered_rate=len(samples) / seconds,
        goodput=len(good) / max(seconds, ended - begun_s),
        latency=percentiles([sample.latency_s for sample in good]),
        uncorrected=percentiles([sample.service_s for sample in good]),
        codes=dict(Counter(sample.code for sample in samples)),
        shed=dict(Counter(sample.reason for sample in samples if sample.code in SHED)),
        lag=percentiles([max(0.0, sample.lag_s) for sample in samples]),
        stages=_stage_means(good),
        degraded=sum(sample.degraded for sample in good),
        requests=len(samples),
    )


def _stage_means(samples: list[Sample]) -> dict[str, dict[str, float]]:
    sums: dict[str, Counter[str]] = {}
    for sample in samples:
        for name, share in sample.stages.items():
            row = sums.setdefault(name, Counter())
            row.update(
                total_ms=share.total_ms,
                queue_ms=share.queue_ms,
                compute_ms=share.compute_ms,
                wire_ms=share.wire_ms,
                mean_batch=share.mean_batch,
                count=1,
            )
    return {
        name: {key: value / row["count"] for key, value in row.items() if key != "count"}
        for name, row in sums.items()
    }
