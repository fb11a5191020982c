"""Which calls are open, so that the end of the service can wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from headshot.api.interceptors.wrapping import Handler, Interceptor


class OpenCalls(Interceptor):
    """Stands outermost and keeps each call's task, from its headers to its status.

    grpc.aio tells when a connection has no call left, not when the handler of a call that it cut
    off has stopped.

    Args:
        work: prefix of the methods, with their slash, that do the service's work.
    """

    def __init__(self, work: str) -> None:
        self._work = work
        self._tasks: dict[asyncio.Task[Any], bool] = {}

    @property
    def count(self) -> int:
        """How many calls are open."""
        return len(self._tasks)

    @property
    def working(self) -> set[asyncio.Task[Any]]:
        """The tasks of the calls that do the service's work; health and reflection do not."""
        return {task for task, works in self._tasks.items() if works}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Take note of the call; grpc.aio asks in the task that also runs its handler."""
        task = asyncio.current_task()
        if task is not None:
            method: Any = handler_call_details.method
            text = method.decode() if isinstance(method, bytes) else method
            self._tasks[task] = text.startswith(self._work)
            task.add_done_callback(lambda ended: self._tasks.pop(ended, None))
        return await continuation(handler_call_details)

    async def ended(self, timeout_s: float) -> int:
        """Wait at most this many seconds until no call is open; return how many still are."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout_s)
        return len(self._tasks)
