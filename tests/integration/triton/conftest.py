"""A server with tiny random models on both backends, and requests for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from headshot.triton.client import InferenceClient
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig

from tests.integration.triton.tiny_repository import build_repository


@pytest.fixture(scope="session")
def tiny_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five models on openvino, two of them also on onnxruntime, and a slow one."""
    root = tmp_path_factory.mktemp("tiny")
    build_repository(root, max_batch=4)
    build_repository(
        root, backend="onnxruntime", models=["matting", "denoiser"], max_batch=4, suffix="_ort"
    )
    build_repository(
        root,
        models=["denoiser"],
        denoiser_layers=2,
        max_batch=1,
        max_queue=4,
        delay_us=0,
        suffix="_slow",
    )
    return root


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tiny_triton(tiny_repository: Path, triton_cache: Path) -> AsyncIterator[EmbeddedTriton]:
    """The embedded server with the tiny models; tests must leave it running."""
    config = EmbeddedTritonConfig(tiny_repository, cache_dir=triton_cache)
    async with EmbeddedTriton(config) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tiny_client(tiny_triton: EmbeddedTriton) -> AsyncIterator[InferenceClient]:
    """A client of the server with the tiny models."""
    async with InferenceClient([tiny_triton.grpc_url], facts_dir=tiny_triton.facts_dir) as client:
        yield client


def denoiser_inputs(seed: int, timestep: float = 1.0) -> dict[str, np.ndarray]:
    """One row of random inputs for the denoiser."""
    random = np.random.default_rng(seed)
    return {
        "sample": random.standard_normal((1, 192, 80, 80)).astype(np.float16),
        "timestep": np.array([[timestep]], np.float32),
        "identity": random.standard_normal((1, 128)).astype(np.float32),
        "reference": random.integers(0, 256, (1, 640, 640, 3), dtype=np.uint8),
    }


def image(seed: int, side: int = 512) -> np.ndarray:
    """One random RGB image with a batch axis."""
    return np.random.default_rng(seed).integers(0, 256, (1, side, side, 3), dtype=np.uint8)


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Let the event loop run until the condition holds; TimeoutError when it never does."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
