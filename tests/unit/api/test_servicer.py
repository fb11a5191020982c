"""What the RPCs refuse, and what they leave behind, before any model is needed."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from headshot.api.servicer import HeadshotServicer
from headshot.deadline import Deadline
from headshot.errors import (
    InvalidRequestError,
    NoUsablePhotoError,
    PermissionDeniedError,
    PhotoError,
)
from headshot.imaging.encode import EncodeSpec, encode
from headshot.pipeline.call import Call, ProgressEvent
from headshot.pipeline.capture_advice import PhotoCode
from headshot.pipeline.denoise import DenoisePlan
from headshot.pipeline.identity import Template
from headshot.pipeline.results import (
    CandidateImage,
    DenoiseResult,
    HeadshotResult,
    IdentityResult,
    PhotoReport,
    Verification,
)
from headshot.pipeline.service import Pipeline, VerifyResult
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2

from tests.unit.api.parts import Caller, Parts, headshot_result


def servicer_of(parts: Parts) -> HeadshotServicer:
    return HeadshotServicer(
        parts.settings,
        parts.pipeline,
        parts.sessions,
        parts.templates,
        parts.audit,
        asyncio.Event(),
    )


@pytest.fixture
def servicer(parts: Parts) -> HeadshotServicer:
    return servicer_of(parts)


async def create(servicer: HeadshotServicer, request: pb.CreateHeadshotRequest) -> list[object]:
    async with aclosing(servicer.CreateHeadshot(request, Caller())) as answers:
        return [answer async for answer in answers]


def some_photo(data: bytes = b"no picture") -> photo_pb2.Photo:
    return photo_pb2.Photo(data=data)


@pytest.mark.parametrize(
    "options",
    [
        pb.HeadshotOptions(retouch=99),
        pb.HeadshotOptions(renditions=[style_pb2.RenditionSpec(name="web", format=99)]),
        pb.HeadshotOptions(candidates=2**32 - 1),
    ],
)
async def test_an_enum_value_or_number_beyond_the_documented_ones_is_the_callers_error(
    servicer, options
):
    request = pb.CreateHeadshotRequest(photos=[some_photo()], options=options)
    with pytest.raises(InvalidRequestError) as caught:
        await create(servicer, request)
    assert caught.value.violations[0].field.startswith("options.")


async def test_a_check_of_photos_of_which_none_can_be_read_names_each(servicer):
    request = pb.CreateHeadshotRequest(
        photos=[some_photo(), some_photo(b"nor this")], validate_only=True
    )
    with pytest.raises(NoUsablePhotoError) as caught:
        await create(servicer, request)
    assert [item.field for item in caught.value.violations] == ["photos[0]", "photos[1]"]


async def test_a_check_refuses_no_unreadable_photo_beside_one_that_can_be_read(servicer):
    readable = some_photo(encode(np.zeros((80, 80, 3), np.uint8), EncodeSpec(format="png")))
    for photos in ([some_photo(), readable], [readable, some_photo()]):
        request = pb.CreateHeadshotRequest(photos=photos, validate_only=True)
        assert await create(servicer, request) == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "OK"),
        (PhotoError("x"), "INVALID_PHOTO"),
        (ValueError("x"), "INTERNAL"),
        (asyncio.CancelledError(), "CANCELLED"),
    ],
)
async def test_every_piece_of_work_leaves_one_audit_record_with_its_outcome(
    parts, tmp_path: Path, error, outcome
):
    call = Call(Deadline.after(10), request_id="r-1")
    try:
        async with parts.audit.record("CreateHeadshot", call, "consent-7", 2) as entry:
            entry.style("legal", "1.0")
            if error is not None:
                raise error
    except (PhotoError, ValueError, asyncio.CancelledError) as raised:
        assert raised is error
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["outcome"], record["request_id"], record["style"]) == (outcome, "r-1", "legal")


async def test_work_that_runs_into_its_deadline_is_recorded_as_that(parts, tmp_path: Path):
    call = Call(Deadline.after(0.05))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.06), parts.audit.record("CreateHeadshot", call, ""):
            await asyncio.sleep(10)
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert json.loads(line)["outcome"] == "DEADLINE_EXCEEDED"


VERIFIED = Verification(0.9, 0.4, "recogniser-7", 1e-4)
PICTURE = np.zeros((8, 8, 3), np.uint8)
VERDICT = PhotoReport(0, "", PhotoCode.OK)


class Finished(Pipeline):
    """A pipeline that has its answers ready."""

    async def encode_identity(self, *_: object) -> IdentityResult:
        vector = np.eye(1, 128, dtype=np.float32)[0]
        return IdentityResult(Template(vector, "recogniser-7"), (VERDICT,), ())

    async def verify(self, *_: object) -> VerifyResult:
        return VerifyResult(VERIFIED, VERDICT, ())

    def plan(self, *_: object, **__: object) -> DenoisePlan:
        return DenoisePlan(0.5, 1, 0)

    async def denoise(self, *_: object) -> DenoiseResult:
        candidates = tuple(CandidateImage(k, PICTURE, 0.5) for k in range(3))
        return DenoiseResult(PICTURE, candidates, VERDICT, "legal", "1.0")

    async def create(self, *_: object) -> HeadshotResult:
        return headshot_result(VERIFIED)


@pytest.mark.parametrize(
    ("method", "request_", "expected"),
    [
        ("EncodeIdentity", pb.EncodeIdentityRequest(photos=[some_photo()]), ("", 0, False)),
        ("Verify", pb.VerifyRequest(photo=some_photo()), ("", 0, False)),
        ("Denoise", pb.DenoiseRequest(photo=some_photo()), ("legal", 3, True)),
        ("CreateHeadshot", pb.CreateHeadshotRequest(photos=[some_photo()]), ("legal", 1, False)),
    ],
)
async def test_the_audit_log_tells_style_recogniser_and_what_left(
    parts, tmp_path: Path, method: str, request_, expected
):
    pipeline = Finished(parts.pipeline._engine, parts.settings)
    servicer = servicer_of(replace(parts, pipeline=pipeline))
    answer = getattr(servicer, method)(request_, Caller())
    if method in ("Denoise", "CreateHeadshot"):
        async with aclosing(answer) as answers:
            _ = [item async for item in answers]
    else:
        await answer
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["style"], record["headshots"], record["unverified"]) == expected
    assert record["recogniser"] == ("" if method == "Denoise" else "recogniser-7")


def test_a_template_carries_the_consent_it_was_made_with(parts):
    vector = np.eye(1, 128, dtype=np.float32)[0]
    token, expires = parts.templates.seal(Template(vector, "recogniser"), 60, "consent-7", 3)
    template, consent = parts.templates.open(token)
    assert template is not None
    assert np.array_equal(template.vector, vector)
    assert consent == "consent-7"
    assert expires > 0
    assert parts.templates.open(b"") == (None, "")


def test_a_template_lives_no_longer_than_the_operator_allows(parts):
    template = Template(np.eye(1, 128, dtype=np.float32)[0], "recogniser")
    now = time.time()
    for wanted, given in ((30, 30), (0, 60), (3600, 60)):
        _, expires = parts.templates.seal(template, wanted)
        assert expires - now == pytest.approx(given, abs=2)


async def test_where_policy_wants_consent_a_template_without_one_is_not_enough(strict_parts):
    parts = strict_parts
    servicer = servicer_of(parts)
    vector = np.eye(1, 128, dtype=np.float32)[0]
    token, _ = parts.templates.seal(Template(vector, "recogniser"), 60)
    for template in (b"", token):
        with pytest.raises(PermissionDeniedError):
            await servicer.Verify(
                pb.VerifyRequest(photo=some_photo(), identity_template=template), Caller()
            )
        with pytest.raises(PermissionDeniedError):
            request = pb.DenoiseRequest(photo=some_photo(), identity_template=template)
            async with aclosing(servicer.Denoise(request, Caller())) as answers:
                await anext(answers)


class Talkative(Pipeline):
    """A pipeline whose work says a lot and then finds nothing."""

    async def create(self, call: Call, *_: object) -> NoReturn:  # type: ignore[override]
        for step in range(100):
            call.emit(ProgressEvent(0, step, 100))
        raise NoUsablePhotoError("none")

    denoise = create  # type: ignore[assignment]

    def plan(self, *_: object, **__: object) -> DenoisePlan:
        return DenoisePlan(0.5, 1, 0)


@pytest.mark.parametrize("method", ["CreateHeadshot", "Denoise"])
async def test_a_caller_that_reads_slowly_holds_no_permit_when_its_work_has_ended(
    parts, tmp_path: Path, method: str
):
    servicer = HeadshotServicer(
        parts.settings,
        Talkative(parts.pipeline._engine, parts.settings),
        parts.sessions,
        parts.templates,
        parts.audit,
        asyncio.Event(),
    )
    requests = {
        "CreateHeadshot": pb.CreateHeadshotRequest(photos=[some_photo()]),
        "Denoise": pb.DenoiseRequest(photo=some_photo()),
    }
    async with aclosing(getattr(servicer, method)(requests[method], Caller())) as answers:
        assert (await anext(answers)).progress.step == 0
        async with asyncio.timeout(5):
            while parts.admission.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        # The record is there before the answer, too.
        (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
        assert json.loads(line)["outcome"] == "NO_USABLE_PHOTO"
        with pytest.raises(NoUsablePhotoError):
            async for _ in answers:
                pass
