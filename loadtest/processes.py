"""The service as processes: started, watched, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
_READY_S = 240.0
_TENTH = 0.1
# From which growth of the plain resident sizes on pages are counted again.
_RISE = 1.01


class Usage:
    """Processor time and memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak_mb = 0.0
        self._peak_plain = 0

    def _tree(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def cpu(self) -> float:
        """Return processor seconds so far."""
        total = 0.0
        for process in self._tree():
            times = process.cpu_times()
            total += times.user + times.system
        return total

    def own_cpu(self) -> float:
        """Return processor seconds of the first process alone: the gateway's."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def parts(self) -> dict[str, float]:
        """Return resident MB (2**20) of the first process and of all others together.

        Pages that several processes share are split between them, so that parts add up.
        """
        sizes = []
        for process in self._tree():
            info = process.memory_full_info()
            sizes.append(getattr(info, "pss", info.rss) / 2**20)
        return {"gateway": sizes[0], "triton": sum(sizes[1:])}

    def memory(self) -> float:
        """Return resident MB of all of them now, and keep the peak."""
        total = sum(self.parts().values())
        self.peak_mb = max(self.peak_mb, total)
        return total

    def note_peak(self) -> None:
        """Keep the peak at little cost: pages are counted only when there may be more than before.

        Counting shared pages walks through all of them, a tenth of a second for two gigabytes, and
        holds up the process that is measured; the plain resident sizes cost nothing.
        """
        plain = sum(process.memory_info().rss for process in self._tree())
        if plain > self._peak_plain * _RISE:
            self._peak_plain = plain
            self.memory()

    def forget_peak(self) -> None:
        """Begin a new peak."""
        self.peak_mb, self._peak_plain = 0.0, 0


@dataclass(frozen=True)
class MemoryReading:
    """Resident MB of the parts at a time, seconds from the start of the watch."""

    at_s: float
    gateway: float
    triton: float

    @property
    def total(self) -> float:
        """Resident MB of both."""
        return self.gateway + self.triton


def growth(readings: list[MemoryReading], warmup_s: float) -> float:
    """Return by which share memory grew after the warm-up: last tenth against first, medians.

    Args:
        readings: in order of time.
        warmup_s: seconds of the beginning that are left out.

    Raises:
        ValueError: fewer than ten readings after the warm-up.
    """
    totals = np.array([reading.total for reading in readings if reading.at_s >= warmup_s])
    if totals.size < 10:
        raise ValueError(f"{totals.size} readings after the warm-up are too few")
    tenth = max(3, round(totals.size * _TENTH))
    return float(np.median(totals[-tenth:]) / np.median(totals[:tenth]) - 1)


async def watch(usage: Usage, every_s: float, readings: list[MemoryReading]) -> None:
    """Append a reading every so many seconds until cancelled.

    A reading is left out where a process ended while it was taken, as a model's does when it is
    restarted.
    """
    begun = time.perf_counter()
    while True:
        with contextlib.suppress(psutil.Error):
            parts = usage.parts()
            at = time.perf_counter() - begun
            readings.append(MemoryReading(at, parts["gateway"], parts["triton"]))
        await asyncio.sleep(every_s)


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _unwound_when_terminated() -> Iterator[None]:
    """Let SIGTERM end this process as an exception does, so that what it started is stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def running(command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends, by SIGTERM too; wait until `url` answers 200.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """
    with _unwound_when_terminated():
        yield from _running(command, url)


def _running(command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        begun = time.monotonic()
        while time.monotonic() - begun < _READY_S:
            if process.poll() is not None:
                raise RuntimeError(f"{command[1:4]} ended with {process.returncode}")
            try:
                if httpx.get(url, timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        else:
            raise RuntimeError(f"{command[1:4]} was not ready in {_READY_S:.0f} s")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        address: host:port of its gRPC port.
        usage: of its processes; None for a service that somebody else started.
    """

    address: str
    usage: Usage | None = None


@contextmanager
def service(
    target: str = "", repository: Path | None = None, options: tuple[str, ...] = ()
) -> Iterator[Service]:
    """Yield the service at `target`, or one of its own processes that lives as long as the block.

    Args:
        target: host:port; empty starts one.
        repository: models of the one that is started; None takes the project's.
        options: further options of `headshot serve`.
    """
    if target:
        yield Service(target)
        return
    port, operations = free_port(), free_port()
    command = [sys.executable, "-m", "headshot", "serve", "--port", str(port)]
    command += ["--operations-port", str(operations)]
    command += ["--model-repository", str(repository or ROOT / "model_repository")]
    command += ["--set", "log_level=error", *options]
    with running(command, f"http://127.0.0.1:{operations}/readyz") as process:
        yield Service(f"127.0.0.1:{port}", Usage(process.pid))
