"""Where the time of one inference went."""

from __future__ import annotations

from dataclasses import dataclass

from headshot.triton.facts import ExecutionFacts
from headshot.triton.stats import Averages

_FORGET_S = 600.0  # the fastest way of so long ago counts as twice as slow


@dataclass(frozen=True)
class InferTimings:
    """Seconds of one inference, seen from the gateway; queue + compute + wire = total.

    Attributes:
        queue_s: waiting in Triton for a batch and a free instance.
        compute_s: the execution of the batch that held the request.
        wire_s: everything else: serialising, sockets, copies into the backend and back.
        total_s: from the call to the checked answer.
        batch_size: rows of the batch that held the request; 0 where the server does not tell.
        exact: True where the backend reported this very execution; otherwise queue, compute and
            batch size are the server's averages over its last seconds.
        began_s: when the execution began, on this host's monotonic clock; where it is not exact,
            as if it had ended when the answer was there.
    """

    queue_s: float
    compute_s: float
    wire_s: float
    total_s: float
    batch_size: int
    exact: bool
    began_s: float

    @property
    def execution(self) -> tuple[float, float]:
        """Return when the execution began and ended, seconds on this host's monotonic clock."""
        return self.began_s, self.began_s + self.compute_s


class PathClock:
    """Splits waiting from transport.

    The backend tells when it began to compute, not when Triton received the request. The fastest
    way from "sent" to "computing" seen lately, for this model and size, is the way without a
    queue; what a request took beyond it is its queue time.
    """

    def __init__(self) -> None:
        self._fastest: dict[tuple[str, str, int], tuple[float, int]] = {}

    def split(
        self,
        endpoint: str,
        model: str,
        size: int,
        sent_ns: int,
        received_ns: int,
        facts: ExecutionFacts,
    ) -> InferTimings | None:
        """Return the timings of a request of `size` bytes, or None for facts of another host."""
        before = (facts.started_ns - sent_ns) / 1e9
        if before < 0 or facts.ended_ns > received_ns:
            return None
        key = (endpoint, model, size.bit_length())
        fastest, at = self._fastest.get(key, (before, sent_ns))
        # By time, not by request: under load thousands may wait before one goes straight through.
        fastest = min(before, fastest * 2 ** ((sent_ns - at) / 1e9 / _FORGET_S))
        self._fastest[key] = (fastest, sent_ns)
        total = (received_ns - sent_ns) / 1e9
        queue = before - fastest
        compute = (facts.ended_ns - facts.started_ns) / 1e9
        wire = total - queue - compute
        began = facts.started_ns / 1e9
        return InferTimings(queue, compute, wire, total, facts.rows, exact=True, began_s=began)


def estimated(sent_ns: int, received_ns: int, averages: Averages | None) -> InferTimings:
    """Return the timings of a request that only the server's averages are known of."""
    total, received = (received_ns - sent_ns) / 1e9, received_ns / 1e9
    if averages is None:
        return InferTimings(0.0, 0.0, total, total, 0, exact=False, began_s=received)
    compute = min(averages.compute_s, total)
    queue = min(averages.queue_s, total - compute)
    wire, rows = total - compute - queue, round(averages.batch)
    return InferTimings(queue, compute, wire, total, rows, exact=False, began_s=received - compute)
