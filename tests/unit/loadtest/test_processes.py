from __future__ import annotations

import os

import numpy as np
import pytest

from loadtest.processes import Usage


class Counting(Usage):
    """Counts how often pages are counted."""

    counted = 0

    def memory(self) -> float:
        self.counted += 1
        return super().memory()


def test_a_peak_is_kept_after_the_memory_is_given_back() -> None:
    usage = Usage(os.getpid())
    usage.note_peak()
    before = usage.peak_mb
    block = np.ones(200 * 2**20, np.uint8)
    usage.note_peak()
    held = usage.peak_mb
    del block
    usage.note_peak()
    assert before > 0
    assert held == pytest.approx(before + 200, abs=40)
    assert usage.peak_mb == held


def test_pages_are_counted_only_when_memory_reaches_a_new_height() -> None:
    usage = Counting(os.getpid())
    for _ in range(20):
        usage.note_peak()
    assert usage.counted <= 2
    usage.forget_peak()
    assert usage.peak_mb == 0
    usage.note_peak()
    assert usage.peak_mb > 0
