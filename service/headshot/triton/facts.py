"""Exact facts of each execution, from backend to gateway on the same host.

This Triton's Python backend has no response parameters, and an extra output would make the
config.pbtxt unfit for NVIDIA's native backends. So a backend writes, for each request, when its
batch was computed and how many rows it had, into a small memory-mapped table, and the gateway looks
its request up when the answer is there. Both read the same monotonic clock. A table holds numbers
only. Where there is no table (external servers), the client falls back to server statistics.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path

FACTS_DIR_VARIABLE = "HEADSHOT_TRITON_FACTS_DIR"

_SLOTS = 4096  # far more than can be between "computed" and "answer read" at one time
_SLOT = struct.Struct("<QQQI4x")  # key, started ns, ended ns, rows
_SIZE = _SLOTS * _SLOT.size
_KEY_DIGITS = 16


@dataclass(frozen=True)
class ExecutionFacts:
    """One request's execution.

    Attributes:
        started_ns: when its batch began to compute, on the host's monotonic clock.
        ended_ns: when its batch was computed.
        rows: rows of the batch it ran in.
    """

    started_ns: int
    ended_ns: int
    rows: int


def tagged_request_id(request_id: str) -> tuple[str, int]:
    """Return the id to send to Triton (the caller's, with a unique tail) and its table key."""
    key = secrets.randbits(64) or 1
    return f"{request_id}#{key:0{_KEY_DIGITS}x}", key


def _key_of(request_id: str) -> int | None:
    if len(request_id) > _KEY_DIGITS and request_id[-_KEY_DIGITS - 1] == "#":
        with contextlib.suppress(ValueError):
            return int(request_id[-_KEY_DIGITS:], 16)
    return None


def _open(directory: Path, model: str) -> mmap.mmap:
    handle = os.open(directory / f"{model}.facts", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(handle, _SIZE)
        return mmap.mmap(handle, _SIZE)
    finally:
        os.close(handle)


class FactsWriter:
    """The backend's side; instances of one model share the table."""

    def __init__(self, directory: Path, model: str) -> None:
        self._table = _open(directory, model)

    def record(self, request_id: str, started_ns: int, ended_ns: int, rows: int) -> None:
        """Store the facts of one request; ids without a key are ignored."""
        key = _key_of(request_id)
        if key is not None:
            offset = (key % _SLOTS) * _SLOT.size
            _SLOT.pack_into(self._table, offset, key, started_ns, ended_ns, rows)


class FactsReader:
    """The gateway's side: looks requests up by the key of `tagged_request_id`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tables: dict[str, mmap.mmap] = {}

    def find(self, model: str, key: int) -> ExecutionFacts | None:
        """Return the facts of a finished request, or None where no backend recorded any."""
        table = self._tables.get(model)
        if table is None:
            if not self._directory.is_dir():
                return None
            table = self._tables[model] = _open(self._directory, model)
        found, started, ended, rows = _SLOT.unpack_from(table, (key % _SLOTS) * _SLOT.size)
        # A neighbour with the same slot may have overwritten it; a torn write shows as nonsense.
        if found != key or not 0 < started <= ended or rows < 1:
            return None
        return ExecutionFacts(started, ended, rows)
