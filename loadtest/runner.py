"""The open loop: requests leave at their intended times, however many are still outstanding."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from headshot.client import AsyncHeadshotClient, HeadshotCallError
from headshot.v1 import timing_pb2

from loadtest.access import Access
from loadtest.arrivals import Arrivals
from loadtest.requests import ItemFailedError, RequestMaker
from loadtest.scenario import Scenario, Work

_PROGRESS_S = 1.0
_REFUSED_S = 2.0
_REASON_CHARS = 80


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
        code: gRPC code, OK when it worked; ITEM_FAILED for a team call with an item that failed,
            or the type of an error of the generator itself.
        reason: ErrorInfo's reason, or what the error says; empty when it worked.
        stages: from the response's timings.
        degraded: whether the answer was degraded to meet the deadline.
        computing_ms: milliseconds in which at least one network was computing for it.
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
    computing_ms: float = 0.0

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
        access: to the service.
        photos: encoded photos.
        progress: called about once a second with a line of text.
    """

    def __init__(
        self, access: Access, photos: list[bytes], progress: Callable[[str], None] | None = None
    ) -> None:
        self._access = access
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
        samples: list[Sample] = []
        tasks: set[asyncio.Task[None]] = set()
        async with self._clients(picks) as clients:
            start = time.perf_counter() + 0.1
            shown = 0.0

            async def one(index: int, intended: float, maker: RequestMaker) -> None:
                sent = time.perf_counter() - start
                outcome = await _send(maker, clients, index)
                finished = time.perf_counter() - start
                samples.append(_sample(maker.work, intended, sent, finished, outcome))

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
        return samples

    async def closed(
        self, makers: Sequence[RequestMaker], concurrency: int, seconds: float, seed: int = 1
    ) -> list[Sample]:
        """Keep `concurrency` requests under way for `seconds`; for capacity, not for latency.

        Each request is of a kind that is drawn by weight, as in `run`. Who is refused waits a
        little, as a well-behaved caller does: asking again at once would measure how fast the
        service refuses.
        """
        samples: list[Sample] = []
        chooser = random.Random(seed)
        weights = [maker.work.weight for maker in makers]
        async with self._clients(makers) as clients:
            start = time.perf_counter()

            async def keep(worker: int) -> None:
                index = worker
                while time.perf_counter() - start < seconds:
                    (maker,) = chooser.choices(makers, weights)
                    sent = time.perf_counter() - start
                    outcome = await _send(maker, clients, index)
                    finished = time.perf_counter() - start
                    samples.append(_sample(maker.work, sent, sent, finished, outcome))
                    if outcome.code != "OK":
                        await asyncio.sleep(_REFUSED_S)
                    index += concurrency

            await asyncio.gather(*(keep(worker) for worker in range(concurrency)))
        return samples

    @asynccontextmanager
    async def _clients(
        self, makers: Sequence[RequestMaker]
    ) -> AsyncIterator[dict[str, AsyncHeadshotClient]]:
        """Yield a client for each tenant of the work."""
        async with AsyncExitStack() as stack:
            yield {
                tenant: await stack.enter_async_context(self._access.client(tenant))
                for tenant in {maker.work.tenant for maker in makers}
            }


@dataclass(frozen=True)
class _Outcome:
    code: str = "OK"
    reason: str = ""
    stages: dict[str, StageShare] = field(default_factory=dict)
    degraded: bool = False
    computing_ms: float = 0.0


async def _send(
    maker: RequestMaker, clients: dict[str, AsyncHeadshotClient], index: int
) -> _Outcome:
    """Send a request and return how it ended; whatever went wrong is a result, too."""
    try:
        answer = await maker.send(clients[maker.work.tenant], index)
    except HeadshotCallError as error:
        return _Outcome(error.code.name, error.reason)
    except ItemFailedError as error:
        return _Outcome("ITEM_FAILED", str(error)[:_REASON_CHARS])
    except Exception as error:
        # A sample that is lost would make the run look better than it was.
        return _Outcome(type(error).__name__, str(error)[:_REASON_CHARS])
    timings = getattr(answer, "timings", None)
    return _Outcome(
        stages=_stages(timings),
        degraded=bool(getattr(answer, "degraded", ())),
        computing_ms=timings.computing_ms if timings is not None else 0.0,
    )


def _sample(work: Work, intended: float, sent: float, finished: float, outcome: _Outcome) -> Sample:
    return Sample(
        work.kind,
        work.tenant,
        intended,
        sent,
        finished,
        outcome.code,
        outcome.reason,
        outcome.stages,
        outcome.degraded,
        outcome.computing_ms,
    )


def _stages(timings: timing_pb2.Timings | None) -> dict[str, StageShare]:
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
