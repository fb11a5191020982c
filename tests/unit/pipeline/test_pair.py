"""Two coroutines side by side: both results, or the first failure alone and nothing left behind."""

from __future__ import annotations

import asyncio

import pytest
from headshot.pipeline.concurrency import pair


async def test_both_results_come_in_order_and_neither_waits_for_the_other_to_begin() -> None:
    begun = asyncio.Event()

    async def first() -> str:
        await begun.wait()
        return "first"

    async def second() -> int:
        begun.set()
        return 2

    async with asyncio.timeout(5):
        assert await pair(first(), second()) == ("first", 2)


async def test_a_failure_stops_the_other_and_is_raised_as_itself() -> None:
    stopped = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("no matte")

    async with asyncio.timeout(5):
        with pytest.raises(LookupError, match="no matte"):
            await pair(waits(), fails())
    assert stopped == [True]
