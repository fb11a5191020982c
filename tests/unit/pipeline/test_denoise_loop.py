"""The loop of one candidate: which noise it draws, what the model sees, what previews show."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import simplejpeg
from headshot.deadline import Deadline
from headshot.pipeline import latents
from headshot.pipeline.call import Call, Event, ProgressEvent
from headshot.pipeline.denoise import Conditioning, DenoisePlan, denoise
from headshot.pipeline.engine import Engine
from headshot.pipeline.sampler import Latent, alphas_cumprod, make_sampler, noise
from headshot.telemetry.metrics import Metrics
from prometheus_client import CollectorRegistry

FACTOR = 2
PICTURE = np.tile(np.array([200, 120, 60], np.uint8), (8, 8, 1))
REFERENCE = latents.pixel_unshuffle(PICTURE, FACTOR)

Predict = Callable[[Latent, float], Latent]


def to_dark(sample: Latent, _timestep: float) -> Latent:
    """Stand for a network: any smooth function of the sample."""
    return np.tanh(sample * np.float32(0.7) + np.float32(0.1))


def exact(sample: Latent, timestep: float) -> Latent:
    """Return the very noise that lies over the reference picture."""
    abar = np.float32(alphas_cumprod()[int(timestep)])
    return (sample - np.sqrt(abar) * REFERENCE) / np.sqrt(1 - abar)


class Triton:
    """Predicts by a function; keeps what it was shown, by the candidate's timesteps."""

    def __init__(self, sampler: str, predict: Predict) -> None:
        self.predict = predict
        self.seen: list[np.ndarray] = []
        self.workers = self
        self.metrics = Metrics(CollectorRegistry())
        denoiser = SimpleNamespace(
            latent_codec="pixel_unshuffle", latent_factor=FACTOR, sampler=sampler, noise_scale=0.2
        )
        self.models = SimpleNamespace(denoiser=denoiser)

    def room(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return nullcontext(np.empty(shape, dtype))

    async def run(self, _deadline: Deadline, function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    async def infer(self, _call: Call, _stage: str, _model: str, inputs: Any, **_: Any) -> Any:
        self.seen.append(inputs["sample"][0].copy())
        sample = latents.from_half(inputs["sample"][0])
        return {"prediction": latents.to_half(self.predict(sample, inputs["timestep"][0, 0]))[None]}


async def looped(triton: Triton, plan: DenoisePlan, *candidates: int, call: Call) -> list[Any]:
    given = Conditioning(PICTURE, {})
    return await denoise(cast(Engine, triton), call, given, dict.fromkeys(candidates, plan))


@pytest.mark.parametrize("sampler", ["lcm", "flow_euler"])
@pytest.mark.parametrize(("seed", "candidate"), [(5, 0), (5, 2), (5 + 2**32, 0)])
async def test_a_candidates_noise_is_that_of_its_seed_its_number_and_the_step(
    sampler: str, seed: int, candidate: int
) -> None:
    triton, plan = Triton(sampler, to_dark), DenoisePlan(1.0, 3, seed)
    call = Call(Deadline.after(30))
    (made,) = await looped(triton, plan, candidate, call=call)
    steps = make_sampler(sampler, 3, plan.strength_of(candidate), 0.2)
    sample = steps.start(REFERENCE, noise(seed, candidate, 0, REFERENCE.shape))
    for index, timestep in enumerate(steps.timesteps):
        shown = latents.to_half(sample)
        assert np.array_equal(triton.seen[index], shown)
        predicted = latents.to_half(to_dark(latents.from_half(shown), timestep))
        drawn = noise(seed, candidate, index + 1, sample.shape)
        fresh = drawn if steps.needs_noise(index) else None
        sample = steps.step(sample, latents.from_half(predicted), index, fresh)
    assert len(triton.seen) == 3
    assert np.array_equal(made, latents.pixel_shuffle(sample, FACTOR))


async def test_candidates_side_by_side_are_those_made_alone() -> None:
    plan = DenoisePlan(1.0, 2, 5)
    call = Call(Deadline.after(30))
    both = await looped(Triton("lcm", to_dark), plan, 2, 0, call=call)
    for candidate, made in zip((2, 0), both, strict=True):
        (alone,) = await looped(Triton("lcm", to_dark), plan, candidate, call=call)
        assert np.array_equal(made, alone)


@pytest.mark.parametrize("sampler", ["lcm", "ddim"])
async def test_each_preview_shows_what_the_prediction_of_its_own_step_implies(sampler: str) -> None:
    told: list[Event] = []
    call = Call(Deadline.after(30), emit=told.append)
    await looped(Triton(sampler, exact), DenoisePlan(1.0, 3, 5, previews=True), 0, call=call)
    steps = [event for event in told if isinstance(event, ProgressEvent)]
    assert [(one.candidate, one.step, one.steps) for one in steps] == [(0, k, 3) for k in (1, 2, 3)]
    for event in steps:
        shown = simplejpeg.decode_jpeg(event.preview).mean(axis=(0, 1))
        assert shown == pytest.approx(PICTURE[0, 0], abs=6)
