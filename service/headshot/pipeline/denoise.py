"""The few-step diffusion loop: every step of every candidate is one stateless model request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headshot.imaging import geometry
from headshot.imaging.encode import EncodeSpec, encode
from headshot.pipeline import latents
from headshot.pipeline.call import Call, ProgressEvent
from headshot.pipeline.concurrency import together
from headshot.pipeline.engine import Engine
from headshot.pipeline.sampler import Latent, Sampler, make_sampler, noise
from headshot.triton.contracts import DenoiserInfo

Image = NDArray[np.uint8]

_PREVIEW_SIDE = 160
LEAST_STRENGTH = 0.05


@dataclass(frozen=True)
class DenoisePlan:
    """How candidates are made.

    Attributes:
        strength: how far they may move from the reference, above 0 to 1.
        steps: diffusion steps.
        seed: seed of the request.
        previews: whether each step sends a preview.
        spread: by how much of `strength` candidate k is weaker than candidate k - 1.
    """

    strength: float
    steps: int
    seed: int
    previews: bool = False
    spread: float = 0.12

    def strength_of(self, candidate: int) -> float:
        """Return the strength of candidate k: each one stays a little closer to the photo.

        Seeds alone vary a restoration hardly (the compact network not at all); strength does.
        """
        return max(LEAST_STRENGTH, self.strength * (1.0 - self.spread * candidate))


def differing(model: DenoiserInfo, plan: DenoisePlan, candidates: int) -> int:
    """Return how many of so many candidates, from the first, are pictures of their own.

    Without noise a candidate is its strength alone, and from the least one on all are the same.
    """
    least = make_sampler(model.sampler, plan.steps, LEAST_STRENGTH, model.noise_scale)
    if least.starts_noised:
        return candidates
    return len({plan.strength_of(candidate) for candidate in range(candidates)})


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser sees besides the sample, by input name, with a leading axis of one row.

    The reference picture is kept apart because every codec needs it too.
    """

    reference: Image
    inputs: dict[str, NDArray[Any]]


async def encode_latent(engine: Engine, call: Call, image: Image) -> Latent:
    """Return a picture's latent, float32 [C, h, w]."""
    info = engine.models.denoiser
    if info.latent_codec == "pixel_unshuffle":
        return await engine.workers.run(
            call.deadline, latents.pixel_unshuffle, image, info.latent_factor
        )
    outputs = await engine.infer(call, "denoise", "latent_encoder", {"image": image[None]})
    first: NDArray[np.float32] = np.asarray(outputs["latent"], np.float32)[0]
    return first


async def decode_latent(engine: Engine, call: Call, latent: Latent) -> Image:
    """Return a latent's picture, uint8 [h, w, 3] RGB."""
    info = engine.models.denoiser
    if info.latent_codec == "pixel_unshuffle":
        return await engine.workers.run(
            call.deadline, latents.pixel_shuffle, latent, info.latent_factor
        )
    outputs = await engine.infer(
        call, "denoise", "latent_decoder", {"latent": latent[None].astype(np.float16)}
    )
    first: NDArray[np.uint8] = np.asarray(outputs["image"], np.uint8)[0]
    return first


async def denoise_candidate(
    engine: Engine,
    call: Call,
    conditioning: Conditioning,
    reference: Latent,
    plan: DenoisePlan,
    candidate: int,
) -> Image:
    """Run the loop for one candidate.

    Args:
        engine: models and threads.
        call: the request; its deadline is looked at before each step, cancellation stops the loop.
        conditioning: the denoiser's other inputs.
        reference: the reference picture's latent, float32 [C, h, w].
        plan: strength, steps and seed.
        candidate: its number; with the seed it fixes the noise.

    Returns:
        uint8 [canvas, canvas, 3] RGB.
    """
    info = engine.models.denoiser
    sampler = make_sampler(info.sampler, plan.steps, plan.strength_of(candidate), info.noise_scale)
    workers, source = engine.workers, (plan.seed, candidate)
    count = len(sampler.timesteps)
    # Millions of numbers at each step: on threads, like pixels, and written where they are sent
    # from.
    with engine.room((1, *reference.shape), np.float16) as shown:
        sample = await workers.run(call.deadline, _started, sampler, reference, source, shown)
        for index, timestep in enumerate(sampler.timesteps):
            call.deadline.check("a denoise step")
            inputs: dict[str, NDArray[Any]] = {
                **conditioning.inputs,
                "sample": shown,
                "timestep": np.array([[timestep]], np.float32),
            }
            outputs = await engine.infer(call, "denoise", "denoiser", inputs, urgent=index > 0)
            predicted = np.asarray(outputs["prediction"][0], np.float16)
            preview = b""
            if plan.previews:
                clean = await workers.run(
                    call.deadline, sampler.estimate, sample, latents.from_half(predicted), index
                )
                preview = await _preview(engine, call, clean)
            sample = await workers.run(
                call.deadline, _advanced, sampler, sample, predicted, index, source, shown
            )
            call.emit(ProgressEvent(candidate, index + 1, count, preview))
    engine.metrics.observe_denoise_steps(count)
    return await decode_latent(engine, call, sample)


async def denoise(
    engine: Engine,
    call: Call,
    conditioning: Conditioning,
    plans: Mapping[int, DenoisePlan],
) -> list[Image]:
    """Run the loops of several candidates side by side, so that their steps can share batches.

    Args:
        engine: models and threads.
        call: the request.
        conditioning: the denoiser's other inputs.
        plans: how each candidate is made, by its number.

    Returns:
        uint8 [canvas, canvas, 3] RGB of each, in the order of `plans`.
    """
    reference = await encode_latent(engine, call, conditioning.reference)
    with ExitStack() as rooms:
        # The same at every step: copied once.
        inputs = {}
        for name, array in conditioning.inputs.items():
            inputs[name] = rooms.enter_context(engine.room(array.shape, array.dtype))
            inputs[name][...] = array
        conditioning = replace(conditioning, inputs=inputs)
        return await together(
            denoise_candidate(engine, call, conditioning, reference, plan, candidate)
            for candidate, plan in plans.items()
        )


def _started(
    sampler: Sampler, reference: Latent, source: tuple[int, int], shown: NDArray[np.float16]
) -> Latent:
    """Return the first sample and show it to the model.

    Args:
        sampler: of the candidate.
        reference: float32 [C, h, w].
        source: the seed and the candidate's number.
        shown: float16 [1, C, h, w], the model's input.
    """
    start = noise(*source, 0, reference.shape) if sampler.starts_noised else np.zeros(1, np.float32)
    sample = sampler.start(reference, start)
    latents.to_half(sampler.scale_input(sample, 0), shown[0])
    return sample


def _advanced(
    sampler: Sampler,
    sample: Latent,
    prediction: NDArray[np.float16],
    index: int,
    source: tuple[int, int],
    shown: NDArray[np.float16],
) -> Latent:
    """Return the sample after a step, and show it to the model unless that was the last one.

    Args:
        sampler: of the candidate.
        sample: float32 [C, h, w], before the step.
        prediction: float16 [C, h, w].
        index: the step.
        source: the seed and the candidate's number.
        shown: float16 [1, C, h, w], the model's input.
    """
    fresh = noise(*source, index + 1, sample.shape) if sampler.needs_noise(index) else None
    after = sampler.step(sample, latents.from_half(prediction), index, fresh)
    if index + 1 < len(sampler.timesteps):
        latents.to_half(sampler.scale_input(after, index + 1), shown[0])
    return after


async def _preview(engine: Engine, call: Call, clean: Latent) -> bytes:
    """Return a small JPEG of what the picture would be if the loop ended here."""
    image = await decode_latent(engine, call, clean)

    def shrink() -> bytes:
        small = geometry.resize(image, (_PREVIEW_SIDE, _PREVIEW_SIDE))
        return encode(small, EncodeSpec(format="jpeg", quality=80))

    return await engine.workers.run(call.deadline, shrink)
