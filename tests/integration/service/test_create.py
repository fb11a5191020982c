"""CreateHeadshot and CreateHeadshots, end to end on the real Triton."""

from __future__ import annotations

import asyncio
import io

import cv2
import grpc
import numpy as np
import pytest
import skimage.data
from headshot.client import AsyncHeadshotClient, HeadshotCallError, photo
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2
from PIL import Image

from tests.integration.service.conftest import jpeg


def request_for(data: bytes, **options: object) -> pb.CreateHeadshotRequest:
    return pb.CreateHeadshotRequest(
        photos=[photo(data)], options=pb.HeadshotOptions(**options), request_id="r-1"
    )


def small(name: str = "avatar", side: int = 256) -> list[style_pb2.RenditionSpec]:
    return [
        style_pb2.RenditionSpec(
            name=name, width=side, height=side, format=style_pb2.IMAGE_FORMAT_PNG
        )
    ]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


async def test_a_photo_becomes_a_verified_headshot(client, astronaut):
    events, result = [], None
    async for response in client.create_headshot_events(request_for(astronaut)):
        kind = response.WhichOneof("event")
        if kind == "result":
            result = response.result
        else:
            events.append(kind)
    assert result is not None
    assert {"stage", "progress"} <= set(events)
    assert result.request_id == "r-1"
    assert result.verification.same_person
    assert result.photos[0].used
    assert result.style_id
    assert result.style_version
    assert not result.degraded
    assert result.renditions
    for rendition in result.renditions:
        image = Image.open(io.BytesIO(rendition.data))
        assert image.size == (rendition.width, rendition.height)
        assert image.info.get("icc_profile")


async def test_the_same_request_gives_the_same_bytes(client, astronaut):
    request = request_for(astronaut, seed=3, renditions=small())
    first, second = [await client.create_headshot(request) for _ in range(2)]
    assert first.renditions[0].data == second.renditions[0].data


async def test_candidates_differ_and_each_tells_its_strength(client, astronaut):
    result = await client.create_headshot(
        request_for(astronaut, candidates=3, include_intermediates=True, renditions=small())
    )
    images = [item.image for item in result.intermediates.candidates]
    assert len(set(images)) == 3
    strengths = [item.strength for item in result.candidates]
    assert strengths == sorted(strengths, reverse=True)
    assert len(set(strengths)) == 3
    assert sum(item.chosen for item in result.candidates) == 1


async def test_pictures_from_the_way_change_nothing_of_the_file(client):
    # A file larger than the canvas is made of the enlarged picture, which is shown on the way, too.
    tight = jpeg(skimage.data.astronaut()[:, 50:330], 95)
    options = {"seed": 3, "renditions": small(side=700), "allow_unverified": True}
    alone, seen = [
        await client.create_headshot(request_for(tight, include_intermediates=shown, **options))
        for shown in (False, True)
    ]
    assert alone.renditions[0].data == seen.renditions[0].data
    assert "UPSAMPLED" not in alone.renditions[0].notes
    assert "upscale" in {stage.stage for stage in alone.timings.stages}


@pytest.mark.slow
async def test_a_picture_does_not_depend_on_sixteen_others(client, astronaut):
    request = request_for(astronaut, seed=3, renditions=small(side=512))
    alone = await client.create_headshot(request)
    others = [request_for(astronaut, seed=100 + k, renditions=small()) for k in range(16)]
    crowd = await asyncio.gather(
        client.create_headshot(request, timeout_s=280),
        *(client.create_headshot(other, timeout_s=280) for other in others),
    )
    a, b = (pixels(item.renditions[0].data) for item in (alone, crowd[0]))
    assert np.abs(a - b).max() <= 1


async def test_one_bad_photo_of_a_set_is_reported_and_the_rest_serve(client, astronaut):
    nobody = jpeg(skimage.data.coffee())
    response = await client.create_headshot(
        pb.CreateHeadshotRequest(
            photos=[photo(nobody), photo(astronaut), photo(b"not a photo"), photo_pb2.Photo()],
            options=pb.HeadshotOptions(renditions=small()),
        )
    )
    codes = [photo_pb2.PhotoCode.Name(item.code) for item in response.photos]
    assert codes == [
        "PHOTO_CODE_NO_FACE",
        "PHOTO_CODE_OK",
        "PHOTO_CODE_UNREADABLE",
        "PHOTO_CODE_UNREADABLE",
    ]
    assert [item.used for item in response.photos] == [False, True, False, False]
    assert response.photos[2].reason == "UNSUPPORTED_FORMAT"


async def test_of_photos_that_repeat_each_other_the_best_is_used(client, astronaut):
    blurred = jpeg(cv2.GaussianBlur(skimage.data.astronaut(), (0, 0), 5))
    response = await client.create_headshot(
        pb.CreateHeadshotRequest(
            photos=[photo(blurred), photo(astronaut), photo(astronaut)],
            options=pb.HeadshotOptions(renditions=small()),
        )
    )
    assert [item.used for item in response.photos] == [False, True, False]
    codes = [photo_pb2.PhotoCode.Name(item.code) for item in response.photos]
    assert codes == ["PHOTO_CODE_BLURRED", "PHOTO_CODE_OK", "PHOTO_CODE_DUPLICATE"]


async def test_a_picture_background_of_the_colour_of_the_clothes_is_told(client, astronaut):
    async def warnings(colour: tuple[int, int, int]) -> list[str]:
        picture = jpeg(np.full((200, 200, 3), colour, np.uint8))
        ground = style_pb2.Background(image=picture)
        result = await client.create_headshot(
            request_for(astronaut, style_id="creative", background=ground, renditions=small())
        )
        return list(result.warnings)

    orange = await warnings((203, 99, 65))
    assert "BACKGROUND_CLOSE_TO_CLOTHING" in orange
    assert not [text for text in await warnings((20, 60, 110)) if "CLOSE_TO" in text]


async def test_a_cutout_alone_holds_nothing_of_the_old_scene(client, astronaut):
    response = await client.create_headshot(
        pb.CreateHeadshotRequest(
            photos=[photo(astronaut)],
            options=pb.HeadshotOptions(renditions=[style_pb2.RenditionSpec(name="cutout")]),
        )
    )
    rgba = pixels(response.renditions[0].data)
    hidden = rgba[:, :, 3] == 0
    assert hidden.mean() > 0.1
    assert not rgba[hidden].any()


async def test_a_set_without_a_usable_photo_names_each_reason(client):
    with pytest.raises(HeadshotCallError) as caught:
        await client.create_headshot(request_for(jpeg(skimage.data.coffee())))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.reason == "NO_USABLE_PHOTO"
    assert caught.value.violations[0][0] == "photos[0]"
    assert "NO_FACE" in caught.value.violations[0][1]


async def test_validate_only_makes_nothing_and_finds_a_wrong_style(client, astronaut):
    request = request_for(astronaut)
    request.validate_only = True
    answers = [item async for item in client.create_headshot_events(request)]
    assert answers == []
    request.options.style_id = "no-such-style"
    with pytest.raises(HeadshotCallError) as caught:
        [item async for item in client.create_headshot_events(request)]
    assert caught.value.reason == "UNKNOWN_STYLE"


async def test_a_team_gets_each_outcome_and_one_bad_item_stops_nobody(client, astronaut):
    items = [
        pb.TeamItem(item_id="a", photos=[photo(astronaut)]),
        pb.TeamItem(item_id="b", photos=[photo(jpeg(skimage.data.coffee()))]),
        pb.TeamItem(item_id="c", photos=[photo(astronaut)]),
    ]
    settings = pb.TeamSettings(options=pb.HeadshotOptions(renditions=small()))
    outcomes = {
        item.item_id: item async for item in client.create_headshots(settings, items, timeout_s=120)
    }
    assert {key: item.WhichOneof("outcome") for key, item in outcomes.items()} == {
        "a": "result",
        "b": "error",
        "c": "result",
    }
    assert outcomes["b"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    one, other = (pixels(outcomes[key].result.renditions[0].data) for key in ("a", "c"))
    assert np.abs(one - other).max() <= 1
    last = max((item.team for item in outcomes.values()), key=lambda team: team.members)
    assert (last.members, last.consistent) == (2, True)


async def test_a_team_call_must_begin_with_its_settings(gateway, astronaut):
    async with AsyncHeadshotClient(gateway.address) as plain:

        async def messages():
            yield pb.CreateHeadshotsRequest(
                item=pb.TeamItem(item_id="a", photos=[photo(astronaut)])
            )

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in plain.stub.CreateHeadshots(messages(), timeout=20):
                raise AssertionError("an answer came")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_cancelled_call_stops_computing_within_a_step(gateway, client, astronaut):
    request = pb.DenoiseRequest(photo=photo(astronaut), steps=50)
    steps_seen = 0

    async def computed() -> int:
        statistics = await gateway.client.statistics()
        return sum(models["denoiser"].inference_count for models in statistics.values())

    call = client.stub.Denoise(request, timeout=120)
    async for response in call:
        if response.WhichOneof("event") == "progress":
            steps_seen = response.progress.step
            break
    before = await computed()
    call.cancel()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await call.code()
        raise asyncio.CancelledError
    idle = await _settled(computed)
    assert steps_seen >= 1
    assert idle - before <= 2


async def _settled(read) -> int:
    """Read until two readings in a row are equal (the last execution has been counted)."""
    last = -1
    for _ in range(100):
        now = await read()
        if now == last:
            return now
        last = now
        await asyncio.sleep(0.3)
    raise AssertionError("the model never came to rest")


async def test_a_deadline_in_mid_denoise_ends_the_call_and_the_work(gateway, client, astronaut):
    with pytest.raises(HeadshotCallError) as caught:
        async for _ in client.denoise(
            pb.DenoiseRequest(photo=photo(astronaut), steps=50), timeout_s=1.0
        ):
            pass
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_styles_and_service_info_tell_what_is_loaded(client):
    styles = await client.list_styles()
    assert styles.default_style_id in {style.style_id for style in styles.styles}
    info = await client.get_service_info()
    assert info.profile == "compact"
    assert {"face_detector", "identity_encoder", "denoiser", "matting", "upscaler"} <= {
        model.name for model in info.models
    }
    assert 0 < info.match_threshold < 1
