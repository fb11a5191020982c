"""The stage calls alone, and that they agree with the pipeline."""

from __future__ import annotations

import io

import grpc
import numpy as np
import pytest
from headshot.client import AsyncHeadshotClient, HeadshotCallError, photo
from headshot.v1 import headshot_service_pb2 as pb
from PIL import Image


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


async def denoised(client: AsyncHeadshotClient, request: pb.DenoiseRequest) -> pb.DenoiseResult:
    async for response in client.denoise(request):
        if response.WhichOneof("event") == "result":
            return response.result
    raise AssertionError("no result came")


async def test_stages_by_hand_give_the_pixels_of_the_pipeline(client, astronaut):
    options = pb.HeadshotOptions(seed=5, include_intermediates=True)
    whole = await client.create_headshot(
        pb.CreateHeadshotRequest(photos=[photo(astronaut)], options=options)
    )
    identity = await client.encode_identity(pb.EncodeIdentityRequest(photos=[photo(astronaut)]))
    by_hand = await denoised(
        client,
        pb.DenoiseRequest(
            photo=photo(astronaut), identity_template=identity.identity_template, seed=5
        ),
    )
    candidate = by_hand.candidates[0].image
    assert np.array_equal(pixels(by_hand.reference), pixels(whole.intermediates.reference))
    assert np.array_equal(pixels(candidate), pixels(whole.intermediates.candidates[0].image))
    matte = await client.matte(pb.MatteRequest(photo=photo(candidate)))
    assert np.array_equal(pixels(matte.alpha), pixels(whole.intermediates.alpha))
    enlarged = await client.upscale(pb.UpscaleRequest(photo=photo(candidate)))
    assert np.array_equal(pixels(enlarged.image), pixels(whole.intermediates.upscaled))


async def test_denoise_reports_every_step_of_every_candidate(client, astronaut):
    seen = []
    request = pb.DenoiseRequest(photo=photo(astronaut), candidates=2, steps=3, previews=True)
    async for response in client.denoise(request):
        if response.WhichOneof("event") == "progress":
            step = response.progress
            seen.append((step.candidate, step.step, step.steps))
            assert pixels(step.preview).shape == (160, 160, 3)
    assert sorted(seen) == [(c, s, 3) for c in (0, 1) for s in (1, 2, 3)]


async def test_a_cutout_is_the_picture_with_the_matte_as_opacity(client, astronaut):
    response = await client.matte(pb.MatteRequest(photo=photo(astronaut), cutout=True))
    cutout = pixels(response.cutout)
    assert cutout.shape == (512, 512, 4)
    assert np.array_equal(cutout[:, :, 3], pixels(response.alpha))
    assert cutout[150, 230, 3] > 240
    assert cutout[20, 20, 3] < 30
    hidden = cutout[:, :, 3] == 0
    assert hidden.mean() > 0.1
    assert not cutout[hidden].any()


async def test_verify_knows_the_person_again_in_a_worse_photo(client, astronaut):
    small = Image.open(io.BytesIO(astronaut)).resize((300, 300))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=50)
    response = await client.verify(
        pb.VerifyRequest(photo=photo(out.getvalue()), references=[photo(astronaut)])
    )
    assert response.verification.same_person
    assert response.verification.similarity > response.verification.threshold


async def test_verify_wants_references_or_a_template_and_not_both(client, astronaut):
    with pytest.raises(HeadshotCallError) as caught:
        await client.verify(pb.VerifyRequest(photo=photo(astronaut)))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_every_stage_tells_where_its_time_went(client, astronaut):
    response = await client.encode_identity(pb.EncodeIdentityRequest(photos=[photo(astronaut)]))
    stages = {stage.stage: stage for stage in response.timings.stages}
    assert {"decode", "detect", "encode_identity"} <= set(stages)
    for name in ("detect", "encode_identity"):
        assert stages[name].requests >= 1
        assert stages[name].compute_ms > 0
        assert stages[name].mean_batch >= 1
    assert response.timings.total_ms >= max(stage.total_ms for stage in stages.values())
    computing = [stage.compute_ms for stage in stages.values()]
    assert max(computing) * 0.999 <= response.timings.computing_ms <= sum(computing) * 1.001
