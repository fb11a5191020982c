"""Which candidates are made again, and when that is left: for want of time, or as it is in vain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.pipeline import candidates
from headshot.pipeline.call import Call
from headshot.pipeline.candidates import Bench, Candidate
from headshot.pipeline.degrade import Effort, StageCosts
from headshot.pipeline.denoise import LEAST_STRENGTH, DenoisePlan
from headshot.pipeline.drafting import Draft, Drafting
from headshot.pipeline.results import Verification
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry

PIXEL = np.zeros((1, 1, 3), np.uint8)


def verdict(*, same_person: bool) -> Verification:
    return Verification(0.6 if same_person else 0.1, 0.35, "recogniser", 1e-4)


class Models:
    """Stands for the denoiser and the recogniser; the first candidates are verified."""

    def __init__(self, verified: int) -> None:
        self.strengths: list[list[float]] = []
        self._verified = verified
        self._seen = 0

    async def denoise(
        self, _engine: Any, _call: Call, _seen: Any, plan: DenoisePlan, indices: list[int]
    ) -> list[np.ndarray]:
        self.strengths.append([round(plan.strength_of(index), 4) for index in indices])
        return [PIXEL for _ in indices]

    async def recognise(self, _engine: Any, _call: Call, _image: np.ndarray) -> None:
        return None

    def compare(self, *_: Any) -> Verification:
        self._seen += 1
        return verdict(same_person=self._seen <= self._verified)


@pytest.fixture
def costs() -> StageCosts:
    made = StageCosts()
    seconds = {"denoise_step": 0.1, "matte": 0.1, "verify": 0.1, "upscale": 0.5}
    for stage, cost in {**seconds, "finish_upscaled": 1.0, "finish_plain": 0.5}.items():
        made.book(stage, cost)
    return made


def bench(
    monkeypatch: pytest.MonkeyPatch,
    models: Models,
    costs: StageCosts | None = None,
    files: float = 1.0,
) -> Bench:
    monkeypatch.setattr(candidates.denoise, "denoise", models.denoise)
    monkeypatch.setattr(candidates.verify, "recognise", models.recognise)
    monkeypatch.setattr(candidates.verify, "compare", models.compare)
    engine = cast("Any", SimpleNamespace(metrics=Metrics(CollectorRegistry())))
    effort = Effort(2, 4, upscaled=True, files=files)
    nothing = cast("Any", None)
    return Bench(engine, costs or StageCosts(), nothing, nothing, 2, effort)


async def test_who_is_not_the_person_is_made_again_closer_to_the_photo(monkeypatch) -> None:
    models = Models(verified=0)
    plan = DenoisePlan(0.4, 4, 1, spread=0.0)
    (made,) = await bench(monkeypatch, models).make(Call(Deadline.after(60)), plan, [0])
    assert models.strengths == [[0.4], [0.2], [0.1]]
    assert made.regenerations == 2


async def test_at_the_least_strength_the_same_picture_is_not_made_again(monkeypatch) -> None:
    models = Models(verified=0)
    plan = DenoisePlan(LEAST_STRENGTH, 4, 1)
    (made,) = await bench(monkeypatch, models).make(Call(Deadline.after(60)), plan, [0])
    assert models.strengths == [[LEAST_STRENGTH]]
    assert (made.regenerations, made.reasons) == (0, [])


@pytest.mark.parametrize(("files", "loops"), [(1.0, 3), (8.0, 1)])
async def test_a_candidate_is_made_again_only_where_the_files_are_still_in_time(
    monkeypatch, costs: StageCosts, files: float, loops: int
) -> None:
    models = Models(verified=1)
    call = Call(Deadline.after(8.0))  # Again and the files: 2.1 s of a usual set, 9.1 of eight.
    work = bench(monkeypatch, models, costs, files)
    # What this test's models book is next to nothing.
    monkeypatch.setattr(work.costs, "book", lambda *_: None)
    await work.make(call, DenoisePlan(0.4, 4, 1), [0, 1])
    assert len(models.strengths) == loops


def drafting(work: Bench, strength: float, failed: str) -> tuple[Drafting, list[Candidate]]:
    """Return a drafting whose drafts all fail one measure, and its only candidate."""
    made = [Candidate(0, PIXEL, strength, verdict(same_person=True))]
    report = SimpleNamespace(failed=[SimpleNamespace(id=failed)])

    class Flawed(Drafting):
        async def _draft(self, call: Call, candidate: Candidate) -> Draft:
            return cast("Any", SimpleNamespace(report=report, verification=candidate.verification))

    nothing = cast("Any", None)
    plan = DenoisePlan(strength, 4, 1)
    flawed = Flawed(work.engine, work.costs, work, nothing, nothing, nothing, plan, None, nothing)
    return flawed, made


@pytest.mark.parametrize(
    ("strength", "flaw", "loops"),
    [
        (0.4, "realism.noise", [[0.6]]),
        (1.0, "realism.noise", []),
        (0.4, "realism.texture_kept", [[0.2]]),
        (LEAST_STRENGTH, "realism.texture_kept", []),
    ],
)
async def test_a_flaw_is_worked_on_only_where_strength_can_still_change(
    monkeypatch, strength: float, flaw: str, loops: list[list[float]]
) -> None:
    models = Models(verified=1)
    work = bench(monkeypatch, models)
    flawed, made = drafting(work, strength, flaw)
    await flawed.best(Call(Deadline.after(60)), made)
    assert models.strengths == loops
    assert made[0].regenerations == len(loops)


@pytest.mark.parametrize(("files", "loops"), [(1.0, 1), (8.0, 0)])
async def test_a_flaw_is_left_and_told_where_the_files_would_be_late(
    monkeypatch, costs: StageCosts, files: float, loops: int
) -> None:
    models = Models(verified=1)
    flawed, made = drafting(bench(monkeypatch, models, costs, files), 0.4, "realism.noise")
    await flawed.best(Call(Deadline.after(9.3)), made)
    assert len(models.strengths) == loops
