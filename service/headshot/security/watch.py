"""A file that is read again when it changes, without a restart and without inotify."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from headshot.telemetry.logs import get_logger
from headshot.telemetry.metrics import Metrics

T = TypeVar("T")
_Stamp = tuple[tuple[int, int, int], ...]

_log = get_logger("headshot.security")


class WatchedFiles(Generic[T]):
    """Holds what `load` made of some files; looks at their stamps at most every `interval_s`.

    A new version that does not load is reported and the old one stays in use: a typing mistake
    must not lock every caller out. The first load fails loudly.

    Args:
        role: what the files are, for metrics and logs (never their paths).
        paths: the files.
        load: reads them; any exception means the version is bad.
        interval_s: seconds between looks.
        clock: monotonic seconds.
        metrics: where reloads are counted, None for nowhere.

    Raises:
        whatever `load` raises for the first version.
    """

    def __init__(
        self,
        role: str,
        paths: tuple[Path, ...],
        load: Callable[[], T],
        *,
        interval_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self._role = role
        self._paths = paths
        self._load = load
        self._interval_s = interval_s
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._value = load()
        self._looked_at = clock()

    @property
    def value(self) -> T:
        """Return the newest good version, after a look at the files when one is due."""
        now = self._clock()
        if now - self._looked_at >= self._interval_s and self._lock.acquire(blocking=False):
            try:
                self._looked_at = now
                self._refresh()
            finally:
                self._lock.release()
        return self._value

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        try:
            value = self._load()
        except Exception as error:
            # The message may quote the file's content, so only its type is told.
            _log.error("reload failed", file=self._role, error_type=type(error).__name__)
            if self._metrics is not None:
                self._metrics.reloaded(self._role, ok=False)
            # Seen: the same bad version is not read again, a later one is.
            self._stamp = stamp
            return
        self._stamp, self._value = stamp, value
        _log.info("reloaded", file=self._role)
        if self._metrics is not None:
            self._metrics.reloaded(self._role, ok=True)

    def _look(self) -> _Stamp:
        stamps = []
        for path in self._paths:
            try:
                found = path.stat()
                stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
            except OSError:
                stamps.append((0, 0, 0))
        return tuple(stamps)
