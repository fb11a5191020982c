"""Memory that Triton shares with the processes of models: for its owner, for a call's time."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import numpy as np
from headshot.deadline import Deadline
from headshot.triton.client import InferenceClient
from headshot.triton.server import EmbeddedTriton

from tests.integration.triton.conftest import denoiser_inputs, image

_BOOKKEEPING = 8_000  # bytes of a segment that Triton itself uses; a small face has more
_WIPED_S = 10.0


def segments() -> list[Path]:
    """Return the files of this process's embedded servers, one for each model's process."""
    return sorted(Path("/dev/shm").glob(f"headshot-{os.getpid()}-*-*-*"))


def most_written() -> int:
    """Return the bytes that are not zero of the segment with most of them."""
    return max(
        int(np.count_nonzero(np.frombuffer(segment.read_bytes(), np.uint8)))
        for segment in segments()
    )


async def until_wiped() -> None:
    """Wait for the processes of models, which wipe a moment after they have answered."""
    async with asyncio.timeout(_WIPED_S):
        while await asyncio.to_thread(most_written) > _BOOKKEEPING:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def test_other_users_cannot_read_what_models_get(tiny_triton: EmbeddedTriton) -> None:
    assert tiny_triton.ready
    assert len(segments()) >= 8
    for segment in segments():
        assert stat.S_IMODE(segment.stat().st_mode) == 0o600


async def test_nothing_that_models_got_and_made_stays_after_their_answers(
    tiny_client: InferenceClient,
) -> None:
    calls = [
        *(("upscaler", {"image": image(70, side)}) for side in (256, 320, 256, 200)),
        *((model, {"image": image(80)}) for model in ("matting", "matting", "matting_ort")),
        *((model, denoiser_inputs(90)) for model in ("denoiser", "denoiser", "denoiser_ort")),
    ]
    answers = await asyncio.gather(
        *(tiny_client.infer(model, inputs, deadline=Deadline.after(60)) for model, inputs in calls)
    )
    # What was wiped had been answered before: the same as by a call that is alone.
    for (model, inputs), answer in zip(calls, answers, strict=True):
        alone = await tiny_client.infer(model, inputs, deadline=Deadline.after(60))
        for name, array in answer.outputs.items():
            np.testing.assert_array_equal(array, alone.outputs[name])
            assert np.count_nonzero(array) > _BOOKKEEPING
    await until_wiped()


async def test_nothing_stays_of_a_call_that_its_caller_gave_up(
    tiny_client: InferenceClient,
) -> None:
    calls = [
        asyncio.ensure_future(
            tiny_client.infer("denoiser_slow", denoiser_inputs(seed), deadline=Deadline.after(60))
        )
        for seed in range(95, 98)
    ]
    async with asyncio.timeout(30):
        while await asyncio.to_thread(most_written) < 10 * _BOOKKEEPING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls, timeout=10)
    await tiny_client.infer("denoiser_slow", denoiser_inputs(99), deadline=Deadline.after(60))
    await until_wiped()
