"""The messages of a caller's stream, with an end to waiting for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from headshot.errors import StalledError, StoppingError

M = TypeVar("M")

# While the service stops, a stream on which nothing happens for so long ends.
_DRAIN_IDLE_S = 1.0


class Incoming(Generic[M]):
    """Reads one message after the other.

    Args:
        messages: what the caller sends.
        draining: set when the service stops.
    """

    def __init__(self, messages: AsyncIterator[M], draining: asyncio.Event) -> None:
        self._messages = aiter(messages)
        self._draining = draining

    async def next(self, idle_s: float, quiet_s: Callable[[], float]) -> M | None:
        """Return the next message, None at the end of the stream.

        Args:
            idle_s: seconds without anything happening after which the stream ends.
            quiet_s: for how many seconds nothing has happened; 0 while work is under way.

        Raises:
            StalledError: STREAM_IDLE.
            StoppingError: the service stops; a message that comes meanwhile is not taken.
        """
        reading: asyncio.Future[M | None] = asyncio.ensure_future(anext(self._messages, None))
        stopping = asyncio.ensure_future(self._draining.wait())
        try:
            while not reading.done():
                left = self._limit(idle_s) - quiet_s()
                if left <= 0:
                    raise self._silence(idle_s)
                awaited: list[asyncio.Future[Any]] = [reading]
                if not stopping.done():
                    awaited.append(stopping)
                await asyncio.wait(awaited, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            message = reading.result()
            if message is not None and self._draining.is_set():
                raise self._stopping()
            return message
        finally:
            for task in (reading, stopping):
                task.cancel()
            await asyncio.wait((reading, stopping))

    def _limit(self, idle_s: float) -> float:
        return min(idle_s, _DRAIN_IDLE_S) if self._draining.is_set() else idle_s

    @staticmethod
    def _stopping() -> StoppingError:
        return StoppingError("the service stops; send what is left in a new call")

    def _silence(self, idle_s: float) -> StalledError | StoppingError:
        if self._draining.is_set():
            return self._stopping()
        return StalledError(
            f"nothing came for {idle_s:.0f} s; end the stream when there is no more to send",
            reason="STREAM_IDLE",
        )
