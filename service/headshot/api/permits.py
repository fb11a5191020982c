"""Limits of admission, a permit, and a request that waits for one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from headshot.deadline import Deadline
from headshot.security.credentials import TenantQuota
from headshot.telemetry.context import Priority


@dataclass(frozen=True)
class AdmissionLimits:
    """Limits of one gateway process.

    Attributes:
        permits: sum of the costs that may be worked on at once.
        queue: requests that may wait.
        max_wait_s: a request whose expected wait is longer is refused.
        interactive_reserve: permits that batch work may not take.
        batch_every: after this many interactive permits in a row a waiting batch request goes
            first, so that it does not starve; 0 lets it starve.
        initial_service_s: assumed time a permit is held, until it has been measured.
        smoothing: weight of the newest service time in the moving average, 0 to 1.
        least_share: share of the usual service time that a queued request must have left.
        degradable: kinds of work that the pipeline can do with less near the deadline.
        degraded_share: `least_share` of those kinds.
    """

    permits: float = 4.0
    queue: int = 64
    max_wait_s: float = 30.0
    interactive_reserve: float = 0.0
    batch_every: int = 8
    initial_service_s: float = 1.0
    smoothing: float = 0.2
    least_share: float = 1.0
    degradable: frozenset[str] = frozenset({"CreateHeadshotRequest", "TeamItem"})
    degraded_share: float = 0.5

    def share_of(self, kind: str) -> float:
        """Return the share of the usual service time without which work of this kind is refused."""
        return self.degraded_share if kind in self.degradable else self.least_share

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.permits <= 0 or self.queue < 0 or not 0 < self.smoothing <= 1:
            raise ValueError("permits must be positive, queue not negative, smoothing in (0, 1]")
        if not 0 <= self.interactive_reserve < self.permits:
            raise ValueError("interactive_reserve must be smaller than permits")


@dataclass(eq=False)
class Permit:
    """The right to work, until the `async with` block ends.

    Attributes:
        waited_s: seconds it waited in the queue.
        cost: its share of the permits.
        work: how much work it is.
    """

    tenant: str
    priority: Priority
    cost: float
    work: float
    kind: str
    started_at: float
    waited_s: float


@dataclass(eq=False)
class Waiter:
    """A request in the queue; its future gets the permit or the refusal."""

    tenant: str
    priority: Priority
    cost: float
    work: float
    kind: str
    deadline: Deadline | None
    quota: TenantQuota
    arrived_at: float
    future: asyncio.Future[Permit]
