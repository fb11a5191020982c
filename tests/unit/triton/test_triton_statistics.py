"""Averages between two readings of a server's counters."""

from __future__ import annotations

import pytest
from headshot.triton.stats import ModelStatistics, StatisticsWindow
from headshot.triton.timings import estimated

_FIRST = ModelStatistics(10, 10, 10, 0, 1.0, 2.0, {1: 10})
_SECOND = ModelStatistics(26, 14, 26, 0, 1.8, 5.2, {1: 10, 4: 4})


def test_a_period_is_the_difference_of_two_readings() -> None:
    period = _SECOND.since(_FIRST)
    assert period.inference_count == 16
    assert period.mean_batch == 4
    assert period.batches == {4: 4}
    assert ModelStatistics().mean_batch == 0


def test_the_window_holds_the_averages_of_the_last_period() -> None:
    window = StatisticsWindow()
    assert window.averages("server", "denoiser") is None
    window.update("server", {"denoiser": _FIRST})
    window.update("server", {"denoiser": _SECOND})
    averages = window.averages("server", "denoiser")
    assert averages is not None
    assert averages.queue_s == pytest.approx(0.05)
    assert averages.compute_s == pytest.approx(0.2)
    assert averages.batch == 4
    window.update("server", {"denoiser": _SECOND})
    assert window.averages("server", "denoiser") == averages


def test_a_restarted_servers_counters_start_over() -> None:
    window = StatisticsWindow()
    window.update("server", {"denoiser": _SECOND})
    window.update("server", {"denoiser": _FIRST})
    averages = window.averages("server", "denoiser")
    assert averages is not None
    assert averages.compute_s == pytest.approx(0.2)


def test_estimated_timings_say_so_and_never_exceed_the_total() -> None:
    window = StatisticsWindow()
    window.update("server", {"denoiser": _FIRST})
    timings = estimated(0, 250_000_000, window.averages("server", "denoiser"))
    assert not timings.exact
    assert timings.compute_s == pytest.approx(0.2)
    assert timings.queue_s == pytest.approx(0.05)
    assert timings.wire_s == pytest.approx(0.0)
    assert timings.batch_size == 1
    assert estimated(0, 100_000_000, None).wire_s == 0.1
