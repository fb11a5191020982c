"""The finished files, made while the draft is still verified and judged.

Nothing leaves by this: whoever asks for the result has let the draft pass.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headshot.imaging.background import BackgroundSpec
from headshot.imaging.provenance import Signer
from headshot.pipeline import files, rendering
from headshot.pipeline.ahead import Ahead
from headshot.pipeline.call import Call
from headshot.pipeline.degrade import Effort, StageCosts
from headshot.pipeline.engine import Engine
from headshot.pipeline.enlarging import Enlarging
from headshot.pipeline.rendering import Person
from headshot.pipeline.results import RenditionFile
from headshot.pipeline.styles import Style
from headshot.pipeline.wishes import Wish

Image = NDArray[np.uint8]
Finished = tuple[tuple[RenditionFile, ...], Image | None]


@dataclass(frozen=True)
class Finishing:
    """Enlarges the person where a file needs it, and writes all files of one request.

    Attributes:
        engine: models and threads.
        costs: where the time is booked.
        wish: what was asked for, resolved.
        style: named in the files.
        seed: of dither and grain.
        effort: of the request.
        signer: of content credentials, None where none is configured.
        intermediates: whether the enlarged picture is asked for itself, all of it.
        enlarging: enlarges the candidate.
        ahead: holds the work.
    """

    engine: Engine
    costs: StageCosts
    wish: Wish
    style: Style
    seed: int
    effort: Effort
    signer: Signer | None
    intermediates: bool
    enlarging: Enlarging
    ahead: Ahead[Finished]

    async def begin(self, call: Call, image: Image, person: Person, ground: BackgroundSpec) -> None:
        """Begin with what is likely to be returned; drop the files of another person.

        Args:
            call: the request.
            image: uint8 [canvas, canvas, 3], the candidate.
            person: cut out of it, at canvas size.
            ground: the concrete background.
        """
        await self.ahead.begin(person, lambda: self._finish(call, image, person, ground))

    async def result(
        self, call: Call, image: Image, person: Person, ground: BackgroundSpec
    ) -> Finished:
        """Return the files and the enlarged candidate, None where nothing was enlarged.

        Arguments are as of `begin`.
        """
        return await self.ahead.result(person, lambda: self._finish(call, image, person, ground))

    async def _finish(
        self, call: Call, image: Image, person: Person, ground: BackgroundSpec
    ) -> Finished:
        specs, workers = self.wish.specs, self.engine.workers
        crops = await workers.run(
            call.deadline, rendering.plan_crops, person, files.aspects_of(specs)
        )
        canvas = person.frame.canvas
        scale = self.engine.models.upscaler.scale if self.effort.upscaled else 1
        side = files.master_side(specs, crops, canvas, scale)
        enlarged = None
        if self.effort.upscaled and (side > canvas or self.intermediates):
            part = None
            if not self.intermediates and ground.kind != "blur":
                part = await workers.run(call.deadline, rendering.visible_part, person)
            enlarged = await self.enlarging.result(image, part)

        gone = threading.Event()

        def write() -> tuple[RenditionFile, ...]:
            master = person
            if side > canvas and enlarged is not None:
                master = rendering.enlarge_person(person, enlarged, side, workers.side_by_side)
            return files.make_files(
                master,
                crops,
                specs,
                ground,
                self.seed,
                self.style,
                call.request_id,
                self.signer,
                self.wish.steps(enlarged=side > canvas),
                made_up=self.engine.models.profile != "compact",
                deadline=call.deadline,
                gone=gone.is_set,
                side_by_side=workers.side_by_side,
            )

        begun = time.perf_counter()
        with call.stage("render"):
            try:
                made = await workers.run(call.deadline, write)
            finally:
                gone.set()
        name = "finish_upscaled" if side > canvas else "finish_plain"
        # For a usual set: what one caller asks for may not make everybody's headshots seem slow.
        self.costs.book(name, (time.perf_counter() - begun) / self.effort.files)
        return made, enlarged
