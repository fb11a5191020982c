"""The stage calls alone, and that they agree with the pipeline."""

from __future__ import annotations

import io

import grpc
import numpy as np
import pytest
from headshot.client import AsyncHeadshotClient, HeadshotCallError, photo
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import style_pb2
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
    # The pipeline knows where the photo ends and what its own matte says of the edge.
    apart = np.abs(pixels(matte.alpha).astype(int) - pixels(whole.intermediates.alpha))
    assert (apart > 128).mean() < 0.01
    enlarged = await client.upscale(pb.UpscaleRequest(photo=photo(candidate)))
    assert np.array_equal(pixels(enlarged.image), pixels(whole.intermediates.upscaled))


async def test_the_matte_on_the_way_is_the_opacity_of_the_cut_out(client, astronaut):
    cut_out = style_pb2.RenditionSpec(
        name="cutout", width=640, height=640, format=style_pb2.IMAGE_FORMAT_PNG, transparent=True
    )
    options = pb.HeadshotOptions(include_intermediates=True, renditions=[cut_out])
    whole = await client.create_headshot(
        pb.CreateHeadshotRequest(photos=[photo(astronaut)], options=options)
    )
    opacity = pixels(whole.renditions[0].data)[..., 3].astype(int)
    assert np.abs(opacity - pixels(whole.intermediates.alpha)).max() <= 1


async def test_the_box_of_a_face_is_in_pixels_of_the_photo_that_was_sent(client, astronaut):
    small = Image.open(io.BytesIO(astronaut))
    large = io.BytesIO()
    # Larger than what photos are shrunk to.
    small.resize((3072, 3072), Image.Resampling.LANCZOS).save(large, "JPEG")
    boxes = []
    for data in (astronaut, large.getvalue()):
        found = await client.encode_identity(pb.EncodeIdentityRequest(photos=[photo(data)]))
        face = found.photos[0].face
        boxes.append(np.array([face.left, face.top, face.right, face.bottom]))
    width = boxes[0][2] - boxes[0][0]
    assert np.abs(boxes[1] / 6 - boxes[0]).max() < 0.06 * width


async def test_the_headshot_is_made_from_the_photo_that_holds_head_and_shoulders(client, astronaut):
    whole = Image.open(io.BytesIO(astronaut))
    tight = io.BytesIO()
    # Scaled up, so that its size does not speak against it.
    whole.crop((150, 50, 310, 200)).resize((640, 600)).save(tight, "PNG")
    options = pb.HeadshotOptions(include_intermediates=True)
    given = [photo(tight.getvalue()), photo(astronaut)]
    both = await client.create_headshot(pb.CreateHeadshotRequest(photos=given, options=options))
    alone = await client.create_headshot(
        pb.CreateHeadshotRequest(photos=given[1:], options=options)
    )
    assert both.photos[0].used
    assert both.photos[0].weight > both.photos[1].weight
    assert both.intermediates.reference == alone.intermediates.reference


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
