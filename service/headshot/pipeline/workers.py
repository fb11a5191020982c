"""A bounded pool of threads for work on pixels, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

from headshot.deadline import Deadline
from headshot.errors import DeadlineError

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """Runs functions on threads. numpy, OpenCV and the codecs release the interpreter lock."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
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

    def side_by_side(self, parts: Sequence[Callable[[], None]]) -> None:
        """Do all parts, on the caller's thread and on threads of the pool that are free.

        For use on a thread of the pool. The caller never waits for a thread: what none has begun
        it does itself. Parts should be short, nothing stops them.

        Raises:
            Exception: what a part raised; parts that had not begun then never begin.
        """
        waiting, lock = iter(parts), threading.Lock()
        failed = threading.Event()

        def work() -> None:
            while not failed.is_set():
                with lock:
                    part = next(waiting, None)
                if part is None:
                    return
                try:
                    part()
                except BaseException:
                    failed.set()
                    raise

        helpers = []
        try:
            for _ in range(min(self._threads, len(parts)) - 1):
                helpers.append(self._pool.submit(work))
        except RuntimeError:  # the pool is being closed; this thread is waited for
            pass
        try:
            work()
        finally:
            begun = [helper for helper in helpers if not helper.cancel()]
            wait(begun)
        for helper in begun:
            helper.result()

    def close(self) -> None:
        """Stop the threads; work that has not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
