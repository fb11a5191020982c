"""Candidates that would be the same picture are made once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headshot.deadline import Deadline
from headshot.imaging.decode import DecodeLimits
from headshot.pipeline import service
from headshot.pipeline.call import Call
from headshot.pipeline.create import Maker
from headshot.pipeline.degrade import StageCosts
from headshot.pipeline.denoise import DenoisePlan, differing
from headshot.pipeline.requests import HeadshotOptions, PhotoInput
from headshot.pipeline.styles import load_styles
from headshot.pipeline.wishes import resolve
from headshot.telemetry.metrics import Metrics
from headshot.triton.contracts import DenoiserInfo
from prometheus_client import CollectorRegistry


def denoiser(sampler: str = "flow_euler", noise_scale: float = 0.0) -> DenoiserInfo:
    return cast(
        "Any",
        SimpleNamespace(
            canvas=640, steps=4, default_strength=0.9, sampler=sampler, noise_scale=noise_scale
        ),
    )


@pytest.mark.parametrize(
    ("strength", "asked", "made"),
    [(0.9, 8, 8), (0.05, 8, 1), (0.01, 3, 1), (0.06, 8, 3), (0.3, 8, 8), (0.05, 1, 1)],
)
def test_without_noise_only_strengths_that_differ_are_made(
    strength: float, asked: int, made: int
) -> None:
    assert differing(denoiser(), DenoisePlan(strength, 4, 1), asked) == made


@pytest.mark.parametrize(
    ("sampler", "noise_scale"), [("lcm", 0.0), ("ddim", 0.0), ("euler", 0.0), ("flow_euler", 1.0)]
)
def test_with_noise_every_candidate_is_a_picture_of_its_own(
    sampler: str, noise_scale: float
) -> None:
    assert differing(denoiser(sampler, noise_scale), DenoisePlan(0.05, 4, 1), 8) == 8


def test_a_headshot_is_planned_without_repeats_and_that_is_no_degrading() -> None:
    engine = SimpleNamespace(
        models=SimpleNamespace(denoiser=denoiser()), metrics=Metrics(CollectorRegistry())
    )
    maker = Maker(cast("Any", engine), StageCosts(), DecodeLimits(), 1600, 2, None, None)
    options = HeadshotOptions(candidates=8, strength=0.05)
    wish = resolve(load_styles(None).get("corporate-finance"), options, None)
    plan = maker._plan(options)
    effort, degraded = maker._effort(Call(Deadline.after(60)), wish, options, plan)
    assert (effort.candidates, degraded) == (1, ())


async def test_denoise_answers_with_the_candidates_that_were_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    asked: list[list[int]] = []

    async def ready(*_: Any, **__: Any) -> Any:
        best = SimpleNamespace(pixels=picture, face=None)
        identity = SimpleNamespace(vector=None)
        return SimpleNamespace(
            best=lambda: best, reference=picture, reports=(None,), template=lambda _: identity
        )

    async def run(*arguments: Any) -> list[np.ndarray]:
        asked.append(list(arguments[-1]))
        return [picture for _ in arguments[-1]]

    monkeypatch.setattr(service.capture, "examine_set", ready)
    monkeypatch.setattr(service.frame, "frame_photo", ready)
    monkeypatch.setattr(service.conditioning, "make_conditioning", ready)
    monkeypatch.setattr(service.denoise, "denoise", run)
    models = SimpleNamespace(denoiser=denoiser(), encoder=SimpleNamespace(recogniser="r"))
    pipeline = service.Pipeline(cast("Any", SimpleNamespace(models=models)), service.Settings())
    call = Call(Deadline.after(10))
    result = await pipeline.denoise(
        call, PhotoInput(b""), None, "", DenoisePlan(0.06, 4, 1), candidates=8
    )
    assert asked == [[0, 1, 2]]
    assert [round(item.strength, 4) for item in result.candidates] == [0.06, 0.0528, 0.05]
