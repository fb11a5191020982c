"""A running gateway on the session's Triton, a client of it, and photos."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import skimage.data
from headshot.api.gateway import Gateway, run_gateway
from headshot.client import AsyncHeadshotClient
from headshot.config import Settings
from headshot.triton.server import EmbeddedTriton
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]


def settings_for(triton: EmbeddedTriton, **changes: object) -> Settings:
    """Settings of a gateway on free ports in front of a running Triton."""
    values: dict[str, object] = {
        "port": 0,
        "operations_port": 0,
        "triton_url": (triton.grpc_url,),
        "triton_facts": triton.facts_dir,
        "drain_s": 5.0,
    }
    return Settings(**(values | changes))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(triton: EmbeddedTriton) -> AsyncIterator[Gateway]:
    """One gateway for all tests that do not change it."""
    async with run_gateway(settings_for(triton)) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(gateway: Gateway) -> AsyncIterator[AsyncHeadshotClient]:
    """A client of that gateway."""
    async with AsyncHeadshotClient(gateway.address, timeout_s=120) as made:
        yield made


def jpeg(pixels: np.ndarray, quality: int = 92) -> bytes:
    """Encode a picture as JPEG."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


@pytest.fixture(scope="session")
def astronaut() -> bytes:
    """Eileen Collins (NASA, public domain), as scikit-image ships her portrait."""
    return jpeg(skimage.data.astronaut(), 95)


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of photos of real people, which is not part of the repository."""
    folder = Path(os.environ.get("HEADSHOT_PHOTOS", ROOT.parent / "shared" / "photos"))
    if not folder.is_dir():
        pytest.skip("no photos of people: set HEADSHOT_PHOTOS to a folder of them")
    return folder
