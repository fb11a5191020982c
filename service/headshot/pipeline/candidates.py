"""Candidates made, verified, and made again with less strength while they are not the person."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from headshot.pipeline import denoise, verify
from headshot.pipeline.call import Call
from headshot.pipeline.concurrency import together
from headshot.pipeline.degrade import Effort, StageCosts, enough_time
from headshot.pipeline.denoise import Conditioning, DenoisePlan
from headshot.pipeline.detect import Face
from headshot.pipeline.engine import Engine
from headshot.pipeline.identity import Template
from headshot.pipeline.results import CandidateReport, Verification

Image = NDArray[np.uint8]

# A candidate that is not the person is made again at its own strength times this.
WEAKER = 0.5
NOT_SAME_PERSON = "NOT_SAME_PERSON"


@dataclass
class Candidate:
    """One candidate and what became of it; `face` was verified, None where there is none."""

    index: int
    image: Image
    strength: float
    verification: Verification
    face: Face | None
    regenerations: int = 0
    reasons: list[str] = field(default_factory=list)

    def take(self, other: Candidate) -> None:
        """Become another picture of the same candidate."""
        self.image, self.strength = other.image, other.strength
        self.verification, self.face = other.verification, other.face

    def report(self, *, chosen: bool) -> CandidateReport:
        """Return what callers see of it."""
        return CandidateReport(
            self.index,
            self.strength,
            self.verification,
            chosen,
            self.regenerations,
            tuple(self.reasons),
        )


@dataclass(frozen=True)
class Bench:
    """Makes candidates of one framed photo.

    Attributes:
        engine: models and threads.
        costs: where the times of steps and verifications are booked.
        conditioning: the denoiser's other inputs.
        template: who the candidates must be.
        most_regenerations: how often one candidate may be made again.
        effort: of the whole request, files included: what is made again must leave time for them.
    """

    engine: Engine
    costs: StageCosts
    conditioning: Conditioning
    template: Template
    most_regenerations: int
    effort: Effort

    async def make(
        self,
        call: Call,
        plan: DenoisePlan,
        indices: list[int],
        begin: Callable[[Call, Image], Awaitable[None]] | None = None,
    ) -> list[Candidate]:
        """Make candidates side by side and make again those that are not the person.

        Args:
            call: the request.
            plan: how.
            indices: the candidates' numbers.
            begin: told the picture of an only candidate before it is verified, so that work on it
                may begin.
        """
        only = begin if len(indices) == 1 else None
        made = await self._once(call, dict.fromkeys(indices, plan), only)
        for _ in range(self.most_regenerations):
            # At the least strength the same picture would be made again.
            failed = [
                item
                for item in made
                if not item.verification.same_person and item.strength > denoise.LEAST_STRENGTH
            ]
            if not failed:
                break
            verified = any(item.verification.same_person for item in made)
            if verified and not self.time_to_remake(call, len(failed)):
                # One candidate is the person already: in time with fewer beats late with all.
                break
            for item in failed:
                item.reasons.append(NOT_SAME_PERSON)
            # Each from its own strength, which holds the spread of the candidates already.
            plans = {
                item.index: replace(plan, strength=item.strength * WEAKER, spread=0.0)
                for item in failed
            }
            again = await self._once(call, plans, only)
            for old, new in zip(failed, again, strict=True):
                self._replace(old, new)
        return made

    def time_to_remake(self, call: Call, candidates: int) -> bool:
        """Tell whether so many candidates can be made again and the files still be in time."""
        effort = replace(self.effort, candidates=candidates)
        return enough_time(self.costs, effort, call.deadline)

    async def remake(self, call: Call, candidate: Candidate, plan: DenoisePlan, why: str) -> None:
        """Make one candidate again with another plan, for a reason that is told."""
        candidate.reasons.append(why)
        (new,) = await self._once(call, {candidate.index: plan})
        self._replace(candidate, new)

    def _replace(self, old: Candidate, new: Candidate) -> None:
        old.take(new)
        old.regenerations += 1
        self.engine.metrics.regenerated()

    async def _once(
        self,
        call: Call,
        plans: Mapping[int, DenoisePlan],
        begin: Callable[[Call, Image], Awaitable[None]] | None = None,
    ) -> list[Candidate]:
        """Make and verify candidates; `plans` tells how, by their numbers."""
        begun = time.perf_counter()
        with call.stage("denoise"):
            images = await denoise.denoise(self.engine, call, self.conditioning, plans)
        steps = sum(plan.steps for plan in plans.values())
        self.costs.book("denoise_step", (time.perf_counter() - begun) / steps)
        if begin is not None:
            await begin(call, images[0])
        begun = time.perf_counter()
        with call.stage("verify"):
            seen = await together(verify.recognise(self.engine, call, image) for image in images)
        self.costs.book("verify", (time.perf_counter() - begun) / len(plans))
        return [
            Candidate(
                index,
                image,
                plan.strength_of(index),
                verify.compare(self.engine, self.template, found),
                found.face if found is not None else None,
            )
            for (index, plan), image, found in zip(plans.items(), images, seen, strict=True)
        ]
