"""The open loop: requests leave at their intended times, however many are still outstanding."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headshot.client import AsyncHeadshotClient, HeadshotCallError, RetryPolicy

from loadtest.arrivals import Arrivals
from loadtest.requests import RequestMaker
from loadtest.scenario import Scenario

_PROGRESS_S = 1.0
_REFUSED_S = 2.0


@dataclass(frozen=True)
class StageShare:
    """One stage of one request, milliseconds."""

    total_ms: float
    queue_ms: float
    compute_ms: float
    wire_ms: float
    mean_batch: float


@dataclass(frozen=True)
class Sample:
    """One request.

    Attributes:
        kind: of work.
        tenant: who sent it.
        intended_s: when it should have been sent, from the start of the run.
        sent_s: when it was sent.
        finished_s: when its answer was complete.
        code: gRPC code, OK when it worked.
        reason: ErrorInfo's reason, empty when it worked.
        stages: from the response's timings.
        degraded: whether the answer was degraded to meet the deadline.
    """

    kind: str
    tenant: str
    intended_s: float
    sent_s: float
    finished_s: float
    code: str
    reason: str
    stages: dict[str, StageShare] = field(default_factory=dict)
    degraded: bool = False

    @property
    def latency_s(self) -> float:
        """Seconds from the intended send time to the answer: what a user waits."""
        return self.finished_s - self.intended_s

    @property
    def service_s(self) -> float:
        """Seconds from the real send time: what a generator with coordinated omission reports."""
        return self.finished_s - self.sent_s

    @property
    def lag_s(self) -> float:
        """Seconds that the generator itself was late."""
        return self.sent_s - self.intended_s


class Generator:
    """Sends scenarios to a service.

    Args:
        target: host:port.
        photos: encoded photos.
        progress: called about once a second with a line of text.
    """

    def __init__(
        self, target: str, photos: list[bytes], progress: Callable[[str], None] | None = None
    ) -> None:
        self._target = target
        self._photos = photos
        self._progress = progress or (lambda _line: None)

    async def run(self, scenario: Scenario, rate: float) -> list[Sample]:
        """Run a scenario at `rate` requests a second; return every sample after the warm-up."""
        makers = [RequestMaker(work, self._photos) for work in scenario.work]
        chooser = random.Random(scenario.seed)
        schedule = scenario.schedule(rate)
        times = schedule.times()
        weights = [work.weight for work in scenario.work]
        picks = chooser.choices(makers, weights, k=len(times))
        samples = await self._fire(schedule, picks)
        return [sample for sample in samples if sample.intended_s >= scenario.warmup_s]

    async def _fire(self, schedule: Arrivals, picks: list[RequestMaker]) -> list[Sample]:
        times = schedule.times()
        clients = {
            tenant: AsyncHeadshotClient(
                self._target,
                api_key=os.environ.get(f"LOADTEST_KEY_{tenant.upper()}") if tenant else None,
                # A refusal is a result here; a retry would hide it.
                retry=RetryPolicy(attempts=1),
            )
            for tenant in {maker.work.tenant for maker in picks}
        }
        samples: list[Sample] = []
        tasks: set[asyncio.Task[None]] = set()
        start = time.perf_counter() + 0.1
        shown = 0.0

        async def one(index: int, intended: float, maker: RequestMaker) -> None:
            sent = time.perf_counter() - start
            code, reason, stages, degraded = "OK", "", {}, False
            try:
                answer = await maker.send(clients[maker.work.tenant], index)
                if answer is not None:
                    stages = _stages(answer)
                    degraded = bool(getattr(answer, "degraded", ()))
            except HeadshotCallError as error:
                code, reason = error.code.name, error.reason
            except RuntimeError as error:
                code, reason = "ITEM_FAILED", str(error)[:80]
            finished = time.perf_counter() - start
            work = maker.work
            samples.append(
                Sample(
                    work.kind, work.tenant, intended, sent, finished, code, reason, stages, degraded
                )
            )

        for index, (intended, maker) in enumerate(zip(times, picks, strict=True)):
            now = time.perf_counter() - start
            if now - shown > _PROGRESS_S:
                shown = now
                self._progress(_line(now, schedule, samples, len(tasks)))
            if intended > now:
                await asyncio.sleep(intended - now)
            task = asyncio.create_task(one(index, float(intended), maker))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.wait(tasks, timeout=_PROGRESS_S)
            elapsed = time.perf_counter() - start
            self._progress(_line(elapsed, schedule, samples, len(tasks)))
        for client in clients.values():
            await client.__aexit__(None, None, None)
        return samples

    async def closed(self, maker: RequestMaker, concurrency: int, seconds: float) -> list[Sample]:
        """Keep `concurrency` requests under way for `seconds`; for capacity, not for latency.

        Who is refused waits a little, as a well-behaved caller does: asking again at once would
        measure how fast the service refuses.
        """
        samples: list[Sample] = []
        start = time.perf_counter()
        retry = RetryPolicy(attempts=1)
        async with AsyncHeadshotClient(self._target, retry=retry) as client:

            async def keep(worker: int) -> None:
                index = worker
                while time.perf_counter() - start < seconds:
                    sent = time.perf_counter() - start
                    code, reason, stages = "OK", "", {}
                    try:
                        stages = _stages(await maker.send(client, index))
                    except HeadshotCallError as error:
                        code, reason = error.code.name, error.reason
                    finished = time.perf_counter() - start
                    kind = maker.work.kind
                    samples.append(Sample(kind, "", sent, sent, finished, code, reason, stages))
                    if code != "OK":
                        await asyncio.sleep(_REFUSED_S)
                    index += concurrency

            await asyncio.gather(*(keep(worker) for worker in range(concurrency)))
        return samples


def _stages(answer: object) -> dict[str, StageShare]:
    timings = getattr(answer, "timings", None)
    if timings is None:
        return {}
    return {
        stage.stage: StageShare(
            stage.total_ms, stage.queue_ms, stage.compute_ms, stage.wire_ms, stage.mean_batch
        )
        for stage in timings.stages
    }


def _line(now: float, schedule: Arrivals, samples: list[Sample], open_requests: int) -> str:
    good = [sample.latency_s for sample in samples if sample.code == "OK"]
    failed = len(samples) - len(good)
    recent = sorted(good[-50:])
    p50 = recent[len(recent) // 2] if recent else 0.0
    return (
        f"{now:5.0f} of {schedule.seconds:.0f} s  {len(good)} ok  {failed} refused or failed  "
        f"{open_requests} open  recent p50 {p50 * 1e3:.0f} ms"
    )
