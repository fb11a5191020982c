from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest

from loadtest.processes import ROOT, MemoryReading, Usage, watch


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


class Restarting(Usage):
    """Ends a child between the listing of processes and their reading, every other time."""

    taken = 0

    def _tree(self) -> list[psutil.Process]:
        found = super()._tree()
        self.taken += 1
        if self.taken % 2:
            child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
            found.append(psutil.Process(child.pid))
            child.communicate()
        return found


async def test_a_process_that_ends_does_not_end_the_watch() -> None:
    readings: list[MemoryReading] = []
    usage = Restarting(os.getpid())
    watching = asyncio.create_task(watch(usage, 0.01, readings))
    async with asyncio.timeout(20):
        while usage.taken < 6:
            assert not watching.done()
            await asyncio.sleep(0.01)
    watching.cancel()
    assert len(readings) in (2, 3)


_STARTER = """
import sys, time
from loadtest.processes import free_port, running
port = str(free_port())
command = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"]
with running(command, f"http://127.0.0.1:{port}/") as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""


def test_a_server_ends_with_the_process_that_started_it_and_is_told_to_end() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert starter.stdout is not None
    with starter.stdout as told:
        server = psutil.Process(int(told.readline()))
    starter.terminate()
    assert starter.wait(30) == 128 + signal.SIGTERM
    assert not server.is_running()
