"""The upscaler at work while the picture it enlarges is still composed, verified and judged."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from headshot.pipeline import pictures
from headshot.pipeline.call import Call
from headshot.pipeline.degrade import StageCosts
from headshot.pipeline.engine import Engine

Image = NDArray[np.uint8]


class Enlarging:
    """Enlarges one picture in the background; use as an async context manager.

    Args:
        engine: models and threads.
        call: the request.
        costs: where the time is booked.
        ahead: whether `begin` shall begin; False where nothing may need the enlarged picture.
    """

    def __init__(self, engine: Engine, call: Call, costs: StageCosts, *, ahead: bool) -> None:
        self._engine = engine
        self._call = call
        self._costs = costs
        self._ahead = ahead
        self._image: Image | None = None
        self._task: asyncio.Task[Image] | None = None

    async def __aenter__(self) -> Enlarging:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._drop()

    async def begin(self, image: Image) -> None:
        """Start with the picture that is likely to be the chosen one; drop another one's work."""
        if self._ahead and image is not self._image:
            await self._start(image)

    async def result(self, image: Image) -> Image:
        """Return uint8 [scale * h, scale * w, 3] of the picture uint8 [h, w, 3]."""
        if image is not self._image or self._task is None:
            await self._start(image)
        assert self._task is not None
        return await self._task

    async def _start(self, image: Image) -> None:
        await self._drop()
        self._image = image
        self._task = asyncio.create_task(self._enlarge(image), name="upscale")

    async def _enlarge(self, image: Image) -> Image:
        begun = time.perf_counter()
        with self._call.stage("upscale"):
            made = await pictures.upscale(self._engine, self._call, image)
        self._costs.book("upscale", time.perf_counter() - begun)
        return made

    async def _drop(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        # Whoever wanted the result has seen its error; for work that nobody wants any more it is
        # of no interest.
        if not task.cancelled():
            task.exception()
