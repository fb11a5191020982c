"""The measured denoiser in an embedded Triton of its own, on loopback and free ports."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from headshot.triton.install import ensure_server
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig

from loadtest.gpu.repository import Wanted, write_repository

_READY_S = 150.0


@asynccontextmanager
async def served(wanted: Wanted) -> AsyncIterator[str]:
    """Start the server, give its `host:port`, and stop it.

    Args:
        wanted: the models that it must serve.

    Raises:
        ModelUnavailableError: it cannot be installed, or is not ready within 150 seconds.
    """
    with tempfile.TemporaryDirectory(prefix="gpu-steps-") as scratch:
        write_repository(Path(scratch), wanted)
        config = EmbeddedTritonConfig(
            Path(scratch), ready_timeout_s=_READY_S, environment={"LD_LIBRARY_PATH": _libraries()}
        )
        async with EmbeddedTriton(config) as server:
            yield server.grpc_url


def _libraries() -> str:
    # The GPU's driver may lie where only the caller's own path leads.
    own = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return ":".join([*map(str, ensure_server().library_dirs), *filter(None, own)])
