"""The upscaler at work while the picture it enlarges is still composed, verified and judged."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from headshot.imaging.tiling import Tile, covered
from headshot.pipeline import pictures
from headshot.pipeline.ahead import Ahead
from headshot.pipeline.call import Call
from headshot.pipeline.degrade import StageCosts
from headshot.pipeline.engine import Engine

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


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
        # Where the picture is enlarged, None for everywhere.
        self._done: Mask | None = None
        self._work = Ahead[Image]("upscale")

    async def __aenter__(self) -> Enlarging:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._work.drop()

    async def begin(self, image: Image, needed: Mask | None = None) -> None:
        """Start with the picture that is likely to be the chosen one; drop another one's work.

        Args:
            image: uint8 [h, w, 3].
            needed: bool [h, w], the part that will be asked for; None for all of it.
        """
        if self._ahead and not self._work.concerns(image):
            await self._start(image, needed)

    async def result(self, image: Image, needed: Mask | None = None) -> Image:
        """Return uint8 [scale * h, scale * w, 3] of the picture uint8 [h, w, 3].

        Args:
            image: the picture.
            needed: bool [h, w], where the upscaler is needed; elsewhere the answer may be
                interpolated. None for everywhere.
        """
        whole = needed is None and self._done is not None
        if whole or not self._work.concerns(image):
            await self._start(image, needed)
        made = await self._work.result(image, lambda: self._enlarge(image, None))
        if needed is None or self._done is None:
            return made
        missing = needed & ~self._done
        if missing.any():
            made = await self._enlarge(image, self._plan(missing), made)
        return made

    def _plan(self, needed: Mask | None) -> list[Tile] | None:
        """Return the strips to enlarge, None for the whole."""
        if needed is None:
            return None
        overlap = self._engine.models.upscaler.overlap
        return pictures.plan_strips(needed, overlap) if pictures.pays(overlap) else None

    async def _start(self, image: Image, needed: Mask | None) -> None:
        await self._work.drop()
        plan = self._plan(needed)
        self._done = None if plan is None else covered(plan, (image.shape[0], image.shape[1]))
        await self._work.begin(image, lambda: self._enlarge(image, plan))

    async def _enlarge(
        self, image: Image, plan: list[Tile] | None, onto: Image | None = None
    ) -> Image:
        begun = time.perf_counter()
        with self._call.stage("upscale"):
            if plan is None:
                made = await pictures.upscale(self._engine, self._call, image)
            else:
                made = await pictures.upscale_strips(self._engine, self._call, image, plan, onto)
        self._costs.book("upscale", time.perf_counter() - begun)
        return made
