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
import shutil
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import headshot
from headshot.errors import ModelUnavailableError
from headshot.triton.facts import FACTS_DIR_VARIABLE
from headshot.triton.install import ServerInstallation, ensure_server

_log = logging.getLogger(__name__)
_server_log = logging.getLogger("headshot.triton.tritonserver")

_BACKENDS = ("openvino", "onnxruntime")
_BACKEND_MODULES = (
    "__init__.py",
    "triton/__init__.py",
    "triton/facts.py",
    "triton/backends/__init__.py",
    "triton/backends/common.py",
)
_POLL_S = 0.1
_PROBE_TIMEOUT_S = 5.0
_LOG_LINE = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ \d+ \S+\] (.*)$")
# Triton's information lines are its debug lines for a gateway's operator.
# On a machine without a GPU the server reports each missing GPU library as an error.
_NO_GPU = ("CudaDriverHelper", "NVML", "DCGM")
_LEVELS = {"I": logging.DEBUG, "W": logging.DEBUG, "E": logging.ERROR, "F": logging.CRITICAL}


@dataclass(frozen=True)
class EmbeddedTritonConfig:
    """How to run the embedded server.

    Attributes:
        model_repository: folder of model folders.
        models: load only these; all of the repository when empty.
        config_name: use `configs/<config_name>.pbtxt` of a model where it has one.
        host: address to listen on; loopback unless other hosts must reach the server.
        grpc_port, http_port, metrics_port: 0 picks a free port, kept over restarts.
        cache_dir: where the server is installed; see `install.default_cache_dir`.
        ready_timeout_s: longest wait for all models to be loaded and warm.
        stop_grace_s: time to finish requests after SIGTERM, before SIGKILL.
        backoff_s, max_backoff_s: first and longest pause before a restart.
        watch_interval_s: seconds between liveness probes; a server that fails
            `watch_failures` of them in a row hangs, and is killed and restarted.
        environment: additional variables for the server's processes.
    """

    model_repository: Path
    models: tuple[str, ...] = ()
    config_name: str | None = None
    host: str = "127.0.0.1"
    grpc_port: int = 0
    http_port: int = 0
    metrics_port: int = 0
    cache_dir: Path | None = None
    ready_timeout_s: float = 180.0
    stop_grace_s: float = 10.0
    backoff_s: float = 0.2
    max_backoff_s: float = 10.0
    watch_interval_s: float = 2.0
    watch_failures: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ports:
    grpc: int
    http: int
    metrics: int


class EmbeddedTriton:
    """One tritonserver process with this project's backends, restarted when it dies."""

    def __init__(self, config: EmbeddedTritonConfig) -> None:
        self._config = config
        self._ports = _Ports(config.grpc_port, config.http_port, config.metrics_port)
        self._folder: Path | None = None
        self._installation: ServerInstallation | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log_task: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._last_errors: deque[str] = deque(maxlen=5)
        self._restarts = 0
        self._ready = False

    @property
    def grpc_url(self) -> str:
        """`host:port` of Triton's gRPC endpoint."""
        return f"{self._config.host}:{self._ports.grpc}"

    @property
    def http_url(self) -> str:
        """`host:port` of Triton's HTTP endpoint."""
        return f"{self._config.host}:{self._ports.http}"

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
        self._folder = Path(tempfile.mkdtemp(prefix="headshot-triton-"))
        self._ports = _choose_ports(self._config)
        try:
            await asyncio.to_thread(_lay_out, self._folder, self._installation)
            await self._launch()
            await self._until_ready()
        except BaseException:
            await self._end_process()
            shutil.rmtree(self._folder, ignore_errors=True)
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
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _runtime_folder(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the embedded server is not started")
        return self._folder

    async def _launch(self) -> None:
        assert self._installation is not None
        folder = self._runtime_folder()
        prefix = f"headshot-{os.getpid()}-{secrets.token_hex(4)}-"
        command = [
            *(sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py"))),
            *(str(os.getpid()), str(self._config.stop_grace_s), prefix, str(folder / "pid")),
            str(self._installation.binary),
            *_server_arguments(self._config, self._ports, folder, prefix),
        ]
        self._last_errors.clear()
        self._process = await asyncio.create_subprocess_exec(
            *command,
            env=_environment(self._installation, folder, self._config.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20,
        )
        self._log_task = asyncio.create_task(self._stream_log(self._process), name="triton-log")

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
                _server_log.log(level, "%s", line)

    async def _until_ready(self) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.ready_timeout_s
        while loop.time() < deadline:
            if self._process.returncode is not None:
                if self._log_task is not None:
                    await asyncio.wait([self._log_task], timeout=1.0)
                raise ModelUnavailableError(
                    f"Triton exited with code {self._process.returncode} while starting: "
                    f"{self._error_summary()}",
                    reason="TRITON_START",
                )
            if await _probe(self._config.host, self._ports.http, "ready"):
                self._ready = True
                return
            await asyncio.sleep(_POLL_S)
        raise ModelUnavailableError(
            f"Triton was not ready within {self._config.ready_timeout_s:g} s: "
            f"{self._error_summary()}",
            reason="TRITON_START",
        )

    def _error_summary(self) -> str:
        return " | ".join(self._last_errors) or "it logged no error"

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
                await self._until_ready()
            except ModelUnavailableError as error:
                failures += 1
                _log.error("Triton did not start again: %s", error.message)
            else:
                failures = 0
                _log.warning("Triton is ready again after %d restart(s)", self._restarts)

    async def _watch(self) -> None:
        """Return when the server has died; kill it first when it hangs."""
        process = self._process
        if process is None:
            return
        exited = asyncio.ensure_future(process.wait())
        missed = 0
        try:
            while True:
                done, _ = await asyncio.wait([exited], timeout=self._config.watch_interval_s)
                if done:
                    return
                alive = await _probe(self._config.host, self._ports.http, "live")
                missed = 0 if alive else missed + 1
                pid = self.pid
                if missed >= self._config.watch_failures and pid is not None:
                    _log.error("Triton failed %d liveness probes; killing it", missed)
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


def _choose_ports(config: EmbeddedTritonConfig) -> _Ports:
    wanted = (config.grpc_port, config.http_port, config.metrics_port)
    with contextlib.ExitStack() as stack:
        ports = []
        for port in wanted:
            if port == 0:
                # All are held open until all are chosen, so that they differ.
                holder = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                holder.bind((config.host, 0))
                port = holder.getsockname()[1]  # noqa: PLW2901
            ports.append(port)
    return _Ports(*ports)


def _lay_out(folder: Path, installation: ServerInstallation) -> None:
    """Build the backend directory; Triton refuses links that leave it, so these are copies."""
    backends = folder / "backends"
    python = backends / "python"
    python.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        shutil.copy2(installation.python_backend / name, python / name)
    shutil.copy2(installation.stub, python / installation.stub.name)
    source = Path(headshot.__file__).parent
    for name in _BACKENDS:
        (backends / name).mkdir()
        shutil.copy2(source / "triton" / "backends" / name / "model.py", backends / name)
    # The stub ignores PYTHONPATH but looks for modules in this folder: what the backends import
    # of this package is here, in case the package itself is not installed where the stub looks.
    for module in _BACKEND_MODULES:
        (python / "headshot" / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / module, python / "headshot" / module)
    (folder / "facts").mkdir(mode=0o700)


def _server_arguments(
    config: EmbeddedTritonConfig, ports: _Ports, folder: Path, shm_prefix: str
) -> list[str]:
    arguments = [
        f"--model-repository={config.model_repository.resolve()}",
        f"--backend-directory={folder / 'backends'}",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--exit-timeout-secs={max(1, int(config.stop_grace_s))}",
        f"--grpc-address={config.host}",
        f"--grpc-port={ports.grpc}",
        f"--http-address={config.host}",
        f"--http-port={ports.http}",
        f"--metrics-address={config.host}",
        f"--metrics-port={ports.metrics}",
        "--metrics-config=histogram_latencies=true",
        "--allow-gpu-metrics=false",
        # Read by the Python backend, which runs ours.
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
    ]
    if config.config_name:
        arguments.append(f"--model-config-name={config.config_name}")
    if config.models:
        arguments.append("--model-control-mode=explicit")
        arguments += [f"--load-model={name}" for name in config.models]
    return arguments


def _environment(
    installation: ServerInstallation, folder: Path, additional: Mapping[str, str]
) -> dict[str, str]:
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(map(str, installation.library_dirs)),
        # The stub finds its standard library through the first python3 on the path.
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        # numpy's own thread pool would be one more on the same cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        FACTS_DIR_VARIABLE: str(folder / "facts"),
        **additional,
    }
