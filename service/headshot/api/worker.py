"""One of several gateway processes; started by the supervisor, which sends settings on stdin."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvloop

from headshot.api.gateway import Gateway, serve_until
from headshot.config import CONFIG_VARIABLE, Settings
from headshot.telemetry import logs


async def _work(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    # The end of stdin means that the supervisor is gone.
    loop.add_reader(sys.stdin.fileno(), stop.set)

    def started(_gateway: Gateway) -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    await serve_until(stop, settings, started)


def main() -> None:
    """Read the settings and serve until told to stop."""
    # The supervisor has read the file; by the time of a restart it may be gone.
    os.environ.pop(CONFIG_VARIABLE, None)
    settings = Settings.model_validate_json(sys.stdin.readline())
    logs.configure(settings.log_level)
    uvloop.run(_work(settings))


if __name__ == "__main__":
    main()
