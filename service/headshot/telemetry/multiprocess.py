"""Metrics of several gateway workers as one: files on tmpfs, prometheus-client's own format.

prometheus-client chooses its value class when it is first imported, from the environment variable
PROMETHEUS_MULTIPROC_DIR. So the supervisor calls `prepare` and starts each worker as a new process
with the returned environment; it calls `worker_died` for a worker that ended and `clean` at its
own end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "headshot-metrics-"


def prepare(base: Path | None = None) -> dict[str, str]:
    """Make a fresh directory for the workers' values and return the environment they need.

    Args:
        base: parent directory; None takes /dev/shm where there is one (memory, not disk), else
            the temporary directory. Leftovers of supervisors that no longer run are removed.
    """
    if base is None:
        shared = Path("/dev/shm")  # noqa: S108 - a tmpfs on purpose: values change on every call
        base = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    for left in base.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base)
    return {VARIABLE: folder}


def worker_died(environment: dict[str, str], pid: int) -> None:
    """Drop the live gauges of a worker that ended; its counters stay in the sums."""
    mark_process_dead(pid, path=environment[VARIABLE])  # type: ignore[no-untyped-call]


def clean(environment: dict[str, str]) -> None:
    """Remove the directory that `prepare` made."""
    shutil.rmtree(environment[VARIABLE], ignore_errors=True)


def enabled() -> bool:
    """Tell whether this process shares its metrics with other workers."""
    return bool(os.environ.get(VARIABLE))


def collector_for(registry: CollectorRegistry) -> CollectorRegistry:
    """Return the registry to expose: `registry`, or all workers' values when they are shared."""
    if not enabled():
        return registry
    merged = CollectorRegistry()
    MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
    return merged


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
