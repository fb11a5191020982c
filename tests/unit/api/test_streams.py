"""Work that is streamed: its events, its end, and what happens when nobody listens any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest
from headshot.api import streams
from headshot.api.streams import with_events
from headshot.pipeline.call import Event, ProgressEvent

Emit = Callable[[Event], None]


async def test_events_come_in_order_and_the_result_last():
    async def work(emit: Emit) -> str:
        for step in range(3):
            emit(ProgressEvent(0, step, 3))
            await asyncio.sleep(0)
        return "done"

    async with aclosing(with_events(work)) as items:
        got = [item async for item in items]
    assert [item.step for item in got[:-1]] == [0, 1, 2]
    assert got[-1] == ("done",)


async def test_a_caller_that_leaves_stops_the_work_before_the_stream_is_closed():
    stopped = False

    async def work(emit: Emit) -> None:
        nonlocal stopped
        emit(ProgressEvent(0, 0, 1))
        try:
            await asyncio.Event().wait()
        finally:
            stopped = True

    async with aclosing(with_events(work)) as items:
        async for _ in items:
            break
        assert not stopped
    assert stopped


async def test_a_slow_reader_loses_events_but_never_the_result():
    async def work(emit: Emit) -> str:
        for step in range(10_000):
            emit(ProgressEvent(0, step, 10_000, b"preview"))
        return "done"

    async with aclosing(with_events(work)) as items:
        got = [item async for item in items]
    assert len(got) < 300
    assert got[-1] == ("done",)


async def test_the_error_of_the_work_comes_after_its_events():
    async def work(emit: Emit) -> None:
        emit(ProgressEvent(0, 0, 1))
        raise ValueError("broken")

    got = []
    with pytest.raises(ValueError, match="broken"):
        async with aclosing(with_events(work)) as items:
            async for item in items:
                got.append(item)
    assert got == [ProgressEvent(0, 0, 1)]


async def test_a_reader_that_comes_long_after_the_end_gets_the_result_without_old_events(
    monkeypatch,
):
    monkeypatch.setattr(streams, "_LAG_S", 0.05)

    async def work(emit: Emit) -> str:
        for step in range(10):
            emit(ProgressEvent(0, step, 10))
        return "done"

    async with aclosing(with_events(work)) as items:
        first = await anext(items)
        await asyncio.sleep(0.1)
        assert [first, *[item async for item in items]] == [ProgressEvent(0, 0, 10), ("done",)]
