"""Run the Triton server so that nothing of it outlives its parent, whatever kills whom.

Run as a script (`python -I -S keeper.py PARENT GRACE_S SHM_PREFIX PID_FILE COMMAND...`), standard
library only, so that it costs little memory. The keeper
- removes the shared memory that killed keepers and gateways left behind,
- puts the server and its stub processes into one process group of their own,
- asks the kernel for SIGTERM when the gateway dies, even by kill -9, and then stops the group,
- kills stub processes that a crashed server left behind,
- removes the shared-memory files of that server, and those of a gateway that was killed.
When the keeper itself is killed, the kernel kills the whole group; the files go at the next launch.
It exits with the server's exit code, or 128 + signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ASYNC = 0o20000  # O_ASYNC, which older versions of Python do not name
_SHM = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives
# A server's files begin with its prefix; the lock on one of them tells that its keeper lives.
_OWNER = "owner"
_OWNERS = re.compile(r"headshot-\d+-[0-9a-f]+-owner")
_GATEWAYS = re.compile(r"headshot-tensors-[0-9a-f]+")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _dying_with_keeper(pipe: int) -> Callable[[], None]:
    """Return what a leader of a group does, so that its group dies when the keeper does.

    The server would get a signal on its parent's death. Its stubs would not: they find out by
    themselves, but not when they wait for an answer of the server. So the kernel is asked for
    SIGKILL to the group when the other end of the pipe is closed, which nobody but the keeper has.
    """

    def prepare() -> None:
        # Runs between fork and exec of a single-threaded process, where this is safe.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgid(0))
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, _ASYNC)

    return prepare


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
        # A killed gateway's threads die one after the other, and the kernel tells of each that was
        # this process's parent for a moment: the second signal must not end the tidying up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gateway's to handle
    _sweep_abandoned()
    _own(shm_prefix)
    watched, _held = os.pipe()
    server = subprocess.Popen(  # noqa: S603 - the gateway's own command
        command,
        process_group=0,
        pass_fds=(watched,),
        preexec_fn=_dying_with_keeper(watched),  # noqa: PLW1509 - there is one thread
    )
    try:
        pid_file.write_text(str(server.pid))
        if os.getppid() != parent:  # it died before prctl, so no signal will come
            stop(signal.SIGTERM, None)
        server.wait()
    except SystemExit:
        with contextlib.suppress(ProcessLookupError):
            server.terminate()
        deadline = time.monotonic() + grace_s
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        _signal_group(server.pid, signal.SIGKILL)
        server.wait()
        _sweep(shm_prefix)
        _sweep_abandoned()
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


def _own(shm_prefix: str) -> None:
    """Hold a lock beside the server's files for as long as this process lives."""
    path = _SHM / f"{shm_prefix}{_OWNER}"
    while True:
        # The handle stays open on purpose; children do not inherit it.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Until it was locked, another keeper may have taken it for abandoned.
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return
        os.close(handle)


def _sweep(shm_prefix: str) -> None:
    for path in _SHM.glob(f"{shm_prefix}*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _sweep_abandoned() -> None:
    """Remove what processes of this user left that were killed: their locks went with them."""
    for path in _abandoned(_OWNERS):
        _sweep(path.name.removesuffix(_OWNER))
    for path in _abandoned(_GATEWAYS):
        path.unlink(missing_ok=True)


def _abandoned(names: re.Pattern[str]) -> Iterator[Path]:
    """Yield the files whose lock nobody held; it is held here while the caller uses the file."""
    for path in _SHM.iterdir() if _SHM.is_dir() else ():
        if names.fullmatch(path.name):
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    if os.fstat(handle).st_uid == os.geteuid():
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        yield path
                finally:
                    os.close(handle)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
