"""The time in which a network computes for a request counts once, however many compute."""

from __future__ import annotations

import pytest
from headshot.api import present
from headshot.deadline import Deadline
from headshot.pipeline.call import Call
from headshot.triton.facts import ExecutionFacts
from headshot.triton.stats import Averages
from headshot.triton.timings import PathClock, estimated


def call_with(*executions: tuple[float, float]) -> Call:
    return Call(Deadline.after(60), executions=list(executions))


def test_networks_that_compute_side_by_side_count_once() -> None:
    # An upscaler for a second, a detector within it, a matte that outlasts it, later one more.
    call = call_with((10.0, 11.0), (10.2, 10.5), (10.8, 11.3), (12.0, 12.1))
    assert call.computing_s == pytest.approx(1.4)
    assert call_with().computing_s == 0


def test_the_answer_tells_it_beside_the_sums_of_the_stages() -> None:
    call = call_with((10.0, 11.0), (10.2, 10.5))
    call.timing("upscale").compute_s = 1.0
    call.timing("verify").compute_s = 0.3
    message = present.timings(call)
    assert message.computing_ms == pytest.approx(1000)
    assert sum(stage.compute_ms for stage in message.stages) == pytest.approx(1300)


def test_an_execution_lies_where_the_backend_says_it_was() -> None:
    facts = ExecutionFacts(started_ns=2_000_000_000, ended_ns=2_500_000_000, rows=1)
    timings = PathClock().split("server", "matting", 1, 1_900_000_000, 2_600_000_000, facts)
    assert timings is not None
    assert timings.execution == pytest.approx((2.0, 2.5))


def test_an_execution_that_is_only_estimated_ends_with_its_answer() -> None:
    averages = Averages(queue_s=0.1, compute_s=0.5, batch=1.0)
    timings = estimated(1_000_000_000, 2_000_000_000, averages)
    assert timings.execution == pytest.approx((1.5, 2.0))
    assert estimated(1_000_000_000, 2_000_000_000, None).execution == pytest.approx((2.0, 2.0))
