"""Memory goes back once after work, and never while there is work."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys

import pytest
from headshot.api.idle_memory import IdleMemory, trim


class Work:
    def __init__(self) -> None:
        self.admitted = 0
        self.in_flight = 0.0
        self.given_back: list[int] = []
        self.trimmed = asyncio.Event()

    def give_back(self) -> None:
        self.given_back.append(self.admitted)
        self.loop.call_soon_threadsafe(self.trimmed.set)

    async def __aenter__(self) -> Work:
        self.loop = asyncio.get_running_loop()
        memory = IdleMemory(
            lambda: self.admitted,
            lambda: self.in_flight,
            give_back=self.give_back,
            every_s=0.005,
            quiet_s=0.02,
        )
        self.task = asyncio.create_task(memory.run())
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def given(self) -> None:
        async with asyncio.timeout(5):
            await self.trimmed.wait()
        self.trimmed.clear()


async def test_memory_goes_back_once_after_each_busy_time() -> None:
    async with Work() as work:
        await work.given()
        work.admitted = 1
        await work.given()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work.trimmed.wait(), 0.2)
    assert work.given_back == [0, 1]


async def test_nothing_goes_back_while_something_is_worked_on() -> None:
    async with Work() as work:
        await work.given()
        work.admitted, work.in_flight = 1, 1.0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(work.trimmed.wait(), 0.2)
        work.in_flight = 0.0
        await work.given()


def test_the_library_is_asked_without_harm() -> None:
    trim()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_the_memory_of_a_picture_serves_the_next_one_until_it_is_given_back() -> None:
    # In a process of its own: what is set there is set for good.
    script = """
import resource
import numpy as np
from headshot.api.idle_memory import keep, trim

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.ones(20 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep()
first, next_ones = pages(), pages()
trim()
print(first, next_ones, pages())
"""
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    first, next_ones, after = (int(word) for word in told.stdout.split())
    assert next_ones < 0.1 * first
    assert after > 0.5 * first
