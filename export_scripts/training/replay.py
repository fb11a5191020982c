"""A pool of training rows on the training's device, filled by other processes as fast as they can.

Making a row costs a processor milliseconds, learning from one costs a GPU microseconds: rows are
learned from several times, seen from another side (mirrored, turned) each time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch
from torch import Tensor

Rows = tuple[Tensor, Tensor, Tensor]
SIDES = 8  # ways in which a square can be turned and mirrored


class ReplayPool:
    """Rows (sharp, degraded, identity): uint8 [3, S, S] twice, float32 [128]; the newest are kept.

    A thread takes batches of rows, all of one length, from ``source`` until ``close``; what fails
    there is raised by the next ``draw``. ``capacity`` is rounded down to whole batches.
    """

    def __init__(self, source: Iterator[Rows], capacity: int, device: torch.device) -> None:
        self._source, self._capacity, self._device = source, capacity, device
        # Copies must not wait for the training's own work, nor the training for them.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._rows: Rows | None = None
        self._failure: BaseException | None = None
        self._filled = threading.Condition()
        self._closed = False
        self.made = 0
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        try:
            for rows in self._source:
                moved = self._moved(rows)
                with self._filled:
                    if self._closed:
                        return
                    self._put(moved)
                    self._filled.notify_all()
        except BaseException as failure:
            with self._filled:
                self._failure = failure
                self._filled.notify_all()

    def _moved(self, rows: Rows) -> Rows:
        if self._stream is None:
            return rows
        with torch.cuda.stream(self._stream):
            first, second, third = (part.to(self._device, non_blocking=True) for part in rows)
        self._stream.synchronize()
        for part in (first, second, third):
            part.record_stream(torch.cuda.current_stream(self._device))
        return first, second, third

    def _put(self, rows: Rows) -> None:
        count = len(rows[0])
        if self._rows is None:
            self._capacity = max(1, self._capacity // count) * count
            first, second, third = (p.new_empty(self._capacity, *p.shape[1:]) for p in rows)
            self._rows = first, second, third
        start = self.made % self._capacity
        for kept, new in zip(self._rows, rows, strict=True):
            kept[start : start + count] = new
        self.made += count

    def draw(self, count: int, *, least: int, timeout: float = 300.0) -> Rows:
        """Return ``count`` rows at random, an eighth of them each way round.

        Args:
            count: number of rows, a multiple of eight.
            least: waits until so many were made.
            timeout: seconds to wait for them.

        Returns:
            (sharp, degraded, identity), float32 [count, 3, S, S] in -1..1 twice, [count, 128].

        Raises:
            TimeoutError: too few rows in time.
            RuntimeError: the making of rows failed.
        """
        with self._filled:
            ready = self._filled.wait_for(
                lambda: self._failure is not None or self.made >= least, timeout
            )
            if self._failure is not None:
                raise RuntimeError("no more rows are made") from self._failure
            if not ready or self._rows is None:
                raise TimeoutError(f"{self.made} of {least} rows after {timeout} s")
            size = min(self.made, self._capacity)
            index = torch.randint(size, (count,), device=self._device)
            sharp, rough, identity = (part[index] for part in self._rows)
        return turned(sharp), turned(rough), identity

    def close(self) -> None:
        """Take no more rows."""
        with self._filled:
            self._closed = True


def turned(pictures: Tensor) -> Tensor:
    """Bytes [N, 3, S, S] as float32 in -1..1, an eighth of the rows each way round."""
    parts = [_seen(part, side) for side, part in enumerate(pictures.chunk(SIDES))]
    return torch.cat(parts).float() / 127.5 - 1


def _seen(pictures: Tensor, side: int) -> Tensor:
    mirrored = [axis for bit, axis in ((1, 3), (2, 2)) if side & bit]
    seen = pictures.flip(mirrored) if mirrored else pictures
    return seen.transpose(2, 3) if side & 4 else seen
