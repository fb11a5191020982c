"""One of several gateway processes; started by the supervisor, which sends settings on stdin.

It tells the supervisor on stdout when it is ready, and every second that its event loop runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import uvloop

from headshot.api.gateway import Gateway, serve_until
from headshot.config import CONFIG_VARIABLE, Settings
from headshot.telemetry import logs

_BEAT_S = 1.0


def _tell(line: bytes) -> None:
    """Write a line that the supervisor may take later, or never."""
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), line)


async def _beat() -> None:
    while True:
        _tell(b"beat\n")
        await asyncio.sleep(_BEAT_S)


async def _work(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    # The end of stdin means that the supervisor is gone.
    loop.add_reader(sys.stdin.fileno(), stop.set)

    def started(_gateway: Gateway) -> None:
        _tell(b"ready\n")

    # A supervisor that hangs must not hang its workers.
    os.set_blocking(sys.stdout.fileno(), False)
    beating = asyncio.ensure_future(_beat())
    try:
        await serve_until(stop, settings, started)
    finally:
        beating.cancel()


def main() -> None:
    """Read the settings and serve until told to stop."""
    # The supervisor has read the file; by the time of a restart it may be gone.
    os.environ.pop(CONFIG_VARIABLE, None)
    settings = Settings.model_validate_json(sys.stdin.readline())
    logs.configure(settings.log_level)
    uvloop.run(_work(settings))


if __name__ == "__main__":
    main()
