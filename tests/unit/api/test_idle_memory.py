"""Memory goes back once after work, and never while there is work."""

from __future__ import annotations

import asyncio

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
