"""Work ahead is done once for its subject, makes way for another, and never outlives its user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from headshot.pipeline.ahead import Ahead


class Work:
    """Waits until it is let, and tells what became of it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self.go = asyncio.Event()

    def on(self, name: str) -> Callable[[], Coroutine[Any, Any, str]]:
        async def work() -> str:
            self.begun.append(name)
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped.append(name)
                raise
            return name

        return work


async def test_what_was_begun_is_what_is_returned() -> None:
    work, subject = Work(), object()
    async with Ahead[str]("work") as ahead:
        await ahead.begin(subject, work.on("first"))
        await ahead.begin(subject, work.on("again"))
        work.go.set()
        assert await ahead.result(subject, work.on("again")) == "first"
    assert (work.begun, work.stopped) == (["first"], [])


async def test_another_subject_stops_the_work_about_the_one_before() -> None:
    work = Work()
    async with Ahead[str]("work") as ahead:
        await ahead.begin(object(), work.on("first"))
        await asyncio.sleep(0)
        second = object()
        await ahead.begin(second, work.on("second"))
        assert ahead.concerns(second)
        work.go.set()
        assert await ahead.result(second, work.on("second")) == "second"
    assert work.stopped == ["first"]


async def test_an_equal_subject_is_another_one() -> None:
    work = Work()
    async with Ahead[str]("work") as ahead:
        await ahead.begin([1], work.on("first"))
        assert not ahead.concerns([1])


async def test_work_that_nobody_asked_for_ends_with_its_user() -> None:
    work = Work()
    with pytest.raises(ValueError, match="refused"):
        async with Ahead[str]("work") as ahead:
            await ahead.begin(object(), work.on("first"))
            await asyncio.sleep(0)
            raise ValueError("refused")
    assert work.stopped == ["first"]


async def test_a_failure_is_raised_to_who_asks_and_to_nobody_else() -> None:
    async def fail() -> str:
        raise RuntimeError("no memory")

    subject = object()
    async with Ahead[str]("work") as ahead:
        await ahead.begin(subject, fail)
        with pytest.raises(RuntimeError, match="no memory"):
            await ahead.result(subject, fail)
    async with Ahead[str]("work") as ahead:
        await ahead.begin(subject, fail)
        await asyncio.sleep(0)


async def test_work_that_was_stopped_with_who_waited_for_it_begins_anew() -> None:
    work, subject = Work(), object()
    async with Ahead[str]("work") as ahead:
        waiting = asyncio.ensure_future(ahead.result(subject, work.on("first")))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not ahead.concerns(subject)
        work.go.set()
        assert await ahead.result(subject, work.on("second")) == "second"
