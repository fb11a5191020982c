from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from headshot.api.admission import AdmissionController, AdmissionLimits, Permit
from headshot.deadline import Deadline
from headshot.errors import DeadlineError, OverloadedError, QuotaExceededError
from headshot.security.credentials import TenantQuota
from headshot.telemetry.context import Priority
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry

# Clocks stand still here, so that work which should have been refused would wait for ever.
pytestmark = pytest.mark.timeout(20)

BATCH = Priority.BATCH
INTERACTIVE = Priority.INTERACTIVE


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A controller on a clock that only the test moves, and tasks that hold permits."""

    def __init__(self, limits: AdmissionLimits, **quotas: TenantQuota) -> None:
        self.clock = Clock()
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.known_tenants([*quotas, "a", "b", "c"])
        self.controller = AdmissionController(
            limits,
            self.metrics,
            quota=lambda tenant: quotas.get(tenant, TenantQuota()),
            clock=self.clock,
        )
        self.order: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[Permit]] = {}

    def after(self, seconds: float) -> Deadline:
        return Deadline(self.clock.now + seconds)

    async def start(
        self,
        name: str,
        tenant: str = "a",
        priority: Priority = INTERACTIVE,
        deadline: Deadline | None = None,
        cost: float = 1.0,
        work: float | None = None,
    ) -> asyncio.Task[Permit]:
        """Start a task that asks for a permit and holds it until `end`."""
        self._ends[name] = asyncio.Event()

        async def hold() -> Permit:
            admitted = self.controller.admit(tenant, priority, deadline, cost, work=work)
            async with admitted as permit:
                self.order.append(name)
                await self._ends[name].wait()
                return permit

        self._tasks[name] = asyncio.create_task(hold())
        await self.settle()
        return self._tasks[name]

    async def end(self, name: str) -> Permit:
        self._ends[name].set()
        permit = await self._tasks[name]
        await self.settle()
        return permit

    async def finish(self) -> None:
        for event in self._ends.values():
            event.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    @staticmethod
    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"headshot_{name}", labels) or 0.0


async def test_no_more_permits_are_out_than_the_limit() -> None:
    world = World(AdmissionLimits(permits=2, queue=10))
    for name in "wxyz":
        await world.start(name)
    assert world.order == ["w", "x"]
    assert (world.controller.in_flight, world.controller.queued) == (2, 2)
    world.clock.now += 3
    await world.end("x")
    assert world.order == ["w", "x", "y"]
    permit = await world.end("y")
    assert permit.waited_s == 3
    await world.finish()
    assert (world.controller.in_flight, world.controller.queued) == (0, 0)


async def test_a_full_queue_refuses_at_once_with_a_time_to_retry() -> None:
    world = World(AdmissionLimits(permits=1, queue=1, initial_service_s=4))
    await world.start("runs")
    await world.start("waits")
    with pytest.raises(OverloadedError) as refused:
        await (await world.start("refused"))
    assert refused.value.reason == "QUEUE_FULL"
    assert refused.value.retry_after_s is not None
    assert 0.1 <= refused.value.retry_after_s <= 8
    assert world.count("admission_shed_total", tenant="a", reason="QUEUE_FULL") == 1
    await world.finish()


async def test_interactive_work_goes_before_batch_work_that_came_first() -> None:
    world = World(AdmissionLimits(permits=1, queue=10))
    await world.start("runs")
    await world.start("batch", priority=BATCH)
    await world.start("human")
    await world.end("runs")
    assert world.order == ["runs", "human"]
    await world.end("human")
    assert world.order == ["runs", "human", "batch"]
    await world.finish()


async def test_batch_work_does_not_starve() -> None:
    world = World(AdmissionLimits(permits=1, queue=30, batch_every=4))
    await world.start("first")
    await world.start("batch", priority=BATCH)
    names = [f"human{number}" for number in range(10)]
    for name in names:
        await world.start(name)
    await world.end("first")
    while world.order[-1] != "batch":
        await world.end(world.order[-1])
    assert len(world.order) == 6
    await world.finish()


async def test_batch_work_of_several_permits_does_not_starve_either() -> None:
    world = World(AdmissionLimits(permits=4, queue=30, batch_every=4))
    running = ["first0", "first1", "first2"]
    for name in running:
        await world.start(name)
    await world.start("batch", priority=BATCH, cost=8)
    for number in range(40):
        # Newcomers always find a free permit, and one of those that run ends.
        await world.start(f"human{number}")
        oldest = next((n for n in world.order if n in running), None)
        running.append(f"human{number}")
        if oldest is not None:
            running.remove(oldest)
            await world.end(oldest)
        if "batch" in world.order:
            break
    assert "batch" in world.order
    assert world.order.index("batch") <= 4 + 3 + 1
    await world.finish()


async def test_interactive_work_displaces_waiting_batch_work_when_the_queue_is_full() -> None:
    world = World(AdmissionLimits(permits=1, queue=2))
    await world.start("runs")
    await world.start("batch1", priority=BATCH)
    newest = await world.start("batch2", priority=BATCH)
    await world.start("human")
    with pytest.raises(OverloadedError) as refused:
        await newest
    assert refused.value.reason == "DISPLACED"
    assert world.controller.queued == 2
    await world.finish()
    assert world.order == ["runs", "human", "batch1"]


async def test_batch_work_leaves_the_reserve_to_interactive_work() -> None:
    world = World(AdmissionLimits(permits=3, queue=10, interactive_reserve=1))
    for name in ("b1", "b2", "b3"):
        await world.start(name, priority=BATCH)
    assert world.order == ["b1", "b2"]
    await world.start("human")
    assert world.order == ["b1", "b2", "human"]
    await world.finish()


async def test_a_flood_of_one_tenant_does_not_hold_up_another() -> None:
    world = World(AdmissionLimits(permits=1, queue=50))
    await world.start("first", "a")
    for number in range(20):
        await world.start(f"flood{number}", "a")
    await world.start("small", "b")
    await world.end("first")
    assert world.order[1] == "small"
    await world.finish()


async def test_two_busy_tenants_share_by_weight() -> None:
    quotas = {"a": TenantQuota(weight=3), "b": TenantQuota(weight=1)}
    world = World(AdmissionLimits(permits=1, queue=100, max_wait_s=1000), **quotas)
    await world.start("first", "c")
    for number in range(20):
        await world.start(f"a{number}", "a")
        await world.start(f"b{number}", "b")
    for _ in range(16):
        await world.end(world.order[-1])
    served = Counter(name[0] for name in world.order[1:])
    assert served["a"] == 12
    assert served["b"] == 4
    await world.finish()


async def test_a_tenant_cannot_run_more_than_its_concurrency() -> None:
    world = World(AdmissionLimits(permits=8, queue=50), a=TenantQuota(concurrency=2))
    for number in range(4):
        await world.start(f"a{number}", "a")
    await world.start("b", "b")
    assert world.order == ["a0", "a1", "b"]
    with pytest.raises(QuotaExceededError) as refused:
        await (await world.start("a4", "a"))
    assert refused.value.reason == "TENANT_CONCURRENCY_EXCEEDED"
    await world.end("a0")
    assert world.order == ["a0", "a1", "b", "a2"]
    await world.finish()


async def test_a_tenant_over_its_rate_is_told_when_to_come_back() -> None:
    world = World(AdmissionLimits(permits=8), a=TenantQuota(rate_per_s=2, burst=1))
    await world.start("first")
    with pytest.raises(QuotaExceededError) as refused:
        await (await world.start("second"))
    assert refused.value.reason == "TENANT_RATE_EXCEEDED"
    assert refused.value.retry_after_s == pytest.approx(0.5)
    world.clock.now += 0.5
    await world.start("third")
    assert world.order == ["first", "third"]
    await world.finish()


async def test_work_refused_for_load_does_not_use_up_the_rate() -> None:
    world = World(AdmissionLimits(permits=1, queue=0), b=TenantQuota(rate_per_s=1, burst=1))
    await world.start("runs", "a")
    with pytest.raises(OverloadedError):
        await (await world.start("refused", "b"))
    await world.end("runs")
    await world.start("admitted", "b")
    assert world.order == ["runs", "admitted"]
    await world.finish()


async def test_displaced_work_does_not_use_up_the_rate() -> None:
    world = World(AdmissionLimits(permits=1, queue=1), b=TenantQuota(rate_per_s=1, burst=1))
    await world.start("runs", "a")
    waiting = await world.start("waits", "b", priority=BATCH)
    await world.start("human", "a")
    with pytest.raises(OverloadedError):
        await waiting
    await world.end("runs")
    await world.start("again", "b", priority=BATCH)
    await world.end("human")
    assert world.order == ["runs", "human", "again"]
    await world.finish()


async def test_a_caller_that_goes_away_while_it_waits_does_not_use_up_the_rate() -> None:
    world = World(AdmissionLimits(permits=1, queue=1), b=TenantQuota(rate_per_s=1, burst=1))
    await world.start("runs", "a")
    waits = await world.start("waits", "b")
    waits.cancel()
    await world.settle()
    await world.end("runs")
    await world.start("again", "b")
    assert world.order == ["runs", "again"]
    await world.finish()


async def test_a_deadline_that_passed_is_refused_before_anything_else() -> None:
    world = World(AdmissionLimits())
    with pytest.raises(DeadlineError) as refused:
        await (await world.start("late", deadline=world.after(0)))
    assert refused.value.reason == "DEADLINE_EXCEEDED"
    assert world.count("admission_expired_total", tenant="a", reason="DEADLINE_EXCEEDED") == 1


async def test_work_that_cannot_finish_in_time_is_refused_early() -> None:
    world = World(AdmissionLimits(permits=1, queue=10, initial_service_s=5, least_share=0.5))
    await world.start("runs")
    await world.start("waits", deadline=world.after(20))
    with pytest.raises(DeadlineError) as refused:
        await (await world.start("hopeless", deadline=world.after(11)))
    assert refused.value.reason == "DEADLINE_TOO_SHORT"
    assert world.controller.queued == 1
    await world.start("possible", deadline=world.after(13))
    assert world.controller.queued == 2
    await world.finish()


async def test_with_free_permits_a_short_deadline_is_tried_so_that_estimates_recover() -> None:
    world = World(AdmissionLimits(permits=1, initial_service_s=100))
    await world.start("quick", deadline=world.after(1))
    world.clock.now += 0.1
    await world.end("quick")
    assert world.controller.service_time() == pytest.approx(0.1)


async def test_a_waiting_request_whose_deadline_comes_too_near_is_dropped() -> None:
    world = World(AdmissionLimits(permits=1, queue=10, initial_service_s=2, least_share=0.5))
    await world.start("runs")
    waits = await world.start("waits", deadline=world.after(10))
    await world.start("behind")
    world.clock.now += 9.5
    world.controller.expire()
    with pytest.raises(DeadlineError) as refused:
        await waits
    assert refused.value.reason == "DEADLINE_TOO_SHORT"
    await world.end("runs")
    assert world.order == ["runs", "behind"]
    await world.finish()


async def test_an_expected_wait_over_the_limit_is_refused() -> None:
    world = World(AdmissionLimits(permits=1, queue=100, initial_service_s=10, max_wait_s=25))
    for name in ("runs", "second", "third"):
        await world.start(name)
    with pytest.raises(OverloadedError) as refused:
        await (await world.start("fourth"))
    assert refused.value.reason == "QUEUE_WAIT_TOO_LONG"
    await world.finish()


async def test_the_time_that_running_work_has_taken_is_not_waited_for_again() -> None:
    world = World(AdmissionLimits(permits=1, queue=10, initial_service_s=10, max_wait_s=5))
    await world.start("runs")
    with pytest.raises(OverloadedError):
        await (await world.start("early"))
    world.clock.now += 6
    await world.start("waits")
    assert world.controller.queued == 1
    await world.finish()


async def test_work_that_takes_longer_than_usual_does_not_shorten_the_wait_for_other_work() -> None:
    world = World(AdmissionLimits(permits=2, queue=10, initial_service_s=10, max_wait_s=4))
    await world.start("overdue")
    world.clock.now += 30
    await world.start("runs")
    with pytest.raises(OverloadedError) as refused:
        await (await world.start("third"))
    assert refused.value.reason == "QUEUE_WAIT_TOO_LONG"
    await world.finish()


async def test_a_tenant_at_its_concurrency_waits_for_its_own_work() -> None:
    quotas = {"a": TenantQuota(concurrency=1), "b": TenantQuota(concurrency=2)}
    limits = AdmissionLimits(permits=8, queue=10, initial_service_s=10, max_wait_s=9)
    world = World(limits, **quotas)
    await world.start("a0", "a")
    with pytest.raises(OverloadedError) as refused:
        await (await world.start("a1", "a"))  # 10 s, though the service as a whole has room
    assert refused.value.reason == "QUEUE_WAIT_TOO_LONG"
    for name in ("b0", "b1"):
        await world.start(name, "b")
        world.clock.now += 2
    await world.start("b2", "b")  # 6 s and 8 s are left of two that run side by side
    assert (world.order, world.controller.queued) == (["a0", "b0", "b1"], 1)
    await world.finish()


async def test_service_time_is_a_moving_average_of_finished_work() -> None:
    world = World(AdmissionLimits(permits=1, smoothing=0.5))
    for held_s in (4.0, 2.0):
        await world.start("work")
        world.clock.now += held_s
        await world.end("work")
    assert world.controller.service_time() == pytest.approx(3.0)


async def test_long_work_of_one_tenant_does_not_get_the_usual_work_of_others_refused() -> None:
    world = World(AdmissionLimits(permits=1, queue=10))
    for _ in range(10):
        await world.start("usual")
        world.clock.now += 3
        await world.end("usual")
    for _ in range(3):
        await world.start("long", "b", work=6.25)
        world.clock.now += 30
        await world.end("long")
    assert world.controller.service_time() == pytest.approx(3.0)
    assert world.controller.service_time(work=6.25) == pytest.approx(30.0)
    await world.start("runs")
    await world.start("waits", deadline=world.after(15))
    assert world.controller.queued == 1
    assert world.count("admission_service_seconds", kind="other", size="1") == pytest.approx(3)
    assert world.count("admission_service_seconds", kind="other", size="8") == pytest.approx(30)
    await world.finish()


async def test_long_work_that_runs_is_waited_for_as_long_as_such_work_takes() -> None:
    world = World(AdmissionLimits(permits=1, queue=10, max_wait_s=20))
    await world.start("long", work=6.25)
    world.clock.now += 30
    await world.end("long")
    await world.start("again", work=6.25)
    with pytest.raises(OverloadedError) as refused:
        await (await world.start("usual", "b"))
    assert refused.value.reason == "QUEUE_WAIT_TOO_LONG"
    await world.finish()


async def test_long_work_holds_its_permits_and_is_charged_for_its_length() -> None:
    quota = TenantQuota(rate_per_s=1, burst=8)
    world = World(AdmissionLimits(permits=2, queue=10), a=quota)
    await world.start("long", "a", work=6)
    await world.start("beside", "b")
    assert world.order == ["long", "beside"]
    with pytest.raises(QuotaExceededError) as refused:
        await (await world.start("more", "a", work=6))
    assert refused.value.retry_after_s == pytest.approx(4)
    await world.finish()


async def test_long_work_that_is_served_at_once_uses_up_the_share_of_its_length() -> None:
    world = World(AdmissionLimits(permits=1, queue=10, max_wait_s=1000))
    await world.start("long", "a", work=6)
    await world.start("next", "a")
    for number in range(4):
        await world.start(f"b{number}", "b")
    for _ in range(4):
        await world.end(world.order[-1])
    assert world.order == ["long", "b0", "b1", "b2", "b3"]
    await world.finish()


async def test_a_queued_request_needs_time_for_a_slow_run_not_only_for_a_mean_one() -> None:
    world = World(AdmissionLimits(permits=1, queue=10, smoothing=0.5))
    for held_s in (2.0, 4.0, 2.0, 4.0, 2.0, 4.0):
        await world.start("work")
        world.clock.now += held_s
        await world.end("work")
    mean_s = world.controller.service_time()
    assert 2.5 < mean_s < 3.7
    await world.start("runs")
    with pytest.raises(DeadlineError):
        await (await world.start("tight", deadline=world.after(2 * mean_s + 0.5)))
    await world.start("relaxed", deadline=world.after(2 * mean_s + 3))
    assert world.controller.queued == 1
    await world.finish()


async def test_work_that_can_be_degraded_is_admitted_with_less_time() -> None:
    limits = AdmissionLimits(permits=1, queue=10, initial_service_s=4, degradable=frozenset({"d"}))
    world = World(limits)

    async def waits(kind: str) -> bool:
        """Tell whether work of this kind with 7 s (4 of them to wait) is let into the queue."""
        call = world.controller.admit("a", deadline=world.after(7), kind=kind)
        task = asyncio.ensure_future(call.__aenter__())
        await world.settle()
        queued = not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return queued

    await world.start("runs")
    assert await waits("d")
    assert not await waits("")
    await world.finish()


async def test_work_that_fails_fast_does_not_make_the_service_look_fast() -> None:
    world = World(AdmissionLimits(permits=1))
    await world.start("work")
    world.clock.now += 4
    await world.end("work")
    with pytest.raises(RuntimeError):
        async with world.controller.admit("a"):
            raise RuntimeError("failed at once")
    assert world.controller.service_time() == pytest.approx(4.0)


async def test_work_that_hung_until_a_late_deadline_does_not_get_the_queue_refused() -> None:
    world = World(AdmissionLimits(permits=1, queue=10))
    await world.start("work")
    world.clock.now += 4
    await world.end("work")
    with pytest.raises(RuntimeError):
        async with world.controller.admit("a"):
            waiting = await world.start("waits", deadline=world.after(630))
            world.clock.now += 605
            raise RuntimeError("failed late")
    await world.settle()
    assert not waiting.done() or waiting.exception() is None
    assert 4 < world.controller.service_time() < 5
    await world.finish()


async def test_a_caller_that_goes_away_leaves_the_queue() -> None:
    world = World(AdmissionLimits(permits=1, queue=10))
    await world.start("runs")
    waits = await world.start("waits")
    await world.start("behind")
    waits.cancel()
    await world.settle()
    assert world.controller.queued == 1
    await world.end("runs")
    assert world.order == ["runs", "behind"]
    await world.finish()


async def test_a_tenant_whose_callers_gave_up_waits_no_longer_for_it() -> None:
    world = World(AdmissionLimits(permits=1, queue=100, max_wait_s=1000))
    await world.start("runs", "c")
    gone = [await world.start(f"gone{number}", "a") for number in range(30)]
    for task in gone:
        task.cancel()
    await world.settle()
    for number in range(10):
        await world.start(f"b{number}", "b")
    await world.start("again", "a")
    await world.end("runs")
    await world.end(world.order[-1])
    assert "again" in world.order
    await world.finish()


async def test_a_cancellation_in_the_turn_of_the_grant_does_not_lose_the_permit() -> None:
    world = World(AdmissionLimits(permits=1, queue=10))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(world.controller.admit("a"))
        waits = await world.start("waits")
    # The permit was granted just now, and the waiting task has not run since.
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert world.controller.in_flight == 0
    await world.start("next")
    assert world.order[-1] == "next"
    await world.finish()


async def test_costly_work_waits_for_enough_room_and_is_not_overtaken() -> None:
    world = World(AdmissionLimits(permits=4, queue=10))
    await world.start("small1")
    await world.start("small2")
    await world.start("big", "b", cost=3)
    await world.start("small3", "c")
    assert world.order == ["small1", "small2"]
    await world.end("small1")
    assert world.order[2] == "big"
    await world.finish()


async def test_who_waited_behind_costly_work_goes_when_its_caller_goes_away() -> None:
    world = World(AdmissionLimits(permits=4, queue=10))
    await world.start("small1")
    await world.start("small2")
    big = await world.start("big", "b", cost=3)
    await world.start("small3", "c")
    big.cancel()
    await world.settle()
    assert world.order == ["small1", "small2", "small3"]
    await world.finish()


async def test_work_that_costs_more_than_everything_runs_alone() -> None:
    world = World(AdmissionLimits(permits=2, queue=10))
    await world.start("huge", cost=5)
    await world.start("small")
    assert world.order == ["huge"]
    await world.end("huge")
    assert world.order == ["huge", "small"]
    await world.finish()


async def test_gauges_show_the_queue_that_is_really_there() -> None:
    world = World(AdmissionLimits(permits=1, queue=10))
    await world.start("runs")
    await world.start("waits", priority=BATCH)
    assert world.count("admission_in_flight", priority="interactive") == 1
    assert world.count("admission_queued", priority="batch") == 1
    await world.finish()
    assert world.count("admission_in_flight", priority="interactive") == 0
    assert world.count("admission_queued", priority="batch") == 0


async def test_a_thousand_requests_in_a_hurry_leave_nothing_behind() -> None:
    world = World(AdmissionLimits(permits=3, queue=20))
    outcomes: Counter[str] = Counter()
    running = 0
    most = 0

    async def call(number: int) -> None:
        nonlocal running, most
        try:
            async with world.controller.admit("abc"[number % 3], Priority(number % 2)):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1
            outcomes["done"] += 1
        except OverloadedError:
            outcomes["shed"] += 1

    tasks = [asyncio.create_task(call(number)) for number in range(1000)]
    for number, task in enumerate(tasks):
        if number % 17 == 0:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most <= 3
    assert outcomes["done"] >= 20
    assert world.controller.in_flight == 0
    assert world.controller.queued == 0
