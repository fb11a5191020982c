"""A permit before the work: bounded, fair across tenants, interactive first, honest about time.

A request gets a permit at once, waits in a bounded queue, or is refused with a typed error and a
time after which a retry makes sense. It is refused early when the expected wait leaves it no chance
before its deadline: work that nobody will wait for takes time from work that somebody does.

All state belongs to one event loop; nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from headshot.api.fair_queue import FairQueue, TokenBucket
from headshot.api.permits import AdmissionLimits, Permit, Waiter
from headshot.api.service_time import ServiceTimes, size_class
from headshot.deadline import Deadline
from headshot.errors import DeadlineError, OverloadedError, QuotaExceededError
from headshot.security.credentials import TenantQuota
from headshot.telemetry.context import Priority
from headshot.telemetry.metrics import Metrics

__all__ = ["AdmissionController", "AdmissionLimits", "Permit"]


def _default_quota(_tenant: str) -> TenantQuota:
    return TenantQuota()


class AdmissionController:
    """Gives permits.

    Args:
        limits: what one process can bear.
        metrics: counts what happens.
        quota: a tenant's quota; asked at each request, so that it may change while running.
        clock: monotonic seconds, the clock of `Deadline`.
    """

    def __init__(
        self,
        limits: AdmissionLimits,
        metrics: Metrics,
        *,
        quota: Callable[[str], TenantQuota] = _default_quota,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._quota = quota
        self._clock = clock
        self._queues: dict[Priority, FairQueue[Waiter]] = {p: FairQueue() for p in Priority}
        self._running: set[Permit] = set()
        self._buckets: dict[str, TokenBucket] = {}
        self._service = ServiceTimes(limits.initial_service_s, limits.smoothing)
        self._interactive_in_a_row = 0
        self._admitted = 0
        metrics.admission_limits(limits.permits, limits.queue)
        self._publish()

    @property
    def in_flight(self) -> float:
        """Return the sum of the costs of the permits that are out."""
        return sum(permit.cost for permit in self._running)

    @property
    def admitted(self) -> int:
        """Return how many permits have been given so far."""
        return self._admitted

    @property
    def queued(self) -> int:
        """Return how many requests wait."""
        return sum(len(queue) for queue in self._queues.values())

    def service_time(self, kind: str = "", work: float = 1.0) -> float:
        """Return the expected seconds that a permit for so much work of this kind is held."""
        return self._service.mean(kind, work)

    def fastest(self, kind: str, work: float) -> float:
        """Return the fewest seconds that this work ever took once admitted; 0 before the first."""
        return self._service.fastest(kind, work)

    def _least_time(self, waiter: Waiter) -> float:
        """Return the seconds without which a queued request is refused."""
        likely_s = self._service.likely(waiter.kind, waiter.work)
        return self._limits.share_of(waiter.kind) * likely_s

    @asynccontextmanager
    async def admit(
        self,
        tenant: str,
        priority: Priority = Priority.INTERACTIVE,
        deadline: Deadline | None = None,
        cost: float = 1.0,
        kind: str = "",
        work: float | None = None,
    ) -> AsyncIterator[Permit]:
        """Hold a permit for the length of the block.

        Args:
            tenant: who asks.
            priority: its class.
            deadline: until when the work must be done, None for any time.
            cost: how much of `AdmissionLimits.permits` the work takes.
            kind: what work it is; service times are averaged for each kind and size. A small
                fixed set.
            work: how much work it is, above 0: what the tenant's rate and share are charged with;
                None for `cost`.

        Raises:
            QuotaExceededError: TENANT_RATE_EXCEEDED or TENANT_CONCURRENCY_EXCEEDED.
            OverloadedError: QUEUE_FULL, QUEUE_WAIT_TOO_LONG, or DISPLACED by a more urgent one.
            DeadlineError: DEADLINE_EXCEEDED (it passed) or DEADLINE_TOO_SHORT (it would).
        """
        permit = await self._acquire(
            tenant, priority, deadline, cost, kind, cost if work is None else work
        )
        done = False
        try:
            yield permit
            done = True
        finally:
            self._release(permit, done=done)

    # -- getting in ------------------------------------------------------------------------------
    async def _acquire(
        self,
        tenant: str,
        priority: Priority,
        deadline: Deadline | None,
        cost: float,
        kind: str,
        work: float,
    ) -> Permit:
        now = self._clock()
        if deadline is not None and deadline.at <= now:
            self._metrics.expired(tenant, "DEADLINE_EXCEEDED")
            raise DeadlineError(
                "the deadline passed before the request was admitted",
                metadata={"stage": "admission"},
            )
        quota = self._quota(tenant)
        self._take_tokens(tenant, quota, work, now)
        waiter = Waiter(
            tenant,
            priority,
            cost,
            work,
            kind,
            deadline,
            quota,
            now,
            asyncio.get_running_loop().create_future(),
        )
        if self._fits_now(waiter):
            self._count(waiter)
            self._queues[priority].charge(tenant, quota.weight, work)
            return self._grant(waiter)
        try:
            self._check_wait(waiter, now)
            self._make_room(waiter)
            return await self._wait(waiter)
        except (OverloadedError, DeadlineError, asyncio.CancelledError):
            self._buckets[tenant].give_back(work)
            raise

    def _take_tokens(self, tenant: str, quota: TenantQuota, work: float, now: float) -> None:
        bucket = self._buckets.get(tenant)
        if bucket is None or (bucket.rate, bucket.burst) != (quota.rate_per_s, quota.burst):
            bucket = TokenBucket(quota.rate_per_s, quota.burst, now)
            self._buckets[tenant] = bucket
        missing_s = bucket.take(work, now)
        if missing_s > 0:
            self._metrics.shed(tenant, "TENANT_RATE_EXCEEDED")
            raise QuotaExceededError(
                "the tenant's rate quota is used up; send fewer requests a second",
                reason="TENANT_RATE_EXCEEDED",
                retry_after_s=missing_s,
            )

    def _fits_now(self, waiter: Waiter) -> bool:
        """Tell whether nobody who may go first waits, and the permits are there."""
        ahead = [
            other
            for priority in Priority
            if priority <= waiter.priority
            for other in self._queues[priority]
            if self._tenant_may(other)
        ]
        if self._batch_due() is not None and waiter.priority is not Priority.BATCH:
            # Room is being kept for batch work that has waited its turn.
            return False
        return not ahead and self._tenant_may(waiter) and self._fits(waiter)

    def _fits(self, waiter: Waiter) -> bool:
        limit = self._limits.permits
        if waiter.priority is Priority.BATCH:
            limit -= self._limits.interactive_reserve
        used = self.in_flight
        # Work that costs more than there is may run alone; it would never run otherwise.
        return used == 0 or used + waiter.cost <= limit + 1e-9

    def _tenant_may(self, waiter: Waiter) -> bool:
        used = sum(p.cost for p in self._running if p.tenant == waiter.tenant)
        return used == 0 or used + waiter.cost <= waiter.quota.concurrency + 1e-9

    def _check_wait(self, waiter: Waiter, now: float) -> None:
        wait_s, own_s = self._expected_wait(waiter, now)
        wait_s = max(wait_s, own_s)
        if waiter.deadline is not None:
            needed_s = wait_s + self._least_time(waiter)
            if now + needed_s > waiter.deadline.at:
                self._metrics.expired(waiter.tenant, "DEADLINE_TOO_SHORT")
                raise DeadlineError(
                    "the work cannot finish before the deadline; send a later one or retry",
                    reason="DEADLINE_TOO_SHORT",
                    metadata={
                        "stage": "admission",
                        "expected_wait_ms": str(round(wait_s * 1000)),
                    },
                    retry_after_s=self._retry_after(wait_s),
                )
        if wait_s > self._limits.max_wait_s:
            self._refuse(waiter, "QUEUE_WAIT_TOO_LONG", wait_s)

    def _expected_wait(self, waiter: Waiter, now: float) -> tuple[float, float]:
        """Return expected seconds until a permit: for the service as a whole, for the tenant."""

        def taken(other: Waiter | Permit) -> float:
            return self.service_time(other.kind, other.work)

        def held(other: Waiter) -> float:
            return other.cost * taken(other)

        left = {
            permit: permit.cost * max(0.0, taken(permit) - (now - permit.started_at))
            for permit in self._running
        }
        queued = [
            other
            for priority in Priority
            if priority <= waiter.priority
            for other in (
                self._queues[priority].ahead(waiter.tenant)
                if priority is waiter.priority
                else self._queues[priority]
            )
        ]
        everybody_s = (sum(left.values()) + sum(map(held, queued))) / self._limits.permits
        own = [other for other in queued if other.tenant == waiter.tenant]
        own_left = sum(
            seconds for permit, seconds in left.items() if permit.tenant == waiter.tenant
        )
        own_s = 0.0
        if not self._tenant_may(waiter):
            own_s = (own_left + sum(map(held, own))) / waiter.quota.concurrency
        return everybody_s, own_s

    def _make_room(self, waiter: Waiter) -> None:
        own = [w for queue in self._queues.values() for w in queue if w.tenant == waiter.tenant]
        # A tenant at its concurrency may keep as many waiting as it may have running.
        if not self._tenant_may(waiter) and sum(w.cost for w in own) >= waiter.quota.concurrency:
            self._metrics.shed(waiter.tenant, "TENANT_CONCURRENCY_EXCEEDED")
            raise QuotaExceededError(
                "the tenant's concurrency quota is used up; send fewer requests at once",
                reason="TENANT_CONCURRENCY_EXCEEDED",
                retry_after_s=self._retry_after(self.service_time(waiter.kind, waiter.work)),
            )
        if self.queued < self._limits.queue:
            return
        victim = self._queues[Priority.BATCH].last()
        if waiter.priority is Priority.INTERACTIVE and victim is not None:
            self._queues[Priority.BATCH].drop(victim)
            error = self._overloaded("DISPLACED", self._limits.initial_service_s)
            self._metrics.shed(victim.tenant, "DISPLACED")
            if not victim.future.done():
                victim.future.set_exception(error)
            return
        self._refuse(waiter, "QUEUE_FULL", sum(self._expected_wait(waiter, self._clock())))

    def _refuse(self, waiter: Waiter, reason: str, wait_s: float) -> None:
        self._metrics.shed(waiter.tenant, reason)
        raise self._overloaded(reason, wait_s)

    def _overloaded(self, reason: str, wait_s: float) -> OverloadedError:
        return OverloadedError(
            "the service is full; retry after the given delay, with jitter",
            reason=reason,
            retry_after_s=self._retry_after(wait_s),
        )

    @staticmethod
    def _retry_after(wait_s: float) -> float:
        """Return a delay after which half of the queue will have gone, 0.1 to 60 seconds."""
        return min(60.0, max(0.1, wait_s / 2))

    # -- waiting ---------------------------------------------------------------------------------
    async def _wait(self, waiter: Waiter) -> Permit:
        queue = self._queues[waiter.priority]
        queue.push(waiter.tenant, waiter.quota.weight, waiter.work, waiter)
        self._publish()
        timer: asyncio.TimerHandle | None = None
        if waiter.deadline is not None:
            left = max(0.0, waiter.deadline.at - self._clock())
            timer = asyncio.get_running_loop().call_later(left, self.expire)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            # The permit may have been given in the same turn of the loop as the cancellation.
            if not queue.drop(waiter) and _granted(waiter):
                self._release(waiter.future.result(), done=False)
            self.expire()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def expire(self) -> None:
        """Refuse the waiting requests whose deadline has passed or can no longer be met.

        A timer calls it; whoever waited behind an expired request may then go.
        """
        self._dispatch()
        self._publish()

    def _expire_one(self, queue: FairQueue[Waiter], waiter: Waiter, now: float) -> None:
        if waiter.deadline is None:
            return
        if waiter.deadline.at - now > self._least_time(waiter):
            return
        passed = waiter.deadline.at <= now
        reason = "DEADLINE_EXCEEDED" if passed else "DEADLINE_TOO_SHORT"
        queue.drop(waiter)
        self._metrics.expired(waiter.tenant, reason)
        if not waiter.future.done():
            waiter.future.set_exception(
                DeadlineError(
                    "the deadline passed while the request waited; send a later one or retry",
                    reason=reason,
                    metadata={"stage": "admission"},
                )
            )

    # -- dispatch --------------------------------------------------------------------------------
    def _grant(self, waiter: Waiter) -> Permit:
        now = self._clock()
        waited_s = now - waiter.arrived_at
        permit = Permit(
            waiter.tenant,
            waiter.priority,
            waiter.cost,
            waiter.work,
            waiter.kind,
            now,
            waited_s,
        )
        self._admitted += 1
        self._running.add(permit)
        self._metrics.admitted(waiter.tenant, waiter.priority.label, waited_s)
        self._publish()
        return permit

    def _release(self, permit: Permit, *, done: bool) -> None:
        self._running.discard(permit)
        held_s = self._clock() - permit.started_at
        self._service.learn(permit.kind, permit.work, held_s, done=done)
        self._metrics.admission_service_time(
            permit.kind, size_class(permit.work), self.service_time(permit.kind, permit.work)
        )
        self._dispatch()
        self._publish()

    def _dispatch(self) -> None:
        now = self._clock()
        for queue in self._queues.values():
            for waiting in list(queue):
                self._expire_one(queue, waiting, now)
        while (waiter := self._next()) is not None and self._fits(waiter):
            self._queues[waiter.priority].take(waiter)
            if waiter.future.done():
                continue
            self._count(waiter)
            waiter.future.set_result(self._grant(waiter))

    def _next(self) -> Waiter | None:
        # Also where it does not fit yet: what is freed adds up until it does.
        due = self._batch_due()
        if due is not None:
            return due
        interactive = self._queues[Priority.INTERACTIVE].peek(self._tenant_may)
        return interactive or self._queues[Priority.BATCH].peek(self._tenant_may)

    def _batch_due(self) -> Waiter | None:
        """Return the batch request whose turn it is, after so much interactive work in a row."""
        every = self._limits.batch_every
        if every == 0 or self._interactive_in_a_row < every:
            return None
        return self._queues[Priority.BATCH].peek(self._tenant_may)

    def _count(self, waiter: Waiter) -> None:
        """Count interactive work that goes while batch work waits."""
        if waiter.priority is Priority.BATCH:
            self._interactive_in_a_row = 0
        elif len(self._queues[Priority.BATCH]) > 0:
            self._interactive_in_a_row += 1

    def _publish(self) -> None:
        for priority, queue in self._queues.items():
            used = sum(p.cost for p in self._running if p.priority is priority)
            self._metrics.admission_state(priority.label, used, len(queue))


def _granted(waiter: Waiter) -> bool:
    return (
        waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None
    )
