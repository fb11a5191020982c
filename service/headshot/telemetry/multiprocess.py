"""Metrics of several gateway workers as one: files on tmpfs, prometheus-client's own format.

prometheus-client chooses its value class when it is first imported, from the environment variable
PROMETHEUS_MULTIPROC_DIR. So the supervisor calls `prepare` and starts each worker as a new process
with the returned environment; it calls `worker_died` for a worker that ended and `clean` at its
own end. What the supervisor itself counts is in its memory, not in the files: it names those
families to `collector_for`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

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


def collector_for(registry: CollectorRegistry, own: Iterable[Collector] = ()) -> CollectorRegistry:
    """Return the registry to expose: `registry`, or all workers' values when they are shared.

    Args:
        registry: of this process.
        own: families that this process, the supervisor, keeps beside its workers. Their counts add
            to the workers'; a gauge shows the least value.
    """
    if not enabled():
        return registry
    merged = CollectorRegistry()
    merged.register(_Merged(own))
    return merged


class _Merged(Collector):
    """The workers' values from their files, with the supervisor's own."""

    def __init__(self, own: Iterable[Collector]) -> None:
        self._own = tuple(own)

    def collect(self) -> Iterator[Metric]:
        """Yield each family once."""
        own = {family.name: family for one in self._own for family in one.collect()}
        for family in MultiProcessCollector(None).collect():  # type: ignore[no-untyped-call]
            if family.name in own:
                _join(family, own.pop(family.name))
            yield family
        yield from own.values()


def _join(family: Metric, own: Metric) -> None:
    """Put the supervisor's samples of a counter or gauge into the workers' family."""
    values = {(one.name, tuple(sorted(one.labels.items()))): one.value for one in family.samples}
    for one in own.samples:
        key = one.name, tuple(sorted(one.labels.items()))
        if key not in values:
            values[key] = one.value
        elif family.type == "gauge":
            values[key] = min(values[key], one.value)
        else:
            values[key] += one.value
    family.samples = []
    for (name, labels), value in values.items():
        family.add_sample(name, dict(labels), value)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
