"""What is given up near the deadline, in which order, and when the work is refused."""

from __future__ import annotations

import pytest
from headshot.deadline import Deadline
from headshot.errors import DeadlineError
from headshot.imaging.renditions import PRESETS
from headshot.pipeline.degrade import (
    FEWER_CANDIDATES,
    FEWER_STEPS,
    SMALLER_RENDITIONS,
    Effort,
    StageCosts,
    enough_time,
    expected_seconds,
    fit,
)
from headshot.pipeline.files import share_of_usual


@pytest.fixture
def costs() -> StageCosts:
    made = StageCosts()
    seconds = {"denoise_step": 0.1, "matte": 0.1, "verify": 0.05, "upscale": 0.5}
    for stage, cost in {**seconds, "finish_upscaled": 0.4, "finish_plain": 0.1}.items():
        made.book(stage, cost)
    return made


def test_with_time_enough_nothing_is_given_up(costs):
    effort = Effort(3, 4, upscaled=True)
    assert fit(costs, effort, 10.0) == (effort, ())


def test_candidates_go_first_then_steps_then_the_enlargement(costs):
    wanted = Effort(3, 4, upscaled=True)
    effort, given_up = fit(costs, wanted, 1.9)
    assert (effort.candidates, effort.steps, given_up) == (1, 4, (FEWER_CANDIDATES,))
    effort, given_up = fit(costs, wanted, 1.5)
    assert effort.steps < 4
    assert given_up == (FEWER_CANDIDATES, FEWER_STEPS)
    effort, given_up = fit(costs, wanted, 0.6)
    assert effort == Effort(1, 2, upscaled=False)
    assert given_up == (FEWER_CANDIDATES, FEWER_STEPS, SMALLER_RENDITIONS)


def test_what_cannot_fit_is_refused_before_it_wastes_time(costs):
    with pytest.raises(DeadlineError) as caught:
        fit(costs, Effort(1, 4, upscaled=True), 0.3)
    assert caught.value.reason == "DEADLINE_TOO_SHORT"


def test_the_plan_that_is_returned_fits(costs):
    for remaining in (0.6, 1.0, 1.5, 2.0, 4.0):
        effort, _ = fit(costs, Effort(8, 8, upscaled=True), remaining)
        assert expected_seconds(costs, effort) <= remaining


def test_every_candidate_is_expected_to_take_its_steps_and_a_verification(costs):
    one, three = (expected_seconds(costs, Effort(n, 4, upscaled=True)) for n in (1, 3))
    assert three - one == pytest.approx(2 * (4 * 0.1 + 0.05))


def test_files_beyond_the_usual_set_are_expected_to_take_longer(costs):
    usual, large = Effort(1, 4, upscaled=True), Effort(1, 4, upscaled=True, files=10.0)
    more = expected_seconds(costs, large) - expected_seconds(costs, usual)
    assert more == pytest.approx(9 * 0.4)
    assert fit(costs, large, 3.0)[0] == Effort(1, 2, upscaled=False, files=10.0)


def test_the_share_of_files_counts_pixels_from_web_and_print_on():
    specs = {name: PRESETS[name] for name in ("web", "print", "avatar")}
    assert share_of_usual((specs["avatar"],)) == 1.0
    assert share_of_usual((specs["web"], specs["print"])) == 1.0
    assert share_of_usual((specs["print"],) * 5) == pytest.approx(4.0)


def test_before_anything_was_measured_everything_is_tried():
    effort = Effort(8, 50, upscaled=True)
    assert fit(StageCosts(), effort, 0.5) == (effort, ())


def test_extra_work_is_only_begun_where_it_is_expected_to_end(costs):
    again = Effort(1, 4, upscaled=True)
    assert enough_time(costs, again, Deadline.after(5.0))
    assert not enough_time(costs, again, Deadline.after(1.0))
