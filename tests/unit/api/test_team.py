"""A team's stream: order of messages, flow control, and what one bad item does to the rest.

The items carry no photos, so that each ends at its validation: no model is needed here.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import NoReturn

import pytest
from google.rpc import error_details_pb2
from headshot.api.admission import AdmissionController, AdmissionLimits
from headshot.api.session import Sessions
from headshot.api.team import TeamRpc, _identifier
from headshot.errors import (
    DeadlineError,
    InvalidRequestError,
    ModelContractError,
    NoUsablePhotoError,
    ProvenanceError,
)
from headshot.pipeline.requests import HeadshotRequest
from headshot.pipeline.service import Pipeline
from headshot.security.credentials import TenantQuota
from headshot.telemetry import logs, tracing
from headshot.telemetry.context import Priority
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2, style_pb2

from tests.unit.api.parts import Caller, Parts, person

SETTINGS = pb.CreateHeadshotsRequest(settings=pb.TeamSettings())


@pytest.fixture
def team(parts: Parts) -> TeamRpc:
    return TeamRpc(parts.pipeline, parts.sessions, parts.templates, parts.audit, asyncio.Event())


def item(name: str) -> pb.CreateHeadshotsRequest:
    return pb.CreateHeadshotsRequest(item=pb.TeamItem(item_id=name))


async def stream(*messages: pb.CreateHeadshotsRequest) -> AsyncIterator[pb.CreateHeadshotsRequest]:
    for message in messages:
        yield message


async def outcomes(team: TeamRpc, *messages: pb.CreateHeadshotsRequest) -> list[str]:
    async with aclosing(team.serve(stream(*messages), Caller())) as responses:
        return [response.item_id async for response in responses]


async def test_a_name_that_is_used_twice_fails_that_item_alone(team):
    named = await outcomes(team, SETTINGS, item("a"), item("a"), item("b"))
    assert sorted(named) == ["a", "a", "b"]


@pytest.mark.parametrize("names", ["ab", "aa"])
async def test_an_item_counts_as_a_request_with_a_code_of_its_own(team, parts, names):
    await outcomes(team, SETTINGS, *map(item, names))
    family = parts.pipeline.metrics.families.team_items
    counted = {
        sample.labels["code"]: sample.value
        for metric in family.collect()
        for sample in metric.samples
        if sample.value
    }
    assert counted == {"INVALID_ARGUMENT": 2}


async def test_settings_in_mid_stream_end_the_call_after_the_items_before_them(team):
    got = []
    with pytest.raises(InvalidRequestError, match="only come first"):
        async with aclosing(
            team.serve(stream(SETTINGS, item("a"), item("b"), SETTINGS), Caller())
        ) as responses:
            async for response in responses:
                got.append(response.item_id)
    assert sorted(got) == ["a", "b"]


async def test_no_more_is_read_while_the_caller_takes_no_outcome(team):
    read = 0

    async def counted() -> AsyncIterator[pb.CreateHeadshotsRequest]:
        nonlocal read
        yield SETTINGS
        for number in range(100):
            read += 1
            yield item(str(number))

    async with aclosing(team.serve(counted(), Caller())) as responses:
        await anext(responses)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert read <= 5
        assert len([response async for response in responses]) == 99
    assert read == 100


async def test_no_previews_are_made_where_there_are_no_events_to_send_them_with(parts: Parts):
    asked = []

    class Watched(Pipeline):
        async def create(self, _call: object, request: HeadshotRequest, *_: object) -> NoReturn:
            asked.append(request.options)
            raise ProvenanceError("that is all")

    pipeline = Watched(parts.pipeline._engine, parts.settings)
    team = TeamRpc(pipeline, parts.sessions, parts.templates, parts.audit, asyncio.Event())
    options = pb.HeadshotOptions(previews=True, steps=3)
    settings = pb.CreateHeadshotsRequest(settings=pb.TeamSettings(options=options))
    photo = photo_pb2.Photo(data=b"no picture")
    message = pb.CreateHeadshotsRequest(item=pb.TeamItem(item_id="a", photos=[photo]))
    await outcomes(team, settings, message)
    assert [(wish.steps, wish.previews) for wish in asked] == [(3, False)]


@pytest.mark.parametrize(
    ("error", "counter", "labels"),
    [
        (
            ModelContractError("wrong shape", metadata={"model": "matting"}),
            "headshot_triton_failures_total",
            {"model": "matting", "reason": "MODEL_CONTRACT"},
        ),
        (
            DeadlineError("late", metadata={"stage": "matte"}),
            "headshot_deadline_missed_total",
            {"stage": "matte"},
        ),
        (ProvenanceError("no signer"), "", {}),
        (RuntimeError("a bug"), "", {}),
    ],
)
async def test_operators_hear_of_an_items_failure_as_of_a_failed_call(
    parts: Parts, error, counter, labels
):
    class Failing(Pipeline):
        async def create(self, *_: object) -> NoReturn:
            raise error

    pipeline = Failing(parts.pipeline._engine, parts.settings)
    team = TeamRpc(pipeline, parts.sessions, parts.templates, parts.audit, asyncio.Event())
    photo = photo_pb2.Photo(data=b"no picture")
    message = pb.CreateHeadshotsRequest(item=pb.TeamItem(item_id="a", photos=[photo]))
    log = io.StringIO()
    logs.configure("info", log)
    try:
        async with aclosing(team.serve(stream(SETTINGS, message), Caller())) as responses:
            (outcome,) = [response async for response in responses]
    finally:
        logs.configure("warning")
    assert outcome.error.code
    if counter:
        assert parts.metrics.registry.get_sample_value(counter, labels) == 1
    if not isinstance(error, DeadlineError):
        (line,) = [json.loads(text) for text in log.getvalue().splitlines()]
        assert (line["error_type"], line["request_id"]) == (type(error).__name__, "team.0")


@pytest.mark.parametrize("name", ["Jane Doe <jane@acme.com>", "Jane\nDöe"])
async def test_the_callers_name_of_an_item_stays_out_of_ids_logs_and_the_audit_log(
    parts: Parts, tmp_path: Path, name: str
):
    class Failing(Pipeline):
        async def create(self, *_: object) -> NoReturn:
            raise RuntimeError("a bug")

    pipeline = Failing(parts.pipeline._engine, parts.settings)
    team = TeamRpc(pipeline, parts.sessions, parts.templates, parts.audit, asyncio.Event())
    one = pb.TeamItem(item_id=name, photos=[photo_pb2.Photo(data=b"no picture")])
    log = io.StringIO()
    logs.configure("info", log)
    try:
        async with aclosing(
            team.serve(stream(SETTINGS, pb.CreateHeadshotsRequest(item=one)), Caller())
        ) as responses:
            (outcome,) = [response async for response in responses]
    finally:
        logs.configure("warning")
    assert outcome.item_id == name
    audit = tmp_path / "audit.jsonl"
    kept = log.getvalue() + audit.read_text() + str(outcome.error)
    assert "team.0" in kept
    assert "Jane" not in kept


def test_items_of_one_call_have_ids_of_their_own_however_long_they_are():
    call = "0123456789abcdef" * 4
    ids = {_identifier(call, place) for place in range(50)}
    assert len(ids) == 50
    assert max(map(len, ids)) <= 48
    assert _identifier("team", 7) == "team.7"


class Refusing(Pipeline):
    """A pipeline whose work is a moment and finds nothing."""

    async def create(self, *_: object) -> NoReturn:
        await asyncio.sleep(0.01)
        raise NoUsablePhotoError("none")


def with_quota(parts: Parts, draining: asyncio.Event, quota: TenantQuota) -> TeamRpc:
    limits = AdmissionLimits(permits=4, queue=64)
    admission = AdmissionController(limits, parts.metrics, quota=lambda _: quota)
    sessions = Sessions(parts.settings, admission, parts.metrics, tracing.configure(None))
    pipeline = Refusing(parts.pipeline._engine, parts.settings)
    return TeamRpc(pipeline, sessions, parts.templates, parts.audit, draining)


async def reasons(team: TeamRpc, caller: Caller, count: int) -> Counter[str]:
    """Return how often each reason came of so many people."""
    found: Counter[str] = Counter()
    people = map(person, map(str, range(count)))
    async with asyncio.timeout(20), aclosing(team.serve(stream(SETTINGS, *people), caller)) as all_:
        async for response in all_:
            info = error_details_pb2.ErrorInfo()
            assert response.error.details[0].Unpack(info)
            found[info.reason] += 1
    return found


@pytest.mark.parametrize(
    "quota",
    [
        TenantQuota(concurrency=8, rate_per_s=20, burst=2),
        TenantQuota(concurrency=1, rate_per_s=1000, burst=1000),
    ],
    ids=["rate", "concurrency"],
)
async def test_a_team_beyond_the_quota_takes_longer_and_loses_nobody(parts, quota):
    team = with_quota(parts, asyncio.Event(), quota)
    assert await reasons(team, Caller(), 8) == {"NO_USABLE_PHOTO": 8}


async def test_who_set_no_deadline_waits_for_room_no_longer_than_the_operators(parts):
    settings = parts.settings.model_copy(update={"default_deadline_s": 0.6})
    limits = AdmissionLimits(permits=1, queue=0, initial_service_s=0.1)
    admission = AdmissionController(limits, parts.metrics)
    sessions = Sessions(settings, admission, parts.metrics, tracing.configure(None))
    team = TeamRpc(parts.pipeline, sessions, parts.templates, parts.audit, asyncio.Event())
    async with admission.admit("another", Priority.BATCH, None):  # All the time.
        begun = time.perf_counter()
        assert await reasons(team, Caller(), 1) == {"QUEUE_FULL": 1}
        assert time.perf_counter() - begun < 5


class Speechless(Sessions):
    """Sessions that cannot tell operators of a failure."""

    def note_failure(self, *_: object) -> NoReturn:
        raise OSError("no space left on device")


async def test_a_failure_that_cannot_be_told_ends_the_call_instead_of_leaving_it_open(parts):
    sessions = Speechless(parts.settings, parts.admission, parts.metrics, tracing.configure(None))
    team = TeamRpc(parts.pipeline, sessions, parts.templates, parts.audit, asyncio.Event())
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5):
            await outcomes(team, SETTINGS, item("a"))
    assert caught.group_contains(OSError)


class Hurried(Caller):
    """A caller whose deadline is near."""

    def time_remaining(self) -> float | None:
        return 2.0


async def test_who_cannot_be_before_the_deadline_is_refused_with_the_reason(parts):
    team = with_quota(parts, asyncio.Event(), TenantQuota(rate_per_s=0.01, burst=1))
    found = await reasons(team, Hurried(), 3)
    assert found == {"NO_USABLE_PHOTO": 1, "TENANT_RATE_EXCEEDED": 2}


async def test_people_who_wait_for_the_quota_are_sent_away_when_the_service_stops(parts):
    draining = asyncio.Event()
    team = with_quota(parts, draining, TenantQuota(rate_per_s=0.1, burst=1))
    asyncio.get_running_loop().call_later(0.2, draining.set)
    begun = time.perf_counter()
    found = await reasons(team, Caller(), 3)
    assert found == {"NO_USABLE_PHOTO": 1, "SERVICE_STOPPING": 2}
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (
            pb.HeadshotOptions(background=style_pb2.Background(colour="no colour")),
            "settings.options.background.colour",
        ),
        (
            pb.HeadshotOptions(renditions=[style_pb2.RenditionSpec(name="poster")]),
            "settings.options.renditions[0]",
        ),
        (pb.HeadshotOptions(style_id="nobodys"), "settings.options.style_id"),
    ],
)
async def test_settings_that_nobodys_headshot_could_have_end_the_call_before_anybodys_photo(
    team, options, field
):
    settings = pb.CreateHeadshotsRequest(settings=pb.TeamSettings(options=options))
    with pytest.raises(InvalidRequestError) as caught:
        await outcomes(team, settings, item("a"))
    assert [violation.field[: len(field)] for violation in caught.value.violations] == [field]


async def test_a_name_that_is_used_twice_has_a_reason_and_a_path_of_its_own(team):
    refused = []
    async with aclosing(team.serve(stream(SETTINGS, item("a"), item("a")), Caller())) as all_:
        async for response in all_:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            assert response.error.details[0].Unpack(info)
            if info.reason == "ITEM_ID_USED":
                assert response.error.details[1].Unpack(bad)
                refused.append(bad.field_violations[0].field)
    assert refused == ["item_id"]
