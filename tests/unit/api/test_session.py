"""What is booked of a call when it ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from headshot.api.costs import WHOLE_PICTURE
from headshot.errors import DeadlineError
from headshot.v1 import headshot_service_pb2 as pb
from headshot.v1 import photo_pb2

from tests.unit.api.parts import Caller, Parts


def booked(parts: Parts, stage: str) -> dict[str, float]:
    """Return the seconds of each part of a stage."""
    name = "headshot_stage_duration_seconds_sum"
    return {
        part: parts.metrics.registry.get_sample_value(name, {"stage": stage, "part": part}) or 0.0
        for part in ("queue", "wire", "compute")
    }


@pytest.mark.parametrize(
    ("side_by_side", "expected"),
    [
        # One request: the rest of the stage's second was computed here.
        (1, {"queue": 0.3, "wire": 0.05, "compute": 0.65}),
        # Four at the same time: 3.8 s of them lie in one.
        (4, {"queue": 1.2 / 3.8, "wire": 0.2 / 3.8, "compute": 2.4 / 3.8}),
    ],
)
async def test_a_stages_parts_add_up_to_its_time_however_many_requests_it_sends(
    parts: Parts, side_by_side: int, expected: dict[str, float]
) -> None:
    request = pb.MatteRequest()
    context = cast("Any", Caller())
    async with parts.sessions.work(context, request, "r", None, None, WHOLE_PICTURE) as call:
        timing = call.timing("denoise")
        timing.total_s = 1.0
        timing.queue_s = 0.3 * side_by_side
        timing.wire_s = 0.05 * side_by_side
        timing.compute_s = 0.6 * side_by_side
        call.timing("quality").total_s = 0.5
    assert booked(parts, "denoise") == pytest.approx(expected)
    assert booked(parts, "quality") == {"queue": 0.0, "wire": 0.0, "compute": 0.5}


class HurriedCaller(Caller):
    """A caller with a deadline."""

    def __init__(self, remaining_s: float) -> None:
        self._remaining_s = remaining_s

    def time_remaining(self) -> float | None:
        return self._remaining_s


async def test_only_a_missed_deadline_that_nobody_could_meet_is_counted_as_hopeless(
    parts: Parts,
) -> None:
    request = pb.MatteRequest(photo=photo_pb2.Photo(data=b"\xff\xd8\xff" * 40))

    async def missed(remaining_s: float) -> float | None:
        context = cast("Any", HurriedCaller(remaining_s))
        with pytest.raises(DeadlineError):
            async with parts.sessions.open(context, request):
                raise DeadlineError("the deadline passed")
        return parts.metrics.registry.get_sample_value("headshot_deadline_hopeless_total")

    assert await missed(0.1) == 0  # nobody knows yet how long it takes
    async with parts.sessions.open(cast("Any", Caller()), request):
        await asyncio.sleep(0.2)
    assert await missed(0.1) == 1
    assert await missed(30) == 1
