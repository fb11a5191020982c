"""A bounded pool of threads for work on pixels, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from headshot.deadline import Deadline
from headshot.errors import DeadlineError

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Runs functions on threads. numpy, OpenCV and the codecs release the interpreter lock."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="imaging")

    async def run(
        self, deadline: Deadline, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return function(*args, **kwargs), computed on a thread.

        Raises:
            DeadlineError: the deadline passed first; a call that had not begun never begins, one
                that had begun keeps its thread until it ends, and its result is dropped.
        """
        future = self._pool.submit(function, *args, **kwargs)
        # Not wait_for: on Python 3.11 it swallows a cancellation that meets the result.
        try:
            async with asyncio.timeout(deadline.remaining()) as limit:
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineError(
                "the deadline passed while pictures were processed; send a later deadline"
            ) from error

    def close(self) -> None:
        """Stop the threads; work that has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
