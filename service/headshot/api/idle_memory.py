"""Giving memory back to the system when there is nothing to do.

Pictures come and go in blocks of many megabytes, on several threads. What is free lies between what
is not, and the C library keeps it: after a busy minute a quiet gateway held twice what it used.
Under load nothing is given back, because it would be asked for again at once.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

# Settings of the C library, by their numbers in malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest that every version takes; what is larger goes back at once.
_LARGEST_KEPT = 32 << 20
_MOST_KEPT = 256 << 20
_EVERY_S = 1.0
_QUIET_S = 3.0


def trim() -> None:
    """Return the C library's free memory to the system; nothing where it cannot."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


def keep() -> None:
    """Let the C library keep the memory of pictures for the next ones, until `trim` is called.

    Otherwise each large one goes back to the system, which clears every page of the next: a
    twentieth of the processor time of a headshot. Nothing where the C library cannot.
    """
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose is not None:
        choose(_MMAP_THRESHOLD, _LARGEST_KEPT)
        choose(_TRIM_THRESHOLD, _MOST_KEPT)


class IdleMemory:
    """Trims once after each busy time, when nothing has been worked on for a while.

    Args:
        admitted: how many requests have been let in so far.
        in_flight: how much is worked on now.
        give_back: what returns the memory, called on a thread.
        every_s: seconds between looks.
        quiet_s: seconds without work after which memory is given back.
    """

    def __init__(
        self,
        admitted: Callable[[], int],
        in_flight: Callable[[], float],
        *,
        give_back: Callable[[], None] = trim,
        every_s: float = _EVERY_S,
        quiet_s: float = _QUIET_S,
    ) -> None:
        self._admitted = admitted
        self._in_flight = in_flight
        self._give_back = give_back
        self._every_s = every_s
        self._quiet_s = quiet_s

    async def run(self) -> None:
        """Look until cancelled; run it as a task of the serving loop."""
        # The start itself (warm-up of every stage) leaves free memory, too.
        seen, given_back, quiet_s = self._admitted(), -1, 0.0
        while True:
            await asyncio.sleep(self._every_s)
            now = self._admitted()
            quiet = now == seen and self._in_flight() == 0
            quiet_s = quiet_s + self._every_s if quiet else 0.0
            seen = now
            if quiet_s >= self._quiet_s and given_back != seen:
                given_back = seen
                await asyncio.to_thread(self._give_back)
