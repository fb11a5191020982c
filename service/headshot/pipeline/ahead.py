"""Work that begins before it is known to be wanted, and is dropped when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """One piece of work at a time; use as an async context manager.

    Args:
        name: of its tasks.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._subject: object = None
        self._task: asyncio.Task[T] | None = None

    async def __aenter__(self) -> Ahead[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.drop()

    def concerns(self, subject: object) -> bool:
        """Tell whether work about this very object was begun last, and not stopped."""
        task = self._task
        return task is not None and not task.cancelled() and subject is self._subject

    async def begin(self, subject: object, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Begin the work about a subject unless it has begun; drop that about another."""
        if not self.concerns(subject):
            await self.drop()
            self._subject = subject
            self._task = asyncio.create_task(work(), name=self._name)

    async def result(self, subject: object, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the work about a subject comes to, begun now if it was not before.

        Raises:
            Exception: what the work raised.
        """
        await self.begin(subject, work)
        assert self._task is not None
        return await self._task

    async def drop(self) -> None:
        """Stop the work; what it came to, or failed with, is of no interest."""
        task, self._task, self._subject = self._task, None, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        # Whoever wanted the result has seen its error.
        if not task.cancelled():
            task.exception()
