"""Pixels on threads: results, errors, deadlines and cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

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


async def test_a_timeout_of_the_work_itself_is_not_taken_for_the_deadline(workers):
    def fails() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await workers.run(Deadline.after(10), fails)
