"""Label values that cannot grow without bound, whatever callers send."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

OTHER = "other"

_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")


class BoundedLabel:
    """A label that takes at most `limit` values; every later one becomes "other".

    Args:
        limit: greatest number of distinct values, "other" not counted.
        closed: True admits only values given to `allow` (tenants, methods); False also admits
            well-formed new values until the limit is reached (reason codes).
    """

    def __init__(self, limit: int, *, closed: bool = False) -> None:
        self._limit = limit
        self._closed = closed
        self._values: set[str] = set()
        self._lock = threading.Lock()

    def allow(self, values: Iterable[str]) -> None:
        """Admit values up to the limit; earlier ones stay, so that series stay continuous."""
        with self._lock:
            for value in sorted(set(values)):
                if len(self._values) < self._limit:
                    self._values.add(value)

    def __call__(self, value: str) -> str:
        """Return `value` where it is admitted, else "other"."""
        if value in self._values:
            return value
        if self._closed or not _REASON.fullmatch(value):
            return OTHER
        with self._lock:
            if len(self._values) >= self._limit:
                return OTHER
            self._values.add(value)
        return value
