"""A service that is told to stop while it still starts stops at once and leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.chaos.harness import TRITON_CACHE
from tests.integration.triton.tiny_repository import build_repository

_STOPPED_S = 30.0  # SIGTERM gets Triton's own grace of ten seconds


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_while_triton_loads_ends_the_service(tmp_path: Path, workers: int) -> None:
    repository = build_repository(tmp_path, models=["matting"])
    service = subprocess.Popen(
        [
            *(sys.executable, "-m", "headshot", "serve", "--workers", str(workers)),
            *("--port", "0", "--operations-port", "0"),
            *("--set", f"model_repository={repository}", "--set", f"triton_cache={TRITON_CACHE}"),
        ],
        stderr=subprocess.DEVNULL,
    )
    family: list[psutil.Process] = []
    try:
        stub = _stub(service.pid)
        stub.suspend()  # else it may be ready before the signal comes
        family = psutil.Process(service.pid).children(recursive=True)
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=_STOPPED_S) == 0
        assert not psutil.wait_procs(family, timeout=5)[1]
        assert not list(Path("/dev/shm").glob(f"headshot-{service.pid}-*"))
    finally:
        service.kill()
        service.wait(timeout=10)
        psutil.wait_procs(family, timeout=20)


def _stub(service: int) -> psutil.Process:
    """Return the process of the model that is being loaded."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(service).children(recursive=True):
            if child.name().startswith("triton_python"):
                return child
        time.sleep(0.02)
    raise TimeoutError("Triton starts no process for its model")
