"""Fixtures that several kinds of tests share: the embedded Triton and a client of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from headshot.triton.client import InferenceClient
from headshot.triton.server import EmbeddedTriton, EmbeddedTritonConfig

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("face_detector", "identity_encoder", "denoiser", "matting", "upscaler")


@pytest.fixture(scope="session")
def model_repository() -> Path:
    """The repository of trained models, complete."""
    folder = Path(os.environ.get("HEADSHOT_MODEL_REPOSITORY", ROOT / "model_repository"))
    missing = [name for name in MODELS if not (folder / name / "1" / "model.onnx").is_file()]
    if missing:
        pytest.skip(f"model_repository lacks {', '.join(missing)}")
    return folder


@pytest.fixture(scope="session")
def triton_cache() -> Path:
    """Where the server is installed: HEADSHOT_CACHE, else the repository's own cache."""
    return Path(os.environ.get("HEADSHOT_CACHE", ROOT / ".cache" / "triton"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def triton(model_repository: Path, triton_cache: Path) -> AsyncIterator[EmbeddedTriton]:
    """The real embedded server with the trained models, once for all tests."""
    config = EmbeddedTritonConfig(model_repository, models=MODELS, cache_dir=triton_cache)
    async with EmbeddedTriton(config) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def triton_client(triton: EmbeddedTriton) -> AsyncIterator[InferenceClient]:
    """A client of the embedded server with the trained models."""
    async with InferenceClient([triton.grpc_url], facts_dir=triton.facts_dir) as client:
        yield client
