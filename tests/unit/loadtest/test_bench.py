"""The bench compares like with like: the same time, every request, the peak of each contender."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import numpy as np
import pytest

from loadtest import bench
from loadtest.access import Access
from loadtest.bench import Row, poisson, ratios
from loadtest.processes import Usage
from loadtest.runner import Generator, Sample, StageShare
from loadtest.scenario import Work
from tests.unit.loadtest.fake_service import FakeServicer, serving


async def test_networks_that_overlap_do_not_hide_the_gateways_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "_WATCH_S", 0.01)
    # A second of upscaling, a detector of 0.3 s beside it, 0.3 s in which nothing computes.
    stages = {"upscale": StageShare(1000, 0, 1000, 0, 1), "verify": StageShare(300, 0, 300, 0, 1)}
    sample = Sample("create", "", 0.0, 0.0, 1.3, "OK", "", stages, computing_ms=1000)

    async def load() -> list[Sample]:
        return [sample]

    alone = await bench._measured("closed 1", Usage(os.getpid()), load())
    rows = [
        alone,
        Row("service", "closed 16", 1, 1, 1, 1, 1),
        Row("service", "poisson 0.7", 1, 1, 1, 1, 1),
        Row("floor", "closed 16", 1, 1, 1, 1, 1),
    ]
    if not alone.cpu_s:  # nothing was computed here
        rows[0] = replace(alone, cpu_s=1.0)
    assert ratios(rows)["gateway's share of the latency at 1"] == pytest.approx(0.3 / 1.3)


async def test_every_request_of_the_open_load_is_counted() -> None:
    servicer = FakeServicer()
    async with serving(servicer) as target:
        generator = Generator(Access(target), [b"x"])
        samples = await generator.run(poisson(Work(kind="matte"), 40, 0.5), 40)
    assert len(samples) == sum(servicer.callers.values()) > 0


async def test_memory_that_fastapi_gave_back_counts_as_its_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "_WATCH_S", 0.02)
    usage = Usage(os.getpid())
    before = usage.memory()

    async def send(index: int) -> None:
        block = np.ones(200 * 2**20, np.uint8) if index == 0 else None
        await asyncio.sleep(0.2)
        del block

    closed = await bench._http_load("closed 1", usage, send, 1, 0.3)
    opened = await bench._http_open(usage, send, 20, 0.5)
    assert usage.memory() == pytest.approx(before, abs=60)
    assert closed.rss_mb == pytest.approx(before + 200, abs=60)
    assert opened.rss_mb == pytest.approx(before + 200, abs=60)
