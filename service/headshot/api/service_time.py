"""How long each kind and size of work takes, learnt while serving."""

from __future__ import annotations

import math
from dataclasses import dataclass

# In means of its kind and size.
_MOST_OF_FAILED = 2.0


@dataclass
class _Estimate:
    mean_s: float
    deviation_s: float
    fastest_s: float


def size_class(work: float) -> float:
    """Return the power of two next to an amount of work: so much is expected to take as long."""
    return 2.0 ** round(math.log2(work))


class ServiceTimes:
    """Moving averages of the service time and of its deviation.

    One pair for each kind of work and its size to the next power of two: what one caller's large
    requests take says nothing of everybody's usual ones. The pair is that of TCP's
    retransmission timer (RFC 6298): a mean alone would promise half of the callers what they do not
    get.

    Args:
        initial_s: the mean assumed for a kind and size that has not been measured.
        smoothing: weight of the newest value, in (0, 1].
    """

    def __init__(self, initial_s: float, smoothing: float) -> None:
        self._initial_s = initial_s
        self._smoothing = smoothing
        self._known: dict[tuple[str, float], _Estimate] = {}

    def mean(self, kind: str, work: float) -> float:
        """Return the expected seconds."""
        found = self._known.get((kind, size_class(work)))
        return self._initial_s if found is None else found.mean_s

    def likely(self, kind: str, work: float) -> float:
        """Return seconds within which nearly all of this work ends: mean plus two deviations."""
        found = self._known.get((kind, size_class(work)))
        return self._initial_s if found is None else found.mean_s + 2 * found.deviation_s

    def fastest(self, kind: str, work: float) -> float:
        """Return the fewest seconds that this work ever took; 0 where none was measured."""
        found = self._known.get((kind, size_class(work)))
        return 0.0 if found is None else found.fastest_s

    def learn(self, kind: str, work: float, seconds: float, *, done: bool) -> None:
        """Take note of a measured time.

        Work that failed says only that it takes at least this long. One that hung until a late
        deadline says no more than one that took twice the usual time, else the whole queue would
        be refused for its sake.
        """
        key = (kind, size_class(work))
        found = self._known.get(key)
        if found is None:
            if done:
                self._known[key] = _Estimate(seconds, 0.0, seconds)
            return
        if done:
            found.fastest_s = min(found.fastest_s, seconds)
        elif seconds <= found.mean_s:
            return
        if not done:
            seconds = min(seconds, _MOST_OF_FAILED * found.mean_s)
        error = seconds - found.mean_s
        found.mean_s += self._smoothing * error
        found.deviation_s += self._smoothing * (abs(error) - found.deviation_s)
