"""What is wrong with a request names the field, also where no rule of the proto tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from headshot.api import parse
from headshot.api.servicer import HeadshotServicer
from headshot.deadline import Deadline
from headshot.errors import HeadshotError
from headshot.imaging.decode import DecodeLimits
from headshot.imaging.encode import EncodeSpec, encode
from headshot.pipeline import capture
from headshot.pipeline.call import Call
from headshot.pipeline.engine import Engine
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2

from tests.unit.api.parts import Caller, Parts

BAD = photo_pb2.Photo(data=b"no picture")
# Wider than Upscale takes.
WIDE = photo_pb2.Photo(data=encode(np.zeros((600, 1400, 3), np.uint8), EncodeSpec(format="png")))
STYLE = pb.HeadshotOptions(style_id="no-such-style")
VERSION = pb.HeadshotOptions(style_id="corporate-finance", style_version="99.9")


@pytest.fixture
def servicer(parts: Parts) -> HeadshotServicer:
    # Enough of the models for photos that cannot be read.
    engine = parts.pipeline._engine
    engine.models = cast("Any", SimpleNamespace(encoder=SimpleNamespace(match_threshold=0.4)))
    return HeadshotServicer(
        parts.settings,
        parts.pipeline,
        parts.sessions,
        parts.templates,
        parts.audit,
        asyncio.Event(),
    )


async def fields_of(answer: Any) -> list[str]:
    """Return the fields that a call's error names."""
    with pytest.raises(HeadshotError) as caught:
        if isinstance(answer, AsyncIterator):
            async with aclosing(cast("Any", answer)) as answers:
                _ = [item async for item in answers]
        else:
            await answer
    return [item.field for item in caught.value.violations]


@pytest.mark.parametrize(
    ("method", "request_", "fields"),
    [
        ("Matte", pb.MatteRequest(photo=BAD), ["photo"]),
        ("Upscale", pb.UpscaleRequest(photo=BAD), ["photo"]),
        ("Upscale", pb.UpscaleRequest(photo=WIDE), ["photo"]),
        ("Verify", pb.VerifyRequest(photo=BAD, references=[BAD]), ["photo"]),
        ("Verify", pb.VerifyRequest(photo=BAD), ["references", "identity_template"]),
        (
            "Verify",
            pb.VerifyRequest(photo=BAD, identity_template=b"forged"),
            ["identity_template"],
        ),
        ("EncodeIdentity", pb.EncodeIdentityRequest(photos=[BAD]), ["photos[0]"]),
        (
            "EncodeIdentity",
            pb.EncodeIdentityRequest(photos=[BAD, photo_pb2.Photo(data=b"x")]),
            ["photos[0]", "photos[1]"],
        ),
        (
            "CreateHeadshot",
            pb.CreateHeadshotRequest(photos=[BAD], options=STYLE),
            ["options.style_id"],
        ),
        (
            "CreateHeadshot",
            pb.CreateHeadshotRequest(photos=[BAD], options=VERSION),
            ["options.style_version"],
        ),
        ("CreateHeadshot", pb.CreateHeadshotRequest(photos=[BAD]), ["photos[0]"]),
        (
            "CreateHeadshot",
            pb.CreateHeadshotRequest(photos=[BAD], validate_only=True),
            ["photos[0]"],
        ),
    ],
)
async def test_a_call_that_cannot_be_served_names_the_field(
    servicer: HeadshotServicer, method: str, request_: Any, fields: list[str]
) -> None:
    assert await fields_of(getattr(servicer, method)(request_, Caller())) == fields


async def test_a_team_with_an_unknown_style_names_it_in_its_settings(
    servicer: HeadshotServicer,
) -> None:
    async def messages() -> AsyncIterator[pb.CreateHeadshotsRequest]:
        yield pb.CreateHeadshotsRequest(settings=pb.TeamSettings(options=STYLE))

    found = await fields_of(servicer.CreateHeadshots(messages(), cast("Any", Caller())))
    assert found == ["settings.options.style_id"]


async def test_references_that_cannot_be_read_are_told_from_the_photo(
    servicer: HeadshotServicer, parts: Parts
) -> None:
    references = parse.photos([BAD, photo_pb2.Photo(data=b"nor this")], "references")
    engine: Engine = parts.pipeline._engine
    call = Call(Deadline.after(10))
    found = await fields_of(capture.examine_sets(engine, call, (references,), DecodeLimits(), 2048))
    assert found == ["references[0]", "references[1]"]


async def test_a_verdict_on_a_reference_has_another_name_in_the_metadata_than_one_on_the_photo(
    servicer: HeadshotServicer, parts: Parts
) -> None:
    references = parse.photos([BAD, photo_pb2.Photo(data=b"nor this")], "references")
    engine, call = parts.pipeline._engine, Call(Deadline.after(10))
    with pytest.raises(HeadshotError) as caught:
        await capture.examine_sets(engine, call, (references,), DecodeLimits(), 2048)
    assert caught.value.metadata == {"reference_0": "UNREADABLE", "reference_1": "UNREADABLE"}
    photos = parse.photos([BAD, photo_pb2.Photo(data=b"nor this")])
    with pytest.raises(HeadshotError) as caught:
        await capture.examine_set(engine, call, photos, DecodeLimits(), 2048)
    assert caught.value.metadata == {"photo_0": "UNREADABLE", "photo_1": "UNREADABLE"}


async def test_each_unreadable_photo_of_a_set_is_told_what_is_wrong_with_itself(
    servicer: HeadshotServicer, parts: Parts
) -> None:
    whole = encode(np.zeros((400, 400, 3), np.uint8), EncodeSpec(format="jpeg"))
    given = [photo_pb2.Photo(data=data) for data in (whole[: len(whole) // 2], b"")]
    call = Call(Deadline.after(10))
    with pytest.raises(HeadshotError) as caught:
        await capture.examine_set(
            parts.pipeline._engine, call, parse.photos(given), DecodeLimits(), 2048
        )
    cut, empty = (item.description for item in caught.value.violations)
    assert cut.startswith("PHOTO_TRUNCATED: The photo is cut short")
    assert empty == "EMPTY_PHOTO: The photo is empty; send the bytes of a file."


async def test_settings_may_only_come_first_and_the_field_says_so(
    servicer: HeadshotServicer,
) -> None:
    async def messages() -> AsyncIterator[pb.CreateHeadshotsRequest]:
        for _ in range(2):
            yield pb.CreateHeadshotsRequest(settings=pb.TeamSettings())

    found = await fields_of(servicer.CreateHeadshots(messages(), cast("Any", Caller())))
    assert found == ["settings"]
