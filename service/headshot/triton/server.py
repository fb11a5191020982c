"""The embedded Triton server: started, watched and restarted by the gateway.

async with EmbeddedTriton(EmbeddedTritonConfig(Path("model_repository"))) as triton:
    client = InferenceClient([triton.grpc_url])
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import signal
import sys
from collections import deque
from pathlib import Path
from types import TracebackType

from headshot.errors import ModelUnavailableError
from headshot.triton.install import ServerInstallation, ensure_server
from headshot.triton.launch import (
    EmbeddedTritonConfig,
    Ports,
    choose_ports,
    environment,
    lay_out,
    server_arguments,
)
from headshot.triton.processes import broken, group_members
from headshot.triton.run_folder import RunFolder

__all__ = ["EmbeddedTriton", "EmbeddedTritonConfig"]

_log = logging.getLogger(__name__)
_server_log = logging.getLogger("headshot.triton.tritonserver")

_POLL_S = 0.1
_SIGNALLED = 128  # beyond it the keeper tells the signal that ended the server
_PROBE_TIMEOUT_S = 3.0
_LOG_LINE = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ \d+ \S+\] (.*)$")
# Triton's information lines are its debug lines for a gateway's operator.
# On a machine without a GPU the server reports each missing GPU library as an error.
_NO_GPU = ("CudaDriverHelper", "NVML", "DCGM")
_LEVELS = {"I": logging.DEBUG, "W": logging.DEBUG, "E": logging.ERROR, "F": logging.CRITICAL}


class EmbeddedTriton:
    """One tritonserver process with this project's backends, restarted when it dies."""

    def __init__(self, config: EmbeddedTritonConfig) -> None:
        self._config = config
        self._ports = Ports(config.grpc_port, config.http_port, config.metrics_port)
        self._folder: RunFolder | None = None
        self._installation: ServerInstallation | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log_task: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._last_errors: deque[str] = deque(maxlen=5)
        self._last_lines: deque[str] = deque(maxlen=5)
        self._restarts = 0
        self._ready = False

    @property
    def grpc_url(self) -> str:
        """`host:port` of Triton's gRPC endpoint."""
        return f"{self._config.host}:{self._ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """URL of Triton's Prometheus metrics."""
        return f"http://{self._config.host}:{self._ports.metrics}/metrics"

    @property
    def facts_dir(self) -> Path:
        """Folder of execution facts, for `InferenceClient(facts_dir=...)`."""
        return self._runtime_folder() / "facts"

    @property
    def restarts(self) -> int:
        """How often the server was started again after it died or hung."""
        return self._restarts

    @property
    def ready(self) -> bool:
        """Whether the server runs and all its models are loaded."""
        return self._ready

    @property
    def pid(self) -> int | None:
        """Process id of tritonserver itself, or None while it does not run."""
        if self._process is None or self._process.returncode is not None:
            return None
        with contextlib.suppress(OSError, ValueError):
            return int((self._runtime_folder() / "pid").read_text())
        return None

    async def __aenter__(self) -> EmbeddedTriton:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Install if needed, start, and wait until every model is ready.

        Raises:
            ModelUnavailableError: a model does not load or the time is over; the message holds
                Triton's own last error.
        """
        if self._supervisor is not None:
            raise RuntimeError("the embedded server is started already")
        if not self._config.model_repository.is_dir():
            raise ModelUnavailableError(
                "the model repository is not a folder; check --model-repository",
                reason="MODEL_REPOSITORY_MISSING",
            )
        self._installation = await asyncio.to_thread(ensure_server, self._config.cache_dir)
        self._folder = folder = RunFolder()
        self._ports = choose_ports(self._config)
        try:
            await asyncio.to_thread(lay_out, folder.path, self._installation)
            await self._first_launch()
        except BaseException:
            await self._end_process()
            folder.remove()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="triton-supervisor")

    async def stop(self) -> None:
        """Stop the server: SIGTERM, then SIGKILL after the grace; its files are removed."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        await self._end_process()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.remove)

    def _runtime_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the embedded server is not started")
        return self._folder.path

    async def _launch(self) -> None:
        assert self._installation is not None
        folder = self._runtime_folder()
        prefix = f"headshot-{os.getpid()}-{secrets.token_hex(4)}-"
        command = [
            *(sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py"))),
            *(str(os.getpid()), str(self._config.stop_grace_s), prefix, str(folder / "pid")),
            str(self._installation.binary),
            *server_arguments(self._config, self._ports, folder, prefix),
        ]
        (folder / "pid").unlink(missing_ok=True)
        self._last_errors.clear()
        self._last_lines.clear()
        self._process = await asyncio.create_subprocess_exec(
            *command,
            env=environment(self._installation, folder, self._config.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20,
        )
        self._log_task = asyncio.create_task(self._stream_log(self._process), name="triton-log")

    async def _first_launch(self) -> None:
        """Start and wait until all is ready; once more where the server crashes meanwhile.

        On a busy machine it may: its locks in shared memory have a timeout.
        """
        deadline = self._ready_deadline()
        await self._launch()
        try:
            await self._until_ready(deadline)
        except ModelUnavailableError as error:
            # A model that cannot be loaded is no crash: the server then ends by itself.
            if self._process is None or (self._process.returncode or 0) <= _SIGNALLED:
                raise
            _log.warning("%s; starting it again", error)
            await self._end_process()
            await self._launch()
            await self._until_ready(deadline)

    def _ready_deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._config.ready_timeout_s

    async def _stream_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        level = logging.DEBUG
        while True:
            try:
                raw = await process.stdout.readline()
            except ValueError:  # a line over the limit; its rest follows
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            match = _LOG_LINE.match(line)
            if match:
                level, line = _LEVELS[match[1]], match[2]
                if any(word in line for word in _NO_GPU):
                    level = logging.DEBUG
            if level >= logging.ERROR and line:
                self._last_errors.append(line)
            if line:
                self._last_lines.append(line)
                _server_log.log(level, "%s", line)

    async def _until_ready(self, deadline: float) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        while loop.time() < deadline:
            if self._process.returncode is not None:
                if self._log_task is not None:
                    await asyncio.wait([self._log_task], timeout=1.0)
                raise ModelUnavailableError(
                    f"Triton exited with code {self._process.returncode} while starting: "
                    f"{self._start_summary()}",
                    reason="TRITON_START",
                )
            if await _probe(self._config.host, self._ports.http, "ready"):
                self._ready = True
                return
            await asyncio.sleep(_POLL_S)
        raise ModelUnavailableError(
            f"Triton was not ready within {self._config.ready_timeout_s:g} s: "
            f"{self._start_summary()}",
            reason="TRITON_START",
        )

    def _error_summary(self) -> str:
        return " | ".join(self._last_errors) or "it logged no error"

    def _start_summary(self) -> str:
        """Return the errors of a start, else how far it came: no photo was there yet."""
        if self._last_errors or not self._last_lines:
            return self._error_summary()
        return f"it logged no error; last it said: {' | '.join(self._last_lines)}"

    async def _supervise(self) -> None:
        failures = 0
        while True:
            await self._watch()
            self._ready = False
            self._restarts += 1
            pause = min(self._config.backoff_s * 2**failures, self._config.max_backoff_s)
            _log.error(
                "Triton died (%s); starting it again in %.1f s", self._error_summary(), pause
            )
            await self._end_process()
            await asyncio.sleep(pause)
            try:
                await self._launch()
                await self._until_ready(self._ready_deadline())
            except (ModelUnavailableError, OSError) as error:
                failures += 1
                _log.error("Triton did not start again: %s", error)
                await self._end_process()
            else:
                failures = 0
                _log.warning("Triton is ready again after %d restart(s)", self._restarts)

    async def _watch(self) -> None:
        """Return when the server has died; kill it first when it hangs or lost a model."""
        process, pid = self._process, self.pid
        if process is None or pid is None:
            return
        # Triton never replaces the process of a model, and still calls itself ready without it.
        models = await asyncio.to_thread(group_members, pid)
        exited = asyncio.ensure_future(process.wait())
        missed = 0
        try:
            while True:
                done, _ = await asyncio.wait([exited], timeout=self._config.watch_interval_s)
                if done:
                    return
                alive = await _probe(self._config.host, self._ports.http, "live")
                missed = 0 if alive and not broken(models) else missed + 1
                if missed >= self._config.watch_failures:
                    _log.error("Triton or one of its models hangs or is dead; killing the server")
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        finally:
            exited.cancel()

    async def _end_process(self) -> None:
        self._ready = False
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self._config.stop_grace_s + 5.0)
            except TimeoutError:  # the keeper itself is stuck; the kernel then ends the server
                process.kill()
                await process.wait()
        if self._log_task is not None:
            await asyncio.wait([self._log_task], timeout=1.0)
            self._log_task.cancel()
            self._log_task = None


async def _probe(host: str, port: int, what: str) -> bool:
    """Ask Triton's HTTP health endpoint; True for 200 within the probe timeout."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                request = (
                    f"GET /v2/health/{what} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                )
                writer.write(request.encode())
                await writer.drain()
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
