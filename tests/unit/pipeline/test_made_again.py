"""Which candidates are made again, and when that is left: for want of time, or as it is in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from headshot.pipeline.detect import Face
from headshot.pipeline.drafting import Draft, Drafting
from headshot.pipeline.results import Verification
from headshot.pipeline.verify import Recognised
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry


def picture(number: int) -> np.ndarray:
    """Return the picture that was made as this number, told by its colour."""
    return np.full((1, 1, 3), number, np.uint8)


def verdict(*, same_person: bool) -> Verification:
    return Verification(0.6 if same_person else 0.1, 0.35, "recogniser", 1e-4)


class Models:
    """Stands for the denoiser and the recogniser.

    Args:
        verified: numbers of the pictures, as they are made, that show the person.
    """

    def __init__(self, *verified: int) -> None:
        self.strengths: list[list[float]] = []
        self._verified = verified
        self._made = 0

    async def denoise(
        self, _engine: Any, _call: Call, _seen: Any, plans: Mapping[int, DenoisePlan]
    ) -> list[np.ndarray]:
        self.strengths.append([round(plan.strength_of(one), 4) for one, plan in plans.items()])
        first, self._made = self._made, self._made + len(plans)
        return [picture(number) for number in range(first, self._made)]

    async def recognise(self, _engine: Any, _call: Call, image: np.ndarray) -> Recognised:
        """Return who is seen: the number of the picture, and a face as far from the left."""
        number = float(image[0, 0, 0])
        face = Face(np.full(4, number, np.float32), np.zeros((5, 2), np.float32), 1.0)
        return Recognised(np.full(1, number, np.float32), face=face)

    def compare(self, _engine: Any, _template: Any, found: Recognised) -> Verification:
        return verdict(same_person=int(found.vector[0]) in self._verified)


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
    models = Models()
    plan = DenoisePlan(0.4, 4, 1, spread=0.0)
    (made,) = await bench(monkeypatch, models).make(Call(Deadline.after(60)), plan, [0])
    assert models.strengths == [[0.4], [0.2], [0.1]]
    assert made.regenerations == 2


@pytest.mark.parametrize(
    ("indices", "rounds"),
    [
        ([0, 1, 2, 3], [[0.8, 0.704, 0.608, 0.512], [0.4, 0.352, 0.304, 0.256]]),
        ([3], [[0.512], [0.256]]),
    ],
)
async def test_each_candidate_that_fails_is_made_again_at_half_its_own_strength(
    monkeypatch, indices: list[int], rounds: list[list[float]]
) -> None:
    models = Models()
    work = bench(monkeypatch, models)
    made = await work.make(Call(Deadline.after(60)), DenoisePlan(0.8, 4, 1), indices)
    assert models.strengths == [*rounds, [strength / 2 for strength in rounds[1]]]
    assert [one.index for one in made] == indices
    assert [one.strength for one in made] == pytest.approx(models.strengths[-1])


async def test_no_candidate_is_made_again_at_less_than_the_least_strength(monkeypatch) -> None:
    models = Models()
    plan = DenoisePlan(0.08, 4, 1)
    (made,) = await bench(monkeypatch, models).make(Call(Deadline.after(60)), plan, [0])
    assert models.strengths == [[0.08], [LEAST_STRENGTH]]
    assert made.strength == LEAST_STRENGTH


async def test_a_candidate_that_is_the_person_at_last_is_told_so_and_left_alone(
    monkeypatch,
) -> None:
    models = Models(1, 2)  # The second candidate at once, the first when it is made again.
    plan = DenoisePlan(0.4, 4, 1, spread=0.0)
    again, once = await bench(monkeypatch, models).make(Call(Deadline.after(60)), plan, [0, 1])
    assert models.strengths == [[0.4, 0.4], [0.2]]
    assert again.verification.same_person
    assert (int(again.image[0, 0, 0]), again.strength, again.regenerations) == (2, 0.2, 1)
    assert again.reasons == [candidates.NOT_SAME_PERSON]
    assert (int(once.image[0, 0, 0]), once.regenerations, once.reasons) == (1, 0, [])


async def test_at_the_least_strength_the_same_picture_is_not_made_again(monkeypatch) -> None:
    models = Models()
    plan = DenoisePlan(LEAST_STRENGTH, 4, 1)
    (made,) = await bench(monkeypatch, models).make(Call(Deadline.after(60)), plan, [0])
    assert models.strengths == [[LEAST_STRENGTH]]
    assert (made.regenerations, made.reasons) == (0, [])


@pytest.mark.parametrize(
    ("verified", "files", "loops"),
    [
        ([0], 1.0, 3),
        ([0], 8.0, 1),
        ([], 8.0, 3),  # Without the person there is no headshot: what is late may still be one.
    ],
)
async def test_a_candidate_is_made_again_only_where_the_files_are_in_time_or_none_is_the_person(
    monkeypatch, costs: StageCosts, verified: list[int], files: float, loops: int
) -> None:
    models = Models(*verified)
    call = Call(Deadline.after(8.0))  # Again and the files: 2.1 s of a usual set, 9.1 of eight.
    work = bench(monkeypatch, models, costs, files)
    # What this test's models book is next to nothing.
    monkeypatch.setattr(work.costs, "book", lambda *_: None)
    await work.make(call, DenoisePlan(0.4, 4, 1), [0, 1])
    assert len(models.strengths) == loops


async def test_the_time_of_a_step_and_of_a_verification_is_booked_for_each_candidate(
    monkeypatch,
) -> None:
    clock = SimpleNamespace(now=100.0)
    models = Models(0, 1, 2, 3)

    async def denoise(*args: Any) -> list[np.ndarray]:
        clock.now += 8.0
        return await models.denoise(*args)

    async def recognise(*args: Any) -> Recognised:
        clock.now += 0.5
        return await models.recognise(*args)

    work = bench(monkeypatch, models)
    monkeypatch.setattr(candidates.denoise, "denoise", denoise)
    monkeypatch.setattr(candidates.verify, "recognise", recognise)
    monkeypatch.setattr(candidates, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    await work.make(Call(Deadline.after(60)), DenoisePlan(0.4, 4, 1), [0, 1, 2, 3])
    assert work.costs.expect("denoise_step") == pytest.approx(8.0 / (4 * 4))
    assert work.costs.expect("verify") == pytest.approx(0.5)


def drafting(
    work: Bench, strength: float, failed: str, again: Sequence[str] | None = None
) -> tuple[Drafting, list[Candidate]]:
    """Return a drafting and its only candidate, which is the person.

    Its first draft fails the measure `failed`, all others fail `again`, or the same.
    """
    made = [Candidate(0, picture(0), strength, verdict(same_person=True), None)]
    flaws = iter([[failed], [failed] if again is None else again])

    class Flawed(Drafting):
        async def _draft(self, call: Call, candidate: Candidate) -> Draft:
            report = SimpleNamespace(failed=[SimpleNamespace(id=name) for name in next(flaws)])
            return cast(
                "Any",
                SimpleNamespace(
                    report=report, verification=candidate.verification, square=candidate.image
                ),
            )

    nothing = cast("Any", None)
    plan = DenoisePlan(strength, 4, 1)
    flawed = Flawed(work.engine, work.costs, work, *[nothing] * 3, plan, None, *[nothing] * 3)
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
    models = Models(0)
    work = bench(monkeypatch, models)
    flawed, made = drafting(work, strength, flaw)
    await flawed.best(Call(Deadline.after(60)), made)
    assert models.strengths == loops
    assert made[0].regenerations == len(loops)


@pytest.mark.parametrize(
    ("verified", "again", "kept"),
    [
        ([0], [], 1),
        ([0], ["realism.noise"], 0),  # No better.
        ([], [], 0),  # Another person, however fair.
    ],
)
async def test_a_repair_is_taken_only_where_it_is_the_person_and_has_fewer_flaws(
    monkeypatch, verified: list[int], again: list[str], kept: int
) -> None:
    models = Models(*verified)
    repairing, (candidate,) = drafting(bench(monkeypatch, models), 0.4, "realism.noise", again)
    first, verified_first = candidate.image, candidate.verification
    draft = await repairing.best(Call(Deadline.after(60)), [candidate])
    assert models.strengths == [[0.6]]
    assert draft.verification.same_person
    assert len(draft.report.failed) == 1 - kept
    # What is told of the candidate is what the draft shows.
    assert draft.square is candidate.image
    assert (candidate.image is first) == (not kept)
    assert (candidate.verification is verified_first) == (not kept)
    assert (candidate.face is None) == (not kept)
    assert candidate.strength == pytest.approx(0.6 if kept else 0.4)
    assert (candidate.regenerations, candidate.reasons) == (1, ["REALISM.NOISE"])


@pytest.mark.parametrize(("files", "loops"), [(1.0, 1), (8.0, 0)])
async def test_a_flaw_is_left_and_told_where_the_files_would_be_late(
    monkeypatch, costs: StageCosts, files: float, loops: int
) -> None:
    models = Models(0)
    flawed, made = drafting(bench(monkeypatch, models, costs, files), 0.4, "realism.noise")
    await flawed.best(Call(Deadline.after(9.3)), made)
    assert len(models.strengths) == loops
