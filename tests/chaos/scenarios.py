"""What goes wrong, one scenario each; every one runs against the real gateway and real Triton."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig

from tests.chaos.faulty_triton import FaultyWire, faulty_wire
from tests.chaos.harness import TRITON_CACHE, Gateway, serve
from tests.chaos.load import Caller, Report

# Mostly the short call, so that many requests are in the air, and some whole headshots.
MIX = (*("matte",) * 11, "create")
DEADLINE_S = 60.0
LOAD_S = 30.0
FAULT_AT_S = 8.0
RECOVERY_S = 45.0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: the scenario.
        load: load held, in words.
        faults: what was injected.
        sent, answered, refused, lost, wrong: requests; refused ones got a typed error.
        recovery_s: from the fault (its end where it has one) to the first right answer to a
            request sent after that; NaN where there is nothing to recover from.
        note: figures that matter only here.
        passed: whether the scenario's promise was kept.
    """

    name: str
    load: str
    faults: str
    sent: int
    answered: int
    refused: int
    lost: int
    wrong: int
    recovery_s: float
    note: str
    passed: bool


def row(
    name: str,
    load: str,
    faults: str,
    report: Report,
    recovery_s: float,
    *,
    note: str = "",
    promise: bool = True,
) -> Row:
    """Sum up; nothing may be lost or wrong, whatever else the scenario promises."""
    lost, wrong = report.count("lost"), report.wrong
    recovered = math.isnan(recovery_s) or recovery_s <= RECOVERY_S
    return Row(
        name,
        load,
        faults,
        len(report.outcomes),
        report.count("ok"),
        report.count("refused"),
        lost,
        wrong,
        recovery_s,
        note or report.codes(),
        lost == 0 and wrong == 0 and recovered and promise,
    )


async def quiet_rate(caller: Caller) -> float:
    """Return a rate of the mix that keeps the service half busy, from what calls take now."""
    matte = await caller.closed_loop(1, 3.0, "matte")
    create = await caller.call("create", time.monotonic())
    mean_s = (11 * matte.latency(0.5) + create.latency_s) / 12
    return max(0.3, min(8.0, 0.7 / mean_s))


async def loaded(
    caller: Caller, fault: Callable[[], Awaitable[float]], seconds: float = LOAD_S
) -> tuple[Report, float, float]:
    """Hold the mix, inject a fault, return the report, the rate and the time of recovery.

    `fault` returns the second, on the monotonic clock, from which recovery counts.
    """
    await caller.learn("matte", "create")
    rate = await quiet_rate(caller)
    load = asyncio.create_task(caller.open_loop(rate, seconds, MIX))
    await asyncio.sleep(FAULT_AT_S)
    counted_from = await fault()
    report = await load
    return report, rate, report.recovered_after(counted_from)


@asynccontextmanager
async def gateway_and_caller(
    repository: Path, **settings: Any
) -> AsyncIterator[tuple[Gateway, Caller]]:
    """Serve, and call with the usual deadline."""
    async with serve(repository, **settings) as gateway:
        caller = Caller(gateway.address, DEADLINE_S)
        try:
            yield gateway, caller
        finally:
            await caller.close()


async def kill(repository: Path) -> Row:
    """kill -9 of the only Triton: it is restarted, calls wait for it or are told to come back."""
    async with gateway_and_caller(repository) as (gateway, caller):

        async def fault() -> float:
            gateway.triton().kill()
            return time.monotonic()

        report, rate, recovery_s = await loaded(caller, fault)
    return row("kill -9, one Triton", f"{rate:.1f}/s mixed", "1 kill", report, recovery_s)


async def failover(repository: Path) -> Row:
    """kill -9 of one of two Tritons: its calls go to the other one, none fails."""
    async with AsyncExitStack() as stack:
        config = EmbeddedTritonConfig(repository, cache_dir=TRITON_CACHE)
        servers = [EmbeddedTriton(config), EmbeddedTriton(config)]
        for server in servers:
            await stack.enter_async_context(server)
        urls = tuple(server.grpc_url for server in servers)
        _, caller = await stack.enter_async_context(
            gateway_and_caller(repository, triton_url=urls, shared_memory="false")
        )

        async def fault() -> float:
            victim = servers[0].pid
            assert victim is not None
            os.kill(victim, signal.SIGKILL)
            return time.monotonic()

        report, rate, recovery_s = await loaded(caller, fault)
    return row(
        "kill -9, one of two",
        f"{rate:.1f}/s mixed",
        "1 kill",
        report,
        recovery_s,
        promise=report.count("ok") == len(report.outcomes),
    )


async def hang(repository: Path) -> Row:
    """SIGSTOP of Triton: the gateway notices, replaces it, and serves again."""
    async with gateway_and_caller(repository) as (gateway, caller):

        async def fault() -> float:
            gateway.triton().suspend()
            return time.monotonic()

        report, rate, recovery_s = await loaded(caller, fault)
    return row("hang (SIGSTOP)", f"{rate:.1f}/s mixed", "1 stop", report, recovery_s)


@asynccontextmanager
async def behind_a_wire(repository: Path) -> AsyncIterator[tuple[FaultyWire, Caller]]:
    """Serve with a faulty wire between the gateway and a real Triton."""
    async with AsyncExitStack() as stack:
        config = EmbeddedTritonConfig(repository, cache_dir=TRITON_CACHE)
        server = await stack.enter_async_context(EmbeddedTriton(config))
        wire, url = await stack.enter_async_context(faulty_wire(server.grpc_url))
        _, caller = await stack.enter_async_context(
            gateway_and_caller(repository, triton_url=(url,), shared_memory="false")
        )
        yield wire, caller


async def slow(repository: Path) -> Row:
    """Every inference takes 1.5 s longer for ten seconds."""
    async with behind_a_wire(repository) as (wire, caller):

        async def fault() -> float:
            wire.delay_s = 1.5
            await asyncio.sleep(10)
            wire.delay_s = 0.0
            return time.monotonic()

        report, rate, recovery_s = await loaded(caller, fault)
    return row("slow Triton", f"{rate:.1f}/s mixed", "+1.5 s for 10 s", report, recovery_s)


async def garbage(repository: Path) -> Row:
    """Every inference answers with other shapes for eight seconds: errors, never a picture."""
    async with behind_a_wire(repository) as (wire, caller):
        window: list[float] = []

        async def fault() -> float:
            wire.garbage = True
            window.append(time.monotonic())
            await asyncio.sleep(8)
            wire.garbage = False
            window.append(time.monotonic())
            return window[1]

        report, rate, recovery_s = await loaded(caller, fault)
        harmed = [o for o in report.outcomes if o.reason == "MODEL_CONTRACT"]
    # The gateway must refuse these answers: INTERNAL with a typed reason is the promise here.
    kept = Report(
        [o for o in report.outcomes if o.reason != "MODEL_CONTRACT"], report.begun, report.seconds
    )
    result = row(
        "garbage shapes",
        f"{rate:.1f}/s mixed",
        "8 s of wrong shapes",
        kept,
        recovery_s,
        note=report.codes(),
        promise=len(harmed) > 0,
    )
    sent, refused = len(report.outcomes), result.refused + len(harmed)
    return Row(**{**result.__dict__, "sent": sent, "refused": refused})


async def overload(repository: Path) -> Row:
    """Twice the capacity: goodput holds at 90 % of its peak, accepted requests keep their p99.

    The peak is a closed loop that keeps every permit busy, measured before, between and after the
    overloads, since a machine's speed drifts. Callers give three times what a call takes then. The
    queue is short, as docs/operations.md advises, so that p99 may grow by a quarter at most.
    """
    # A small call costs a quarter of a permit.
    permits = 4
    busy = 4 * permits
    peaks: list[float] = []
    reports: list[Report] = []
    async with serve(repository, max_concurrency=permits, max_queue=busy // 8) as gateway:
        patient = Caller(gateway.address, 60.0)
        hurried = patient
        try:
            await patient.learn("matte")
            await patient.closed_loop(busy, 5.0, "matte")
            before = await patient.closed_loop(busy, 15.0, "matte")
            usual_s = before.latency(0.5)
            peaks.append(before.goodput(usual_s))
            deadline_s = 3 * usual_s
            hurried = Caller(gateway.address, deadline_s)
            await hurried.learn("matte")
            for _ in range(3):
                seconds = max(15.0, 5 * usual_s)
                load = hurried.open_loop(2 * peaks[-1], seconds, ("matte",), seed=len(peaks))
                reports.append(await load)
                quiet = await patient.closed_loop(busy, 12.0, "matte")
                peaks.append(quiet.goodput(usual_s))
        finally:
            await patient.close()
            await hurried.close()
    peak = sum(peaks) / len(peaks)
    share = sum(report.goodput(usual_s) for report in reports) / len(reports) / peak
    every = Report([outcome for report in reports for outcome in report.outcomes])
    p99_s, peak_p99_s = every.latency(0.99), before.latency(0.99)
    return row(
        "overload, 2x capacity",
        f"{2 * peak:.1f}/s, peak {peak:.1f}/s",
        "load itself, 3 times",
        every,
        float("nan"),
        note=(
            f"goodput {share:.0%} of peak; p99 of accepted {p99_s:.2f} s (at peak "
            f"{peak_p99_s:.2f} s, deadline {deadline_s:.1f} s); {every.codes()}"
        ),
        promise=share >= 0.9 and p99_s <= 1.25 * peak_p99_s,
    )


async def sigterm(repository: Path) -> Row:
    """SIGTERM under load: what was accepted is answered, then the process ends with status 0."""
    async with gateway_and_caller(repository) as (gateway, caller):
        await caller.learn("matte", "create")
        rate = await quiet_rate(caller)
        load = asyncio.create_task(caller.open_loop(rate, 12.0, MIX))
        await asyncio.sleep(8)
        stopped_at = time.monotonic()
        status = await gateway.terminate(60)
        ended_s = time.monotonic() - stopped_at
        report = await load
    # Sent before the signal: accepted, so answered. After it: refused as UNAVAILABLE.
    accepted = [o for o in report.outcomes if o.due < stopped_at - 0.25]
    unanswered = [o for o in accepted if not o.ok]
    return row(
        "SIGTERM",
        f"{rate:.1f}/s mixed",
        "1 SIGTERM",
        report,
        float("nan"),
        note=(
            f"{len(accepted)} accepted, {len(unanswered)} of them not answered; ended in "
            f"{ended_s:.1f} s with status {status}; {report.codes()}"
        ),
        promise=not unanswered and status == 0,
    )


SCENARIOS: dict[str, Callable[[Path], Awaitable[Row]]] = {
    "kill": kill,
    "failover": failover,
    "hang": hang,
    "slow": slow,
    "garbage": garbage,
    "overload": overload,
    "sigterm": sigterm,
}
