"""The parent of several gateway processes notices one that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

from headshot.api.supervisor import Worker
from headshot.config import Settings
from headshot.telemetry import multiprocess


async def test_a_process_whose_event_loop_is_stuck_is_replaced(tmp_path: Path) -> None:
    # It waits for models that do not come, with a loop that runs.
    settings = Settings(triton_url=("127.0.0.1:9",), port=0, operations_port=0)  # type: ignore[call-arg]
    environment = multiprocess.prepare(tmp_path)
    worker = Worker(json.loads(settings.model_dump_json()), environment, stuck_s=3.0)
    running = asyncio.ensure_future(worker.run())
    try:
        async with asyncio.timeout(60):
            while not worker.beats:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            first = worker.pid
            assert first is not None
            await asyncio.sleep(4)  # longer than it may be silent
            assert worker.pid == first
            os.kill(first, signal.SIGSTOP)
            while worker.pid in (first, None):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await worker.stop(10)
        with contextlib.suppress(asyncio.CancelledError):
            await running
