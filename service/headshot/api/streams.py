"""Running work while its events are streamed to the caller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from headshot.pipeline.call import Call, Event

T = TypeVar("T")

# Events a slow reader may leave unread; progress is dropped beyond that, results never are.
_BACKLOG = 256


async def with_events(
    call: Call, work: Callable[[], Awaitable[T]]
) -> AsyncGenerator[Event | tuple[T], None]:
    """Yield the call's events as they happen, then a 1-tuple with the result.

    Closing the iterator (the caller went away) cancels the work and waits until it has stopped; use
    `contextlib.aclosing`, else that happens only when the garbage is collected.
    """
    queue: asyncio.Queue[Event | None] = asyncio.Queue(maxsize=_BACKLOG)

    def emit(event: Event) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            queue.put_nowait(event)

    call.emit = emit

    async def run() -> T:
        try:
            return await work()
        finally:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    task = asyncio.ensure_future(run())
    try:
        while (event := await queue.get()) is not None:
            yield event
        yield (await task,)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            # Nobody may be left to hear of a failure.
            task.exception()
