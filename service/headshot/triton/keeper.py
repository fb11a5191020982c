"""Run the Triton server so that nothing of it outlives its parent, whatever kills whom.

Run as a script (`python -I -S keeper.py PARENT GRACE_S SHM_PREFIX PID_FILE COMMAND...`), standard
library only, so that it costs little memory. The keeper
- puts the server and its stub processes into one process group of their own,
- asks the kernel for SIGTERM when the gateway dies, even by kill -9, and then stops the group,
- kills stub processes that a crashed server left behind,
- removes the shared-memory files of that server.
It exits with the server's exit code, or 128 + signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _die_with_keeper() -> None:
    # Runs between fork and exec of a single-threaded process, where this is safe.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def main(arguments: list[str]) -> int:
    """Run the command in `arguments[4:]` until it ends or the process `arguments[0]` does."""
    parent, grace_s, shm_prefix = int(arguments[0]), float(arguments[1]), arguments[2]
    pid_file, command = Path(arguments[3]), arguments[4:]
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gateway's to handle
    server = subprocess.Popen(  # noqa: S603 - the gateway's own command
        command,
        process_group=0,
        preexec_fn=_die_with_keeper,  # noqa: PLW1509 - there is one thread
    )
    try:
        pid_file.write_text(str(server.pid))
        if os.getppid() != parent:  # it died before prctl, so no signal will come
            raise SystemExit
        server.wait()
    except SystemExit:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        deadline = time.monotonic() + grace_s
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        _signal_group(server.pid, signal.SIGKILL)
        server.wait()
        _sweep(shm_prefix)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _sweep(shm_prefix: str) -> None:
    if shm_prefix:
        for path in Path("/dev/shm").glob(f"{shm_prefix}*"):  # noqa: S108 - the server's own files
            with contextlib.suppress(OSError):
                path.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
