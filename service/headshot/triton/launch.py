"""How the embedded Triton is laid out and started: configuration, ports, files, arguments."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import headshot
from headshot.triton.facts import FACTS_DIR_VARIABLE
from headshot.triton.install import ServerInstallation

_BACKENDS = ("openvino", "onnxruntime")
_BACKEND_MODULES = (
    "__init__.py",
    "triton/__init__.py",
    "triton/facts.py",
    "triton/backends/__init__.py",
    "triton/backends/common.py",
    "triton/backends/segment.py",
)


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
        watch_interval_s: seconds between looks at the server; after `watch_failures` in a row
            that find it silent, or the process of a model dead or stopped, it is restarted.
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
    watch_interval_s: float = 1.0
    watch_failures: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ports:
    """The server's three ports."""

    grpc: int
    http: int
    metrics: int


def choose_ports(config: EmbeddedTritonConfig) -> Ports:
    """Return the wanted ports, with free ones in place of 0."""
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
    return Ports(*ports)


def lay_out(folder: Path, installation: ServerInstallation) -> None:
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


def server_arguments(
    config: EmbeddedTritonConfig, ports: Ports, folder: Path, shm_prefix: str
) -> list[str]:
    """Return tritonserver's command-line arguments."""
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
        # The process of one model gets as long as all of them; else it is 30 s.
        f"--backend-config=python,stub-timeout-seconds={max(1, math.ceil(config.ready_timeout_s))}",
    ]
    if config.config_name:
        arguments.append(f"--model-config-name={config.config_name}")
    if config.models:
        arguments.append("--model-control-mode=explicit")
        arguments += [f"--load-model={name}" for name in config.models]
    return arguments


def environment(
    installation: ServerInstallation, folder: Path, additional: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the server's processes."""
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
