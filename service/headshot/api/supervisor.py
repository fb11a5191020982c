"""Several gateway processes on one port: one Triton, one operations port, workers watched.

The parent runs the embedded Triton and the operations port and starts the workers, which share the
gRPC port through SO_REUSEPORT. A worker that dies, or whose event loop is stuck, is started again.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from headshot.api.gateway import embedded_triton, free_shared_port
from headshot.api.start_checks import check_start
from headshot.config import Settings
from headshot.core_dumps import forbid_core_dumps
from headshot.telemetry import multiprocess
from headshot.telemetry.http import Health, OperationsServer
from headshot.telemetry.logs import get_logger
from headshot.telemetry.metrics import Metrics
from headshot.triton.server import EmbeddedTriton

_log = get_logger(__name__)

_RESTART_PAUSE_S = 1.0
_WATCH_S = 1.0
# As long as /livez of a single process bears with a stuck event loop.
_STUCK_S = 60.0
_READY_LINE = b"ready\n"


class Worker:
    """One gateway process; started again when it dies or hangs.

    Args:
        settings: the gateway's, as JSON values.
        environment: variables beside those of this process.
        stuck_s: seconds without a line from a process that has written one, until it is killed.

    Attributes:
        ready: whether the process serves.
        beats: how many lines it has written, over all starts.
    """

    def __init__(
        self, settings: dict[str, Any], environment: dict[str, str], *, stuck_s: float = _STUCK_S
    ) -> None:
        self._settings = settings
        self._stuck_s = stuck_s
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self.ready = False
        self.beats = 0

    @property
    def pid(self) -> int | None:
        """Process id, None before the first start."""
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """Keep the process running until cancelled."""
        while True:
            begun = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "headshot.api.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **self._environment},
            )
            stdin, stdout = self._process.stdin, self._process.stdout
            if stdin is None or stdout is None:
                raise RuntimeError("the worker was started without pipes")
            # Settings travel on stdin, which also stays open: its end tells a worker that the
            # parent is gone.
            stdin.write(json.dumps(self._settings).encode() + b"\n")
            await stdin.drain()
            # The first line may take as long as a busy machine needs to start a process.
            line = await stdout.readline()
            while line:
                self.beats += 1
                self.ready |= line == _READY_LINE
                try:
                    async with asyncio.timeout(self._stuck_s):
                        line = await stdout.readline()
                except TimeoutError:
                    _log.error("a worker hangs; killing it")
                    self._process.kill()
                    break
            self.ready = False
            code = await self._process.wait()
            multiprocess.worker_died(self._environment, self._process.pid)
            _log.error("a worker ended", code=code)
            pause = _RESTART_PAUSE_S - (time.monotonic() - begun)
            await asyncio.sleep(max(0.0, pause))

    async def stop(self, grace_s: float) -> None:
        """Let the process drain, then make sure that it is gone."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def serve_with_workers(settings: Settings) -> None:
    """Serve with several processes until SIGTERM or SIGINT, which also ends the start.

    Raises:
        As `check_start`.
        ModelUnavailableError: the embedded Triton did not become ready.
    """
    check_start(settings)
    forbid_core_dumps()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    environment = multiprocess.prepare()
    os.environ.update(environment)
    async with AsyncExitStack() as stack:
        stack.callback(multiprocess.clean, environment)
        starting = asyncio.ensure_future(embedded_triton(settings, stack))
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
            return
        triton = starting.result()
        port = settings.port or free_shared_port(settings.host)
        values = json.loads(settings.model_dump_json())
        values |= {"port": port, "operations_port": 0}
        if triton is not None:
            values |= {"triton_url": [triton.grpc_url], "triton_facts": str(triton.facts_dir)}
        workers = [Worker(values, environment) for _ in range(settings.workers)]
        metrics = Metrics(runs_workers=True)

        def readiness() -> Health:
            return Health(ok=False, reasons=("draining",)) if stop.is_set() else _ready(workers)

        operations = OperationsServer(
            metrics,
            readiness=readiness,
            triton_metrics_url=lambda: triton.metrics_url if triton else None,
            host=settings.operations_host,
            port=settings.operations_port,
        )
        operations.start()
        stack.callback(operations.stop)
        tasks = [asyncio.ensure_future(worker.run()) for worker in workers]
        watching = asyncio.ensure_future(_watch(triton, readiness, metrics))
        _log.info("serving", address=f"{settings.host}:{port}", workers=len(workers))
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.set()  # A supervisor that gives up drains, too.
        metrics.ready(False)
        failed = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(worker.stop(settings.drain_s + 5) for worker in workers))
        stopped.cancel()
        watching.cancel()
        for task in failed:
            task.result()


async def _watch(
    triton: EmbeddedTriton | None, readiness: Callable[[], Health], metrics: Metrics
) -> None:
    """Keep what workers cannot see: restarts of the embedded Triton, and workers that are gone."""
    seen = 0
    while True:
        metrics.ready(readiness().ok)
        while triton is not None and seen < triton.restarts:
            metrics.triton_restarted()
            seen += 1
        await asyncio.sleep(_WATCH_S)


def _ready(workers: list[Worker]) -> Health:
    missing = sum(not worker.ready for worker in workers)
    reasons = (f"{missing} of {len(workers)} workers are not ready",) if missing else ()
    return Health(ok=missing == 0, reasons=reasons)
