"""The embedded server's folder of this run, removed at its end or, after a kill -9, by a later run.

Whoever makes a folder holds a lock on it as long as it lives: the kernel gives the lock back
whatever ends the process. A process id in the name would not do, since every container's gateway
may be process 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "headshot-embedded-"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RunFolder:
    """A fresh folder that no other process removes while this one lives.

    Making one removes those that other processes left behind.

    Args:
        base: parent folder; None takes the folder for temporary files.

    Attributes:
        path: the folder.
    """

    def __init__(self, base: Path | None = None) -> None:
        base = base or Path(tempfile.gettempdir())
        _remove_abandoned(base)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            # Until it is locked, a process that starts now may take it for abandoned.
            with contextlib.suppress(FileNotFoundError):
                self._lock = os.open(self.path, _OPEN)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                if self.path.exists():
                    return
                os.close(self._lock)

    def remove(self) -> None:
        """Remove the folder with all that is in it; once is enough."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _remove_abandoned(base: Path) -> None:
    for path in base.glob(f"{_PREFIX}*"):
        # Somebody else's, or in use: not ours to remove.
        with contextlib.suppress(OSError):
            handle = os.open(path, _OPEN)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)
