"""For which files the upscaler is planned, and for which it begins before the crops are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from headshot.deadline import Deadline
from headshot.errors import DeadlineError
from headshot.imaging.decode import DecodeLimits
from headshot.pipeline.call import Call
from headshot.pipeline.create import Maker
from headshot.pipeline.degrade import SMALLER_RENDITIONS, StageCosts
from headshot.pipeline.requests import HeadshotOptions, RenditionRequest
from headshot.pipeline.styles import load_styles
from headshot.pipeline.wishes import resolve
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry

DENOISER = SimpleNamespace(
    canvas=640, steps=4, default_strength=0.9, sampler="flow_euler", noise_scale=0.0
)
MODELS = SimpleNamespace(denoiser=DENOISER)


def maker(costs: StageCosts) -> Maker:
    engine = SimpleNamespace(models=MODELS, metrics=Metrics(CollectorRegistry()))
    return Maker(cast("Any", engine), costs, DecodeLimits(), 1600, 2, None, None)


@pytest.mark.parametrize(
    ("side", "intermediates", "planned", "ahead"),
    [
        (1200, False, True, True),
        (640, False, True, False),  # Of a tight photo's crop: 640 of 600 pixels.
        (400, False, True, False),
        (320, False, False, False),  # No crop is smaller.
        (320, True, True, True),
    ],
)
def test_the_upscaler_is_planned_wherever_a_crop_may_need_it(
    side: int, intermediates: bool, planned: bool, ahead: bool
) -> None:
    options = HeadshotOptions(
        renditions=(RenditionRequest("own", width=side),), include_intermediates=intermediates
    )
    wish = resolve(load_styles(None).get("corporate-finance"), options, None)
    work = maker(StageCosts())
    plan = work._plan(options)
    effort, degraded = work._effort(Call(Deadline.after(60)), wish, options, plan)
    assert (effort.upscaled, degraded) == (planned, ())
    assert work._likely_upscaled(wish, options) == ahead


def test_a_file_that_may_need_the_upscaler_is_made_without_where_time_is_short() -> None:
    costs = StageCosts()
    costs.book("upscale", 5.0)
    options = HeadshotOptions(renditions=(RenditionRequest("own", width=640),), steps=2)
    wish = resolve(load_styles(None).get("corporate-finance"), options, None)
    work = maker(costs)
    plan = work._plan(options)
    effort, degraded = work._effort(Call(Deadline.after(4.0)), wish, options, plan)
    assert (effort.upscaled, degraded) == (False, (SMALLER_RENDITIONS,))


def test_who_wants_nothing_given_up_is_refused_where_time_is_short() -> None:
    costs = StageCosts()
    costs.book("upscale", 5.0)
    options = HeadshotOptions(renditions=(RenditionRequest("own", width=640),), no_degrade=True)
    wish = resolve(load_styles(None).get("corporate-finance"), options, None)
    work = maker(costs)
    plan = work._plan(options)
    with pytest.raises(DeadlineError) as caught:
        work._effort(Call(Deadline.after(4.0)), wish, options, plan)
    assert caught.value.reason == "DEADLINE_TOO_SHORT"
    effort, degraded = work._effort(Call(Deadline.after(10.0)), wish, options, plan)
    assert (effort.upscaled, degraded) == (True, ())
