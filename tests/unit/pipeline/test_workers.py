"""Pixels on threads: results, errors, deadlines and cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from headshot.deadline import Deadline
from headshot.errors import DeadlineError
from headshot.pipeline.workers import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(1)
    yield made
    made.close()


async def test_a_result_comes_back_from_another_thread(workers):
    assert await workers.run(Deadline.after(10), threading.get_ident) != threading.get_ident()


async def test_a_deadline_in_mid_work_is_a_deadline_error(workers):
    release = threading.Event()
    with pytest.raises(DeadlineError):
        await workers.run(Deadline.after(0.01), release.wait, 10)
    release.set()


async def test_work_that_has_not_begun_by_the_deadline_never_begins(workers):
    release, begun = threading.Event(), threading.Event()
    first = asyncio.ensure_future(workers.run(Deadline.after(10), release.wait, 10))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineError):
        await workers.run(Deadline.after(0.01), begun.set)
    release.set()
    await first
    await workers.run(Deadline.after(10), release.is_set)
    assert not begun.is_set()


async def test_parts_are_done_by_two_threads_at_once():
    made = Workers(2)
    both = threading.Barrier(2, timeout=10)
    try:
        # Each part waits for the other: one thread alone would break the barrier.
        parts = [partial(both.wait), partial(both.wait)]
        await made.run(Deadline.after(20), made.side_by_side, parts)
    finally:
        made.close()


async def test_parts_do_not_wait_for_a_thread_that_is_busy():
    made = Workers(2)
    release = threading.Event()
    busy = asyncio.ensure_future(made.run(Deadline.after(20), release.wait, 20))
    try:
        done: list[int] = []
        parts = [partial(done.append, number) for number in range(5)]
        await made.run(Deadline.after(10), made.side_by_side, parts)
        assert done == [0, 1, 2, 3, 4]
    finally:
        release.set()
        await busy
        made.close()


async def test_a_pool_of_one_thread_does_all_parts_itself(workers):
    done: list[int] = []
    parts = [partial(done.append, number) for number in range(3)]
    await workers.run(Deadline.after(10), workers.side_by_side, parts)
    assert done == [0, 1, 2]


@pytest.mark.parametrize("threads", [1, 2])
async def test_what_a_part_raises_is_raised_and_later_parts_never_begin(threads):
    made, begun = Workers(threads), threading.Event()

    def fails() -> None:
        raise ValueError("a part")

    try:
        with pytest.raises(ValueError, match="a part"):
            await made.run(Deadline.after(10), made.side_by_side, [fails, *[fails] * 8, begun.set])
        assert not begun.is_set()
    finally:
        made.close()


async def test_a_timeout_of_the_work_itself_is_not_taken_for_the_deadline(workers):
    def fails() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await workers.run(Deadline.after(10), fails)
