"""The shared memory between a Python-based backend and Triton.

Triton starts the backend's process as `triton_python_backend_stub MODEL SEGMENT BYTES ...`. Tensors
cross between the two in the segment, a file of shared memory, whose blocks are freed as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import numpy as np

_SEGMENT = 2
_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives


def protect(command: bytes) -> None:
    """Keep the segment from other users: Triton lets everybody read it, whatever the umask.

    Call it before the model is ready: until then nothing of a caller is in the segment.

    Args:
        command: this process's `/proc/self/cmdline`.
    """
    arguments = command.decode(errors="replace").split("\0")
    if len(arguments) > _SEGMENT and arguments[_SEGMENT].strip("/"):
        # A server of another version may start its processes in another way.
        with contextlib.suppress(FileNotFoundError):
            (_FOLDER / arguments[_SEGMENT].strip("/")).chmod(0o600)


def wipe(array: np.ndarray) -> None:
    """Overwrite an array with zeros, also one that numpy holds for read-only."""
    ctypes.memset(array.ctypes.data, 0, array.nbytes)
