"""A pulse of the event loop: its lag as a metric, its death as failed liveness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from headshot.telemetry.http import Health
from headshot.telemetry.metrics import Metrics


class LoopHeartbeat:
    """Wakes every `interval_s` and records how late it was.

    `health` is for /livez and is called from another thread: a loop that has not woken for
    `stuck_after_s` cannot serve and cannot heal, so the process should be replaced.

    Args:
        metrics: where the lag goes.
        interval_s: seconds between beats.
        stuck_after_s: seconds without a beat after which the loop counts as stuck.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        interval_s: float = 0.5,
        stuck_after_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._interval_s = interval_s
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._last = clock()

    async def run(self) -> None:
        """Beat until cancelled; run it as a task of the serving loop."""
        self.beat()
        while True:
            due = self._last + self._interval_s
            await asyncio.sleep(self._interval_s)
            self._metrics.observe_loop_lag(self._clock() - due)
            self.beat()

    def beat(self) -> None:
        """Note that the loop is alive now."""
        self._last = self._clock()

    def health(self) -> Health:
        """Answer whether the loop has woken lately."""
        silent_s = self._clock() - self._last
        if silent_s > self._stuck_after_s:
            return Health(ok=False, reasons=(f"the event loop is stuck for {silent_s:.0f} s",))
        return Health(ok=True)
