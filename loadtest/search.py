"""The highest rate whose p99 meets an objective: doubling, then bisection, a run for each probe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from loadtest.summary import SHED, Summary


@dataclass(frozen=True)
class Probe:
    """One rate that was tried.

    Attributes:
        rate: requests a second.
        met: whether p99 was within the objective and nothing was refused or failed.
        summary: the run's figures.
    """

    rate: float
    met: bool
    summary: Summary


def meets(summary: Summary, slo_p99_s: float) -> bool:
    """Tell whether every request worked and p99 is within the objective."""
    refused = sum(count for code, count in summary.codes.items() if code in SHED or code != "OK")
    return refused == 0 and summary.latency.get("p99", float("inf")) <= slo_p99_s


async def highest_rate(
    run: Callable[[float], Awaitable[Summary]],
    start: float,
    slo_p99_s: float,
    *,
    precision: float = 0.1,
    most_probes: int = 12,
) -> list[Probe]:
    """Search; the best probe that met the objective is the answer.

    Args:
        run: runs the scenario at a rate.
        start: first rate.
        slo_p99_s: objective.
        precision: relative width at which the bisection ends.
        most_probes: bound on the runs.
    """
    probes: list[Probe] = []
    low, high, rate = 0.0, 0.0, start
    while len(probes) < most_probes:
        summary = await run(rate)
        met = meets(summary, slo_p99_s)
        probes.append(Probe(rate, met, summary))
        low, high = (rate, high) if met else (low, rate)
        if high and low and (high - low) / high <= precision:
            break
        if not high:
            rate *= 2
        elif not low:
            rate /= 2
        else:
            rate = (low + high) / 2
    return probes
