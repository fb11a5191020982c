"""The draft: a candidate cut out, composed, verified and judged at the size of the canvas."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import background, framing
from headshot.imaging.background import BackgroundChoice
from headshot.imaging.matte import Guide
from headshot.imaging.quality import QualityReport
from headshot.pipeline import pictures, rendering, verify
from headshot.pipeline.ahead import Ahead
from headshot.pipeline.call import Call
from headshot.pipeline.candidates import Bench, Candidate
from headshot.pipeline.degrade import StageCosts
from headshot.pipeline.denoise import DenoisePlan
from headshot.pipeline.engine import Engine
from headshot.pipeline.enlarging import Enlarging
from headshot.pipeline.finishing import Finishing
from headshot.pipeline.frame import Framed
from headshot.pipeline.rendering import Person
from headshot.pipeline.results import Verification
from headshot.pipeline.styles import Style
from headshot.pipeline.team import TeamMember
from headshot.pipeline.wishes import Wish

Image = NDArray[np.uint8]

# Measures that another strength can mend, and by which factor it is changed then.
_REMEDIES = {"realism.texture_kept": 0.5, "realism.detail_kept": 0.5, "realism.noise": 1.5}


@dataclass(frozen=True)
class Draft:
    """The chosen candidate, cut out and judged at the size of the canvas.

    Attributes:
        candidate: the chosen one.
        person: toned and cut out at canvas size.
        ground: the concrete background.
        square: uint8 [h, w, 3], the composed picture.
        crop: what it shows of the canvas.
        verification: of the composed picture.
        report: its quality.
    """

    candidate: Candidate
    person: Person
    ground: BackgroundChoice
    square: Image
    crop: framing.Crop
    verification: Verification
    report: QualityReport


@dataclass(frozen=True)
class Drafting:
    """Makes the draft of one request.

    Attributes:
        engine: models, threads, metrics.
        costs: what stages took lately.
        bench: makes candidates again.
        framed: the photo on the canvas.
        wish: what was asked for, resolved.
        style: the style guide.
        plan: how candidates were denoised.
        look: the team that the person belongs to, None where there is none.
        enlarging: enlarges the candidate while its draft is made.
        matting: holds the candidate's matte, which is begun while the candidate is verified.
        finishing: writes the files while the draft is verified and judged.
    """

    engine: Engine
    costs: StageCosts
    bench: Bench
    framed: Framed
    wish: Wish
    style: Style
    plan: DenoisePlan
    look: TeamMember | None
    enlarging: Enlarging
    matting: Ahead[tuple[Image, Guide]]
    finishing: Finishing

    async def begin(self, call: Call, image: Image) -> None:
        """Begin with what every draft of a candidate needs, before it is known to be the person.

        Args:
            call: the request.
            image: uint8 [canvas, canvas, 3], the candidate.
        """
        await self.enlarging.begin(image, await self._likely_part(call))
        await self.matting.begin(image, lambda: self._matte(call, image))

    async def best(self, call: Call, candidates: list[Candidate]) -> Draft:
        """Judge the best candidate; make it again once when another strength may mend it."""
        best = max(candidates, key=lambda item: (item.verification.similarity, -item.index))
        draft = await self._draft(call, best)
        remedy = next((m.id for m in draft.report.failed if m.id in _REMEDIES), None)
        if remedy is None or self.bench.most_regenerations == 0:
            return draft
        again_plan = replace(
            self.plan, strength=min(1.0, best.strength * _REMEDIES[remedy]), spread=0.0
        )
        if again_plan.strength_of(best.index) == best.strength:
            # As far as strength goes: the same picture would be made again.
            return draft
        if not self.bench.time_to_remake(call, 1):
            # A headshot with a flaw that is told is better than none.
            return draft
        self.engine.metrics.quality_rejected(remedy)
        before = replace(best)
        await self.bench.remake(call, best, again_plan, remedy.upper())
        again = await self._draft(call, best)
        if again.verification.same_person and len(again.report.failed) < len(draft.report.failed):
            return again
        best.take(before)
        return draft

    async def _draft(self, call: Call, candidate: Candidate) -> Draft:
        """Cut the candidate out, compose it at canvas size, verify and measure that picture."""
        image = candidate.image
        await self.begin(call, image)
        matte = await self.matting.result(image, lambda: self._matte(call, image))
        with call.stage("compose"):
            person = await self._cut_out(call, image, *matte)
            whole = framing.plan_crop(self.framed.frame, person.alpha, 1.0)
            ground = await self._background(call, person, whole)
            await self.finishing.begin(call, image, person, ground.spec)
            side = round(whole.width)
            square = await self.engine.workers.run(
                call.deadline,
                rendering.compose_crop,
                person,
                whole,
                (side, side),
                ground.spec,
                self.plan.seed,
                self.style.light_wrap,
            )
        with call.stage("verify"):
            # The square shows the canvas as it is: the candidate's face is where it was found.
            face = candidate.face and candidate.face.seen_through(whole.matrix((side, side)))
            found = await verify.recognise(self.engine, call, square, face)
            verification = verify.compare(self.engine, self.bench.template, found)
        with call.stage("quality"):
            report = await self.engine.workers.run(
                call.deadline,
                rendering.judge,
                person,
                square,
                whole,
                ground.spec,
                self.framed.reference,
                verification.similarity,
                verification.threshold,
                self.style.bounds(),
                self.plan.seed,
                verification.second,
            )
        return Draft(candidate, person, ground, square, whole, verification, report)

    async def _matte(self, call: Call, image: Image) -> tuple[Image, Guide]:
        begun = time.perf_counter()
        with call.stage("matte"):
            found = await pictures.matte_and_guide(self.engine, call, image)
        self.costs.book("matte", time.perf_counter() - begun)
        return found

    async def _likely_part(self, call: Call) -> NDArray[np.bool_] | None:
        """Return what will be asked for of the enlarged picture, None for all of it."""
        if self.wish.ground.kind == "blur":  # with the scene kept in sight
            return None
        framed = self.framed
        return await self.engine.workers.run(
            call.deadline, rendering.likely_part, framed.opinion, framed.frame.canvas
        )

    async def _cut_out(self, call: Call, image: Image, alpha_small: Image, guide: Guide) -> Person:
        """Tone the candidate and cut it out."""
        framed, wish, side_by_side = self.framed, self.wish, self.engine.workers.side_by_side

        def cut() -> Person:
            matte = rendering.decide_matte(
                image, alpha_small, framed.frame, framed.opinion, guide, side_by_side
            )
            return rendering.cut_person(
                image,
                alpha_small,
                framed.frame,
                wish.tone,
                wish.retouch,
                framed.reference,
                matte,
                side_by_side,
            )

        return await self.engine.workers.run(call.deadline, cut)

    async def _background(
        self, call: Call, person: Person, whole: framing.Crop
    ) -> BackgroundChoice:
        """Return the concrete background: the person's own choice, or the team's."""
        ground = background.choose(self.wish.ground, person.tones)
        if ground.spec.kind in ("blur", "image"):
            notes = await self.engine.workers.run(
                call.deadline, rendering.ground_notes, person, whole, ground.spec
            )
            return replace(ground, notes=notes)
        if self.look is None or self.wish.ground.kind != "auto":
            return ground
        shared = await self.look.background(ground.spec)
        # The team's background, but this person's own warnings.
        return replace(background.choose(shared, person.tones), reason="chosen for the team")
