"""One headshot from beginning to end: the steps of docs/architecture.md in order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headshot.errors import VerificationFailedError
from headshot.imaging import tone
from headshot.imaging.crops import LEAST_LONGER_SIDE
from headshot.imaging.decode import DecodeLimits
from headshot.imaging.matte import Guide
from headshot.imaging.provenance import Signer
from headshot.imaging.quality import QualityReport
from headshot.imaging.quality.team import TeamReport, compare_team
from headshot.pipeline import capture, conditioning, denoise, files, frame, rendering
from headshot.pipeline.ahead import Ahead
from headshot.pipeline.call import Call
from headshot.pipeline.candidates import Bench, Candidate
from headshot.pipeline.capture_advice import SetAdvice
from headshot.pipeline.degrade import Effort, StageCosts, fit
from headshot.pipeline.denoise import DenoisePlan
from headshot.pipeline.drafting import Draft, Drafting
from headshot.pipeline.engine import Engine
from headshot.pipeline.enlarging import Enlarging
from headshot.pipeline.finishing import Finished, Finishing
from headshot.pipeline.frame import Framed
from headshot.pipeline.identity import Template
from headshot.pipeline.requests import (
    HeadshotOptions,
    HeadshotRequest,
)
from headshot.pipeline.results import (
    CandidateImage,
    HeadshotResult,
    Intermediates,
    PhotoReport,
)
from headshot.pipeline.styles import Style
from headshot.pipeline.team import TeamMember
from headshot.pipeline.wishes import Wish, resolve

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Maker:
    """Makes headshots.

    Attributes:
        engine: models, threads, metrics.
        costs: what stages took lately.
        limits: of photos.
        working_side: photos are shrunk to this long side while they are decoded.
        most_regenerations: how often a candidate may be made again.
        cmyk: ICC profile for CMYK renditions, None where none is configured.
        signer: of content credentials, None where none is configured.
    """

    engine: Engine
    costs: StageCosts
    limits: DecodeLimits
    working_side: int
    most_regenerations: int
    cmyk: bytes | None
    signer: Signer | None

    async def make(
        self, call: Call, request: HeadshotRequest, style: Style, look: TeamMember | None
    ) -> HeadshotResult:
        """Make one headshot; see `Pipeline.create`."""
        options = request.options
        wish = await self.engine.workers.run(
            call.deadline, resolve, style, options, self.cmyk, self.limits
        )
        if look is not None:
            wish = replace(wish, tone=tone.for_team(wish.tone))
        template, framed, reports, advice = await self._frame(call, request, style, look)
        plan = self._plan(options)
        effort, degraded = self._effort(call, wish, options, plan)
        plan = replace(plan, steps=effort.steps)
        conditions = await conditioning.make_conditioning(
            self.engine, call, framed.reference, template.vector, style.id
        )
        bench = Bench(
            self.engine, self.costs, conditions, template, self.most_regenerations, effort
        )
        ahead = effort.upscaled and self._likely_upscaled(wish, options)
        async with (
            Enlarging(self.engine, call, self.costs, ahead=ahead) as enlarging,
            Ahead[tuple[Image, Guide]]("matte") as matting,
            Ahead[Finished]("finish") as finished,
        ):
            finishing = Finishing(
                self.engine,
                self.costs,
                wish,
                style,
                plan.seed,
                effort,
                self.signer,
                options.include_intermediates,
                enlarging,
                finished,
            )
            drafting = Drafting(
                self.engine,
                self.costs,
                bench,
                framed,
                wish,
                style,
                plan,
                look,
                enlarging,
                matting,
                finishing,
            )
            candidates = await bench.make(
                call, plan, list(range(effort.candidates)), drafting.begin
            )
            draft = await drafting.best(call, candidates)
            self._gate(draft, options)
            outputs, upscaled = await finishing.result(
                call, draft.candidate.image, draft.person, draft.ground.spec
            )
        result = HeadshotResult(
            renditions=outputs,
            verification=draft.verification,
            quality=draft.report,
            candidates=tuple(item.report(chosen=item is draft.candidate) for item in candidates),
            photos=reports,
            advice=advice,
            style_id=style.id,
            style_version=style.version,
            background=draft.ground.told,
            warnings=(
                *(str(note) for note in framed.frame.notes),
                *(str(note) for note in draft.ground.notes),
                *(f"QUALITY_{m.id.split('.')[1].upper()}" for m in draft.report.failed),
            ),
            degraded=degraded,
            profile=self.engine.models.profile,
            intermediates=await self._intermediates(
                call, options, framed, candidates, draft, upscaled
            ),
            team=None if look is None else await self._standing(call, draft, look),
        )
        self._count(draft)
        return result

    async def _frame(
        self, call: Call, request: HeadshotRequest, style: Style, look: TeamMember | None
    ) -> tuple[Template, Framed, tuple[PhotoReport, ...], tuple[SetAdvice, ...]]:
        """Return who the person is, the best photo framed, and what is told of the photos.

        Up to 16 photos at full working size: after this the framed one is enough.
        """
        async with Ahead[Image]("photo matte") as mattes:

            async def begin(pixels: Image) -> None:
                await mattes.begin(pixels, lambda: frame.photo_matte(self.engine, call, pixels))

            seen = await capture.examine_set(
                self.engine,
                call,
                request.photos,
                self.limits,
                self.working_side,
                request.template,
                begin=begin,
            )
            template = seen.template(self.engine.models.encoder.recogniser)
            if request.template is not None:
                template = replace(request.template, second=template.second)
            best = seen.best()
            with call.stage("frame"):
                matte = await mattes.result(
                    best.pixels, lambda: frame.photo_matte(self.engine, call, best.pixels)
                )
                framed = await frame.frame_photo(
                    self.engine,
                    call,
                    best.pixels,
                    best.face,
                    style.framing_spec(),
                    look,
                    matte,
                )
            return template, framed, seen.reports, seen.advice

    def _likely_upscaled(self, wish: Wish, options: HeadshotOptions) -> bool:
        """Tell whether an enlarged picture is worth beginning before the crops are known."""
        canvas = self.engine.models.denoiser.canvas
        return options.include_intermediates or wish.longest_side > canvas

    def _effort(
        self, call: Call, wish: Wish, options: HeadshotOptions, plan: DenoisePlan
    ) -> tuple[Effort, tuple[str, ...]]:
        """Return the effort that fits the deadline and what was given up for it."""
        denoiser = self.engine.models.denoiser
        wanted = Effort(
            denoise.differing(denoiser, plan, options.candidates),
            plan.steps,
            # How closely a photo is cropped is known later, and decides alone (`finishing`).
            upscaled=self._likely_upscaled(wish, options)
            or wish.longest_side > denoiser.canvas * LEAST_LONGER_SIDE,
            files=files.share_of_usual(wish.specs),
        )
        effort, degraded = fit(
            self.costs, wanted, call.deadline.remaining(), keep=options.no_degrade
        )
        self.engine.metrics.degraded([action.lower() for action in degraded])
        return effort, degraded

    def _plan(self, options: HeadshotOptions) -> DenoisePlan:
        """Return how candidates are denoised where time is no matter."""
        denoiser = self.engine.models.denoiser
        return DenoisePlan(
            strength=denoiser.default_strength if options.strength is None else options.strength,
            steps=options.steps or denoiser.steps,
            seed=options.seed,
            previews=options.previews,
        )

    def _gate(self, draft: Draft, options: HeadshotOptions) -> None:
        """Let nothing unverified leave unless the caller allowed it."""
        metrics = self.engine.metrics
        metrics.observe_similarity(draft.verification.similarity)
        metrics.verification("same_person" if draft.verification.same_person else "other_person")
        if draft.verification.same_person or options.allow_unverified:
            return
        metrics.headshot("VERIFICATION_FAILED")
        raise VerificationFailedError(
            "no candidate could be verified as the same person; send clearer photos, a lower "
            "strength, or set allow_unverified",
            metadata={
                "similarity": f"{draft.verification.similarity:.3f}",
                "threshold": f"{draft.verification.threshold:.3f}",
            },
        )

    def _count(self, draft: Draft) -> None:
        """Count a headshot whose files are all there: it is returned."""
        metrics = self.engine.metrics
        for measure in draft.report.failed:
            metrics.quality_failed(measure.id)
        metrics.observe_quality(_passed_shares(draft.report))
        metrics.headshot("verified" if draft.verification.same_person else "unverified")

    async def _standing(self, call: Call, draft: Draft, member: TeamMember) -> TeamReport:
        """Return how alike the team is, this headshot with it."""
        workers = self.engine.workers
        own = await workers.run(
            call.deadline, rendering.look_in_team, draft.person, draft.square, draft.crop
        )
        return await workers.run(call.deadline, compare_team, member.finish(own))

    async def _intermediates(
        self,
        call: Call,
        options: HeadshotOptions,
        framed: Framed,
        candidates: list[Candidate],
        draft: Draft,
        upscaled: Image | None,
    ) -> Intermediates | None:
        if not options.include_intermediates:
            return None

        def alpha() -> Image:
            return np.rint(draft.person.alpha * 255).astype(np.uint8)

        return Intermediates(
            framed.reference,
            tuple(CandidateImage(item.index, item.image, item.strength) for item in candidates),
            await self.engine.workers.run(call.deadline, alpha),
            upscaled,
        )


def _passed_shares(report: QualityReport) -> dict[str, float]:
    """Return the share of the measures of each layer that pass, 0 to 1."""
    layers = {measure.layer for measure in report.measures}
    return {
        layer.value: sum(m.passed for m in report.layer(layer)) / len(report.layer(layer))
        for layer in layers
    }
