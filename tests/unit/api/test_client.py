"""The client's rules for sending a call again, against a server that only fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from headshot import errors
from headshot.api import status
from headshot.api.validation import validate
from headshot.client import (
    AsyncHeadshotClient,
    HeadshotCallError,
    HeadshotClient,
    RetryPolicy,
    photo,
)
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import headshot_service_pb2_grpc


class Failing(headshot_service_pb2_grpc.HeadshotServiceServicer):
    """Fails every call with one error, a stream perhaps after its first message."""

    def __init__(self) -> None:
        self.error: errors.HeadshotError = errors.ModelUnavailableError("down")
        self.calls = 0
        self.answers_first = False
        self.refused = "last"
        self.time_left = 0.0

    async def Matte(self, request, context):
        self.calls += 1
        self.time_left = context.time_remaining()
        await status.abort(context, self.error)

    async def CreateHeadshot(self, request, context):
        self.calls += 1
        if self.answers_first:
            yield pb.CreateHeadshotResponse(stage=pb.StageEvent(stage="decode"))
        await status.abort(context, self.error)

    async def CreateHeadshots(self, requests, context):
        self.time_left = context.time_remaining()
        async for message in requests:
            if self.refused == "settings":
                await status.abort(context, self.error)
            if message.HasField("item"):
                if message.item.item_id == self.refused:
                    await status.abort(context, self.error)
                yield pb.CreateHeadshotsResponse(item_id=message.item.item_id)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Failing, str]]:
    servicer, made = Failing(), grpc.aio.server()
    headshot_service_pb2_grpc.add_HeadshotServiceServicer_to_server(servicer, made)
    port = made.add_insecure_port("127.0.0.1:0")
    await made.start()
    yield servicer, f"127.0.0.1:{port}"
    await made.stop(None)


RETRY = RetryPolicy(attempts=3, backoff_s=0.001, max_backoff_s=0.002)


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (errors.ModelUnavailableError("down"), 3),
        (errors.OverloadedError("full", retry_after_s=0.001), 3),
        (errors.OverloadedError("too large"), 1),
        (errors.InvalidRequestError("no"), 1),
        (errors.ModelExecutionError("failed"), 1),
    ],
)
async def test_only_what_may_help_and_is_safe_is_sent_again(server, error, calls):
    servicer, address = server
    servicer.error = error
    async with AsyncHeadshotClient(address, retry=RETRY) as client:
        with pytest.raises(HeadshotCallError) as caught:
            await client.matte(pb.MatteRequest())
    assert servicer.calls == calls
    assert caught.value.reason == error.reason


@pytest.mark.parametrize(("answers_first", "calls"), [(False, 3), (True, 1)])
async def test_a_stream_that_has_begun_is_never_sent_again(server, answers_first, calls):
    servicer, address = server
    servicer.answers_first = answers_first
    async with AsyncHeadshotClient(address, retry=RETRY) as client:
        with pytest.raises(HeadshotCallError):
            await client.create_headshot(pb.CreateHeadshotRequest())
    assert servicer.calls == calls


def test_callers_that_were_told_the_same_time_do_not_come_back_at_once():
    pauses = {RetryPolicy().pause(0, 2.0) for _ in range(50)}
    assert len(pauses) > 40
    assert all(2.0 <= pause <= 3.0 for pause in pauses)


async def test_all_attempts_of_a_call_share_its_deadline(server):
    servicer, address = server
    servicer.error = errors.OverloadedError("full", retry_after_s=30.0)
    async with AsyncHeadshotClient(address, retry=RETRY, timeout_s=5.0) as client:
        with pytest.raises(HeadshotCallError) as caught:
            await client.matte(pb.MatteRequest())
        with pytest.raises(HeadshotCallError):
            await client.create_headshot(pb.CreateHeadshotRequest())
    assert servicer.calls == 2  # no attempt could begin before the deadline
    assert caught.value.retry_after_s == pytest.approx(30.0)


def one_good_and_one_missing(folder):
    yield pb.TeamItem(item_id="one")
    yield pb.TeamItem(item_id="two", photos=[photo(folder / "missing.jpg")])


async def test_an_error_in_the_callers_own_items_reaches_the_caller(server, tmp_path):
    _, address = server
    async with AsyncHeadshotClient(address) as client, asyncio.timeout(10):
        outcomes = client.create_headshots(pb.TeamSettings(), one_good_and_one_missing(tmp_path))
        with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
            _ = [outcome async for outcome in outcomes]


async def test_outcomes_of_a_team_that_came_before_an_error_are_not_lost(server):
    servicer, address = server
    came = []

    def call() -> None:
        items = [pb.TeamItem(item_id=name) for name in ("one", "two", "last")]
        with HeadshotClient(address) as client:
            for outcome in client.create_headshots(pb.TeamSettings(), items):
                came.append(outcome.item_id)

    async with asyncio.timeout(10):
        with pytest.raises(HeadshotCallError):
            await asyncio.to_thread(call)
    assert came == ["one", "two"]
    assert servicer.time_left > 500  # Everybody's headshots take longer than one.


@pytest.mark.parametrize("refused", ["settings", "person 3"])
async def test_why_a_team_was_refused_is_told_whatever_was_still_being_sent(server, refused):
    servicer, address = server
    servicer.error = errors.StyleError("there is no such style", reason="STYLE_UNKNOWN")
    servicer.refused = refused
    people = [pb.TeamItem(item_id=f"person {k}", photos=[photo(b"x" * 300_000)]) for k in range(9)]
    reasons = []
    async with AsyncHeadshotClient(address) as client, asyncio.timeout(20):
        for _ in range(20):
            with pytest.raises(HeadshotCallError) as caught:
                _ = [one async for one in client.create_headshots(pb.TeamSettings(), people)]
            reasons.append(caught.value.reason)
    assert set(reasons) == {"STYLE_UNKNOWN"}


async def test_who_stops_reading_a_teams_outcomes_ends_the_call(server):
    _, address = server

    def call() -> list[str]:
        items = (pb.TeamItem(item_id=str(k)) for k in range(10**9))
        with HeadshotClient(address) as client:
            outcomes = client.create_headshots(pb.TeamSettings(), items)
            first = [next(outcomes).item_id, next(outcomes).item_id]
            outcomes.close()
            left_open = client.create_headshots(pb.TeamSettings(), items)
            next(left_open)
        left_open.close()
        return first

    async with asyncio.timeout(10):
        assert await asyncio.to_thread(call) == ["0", "1"]


async def test_a_call_without_asyncio_takes_a_deadline_of_its_own(server):
    servicer, address = server

    def call() -> None:
        with HeadshotClient(address, retry=RetryPolicy(attempts=1)) as client:
            client.matte(pb.MatteRequest(), timeout_s=7.0)

    async with asyncio.timeout(10):
        with pytest.raises(HeadshotCallError):
            await asyncio.to_thread(call)
    assert 5.0 < servicer.time_left <= 7.1


@pytest.mark.parametrize(
    ("name", "identifier"), [("José Müller.jpg", "Jose Muller.jpg"), ("写真.jpg", ".jpg")]
)
def test_a_photo_of_any_file_name_makes_a_valid_request(name, identifier, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    made = photo(tmp_path / name)
    assert made.photo_id == identifier
    validate(made)
