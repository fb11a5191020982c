"""Running work while its events are streamed to the caller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from headshot.pipeline.call import Event

T = TypeVar("T")

# Events a slow reader may leave unread; progress is dropped beyond that, results never are.
_BACKLOG = 256
# A reader that is so far behind the end of the work gets the result next, instead of old events.
_LAG_S = 5.0


async def with_events(
    work: Callable[[Callable[[Event], None]], Awaitable[T]],
) -> AsyncGenerator[Event | tuple[T], None]:
    """Yield the events of `work` as they happen, then a 1-tuple with its result.

    The work runs in a task of its own and never waits for who reads its events: what it holds, a
    permit above all, is free again when it ends, however slow the reader.

    Closing the iterator (the caller went away) cancels the work and waits until it has stopped; use
    `contextlib.aclosing`, else that happens only when the garbage is collected.

    Args:
        work: gets what receives its events, which never blocks.
    """
    queue: asyncio.Queue[Event | None] = asyncio.Queue(maxsize=_BACKLOG)
    clock = asyncio.get_running_loop().time
    ended_at: float | None = None

    def emit(event: Event) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            queue.put_nowait(event)

    async def run() -> T:
        nonlocal ended_at
        try:
            return await work(emit)
        finally:
            ended_at = clock()
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    task = asyncio.ensure_future(run())
    try:
        while (event := await queue.get()) is not None:
            if ended_at is None or clock() - ended_at < _LAG_S:
                yield event
        yield (await task,)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            # Nobody may be left to hear of a failure.
            task.exception()
